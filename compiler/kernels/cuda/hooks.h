/* Hooks: the places of a template where codegen puts a fused elementwise chain. A template declares a hook and calls it; codegen writes
 * its body in LLVM IR from the functions below and the call is inlined. A template that names hooks includes this file.
 *
 * Signatures, W the width that kernel.def gives the hook (vf1 is float):
 *     vfW ccc_hook_in(vfW v, i32 row, i32 col, const aux_t *aux)          also out, epilogue
 *     vfW ccc_hook_pair(vfW v, vfW v2, i32 row, i32 col, const aux_t *aux)
 *     vf8 ccc_hook_body(i32 row, i32 col, const aux_t *aux)
 *     vf2 ccc_hook_NAME_tail(vf2 v, ..)                                    the same body at another width, where a template has use for two
 *     void ccc_hook_NAME_weights(i32 row, i32 col, const aux_t *aux)      brings what hook NAME will read there of weights to L2
 *     void ccc_hook_NAME_take_weights(vfW *taken, i32 row, i32 col, const aux_t *aux)  loads what NAME will read there of weights: for the time
 *                                                                         before the grid wait, as memory is a microsecond away
 *     void ccc_hook_NAME_take_others(vfW *taken, ..)                      the same for all else, early behind the grid wait: even L2 is half a
 *                                                                         microsecond away
 *     vfW ccc_hook_NAME_taken(vfW v, [vfW v2,] const vfW *taken, i32 row, ..)  NAME itself, its loads taken from there (CCC_MAX_TAKEN of them)
 * col is the column of the first element, a multiple of W. aux points into the kernel's parameter struct: after inlining its members are
 * plain ld.param loads. A hook is called once for each element that exists and never for one that does not, so it may store.
 *
 * The functions are not static: they must be in the bitcode for codegen to call. What codegen does not call is dropped afterwards.
 * Accesses of W elements need an address that is a multiple of W elements; W = 8 of f32 makes two 16-byte accesses.
 * ccc_ldc: weights only (read-only path, may be moved before the grid wait). */
#ifndef CCC_HOOKS_H
#define CCC_HOOKS_H
#include "k.h"

#ifndef LIB
#define LIB __attribute__((always_inline)) /* external on purpose */
#endif

/* ---- memory of any kind ------------------------------------------------------------------------------------------------- */
LIB float ccc_ld1_bf16(const void GLOBAL *p, i64 i) { return bf16_f32(((const u16 GLOBAL *)p)[i]); }
LIB vf2 ccc_ld2_bf16(const void GLOBAL *p, i64 i)
{
    u32 u = *(const u32 GLOBAL *)((const u16 GLOBAL *)p + i);
    return (vf2){bf16_lo(u), bf16_hi(u)};
}
LIB vf8 ccc_ld8_bf16(const void GLOBAL *p, i64 i) { return bf16x8_f32(ld16((const u16 GLOBAL *)p + i)); }
LIB float ccc_ld1_f32(const void GLOBAL *p, i64 i) { return ((const float GLOBAL *)p)[i]; }
LIB vf2 ccc_ld2_f32(const void GLOBAL *p, i64 i) { return *(const vf2 GLOBAL *)((const float GLOBAL *)p + i); }
LIB vf8 ccc_ld8_f32(const void GLOBAL *p, i64 i)
{
    const vf4 GLOBAL *q = (const vf4 GLOBAL *)((const float GLOBAL *)p + i);
    vf4 a = q[0], b = q[1];
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}
LIB float ccc_ld1_e4m3(const void GLOBAL *p, i64 i) { return f16_lo(e4m3_f16(((const u8 GLOBAL *)p)[i])); }
LIB vf2 ccc_ld2_e4m3(const void GLOBAL *p, i64 i)
{
    u32 u = e4m3_f16(*(const u16 GLOBAL *)((const u8 GLOBAL *)p + i));
    return (vf2){f16_lo(u), f16_hi(u)};
}
LIB vf8 ccc_ld8_e4m3(const void GLOBAL *p, i64 i) { return e4m3x8_f32(*(const vu2 GLOBAL *)((const u8 GLOBAL *)p + i)); }

/* the value is one of the format already (a cast made it), so nothing is rounded a second time */
LIB void ccc_st1_bf16(void GLOBAL *p, i64 i, float v) { ((u16 GLOBAL *)p)[i] = f32_bf16(v); }
LIB void ccc_st2_bf16(void GLOBAL *p, i64 i, vf2 v) { *(u32 GLOBAL *)((u16 GLOBAL *)p + i) = bf16_pack(v.x, v.y); }
LIB void ccc_st8_bf16(void GLOBAL *p, i64 i, vf8 v) { st16((u16 GLOBAL *)p + i, f32x8_bf16(v)); }
LIB void ccc_st1_f32(void GLOBAL *p, i64 i, float v) { ((float GLOBAL *)p)[i] = v; }
LIB void ccc_st2_f32(void GLOBAL *p, i64 i, vf2 v) { *(vf2 GLOBAL *)((float GLOBAL *)p + i) = v; }
LIB void ccc_st8_f32(void GLOBAL *p, i64 i, vf8 v)
{
    vf4 GLOBAL *q = (vf4 GLOBAL *)((float GLOBAL *)p + i);
    q[0] = v.lo;
    q[1] = v.hi;
}
LIB void ccc_st1_e4m3(void GLOBAL *p, i64 i, float v) { ((u8 GLOBAL *)p)[i] = (u8)e4m3_pack(v, 0.0f); }
LIB void ccc_st2_e4m3(void GLOBAL *p, i64 i, vf2 v) { *(u16 GLOBAL *)((u8 GLOBAL *)p + i) = e4m3_pack(v.x, v.y); }
LIB void ccc_st8_e4m3(void GLOBAL *p, i64 i, vf8 v) { *(vu2 GLOBAL *)((u8 GLOBAL *)p + i) = f32x8_e4m3(v); }

