/* The prelude of every host kernel template: vector types and the few operations that C has no word for.
 *
 * A template becomes flat machine code without any reference to the outside. Therefore: no library calls, no
 * writable globals, no thread locals; mathematics is written out here and in hooks.h. Memory is accessed by
 * the ld* and st* below, which need no alignment beyond that of the element. A block deals with its share of
 * the work, share(): any grid gives the same bits. */
#ifndef CCC_H_H
#define CCC_H_H
#include "../abi.h"
#include "../host_geometry.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)") /* arrays of registers count on it */
#define TWICE _Pragma("clang loop unroll_count(2) vectorize(disable)")
#define ROLLED                                                                                               \
    _Pragma("clang loop unroll(disable) vectorize(disable)") /* rare or slow anyway: keeps kernels small and \
                                                                quick to compile */
#ifdef CCC_KERNEL_TEST /* compiled straight into a test, where constants are macros */
#define SPEC(type, name) struct spec_is_a_macro
#define LIB INLINE
#define ENTRY static void
#else
#define SPEC(type, name) extern const type name /* codegen gives it its initialiser */
#define LIB __attribute__((always_inline))      /* external on purpose: codegen calls it */
#define ENTRY __attribute__((visibility("default"))) void
#endif

typedef float VF __attribute__((ext_vector_type(8)));
typedef float VF4 __attribute__((ext_vector_type(4)));
typedef u32 VU __attribute__((ext_vector_type(8)));
typedef u32 VU4 __attribute__((ext_vector_type(4)));
typedef i32 VI __attribute__((ext_vector_type(8)));
typedef u16 VH __attribute__((ext_vector_type(8)));
typedef VF VF_any __attribute__((aligned(1), may_alias));
typedef VF4 VF4_any __attribute__((aligned(1), may_alias));
typedef VU VU_any __attribute__((aligned(1), may_alias));
typedef VU4 VU4_any __attribute__((aligned(1), may_alias));
typedef VH VH_any __attribute__((aligned(1), may_alias));

/* ---- arithmetic ---------------------------------------------------------------------------------------- */
INLINE i32 imin(i32 a, i32 b) { return a < b ? a : b; }
INLINE i32 imax(i32 a, i32 b) { return a > b ? a : b; }
INLINE i64 lmin(i64 a, i64 b) { return a < b ? a : b; }
INLINE u32 bits(float f) { return __builtin_bit_cast(u32, f); }
INLINE float flt(u32 u) { return __builtin_bit_cast(float, u); }
INLINE float fma1(float a, float b, float c) { return __builtin_elementwise_fma(a, b, c); }
INLINE VF fma8(VF a, VF b, VF c) { return __builtin_elementwise_fma(a, b, c); }
INLINE float sqrt1(float x) { return __builtin_elementwise_sqrt(x); }
INLINE VF splat(float x) { return (VF)x; }
/* (v0+v4, v1+v5, ..), then distance 2, then 1: the order in which every sum over the elements of a vector is
 * taken */
INLINE VF4 half_sum(VF v) { return v.lo + v.hi; }
INLINE VF4 sum4(VF a, VF b, VF c, VF d) /* the four sums */
{
    VF4 p = half_sum(a), q = half_sum(b), r = half_sum(c), s = half_sum(d);
    VF4 pq = __builtin_shufflevector(p, q, 0, 1, 4, 5) + __builtin_shufflevector(p, q, 2, 3, 6, 7);
    VF4 rs = __builtin_shufflevector(r, s, 0, 1, 4, 5) + __builtin_shufflevector(r, s, 2, 3, 6, 7);
    return __builtin_shufflevector(pq, rs, 0, 2, 4, 6) + __builtin_shufflevector(pq, rs, 1, 3, 5, 7);
}
INLINE float sum1(VF v) { return sum4(v, v, v, v)[0]; }

