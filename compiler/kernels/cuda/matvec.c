/* y = epilogue(in(x) * w^T) for at most TOK tokens: the time of such a product is the time to read w once, so everything here serves to
 * keep loads of w in flight. A warp owns ROWS columns of the output (rows of w; with PAIR also the rows N further) and walks along K with
 * LOADS 16-byte loads a row outstanding; the first of them are issued before the grid wait, while the kernel in front still runs.
 *
 * With NORM each block makes the rms_norm of its tokens itself, into shared memory: a few microseconds of a separate kernel become some
 * hundred cycles under loads that are in flight anyway. A block makes TURNS lots of columns, one behind the other and a grid apart, so that
 * one norm serves them all; the loads of the next turn are on their way before this one's sums are added.
 *
 * With SPLIT > 1 that many warps share the K of their columns; their sums are added in a fixed tree. The order of every sum depends on the
 * SPEC constants alone. WHOLE: the first loads are all there are of a row.
 *
 * Behind the wait the latency of each load that waits for another is what a short kernel lasts, so there is one such step, for x: all that
 * hooks read is in registers by then, or on its way beside x.
 *
 * FP8: w and x are e4m3 (with NORM the prologue ends in it), 16 of them in a load. Two e4m3 are widened to f16 by one instruction and on to
 * f32, both exact, and the products are added as those of bf16 are: f32, in increasing k. Products in f16 would overflow (448 * 448). */
#include "../geometry.h"
#include "hooks.h"
#include "rowsum.h"
#ifndef FP8
#define FP8 0
#endif

