/* load, rope_table, advance and read, and the scalar functions of hooks.h. */
#include <criterion/criterion.h>
#include "host_kernels.h"

enum { F32 = 1, F16 = 2, BF16 = 3, Q8_0 = 14, Q4_1 = 15 }; /* ccc_dtype */
static double half_value(unsigned h)
{
    int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
    double v = e == 0 ? ldexp(m, -24) : e == 31 ? (m ? NAN : INFINITY) : ldexp(1024 + m, e - 25);
    return h & 0x8000 ? -v : v;
}
static unsigned get16(const u8 *p) { return p[0] | (unsigned)p[1] << 8; }
static float source_value(int src, const u8 *row, int c)
{
    float f;
    const u8 *g;
    switch (src) {
    case F32:
        memcpy(&f, row + 4 * c, 4);
        return f;
    case F16:
        return (float)half_value(get16(row + 2 * c));
    case BF16:
        return hk_bf16_f32((u16)get16(row + 2 * c));
    case Q8_0:
        g = row + c / 32 * 34;
        return (float)half_value(get16(g)) * (float)(signed char)g[2 + c % 32];
    default:
        g = row + c / 32 * 20;
        return (float)half_value(get16(g)) *
                   (float)(c % 32 < 16 ? g[4 + c % 32] & 15 : g[4 + c % 32 - 16] >> 4) +
               (float)half_value(get16(g + 2));
    }
}
static float drawn(u64 seed, u64 name, u64 i, float std, float mean)
{
    u64 z = seed ^ name;
    z += 0x9E3779B97F4A7C15u * (i + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return fmaf((float)((i32)(z >> 40) - 8388608), std, mean);
}
static int same_f32(float x, float y) { return x == y || (isnan(x) && isnan(y)); }

static void load_case(int src, int dst, int cols, int half, int offset)
{
    static const int row_B[] = {[0] = 0, [F32] = 4, [F16] = 2, [BF16] = 2};
    int rows = half ? half * 4 : 5, pieces = 2, each = half ? half * 2 : 3;
    size_t bytes = src == Q8_0   ? (size_t)cols / 32 * 34
                   : src == Q4_1 ? (size_t)cols / 32 * 20
                                 : (size_t)(row_B[src] * cols);
    u8 *data = (u8 *)hk_alloc(bytes * (size_t)rows +
                              (size_t)offset); /* offset 1: nothing is aligned, as in a file */
    for (size_t i = 0; i < bytes * (size_t)rows; i++) data[i] = (u8)hk_random();
    if (src == Q8_0 || src == Q4_1)
        for (size_t i = 1; i < bytes * (size_t)rows; i += 2)
            if (i % (src == Q8_0 ? 34 : 20) < 4) data[i] = (u8)(data[i] & 0xbb); /* finite scales */
    void *out = hk_alloc((size_t)((rows + 1) * cols) * (dst == F32 ? 4 : 2));
    hk_spec = (hk_spec_t){.SRC = src, .DST = dst, .HALF = half};
    for (int p = 0; p < pieces; p++) {
        int row0 = p * each, n = rows - row0 < each || p + 1 == pieces ? rows - row0 : each;
        load_args a = {.dst = out,
                       .src = data + (size_t)row0 * bytes,
                       .seed = 42,
                       .name_hash = 0x123456789abcdefu,
                       .row0 = row0,
                       .rows = n,
                       .cols = cols,
                       .dst_row0 = 1,
                       .mean = 1.0f,
                       .std = 3e-9f,
                       .scale = 1.0f};
        HK_RUN(load, &a, 3, 1, 0);
    }
    for (int r = 0; r < rows; r++) {
        int to = half ? r / (2 * half) * (2 * half) + r % 2 * half + r % (2 * half) / 2 : r;
        for (int c = 0; c < cols; c++) {
            float want = src ? source_value(src, data + (size_t)r * bytes, c)
                             : drawn(42, 0x123456789abcdefu, (u64)(to * cols + c), 3e-9f, 1.0f);
            size_t at = (size_t)((to + 1) * cols + c);
            if (dst == F32)
                cr_assert(same_f32(((float *)out)[at], want), "src %d: [%d][%d] = %a, not %a", src, r, c,
                          ((float *)out)[at], want);
            else
                cr_assert(same_f32(hk_bf16_f32(((u16 *)out)[at]), hk_bf16_f32(hk_f32_bf16(want))),
                          "src %d bf16: [%d][%d]", src, r, c);
        }
    }
    hk_free_all();
}
Test(host_load, every_source_and_target)
{
    hk_seed(20);
    static const int src[] = {0, F32, F16, BF16, Q8_0, Q4_1};
    for (size_t s = 0; s < sizeof src / sizeof *src; s++)
        for (int dst = F32; dst <= BF16; dst += 2)
            for (int half = 0; half <= 4; half += 4) {
                load_case(src[s], dst, 64, half, 0);
                load_case(src[s], dst, 2080, half, src[s] ? 1 : 0);
                if (src[s] < Q8_0) load_case(src[s], dst, 1, half, 0), load_case(src[s], dst, 13, half, 0);
            }
}

Test(host_rope_table, within_one_ulp)
{
    enum { ROWS = 131072, HALF = 4 };
    float inv_freq[HALF] = {1.0f, 0.31622776f, 0.0001f, 3.0f}, *dst = hk_alloc((size_t)ROWS * 2 * HALF * 4);
    rope_table_args a = {.dst = dst, .inv_freq = inv_freq, .rows = ROWS, .half = HALF, .scale = 1.0f};
    HK_RUN(rope_table, &a, 5, 1, 0);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < HALF; i++) {
            float angle = (float)r * inv_freq[i], c = (float)cos((double)angle),
                  s = (float)sin((double)angle), *row = dst + (size_t)r * 2 * HALF;
            cr_assert(row[i] == c || row[i] == nextafterf(c, 2) || row[i] == nextafterf(c, -2),
                      "cos of %a: %a, not %a", angle, row[i], c);
            cr_assert(row[HALF + i] == s || row[HALF + i] == nextafterf(s, 2) ||
                          row[HALF + i] == nextafterf(s, -2),
                      "sin of %a: %a, not %a", angle, row[HALF + i], s);
        }
    cr_assert(dst[0] == 1.0f && dst[HALF] == 0.0f);
    hk_free_all();
}

