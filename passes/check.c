/* Random data for a graph. What an input must hold follows from who reads it, not from its name: what `embed`
 * takes as ids is below the table's rows, what `attention` takes as a block table names blocks of the cache.
 * The step is a valid one: S sequences share T tokens, each has some rows in the cache already, blocks lie in
 * a shuffled order. */
#include "check.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef enum {
    ROLE_FLOAT,
    ROLE_UNBOUND /* embeddings that stand for ids */,
    ROLE_IDS,
    ROLE_POSITIONS,
    ROLE_SLOTS,
    ROLE_TABLE,
    ROLE_SEQ_LENS,
    ROLE_QUERY_START
} role;

typedef struct { /* an input or weight: its data is made when first asked for, and kept */
    const char *name;
    role role;
    int64_t below; /* ids: number of rows */
    double mean, std;
    void *data;
    size_t size_B;
} leaf;

struct ccc_sample {
    ccc_arena *mem;
    uint64_t seed;
    const char *sym_name[CCC_MAX_SYM];
    uint32_t n_sym;
    int64_t sym_value[CCC_MAX_SYM];
    leaf *leaf;
    uint32_t n_leaves, cap_leaves;
    int64_t T, S, B, block;       /* of the step; block 0: no cache */
    int64_t *start, *len, *table; /* [S+1], [S], [S*B] */
    ccc_sample_cache *cache;      /* as they are before a step */
    uint32_t n_cache;
    size_t total_B;
};

static const size_t MAX_TOTAL_B = (size_t)8 << 30;

/* ---- numbers */

static uint64_t draw(uint64_t seed, uint64_t name_hash, uint64_t i)
{
    uint64_t z = seed ^ name_hash;
    z += 0x9E3779B97F4A7C15u * (i + 1);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static float draw_float(uint64_t z, double mean, double std)
{
    float u = (float)((int32_t)(z >> 40) - (1 << 23));
    return fmaf(u, (float)(std * sqrt(3.0) / 8388608.0), (float)mean);
}

/* block formats: random bits, under f16 scales that give values of about `std` */
static void fill_blocks(ccc_dtype d, uint8_t *p, uint64_t n_blocks, uint64_t block_B, uint64_t seed,
                        uint64_t hash, double std)
{
    for (uint64_t b = 0; b < n_blocks; b++, p += block_B) {
        for (uint64_t i = 0; i < block_B; i++) p[i] = (uint8_t)(draw(seed, hash, b * block_B + i) >> 32);
        float scale = (float)(std / (d == CCC_Q8_0 ? 74.0 : 4.6));
        if (d == CCC_Q8_0 || d == CCC_Q4_1) ccc_store_f32(CCC_F16, p, 0, scale);
        if (d == CCC_Q4_1) ccc_store_f32(CCC_F16, p, 1, -7.5f * scale);
    }
}

static void fill_floats(const ccc_sample *s, const leaf *l, ccc_dtype d, uint64_t n)
{
    uint64_t hash = XXH64(l->name, strlen(l->name), 0);
    if (ccc_dtype_is_float(d))
        for (uint64_t i = 0; i < n; i++)
            ccc_store_f32(d, l->data, i, draw_float(draw(s->seed, hash, i), l->mean, l->std));
    else if (d == CCC_Q8_0 || d == CCC_Q4_1)
        fill_blocks(d, l->data, n / 32, ccc_dtype_bytes(d, 32), s->seed, hash, l->std);
}

static int64_t int_at(const ccc_sample *s, const leaf *l, uint64_t i, uint64_t hash)
{
    int64_t q = 0, n = (int64_t)i;
    switch (l->role) {
    case ROLE_IDS:
        return (int64_t)(draw(s->seed, hash, i) % (uint64_t)(l->below > 0 ? l->below : 1));
    case ROLE_TABLE:
        return n < s->S * s->B ? s->table[i] : 0;
    case ROLE_SEQ_LENS:
        return n < s->S ? s->len[i] : 0;
    case ROLE_QUERY_START:
        return n <= s->S ? s->start[i] : s->T;
    case ROLE_FLOAT:
    case ROLE_UNBOUND:
        return 0;
    case ROLE_POSITIONS:
    case ROLE_SLOTS:
        break;
    }
    while (q + 1 < s->S && s->start[q + 1] <= n) q++;
    if (n >= s->T) return 0;
    int64_t pos = s->len[q] - (s->start[q + 1] - n);
    if (l->role == ROLE_POSITIONS) return pos;
    return s->block ? s->table[q * s->B + pos / s->block] * s->block + pos % s->block : 0;
}

static void fill_ints(const ccc_sample *s, const leaf *l, ccc_dtype d, uint64_t n)
{
    uint64_t hash = XXH64(l->name, strlen(l->name), 0);
    for (uint64_t i = 0; i < n; i++) {
        int64_t v = int_at(s, l, i, hash);
        int32_t v32 = (int32_t)v;
        if (d == CCC_I64) memcpy((char *)l->data + i * 8, &v, 8);
        else memcpy((char *)l->data + i * 4, &v32, 4);
    }
}

/* ---- data of leaves */

static ccc_status too_large(ccc_err *err)
{
    return ccc_fail(err, CCC_E_UNSUPPORTED,
                    "the graph's data is larger than %zu GiB: the reference evaluator is for small models",
                    MAX_TOTAL_B >> 30);
}

static ccc_status make_leaf(ccc_sample *s, leaf *l, const ccc_tensor *t, ccc_err *err)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < t->type.rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(n, (uint64_t)t->dim[i], &n) || n > (uint64_t)1 << 40)
            return too_large(err);
    l->size_B = ccc_dtype_bytes((ccc_dtype)t->type.dtype, n);
    s->total_B += l->size_B;
    if (s->total_B > MAX_TOTAL_B) return too_large(err);
    l->data = calloc(1, l->size_B + 1);
    if (!l->data) return ccc_fail(err, CCC_E_NOMEM, "out of memory for the data of '%s'", l->name);
    if (t->type.dtype == CCC_I32 || t->type.dtype == CCC_I64) fill_ints(s, l, (ccc_dtype)t->type.dtype, n);
    else fill_floats(s, l, (ccc_dtype)t->type.dtype, n);
    return CCC_OK;
}

