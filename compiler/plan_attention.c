/* Planning of rotation, cache write and attention: alone, or on a decode step the three as one kernel. Launch shapes and limits of the
 * templates: kernels/attention_geometry.h. */
#include "plan_unit.h"

enum { MAX_DECODE_CTAS = 192 }; /* of attn_decode, whose scratch is sized by its grid: parts with more multiprocessors use this many */

/* ---- rope, kv_write ------------------------------------------------------------------------------------------------------------------------ */
static int64_t cache_dim(const plan_builder *b, ccc_val cache, int i) { return ccc_dim_max(b->g, type_of(b, cache)->dim[i]); }

static int64_t kv_token_B(const plan_builder *b, ccc_val cache) /* K and V of one token */
{
    return 2 * (int64_t)ccc_dtype_bytes((ccc_dtype)type_of(b, cache)->dtype, (uint64_t)(cache_dim(b, cache, 0) * cache_dim(b, cache, 2)));
}

static void cache_params(plan_builder *b, size_t k_cache, size_t v_cache, size_t strides, ccc_val cache)
{
    uint32_t layer = pb_loc(b, cache).index;
    pb_plain(b, k_cache, 8, CCART_P_KV, layer, 0);
    pb_plain(b, v_cache, 8, CCART_P_KV, layer, 1);
    pb_expr(b, strides, 8, px_var(b, CCART_VAR_KV_BLOCK_STRIDE));
    pb_expr(b, strides + 8, 8, px_var(b, CCART_VAR_KV_TOKEN_STRIDE));
    pb_expr(b, strides + 16, 8, px_var(b, CCART_VAR_KV_HEAD_STRIDE));
}

/* fp8: the cache is of e4m3; rows_fp8: k and v are, too, so that they are copied as they are */
typedef struct { ccc_val q, k, v, q_out, k_out, cache; const ccc_node *rope; int64_t hq, hkv, d; bool fp8, rows_fp8; float k_times, v_times; } rope_facts;

static bool is_fp8(const plan_builder *b, ccc_val cache) { return type_of(b, cache)->dtype == CCC_E4M3; }

static ccc_status need_cache(const plan_builder *b, ccc_val cache, ccc_err *err)
{
    if (!is_fp8(b, cache)) return need_dtype(b, cache, CCC_BF16, "a KV cache that is not e4m3", err);
    int64_t d = cache_dim(b, cache, 2);
    if (d % 16) return ccc_fail(err, CCC_E_UNSUPPORTED, "head size %lld: with a KV cache of e4m3 a multiple of 16 is needed", (long long)d);
    return CCC_OK;
}

static ccc_status rope_operand(plan_builder *b, size_t ptr, size_t ld, ccc_val v, ccc_dtype d, ccc_err *err)
{
    CCC_TRY(need_dtype(b, v, d, "an operand of rope or kv_write", err));
    plan_loc l = pb_loc(b, v);
    if (l.ld % 8 || l.col % 8) return ccc_fail(err, CCC_E_UNSUPPORTED, "rope: rows must begin at multiples of 8 elements");
    pb_value(b, ptr, v, 0);
    int32_t n = (int32_t)l.ld;
    pb_imm(b, ld, 4, &n);
    return CCC_OK;
}

static ccc_status rope_params(plan_builder *b, const rope_facts *f, uint32_t T, ccc_val slots, ccc_err *err)
{
    typedef rope_kv_args A;
    ccc_dtype rows = f->rows_fp8 ? CCC_E4M3 : CCC_BF16;
    if (f->q) {
        CCC_TRY(rope_operand(b, offsetof(A, q), offsetof(A, q_ld), f->q, CCC_BF16, err));
        CCC_TRY(rope_operand(b, offsetof(A, q_out), offsetof(A, q_out_ld), f->q_out, CCC_BF16, err));
    }
    if (f->k) CCC_TRY(rope_operand(b, offsetof(A, k), offsetof(A, k_ld), f->k, rows, err));
    if (f->k_out) CCC_TRY(rope_operand(b, offsetof(A, k_out), offsetof(A, k_out_ld), f->k_out, CCC_BF16, err));
    if (f->v) CCC_TRY(rope_operand(b, offsetof(A, v), offsetof(A, v_ld), f->v, rows, err));
    if (f->rope) {
        pb_table(b, offsetof(A, table), f->rope->in[1], f->rope->in[0]);
        pb_value(b, offsetof(A, positions), f->rope->in[2], 0);
        PB_I32(b, A, table_rows, ccc_dim_max(b->g, type_of(b, f->rope->in[1])->dim[0]));
    }
    if (f->cache) {
        pb_value(b, offsetof(A, slots), slots, 0);
        cache_params(b, offsetof(A, k_cache), offsetof(A, v_cache), offsetof(A, block_stride), f->cache);
        pb_moves_rows(b, f->k, kv_token_B(b, f->cache), CCART_P_KV);
        pb_expr(b, offsetof(A, kv_blocks), 4, px_var(b, CCART_VAR_KV_BLOCKS));
        PB_F32(b, A, k_times, (double)f->k_times);
        PB_F32(b, A, v_times, (double)f->v_times);
    }
    pb_plain(b, offsetof(A, status), 8, CCART_P_STATUS, 0, 0);
    pb_expr(b, offsetof(A, T), 4, T);
    return CCC_OK;
}

