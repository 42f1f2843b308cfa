/* Launch shapes, constants and limits of the gather, rows, elt, matvec and gemm templates: what the planner must know to launch them, and
 * what the templates must agree with (they include this file). Plain C, constants and functions of SPEC values alone.
 * Attention, cache, argmax and load templates: attention_geometry.h.
 *
 *   template   SPEC constants (ccc_...)                          threads               grid x                              serves
 *   gather                                                       CCC_GATHER_THREADS    n                                   cols any
 *   rows       NT COLS OUT_F32                                   NT                    rows                                cols % 8 == 0, cols <= 64 * NT, x_ld, out_ld % 8 == 0
 *   elt        OUT_F32                                           CCC_ELT_THREADS       ceildiv(rows*cols/8, CCC_ELT_THREADS), or less: grid-stride
 *                                                                                                                          cols and every ld % 8 == 0, rows*cols < 2^31
 *   elt_1      OUT_F32                                           CCC_ELT_THREADS       ceildiv(rows*cols, CCC_ELT_THREADS), or less
 *                                                                                                                          any cols, rows*cols < 2^31
 *   matvec     TOK NORM PAIR OUT_F32 ROWS LOADS WARPS SPLIT TURNS 32 * WARPS           ceildiv(N, ccc_matvec_cols(...))    T <= TOK; N, y_ld any; K, x_ld % 8 == 0
 *              WHOLE KEEP BULK
 *   gemm_256.. OUT_F32                                           ccc_gemm_threads(..)  min(na * nb, SM count)              N, y_ld, K % 8 == 0
 *   gemm_t16.. OUT_F32 NC SPLIT                                  ccc_gemm_threads(..)  SPLIT == 1: min(na * nb, SM count);  N, y_ld any; K % 8 == 0
 *                                                                                      else na * nb * SPLIT, cluster SPLIT
 * The FP8 variants (matvec_fp8, gemm_.._fp8) have e4m3 x and w (with NORM: w, and what the prologue yields) and need K, x_ld % 16 == 0.
 * OUT_F32: 0 the result is bf16, 1 f32, 2 e4m3.
 * min_blocks of the request (minctasm): 1 for gemm, ccc_matvec_min_blocks(...) for matvec, 0 (none) for the others.
 *
 * Programmatic launch: matvec and gemm read weights (w, and what hooks load as weights) before griddepcontrol.wait, nothing else; all
 * templates here may have programmatic edges on both sides.
 * Alignment: x, w, out, y and aux rows 16 bytes where the table says % 8, else that of an element. w rows are dense (ld = K).
 * Hooks: in a matvec with NORM every block computes the prologue of its tokens, hook `in` perhaps twice: hooks `in` and `out` must not store.
 *        rows: in once an element, then out. PAIR: only `pair` is used, else only `epilogue`. Without NORM in and out are not used. */
#ifndef CCC_GEOMETRY_H
#define CCC_GEOMETRY_H

enum { CCC_GATHER_THREADS = 128, CCC_ELT_THREADS = 256, CCC_SHARED_MOST = 232448 };

/* ---- rows: NT a power of two, 32 .. 512; a thread keeps at most 8 vectors of 8 elements in registers */
static inline int ccc_rows_nt(int cols) /* a good NT: two vectors a thread */
{
    int nt = 32;
    while (nt < 512 && nt * 16 < cols) nt *= 2;
    return nt;
}
static inline int ccc_rows_ok(int cols, int nt) { return cols > 0 && cols % 8 == 0 && cols <= 64 * nt; }
static inline int ccc_rows_shared_B(int nt) { return nt * 4; }

/* ---- matvec. A warp makes ROWS output columns of TOK tokens (with PAIR it reads 2*ROWS rows of w), with LOADS 16-byte loads of each
 * row in flight; SPLIT warps share the K of their columns; the block does so TURNS times. LOADS <= 16, TURNS <= CCC_MATVEC_MOST_TURNS, for one token
 * alone; powers of two: TOK <= 8, ROWS <= 4, WARPS <= 16, SPLIT <= WARPS, TOK * ROWS * (PAIR + 1) <= 32. */