typedef struct {
    ccc_sample *s;
    ccc_sample_cache *cache;
} evaluation;

static ccc_status fetch(void *payload, const char *name, ccc_tensor *t, ccc_err *err)
{
    evaluation *e = payload;
    ccc_sample *s = e->s;
    for (uint32_t i = 0; i < s->n_cache; i++) {
        char cache_name[32];
        snprintf(cache_name, sizeof cache_name, "kv.%" PRId64, s->cache[i].layer);
        if (strcmp(name, cache_name) != 0) continue;
        t->data = e->cache[i].t.data;
        t->size_B = e->cache[i].t.size_B;
        return CCC_OK;
    }
    for (uint32_t i = 0; i < s->n_leaves; i++) {
        leaf *l = &s->leaf[i];
        if (strcmp(name, l->name) != 0) continue;
        if (l->role == ROLE_UNBOUND) return CCC_OK;
        if (!l->data) CCC_TRY(make_leaf(s, l, t, err));
        t->data = l->data;
        t->size_B = l->size_B;
        return CCC_OK;
    }
    return ccc_fail(err, CCC_E_TYPE, "'%s' is not an input or weight of the graph that the data was made for",
                    name);
}

/* ---- the step */

static int64_t known_sym(const ccc_sample *s, const char *name, int64_t otherwise)
{
    int64_t v = ccc_sample_sym(s, name);
    return v < 0 ? otherwise : v;
}

static ccc_status choose_symbols(ccc_sample *s, const ccc_graph *g, const ccc_sample_args *args, ccc_err *err)
{
    static const struct {
        const char *name;
        int64_t v;
    } small[] = {{"T", 5}, {"S", 2}, {"R", 2}};
    s->n_sym = g->n_sym;
    for (uint32_t i = 0; i < g->n_sym; i++) {
        const ccc_sym *sym = &g->sym[i];
        int64_t v = 3;
        for (unsigned k = 0; k < sizeof small / sizeof *small; k++)
            if (!strcmp(sym->name, small[k].name)) v = small[k].v;
        v = v < sym->min ? sym->min : v > sym->max ? sym->max : v;
        if (args && args->sym_given[i]) v = args->sym_value[i];
        if (v < sym->min || v > sym->max)
            return ccc_fail(err, CCC_E_ARG, "%s = %" PRId64 " is outside its range %" PRId64 " to %" PRId64,
                            sym->name, v, sym->min, sym->max);
        s->sym_name[i] = ccc_arena_strdup(s->mem, sym->name);
        if (!s->sym_name[i]) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
        s->sym_value[i] = v;
    }
    return CCC_OK;
}

