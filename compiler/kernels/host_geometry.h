/* What the planner must know to launch the host templates: their SPEC constants, good grids, scratch bytes.
 * The templates include this file too. Plain C, constants and functions of constants alone.
 *
 * Every host template gives right results, the same bits, for EVERY grid (x and y at least 1, z 1;
 * attention: see below): a block takes its share of the units of work. A grid only decides who does what.
 *
 *   template             SPEC constants (ccc_...)      grid, B = CCC_HOST_BLOCKS * threads  ccc_host_.. bytes
 *   gather                                             min(n, B)                            0
 *   rows                 OUT_F32                       min(rows, B)                         rows_scratch_B
 *   elt                  OUT_F32                       min(ceildiv(rows * cols, ELEMS), B)  0
 *   matmul, matmul_pair  OUT_F32 TOK                   x: min(ceildiv(N, 8), B)             matmul_scratch_B
 *                                                      y: TOK ? 1 : ceildiv(T, TILE_T)
 *   matmul_fp8, matmul_pair_fp8 OUT_F32                as matmul with TOK 0
 *   rope_kv              HQ HKV D ROTARY LAYOUT BLOCK  min(T, B)                            0
 *                        DO_Q DO_K DO_KV K_ROTATED
 *   attention            HQ HKV D LAYOUT BLOCK OUT_F32 x: ceildiv(T, QUERIES) + S         attention_scratch_B
 *                                                      y: max(HKV, min(HQ, threads))
 *   rope_kv_fp8, attention_fp8   the same, and rope_kv ROWS_FP8
 *   argmax                                             rows                                 0
 *   load                 SRC DST HALF                  B                                    0
 *   rope_table                                         B                                    0
 *   advance                                            1                                    0
 *   read                                               B                                    0
 *
 * SPEC values: OUT_F32 0: out is bf16, 1: f32, 2: e4m3. TOK: ccc_host_matmul_tok(..): 1 streams the matrix (one token,
 * K a multiple of 16), 0: any T and K. SRC, DST: ccc_dtype (SRC 0: random numbers). HALF: head_size / 2 of
 * unpermute, else 0. LAYOUT: ccc_layout. The rest are numbers or 0/1, as in attention_geometry.h.
 * attention: a block of x is one tile of one sequence; blocks beyond the last tile do nothing.
 * argmax leaves `best` and `count` alone, attention `part` and `count`: they may be null.
 * A dot product has one order of summing, whatever T; attention has one for a sequence's own lengths. */
#ifndef CCC_HOST_GEOMETRY_H
#define CCC_HOST_GEOMETRY_H

enum { CCC_HOST_BLOCKS = 8, CCC_HOST_ELEMS = 4096 };

/* ---- matmul. K is cut into chunks of at most CHUNK elements */
enum { CCC_HOST_CHUNK = 768, CCC_HOST_TILE_T = 48, CCC_HOST_TILE_N = 96, CCC_HOST_STREAM_K = 49152 };
static inline int ccc_host_matmul_tok(long long t_max, long long k)
{
    return t_max <= 1 && k % 16 == 0 && k <= CCC_HOST_STREAM_K;
}
static inline int ccc_host_matmul_scratch_B(int tok, long long k)
{
    int tile = (4 + CCC_HOST_TILE_T) * CCC_HOST_CHUNK * 4 + 2 * CCC_HOST_TILE_T * CCC_HOST_TILE_N * 4;
    return tok ? (int)(k * 4) : tile;
}

/* ---- rows: the row after hook `in`, as f32 */
static inline int ccc_host_rows_scratch_B(long long cols) { return (int)((cols + 7) / 8 * 32); }

/* ---- attention: D a multiple of 8 up to 256; ROWS query tokens x heads against COLS cache rows at a time */
enum { CCC_HOST_QUERIES = 16, CCC_HOST_ROWS = 64, CCC_HOST_COLS = 64 };
static inline int ccc_host_attention_scratch_B(int d) /* q, out, scores, K or V of COLS tokens: all f32 */
{
    return (2 * CCC_HOST_ROWS * d + CCC_HOST_ROWS * CCC_HOST_COLS + CCC_HOST_COLS * d) * 4;
}
#endif
