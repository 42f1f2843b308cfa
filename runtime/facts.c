/* What a model's configuration says and its tensors do not show: weights of equal names and shapes made for
 * another rope theta or eps give fluent nonsense. The importer writes these facts into the graph and
 * attaching compares them, both from the functions here, so one spelling of a number cannot differ from
 * another. Values that a config.json leaves out take the defaults of the llama architecture. */
#define _GNU_SOURCE
#include "tensors_impl.h"
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct {
    double theta, eps, factor, low, high, original;
    uint64_t hidden, heads, kv_heads, head_size; /* 0: not given */
    char scaling[32], act[32];
    bool tie;
} config;

void cccrt_fact_number(char out[48], double v)
{
    float f = (float)v;
    if (f >= -1e9f && f <= 1e9f && f == (float)(int64_t)f) { /* whole: without exponent */
        snprintf(out, 48, "%lld", (long long)f);
        return;
    }
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    locale_t old =
        c ? uselocale(c) : (locale_t)0; /* no memory for it: the caller's, where a comma fails to compare */
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, 48, "%.*g", digits, (double)f);
        if (strtof(out, NULL) == f) break;
    }
    if (!c) return;
    uselocale(old);
    freelocale(c);
}

double cccrt_fact_value(double v)
{
    char text[48];
    double out = v;
    cccrt_fact_number(text, v);
    cccrt_scan s = {text, text, text + strlen(text), "", 0};
    return cccrt_scan_f64(&s, &out, NULL) == CCC_OK ? out : v;
}

static void put(cccrt_fact *facts, uint32_t *n, const char *key, const char *value)
{
    facts[*n].key = key;
    snprintf(facts[*n].value, sizeof facts[*n].value, "%s", value);
    ++*n;
}

static void put_number(cccrt_fact *facts, uint32_t *n, const char *key, double v)
{
    facts[*n].key = key;
    cccrt_fact_number(facts[*n].value, v);
    ++*n;
}

static void put_count(cccrt_fact *facts, uint32_t *n, const char *key, uint64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    if (v) put(facts, n, key, text);
}

static void put_config(const config *c, cccrt_fact *facts, uint32_t *n)
{
    bool llama3 = strcmp(c->scaling, "llama3") == 0;
    put_number(facts, n, "rope_theta", c->theta);
    put(facts, n, "rope_scaling", c->scaling);
    if (strcmp(c->scaling, "none") != 0) put_number(facts, n, "rope_factor", c->factor);
    if (llama3) put_number(facts, n, "rope_low_freq_factor", c->low);
    if (llama3) put_number(facts, n, "rope_high_freq_factor", c->high);
    if (llama3) put_number(facts, n, "rope_original_max_position", c->original);
    put_number(facts, n, "rms_norm_eps", c->eps);
    put_count(facts, n, "heads", c->heads);
    put_count(facts, n, "kv_heads", c->kv_heads ? c->kv_heads : c->heads);
    put_count(facts, n, "head_size", c->head_size ? c->head_size : c->heads ? c->hidden / c->heads : 0);
    put(facts, n, "hidden_act", c->act);
    put(facts, n, "tie_word_embeddings", c->tie ? "true" : "false");
}

/* ---- config.json */
static ccc_status scan_optional_u64(cccrt_scan *j, uint64_t *out, ccc_err *err)
{
    return cccrt_scan_peek(j) == CCCRT_JSON_NULL ? cccrt_scan_skip(j, err) : cccrt_scan_u64(j, out, err);
}

static ccc_status scan_number_or_skip(cccrt_scan *j, double *out, ccc_err *err)
{
    return cccrt_scan_peek(j) == CCCRT_JSON_NUMBER ? cccrt_scan_f64(j, out, err) : cccrt_scan_skip(j, err);
}

