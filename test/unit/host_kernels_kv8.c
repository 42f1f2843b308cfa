/* rope_kv and attention with a KV cache of e4m3 against the same kernels with one of bf16: e4m3 is a part of
 * bf16, so that a cache of bf16 that holds the same numbers must give the same bits, and what is written must
 * be the bf16 rows, multiplied and rounded. Unused cache memory is NaN throughout. */
#include <criterion/criterion.h>
#include "host_kernels.h"

static float of_e4m3(u8 b)
{
    int e = b >> 3 & 15, m = b & 7;
    float v = (b & 127) == 127 ? NAN : e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
    return b >> 7 ? -v : v;
}
/* the nearest of all codes; of two as near the even one; what is larger becomes the largest */
static u8 to_e4m3(float v)
{
    int best = 0;
    if (isnan(v)) return 127;
    for (int code = 1; code < 127; code++) {
        float near = fabsf(fabsf(v) - of_e4m3((u8)best)), other = fabsf(fabsf(v) - of_e4m3((u8)code));
        if (other < near || (other == near && code % 2 == 0)) best = code;
    }
    return (u8)(best | (signbit(v) ? 128 : 0));
}

typedef struct {
    int hq, hkv, d, rotary, size;
} heads_case;
static const heads_case cases[] = {
    {9, 3, 64, 64, 16}, {4, 2, 16, 8, 32}, {2, 1, 128, 128, 16}, {3, 3, 80, 40, 64}};
enum { T = 5, BLOCKS = 3, TABLE = 40 };

static void run_rope(const heads_case *h, int layout, const void *rows, int row_B, int rows_fp8,
                     const hk_cache *c, const float *table, const i64 *slots, u16 *q_out)
{
    static i64 positions[T] = {0, 5, 39, 7, 8};
    u32 status[4] = {0};
    int ld = (h->hq + 2 * h->hkv) * h->d;
    const char *x = rows;
    hk_spec = (hk_spec_t){.HQ = h->hq,
                          .HKV = h->hkv,
                          .D = h->d,
                          .ROTARY = rows_fp8 ? 0 : h->rotary,
                          .LAYOUT = layout,
                          .BLOCK = h->size,
                          .DO_Q = !rows_fp8,
                          .DO_KV = 1,
                          .K_ROTATED = rows_fp8,
                          .ROWS_FP8 = rows_fp8};
    rope_kv_args a = {.q_out = q_out,
                      .q = (const u16 *)rows,
                      .k = (const u16 *)(const void *)(x + h->hq * h->d * row_B),
                      .v = (const u16 *)(const void *)(x + (h->hq + h->hkv) * h->d * row_B),
                      .table = table,
                      .positions = positions,
                      .slots = slots,
                      .k_cache = c->k,
                      .v_cache = c->v,
                      .status = status,
                      .block_stride = c->block_stride,
                      .token_stride = c->token_stride,
                      .head_stride = c->head_stride,
                      .T = T,
                      .q_ld = ld,
                      .k_ld = ld,
                      .v_ld = ld,
                      .q_out_ld = h->hq * h->d,
                      .table_rows = TABLE,
                      .kv_blocks = BLOCKS,
                      .k_times = 130.7f,
                      .v_times = 0.011f};
    if (c->bytes == 1) HK_RUN(rope_kv_fp8, &a, 2, 1, 0);
    else HK_RUN(rope_kv, &a, 2, 1, 0);
    cr_assert(!status[0]);
}
static int count_written(const hk_cache *c)
{
    int n = 0;
    for (i64 i = 0; i < c->block_stride * BLOCKS; i++) {
        n += ((u8 *)c->k)[i] != 0xff;
        if (c->layout != 3) n += ((u8 *)c->v)[i] != 0xff;
    }
    return n;
}

Test(host_kv8, rows_are_multiplied_and_rounded)
{
    hk_seed(21);
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        for (int layout = 1; layout <= 3; layout++) {
            const heads_case *h = &cases[n];
            int ld = (h->hq + 2 * h->hkv) * h->d, q_n = T * h->hq * h->d;
            u16 *rows = hk_random_bf16((size_t)(T * ld), 5), *q8 = hk_alloc((size_t)q_n * 2),
                *q = hk_alloc((size_t)q_n * 2);
            float *table = hk_alloc((size_t)(TABLE * h->rotary) * 4);
            for (int i = 0; i < TABLE * h->rotary; i++) table[i] = hk_uniform();
            rows[h->hq * h->d + 3] = 0x7fc0; /* NaN stays one */
            i64 slots[T] = {0, 17, -1, (i64)BLOCKS * h->size - 1, 1};
            hk_cache want = hk_cache_new(1, BLOCKS, h->size, h->hkv, h->d, 2),
                     have = hk_cache_new(layout, BLOCKS, h->size, h->hkv, h->d, 1);
            run_rope(h, 1, rows, 2, 0, &want, table, slots, q);
            run_rope(h, layout, rows, 2, 0, &have, table, slots, q8);
            cr_assert(!memcmp(q, q8, (size_t)q_n * 2));
            for (int t = 0; t < T; t++)
                for (int i = 0; i < 2 * h->hkv * h->d && slots[t] >= 0; i++) {
                    int is_v = i >= h->hkv * h->d, e = i % (h->hkv * h->d), b = (int)(slots[t] / h->size),
                        at = (int)(slots[t] % h->size);
                    float x = hk_bf16_f32(*(u16 *)hk_cache_element(&want, b, at, e / h->d, e % h->d, is_v));
                    u8 code = to_e4m3(x * (is_v ? 0.011f : 130.7f)),
                       got = *(u8 *)hk_cache_element(&have, b, at, e / h->d, e % h->d, is_v);
                    cr_assert(got == code, "case %zu layout %d: %s %d of token %d is 0x%02x, not 0x%02x", n,
                              layout, is_v ? "V" : "K", e, t, got, code);
                }
            cr_assert(count_written(&have) == 4 * 2 * h->hkv * h->d);
            hk_free_all();
        }
}

