/* Paged attention of a decode step (one query token a sequence, layout ccc), split over the cache and merged in the same launch.
 * Work: all (sequence, KV head, page of 16 tokens) in one line; block c takes the positions c*per .. (c+1)*per, its 8 warps equal parts of
 * that. A row ((sequence, KV head)) that lies inside a warp goes straight to the output; one that crosses warps is merged in shared
 * memory; one that crosses blocks through `part`, by the last block to arrive or (JOINED) by attn_join, in the order of the blocks. So
 * scratch depends on the grid alone, and the same lengths give the same bits. An empty sequence is one masked page: somebody must write
 * its zeros.
 * Where rows are few, the way through memory is a third of the time. Then (CLUSTER > 1), if all are about as long, a row has a cluster of
 * blocks, equal parts of its pages each, and they send their results to the first one's shared memory. So few blocks read slower than all:
 * rows that are long for their number go back to the line. Where rows are many and about as long, blocks have whole ones.
 *
 * Each warp has its own ring: one bulk copy brings K and V of a page and head (64*D bytes of bf16). mma.sync m16n8k16 has the tokens as rows:
 * S^T = K Q^T, O^T = V^T P^T, and the heads of the group are the 8 columns (twice for 9..16). The order of the contraction and of the
 * tokens is free, so fragments are whole 16-byte loads; with the swizzle of the layout they have no bank conflicts.
 *
 * With FP8 the cache is of e4m3 (attn_page_fp8.h): a page has half of the bytes, and a ring twice as many of them.
 * With ROPE it also makes the newest row of each sequence (attn_newest.h). Results of rows and their merging: attn_merge.h.
 *
 * Before grid_wait() it reads seq_lens, the block table and, of the cache, whole pages older than the newest token; with ROPE positions,
 * slots and all pages. */
#include "attn_rows.h"
#include "rope.h"

#ifndef ROPE
#define ROPE 0
#endif
SPEC(i32, ccc_CLUSTER); /* blocks of a cluster; 1: no clusters */
SPEC(i32, ccc_WARPS);   /* of a block */
SPEC(i32, ccc_JOINED);  /* rows that cross blocks are left to attn_join, in parts */
enum { NW_MOST = CCC_DECODE_WARPS, CLUSTER_MOST = 8, WINDOW = CCC_DECODE_WINDOW };
#define NW ccc_WARPS
#define NT (32 * NW)
#define STAGE (2 * PAGE * KV_ROW_B)
#define STAGES ccc_decode_stages(G, ccc_D, ccc_CLUSTER, NW, FP8)
#define SLOT ccc_decode_slot_B(G, ccc_D)
#define O_SLOT (NW * STAGES * STAGE)    /* the rings come first */
#define O_DESC (O_SLOT + NW * SLOT)
#define O_META (O_DESC + NW * WINDOW * 16)
#define NEW_B (8 * ccc_D)               /* of a warp's newest row */
#define O_NEW (O_META + NW * 2 * 16)
#define O_SENT (O_NEW + NW * NEW_B)
#define O_FLAG (O_SENT + (ccc_CLUSTER > 1 ? (ccc_CLUSTER * PSTRIDE * 4 + 15) / 16 * 16 : 0)) /* two flags, then the barrier of what is sent */
#define O_BAR (O_FLAG + 16)
#define PSTRIDE (G * (ccc_D + 2))       /* floats of a partial result: O, then (m, l) of each row */
#define NQ (G > 8 ? 2 : 1)              /* column tiles of 8 heads */
#define NK (ccc_D / 32)                 /* pieces of a K row that a lane holds */
#define NV (ccc_D / 64)                 /* pieces of a V row that a lane holds */
#define NE (NV * 8)                     /* elements of them */

typedef struct { i32 seq, x, np, len; } cursor_t;                       /* x: position behind the start of sequence seq, which has np pages a head */
typedef struct { float o[2][8][4], m[2][2], l[2][2]; } acc_t;
typedef struct { vu4 r[2][4]; } q_t;
typedef struct { i32 row[2], first[2], last[2]; } open_t;               /* rows that cross this block's edges (-1: none), and the blocks that share them */

