/* rope_kv and attention over all layouts, against f64 on plain arrays. Unused cache memory is NaN throughout;
 * the bits do not depend on the layout, on where blocks lie, on the grid, or on which other sequences are in
 * the step. */
#include <criterion/criterion.h>
#include "host_kernels.h"

static u16 *element(const hk_cache *c, int block, int t, int head, int d, int is_v)
{
    return hk_cache_element(c, block, t, head, d, is_v);
}

/* ---- rope_kv ------------------------------------------------------------------------------------------- */
typedef struct {
    int hq, hkv, d, rotary, layout, size;
} heads_case;
static const heads_case head_cases[] = {{9, 3, 64, 64, 1, 16},   {4, 2, 8, 8, 2, 32},
                                        {2, 1, 24, 16, 3, 16},   {3, 3, 80, 40, 3, 32},
                                        {2, 2, 128, 128, 3, 64}, {1, 1, 256, 64, 1, 64}};

static float rotated(const u16 *x, const float *row, int rotary, int i)
{
    int half = rotary / 2;
    if (i >= rotary) return hk_bf16_f32(x[i]);
    float a = hk_bf16_f32(x[i % half]), b = hk_bf16_f32(x[i % half + half]), c = row[i % half],
          s = row[half + i % half];
    return hk_bf16_f32(hk_f32_bf16(i < half ? fmaf(a, c, -(b * s)) : fmaf(b, c, a * s)));
}

Test(host_rope_kv, every_part_and_layout)
{
    enum { T = 7, BLOCKS = 3, TABLE = 40 };
    hk_seed(11);
    for (size_t n = 0; n < sizeof head_cases / sizeof *head_cases; n++)
        for (int parts = 0; parts < 16; parts++) {
            heads_case h = head_cases[n];
            int ld = (h.hq + 2 * h.hkv) * h.d + 8;
            u16 *qkv = hk_random_bf16((size_t)(T * ld), 2), *q_out = hk_alloc((size_t)(T * h.hq * h.d) * 2),
                *k_out = hk_alloc((size_t)(T * h.hkv * h.d) * 2);
            float *table = hk_alloc((size_t)(TABLE * h.rotary) * 4);
            for (int i = 0; i < TABLE * h.rotary; i++) table[i] = hk_uniform();
            i64 positions[T] = {0, 5, 39, 40, -1, 7, 8},
                slots[T] = {0, 17, -1, 2, (i64)BLOCKS * h.size - 1, (i64)BLOCKS * h.size, 1};
            hk_cache c = hk_cache_new(h.layout, BLOCKS, h.size, h.hkv, h.d, 2);
            u32 status[4] = {0};
            hk_spec = (hk_spec_t){.HQ = h.hq,
                                  .HKV = h.hkv,
                                  .D = h.d,
                                  .ROTARY = h.rotary,
                                  .LAYOUT = h.layout,
                                  .BLOCK = h.size,
                                  .DO_Q = parts & 1,
                                  .DO_K = parts >> 1 & 1,
                                  .DO_KV = parts >> 2 & 1,
                                  .K_ROTATED = parts >> 3};
            rope_kv_args a = {.q_out = q_out,
                              .q = qkv,
                              .k = qkv + h.hq * h.d,
                              .v = qkv + (h.hq + h.hkv) * h.d,
                              .k_out = k_out,
                              .table = table,
                              .positions = positions,
                              .slots = slots,
                              .k_cache = c.k,
                              .v_cache = c.v,
                              .status = status,
                              .block_stride = c.block_stride,
                              .token_stride = c.token_stride,
                              .head_stride = c.head_stride,
                              .T = T,
                              .q_ld = ld,
                              .k_ld = ld,
                              .v_ld = ld,
                              .q_out_ld = h.hq * h.d,
                              .k_out_ld = h.hkv * h.d,
                              .table_rows = TABLE,
                              .kv_blocks = BLOCKS};
            HK_RUN(rope_kv, &a, 1, 1, 0);
            int written = 0;
            for (int t = 0; t < T; t++) {
                const float *row = table + (positions[t] < 0        ? 0
                                            : positions[t] >= TABLE ? TABLE - 1
                                                                    : positions[t]) *
                                               h.rotary;
                for (int i = 0; i < h.hq * h.d; i++) {
                    float got = hk_bf16_f32(q_out[t * h.hq * h.d + i]);
                    if (hk_spec.DO_Q)
                        cr_assert(got == rotated(qkv + t * ld + i / h.d * h.d, row, h.rotary, i % h.d),
                                  "q %d %d", t, i);
                    else cr_assert(isnan(got));
                }
                int cached = hk_spec.DO_KV && slots[t] >= 0 && slots[t] < BLOCKS * h.size;
                for (int i = 0; i < h.hkv * h.d; i++) {
                    const u16 *k = qkv + t * ld + h.hq * h.d + i / h.d * h.d, *v = k + h.hkv * h.d;
                    float want = hk_spec.K_ROTATED ? hk_bf16_f32(k[i % h.d])
                                                   : rotated(k, row, h.rotary, i % h.d),
                          got = hk_bf16_f32(k_out[t * h.hkv * h.d + i]);
                    cr_assert(hk_spec.DO_K ? got == want : isnan(got), "k_out %d %d", t, i);
                    if (!cached) continue;
                    int block = (int)(slots[t] / h.size), at = (int)(slots[t] % h.size);
                    cr_assert(hk_bf16_f32(*element(&c, block, at, i / h.d, i % h.d, 0)) == want,
                              "case %zu K %d %d", n, t, i);
                    cr_assert(*element(&c, block, at, i / h.d, i % h.d, 1) == v[i % h.d], "case %zu V %d %d",
                              n, t, i);
                    written += 2;
                }
            }
            int held = 0; /* nothing else was written */
            for (i64 i = 0; i < c.block_stride * BLOCKS / 2; i++) {
                held += ((u16 *)(void *)c.k)[i] != 0xffff;
                if (h.layout != 3) held += ((u16 *)(void *)c.v)[i] != 0xffff;
            }
            cr_assert(held == written, "case %zu: %d elements written, %d wanted", n, held, written);
            int reads_table = hk_spec.DO_Q || ((hk_spec.DO_K || hk_spec.DO_KV) && !hk_spec.K_ROTATED);
            if (reads_table) cr_assert(status[0] == 5 && status[1] == 3 && status[2] == 40);
            else if (hk_spec.DO_KV)
                cr_assert(status[0] == 2 && status[1] == 5 && status[2] == (u32)(BLOCKS * h.size));
            else cr_assert(status[0] == 0);
            hk_free_all();
        }
}

