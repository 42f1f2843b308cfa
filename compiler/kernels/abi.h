/* The argument struct of every kernel, in one place: included by the device C of both targets and by the planner, which takes the
 * offsets from it. One struct by value is the only parameter of a kernel. Natural alignment, no implicit tail padding games.
 * Constants of a kernel ("SPEC") are listed in kernel.def.
 *
 * bf16 data is u16. `ld` is a row stride in elements. Pointers in args are to global memory.
 * aux: operands and secondary results of the fused elementwise hooks, in the order in which the planner numbered them. */
#ifndef CCC_KERNEL_ABI_H
#define CCC_KERNEL_ABI_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
#if defined(__NVPTX__)
#define GLOBAL __attribute__((address_space(1)))
#else
#define GLOBAL
#endif

enum { CCC_MAX_AUX = 8, CCC_MAX_TAKEN = 8 /* loads of a hook that its template can do ahead of it */ };
typedef struct { void GLOBAL *p[CCC_MAX_AUX]; } aux_t;
typedef struct { u64 v[16]; } __attribute__((aligned(64))) tmap_t; /* a CUtensorMap */

/* gather, embed: out[i] = alt ? alt[i] : table[clamp(ids[i])]. Sets status kind `bad_kind` with i when ids[i] is outside. */
typedef struct { u16 GLOBAL *out; const u16 GLOBAL *table; const i32 GLOBAL *ids; const u16 GLOBAL *alt; u32 GLOBAL *status; i32 n, cols, table_rows, bad_kind; } gather_args;

/* rms_norm of rows: v = hook_in(x); out = hook_out(v * rsqrt(mean(v*v) + eps)). One block a row. */
typedef struct { void GLOBAL *out; const u16 GLOBAL *x; i32 rows, cols, x_ld, out_ld; float eps; i32 pad; aux_t aux; } rows_args;

/* elementwise over [rows, cols]: out = hook_body(row, col); all operands are aux */
typedef struct { void GLOBAL *out; i32 rows, cols, out_ld, pad; aux_t aux; } elt_args;

/* matvec: y[t][n] = hook_epilogue(sum_k in(x)[t][k] * w[n][k]) for t < T <= TOK. With NORM, in() is the rms_norm prologue
 * (hook_in, norm, hook_out as in rows), else x as it is. With PAIR, w has 2N rows, and y[t][n] = hook_pair(acc[n], acc[n+N]).
 * On the host the same struct serves every T. */
typedef struct { void GLOBAL *y; const u16 GLOBAL *w; const u16 GLOBAL *x; i32 T, N, K, x_ld, y_ld; float eps; aux_t aux; } matvec_args;

/* gemm (cuda): as matvec without prologue, any T. Maps: x [rows, K], w [N or 2N, K], both K-major, 128-byte swizzle; y by plain stores
 * (columns >= N and rows >= T are not written). na, nb: tiles in the direction of the wgmma M (x, or w when swapped) and N; kb: k blocks of 64;
 * stages: of the ring. */
typedef struct { tmap_t x, w; void GLOBAL *y; i32 T, N, K, y_ld; i32 na, nb, kb, stages; aux_t aux; u64 pad2[3]; } gemm_args;

/* rope + kv_write on packed rows qkv[T][ld] (q at column 0, k at k_col, v at v_col). Any part can be left out by SPEC.
 * q and k: f32 rotation, one rounding to bf16. slot -1: cache not written. Cache addresses: see CCC_KV_* below. */
typedef struct {
    u16 GLOBAL *q_out; const u16 GLOBAL *q, *k, *v; u16 GLOBAL *k_out; const float GLOBAL *table; const i64 GLOBAL *positions; const i64 GLOBAL *slots;
    char GLOBAL *k_cache, *v_cache; u32 GLOBAL *status;
    i64 block_stride, token_stride, head_stride;     /* bytes */
    i32 T, q_ld, k_ld, v_ld, q_out_ld, k_out_ld, table_rows, kv_blocks;
    float k_times, v_times;                          /* e4m3 cache: rows times these are rounded. ROWS_FP8: k and v come as e4m3 */
} rope_kv_args;

