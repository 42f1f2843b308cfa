/* config.json, key by key: what is read, what may be there, and what each thing that cannot be honoured says.
 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/import.h"
#include "readers_make.h"

TestSuite(import_config, .fini = make_clean);
static ccc_err err;

static ccc_status import(ccc_graph **g, const ccc_config *config, const char *ignore)
{
    ccc_config dflt;
    ccc_config_init(&dflt);
    ccc_import_args args = {&ignore, ignore != NULL, config ? config : &dflt};
    memset(&err, 0, sizeof err);
    return ccc_import(g, make_folder(), &args, &err);
}

/* The tiny model with `changes` (an object; null removes) laid over it. */
static void write_config(const char *changes)
{
    json_t *base = json_load_file(CCC_TEST_DIR "/models/tiny/config.json", 0, NULL),
           *over = json_loads(changes, JSON_DECODE_ANY, NULL), *v;
    const char *key;
    cr_assert(base && over, "%s", changes);
    json_object_foreach(over, key, v) json_is_null(v) ? json_object_del(base, key)
                                                      : json_object_set(base, key, v);
    char *text = json_dumps(base, JSON_INDENT(1));
    make_write("config.json", text, strlen(text));
    free(text);
    json_decref(base);
    json_decref(over);
}

static const struct {
    const char *changes;
    ccc_status status;
    const char *says;
} bad[] = {
    {"{\"hidden_size\":null}", CCC_E_TYPE, "key 'hidden_size' is missing"},
    {"{\"vocab_size\":null}", CCC_E_TYPE, "key 'vocab_size' is missing"},
    {"{\"hidden_size\":\"64\"}", CCC_E_TYPE, "key 'hidden_size' is not a whole number"},
    {"{\"num_hidden_layers\":0}", CCC_E_TYPE, "key 'num_hidden_layers' is 0, it may be 1 to 1024"},
    {"{\"num_hidden_layers\":-3}", CCC_E_TYPE, "key 'num_hidden_layers' is -3"},
    {"{\"rms_norm_eps\":0}", CCC_E_TYPE, "key 'rms_norm_eps' is not a number above 0"},
    {"{\"tie_word_embeddings\":1}", CCC_E_TYPE, "key 'tie_word_embeddings' is neither true nor false"},
    {"{\"hidden_act\":3}", CCC_E_TYPE, "key 'hidden_act' is not a string"},
    {"{\"hidden_act\":\"relu2\"}", CCC_E_UNSUPPORTED,
     "hidden_act 'relu2' is not supported; silu and gelu_pytorch_tanh are"},
    {"{\"torch_dtype\":\"int8\"}", CCC_E_UNSUPPORTED, "dtype 'int8' is not supported"},
    {"{\"dtype\":\"float16\"}", CCC_E_TYPE, "'torch_dtype' and 'dtype' differ"},
    {"{\"architectures\":[\"MixtralForCausalLM\"]}", CCC_E_UNSUPPORTED,
     "architecture 'MixtralForCausalLM' is not supported"},
    {"{\"architectures\":[\"A\",\"B\"]}", CCC_E_TYPE, "key 'architectures' is not a string"},
    {"{\"architectures\":null,\"model_type\":null}", CCC_E_TYPE,
     "has neither 'architectures' nor 'model_type'"},
    {"{\"architectures\":null,\"model_type\":\"gpt2\"}", CCC_E_UNSUPPORTED,
     "architecture 'gpt2' is not supported"},
    {"{\"num_key_value_heads\":3}", CCC_E_TYPE, "4 heads are not a multiple of 3 key-value heads"},
    {"{\"head_dim\":12}", CCC_E_UNSUPPORTED,
     "a head size of 12 is not supported; multiples of 8 up to 256 are"},
    {"{\"head_dim\":264}", CCC_E_UNSUPPORTED, "a head size of 264 is not supported"},
    {"{\"hidden_size\":60}", CCC_E_UNSUPPORTED, "a head size of 15 is not supported"},
    {"{\"intermediate_size\":100}", CCC_E_UNSUPPORTED, "must be multiples of 8"},
    {"{\"sliding_window\":4096}", CCC_E_UNSUPPORTED,
     "key 'sliding_window': sliding window attention: not supported"},
    {"{\"num_local_experts\":8}", CCC_E_UNSUPPORTED,
     "key 'num_local_experts': mixture of experts: not supported"},
    {"{\"quantization_config\":{\"quant_method\":\"fp8\"}}", CCC_E_UNSUPPORTED,
     "key 'quantization_config': quantised checkpoints: not supported"},
    {"{\"rope_interleaved\":true}", CCC_E_UNSUPPORTED,
     "key 'rope_interleaved': interleaved rope: not supported"},
    {"{\"partial_rotary_factor\":0.5}", CCC_E_UNSUPPORTED,
     "key 'partial_rotary_factor': rope on a part of the head: not supported"},
    {"{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", CCC_E_UNSUPPORTED,
     "key 'layer_types': layers other than full_attention: not supported"},
    {"{\"logit_scale\":2}", CCC_E_UNSUPPORTED,
     "key 'logit_scale' is not known for LlamaForCausalLM; if it does not change the model's results: "
     "--ignore-config-key logit_scale"},
    {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0}}", CCC_E_UNSUPPORTED,
     "rope type 'yarn' is not supported; default, linear and llama3 are"},
    {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0}}", CCC_E_UNSUPPORTED,
     "rope type 'dynamic' is not supported"},
    {"{\"rope_scaling\":{\"factor\":4.0}}", CCC_E_TYPE, "key 'rope_scaling.rope_type' is missing"},
    {"{\"rope_scaling\":{\"rope_type\":\"linear\"}}", CCC_E_TYPE, "key 'rope_scaling.factor' is missing"},
    {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_"
     "factor\":4.0}}",
     CCC_E_TYPE, "key 'rope_scaling.original_max_position_embeddings' is missing"},
    {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":4.0,\"high_freq_"
     "factor\":4.0,\"original_max_position_embeddings\":8}}",
     CCC_E_TYPE, "key 'rope_scaling.high_freq_factor' must be above low_freq_factor"},
    {"{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8.0,\"attention_factor\":1.0}}",
     CCC_E_UNSUPPORTED, "key 'rope_scaling.attention_factor' is not known"},
    {"{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"rope_type\":"
     "\"default\"}}",
     CCC_E_TYPE, "has both 'rope_scaling' and 'rope_parameters'"},
    {"{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5}}", CCC_E_TYPE,
     "'rope_theta' and 'rope_parameters.rope_theta' differ"},
    {"{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}", CCC_E_UNSUPPORTED,
     "key 'rope_parameters.full_attention' is not known"},
    {"{\"rope_scaling\":4}", CCC_E_TYPE, "key 'rope_scaling.rope_type' is missing"},
};

