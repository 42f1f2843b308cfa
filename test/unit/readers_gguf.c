/* The reader of GGUF files: metadata of every kind, tensors with their dimensions turned round, and what a
 * bad file says. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "readers_make.h"

TestSuite(gguf, .fini = make_clean);
static ccc_err err;

static ccc_status open_gguf(cccrt_source **s, make_gguf *g)
{
    ccc_buf b = {0};
    gguf_finish(g, &b);
    make_write("a.gguf", b.data, b.size_B);
    ccc_buf_free(&b);
    return cccrt_source_open(s, make_path("a.gguf"), &err);
}

Test(gguf, good_file)
{
    cccrt_source *s;
    make_gguf g = {0};
    const char *text;
    uint64_t u;
    double d;
    bool flag;
    gguf_str(&g, "general.architecture", "llama");
    gguf_u32(&g, "a.u32", 4000000000u);
    gguf_f32(&g, "a.f32", 0.5f);
    gguf_bool(&g, "a.bool", true);
    gguf_strings(&g, "a.list", 3);
    gguf_tensor(&g, "x", 3, 64, 5);
    gguf_tensor(&g, "y", 0, 3, 0);
    cr_assert_eq(open_gguf(&s, &g), CCC_OK, "%s", err.msg);
    cr_assert_eq(cccrt_source_get_kind(s), CCCRT_SOURCE_GGUF);
    cr_assert(cccrt_gguf_str(s, "general.architecture", &text) && !strcmp(text, "llama"));
    cr_assert(cccrt_gguf_u64(s, "a.u32", &u) && u == 4000000000u);
    cr_assert(cccrt_gguf_f64(s, "a.f32", &d) && d == 0.5);
    cr_assert(cccrt_gguf_bool(s, "a.bool", &flag) && flag);
    cr_assert(cccrt_gguf_array(s, "a.list", &u) && u == 3);
    cr_assert(!cccrt_gguf_str(s, "a.u32", &text) && !cccrt_gguf_u64(s, "a.f32", &u) &&
              !cccrt_gguf_u64(s, "none", &u));
    cr_assert_eq(cccrt_gguf_keys(s), 5);
    cr_assert_str_eq(cccrt_gguf_key(s, 0), "a.bool");
    cr_assert_null(cccrt_gguf_key(s, 5));
    const cccrt_source_tensor *x = cccrt_source_find(s, "x"), *y = cccrt_source_find(s, "y");
    cr_assert(x && x->dtype == CCCRT_Q4_1 && x->rank == 2 && x->dim[0] == 5 && x->dim[1] == 64 &&
              x->size_B == 5 * 2 * 20 && x->offset_B % 32 == 0);
    cr_assert(y && y->dtype == CCCRT_F32 && y->rank == 1 && y->dim[0] == 3 && y->size_B == 12);
    cr_assert_eq(((const uint8_t *)cccrt_source_data(s, y))[0],
                 224); /* bytes count up; y is the second, at 200 rounded up to 32 */
    cccrt_source_close(s);
}

/* A key whose value has `type`, in `size_B` bytes of `bits`. */
static void scalar(make_gguf *g, const char *key, uint32_t type, uint64_t bits, unsigned size_B)
{
    gguf_u32(g, key, 0);
    g->keys.size_B -= 8; /* without its type and value */
    ccc_buf_u32(&g->keys, type);
    for (unsigned i = 0; i < 8; i += 4) ccc_buf_u32(&g->keys, (uint32_t)(bits >> 8 * i));
    g->keys.size_B -= 8 - size_B;
}

