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
 *   matvec     TOK NORM PAIR OUT_F32 ROWS LOADS WARPS SPLIT      32 * WARPS            ceildiv(N, ccc_matvec_cols(...))    T <= TOK; N, y_ld any; K, x_ld % 8 == 0
 *   gemm_256.. OUT_F32                                           ccc_gemm_threads(..)  min(na * nb, SM count)              N, y_ld, K % 8 == 0
 *   gemm_t16.. OUT_F32 NC SPLIT                                  ccc_gemm_threads(..)  SPLIT == 1: min(na * nb, SM count);  N, y_ld any; K % 8 == 0
 *                                                                                      else na * nb * SPLIT, cluster SPLIT
 * The FP8 variants (matvec_fp8, gemm_.._fp8) have e4m3 x and w (with NORM: w, and what the prologue yields) and need K, x_ld % 16 == 0.
 * OUT_F32: 0 the result is bf16, 1 f32, 2 e4m3.
 * min_blocks of the request (minctasm): 1 for gemm, 0 (none) for the others.
 *
 * Programmatic launch: matvec and gemm read weights (w, and what hooks load as weights) before griddepcontrol.wait, nothing else; all
 * templates here may have programmatic edges on both sides.
 * Alignment: x, w, out, y and aux rows 16 bytes where the table says % 8, else that of an element. w rows are dense (ld = K).
 * Hooks: in a matvec with NORM every block computes the prologue of its tokens, twice: hook `in` and hook `out` must not store.
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
 * row in flight; SPLIT warps share the K of their columns. LOADS <= 16; powers of two: TOK <= 8, ROWS <= 4, WARPS <= 16, SPLIT <= WARPS,
 * TOK * ROWS * (PAIR + 1) <= 32. */
typedef struct { int rows, loads, warps, split; } ccc_matvec_shape;
static inline int ccc_matvec_ok(int tok, int pair, ccc_matvec_shape s)
{
    return s.rows >= 1 && s.loads >= 1 && s.warps >= 1 && s.split >= 1 && s.rows <= 4 && s.loads <= 16 && s.warps <= 16 &&
           s.split <= s.warps && tok <= 8 && tok * s.rows * (pair + 1) <= 32;
}
static inline int ccc_matvec_cols(ccc_matvec_shape s) { return s.warps / s.split * s.rows; } /* output columns of a block */
static inline int ccc_matvec_scratch_B(int tok, int norm, int pair, ccc_matvec_shape s)
{
    int sums = norm ? tok * s.warps * 32 * 4 : 0, parts = s.split > 1 ? s.warps * tok * s.rows * (pair + 1) * 4 : 0;
    return ((sums > parts ? sums : parts) + 127) / 128 * 128;
}
/* K of bf16; of an FP8 variant, whose rows are half as long, give K / 2, here and to ccc_matvec_pick */
static inline int ccc_matvec_shared_B(int K, int tok, int norm, int pair, ccc_matvec_shape s) /* at most CCC_SHARED_MOST, or do not use NORM */
{
    return ccc_matvec_scratch_B(tok, norm, pair, s) + (norm ? tok * K * 2 : 0);
}
/* A good shape, from whole steps of an 8B, a 1B and a 135M model on an H100. One token: whole rows are on their way before the wait, in few
 * registers a thread, so that many blocks are there early. Long rows are shared by the 8 warps of a block, short ones are a warp's or two's, and
 * a norm in front serves more of them. The head, whose rows are many, wants half rows. */
static inline ccc_matvec_shape ccc_matvec_pick(int N, int K, int tok, int norm, int pair)
{
    ccc_matvec_shape s = {1, 4, 8, 8};
    if (tok > 1) return (ccc_matvec_shape){2, pair ? 4 : 2, 8, 1};
    if (K <= 1024 && norm && !pair && N < 16384) return (ccc_matvec_shape){2, (K + 511) / 512, 8, 2};
    if (K <= 1024) return (ccc_matvec_shape){N >= 16384 ? 4 : norm ? 2 : 1, (K + 255) / 256, 4, 1};
    if (N >= 32768) return (ccc_matvec_shape){1, 4, 4, 2};
    if (K >= 2048 && K < 4096 && !pair) s.split = 4;
    while (s.loads > 1 && (s.loads - 1) * s.split * 256 >= K) s.loads--;
    return s;
}