/* ---- attention ----------------------------------------------------------------------------------------- */
enum { MAX_S = 6, MAX_BLOCKS = 40 };
typedef struct {
    int hq, hkv, d, size, S, len[MAX_S], n[MAX_S];
} step_case;
static const step_case steps[] = {
    {9, 3, 64, 16, 5, {1, 130, 77, 33, 64}, {1, 1, 40, 33, 3}}, /* mixed */
    {4, 4, 8, 32, 3, {5, 0, 257}, {5, 2, 1}},                   /* an empty sequence; one head a group */
    {8, 1, 128, 64, 2, {70, 300}, {17, 1}},
    {2, 1, 40, 16, 2, {20, 100}, {20, 65}}, /* head of 5 pieces */
    {5, 1, 256, 16, 1, {90}, {90}},
    {32, 1, 24, 16, 2, {33, 7}, {2, 7}},
    {10, 2, 40, 32, 3, {20, 131, 1}, {1, 1, 1}}, /* decode alone */
    {40, 1, 24, 16, 2, {65, 17}, {1, 1}},
    {8, 2, 128, 64, 2, {64, 200}, {1, 1}},
    {7, 1, 8, 16, 1, {81}, {1}},
};
typedef struct {
    u16 *q, *k, *v;
    int T, start[MAX_S + 1];
} inputs; /* k, v: [S][max len][HKV * D] */
enum { MAX_LEN = 400 };

