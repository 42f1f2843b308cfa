/* The KV cache of an imported graph: its dtype and layout, and with e4m3 the numbers by which K and V are
 * divided on the way into it (ir/README.md). A checkpoint that was made for it carries one of K and one of V
 * a layer, under one of several names; the other tools that read these tensors take 1 where there are none,
 * and so does ccc. */
#include "import.h"
#include <inttypes.h>
#include <string.h>

ccc_status import_kv_options(importer *im)
{
    const ccc_config *c = im->config;
    const char *d = c->kv_cache_dtype;
    im->layout = CCC_LAYOUT_NHD;
    while (im->layout < CCC_N_LAYOUTS && strcmp(ccc_layout_name(im->layout), c->kv_layout) != 0) im->layout++;
    if (im->layout == CCC_N_LAYOUTS)
        return ccc_fail(im->err, CCC_E_ARG, "option 'kv_layout': '%.60s' is not one of nhd, hnd and ccc",
                        c->kv_layout);
    if (c->kv_block_size != 16 && c->kv_block_size != 32 && c->kv_block_size != 64)
        return ccc_fail(im->err, CCC_E_ARG, "option 'kv_block_size': %" PRId64 " is not 16, 32 or 64",
                        c->kv_block_size);
    bool fp8 = strcmp(d, "fp8") == 0 || strcmp(d, "fp8_e4m3") == 0;
    if (!fp8 && strcmp(d, "auto") != 0 && strcmp(d, "bfloat16") != 0)
        return ccc_fail(im->err, CCC_E_ARG,
                        "option 'kv_cache_dtype': '%.60s' is not one of auto, bfloat16, fp8 and fp8_e4m3", d);
    im->kv_dtype = fp8 ? CCC_E4M3 : CCC_BF16;
    if (fp8 && im->m.head_size % 16)
        return ccc_fail(im->err, CCC_E_UNSUPPORTED,
                        "%.200s: a KV cache of fp8 needs a head size that is a multiple of 16, not %" PRId64,
                        im->file, im->m.head_size);
    return CCC_OK;
}

ccc_status import_kv_facts(importer *im)
{
    if (im->kv_dtype == CCC_BF16) return CCC_OK;
    CCC_TRY(ccc_graph_set_fact(im->g, "kv_cache_dtype", "fp8_e4m3", im->err));
    cccrt_fact scales = {.key = "kv_cache_scales", .value = "default"};
    if (im->source) CCC_TRY(cccrt_source_kv_scales(im->source, &scales, im->err));
    return ccc_graph_set_fact(im->g, scales.key, scales.value, im->err);
}

ccc_val import_kv_cache(importer *im, int64_t layer)
{
    const import_model *m = &im->m;
    ccc_type type = {.dtype = (uint8_t)im->kv_dtype,
                     .rank = 3,
                     .layout = (uint8_t)im->layout,
                     .dim = {ccc_dim_const(m->kv_heads), ccc_dim_const(im->config->kv_block_size),
                             ccc_dim_const(m->head_size)}};
    return import_leaf(im, CCC_OP_cache, import_name(im, layer, "kv"),
                       (ccc_attr_arg[]){{"layer", {.i = layer}}}, 1, &type);
}

/* The value of the first of these tensors that the files have; *found stays false where there is none. */
static ccc_status read_scale(importer *im, const char *const *names, int64_t layer, float *out, bool *found)
{
    const cccrt_source_tensor *t = NULL;
    char name[128];
    for (int i = 0; i < CCCRT_N_KV_SCALE_NAMES && !t && im->source && !im->gguf; i++) {
        snprintf(name, sizeof name, "model.layers.%" PRId64 "%s", layer, names[i]);
        t = cccrt_source_find(im->source, name);
    }
    if (!t) return CCC_OK;
    bool scalar = t->dtype == CCC_F32 || t->dtype == CCC_BF16 || t->dtype == CCC_F16;
    for (unsigned i = 0; i < t->rank; i++) scalar = scalar && t->dim[i] == 1;
    if (!scalar)
        return ccc_fail(
            im->err, CCC_E_UNSUPPORTED,
            "%.200s: tensor '%.120s' is not one f32, f16 or bf16: only one scale a tensor is supported",
            im->file, name);
    uint32_t raw = 0;
    CCC_TRY(cccrt_source_read(im->source, t, 0, ccc_dtype_bytes((ccc_dtype)t->dtype, 1), &raw, im->err));
    *out = ccc_load_f32((ccc_dtype)t->dtype, &raw, 0);
    if (!((double)*out >= CCC_KV_SCALE_LEAST && (double)*out <= CCC_KV_SCALE_MOST))
        return ccc_fail(im->err, CCC_E_TYPE,
                        "%.200s: tensor '%.120s' is %g; a scale must be from 1e-12 to 1e12", im->file, name,
                        (double)*out);
    *found = true;
    return CCC_OK;
}

import_kv_scale import_kv_scales(importer *im, int64_t layer)
{
    import_kv_scale s = {1, 1};
    bool k = false, v = false;
    if (im->st == CCC_OK) im->st = read_scale(im, cccrt_k_scale_names, layer, &s.k, &k);
    if (im->st == CCC_OK) im->st = read_scale(im, cccrt_v_scale_names, layer, &s.v, &v);
    if (im->st != CCC_OK || im->kv_dtype != CCC_E4M3) return (import_kv_scale){1, 1};
    if (k && !v) s.v = s.k;
    if (v && !k) s.k = s.v;
    return s;
}

ccc_val import_kv_rows(importer *im, ccc_val x, float scale, const char *name)
{
    if (im->kv_dtype == CCC_BF16) return x;
    return import_cast_to(im, scale == 1 ? x : import_times(im, x, 1.0f / scale), im->kv_dtype, name);
}
