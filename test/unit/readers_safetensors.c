/* The reader of safetensors files: what a good file gives, and one message for each way in which a file can
 * be bad. */
#include <criterion/criterion.h>
#include <string.h>
#include "../../ir/ir.h"
#include "readers_make.h"

_Static_assert(CCCRT_F32 == (int)CCC_F32 && CCCRT_F16 == (int)CCC_F16 && CCCRT_BF16 == (int)CCC_BF16 &&
                   CCCRT_E4M3 == (int)CCC_E4M3 && CCCRT_E5M2 == (int)CCC_E5M2 &&
                   CCCRT_E8M0 == (int)CCC_E8M0 && CCCRT_I8 == (int)CCC_I8 && CCCRT_U8 == (int)CCC_U8 &&
                   CCCRT_I32 == (int)CCC_I32 && CCCRT_I64 == (int)CCC_I64 && CCCRT_Q8_0 == (int)CCC_Q8_0 &&
                   CCCRT_Q4_1 == (int)CCC_Q4_1 && CCCRT_F64 == (int)CCC_F64,
               "the runtime repeats the graph's dtype numbers");
TestSuite(safetensors, .fini = make_clean);

static ccc_err err;

static ccc_status open_header(cccrt_source **s, const char *header, size_t data_B)
{
    ccc_buf b = {0};
    make_safetensors(&b, header, data_B);
    make_write("a.safetensors", b.data, b.size_B);
    ccc_buf_free(&b);
    return cccrt_source_open(s, make_path("a.safetensors"), &err);
}

static const char two[] = "{\"__metadata__\":{\"format\":\"pt\",\"x\":\"{[\\\"\"},\"b.w\":{\"dtype\":\"F32\","
                          "\"shape\":[2,3],\"data_offsets\":[8,32]},"
                          "\"a\\u00e9\":{\"data_offsets\":[0,8],\"dtype\":\"BF16\",\"shape\":[4]}}  ";

Test(safetensors, dtypes_agree_with_the_graphs)
{
    for (unsigned d = 0; d < CCC_N_DTYPES; d++) {
        uint32_t block_B, elems;
        if (!cccrt_dtype_size(d, &block_B, &elems)) continue;
        cr_expect_str_eq(cccrt_dtype_text(d), ccc_dtype_name((ccc_dtype)d));
        cr_expect_eq(ccc_dtype_bytes((ccc_dtype)d, elems), block_B);
    }
}

Test(safetensors, good_file)
{
    cccrt_source *s;
    uint8_t got[6];
    cr_assert_eq(open_header(&s, two, 32), CCC_OK, "%s", err.msg);
    cr_assert_eq(cccrt_source_get_kind(s), CCCRT_SOURCE_SAFETENSORS);
    cr_assert_eq(cccrt_source_count(s), 2);
    cr_assert_str_eq(cccrt_source_get(s, 0)->name, "a\xc3\xa9");
    cr_assert_null(cccrt_source_get(s, 2));
    cr_assert_null(cccrt_source_find(s, "b"));
    const cccrt_source_tensor *t = cccrt_source_find(s, "b.w");
    cr_assert(t && t->dtype == CCCRT_F32 && t->rank == 2 && t->dim[0] == 2 && t->dim[1] == 3 &&
              t->size_B == 24 && t->file == 0);
    cr_assert_eq(((const uint8_t *)cccrt_source_data(s, t))[0], 8);
    cr_assert_eq(cccrt_source_read(s, t, 18, 6, got, &err), CCC_OK);
    cr_assert_eq(got[0], 26);
    cr_assert_eq(got[5], 31);
    cr_assert_eq(cccrt_source_read(s, t, 18, 7, got, &err), CCC_E_ARG);
    cr_assert_eq(cccrt_source_read(s, t, 25, 0, got, &err), CCC_E_ARG);
    cr_assert_eq(cccrt_source_read(s, t, 1, UINT64_MAX, got, &err), CCC_E_ARG);
    cccrt_source_close(s);
}

