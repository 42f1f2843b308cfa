/* Paged causal attention for any mixture of query lengths (prefill, decode, both), any cache layout and any head size.
 * A unit of work is a tile of up to 128 rows of one KV head: rows are (query token, head of the group), token-major, so that K and V are
 * read once for all heads of a group. Sequence s owns the tiles from floor(query_start[s] * G / 128) + s on: at least as many as it needs,
 * and a block finds its sequence by search, without a prefix sum. Tokens behind query_start[S] (padding) are a sequence of length 0.
 * Blocks take the tiles from the last one down, all heads of a tile side by side: the longest of a prompt come first.
 *
 * Flash attention on mma.sync: 8 warps of 16 rows, K and V in tiles of 64 tokens, two stages of cp.async, one barrier a tile. Rows in shared
 * memory have an odd number of 16-byte pieces, so ldmatrix has no bank conflicts for any head size. Tokens that no row of the tile sees
 * arrive as zeros, whatever the cache holds there. Softmax in base 2; the running maximum moves only when a score exceeds it by 2^8;
 * sums stay in the lanes until the end; P is rounded to bf16. Nothing is read before grid_wait().
 *
 * With FP8 the cache is of e4m3. Its bytes come to a place of their own, each thread's to where it alone looks, and become bf16, which is
 * exact, when everybody is through with the tile before: one stage of K and V and two barriers a tile. The rest is the same. */
#include "hooks.h"
#include "kv.h"

SPEC(i32, ccc_OUT_F32);

enum { ROWS = CCC_ATTN_ROWS, COLS = CCC_ATTN_COLS, NT = CCC_ATTN_THREADS, GROUPS = COLS / CCC_PAGE, STEP = 32 };
#define G (ccc_HQ / ccc_HKV)
#define KSTEPS ((ccc_D + 15) / 16)     /* k16 steps of a row */
#define PIECES (2 * KSTEPS)            /* 16-byte pieces of a row, the last one zeros when D % 16 == 8 */
#define ROW_B (ccc_attn_row_B(ccc_D))
#define TILE_B (COLS * ROW_B)
#define O_KV (ROWS * ROW_B)            /* K stage 0, V stage 0, K stage 1, V stage 1 */
#define O_RAW (O_KV + 2 * TILE_B)      /* FP8: a tile of K, then of V, as they come */
#define O_PAGES (FP8 ? O_RAW + 2 * COLS * KV_ROW_B : O_KV + 4 * TILE_B) /* i64[2][GROUPS]: bytes to each 16-token group of a tile */
#define O_WORK (O_PAGES + 2 * GROUPS * 8) /* the work_t: kept here, since registers are short */

typedef struct { /* a tile of rows of one sequence and KV head */
    i32 seq, head, token0, rows; /* token0: query token (of T) of row 0, with sub = its first head of the group */
    i32 sub, lim0;               /* row r is (sub + r) / G tokens behind token0, and sees lim0 + (sub + r) / G cache rows */
    i32 end;                     /* cache rows that any row of the tile sees */
} work_t;
typedef struct { float o[CCC_ATTN_MAX_D / 8][4], m[2], l[2]; } acc_t;

/* ---- which tile --------------------------------------------------------------------------------------------------------------------- */
INLINE i32 start_of(const attention_args *a, i32 s) { return imin(imax(a->query_start[s], 0), a->T); }
INLINE i32 tile_of(const attention_args *a, i32 s) { return start_of(a, s) * G / ROWS + s; }
/* the last s in 0..S whose first tile is at most `tile`, by a search that splits in 32 */
INLINE i32 find_seq(const attention_args *a, i32 tile)
{
    i32 lo = 0, n = a->S + 1;
    while (n > 1) {
        i32 step = (n + 31) / 32, s = lo + lane() * step;
        u32 m = ballot(s <= a->S && lane() * step < n && tile_of(a, s) <= tile);
        i32 k = m ? 31 - __builtin_clz(m) : 0;
        lo += k * step;
        n = imin(step, n - k * step);
    }
    return lo;
}
INLINE i32 find_work(work_t *w, const attention_args *a)
{
    i32 tiles = ncta() / ccc_HKV, tile = tiles - 1 - cta() / ccc_HKV, s = find_seq(a, tile), q0 = start_of(a, s);
    i32 q1 = s < a->S ? imax(start_of(a, s + 1), q0) : a->T, row0 = (tile - (q0 * G / ROWS + s)) * ROWS, all = (q1 - q0) * G;
    if (row0 < 0 || row0 >= all) return 0;
    i32 len = s < a->S ? imin(imax(a->seq_lens[s], 0), a->max_blocks * ccc_BLOCK) : 0;
    w->seq = s;
    w->head = cta() % ccc_HKV;
    w->rows = imin(ROWS, all - row0);
    w->token0 = q0 + row0 / G;
    w->sub = row0 % G;
    w->lim0 = s < a->S ? len - (q1 - w->token0) + 1 : -a->T;
    w->end = imin(imax(w->lim0 + (w->sub + w->rows - 1) / G, 0), len);
    return 1;
}