/* Cuts T tokens into S sequences, gives each some rows that the cache has already, and deals blocks in a
 * shuffled order. */
static ccc_status make_step(ccc_sample *s, int64_t max_positions, ccc_err *err)
{
    s->T = known_sym(s, "T", 1);
    s->S = known_sym(s, "S", 1);
    s->B = known_sym(s, "B", 1);
    if (s->T > 1 << 24 || s->S > 1 << 20 || s->B > 1 << 20 || s->S * s->B > 1 << 24) return too_large(err);
    s->start = ccc_arena_alloc(s->mem, (size_t)(s->S + 2) * sizeof *s->start);
    s->len = ccc_arena_alloc(s->mem, (size_t)(s->S + 1) * sizeof *s->len);
    s->table = ccc_arena_alloc(s->mem, (size_t)(s->S * s->B + 1) * sizeof *s->table);
    if (!s->start || !s->len || !s->table)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
    int64_t room = s->block ? s->B * s->block : INT64_MAX, n_blocks = s->S * s->B;
    room = max_positions < room ? max_positions : room;
    for (int64_t q = 0; q < s->S; q++) {
        s->start[q] = s->T * q / s->S;
        int64_t n = s->T * (q + 1) / s->S - s->start[q];
        if (n > room)
            return ccc_fail(err, CCC_E_ARG,
                            "T = %" PRId64 " tokens of S = %" PRId64
                            " sequences do not fit the cache or the rotation table: set a larger B or S",
                            s->T, s->S);
        int64_t before = (int64_t)(draw(s->seed, 1, (uint64_t)q) % 24);
        s->len[q] = n + (before < room - n ? before : room - n);
    }
    s->start[s->S] = s->T;
    for (int64_t i = 0; i < n_blocks; i++) s->table[i] = i;
    for (int64_t i = n_blocks - 1; i > 0; i--) {
        int64_t j = (int64_t)(draw(s->seed, 2, (uint64_t)i) % (uint64_t)(i + 1)), t = s->table[i];
        s->table[i] = s->table[j];
        s->table[j] = t;
    }
    return CCC_OK;
}

/* ---- reading the graph */

static leaf *leaf_of(ccc_sample *s, const ccc_graph *g, ccc_val v)
{
    const ccc_node *n = ccc_def(g, v);
    if (n->op != CCC_OP_input) return NULL;
    for (uint32_t i = 0; i < s->n_leaves; i++)
        if (!strcmp(s->leaf[i].name, ccc_attr_str(n, "name"))) return &s->leaf[i];
    return NULL;
}

static void set_role(ccc_sample *s, const ccc_graph *g, ccc_val v, role r, int64_t below)
{
    leaf *l = leaf_of(s, g, v);
    if (!l) return;
    l->role = r;
    l->below = below;
}

static ccc_status add_leaf(ccc_sample *s, const ccc_node *n, ccc_err *err)
{
    if (!CCC_GROW(s->mem, s->leaf, s->n_leaves, s->cap_leaves))
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
    leaf *l = &s->leaf[s->n_leaves];
    *l = (leaf){.name = ccc_arena_strdup(s->mem, ccc_attr_str(n, "name")), .std = 1};
    if (!l->name) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
    if (n->op == CCC_OP_weight)
        l->mean = ccc_attr_float(n, "init_mean"), l->std = ccc_attr_float(n, "init_std");
    s->n_leaves++;
    return CCC_OK;
}