Test(safetensors, bad_headers)
{
    static const struct {
        const char *header;
        size_t data_B;
        ccc_status status;
        const char *says;
    } bad[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[4,12]}}",
         12, CCC_E_CORRUPT, "tensors 'a' and 'b' overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[0,8]}}",
         8, CCC_E_CORRUPT, "tensors 'a' and 'b' overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[8,16]}}",
         16, CCC_E_CORRUPT, "tensor 'a' is there twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", 8, CCC_E_CORRUPT,
         "tensor 'a' has bytes 0 to 16, but the file has 8 after its header"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, CCC_E_CORRUPT,
         "tensor 'a' has bytes 8 to 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, CCC_E_CORRUPT,
         "tensor 'a' has 8 bytes, its shape needs 12"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, CCC_E_CORRUPT,
         "4 bytes before tensor 'a' belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, CCC_E_CORRUPT,
         "the last 1 bytes belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8,
         CCC_E_CORRUPT, "tensor 'a' has an impossible shape for f32"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]}}", 8,
         CCC_E_CORRUPT, "tensor 'a' has an impossible shape for f32"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551615],\"data_offsets\":[0,8]}}", 8,
         CCC_E_PARSE, "number is too large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,8]}}", 8,
         CCC_E_PARSE, "number is too large"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, CCC_E_PARSE,
         "expected a whole number that is not negative"},
        {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, CCC_E_UNSUPPORTED,
         "tensor 'a' has dtype BOOL, which is not supported"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, CCC_E_UNSUPPORTED,
         "tensor 'a' has more than 4 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 0, CCC_E_PARSE,
         "a tensor needs \"dtype\", \"shape\" and \"data_offsets\""},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, CCC_E_PARSE, "key given twice"},
        {"{\"a\":{\"size\":3}}", 0, CCC_E_PARSE, "expected \"dtype\", \"shape\" or \"data_offsets\""},
        {"{\"a\":{\"data_offsets\":[0]}}", 0, CCC_E_PARSE, "expected two offsets"},
        {"{\"a\":{\"data_offsets\":[0,0,0]}}", 0, CCC_E_PARSE, "expected two offsets"},
        {"{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, CCC_E_CORRUPT,
         "a tensor has no name"},
        {"{\"a\\n\":{}}", 0, CCC_E_PARSE, "control character in a string"},
        {"{\"a\":{}} x", 0, CCC_E_PARSE, "a tensor needs"},
        {"{} x", 0, CCC_E_PARSE, "more text after the end"},
        {"{\"__metadata__\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 0,
         CCC_E_PARSE, "nested too deeply"},
        {"[]", 0, CCC_E_CORRUPT, "neither a safetensors nor a GGUF file"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cccrt_source *s = NULL;
        memset(&err, 0, sizeof err);
        cr_expect_eq(open_header(&s, bad[i].header, bad[i].data_B), bad[i].status, "%s: %s", bad[i].header,
                     err.msg);
        cr_expect(strstr(err.msg, bad[i].says), "wanted \"%s\", got \"%s\"", bad[i].says, err.msg);
        cr_expect(strstr(err.msg, "a.safetensors"), "names the file: %s", err.msg);
        cr_expect_null(s);
    }
}

Test(safetensors, header_length_is_checked)
{
    static const char *const files[] = {"", "1234567", "\xff\xff\xff\xff\xff\xff\xff\xff{}",
                                        "\3\0\0\0\0\0\0\0{}"};
    static const size_t size_B[] = {0, 7, 10, 10};
    for (int i = 0; i < 4; i++) {
        cccrt_source *s;
        make_write("a.safetensors", files[i], size_B[i]);
        cr_expect_neq(cccrt_source_open(&s, make_path("a.safetensors"), &err), CCC_OK);
    }
}

Test(safetensors, every_byte_and_every_length)
{
    ccc_buf b = {0};
    unsigned n;
    make_safetensors(&b, two, 32);
    unsigned accepted = make_mutations(&b, "m.safetensors", &n);
    cr_assert_gt(n, 1000);
    cr_assert_lt(accepted, n); /* names, metadata and data may change without anybody noticing */
    ccc_buf_free(&b);
}

