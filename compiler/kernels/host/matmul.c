/* y[t][n] = epilogue(sum over k of x[t][k] * w[n][k]): bf16 operands as they lie in memory, f32 sums, any T.
 *
 * The sum has one order, whatever T, grid or place: K is cut into chunks of CHUNK elements. In a chunk eight
 * partial sums (one vector) take, for each 16 elements, first those of even number, then those of odd number:
 * so 16 bf16 become two vectors by a shift and a mask, and x is laid out to match once, in scratch. The eight
 * are added in the order of sum4, chunks in rising k.
 *
 * TOK 1 (K a multiple of 16) streams the matrix: x whole in scratch, 8 rows of w at a time, bound by memory.
 * TOK 0 takes tiles of TILE_T tokens x TILE_N rows: for 4 rows at a time, as f32 in the first-level cache,
 * all tokens come by from the second level, and 3 x 4 dot products are made in registers, bound by
 * arithmetic. With PAIR, w has 2N rows and row n meets row n + N in the hook.
 * With FP8 x and w are e4m3, both widened to f32 in scratch: tiles alone, the same order. */
#include "hooks.h"
#ifndef FP8
#define FP8 0
#endif
#if FP8
typedef u8 elem;
#else
typedef u16 elem; /* of x and w */
#endif

SPEC(i32, ccc_OUT_F32);
SPEC(i32, ccc_TOK);

#ifdef PAIR
enum { HALVES = 2 };
VF ccc_hook_pair(VF v, VF v2, i32 row, i32 col, const aux_t *aux);
float ccc_hook_pair_tail(float v, float v2, i32 row, i32 col, const aux_t *aux);
#else
enum { HALVES = 1 };
VF ccc_hook_epilogue(VF v, i32 row, i32 col, const aux_t *aux);
float ccc_hook_epilogue_tail(float v, i32 row, i32 col, const aux_t *aux);
#endif
enum { CHUNK = CCC_HOST_CHUNK, TILE_T = CCC_HOST_TILE_T, TILE_N = CCC_HOST_TILE_N };

/* ---- results: sums of 8 adjacent outputs, of both halves, to memory ------------------------------------ */
INLINE void finish(const matvec_args *a, i32 t, i32 n, const float *sum, const float *sum2)
{
    i64 y = (i64)t * a->y_ld + n;
    (void)sum2;
    if (n + 8 <= a->N) {
#ifdef PAIR
        VF v = ccc_hook_pair(ld8f(sum), ld8f(sum2), t, n, &a->aux);
#else
        VF v = ccc_hook_epilogue(ld8f(sum), t, n, &a->aux);
#endif
        OUT_STORE(8, a->y, y, v);
        return;
    }
    ROLLED for (i32 i = 0; n + i < a->N; i++) {
#ifdef PAIR
        float v = ccc_hook_pair_tail(sum[i], sum2[i], t, n + i, &a->aux);
#else
        float v = ccc_hook_epilogue_tail(sum[i], t, n + i, &a->aux);
#endif
        OUT_STORE(1, a->y, y + i, v);
    }
}

/* ---- operands ------------------------------------------------------------------------------------------ */
INLINE void spread16(float *out, const elem *x)
{
#if FP8
    VF a = ld8e(x), b = ld8e(x + 8);
    st8f(out, __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14));
    st8f(out + 8, __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15));
#else
    VU pairs = ld8u(x);
    st8f(out, even_f32(pairs));
    st8f(out + 8, odd_f32(pairs));
#endif
}
/* n elements as f32, each 16 as 8 of even and 8 of odd number; a last, short step is filled up with zeros */
INLINE void spread(float *out, const elem *x, i32 n)
{
    i32 k = 0;
    for (; k + 16 <= n; k += 16) spread16(out + k, x + k);
    if (k == n) return;
    elem last[16];
    ROLLED for (i32 i = 0; i < 16; i++) last[i] = k + i < n ? x[k + i] : 0;
    spread16(out + k, last);
}

#if !FP8
/* ---- one token: the matrix is streamed ----------------------------------------------------------------- */
enum { ROWS = 8 };

/* K is a multiple of 16. sum[0..8) of rows n .. n+7 of w (the last row again where there are no more). The
 * memory `ahead` elements further on is asked for: the rows that come next. Into the second-level cache: the
 * first has too few outstanding misses for the speed of memory. */
