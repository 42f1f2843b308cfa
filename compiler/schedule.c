/* Which programs a target gets. vLLM's rule holds: only the number of tokens is dynamic, so a program serves a range of T, and ranges end
 * where another matmul kernel becomes the better one. Decode programs (one query token a sequence, S = T) exist up to the largest captured
 * size; mixed programs serve everything. Nothing is timed here: the tables are data about the target. */
#include "tune.h"
#include "kernels/attention_geometry.h"
#include <stdlib.h>
#include <string.h>

static const int64_t decode_ends[] = { 1, 2, 8, 16, 32, 64, 128, 256, INT64_MAX };
static const int64_t mixed_ends[] = { 2, 16, 32, 64, 128, 256, INT64_MAX };
static const int64_t host_ends[] = { 1, 8, INT64_MAX };

static int64_t sym_max(const ccc_graph *g, const char *name)
{
    int i = ccc_graph_find_sym(g, name);
    return i < 0 ? 0 : g->sym[i].max;
}

static ccc_status add_ranges(plan_range *out, unsigned cap, unsigned *n, uint32_t mode, const int64_t *ends, int64_t least, int64_t most, ccc_err *err)
{
    for (int64_t from = least; from <= most; ends++) {
        int64_t to = *ends < most ? *ends : most;
        if (to < from) continue;
        if (*n == cap) return ccc_fail(err, CCC_E_UNSUPPORTED, "more than %u programs", cap);
        out[(*n)++] = (plan_range){ mode, from, to };
        from = to + 1;
    }
    return CCC_OK;
}

ccc_status schedule_sizes(uint32_t **sizes, uint32_t *n, ccc_arena *mem, const ccc_config *c, ccc_err *err)
{
    int64_t most = c->max_num_seqs < c->max_num_batched_tokens ? c->max_num_seqs : c->max_num_batched_tokens;
    uint32_t *s = ccc_arena_alloc(mem, 4096 * sizeof *s), k = 0;
    if (!s) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (int64_t v = 1; !*c->sizes && v <= 512 && v <= most; v += v < 4 ? v : v < 8 ? 4 : v < 256 ? 8 : 16) s[k++] = (uint32_t)v;
    for (const char *p = c->sizes; *p;) {
        char *end;
        long long v = strtoll(p, &end, 10);
        if (end == p || (*end && *end != ',') || (*end && !end[1])) return ccc_fail(err, CCC_E_ARG, "sizes '%s': a list of numbers joined by commas is wanted", c->sizes);
        if (v < 1 || v > most) return ccc_fail(err, CCC_E_ARG, "size %lld is outside 1 .. %lld (the least of max_num_seqs and max_num_batched_tokens)", v, (long long)most);
        if (k == 4096) return ccc_fail(err, CCC_E_ARG, "more than 4096 sizes");
        uint32_t at = 0;
        while (at < k && s[at] < v) at++;
        if (at == k || s[at] != v) {
            memmove(s + at + 1, s + at, (k - at) * sizeof *s);
            s[at] = (uint32_t)v;
            k++;
        }
        p = *end ? end + 1 : end;
    }
    *sizes = s;
    *n = k;
    return CCC_OK;
}

static bool has_cache(const ccc_graph *g)
{
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_cache) return true;
    return false;
}

ccc_status schedule_programs(plan_range *ranges, unsigned cap, unsigned *n, const ccc_target *t, const ccc_config *c, const ccc_graph *g, ccc_err *err)
{
    *n = 0;
    int64_t most = sym_max(g, "T");
    if (!most) {
        if (!cap) return ccc_fail(err, CCC_E_UNSUPPORTED, "no room for a program");
        ranges[(*n)++] = (plan_range){ CCART_MODE_MIXED, 1, 1 };
        return CCC_OK;
    }
    if (t->kind == CCC_TARGET_HOST) return add_ranges(ranges, cap, n, CCART_MODE_MIXED, host_ends, 1, most, err);
    if (has_cache(g)) {
        ccc_arena *mem = ccc_arena_new();
        uint32_t *sizes, n_sizes;
        ccc_status st = mem ? schedule_sizes(&sizes, &n_sizes, mem, c, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
        int64_t largest = st == CCC_OK && n_sizes ? sizes[n_sizes - 1] : 0;
        ccc_arena_free(mem);
        CCC_TRY(st);
        CCC_TRY(add_ranges(ranges, cap, n, CCART_MODE_DECODE, decode_ends, 1, largest < most ? largest : most, err));
    }
    return add_ranges(ranges, cap, n, CCART_MODE_MIXED, mixed_ends, 1, most, err);
}

static int64_t longest_norm(const ccc_graph *g)
{
    int64_t most = 0;
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_rms_norm && ccc_type_last(&g->value[g->node[i].out[0]].type) > most) most = ccc_type_last(&g->value[g->node[i].out[0]].type);
    return most;
}

static bool has_e4m3_weight(const ccc_graph *g)
{
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_matmul && g->value[g->node[i].in[1]].type.dtype == CCC_E4M3) return true;
    return false;
}

