/* matmul and matmul_pair against f64 over odd shapes; the same bits whatever T, grid and regime. */
#include <criterion/criterion.h>
#include "host_kernels.h"

typedef struct {
    int T, N, K, pair, hooks, out_f32;
    const u16 *x, *w;
    const float *aux;
    int x_ld;
} problem;

static problem make(int T, int N, int K, int pair)
{
    problem p = {.T = T, .N = N, .K = K, .pair = pair, .out_f32 = 1, .x_ld = K + 8};
    p.x = hk_random_bf16((size_t)(T > 0 ? (T - 1) * p.x_ld + K : 0), 1.0f);
    p.w = hk_random_bf16((size_t)N * (size_t)(pair ? 2 : 1) * (size_t)K, 1.0f);
    float *aux = hk_alloc((size_t)T * (size_t)N * 4);
    for (int i = 0; i < T * N; i++) aux[i] = hk_uniform();
    p.aux = aux;
    return p;
}
static double dot(const problem *p, int t, int n, double *size)
{
    double s = 0;
    for (int k = 0; k < p->K; k++) {
        double v = (double)hk_bf16_f32(p->x[(size_t)t * (size_t)p->x_ld + (size_t)k]) *
                   hk_bf16_f32(p->w[(size_t)n * (size_t)p->K + (size_t)k]);
        s += v;
        *size += fabs(v);
    }
    return s;
}
static void *run(const problem *p, int tok, unsigned gx, unsigned gy)
{
    size_t elem = p->out_f32 ? 4 : 2;
    void *y = hk_alloc((size_t)p->T * (size_t)p->N * elem);
    matvec_args a = {.y = y,
                     .w = p->w,
                     .x = p->x,
                     .T = p->T,
                     .N = p->N,
                     .K = p->K,
                     .x_ld = p->x_ld,
                     .y_ld = p->N,
                     .aux.p = {(void *)(uintptr_t)p->aux}};
    hk_spec = (hk_spec_t){.OUT_F32 = p->out_f32, .TOK = tok, .hooks = p->hooks ? p->N : 0};
    size_t scratch = (size_t)ccc_host_matmul_scratch_B(tok, p->K);
    if (p->pair) HK_RUN(matmul_pair, &a, gx, gy, scratch);
    else HK_RUN(matmul, &a, gx, gy, scratch);
    return y;
}
static void check(const problem *p, const float *y, const char *what)
{
    for (int t = 0; t < p->T; t++)
        for (int n = 0; n < p->N; n++) {
            double size = 0, want = dot(p, t, n, &size), bound = 1e-6 * size + 1e-30;
            if (p->pair) {
                double size2 = 0, up = dot(p, t, n + p->N, &size2);
                bound = 1e-6 * (size * fabs(up) + fabs(want) * size2) * 2 + 1e-6;
                want = want / (1 + exp(-want)) * up;
            } else if (p->hooks) {
                bound += fabs(want) / 128;
                want += p->aux[t * p->N + n];
            }
            double got = y[t * p->N + n];
            cr_assert(fabs(got - want) <= bound, "%s T %d N %d K %d: y[%d][%d] = %g, not %g (bound %g)", what,
                      p->T, p->N, p->K, t, n, got, want, bound);
        }
}

static const int shapes[][3] = {{1, 1, 1},     {1, 8, 16},      {1, 13, 33},  {1, 64, 576},  {1, 100, 1040},
                                {1, 24, 2056}, {2, 9, 24},      {3, 40, 64},  {4, 7, 15},    {5, 96, 576},
                                {7, 97, 100},  {33, 200, 1025}, {48, 24, 64}, {49, 104, 32}, {100, 33, 72},
                                {257, 16, 40}, {3, 8, 3000}};

Test(host_matmul, right_over_odd_shapes)
{
    hk_seed(1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int pair = 0; pair < 2; pair++) {
            problem p = make(shapes[i][0], shapes[i][1], shapes[i][2], pair);
            check(&p, run(&p, 0, 3, 2), "tiles");
            if (ccc_host_matmul_tok(1, p.K)) check(&p, run(&p, 1, 3, 1), "stream");
            p.hooks = !pair;
            check(&p, run(&p, 0, 1, 1), "tiles with hook");
            hk_free_all();
        }
}
Test(host_matmul, bits_do_not_depend_on_grid_or_T)
{
    hk_seed(2);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem p = make(shapes[i][0], shapes[i][1], shapes[i][2], i & 1);
        size_t row_B = (size_t)p.N * 4;
        float *all = run(&p, 0, 1, 1);
        cr_assert(!memcmp(all, run(&p, 0, 7, 3), row_B * (size_t)p.T), "grid changes bits");
        if (p.K % 16 == 0)
            cr_assert(!memcmp(all, run(&p, 1, 5, 1), row_B * (size_t)p.T), "streaming changes bits");
        problem one = p;
        one.T = 1;
        one.x += (size_t)(p.T - 1) * (size_t)p.x_ld;
        cr_assert(!memcmp(all + (size_t)(p.T - 1) * (size_t)p.N, run(&one, p.K % 16 == 0, 2, 1), row_B),
                  "the last token alone has other bits");
        hk_free_all();
    }
}
Test(host_matmul, bf16_results_are_the_f32_ones_rounded)
{
    hk_seed(3);
    problem p = make(5, 21, 80, 0);
    const float *y = run(&p, 0, 1, 1);
    p.out_f32 = 0;
    const u16 *h = run(&p, 0, 1, 1), *s = run(&p, 1, 1, 1);
    for (int i = 0; i < p.T * p.N; i++) {
        cr_assert(h[i] == hk_f32_bf16(y[i]));
        cr_assert(s[i] == h[i]);
    }
    hk_free_all();
}
Test(host_matmul, no_tokens_no_access)
{
    problem p = {.N = 8, .K = 16, .out_f32 = 1, .x_ld = 16, .w = hk_random_bf16(128, 1)};
    run(&p, 0, 2, 1);
    run(&p, 1, 2, 1);
    hk_free_all();
}