static void read_roles(ccc_sample *s, const ccc_graph *g, int64_t *max_positions)
{
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        const ccc_node *n = &g->node[i];
        const ccc_type *t0 = n->n_in ? &g->value[n->in[0]].type : NULL;
        if (n->op == CCC_OP_embed || n->op == CCC_OP_gather) {
            set_role(s, g, n->in[1], ROLE_IDS, ccc_dim_eval(g, t0->dim[0], s->sym_value));
            if (n->op == CCC_OP_embed) set_role(s, g, n->in[2], ROLE_UNBOUND, 0);
        } else if (n->op == CCC_OP_rope) {
            int64_t rows = ccc_dim_eval(g, g->value[n->in[1]].type.dim[0], s->sym_value);
            *max_positions = rows < *max_positions ? rows : *max_positions;
            set_role(s, g, n->in[2], ROLE_POSITIONS, 0);
        } else if (n->op == CCC_OP_kv_write) {
            s->block = t0->dim[1].b;
            set_role(s, g, n->in[3], ROLE_SLOTS, 0);
        } else if (n->op == CCC_OP_attention) {
            s->block = g->value[n->in[1]].type.dim[1].b;
            set_role(s, g, n->in[2], ROLE_TABLE, 0);
            set_role(s, g, n->in[3], ROLE_SEQ_LENS, 0);
            set_role(s, g, n->in[4], ROLE_QUERY_START, 0);
        }
    }
}

static ccc_status add_cache(ccc_sample *s, const ccc_graph *g, const ccc_node *n, ccc_err *err)
{
    ccc_sample_cache *c = &s->cache[s->n_cache];
    c->layer = ccc_attr_int(n, "layer");
    for (uint32_t i = 0; i < s->n_cache; i++)
        if (s->cache[i].layer == c->layer) return CCC_OK;
    c->t.type = g->value[n->out[0]].type;
    uint64_t elems = 2 * (uint64_t)(s->S * s->B);
    for (unsigned i = 0; i < 3; i++)
        if (__builtin_mul_overflow(elems, (uint64_t)c->t.type.dim[i].b, &elems) || elems > MAX_TOTAL_B / 4)
            return too_large(err);
    c->t.size_B = elems * sizeof(float);
    s->total_B += 2 * c->t.size_B;
    if (s->total_B > MAX_TOTAL_B) return too_large(err);
    float *data = c->t.data = malloc(c->t.size_B + 1);
    if (!data) return ccc_fail(err, CCC_E_NOMEM, "out of memory for the cache of layer %" PRId64, c->layer);
    for (uint64_t i = 0; i < elems; i++)
        data[i] = ccc_round_to((ccc_dtype)c->t.type.dtype,
                               draw_float(draw(s->seed, 3 + (uint64_t)c->layer, i), 0, 1));
    s->n_cache++;
    return CCC_OK;
}

static ccc_status fill_sample(ccc_sample *s, const ccc_graph *g, const ccc_sample_args *args, ccc_err *err)
{
    int64_t max_positions = INT64_MAX;
    unsigned n_cache = 0;
    CCC_TRY(choose_symbols(s, g, args, err));
    for (ccc_nid i = 1; i < g->n_nodes; i++) {
        const ccc_node *n = &g->node[i];
        n_cache += n->op == CCC_OP_cache;
        if (n->op == CCC_OP_input || n->op == CCC_OP_weight) CCC_TRY(add_leaf(s, n, err));
    }
    read_roles(s, g, &max_positions);
    CCC_TRY(make_step(s, max_positions, err));
    s->cache = ccc_arena_alloc(s->mem, (n_cache + 1) * sizeof *s->cache);
    if (!s->cache) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
    for (ccc_nid i = 1; i < g->n_nodes; i++)
        if (g->node[i].op == CCC_OP_cache) CCC_TRY(add_cache(s, g, &g->node[i], err));
    return CCC_OK;
}

ccc_status ccc_sample_new(ccc_sample **out, const ccc_graph *g, const ccc_sample_args *args, ccc_err *err)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_sample *s = mem ? ccc_arena_alloc(mem, sizeof *s) : NULL;
    if (!s) {
        ccc_arena_free(mem);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for a random step");
    }
    s->mem = mem;
    s->seed = args ? args->seed : 0;
    ccc_status status = fill_sample(s, g, args, err);
    if (status == CCC_OK) *out = s;
    else ccc_sample_free(s);
    return status;
}

