/* Launch shapes, constants and facts of the attention, cache, argmax and load templates: what the planner must know to launch them.
 * The templates include this file too, so that both sides agree. Plain C, constants and functions of constants alone.
 *
 *   template     SPEC constants (ccc_...)                                            threads               grid (x, y)
 *   rope_kv      HQ HKV D ROTARY LAYOUT BLOCK DO_Q DO_K DO_KV K_ROTATED              CCC_ROPE_THREADS      ceildiv(T * ccc_rope_items(...), CCC_ROPE_THREADS)
 *   ..._fp8      the same and ROWS_FP8                                               CCC_ROPE_THREADS      the same
 *   attention    HQ HKV D LAYOUT BLOCK OUT_F32                                       CCC_ATTN_THREADS      (ceildiv(T * HQ/HKV, CCC_ATTN_ROWS) + S) * HKV
 *   ..._fp8      the same                                                            the same              the same
 *   attn_decode  HQ HKV D BLOCK CLUSTER WARPS JOINED OUT_F32                         32 * WARPS            SM count, in whole clusters, or ccc_decode_choose
 *   ..._rope     the same                                                            the same              the same
 *   ..._fp8      the same                                                            the same              the same
 *   attn_join    HQ HKV D BLOCK OUT_F32                                              CCC_JOIN_THREADS      (HQ * D / CCC_JOIN_ELEMS, S), behind attn_decode with JOINED
 *   argmax                                                                           CCC_ARGMAX_THREADS    ccc_argmax_blocks(rows at most, cols), rows
 *   load         SRC DST HALF                                                        CCC_LOAD_THREADS      any (grid-stride); ceildiv(rows * cols, CCC_LOAD_ELEMS), at most 16 an SM, is good
 *   rope_table                                                                       CCC_LOAD_THREADS      any (grid-stride); ceildiv(rows * half, CCC_LOAD_THREADS)
 *   advance                                                                          CCC_ADVANCE_THREADS   any (grid-stride); ceildiv(S, CCC_ADVANCE_THREADS)
 *   read                                                                             CCC_READ_THREADS      ceildiv(bytes, CCC_READ_B)
 *   read_bulk                                                                        CCC_READ_BULK_THREADS the same
 *
 * min_blocks of the request: ccc_attn_min_blocks(D) for attention, 1 for the others. Dynamic shared memory: see the functions and
 * CCC_..._SHARED_B below; 0 for rope_kv, load, rope_table and advance.
 *
 * Programmatic launch: rope_kv, attention and argmax read nothing before griddepcontrol.wait. attn_decode reads before it: seq_lens,
 * the block table, and cache rows of whole 16-token pages older than the newest token. A kernel of the chain that writes seq_lens or the
 * table (advance), or rows other than the newest of each sequence (a cache copy), needs a full edge between it and attn_decode.
 * attn_join reads seq_lens. attn_decode_rope also reads positions, slots and the newest pages before it, which must not be written in the
 * chain either. Its slots are -1, or that of the last position of their sequence: rows that go elsewhere are written, but who attends to
 * them sees old or new ones.
 * Alignment: q, out, the caches and rows of them 16 bytes (head size and row strides are multiples of 8 elements); load destinations 16.
 * Scale of attention: positive and finite. */
#ifndef CCC_ATTENTION_GEOMETRY_H
#define CCC_ATTENTION_GEOMETRY_H

enum { CCC_ATTN_MAX_D = 256, CCC_PAGE = 16, CCC_MAX_SHARED = 232448 };

/* ---- rope_kv: an item is one 16-byte piece, or a rotated pair of them, of one token. half % 8 != 0: single pieces */
enum { CCC_ROPE_THREADS = 128 };
static inline int ccc_rope_pair_items(int d, int rotary) /* items of a head that is rotated */
{
    return rotary % 16 == 0 ? rotary / 16 + (d - rotary) / 8 : d / 8;
}
static inline int ccc_rope_items(int hq, int hkv, int d, int rotary, int do_q, int do_k, int do_kv)
{
    return (do_q ? hq : 0) * ccc_rope_pair_items(d, rotary) + (do_k || do_kv ? hkv : 0) * ccc_rope_pair_items(d, rotary) +
           (do_kv ? hkv * d / 8 : 0);
}

