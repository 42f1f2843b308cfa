/* Numbers as they are stored: names and sizes of dtypes, and the one conversion to and from f32 of each.
 * Small floats are rounded from the bits of the f32: the mantissa is shifted right with round to nearest,
 * ties to even; a carry out of the mantissa is the right exponent by construction. Block formats (q8_0, q4_1)
 * are only read. */
#include "internal.h"
#include <assert.h>
#include <math.h>
#include <string.h>

typedef struct {
    const char *name;
    uint8_t bytes, elems;
} dtype_row;
static const dtype_row rows[CCC_N_DTYPES] = {
#define X(e, text, bytes, elems) {text, bytes, elems},
    CCC_DTYPES(X)
#undef X
};

const char *ccc_dtype_name(ccc_dtype d)
{
    return (unsigned)d < CCC_N_DTYPES ? rows[d].name : "?";
}

ccc_dtype ccc_dtype_find(const char *name)
{
    for (unsigned d = CCC_NONE + 1; d < CCC_N_DTYPES; d++)
        if (strcmp(rows[d].name, name) == 0) return (ccc_dtype)d;
    return CCC_NONE;
}

bool ccc_dtype_is_float(ccc_dtype d)
{
    return d == CCC_F32 || d == CCC_F16 || d == CCC_BF16 || d == CCC_E4M3 || d == CCC_E5M2 || d == CCC_F64;
}

uint64_t ccc_dtype_bytes(ccc_dtype d, uint64_t n_elems)
{
    assert((unsigned)d < CCC_N_DTYPES);
    return n_elems / rows[d].elems * rows[d].bytes;
}

int ccc_dtype_block(ccc_dtype d)
{
    return rows[d].elems;
}

/* ---- small floats */

typedef struct {
    int exp_bits, man_bits;
    bool has_inf;
    uint32_t max, nan;
} minifloat; /* max: the largest finite number, nan: what NaN becomes */
static const minifloat f16_format = {5, 10, true, 0x7bff, 0x7e00};
static const minifloat e4m3_format = {4, 3, false, 0x7e, 0x7f};
static const minifloat e5m2_format = {5, 2, true, 0x7b, 0x7f};
static const minifloat e2m1_format = {2, 1, false, 0x7, 0x7};

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static float widen(minifloat f, uint32_t u)
{
    uint32_t man = u & ((1u << f.man_bits) - 1), exp = u >> f.man_bits & ((1u << f.exp_bits) - 1);
    uint32_t magnitude = u & ((1u << (f.exp_bits + f.man_bits)) - 1);
    float sign = u >> (f.exp_bits + f.man_bits) & 1 ? -1.0f : 1.0f;
    int bias = (1 << (f.exp_bits - 1)) - 1;
    if (magnitude > f.max) return f.has_inf && man == 0 ? sign * INFINITY : copysignf(NAN, sign);
    if (exp == 0) return sign * ldexpf((float)man, 1 - bias - f.man_bits);
    return sign * ldexpf((float)(man | 1u << f.man_bits), (int)exp - bias - f.man_bits);
}

static uint32_t shift_to_even(uint32_t v, int n)
{
    if (n <= 0) return v;
    if (n > 31) return 0;
    return (uint32_t)(((uint64_t)v + (1u << (n - 1)) - 1 + (v >> n & 1)) >> n);
}

static uint32_t narrow(minifloat f, float v, bool saturate)
{
    uint32_t u = bits_of(v), sign = u >> 31 << (f.exp_bits + f.man_bits);
    int bias = (1 << (f.exp_bits - 1)) - 1, exp = (int)(u >> 23 & 0xff) - 127 + bias;
    uint32_t man = u & 0x7fffff, r;
    if (isnan(v)) return f.nan;
    if (exp >= 1)
        r = exp > (1 << f.exp_bits) ? UINT32_MAX : shift_to_even((uint32_t)exp << 23 | man, 23 - f.man_bits);
    else
        r = (u >> 23 & 0xff) == 0
                ? 0
                : shift_to_even(man | 0x800000,
                                23 - f.man_bits + 1 - exp); /* f32 subnormals are below all of these */
    if (r > f.max) r = saturate ? f.max : f.max + 1;        /* f.max + 1 is infinity where there is one */
    return sign | r;
}