/* rope_scaling of transformers 4, rope_parameters of 5 (which also holds theta). */
static ccc_status scan_rope(cccrt_scan *j, config *c, ccc_err *err)
{
    char key[64], old_type[32] = "", type[32] = "";
    bool first = true, more;
    if (cccrt_scan_peek(j) == CCCRT_JSON_NULL) return cccrt_scan_skip(j, err);
    CCC_TRY(cccrt_scan_open(j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(j, &first, key, sizeof key, &more, err));
        if (!more) break;
        double *number = strcmp(key, "rope_theta") == 0                         ? &c->theta
                         : strcmp(key, "factor") == 0                           ? &c->factor
                         : strcmp(key, "low_freq_factor") == 0                  ? &c->low
                         : strcmp(key, "high_freq_factor") == 0                 ? &c->high
                         : strcmp(key, "original_max_position_embeddings") == 0 ? &c->original
                                                                                : NULL;
        char *text = strcmp(key, "rope_type") == 0 ? type : strcmp(key, "type") == 0 ? old_type : NULL;
        if (number) CCC_TRY(scan_number_or_skip(j, number, err));
        else if (text && cccrt_scan_peek(j) == CCCRT_JSON_STRING)
            CCC_TRY(cccrt_scan_string(j, text, sizeof type, err));
        else CCC_TRY(cccrt_scan_skip(j, err));
    }
    const char *name = *type ? type : old_type;
    if (*name) snprintf(c->scaling, sizeof c->scaling, "%s", strcmp(name, "default") == 0 ? "none" : name);
    return CCC_OK;
}

static ccc_status scan_member(cccrt_scan *j, const char *key, config *c, ccc_err *err)
{
    uint64_t *count = strcmp(key, "hidden_size") == 0           ? &c->hidden
                      : strcmp(key, "num_attention_heads") == 0 ? &c->heads
                      : strcmp(key, "num_key_value_heads") == 0 ? &c->kv_heads
                      : strcmp(key, "head_dim") == 0            ? &c->head_size
                                                                : NULL;
    if (count) return scan_optional_u64(j, count, err);
    if (strcmp(key, "rope_theta") == 0) return scan_number_or_skip(j, &c->theta, err);
    if (strcmp(key, "rms_norm_eps") == 0) return scan_number_or_skip(j, &c->eps, err);
    if (strcmp(key, "rope_scaling") == 0 || strcmp(key, "rope_parameters") == 0) return scan_rope(j, c, err);
    if (strcmp(key, "hidden_act") == 0 && cccrt_scan_peek(j) == CCCRT_JSON_STRING)
        return cccrt_scan_string(j, c->act, sizeof c->act, err);
    if (strcmp(key, "tie_word_embeddings") == 0 && cccrt_scan_peek(j) == CCCRT_JSON_BOOL)
        return cccrt_scan_bool(j, &c->tie, err);
    return cccrt_scan_skip(j, err);
}

ccc_status cccrt_config_facts(const char *text, size_t size_B, const char *file,
                              cccrt_fact facts[CCCRT_MAX_FACTS], uint32_t *n, ccc_err *err)
{
    cccrt_scan j = {text, text, text + size_B, file, 0};
    config c = {.theta = 10000,
                .eps = 1e-6,
                .factor = 1,
                .low = 1,
                .high = 4,
                .original = 8192,
                .scaling = "none",
                .act = "silu"};
    char key[128];
    bool first = true, more;
    CCC_TRY(cccrt_scan_open(&j, '{', err));
    for (;;) {
        CCC_TRY(cccrt_scan_member(&j, &first, key, sizeof key, &more, err));
        if (!more) break;
        CCC_TRY(scan_member(&j, key, &c, err));
    }
    CCC_TRY(cccrt_scan_end(&j, err));
    *n = 0;
    put(facts, n, "source", "huggingface");
    put_config(&c, facts, n);
    return CCC_OK;
}

/* ---- GGUF */
static const char *arch_key(char out[160], const char *arch, const char *tail)
{
    snprintf(out, 160, "%.100s.%.50s", arch, tail);
    return out;
}

