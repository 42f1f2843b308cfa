/* LlamaForCausalLM: Llama 2, 3, 3.1, 3.2, SmolLM2 and all that keep to the same graph. The reading of its
 * keys, then the graph. Every rounding is written out: matmul, norm, rope and attention yield f32, and each
 * is cast to bf16 where transformers' bf16 model stores its result. Logits stay f32. */
#include "import.h"
#include <math.h>

static ccc_status read_config(import_model *m, import_config *c, ccc_err *err)
{
    const struct {
        const char *key;
        int64_t most;
        int64_t *v;
    } counts[] = {
        {"hidden_size", 1 << 20, &m->hidden},    {"intermediate_size", 1 << 20, &m->intermediate},
        {"num_hidden_layers", 1024, &m->layers}, {"num_attention_heads", 1024, &m->heads},
        {"vocab_size", 1 << 24, &m->vocab},      {"max_position_embeddings", 1 << 20, &m->max_position},
    };
    bool found;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        CCC_TRY(import_config_int(c, counts[i].key, 1, counts[i].most, counts[i].v, &found, err));
        if (!found) return import_config_missing(c, counts[i].key, err);
    }
    m->kv_heads = m->heads;
    m->head_size = m->hidden / m->heads;
    m->eps = 1e-6;
    CCC_TRY(import_config_int(c, "num_key_value_heads", 1, 1024, &m->kv_heads, NULL, err));
    CCC_TRY(import_config_int(c, "head_dim", 1, 1024, &m->head_size, NULL, err));
    CCC_TRY(import_config_number(c, "rms_norm_eps", &m->eps, NULL, err));
    CCC_TRY(import_config_bool(c, "tie_word_embeddings", &m->tied, err));
    CCC_TRY(import_config_bool(c, "attention_bias", &m->attention_bias, err));
    CCC_TRY(import_config_bool(c, "mlp_bias", &m->mlp_bias, err));
    CCC_TRY(import_config_act(c, &m->act, err));
    return import_config_rope(c, &m->rope, err);
}

/* ---- the graph */
typedef struct {
    import_tensor weight, bias;
} linear; /* GGUFs of this architecture have no biases */
/* clang-format off */
#define LINEAR(hf, gguf, permuted) \
    {{hf ".weight", gguf ".weight", false, permuted}, {hf ".bias", gguf ".bias", false, permuted}}
/* clang-format on */
static const linear wq = LINEAR("model.layers.#.self_attn.q_proj", "blk.#.attn_q", true);
static const linear wk = LINEAR("model.layers.#.self_attn.k_proj", "blk.#.attn_k", true);
static const linear wv = LINEAR("model.layers.#.self_attn.v_proj", "blk.#.attn_v", false);
static const linear wo = LINEAR("model.layers.#.self_attn.o_proj", "blk.#.attn_output", false);
static const linear wgate = LINEAR("model.layers.#.mlp.gate_proj", "blk.#.ffn_gate", false);
static const linear wup = LINEAR("model.layers.#.mlp.up_proj", "blk.#.ffn_up", false);
static const linear wdown = LINEAR("model.layers.#.mlp.down_proj", "blk.#.ffn_down", false);
static const import_tensor embedding = {"model.embed_tokens.weight", "token_embd.weight", false, false};
static const import_tensor head = {"lm_head.weight", "output.weight", false, false};
static const import_tensor attn_norm = {"model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight",
                                        true, false};
static const import_tensor ffn_norm = {"model.layers.#.post_attention_layernorm.weight",
                                       "blk.#.ffn_norm.weight", true, false};
static const import_tensor final_norm = {"model.norm.weight", "output_norm.weight", true, false};

typedef struct {
    ccc_val positions, query_start_loc, seq_lens, block_table, slot_mapping, logits_indices, rope;
} step;

/* What projections of one input read, and with which scales if they are quantised. */
typedef struct {
    ccc_val v;
    import_scale scale;
} operand;

static operand operand_of(importer *im, int64_t layer, ccc_val x, const linear *const *w, unsigned n,
                          const char *name)
{
    const import_tensor *t[3];
    for (unsigned i = 0; i < n; i++) t[i] = &w[i]->weight;
    operand o = {.scale = import_scales(im, t, n, layer)};
    o.v = import_operand(im, x, o.scale, im->quant ? import_name(im, layer, name) : NULL);
    return o;
}

