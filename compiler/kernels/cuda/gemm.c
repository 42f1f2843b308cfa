/* y = epilogue(x * w^T) on tensor cores: a persistent, warp-specialised product of tiles. One producer thread lets the TMA unit fill a ring
 * of k blocks (128-byte rows: 64 of K, swizzled) ahead of the consumers; consumer warpgroups run wgmma on it and keep the tile's sums in
 * registers; when a tile is done its sums pass through shared memory, so that hooks and stores see whole pieces of rows.
 *
 * Two orientations, by which operand is the M of wgmma (64 rows at least): tokens, for many of them, 128 x BN outputs a tile, two
 * consumers; or with SWAP the weights, for few tokens, NC*64 outputs x BN tokens, NC consumers, and SPLIT > 1 CTAs of a cluster sharing
 * the K of one tile. PAIR: w holds two matrices of N rows; a tile computes the same columns of both and the pair hook joins them.
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
SPEC(i32, ccc_NC);
SPEC(i32, ccc_SPLIT);
typedef float vf;
#else
enum { ccc_NC = 2, ccc_SPLIT = 1 };
typedef vf8 vf;
#endif
HOOK vf ccc_hook_epilogue(vf v, i32 row, i32 col, const aux_t *aux);
HOOK vf ccc_hook_pair(vf v, vf v2, i32 row, i32 col, const aux_t *aux);

enum { BK = FP8 ? CCC_GEMM_K_FP8 : CCC_GEMM_K };
enum { MI = SWAP && PAIR ? 2 : 1, GROUP = 16 }; /* 64-row blocks a consumer; band of the tile order */
#define A_B (ccc_gemm_stage_B(SWAP, BN, PAIR, ccc_NC) - BN * 128)
#define STAGE_B ccc_gemm_stage_B(SWAP, BN, PAIR, ccc_NC)
#define STAGES ccc_gemm_stages(SWAP, BN, PAIR, ccc_NC, ccc_SPLIT)
#define EPI_AT (saddr(smem) + (u32)(STAGES * STAGE_B))
#define FULL_AT (EPI_AT + (u32)ccc_gemm_epi_B(SWAP, BN, PAIR, ccc_NC, ccc_SPLIT)) /* barriers: a stage is filled */
#define EMPTY_AT (FULL_AT + (u32)STAGES * 8)                                         /* a stage has been read */
#define CONSUMERS (ccc_NC * 128)
#define COLS ccc_gemm_cols(SWAP, BN, PAIR, ccc_NC)

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
    i32 col = (SWAP ? t.a : t.b) * COLS, box = ccc_gemm_box_w(SWAP, BN, PAIR, ccc_NC);
    u32 to = stage + (SWAP ? 0 : (u32)A_B);
    tmap_load_2d(to, &a->w, k * BK, col, bar);
    if (PAIR) tmap_load_2d(to + (u32)box * 128, &a->w, k * BK, a->N + col, bar);
}
INLINE void load_x(const gemm_args *a, tile t, i32 k, u32 stage, u32 bar)
{
    i32 row = (SWAP ? t.b : t.a) * ccc_gemm_tokens(SWAP, BN);
    tmap_load_2d(stage + (SWAP ? (u32)A_B : 0), &a->x, k * BK, row, bar);
}

INLINE void produce(const gemm_args *a, i32 unit0, i32 n_units, i32 step, i32 k0, i32 k1)
{
    u32 ring = saddr(smem), s = 0, phase = 1;
    i32 early = unit0 < n_units ? imin(k1 - k0, STAGES) : 0;
    tmap_prefetch(&a->x);
    tmap_prefetch(&a->w);
    dependents_launch();
    for (i32 i = 0; i < early; i++) { /* the ring is empty: nothing to wait for */
        bar_expect(FULL_AT + 8 * (u32)i, (u32)STAGE_B);
        load_w(a, tile_of(unit0, a->na, a->nb), k0 + i, ring + (u32)(i * STAGE_B), FULL_AT + 8 * (u32)i);
    }
    grid_wait();
    for (i32 u = unit0; u < n_units; u += step) {
        tile t = tile_of(u, a->na, a->nb);
        for (i32 k = k0; k < k1; k++) {
            u32 stage = ring + s * (u32)STAGE_B, bar = FULL_AT + 8 * s;
            if (early > 0) {
                early--;
            } else {
                bar_wait(EMPTY_AT + 8 * s, phase);
                bar_expect(bar, (u32)STAGE_B);
                load_w(a, t, k, stage, bar);
            }
            load_x(a, t, k, stage, bar);
            if (++s == (u32)STAGES) s = 0, phase ^= 1;
        }
    }
}

