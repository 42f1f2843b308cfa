/* Rotary embedding of q and k and the write of k and v into the cache, in one pass over the packed rows of a step.
 * One thread has one item: a 16-byte piece of a head and its partner `half` elements further on (both results are made from the same two
 * loads), or a piece that is only copied. All items of all tokens lie in one line. Nothing is read before grid_wait().
 * With FP8 the cache is of e4m3: a piece of bf16 is multiplied, rounded and becomes half a piece of the cache. */
#include "rope.h"

SPEC(i32, ccc_ROTARY);    /* elements of a head that are rotated: even, at most D */
SPEC(i32, ccc_DO_Q);      /* rotate q into q_out */
SPEC(i32, ccc_DO_K);      /* rotate k into k_out */
SPEC(i32, ccc_DO_KV);     /* write k (rotated here, unless K_ROTATED) and v to the cache */
SPEC(i32, ccc_K_ROTATED); /* k comes rotated */
#if FP8
SPEC(i32, ccc_ROWS_FP8);  /* k and v come as the cache holds them: rotated (ROTARY 0, no q), and e4m3 */
#else
enum { ccc_ROWS_FP8 = 0 };
#endif

typedef struct { i32 lo, hi; vu4 vlo, vhi; } item_t; /* pieces lo and hi (-1: none) of a head */

/* one piece, element by element, where pairs do not lie in whole pieces */
INLINE void rotate_single(item_t *it, const u16 GLOBAL *src, const float GLOBAL *row)
{
    vf8 v = bf16x8_f32(it->vlo);
    i32 half = ccc_ROTARY / 2;
    UNROLL for (i32 k = 0; k < 8; k++) {
        i32 e = it->lo * 8 + k, i = e < half ? e : e - half;
        if (e >= ccc_ROTARY) continue;
        float c = row[i], s = row[half + i], other = bf16_f32(src[e < half ? e + half : e - half]);
        v[k] = e < half ? rope_lo(v[k], other, c, s) : rope_hi(other, v[k], c, s);
    }
    it->vlo = f32x8_bf16(v);
}
/* item n of the head at src */
INLINE item_t take(i32 n, const u16 GLOBAL *src, const float GLOBAL *row, i32 rotated)
{
    item_t it = {n, -1, 0, 0};
    if (ccc_ROTARY % 16 == 0) {
        if (n < ccc_ROTARY / 16) it.hi = n + ccc_ROTARY / 16;
        else it.lo = n + ccc_ROTARY / 16;
    }
    it.vlo = ld16(src + it.lo * 8);
    if (it.hi >= 0) it.vhi = ld16(src + it.hi * 8);
    if (rotated) return it;
    if (it.hi >= 0) rope_pair(&it.vlo, &it.vhi, row, it.lo, ccc_ROTARY / 2);
    else if (ccc_ROTARY % 16) rotate_single(&it, src, row);
    return it;
}
INLINE void put(u16 GLOBAL *dst, const item_t *it)
{
    st16(dst + it->lo * 8, it->vlo);
    if (it->hi >= 0) st16(dst + it->hi * 8, it->vhi);
}
/* where the row of token t goes; 0: nowhere */
INLINE char GLOBAL *cache_row(const rope_kv_args *a, i32 t, i32 head, i32 v, i32 *in_block)
{
    i64 slot = kv_slot(a->slots[t], a->kv_blocks, a->status, t);
    if (slot < 0) return 0;
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    *in_block = (i32)(slot % ccc_BLOCK);
    return (v ? a->v_cache + kv_v() : a->k_cache) + kv_token(s, (i32)(slot / ccc_BLOCK), *in_block) + head * s.head;
}
INLINE void put_cache(const rope_kv_args *a, i32 t, i32 head, i32 v, const item_t *it)
{
    i32 r = 0;
    char GLOBAL *p = cache_row(a, t, head, v, &r);
    if (!p) return;
    float times = v ? a->v_times : a->k_times;
    *(kv_eight_t GLOBAL *)(p + kv_eight_at(r, it->lo)) = kv_eight(it->vlo, times);
    if (it->hi >= 0) *(kv_eight_t GLOBAL *)(p + kv_eight_at(r, it->hi)) = kv_eight(it->vhi, times);
}
/* eight elements of a row that is e4m3 already */
INLINE void copy_fp8(const rope_kv_args *a, i32 t, i32 head, i32 v, i32 c)
{
    i32 r = 0;
    char GLOBAL *p = cache_row(a, t, head, v, &r);
    const char GLOBAL *row = (const char GLOBAL *)(v ? a->v : a->k) + (i64)t * (v ? a->v_ld : a->k_ld) + head * ccc_D;
    if (p) *(vu2 GLOBAL *)(p + kv_eight_at(r, c)) = *(const vu2 GLOBAL *)(row + c * 8);
}
INLINE const float GLOBAL *table_row(const rope_kv_args *a, i32 t) { return rope_row(a->table, a->positions[t], a->table_rows, ccc_ROTARY, a->status, t); }

KERNEL ccc_kernel(rope_kv_args a)
{
    dependents_launch();
    grid_wait();
    i32 per = ccc_rope_pair_items(ccc_D, ccc_ROTARY), nq = ccc_DO_Q ? ccc_HQ * per : 0;
    i32 nk = ccc_DO_K || ccc_DO_KV ? ccc_HKV * per : 0, nv = ccc_DO_KV ? ccc_HKV * (ccc_D / 8) : 0, items = nq + nk + nv;
    i32 at = cta() * CCC_ROPE_THREADS + tid(), t = at / items, n = at % items;
    if (t >= a.T) return;
    if (n < nq) {
        const u16 GLOBAL *src = a.q + (i64)t * a.q_ld + n / per * ccc_D;
        item_t it = take(n % per, src, table_row(&a, t), 0);
        put(a.q_out + (i64)t * a.q_out_ld + n / per * ccc_D, &it);
    } else if (ccc_ROWS_FP8) {
        i32 v = n >= nk;
        copy_fp8(&a, t, (n - v * nk) / (ccc_D / 8), v, n % (ccc_D / 8));
    } else if (n < nq + nk) {
        i32 head = (n - nq) / per;
        const float GLOBAL *row = ccc_K_ROTATED ? 0 : table_row(&a, t);
        item_t it = take((n - nq) % per, a.k + (i64)t * a.k_ld + head * ccc_D, row, ccc_K_ROTATED);
        if (ccc_DO_K) put(a.k_out + (i64)t * a.k_out_ld + head * ccc_D, &it);
        if (ccc_DO_KV) put_cache(&a, t, head, 0, &it);
    } else if (ccc_DO_KV) {
        i32 head = (n - nq - nk) / (ccc_D / 8), c = (n - nq - nk) % (ccc_D / 8);
        item_t it = {c, -1, ld16(a.v + (i64)t * a.v_ld + head * ccc_D + c * 8), 0};
        put_cache(&a, t, head, 1, &it);
    }
}