/* ---- attention: head size any multiple of 8 up to CCC_ATTN_MAX_D. A tile is ROWS rows (query tokens x heads of a group) */
enum { CCC_ATTN_THREADS = 256, CCC_ATTN_ROWS = 128, CCC_ATTN_COLS = 64 };
static inline int ccc_attn_row_B(int d) { return ((d + 15) / 16 * 2 + 1) * 16; } /* an odd number of 16-byte pieces: no bank conflicts */
static inline int ccc_attn_shared_B(int d) { return (CCC_ATTN_ROWS + 4 * CCC_ATTN_COLS) * ccc_attn_row_B(d) + 128; }
static inline int ccc_attn_fp8_shared_B(int d) { return (CCC_ATTN_ROWS + 2 * CCC_ATTN_COLS) * ccc_attn_row_B(d) + 2 * CCC_ATTN_COLS * d + 128; }
static inline int ccc_attn_min_blocks(int d) { return d <= 96 || d == 128 ? 2 : 1; } /* of the request (minctasm): 128 or 255 registers */

/* ---- attn_decode: layout ccc, one query token a sequence (T == S), D 64 or 128, HQ/HKV 1..16 */
enum { CCC_DECODE_WARPS = 8 /* at most */, CCC_DECODE_WINDOW = 64, CCC_DECODE_LEAST = 8 /* pages of a block */,
       CCC_DECODE_STAGES = 16 /* of a ring, at most: half of the 32 positions of a window, which is looked up at its middle */, CCC_DECODE_RINGS_B = 192 * 1024 /* of a block, at most */, CCC_DECODE_ROW_PAGES = 256 /* times rows: of a row that a cluster has, where they keep less than half of the device busy */,
       CCC_DECODE_PAIR_PAGES = 4 /* the same, of clusters of 2 */, CCC_DECODE_ROW_B = 32 << 20 /* of a row that has a cluster of 8, at most */ };
