/* From plans and compiled kernels to the file's structs (runtime/ccart.h), which the codec writes. Nothing here depends on the machine, the
 * time or the order of environment: provenance holds versions and the options that enter the key. */
#include "pack.h"
#include "tune.h"
#include "../runtime/ccart_codec.h"
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct { ccc_arena *mem; ccart_file *f; const ccc_graph *g; const ccc_config *c; } packer;

static ccc_status nomem(ccc_err *err) { return ccc_fail(err, CCC_E_NOMEM, "out of memory"); }

static ccc_status add_kv(packer *p, ccart_kv **list, uint32_t *n, uint32_t *cap, const char *key, const char *value, ccc_err *err)
{
    if (!CCC_GROW(p->mem, *list, *n, *cap)) return nomem(err);
    (*list)[*n] = (ccart_kv){ ccc_arena_strdup(p->mem, key), ccc_arena_strdup(p->mem, value) };
    if (!(*list)[*n].key || !(*list)[*n].value) return nomem(err);
    ++*n;
    return CCC_OK;
}

/* Which row of a schedule the nodes labelled CCC_TUNE_LABEL + i stand for. */
static ccc_status pack_candidates(packer *p, const struct plan_tune *t, uint32_t *cap, ccc_err *err)
{
    ccc_buf tokens = { 0 };
    for (unsigned i = 0; i < t->args->n_tokens; i++) ccc_buf_printf(&tokens, "%s%lld", i ? "," : "", (long long)t->args->tokens[i]);
    ccc_status st = tokens.failed ? nomem(err) : add_kv(p, &p->f->fact, &p->f->n_facts, cap, "tune.tokens", tokens.data, err);
    ccc_buf_free(&tokens);
    for (uint32_t i = 0; i < t->n && st == CCC_OK; i++) {
        char key[32];
        ccc_buf row = { 0 };
        snprintf(key, sizeof key, "tune.%u", CCC_TUNE_LABEL + i);
        schedule_print_row(&row, &t->row[i]);
        ccc_buf_printf(&row, "%s%s", *t->row[i].note ? " # " : "", t->row[i].note);
        st = row.failed ? nomem(err) : add_kv(p, &p->f->fact, &p->f->n_facts, cap, key, row.data, err);
        ccc_buf_free(&row);
    }
    return st;
}

static ccc_status pack_strings(packer *p, const char *const versions[3], const struct plan_tune *tuned, ccc_err *err)
{
    uint32_t cap_p = 0, cap_f = 0;
    ccart_file *f = p->f;
    const char *const fixed[][2] = { { "ccc", CCC_VERSION }, { "llvm", versions[0] }, { "ptxas", versions[1] }, { "templates", versions[2] } };
    for (unsigned i = 0; i < 4; i++) CCC_TRY(add_kv(p, &f->provenance, &f->n_provenance, &cap_p, fixed[i][0], fixed[i][1], err));
    for (const ccc_option *o = ccc_options; o->name; o++) {
        if (!o->in_key) continue;
        char *value = ccc_config_text(p->c, o, p->mem), *key = ccc_arena_printf(p->mem, "config.%s", o->name);
        if (!value || !key) return nomem(err);
        CCC_TRY(add_kv(p, &f->provenance, &f->n_provenance, &cap_p, key, value, err));
    }
    for (uint32_t i = 0; i < p->g->n_facts; i++)
        CCC_TRY(add_kv(p, &f->fact, &f->n_facts, &cap_f, p->g->fact[i].key, p->g->fact[i].value, err));
    return tuned ? pack_candidates(p, tuned, &cap_f, err) : CCC_OK;
}

static int64_t sym_max(const ccc_graph *g, const char *name)
{
    int i = ccc_graph_find_sym(g, name);
    return i < 0 ? 0 : g->sym[i].max;
}