static inputs make_inputs(const step_case *c)
{
    inputs in = {0};
    for (int s = 0; s < c->S; s++) in.start[s + 1] = in.start[s] + c->n[s];
    in.T = in.start[c->S];
    in.q = hk_random_bf16((size_t)(in.T * c->hq * c->d), 3);
    in.k = hk_random_bf16((size_t)(c->S * MAX_LEN * c->hkv * c->d), 2);
    in.v = hk_random_bf16((size_t)(c->S * MAX_LEN * c->hkv * c->d), 2);
    return in;
}
/* sequences from .. from+count of the case as one step; blocks lie where `shuffle` says. added: NULL, or what
 * the hook adds to the rounded result, which is f32 then */
static void *run_step(const step_case *c, const inputs *in, int layout, int from, int count, unsigned shuffle,
                      unsigned gy, const float *added)
{
    int total = 0, table[MAX_S][MAX_BLOCKS], start[MAX_S + 1], first = in->start[from],
        T = in->start[from + count] - first, used = MAX_S * MAX_BLOCKS;
    hk_cache kv = hk_cache_new(layout, used, c->size, c->hkv, c->d, 2);
    for (int s = 0; s <= count; s++) start[s] = in->start[from + s] - first;
    memset(table, 0x7f, sizeof table); /* beyond a sequence's blocks: numbers that no cache has */
    for (int s = 0; s < count; s++)
        for (int j = 0; j < c->len[from + s]; j++) {
            if (j % c->size == 0) table[s][j / c->size] = (int)((unsigned)total++ * shuffle % (unsigned)used);
            for (int i = 0; i < c->hkv * c->d; i++) {
                size_t at = (size_t)(((from + s) * MAX_LEN + j) * c->hkv * c->d + i);
                *element(&kv, table[s][j / c->size], j % c->size, i / c->d, i % c->d, 0) = in->k[at];
                *element(&kv, table[s][j / c->size], j % c->size, i / c->d, i % c->d, 1) = in->v[at];
            }
        }
    u32 status[4] = {0};
    void *out = hk_alloc((size_t)(T * c->hq * c->d) * (added ? 4 : 2));
    attention_args a = hk_attention_args(&kv, out, in->q + (size_t)(first * c->hq * c->d), c->hq);
    a.table = table[0];
    a.seq_lens = c->len + from;
    a.query_start = start;
    a.status = status;
    a.S = count;
    a.T = T;
    a.max_blocks = MAX_BLOCKS;
    a.scale = 1.0f / sqrtf((float)c->d);
    a.aux.p[0] = (void *)(uintptr_t)added;
    hk_spec = (hk_spec_t){.OUT_F32 = added != NULL,
                          .hooks = added ? c->hq * c->d : 0,
                          .HQ = c->hq,
                          .HKV = c->hkv,
                          .D = c->d,
                          .LAYOUT = layout,
                          .BLOCK = c->size};
    HK_RUN(attention, &a, (unsigned)((T + CCC_HOST_QUERIES - 1) / CCC_HOST_QUERIES + count), gy,
           (size_t)ccc_host_attention_scratch_B(c->d));
    cr_assert(status[0] == 0, "status %u at %u: %u", status[0], status[1], status[2]);
    return out;
}
static void check_step(const step_case *c, const inputs *in, const u16 *out)
{
    static double p[MAX_LEN], want[256];
    for (int s = 0; s < c->S; s++)
        for (int i = 0; i < c->n[s]; i++)
            for (int h = 0; h < c->hq; h++) {
                int see = c->len[s] - c->n[s] + i + 1, kvh = h / (c->hq / c->hkv), t = in->start[s] + i;
                const u16 *q = in->q + (size_t)((t * c->hq + h) * c->d);
                double most = -1e300, sum = 0;
                for (int j = 0; j < see; j++) {
                    const u16 *k = in->k + (size_t)(((s * MAX_LEN + j) * c->hkv + kvh) * c->d);
                    p[j] = 0;
                    for (int d = 0; d < c->d; d++) p[j] += (double)hk_bf16_f32(q[d]) * hk_bf16_f32(k[d]);
                    p[j] /= sqrt(c->d);
                    if (p[j] > most) most = p[j];
                }
                memset(want, 0, sizeof want);
                for (int j = 0; j < see; j++) {
                    sum += p[j] = exp(p[j] - most);
                    for (int d = 0; d < c->d; d++)
                        want[d] += p[j] * hk_bf16_f32(
                                              in->v[(size_t)(((s * MAX_LEN + j) * c->hkv + kvh) * c->d + d)]);
                }
                for (int d = 0; d < c->d; d++) {
                    double w = see > 0 ? want[d] / sum : 0,
                           got = hk_bf16_f32(out[(t * c->hq + h) * c->d + d]);
                    cr_assert(fabs(got - w) <= fabs(w) / 250 + 2e-5,
                              "sequence %d token %d head %d: [%d] = %g, not %g", s, i, h, d, got, w);
                }
            }
}

