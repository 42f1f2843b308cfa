/* What each unit becomes: one function an anchor (attention, rotation and cache write: plan_attention.c). It checks what the templates
 * require, chooses template and constants, and fills the argument struct of kernels/abi.h. Launch shapes are the templates' own:
 * kernels/geometry.h, attention_geometry.h, host_geometry.h. */
#include "plan_unit.h"
#include "tune.h"
#include "kernels/geometry.h"
#include <string.h>

/* Places for all results of a unit, main one first. */
static ccc_status results(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    for (unsigned i = 0; i < u->n_results; i++)
        if (!b->loc[u->result[i]].kind && type_of(b, u->result[i])->layout == CCC_LAYOUT_ROW) CCC_TRY(pb_result(b, u->result[i], err));
    return CCC_OK;
}

/* ---- gather, embed ---------------------------------------------------------------------------------------------------------------------- */
static ccc_status plan_gather(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    const ccc_node *n = &b->g->node[u->anchor];
    bool embed = n->op == CCC_OP_embed;
    const ccc_type *table = type_of(b, n->in[0]);
    uint32_t rows = 0, first = b->n_params, table_rows = 0;
    int64_t cols = 0;
    CCC_TRY(need_dtype(b, n->in[0], CCC_BF16, "the table of a gather", err));
    CCC_TRY(need_dtype(b, n->in[1], CCC_I32, "the index of a gather", err));
    CCC_TRY(shape(b, n->out[0], &rows, &cols, err));
    CCC_TRY(px_dim(&table_rows, b, b->g, table->dim[0], err));
    if (cols % 8 || pb_loc(b, n->in[0]).ld != cols) return ccc_fail(err, CCC_E_UNSUPPORTED, "gather: rows must be whole and a multiple of 8 elements, not %lld", (long long)cols);
    plan_kernel k = new_kernel(b, "gather", CCC_GATHER_THREADS, sizeof(gather_args));
    pb_value(b, offsetof(gather_args, out), u->result[0], 0);
    pb_table(b, offsetof(gather_args, table), n->in[0], u->result[0]);
    pb_value(b, offsetof(gather_args, ids), n->in[1], 0);
    if (embed) pb_address(b, offsetof(gather_args, alt), n->in[2], 0); /* read instead of the table */
    pb_plain(b, offsetof(gather_args, status), 8, CCART_P_STATUS, 0, 0);
    pb_expr(b, offsetof(gather_args, n), 4, rows);
    PB_I32(b, gather_args, cols, cols);
    pb_expr(b, offsetof(gather_args, table_rows), 4, table_rows);
    PB_I32(b, gather_args, bad_kind, embed ? CCART_STATUS_BAD_TOKEN : CCART_STATUS_BAD_ROW);
    uint32_t grid[3] = { is_cuda(b) ? rows : host_grid(b, rows), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

/* ---- rms_norm --------------------------------------------------------------------------------------------------------------------------- */
static ccc_status norm_input(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    if (!u->x) return ccc_fail(err, CCC_E_UNSUPPORTED, "rms_norm of a value that is not in memory as bf16");
    return need_dtype(b, u->x, CCC_BF16, "the input of rms_norm", err);
}

static ccc_status plan_rows(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    uint32_t rows = 0, first = b->n_params;
    int64_t cols = 0;
    CCC_TRY(norm_input(b, u, err));
    CCC_TRY(float_result(b, u->result[0], err));
    CCC_TRY(shape(b, u->result[0], &rows, &cols, err));
    int nt = ccc_rows_nt((int)cols);
    plan_kernel k = new_kernel(b, "rows", (unsigned)nt, sizeof(rows_args));
    if (is_cuda(b)) {
        if (!ccc_rows_ok((int)cols, nt) || pb_loc(b, u->x).ld % 8 || pb_loc(b, u->result[0]).ld % 8)
            return ccc_fail(err, CCC_E_UNSUPPORTED, "rms_norm of rows of %lld: a multiple of 8 up to %d is needed", (long long)cols, 64 * 512);
        plan_spec(&k, "NT", nt);
        plan_spec(&k, "COLS", cols);
        k.shared_B = (uint32_t)ccc_rows_shared_B(nt);
    } else {
        k.shared_B = (uint32_t)ccc_host_rows_scratch_B((int)cols);
    }
    plan_spec(&k, "OUT_F32", out_kind(b, u->result[0]));
    CCC_TRY(plan_hook(b, &k, u, "in", CCC_PART_IN, err));
    CCC_TRY(plan_hook(b, &k, u, "out", CCC_PART_OUT, err));
    pb_value(b, offsetof(rows_args, out), u->result[0], 0);
    pb_value(b, offsetof(rows_args, x), u->x, 0);
    pb_expr(b, offsetof(rows_args, rows), 4, rows);
    PB_I32(b, rows_args, cols, cols);
    PB_I32(b, rows_args, x_ld, pb_loc(b, u->x).ld);
    PB_I32(b, rows_args, out_ld, pb_loc(b, u->result[0]).ld);
    PB_F32(b, rows_args, eps, ccc_attr_float(&b->g->node[u->norm], "eps"));
    CCC_TRY(plan_aux(b, u, offsetof(rows_args, aux), err));
    uint32_t grid[3] = { is_cuda(b) ? rows : host_grid(b, rows), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

/* ---- elementwise ------------------------------------------------------------------------------------------------------------------------ */
bool plan_wide_rows(plan_builder *b, const ccc_group_info *u)
{
    bool wide = pb_loc(b, u->result[0]).ld % 8 == 0;
    for (unsigned i = 0; i < u->n_aux; i++) {
        plan_loc l = pb_loc(b, u->aux[i].val);
        wide = wide && l.col % 8 == 0 && (u->aux[i].at != CCC_AUX_ROWCOL || l.ld % 8 == 0);
    }
    return wide;
}

static ccc_status plan_elt(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    uint32_t rows = 0, first = b->n_params;
    int64_t cols = 0;
    CCC_TRY(float_result(b, u->result[0], err));
    CCC_TRY(shape(b, u->result[0], &rows, &cols, err));
    bool wide = cols % 8 == 0 && plan_wide_rows(b, u);
    plan_kernel k = new_kernel(b, is_cuda(b) && !wide ? "elt_1" : "elt", CCC_ELT_THREADS, sizeof(elt_args));
    plan_spec(&k, "OUT_F32", out_kind(b, u->result[0]));
    CCC_TRY(plan_hook(b, &k, u, "body", CCC_PART_BODY, err));
    pb_value(b, offsetof(elt_args, out), u->result[0], 0);
    pb_expr(b, offsetof(elt_args, rows), 4, rows);
    PB_I32(b, elt_args, cols, cols);
    PB_I32(b, elt_args, out_ld, pb_loc(b, u->result[0]).ld);
    CCC_TRY(plan_aux(b, u, offsetof(elt_args, aux), err));
    uint32_t grid[3] = { is_cuda(b) ? up(b, mul(b, rows, wide ? cols / 8 : cols), CCC_ELT_THREADS) : host_grid(b, up(b, mul(b, rows, cols), CCC_HOST_ELEMS)), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

/* ---- matmul ----------------------------------------------------------------------------------------------------------------------------- */
typedef struct { ccc_val x, w; int64_t N, K, rows_max; uint32_t rows; bool pair, norm, fp8; } matmul_facts;

static schedule_shape shape_of(const plan_builder *b, const matmul_facts *m)
{
    return (schedule_shape){ (ccc_dtype)type_of(b, m->w)->dtype, m->N, m->K, m->pair };
}

static ccc_status matmul_look(plan_builder *b, const ccc_group_info *u, matmul_facts *m, ccc_err *err)
{
    const ccc_node *n = &b->g->node[u->anchor];
    int64_t cols;
    *m = (matmul_facts){ .x = u->x, .w = n->in[1], .pair = u->pair, .norm = u->norm != 0 };
    m->fp8 = type_of(b, m->w)->dtype == CCC_E4M3;
    if (m->norm) CCC_TRY(norm_input(b, u, err));
    if (!m->fp8) CCC_TRY(need_dtype(b, m->w, CCC_BF16, "the weight of a matmul", err));
    CCC_TRY(need_dtype(b, n->in[0], m->fp8 ? CCC_E4M3 : CCC_BF16, m->fp8 ? "the activation of a matmul with an e4m3 weight" : "the activation of a matmul", err));
    CCC_TRY(float_result(b, u->result[0], err));
    CCC_TRY(shape(b, u->result[0], &m->rows, &m->N, err));
    CCC_TRY(shape(b, m->x, &m->rows, &m->K, err));
    m->rows_max = 1;
    for (unsigned i = 0; i + 1 < type_of(b, m->x)->rank; i++) m->rows_max *= ccc_dim_max(b->g, type_of(b, m->x)->dim[i]);
    cols = ccc_type_last(type_of(b, m->w));
    if (cols != m->K || pb_loc(b, m->w).ld != cols) return ccc_fail(err, CCC_E_UNSUPPORTED, "the weight of a matmul must be whole rows of %lld", (long long)m->K);
    int by = m->fp8 ? 16 : 8, x_by = m->norm ? 8 : by; /* elements in 16 bytes; the input of a norm is bf16 */
    if (m->K % by || pb_loc(b, m->x).ld % x_by || pb_loc(b, m->x).col % x_by)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "matmul over %lld: a multiple of %d is needed", (long long)m->K, by);
    return CCC_OK;
}

/* Rows of the output lie so that eight columns can be written at once. */
static bool by8(plan_builder *b, const ccc_group_info *u, const matmul_facts *m) { return m->N % 8 == 0 && pb_loc(b, u->result[0]).ld % 8 == 0; }

static ccc_status matmul_hooks(plan_builder *b, plan_kernel *k, const ccc_group_info *u, ccc_err *err)
{
    if (u->norm) {
        CCC_TRY(plan_hook(b, k, u, "in", CCC_PART_IN, err));
        CCC_TRY(plan_hook(b, k, u, "out", CCC_PART_OUT, err));
    }
    return plan_hook(b, k, u, u->pair ? "pair" : "epilogue", CCC_PART_EPILOGUE, err);
}

static ccc_status matvec_params(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    pb_value(b, offsetof(matvec_args, y), u->result[0], 0);
    pb_value(b, offsetof(matvec_args, w), m->w, 0);
    pb_value(b, offsetof(matvec_args, x), m->x, 0);
    pb_expr(b, offsetof(matvec_args, T), 4, m->rows);
    PB_I32(b, matvec_args, N, m->N);
    PB_I32(b, matvec_args, K, m->K);
    PB_I32(b, matvec_args, x_ld, pb_loc(b, m->x).ld);
    PB_I32(b, matvec_args, y_ld, pb_loc(b, u->result[0]).ld);
    PB_F32(b, matvec_args, eps, m->norm ? ccc_attr_float(&b->g->node[u->norm], "eps") : 0.0);
    return plan_aux(b, u, offsetof(matvec_args, aux), err);
}

static ccc_status plan_matvec(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    uint32_t first = b->n_params;
    int N = (int)m->N, K = (int)m->K / (m->fp8 ? 2 : 1), tok = 1; /* K: as if the row were bf16 */
    while (tok < m->rows_max) tok *= 2;
    schedule_shape form = shape_of(b, m);
    ccc_matvec_shape s = schedule_matvec(b->plan, &form, tok, m->norm);
    if (m->norm && ccc_matvec_shared_B(K, tok, 1, 0, m->pair, s) > CCC_SHARED_MOST)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "rows of %lld are too long for a norm in front of a matmul at %d tokens", (long long)m->K, tok);
    int cols = ccc_matvec_cols(s), blocks = (N + cols - 1) / cols, n_sm = b->plan->target->n_sm;
    bool one_token = tok == 1 && !m->fp8, spread = one_token && blocks <= CCC_MATVEC_SPREAD_BLOCKS * n_sm;
    bool bulk = one_token && !m->norm && blocks <= CCC_MATVEC_BULK_BLOCKS * n_sm && ccc_matvec_shared_B(K, tok, 0, 1, m->pair, s) <= CCC_SHARED_MOST;
    plan_kernel k = new_kernel(b, m->fp8 ? "matvec_fp8" : "matvec", (unsigned)(32 * s.warps), sizeof(matvec_args));
    const ccc_spec spec[] = { { "TOK", tok }, { "NORM", m->norm }, { "PAIR", m->pair }, { "OUT_F32", out_kind(b, u->result[0]) }, { "ROWS", s.rows }, { "LOADS", s.loads },
                              { "WARPS", s.warps }, { "SPLIT", s.split }, { "WHOLE", tok == 1 && ccc_matvec_whole(K, s) }, { "TURNS", s.turns }, { "KEEP", m->norm && tok == 1 ? ccc_matvec_keep((int)m->K, s) : 1 }, { "BULK", bulk } };
    for (unsigned i = 0; i < sizeof spec / sizeof *spec; i++) plan_spec(&k, spec[i].name, spec[i].value);
    k.shared_B = (uint32_t)ccc_matvec_shared_B(K, tok, m->norm, bulk, m->pair, s);
    if (spread && k.shared_B < CCC_MATVEC_SPREAD_B) k.shared_B = CCC_MATVEC_SPREAD_B;
    k.req.min_blocks = (unsigned)ccc_matvec_min_blocks(m->norm, s);
    CCC_TRY(matmul_hooks(b, &k, u, err));
    CCC_TRY(matvec_params(b, u, m, err));
    uint32_t grid[3] = { px_const(b, blocks), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

static ccc_status plan_gemm(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    uint32_t first = b->n_params;
    if (m->norm) return ccc_fail(err, CCC_E_UNSUPPORTED, "a norm in front of a matmul is a prologue up to %d tokens only", CCC_MATVEC_MAX_T);
    int block = m->fp8 ? CCC_GEMM_K_FP8 : CCC_GEMM_K, kb = (int)((m->K + block - 1) / block);
    schedule_shape form = shape_of(b, m);
    ccc_gemm_tile t = schedule_gemm(b->plan, &form, m->rows_max > 1 << 30 ? 1 << 30 : (int)m->rows_max, by8(b, u, m));
    const char *name = ccc_arena_printf(b->plan->mem, "gemm_%s%d%s%s", t.swap ? "t" : "", t.bn, m->pair ? "_pair" : "", m->fp8 ? "_fp8" : "");
    plan_kernel k = new_kernel(b, name, (unsigned)ccc_gemm_threads(t), sizeof(gemm_args));
    if (!k.req.tmpl) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    k.req.min_blocks = 1;
    k.args_align = 64;
    k.cluster = (uint32_t)t.split;
    k.shared_B = (uint32_t)ccc_gemm_shared_B(t);
    plan_spec(&k, "OUT_F32", out_kind(b, u->result[0]));
    if (t.swap) plan_spec(&k, "COLS", t.cols);
    if (t.swap) plan_spec(&k, "SPLIT", t.split);
    if (t.swap) plan_spec(&k, "BLOCKS", t.blocks);
    CCC_TRY(matmul_hooks(b, &k, u, err));
    uint32_t tokens = up(b, m->rows, ccc_gemm_tokens(t)), outputs = px_const(b, (m->N + t.cols - 1) / t.cols);
    uint32_t na = t.swap ? outputs : tokens, nb = t.swap ? tokens : outputs;
    pb_plain(b, offsetof(gemm_args, x), 128, CCART_P_TMAP, pb_tmap(b, m->x, m->rows_max, m->K, (uint32_t)ccc_gemm_tokens(t), (uint32_t)block), 0);
    pb_plain(b, offsetof(gemm_args, w), 128, CCART_P_TMAP, pb_tmap(b, m->w, (m->pair ? 2 : 1) * m->N, m->K, (uint32_t)t.cols, (uint32_t)block), 0);
    pb_value(b, offsetof(gemm_args, y), u->result[0], 0);
    pb_expr(b, offsetof(gemm_args, T), 4, m->rows);
    PB_I32(b, gemm_args, N, m->N);
    PB_I32(b, gemm_args, K, m->K);
    PB_I32(b, gemm_args, y_ld, pb_loc(b, u->result[0]).ld);
    pb_expr(b, offsetof(gemm_args, na), 4, na);
    pb_expr(b, offsetof(gemm_args, nb), 4, nb);
    PB_I32(b, gemm_args, kb, kb);
    PB_I32(b, gemm_args, stages, t.stages);
    CCC_TRY(plan_aux(b, u, offsetof(gemm_args, aux), err));
    uint32_t units = px_op(b, CCART_X_MUL, na, nb);
    uint32_t grid[3] = { t.split > 1 ? mul(b, units, t.split) : px_op(b, CCART_X_MIN, units, px_var(b, CCART_VAR_SM)), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

static ccc_status plan_host_matmul(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    uint32_t first = b->n_params;
    int tok = !m->fp8 && ccc_host_matmul_tok(m->rows_max, m->K);
    if (m->norm) return ccc_fail(err, CCC_E_UNSUPPORTED, "the host's matmul takes no norm prologue");
    plan_kernel k = new_kernel(b, m->fp8 ? m->pair ? "matmul_pair_fp8" : "matmul_fp8" : m->pair ? "matmul_pair" : "matmul", 1, sizeof(matvec_args));
    if (!m->fp8) plan_spec(&k, "TOK", tok);
    plan_spec(&k, "OUT_F32", out_kind(b, u->result[0]));
    k.shared_B = (uint32_t)ccc_host_matmul_scratch_B(tok, m->K);
    CCC_TRY(matmul_hooks(b, &k, u, err));
    CCC_TRY(matvec_params(b, u, m, err));
    uint32_t grid[3] = { host_grid(b, px_const(b, (m->N + 7) / 8)), tok ? one(b) : up(b, m->rows, CCC_HOST_TILE_T), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

static ccc_status plan_cuda_matmul(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    bool few = m->rows_max <= CCC_MATVEC_MAX_T && !b->plan->config->batch_invariant; /* a matvec adds in another order than wgmma */
    return few ? plan_matvec(b, u, m, err) : plan_gemm(b, u, m, err);
}

/* Every candidate, one after the other into the same result. */
static ccc_status tune_matmul(plan_builder *b, const ccc_group_info *u, const matmul_facts *m, ccc_err *err)
{
    struct plan_tune *t = b->plan->tune;
    schedule_shape s = shape_of(b, m);
    uint32_t first, n;
    CCC_TRY(tune_candidates(&first, &n, b, &s, m->norm, by8(b, u, m), err));
    for (uint32_t i = 0; i < n; i++) {
        t->forced = &t->row[first + i];
        CCC_TRY(plan_cuda_matmul(b, u, m, err));
        b->node[b->n_nodes - 1].label = CCC_TUNE_LABEL + first + i;
    }
    return CCC_OK;
}

static ccc_status plan_matmul(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    matmul_facts m;
    CCC_TRY(matmul_look(b, u, &m, err));
    if (!is_cuda(b)) return plan_host_matmul(b, u, &m, err);
    return b->plan->tune ? tune_matmul(b, u, &m, err) : plan_cuda_matmul(b, u, &m, err);
}

/* ---- argmax ----------------------------------------------------------------------------------------------------------------------------------- */
static ccc_status plan_argmax(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    const ccc_node *n = &b->g->node[u->anchor];
    uint32_t rows = 0, first = b->n_params;
    int64_t cols = 0, rows_max = ccc_dim_max(b->g, type_of(b, n->in[0])->dim[0]);
    CCC_TRY(need_dtype(b, n->in[0], CCC_F32, "the input of argmax", err));
    CCC_TRY(shape(b, n->in[0], &rows, &cols, err));
    plan_kernel k = new_kernel(b, "argmax", CCC_ARGMAX_THREADS, sizeof(argmax_args));
    if (is_cuda(b)) k.shared_B = CCC_ARGMAX_SHARED_B;
    pb_value(b, offsetof(argmax_args, out), u->result[0], 0);
    pb_value(b, offsetof(argmax_args, x), n->in[0], 0);
    if (is_cuda(b)) { /* counters are shared by the kernels of a session, which run one after the other and leave zeros */
        pb_plain(b, offsetof(argmax_args, best), 8, CCART_P_COUNTER, 0, 0);
        pb_plain(b, offsetof(argmax_args, count), 8, CCART_P_COUNTER, 0, 8 * rows_max);
        if (b->counters_B < 12 * (uint64_t)rows_max) b->counters_B = 12 * (uint64_t)rows_max;
    }
    pb_expr(b, offsetof(argmax_args, rows), 4, rows);
    PB_I32(b, argmax_args, cols, cols);
    PB_I32(b, argmax_args, x_ld, pb_loc(b, n->in[0]).ld);
    uint32_t grid[3] = { is_cuda(b) ? px_const(b, ccc_argmax_blocks(rows_max, cols)) : rows, is_cuda(b) ? rows : one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

/* ---- programs that do not come from the graph ---------------------------------------------------------------------------------------------------- */
static int input_index(const ccc_plan *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_in; i++)
        if (!strcmp(p->in[i].name, name)) return (int)i;
    return -1;
}

static ccc_status add_service(ccc_plan *p, plan_builder *b, uint32_t mode, int64_t most, ccc_err *err)
{
    if (b->oom || !CCC_GROW(p->mem, p->program, p->n_programs, p->cap_programs)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    p->program[p->n_programs++] = (ccart_program){ .mode = mode, .t_min = 1, .t_max = most, .expr = b->expr, .n_exprs = b->n_exprs, .param = b->param,
                                                   .n_params = b->n_params, .node = b->node, .n_nodes = b->n_nodes };
    return CCC_OK;
}

static ccc_status plan_advance(ccc_plan *p, const ccc_graph *g, ccc_err *err)
{
    int positions = input_index(p, "positions"), lens = input_index(p, "seq_lens"), slots = input_index(p, "slot_mapping"), table = input_index(p, "block_table");
    int64_t block = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_cache) block = ccc_dim_max(g, g->value[g->node[i].out[0]].type.dim[1]);
    if (!block || positions < 0 || lens < 0 || slots < 0 || table < 0) return CCC_OK; /* no decode steps */
    plan_builder b = { .plan = p, .g = g };
    plan_kernel k = new_kernel(&b, "advance", CCC_ADVANCE_THREADS, sizeof(advance_args));
    pb_plain(&b, offsetof(advance_args, positions), 8, CCART_P_INPUT, (uint32_t)positions, 0);
    pb_plain(&b, offsetof(advance_args, seq_lens), 8, CCART_P_INPUT, (uint32_t)lens, 0);
    pb_plain(&b, offsetof(advance_args, slots), 8, CCART_P_INPUT, (uint32_t)slots, 0);
    pb_plain(&b, offsetof(advance_args, table), 8, CCART_P_INPUT, (uint32_t)table, 0);
    pb_expr(&b, offsetof(advance_args, S), 4, px_var(&b, CCART_VAR_S));
    pb_expr(&b, offsetof(advance_args, max_blocks), 4, px_var(&b, CCART_VAR_MAX_BLOCKS));
    PB_I32(&b, advance_args, block_size, block);
    pb_expr(&b, offsetof(advance_args, kv_blocks), 4, px_var(&b, CCART_VAR_KV_BLOCKS));
    uint32_t grid[3] = { is_cuda(&b) ? up(&b, px_var(&b, CCART_VAR_S), CCC_ADVANCE_THREADS) : one(&b), one(&b), one(&b) };
    CCC_TRY(pb_launch(&b, &k, grid, 0, 0, err));
    int s = ccc_graph_find_sym(g, "S");
    return add_service(p, &b, CCART_MODE_ADVANCE, s < 0 ? 1 : g->sym[s].max, err);
}

/* VAR_ROWS bytes at P_SRC, as in a load program */
static ccc_status plan_read(ccc_plan *p, const ccc_graph *g, const char *tmpl, uint32_t threads, uint32_t shared_B, ccc_err *err)
{
    plan_builder b = { .plan = p, .g = g };
    plan_kernel k = new_kernel(&b, tmpl, threads, sizeof(read_args));
    if (is_cuda(&b)) k.shared_B = shared_B;
    pb_plain(&b, offsetof(read_args, out), 8, CCART_P_STATUS, 0, 12);
    pb_plain(&b, offsetof(read_args, src), 8, CCART_P_SRC, 0, 0);
    pb_expr(&b, offsetof(read_args, bytes), 8, px_var(&b, CCART_VAR_ROWS));
    uint32_t grid[3] = { is_cuda(&b) ? up(&b, px_var(&b, CCART_VAR_ROWS), CCC_READ_B) : mul(&b, px_var(&b, CCART_VAR_SM), CCC_HOST_BLOCKS), one(&b), one(&b) };
    CCC_TRY(pb_launch(&b, &k, grid, 0, 0, err));
    return add_service(p, &b, CCART_MODE_READ, INT64_MAX, err);
}

ccc_status plan_service_programs(ccc_plan *p, const ccc_graph *g, ccc_err *err)
{
    CCC_TRY(plan_advance(p, g, err));
    CCC_TRY(plan_read(p, g, "read", CCC_READ_THREADS, CCC_READ_SHARED_B, err));
    return p->target->kind == CCC_TARGET_CUDA ? plan_read(p, g, "read_bulk", CCC_READ_BULK_THREADS, CCC_READ_BULK_SHARED_B, err) : CCC_OK;
}

/* ---- the dispatcher --------------------------------------------------------------------------------------------------------------------------------- */
ccc_status plan_unit(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    const ccc_node *n = &b->g->node[u->anchor];
    CCC_TRY(results(b, u, err));
    switch (n->op) {
    case CCC_OP_embed:
    case CCC_OP_gather: return plan_gather(b, u, err);
    case CCC_OP_matmul: return plan_matmul(b, u, err);
    case CCC_OP_rms_norm: return plan_rows(b, u, err);
    case CCC_OP_rope:
    case CCC_OP_kv_write: return plan_rope(b, u, err);
    case CCC_OP_attention: return plan_attention(b, u, err);
    case CCC_OP_argmax: return plan_argmax(b, u, err);
    default:
        if (ccc_ops[n->op].flags & CCC_ELTWISE) return plan_elt(b, u, err);
        return ccc_fail(err, CCC_E_UNSUPPORTED, "no kernel computes '%s' of values that are not weights", ccc_ops[n->op].name);
    }
}
