/* What an artifact is, as one JSON object (README.md, "info"), and how much memory a use of it takes. */
#include "attach.h"
#include "tensors_impl.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *p;
    size_t n, cap;
    bool failed;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *fmt, ...)
{
    if (t->failed) return;
    for (;;) {
        va_list ap;
        va_start(ap, fmt);
        int k = vsnprintf(t->p ? t->p + t->n : NULL, t->cap - t->n, fmt, ap);
        va_end(ap);
        if (k >= 0 && t->p && (size_t)k < t->cap - t->n) {
            t->n += (size_t)k;
            return;
        }
        size_t cap = t->cap ? 2 * t->cap + (size_t)(k > 0 ? k : 0) : 8192;
        char *p = k < 0 ? NULL : realloc(t->p, cap);
        if (!p) {
            t->failed = true;
            return;
        }
        t->p = p;
        t->cap = cap;
    }
}

/* A JSON string; bytes that are not valid UTF-8 become U+FFFD, so that the output always is. */
static void add_str(text *t, const char *s)
{
    add(t, "\"");
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        unsigned n = *p < 0x80                 ? 1
                     : *p >= 0xc2 && *p < 0xe0 ? 2
                     : *p >= 0xe0 && *p < 0xf0 ? 3
                     : *p >= 0xf0 && *p < 0xf5 ? 4
                                               : 0;
        for (unsigned i = 1; i < n; i++)
            if ((p[i] & 0xc0) != 0x80) n = 0;
        if ((n == 3 && ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f))) ||
            (n == 4 && ((*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))))
            n = 0;
        if (!n) add(t, "\\ufffd");
        else if (*p == '"' || *p == '\\') add(t, "\\%c", *p);
        else if (*p < 0x20) add(t, "\\u%04x", *p);
        else add(t, "%.*s", (int)n, (const char *)p);
        p += n ? n : 1;
    }
    add(t, "\"");
}

static void add_pairs(text *t, const char *name, const ccart_kv *kv, uint32_t n)
{
    add(t, ",\"%s\":{", name);
    for (uint32_t i = 0; i < n; i++) {
        if (i) add(t, ",");
        add_str(t, kv[i].key);
        add(t, ":");
        add_str(t, kv[i].value);
    }
    add(t, "}");
}

static void add_dims(text *t, const int64_t *dim, uint32_t rank)
{
    add(t, "[");
    for (uint32_t i = 0; i < rank; i++) add(t, "%s%" PRId64, i ? "," : "", dim[i]);
    add(t, "]");
}

static void add_kernels(text *t, const ccart_target *x)
{
    add(t, ",\"kernels\":[");
    for (uint32_t i = 0; i < x->n_kernels; i++) {
        const ccart_kernel *k = &x->kernel[i];
        add(t, "%s{\"name\":", i ? "," : "");
        add_str(t, k->name);
        add(t,
            ",\"threads\":%u,\"shared_bytes\":%u,\"cluster\":%u,\"args_bytes\":%u,\"code_bytes\":%" PRIu64
            ",\"ptx_bytes\":%" PRIu64 ",\"programmatic\":%s}",
            k->threads, k->shared_B, k->cluster, k->args_B,
            k->cubin == UINT32_MAX ? 0 : x->module[k->cubin].size_B,
            k->ptx == UINT32_MAX ? 0 : x->module[k->ptx].size_B,
            k->flags & CCART_KERNEL_PDL ? "true" : "false");
    }
    add(t, "]");
}

static void add_programs(text *t, const ccart_target *x)
{
    static const char *const mode[] = {"load", "decode", "mixed", "advance", "read"};
    add(t, ",\"programs\":[");
    for (uint32_t i = 0; i < x->n_programs; i++) {
        const ccart_program *p = &x->program[i];
        add(t,
            "%s{\"mode\":\"%s\",\"tokens_min\":%" PRId64 ",\"tokens_max\":%" PRId64
            ",\"nodes\":%u,\"arena_bytes\":%" PRIu64 "}",
            i ? "," : "", mode[p->mode], p->t_min, p->t_max, p->n_nodes, p->arena_B);
    }
    add(t, "],\"load_programs\":%u", x->n_load);
}

