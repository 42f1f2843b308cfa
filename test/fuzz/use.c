/* See use.h. */
#include "use.h"
#include "seal.h"
#include "../../runtime/ccart_codec.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_B = 64 << 20, KV_BLOCKS = 4, TABLE = 4 };

void use_fail(const char *what, const char *detail)
{
    fprintf(stderr, "%s: %s\n", what, detail);
    abort();
}

/* A failure has a message of one line; a success has none of our interest. */
static bool ok(ccc_status status, const char *what, ccc_err *err)
{
    if (status == CCC_OK) return true;
    if (err->code != status || !*err->msg || strchr(err->msg, '\n') || strlen(err->msg) >= sizeof err->msg)
        use_fail(what, "an error without a clear message");
    memset(err, 0, sizeof *err);
    return false;
}

static bool small(const cccrt_artifact *a, const char *target)
{
    cccrt_memory m = {.size_B = sizeof m};
    ccc_err err = {0};
    if (!ok(cccrt_artifact_memory(&m, a, target, KV_BLOCKS, &err), "memory", &err)) return false;
    return m.weights <= MOST_B && m.arena <= MOST_B && m.io <= MOST_B && m.counters <= MOST_B &&
           m.kv <= MOST_B && m.attach_extra_device <= MOST_B;
}

static void step(const cccrt_model *m, cccrt_session *s, use_counts *n)
{
    int32_t ids[2] = {0, 1}, start[3] = {0, 1, 2}, lens[2] = {1, 1}, table[2 * TABLE] = {0}, rows[2] = {0, 1};
    int64_t positions[2] = {0, 0}, slots[2] = {0, -1};
    ccc_err err = {0};
    bool kv = m->n_layers != 0;
    for (int i = 0; i < 3; i++) {
        cccrt_step_args g = {.size_B = sizeof g,
                             .n_tokens = 1 + (i > 0),
                             .n_seqs = 1,
                             .n_logits = 1,
                             .token_ids = ids,
                             .positions = positions,
                             .query_start_loc = start,
                             .seq_lens = lens,
                             .block_table = kv ? table : NULL,
                             .block_table_stride = TABLE,
                             .slot_mapping = kv ? slots : NULL,
                             .logits_indices = rows,
                             .mode = i == 2 ? CCCRT_STEP_EAGER : CCCRT_STEP_AUTO};
        if (i) g.n_seqs = g.n_logits = 2;
        n->steps += ok(cccrt_step(s, &g, NULL, &err), "step", &err);
    }
    cccrt_step_args mixed = {.size_B = sizeof mixed, .n_tokens = 2, .n_seqs = 1, .mode = CCCRT_STEP_MIXED};
    n->steps += ok(cccrt_step(s, &mixed, NULL, &err), "mixed step", &err);
    cccrt_node_traffic moved[4] = {{.size_B = sizeof *moved}};
    uint32_t n_moved;
    ok(cccrt_step_traffic(s, &mixed, moved, 4, &n_moved, &err), "traffic", &err);
    n->steps += ok(cccrt_advance(s, 1, NULL, &err), "advance", &err);
    ok(cccrt_check(s, NULL, &err), "check", &err);
    char byte;
    ok(cccrt_session_read(s, "logits", &byte, 0, 1, NULL, &err), "read", &err);
}

static void use_on(cccrt_artifact *a, cccrt_device *d, int graphs, use_counts *n)
{
    const char *target;
    ccc_err err = {0};
    cccrt_weights *w = NULL;
    cccrt_kv_cache *kv = NULL;
    cccrt_session *s = NULL;
    cccrt_model m = {.size_B = sizeof m};
    cccrt_artifact_model(a, &m);
    if (!ok(cccrt_device_can_run(&target, d, a, &err), "can_run", &err) || !small(a, target)) return;
    cccrt_weights_args wa = {.size_B = sizeof wa, .random = 1, .seed = 1};
    if (!ok(cccrt_weights_attach(&w, a, d, &wa, &err), "attach", &err)) return;
    n->attached++;
    cccrt_session_args sa = {.size_B = sizeof sa, .graphs = graphs};
    bool fine = !m.n_layers || ok(cccrt_kv_alloc(&kv, a, d, KV_BLOCKS, &err), "kv_alloc", &err);
    if (kv) sa.kv = cccrt_kv_describe(kv);
    if (fine && ok(cccrt_session_create(&s, a, w, &sa, &err), "session", &err)) {
        n->sessions++;
        step(&m, s, n);
    }
    cccrt_session_close(s);
    cccrt_kv_close(kv);
    cccrt_weights_close(w);
}

