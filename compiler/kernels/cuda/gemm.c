/* y = epilogue(x * w^T) on tensor cores: a persistent, warp-specialised product of tiles. One producer thread lets the TMA unit fill a ring
 * of k blocks (128-byte rows: 64 of K, swizzled) ahead of the consumers; consumer warpgroups run wgmma on it and keep the tile's sums in
 * registers.
 *
 * Two orientations, by which operand is the M of wgmma (64 rows at least): tokens, for many of them, 128 x BN outputs a tile, two
 * consumers, whose sums pass through shared memory, so that hooks and stores see whole pieces of rows; or with SWAP the weights, for few
 * tokens, COLS outputs x BN tokens, a consumer for each 64 of COLS, whose sums go out as they lie in registers, and SPLIT > 1 CTAs of a
 * cluster sharing the K of one tile. PAIR: w holds two matrices of N rows; a tile computes the same columns of both and the pair hook
 * joins them.
 *
 * FP8: both operands are e4m3, 128 of K in a row of a k block instead of 64; all else, counted in bytes, is the same. The tensor core adds
 * products of e4m3 with fewer bits than f32 has (an error of about 2e-3 at K = 4096, as cuBLAS with fast accumulation).
 *
 * Before the grid wait the producer fetches only weights, of the first stages. Sums have one order (increasing k, with SPLIT the CTAs'
 * parts in order), so bits depend on SPLIT alone, on no tile shape. */
#include "../geometry.h"
#include "hooks.h"

#ifndef SWAP
#define SWAP 0
#endif
#ifndef PAIR
#define PAIR 0
#endif
#ifndef FP8
#define FP8 0
#endif
#include "wgmma.h"