/* What a session must know of the model before it runs: limits and the shape of the cache. */
static void pack_limits(packer *p)
{
    ccart_file *f = p->f;
    const ccc_graph *g = p->g;
    f->max_tokens = sym_max(g, "T");
    f->max_seqs = sym_max(g, "S");
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        const ccc_node *n = &g->node[i];
        const ccc_type *t = &g->value[n->out[0]].type;
        if (n->op == CCC_OP_cache) {
            f->n_layers++;
            f->kv_heads = (uint32_t)ccc_dim_max(g, t->dim[0]);
            f->kv_block_size = (uint32_t)ccc_dim_max(g, t->dim[1]);
            f->head_size = (uint32_t)ccc_dim_max(g, t->dim[2]);
            f->kv_dtype = t->dtype;
            f->kv_layout = t->layout;
        } else if (n->op == CCC_OP_embed) {
            const ccc_type *table = &g->value[n->in[0]].type;
            f->vocab = ccc_dim_max(g, table->dim[0]);
            f->hidden = ccc_dim_max(g, table->dim[1]);
        }
    }
    if (f->n_layers) f->max_model_len = sym_max(g, "B") * f->kv_block_size;
    for (ccc_nid i = 1; i < g->n_nodes; i++) { /* whole blocks may reach further than the positions that the model has */
        const ccc_node *n = &g->node[i];
        if (n->op == CCC_OP_rope_table && ccc_attr_int(n, "rows") < f->max_model_len) f->max_model_len = ccc_attr_int(n, "rows");
    }
}

static uint32_t add_module(ccart_target *t, uint32_t kind, const void *data, size_t size_B)
{
    t->module[t->n_modules] = (ccart_module){ kind, data, size_B };
    return t->n_modules++;
}

static ccc_status pack_kernels(packer *p, ccart_target *t, const pack_target *src, ccc_err *err)
{
    const ccc_plan *plan = src->plan;
    t->kernel = ccc_arena_alloc(p->mem, (plan->n_kernels + 1) * sizeof *t->kernel);
    t->module = ccc_arena_alloc(p->mem, (2 * plan->n_kernels + 1) * sizeof *t->module);
    if (!t->kernel || !t->module) return nomem(err);
    for (uint32_t i = 0; i < plan->n_kernels; i++) {
        const plan_kernel *k = &plan->kernel[i];
        const ccc_kernel_code *c = &src->code[i];
        bool cuda = t->kind == CCART_TARGET_CUDA;
        t->kernel[t->n_kernels++] = (ccart_kernel){
            .name = k->name, .symbol = c->entry, .entry_B = c->entry_B, .threads = cuda ? k->req.threads : 1, .shared_B = k->shared_B,
            .cluster = k->cluster, .args_B = k->args_B, .args_align = k->args_align, .flags = k->flags,
            .cubin = c->code ? add_module(t, cuda ? CCART_MODULE_CUBIN : CCART_MODULE_HOST, c->code, c->code_B) : UINT32_MAX,
            .ptx = c->ptx ? add_module(t, CCART_MODULE_PTX, c->ptx, c->ptx_B) : UINT32_MAX,
        };
    }
    return CCC_OK;
}

static void put_param(ccc_buf *b, const ccart_param *q)
{
    ccc_buf_u8(b, q->kind);
    ccc_buf_u8(b, q->size_B);
    ccc_buf_u32(b, q->offset_B);
    ccc_buf_u32(b, q->index);
    ccc_buf_u64(b, (uint64_t)q->value);
    ccc_buf_u32(b, q->expr);
}

/* What a load program computes. Its kernel by name: the number depends on what else is in the artifact. */
static void put_load(ccc_buf *b, const ccart_target *t, uint32_t program)
{
    ccc_buf_u8(b, program != UINT32_MAX);
    if (program == UINT32_MAX) return;
    const ccart_program *p = &t->load[program];
    for (uint32_t i = 0; i < p->n_nodes; i++) ccc_buf_str(b, t->kernel[p->node[i].kernel].name);
    for (uint32_t i = 0; i < p->n_params; i++) put_param(b, &p->param[i]);
    for (uint32_t i = 0; i < p->n_exprs; i++) {
        ccc_buf_u32(b, p->expr[i].size_B);
        ccc_buf_put(b, p->expr[i].code, p->expr[i].size_B);
    }
}