Test(host_advance, slots_and_padding)
{
    enum { S = 5 };
    i64 positions[S] = {0, 15, 31, 9, 40}, slots[S] = {-9, -9, -9, -9, -9};
    i32 lens[S] = {1, 16, 32, 0, 41}, table[S][2] = {{3, 4}, {5, 6}, {7, 8}, {1, 2}, {0, 0}};
    advance_args a = {.positions = positions,
                      .seq_lens = lens,
                      .slots = slots,
                      .table = table[0],
                      .S = S,
                      .max_blocks = 2,
                      .block_size = 16,
                      .kv_blocks = 7};
    HK_RUN(advance, &a, 2, 1, 0);
    static const i64 want_position[S] = {1, 16, 32, 9, 41}, want_slot[S] = {49, 96, -1, -9, -1};
    static const i32 want_len[S] = {2, 17, 33, 0, 42};
    for (int s = 0; s < S; s++)
        cr_assert(positions[s] == want_position[s] && slots[s] == want_slot[s] && lens[s] == want_len[s],
                  "sequence %d", s);
    table[0][0] = 7; /* not in the cache */
    HK_RUN(advance, &a, 1, 1, 0);
    cr_assert(slots[0] == -1);
}

Test(host_read, sums_whole_lines)
{
    hk_seed(21);
    u32 *data = hk_alloc(1000 * 4), sum = 5, out = 5;
    for (int i = 0; i < 1000; i++) {
        data[i] = hk_random();
        if (i < 992) sum += data[i];
    }
    read_args a = {.out = &out, .src = data, .bytes = 4000};
    HK_RUN(read, &a, 7, 1, 0);
    cr_assert(out == sum);
    hk_free_all();
}

