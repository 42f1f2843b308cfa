/* The content of each chunk: one function a struct lists its fields in the order in which they lie in the
 * file, for the writer and the reader alike. The byte tables in README.md say the same; new fields go into
 * new chunks, never between these. */
#include "ccart_format.h"
#include "ccart_codec.h"

enum { MAX_TARGETS = 64, MAX_STRINGS = 4096, MAX_SIZES = 4096, MAX_IO = 64 };

static void kv(ccart_stream *s, ccart_kv *p)
{
    ccart_str(s, &p->key);
    ccart_str(s, &p->value);
}

static void expr(ccart_stream *s, ccart_expr *p)
{
    ccart_code(s, &p->code, &p->size_B);
}

static void io(ccart_stream *s, ccart_io *p)
{
    ccart_u32(s, &p->dtype);
    ccart_u32(s, &p->rank);
    ccart_str(s, &p->name);
    ccart_u8(s, &p->optional);
    for (int i = 0; i < CCART_MAX_RANK; i++) ccart_u32(s, &p->dim_expr[i]);
}

static void size(ccart_stream *s, uint32_t *p)
{
    ccart_u32(s, p);
}

static void target(ccart_stream *s, ccart_target *p)
{
    ccart_str(s, &p->name);
    ccart_u32(s, &p->kind);
    ccart_u32(s, &p->cc);
    ccart_u32(s, &p->cc_exact);
    ccart_u32(s, &p->min_driver_cubin);
    ccart_u32(s, &p->min_driver_ptx);
    ccart_u32(s, &p->cpu_level);
    ccart_u64(s, &p->counters_B);
    ccart_u64(s, &p->arena_B);
    CCART_ARRAY(s, p->io_expr, p->n_io_exprs, MAX_IO * CCART_MAX_RANK, 2, expr);
    CCART_ARRAY(s, p->in, p->n_in, MAX_IO, 30, io);
    CCART_ARRAY(s, p->out, p->n_out, MAX_IO, 30, io);
}

void ccart_chunk_meta(ccart_stream *s, ccart_file *f)
{
    CCART_ARRAY(s, f->target, f->n_targets, MAX_TARGETS, 57, target);
    CCART_ARRAY(s, f->provenance, f->n_provenance, MAX_STRINGS, 10, kv);
    ccart_i64(s, &f->max_tokens);
    ccart_i64(s, &f->max_seqs);
    ccart_i64(s, &f->max_model_len);
    ccart_i64(s, &f->vocab);
    ccart_i64(s, &f->hidden);
    ccart_u32(s, &f->n_layers);
    ccart_u32(s, &f->kv_heads);
    ccart_u32(s, &f->head_size);
    ccart_u32(s, &f->kv_block_size);
    ccart_u32(s, &f->kv_dtype);
    ccart_u32(s, &f->kv_layout);
    CCART_ARRAY(s, f->size, f->n_sizes, MAX_SIZES, 4, size);
}

void ccart_chunk_facts(ccart_stream *s, ccart_file *f)
{
    CCART_ARRAY(s, f->fact, f->n_facts, MAX_STRINGS, 10, kv);
}
void ccart_chunk_graph(ccart_stream *s, ccart_file *f)
{
    ccart_str(s, &f->graph_text);
}
void ccart_chunk_report(ccart_stream *s, ccart_file *f)
{
    ccart_str(s, &f->report);
}

static void module(ccart_stream *s, ccart_module *p)
{
    uint32_t kind =
        p->kind == CCART_MODULE_PTX ? CCART_MODULE_PTX_APART : p->kind; /* formats 1.0 and 1.1 had it here */
    ccart_u32(s, &kind);
    if (kind == CCART_MODULE_PTX_APART) ccart_u64(s, &p->size_B);
    else ccart_blob(s, &p->data, &p->size_B);
    p->kind = kind == CCART_MODULE_PTX_APART ? CCART_MODULE_PTX : kind;
}

/* One text a module that has none of its own yet, in order. */
void ccart_chunk_ptx(ccart_stream *s, ccart_target *t)
{
    for (uint32_t i = 0; i < t->n_modules && !s->wrong; i++) {
        ccart_module *m = &t->module[i];
        if (m->kind == CCART_MODULE_PTX && (s->writing || !m->data)) ccart_text(s, &m->data, m->size_B);
    }
}

