/* config.json, read with an account of its keys. Every key that somebody asks for is ticked off; what is left
 * at the end must be on the list of import_keys.def or named by the user, else import fails: a key that
 * nobody read may be the one that changes the numbers. */
#include "import.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ASKED = 64 };
struct import_config {
    json_t *root;
    ccc_buf text;
    const char *path;
    const ccc_import_args *args;
    const char *asked[MAX_ASKED];
    unsigned n_asked; /* literals */
};

static const struct {
    const char *key, *what;
} listed[] = {
    /* what NULL: passed over */
#define PASS_OVER(key) {key, NULL},
#define REFUSE(key, what) {key, what},
#include "import_keys.def"
};

static bool is_ignored(const import_config *c, const char *key)
{
    for (unsigned i = 0; c->args && i < c->args->n_ignore_keys; i++)
        if (strcmp(c->args->ignore_keys[i], key) == 0) return true;
    return false;
}

/* The value of "outer" or "outer.inner"; NULL: absent or null. */
static json_t *find(const import_config *c, const char *key)
{
    json_t *v = json_object_get(c->root, key);
    const char *dot = strchr(key, '.');
    if (!v && dot) v = json_object_get(json_object_getn(c->root, key, (size_t)(dot - key)), dot + 1);
    return json_is_null(v) ? NULL : v;
}

static json_t *ask(import_config *c, const char *key)
{
    bool known = false;
    for (unsigned i = 0; i < c->n_asked; i++) known |= strcmp(c->asked[i], key) == 0;
    if (!known && c->n_asked < MAX_ASKED) c->asked[c->n_asked++] = key;
    for (const char *const *k = c->args ? c->args->ignore_keys : NULL, *const *end =
                                                                           k ? k + c->args->n_ignore_keys
                                                                             : NULL;
         k < end; k++) {
        size_t n = strlen(*k); /* passing over a key passes over what is inside it */
        if (strncmp(*k, key, n) == 0 && (key[n] == 0 || key[n] == '.')) return NULL;
    }
    return find(c, key);
}

static bool was_asked(const import_config *c, const char *key)
{
    for (unsigned i = 0; i < c->n_asked; i++)
        if (strcmp(c->asked[i], key) == 0) return true;
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
        if (strcmp(listed[i].key, key) == 0) return true;
    return is_ignored(c, key);
}

ccc_status import_config_open(import_config **out, const char *path, const ccc_import_args *args,
                              ccc_err *err)
{
    import_config *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    c->path = path;
    c->args = args;
    json_error_t at = {0};
    ccc_status st = ccc_read_file(&c->text, path, err);
    if (st == CCC_OK && !(c->root = json_loadb(c->text.data, c->text.size_B, JSON_REJECT_DUPLICATES, &at))) {
        bool nomem = at.line < 1 || json_error_code(&at) == json_error_out_of_memory;
        st = nomem ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                   : ccc_fail(err, CCC_E_PARSE, "%.200s:%d:%d: %s", path, at.line, at.column, at.text);
        if (err && !nomem) err->line = at.line, err->col = at.column;
    }
    if (st == CCC_OK && !json_is_object(c->root))
        st = ccc_fail(err, CCC_E_PARSE, "%.200s:1:1: not a JSON object", path);
    for (unsigned i = 0; st == CCC_OK && args && i < args->n_ignore_keys; i++) {
        const char *key = args->ignore_keys[i], *dot = strchr(key, '.');
        json_t *outer = dot ? json_object_getn(c->root, key, (size_t)(dot - key)) : NULL;
        if (!json_object_get(c->root, key) && !(outer && json_object_get(outer, dot + 1)))
            st = ccc_fail(err, CCC_E_ARG, "%.200s has no key '%.100s' to ignore", path, key);
    }
    if (st != CCC_OK) import_config_close(c);
    else *out = c;
    return st;
}

void import_config_close(import_config *c)
{
    if (!c) return;
    json_decref(c->root);
    ccc_buf_free(&c->text);
    free(c);
}

const char *import_config_text(const import_config *c, size_t *size_B)
{
    *size_B = c->text.size_B;
    return c->text.data;
}

bool import_config_has(import_config *c, const char *key)
{
    return ask(c, key) != NULL;
}

ccc_status import_config_missing(const import_config *c, const char *key, ccc_err *err)
{
    return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' is missing", c->path, key);
}