enum { CCC_MATVEC_MOST_TURNS = 1024, CCC_MATVEC_WARPS_SM = 32 /* of a multiprocessor, where columns are taken by turns */ };
typedef struct { int rows, loads, warps, split, turns; } ccc_matvec_shape;
static inline int ccc_matvec_ok(int tok, int pair, ccc_matvec_shape s)
{
    return s.rows >= 1 && s.loads >= 1 && s.warps >= 1 && s.split >= 1 && s.rows <= 4 && s.loads <= 16 && s.warps <= 16 &&
           s.split <= s.warps && tok <= 8 && tok * s.rows * (pair + 1) <= 32 && s.turns >= 1 && s.turns <= (tok > 1 ? 1 : CCC_MATVEC_MOST_TURNS);
}
static inline int ccc_matvec_cols(ccc_matvec_shape s) { return s.warps / s.split * s.rows * s.turns; } /* output columns of a block */
static inline int ccc_matvec_scratch_B(int tok, int norm, int pair, ccc_matvec_shape s)
{
    int sums = norm ? tok * s.warps * 32 * 4 : 0, parts = s.split > 1 ? s.warps * tok * s.rows * (pair + 1) * 4 * (s.turns > 1 ? 2 : 1) : 0;
    return ((sums > parts ? sums : parts) + 127) / 128 * 128;
}
/* K of bf16; of an FP8 variant, whose rows are half as long, give K / 2, here and to ccc_matvec_pick_fp8. WHOLE: for one token, where the first loads are all
 * there are of a row; 0 is right everywhere */
static inline int ccc_matvec_whole(int K, ccc_matvec_shape s) { return K <= s.loads * s.split * 256; }
/* at most CCC_SHARED_MOST, or do not use NORM */
static inline int ccc_matvec_shared_B(int K, int tok, int norm, int bulk, int pair, ccc_matvec_shape s)
{
    return ccc_matvec_scratch_B(tok, norm, pair, s) + (norm || bulk ? tok * K * 2 : 0) + (bulk ? 16 : 0);
}
/* One token, few blocks: latency counts. Where two a multiprocessor hold all blocks, the kernel asks for so much shared memory that no third one fits;
 * else the blocks of a kernel, which start while others run, meet on few multiprocessors. BULK (one token, not with NORM): x by one copy a block; with
 * the thousands of blocks of long weights that takes twice as long. Measured with bf16; with e4m3 (8B) BULK gains nothing. */
enum { CCC_MATVEC_SPREAD_B = 110 << 10, CCC_MATVEC_SPREAD_BLOCKS = 2, CCC_MATVEC_BULK_BLOCKS = 8 /* of a multiprocessor, at most */ };
/* KEEP: vectors of the row that a thread keeps for the norm of one token, 1 or 2; 1 where that is all and registers are few */
static inline int ccc_matvec_keep(int cols, ccc_matvec_shape s) { return s.turns > 1 && cols <= 256 * s.warps ? 1 : 2; }
/* Where a norm is in front and the columns are taken by turns, all blocks are to be there at once: at most 64 registers a thread */
static inline int ccc_matvec_min_blocks(int norm, ccc_matvec_shape s) { return norm && s.turns > 1 ? CCC_MATVEC_WARPS_SM / s.warps : 0; }
static inline int ccc_matvec_turns(int N, ccc_matvec_shape s, int n_sm) /* so many that the blocks fill the device once; s.turns is not read */
{
    int lot = s.warps / s.split * s.rows * (CCC_MATVEC_WARPS_SM / s.warps) * n_sm;
    return (N + lot - 1) / lot;
}
/* A good shape, from whole steps of an 8B, a 1B and a 135M model on an H100. One token: whole rows are on their way before the wait, in few
 * registers a thread, so that many blocks are there early. Long rows are shared by the 8 warps of a block, short ones are a warp's, and a norm in
 * front serves two of them. The head, whose rows are many, wants half rows. A norm in front of long rows takes a good part of a microsecond, so it is
 * made once for all columns of a multiprocessor's blocks. SPLIT, which decides the order of the sum, depends on the rows of w
 * and on K alone: neither a norm in front nor two halves as a pair change the bits. Shapes that want something else: schedules/. */