SPEC(i32, ccc_OUT_F32);
#if SWAP
SPEC(i32, ccc_COLS);
SPEC(i32, ccc_SPLIT);
SPEC(i32, ccc_BLOCKS);
typedef float vf;
#else
enum { ccc_COLS = BN / (PAIR + 1), ccc_SPLIT = 1, ccc_BLOCKS = 1 };
typedef vf8 vf;
#endif
HOOK vf ccc_hook_epilogue(vf v, i32 row, i32 col, const aux_t *aux);
#if SWAP
HOOK void ccc_hook_epilogue_take_weights(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_epilogue_take_others(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK float ccc_hook_epilogue_taken(float v, const float *taken, i32 row, i32 col, const aux_t *aux);
#endif
HOOK vf ccc_hook_pair(vf v, vf v2, i32 row, i32 col, const aux_t *aux);

enum { BK = FP8 ? CCC_GEMM_K_FP8 : CCC_GEMM_K };
enum { MI = SWAP && PAIR ? 2 : 1, GROUP = 16, MAX_BLOCKS = 4 }; /* 64-row blocks a consumer; band of the tile order */
#define TILE ((ccc_gemm_tile){SWAP, BN, PAIR, ccc_COLS, ccc_SPLIT, ccc_BLOCKS, 0})
#define CONSUMERS (ccc_gemm_consumers(TILE) * 128)
#define BLOCK_B ccc_gemm_block_B(TILE)                             /* a k block: rows of A, rows of B */
#define STAGE_B (BLOCK_B * ccc_BLOCKS)                              /* a stage: BLOCKS of them */
#define A_B ((SWAP ? ccc_COLS * (PAIR + 1) : CCC_GEMM_ROWS) * 128)
#define FULL(s) (saddr(smem) + (u32)(s) * 16)                      /* barriers: the stage is filled */
#define EMPTY(s) (FULL(s) + 8)                                     /* it has been read */
#define PARTS (saddr(smem) + CCC_GEMM_BARRIERS_B - 8)             /* the other CTAs' parts of this one's sums are there */
#define RING (saddr(smem) + CCC_GEMM_BARRIERS_B)
#define BEHIND_RING (RING + (u32)(a->stages * STAGE_B))

/* ---- tile order: within a band of GROUP tiles of direction a, a changes fastest: what a wave reads stays in L2 */
typedef struct { i32 a, b; } tile;
INLINE tile tile_of(i32 u, i32 na, i32 nb)
{
    i32 first = u / (GROUP * nb) * GROUP, r = u - first * nb, h = imin(na - first, GROUP);
    return (tile){first + r % h, r / h};
}

/* ---- producer -------------------------------------------------------------------------------------------------------------- */
INLINE void load_w(const gemm_args *a, tile t, i32 k, u32 stage, u32 bar)
{
    i32 col = (SWAP ? t.a : t.b) * ccc_COLS;
    UNROLL for (i32 i = 0; i < MAX_BLOCKS; i++) {
        if (i >= ccc_BLOCKS) break;
        u32 to = stage + (u32)(i * BLOCK_B) + (SWAP ? 0 : (u32)A_B);
        tmap_load_2d(to, &a->w, (k + i) * BK, col, bar);
        if (PAIR) tmap_load_2d(to + (u32)(ccc_COLS * 128), &a->w, (k + i) * BK, a->N + col, bar);
    }
}
INLINE void load_x(const gemm_args *a, tile t, i32 k, u32 stage, u32 bar)
{
    i32 row = (SWAP ? t.b : t.a) * ccc_gemm_tokens(TILE);
    UNROLL for (i32 i = 0; i < MAX_BLOCKS; i++)
        if (i < ccc_BLOCKS) tmap_load_2d(stage + (u32)(i * BLOCK_B) + (SWAP ? (u32)A_B : 0), &a->x, (k + i) * BK, row, bar);
}

INLINE void produce(const gemm_args *a, i32 unit0, i32 n_units, i32 step, i32 k0, i32 k1)
{
    u32 s = 0, phase = 1;
    i32 early = unit0 < n_units ? imin((k1 - k0) / ccc_BLOCKS, a->stages) : 0;
    tmap_prefetch(&a->x);
    tmap_prefetch(&a->w);
    dependents_launch();
    for (i32 i = 0; i < early; i++) { /* the ring is empty: nothing to wait for */
        bar_expect(FULL(i), (u32)STAGE_B);
        load_w(a, tile_of(unit0, a->na, a->nb), k0 + i * ccc_BLOCKS, RING + (u32)(i * STAGE_B), FULL(i));
    }
    grid_wait();
    for (i32 u = unit0; u < n_units; u += step) {
        tile t = tile_of(u, a->na, a->nb);
        for (i32 k = k0; k < k1; k += ccc_BLOCKS) {
            u32 stage = RING + s * (u32)STAGE_B;
            if (early > 0) {
                early--;
            } else {
                bar_wait(EMPTY(s), phase);
                bar_expect(FULL(s), (u32)STAGE_B);
                load_w(a, t, k, stage, FULL(s));
            }
            load_x(a, t, k, stage, FULL(s));
            if (++s == (u32)a->stages) s = 0, phase ^= 1;
        }
    }
}

/* ---- consumers: the sums of one tile ------------------------------------------------------------------------------------------- */
typedef struct { u32 s, phase, prev, stages; } ring_pos;
INLINE void release(u32 s)
{
    if (lane() == 0) bar_arrive(EMPTY(s));
}
/* Consumer wg has rows wg*64 .. of A; with SWAP and PAIR of both matrices. Rows behind A's last are read, too: what they give is not kept. */
INLINE void stage_sums(float d[MI][BN / 2], ring_pos *at, i32 wg, i32 first)
{
    u32 stage = RING + at->s * (u32)STAGE_B;
    bar_wait(FULL(at->s), at->phase);
    mma_fence();
    UNROLL for (u32 i = 0; i < MAX_BLOCKS * 4; i++)
        UNROLL for (i32 m = 0; m < MI; m++) {
            if (i >= (u32)ccc_BLOCKS * 4) break;
            u32 block = stage + i / 4 * (u32)BLOCK_B;
            u64 da = mma_desc(block + (u32)(m * ccc_COLS + wg * 64) * 128) + 2 * (i & 3), db = mma_desc(block + (u32)A_B) + 2 * (i & 3);
            if (first && i == 0) mma_first(d[m], da, db);
            else mma_acc(d[m], da, db);
        }
    mma_commit();
    if (!first) {
        mma_one_left();
        release(at->prev); /* the stage before has been read */
    }
    at->prev = at->s;
    if (++at->s == at->stages) at->s = 0, at->phase ^= 1;
}
INLINE void multiply(float d[MI][BN / 2], ring_pos *at, i32 wg, i32 n_stages)
{
    stage_sums(d, at, wg, 1);
    for (i32 k = 1; k < n_stages; k++) stage_sums(d, at, wg, 0);
    UNROLL for (i32 m = 0; m < MI; m++) mma_settle(d[m]);
    release(at->prev);
}

/* ---- epilogue: hooks first, then stores, for several outputs at a time, so that the hooks' loads overlap ---------------------- */
INLINE vf hooked(const gemm_args *a, vf v, vf v2, i32 row, i32 col)
{
    return PAIR ? ccc_hook_pair(v, v2, row, col, &a->aux) : ccc_hook_epilogue(v, row, col, &a->aux);
}
INLINE void store(const gemm_args *a, vf y, i32 row, i32 col)
{
    i64 at = (i64)row * a->y_ld + col;
#if SWAP
    OUT_STORE(1, a->y, at, y);
#else
    OUT_STORE(8, a->y, at, y);
#endif
}

#if !SWAP
/* A warp turns its 16 rows, CW columns at a time (PAIR: half of them gate, half up), through a box of its own: from two neighbouring sums
 * a thread to eight. 16-byte pieces of row r lie at piece ^ 2*(r&3), and half of the lanes read the second piece first: no bank conflicts. */
enum { HALVES = PAIR + 1, CW = BN % 64 ? 32 : 64, CC = CW / HALVES, PER_ROW = CC / 8, TURNS = 16 * PER_ROW / 32 };
INLINE vf8 box_read(u32 box, i32 r, i32 piece)
{
    i32 odd = PER_ROW == 2 ? lane() >> 1 & 1 : lane() >> 2 & 1;
    u32 at = box + (u32)(r * CW) * 4 + (u32)(piece ^ (r & 3) * 2) * 16;
    vf4 p = lds16_f(at + (u32)odd * 16), q = lds16_f(at + (u32)(odd ^ 1) * 16), lo = odd ? q : p, hi = odd ? p : q;
    return __builtin_shufflevector(lo, hi, 0, 1, 2, 3, 4, 5, 6, 7);
}
INLINE void box_write(u32 box, const float *d, i32 chunk)
{
    UNROLL for (i32 half = 0; half < HALVES; half++)
        UNROLL for (i32 j = 0; j < CC / 8; j++)
            UNROLL for (i32 h = 0; h < 2; h++) {
                i32 i = (half * (BN / HALVES) + chunk * CC + j * 8) / 2 + 2 * h, r = lane() / 4 + 8 * h;
                i32 piece = half * (CC / 4) + 2 * j + (lane() >> 1 & 1);
                sts8_f(box + (u32)(r * CW) * 4 + (u32)(piece ^ (r & 3) * 2) * 16 + (u32)(lane() & 1) * 8, d[i], d[i + 1]);
            }
}
INLINE void finish(const gemm_args *a, float d[MI][BN / 2], tile t, i32 wg)
{
    i32 warp = uniform(tid() >> 5), row0 = t.a * CCC_GEMM_ROWS + wg * 64 + (warp & 3) * 16, col0 = t.b * ccc_COLS;
    u32 box = BEHIND_RING + (u32)(warp * 16 * CW) * 4;
    i32 inside = row0 + 16 <= a->T && col0 + ccc_COLS <= a->N; /* then without a branch for each piece: loads of hooks overlap */
    UNROLL for (i32 c = 0; c < BN / CW; c++) {
        warp_sync();
        box_write(box, d[0], c);
        warp_sync();
        vf8 v[TURNS], v2[TURNS];
        UNROLL for (i32 i = 0; i < TURNS; i++) {
            i32 r = (i * 32 + lane()) / PER_ROW, q = lane() % PER_ROW;
            v[i] = v2[i] = box_read(box, r, 2 * q);
            if (PAIR) v2[i] = box_read(box, r, CC / 4 + 2 * q);
        }
#define ROW(i) (row0 + ((i) * 32 + lane()) / PER_ROW)
        i32 col = col0 + c * CC + lane() % PER_ROW * 8;
        if (inside) {
            UNROLL for (i32 i = 0; i < TURNS; i++) v[i] = hooked(a, v[i], v2[i], ROW(i), col);
            UNROLL for (i32 i = 0; i < TURNS; i++) store(a, v[i], ROW(i), col);
        } else {
            UNROLL for (i32 i = 0; i < TURNS; i++)
                if (ROW(i) < a->T && col < a->N) store(a, hooked(a, v[i], v2[i], ROW(i), col), ROW(i), col);
        }
    }
}
#else
/* Sums go out as the threads have them (wgmma.h): sum i of a thread is of token i/4*8 + i%2 and output column i/2%2*8, counted from the
 * thread's first. A thread has PART of them in v, from i0 on; TURN go out at a time. */
enum { TURN = MI * BN > 128 ? 8 : 16 };
#define PART (BN / 2 / ccc_SPLIT)
typedef struct { i32 row, col, cols, tokens, inside; } outputs; /* of a thread: its first; where columns and the tile's tokens end; whether all columns of its warp exist */
INLINE outputs outputs_of(const gemm_args *a, tile t, i32 wg)
{
    i32 r = wg * 64 + (tid() >> 5 & 3) * 16 + lane() / 4, last = r - lane() / 4 + 15;
    return (outputs){t.b * BN + (lane() & 3) * 2, t.a * ccc_COLS + r, imin(a->N, (t.a + 1) * ccc_COLS), a->T - t.b * BN, last < ccc_COLS && last + t.a * ccc_COLS < a->N};
}
#define ROW(k) (o.row + (i + (k)) / 4 * 8 + ((i + (k)) & 1))
#define COL(k) (o.col + ((i + (k)) >> 1 & 1) * 8)
INLINE i32 first_of(i32 i0, i32 at) { return PART < 4 ? i0 + at : (i0 + at) / 4 * 4; }
INLINE i32 inside(outputs o, i32 i) { return o.inside && (i + imin(PART, TURN) - 1) / 4 * 8 + 8 <= o.tokens; }

/* What the hook of a thread's outputs reads is loaded ahead of the products, if there are registers for it: behind them, when nothing else is left to do,
 * a load would take a microsecond. */
enum { MOST_AHEAD = 2 * TURN };
#define TAKES (!PAIR && PART <= MOST_AHEAD)
typedef struct { float of[MOST_AHEAD][CCC_MAX_TAKEN]; } ahead;
INLINE void take(const gemm_args *a, ahead *h, outputs o, i32 i0)
{
    UNROLL for (i32 at = 0; at < MOST_AHEAD; at += TURN) {
        i32 i = first_of(i0, at);
        if (at >= PART || !inside(o, i)) continue;
        UNROLL for (i32 k = 0; k < TURN; k++) {
            if (k >= PART) break;
            ccc_hook_epilogue_take_weights(h->of[at + k], ROW(k), COL(k), &a->aux);
            ccc_hook_epilogue_take_others(h->of[at + k], ROW(k), COL(k), &a->aux);
        }
    }
}
INLINE void finish(const gemm_args *a, float v[MI][BN / 2], outputs o, ahead *h, i32 i0)
{
    NO_UNROLL for (i32 at = 0; at < PART; at += TURN) {
        i32 i = first_of(i0, at);
        if (inside(o, i)) {
            float y[TURN];
            UNROLL for (i32 k = 0; k < TURN; k++)
                if (k < PART) y[k] = TAKES ? ccc_hook_epilogue_taken(v[0][k], h->of[k], ROW(k), COL(k), &a->aux) : hooked(a, v[0][k], v[MI - 1][k], ROW(k), COL(k));
            UNROLL for (i32 k = 0; k < TURN; k++)
                if (k < PART) store(a, y[k], ROW(k), COL(k));
        } else {
            UNROLL for (i32 k = 0; k < TURN; k++)
                if (k < PART && COL(k) < o.cols && ROW(k) < a->T) store(a, hooked(a, v[0][k], v[MI - 1][k], ROW(k), COL(k)), ROW(k), COL(k));
        }
        UNROLL for (i32 m = 0; m < MI; m++)
            UNROLL for (i32 k = TURN; k < BN / 2; k++) v[m][k - TURN] = v[m][k];
        UNROLL for (i32 k = TURN; k < MOST_AHEAD; k++)
            UNROLL for (i32 l = 0; l < CCC_MAX_TAKEN; l++) h->of[k - TURN][l] = h->of[k][l];
    }
}

/* SPLIT CTAs of a cluster have parts of the tile's sums. The sums of each thread are dealt out to them: each CTA gets the others' parts of
 * its own through shared memory behind the ring, and adds all in the order of K. Arrivals are counted in bytes at a barrier of each CTA: that
 * takes a microsecond less than a barrier of the cluster, whose release waits for all memory, and no CTA exits while others write to it. */
#define PARTS_B ((ccc_SPLIT - 1) * MI * PART * CONSUMERS * 4)
INLINE u32 part_at(const gemm_args *a, i32 from, i32 to, i32 m, i32 k) /* pairs of sums lie together */
{
    i32 slot = from < to ? from : from - 1, two = PART > 1 ? 2 : 1;
    return BEHIND_RING + (u32)(((slot * MI + m) * PART + k / two * two) * CONSUMERS + tid() * two + k % two) * 4;
}
INLINE void share(const gemm_args *a, float d[MI][BN / 2], outputs o, ahead *h)
{
    i32 rank = cluster_rank();
    float own[MI][BN / 2], v[MI][BN / 2];
#define EACH_SUM                                                                                                          \
    UNROLL for (i32 m = 0; m < MI; m++)                                                                                   \
        UNROLL for (i32 k = 0; k < BN / 2; k++)                                                                           \
            if (k < PART)
    UNROLL for (i32 p = 0; p < CCC_GEMM_MOST_SPLIT; p++) {
        if (p >= ccc_SPLIT) break;
        if (p == rank) {
            EACH_SUM own[m][k] = d[m][p * PART + k];
        } else if (PART > 1) {
            EACH_SUM if (k % 2) st_async_f2(map_shared(part_at(a, rank, p, m, k - 1), p), d[m][p * PART + k - 1], d[m][p * PART + k], map_shared(PARTS, p));
        } else {
            EACH_SUM st_async_f(map_shared(part_at(a, rank, p, m, k), p), d[m][p * PART + k], map_shared(PARTS, p));
        }
    }
    bar_wait(PARTS, 0);
    UNROLL for (i32 p = 0; p < CCC_GEMM_MOST_SPLIT; p++) {
        if (p >= ccc_SPLIT) break;
        float part[MI][BN / 2];
        if (p == rank) {
            EACH_SUM part[m][k] = own[m][k];
        } else {
            EACH_SUM part[m][k] = lds4_f(part_at(a, p, rank, m, k));
        }
        EACH_SUM v[m][k] = p ? v[m][k] + part[m][k] : part[m][k];
    }
    finish(a, v, o, h, rank * PART);
}
#endif

/* ---- a block ---------------------------------------------------------------------------------------------------------------------- */
INLINE void consume(const gemm_args *a, i32 unit0, i32 n_units, i32 step, i32 n_stages, i32 wg)
{
    ring_pos at = {0, 0, 0, (u32)a->stages};
    if (ccc_SPLIT > 1) cluster_wait(); /* all CTAs of the cluster have started */
    grid_wait();
    for (i32 u = unit0; u < n_units; u += step) {
        tile t = tile_of(u, a->na, a->nb);
        float d[MI][BN / 2];
#if SWAP
        outputs o = outputs_of(a, t, wg);
        ahead h;
        if (TAKES) take(a, &h, o, ccc_SPLIT > 1 ? cluster_rank() * PART : 0);
        multiply(d, &at, wg, n_stages);
        if (ccc_SPLIT > 1) share(a, d, o, &h); /* one tile a cluster */
        else finish(a, d, o, &h, 0);
#else
        multiply(d, &at, wg, n_stages);
        finish(a, d, t, wg);
#endif
    }
}

KERNEL ccc_kernel(gemm_args a)
{
    i32 wg = uniform(tid() >> 7), rank = ccc_SPLIT > 1 ? cluster_rank() : 0;
    i32 unit0 = cta() / ccc_SPLIT, step = ncta() / ccc_SPLIT, n_units = a.na * a.nb;
    i32 k0 = a.kb * rank / ccc_SPLIT, k1 = a.kb * (rank + 1) / ccc_SPLIT;
    if (tid() == 0) {
        for (i32 i = 0; i < a.stages; i++) {
            bar_init(FULL(i), 1);
            bar_init(EMPTY(i), (u32)CONSUMERS / 32);
        }
#if SWAP
        if (ccc_SPLIT > 1) {
            bar_init(PARTS, 1);
            bar_expect(PARTS, (u32)PARTS_B);
        }
#endif
        bar_init_fence();
    }
    if (ccc_SPLIT > 1) cluster_arrive_relaxed();
    cta_sync();
    if (wg == CONSUMERS / 128) {
#if !SWAP
        REGS_DOWN(24);
#endif
        if (tid() == CONSUMERS) produce(&a, unit0, n_units, step, k0, k1);
        if (ccc_SPLIT > 1) {
            warp_sync();
            cluster_wait(); /* who has arrived waits */
        }
    } else {
#if !SWAP
        REGS_UP(240);
#endif
        consume(&a, unit0, n_units, step, (k1 - k0) / ccc_BLOCKS, wg);
    }
}