/* ---- copies --------------------------------------------------------------------------------------------------------------------------- */
INLINE i64 row_at(i32 ld, const work_t SHARED *w, i32 r) /* elements from the start of q or out */
{
    i32 x = w->sub + r;
    return (i64)(w->token0 + x / G) * ld + (w->head * G + x % G) * ccc_D;
}
INLINE void load_q(const attention_args *a, const work_t SHARED *w)
{
    for (i32 e = tid(); e < ROWS * PIECES; e += NT) {
        i32 r = e / PIECES, c = e % PIECES, ok = r < w->rows && c < ccc_D / 8;
        i64 at = ok ? row_at(a->q_ld, w, r) + c * 8 : 0;
        cp_async16_n(saddr(smem) + r * ROW_B + c * 16, a->q + at, ok ? 16 : 0);
    }
}
/* bytes to the 16-token group `tid` of tile n */
INLINE i64 page_of(const attention_args *a, const work_t SHARED *w, i32 n)
{
    i32 t = n * COLS + tid() * CCC_PAGE;
    if (tid() >= GROUPS || t >= w->end) return 0;
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    i32 b = kv_block(a->table + (i64)w->seq * a->max_blocks + t / ccc_BLOCK, a->kv_blocks, a->status, w->seq);
    return kv_token(s, b, t % ccc_BLOCK) + w->head * s.head;
}
INLINE void put_page(i32 n, i64 page)
{
    if (tid() < GROUPS) ((i64 SHARED *)(smem + O_PAGES))[n % 2 * GROUPS + tid()] = page;
}
#if FP8
#define RAW_PIECES (COLS * KV_ROW_B / 16)
/* piece e of tile n: of K, then of V */
INLINE void copy_piece(const attention_args *a, const work_t SHARED *w, i32 n, i32 e)
{
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    i32 v = e >= RAW_PIECES, r = (e - v * RAW_PIECES) / (KV_ROW_B / 16), c = e % (KV_ROW_B / 16), t = r % CCC_PAGE;
    i64 at = ((const i64 SHARED *)(smem + O_PAGES))[n % 2 * GROUPS + r / CCC_PAGE] + t * kv_token_step(s) + kv_piece(t, c);
    u32 n_B = n * COLS + r < w->end ? 16 : 0;
    if (!n_B) at = 0;
    cp_async16_n(saddr(smem) + O_RAW + e * 16, (v ? a->v_cache + kv_v() : a->k_cache) + at, n_B);
}
/* the thread's pieces, which have landed, as bf16 */
INLINE void widen_kv(void)
{
    NO_UNROLL for (i32 e = tid(); e < 2 * RAW_PIECES; e += NT) {
        vu4 x = lds16(saddr(smem) + O_RAW + e * 16);
        u32 dst = saddr(smem) + O_KV + e / (KV_ROW_B / 16) * ROW_B + e % (KV_ROW_B / 16) * 32; /* V lies behind K */
        sts16(dst, f32x8_bf16(e4m3x8_f32((vu2){x.x, x.y})));
        sts16(dst + 16, f32x8_bf16(e4m3x8_f32((vu2){x.z, x.w})));
    }
}
INLINE void load_kv(const attention_args *a, const work_t SHARED *w, i32 n)
{
    NO_UNROLL for (i32 e = tid(); e < 2 * RAW_PIECES; e += NT) copy_piece(a, w, n, e);
}
#else
/* piece e of tile n, of K and of V */
INLINE void copy_piece(const attention_args *a, const work_t SHARED *w, i32 n, i32 e)
{
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    i32 r = e / PIECES, c = e % PIECES, t = r % CCC_PAGE;
    i64 at = ((const i64 SHARED *)(smem + O_PAGES))[n % 2 * GROUPS + r / CCC_PAGE] + t * kv_token_step(s) + kv_piece(t, c);
    u32 n_B = n * COLS + r < w->end && c < ccc_D / 8 ? 16 : 0, dst = saddr(smem) + O_KV + n % 2 * (2 * TILE_B) + r * ROW_B + c * 16;
    if (!n_B) at = 0;
    cp_async16_n(dst, a->k_cache + at, n_B);
    cp_async16_n(dst + TILE_B, a->v_cache + kv_v() + at, n_B);
}
INLINE void load_kv(const attention_args *a, const work_t SHARED *w, i32 n)
{
    if (COLS * PIECES % NT == 0) {
        UNROLL for (i32 i = 0; i < COLS * PIECES / NT; i++) copy_piece(a, w, n, tid() + i * NT);
    } else {
        NO_UNROLL for (i32 e = tid(); e < COLS * PIECES; e += NT) copy_piece(a, w, n, e);
    }
}
#endif