static inline ccc_matvec_shape ccc_matvec_pick(int N, int K, int tok, int norm, int pair, int n_sm)
{
    ccc_matvec_shape s = {1, 4, 8, 8, 1};
    if (tok > 1) return (ccc_matvec_shape){2, pair ? 4 : 2, 8, 1, 1};
    if (K <= 1024) return (ccc_matvec_shape){N >= 16384 ? 4 / (pair + 1) : norm ? 2 : 1, (K + 255) / 256, 4, 1, 1};
    if (N * (pair + 1) >= 32768) return (ccc_matvec_shape){1, 4, 4, 2, 1};
    if (K >= 2048 && K < 4096) s.split = 4;
    while (s.loads > 1 && (s.loads - 1) * s.split * 256 >= K) s.loads--;
    if (norm && s.split == 8 && !pair) s.rows = 2, s.warps = 16;
    if (norm) s.turns = ccc_matvec_turns(N, s, n_sm);
    return s;
}

/* The same for e4m3. Widening a piece of x takes as many instructions as one of w: two rows share it. Measured in whole steps of an 8B model. */
static inline ccc_matvec_shape ccc_matvec_pick_fp8(int N, int K, int tok, int norm, int pair, int n_sm)
{
    ccc_matvec_shape s = ccc_matvec_pick(N, K, tok, norm, pair, n_sm);
    if (tok > 1 || K < 2048 || N >= 32768) return s;
    s.rows = pair ? 1 : 2;
    if (K < 4096) s.loads = 2, s.split = 4;
    if (norm) s.turns = ccc_matvec_turns(N, s, n_sm);
    return s;
}

/* ---- gemm. Two orientations, both with tiles of wgmma rows (direction a, count na) x BN (direction b, count nb):
 *   gemm_256, _224 (swap 0): wgmma rows are 128 tokens, BN weight rows give BN output columns, with PAIR BN/2
 *   gemm_tBN       (swap 1): wgmma rows are weight rows, COLS output columns (a multiple of 8 up to 256; with PAIR up to 128 and twice that many weight
 *                            rows), BN tokens; SPLIT 1, 2 or 4: CTAs of a cluster that share the K of one tile, then kb >= SPLIT;
 *                            BLOCKS 1, 2 or 4: k blocks of a stage of the ring, then kb % (BLOCKS * SPLIT) == 0
 * Arguments: na, nb as below; kb = ceildiv(K, 64), FP8 ceildiv(K, 128); stages of the ring, 2 or more. Maps: bf16, 2 dimensions {K, rows}, box {64, rows of
 * the box} (FP8: bytes, {128, ..}), 128-byte swizzle, zero fill, L2 promotion 256 bytes; the map of x has T rows or more (what they hold does not matter),
 * that of w N rows or with PAIR 2N. */
enum { CCC_GEMM_K = 64, CCC_GEMM_K_FP8 = 128, CCC_GEMM_ROWS = 128, CCC_GEMM_BARRIERS_B = 1024, CCC_GEMM_MOST_SPLIT = 4, CCC_GEMM_MOST_STAGES = 32 };
typedef struct { int swap, bn, pair, cols, split, blocks, stages; } ccc_gemm_tile; /* swap 0: cols = bn / (pair + 1), split = blocks = 1 */
static inline int ccc_gemm_tokens(ccc_gemm_tile t) { return t.swap ? t.bn : CCC_GEMM_ROWS; } /* of a tile, and rows of the box of x; of w: cols */
/* na = swap ? ceildiv(N, cols) : ceildiv(T, tokens); nb = swap ? ceildiv(T, tokens) : ceildiv(N, cols) */
static inline int ccc_gemm_consumers(ccc_gemm_tile t) { return t.swap ? (t.cols + 63) / 64 : 2; } /* warpgroups */
static inline int ccc_gemm_threads(ccc_gemm_tile t) { return t.swap ? 128 * ccc_gemm_consumers(t) + 32 : 384; }
static inline int ccc_gemm_block_B(ccc_gemm_tile t) { return (t.cols * (t.pair + 1) + ccc_gemm_tokens(t)) * 128; } /* 64 of K of a tile */
/* Behind the ring. Normal: each warp's box of 16 rows x 64 floats (BN = 224: 32). Swapped: the parts that the other CTAs of a cluster send, and room for
 * reading rows behind the last of w, where cols is no multiple of 64. */