/* Equal hashes: the same sources give the same bytes at the same places, so that weights on a device and prepared files can be shared. */
static ccc_status layout_hash(ccart_target *t, ccc_err *err)
{
    ccc_buf b = { 0 };
    for (uint32_t i = 0; i < t->n_weights; i++) {
        const ccart_weight *w = &t->weight[i];
        ccc_buf_str(&b, w->name);
        ccc_buf_u32(&b, w->dtype);
        ccc_buf_u32(&b, w->rank);
        for (unsigned d = 0; d < CCART_MAX_RANK; d++) ccc_buf_u64(&b, (uint64_t)w->dim[d]);
        ccc_buf_u64(&b, w->size_B);
    }
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *s = &t->segment[i];
        ccc_buf_u32(&b, s->weight);
        ccc_buf_str(&b, s->source);
        ccc_buf_u32(&b, s->src_dtype);
        ccc_buf_u64(&b, s->dst_B);
        ccc_buf_u64(&b, s->dst_size_B);
        ccc_buf_u32(&b, (uint32_t)s->row_group);
        put_load(&b, t, s->load_program);
    }
    ccc_buf_put(&b, t->constant, t->constant_B);
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(b.data, b.size_B));
    memcpy(t->layout_hash, c.digest, 16);
    bool failed = b.failed;
    ccc_buf_free(&b);
    return failed ? nomem(err) : CCC_OK;
}

static ccc_status pack_one(packer *p, ccart_target *t, const pack_target *src, ccc_err *err)
{
    const ccc_plan *plan = src->plan;
    const ccc_target *row = plan->target;
    *t = (ccart_target){
        .name = row->name, .kind = (uint32_t)row->kind, .cc = (uint32_t)row->cc, .cc_exact = (uint32_t)row->cc_exact,
        .min_driver_cubin = (uint32_t)row->min_driver_cubin, .min_driver_ptx = (uint32_t)row->min_driver_ptx, .cpu_level = (uint32_t)row->cpu_level,
        .program = plan->program, .n_programs = plan->n_programs, .load = plan->load, .n_load = plan->n_load, .weight = plan->weight, .n_weights = plan->n_weights,
        .segment = plan->segment, .n_segments = plan->n_segments, .constant = (const uint8_t *)plan->constant.data, .constant_B = plan->constant.size_B,
        .in = plan->in, .out = plan->out, .n_in = plan->n_in, .n_out = plan->n_out, .io_expr = plan->io_expr, .n_io_exprs = plan->n_io_exprs,
        .counters_B = plan->counters_B, .arena_B = plan->arena_B,
    };
    CCC_TRY(pack_kernels(p, t, src, err));
    return layout_hash(t, err);
}

ccc_status ccc_pack(ccc_buf *out, const ccc_graph *model, const ccc_config *config, const pack_target *targets, unsigned n_targets,
                    const char *const versions[3], const char *report, ccc_err *err)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_buf text = { 0 };
    uint8_t *bytes = NULL;
    size_t size_B = 0;
    ccart_file f = { .major = CCART_MAJOR, .minor = CCART_MINOR, .n_targets = n_targets, .report = report };
    packer p = { mem, &f, model, config };
    ccc_status st = mem ? CCC_OK : nomem(err);
    if (st == CCC_OK && !(f.target = ccc_arena_alloc(mem, n_targets * sizeof *f.target))) st = nomem(err);
    if (st == CCC_OK) st = pack_strings(&p, versions, targets[0].plan->tune, err);
    if (st == CCC_OK) pack_limits(&p);
    if (st == CCC_OK && f.n_layers) st = schedule_sizes(&f.size, &f.n_sizes, mem, config, err);
    if (st == CCC_OK) st = ccc_ir_print(model, &text) == CCC_OK && !text.failed ? CCC_OK : nomem(err);
    f.graph_text = text.data;
    for (unsigned i = 0; st == CCC_OK && i < n_targets; i++) st = pack_one(&p, &f.target[i], &targets[i], err);
    if (st == CCC_OK) st = ccart_validate(&f, err); /* what a reader would refuse is not written */
    if (st == CCC_OK) st = ccart_encode(&bytes, &size_B, &f, err);
    if (st == CCC_OK) {
        ccc_buf_put(out, bytes, size_B);
        if (out->failed) st = nomem(err);
    }
    free(bytes);
    ccc_buf_free(&text);
    ccc_arena_free(mem);
    return st;
}