/* ---- arithmetic: lane 4g+t of a warp has rows g and g+8, columns 2t and 2t+1 of each 8 -------------------------------------------------- */
INLINE void score(float s[STEP / 8][4], u32 q, u32 k)
{
    i32 l = lane();
    u32 qa = q + (l & 15) * ROW_B + (l >> 4) * 16, ka = k + ((l & 7) + (l >> 4) * 8) * ROW_B + (l >> 3 & 1) * 16;
    UNROLL for (i32 j = 0; j < STEP / 8; j++) UNROLL for (i32 i = 0; i < 4; i++) s[j][i] = 0;
    UNROLL for (i32 i = 0; i < KSTEPS; i++) {
        u32 x[4], y[4];
        ldmatrix4(x, qa + i * 32);
        UNROLL for (i32 j = 0; j < STEP / 16; j++) {
            ldmatrix4(y, ka + j * 16 * ROW_B + i * 32);
            mma_bf16(s[2 * j], x, y[0], y[1]);
            mma_bf16(s[2 * j + 1], x, y[2], y[3]);
        }
    }
}
INLINE void mask(float s[STEP / 8][4], const i32 lim[2], i32 col0)
{
    UNROLL for (i32 j = 0; j < STEP / 8; j++) UNROLL for (i32 i = 0; i < 4; i++)
        if (col0 + 8 * j + 2 * (lane() & 3) + (i & 1) >= lim[i >> 1]) s[j][i] = -__builtin_inff();
}
/* scores become probabilities, as pairs of bf16: p[j][0] of row g, p[j][1] of row g+8. sc: scale * log2(e) */
INLINE void soft(u32 p[STEP / 8][2], float s[STEP / 8][4], acc_t *A, float sc)
{
    float mx[2] = {s[0][0], s[0][2]};
    UNROLL for (i32 j = 0; j < STEP / 8; j++) UNROLL for (i32 i = 0; i < 4; i++) mx[i >> 1] = fmax2(mx[i >> 1], s[j][i]);
    if (vote_any(mx[0] * sc > A->m[0] + 8.0f || mx[1] * sc > A->m[1] + 8.0f)) {
        UNROLL for (i32 h = 0; h < 2; h++) {
            float m = mx[h] * sc;
            m = fmax2(m, shfl_xor(m, 1));
            m = fmax2(fmax2(m, shfl_xor(m, 2)), A->m[h]);
            float f = ex2(A->m[h] - m);
            A->m[h] = m;
            A->l[h] *= f;
            UNROLL for (i32 j = 0; j < ccc_D / 8; j++) { A->o[j][2 * h] *= f; A->o[j][2 * h + 1] *= f; }
        }
    }
    UNROLL for (i32 j = 0; j < STEP / 8; j++) {
        float e[4];
        UNROLL for (i32 i = 0; i < 4; i++) e[i] = ex2(fma_(s[j][i], sc, -A->m[i >> 1]));
        A->l[0] += e[0] + e[1];
        A->l[1] += e[2] + e[3];
        p[j][0] = bf16_pack(e[0], e[1]);
        p[j][1] = bf16_pack(e[2], e[3]);
    }
}
INLINE void value(acc_t *A, u32 p[STEP / 8][2], u32 v)
{
    i32 l = lane();
    u32 va = v + (l & 15) * ROW_B + (l >> 4) * 16;
    UNROLL for (i32 j = 0; j < STEP / 16; j++) {
        u32 x[4] = {p[2 * j][0], p[2 * j][1], p[2 * j + 1][0], p[2 * j + 1][1]}, y[4];
        UNROLL for (i32 i = 0; i < KSTEPS; i++) {
            ldmatrix4_t(y, va + j * 16 * ROW_B + i * 32);
            mma_bf16(A->o[2 * i], x, y[0], y[1]);
            if (2 * i + 1 < ccc_D / 8) mma_bf16(A->o[2 * i + 1], x, y[2], y[3]);
        }
    }
}
vf8 ccc_hook_epilogue(vf8 v, i32 row, i32 col, const aux_t *aux);
INLINE void put_piece(const attention_args *a, const work_t SHARED *w, i32 r, i32 c, vu4 v)
{
    i32 x = w->sub + r, token = w->token0 + x / G, col = (w->head * G + x % G) * ccc_D + c * 8;
    OUT_STORE(8, a->out, (i64)token * a->out_ld + col, ccc_hook_epilogue(bf16x8_f32(v), token, col, &a->aux));
}
/* the warp's 16 rows, rounded to bf16, through its part of the q tile, as whole pieces */
INLINE void put_out(acc_t *A, const attention_args *a, const work_t SHARED *w, i32 r0)
{
    u32 at = saddr(smem) + r0 * ROW_B;
    UNROLL for (i32 h = 0; h < 2; h++) {
        float l = A->l[h];
        l += shfl_xor(l, 1);
        l += shfl_xor(l, 2);
        float f = l > 0 ? rcp(l) : l; /* a NaN stays one */
        if (FP8) f *= a->v_scale;
        u32 row = at + ((lane() >> 2) + 8 * h) * ROW_B + (lane() & 3) * 4;
        UNROLL for (i32 j = 0; j < ccc_D / 8; j++) sts4(row + j * 16, bf16_pack(A->o[j][2 * h] * f, A->o[j][2 * h + 1] * f));
    }
    warp_sync();
    for (i32 e = lane(); e < 16 * (ccc_D / 8); e += 32) {
        i32 r = e / (ccc_D / 8), c = e % (ccc_D / 8);
        if (r0 + r < w->rows) put_piece(a, w, r0 + r, c, lds16(at + r * ROW_B + c * 16));
    }
}