static void add_weights(text *t, const ccart_target *x)
{
    add(t, ",\"weights\":[");
    for (uint32_t i = 0; i < x->n_weights; i++) {
        add(t, "%s{\"name\":", i ? "," : "");
        add_str(t, x->weight[i].name);
        add(t, ",\"dtype\":\"%s\",\"shape\":", ccart_dtype_name(x->weight[i].dtype));
        add_dims(t, x->weight[i].dim, x->weight[i].rank);
        add(t, ",\"bytes\":%" PRIu64 "}", x->weight[i].size_B);
    }
    add(t, "],\"sources\":[");
    for (uint32_t i = 0, n = 0; i < x->n_segments; i++) {
        const ccart_segment *s = &x->segment[i];
        if (!*s->source) continue;
        add(t, "%s{\"name\":", n++ ? "," : "");
        add_str(t, s->source);
        add(t, ",\"dtype\":\"%s\",\"shape\":", ccart_dtype_name(s->src_dtype));
        add_dims(t, s->dim, s->rank);
        add(t, ",\"weight\":%u,\"copied\":%s}", s->weight, s->plain ? "true" : "false");
    }
    add(t, "]");
}

static ccc_status add_target(text *t, const cccrt_artifact *a, const ccart_target *x, ccc_err *err)
{
    cccrt_memory m = {.size_B = sizeof m};
    CCC_TRY(cccrt_artifact_memory(&m, a, x->name, 1, err));
    add(t, "{\"name\":");
    add_str(t, x->name);
    add(t,
        ",\"kind\":\"%s\",\"compute_capability\":%u,\"exact\":%s,\"min_driver_cubin\":%u,\"min_driver_ptx\":%"
        "u,\"cpu_level\":%u",
        x->kind == CCART_TARGET_CUDA ? "cuda" : "host", x->cc, x->cc_exact ? "true" : "false",
        x->min_driver_cubin, x->min_driver_ptx, x->cpu_level);
    add(t, ",\"layout\":\"");
    for (int i = 0; i < 16; i++) add(t, "%02x", x->layout_hash[i]);
    add(t,
        "\",\"memory\":{\"weights_bytes\":%" PRIu64 ",\"arena_bytes\":%" PRIu64 ",\"io_bytes\":%" PRIu64
        ",\"counters_bytes\":%" PRIu64 ",\"kv_bytes_a_block\":%" PRIu64
        ",\"attach_extra_device_bytes\":%" PRIu64 ",\"attach_extra_host_bytes\":%" PRIu64 "}",
        m.weights, m.arena, m.io, m.counters, m.kv, m.attach_extra_device, m.attach_extra_host);
    add_kernels(t, x);
    add_programs(t, x);
    add_weights(t, x);
    add(t, "}");
    return CCC_OK;
}

/* The compiler's report is JSON already. It is only text to the file's reader, so it is put in whole after a
 * scan has shown that it is one object. */
static ccc_status add_report(text *t, const cccrt_artifact *a, ccc_err *err)
{
    ccart_file *f;
    CCC_TRY(ccart_decode(&f, a->data, a->size_B, CCART_WITH_TEXT, err));
    const char *report = f->report && *f->report ? f->report : "{}";
    cccrt_scan s = {
        .begin = report, .p = report, .end = report + strlen(report), .file = "the artifact's report"};
    ccc_status status = CCC_OK;
    if (cccrt_scan_peek(&s) != CCCRT_JSON_OBJECT)
        status = ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: its report is no JSON object");
    if (status == CCC_OK) status = cccrt_scan_skip(&s, err);
    if (status == CCC_OK) status = cccrt_scan_end(&s, err);
    if (status == CCC_OK) add(t, ",\"report\":%s", report);
    ccart_release(f);
    return status;
}