/* ---- consumers: the sums of one tile ------------------------------------------------------------------------------------------- */
typedef struct { u32 s, phase, prev; } ring_pos;
INLINE void release(u32 s)
{
    if (lane() == 0) bar_arrive(EMPTY_AT + 8 * s);
}
INLINE void k_block(float d[MI][BN / 2], ring_pos *at, i32 wg, i32 first)
{
    u32 stage = saddr(smem) + at->s * (u32)STAGE_B, a = stage + (u32)wg * 8192, b = stage + (u32)A_B;
    bar_wait(FULL_AT + 8 * at->s, at->phase);
    mma_fence();
    UNROLL for (u32 q = 0; q < 4; q++)
        UNROLL for (i32 m = 0; m < MI; m++) {
            u64 da = mma_desc(a + (u32)(m * ccc_NC) * 8192) + 2 * q, db = mma_desc(b) + 2 * q;
            if (first && q == 0) mma_first(d[m], da, db);
            else mma_acc(d[m], da, db);
        }
    mma_commit();
    if (!first) {
        mma_one_left();
        release(at->prev); /* the k block before has been read */
    }
    at->prev = at->s;
    if (++at->s == (u32)STAGES) at->s = 0, at->phase ^= 1;
}
INLINE void multiply(float d[MI][BN / 2], ring_pos *at, i32 wg, i32 n_k)
{
    k_block(d, at, wg, 1);
    for (i32 k = 1; k < n_k; k++) k_block(d, at, wg, 0);
    UNROLL for (i32 m = 0; m < MI; m++) mma_settle(d[m]);
    release(at->prev);
}

/* ---- epilogue -------------------------------------------------------------------------------------------------------------------- */
INLINE void put(const gemm_args *a, vf v, vf v2, i32 row, i32 col)
{
    vf y = PAIR ? ccc_hook_pair(v, v2, row, col, &a->aux) : ccc_hook_epilogue(v, row, col, &a->aux);
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
    i32 warp = uniform(tid() >> 5), row0 = t.a * CCC_GEMM_ROWS + wg * 64 + (warp & 3) * 16, col0 = t.b * COLS;
    u32 box = EPI_AT + (u32)(warp * 16 * CW) * 4;
    i32 inside = row0 + 16 <= a->T && col0 + COLS <= a->N; /* then without a branch for each piece: loads of hooks overlap */
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
#define PUT_ALL(cond)                                                                                                     \
    UNROLL for (i32 i = 0; i < TURNS; i++) {                                                                              \
        i32 row = row0 + (i * 32 + lane()) / PER_ROW, col = col0 + c * CC + lane() % PER_ROW * 8;                         \
        if (cond) put(a, v[i], v2[i], row, col);                                                                          \
    }
        if (inside) {
            PUT_ALL(1)
        } else {
            PUT_ALL(row < a->T && col < a->N)
        }
    }
}
#else
enum { CHUNK = 16 }; /* tokens that pass through shared memory at a time */
/* One CTA has the tile's sums: consumers exchange them 16 tokens at a time, in two buffers in turn, so that a warp then has 32
 * neighbouring columns of one token. `flip` says which buffer is next, across tiles. */
INLINE void finish(const gemm_args *a, float d[MI][BN / 2], tile t, i32 wg, u32 *flip)
{
    i32 outs = 64 * ccc_NC, pitch = MI * outs + 4, r0 = wg * 64 + (tid() >> 5 & 3) * 16 + lane() / 4;
    UNROLL for (i32 c = 0; c < BN / CHUNK; c++) {
        u32 buf = EPI_AT + (*flip ^= 1) * (u32)(CHUNK * pitch) * 4;
        UNROLL for (i32 m = 0; m < MI; m++)
            UNROLL for (i32 i = 0; i < CHUNK / 2; i++) {
                i32 tok = i / 4 * 8 + (lane() & 3) * 2 + (i & 1), r = r0 + m * outs + (i >> 1 & 1) * 8;
                sts4_f(buf + (u32)(tok * pitch + r) * 4, d[m][c * (CHUNK / 2) + i]);
            }
        NAMED_SYNC(1, CONSUMERS);
        UNROLL for (i32 i = 0; i < CHUNK / 2; i++) {
            i32 n = i * CONSUMERS + tid(), tok = n / outs, r = n % outs, row = t.b * BN + c * CHUNK + tok, col = t.a * outs + r;
            u32 at = buf + (u32)(tok * pitch + r) * 4;
            if (row < a->T && col < a->N) put(a, lds4_f(at), PAIR ? lds4_f(at + (u32)outs * 4) : 0, row, col);
        }
    }
}