ccc_status import_config_int(import_config *c, const char *key, int64_t least, int64_t most, int64_t *v,
                             bool *found, ccc_err *err)
{
    json_t *j = ask(c, key);
    if (found) *found = j != NULL;
    if (!j) return CCC_OK;
    if (!json_is_integer(j))
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' is not a whole number", c->path, key);
    if (json_integer_value(j) < least || json_integer_value(j) > most)
        return ccc_fail(err, CCC_E_TYPE,
                        "%.200s: key '%s' is %" JSON_INTEGER_FORMAT ", it may be %" PRId64 " to %" PRId64,
                        c->path, key, json_integer_value(j), least, most);
    *v = json_integer_value(j);
    return CCC_OK;
}

ccc_status import_config_number(import_config *c, const char *key, double *v, bool *found, ccc_err *err)
{
    json_t *j = ask(c, key);
    if (found) *found = j != NULL;
    if (!j) return CCC_OK;
    double d = json_number_value(j);
    if (!json_is_number(j) || !(d > 0 && d <= 1e30))
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' is not a number above 0", c->path, key);
    *v = d;
    return CCC_OK;
}

ccc_status import_config_bool(import_config *c, const char *key, bool *v, ccc_err *err)
{
    json_t *j = ask(c, key);
    if (!j) return CCC_OK;
    if (!json_is_boolean(j))
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' is neither true nor false", c->path, key);
    *v = json_is_true(j);
    return CCC_OK;
}

ccc_status import_config_str(import_config *c, const char *key, const char **v, ccc_err *err)
{
    json_t *j = ask(c, key);
    if (json_is_array(j) && json_array_size(j) == 1)
        j = json_array_get(j, 0); /* "architectures": a list of one */
    if (!j) return CCC_OK;
    if (!json_is_string(j))
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' is not a string", c->path, key);
    *v = json_string_value(j);
    return CCC_OK;
}

/* absent, null, false, 0, "", [] and {} ask for nothing */
static bool asks_for_nothing(const json_t *j)
{
    return !j || json_is_false(j) || (json_is_number(j) && json_number_value(j) == 0) ||
           (json_is_object(j) && json_object_size(j) == 0) || (json_is_array(j) && json_array_size(j) == 0);
}

ccc_status import_config_refuse(import_config *c, ccc_err *err)
{
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
        if (listed[i].what && !is_ignored(c, listed[i].key) && !asks_for_nothing(find(c, listed[i].key)))
            return ccc_fail(err, CCC_E_UNSUPPORTED, "%.200s: key '%s': %s: not supported", c->path,
                            listed[i].key, listed[i].what);
    json_t *types = ask(c, "layer_types"), *type;
    size_t at;
    json_array_foreach(types, at, type) if (!json_is_string(type) ||
                                            strcmp(json_string_value(type), "full_attention") !=
                                                0) return ccc_fail(err, CCC_E_UNSUPPORTED,
                                                                   "%.200s: key 'layer_types': layers other "
                                                                   "than full_attention: not supported",
                                                                   c->path);
    double partial = 1;
    CCC_TRY(import_config_number(c, "partial_rotary_factor", &partial, NULL, err));
    if (partial != 1)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: key 'partial_rotary_factor': rope on a part of the head: not supported",
                        c->path);
    return CCC_OK;
}

ccc_status import_config_finish(import_config *c, const char *arch, ccc_err *err)
{
    const char *key, *inner;
    json_t *v, *w;
    char path[256];
    json_object_foreach(c->root, key, v)
    {
        if (was_asked(c, key)) continue;
        bool entered = false; /* somebody asked for "key.something" */
        for (unsigned i = 0; i < c->n_asked; i++)
            entered |= strncmp(c->asked[i], key, strlen(key)) == 0 && c->asked[i][strlen(key)] == '.';
        if (entered && json_is_null(v)) continue;
        if (entered && json_is_object(v)) {
            json_object_foreach(v, inner, w)
            {
                snprintf(path, sizeof path, "%.100s.%.100s", key, inner);
                if (!was_asked(c, path)) goto unknown;
            }
            continue;
        }
        snprintf(path, sizeof path, "%.200s", key);
    unknown:
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.150s: key '%.120s' is not known for %s; if it does not change the model's "
                        "results: --ignore-config-key %.80s",
                        c->path, path, arch, path);
    }
    return CCC_OK;
}

