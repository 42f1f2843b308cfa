/* What the planner must know to launch the host templates: their SPEC constants, good grids, scratch bytes. The templates include this
 * file too. Plain C, constants and functions of constants alone.
 *
 * Every host template gives right results, the same bits, for EVERY grid (x and y at least 1, z 1): a block takes its share of the units of
 * work, unit u of U belonging to block u * grid / U. So a grid only decides how the work is dealt; CCC_HOST_BLOCKS blocks a thread balance well.
 *
 *   template            SPEC constants (ccc_...)                                  grid                                           scratch bytes
 *   gather                                                                        min(n, BLOCKS * threads)                       0
 *   rows                OUT_F32                                                   min(rows, BLOCKS * threads)                    ccc_host_rows_scratch_B(cols)
 *   elt                 OUT_F32                                                   min(ceildiv(rows * cols, ELEMS), B * threads)  0
 *   matmul, matmul_pair OUT_F32 TOK                                               x: min(ceildiv(N, 8), BLOCKS * threads)        ccc_host_matmul_scratch_B(tok, K)
 *                                                                                 y: tok ? 1 : ceildiv(T, CCC_HOST_TILE_T)
 *   rope_kv             HQ HKV D ROTARY LAYOUT BLOCK DO_Q DO_K DO_KV K_ROTATED    min(T, BLOCKS * threads)                       0
 *   attention           HQ HKV D LAYOUT BLOCK                                     x: ceildiv(T, CCC_HOST_QUERIES) + S            ccc_host_attention_scratch_B(D)
 *                                                                                 y: max(HKV, min(HQ, threads))
 *   argmax                                                                        rows                                           0
 *   load                SRC DST HALF                                              BLOCKS * threads                               0
 *   rope_table                                                                    BLOCKS * threads                               0
 *   advance                                                                       1                                              0
 *   read                                                                          BLOCKS * threads                               0
 *
 * SPEC values: OUT_F32 1: out is f32, 0: bf16. TOK: ccc_host_matmul_tok(..): 1 streams the matrix (one token, K a multiple of 16), 0: any T and K. SRC, DST: ccc_dtype (SRC 0:
 * random numbers). HALF: head_size / 2 of unpermute, else 0. LAYOUT: ccc_layout. The rest are numbers or 0/1, as in attention_geometry.h.
 * attention's x must be at least ceildiv(T, CCC_HOST_QUERIES) + S: each block of x is one tile of one sequence (blocks too many do nothing).
 * argmax leaves `best` and `count` alone, attention `part` and `count`: they may be null. The sum of a dot product has one order, whatever T. */
#ifndef CCC_HOST_GEOMETRY_H
#define CCC_HOST_GEOMETRY_H

enum { CCC_HOST_BLOCKS = 8, CCC_HOST_ELEMS = 4096 };

/* ---- matmul. K is cut into chunks of at most CHUNK elements */
enum { CCC_HOST_CHUNK = 768, CCC_HOST_TILE_T = 48, CCC_HOST_TILE_N = 96, CCC_HOST_STREAM_K = 49152 };
static inline int ccc_host_matmul_tok(long long t_max, long long k) { return t_max <= 1 && k % 16 == 0 && k <= CCC_HOST_STREAM_K; }
static inline int ccc_host_matmul_scratch_B(int tok, long long k)
{
    return tok ? (int)((k + 15) / 16 * 64) : (4 + CCC_HOST_TILE_T) * CCC_HOST_CHUNK * 4 + 2 * CCC_HOST_TILE_T * CCC_HOST_TILE_N * 4;
}

/* ---- rows: the row after hook `in`, as f32 */
static inline int ccc_host_rows_scratch_B(long long cols) { return (int)((cols + 7) / 8 * 32); }

/* ---- attention: head size any multiple of 8 up to 256; ROWS rows (query tokens x heads of a group) against COLS cache rows at a time */
enum { CCC_HOST_QUERIES = 16, CCC_HOST_ROWS = 64, CCC_HOST_COLS = 64 };
static inline int ccc_host_attention_scratch_B(int d) /* q, out, scores, and K or V of COLS tokens, all f32 */
{
    return (2 * CCC_HOST_ROWS * d + CCC_HOST_ROWS * CCC_HOST_COLS + CCC_HOST_COLS * d) * 4;
}
#endif
