/* The imported graph of real configurations: the numbers that are published for them, whichever transformers
 * wrote the file. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/import.h"

static ccc_err err;

static ccc_graph *import(const char *name, const ccc_config *config)
{
    char path[512];
    ccc_graph *g = NULL;
    ccc_import_args args = {NULL, 0, config};
    snprintf(path, sizeof path, "%s/models/%s", CCC_TEST_DIR, name);
    cr_assert_eq(ccc_import(&g, path, &args, &err), CCC_OK, "%s: %s", name, err.msg);
    return g;
}

static const struct {
    const char *name, *theta, *scaling, *factor, *eps, *heads, *kv_heads, *head_size, *hidden, *ffn, *vocab,
        *layers, *tied;
    int64_t rows;
    ccc_dtype dtype;
} models[] = {
    {"llama-2-7b", "10000", "none", NULL, "1e-05", "32", "32", "128", "4096", "11008", "32000", "32", "false",
     4096, CCC_F16},
    {"llama-3-8b", "500000", "none", NULL, "1e-05", "32", "8", "128", "4096", "14336", "128256", "32", "false",
     8192, CCC_BF16},
    {"llama-3.1-8b", "500000", "llama3", "8", "1e-05", "32", "8", "128", "4096", "14336", "128256", "32",
     "false", 131072, CCC_BF16},
    {"llama-3.2-1b", "500000", "llama3", "32", "1e-05", "32", "8", "64", "2048", "8192", "128256", "16",
     "true", 131072, CCC_BF16},
    {"smollm2-135m", "100000", "none", NULL, "1e-05", "9", "3", "64", "576", "1536", "49152", "30", "true",
     8192, CCC_BF16},
};

static void expect_fact(const ccc_graph *g, const char *key, const char *value)
{
    const char *got = ccc_graph_fact(g, key);
    if (value)
        cr_expect(got && !strcmp(got, value), "fact %s is %s, not %s", key, got ? got : "absent", value);
    else cr_expect_null(got);
}

static unsigned count(const ccc_graph *g, ccc_op op)
{
    unsigned n = 0;
    for (uint32_t i = 1; i < g->n_nodes; i++) n += g->node[i].op == op;
    return n;
}

Test(import_graph, real_models)
{
    ccc_config config;
    ccc_config_init(&config);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ccc_graph *g = import(models[i].name, &config);
        unsigned layers = (unsigned)atoi(models[i].layers);
        const char *const facts[][2] = {
            {"architecture", "LlamaForCausalLM"},
            {"source", "huggingface"},
            {"rope_theta", models[i].theta},
            {"rope_scaling", models[i].scaling},
            {"rope_factor", models[i].factor},
            {"rms_norm_eps", models[i].eps},
            {"heads", models[i].heads},
            {"kv_heads", models[i].kv_heads},
            {"head_size", models[i].head_size},
            {"hidden_size", models[i].hidden},
            {"intermediate_size", models[i].ffn},
            {"vocab_size", models[i].vocab},
            {"layers", models[i].layers},
            {"tie_word_embeddings", models[i].tied},
            {"hidden_act", "silu"},
        };
        for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) expect_fact(g, facts[k][0], facts[k][1]);
        cr_expect_eq(count(g, CCC_OP_attention), layers);
        cr_expect_eq(count(g, CCC_OP_cache), layers);
        cr_expect_eq(count(g, CCC_OP_matmul), 7 * layers + 1);
        cr_expect_eq(count(g, CCC_OP_weight), 9 * layers + 2 + !strcmp(models[i].tied, "false"));
        cr_expect_eq(count(g, CCC_OP_rope_table), 1);
        cr_expect_eq(ccc_dim_max(g, ccc_dim_sym(ccc_graph_find_sym(g, "B"))) * config.kv_block_size,
                     models[i].rows);
        for (uint32_t n = 1; n < g->n_nodes; n++) {
            if (g->node[n].op == CCC_OP_rope_table) {
                char text[48];
                cr_expect_eq(ccc_attr_int(&g->node[n], "rows"), models[i].rows);
                cr_expect_eq(ccc_attr_int(&g->node[n], "rotary"), atoi(models[i].head_size));
                cccrt_fact_number(text,
                                  ccc_attr_float(&g->node[n], "theta")); /* facts and graph say the same */
                cr_expect_str_eq(text, models[i].theta);
                cr_expect_str_eq(ccc_attr_str(&g->node[n], "scaling"),
                                 models[i].factor ? models[i].scaling : "");
                if (models[i].factor)
                    cr_expect_eq(ccc_attr_float(&g->node[n], "factor"), atof(models[i].factor));
            }
            if (g->node[n].op == CCC_OP_rms_norm) cr_expect_eq(ccc_attr_float(&g->node[n], "eps"), 1e-5);
            if (g->node[n].op == CCC_OP_weight)
                cr_expect_eq(g->value[g->node[n].out[0]].type.dtype, models[i].dtype);
        }
        ccc_graph_free(g);
    }
}

Test(import_graph, both_styles_of_transformers_give_one_graph)
{
    ccc_config config;
    ccc_config_init(&config);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char name[64];
        ccc_buf a = {0}, b = {0};
        snprintf(name, sizeof name, "%s-v5", models[i].name);
        ccc_graph *g = import(models[i].name, &config), *h = import(name, &config);
        cr_assert(ccc_ir_print(g, &a) == CCC_OK && ccc_ir_print(h, &b) == CCC_OK);
        cr_expect_str_eq(a.data, b.data, "%s", name);
        cr_expect_eq(ccc_graph_hash(g), ccc_graph_hash(h));
        ccc_buf_free(&a);
        ccc_buf_free(&b);
        ccc_graph_free(g);
        ccc_graph_free(h);
    }
}

Test(import_graph, one_cache_type_and_the_limits)
{
    ccc_config config;
    ccc_config_init(&config);
    config.kv_layout = "nhd";
    config.kv_block_size = 32;
    config.max_model_len = 100;
    config.max_num_seqs = 4;
    config.max_num_batched_tokens = 77;
    config.outputs = "tokens,hidden";
    ccc_graph *g = import("tiny", &config);
    for (uint32_t n = 1; n < g->n_nodes; n++) {
        if (g->node[n].op != CCC_OP_cache) continue;
        const ccc_type *t = &g->value[g->node[n].out[0]].type;
        cr_expect(t->dtype == CCC_BF16 && t->layout == CCC_LAYOUT_NHD && t->rank == 3);
        cr_expect(t->dim[0].b == 2 && t->dim[1].b == 32 && t->dim[2].b == 16);
    }
    cr_expect_eq(g->sym[ccc_graph_find_sym(g, "T")].max, 77);
    cr_expect_eq(g->sym[ccc_graph_find_sym(g, "S")].max, 4);
    cr_expect_eq(g->sym[ccc_graph_find_sym(g, "R")].max, 4);
    cr_expect_eq(g->sym[ccc_graph_find_sym(g, "B")].max, 4); /* 100 rounded up to blocks of 32 */
    cr_expect_eq(g->n_out, 2);
    cr_expect_str_eq(g->out[0].name, "hidden");
    cr_expect_str_eq(g->out[1].name, "next_tokens");
    ccc_graph_free(g);
}

Test(import_graph, architectures)
{
    const char *const *names = ccc_architectures();
    unsigned n = 0;
    for (; names[n]; n++) cr_expect(import_archs[n] && !strcmp(import_archs[n]->name, names[n]));
    cr_expect_null(import_archs[n]);
    cr_expect_geq(n, 1);
}
