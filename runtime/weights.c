/* Weights on a device. All final weights lie in one buffer, in the order of the artifact's table, each at a
 * multiple of 256 bytes. Before anything is allocated the source is checked against the artifact: names,
 * types, shapes and the facts of its configuration. */
#include "attach.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t rt_weight_places(const ccart_target *t, uint64_t *at_B)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < t->n_weights; i++) {
        if (at_B) at_B[i] = n;
        n += (t->weight[i].size_B + RT_ALIGN_B - 1) & ~(uint64_t)(RT_ALIGN_B - 1);
    }
    return n;
}

uint64_t rt_segment_rows(const ccart_segment *s)
{
    uint64_t n = 0, size_B = 0;
    if (!*s->source || !ccart_product(s->dim, s->rank, &n) || !ccart_storage_B(s->src_dtype, n, &size_B))
        return s->rank ? (uint64_t)s->dim[0] : 1;
    return size_B / s->row_B;
}

static void shape_text(char *out, size_t out_B, const int64_t *dim, uint32_t rank)
{
    int n = snprintf(out, out_B, "[");
    for (uint32_t i = 0; i < rank && n < (int)out_B; i++)
        n += snprintf(out + n, out_B - (size_t)n, "%s%lld", i ? "," : "", (long long)dim[i]);
    if (n < (int)out_B) snprintf(out + n, out_B - (size_t)n, "]");
}

static ccc_status check_tensor(const ccart_segment *s, const char *dtype, const int64_t *dim, uint32_t rank,
                               ccc_err *err)
{
    char have[96], want[96];
    if (strcmp(dtype, ccart_dtype_name(s->src_dtype)) != 0)
        return ccc_fail(err, CCC_E_TYPE, "tensor '%s' is %s, the artifact was compiled for %s", s->source,
                        dtype, ccart_dtype_name(s->src_dtype));
    if (rank == s->rank && memcmp(dim, s->dim, rank * sizeof *dim) == 0) return CCC_OK;
    shape_text(have, sizeof have, dim, rank);
    shape_text(want, sizeof want, s->dim, s->rank);
    return ccc_fail(err, CCC_E_TYPE, "tensor '%s' has shape %s, the artifact was compiled for %s", s->source,
                    have, want);
}

static const char *fact(const cccrt_artifact *a, const char *key)
{
    const char *v = cccrt_artifact_fact(a, key);
    return v ? v : "";
}

/* Tensors that files carry though their numbers follow from the configuration: nothing of them is used. */
static bool derived(const cccrt_artifact *a, const char *name)
{
    static const char inv_freq[] = "rotary_emb.inv_freq";
    size_t n = strlen(name), k = sizeof inv_freq - 1;
    if (n >= k && strcmp(name + n - k, inv_freq) == 0) return true;
    if (cccrt_source_is_kv_scale(name)) return true;
    return strcmp(name, "lm_head.weight") == 0 && strcmp(fact(a, "tie_word_embeddings"), "true") == 0;
}

static bool used(const ccart_target *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_segments; i++)
        if (strcmp(t->segment[i].source, name) == 0) return true;
    return false;
}

/* ---- the three kinds of source that have tensors */
static ccc_status places_in_files(rt_attach *a, ccc_err *err)
{
    const ccart_target *t = a->w->code->target;
    cccrt_artifact *art = a->w->code->artifact;
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n;
    CCC_TRY(cccrt_source_open(&a->source, a->args->path, err));
    CCC_TRY(cccrt_source_facts(a->source, facts, &n, err));
    CCC_TRY(cccrt_source_kv_scales(a->source, &facts[n++], err));
    for (uint32_t i = 0; i < n; i++) {
        const char *want = cccrt_artifact_fact(art, facts[i].key);
        if (want && strcmp(want, facts[i].value) != 0)
            return ccc_fail(
                err, CCC_E_TYPE,
                "the weights do not belong to this artifact: their %s is %s, it was compiled for %s",
                facts[i].key, facts[i].value, want);
    }
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *s = &t->segment[i];
        if (!*s->source) continue;
        const cccrt_source_tensor *x = a->place[i].tensor = cccrt_source_find(a->source, s->source);
        if (!x) return ccc_fail(err, CCC_E_TYPE, "'%s' has no tensor '%s'", a->args->path, s->source);
        CCC_TRY(check_tensor(s, cccrt_dtype_text(x->dtype), x->dim, x->rank, err));
    }
    for (uint32_t i = 0; i < cccrt_source_count(a->source); i++) {
        const char *name = cccrt_source_get(a->source, i)->name;
        if (!used(t, name) && !derived(art, name))
            return ccc_fail(
                err, CCC_E_TYPE,
                "tensor '%s' of '%s' is not used by the artifact: it was compiled for another model", name,
                a->args->path);
    }
    return CCC_OK;
}