static void kernel(ccart_stream *s, ccart_kernel *p)
{
    ccart_str(s, &p->name);
    ccart_str(s, &p->symbol);
    ccart_u32(s, &p->cubin);
    ccart_u32(s, &p->ptx);
    ccart_u32(s, &p->entry_B);
    ccart_u32(s, &p->threads);
    ccart_u32(s, &p->shared_B);
    ccart_u32(s, &p->cluster);
    ccart_u32(s, &p->args_B);
    ccart_u32(s, &p->args_align);
    ccart_u32(s, &p->flags);
}

void ccart_chunk_kernels(ccart_stream *s, ccart_target *t)
{
    CCART_ARRAY(s, t->module, t->n_modules, 2 * CCART_MAX_KERNELS, 12, module);
    CCART_ARRAY(s, t->kernel, t->n_kernels, CCART_MAX_KERNELS, 46, kernel);
}

static void program(ccart_stream *s, ccart_program *p)
{
    ccart_u32(s, &p->mode);
    ccart_i64(s, &p->t_min);
    ccart_i64(s, &p->t_max);
    ccart_u64(s, &p->arena_B);
    CCART_ARRAY(s, p->expr, p->n_exprs, CCART_MAX_EXPRS, 2, expr);
    CCART_RECORDS(s, p->tmap, p->n_tmaps, CCART_MAX_PARAMS);
    CCART_RECORDS(s, p->param, p->n_params, CCART_MAX_PARAMS);
    CCART_RECORDS(s, p->node, p->n_nodes, CCART_MAX_NODES);
}

void ccart_chunk_programs(ccart_stream *s, ccart_target *t)
{
    CCART_ARRAY(s, t->program, t->n_programs, CCART_MAX_PROGRAMS, 44, program);
    CCART_ARRAY(s, t->load, t->n_load, CCART_MAX_WEIGHTS, 44, program);
}

static void traffic(ccart_stream *s, ccart_traffic *p)
{
    ccart_u32(s, &p->memory_expr);
    ccart_u32(s, &p->local_expr);
    ccart_u32(s, &p->kv_B);
}

void ccart_chunk_traffic(ccart_stream *s, ccart_target *t)
{
    uint32_t n = t->n_programs;
    ccart_u32(s, &n);
    if (n != t->n_programs) ccart_wrong(s, "it describes another number of programs");
    for (uint32_t i = 0; i < t->n_programs && !s->wrong; i++)
        CCART_ARRAY(s, t->program[i].traffic, t->program[i].n_traffic, CCART_MAX_NODES, 12, traffic);
}

static void weight(ccart_stream *s, ccart_weight *p)
{
    ccart_str(s, &p->name);
    ccart_u32(s, &p->dtype);
    ccart_u32(s, &p->rank);
    for (int i = 0; i < CCART_MAX_RANK; i++) ccart_i64(s, &p->dim[i]);
    ccart_u64(s, &p->size_B);
}

static void segment(ccart_stream *s, ccart_segment *p)
{
    ccart_u32(s, &p->weight);
    ccart_str(s, &p->source);
    ccart_u32(s, &p->src_dtype);
    ccart_u32(s, &p->rank);
    for (int i = 0; i < CCART_MAX_RANK; i++) ccart_i64(s, &p->dim[i]);
    ccart_u64(s, &p->row_B);
    ccart_u64(s, &p->dst_B);
    ccart_u64(s, &p->dst_size_B);
    ccart_u8(s, &p->plain);
    ccart_i32(s, &p->row_group);
    ccart_u32(s, &p->load_program);
    ccart_u32(s, &p->random_program);
}

void ccart_chunk_weights(ccart_stream *s, ccart_target *t)
{
    ccart_raw(s, t->layout_hash, sizeof t->layout_hash);
    CCART_ARRAY(s, t->weight, t->n_weights, CCART_MAX_WEIGHTS, 53, weight);
    CCART_ARRAY(s, t->segment, t->n_segments, CCART_MAX_WEIGHTS, 86, segment);
    ccart_blob(s, &t->constant, &t->constant_B);
}