/* ---- bf16 ---------------------------------------------------------------------------------------------- */
INLINE float bf16_f32(u16 u) { return flt((u32)u << 16); }
INLINE u16 f32_bf16(float v) /* nearest even; a NaN stays one. Both cases are computed: no branch, so eight
                                lanes can become one vector */
{
    u32 u = bits(v), nan = (u >> 16) | 0x40u, number = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (u16)((u & 0x7fffffffu) > 0x7f800000u ? nan : number);
}
INLINE VF bf16x8_f32(VH h) { return (VF)(__builtin_convertvector(h, VU) << 16); }
INLINE VH f32x8_bf16(VF v)
{
    VU u = (VU)v, nan = (VU)((u & 0x7fffffffu) > 0x7f800000u);
    VU r = (nan & ((u >> 16) | 0x40u)) | (~nan & ((u + 0x7fffu + ((u >> 16) & 1u)) >> 16));
    return __builtin_convertvector(r, VH);
}
/* 16 bf16 as 8 pairs: their elements of even and of odd number */
INLINE VF even_f32(VU pairs) { return (VF)(pairs << 16); }
INLINE VF odd_f32(VU pairs) { return (VF)(pairs & 0xffff0000u); }

/* ---- e4m3. Its bits, where f32 has exponent and mantissa, are the number times 2^-120; 0x7f is NaN -------- */
typedef u8 VB __attribute__((ext_vector_type(8)));
typedef VB VB_any __attribute__((aligned(1), may_alias));
INLINE VF e4m3u_f32(VU u)
{
    VU nan = (VU)((u & 0x7fu) == 0x7fu);
    VF v = (VF)((u & 0x80u) << 24 | (u & 0x7fu) << 20) * 0x1p120f;
    return (VF)((VU)v | (nan & 0x7fc00000u));
}
INLINE VF e4m3x8_f32(VB b) { return e4m3u_f32(__builtin_convertvector(b, VU)); }
INLINE float e4m3_f32(u8 b) { return e4m3x8_f32((VB)b)[0]; }
/* nearest even, saturating; NaN: 0x7f. Adding and taking away a number whose last bit is worth one step of
 * the format rounds to that step. */
INLINE VB f32x8_e4m3(VF v)
{
    VF a = __builtin_elementwise_abs(v);
    VU e = (VU)a >> 23, least = (VU)(121u), nan = (VU)(v != v);
    VF big = (VF)(((e > least ? e : least) + 20u) << 23);
    VF r = (a < 448.0f) ? (a + big) - big : splat(448.0f);
    VU u = (VU)(r * 0x1p-120f) >> 20 | ((VU)v >> 24 & 0x80u);
    return __builtin_convertvector((nan & 0x7fu) | (~nan & u), VB);
}
INLINE u8 f32_e4m3(float v) { return f32x8_e4m3((VF)v)[0]; }

/* ---- memory -------------------------------------------------------------------------------------------- */
INLINE VF ld8f(const float *p) { return *(const VF_any *)p; }
INLINE void st8f(float *p, VF v) { *(VF_any *)p = v; }
INLINE void st4f(float *p, VF4 v) { *(VF4_any *)p = v; }
INLINE VF ld8b(const u16 *p) { return bf16x8_f32(*(const VH_any *)p); }
INLINE void st8b(u16 *p, VF v) { *(VH_any *)p = f32x8_bf16(v); }
INLINE VF ld8e(const u8 *p) { return e4m3x8_f32(*(const VB_any *)p); }
INLINE void st8e(u8 *p, VF v) { *(VB_any *)p = f32x8_e4m3(v); }
INLINE VU ld8u(const void *p) { return *(const VU_any *)p; }
INLINE VU4 ld4u(const void *p) { return *(const VU4_any *)p; }
INLINE void st4u(void *p, VU4 v) { *(VU4_any *)p = v; }

/* ---- work and status ----------------------------------------------------------------------------------- */
INLINE i64 share(i64 units, u32 block, u32 grid)
{
    return units * (i64)block / (i64)grid;
} /* first unit of a block */
/* status words: [0] kind, [1] index, [2] value; the first one to be set stays */
enum { STATUS_BAD_SLOT = 2, STATUS_BAD_BLOCK = 3, STATUS_BAD_POSITION = 5 }; /* as in runtime/ccart.h */
INLINE void status_set(u32 *status, u32 kind, u32 index, u32 value)
{
    u32 none = 0;
    if (!__atomic_compare_exchange_n(status, &none, kind, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    status[1] = index;
    status[2] = value;
}
#endif