static uint16_t to_bf16(float v)
{
    uint32_t u = bits_of(v);
    if (isnan(v)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- loading and storing */

static uint16_t load_u16(const void *data, uint64_t i)
{
    uint16_t v;
    memcpy(&v, (const char *)data + 2 * i, sizeof v);
    return v;
}

static float load_q8_0(const unsigned char *data, uint64_t i)
{
    const unsigned char *block = data + i / 32 * 34;
    return widen(f16_format, load_u16(block, 0)) * (float)(int8_t)block[2 + i % 32];
}

static float load_q4_1(const unsigned char *data, uint64_t i)
{
    const unsigned char *block = data + i / 32 * 20;
    unsigned byte = block[4 + i % 16], q = i % 32 < 16 ? byte & 15 : byte >> 4;
    return widen(f16_format, load_u16(block, 0)) * (float)q + widen(f16_format, load_u16(block, 1));
}

static unsigned nibble(const unsigned char *data, uint64_t i)
{
    return i % 2 ? data[i / 2] >> 4 : data[i / 2] & 15;
}

float ccc_load_f32(ccc_dtype d, const void *data, uint64_t i)
{
    const unsigned char *bytes = data;
    switch (d) {
    case CCC_F32: {
        float v;
        memcpy(&v, bytes + 4 * i, sizeof v);
        return v;
    }
    case CCC_F64: {
        double v;
        memcpy(&v, bytes + 8 * i, sizeof v);
        return (float)v;
    }
    case CCC_I32: {
        int32_t v;
        memcpy(&v, bytes + 4 * i, sizeof v);
        return (float)v;
    }
    case CCC_I64: {
        int64_t v;
        memcpy(&v, bytes + 8 * i, sizeof v);
        return (float)v;
    }
    case CCC_F16:
        return widen(f16_format, load_u16(data, i));
    case CCC_BF16:
        return float_of((uint32_t)load_u16(data, i) << 16);
    case CCC_E4M3:
        return widen(e4m3_format, bytes[i]);
    case CCC_E5M2:
        return widen(e5m2_format, bytes[i]);
    case CCC_E8M0:
        return bytes[i] == 0xff ? NAN : ldexpf(1.0f, (int)bytes[i] - 127);
    case CCC_I8:
        return (float)(int8_t)bytes[i];
    case CCC_U8:
        return (float)bytes[i];
    case CCC_I4:
        return (float)((int)(nibble(bytes, i) ^ 8) - 8);
    case CCC_U4:
        return (float)nibble(bytes, i);
    case CCC_E2M1:
        return widen(e2m1_format, nibble(bytes, i));
    case CCC_Q8_0:
        return load_q8_0(bytes, i);
    case CCC_Q4_1:
        return load_q4_1(bytes, i);
    case CCC_NONE:
    case CCC_N_DTYPES:
        break;
    }
    assert(!"a dtype");
    return 0;
}

/* NaN becomes 0; what is too large becomes the nearest number that is not. */
static int64_t to_int(float v, double least, double most)
{
    double r = rint((double)v);
    return isnan(v) ? 0 : r < least ? (int64_t)least : r > most ? (int64_t)most : (int64_t)r;
}

void ccc_store_f32(ccc_dtype d, void *data, uint64_t i, float v)
{
    char *p = (char *)data + ccc_dtype_bytes(d, i);
    switch (d) {
    case CCC_F32:
        memcpy(p, &v, sizeof v);
        return;
    case CCC_F64: {
        double w = (double)v;
        memcpy(p, &w, sizeof w);
        return;
    }
    case CCC_F16: {
        uint16_t w = (uint16_t)narrow(f16_format, v, false);
        memcpy(p, &w, sizeof w);
        return;
    }
    case CCC_BF16: {
        uint16_t w = to_bf16(v);
        memcpy(p, &w, sizeof w);
        return;
    }
    case CCC_E4M3:
        *(uint8_t *)p = (uint8_t)narrow(e4m3_format, v, true);
        return;
    case CCC_E5M2:
        *(uint8_t *)p = (uint8_t)narrow(e5m2_format, v, true);
        return;
    case CCC_I8:
        *(int8_t *)p = (int8_t)to_int(v, -128, 127);
        return;
    case CCC_U8:
        *(uint8_t *)p = (uint8_t)to_int(v, 0, 255);
        return;
    case CCC_I32: {
        int32_t w = (int32_t)to_int(v, INT32_MIN, INT32_MAX);
        memcpy(p, &w, sizeof w);
        return;
    }
    case CCC_I64: {
        int64_t w = to_int(v, -0x1p63, 0x1.fffffffffffffp62);
        memcpy(p, &w, sizeof w);
        return;
    }
    default:
        assert(!"a dtype that can be stored: floats, and integers of a byte or more");
    }
}

float ccc_round_to(ccc_dtype d, float v)
{
    if (d == CCC_F32 || d == CCC_F64) return v;
    uint64_t room = 0;
    ccc_store_f32(d, &room, 0, v);
    return ccc_load_f32(d, &room, 0);
}
