/* A piece of a source tensor becomes rows of a final weight: widened or dequantised to f32, scaled, rounded once, rows put
 * where they belong.
 * A thread has 8 neighbouring elements of a row (fewer at the end of a row). Sources are read in their own elements, since pieces of
 * quantised tensors are only 2-byte aligned: the bus to the device is far slower than this.
 *   Q8_0   32 elements: f16 d, int8 q[32]                              value = d * q
 *   Q4_1   32 elements: f16 d, f16 m, 16 bytes, element i in the low half of byte i, element 16 + i in the high half
 *                                                                      value = fma(q, d, m)
 *   random SRC 0: element i of the source, by its row-major index      value = fma(u, std, mean), u a whole number in -2^23 .. 2^23-1,
 *          from 24 bits of a hash of seed, name and i; std comes already multiplied by sqrt(3) / 2^23 */
#include "k.h"
#include "../attention_geometry.h"

SPEC(i32, ccc_SRC);  /* ccc_dtype of the source; 0: random */
SPEC(i32, ccc_DST);  /* BF16, F32 or E4M3 */
SPEC(i32, ccc_HALF); /* unpermute: head_size / 2 of the order that rows 2j, 2j+1 come from j, j+HALF; 0: rows stay in order */

enum { F32 = 1, F16 = 2, BF16 = 3, E4M3 = 4, E5M2 = 5, Q8_0 = 14, Q4_1 = 15, F64 = 16 }; /* as in ir/ir.h */
typedef const char GLOBAL *bytes_t;

INLINE float half_at(bytes_t p) { return f16_f32(*(const u16 GLOBAL *)p); }
INLINE float random_at(const load_args *a, u64 i)
{
    u64 z = a->seed ^ a->name_hash;
    z += 0x9E3779B97F4A7C15ull * (i + 1);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    float v = fma_((float)((i32)(z >> 40) - (1 << 23)), a->std, a->mean);
    return a->draw == BF16 ? bf16_f32(f32_bf16(v)) : a->draw == F16 ? f16_f32(f32_f16(v)) : v;
}
INLINE float q8_at(bytes_t row, i64 c)
{
    bytes_t b = row + c / 32 * 34;
    return half_at(b) * (float)*(const signed char GLOBAL *)(b + 2 + c % 32);
}
INLINE float q4_at(bytes_t row, i64 c)
{
    bytes_t b = row + c / 32 * 20;
    u32 pair = *(const u8 GLOBAL *)(b + 4 + c % 16), q = c % 32 < 16 ? pair & 15 : pair >> 4;
    return fma_((float)q, half_at(b), half_at(b + 2));
}
/* element c of row r of the piece */
INLINE float value_at(const load_args *a, i64 r, i64 c)
{
    bytes_t p = a->src;
    i64 i = r * a->cols + c;
    if (ccc_SRC == 0) return random_at(a, (u64)((a->row0 + r) * a->cols + c));
    if (ccc_SRC == F32) return ((const float GLOBAL *)p)[i];
    if (ccc_SRC == F64) return (float)((const double GLOBAL *)p)[i];
    if (ccc_SRC == F16) return f16_f32(((const u16 GLOBAL *)p)[i]);
    if (ccc_SRC == BF16) return bf16_f32(((const u16 GLOBAL *)p)[i]);
    if (ccc_SRC == E4M3) return f16_f32((u16)e4m3_f16(((const u8 GLOBAL *)p)[i]));
    if (ccc_SRC == E5M2) return f16_f32((u16)((u16)((const u8 GLOBAL *)p)[i] << 8));
    if (ccc_SRC == Q8_0) return q8_at(p + r * (a->cols / 32 * 34), c);
    return q4_at(p + r * (a->cols / 32 * 20), c);
}
INLINE i64 final_row(const load_args *a, i64 r)
{
    i64 s = a->row0 + r;
    if (!ccc_HALF) return a->dst_row0 + s;
    i64 head = s / (2 * ccc_HALF), w = s % (2 * ccc_HALF);
    return a->dst_row0 + head * (2 * ccc_HALF) + w % 2 * ccc_HALF + w / 2;
}
INLINE void put(const load_args *a, i64 at, float v)
{
    if (ccc_DST == F32) ((float GLOBAL *)a->dst)[at] = v;
    else if (ccc_DST == E4M3) ((u8 GLOBAL *)a->dst)[at] = (u8)e4m3_pack(v, 0.0f);
    else ((u16 GLOBAL *)a->dst)[at] = f32_bf16(v);
}

KERNEL ccc_kernel(load_args a)
{
    i64 per = (a.cols + 7) / 8, n = a.rows * per, step = (i64)ncta() * CCC_LOAD_THREADS;
    for (i64 i = (i64)cta() * CCC_LOAD_THREADS + tid(); i < n; i += step) {
        i64 r = i / per, c = i % per * 8, at = final_row(&a, r) * a.cols + c;
        if (a.cols % 8 == 0) {
            vf8 v;
            UNROLL for (i32 e = 0; e < 8; e++) v[e] = value_at(&a, r, c + e) * a.scale;
            if (ccc_DST == F32) {
                *(vf4 GLOBAL *)((float GLOBAL *)a.dst + at) = v.lo;
                *(vf4 GLOBAL *)((float GLOBAL *)a.dst + at + 4) = v.hi;
            } else if (ccc_DST == E4M3) *(vu2 GLOBAL *)((u8 GLOBAL *)a.dst + at) = f32x8_e4m3(v);
            else st16((u16 GLOBAL *)a.dst + at, f32x8_bf16(v));
        } else {
            for (i64 e = c; e < c + 8 && e < a.cols; e++) put(&a, at - c + e, value_at(&a, r, e) * a.scale);
        }
    }
}
