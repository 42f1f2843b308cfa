/* A GGUF file of a known architecture: hyperparameters from its metadata, dtypes and shapes from its tensor
 * table. Numbers that GGUF keeps as f32 are read as the shortest decimal that gives the same f32, so that eps
 * is 1e-05 from either kind of file. */
#include "import.h"
#include <inttypes.h>
#include <string.h>

typedef struct {
    const cccrt_source *s;
    const char *path, *arch;
    const ccc_import_args *args;
    char text[192];
} gguf;

static const char *key_of(gguf *g, const char *tail)
{
    snprintf(g->text, sizeof g->text, "%.60s.%.100s", g->arch, tail);
    return g->text;
}

/* Keys below ARCH. that are read, or change nothing. Others are errors, as in config.json. */
static const char *const known[] = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "expert_count",
    "expert_used_count",
    "vocab_size",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned", /* say how a scaling came about; factor is what counts */
};

static bool is_ignored(const gguf *g, const char *key)
{
    for (unsigned i = 0; i < g->args->n_ignore_keys; i++)
        if (strcmp(g->args->ignore_keys[i], key) == 0) return true;
    return false;
}

static ccc_status check_keys(gguf *g, ccc_err *err)
{
    size_t n = strlen(g->arch);
    const char *key;
    for (uint32_t i = 0; (key = cccrt_gguf_key(g->s, i)); i++) {
        if (strncmp(key, g->arch, n) != 0 || key[n] != '.' || is_ignored(g, key)) continue;
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) found |= strcmp(key + n + 1, known[k]) == 0;
        if (!found)
            return ccc_fail(err, CCC_E_UNSUPPORTED,
                            "%.150s: key '%.120s' is not known; if it does not change the model's results: "
                            "--ignore-config-key %.80s",
                            g->path, key, key);
    }
    return CCC_OK;
}

/* A count from 1 to `most`; an absent key leaves *v. */
static ccc_status count(gguf *g, const char *tail, int64_t most, bool required, int64_t *v, ccc_err *err)
{
    uint64_t u;
    const char *key = key_of(g, tail);
    if (cccrt_gguf_array(g->s, key, &u))
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%.200s: key '%.120s' differs between layers: not supported",
                        g->path, key);
    if (!cccrt_gguf_u64(g->s, key, &u)) {
        if (required)
            return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%.120s' is missing or not a whole number", g->path,
                            key);
        return CCC_OK;
    }
    if (u < 1 || u > (uint64_t)most)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%.120s' is %" PRIu64 ", it may be 1 to %" PRId64,
                        g->path, key, u, most);
    *v = (int64_t)u;
    return CCC_OK;
}

static ccc_status number(gguf *g, const char *tail, double *v, ccc_err *err)
{
    double d;
    const char *key = key_of(g, tail);
    if (!cccrt_gguf_f64(g->s, key, &d)) return CCC_OK;
    if (!(d > 0 && d <= 1e30))
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%.120s' is not a number above 0", g->path, key);
    *v = cccrt_fact_value(d);
    return CCC_OK;
}

static ccc_status read_rope(gguf *g, import_rope *r, ccc_err *err)
{
    const char *type = NULL;
    *r = (import_rope){10000, 1, 1, 4, 8192, ""};
    CCC_TRY(number(g, "rope.freq_base", &r->theta, err));
    CCC_TRY(number(g, "rope.scale_linear", &r->factor, err));
    CCC_TRY(number(g, "rope.scaling.factor", &r->factor, err));
    if (r->factor != 1) r->scaling = "linear"; /* a factor without a type: linear, as llama.cpp takes it */
    if (cccrt_gguf_str(g->s, key_of(g, "rope.scaling.type"), &type)) {
        if (strcmp(type, "none") != 0 && strcmp(type, "linear") != 0)
            return ccc_fail(err, CCC_E_UNSUPPORTED,
                            "%.200s: rope scaling '%.60s' is not supported; none and linear are", g->path,
                            type);
        r->scaling = *type == 'l' ? "linear" : "";
    }
    if (cccrt_source_find(g->s, "rope_freqs.weight"))
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: tensor 'rope_freqs.weight': rope frequencies given as a tensor are not "
                        "supported; import the Hugging Face folder",
                        g->path);
    return CCC_OK;
}

