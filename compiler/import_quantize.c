/* Quantisation on import, fp8-static: each projection of a layer becomes a product of e4m3 with one scale for
 * its input and one for its weight, both known beforehand. What that means is in ir/README.md; here are the
 * scales. They come from a JSON file, {"PROJECTION": {"input": s, "weight": s}, ...}, with a row for every
 * projection by the name of its tensor (".weight" may be left out), or are DEFAULT_*. Projections that read
 * one input and are joined later (q, k, v; gate and up) share the largest scale of theirs. */
#include "import.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* For measuring speed with random:SEED: inputs up to 8 and weights up to 1/8 do not saturate. */
static const double DEFAULT_INPUT = 8.0 / 448, DEFAULT_WEIGHT = 0.125 / 448;
static const double LEAST = 1e-12, MOST = 1e12; /* inverse and product of two: normal f32 numbers */

struct import_quantizer {
    json_t *root; /* NULL: defaults */
    const char *path;
};

static ccc_status bad_file(const char *path, const char *name, const char *what, ccc_err *err)
{
    return ccc_fail(err, CCC_E_PARSE, "%.200s: '%.150s' %s", path, name, what);
}

static ccc_status read_file(import_quantizer *q, ccc_err *err)
{
    ccc_buf text = {0};
    json_error_t at = {0};
    ccc_status st = ccc_read_file(&text, q->path, err);
    if (st == CCC_OK && !(q->root = json_loadb(text.data, text.size_B, JSON_REJECT_DUPLICATES, &at))) {
        bool nomem = at.line < 1 || json_error_code(&at) == json_error_out_of_memory;
        st = nomem ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                   : ccc_fail(err, CCC_E_PARSE, "%.200s:%d:%d: %s", q->path, at.line, at.column, at.text);
        if (err && !nomem) err->line = at.line, err->col = at.column;
    }
    ccc_buf_free(&text);
    if (st == CCC_OK && !json_is_object(q->root))
        st = ccc_fail(err, CCC_E_PARSE, "%.200s:1:1: not a JSON object", q->path);
    return st;
}

ccc_status import_quantize_open(import_quantizer **out, const ccc_config *c, ccc_err *err)
{
    bool none = strcmp(c->quantize, "none") == 0;
    if (none && *c->quantize_scales)
        return ccc_fail(err, CCC_E_ARG, "option 'quantize_scales' needs --quantize fp8-static");
    if (none) return CCC_OK;
    if (strcmp(c->quantize, "fp8-static") != 0)
        return ccc_fail(err, CCC_E_ARG, "option 'quantize': '%.60s' is not one of none and fp8-static",
                        c->quantize);
    import_quantizer *q = calloc(1, sizeof *q);
    if (!q) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    q->path = c->quantize_scales;
    ccc_status st = *q->path ? read_file(q, err) : CCC_OK;
    if (st == CCC_OK) *out = q;
    else import_quantize_close(q);
    return st;
}

void import_quantize_close(import_quantizer *q)
{
    if (!q) return;
    json_decref(q->root);
    free(q);
}

static ccc_status one(const import_quantizer *q, const char *name, const json_t *row, const char *key,
                      float *largest, ccc_err *err)
{
    const json_t *j = json_object_get(row, key);
    double v = json_number_value(j);
    if (!json_is_number(j) || !(v >= LEAST && v <= MOST))
        return bad_file(q->path, name,
                        "needs numbers \"input\" and \"weight\" from 1e-12 to 1e12 and nothing else", err);
    if ((float)v > *largest) *largest = (float)v;
    return CCC_OK;
}

ccc_status import_quantize_scale(import_quantizer *q, const char *tensor, import_scale *largest, ccc_err *err)
{
    static const char suffix[] = ".weight";
    size_t n = strlen(tensor), cut = sizeof suffix - 1;
    if (!q->root) {
        *largest = (import_scale){(float)DEFAULT_INPUT, (float)DEFAULT_WEIGHT};
        return CCC_OK;
    }
    json_t *whole = json_object_get(q->root, tensor), *row = whole;
    bool ends = n > cut && strcmp(tensor + n - cut, suffix) == 0;
    json_t *brief = ends ? json_object_getn(q->root, tensor, n - cut) : NULL;
    if (whole && brief) return bad_file(q->path, tensor, "is there with and without .weight", err);
    if (!row) row = brief;
    if (!row) return bad_file(q->path, tensor, "has no scales", err);
    CCC_TRY(one(q, tensor, row, "input", &largest->input, err));
    CCC_TRY(one(q, tensor, row, "weight", &largest->weight, err));
    if (json_object_size(row) != 2)
        return bad_file(q->path, tensor, "has more than \"input\" and \"weight\"", err);
    int failed = whole ? json_object_del(q->root, tensor) : json_object_deln(q->root, tensor, n - cut);
    return failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

ccc_status import_quantize_finish(const import_quantizer *q, ccc_err *err)
{
    if (!q || !q->root || !json_object_size(q->root)) return CCC_OK;
    return bad_file(q->path, json_object_iter_key(json_object_iter(q->root)),
                    "is no projection of the model", err);
}