Test(import_config, what_cannot_be_honoured)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ccc_graph *g = NULL;
        write_config(bad[i].changes);
        cr_expect_eq(import(&g, NULL, NULL), bad[i].status, "%s: %s", bad[i].changes, err.msg);
        cr_expect(strstr(err.msg, bad[i].says), "%s: wanted \"%s\", got \"%s\"", bad[i].changes, bad[i].says,
                  err.msg);
        cr_expect(strstr(err.msg, "config.json"), "names the file: %s", err.msg);
        cr_expect_null(g);
    }
}

Test(import_config, text_that_is_not_json)
{
    static const struct {
        const char *text, *says;
        int line;
    } row[] = {
        {"{\n \"a\": 1,\n \"a\": 2\n}", "config.json:3:", 3},
        {"[]", "config.json:1:1: not a JSON object", 0},
        {"{\n\n x", "config.json:3:", 3},
        {"", "config.json:1:", 1},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ccc_graph *g;
        make_write("config.json", row[i].text, strlen(row[i].text));
        cr_expect_eq(import(&g, NULL, NULL), CCC_E_PARSE, "%s", row[i].text);
        cr_expect(strstr(err.msg, row[i].says), "%s", err.msg);
        cr_expect_eq(err.line, row[i].line);
    }
}