static inline int ccc_decode_ok(int hq, int hkv, int d) { return (d == 64 || d == 128) && hkv > 0 && hq % hkv == 0 && hq / hkv <= 16; }
static inline int ccc_decode_stage_B(int d, int fp8) { return (fp8 ? 32 : 64) * d; }           /* K and V of 16 tokens of a head */
static inline int ccc_decode_slot_B(int g, int d) { return (g * (d * 4 + 8) + 15) / 16 * 16; } /* a partial result: O, then (m, l) of each row */
static inline int ccc_decode_part_B(int g, int d) { return g * (d + 2) * 4; }                  /* of one that a cluster sends */
static inline int ccc_decode_part_stride_B(int g, int d) { return (ccc_decode_part_B(g, d) + 15) / 16 * 16; } /* in memory */
static inline int ccc_decode_scratch_B(int g, int d) { return ccc_decode_part_stride_B(g, d) / 4 * 9; } /* `part`: this x grid, two of a block and two of each 8 */
static inline int ccc_decode_fixed_B(int g, int d, int cluster, int warps) /* all but the rings: slots, windows, newest rows, what a cluster sends */
{
    int sent = cluster > 1 ? cluster * ccc_decode_part_B(g, d) : 0;
    return warps * (ccc_decode_slot_B(g, d) + CCC_DECODE_WINDOW * 16 + 2 * 16 + 8 * d) + 16 + (sent + 15) / 16 * 16;
}
static inline int ccc_decode_stages(int g, int d, int cluster, int warps, int fp8) /* of a warp's ring, which must have room for a slot */
{
    int most = CCC_DECODE_RINGS_B / warps / ccc_decode_stage_B(d, fp8);
    int fit = (CCC_MAX_SHARED - ccc_decode_fixed_B(g, d, cluster, warps)) / (warps * (ccc_decode_stage_B(d, fp8) + 8));
    if (most > CCC_DECODE_STAGES) most = CCC_DECODE_STAGES;
    return fit < most ? fit : most;
}
static inline int ccc_decode_shared_B(int g, int d, int cluster, int warps, int fp8)
{
    return ccc_decode_fixed_B(g, d, cluster, warps) + warps * ccc_decode_stages(g, d, cluster, warps, fp8) * (ccc_decode_stage_B(d, fp8) + 8);
}
/* attn_join: threads of a block and elements of a row that it has; small enough to be there beside a block of attn_decode */
enum { CCC_JOIN_THREADS = 64, CCC_JOIN_ELEMS = 32, CCC_JOIN_SHARED_B = 256 };
enum { CCC_DECODE_COUNT_B = 8 }; /* counters `count`: this x grid, zeroed once: one of a block, two of each 8 blocks */
/* with attn_join: half of the warps where the results of all leave less room for rings */
static inline int ccc_decode_joined_warps(int g, int d)
{
    int half = CCC_DECODE_WARPS / 2;
    return half * ccc_decode_stages(g, d, 1, half, 0) > CCC_DECODE_WARPS * ccc_decode_stages(g, d, 1, CCC_DECODE_WARPS, 0) ? half : CCC_DECODE_WARPS;
}
/* What suits so many sequences at most, of so many pages. Where clusters of 8 keep at most half of n_sm multiprocessors busy, a row has one, unless
 * it can be so long that all should read it; with as many as that there are no other blocks (blocks, else 0: as many as multiprocessors): of 16
 * clusters not all may find a place at once. Where no row is long, blocks are small, and start early. Clusters of 2 fit everywhere; so pairs where
 * they keep more than half of the multiprocessors busy. Few rows that may be long cross many blocks each: attn_join adds up their parts (joined). */
typedef struct { int cluster, warps, blocks, joined; } ccc_decode_form;
static inline ccc_decode_form ccc_decode_choose(long long seqs, long long pages, int g, int hkv, int d, int n_sm)
{
    long long rows = seqs * hkv;
    ccc_decode_form line = { 1, CCC_DECODE_WARPS, 0, 0 }, joined = { 1, ccc_decode_joined_warps(g, d), 0, 1 }, f = { rows * 16 <= n_sm ? 8 : 2, CCC_DECODE_WARPS, 0, 0 };
    if (f.cluster == 8 && pages * ccc_decode_stage_B(d, 0) > CCC_DECODE_ROW_B) return joined;
    if (f.cluster == 2 && (rows * 4 <= n_sm || rows * 2 > n_sm)) return line;
    int small = pages <= rows * CCC_DECODE_ROW_PAGES;
    if (f.cluster == 8 && small) f.warps = 4;
    if (f.cluster == 8 && (small || (rows + 1) * 16 > n_sm)) f.blocks = (int)rows * f.cluster;
    return ccc_decode_stages(g, d, f.cluster, f.warps, 0) * ccc_decode_stage_B(d, 0) < ccc_decode_slot_B(g, d) ? line : f; /* with e4m3 a page more may fit, never less */
}

/* ---- argmax: best u64[rows] and count i32[rows], zeroed once. Blocks of a row: few rows are read by many, many rows by few each */
enum { CCC_ARGMAX_THREADS = 256, CCC_ARGMAX_SHARED_B = 64 };
static inline long long ccc_argmax_blocks(long long rows, long long cols)
{
    long long each = rows < 16 ? 4096 : 16384;
    return (cols + each - 1) / each;
}

enum { CCC_LOAD_THREADS = 256, CCC_LOAD_ELEMS = 2048, CCC_ADVANCE_THREADS = 256, CCC_READ_THREADS = 1024, CCC_READ_B = 65536,
       CCC_READ_SHARED_B = 128, CCC_READ_BULK_THREADS = 128, CCC_READ_BULK_SHARED_B = CCC_READ_B + 4 * 4 + 8 * 8 };
#endif