/* ---- groups of keys that many architectures share */
static ccc_status rope_numbers(import_config *c, bool v5, import_rope *r, ccc_err *err)
{
    static const char *const v4_keys[] = {"rope_scaling.factor", "rope_scaling.low_freq_factor",
                                          "rope_scaling.high_freq_factor",
                                          "rope_scaling.original_max_position_embeddings"};
    static const char *const v5_keys[] = {"rope_parameters.factor", "rope_parameters.low_freq_factor",
                                          "rope_parameters.high_freq_factor",
                                          "rope_parameters.original_max_position_embeddings"};
    const char *const *key = v5 ? v5_keys : v4_keys;
    double *const to[] = {&r->factor, &r->low_freq_factor, &r->high_freq_factor};
    bool found;
    for (int i = 0; i < (strcmp(r->scaling, "llama3") == 0 ? 3 : 1); i++) {
        CCC_TRY(import_config_number(c, key[i], to[i], &found, err));
        if (!found) return import_config_missing(c, key[i], err);
    }
    if (strcmp(r->scaling, "llama3") != 0) return CCC_OK;
    CCC_TRY(import_config_int(c, key[3], 1, 1 << 30, &r->original_max_position, &found, err));
    if (!found) return import_config_missing(c, key[3], err);
    if (r->high_freq_factor <= r->low_freq_factor)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: key '%s' must be above low_freq_factor", c->path, key[2]);
    return CCC_OK;
}

ccc_status import_config_rope(import_config *c, import_rope *r, ccc_err *err)
{
    bool v4 = find(c, "rope_scaling") && !is_ignored(c, "rope_scaling"),
         v5 = find(c, "rope_parameters") && !is_ignored(c, "rope_parameters"), outer, inner;
    const char *type = NULL, *old_type = NULL;
    double theta = 10000;
    *r = (import_rope){10000, 1, 1, 4, 8192, ""};
    if (v4 && v5)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: has both 'rope_scaling' and 'rope_parameters'", c->path);
    CCC_TRY(import_config_number(c, "rope_theta", &theta, &outer, err));
    r->theta = theta;
    CCC_TRY(import_config_number(c, "rope_parameters.rope_theta", &r->theta, &inner, err));
    if (outer && inner && theta != r->theta)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: 'rope_theta' and 'rope_parameters.rope_theta' differ",
                        c->path);
    CCC_TRY(import_config_str(c, "rope_scaling.rope_type", &type, err));
    CCC_TRY(import_config_str(c, "rope_scaling.type", &old_type, err));
    CCC_TRY(import_config_str(c, "rope_parameters.rope_type", &type, err));
    if (!type) type = old_type;
    if (!type && v4) return import_config_missing(c, "rope_scaling.rope_type", err);
    if (!type || strcmp(type, "default") == 0) return CCC_OK;
    if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "%.200s: rope type '%.60s' is not supported; default, linear and llama3 are", c->path,
                        type);
    r->scaling = type[2] == 'n' ? "linear" : "llama3";
    return rope_numbers(c, v5, r, err);
}

ccc_status import_config_dtype(import_config *c, ccc_dtype *dtype, ccc_err *err)
{
    const char *old = NULL, *text = NULL;
    CCC_TRY(import_config_str(c, "torch_dtype", &old, err));
    CCC_TRY(import_config_str(c, "dtype", &text, err));
    if (old && text && strcmp(old, text) != 0)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: 'torch_dtype' and 'dtype' differ", c->path);
    if (!text) text = old ? old : "bfloat16";
    *dtype = strcmp(text, "bfloat16") == 0  ? CCC_BF16
             : strcmp(text, "float16") == 0 ? CCC_F16
             : strcmp(text, "float32") == 0 ? CCC_F32
                                            : CCC_NONE;
    if (*dtype) return CCC_OK;
    return ccc_fail(err, CCC_E_UNSUPPORTED,
                    "%.200s: dtype '%.60s' is not supported; bfloat16, float16 and float32 are", c->path,
                    text);
}

ccc_status import_config_act(import_config *c, ccc_op *act, ccc_err *err)
{
    const char *text = "silu";
    CCC_TRY(import_config_str(c, "hidden_act", &text, err));
    *act = strcmp(text, "silu") == 0                ? CCC_OP_silu
           : strcmp(text, "gelu_pytorch_tanh") == 0 ? CCC_OP_gelu_tanh
                                                    : CCC_N_OPS;
    if (*act != CCC_N_OPS) return CCC_OK;
    return ccc_fail(err, CCC_E_UNSUPPORTED,
                    "%.200s: hidden_act '%.60s' is not supported; silu and gelu_pytorch_tanh are", c->path,
                    text);
}