static void gguf_config(const cccrt_source *s, const char *arch, config *c)
{
    char k[160];
    const char *text;
    *c = (config){.theta = 10000,
                  .eps = 1e-6,
                  .factor = 1,
                  .low = 1,
                  .high = 4,
                  .original = 8192,
                  .scaling = "none",
                  .act = "silu"};
    cccrt_gguf_f64(s, arch_key(k, arch, "rope.freq_base"), &c->theta);
    cccrt_gguf_f64(s, arch_key(k, arch, "attention.layer_norm_rms_epsilon"), &c->eps);
    cccrt_gguf_f64(s, arch_key(k, arch, "rope.scale_linear"), &c->factor);
    cccrt_gguf_f64(s, arch_key(k, arch, "rope.scaling.factor"), &c->factor);
    if (c->factor != 1) snprintf(c->scaling, sizeof c->scaling, "linear");
    if (cccrt_gguf_str(s, arch_key(k, arch, "rope.scaling.type"), &text))
        snprintf(c->scaling, sizeof c->scaling, "%s", text);
    cccrt_gguf_u64(s, arch_key(k, arch, "embedding_length"), &c->hidden);
    cccrt_gguf_u64(s, arch_key(k, arch, "attention.head_count"), &c->heads);
    cccrt_gguf_u64(s, arch_key(k, arch, "attention.head_count_kv"), &c->kv_heads);
    cccrt_gguf_u64(s, arch_key(k, arch, "attention.key_length"), &c->head_size);
    c->tie = cccrt_source_find(s, "output.weight") == NULL;
}

/* ---- the source's own */
static ccc_status file_facts(const char *path, cccrt_fact *facts, uint32_t *n, ccc_err *err)
{
    cccrt_source one = {0};
    ccc_status st = cccrt_source_add_file(&one, path, err);
    if (st == CCC_OK && one.file[0].size_B > CCCRT_SRC_MAX_CONFIG_B)
        st = ccc_fail(err, CCC_E_PARSE, "%.300s: too large for a config.json", path);
    if (st == CCC_OK)
        st = cccrt_config_facts((const char *)one.file[0].map, (size_t)one.file[0].size_B, path, facts, n,
                                err);
    cccrt_source_drop_files(&one);
    return st;
}

ccc_status cccrt_source_kv_scales(const cccrt_source *s, cccrt_fact *out, ccc_err *err)
{
    const cccrt_source_tensor *t;
    uint64_t sum = 0, n = 0;
    for (uint32_t i = 0; (t = cccrt_source_get(s, i)); i++) {
        unsigned char value[8] = {0};
        if (!cccrt_source_is_kv_scale(t->name)) continue;
        CCC_TRY(cccrt_source_read(s, t, 0, t->size_B < sizeof value ? t->size_B : sizeof value, value, err));
        sum += XXH64(value, sizeof value, XXH64(t->name, strlen(t->name), t->dtype)); /* in any order */
        n++;
    }
    out->key = "kv_cache_scales";
    if (n) snprintf(out->value, sizeof out->value, "%016llx", (unsigned long long)sum);
    else snprintf(out->value, sizeof out->value, "default");
    return CCC_OK;
}

ccc_status cccrt_source_facts(const cccrt_source *s, cccrt_fact facts[CCCRT_MAX_FACTS], uint32_t *n,
                              ccc_err *err)
{
    const char *arch;
    config c;
    *n = 0;
    if (s->config) return file_facts(s->config, facts, n, err);
    put(facts, n, "source", s->kind == CCCRT_SOURCE_GGUF ? "gguf" : "huggingface");
    if (s->kind != CCCRT_SOURCE_GGUF || !cccrt_gguf_str(s, "general.architecture", &arch)) return CCC_OK;
    gguf_config(s, arch, &c);
    put_config(&c, facts, n);
    return CCC_OK;
}