KERNEL ccc_kernel(attention_args a)
{
    dependents_launch();
    grid_wait();
    work_t found;
    if (!find_work(&found, &a)) return;
    work_t SHARED *w = (work_t SHARED *)(smem + O_WORK);
    if (tid() == 0) *w = found;
    cta_sync();
    i32 tiles = (w->end + COLS - 1) / COLS, r0 = tid() / 32 * 16, g = r0 + lane() / 4, busy = uniform(r0 < w->rows);
    i32 lim[2] = {w->lim0 + (w->sub + g) / G, w->lim0 + (w->sub + g + 8) / G}, sees = busy ? w->lim0 + (w->sub + r0 + 15) / G : 0;
    float sc = a.scale * 1.44269504f;
    acc_t A;
    UNROLL for (i32 j = 0; j < ccc_D / 8; j++) UNROLL for (i32 i = 0; i < 4; i++) A.o[j][i] = 0;
    A.m[0] = A.m[1] = -1e30f;
    A.l[0] = A.l[1] = 0;

    put_page(0, page_of(&a, w, 0));
    put_page(1, page_of(&a, w, 1));
    load_q(&a, w);
    cta_sync();
    if (tiles) load_kv(&a, w, 0);
    cp_async_commit();
    NO_UNROLL for (i32 n = 0; n < tiles; n++) {
        CP_ASYNC_WAIT(0);
#if FP8
        cta_sync(); /* nobody reads the tile before */
        widen_kv();
#endif
        cta_sync(); /* tile n is here, and nobody reads the other stage any more */
        if (n + 1 < tiles) load_kv(&a, w, n + 1);
        cp_async_commit();
        i64 page = page_of(&a, w, n + 2);
        u32 k = saddr(smem) + O_KV + (FP8 ? 0 : n % 2 * (2 * TILE_B));
        NO_UNROLL for (i32 col = n * COLS; col < (n + 1) * COLS && col < sees; col += STEP, k += STEP * ROW_B) {
            float s[STEP / 8][4];
            u32 p[STEP / 8][2];
            score(s, saddr(smem) + r0 * ROW_B, k);
            if (col + STEP > w->lim0) mask(s, lim, col);
            soft(p, s, &A, sc);
            value(&A, p, k + TILE_B);
        }
        put_page(n, page);
    }
    CP_ASYNC_WAIT(0);
    cta_sync(); /* without tiles too, the copies of q must have landed before its place is reused */
    if (busy) put_out(&A, &a, w, r0);
}