static ccc_status check_given(const cccrt_tensor *x, ccc_err *err)
{
    uint64_t n, size_B;
    uint32_t dtype = x->dtype ? ccart_dtype_find(x->dtype) : 0;
    if (!x->name || !dtype || x->rank > 4)
        return ccc_fail(err, CCC_E_ARG, "a tensor has no name, no known dtype, or more than 4 dimensions");
    if (!ccart_product(x->shape, x->rank, &n) || !ccart_storage_B(dtype, n, &size_B) || size_B != x->data_B ||
        (size_B && !x->data))
        return ccc_fail(err, CCC_E_ARG, "tensor '%s' has %zu bytes, which is not the size of its shape",
                        x->name, x->data_B);
    return CCC_OK;
}

static ccc_status places_given(rt_attach *a, ccc_err *err)
{
    const ccart_target *t = a->w->code->target;
    for (uint32_t k = 0; k < a->args->n_tensors; k++) {
        CCC_TRY(check_given(&a->args->tensors[k], err));
        if (!used(t, a->args->tensors[k].name) && !derived(a->w->code->artifact, a->args->tensors[k].name))
            return ccc_fail(err, CCC_E_TYPE,
                            "tensor '%s' is not used by the artifact: it was compiled for another model",
                            a->args->tensors[k].name);
    }
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *s = &t->segment[i];
        const cccrt_tensor *x = NULL;
        for (uint32_t k = 0; k < a->args->n_tensors && *s->source; k++)
            if (strcmp(a->args->tensors[k].name, s->source) == 0) x = &a->args->tensors[k];
        if (!*s->source) continue;
        if (!x) return ccc_fail(err, CCC_E_TYPE, "tensor '%s' is missing", s->source);
        CCC_TRY(check_tensor(s, x->dtype, x->shape, x->rank, err));
        a->place[i] = x->on_device ? (rt_place){.device = x->data} : (rt_place){.host = x->data};
    }
    return CCC_OK;
}

static ccc_status check_prepared(rt_attach *a, ccc_err *err)
{
    CCC_TRY(rt_ccw_open(&a->ccw, a->args->path, err));
    a->prepared = true;
    const ccart_target *t = a->w->code->target;
    if (memcmp(a->ccw.layout_hash, t->layout_hash, sizeof t->layout_hash) != 0 ||
        a->ccw.data_B != a->w->size_B)
        return ccc_fail(err, CCC_E_TYPE, "'%s' was prepared for another artifact or target; prepare it again",
                        a->args->path);
    return CCC_OK;
}

static ccc_status check_source(rt_attach *a, ccc_err *err)
{
    const cccrt_weights_args *g = a->args;
    if (!!g->path + !!g->random + !!g->tensors != 1)
        return ccc_fail(err, CCC_E_ARG, "cccrt_weights_args: give one of path, random and tensors");
    if (g->random) {
        const ccart_target *t = a->w->code->target;
        for (uint32_t i = 0; i < t->n_segments; i++)
            if (*t->segment[i].source && t->segment[i].random_program == UINT32_MAX)
                return ccc_fail(err, CCC_E_UNSUPPORTED,
                                "the artifact cannot make random weights: it has no program for '%s'",
                                t->segment[i].source);
        return CCC_OK;
    }
    if (g->tensors) return places_given(a, err);
    return rt_ccw_is(g->path) ? check_prepared(a, err) : places_in_files(a, err);
}