/* ---- folders */
static void shard(const char *file, const char *tensor)
{
    ccc_buf b = {0}, h = {0};
    ccc_buf_printf(&h, "{\"%s\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", tensor);
    make_safetensors(&b, h.data, 4);
    make_write(file, b.data, b.size_B);
    ccc_buf_free(&b);
    ccc_buf_free(&h);
}

static ccc_status open_index(cccrt_source **s, const char *index)
{
    make_write("model.safetensors.index.json", index, strlen(index));
    return cccrt_source_open(s, make_folder(), &err);
}

Test(safetensors, shards)
{
    cccrt_source *s;
    shard("one.safetensors", "x");
    shard("two.safetensors", "y");
    cr_assert(!cccrt_source_present(make_folder()));
    cr_assert_eq(open_index(&s, "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"y\":\"two.safetensors\","
                                "\"x\":\"one.safetensors\"}}"),
                 CCC_OK, "%s", err.msg);
    cr_assert(cccrt_source_present(make_folder()));
    cr_assert_eq(cccrt_source_count(s), 2);
    cr_assert_eq(cccrt_source_files(s), 2);
    cr_assert_neq(cccrt_source_find(s, "x")->file, cccrt_source_find(s, "y")->file);
    cr_assert(strstr(cccrt_source_path(s, cccrt_source_find(s, "x")->file), "/one.safetensors"));
    cccrt_source_close(s);
}

Test(safetensors, bad_indices)
{
    static const struct {
        const char *index, *says;
    } bad[] = {
        {"{}", "the index has no \"weight_map\""},
        {"{\"weight_map\":{\"x\":\"../one.safetensors\"}}", "is not a plain name"},
        {"{\"weight_map\":{\"x\":\"\"}}", "is not a plain name"},
        {"{\"weight_map\":{\"x\":\"three.safetensors\"}}", "cannot open"},
        {"{\"weight_map\":{\"x\":\"one.safetensors\",\"z\":\"one.safetensors\"}}", "tensor 'z' is not in "},
        {"{\"weight_map\":{\"x\":\"one.safetensors\",\"y\":\"one.safetensors\",\"w\":\"two.safetensors\"}}",
         "tensor 'y' is not in "},
        {"{\"weight_map\":{\"x\":\"one.safetensors\",\"x\":\"one.safetensors\"}}",
         "tensor 'x' is listed twice"},
        {"{\"weight_map\":{\"z\":\"one.safetensors\"}}", "tensor 'x' is in "},
        {"{\"weight_map\":{},\"weight_map\":{}}", "\"weight_map\" is given twice"},
        {"{\"weight_map\":{\"x\":\"one.safetensors\",\"w\":\"both.safetensors\"}}", "tensor 'x' is in '"},
    };
    shard("one.safetensors", "x");
    shard("two.safetensors", "w");
    ccc_buf b = {0};
    make_safetensors(&b,
                     "{\"x\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]},\"w\":{\"dtype\":\"U8\","
                     "\"shape\":[],\"data_offsets\":[2,3]}}",
                     3);
    make_write("both.safetensors", b.data, b.size_B);
    ccc_buf_free(&b);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cccrt_source *s;
        cr_expect_neq(open_index(&s, bad[i].index), CCC_OK, "%s", bad[i].index);
        cr_expect(strstr(err.msg, bad[i].says), "%s: wanted \"%s\", got \"%s\"", bad[i].index, bad[i].says,
                  err.msg);
    }
}

Test(safetensors, what_is_not_a_source)
{
    cccrt_source *s;
    cr_assert_eq(cccrt_source_open(&s, make_path("nothing"), &err), CCC_E_IO);
    cr_assert(strstr(err.msg, "cannot open"));
    cr_assert_eq(cccrt_source_open(&s, make_folder(), &err), CCC_E_IO);
    cr_assert(strstr(err.msg, "has neither model.safetensors nor model.safetensors.index.json"));
    cr_assert_eq(cccrt_source_open(&s, "/dev/null", &err), CCC_E_IO);
    cr_assert(cccrt_source_ignorable("model.layers.3.self_attn.rotary_emb.inv_freq"));
    cr_assert(!cccrt_source_ignorable("model.layers.3.self_attn.q_proj.weight"));
}