bool schedule_decode_attention(const ccc_target *t, const ccc_config *c, const ccc_graph *g, const ccc_node *n, uint32_t mode)
{
    const ccc_type *cache = &g->value[n->in[1]].type;
    int64_t hkv = ccc_dim_max(g, cache->dim[0]), d = ccc_type_last(cache), q = ccc_type_last(&g->value[n->in[0]].type);
    if (t->kind != CCC_TARGET_CUDA || mode != CCART_MODE_DECODE || c->batch_invariant) return false;
    if (ccc_def(g, n->in[2])->op != CCC_OP_input || ccc_def(g, n->in[3])->op != CCC_OP_input) return false; /* read before the kernels in front have ended */
    return cache->layout == CCC_LAYOUT_CCC && (cache->dtype == CCC_BF16 || cache->dtype == CCC_E4M3) && d > 0 && q > 0 && ccc_decode_ok((int)(q / d), (int)hkv, (int)d);
}

/* every attention of the graph */
static bool decode_attention(const ccc_target *t, const ccc_config *c, const ccc_graph *g, uint32_t mode)
{
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_attention && !schedule_decode_attention(t, c, g, &g->node[i], mode)) return false;
    return true;
}

ccc_fuse_caps schedule_caps(const ccc_target *t, const ccc_config *c, const ccc_graph *g, uint32_t mode)
{
    int64_t norm = longest_norm(g);
    bool prologue = t->kind == CCC_TARGET_CUDA && !c->batch_invariant && norm <= CCC_PROLOGUE_MAX_COLS_ONE, any = norm <= CCC_PROLOGUE_MAX_COLS;
    int max_N = norm <= 2048 && !has_e4m3_weight(g) ? CCC_PROLOGUE_MAX_N_ONE_2048 : CCC_PROLOGUE_MAX_N_ONE;
    return (ccc_fuse_caps){ .prologue_max_T = !prologue ? 0 : any ? CCC_MATVEC_MAX_T : 1, .prologue_max_N = any ? 0 : max_N, .pair_epilogue = true, .max_aux = 8, .rope_kv = true,
                             .rope_attention = decode_attention(t, c, g, mode) };
}

/* ---- matmul ------------------------------------------------------------------------------------------------------------------------- */
ccc_status schedule_open(ccc_plan *p, const char *text, ccc_err *err)
{
    const char *name = text ? p->config->schedule : "the built-in schedule";
    if (p->target->kind != CCC_TARGET_CUDA) return CCC_OK;
    CCC_TRY(schedule_read(&p->schedule, p->mem, text ? text : schedule_built_in(p->target->name), name, err));
    if (strcmp(p->schedule.target, p->target->name)) return ccc_fail(err, CCC_E_ARG, "%s is for target %s, not %s", name, p->schedule.target, p->target->name);
    return CCC_OK;
}

ccc_matvec_shape schedule_matvec(const ccc_plan *p, const schedule_shape *s, int tok, bool norm)
{
    const schedule_row *r = p->tune ? p->tune->forced : schedule_find(&p->schedule, s, tok);
    if (r) return schedule_matvec_of(r);
    ccc_matvec_shape m = (s->dtype == CCC_E4M3 ? ccc_matvec_pick_fp8 : ccc_matvec_pick)((int)s->N, schedule_matvec_K(s), tok, norm, s->pair, p->target->n_sm);
    int split = schedule_split_of(&p->schedule, s, tok);
    if (split) m.split = split;
    if (m.warps < m.split) m.warps = m.split;
    return m;
}

/* Another number of parts in which K is added; what follows from it is set anew. */
static ccc_gemm_tile split_as(ccc_gemm_tile t, int split, int kb)
{
    t.split = split;
    if (t.pair && t.bn == 128 && split > 1) t.bn = 64; /* 128 are not there as a pair and split */
    if (kb % (t.blocks * split)) t.blocks = 1;
    t.stages = ccc_gemm_stages(t, 1);
    return t;
}

static ccc_gemm_tile pick(const ccc_plan *p, const schedule_shape *s, int T, bool by8)
{
    return ccc_gemm_pick(T, (int)s->N, schedule_gemm_kb(s), s->pair, by8, p->config->batch_invariant, p->target->n_sm);
}

/* The bits of a result must not depend on fusion: a pair of halves is split as the rule splits both halves in one. */
static ccc_gemm_tile tile_by_rule(const ccc_plan *p, const schedule_shape *s, int T, bool by8)
{
    schedule_shape joined = { s->dtype, 2 * s->N, s->K, false };
    ccc_gemm_tile t = pick(p, s, T, by8);
    int split = s->pair ? pick(p, &joined, T, by8).split : t.split;
    return split == t.split ? t : split_as(t.swap ? t : pick(p, s, 128, by8), split, schedule_gemm_kb(s));
}

ccc_gemm_tile schedule_gemm(const ccc_plan *p, const schedule_shape *s, int T, bool by8)
{
    const schedule_row *r = p->tune ? p->tune->forced : schedule_find(&p->schedule, s, T);
    int split = p->tune || p->config->batch_invariant ? 0 : schedule_split_of(&p->schedule, s, T);
    bool fits = r && (r->is == SCHEDULE_GEMM ? by8 : r->is == SCHEDULE_GEMM_T && !(p->config->batch_invariant && r->constant[SCHEDULE_GEMM_SPLIT] > 1));
    ccc_gemm_tile t = fits ? schedule_tile(r) : tile_by_rule(p, s, T, by8);
    if (split && split != t.split) t = split_as(t.swap ? t : pick(p, s, 128, by8), split, schedule_gemm_kb(s)); /* another form of the weight has a row */
    return t;
}