Test(gguf, numbers_of_every_type)
{
    static const struct {
        uint32_t type, size_B;
        uint64_t bits, want;
        bool whole;
    } v[] = {
        {0, 1, 200, 200, true},
        {1, 1, 100, 100, true},
        {1, 1, 0x9c, 0, false},
        {2, 2, 60000, 60000, true},
        {3, 2, 30000, 30000, true},
        {3, 2, 0x8000, 0, false},
        {4, 4, 4000000000u, 4000000000u, true},
        {5, 4, 2000000000u, 2000000000u, true},
        {5, 4, 0x80000000u, 0, false},
        {10, 8, UINT64_MAX, UINT64_MAX, true},
        {11, 8, INT64_MAX, INT64_MAX, true},
        {11, 8, UINT64_C(1) << 63, 0, false}, /* negative: no count, no size */
    };
    double half = 0.5, d;
    uint64_t u, bits;
    for (unsigned i = 0; i < sizeof v / sizeof *v; i++) {
        cccrt_source *s;
        make_gguf g = {0};
        scalar(&g, "k", v[i].type, v[i].bits, v[i].size_B);
        cr_assert_eq(open_gguf(&s, &g), CCC_OK, "type %u: %s", v[i].type, err.msg);
        cr_expect_eq(cccrt_gguf_u64(s, "k", &u), v[i].whole, "type %u", v[i].type);
        cr_expect(!v[i].whole || u == v[i].want, "type %u", v[i].type);
        cr_expect(!cccrt_gguf_f64(s, "k", &d));
        cccrt_source_close(s);
    }
    cccrt_source *s;
    make_gguf g = {0};
    memcpy(&bits, &half, sizeof bits);
    scalar(&g, "k", 12, bits, 8);
    cr_assert_eq(open_gguf(&s, &g), CCC_OK, "%s", err.msg);
    cr_assert(cccrt_gguf_f64(s, "k", &d) && d == 0.5 && !cccrt_gguf_u64(s, "k", &u));
    cccrt_source_close(s);
}

/* One bad thing in a file that is good otherwise. */
static void expect_bad(make_gguf *g, ccc_status status, const char *says)
{
    cccrt_source *s;
    memset(&err, 0, sizeof err);
    cr_expect_eq(open_gguf(&s, g), status, "wanted %d and \"%s\", got \"%s\"", status, says, err.msg);
    cr_expect(strstr(err.msg, says), "wanted \"%s\", got \"%s\"", says, err.msg);
}

Test(gguf, bad_tensors)
{
    make_gguf g = {0};
    gguf_tensor(&g, "a.weight", 12, 256, 1);
    expect_bad(&g, CCC_E_UNSUPPORTED,
               "tensor 'a.weight' has type Q4_K (12); supported are F32, F16, BF16, Q8_0 and Q4_1");
    g = (make_gguf){0};
    gguf_tensor(&g, "a.weight", 77, 256, 1);
    expect_bad(&g, CCC_E_UNSUPPORTED, "tensor 'a.weight' has type unknown (77)");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 3, 48, 2);
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' has an impossible shape for q4_1");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, 8, 0);
    gguf_tensor(&g, "a", 0, 8, 0);
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' is there twice");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, 16, 0);
    g.data_B = 32;
    gguf_tensor(&g, "b", 0, 16, 0);
    expect_bad(&g, CCC_E_CORRUPT, "tensors 'a' and 'b' overlap");
    g = (make_gguf){0};
    g.data_B = 4;
    gguf_tensor(&g, "a", 0, 16, 0);
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' lies at an impossible offset");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, 16, 0);
    g.data_B = 32;
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' ends beyond the file");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, UINT64_C(1) << 62, 0);
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' has an impossible shape for f32");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, UINT64_C(1) << 63, 0);
    expect_bad(&g, CCC_E_CORRUPT, "tensor 'a' has an impossible shape");
    g = (make_gguf){0};
    gguf_tensor(&g, "", 0, 1, 0);
    expect_bad(&g, CCC_E_CORRUPT, "a tensor's name before byte");
    g = (make_gguf){0};
    gguf_tensor(&g, "a", 0, 8, 0);
    g.n_tensors = 1u << 30;
    expect_bad(&g, CCC_E_CORRUPT, "claims 1073741824 tensors");
}

Test(gguf, bad_metadata)
{
    make_gguf g = {0};
    gguf_u32(&g, "k", 1);
    gguf_u32(&g, "k", 2);
    expect_bad(&g, CCC_E_CORRUPT, "key 'k' is there twice");
    g = (make_gguf){0};
    gguf_u32(&g, "general.alignment", 24);
    expect_bad(&g, CCC_E_CORRUPT, "general.alignment is 24");
    g = (make_gguf){0};
    gguf_bool(&g, "k", true);
    g.keys.data[g.keys.size_B - 1] = 2;
    expect_bad(&g, CCC_E_CORRUPT, "key 'k' is neither true nor false");
    g = (make_gguf){0};
    gguf_u32(&g, "k", 1);
    g.keys.data[9] = 99;
    expect_bad(&g, CCC_E_CORRUPT, "key 'k' has unknown type 99");
    g = (make_gguf){0};
    gguf_strings(&g, "k", 1);
    g.keys.data[13] = 99;
    expect_bad(&g, CCC_E_CORRUPT, "key 'k' is an array of unknown type 99");
    g = (make_gguf){0};
    gguf_strings(&g, "k", 1);
    g.keys.data[20] = 1; /* length 1 + 2^24 */
    expect_bad(&g, CCC_E_CORRUPT, "cut off at byte");
    g = (make_gguf){0};
    gguf_u32(&g, "k", 1);
    g.n_keys = 1000;
    expect_bad(&g, CCC_E_CORRUPT, "claims 1000 metadata keys");
}