INLINE void stream_rows(const matvec_args *a, const u16 *w, i32 n, const float *x, i64 ahead, float *sum)
{
    const u16 *row[ROWS];
    UNROLL for (i32 r = 0; r < ROWS; r++) row[r] = w + (i64)imin(n + r, a->N - 1) * a->K;
    VF total = splat(0.0f);
    for (i32 from = 0; from < a->K; from += CHUNK) {
        i32 end = imin(a->K, from + CHUNK);
        VF s[ROWS];
        UNROLL for (i32 r = 0; r < ROWS; r++) s[r] = splat(0.0f);
        for (i32 k = from; k < end; k += 16) {
            VF even = ld8f(x + k), odd = ld8f(x + k + 8);
            UNROLL for (i32 r = 0; r < ROWS; r++) {
                VU p = ld8u(row[r] + k);
                s[r] = fma8(even_f32(p), even, s[r]);
                s[r] = fma8(odd_f32(p), odd, s[r]);
                if (k % 32 == r % 2 * 16)
                    __builtin_prefetch(row[r] + k + ahead, 0, 2); /* a line is 32 elements */
            }
        }
        VF chunk;
        chunk.lo = sum4(s[0], s[1], s[2], s[3]);
        chunk.hi = sum4(s[4], s[5], s[6], s[7]);
        total += chunk;
    }
    st8f(sum, total);
}

INLINE void stream(const matvec_args *a, i32 first, i32 end, float *x)
{
    for (i32 t = 0; t < a->T; t++) {
        for (i32 h = 0; h < HALVES; h++)
            for (i64 i = 0; i < (i64)imin(ROWS, end - first) * a->K; i += 32)
                __builtin_prefetch(a->w + ((i64)h * a->N + first) * a->K + i, 0, 2);
        spread(x, a->x + (i64)t * a->x_ld, a->K);
        for (i32 n = first; n < end; n += ROWS) {
            float sum[HALVES][ROWS];
            i64 ahead =
                n + ROWS < end ? (i64)ROWS * a->K : 0; /* what lies behind the block is another thread's */
            UNROLL for (i32 h = 0; h < HALVES; h++)
                stream_rows(a, a->w + (i64)h * a->N * a->K, n, x, ahead, sum[h]);
            finish(a, t, n, sum[0], sum[HALVES - 1]);
        }
    }
}
#endif

/* ---- many tokens: tiles -------------------------------------------------------------------------------- */
enum {
    T_REG = 3,
    N_REG = 4,
    FEW = 4 /* tokens up to which rows of w are taken as they are, .. */,
    T_FEW = 2 /* .. for so many at once */
};
typedef struct {
    float w[N_REG][CHUNK], x[TILE_T][CHUNK], sum[2][TILE_T][TILE_N];
} tile_scratch;
typedef struct {
    const elem *row[N_REG];
    i32 n;
    i64 ahead;
} rows_t; /* 4 rows of w, one chunk of n elements, distance to the next 4 */

/* sum[t][0..4) += the products of tn tokens and 4 rows. as_f32: the rows lie in w, spread, and 12 sums, 3 of
 * x and 1 of w fill the 16 registers; else n is a multiple of 16. as_f32 and tn are constants where this is
 * inlined. */
INLINE void dots(float (*sum)[TILE_N], float (*x)[CHUNK], const rows_t *m, float (*w)[CHUNK], i32 tn,
                 i32 as_f32)
{
    VF s[T_REG][N_REG], v[T_REG];
    UNROLL for (i32 t = 0; t < tn; t++)
        UNROLL for (i32 r = 0; r < N_REG; r++) s[t][r] = splat(0.0f);
    for (i32 k = 0; as_f32 && k < (m->n + 15) / 16 * 16; k += 8) {
        UNROLL for (i32 t = 0; t < tn; t++) v[t] = ld8f(x[t] + k);
        UNROLL for (i32 r = 0; r < N_REG; r++) {
            VF u = ld8f(w[r] + k);
            UNROLL for (i32 t = 0; t < tn; t++) s[t][r] = fma8(u, v[t], s[t][r]);
        }
    }
#if !FP8
    for (i32 k = 0; !as_f32 && k < m->n; k += 16)
        UNROLL for (i32 r = 0; r < N_REG; r++) {
            VU p = ld8u(m->row[r] + k);
            if (k % 32 == r % 2 * 16) __builtin_prefetch(m->row[r] + k + m->ahead, 0, 2);
            UNROLL for (i32 t = 0; t < tn; t++) {
                s[t][r] = fma8(even_f32(p), ld8f(x[t] + k), s[t][r]);
                s[t][r] = fma8(odd_f32(p), ld8f(x[t] + k + 8), s[t][r]);
            }
        }
#endif
    UNROLL for (i32 t = 0; t < tn; t++)
        st4f(sum[t], *(VF4_any *)sum[t] + sum4(s[t][0], s[t][1], s[t][2], s[t][3]));
}

