/* Hooks: the places of a template where codegen puts a fused elementwise chain, and the functions that it
 * builds the bodies from.
 *
 *     VF ccc_hook_in(VF v, i32 row, i32 col, const aux_t *aux)       also out, epilogue; pair has (v, v2,
 * ..), body neither float ccc_hook_in_tail(float v, i32 row, i32 col, const aux_t *aux)
 *
 * VF is 8 columns that begin at col, a multiple of 8. The last cols % 8 elements of a row go one by one
 * through NAME_tail, the same body at width 1: so a hook is called once for each element that exists and
 * never for one that does not, may store, and may work in place.
 *
 * The functions are not static: they must be in the bitcode for codegen to call. What codegen does not call
 * is dropped afterwards. */
#ifndef CCC_HOOKS_H
#define CCC_HOOKS_H
#include "h.h"

/* ---- memory; ldc: weights ------------------------------------------------------------------------------ */
LIB float ccc_ld1_bf16(const void *p, i64 i) { return bf16_f32(((const u16 *)p)[i]); }
LIB VF ccc_ld8_bf16(const void *p, i64 i) { return ld8b((const u16 *)p + i); }
LIB float ccc_ld1_f32(const void *p, i64 i) { return ((const float *)p)[i]; }
LIB VF ccc_ld8_f32(const void *p, i64 i) { return ld8f((const float *)p + i); }
LIB float ccc_ldc1_bf16(const void *p, i64 i) { return ccc_ld1_bf16(p, i); }
LIB VF ccc_ldc8_bf16(const void *p, i64 i) { return ccc_ld8_bf16(p, i); }
LIB float ccc_ldc1_f32(const void *p, i64 i) { return ccc_ld1_f32(p, i); }
LIB VF ccc_ldc8_f32(const void *p, i64 i) { return ccc_ld8_f32(p, i); }
LIB void ccc_st1_bf16(void *p, i64 i, float v) { ((u16 *)p)[i] = f32_bf16(v); }
LIB void ccc_st8_bf16(void *p, i64 i, VF v) { st8b((u16 *)p + i, v); }
LIB void ccc_st1_f32(void *p, i64 i, float v) { ((float *)p)[i] = v; }
LIB void ccc_st8_f32(void *p, i64 i, VF v) { st8f((float *)p + i, v); }
LIB float ccc_ld1_e4m3(const void *p, i64 i) { return e4m3_f32(((const u8 *)p)[i]); }
LIB VF ccc_ld8_e4m3(const void *p, i64 i) { return ld8e((const u8 *)p + i); }
LIB float ccc_ldc1_e4m3(const void *p, i64 i) { return ccc_ld1_e4m3(p, i); }
LIB VF ccc_ldc8_e4m3(const void *p, i64 i) { return ccc_ld8_e4m3(p, i); }
LIB void ccc_st1_e4m3(void *p, i64 i, float v) { ((u8 *)p)[i] = f32_e4m3(v); }
LIB void ccc_st8_e4m3(void *p, i64 i, VF v) { st8e((u8 *)p + i, v); }
/* the main result, by SPEC OUT_F32: 0 bf16, 1 f32, 2 e4m3 */
#define OUT_STORE(width, p, at, y)                                                                           \
    do {                                                                                                     \
        if (ccc_OUT_F32 == 1) ccc_st##width##_f32(p, at, y);                                                 \
        else if (ccc_OUT_F32 == 2) ccc_st##width##_e4m3(p, at, y);                                           \
        else ccc_st##width##_bf16(p, at, y);                                                                 \
    } while (0)

/* ---- casts: to nearest even, and f32 again ------------------------------------------------------------- */
LIB float ccc_cast_bf16(float v) { return bf16_f32(f32_bf16(v)); }
LIB float ccc_cast_f16(float v) { return (float)(_Float16)v; }
/* a format of `man` mantissa bits whose least exponent is `emin`; beyond `most` it saturates. Adding and
 * taking away a number whose last bit is worth one step of the format rounds to that step. */
