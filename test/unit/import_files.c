/* Import beside weight files: the headers of safetensors must agree with config.json tensor by tensor, and a
 * GGUF file is enough alone. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/import.h"
#include "readers_make.h"

TestSuite(import_files, .fini = make_clean);
static ccc_err err;
static ccc_config config;

static ccc_status import(ccc_graph **g, const char *model)
{
    ccc_import_args args = {NULL, 0, &config};
    memset(&err, 0, sizeof err);
    return ccc_import(g, model, &args, &err);
}

/* ---- safetensors */
static const char model[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_"
                            "size\":96,\"max_position_embeddings\":128,\"num_attention_heads\":4,"
                            "\"num_hidden_layers\":1,\"num_key_value_heads\":2,\"tie_word_embeddings\":false,"
                            "\"vocab_size\":33,\"torch_dtype\":\"float16\"}";
typedef struct {
    const char *name, *dtype;
    int rows, cols;
} row;
static const row rows[] = {
    {"model.embed_tokens.weight", "BF16", 33, 64},
    {"lm_head.weight", "F32", 33, 64},
    {"model.norm.weight", "BF16", 64, 0},
    {"model.layers.0.input_layernorm.weight", "BF16", 64, 0},
    {"model.layers.0.post_attention_layernorm.weight", "BF16", 64, 0},
    {"model.layers.0.self_attn.q_proj.weight", "BF16", 64, 64},
    {"model.layers.0.self_attn.k_proj.weight", "BF16", 32, 64},
    {"model.layers.0.self_attn.v_proj.weight", "BF16", 32, 64},
    {"model.layers.0.self_attn.o_proj.weight", "BF16", 64, 64},
    {"model.layers.0.mlp.gate_proj.weight", "BF16", 96, 64},
    {"model.layers.0.mlp.up_proj.weight", "BF16", 96, 64},
    {"model.layers.0.mlp.down_proj.weight", "BF16", 64, 96},
    {"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 8, 0},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static uint32_t last_4_bytes; /* of the last tensor; the others are zeros */

/* Writes the model with row `at` replaced (its name NULL: left out), or `at` == N_ROWS: one more. */
static void write_model(int at, row other)
{
    ccc_buf h = {0}, file = {0};
    size_t end = 0;
    ccc_buf_printf(&h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < N_ROWS + (at == N_ROWS); i++) {
        row r = i == at ? other : rows[i];
        if (!r.name) continue;
        size_t size = (size_t)r.rows * (size_t)(r.cols ? r.cols : 1) *
                      (strcmp(r.dtype, "F32") == 0  ? 4
                       : strcmp(r.dtype, "I8") == 0 ? 1
                                                    : 2);
        ccc_buf_printf(&h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", r.name, r.dtype, r.rows);
        if (r.cols) ccc_buf_printf(&h, ",%d", r.cols);
        ccc_buf_printf(&h, "],\"data_offsets\":[%zu,%zu]}", end, end + size);
        end += size;
    }
    ccc_buf_printf(&h, "}");
    make_safetensors(&file, h.data, end);
    memcpy(file.data + file.size_B - 4, &last_4_bytes, 4);
    make_write("model.safetensors", file.data, file.size_B);
    make_write("config.json", model, strlen(model));
    ccc_buf_free(&h);
    ccc_buf_free(&file);
    ccc_config_init(&config);
}

static char *printed(ccc_graph *g)
{
    ccc_buf b = {0};
    cr_assert_eq(ccc_ir_print(g, &b), CCC_OK);
    return b.data;
}

Test(import_files, headers_give_the_dtypes)
{
    ccc_graph *g;
    write_model(-1, rows[0]);
    cr_assert_eq(import(&g, make_folder()), CCC_OK, "%s", err.msg);
    char *text = printed(g);
    cr_expect(strstr(text, "weight \"model.layers.0.self_attn.q_proj.weight\" : bf16[64,64]\n"), "%s", text);
    cr_expect(strstr(text, "weight \"lm_head.weight\" : f32[33,64]\n"));
    free(text);
    ccc_graph_free(g);
}

Test(import_files, a_head_that_no_output_needs_is_not_left_over)
{
    ccc_graph *g;
    write_model(-1, rows[0]);
    config.outputs = "hidden";
    cr_assert_eq(import(&g, make_folder()), CCC_OK, "%s", err.msg);
    char *text = printed(g);
    cr_expect(!strstr(text, "lm_head") && !strstr(text, "logits"));
    free(text);
    ccc_graph_free(g);
}

Test(import_files, a_tied_head_may_be_stored_a_second_time)
{
    static const char changed[] = "\"tie_word_embeddings\":true ";
    char config_text[sizeof model];
    ccc_graph *g;
    write_model(-1, rows[0]);
    strcpy(config_text, model);
    memcpy(strstr(config_text, "\"tie_word_embeddings\":false"), changed, sizeof changed - 1);
    make_write("config.json", config_text, strlen(config_text));
    cr_assert_eq(import(&g, make_folder()), CCC_OK, "%s", err.msg);
    char *text = printed(g);
    cr_expect(!strstr(text, "lm_head"), "the embedding is the head");
    free(text);
    ccc_graph_free(g);
}

/* bits of 0.0625 and others as f32: what a checkpoint says of its K or V */
Test(import_files, scales_of_the_kv_cache)
{
    static const struct {
        row r;
        uint32_t bits;
        const char *dtype, *has, *says; /* has: in the graph; says: the error */
    } cases[] = {
        {{"model.layers.0.self_attn.k_proj.k_scale", "F32", 1, 0}, 0x3d800000, "fp8", "{value = 16}", NULL},
        {{"model.layers.0.self_attn.attn.k_scale", "F32", 1, 0},
         0x3d800000,
         "fp8",
         "k_scale = 0.0625, v_scale = 0.0625}",
         NULL},
        {{"model.layers.0.self_attn.v_scale", "F32", 1, 0},
         0x40000000,
         "fp8_e4m3",
         "k_scale = 2, v_scale = 2}",
         NULL},
        {{"model.layers.0.self_attn.v_scale", "F32", 1, 0},
         0x40000000,
         "fp8",
         "fact kv_cache_scales = \"",
         NULL},
        {{"model.layers.0.self_attn.rotary_emb.inv_freq2", "F32", 1, 0}, 0, "fp8", "", "is not one that"},
        {{"model.layers.0.self_attn.v_proj.v_scale", "F32", 1, 0},
         0x40000000,
         "auto",
         "{scale = 0.25} ",
         NULL}, /* not needed, not left over */
        {{"model.layers.0.self_attn.v_proj.v_scale", "F32", 1, 0},
         0x40000000,
         "bfloat16",
         "{scale = 0.25} ",
         NULL},
        {{"model.layers.0.self_attn.k_proj.k_scale", "F32", 2, 0},
         0,
         "fp8",
         NULL,
         "tensor 'model.layers.0.self_attn.k_proj.k_scale' is not one f32, f16 or bf16"},
        {{"model.layers.0.self_attn.k_proj.k_scale", "F32", 1, 0},
         0,
         "fp8",
         NULL,
         "is 0; a scale must be from 1e-12 to 1e12"},
        {{"model.layers.0.self_attn.k_proj.k_scale", "F32", 1, 0},
         0x7fc00000,
         "fp8",
         NULL,
         "is nan; a scale must be from 1e-12 to 1e12"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ccc_graph *g;
        last_4_bytes = cases[i].bits;
        write_model(N_ROWS, cases[i].r);
        config.kv_cache_dtype = cases[i].dtype;
        ccc_status st = import(&g, make_folder());
        last_4_bytes = 0;
        if (cases[i].says) {
            cr_assert(st != CCC_OK && strstr(err.msg, cases[i].says), "case %zu: %s", i, err.msg);
            continue;
        }
        cr_assert_eq(st, CCC_OK, "case %zu: %s", i, err.msg);
        char *text = printed(g);
        cr_expect(strstr(text, cases[i].has), "case %zu: no '%s' in %s", i, cases[i].has, text);
        free(text);
        ccc_graph_free(g);
    }
}

static void scales_fact(cccrt_fact *f)
{
    cccrt_source *s;
    cr_assert_eq(cccrt_source_open(&s, make_folder(), &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(cccrt_source_kv_scales(s, f, &err), CCC_OK, "%s", err.msg);
    cccrt_source_close(s);
}

/* The graph states what attaching will find in the files: other scales, or none, are another fact. */
Test(import_files, scales_of_the_kv_cache_are_a_fact)
{
    const row k = {"model.layers.0.self_attn.k_proj.k_scale", "F32", 1, 0};
    cccrt_fact none, a, again, b, other_name;
    ccc_graph *g;
    write_model(-1, rows[0]);
    scales_fact(&none);
    cr_assert_str_eq(none.key, "kv_cache_scales");
    cr_assert_str_eq(none.value, "default");
    last_4_bytes = 0x3d800000;
    write_model(N_ROWS, (row){"model.layers.0.self_attn.v_proj.v_scale", "F32", 1, 0});
    scales_fact(&other_name);
    write_model(N_ROWS, k);
    scales_fact(&a);
    scales_fact(&again);
    config.kv_cache_dtype = "fp8";
    cr_assert_eq(import(&g, make_folder()), CCC_OK, "%s", err.msg);
    cr_assert_str_eq(ccc_graph_fact(g, "kv_cache_scales"), a.value);
    ccc_graph_free(g);
    last_4_bytes = 0x3d800001;
    write_model(N_ROWS, k);
    scales_fact(&b);
    last_4_bytes = 0;
    cr_assert_str_eq(a.value, again.value);
    cr_assert(strcmp(a.value, b.value) && strcmp(a.value, none.value) && strcmp(a.value, other_name.value));
}

Test(import_files, tensors_that_do_not_agree)
{
    static const struct {
        int at;
        row r;
        const char *says;
    } bad[] = {
        {5, {NULL, NULL, 0, 0}, "tensor 'model.layers.0.self_attn.q_proj.weight' is missing"},
        {1, {NULL, NULL, 0, 0}, "tensor 'lm_head.weight' is missing"},
        {6,
         {"model.layers.0.self_attn.k_proj.weight", "BF16", 64, 64},
         "tensor 'model.layers.0.self_attn.k_proj.weight' is [64, 64], the model's configuration needs [32, "
         "64]"},
        {2,
         {"model.norm.weight", "BF16", 1, 64},
         "tensor 'model.norm.weight' is [1, 64], the model's configuration needs [64]"},
        {0,
         {"model.embed_tokens.weight", "I8", 33, 64},
         "tensor 'model.embed_tokens.weight' has dtype i8; f32, f16, bf16, q8_0 and q4_1 are supported"},
        {N_ROWS,
         {"model.layers.1.input_layernorm.weight", "BF16", 64, 0},
         "tensor 'model.layers.1.input_layernorm.weight' is not one that LlamaForCausalLM reads"},
        {N_ROWS,
         {"model.layers.0.self_attn.q_proj.bias", "BF16", 64, 0},
         "tensor 'model.layers.0.self_attn.q_proj.bias' is not one that LlamaForCausalLM reads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ccc_graph *g;
        write_model(bad[i].at, bad[i].r);
        cr_expect_neq(import(&g, make_folder()), CCC_OK, "%s", bad[i].says);
        cr_expect(strstr(err.msg, bad[i].says), "wanted \"%s\", got \"%s\"", bad[i].says, err.msg);
    }
}

/* ---- GGUF */
static ccc_status import_gguf_file(ccc_graph **g, make_gguf *m)
{
    ccc_buf b = {0};
    gguf_finish(m, &b);
    make_write("a.gguf", b.data, b.size_B);
    ccc_buf_free(&b);
    ccc_config_init(&config);
    return import(g, make_path("a.gguf"));
}

Test(import_files, gguf)
{
    for (int tied = 0; tied < 2; tied++) {
        make_gguf m = {0};
        ccc_graph *g;
        gguf_llama(&m, tied);
        cr_assert_eq(import_gguf_file(&g, &m), CCC_OK, "%s", err.msg);
        char *text = printed(g);
        cr_expect(strstr(text, "= rope_table {rotary = 16, rows = 128, theta = 100000} : f32[128,16]"), "%s",
                  text);
        cr_expect(strstr(text, "{eps = 1e-05}"), "eps is not the f32 nearest to it");
        cr_expect(strstr(text, "weight \"token_embd.weight\" : q8_0[32,64]\n"));
        cr_expect(strstr(text, "weight \"blk.0.attn_output.weight\" : f16[64,64]\n"));
        cr_expect_eq(strstr(text, "weight \"output.weight\" : q8_0[32,64]\n") == NULL, tied);
        cr_expect_str_eq(ccc_graph_fact(g, "tie_word_embeddings"), tied ? "true" : "false");
        cr_expect_str_eq(ccc_graph_fact(g, "source"), "gguf");
        unsigned unpermuted = 0;
        for (const char *p = text; (p = strstr(p, "= unpermute ")); p++) unpermuted++;
        cr_expect_eq(unpermuted, 2, "q and k alone");
        free(text);
        ccc_graph_free(g);
    }
}

static void bad_gguf(make_gguf *m, const char *says)
{
    ccc_graph *g;
    cr_expect_neq(import_gguf_file(&g, m), CCC_OK, "%s", says);
    cr_expect(strstr(err.msg, says), "wanted \"%s\", got \"%s\"", says, err.msg);
}

Test(import_files, gguf_that_is_not_supported)
{
    static const struct {
        const char *key;
        uint32_t value;
        const char *says;
    } counts[] = {
        {"llama.expert_count", 8, "key 'llama.expert_count': mixture of experts: not supported"},
        {"llama.attention.sliding_window", 8,
         "key 'llama.attention.sliding_window' is not known; if it does not change the model's results: "
         "--ignore-config-key llama.attention.sliding_window"},
        {"llama.attention.value_length", 8, "keys of size 16 and values of size 8: not supported"},
        {"llama.attention.key_length", 20, "rope on 16 of 20 elements"},
        {"llama.vocab_size", 8, "key 'llama.vocab_size' is 8, but tensor 'token_embd.weight' has 32 rows"},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        make_gguf m = {0};
        gguf_llama(&m, true);
        gguf_u32(&m, counts[i].key, counts[i].value);
        if (!strcmp(counts[i].key, "llama.attention.key_length"))
            gguf_u32(&m, "llama.attention.value_length", 20);
        bad_gguf(&m, counts[i].says);
    }
    make_gguf m = {0};
    gguf_llama(&m, true);
    gguf_str(&m, "llama.rope.scaling.type", "yarn");
    bad_gguf(&m, "rope scaling 'yarn' is not supported; none and linear are");
    m = (make_gguf){0};
    gguf_llama(&m, true);
    gguf_tensor(&m, "rope_freqs.weight", 0, 8, 0);
    bad_gguf(&m, "tensor 'rope_freqs.weight'");
    m = (make_gguf){0};
    gguf_llama(&m, true);
    gguf_tensor(&m, "blk.1.attn_norm.weight", 0, 64, 0);
    bad_gguf(&m, "tensor 'blk.1.attn_norm.weight' is not one that LlamaForCausalLM reads (the head is tied "
                 "to the embedding)");
    m = (make_gguf){0};
    gguf_str(&m, "general.architecture", "mamba");
    bad_gguf(&m, "GGUF architecture 'mamba' is not supported");
    m = (make_gguf){0};
    gguf_str(&m, "general.name", "x");
    bad_gguf(&m, "key 'general.architecture' is missing");
    m = (make_gguf){0};
    gguf_str(&m, "general.architecture", "llama");
    bad_gguf(&m, "key 'llama.embedding_length' is missing or not a whole number");
    m = (make_gguf){0};
    gguf_str(&m, "general.architecture", "llama");
    gguf_strings(&m, "llama.embedding_length", 2);
    bad_gguf(&m, "key 'llama.embedding_length' differs between layers: not supported");
    m = (make_gguf){0};
    gguf_str(&m, "general.architecture", "llama");
    gguf_u32(&m, "llama.embedding_length", 0);
    bad_gguf(&m, "key 'llama.embedding_length' is 0, it may be 1 to 1048576");
}

Test(import_files, gguf_keys_can_be_passed_over)
{
    make_gguf m = {0};
    ccc_buf b = {0};
    ccc_graph *g;
    const char *key = "llama.attention.sliding_window";
    gguf_llama(&m, true);
    gguf_u32(&m, key, 8);
    gguf_f32(&m, "llama.rope.scaling.factor", 2); /* without a type: linear */
    gguf_finish(&m, &b);
    make_write("a.gguf", b.data, b.size_B);
    ccc_buf_free(&b);
    ccc_config_init(&config);
    ccc_import_args args = {&key, 1, &config};
    cr_assert_eq(ccc_import(&g, make_path("a.gguf"), &args, &err), CCC_OK, "%s", err.msg);
    cr_expect_str_eq(ccc_graph_fact(g, "rope_scaling"), "linear");
    cr_expect_str_eq(ccc_graph_fact(g, "rope_factor"), "2");
    char *text = printed(g);
    cr_expect(strstr(text, "scaling = \"linear\", factor = 2}"));
    free(text);
    ccc_graph_free(g);
}

Test(import_files, real_gguf)
{
    const char *path = getenv("CCC_TEST_GGUF"); /* SmolLM2-135M-Instruct.Q4_1.gguf */
    ccc_graph *g;
    if (!path || !*path) cr_skip_test("CCC_TEST_GGUF is not set");
    ccc_config_init(&config);
    cr_assert_eq(import(&g, path), CCC_OK, "%s", err.msg);
    cr_expect_str_eq(ccc_graph_fact(g, "layers"), "30");
    cr_expect_str_eq(ccc_graph_fact(g, "vocab_size"), "49152");
    cr_expect_str_eq(ccc_graph_fact(g, "rope_theta"), "100000");
    ccc_graph_free(g);
}
