/* Load programs: rows of a source tensor become rows of a final weight: widened, dequantised or drawn at
 * random, scaled, rounded once to the final type, and put where `unpermute` wants them. A unit of work is a piece of
 * a row, PIECE columns wide. */
#include "h.h"

SPEC(i32, ccc_SRC);  /* ccc_dtype of the source, 0: random numbers */
SPEC(i32, ccc_DST);  /* BF16, F32 or E4M3 */
SPEC(i32, ccc_HALF); /* head_size / 2 of unpermute, 0: rows stay in order */

enum { RANDOM = 0, F32 = 1, F16 = 2, BF16 = 3, E4M3 = 4, Q8_0 = 14, Q4_1 = 15 }; /* as in ir/ir.h */
enum { GROUP = 32, Q8_0_B = 34, Q4_1_B = 20, PIECE = 2048 };

INLINE float f16_at(const u8 *p) { return (float)__builtin_bit_cast(_Float16, (u16)(p[0] | p[1] << 8)); }
INLINE VF bytes8(const u8 *p, i32 is_signed, i32 shift, i32 mask)
{
    typedef signed char VS __attribute__((ext_vector_type(8)));
    VB b = *(const VB_any *)p;
    VI v = is_signed ? __builtin_convertvector((VS)b, VI) : __builtin_convertvector(b, VI);
    if (!is_signed) v = (v >> shift) & mask;
    return __builtin_convertvector(v, VF);
}

/* Element i of source row `row`, in the row-major order of the whole tensor, is drawn from its number alone:
 * the same everywhere. */
INLINE float draw(const load_args *a, u64 i)
{
    u64 z = a->seed ^ a->name_hash;
    z += 0x9E3779B97F4A7C15ull * (i + 1);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    float v = fma1((float)((i32)(z >> 40) - (1 << 23)), a->std, a->mean);
    return a->draw == BF16 ? bf16_f32(f32_bf16(v)) : a->draw == F16 ? (float)(_Float16)v : v;
}

/* 8 columns of a plain source; col a multiple of 8 */
INLINE VF source8(const load_args *a, const u8 *row, u64 index, i64 col)
{
    VF v;
    if (ccc_SRC == F32) return ld8f((const float *)(const void *)row + col);
    if (ccc_SRC == BF16) return ld8b((const u16 *)(const void *)row + col);
    if (ccc_SRC == F16) {
        typedef _Float16 V16 __attribute__((ext_vector_type(8)));
        return __builtin_convertvector((V16)(*(const VH_any *)(const void *)(row + col * 2)), VF);
    }
    const u8 *p = row + col / GROUP * (ccc_SRC == Q8_0 ? Q8_0_B : Q4_1_B);
    i32 at = (i32)(col % GROUP);
    if (ccc_SRC == Q8_0) return bytes8(p + 2 + at, 1, 0, 0) * f16_at(p);
    if (ccc_SRC == Q4_1) return bytes8(p + 4 + at % 16, 0, at < 16 ? 0 : 4, 15) * f16_at(p) + f16_at(p + 2);
    UNROLL for (i32 l = 0; l < 8; l++) v[l] = draw(a, index + (u64)(col + l));
    return v;
}
INLINE float source1(const load_args *a, const u8 *row, u64 index, i64 col)
{
    u16 h;
    float f;
    __builtin_memcpy(&h, row + col * 2, ccc_SRC == BF16 ? 2 : 0);
    __builtin_memcpy(&f, row + col * 4, ccc_SRC == F32 ? 4 : 0);
    if (ccc_SRC == F32) return f;
    if (ccc_SRC == BF16) return bf16_f32(h);
    if (ccc_SRC == F16) return f16_at(row + col * 2);
    return draw(a, index + (u64)col); /* block formats have whole groups alone */
}
INLINE i64 row_bytes(i64 cols)
{
    if (ccc_SRC == Q8_0) return cols / GROUP * Q8_0_B;
    if (ccc_SRC == Q4_1) return cols / GROUP * Q4_1_B;
    return ccc_SRC == RANDOM ? 0 : ccc_SRC == F32 ? cols * 4 : cols * 2;
}
INLINE i64 permuted(i64 r)
{
    if (!ccc_HALF) return r;
    i64 in_head = r % (2 * ccc_HALF);
    return r - in_head + (in_head & 1) * ccc_HALF + in_head / 2;
}

INLINE void piece(const load_args *a, i64 r, i64 col, i64 end)
{
    i64 to = permuted(a->row0 + r), out = (a->dst_row0 + to) * a->cols;
    const u8 *row = (const u8 *)a->src + r * row_bytes(a->cols);
    u64 index = (u64)(to * a->cols);
    for (; col + 8 <= end; col += 8) {
        VF v = source8(a, row, index, col) * a->scale;
        if (ccc_DST == F32) st8f((float *)a->dst + out + col, v);
        else if (ccc_DST == E4M3) st8e((u8 *)a->dst + out + col, v);
        else st8b((u16 *)a->dst + out + col, v);
    }
    if (ccc_SRC == Q8_0 || ccc_SRC == Q4_1) return;
    ROLLED for (; col < end; col++) {
        float v = source1(a, row, index, col) * a->scale;
        if (ccc_DST == F32) ((float *)a->dst)[out + col] = v;
        else if (ccc_DST == E4M3) ((u8 *)a->dst)[out + col] = f32_e4m3(v);
        else ((u16 *)a->dst)[out + col] = f32_bf16(v);
    }
}

ENTRY ccc_kernel(const load_args *a, const host_ctx *c)
{
    i64 per_row = (a->cols + PIECE - 1) / PIECE, units = a->rows * per_row,
        end = share(units, c->block[0] + 1, c->grid[0]);
    for (i64 u = share(units, c->block[0], c->grid[0]); u < end; u++) {
        i64 col = u % per_row * PIECE;
        piece(a, u / per_row, col, lmin(a->cols, col + PIECE));
    }
}