Test(host_attention, right_in_every_layout_and_place)
{
    hk_seed(12);
    for (size_t n = 0; n < sizeof steps / sizeof *steps; n++) {
        const step_case *c = &steps[n];
        inputs in = make_inputs(c);
        size_t size_B = (size_t)(in.T * c->hq * c->d) * 2;
        u16 *first = run_step(c, &in, 1, 0, c->S, 1, (unsigned)c->hkv, NULL);
        check_step(c, &in, first);
        for (int layout = 1; layout <= 3; layout++) {
            cr_assert(!memcmp(first, run_step(c, &in, layout, 0, c->S, 7, 1, NULL), size_B),
                      "case %zu layout %d: other bits", n, layout);
            cr_assert(!memcmp(first, run_step(c, &in, layout, 0, c->S, 11, (unsigned)c->hq, NULL), size_B),
                      "case %zu layout %d: other bits with more blocks", n, layout);
        }
        float *added = hk_alloc(size_B * 2);
        for (size_t i = 0; i < size_B / 2; i++) added[i] = hk_uniform();
        const float *sum = run_step(c, &in, 3, 0, c->S, 7, (unsigned)c->hkv, added);
        for (size_t i = 0; i < size_B / 2; i++)
            cr_assert(sum[i] == hk_bf16_f32(first[i]) + added[i], "case %zu: element %zu behind the hook", n,
                      i);
        for (int s = 0; s < c->S; s++) {
            size_t row_B = (size_t)(c->hq * c->d) * 2;
            u16 *alone = run_step(c, &in, 2, s, 1, 1, (unsigned)c->hkv, NULL);
            cr_assert(!memcmp((char *)first + (size_t)in.start[s] * row_B, alone, (size_t)c->n[s] * row_B),
                      "case %zu sequence %d alone: other bits", n, s);
        }
        hk_free_all();
    }
}

Test(host_attention, wild_arguments_stay_inside)
{
    hk_seed(13);
    enum { T = 4 };
    u16 *q = hk_random_bf16(T * 16, 1), *out = hk_alloc(T * 16 * 2);
    hk_cache kv = hk_cache_new(1, 2, 16, 1, 16, 2);
    memset(kv.k, 0, (size_t)(kv.block_stride * 2));
    memset(kv.v, 0, (size_t)(kv.block_stride * 2));
    i32 *table = hk_alloc(2 * 3 * 4), lens[2] = {1000, 20}, start[3] = {0, 3, 900};
    table[0] = 99, table[1] = -5, table[2] = 0, table[3] = 1, table[4] = 2, table[5] = 0;
    u32 status[4] = {0};
    attention_args a = hk_attention_args(&kv, out, q, 1);
    a.table = table;
    a.seq_lens = lens;
    a.query_start = start;
    a.status = status;
    a.S = 2;
    a.T = T;
    a.max_blocks = 3;
    a.scale = 1;
    hk_spec = (hk_spec_t){.HQ = 1, .HKV = 1, .D = 16, .LAYOUT = 1, .BLOCK = 16};
    HK_RUN(attention, &a, 1 + 2, 1, (size_t)ccc_host_attention_scratch_B(16));
    cr_assert(status[0] == 3, "status %u", status[0]);
    for (int i = 0; i < T * 16; i++) cr_assert(out[i] == 0);
    hk_free_all();
}