/* the sequence that holds position pos, its length, and where it starts */
INLINE i32 find(const plan_t *p, const args_t *a, i32 pos, i32 *start, i32 *len)
{
    i32 base = 0, l = p->len, v = p->v, inc = p->inc;
    for (i32 s0 = 0;;) {
        u32 m = ballot(base + inc > pos);
        if (m || s0 > a->S) {
            i32 k = m ? __builtin_ctz(m) : 0;
            *start = base + shfl_i(inc - v, k);
            *len = shfl_i(l, k);
            return s0 + k;
        }
        base += shfl_i(inc, 31);
        s0 += 32;
        l = len_of(a, s0 + lane());
        v = positions(a, s0 + lane(), l);
        inc = scan(v);
    }
}
typedef struct { i32 from, to, row, blocks; } share_t; /* positions of this block; blocks that share row, 0: the line is cut regardless of rows */
/* Where rows are as good as equally long nothing need be merged through memory: each has a cluster, or blocks have whole ones, where that is
 * nearly as even as cutting the line. Rows that are long for their number read faster as a line, by all blocks */
INLINE share_t share_of(const args_t *a, const plan_t *P)
{
    i32 rows = a->S * ccc_HKV, from = imin(cta() * P->per, P->W);
    share_t h = {from, imin(from + P->per, P->W), 0, 0};
    if (!even(a, P)) return h;
    if (ccc_CLUSTER == 1 || rows * ccc_CLUSTER > ncta()) {
        i32 each = rows_each(a, ncta());
        if (!dealt_whole(a, P, ncta())) return h;
        h.from = row_start(P, a, imin(cta() * each, rows));
        h.to = row_start(P, a, imin((cta() + 1) * each, rows));
        return h;
    }
    if (rows * ccc_CLUSTER * 2 < ncta() && P->most > rows * (ccc_CLUSTER == 2 ? CCC_DECODE_PAIR_PAGES : CCC_DECODE_ROW_PAGES)) return h;
    h.row = cta() / ccc_CLUSTER;
    i32 row = imin(h.row, rows - 1), start = row_start(P, a, row), np = row_start(P, a, row + 1) - start;
    i32 per = imax((np + ccc_CLUSTER - 1) / ccc_CLUSTER, CCC_DECODE_LEAST), rank = cta() % ccc_CLUSTER;
    h.blocks = (np + per - 1) / per;
    h.from = start + imin(rank * per, np);
    h.to = h.row < rows ? start + imin((rank + 1) * per, np) : h.from;
    return h;
}
/* the page at the cursor: block (-1: nothing to fetch), row, page of the row, length. Each lane has its own position of a window of 32 */
INLINE vi4 describe(cursor_t *c, const args_t *a)
{
    while (c->seq < a->S && c->x >= ccc_HKV * c->np) {
        c->x -= ccc_HKV * c->np;
        c->seq++;
        c->len = len_of(a, c->seq);
        c->np = pages(c->len);
    }
    vi4 d = {-1, -1, 0, 0};
    if (c->seq < a->S) {
        i32 h = quo(c->x, c->np);
        d.y = c->seq * ccc_HKV + h;
        d.z = c->x - h * c->np;
        d.w = c->len;
        if (c->len > 0) d.x = kv_block(a->table + (u64)c->seq * a->max_blocks + d.z / (ccc_BLOCK / PAGE), a->kv_blocks, a->status, c->seq);
    }
    return d;
}
INLINE const char GLOBAL *page_at(const args_t *a, vi4 d)
{
    return a->k_cache + d.x * a->block_stride + d.y % ccc_HKV * a->head_stride + d.z % (ccc_BLOCK / PAGE) * STAGE;
}
INLINE void issue(const args_t *a, vi4 d, u32 dst, u32 bar, u64 policy)
{
    if (d.x < 0) {
        bar_arrive(bar);
        return;
    }
    bar_expect(bar, STAGE);
    bulk_load_hint(dst, page_at(a, d), STAGE, bar, policy);
}