static ccc_status read_heads(gguf *g, import_model *m, ccc_err *err)
{
    int64_t value_size, rotary;
    CCC_TRY(count(g, "attention.head_count", 1024, true, &m->heads, err));
    m->kv_heads = m->heads;
    CCC_TRY(count(g, "attention.head_count_kv", 1024, false, &m->kv_heads, err));
    m->head_size = m->hidden / m->heads;
    CCC_TRY(count(g, "attention.key_length", 1024, false, &m->head_size, err));
    value_size = rotary = m->head_size;
    CCC_TRY(count(g, "attention.value_length", 1024, false, &value_size, err));
    CCC_TRY(count(g, "rope.dimension_count", 1024, false, &rotary, err));
    if (value_size != m->head_size)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: keys of size %" PRId64 " and values of size %" PRId64 ": not supported",
                        g->path, m->head_size, value_size);
    if (rotary != m->head_size)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: rope on %" PRId64 " of %" PRId64 " elements of a head: not supported",
                        g->path, rotary, m->head_size);
    return CCC_OK;
}

static ccc_status read_model(gguf *g, import_model *m, ccc_err *err)
{
    uint64_t experts = 0, vocab = 0;
    CCC_TRY(check_keys(g, err));
    if (cccrt_gguf_u64(g->s, key_of(g, "expert_count"), &experts) && experts)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "%.200s: key '%.120s': mixture of experts: not supported",
                        g->path, g->text);
    CCC_TRY(count(g, "embedding_length", 1 << 20, true, &m->hidden, err));
    CCC_TRY(count(g, "feed_forward_length", 1 << 20, true, &m->intermediate, err));
    CCC_TRY(count(g, "block_count", 1024, true, &m->layers, err));
    CCC_TRY(count(g, "context_length", 1 << 20, true, &m->max_position, err));
    CCC_TRY(read_heads(g, m, err));
    m->eps = 1e-6;
    CCC_TRY(number(g, "attention.layer_norm_rms_epsilon", &m->eps, err));
    CCC_TRY(read_rope(g, &m->rope, err));
    const cccrt_source_tensor *table = cccrt_source_find(g->s, "token_embd.weight");
    if (!table || table->rank != 2 || table->dim[0] < 1 || table->dim[0] > 1 << 24)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: tensor 'token_embd.weight' is missing, or not a table",
                        g->path);
    m->vocab = table->dim[0];
    if (cccrt_gguf_u64(g->s, key_of(g, "vocab_size"), &vocab) && vocab != (uint64_t)m->vocab)
        return ccc_fail(err, CCC_E_TYPE,
                        "%.200s: key '%.120s' is %" PRIu64 ", but tensor 'token_embd.weight' has %" PRId64
                        " rows",
                        g->path, g->text, vocab, m->vocab);
    m->tied = cccrt_source_find(g->s, "output.weight") == NULL;
    m->act = CCC_OP_silu;
    return CCC_OK;
}

ccc_status import_gguf(ccc_graph **out, const char *path, const ccc_import_args *args, ccc_err *err)
{
    cccrt_source *source = NULL;
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n = 0;
    gguf g = {.path = path, .args = args};
    importer im = {.config = args->config, .file = path, .gguf = true, .err = err};
    CCC_TRY(cccrt_source_open(&source, path, err));
    ccc_status st = CCC_OK;
    im.source = g.s = source;
    if (!cccrt_gguf_str(source, "general.architecture", &g.arch)) {
        st = ccc_fail(err, CCC_E_TYPE, "%.200s: key 'general.architecture' is missing", path);
    } else {
        for (const import_arch *const *a = import_archs; *a; a++)
            if ((*a)->gguf && strcmp((*a)->gguf, g.arch) == 0) im.arch = *a;
        if (!im.arch)
            st = ccc_fail(
                err, CCC_E_UNSUPPORTED,
                "%.200s: GGUF architecture '%.100s' is not supported (ccc import --list-architectures)", path,
                g.arch);
    }
    if (st == CCC_OK) st = read_model(&g, &im.m, err);
    if (st == CCC_OK) st = cccrt_source_facts(source, facts, &n, err);
    if (st == CCC_OK) st = import_graph(out, &im, facts, n);
    cccrt_source_close(source);
    return st;
}