Test(host_kv8, rows_of_e4m3_are_copied)
{
    hk_seed(22);
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        for (int layout = 1; layout <= 3; layout++) {
            const heads_case *h = &cases[n];
            int ld = (h->hq + 2 * h->hkv) * h->d;
            u8 *rows = hk_alloc((size_t)(T * ld));
            for (int i = 0; i < T * ld; i++) rows[i] = (u8)(hk_random() % 255);
            i64 slots[T] = {0, 17, -1, (i64)BLOCKS * h->size - 1, 1};
            hk_cache c = hk_cache_new(layout, BLOCKS, h->size, h->hkv, h->d, 1);
            run_rope(h, layout, rows, 1, 1, &c, NULL, slots, NULL);
            for (int t = 0; t < T; t++)
                for (int i = 0; i < 2 * h->hkv * h->d && slots[t] >= 0; i++) {
                    int is_v = i >= h->hkv * h->d, e = i % (h->hkv * h->d), b = (int)(slots[t] / h->size),
                        at = (int)(slots[t] % h->size);
                    cr_assert(*(u8 *)hk_cache_element(&c, b, at, e / h->d, e % h->d, is_v) ==
                              rows[t * ld + h->hq * h->d + i]);
                }
            cr_assert(count_written(&c) == 4 * 2 * h->hkv * h->d);
            hk_free_all();
        }
}

enum { S = 3, LEN = 150, MAX_BLOCKS = 12 };
static const int lens[S] = {130, 33, 1}, query_lens[S] = {1, 20, 1};

/* a step over the cache of these codes, as bf16 or as they are */
static u16 *attend(const heads_case *h, int layout, int bytes, const u8 *codes, const u16 *q, float v_scale)
{
    int n_T = 0, used = S * MAX_BLOCKS, next = 0, table[S][MAX_BLOCKS], start[S + 1] = {0};
    hk_cache c = hk_cache_new(layout, used, h->size, h->hkv, h->d, bytes);
    memset(table, 0x7f, sizeof table);
    for (int s = 0; s < S; s++) {
        start[s + 1] = n_T += query_lens[s];
        for (int j = 0; j < lens[s]; j++) {
            if (j % h->size == 0) table[s][j / h->size] = next++ * 7 % used;
            for (int i = 0; i < 2 * h->hkv * h->d; i++) {
                u8 code = codes[(s * LEN + j) * 2 * h->hkv * h->d + i];
                int e = i % (h->hkv * h->d);
                void *at = hk_cache_element(&c, table[s][j / h->size], j % h->size, e / h->d, e % h->d,
                                            i >= h->hkv * h->d);
                if (bytes == 1) *(u8 *)at = code;
                else *(u16 *)at = hk_f32_bf16(of_e4m3(code));
            }
        }
    }
    u32 status[4] = {0};
    u16 *out = hk_alloc((size_t)(n_T * h->hq * h->d) * 2);
    attention_args a = hk_attention_args(&c, out, q, h->hq);
    a.table = table[0];
    a.seq_lens = lens;
    a.query_start = start;
    a.status = status;
    a.S = S;
    a.T = n_T;
    a.max_blocks = MAX_BLOCKS;
    a.scale = 0.03f;
    a.v_scale = v_scale;
    hk_spec = (hk_spec_t){.HQ = h->hq, .HKV = h->hkv, .D = h->d, .LAYOUT = layout, .BLOCK = h->size};
    unsigned gx = (unsigned)((n_T + CCC_HOST_QUERIES - 1) / CCC_HOST_QUERIES + S);
    if (bytes == 1) HK_RUN(attention_fp8, &a, gx, 1, (size_t)ccc_host_attention_scratch_B(h->d));
    else HK_RUN(attention, &a, gx, 1, (size_t)ccc_host_attention_scratch_B(h->d));
    cr_assert(!status[0]);
    return out;
}

Test(host_kv8, attention_is_that_over_a_cache_of_bf16)
{
    hk_seed(23);
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        const heads_case *h = &cases[n];
        int n_out = 22 * h->hq * h->d;
        u16 *q = hk_random_bf16((size_t)n_out, 3);
        u8 *codes = hk_alloc((size_t)(S * LEN * 2 * h->hkv * h->d));
        for (int i = 0; i < S * LEN * 2 * h->hkv * h->d; i++)
            codes[i] = to_e4m3(hk_uniform() * (float)(1 + hk_random() % 9));
        u16 *want = attend(h, 1, 2, codes, q, 1);
        for (int layout = 1; layout <= 3; layout++) {
            cr_assert(!memcmp(want, attend(h, layout, 1, codes, q, 1), (size_t)n_out * 2),
                      "case %zu layout %d", n, layout);
            u16 *twice = attend(h, layout, 1, codes, q, 2);
            for (int i = 0; i < n_out; i++)
                cr_assert(hk_bf16_f32(twice[i]) == 2 * hk_bf16_f32(want[i]), "case %zu layout %d: %d", n,
                          layout, i);
        }
        hk_free_all();
    }
}