/* ---- a page: lane 4g+t. Rows of K: perm(g), perm(g)+8, pieces 4i+t; rows of V: t, t+4, t+8, t+12, pieces perm(g), perm(g)+8 ---------------- */
INLINE i32 perm(i32 g) { return g >> 1 | (g & 1) << 2; }
INLINE void acc_zero(acc_t *A)
{
    UNROLL for (i32 q = 0; q < NQ; q++) {
        UNROLL for (i32 j = 0; j < NE / 2; j++) UNROLL for (i32 k = 0; k < 4; k++) A->o[q][j][k] = 0;
        A->m[q][0] = A->m[q][1] = -1e30f;
        A->l[q][0] = A->l[q][1] = 0;
    }
}
#if FP8
#include "attn_page_fp8.h"
#else
typedef struct { vu4 k[2][4], v[4][2]; } kv_t;
#define MMA mma_bf16
/* the first of the elements in piece i of a q row */
INLINE i32 q_at(i32 i) { return (4 * i + (lane() & 3)) * 8; }
INLINE float q_ready(q_t *Q) { return (void)Q, 1; }
INLINE void kv_load(kv_t *T, const char SHARED *p)
{
    i32 g = lane() >> 2, t = lane() & 3;
    UNROLL for (i32 j = 0; j < 2; j++) UNROLL for (i32 i = 0; i < NK; i++) {
        i32 r = perm(g), c = 4 * i + t;
        T->k[j][i] = *(const vu4 SHARED *)(p + (r + 8 * j) * (2 * ccc_D) + ((c & 8) | ((c ^ r) & 7)) * 16);
    }
    UNROLL for (i32 k = 0; k < 4; k++) UNROLL for (i32 h = 0; h < NV; h++) {
        i32 r = t + 4 * k;
        T->v[k][h] = *(const vu4 SHARED *)(p + PAGE * 2 * ccc_D + r * (2 * ccc_D) + h * 128 + (perm(g) ^ (r & 7)) * 16);
    }
}
/* s[q][k]: token perm(g) + 8(k>>1), head 2t + (k&1) + 8q */
INLINE void score(float s[2][4], const q_t *Q, const kv_t *T)
{
    UNROLL for (i32 q = 0; q < NQ; q++) {
        float e[2][4];
        UNROLL for (i32 c = 0; c < 2; c++) UNROLL for (i32 k = 0; k < 4; k++) e[c][k] = 0;
        UNROLL for (i32 i = 0; i < NK; i++) UNROLL for (i32 c = 0; c < 2; c++) {
            u32 x[4] = {T->k[0][i][2 * c], T->k[1][i][2 * c], T->k[0][i][2 * c + 1], T->k[1][i][2 * c + 1]};
            MMA(e[c], x, Q->r[q][i][2 * c], Q->r[q][i][2 * c + 1]);
        }
        UNROLL for (i32 k = 0; k < 4; k++) s[q][k] = e[0][k] + e[1][k];
    }
}
INLINE void v_zero(kv_t *T, i32 k) { UNROLL for (i32 h = 0; h < NV; h++) T->v[k][h] = 0; }
INLINE u32 p_pack(float x, float y) { return bf16_pack(x, y); }
/* element e of the V rows of tokens x and y, as a pair */
INLINE u32 v_pair(const kv_t *T, i32 x, i32 y, i32 e) { return prmt(T->v[x][e / 8][e % 8 / 2], T->v[y][e / 8][e % 8 / 2], e & 1 ? 0x7632 : 0x5410); }
INLINE i32 dim_of(i32 b) { return (perm(lane() >> 2) + 8 * b) * 8; }
#endif
INLINE void value(acc_t *A, u32 p[2][2], const kv_t *T)
{
    UNROLL for (i32 j = 0; j < NE / 2; j++) {
        u32 x[4] = {v_pair(T, 0, 1, j), v_pair(T, 0, 1, j + NE / 2), v_pair(T, 2, 3, j), v_pair(T, 2, 3, j + NE / 2)};
        UNROLL for (i32 q = 0; q < NQ; q++) MMA(A->o[q][j], x, p[q][0], p[q][1]);
    }
}
INLINE void q_load(q_t *Q, const args_t *a, i32 row)
{
    i32 g = lane() >> 2;
    const u16 GLOBAL *q = a->q + (i64)(row / ccc_HKV) * a->q_ld + row % ccc_HKV * (G * ccc_D);
    UNROLL for (i32 h = 0; h < NQ; h++) UNROLL for (i32 i = 0; i < NK; i++) {
        vu4 v = 0;
        if (g + 8 * h < G) v = ld16(q + (g + 8 * h) * ccc_D + q_at(i));
        Q->r[h][i] = v;
    }
}
/* the last page: tokens from `room` on do not exist, and their V may be anything */
INLINE void mask(float s[2][4], kv_t *T, i32 room)
{
    i32 g = lane() >> 2, t = lane() & 3;
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 k = 0; k < 4; k++)
        if (perm(g) + 8 * (k >> 1) >= room) s[q][k] = -__builtin_inff();
    UNROLL for (i32 k = 0; k < 4; k++)
        if (t + 4 * k >= room) v_zero(T, k);
}
/* p: probabilities as the B operand. The running maximum moves only when a score exceeds it by 2^8 */
INLINE void soft(u32 p[2][2], float s[2][4], acc_t *A, float sc)
{
    float mx[2][2];
    i32 up = 0;
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) {
        mx[q][c] = sc * fmax2(s[q][c], s[q][2 + c]);
        up |= mx[q][c] > A->m[q][c] + 8.0f;
    }
    if (vote_any(up)) {
        UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) {
            float v = fmax2(mx[q][c], shfl_xor(mx[q][c], 4));
            v = fmax2(v, shfl_xor(v, 8));
            v = fmax2(fmax2(v, shfl_xor(v, 16)), A->m[q][c]);
            float f = ex2(A->m[q][c] - v);
            A->m[q][c] = v;
            A->l[q][c] *= f;
            UNROLL for (i32 j = 0; j < NE / 2; j++) { A->o[q][j][c] *= f; A->o[q][j][2 + c] *= f; }
        }
    }
    UNROLL for (i32 q = 0; q < NQ; q++) {
        float e[4];
        UNROLL for (i32 k = 0; k < 4; k++) e[k] = ex2(fma_(s[q][k], sc, -A->m[q][k & 1]));
        A->l[q][0] += e[0] + e[2];
        A->l[q][1] += e[1] + e[3];
        p[q][0] = movmatrix_t(p_pack(e[0], e[1]));
        p[q][1] = movmatrix_t(p_pack(e[2], e[3]));
    }
}
INLINE void page_math(acc_t *A, const q_t *Q, const char SHARED *p, i32 room, float sc)
{
    kv_t T;
    float s[2][4];
    u32 pp[2][2];
    kv_load(&T, p);
    score(s, Q, &T);
    if (room < PAGE) mask(s, &T, room);
    soft(pp, s, A, sc);
    value(A, pp, &T);
}