static ccc_val project(importer *im, const linear *w, bool bias, int64_t layer, operand x, int64_t n,
                       int64_t k, const char *name)
{
    ccc_val y = import_product(im, &w->weight, layer, x.v, n, k, x.scale);
    if (bias) y = import_node(im, CCC_OP_add, NULL, NULL, 0, 2, y, import_weight(im, &w->bias, layer, n, 0));
    return import_cast(im, y, import_name(im, layer, name));
}

static ccc_val norm(importer *im, const import_tensor *w, int64_t layer, ccc_val x, const char *name)
{
    ccc_val n = import_node(im, CCC_OP_rms_norm, NULL, (ccc_attr_arg[]){{"eps", {.f = im->m.eps}}}, 1, 1, x);
    ccc_val c = import_cast(im, n, NULL);
    ccc_val y =
        import_node(im, CCC_OP_mul, NULL, NULL, 0, 2, c, import_weight(im, w, layer, im->m.hidden, 0));
    return import_cast(im, y, import_name(im, layer, name));
}

static ccc_val rotate(importer *im, const step *s, int64_t layer, ccc_val x, const char *name)
{
    ccc_val y = import_node(im, CCC_OP_rope, NULL, (ccc_attr_arg[]){{"head_size", {.i = im->m.head_size}}}, 1,
                            3, x, s->rope, s->positions);
    return import_cast(im, y, import_name(im, layer, name));
}

static ccc_val rope_table(importer *im)
{
    const import_rope *r = &im->m.rope;
    ccc_attr_arg attrs[] = {
        {"rotary", {.i = im->m.head_size}},
        {"rows", {.i = im->max_model_len}},
        {"theta", {.f = r->theta}},
        {"scaling", {.s = r->scaling}},
        {"factor", {.f = r->factor}},
        {"low_freq_factor", {.f = r->low_freq_factor}},
        {"high_freq_factor", {.f = r->high_freq_factor}},
        {"original_max_position", {.i = r->original_max_position}},
    };
    return import_leaf(im, CCC_OP_rope_table, "rope_table", attrs,
                       *r->scaling ? sizeof attrs / sizeof *attrs : 3, NULL);
}

static ccc_val attend(importer *im, const step *s, int64_t l, ccc_val h)
{
    const import_model *m = &im->m;
    int64_t q_n = m->heads * m->head_size, kv_n = m->kv_heads * m->head_size;
    operand x = operand_of(im, l, h, (const linear *const[]){&wq, &wk, &wv}, 3, "h1q");
    ccc_val q = project(im, &wq, m->attention_bias, l, x, q_n, m->hidden, "q");
    ccc_val k = project(im, &wk, m->attention_bias, l, x, kv_n, m->hidden, "k");
    ccc_val v = project(im, &wv, m->attention_bias, l, x, kv_n, m->hidden, "v");
    ccc_val qr = rotate(im, s, l, q, "qr"), kr = rotate(im, s, l, k, "kr");
    import_kv_scale kv = import_kv_scales(im, l);
    ccc_val kc = import_kv_rows(im, kr, kv.k, import_name(im, l, "kq")),
            vc = import_kv_rows(im, v, kv.v, import_name(im, l, "vq"));
    ccc_val cache = import_node(im, CCC_OP_kv_write, import_name(im, l, "kv1"), NULL, 0, 4,
                                import_kv_cache(im, l), kc, vc, s->slot_mapping);
    ccc_attr_arg scale[] = {{"scale", {.f = 1 / sqrt((double)m->head_size)}},
                            {"k_scale", {.f = (double)kv.k}},
                            {"v_scale", {.f = (double)kv.v}}};
    ccc_val a = import_node(im, CCC_OP_attention, NULL, scale, 3, 5, qr, cache, s->block_table, s->seq_lens,
                            s->query_start_loc);
    a = import_cast(im, a, import_name(im, l, "a"));
    operand y = operand_of(im, l, a, (const linear *const[]){&wo}, 1, "aq");
    return project(im, &wo, m->attention_bias, l, y, m->hidden, q_n, "o");
}