INLINE float cast_small(float v, i32 man, i32 emin, float most)
{
    float a = __builtin_elementwise_abs(v);
    u32 exponent = bits(a) >> 23, least = (u32)(emin + 127);
    float big = flt(((exponent > least ? exponent : least) + (u32)(23 - man)) << 23);
    float r = (a + big) - big;
    r = r < most ? r : most;
    return v != v ? v : __builtin_copysignf(r, v);
}
LIB float ccc_cast_e4m3(float v) { return cast_small(v, 3, -6, 448.0f); }
LIB float ccc_cast_e5m2(float v) { return cast_small(v, 2, -14, 57344.0f); }

/* ---- ccc_elt_NAME(x, y) for every elementwise op ------------------------------------------------------- */
/* e^x = 2^n * e^r with n the nearest integer to x / ln 2, |r| <= 0.35. No branches: eight lanes make one
 * vector instruction each. Adding 1.5 * 2^23 leaves n in the low bits of the sum, also for a NaN, which
 * passes through all of it. Leaves e^r - 1 in q_ and n in e_. T, U: float and u32, or eight of them. */
#define EXP_STEPS(T, U, x, fma)                                                                              \
    T t_ = fma((x), (T)1.44269504f, (T)12582912.0f), n_ = t_ - 12582912.0f;                                  \
    T r_ = fma(n_, (T)2.12194440e-4f, fma(n_, (T)-0.693359375f, (x)));                                       \
    T q_ = fma(r_, (T)1.98412698e-4f, (T)1.38888889e-3f); /* 1/7!, 1/6!, .. */                               \
    q_ = fma(r_, q_, (T)8.33333333e-3f);                                                                     \
    q_ = fma(r_, q_, (T)4.16666667e-2f);                                                                     \
    q_ = fma(r_, q_, (T)0.166666667f);                                                                       \
    q_ = fma(r_, q_, (T)0.5f);                                                                               \
    q_ = fma(r_ * r_, q_, r_);                                                                               \
    U e_ = __builtin_bit_cast(U, t_) - 0x4b400000u
INLINE float m_exp(float x)
{
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    EXP_STEPS(float, u32, x, fma1);
    u32 h = (u32)((i32)e_ >> 1), g = e_ - h; /* 2^n in two steps: n reaches 128, or results are subnormal */
    return (1.0f + q_) * flt((h + 127u) << 23) * flt((g + 127u) << 23);
}
INLINE VF m_exp8(VF x) /* the same bits */
{
    x = x > splat(89.0f) ? splat(89.0f) : x;
    x = x < splat(-104.0f) ? splat(-104.0f) : x;
    EXP_STEPS(VF, VU, x, fma8);
    VU h = (VU)((VI)e_ >> 1), g = e_ - h;
    return (1.0f + q_) * (VF)((h + 127u) << 23) * (VF)((g + 127u) << 23);
}
INLINE float m_tanh(float x) /* with E = e^2|x| - 1: E / (E + 2) */
{
    float a = 2.0f * __builtin_elementwise_abs(x);
    a = a > 40.0f ? 40.0f : a;
    EXP_STEPS(float, u32, a, fma1);
    float scale = flt((e_ + 127u) << 23), em1 = fma1(scale, q_, scale - 1.0f);
    return __builtin_copysignf(em1 / (em1 + 2.0f), x);
}
INLINE float m_div(float x, float y) { return x / y; }
INLINE float m_rsqrt(float x) { return 1.0f / sqrt1(x); }
#define OP(...)
#define ELT(name, arity, flags, expr, help)                                                                  \
    LIB float ccc_elt_##name(float x, float y)                                                               \
    {                                                                                                        \
        (void)x, (void)y;                                                                                    \
        return expr;                                                                                         \
    }
#include "../../../ir/op.def"

/* ---- calls that LLVM may make of a loop ---------------------------------------------------------------- */
#ifndef CCC_KERNEL_TEST
__attribute__((used, noinline)) void *memset(void *dst, int byte, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) ((volatile u8 *)dst)[i] = (u8)byte;
    return dst;
}
__attribute__((used, noinline)) void *memcpy(void *restrict dst, const void *restrict src, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) ((volatile u8 *)dst)[i] = ((const u8 *)src)[i];
    return dst;
}
#endif
#endif