#include "attn_newest.h"

#include "attn_merge.h"

/* ---- the positions from, .. from+cnt of a warp ---------------------------------------------------------------------------------------------- */
typedef struct { u32 bar, ring, own; vi4 SHARED *desc, *meta; cursor_t cur; u64 policy; i64 slot; q_t next; } warp_t; /* next: q as it comes from memory, of the next row */

/* until the first pages and q of the first row are on their way */
INLINE warp_t warp_begin(const args_t *a, const newest_args *n, const plan_t *P, i32 from, i32 cnt)
{
    i32 w = uniform(tid() >> 5), start;
    vi4 d0 = {-1, -1, 0, 0};
    warp_t W = {.bar = saddr(smem) + O_BAR + w * STAGES * 8, .ring = saddr(smem) + w * STAGES * STAGE, .own = saddr(smem) + O_NEW + w * NEW_B,
                .desc = (vi4 SHARED *)(smem + O_DESC) + w * WINDOW, .meta = (vi4 SHARED *)(smem + O_META) + w * 2, .policy = policy_evict_first(), .slot = -1};
    if (lane() < STAGES) bar_init(W.bar + lane() * 8, 1);
    bar_init_fence();
    if (lane() < 2) W.meta[lane()] = d0;
    if (cnt > 0) {
        W.cur.seq = find(P, a, from, &start, &W.cur.len);
        W.cur.x = from - start + lane();
        W.cur.np = pages(W.cur.len);
        d0 = describe(&W.cur, a);
        W.desc[lane()] = d0;
    }
    warp_sync();
    /* pages older than the newest token do not depend on the kernel before: they are on their way before the wait. With ROPE no page does.
     * They come first: a load behind them takes as long as all that its multiprocessor has asked for, 8 us where rings are full. So what the
     * next row needs is asked for a row early, too. Where rows are long one page more goes to L2: what is before may take longer than the
     * rings (2 KV heads, 1 x 131072: 49.6 us became 48.6; two more, or one where blocks merge themselves, do not pay) */
    i32 mine = lane() < imin(STAGES, cnt), old = ROPE || (d0.z + 1) * PAGE < d0.w;
    u32 dst = W.ring + lane() * STAGE, bar = W.bar + lane() * 8;
    if (mine && old) issue(a, d0, dst, bar, W.policy);
    if (ccc_JOINED && lane() == STAGES && lane() < cnt && old && d0.x >= 0) bulk_prefetch_l2(page_at(a, d0), STAGE, W.policy);
    if (ROPE && cnt > 0) {
        i32 seq = shfl_i(d0.y, 0) / ccc_HKV;
        W.slot = newest_begin(a, n, seq, token_of(n, seq), W.own);
    }
    grid_wait();
    if (cnt > 0) q_load(&W.next, a, shfl_i(d0.y, 0));
    if (mine && !old) issue(a, d0, dst, bar, W.policy);
    warp_sync();
    return W;
}
/* position j into stage st, which is free. The window ahead is looked up 16 positions before it is needed */
INLINE void refill(const args_t *a, warp_t *W, i32 j, i32 cnt, i32 st, vi4 *window)
{
    if (j >= cnt) return;
    if ((j & 31) == 16 && (j | 31) + 1 < cnt) {
        W->cur.x += 32;
        *window = describe(&W->cur, a);
    }
    if (!(j & 31)) {
        W->desc[(j + lane()) & (WINDOW - 1)] = *window;
        warp_sync();
    }
    if (lane() == 0) issue(a, W->desc[j & (WINDOW - 1)], W->ring + st * STAGE, W->bar + st * 8, W->policy);
}
INLINE void run_warp(const args_t *a, const newest_args *n, const plan_t *P, i32 from, i32 cnt)
{
    warp_t W = warp_begin(a, n, P, from, cnt);
    const i32 ring = uniform(tid() >> 5) * STAGES * STAGE;
    i32 st = 0;
    u32 phase = 0;
    vi4 window = {-1, -1, 0, 0};
    float sc = a->scale * 1.44269504f;
    for (i32 i = 0; i < cnt;) { /* a row, or the part of it that is this warp's */
        acc_t A;
        q_t Q = W.next;
        vi4 d = W.desc[i & (WINDOW - 1)];
        i32 np = pages(d.w), room = d.w - d.z * PAGE, end = imin(cnt, i + np - d.z), whole = d.z == 0 && i + np <= cnt, r0 = from + i - d.z;
        i32 seq2 = (d.y + (end < cnt)) / ccc_HKV, other = seq2 != d.y / ccc_HKV; /* of the next row of this warp */
        token_t token2 = {0, 0};
        if (ROPE) newest_load(n, d.y, W.own, d.z + end - i == np);
        if (ROPE) q_rotate(&Q, W.own);
        if (ROPE && other) token2 = token_of(n, seq2);
        if (end < cnt) q_load(&W.next, a, d.y + 1);
        float row_sc = sc * q_ready(&Q);
        acc_zero(&A);
        NO_UNROLL for (; i < end; i++, room -= PAGE) {
            char SHARED *page = smem + ring + st * STAGE;
            while (!bar_try(W.bar + st * 8, phase)) {}
            if (ROPE && room <= PAGE) newest_put(W.own, W.slot, a, n, W.desc[i & (WINDOW - 1)], page); /* the row's last page */
            page_math(&A, &Q, page, room, row_sc);
            warp_sync();
            refill(a, &W, i + STAGES, cnt, st, &window);
            if (++st == STAGES) {
                st = 0;
                phase ^= 1;
            }
        }
        finish(&A);
        if (whole) put_out(&A, a, d.y);
        else { /* begun before this warp: slot 0; goes on after it: slot 1, in the ring, which is idle by then */
            i32 sl = d.z == 0;
            put_slot(&A, (float SHARED *)(smem + (sl ? ring : O_SLOT + uniform(tid() >> 5) * SLOT)));
            if (lane() == 0) W.meta[sl] = (vi4){d.y, r0, np, 0};
        }
        if (ROPE && other) W.slot = newest_begin(a, n, seq2, token2, W.own);
    }
}

INLINE void decode(const args_t *a, const newest_args *newest)
{
    dependents_launch();
    plan_t P = plan(a, ncta());
    share_t h = share_of(a, &P);
    i32 n = h.to - h.from, w = uniform(tid() >> 5), wa = h.from + n * w / NW;
    if (h.blocks > 1) cluster_begin();
    if (n <= 0) {
        grid_wait();
        return;
    }
    run_warp(a, newest, &P, wa, h.from + n * (w + 1) / NW - wa);
    cta_sync();
    if (h.blocks > 1) merge_cluster(a, h);
    else merge_line(a, &P, h);
}

#if ROPE
KERNEL ccc_kernel(attention_rope_args a) { decode(&a.a, &a.n); }
#else
KERNEL ccc_kernel(attention_args a) { decode(&a, 0); }
#endif
