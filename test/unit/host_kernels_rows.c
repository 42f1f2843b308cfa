/* rows, elt, gather and argmax. A norm's sum of squares has its written order: compared bit for bit with the
 * order spelt out. */
#include <criterion/criterion.h>
#include "host_kernels.h"

/* what abi.h and the definition of row sums say, in their words */
static float lanes_sum_squares(const float *v, int n)
{
    static float lane[512];
    memset(lane, 0, sizeof lane);
    for (int k = 0; k < n; k++) lane[k / 8 % 512] = fmaf(v[k], v[k], lane[k / 8 % 512]);
    for (int d = 256; d >= 1; d /= 2)
        for (int i = 0; i < d; i++) lane[i] += lane[i + d];
    return lane[0];
}

static const int cols_list[] = {1, 7, 8, 9, 64, 576, 577, 2048, 4096, 4100, 9001};

Test(host_rows, norm_is_bit_exact)
{
    hk_seed(5);
    for (size_t s = 0; s < sizeof cols_list / sizeof *cols_list; s++)
        for (int hooks = 0; hooks < 2; hooks++) {
            int n = cols_list[s], rows = 3;
            size_t all = (size_t)(rows * n);
            u16 *x = hk_random_bf16(all, 3), *res = hk_random_bf16(all, 3), *kept = hk_alloc(all * 2);
            for (size_t i = 0; i < all; i++) /* of many sizes: squares of bf16 of one size add up exactly */
                x[i] = hk_f32_bf16(ldexpf(hk_uniform(), (int)(hk_random() % 14)));
            float *weight = hk_alloc((size_t)n * 4), *out = hk_alloc(all * 4), *v = hk_alloc((size_t)n * 4);
            for (int k = 0; k < n; k++) weight[k] = hk_uniform();
            rows_args a = {.out = out,
                           .x = x,
                           .rows = rows,
                           .cols = n,
                           .x_ld = n,
                           .out_ld = n,
                           .eps = 1e-5f,
                           .aux.p = {res, kept, weight}};
            hk_spec = (hk_spec_t){.OUT_F32 = 1, .hooks = hooks ? n : 0};
            HK_RUN(rows, &a, 2, 1, (size_t)ccc_host_rows_scratch_B(n));
            for (int r = 0; r < rows; r++) {
                for (int k = 0; k < n; k++) {
                    int i = r * n + k;
                    v[k] = hk_bf16_f32(x[i]);
                    if (!hooks) continue;
                    v[k] = hk_bf16_f32(hk_f32_bf16(v[k] + hk_bf16_f32(res[i])));
                    cr_assert(hk_bf16_f32(kept[i]) == v[k], "cols %d: stored %d", n, k);
                }
                float scale = 1.0f / sqrtf(lanes_sum_squares(v, n) / (float)n + 1e-5f);
                for (int k = 0; k < n; k++) {
                    float want = v[k] * scale;
                    if (hooks) want *= weight[k];
                    cr_assert(out[r * n + k] == want, "cols %d row %d: [%d] = %a, not %a", n, r, k,
                              out[r * n + k], want);
                }
            }
            hk_free_all();
        }
}
Test(host_rows, in_place_and_bf16)
{
    hk_seed(6);
    int n = 19;
    u16 *x = hk_random_bf16((size_t)n, 3), *res = hk_random_bf16((size_t)n, 3),
        *first = hk_alloc((size_t)n * 2), *kept = hk_alloc((size_t)n * 2);
    float weight[19];
    for (int k = 0; k < n; k++) weight[k] = hk_uniform();
    rows_args a = {.out = first,
                   .x = x,
                   .rows = 1,
                   .cols = n,
                   .x_ld = n,
                   .out_ld = n,
                   .eps = 1e-5f,
                   .aux.p = {res, kept, weight}};
    hk_spec = (hk_spec_t){.hooks = n};
    HK_RUN(rows, &a, 1, 1, (size_t)ccc_host_rows_scratch_B(n));
    a.out = x; /* over its input; the new residual over the old one */
    a.aux.p[1] = res;
    HK_RUN(rows, &a, 1, 1, (size_t)ccc_host_rows_scratch_B(n));
    cr_assert(!memcmp(x, first, (size_t)n * 2));
    cr_assert(!memcmp(res, kept, (size_t)n * 2));
    hk_free_all();
}