/* one chunk (K elements from .. from+n) of `count` rows of one half, against all tokens of the tile */
INLINE void chunk_rows(const matvec_args *a, i32 h, i32 n0, i32 count, i32 from, i32 n, i32 tcount,
                       i32 at_once, tile_scratch *c)
{
    ROLLED for (i32 i = 0; i < count; i += N_REG) {
        rows_t m = {.n = n, .ahead = i + N_REG < count ? (i64)N_REG * a->K : 0};
        UNROLL for (i32 r = 0; r < N_REG; r++)
            m.row[r] = (const elem *)a->w + ((i64)h * a->N + imin(n0 + i + r, a->N - 1)) * a->K + from;
        float(*sum)[TILE_N] = (float(*)[TILE_N]) & c->sum[h][0][i];
        if (at_once == T_FEW) {
            ROLLED for (i32 t = 0; t < tcount; t += T_FEW) dots(sum + t, c->x + t, &m, c->w, T_FEW, 0);
            continue;
        }
        ROLLED for (i32 r = 0; r < N_REG; r++) {
            spread(c->w[r], m.row[r], n);
            ROLLED for (i32 k = 0; k < n; k += 32) __builtin_prefetch(m.row[r] + k + m.ahead, 0, 2);
        }
        ROLLED for (i32 t = 0; t < tcount; t += T_REG) dots(sum + t, c->x + t, &m, c->w, T_REG, 1);
    }
}

/* tokens t0 .. t0+tcount, outputs n0 .. n0+count. The last token is repeated to make twos and threes. */
INLINE void tile(const matvec_args *a, i32 t0, i32 tcount, i32 n0, i32 count, tile_scratch *m)
{
    i32 at_once = !FP8 && tcount <= FEW && a->K % 16 == 0 ? T_FEW : T_REG,
        padded = (tcount + at_once - 1) / at_once * at_once;
    ROLLED for (i32 h = 0; h < HALVES; h++)
        ROLLED for (i32 i = 0; i < padded * TILE_N; i += 8) st8f(&m->sum[h][0][0] + i, splat(0.0f));
    ROLLED for (i32 from = 0; from < a->K; from += CHUNK) {
        i32 n = imin(CHUNK, a->K - from);
        ROLLED for (i32 t = 0; t < padded; t++)
            spread(m->x[t], (const elem *)a->x + (i64)(t0 + imin(t, tcount - 1)) * a->x_ld + from, n);
        ROLLED for (i32 h = 0; h < HALVES; h++) chunk_rows(a, h, n0, count, from, n, padded, at_once, m);
    }
    ROLLED for (i32 t = 0; t < tcount; t++)
        ROLLED for (i32 i = 0; i < count; i += 8)
            finish(a, t0 + t, n0 + i, &m->sum[0][t][i], &m->sum[HALVES - 1][t][i]);
}

ENTRY ccc_kernel(const matvec_args *a, const host_ctx *c)
{
    i64 groups = ((i64)a->N + 7) / 8;
    i32 n0 = (i32)share(groups, c->block[0], c->grid[0]) * 8,
        n1 = (i32)share(groups, c->block[0] + 1, c->grid[0]) * 8;
#if !FP8
    if (ccc_TOK == 1) {
        if (c->block[1] == 0) stream(a, n0, n1, c->scratch);
        return;
    }
#endif
    i64 tiles = ((i64)a->T + TILE_T - 1) / TILE_T, end = share(tiles, c->block[1] + 1, c->grid[1]);
    for (i64 t = share(tiles, c->block[1], c->grid[1]); t < end; t++)
        for (i32 n = n0; n < n1; n += TILE_N)
            tile(a, (i32)t * TILE_T, imin(TILE_T, a->T - (i32)t * TILE_T), n, imin(TILE_N, n1 - n),
                 c->scratch);
}