Test(import_config, keys_that_do_not_matter_and_keys_named_by_the_user)
{
    ccc_graph *g;
    write_config("{\"use_cache\":true,\"eos_token_id\":[1,2],\"sliding_window\":0,\"num_experts\":false,"
                 "\"pruned_heads\":{},\"layer_types\":[\"full_attention\"],\"partial_rotary_factor\":1}");
    cr_assert_eq(import(&g, NULL, NULL), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    write_config("{\"logit_scale\":2}");
    cr_assert_eq(import(&g, NULL, "logit_scale"), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    cr_assert_eq(import(&g, NULL, "logit_scales"), CCC_E_ARG);
    cr_expect(strstr(err.msg, "has no key 'logit_scales' to ignore"), "%s", err.msg);
    write_config("{\"sliding_window\":4096}");
    cr_assert_eq(import(&g, NULL, "sliding_window"), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    write_config("{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8.0,\"attention_factor\":1.0}}");
    cr_assert_eq(import(&g, NULL, "rope_scaling.attention_factor"), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    cr_assert_eq(import(&g, NULL, "rope_scaling"), CCC_OK, "%s", err.msg);
    ccc_graph_free(g);
    cr_assert_eq(import(&g, NULL, "hidden_size"), CCC_E_TYPE);
    cr_expect(strstr(err.msg, "key 'hidden_size' is missing"));
}

Test(import_config, options_that_shape_the_graph)
{
    static const struct {
        const char *name, *value;
        ccc_status status;
        const char *says;
    } row[] = {
        {"outputs", "", CCC_E_ARG, "option 'outputs': '' is not a list of hidden, logits and tokens"},
        {"outputs", "logits,logits", CCC_E_ARG, "each at most once"},
        {"outputs", "logits,", CCC_E_ARG, "is not a list"},
        {"outputs", "embeddings", CCC_E_ARG, "'embeddings' is not a list"},
        {"max_model_len", "257", CCC_E_ARG, "option 'max_model_len': 257 is more than the model's 256"},
        {"max_model_len", "256", CCC_OK, ""},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ccc_graph *g = NULL;
        ccc_config c;
        ccc_config_init(&c);
        cr_assert_eq(ccc_config_set(&c, row[i].name, row[i].value, &err), CCC_OK);
        write_config("{}");
        cr_expect_eq(import(&g, &c, NULL), row[i].status);
        cr_expect(strstr(err.msg, row[i].says), "%s", err.msg);
        ccc_graph_free(g);
    }
}

Test(import_config, no_such_model)
{
    ccc_graph *g;
    ccc_config c;
    ccc_config_init(&c);
    ccc_import_args args = {NULL, 0, &c};
    cr_assert_eq(ccc_import(&g, make_path("nothing"), &args, &err), CCC_E_IO);
    cr_assert(strstr(err.msg, "cannot open"));
    cr_assert_eq(ccc_import(&g, make_folder(), &args, &err), CCC_E_IO); /* a folder without config.json */
    cr_assert(strstr(err.msg, "config.json"), "%s", err.msg);
}

/* ---- options of a compile */
Test(import_config, options)
{
    static const struct {
        const char *name, *value;
        ccc_status status;
        const char *says;
    } row[] = {
        {"max_num_seqs", "7", CCC_OK, ""},
        {"max-num-seqs", "7", CCC_OK, ""},
        {"batch_invariant", "true", CCC_OK, ""},
        {"kv_layout", "hnd", CCC_OK, ""},
        {"max_num_sequences", "7", CCC_E_ARG, "unknown option 'max_num_sequences'"},
        {"max_num_seqs", "0", CCC_E_ARG, "option 'max_num_seqs': 0 is out of range, it may be 1 to 65536"},
        {"max_num_seqs", "7x", CCC_E_ARG, "option 'max_num_seqs': '7x' is not a whole number"},
        {"max_num_seqs", " 7", CCC_E_ARG, "is not a whole number"},
        {"max_num_seqs", "+7", CCC_E_ARG, "is not a whole number"},
        {"max_num_seqs", "", CCC_E_ARG, "is not a whole number"},
        {"max_num_seqs", "99999999999999999999", CCC_E_ARG, "is not a whole number"},
        {"opt_level", "-1", CCC_E_ARG, "option 'opt_level': -1 is out of range"},
        {"kv_block_size", "48", CCC_E_ARG, "option 'kv_block_size': 48 is not 16, 32 or 64"},
        {"kv_layout", "nh", CCC_E_ARG, "option 'kv_layout': 'nh' is not one of nhd|hnd|ccc"},
        {"kv_layout", "", CCC_E_ARG, "is not one of"},
        {"batch_invariant", "yes", CCC_E_ARG, "option 'batch_invariant': 'yes' is neither true nor false"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ccc_config c;
        ccc_config_init(&c);
        memset(&err, 0, sizeof err);
        cr_expect_eq(ccc_config_set(&c, row[i].name, row[i].value, &err), row[i].status, "%s=%s", row[i].name,
                     row[i].value);
        cr_expect(strstr(err.msg, row[i].says), "%s", err.msg);
    }
}

Test(import_config, every_default_may_be_set)
{
    for (const ccc_option *o = ccc_options; o->name; o++) {
        ccc_config a, b;
        ccc_config_init(&a);
        ccc_config_init(&b);
        if (!strcmp(o->name, "max_num_seqs")) a.max_num_seqs = 3;
        cr_expect_eq(ccc_config_set(&a, o->name, o->dflt, &err), CCC_OK, "%s=%s: %s", o->name, o->dflt,
                     err.msg);
        cr_expect_eq(a.max_num_seqs, b.max_num_seqs);
        cr_expect_gt(strlen(o->help), 0);
    }
}