/* ---- weights ------------------------------------------------------------------------------------------------------------- */
LIB float ccc_ldc1_bf16(const void GLOBAL *p, i64 i) { return bf16_f32(ldc2((const u16 GLOBAL *)p + i)); }
LIB vf2 ccc_ldc2_bf16(const void GLOBAL *p, i64 i)
{
    u32 u = ldc4((const u16 GLOBAL *)p + i);
    return (vf2){bf16_lo(u), bf16_hi(u)};
}
LIB vf8 ccc_ldc8_bf16(const void GLOBAL *p, i64 i) { return bf16x8_f32(ldc16((const u16 GLOBAL *)p + i)); }
LIB float ccc_ldc1_f32(const void GLOBAL *p, i64 i) { return flt(ldc4((const float GLOBAL *)p + i)); }
LIB vf2 ccc_ldc2_f32(const void GLOBAL *p, i64 i)
{
    vu2 u = ldc8((const float GLOBAL *)p + i);
    return (vf2){flt(u.x), flt(u.y)};
}
LIB vf8 ccc_ldc8_f32(const void GLOBAL *p, i64 i)
{
    vf4 a = __builtin_bit_cast(vf4, ldc16((const float GLOBAL *)p + i));
    vf4 b = __builtin_bit_cast(vf4, ldc16((const float GLOBAL *)p + i + 4));
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}
LIB float ccc_ldc1_e4m3(const void GLOBAL *p, i64 i) { return f16_lo(e4m3_f16(ldc1((const u8 GLOBAL *)p + i))); }
LIB vf2 ccc_ldc2_e4m3(const void GLOBAL *p, i64 i)
{
    u32 u = e4m3_f16(ldc2((const u8 GLOBAL *)p + i));
    return (vf2){f16_lo(u), f16_hi(u)};
}
LIB vf8 ccc_ldc8_e4m3(const void GLOBAL *p, i64 i) { return e4m3x8_f32(ldc8((const u8 GLOBAL *)p + i)); }

/* ---- the main result, by SPEC OUT_F32: 0 bf16, 1 f32, 2 e4m3 ---------------------------------------------------------------------- */
#define OUT_STORE(width, p, at, y)                                                                           \
    do {                                                                                                     \
        if (ccc_OUT_F32 == 1) CAT(CAT(ccc_st, width), _f32)(p, at, y);                                       \
        else if (ccc_OUT_F32 == 2) CAT(CAT(ccc_st, width), _e4m3)(p, at, y);                                 \
        else CAT(CAT(ccc_st, width), _bf16)(p, at, y);                                                       \
    } while (0)

/* ---- what a hook will read, on its way to L2 ahead of it: see ccc_hook_NAME_weights above ------------------------------------------ */
LIB void ccc_prefetch_bf16(const void GLOBAL *p, i64 i) { prefetch_l2((const u16 GLOBAL *)p + i); }
LIB void ccc_prefetch_f32(const void GLOBAL *p, i64 i) { prefetch_l2((const float GLOBAL *)p + i); }
LIB void ccc_prefetch_e4m3(const void GLOBAL *p, i64 i) { prefetch_l2((const u8 GLOBAL *)p + i); }

/* ---- the casts of the graph: nearest even; e4m3 and e5m2 saturate. Results are f32 again -------------------------------------- */
LIB float ccc_cast_bf16(float v) { return bf16_f32(f32_bf16(v)); }
LIB float ccc_cast_f16(float v) { return f16_f32(f32_f16(v)); }
LIB float ccc_cast_e4m3(float v) { return f16_f32((u16)e4m3_f16(e4m3_pack(v, 0.0f))); }
LIB float ccc_cast_e5m2(float v) { return f16_f32((u16)e5m2_f16(e5m2_pack(v, 0.0f))); }

/* ---- ccc_elt_NAME(x, y) for every elementwise op ------------------------------------------------------------------------------ */
INLINE float m_exp(float x) { return ex2(x * 1.4426950408889634f); }
INLINE float m_div(float x, float y) { return div_full(x, y); }
INLINE float m_tanh(float x) /* 1 - 2/(e^2x + 1), right at both ends; near 0, where that cancels, the series */
{
    float z = x * x, near = fma_(x * z, fma_(z, fma_(z, -0.053968254f, 0.13333334f), -0.33333334f), x);
    float far = 1.0f - div_full(2.0f, m_exp(2.0f * x) + 1.0f);
    return z < 0.0625f ? near : far;
}
INLINE float m_rsqrt(float x) { return rsqrt_approx(x); }
#define OP(...)
#define ELT(name, arity, flags, expr, help)                                                                       \
    LIB float ccc_elt_##name(float x, float y)                                                                    \
    {                                                                                                             \
        (void)x, (void)y;                                                                                         \
        return expr;                                                                                              \
    }
#include "../../../ir/op.def"
#endif