static inline int ccc_gemm_rest_B(ccc_gemm_tile t)
{
    if (!t.swap) return 8 * 16 * (t.bn % 64 ? 32 : 64) * 4;
    int behind = 64 * ccc_gemm_consumers(t) - t.cols - t.bn;
    return (t.split - 1) * (t.pair + 1) * (t.bn / 2 / t.split) * ccc_gemm_consumers(t) * 512 + (behind > 0 ? behind * 128 : 0);
}
static inline int ccc_gemm_stages(ccc_gemm_tile t, int per_sm) /* that fit when per_sm blocks share a multiprocessor, each with 1 KB that is the driver's */
{
    int fit = ((CCC_SHARED_MOST + 1024) / per_sm - 1024 - CCC_GEMM_BARRIERS_B - ccc_gemm_rest_B(t)) / (t.blocks * ccc_gemm_block_B(t));
    return !t.swap ? 4 : fit < CCC_GEMM_MOST_STAGES ? fit : CCC_GEMM_MOST_STAGES;
}
static inline int ccc_gemm_shared_B(ccc_gemm_tile t)
{
    return CCC_GEMM_BARRIERS_B + t.stages * t.blocks * ccc_gemm_block_B(t) + ccc_gemm_rest_B(t);
}
/* Good choices, from measurements on an H100. Width of the normal orientation: the one with the fewer waves' worth of columns */
static inline int ccc_gemm_width(int T, int N, int pair, int n_sm)
{
    int na = (T + 127) / 128, c256 = pair ? 128 : 256, c224 = pair ? 112 : 224;
    int w256 = (na * ((N + c256 - 1) / c256) + n_sm - 1) / n_sm * 256, w224 = (na * ((N + c224 - 1) / c224) + n_sm - 1) / n_sm * 224;
    return w224 < w256 ? 224 : 256;
}
static inline int ccc_gemm_share(int N, int tiles, int least, int most) /* columns of a tile, so that N makes about so many */
{
    int cols = (N + 8 * tiles - 1) / (8 * tiles) * 8;
    return cols < least ? least : cols > most ? most : cols;
}
/* The tile for T tokens (of a range of them: the most). by8: N and the output's ld are multiples of 8. whole: no split of K, so that bits do not depend
 * on the batch. The wide tiles write eight columns at a time; outputs that do not lie so take the widest swapped tile.
 * Few tokens: memory sets the pace when each multiprocessor has one block and all end together, so tiles are sized to make whole waves of them. Tiles of
 * less than 48 columns spend their time between stages: then two blocks share the K of a tile, unless K is too short for that to pay. */
static inline ccc_gemm_tile ccc_gemm_pick(int T, int N, int kb, int pair, int by8, int whole, int n_sm)
{
    ccc_gemm_tile t = {0, ccc_gemm_width(T, N, pair, n_sm), pair, 0, 1, 1, 4};
    t.cols = t.bn / (pair + 1);
    int wide = (T + CCC_GEMM_ROWS - 1) / CCC_GEMM_ROWS * ((N + t.cols - 1) / t.cols); /* wide tiles: too few leave the device idle */
    if (T > 128 && by8 && wide * 2 > n_sm) return t;
    t.swap = 1;
    for (t.bn = 8; t.bn < T && t.bn < 128;) t.bn *= 2;
    int most = pair && t.bn == 128 ? 112 : 128, nb = (T + t.bn - 1) / t.bn, row = nb < n_sm ? n_sm / nb : 1; /* row: tiles of all columns in one wave */
    int waves = (N + most * row - 1) / (most * row);
    t.cols = ccc_gemm_share(N, waves * row, whole ? 32 : 48, most);
    int units = (N + t.cols - 1) / t.cols * nb;
    if (!whole && !pair && kb >= 16 && units * 3 <= n_sm * 2 && (units < 64 || kb > 32)) {
        t.split = 2;
        t.cols = ccc_gemm_share(N, row / 2 > 0 ? row / 2 : 1, 64, most);
    }
    if (t.cols <= 32 && kb % 2 == 0) t.blocks = 2;
    t.stages = ccc_gemm_stages(t, 1);
    return t;
}
#endif