/* ---- gemm. Two orientations, both with tiles of wgmma rows (direction a, count na) x BN (direction b, count nb):
 *   gemm_256, _224 (SWAP 0): wgmma rows are 128 tokens, BN weight rows give BN output columns, with PAIR BN/2
 *   gemm_tBN       (SWAP 1): wgmma rows are weight rows, 64*NC output columns (NC 1 or 2; with PAIR twice that many weight rows), BN tokens;
 *                            SPLIT 1, 2 or 4: CTAs of a cluster that share the K of one tile, then kb >= SPLIT
 * Arguments: na, nb as below; kb = ceildiv(K, 64), FP8 ceildiv(K, 128). Maps: bf16, 2 dimensions {K, rows}, box {64, rows of the box} (FP8: bytes, {128, ..}), 128-byte swizzle, zero
 * fill, L2 promotion 256 bytes; the map of x has T rows or more (what they hold does not matter), that of w N rows or with PAIR 2N. */
enum { CCC_GEMM_K = 64, CCC_GEMM_K_FP8 = 128, CCC_GEMM_ROWS = 128 };
static inline int ccc_gemm_tokens(int swap, int bn) { return swap ? bn : CCC_GEMM_ROWS; }                   /* of a tile */
static inline int ccc_gemm_cols(int swap, int bn, int pair, int nc) { return swap ? 64 * nc : pair ? bn / 2 : bn; } /* of the output, of a tile */
/* na = swap ? ceildiv(N, cols) : ceildiv(T, tokens); nb = swap ? ceildiv(T, tokens) : ceildiv(N, cols) */
static inline int ccc_gemm_box_x(int swap, int bn) { return swap ? bn : CCC_GEMM_ROWS; }                    /* rows of the box of x */
static inline int ccc_gemm_box_w(int swap, int bn, int pair, int nc) { return swap ? 64 * nc : pair ? bn / 2 : bn; } /* and of w */
static inline int ccc_gemm_threads(int swap, int nc) { return swap ? 128 * nc + 32 : 384; }
static inline int ccc_gemm_stage_B(int swap, int bn, int pair, int nc) { return ((swap ? 64 * nc * (pair + 1) : CCC_GEMM_ROWS) + bn) * 128; }
/* the output's way through shared memory: normal: a box of 16 rows x 64 floats (BN = 224: 32) a warp; swapped: twice 16 tokens x its columns */
static inline int ccc_gemm_epi_B(int swap, int bn, int pair, int nc, int split)
{
    if (!swap) return 8 * 16 * (bn % 64 ? 32 : 64) * 4;
    return split > 1 ? 0 : 2 * 16 * (64 * nc * (pair + 1) + 4) * 4;
}
static inline int ccc_gemm_stages(int swap, int bn, int pair, int nc, int split) /* of the ring */
{
    int fit = (CCC_SHARED_MOST - 1024 - ccc_gemm_epi_B(swap, bn, pair, nc, split)) / (ccc_gemm_stage_B(swap, bn, pair, nc) + 16);
    return !swap ? 4 : fit < 20 ? fit : 20;
}
static inline int ccc_gemm_shared_B(int swap, int bn, int pair, int nc, int split)
{
    return ccc_gemm_stages(swap, bn, pair, nc, split) * (ccc_gemm_stage_B(swap, bn, pair, nc) + 16) + ccc_gemm_epi_B(swap, bn, pair, nc, split);
}
/* Good choices, from measurements on an H100. Width of the normal orientation: the one with the fewer waves' worth of columns */
static inline int ccc_gemm_width(int T, int N, int pair, int n_sm)
{
    int na = (T + 127) / 128, c256 = pair ? 128 : 256, c224 = pair ? 112 : 224;
    int w256 = (na * ((N + c256 - 1) / c256) + n_sm - 1) / n_sm * 256, w224 = (na * ((N + c224 - 1) / c224) + n_sm - 1) / n_sm * 224;
    return w224 < w256 ? 224 : 256;
}
/* Swapped: narrow tiles and a split of K while there are too few tiles for n_sm multiprocessors */
static inline int ccc_gemm_nc(int N, int n_sm) { return (N + 127) / 128 >= n_sm ? 2 : 1; }
static inline int ccc_gemm_split(int T, int N, int K, int bn, int n_sm)
{
    int units = (N + 63) / 64 * ((T + bn - 1) / bn);
    return units * 2 <= n_sm && K >= 1024 ? 2 : 1;
}
#endif