static ccc_status describe(text *t, const cccrt_artifact *a, ccc_err *err)
{
    const ccart_file *f = a->file;
    cccrt_model m = {.size_B = sizeof m};
    cccrt_artifact_model(a, &m);
    add(t,
        "{\"format\":\"%u.%u\",\"bytes\":%zu,\"model\":{\"max_tokens\":%" PRId64 ",\"max_seqs\":%" PRId64
        ",\"max_model_len\":%" PRId64 ",\"vocab\":%" PRId64 ",\"hidden\":%" PRId64
        ",\"layers\":%u,\"kv_heads\":%u,\"head_size\":%u,\"kv_block_size\":%u,\"kv_layout\":\"%s\",\"kv_"
        "dtype\":\"%s\"}",
        f->major, f->minor, a->size_B, m.max_tokens, m.max_seqs, m.max_model_len, m.vocab, m.hidden,
        m.n_layers, m.kv_heads, m.head_size, m.kv_block_size, m.kv_layout, m.kv_dtype);
    add(t, ",\"sizes\":[");
    for (uint32_t i = 0; i < f->n_sizes; i++) add(t, "%s%u", i ? "," : "", f->size[i]);
    add(t, "],\"targets\":[");
    for (uint32_t i = 0; i < f->n_targets; i++) {
        if (i) add(t, ",");
        CCC_TRY(add_target(t, a, &f->target[i], err));
    }
    add(t, "]");
    add_pairs(t, "provenance", f->provenance, f->n_provenance);
    add_pairs(t, "facts", f->fact, f->n_facts);
    CCC_TRY(add_report(t, a, err));
    add(t, "}");
    return CCC_OK;
}

ccc_status cccrt_artifact_info(char **json_out, const cccrt_artifact *a, ccc_err *err)
{
    text t = {0};
    ccc_status status = describe(&t, a, err);
    if (status == CCC_OK && t.failed)
        status = ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is described");
    if (status == CCC_OK) *json_out = t.p;
    else free(t.p);
    return status;
}

/* ---- memory */
static uint64_t align_up(uint64_t n)
{
    return (n + RT_ALIGN_B - 1) & ~(uint64_t)(RT_ALIGN_B - 1);
}

static ccc_status io_memory(uint64_t *out, const ccart_file *f, const ccart_target *t, ccc_err *err)
{
    int64_t block = f->kv_block_size;
    int64_t var[CCART_N_VARS] = {[CCART_VAR_T] = f->max_tokens,
                                 [CCART_VAR_S] = f->max_seqs,
                                 [CCART_VAR_R] = f->max_seqs,
                                 [CCART_VAR_MAX_BLOCKS] = block ? (f->max_model_len + block - 1) / block : 0};
    *out = 0;
    for (uint32_t i = 0; i < t->n_in + t->n_out; i++) {
        const ccart_io *io = i < t->n_in ? &t->in[i] : &t->out[i - t->n_in];
        uint64_t size_B;
        if (io->optional) continue;
        CCC_TRY(rt_io_bytes(&size_B, t, io, var, err));
        *out += align_up(size_B ? size_B : 1);
    }
    return CCC_OK;
}

ccc_status cccrt_artifact_memory(cccrt_memory *out, const cccrt_artifact *a, const char *target,
                                 int64_t kv_blocks, ccc_err *err)
{
    const ccart_file *f = a->file;
    const ccart_target *t = target ? NULL : &f->target[0];
    for (uint32_t i = 0; target && i < f->n_targets; i++)
        if (strcmp(f->target[i].name, target) == 0) t = &f->target[i];
    if (!t) return ccc_fail(err, CCC_E_ARG, "the artifact has no target '%s'", target);
    if (kv_blocks < 0 || kv_blocks > INT32_MAX)
        return ccc_fail(err, CCC_E_ARG, "%lld blocks in a KV cache", (long long)kv_blocks);
    cccrt_memory m = {.weights = rt_weight_places(t, NULL), .arena = t->arena_B, .counters = t->counters_B};
    CCC_TRY(io_memory(&m.io, f, t, err));
    if (f->n_layers) {
        cccrt_kv kv;
        uint64_t block_B;
        bool joined;
        rt_kv_strides(f, &kv, &block_B, &joined);
        if (block_B > (1ull << 46) / ((uint64_t)kv_blocks + 1) / f->n_layers)
            return ccc_fail(err, CCC_E_ARG, "a KV cache of %lld blocks is too large", (long long)kv_blocks);
        m.kv = align_up(block_B * (uint64_t)kv_blocks) * f->n_layers * (joined ? 1 : 2);
    }
    if (t->kind == CCART_TARGET_CUDA) {
        m.attach_extra_device = rt_attach_staging_B(t);
        m.attach_extra_host = m.attach_extra_device ? m.attach_extra_device
                                                    : (uint64_t)RT_SLOT_B * RT_READERS * RT_SLOTS_A_READER;
    }
    rt_result(out, &m, sizeof m);
    return CCC_OK;
}