/* Host images must be `ret` alone to be run: what foreign machine code does is not the question. */
static bool harmless(const uint8_t *data, size_t size_B)
{
    ccart_file *f;
    bool fine = true;
    if (ccart_decode(&f, data, size_B, 0, NULL) != CCC_OK) return true;
    for (uint32_t t = 0; t < f->n_targets; t++)
        for (uint32_t m = 0; m < f->target[t].n_modules; m++)
            for (uint64_t i = 0; fine && f->target[t].module[m].kind == CCART_MODULE_HOST &&
                                 i < f->target[t].module[m].size_B;
                 i++)
                fine = f->target[t].module[m].data[i] == 0xc3;
    ccart_release(f);
    return fine;
}

void use_artifact(const void *data, size_t size_B, const use_devices *d, use_counts *n)
{
    cccrt_artifact *a;
    ccc_err err = {0};
    cccrt_open_args open = {.size_B = sizeof open, .allow_host_code = 1};
    if (!ok(cccrt_artifact_open_memory(&a, data, size_B, &open, &err), "open", &err)) return;
    n->opened++;
    char *json = NULL;
    bool whole = ok(cccrt_artifact_verify(a, &err), "verify", &err);
    if (ok(cccrt_artifact_info(&json, a, &err), "info", &err) && !*json) use_fail("info", "no text");
    cccrt_free(json);
    for (uint32_t i = 0; cccrt_artifact_target(a, i); i++) small(a, cccrt_artifact_target(a, i));
    if (whole && d->cpu && harmless(data, size_B)) use_on(a, d->cpu, CCCRT_GRAPHS_NONE, n);
    if (whole && d->cuda) use_on(a, d->cuda, n->opened % 2 ? CCCRT_GRAPHS_ALL : CCCRT_GRAPHS_ON_DEMAND, n);
    cccrt_artifact_close(a);
}

/* ---- the skeleton */
static void thin_host(ccart_module *m)
{
    uint8_t *code = malloc(m->size_B);
    if (!code) abort();
    memset(code, 0xc3, m->size_B); /* ret, wherever a kernel begins */
    m->data = code;
}

static void thin_ptx(ccart_module *m, const ccart_kernel *k)
{
    char text[512];
    int n =
        snprintf(text, sizeof text,
                 ".version 8.0\n.target sm_90a\n.visible .entry %s(.param .align 64 .b8 p[%u])\n{ ret; }\n",
                 k->symbol, k->args_B);
    if (n >= (int)sizeof text || !(m->data = malloc((size_t)n + 1))) abort();
    memcpy((void *)(uintptr_t)m->data, text, (size_t)n + 1);
    m->size_B = (uint64_t)n;
}

static void thin_target(ccart_target *t)
{
    for (uint32_t i = 0; i < t->n_kernels; i++) {
        ccart_kernel *k = &t->kernel[i];
        if (t->kind == CCART_TARGET_HOST) k->entry_B = i;
        else if (k->cubin != UINT32_MAX && k->ptx != UINT32_MAX) k->cubin = UINT32_MAX;
    }
    for (uint32_t i = 0; i < t->n_modules; i++) {
        ccart_module *m = &t->module[i];
        const ccart_kernel *of = NULL;
        for (uint32_t k = 0; k < t->n_kernels && !of; k++)
            if (t->kernel[k].ptx == i) of = &t->kernel[k];
        if (m->kind == CCART_MODULE_HOST) m->size_B = t->n_kernels, thin_host(m);
        else if (of) thin_ptx(m, of);
        else m->data = (const uint8_t *)"", m->size_B = 0; /* a cubin that PTX stands in for */
    }
}

void use_make_skeleton(use_skeleton *out, const void *data, size_t size_B)
{
    ccart_file *f;
    ccc_err err = {0};
    if (ccart_decode(&f, data, size_B, CCART_WITH_TEXT | CCART_WITH_PTX, &err) != CCC_OK) use_fail("skeleton", err.msg);
    for (uint32_t i = 0; i < f->n_targets; i++) thin_target(&f->target[i]);
    if (ccart_validate(f, &err) != CCC_OK || ccart_encode(&out->packed, &out->packed_B, f, &err) != CCC_OK)
        use_fail("skeleton", err.msg);
    for (uint32_t i = 0; i < f->n_targets; i++)
        for (uint32_t k = 0; k < f->target[i].n_modules; k++)
            if (f->target[i].module[k].size_B) free((void *)(uintptr_t)f->target[i].module[k].data);
    ccart_release(f);
    seal_box box;
    if (!seal_open(&box, out->packed, out->packed_B)) use_fail("skeleton", "cannot be opened");
    size_t room_B = 4096;
    for (uint32_t i = 0; i < box.n; i++) room_B += box.chunk[i].size_B + 128;
    if (!(out->plain = malloc(room_B)) || !(out->plain_B = seal_close(&box, out->plain, room_B)))
        use_fail("skeleton", "out of memory");
    seal_free(&box);
}