/* SPLIT CTAs have parts of the tile's sums: its columns are dealt out to them, each gets all parts of its columns over the cluster's
 * shared memory, where the ring was, and adds them in the order of K. */
INLINE void split_send(float d[MI][BN / 2], i32 wg, i32 rank)
{
    i32 outs = 64 * ccc_NC / ccc_SPLIT, pitch = MI * outs + 4;
    UNROLL for (i32 m = 0; m < MI; m++)
        UNROLL for (i32 h = 0; h < 2; h++) {
            i32 r = wg * 64 + (tid() >> 5 & 3) * 16 + lane() / 4 + 8 * h;
            u32 at = map_shared(saddr(smem) + (u32)((rank * BN + (lane() & 3) * 2) * pitch + m * outs + r % outs) * 4, r / outs);
            UNROLL for (i32 j = 0; j < BN / 8; j++)
                UNROLL for (i32 c = 0; c < 2; c++) st_cluster_f(at + (u32)((8 * j + c) * pitch) * 4, d[m][4 * j + 2 * h + c]);
        }
}
INLINE void split_finish(const gemm_args *a, tile t, i32 rank)
{
    i32 outs = 64 * ccc_NC / ccc_SPLIT, pitch = MI * outs + 4;
    for (i32 n = tid(); n < BN * outs; n += CONSUMERS + 32) {
        i32 tok = n / outs, r = n % outs, row = t.b * BN + tok, col = (t.a * ccc_SPLIT + rank) * outs + r;
        if (row >= a->T || col >= a->N) continue;
        float v = 0, v2 = 0;
        UNROLL for (i32 p = 0; p < 4; p++)
            if (p < ccc_SPLIT) {
                u32 at = saddr(smem) + (u32)((p * BN + tok) * pitch + r) * 4;
                v += lds4_f(at);
                if (PAIR) v2 += lds4_f(at + (u32)outs * 4);
            }
        put(a, v, v2, row, col);
    }
}
#endif

/* ---- a block ---------------------------------------------------------------------------------------------------------------------- */
INLINE void consume(const gemm_args *a, i32 unit0, i32 n_units, i32 step, i32 n_k, i32 wg)
{
    ring_pos at = {0, 0, 0};
    u32 flip = 0;
    (void)flip;
    grid_wait();
    for (i32 u = unit0; u < n_units; u += step) {
        float d[MI][BN / 2];
        multiply(d, &at, wg, n_k);
#if SWAP
        if (ccc_SPLIT > 1) {
            cluster_sync(); /* with that of the producer below: no CTA reads its ring any more */
            split_send(d, wg, cluster_rank());
        } else {
            finish(a, d, tile_of(u, a->na, a->nb), wg, &flip);
        }
#else
        finish(a, d, tile_of(u, a->na, a->nb), wg);
#endif
    }
}

KERNEL ccc_kernel(gemm_args a)
{
    i32 wg = uniform(tid() >> 7), rank = ccc_SPLIT > 1 ? cluster_rank() : 0;
    i32 unit0 = cta() / ccc_SPLIT, step = ncta() / ccc_SPLIT, n_units = a.na * a.nb;
    i32 k0 = a.kb * rank / ccc_SPLIT, k1 = a.kb * (rank + 1) / ccc_SPLIT;
    if (tid() == 0) {
        for (u32 i = 0; i < (u32)STAGES; i++) {
            bar_init(FULL_AT + 8 * i, 1);
            bar_init(EMPTY_AT + 8 * i, ccc_NC * 4);
        }
        bar_init_fence();
    }
    cta_sync();
    if (wg == ccc_NC) {
#if !SWAP
        REGS_DOWN(24);
#endif
        if (tid() == CONSUMERS) produce(&a, unit0, n_units, step, k0, k1);
        if (ccc_SPLIT > 1 && unit0 < n_units) {
            warp_sync();
            grid_wait();
            cluster_sync();
        }
    } else {
#if !SWAP
        REGS_UP(240);
#endif
        consume(&a, unit0, n_units, step, k1 - k0, wg);
    }
#if SWAP
    if (ccc_SPLIT > 1) { /* one tile a cluster */
        cluster_sync();
        if (unit0 < n_units) split_finish(&a, tile_of(unit0, a.na, a.nb), rank);
    }
#endif
}