/* paged attention, general: any mixture of query lengths, any layout. One unit of work: (sequence tile of query tokens, kv head).
 * out = hook_epilogue(result), where the hook, if there is one, begins with a rounding to bf16. */
typedef struct {
    void GLOBAL *out; const u16 GLOBAL *q; const char GLOBAL *k_cache, *v_cache; const i32 GLOBAL *table, *seq_lens, *query_start;
    float GLOBAL *part; i32 GLOBAL *count; u32 GLOBAL *status;
    i64 block_stride, token_stride, head_stride;     /* bytes */
    i32 S, T, max_blocks, q_ld, out_ld, kv_blocks; float scale, v_scale; /* scale: of the scores (times k_scale), without log2(e); v_scale, of the result: e4m3 cache, else 1 */
    i32 blocks, pad;                                 /* attn_join: of attn_decode */
    aux_t aux;
} attention_args;

/* paged attention of a decode step that also makes the newest row of every sequence: a.q is not rotated, k and v are the step's packed
 * rows, token t belongs to sequence t. Rotation (of whole heads) and cache write are those of rope_kv. */
typedef struct { const u16 GLOBAL *k, *v; const float GLOBAL *table; const i64 GLOBAL *positions, *slots; i32 k_ld, v_ld, table_rows; float k_times, v_times; i32 pad; } newest_args;
typedef struct { attention_args a; newest_args n; } attention_rope_args;

typedef struct { i32 GLOBAL *out; const float GLOBAL *x; u64 GLOBAL *best; i32 GLOBAL *count; i32 rows, cols, x_ld, pad; } argmax_args; /* best, count: zeroed counters, left zeroed */

/* load: rows of a source piece -> rows of a final weight. Source row r0+i (r0 = row0) of this segment goes to row dst_row0 + perm(r0+i).
 * The value is multiplied by `scale` before it is rounded. draw: random numbers are rounded to that dtype (BF16 or F16) first, as the source
 * would hold them; 0: not. SPEC SRC: ccc_dtype of the source (0: random numbers), DST: BF16, F32 or E4M3, HALF: head_size/2 of unpermute, 0: none. */
typedef struct { void GLOBAL *dst; const void GLOBAL *src; u64 seed, name_hash; i64 row0, rows, cols, dst_row0; float mean, std; i32 draw; float scale; } load_args;

/* rope_table: f32[rows][2*half]: cos, sin of (float)row * inv_freq[i] */
typedef struct { float GLOBAL *dst; const float GLOBAL *inv_freq; i32 rows, half; float scale; i32 pad; } rope_table_args;

/* advance: one decode step further, for s < S: positions, seq_lens += 1, slot of the new position. seq_lens 0 (padding) stays. */
typedef struct { i64 GLOBAL *positions; i32 GLOBAL *seq_lens; i64 GLOBAL *slots; const i32 GLOBAL *table; i32 S, max_blocks, block_size, kv_blocks; } advance_args;

/* read: sums `bytes` of memory as u32 into out[0] (one atomic add a block): the read ceiling */
typedef struct { u32 GLOBAL *out; const void GLOBAL *src; u64 bytes; } read_args;

/* Addresses in a KV cache (bytes from the layer's K or V base); b block, t token in block, h head, D head size, B block size,
 * E bytes an element (bf16 2, e4m3 1), x = d*E
 *   nhd, hnd: b*block_stride + t*token_stride + h*head_stride + x (V has its own base)
 *   ccc: pages of 16 tokens, p = t/16, r = t%16: b*block_stride + h*head_stride + p*(2*16*D*E) + (V ? 16*D*E : 0) + r*D*E
 *        + chunk(x/16)*16 + x%16, chunk(c) = (c & ~7) | ((c ^ r) & 7) for the first floor(D*E/128)*8 chunks, c itself for the rest;
 *        v_cache == k_cache, token_stride unused, head_stride = B*D*2*E, block_stride = heads*head_stride unless the caller's is larger */

/* Host kernels: void entry(const ARGS *a, const host_ctx *c). A grid's blocks are dealt to threads; a block runs on one thread.
 * scratch: shared_B bytes (64-aligned) of this thread, kept between blocks of one node. */
typedef struct { u32 block[3], grid[3]; u32 thread, n_threads; void *scratch; } host_ctx;
#endif