static ccc_val feed_forward(importer *im, int64_t l, ccc_val h)
{
    const import_model *m = &im->m;
    operand x = operand_of(im, l, h, (const linear *const[]){&wgate, &wup}, 2, "h2q");
    ccc_val g = project(im, &wgate, m->mlp_bias, l, x, m->intermediate, m->hidden, "g");
    ccc_val u = project(im, &wup, m->mlp_bias, l, x, m->intermediate, m->hidden, "u");
    ccc_val s = import_cast(im, import_node(im, m->act, NULL, NULL, 0, 1, g), import_name(im, l, "s"));
    ccc_val p = import_cast(im, import_node(im, CCC_OP_mul, NULL, NULL, 0, 2, s, u), import_name(im, l, "p"));
    operand y = operand_of(im, l, p, (const linear *const[]){&wdown}, 1, "pq");
    return project(im, &wdown, m->mlp_bias, l, y, m->hidden, m->intermediate, "d");
}

static ccc_val layer(importer *im, const step *s, int64_t l, ccc_val x)
{
    ccc_val o = attend(im, s, l, norm(im, &attn_norm, l, x, "h1"));
    x = import_cast(im, import_node(im, CCC_OP_add, NULL, NULL, 0, 2, x, o), import_name(im, l, "x1"));
    ccc_val d = feed_forward(im, l, norm(im, &ffn_norm, l, x, "h2"));
    return import_cast(im, import_node(im, CCC_OP_add, NULL, NULL, 0, 2, x, d), import_name(im, l, "x2"));
}

/* The last norm is over all tokens only when somebody wants the hidden state of all; else over the rows whose
 * logits are wanted. */
static void results(importer *im, const step *s, ccc_val x, ccc_val table)
{
    const import_model *m = &im->m;
    ccc_val hidden;
    bool rows = im->want_logits || im->want_tokens;
    if (im->want_hidden) {
        hidden = norm(im, &final_norm, -1, x, "hidden");
        import_output(im, "hidden", hidden);
        if (rows)
            hidden = import_node(im, CCC_OP_gather, "hidden_rows", NULL, 0, 2, hidden, s->logits_indices);
    } else {
        hidden =
            norm(im, &final_norm, -1,
                 import_node(im, CCC_OP_gather, "x_rows", NULL, 0, 2, x, s->logits_indices), "hidden_rows");
    }
    if (!rows || m->tied)
        import_unread(im, &head, -1, m->vocab, m->hidden); /* a tied head may be stored a second time */
    if (!rows) return;
    ccc_val w = m->tied ? table : import_weight(im, &head, -1, m->vocab, m->hidden);
    ccc_val logits = import_node(im, CCC_OP_matmul, "logits", NULL, 0, 2, hidden, w);
    if (im->want_logits) import_output(im, "logits", logits);
    if (im->want_tokens)
        import_output(im, "next_tokens", import_node(im, CCC_OP_argmax, "next_tokens", NULL, 0, 1, logits));
}

static void build(importer *im)
{
    ccc_dim hidden = ccc_dim_const(im->m.hidden), none = {0}, starts = im->S;
    starts.b = 1;
    ccc_val ids = import_input(im, "token_ids", CCC_I32, 1, im->T, none);
    ccc_val embeds = import_input(im, "inputs_embeds", CCC_BF16, 2, im->T, hidden);
    step s = {
        .positions = import_input(im, "positions", CCC_I64, 1, im->T, none),
        .query_start_loc = import_input(im, "query_start_loc", CCC_I32, 1, starts, none),
        .seq_lens = import_input(im, "seq_lens", CCC_I32, 1, im->S, none),
        .block_table = import_input(im, "block_table", CCC_I32, 2, im->S, im->B),
        .slot_mapping = import_input(im, "slot_mapping", CCC_I64, 1, im->T, none),
    };
    if (im->want_logits || im->want_tokens)
        s.logits_indices = import_input(im, "logits_indices", CCC_I32, 1, im->R, none);
    s.rope = rope_table(im);
    ccc_val table = import_weight(im, &embedding, -1, im->m.vocab, im->m.hidden);
    ccc_val x = import_node(im, CCC_OP_embed, "x", NULL, 0, 3, table, ids, embeds);
    for (int64_t l = 0; l < im->m.layers; l++) x = layer(im, &s, l, x);
    results(im, &s, x, table);
}

const import_arch import_llama = {"LlamaForCausalLM", "llama", "llama", read_config, build};