Test(host_elt, every_column_once)
{
    hk_seed(7);
    static const int shape[][2] = {{1, 1}, {3, 7}, {2, 8}, {5, 1030}, {2, 3001}, {0, 8}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        int rows = shape[s][0], n = shape[s][1];
        float *x = hk_alloc((size_t)(rows * n) * 4), *w = hk_alloc((size_t)n * 4),
              *b = hk_alloc((size_t)rows * 4);
        for (int i = 0; i < rows * n; i++) x[i] = hk_uniform() * 20;
        for (int i = 0; i < n; i++) w[i] = hk_uniform();
        for (int i = 0; i < rows; i++) b[i] = hk_uniform();
        for (int f32 = 0; f32 < 2; f32++) {
            void *out = hk_alloc((size_t)(rows * n) * (f32 ? 4 : 2));
            elt_args a = {.out = out, .rows = rows, .cols = n, .out_ld = n, .aux.p = {x, w, b}};
            hk_spec = (hk_spec_t){.OUT_F32 = f32, .hooks = n};
            HK_RUN(elt, &a, 3, 1, 0);
            for (int i = 0; i < rows * n; i++) {
                float want = hk_elt_value(HK_silu, x[i], 0) * w[i % n] + b[i / n];
                if (f32) cr_assert(((float *)out)[i] == want);
                else cr_assert(((u16 *)out)[i] == hk_f32_bf16(want));
            }
            if (f32) { /* in place */
                float *copy = hk_alloc((size_t)(rows * n) * 4);
                memcpy(copy, x, (size_t)(rows * n) * 4);
                a.aux.p[0] = a.out = copy;
                HK_RUN(elt, &a, 2, 1, 0);
                cr_assert(!memcmp(copy, out, (size_t)(rows * n) * 4));
            }
        }
        hk_free_all();
    }
}

Test(host_gather, ids_alternatives_and_bad_ids)
{
    hk_seed(8);
    for (int cols = 5; cols <= 64; cols += 59) {
        u16 *table = hk_random_bf16((size_t)(10 * cols), 1), *alt = hk_random_bf16((size_t)(4 * cols), 1),
            *out = hk_alloc((size_t)(4 * cols) * 2);
        i32 ids[] = {3, 9, 0, 5};
        u32 status[4] = {0};
        gather_args a = {.out = out,
                         .table = table,
                         .ids = ids,
                         .status = status,
                         .n = 4,
                         .cols = cols,
                         .table_rows = 10,
                         .bad_kind = 1};
        HK_RUN(gather, &a, 3, 1, 0);
        for (int i = 0; i < 4; i++)
            cr_assert(!memcmp(out + i * cols, table + ids[i] * cols, (size_t)cols * 2));
        cr_assert(status[0] == 0);
        ids[1] = 10;
        ids[2] = -7;
        HK_RUN(gather, &a, 1, 1, 0);
        cr_assert(!memcmp(out + cols, table + 9 * cols, (size_t)cols * 2));
        cr_assert(!memcmp(out + 2 * cols, table, (size_t)cols * 2));
        cr_assert(status[0] == 1 && status[1] == 1 && status[2] == 10, "the first bad id stays: %u %u %u",
                  status[0], status[1], status[2]);
        a.alt = alt;
        HK_RUN(gather, &a, 2, 1, 0);
        cr_assert(!memcmp(out, alt, (size_t)(4 * cols) * 2));
        hk_free_all();
    }
}

static int naive_argmax(const float *x, int n)
{
    int at = -1;
    for (int i = 0; i < n; i++)
        if (!isnan(x[i]) && (at < 0 || x[i] > x[at])) at = i;
    return at < 0 ? 0 : at;
}
Test(host_argmax, ties_nans_infinities)
{
    hk_seed(9);
    for (int n = 1; n < 80; n++)
        for (int kind = 0; kind < 8; kind++) {
            float *x = hk_alloc((size_t)(2 * n) * 4);
            for (int i = 0; i < 2 * n; i++) {
                unsigned r = hk_random();
                x[i] = kind == 0   ? hk_uniform()
                       : kind == 1 ? (float)(r % 3)
                       : kind == 2 ? NAN
                       : kind == 3 ? -INFINITY
                       : kind == 4 ? (r & 1 ? NAN : -INFINITY)
                       : kind == 5 ? (r & 1 ? INFINITY : NAN)
                       : kind == 6 ? (r & 1 ? 0.0f : -0.0f)
                                   : (r % 4 ? -3.0f : -INFINITY);
            }
            i32 out[2];
            argmax_args a = {.out = out, .x = x, .rows = 2, .cols = n, .x_ld = n};
            HK_RUN(argmax, &a, 2, 1, 0);
            for (int r = 0; r < 2; r++)
                cr_assert(out[r] == naive_argmax(x + r * n, n), "n %d kind %d: %d", n, kind, out[r]);
            hk_free_all();
        }
}
