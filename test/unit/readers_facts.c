/* Facts of a configuration: equal meaning, equal text, whichever transformers wrote the config.json. And the
 * JSON scanner under them. */
#include <criterion/criterion.h>
#include <locale.h>
#include <string.h>
#include "../../runtime/tensors_impl.h"
#include "readers_make.h"

TestSuite(facts, .fini = make_clean);
static ccc_err err;

static const char *fact(const cccrt_fact *f, uint32_t n, const char *key)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(f[i].key, key)) return f[i].value;
    return NULL;
}

Test(facts, numbers)
{
    static const struct {
        double v;
        const char *text;
    } row[] = {
        {1e-5, "1e-05"},        {(double)1e-5f, "1e-05"}, {1e-6, "1e-06"}, {10000, "10000"},
        {500000, "500000"},      {130000, "130000"},      {8, "8"},        {0.1, "0.1"},
        {16777217, "16777216"}, {1.0 / 3, "0.33333334"},  {8192, "8192"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[48];
        cccrt_fact_number(text, row[i].v);
        cr_expect_str_eq(text, row[i].text);
    }
    cr_expect_eq(cccrt_fact_value((double)1e-5f), 1e-5);
    cr_expect_eq(cccrt_fact_value(130000), 130000);
}

Test(facts, numbers_in_any_locale)
{
    char text[48];
    static const char *const commas[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    bool found = false;
    for (int i = 0; i < 3 && !found; i++) found = setlocale(LC_ALL, commas[i]) != NULL;
    if (!found) cr_skip_test("no locale with a decimal comma is installed");
    cccrt_fact_number(text, 0.5);
    cr_assert_str_eq(text, "0.5");
    cr_assert_eq(cccrt_fact_value(0.5), 0.5);
}

Test(facts, defaults_and_both_styles)
{
    static const char v4[] = "{\"hidden_size\":4096,\"num_attention_heads\":32,\"num_key_value_heads\":8,"
                             "\"rms_norm_eps\":1e-05,\"rope_theta\":500000.0,\"vocab_size\":[1,{\"a\":null}],"
                             "\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":"
                             "4.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}}";
    static const char v5[] =
        "{\"rms_norm_eps\":0.00001,\"num_key_value_heads\":8,\"num_attention_heads\":32,\"hidden_size\":4096,"
        "\"head_dim\":128,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false,"
        "\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":500000,\"factor\":8,\"low_freq_"
        "factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}}";
    cccrt_fact a[CCCRT_MAX_FACTS], b[CCCRT_MAX_FACTS];
    uint32_t n, m;
    cr_assert_eq(cccrt_config_facts(v4, strlen(v4), "v4", a, &n, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(cccrt_config_facts(v5, strlen(v5), "v5", b, &m, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(n, m);
    for (uint32_t i = 0; i < n; i++) cr_expect_str_eq(fact(b, m, a[i].key), a[i].value, "%s", a[i].key);
    cr_expect_str_eq(fact(a, n, "rope_scaling"), "llama3");
    cr_expect_str_eq(fact(a, n, "rope_original_max_position"), "8192");
    cr_expect_str_eq(fact(a, n, "head_size"), "128");
    cr_assert_eq(cccrt_config_facts("{}", 2, "empty", a, &n, &err), CCC_OK);
    cr_expect_str_eq(fact(a, n, "rope_theta"), "10000");
    cr_expect_str_eq(fact(a, n, "rope_scaling"), "none");
    cr_expect_str_eq(fact(a, n, "rms_norm_eps"), "1e-06");
    cr_expect_str_eq(fact(a, n, "tie_word_embeddings"), "false");
    cr_expect_null(fact(a, n, "heads"));
    cr_expect_null(fact(a, n, "rope_factor"));
}

Test(facts, of_a_folder_and_of_a_file_in_it)
{
    ccc_buf b = {0};
    cccrt_source *s;
    cccrt_fact f[CCCRT_MAX_FACTS];
    uint32_t n;
    make_safetensors(&b, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    make_write("model.safetensors", b.data, b.size_B);
    cr_assert_eq(cccrt_source_open(&s, make_folder(), &err), CCC_OK);
    cr_assert_eq(cccrt_source_facts(s, f, &n, &err), CCC_OK);
    cr_expect(n == 1 && !strcmp(f[0].value, "huggingface"), "without a config.json");
    cccrt_source_close(s);
    make_write("config.json", "{\"rope_theta\":7}", 16);
    for (int whole = 0; whole < 2; whole++) {
        cr_assert_eq(cccrt_source_open(&s, whole ? make_folder() : make_path("model.safetensors"), &err),
                     CCC_OK);
        cr_assert_eq(cccrt_source_facts(s, f, &n, &err), CCC_OK);
        cr_expect_str_eq(fact(f, n, "rope_theta"), "7");
        cccrt_source_close(s);
    }
    make_write("config.json", "{\"rope_theta\":}", 15);
    cr_assert_eq(cccrt_source_open(&s, make_folder(), &err), CCC_OK);
    cr_assert_eq(cccrt_source_facts(s, f, &n, &err), CCC_E_PARSE);
    cr_expect(strstr(err.msg, "config.json:1:15: expected a value"), "%s", err.msg);
    cr_expect(err.line == 1 && err.col == 15);
    cccrt_source_close(s);
    ccc_buf_free(&b);
}

Test(facts, json)
{
    static const struct {
        const char *text, *says;
    } row[] = {
        {"{}", NULL},
        {" { \"a\" : [ 1 , -2.5e+3 , true , false , null , \"x\\u00e9\\ud83d\\ude00\\n\" ] } ", NULL},
        {"", "1:1: expected an object"},
        {"{", "1:2: expected a string"},
        {"{\"a\"}", "expected ':'"},
        {"{\"a\":1", "expected ',' or '}'"},
        {"{\"a\":1,}", "expected a string"},
        {"{\"a\":[1,]}", "expected a value"},
        {"{\"a\":[1 2]}", "expected ',' or ']'"},
        {"{\"a\":01}", "number begins with 0"},
        {"{\"a\":-}", "expected a number"},
        {"{\"a\":1.}", "expected a digit"},
        {"{\"a\":1e}", "expected a digit"},
        {"{\"a\":tru}", "expected true or false"},
        {"{\"a\":nul}", "expected a value"},
        {"{\"a\":\"\\x\"}", "unknown escape in a string"},
        {"{\"a\":\"\\ud800\"}", "half of a surrogate pair"},
        {"{\"a\":\"\\udc00\"}", "half of a surrogate pair"},
        {"{\"a\":\"\\u00g0\"}", "four hexadecimal digits"},
        {"{\"a\":\"\t\"}", "control character in a string"},
        {"{\"a\":\"", "string is not closed"},
        {"{\"a\":\"\\", "string is not closed"},
        {"{\"a\":\"\\u12", "string is not closed"},
        {"{}\n\n {}", "3:2: more text after the end"},
        {"{\"rope_theta\":1e999}", "number is too large"},
        {"{\"hidden_size\":1.5}", "expected a whole number"},
        {"{\"tie_word_embeddings\":tr}", "expected true or false"},
        {"{\"rope_theta\":1111111111111111111111111111111111111111111111111111111111111111111111111}",
         "number is too long"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        cccrt_fact f[CCCRT_MAX_FACTS];
        uint32_t n;
        char copy[256]; /* no 0 behind the text: reading past it is a fault that ASan sees */
        size_t len = strlen(row[i].text);
        char *at = copy + sizeof copy - len;
        memcpy(at, row[i].text, len);
        memset(&err, 0, sizeof err);
        cr_expect_eq(cccrt_config_facts(at, len, "j", f, &n, &err), row[i].says ? CCC_E_PARSE : CCC_OK,
                     "%s: %s", row[i].text, err.msg);
        cr_expect(!row[i].says || strstr(err.msg, row[i].says), "%s: wanted \"%s\", got \"%s\"", row[i].text,
                  row[i].says, err.msg);
    }
}
