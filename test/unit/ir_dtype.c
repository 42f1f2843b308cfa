/* Rounding to and reading of each dtype: exact cases, ties, overflow, subnormals, NaN; every code of the
 * small ones, there and back. */
#include "../../ir/ir.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

typedef struct {
    ccc_dtype d;
    float in, want;
} rounding;

Test(ir_dtype, rounds_to_nearest_even)
{
    static const rounding cases[] = {
        {CCC_BF16, 1.00390625f, 1.0f},
        {CCC_BF16, 1.01171875f, 1.015625f},
        {CCC_BF16, 1.00390637f, 1.0078125f}, /* ties, just above */
        {CCC_BF16, 3.4e38f, INFINITY},
        {CCC_BF16, -0.0f, -0.0f},
        {CCC_BF16, 1e-40f, 0x1p-133f},
        {CCC_F16, 2049.0f, 2048.0f},
        {CCC_F16, 2051.0f, 2052.0f},
        {CCC_F16, 65504.0f, 65504.0f},
        {CCC_F16, 65519.0f, 65504.0f},
        {CCC_F16, 65520.0f, INFINITY},
        {CCC_F16, -INFINITY, -INFINITY},
        {CCC_F16, 0x1p-24f, 0x1p-24f},
        {CCC_F16, 0x1p-25f, 0.0f},
        {CCC_F16, 0x1.8p-25f, 0x1p-24f},
        {CCC_F16, 0x1.ff8p-15f, 0x1.ff8p-15f},
        {CCC_F16, 0x1.ffcp-15f, 0x1p-14f},
        {CCC_F16, 0x1.fffp-15f, 0x1p-14f},
        {CCC_E4M3, 448.0f, 448.0f},
        {CCC_E4M3, 464.0f, 448.0f},
        {CCC_E4M3, 1e9f, 448.0f},
        {CCC_E4M3, -INFINITY, -448.0f},
        {CCC_E4M3, 17.0f, 16.0f},
        {CCC_E4M3, 19.0f, 20.0f},
        {CCC_E4M3, 0x1p-9f, 0x1p-9f},
        {CCC_E4M3, 0x1p-10f, 0.0f},
        {CCC_E4M3, 0x1.8p-10f, 0x1p-9f},
        {CCC_E4M3, 0x1.dp-7f, 0x1.cp-7f},
        {CCC_E4M3, 0x1.fp-7f, 0x1p-6f},
        {CCC_E5M2, 57344.0f, 57344.0f},
        {CCC_E5M2, 61440.0f, 57344.0f},
        {CCC_E5M2, INFINITY, 57344.0f},
        {CCC_E5M2, 9.0f, 8.0f},
        {CCC_E5M2, 11.0f, 12.0f},
        {CCC_E5M2, 0x1p-16f, 0x1p-16f},
        {CCC_E5M2, 0x1p-17f, 0.0f},
        {CCC_E5M2, 0x1.000002p-17f, 0x1p-16f},
        {CCC_F32, 0.1f, 0.1f},
        {CCC_F64, 0.1f, 0.1f},
        {CCC_I8, 2.5f, 2.0f},
        {CCC_I8, 3.5f, 4.0f},
        {CCC_I8, 200.0f, 127.0f},
        {CCC_U8, -1.0f, 0.0f},
        {CCC_I32, -3e9f, -2147483648.0f},
        {CCC_I64, 1e30f, 9223372036854775807.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float got = ccc_round_to(cases[i].d, cases[i].in);
        cr_expect(memcmp(&got, &cases[i].want, sizeof got) == 0, "%s of %a: %a, not %a",
                  ccc_dtype_name(cases[i].d), (double)cases[i].in, (double)got, (double)cases[i].want);
    }
}

Test(ir_dtype, nan_stays_nan)
{
    static const ccc_dtype floats[] = {CCC_F32, CCC_F16, CCC_BF16, CCC_E4M3, CCC_E5M2, CCC_F64};
    uint32_t signalling = 0x7f800001;
    float v;
    memcpy(&v, &signalling, sizeof v);
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        cr_expect(isnan(ccc_round_to(floats[i], v)), "%s", ccc_dtype_name(floats[i]));
    cr_expect_eq(ccc_round_to(CCC_I32, NAN), 0);
}

/* Every code reads as a number that is stored as the same code, but NaN, and the infinities of e5m2, which
 * saturate. */
static void there_and_back(ccc_dtype d, unsigned n_codes)
{
    unsigned differ = 0;
    for (unsigned code = 0; code < n_codes; code++) {
        uint16_t in = (uint16_t)code, out = 0;
        float v = ccc_load_f32(d, &in, 0);
        if (isnan(v) || (d == CCC_E5M2 && isinf(v))) continue;
        ccc_store_f32(d, &out, 0, v);
        differ += in != out;
    }
    cr_expect_eq(differ, 0, "%s: %u codes come back changed", ccc_dtype_name(d), differ);
}

Test(ir_dtype, every_code_there_and_back)
{
    there_and_back(CCC_E4M3, 256);
    there_and_back(CCC_E5M2, 256);
    there_and_back(CCC_I8, 256);
    there_and_back(CCC_U8, 256);
    there_and_back(CCC_F16, 65536);
    there_and_back(CCC_BF16, 65536);
}

/* The stored code is the nearest: no other finite code is nearer, checked for values between neighbours. */
Test(ir_dtype, nothing_is_nearer)
{
    static const ccc_dtype small[] = {CCC_E4M3, CCC_E5M2};
    for (unsigned s = 0; s < 2; s++) {
        for (int step = -4000; step <= 4000; step++) {
            float v = ldexpf((float)step, -(abs(step) % 23)), r = ccc_round_to(small[s], v), best = INFINITY;
            for (unsigned code = 0; code < 256; code++) {
                uint8_t c = (uint8_t)code;
                float w = ccc_load_f32(small[s], &c, 0);
                if (isfinite(w) && fabsf(w - v) < best) best = fabsf(w - v);
            }
            cr_assert_eq(fabsf(r - v), best, "%s of %a", ccc_dtype_name(small[s]), (double)v);
        }
    }
}

Test(ir_dtype, packed_and_scales)
{
    const uint8_t bytes[] = {0x7f, 0x80, 0xff, 0x00};
    cr_expect_eq(ccc_load_f32(CCC_E8M0, bytes, 0), 1.0f);
    cr_expect_eq(ccc_load_f32(CCC_E8M0, bytes, 1), 2.0f);
    cr_expect(isnan(ccc_load_f32(CCC_E8M0, bytes, 2)));
    cr_expect_eq(ccc_load_f32(CCC_E8M0, bytes, 3), 0x1p-127f);
    const uint8_t nibbles[] = {0x8f, 0x21};
    cr_expect_eq(ccc_load_f32(CCC_I4, nibbles, 0), -1.0f);
    cr_expect_eq(ccc_load_f32(CCC_I4, nibbles, 1), -8.0f);
    cr_expect_eq(ccc_load_f32(CCC_U4, nibbles, 1), 8.0f);
    cr_expect_eq(ccc_load_f32(CCC_E2M1, nibbles, 0), -6.0f);
    cr_expect_eq(ccc_load_f32(CCC_E2M1, nibbles, 2), 0.5f);
    cr_expect_eq(ccc_load_f32(CCC_E2M1, nibbles, 3), 1.0f);
}

Test(ir_dtype, sizes_and_names)
{
    cr_expect_eq(ccc_dtype_bytes(CCC_Q8_0, 64), 68);
    cr_expect_eq(ccc_dtype_bytes(CCC_Q4_1, 576), 360);
    cr_expect_eq(ccc_dtype_bytes(CCC_I4, 6), 3);
    cr_expect_eq(ccc_dtype_bytes(CCC_F64, 3), 24);
    for (unsigned d = CCC_NONE + 1; d < CCC_N_DTYPES; d++)
        cr_expect_eq(ccc_dtype_find(ccc_dtype_name((ccc_dtype)d)), d);
    cr_expect_eq(ccc_dtype_find("none"), CCC_NONE);
    cr_expect_eq(ccc_dtype_find("f8"), CCC_NONE);
    cr_expect(!ccc_dtype_is_float(CCC_Q8_0));
    cr_expect(ccc_dtype_is_float(CCC_E5M2));
}