static double ulps(float got, double want)
{
    if (isnan(want)) return isnan(got) ? 0 : 1e9;
    float near = (float)want;
    if (isinf(near) || isinf(got)) return got == near ? 0 : 1e9;
    double step = ldexp(1.0, (near == 0 ? -126 : ilogbf(near) < -126 ? -126 : ilogbf(near)) - 23);
    return fabs(got - want) / step;
}
Test(host_elt, functions_are_within_two_ulps)
{
    hk_seed(22);
    for (int i = 0; i < 2000000; i++) {
        float x = i < 8   ? (float[]){0, -0.0f, NAN, INFINITY, -INFINITY, 1e-40f, -1e-40f, 88.7f}[i]
                  : i & 1 ? hk_uniform() * 110
                          : ldexpf(hk_uniform(), -(int)(hk_random() % 30));
        float e = hk_elt_value(HK_exp, x, 0), e8 = hk_elt_value(HK_EXP8, x, 0);
        cr_assert(ulps(e, exp((double)x)) <= 1.5, "exp(%a) = %a", x, e);
        cr_assert(same_f32(e, e8), "exp(%a): %a alone, %a in a vector", x, e, e8);
        cr_assert(ulps(hk_elt_value(HK_tanh, x, 0), tanh((double)x)) <= 2.5, "tanh(%a) = %a", x,
                  hk_elt_value(HK_tanh, x, 0));
        if (!isinf(x))
            cr_assert(fabs(x) > 80 ||
                          ulps(hk_elt_value(HK_silu, x, 0), (double)x / (1 + exp(-(double)x))) <= 4,
                      "silu(%a)", x);
    }
    cr_assert(hk_elt_value(HK_exp, 0, 0) == 1.0f && hk_elt_value(HK_maximum, 2, 3) == 3 &&
              hk_elt_value(HK_sub, 2, 3) == -1 && hk_elt_value(HK_rsqrt, 4, 0) == 0.5f);
}

/* every value of a small format, by its definition */
static double small_value(unsigned v, int man, int bias)
{
    unsigned e = v >> man & ((1u << (7 - man)) - 1), m = v & ((1u << man) - 1);
    return e ? ldexp((double)(m + (1u << man)), (int)e - bias - man) : ldexp((double)m, 1 - bias - man);
}
static double nearest_small(double a, int man, int bias, unsigned top)
{
    if (a > small_value(top, man, bias)) return small_value(top, man, bias);
    unsigned best = 0;
    for (unsigned v = 0; v <= top; v++) {
        double d = fabs(small_value(v, man, bias) - a), least = fabs(small_value(best, man, bias) - a);
        if (d < least || (d == least && !(v & 1))) best = v;
    }
    return small_value(best, man, bias);
}
Test(host_elt, casts_round_to_nearest_even)
{
    hk_seed(23);
    for (int i = 0; i < 40000; i++) {
        u32 u = hk_random();
        float x;
        if (i & 1) u = (u & 0x80ffffffu) | ((u >> 24 & 31) + 105) << 23;
        memcpy(&x, &u, 4);
        if (i & 2)
            x = (float)copysign(nearest_small(fabs(x), 2, 15, 0x7b) * (1 + (i % 7) / 16.0), x); /* ties */
        cr_assert(same_f32(hk_elt_value(HK_CAST_BF16, x, 0), hk_bf16_f32(hk_f32_bf16(x))), "bf16 of %a", x);
        if (isnan(x)) {
            cr_assert(isnan(hk_elt_value(HK_CAST_E4M3, x, 0)) && isnan(hk_elt_value(HK_CAST_E5M2, x, 0)) &&
                      isnan(hk_elt_value(HK_CAST_F16, x, 0)));
            continue;
        }
        float a = hk_elt_value(HK_CAST_E4M3, x, 0), b = hk_elt_value(HK_CAST_E5M2, x, 0),
              h = hk_elt_value(HK_CAST_F16, x, 0);
        cr_assert(fabs(a) == nearest_small(fabs(x), 3, 7, 0x7e) && signbit(a) == signbit(x), "e4m3 of %a: %a",
                  x, a);
        cr_assert(fabs(b) == nearest_small(fabs(x), 2, 15, 0x7b) && signbit(b) == signbit(x),
                  "e5m2 of %a: %a", x, b);
        if (fabs(x) < 60000 && fabs(x) > 7e-5)
            cr_assert(fabs(h - x) <= ldexp(1, ilogbf(x) - 11) &&
                          (double)h == rint(ldexp(h, 10 - ilogbf(x))) / ldexp(1, 10 - ilogbf(x)),
                      "f16 of %a: %a", x, h);
    }
    cr_assert(hk_elt_value(HK_CAST_E4M3, INFINITY, 0) == 448 &&
              hk_elt_value(HK_CAST_E5M2, -INFINITY, 0) == -57344 &&
              isinf(hk_elt_value(HK_CAST_F16, 70000, 0)));
}