/* ---- attaching */
static ccc_status check_memory(const rt_attach *a, ccc_err *err)
{
    cccrt_device *d = a->w->code->device;
    uint64_t free_B, total_B, want_B = a->w->size_B;
    if (d->is_cuda && !a->args->random) want_B += rt_attach_staging_B(a->w->code->target);
    CCC_TRY(d->backend->memory(d, &free_B, &total_B, err));
    if (want_B > free_B)
        return ccc_fail(err, CCC_E_NOMEM, "the weights need %llu bytes, device '%s' has %llu free of %llu",
                        (unsigned long long)want_B, d->name, (unsigned long long)free_B,
                        (unsigned long long)total_B);
    return CCC_OK;
}

static ccc_status load_programs(const rt_attach *a, ccc_err *err)
{
    rt_code *c = a->w->code;
    for (uint32_t i = 0; i < c->target->n_segments && !a->prepared; i++) {
        const ccart_segment *s = &c->target->segment[i];
        uint32_t p = a->args->random && *s->source ? s->random_program : s->load_program;
        if (p != UINT32_MAX && !(s->plain && !a->args->random))
            CCC_TRY(rt_code_need(c, &c->target->load[p], err));
    }
    return CCC_OK;
}

static ccc_status attach(rt_attach *a, ccc_err *err)
{
    cccrt_weights *w = a->w;
    const ccart_target *t = w->code->target;
    cccrt_device *d = w->code->device;
    w->at_B = calloc(t->n_weights + 1, sizeof *w->at_B);
    a->place = calloc(t->n_segments + 1, sizeof *a->place);
    if (!w->at_B || !a->place) return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
    w->size_B = rt_weight_places(t, w->at_B);
    CCC_TRY(check_source(a, err));
    CCC_TRY(check_memory(a, err));
    CCC_TRY(load_programs(a, err));
    CCC_TRY(d->backend->alloc(d, (void **)&w->base, w->size_B ? w->size_B : 1, err));
    return rt_attach_run(a, err);
}

ccc_status cccrt_weights_attach(cccrt_weights **out, const cccrt_artifact *a, cccrt_device *d,
                                const cccrt_weights_args *args, ccc_err *err)
{
    double start = rt_now_ms();
    cccrt_weights_args g;
    CCC_TRY(rt_args(&g, sizeof g, args, "cccrt_weights_args", err));
    CCC_TRY(rt_enter(d, err));
    rt_attach x = {.args = &g, .w = calloc(1, sizeof *x.w), .ccw.fd = -1};
    ccc_status status = x.w ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
    if (status == CCC_OK) {
        atomic_init(&x.w->refs, 1);
        status = rt_code_open(&x.w->code, (cccrt_artifact *)a, d, err);
    }
    if (status == CCC_OK) status = attach(&x, err);
    rt_leave(d);
    if (x.prepared) rt_ccw_close(&x.ccw);
    cccrt_source_close(x.source);
    free(x.place);
    if (status != CCC_OK) {
        cccrt_weights_close(x.w);
        return status;
    }
    x.w->attach_ms = rt_now_ms() - start;
    *out = x.w;
    return CCC_OK;
}

cccrt_weights *cccrt_weights_retain(cccrt_weights *w)
{
    atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    return w;
}

void cccrt_weights_close(cccrt_weights *w)
{
    if (!w || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1) return;
    if (w->base) cccrt_device_release(w->code->device, w->base);
    rt_code_close(w->code);
    free(w->at_B);
    free(w);
}

ccc_status cccrt_weights_get(const cccrt_weights *w, uint32_t i, cccrt_tensor *out, ccc_err *err)
{
    const ccart_target *t = w->code->target;
    if (i >= t->n_weights)
        return ccc_fail(err, CCC_E_ARG, "there are %u weights, not %u", t->n_weights, i + 1);
    const ccart_weight *x = &t->weight[i];
    *out = (cccrt_tensor){.name = x->name,
                          .dtype = ccart_dtype_name(x->dtype),
                          .rank = x->rank,
                          .data = w->base + w->at_B[i],
                          .data_B = (size_t)x->size_B,
                          .on_device = 1};
    memcpy(out->shape, x->dim, sizeof out->shape);
    return CCC_OK;
}