Test(gguf, versions)
{
    for (unsigned version = 1; version < 6; version++) {
        ccc_buf b = {0};
        cccrt_source *s = NULL;
        ccc_buf_put(&b, "GGUF", 4);
        ccc_buf_u32(&b, version);
        ccc_buf_u64(&b, 0);
        ccc_buf_u64(&b, 0);
        make_write("a.gguf", b.data, b.size_B);
        ccc_status st = cccrt_source_open(&s, make_path("a.gguf"), &err);
        cr_expect_eq(st, version < 3 ? CCC_E_UNSUPPORTED : version == 3 ? CCC_OK : CCC_E_VERSION);
        cr_expect(st == CCC_OK || strstr(err.msg, "only version 3 (little endian) is supported"));
        if (st == CCC_OK) cccrt_source_close(s);
        ccc_buf_free(&b);
    }
}

Test(gguf, every_byte_and_every_length)
{
    make_gguf g = {0};
    ccc_buf b = {0};
    unsigned n;
    gguf_str(&g, "general.architecture", "llama");
    gguf_u32(&g, "llama.embedding_length", 32);
    gguf_f32(&g, "llama.rope.freq_base", 1e4f);
    gguf_strings(&g, "list", 2);
    gguf_tensor(&g, "x", 8, 32, 2);
    gguf_tensor(&g, "y", 0, 8, 0);
    gguf_finish(&g, &b);
    unsigned accepted = make_mutations(&b, "m.gguf", &n);
    cr_assert_gt(n, 1000);
    cr_assert_lt(accepted, n);
    ccc_buf_free(&b);
}

Test(gguf, facts_of_a_file)
{
    static const char *const wanted[][2] = {
        {"source", "gguf"},        {"rope_theta", "100000"}, {"rope_scaling", "none"},
        {"rms_norm_eps", "1e-05"}, {"heads", "4"},          {"kv_heads", "2"},
        {"head_size", "16"},       {"hidden_act", "silu"},  {"tie_word_embeddings", "true"},
    };
    make_gguf g = {0};
    cccrt_source *s;
    cccrt_fact f[CCCRT_MAX_FACTS];
    uint32_t n;
    gguf_llama(&g, true);
    cr_assert_eq(open_gguf(&s, &g), CCC_OK, "%s", err.msg);
    cr_assert_eq(cccrt_source_facts(s, f, &n, &err), CCC_OK);
    cr_assert_eq(n, sizeof wanted / sizeof *wanted);
    for (uint32_t i = 0; i < n; i++) {
        cr_expect_str_eq(f[i].key, wanted[i][0]);
        cr_expect_str_eq(f[i].value, wanted[i][1]);
    }
    cccrt_source_close(s);
}

Test(gguf, real_file)
{
    const char *path = getenv("CCC_TEST_GGUF"); /* SmolLM2-135M-Instruct.Q4_1.gguf */
    cccrt_source *s;
    if (!path || !*path) cr_skip_test("CCC_TEST_GGUF is not set");
    cr_assert_eq(cccrt_source_open(&s, path, &err), CCC_OK, "%s", err.msg);
    unsigned q4_1 = 0, q8_0 = 0, f32 = 0;
    for (uint32_t i = 0; i < cccrt_source_count(s); i++) {
        uint32_t d = cccrt_source_get(s, i)->dtype;
        q4_1 += d == CCCRT_Q4_1;
        q8_0 += d == CCCRT_Q8_0;
        f32 += d == CCCRT_F32;
    }
    cr_assert(q4_1 == 210 && q8_0 == 1 && f32 == 61 && cccrt_source_count(s) == 272);
    const cccrt_source_tensor *t = cccrt_source_find(s, "blk.29.ffn_down.weight");
    cr_assert(t && t->dim[0] == 576 && t->dim[1] == 1536);
    cccrt_source_close(s);
}