void ccc_sample_free(ccc_sample *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->n_leaves; i++) free(s->leaf[i].data);
    for (uint32_t i = 0; i < s->n_cache; i++) free(s->cache[i].t.data);
    ccc_arena_free(s->mem);
}

int64_t ccc_sample_sym(const ccc_sample *s, const char *name)
{
    for (uint32_t i = 0; i < s->n_sym; i++)
        if (!strcmp(s->sym_name[i], name)) return s->sym_value[i];
    return -1;
}

/* ---- evaluating and comparing */

void ccc_sample_release(ccc_sample_result *r)
{
    for (uint32_t i = 0; i < r->n_out; i++) ccc_tensor_release(&r->out[i]);
    for (uint32_t i = 0; i < r->n_cache; i++) free(r->cache[i].t.data);
    free(r->out);
    free(r->cache);
    *r = (ccc_sample_result){0};
}

ccc_status ccc_sample_eval(ccc_sample *s, const ccc_graph *g, bool accumulate_f64, ccc_sample_result *r,
                           ccc_err *err)
{
    *r = (ccc_sample_result){.out = calloc(g->n_out + 1, sizeof *r->out),
                             .cache = calloc(s->n_cache + 1, sizeof *r->cache)};
    bool ok = r->out && r->cache;
    for (; ok && r->n_cache < s->n_cache; r->n_cache++) {
        ccc_sample_cache *c = &r->cache[r->n_cache];
        *c = s->cache[r->n_cache];
        c->t.data = malloc(c->t.size_B + 1);
        if (c->t.data) memcpy(c->t.data, s->cache[r->n_cache].t.data, c->t.size_B);
        else ok = false;
    }
    evaluation e = {s, r->cache};
    ccc_eval_args args = {.accumulate_f64 = accumulate_f64, .fetch = fetch, .payload = &e};
    memcpy(args.sym_value, s->sym_value, sizeof args.sym_value);
    ccc_status status = ok ? ccc_ir_eval(g, &args, r->out, err)
                           : ccc_fail(err, CCC_E_NOMEM, "out of memory for an evaluation");
    if (status == CCC_OK) r->n_out = g->n_out;
    else ccc_sample_release(r);
    return status;
}

struct ccc_check {
    ccc_sample *sample;
    ccc_sample_result before;
};

void ccc_check_free(ccc_check *c)
{
    if (!c) return;
    ccc_sample_release(&c->before);
    ccc_sample_free(c->sample);
    free(c);
}

ccc_status ccc_check_new(ccc_check **out, const ccc_graph *g, ccc_err *err)
{
    ccc_check *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory for an evaluation");
    ccc_status status = ccc_sample_new(&c->sample, g, NULL, err);
    if (status == CCC_OK) status = ccc_sample_eval(c->sample, g, false, &c->before, err);
    if (status == CCC_OK) *out = c;
    else ccc_check_free(c);
    return status;
}

static bool same_data(const ccc_tensor *a, const ccc_tensor *b)
{
    return a->size_B == b->size_B && (!a->size_B || memcmp(a->data, b->data, a->size_B) == 0);
}

ccc_status ccc_check_same(ccc_check *c, const ccc_graph *g, ccc_err *err)
{
    ccc_sample_result after;
    if (g->n_out != c->before.n_out)
        return ccc_fail(err, CCC_E_TYPE, "the graph has %u outputs instead of %u", g->n_out, c->before.n_out);
    CCC_TRY(ccc_sample_eval(c->sample, g, false, &after, err));
    ccc_status status = CCC_OK;
    for (uint32_t i = 0; i < g->n_out && status == CCC_OK; i++)
        if (!ccc_type_equal(&c->before.out[i].type, &after.out[i].type) ||
            !same_data(&c->before.out[i], &after.out[i]))
            status = ccc_fail(err, CCC_E_TYPE, "output '%s' is not bit for bit what it was before",
                              g->out[i].name);
    for (uint32_t i = 0; i < c->before.n_cache && status == CCC_OK; i++)
        if (!same_data(&c->before.cache[i].t, &after.cache[i].t))
            status = ccc_fail(err, CCC_E_TYPE,
                              "the cache of layer %" PRId64 " is not bit for bit what it was before",
                              c->before.cache[i].layer);
    ccc_sample_release(&after);
    return status;
}
