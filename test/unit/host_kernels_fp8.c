/* e4m3 in the host kernels: every code as it is read, rounding as it is stored, and products of both. */
#include <criterion/criterion.h>
#include "host_kernels.h"

enum { F32 = 1, E4M3 = 4 }; /* ccc_dtype */

static double value_of(int code)
{
    int e = code >> 3 & 15, m = code & 7;
    double v = (code & 127) == 127 ? NAN : e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
    return code & 128 ? -v : v;
}
/* nearest, ties to even, saturating: by looking at all codes */
static int code_of(float v)
{
    if (isnan(v)) return 127;
    double a = fabs((double)v);
    int best = 0;
    for (int c = 1; c < 127; c++) {
        double here = fabs(value_of(c) - a), before = fabs(value_of(best) - a);
        if (here < before || (here == before && c % 2 == 0)) best = c;
    }
    if (a > 448) best = 126;
    return signbit(v) ? best | 128 : best;
}

Test(host_fp8, every_code_is_read)
{
    u8 *w = hk_alloc(256), *x = hk_alloc(1);
    float *y = hk_alloc(256 * 4);
    for (int i = 0; i < 256; i++) w[i] = (u8)i;
    *x = 0x38; /* 1 */
    hk_spec = (hk_spec_t){.OUT_F32 = 1};
    matvec_args a = {.y = y,
                     .w = (u16 *)(void *)w,
                     .x = (u16 *)(void *)x,
                     .T = 1,
                     .N = 256,
                     .K = 1,
                     .x_ld = 1,
                     .y_ld = 256};
    HK_RUN(matmul_fp8, &a, 3, 1, (size_t)ccc_host_matmul_scratch_B(0, 1));
    for (int i = 0; i < 256; i++)
        cr_assert(isnan(value_of(i)) ? isnan(y[i]) : y[i] == value_of(i), "0x%02x is %g, not %g", i, y[i],
                  value_of(i));
    hk_free_all();
}

static void store_case(const float *v, int n, float scale)
{
    float *src = hk_alloc((size_t)n * 4);
    u8 *dst = hk_alloc((size_t)n);
    memcpy(src, v, (size_t)n * 4);
    hk_spec = (hk_spec_t){.SRC = F32, .DST = E4M3};
    load_args a = {.dst = dst, .src = src, .rows = 1, .cols = n, .scale = scale};
    HK_RUN(load, &a, 2, 1, 0);
    for (int i = 0; i < n; i++)
        cr_assert(dst[i] == code_of(v[i] * scale), "%a * %a is 0x%02x, not 0x%02x", v[i], scale, dst[i],
                  code_of(v[i] * scale));
    hk_free_all();
}
Test(host_fp8, stores_round_to_nearest_even)
{
    static float v[3 * 256 + 7]; /* eight at a time, then one by one */
    int n = 0;
    for (int c = 0; c < 126; c++) { /* codes, ties between two, and what lies beside a tie */
        float low = (float)value_of(c), tie = (low + (float)value_of(c + 1)) / 2;
        v[n++] = c % 2 ? low : -low;
        v[n++] = tie;
        v[n++] = nextafterf(tie, 1000);
        v[n++] = nextafterf(-tie, 0);
    }
    v[n++] = NAN, v[n++] = INFINITY, v[n++] = -INFINITY, v[n++] = 463.9f, v[n++] = 480.0f, v[n++] = -1e30f,
    v[n++] = 1e-40f, v[n++] = -0.0f, v[n++] = 0x1p-10f;
    store_case(v, n, 1.0f);
    store_case(v, n, 0.37f);
    hk_seed(5);
    for (n = 0; n < (int)(sizeof v / sizeof *v); n++) v[n] = hk_uniform();
    store_case(v, n, 448.0f);
    store_case(v, n, 0.01f);
}

typedef struct {
    int T, N, K, pair;
    const u8 *x, *w;
    int x_ld;
} problem;
static u8 *codes(size_t n)
{
    u8 *p = hk_alloc(n);
    for (size_t i = 0; i < n; i++) p[i] = (u8)code_of(hk_uniform() * 2);
    return p;
}
static void *run(const problem *p, int out, unsigned gx, unsigned gy)
{
    void *y = hk_alloc((size_t)p->T * (size_t)p->N * (out == 1 ? 4 : out == 2 ? 1 : 2));
    matvec_args a = {.y = y,
                     .w = (const u16 *)(const void *)p->w,
                     .x = (const u16 *)(const void *)p->x,
                     .T = p->T,
                     .N = p->N,
                     .K = p->K,
                     .x_ld = p->x_ld,
                     .y_ld = p->N};
    hk_spec = (hk_spec_t){.OUT_F32 = out};
    if (p->pair) HK_RUN(matmul_pair_fp8, &a, gx, gy, (size_t)ccc_host_matmul_scratch_B(0, p->K));
    else HK_RUN(matmul_fp8, &a, gx, gy, (size_t)ccc_host_matmul_scratch_B(0, p->K));
    return y;
}
Test(host_fp8, products_over_odd_shapes)
{
    static const int shapes[][3] = {{1, 1, 1},    {1, 13, 33},   {2, 9, 24},   {5, 96, 576},
                                    {7, 97, 100}, {49, 104, 32}, {3, 8, 3000}, {130, 16, 48}};
    hk_seed(6);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int pair = 0; pair < 2; pair++) {
            problem p = {.T = shapes[i][0],
                         .N = shapes[i][1],
                         .K = shapes[i][2],
                         .pair = pair,
                         .x_ld = shapes[i][2] + 16};
            p.x = codes((size_t)((p.T - 1) * p.x_ld + p.K));
            p.w = codes((size_t)p.N * (size_t)(pair + 1) * (size_t)p.K);
            const float *y = run(&p, 1, 3, 2), *again = run(&p, 1, 1, 1);
            const u8 *small = run(&p, 2, 2, 1);
            cr_assert(!memcmp(y, again, (size_t)p.T * (size_t)p.N * 4), "the grid changes bits");
            for (int t = 0; t < p.T; t++)
                for (int n = 0; n < p.N; n++) {
                    double s[2] = {0, 0}, size[2] = {0, 0};
                    for (int h = 0; h <= pair; h++)
                        for (int k = 0; k < p.K; k++) {
                            double v = value_of(p.x[t * p.x_ld + k]) * value_of(p.w[(n + h * p.N) * p.K + k]);
                            s[h] += v, size[h] += fabs(v);
                        }
                    double want = pair ? s[0] / (1 + exp(-s[0])) * s[1] : s[0];
                    double bound =
                        pair ? 2e-6 * (size[0] * fabs(s[1]) + fabs(s[0]) * size[1]) + 1e-6 : 1e-6 * size[0];
                    float got = y[t * p.N + n];
                    cr_assert(fabs(got - want) <= bound, "T %d N %d K %d pair %d: y[%d][%d] = %g, not %g",
                              p.T, p.N, p.K, pair, t, n, got, want);
                    cr_assert(small[t * p.N + n] == code_of(got), "e4m3 result");
                }
            hk_free_all();
        }
}