SPEC(i32, ccc_TOK);
SPEC(i32, ccc_NORM);
SPEC(i32, ccc_PAIR);
SPEC(i32, ccc_OUT_F32);
SPEC(i32, ccc_ROWS);
SPEC(i32, ccc_LOADS);
SPEC(i32, ccc_WARPS);
SPEC(i32, ccc_SPLIT);
SPEC(i32, ccc_WHOLE);
SPEC(i32, ccc_TURNS);
SPEC(i32, ccc_KEEP);
SPEC(i32, ccc_BULK);
HOOK vf8 ccc_hook_in(vf8 v, i32 row, i32 col, const aux_t *aux);
HOOK vf8 ccc_hook_out(vf8 v, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_in_weights(i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_weights(i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_take_weights(vf8 *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_out_take_others(vf8 *taken, i32 row, i32 col, const aux_t *aux);
HOOK vf8 ccc_hook_out_taken(vf8 v, const vf8 *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_epilogue_take_weights(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_epilogue_take_others(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK float ccc_hook_epilogue_taken(float v, const float *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_pair_take_weights(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK void ccc_hook_pair_take_others(float *taken, i32 row, i32 col, const aux_t *aux);
HOOK float ccc_hook_pair_taken(float v, float v2, const float *taken, i32 row, i32 col, const aux_t *aux);

#if FP8
typedef u8 elem;
#else
typedef u16 elem;
#endif
enum { PER = FP8 ? 16 : 8 }; /* elements of w and x in 16 bytes */
enum { LINE = 32 /* elements of 4 bytes in 128 */, MAX_TOK = 8, MAX_LOADS = 16, MAX_STREAMS = 8, MAX_SUMS = 32, MAX_SPLIT = 16 };
#define STREAMS (ccc_ROWS * (ccc_PAIR + 1))  /* rows of w of a warp */
#define SUMS (STREAMS * ccc_TOK)             /* sums of a warp; sum ((half * ROWS) + row) * TOK + token */
#define OUTPUTS (ccc_ROWS * ccc_TOK)
#define GROUPS (ccc_WARPS / ccc_SPLIT)
#define NT (ccc_WARPS * 32)
#define SHAPE ((ccc_matvec_shape){ccc_ROWS, ccc_LOADS, ccc_WARPS, ccc_SPLIT, ccc_TURNS})
#define X_AT (saddr(smem) + ccc_matvec_scratch_B(ccc_TOK, ccc_NORM, ccc_PAIR, SHAPE)) /* the normed tokens, TOK rows of K; with BULK the row, then its barrier */

/* ---- prologue: shared memory gets out(norm(in(x))) in the products' format. The hooks are pure here, so they run once for the sum and
 * once for the result */
INLINE void norm_tokens(const matvec_args *a)
{
    u32 scratch = saddr(smem);
    UNROLL for (i32 t = 0; t < MAX_TOK; t++) {
        if (t >= ccc_TOK) break;
        i32 row = imin(t, a->T - 1);
        const u16 GLOBAL *x = a->x + (i64)row * a->x_ld;
        rowsum s = rowsum_zero();
        for (i32 first = 0; first < a->K; first += 512 * 8)
            UNROLL for (i32 m = 0; m < ROWSUM_LANES; m++) {
                i32 col = first + (m * NT + tid()) * 8;
                if (m * NT < 512 && col < a->K) rowsum_squares(&s, m, ccc_hook_in(bf16x8_f32(ld16(x + col)), row, col, &a->aux));
            }
        rowsum_put(&s, NT, scratch + t * NT * 4);
    }
    cta_sync();
    UNROLL for (i32 t = 0; t < MAX_TOK; t++) {
        if (t >= ccc_TOK) break;
        i32 row = imin(t, a->T - 1);
        const u16 GLOBAL *x = a->x + (i64)row * a->x_ld;
        float scale = rms_scale(rowsum_get(NT, scratch + t * NT * 4), a->K, a->eps);
        for (i32 col = tid() * 8; col < a->K; col += NT * 8) {
            vf8 v = ccc_hook_in(bf16x8_f32(ld16(x + col)), row, col, &a->aux);
            vf8 y = ccc_hook_out(v * scale, row, col, &a->aux);
#if FP8
            sts8(X_AT + (u32)(t * a->K + col), f32x8_e4m3(y));
#else
            sts16(X_AT + (u32)(t * a->K + col) * 2, f32x8_bf16(y));
#endif
        }
    }
    cta_sync();
}

/* ---- one token: nothing but latency counts. What hooks read of weights is in registers before the wait, and x comes once: a thread keeps its
 * first KEEP vectors of the row. Turns need the registers for what is on its way meanwhile, so there x is kept as it came, and widened again. */
enum { MAX_KEEP = 2, ROW_LANES = 512 };
typedef struct { vu4 came[MAX_KEEP]; vf8 x[MAX_KEEP], taken[MAX_KEEP][CCC_MAX_TAKEN]; } kept;

INLINE vf8 norm_of(const matvec_args *a, vu4 x, i32 col) { return ccc_hook_in(bf16x8_f32(x), 0, col, &a->aux); }
INLINE vf8 norm_in(const matvec_args *a, i32 col) { return norm_of(a, ld16(a->x + col), col); }
INLINE void norm_put(i32 col, vf8 y)
{
#if FP8
    sts8(X_AT + (u32)col, f32x8_e4m3(y));
#else
    sts16(X_AT + (u32)col * 2, f32x8_bf16(y));
#endif
}
INLINE void norm_weights(kept *r, const matvec_args *a)
{
    UNROLL for (i32 i = 0; i < MAX_KEEP; i++) {
        i32 col = (i * NT + tid()) * 8;
        if (i < ccc_KEEP && col < a->K) ccc_hook_out_take_weights(r->taken[i], 0, col, &a->aux);
    }
    for (i32 col = (ccc_KEEP * NT + tid()) * 8; col < a->K; col += NT * 8) ccc_hook_out_weights(0, col, &a->aux);
}
INLINE void norm_token(kept *r, const matvec_args *a)
{
    rowsum s = rowsum_zero();
    UNROLL for (i32 i = 0; i < MAX_KEEP; i++) {
        i32 col = (i * NT + tid()) * 8;
        if (i >= ccc_KEEP || col >= a->K) continue;
        ccc_hook_out_take_others(r->taken[i], 0, col, &a->aux);
        r->came[i] = ld16(a->x + col);
        r->x[i] = norm_of(a, r->came[i], col);
        rowsum_squares(&s, i % (ROW_LANES / NT), r->x[i]);
    }
    for (i32 first = a->K > ccc_KEEP * NT * 8 ? 0 : a->K; first < a->K; first += ROW_LANES * 8)
        UNROLL for (i32 m = 0; m < ROWSUM_LANES; m++) {
            i32 col = first + (m * NT + tid()) * 8;
            if (m * NT < ROW_LANES && col >= ccc_KEEP * NT * 8 && col < a->K) rowsum_squares(&s, m, norm_in(a, col));
        }
    rowsum_put(&s, NT, saddr(smem));
    cta_sync();
    float scale = rms_scale(rowsum_get(NT, saddr(smem)), a->K, a->eps);
    UNROLL for (i32 i = 0; i < MAX_KEEP; i++) {
        i32 col = (i * NT + tid()) * 8;
        if (i >= ccc_KEEP || col >= a->K) continue;
        vf8 x = ccc_TURNS > 1 ? norm_of(a, r->came[i], col) : r->x[i];
        norm_put(col, ccc_hook_out_taken(x * scale, r->taken[i], 0, col, &a->aux));
    }
    for (i32 col = (ccc_KEEP * NT + tid()) * 8; col < a->K; col += NT * 8) norm_put(col, ccc_hook_out(norm_in(a, col) * scale, 0, col, &a->aux));
    cta_sync();
}

/* ---- BULK: the row comes to shared memory by one copy: one request of a block instead of one of each warp, and it does
 * not stand behind the weights that the multiprocessor has asked for since */
INLINE u32 row_B(const matvec_args *a) { return (u32)a->K * (u32)sizeof(elem); }
INLINE void row_begin(const matvec_args *a)
{
    if (tid() == 0) {
        bar_init(X_AT + row_B(a), 1);
        bar_init_fence();
    }
    cta_sync();
}
INLINE void row_ask(const matvec_args *a)
{
    if (tid() != 0) return;
    bar_expect(X_AT + row_B(a), row_B(a));
    bulk_load(X_AT, a->x, row_B(a), X_AT + row_B(a));
}
INLINE void row_wait(const matvec_args *a)
{
    while (!bar_try(X_AT + row_B(a), 0)) {}
}

/* ---- sums over the lanes of a warp: at each distance half of the sums go to the other half of the lanes, so SUMS sums cost about SUMS
 * shuffles, and lane l ends with sum l / (32 / SUMS). The tree of each sum is that of warp_sum. */
INLINE float reduce(float *v)
{
    UNROLL for (i32 d = 16; d; d >>= 1) {
        UNROLL for (i32 j = 0; j < MAX_SUMS / 2; j++)
            if (j < SUMS * d / 32) { /* so many are left after this distance */
                i32 high = lane() & d;
                float low_sum = v[j], high_sum = v[j + SUMS * d / 32];
                v[j] = (high ? high_sum : low_sum) + shfl_xor(high ? low_sum : high_sum, d);
            }
        if (SUMS * d < 32) v[0] += shfl_xor(v[0], d);
    }
    return v[0];
}

/* ---- the output that this thread stores, if there is one for it, and what the epilogue reads there: half a microsecond away, in L2 */
typedef struct { i32 on, row, col; float taken[CCC_MAX_TAKEN]; } output;
INLINE output output_of(const matvec_args *a, i32 turn)
{
    output o;
    i32 out = ccc_SPLIT > 1 ? tid() % OUTPUTS : lane() / (32 / SUMS), group = ccc_SPLIT > 1 ? tid() / OUTPUTS : tid() / 32;
    o.row = out % ccc_TOK;
    o.col = ((turn * ncta() + cta()) * GROUPS + group) * ccc_ROWS + out / ccc_TOK;
    o.on = (ccc_SPLIT > 1 ? group < GROUPS : lane() % (32 / SUMS) == 0 && out < OUTPUTS) && o.row < a->T && o.col < a->N;
    return o;
}
INLINE void take_weights(output *o, const matvec_args *a)
{
    if (!o->on) return;
    if (ccc_PAIR) ccc_hook_pair_take_weights(o->taken, o->row, o->col, &a->aux);
    else ccc_hook_epilogue_take_weights(o->taken, o->row, o->col, &a->aux);
}
INLINE void take_others(output *o, const matvec_args *a)
{
    if (!o->on) return;
    if (ccc_PAIR) ccc_hook_pair_take_others(o->taken, o->row, o->col, &a->aux);
    else ccc_hook_epilogue_take_others(o->taken, o->row, o->col, &a->aux);
}
INLINE void store(const matvec_args *a, const output *o, float v, float v2)
{
    if (!o->on) return;
    float y = ccc_PAIR ? ccc_hook_pair_taken(v, v2, o->taken, o->row, o->col, &a->aux) : ccc_hook_epilogue_taken(v, o->taken, o->row, o->col, &a->aux);
    i64 at = (i64)o->row * a->y_ld + o->col;
    OUT_STORE(1, a->y, at, y);
}

/* sums of the SPLIT warps of a group, then the epilogue: a thread has at most one output, as ROWS * TOK <= 32. Turns alternate between two places:
 * who writes the first again has met everyone since it was read. */
INLINE void finish_split(const matvec_args *a, const output *o, float sum, i32 turn)
{
    u32 parts = saddr(smem) + (u32)(turn % 2 * ccc_WARPS * SUMS) * 4, mine = parts + (u32)(tid() / 32 * SUMS) * 4;
    if (lane() % (32 / SUMS) == 0) sts4_f(mine + (u32)(lane() / (32 / SUMS)) * 4, sum);
    cta_sync();
    if (tid() >= GROUPS * OUTPUTS) return;
    i32 group = tid() / OUTPUTS, out = tid() % OUTPUTS;
    float v[2][MAX_SPLIT];
    UNROLL for (i32 h = 0; h <= ccc_PAIR; h++) {
        UNROLL for (i32 s = 0; s < MAX_SPLIT; s++)
            if (s < ccc_SPLIT) v[h][s] = lds4_f(parts + (u32)((group * ccc_SPLIT + s) * SUMS + h * OUTPUTS + out) * 4);
        UNROLL for (i32 d = MAX_SPLIT / 2; d; d >>= 1)
            UNROLL for (i32 s = 0; s < d; s++)
                if (d < ccc_SPLIT) v[h][s] += v[h][s + d];
    }
    store(a, o, v[0][0], ccc_PAIR ? v[1][0] : 0);
}

/* 16 bytes of a row of w times as many of x. Widening e4m3 takes instructions, so x is widened once for all rows; bf16 costs nothing to widen,
 * and registers that hold it are half as many. */
#if FP8
typedef struct { float v[PER]; } operand;
INLINE operand operand_of(vu4 u)
{
    operand r;
    UNROLL for (i32 j = 0; j < 4; j++) {
        vf4 f = e4m3x4_f32(u[j]);
        UNROLL for (i32 i = 0; i < 4; i++) r.v[4 * j + i] = f[i];
    }
    return r;
}
INLINE float dot(vu4 w, operand x, float s)
{
    operand v = operand_of(w);
    UNROLL for (i32 j = 0; j < PER; j++) s = fma_(v.v[j], x.v[j], s);
    return s;
}
#else
typedef vu4 operand;
INLINE operand operand_of(vu4 u) { return u; }
INLINE float dot(vu4 w, operand x, float s)
{
    UNROLL for (i32 j = 0; j < 4; j++) {
        s = fma_(bf16_lo(w[j]), bf16_lo(x[j]), s);
        s = fma_(bf16_hi(w[j]), bf16_hi(x[j]), s);
    }
    return s;
}
#endif

/* ---- a warp's rows of w, and the pieces of them that are on their way: 16 bytes a lane of each row */
typedef struct {
    i32 col, at, pieces; /* first output column; this lane's first piece; pieces of a row */
    const vu4 GLOBAL *w[MAX_STREAMS];
    vu4 ring[MAX_LOADS][MAX_STREAMS];
} stream;

INLINE void stream_to(stream *s, const matvec_args *a, i32 col)
{
    s->col = col;
    UNROLL for (i32 r = 0; r < MAX_STREAMS; r++)
        if (r < STREAMS) s->w[r] = (const vu4 GLOBAL *)a->w + (i64)(imin(col + r % ccc_ROWS, a->N - 1) + r / ccc_ROWS * a->N) * s->pieces;
}
/* No branch: it would let the arithmetic sink behind all loads. Where there is nothing to load the ring gets zeros. */
INLINE void stream_load(stream *s, i32 p, i32 step, i32 on)
{
    i32 k = step * (32 * ccc_SPLIT) + s->at;
    UNROLL for (i32 r = 0; r < MAX_STREAMS; r++)
        if (r < STREAMS) s->ring[p][r] = ldg16_once_if(s->w[r] + k, on && k < s->pieces);
}
/* Adds this turn's products. What is taken from the ring makes room for a later piece of the row, behind its end for the next turn's first. */
INLINE void products(float *sum, stream *s, const matvec_args *a, i32 turn)
{
    i32 steps = ccc_WHOLE ? 1 : (s->pieces + 32 * ccc_SPLIT - 1) / (32 * ccc_SPLIT);
    const elem GLOBAL *x[MAX_TOK];
    UNROLL for (i32 t = 0; t < MAX_TOK; t++)
        if (t < ccc_TOK) x[t] = (const elem GLOBAL *)a->x + (i64)imin(t, a->T - 1) * a->x_ld;
    NO_UNROLL for (i32 step = 0; step < steps; step += ccc_LOADS) {
        i32 last = ccc_TURNS > 1 && step + ccc_LOADS >= steps, next = last ? 0 : step + ccc_LOADS;
        if (last) stream_to(s, a, s->col + ncta() * (GROUPS * ccc_ROWS));
        i32 on = !last || (turn + 1 < ccc_TURNS && s->col < a->N);
        UNROLL for (i32 p = 0; p < MAX_LOADS; p++) {
            if (p >= ccc_LOADS) break;
            i32 k = imin((step + p) * (32 * ccc_SPLIT) + s->at, s->pieces - 1); /* past the end the weights are zeros */
            vu4 cur[MAX_STREAMS];
            UNROLL for (i32 r = 0; r < MAX_STREAMS; r++)
                if (r < STREAMS) cur[r] = s->ring[p][r];
            if (!ccc_WHOLE || ccc_TURNS > 1) stream_load(s, p, next + p, on);
            UNROLL for (i32 t = 0; t < MAX_TOK; t++) {
                if (t >= ccc_TOK) break;
                operand v = operand_of(ccc_NORM || ccc_BULK ? lds16(X_AT + (u32)(t * a->K + k * PER) * (u32)sizeof(elem)) : ld16(x[t] + k * PER));
                UNROLL for (i32 r = 0; r < MAX_STREAMS; r++)
                    if (r < STREAMS) sum[r * ccc_TOK + t] = dot(cur[r], v, sum[r * ccc_TOK + t]);
            }
        }
    }
}

KERNEL ccc_kernel(matvec_args a)
{
    dependents_launch();
    i32 group = tid() / 32 / ccc_SPLIT, part = tid() / 32 % ccc_SPLIT;
    stream w;
    w.at = part * 32 + lane();
    w.pieces = a.K / PER;
    stream_to(&w, &a, (cta() * GROUPS + group) * ccc_ROWS);
    UNROLL for (i32 p = 0; p < MAX_LOADS; p++)
        if (p < ccc_LOADS) stream_load(&w, p, p, 1);
    output out = output_of(&a, 0);
    kept row; /* of one token */
    take_weights(&out, &a);
    if (ccc_NORM && ccc_TOK == 1) norm_weights(&row, &a);
    for (i32 col = tid() * LINE; ccc_NORM && col < a.K; col += NT * LINE) {
        ccc_hook_in_weights(0, col, &a.aux);
        if (ccc_TOK > 1) ccc_hook_out_weights(0, col, &a.aux);
    }
    if (ccc_BULK) row_begin(&a);
    grid_wait();
    if (ccc_BULK) row_ask(&a);
    take_others(&out, &a);
    if (ccc_NORM && ccc_TOK > 1) norm_tokens(&a);
    else if (ccc_NORM) norm_token(&row, &a);
    if (ccc_BULK) row_wait(&a);

    NO_UNROLL for (i32 turn = 0; turn < ccc_TURNS; turn++) {
        float sum[MAX_STREAMS * MAX_TOK];
        UNROLL for (i32 i = 0; i < MAX_SUMS; i++) sum[i] = 0;
        if (turn) {
            out = output_of(&a, turn);
            take_weights(&out, &a);
            take_others(&out, &a);
        }
        products(sum, &w, &a, turn);
        float s = reduce(sum);
        if (ccc_SPLIT > 1) finish_split(&a, &out, s, turn);
        else store(&a, &out, s, ccc_PAIR ? shfl_xor(s, 16) : 0);
    }
}
