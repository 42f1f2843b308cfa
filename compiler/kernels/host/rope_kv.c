/* Rotary embedding of q and k, and the write of k and v into the cache, in one pass over the packed rows of a
 * step. A unit of work is a token. Rotation in f32 with one rounding to bf16: a' = fma(a, cos, -(b * sin)),
 * b' = fma(b, cos, a * sin) for the pairs (i, i + rotary/2). With FP8 the cache is of e4m3: rows are multiplied
 * and rounded on the way into it. */
#include "kv.h"

SPEC(i32, ccc_ROTARY);    /* elements of a head that are rotated: even, at most D */
SPEC(i32, ccc_DO_Q);      /* rotate q into q_out */
SPEC(i32, ccc_DO_K);      /* rotate k into k_out */
SPEC(i32, ccc_DO_KV);     /* write k (rotated here, unless K_ROTATED) and v to the cache */
SPEC(i32, ccc_K_ROTATED); /* k comes rotated */
#if FP8
SPEC(i32, ccc_ROWS_FP8); /* k and v come as the cache holds them: rotated (no q), and e4m3 */
#else
enum { ccc_ROWS_FP8 = 0 };
#endif

enum { MAX_D = 256 };

INLINE void rotate(u16 *out, const u16 *x, const float *cs)
{
    const float *sn = cs + ccc_ROTARY / 2;
    i32 half = ccc_ROTARY / 2, i = 0;
    for (; i + 8 <= half; i += 8) {
        VF a = ld8b(x + i), b = ld8b(x + half + i), c = ld8f(cs + i), s = ld8f(sn + i);
        st8b(out + i, fma8(a, c, -(b * s)));
        st8b(out + half + i, fma8(b, c, a * s));
    }
    ROLLED for (; i < half; i++) {
        float a = bf16_f32(x[i]), b = bf16_f32(x[half + i]), c = cs[i], s = sn[i];
        out[i] = f32_bf16(fma1(a, c, -(b * s)));
        out[half + i] = f32_bf16(fma1(b, c, a * s));
    }
    ROLLED for (i = ccc_ROTARY; i < ccc_D; i++) out[i] = x[i];
}
INLINE void copy_head(u16 *out, const u16 *x)
{
    for (i32 i = 0; i < ccc_D; i += 8) st4u(out + i, ld4u(x + i));
}
INLINE void write_cache(char *row, i32 t, const u16 *x, float times)
{
    for (i32 p = 0; p < ccc_D / 8; p++) {
        char *to = row + kv_eight(t, p);
        if (FP8) st8e((u8 *)to, ld8b(x + p * 8) * times);
        else st4u(to, ld4u(x + p * 8));
    }
}
INLINE void copy_fp8(char *row, i32 t, const u8 *x)
{
    for (i32 p = 0; p < ccc_D / 16; p++) st4u(row + kv_piece(t, p), ld4u(x + p * 16));
}
INLINE const float *table_row(const rope_kv_args *a, i32 t)
{
    i64 pos = a->positions[t];
    if (pos < 0 || pos >= a->table_rows) {
        status_set(a->status, STATUS_BAD_POSITION, (u32)t, (u32)pos);
        pos = pos < 0 ? 0 : a->table_rows - 1;
    }
    return a->table + pos * ccc_ROTARY;
}
/* the slot of token t; -1: nowhere */
INLINE i64 slot_of(const rope_kv_args *a, i32 t)
{
    i64 slot = a->slots[t];
    if (slot == -1 || (slot >= 0 && slot < (i64)a->kv_blocks * ccc_BLOCK)) return slot;
    status_set(a->status, STATUS_BAD_SLOT, (u32)t, (u32)slot);
    return -1;
}

INLINE void one_token(const rope_kv_args *a, i32 t)
{
    const float *cs = ccc_DO_Q || ((ccc_DO_K || ccc_DO_KV) && !ccc_K_ROTATED) ? table_row(a, t) : 0;
    if (ccc_DO_Q)
        for (i32 h = 0; h < ccc_HQ; h++)
            rotate(a->q_out + (i64)t * a->q_out_ld + h * ccc_D, a->q + (i64)t * a->q_ld + h * ccc_D, cs);
    if (!ccc_DO_K && !ccc_DO_KV) return;
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    i64 slot = ccc_DO_KV ? slot_of(a, t) : -1, block = slot / ccc_BLOCK;
    i32 r = (i32)(slot % ccc_BLOCK);
    for (i32 h = 0; h < ccc_HKV && ccc_ROWS_FP8 && slot >= 0; h++) {
        const u8 *k = (const u8 *)a->k, *v = (const u8 *)a->v;
        copy_fp8(a->k_cache + kv_row(s, block, r, h, 0), r, k + (i64)t * a->k_ld + h * ccc_D);
        copy_fp8(a->v_cache + kv_row(s, block, r, h, 1), r, v + (i64)t * a->v_ld + h * ccc_D);
    }
    for (i32 h = 0; h < ccc_HKV && !ccc_ROWS_FP8; h++) {
        u16 k[MAX_D];
        const u16 *x = a->k + (i64)t * a->k_ld + h * ccc_D;
        if (ccc_K_ROTATED) copy_head(k, x);
        else rotate(k, x, cs);
        if (ccc_DO_K) copy_head(a->k_out + (i64)t * a->k_out_ld + h * ccc_D, k);
        if (slot < 0) continue;
        write_cache(a->k_cache + kv_row(s, block, r, h, 0), r, k, a->k_times);
        write_cache(a->v_cache + kv_row(s, block, r, h, 1), r, a->v + (i64)t * a->v_ld + h * ccc_D, a->v_times);
    }
}

ENTRY ccc_kernel(const rope_kv_args *a, const host_ctx *c)
{
    i64 end = share(a->T, c->block[0] + 1, c->grid[0]);
    for (i64 t = share(a->T, c->block[0], c->grid[0]); t < end; t++) one_token(a, (i32)t);
}