static void look_rope(const plan_builder *b, const ccc_group_info *u, rope_facts *f)
{
    const ccc_node *a = &b->g->node[u->kv_write];
    if (u->kv_write) {
        f->cache = a->in[0];
        f->fp8 = is_fp8(b, f->cache);
        f->rows_fp8 = f->fp8 && !u->k.cast;
        f->k = u->k.rows;
        f->v = u->v.rows;
        f->k_times = u->k.times;
        f->v_times = u->v.times;
        f->hkv = cache_dim(b, f->cache, 0);
        f->d = cache_dim(b, f->cache, 2);
    }
    if (u->rope_k) {
        f->rope = &b->g->node[u->rope_k];
        f->k = f->rope->in[0];
        f->k_out = u->k_out;
    }
    if (u->rope_q) {
        f->rope = &b->g->node[u->rope_q];
        f->q = f->rope->in[0];
        f->q_out = u->q_out;
        f->d = ccc_attr_int(f->rope, "head_size");
        f->hq = ccc_type_last(type_of(b, f->q)) / f->d;
    }
}

ccc_status plan_rope(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    const ccc_node *a = &b->g->node[u->anchor];
    rope_facts f = { 0 };
    uint32_t T = 0, first = b->n_params;
    int64_t cols = 0;
    look_rope(b, u, &f);
    ccc_val rows_of = f.q ? f.q : f.k;
    CCC_TRY(shape(b, rows_of, &T, &cols, err));
    int64_t rotary = f.rope ? ccc_type_last(type_of(b, f.rope->in[1])) : f.rows_fp8 ? 0 : f.d;
    bool do_kv = f.cache != 0, k_rotated = do_kv && !u->rope_k;
    int64_t layout = do_kv ? type_of(b, f.cache)->layout : CCC_LAYOUT_NHD, block = do_kv ? cache_dim(b, f.cache, 1) : 16;
    if (do_kv) CCC_TRY(need_cache(b, f.cache, err));
    if (f.rows_fp8 && f.q) return ccc_fail(err, CCC_E_UNSUPPORTED, "no kernel rotates q and writes rows that are e4m3 already");
    if (f.d % 8) return ccc_fail(err, CCC_E_UNSUPPORTED, "head size %lld: a multiple of 8 is needed", (long long)f.d);
    plan_kernel k = new_kernel(b, f.fp8 ? "rope_kv_fp8" : "rope_kv", CCC_ROPE_THREADS, sizeof(rope_kv_args));
    const ccc_spec spec[] = { { "HQ", f.q ? f.hq : 1 }, { "HKV", f.hkv ? f.hkv : 1 }, { "D", f.d }, { "ROTARY", rotary }, { "LAYOUT", layout }, { "BLOCK", block },
                              { "DO_Q", f.q != 0 }, { "DO_K", f.k_out != 0 }, { "DO_KV", do_kv }, { "K_ROTATED", k_rotated } };
    for (unsigned i = 0; i < sizeof spec / sizeof *spec; i++) plan_spec(&k, spec[i].name, spec[i].value);
    if (f.fp8) plan_spec(&k, "ROWS_FP8", f.rows_fp8);
    CCC_TRY(rope_params(b, &f, T, do_kv ? a->in[3] : 0, err));
    int items = ccc_rope_items(f.q ? (int)f.hq : 0, (int)f.hkv, (int)f.d, (int)rotary, f.q != 0, f.k_out != 0, do_kv);
    uint32_t grid[3] = { is_cuda(b) ? up(b, mul(b, T, items), CCC_ROPE_THREADS) : host_grid(b, T), one(b), one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

/* ---- attention ---------------------------------------------------------------------------------------------------------------------------- */
typedef struct { ccc_val q; rope_facts own; int64_t hq, hkv, d, block, layout; uint32_t T, S; bool decode, rope, fp8; } attention_facts;

static ccc_status look_attention(plan_builder *b, const ccc_group_info *u, attention_facts *f, ccc_err *err)
{
    const ccc_node *n = &b->g->node[u->anchor];
    int64_t cols = 0;
    f->q = n->in[0];
    f->rope = u->kv_write != 0;
    if (f->rope) {
        look_rope(b, u, &f->own);
        f->q = f->own.q;
    }
    CCC_TRY(shape(b, f->q, &f->T, &cols, err));
    CCC_TRY(px_dim(&f->S, b, b->g, type_of(b, n->in[3])->dim[0], err));
    f->hkv = cache_dim(b, n->in[1], 0);
    f->block = cache_dim(b, n->in[1], 1);
    f->d = cache_dim(b, n->in[1], 2);
    f->hq = cols / f->d;
    f->layout = type_of(b, n->in[1])->layout;
    f->decode = schedule_decode_attention(b->plan->target, b->plan->config, b->g, n, b->mode);
    CCC_TRY(need_dtype(b, f->q, CCC_BF16, "the query of attention", err));
    CCC_TRY(need_cache(b, n->in[1], err));
    f->fp8 = is_fp8(b, n->in[1]);
    if (u->part[CCC_PART_EPILOGUE].n <= 1) CCC_TRY(need_dtype(b, u->result[0], CCC_BF16, "the result of attention", err));
    CCC_TRY(float_result(b, u->result[0], err));
    if (f->d % 8 || f->d > CCC_ATTN_MAX_D) return ccc_fail(err, CCC_E_UNSUPPORTED, "head size %lld: a multiple of 8 up to %d is needed", (long long)f->d, CCC_ATTN_MAX_D);
    if (f->hq % f->hkv) return ccc_fail(err, CCC_E_UNSUPPORTED, "%lld query heads over %lld cache heads", (long long)f->hq, (long long)f->hkv);
    if (pb_loc(b, f->q).ld % 8 || pb_loc(b, f->q).col % 8) return ccc_fail(err, CCC_E_UNSUPPORTED, "attention: rows must begin at multiples of 8 elements");
    if (!plan_wide_rows(b, u)) return ccc_fail(err, CCC_E_UNSUPPORTED, "attention: what is read or written behind it must begin at multiples of 8 elements");
    return CCC_OK;
}

/* what attn_join needs, too. blocks: of attn_decode, if it leaves parts to that (NO_BLOCKS: it does not) */
enum { NO_BLOCKS = UINT32_MAX };
static ccc_status result_params(plan_builder *b, const ccc_group_info *u, const attention_facts *f, uint32_t part, uint32_t blocks, ccc_err *err)
{
    typedef attention_args A;
    const ccc_node *n = &b->g->node[u->anchor];
    pb_value(b, offsetof(A, out), u->result[0], 0);
    pb_value(b, offsetof(A, seq_lens), n->in[3], 0);
    if (f->decode) pb_buffer(b, offsetof(A, part), part);
    if (blocks != NO_BLOCKS) pb_expr(b, offsetof(A, blocks), 4, blocks);
    pb_expr(b, offsetof(A, S), 4, f->S);
    pb_expr(b, offsetof(A, max_blocks), 4, px_var(b, CCART_VAR_MAX_BLOCKS));
    PB_I32(b, A, out_ld, pb_loc(b, u->result[0]).ld);
    PB_F32(b, A, v_scale, ccc_attr_float(n, "v_scale"));
    return plan_aux(b, u, offsetof(A, aux), err);
}

static ccc_status attention_params(plan_builder *b, const ccc_group_info *u, const attention_facts *f, bool joined, ccc_err *err)
{
    typedef attention_args A;
    const ccc_node *n = &b->g->node[u->anchor];
    pb_value(b, offsetof(A, q), f->q, 0);
    cache_params(b, offsetof(A, k_cache), offsetof(A, v_cache), offsetof(A, block_stride), n->in[1]);
    pb_moves_kv(b, kv_token_B(b, n->in[1]));
    pb_value(b, offsetof(A, table), n->in[2], 0);
    pb_value(b, offsetof(A, query_start), n->in[4], 0);
    if (f->decode && !joined) {
        pb_plain(b, offsetof(A, count), 8, CCART_P_COUNTER, 0, 0);
        if (b->counters_B < MAX_DECODE_CTAS * CCC_DECODE_COUNT_B) b->counters_B = MAX_DECODE_CTAS * CCC_DECODE_COUNT_B;
    }
    pb_plain(b, offsetof(A, status), 8, CCART_P_STATUS, 0, 0);
    pb_expr(b, offsetof(A, T), 4, f->T);
    PB_I32(b, A, q_ld, pb_loc(b, f->q).ld);
    pb_expr(b, offsetof(A, kv_blocks), 4, px_var(b, CCART_VAR_KV_BLOCKS));
    PB_F32(b, A, scale, ccc_attr_float(n, "scale") * ccc_attr_float(n, "k_scale"));
    return b->oom ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

/* The kernel looks at these before the kernels in front of it have ended: only what the step's caller gives is there by then. */
static ccc_status need_input(plan_builder *b, ccc_val v, const char *what, ccc_err *err)
{
    if (pb_loc(b, v).kind == CCART_P_INPUT) return CCC_OK;
    return ccc_fail(err, CCC_E_UNSUPPORTED, "attention of a decode step: %s must be an input of the step", what);
}

static ccc_status newest_params(plan_builder *b, const ccc_group_info *u, const attention_facts *f, ccc_err *err)
{
    typedef attention_rope_args A;
    const ccc_val slots = b->g->node[u->kv_write].in[3], positions = f->own.rope->in[2];
    if (!f->decode || f->own.rows_fp8 || ccc_type_last(type_of(b, f->own.rope->in[1])) != f->d)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "no kernel of this target makes rotation, cache write and attention of these heads in one");
    CCC_TRY(need_input(b, slots, "slots", err));
    CCC_TRY(need_input(b, positions, "positions", err));
    CCC_TRY(rope_operand(b, offsetof(A, n.k), offsetof(A, n.k_ld), f->own.k, CCC_BF16, err));
    CCC_TRY(rope_operand(b, offsetof(A, n.v), offsetof(A, n.v_ld), f->own.v, CCC_BF16, err));
    pb_table(b, offsetof(A, n.table), f->own.rope->in[1], f->q);
    pb_moves_rows(b, f->own.k, kv_token_B(b, f->own.cache), CCART_P_KV);
    pb_value(b, offsetof(A, n.positions), positions, 0);
    pb_value(b, offsetof(A, n.slots), slots, 0);
    PB_I32(b, A, n.table_rows, ccc_dim_max(b->g, type_of(b, f->own.rope->in[1])->dim[0]));
    PB_F32(b, A, n.k_times, (double)f->own.k_times);
    PB_F32(b, A, n.v_times, (double)f->own.v_times);
    return CCC_OK;
}

static ccc_decode_form decode_form(const plan_builder *b, const ccc_node *n, const attention_facts *f)
{
    int64_t pages = ccc_dim_max(b->g, type_of(b, n->in[2])->dim[1]) * (f->block / CCC_PAGE);
    return ccc_decode_choose(b->t_max, pages, (int)(f->hq / f->hkv), (int)f->hkv, (int)f->d, b->plan->target->n_sm);
}

/* a block for each multiprocessor, without those that make no whole cluster */
static uint32_t decode_grid(plan_builder *b, const ccc_decode_form *f)
{
    if (f->blocks) return px_const(b, f->blocks);
    uint32_t all = px_op(b, CCART_X_MIN, px_var(b, CCART_VAR_SM), px_const(b, MAX_DECODE_CTAS));
    if (f->cluster == 1) return all;
    uint32_t whole = mul(b, up(b, px_op(b, CCART_X_SUB, all, px_const(b, f->cluster - 1)), f->cluster), f->cluster);
    return px_op(b, CCART_X_MAX, px_const(b, f->cluster), whole);
}

static const char *template_of(const attention_facts *f)
{
    if (f->rope) return f->fp8 ? "attn_decode_rope_fp8" : "attn_decode_rope";
    if (f->decode) return f->fp8 ? "attn_decode_fp8" : "attn_decode";
    return f->fp8 ? "attention_fp8" : "attention";
}

static ccc_status attention_kernel(plan_builder *b, plan_kernel *k, const ccc_group_info *u, const attention_facts *f, ccc_err *err)
{
    const ccc_spec spec[] = { { "HQ", f->hq }, { "HKV", f->hkv }, { "D", f->d }, { "BLOCK", f->block }, { "OUT_F32", out_kind(b, u->result[0]) } };
    for (unsigned i = 0; i < sizeof spec / sizeof *spec; i++) plan_spec(k, spec[i].name, spec[i].value);
    return u->part[CCC_PART_EPILOGUE].n > 1 ? plan_hook(b, k, u, "epilogue", CCC_PART_EPILOGUE, err) : CCC_OK; /* a rounding to bf16 alone is the template's */
}

/* adds up the parts that attn_decode of `blocks` blocks leaves in buffer `part` */
static ccc_status plan_join(plan_builder *b, const ccc_group_info *u, const attention_facts *f, uint32_t part, uint32_t blocks, ccc_err *err)
{
    uint32_t first = b->n_params;
    plan_kernel k = new_kernel(b, "attn_join", CCC_JOIN_THREADS, sizeof(attention_args));
    CCC_TRY(attention_kernel(b, &k, u, f, err));
    k.shared_B = CCC_JOIN_SHARED_B;
    CCC_TRY(result_params(b, u, f, part, blocks, err));
    uint32_t grid[3] = { px_const(b, f->hq * f->d / CCC_JOIN_ELEMS), f->S, one(b) };
    return pb_launch(b, &k, grid, first, label(u), err);
}

ccc_status plan_attention(plan_builder *b, const ccc_group_info *u, ccc_err *err)
{
    attention_facts f = { 0 };
    ccc_decode_form form = { 1, 0, 0, 0 };
    uint32_t first = b->n_params, part = 0;
    CCC_TRY(look_attention(b, u, &f, err));
    int g = (int)(f.hq / f.hkv), d = (int)f.d;
    if (f.decode) form = decode_form(b, &b->g->node[u->anchor], &f);
    plan_kernel k = new_kernel(b, template_of(&f), f.decode ? 32 * (unsigned)form.warps : CCC_ATTN_THREADS, f.rope ? sizeof(attention_rope_args) : sizeof(attention_args));
    if (f.decode) {
        plan_spec(&k, "CLUSTER", form.cluster);
        plan_spec(&k, "WARPS", form.warps);
        plan_spec(&k, "JOINED", form.joined);
    } else plan_spec(&k, "LAYOUT", f.layout);
    CCC_TRY(attention_kernel(b, &k, u, &f, err));
    k.cluster = (uint32_t)form.cluster;
    k.shared_B = (uint32_t)(f.decode ? ccc_decode_shared_B(g, d, form.cluster, form.warps, f.fp8) : is_cuda(b) ? f.fp8 ? ccc_attn_fp8_shared_B(d) : ccc_attn_shared_B(d)
                                                                                                        : ccc_host_attention_scratch_B(d));
    if (is_cuda(b)) k.req.min_blocks = f.decode ? 1 : (unsigned)ccc_attn_min_blocks(d);
    uint32_t grid[3] = { one(b), one(b), one(b) };
    if (f.decode) {
        grid[0] = decode_grid(b, &form);
        part = pb_scratch(b, (uint64_t)MAX_DECODE_CTAS * (uint64_t)ccc_decode_scratch_B(g, d));
    } else if (is_cuda(b)) grid[0] = mul(b, px_op(b, CCART_X_ADD, up(b, mul(b, f.T, g), CCC_ATTN_ROWS), f.S), f.hkv);
    else {
        grid[0] = px_op(b, CCART_X_ADD, up(b, f.T, CCC_HOST_QUERIES), f.S);
        grid[1] = px_const(b, f.hkv);
    }
    CCC_TRY(attention_params(b, u, &f, form.joined, err));
    CCC_TRY(result_params(b, u, &f, part, form.joined ? grid[0] : NO_BLOCKS, err));
    if (f.rope) CCC_TRY(newest_params(b, u, &f, err));
    CCC_TRY(pb_launch(b, &k, grid, first, label(u), err));
    return form.joined ? plan_join(b, u, &f, part, grid[0], err) : CCC_OK;
}
