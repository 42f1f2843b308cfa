/* The reference evaluator: nodes in order, each by the plainest loop that has the meaning written in
 * README.md. Operands are read as f32; results are stored in their own dtype. With accumulate_f64 the sums of
 * matmul, rms_norm and attention are taken in f64 and rounded once. Data of inputs, weights and caches is the
 * caller's; every other value is freed after its last use. */
#include "eval.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors */

uint64_t ccc_eval_count(const ccc_tensor *t)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < t->type.rank; i++) n *= (uint64_t)t->dim[i];
    return n;
}

static int64_t last_dim(const ccc_tensor *t)
{
    return t->type.rank ? t->dim[t->type.rank - 1] : 1;
}

void *ccc_eval_allocate(uint64_t n, size_t elem_B)
{
    return n > SIZE_MAX / 2 / elem_B ? NULL : calloc(n ? n : 1, elem_B);
}

/* Fills in type, dims and size of a value. */
static void shape(eval *e, ccc_val v)
{
    ccc_tensor *t = &e->val[v];
    t->type = e->g->value[v].type;
    for (unsigned i = 0; i < t->type.rank; i++)
        t->dim[i] = ccc_dim_eval(e->g, t->type.dim[i], e->args->sym_value);
    t->size_B = ccc_dtype_bytes(t->type.dtype, ccc_eval_count(t));
}

ccc_status ccc_eval_make(eval *e, const ccc_node *n, ccc_tensor **out)
{
    ccc_tensor *t = *out = &e->val[n->out[0]];
    shape(e, n->out[0]);
    t->data = ccc_eval_allocate(t->size_B, 1);
    e->owned[n->out[0]] = true;
    return t->data ? CCC_OK : ccc_nomem(e->err);
}

const ccc_tensor *ccc_eval_operand(eval *e, const ccc_node *n, unsigned i)
{
    return &e->val[n->in[i]];
}

/* Elements from .. from+n as f32, the two dtypes that matter without a call for each. */
void ccc_eval_load(const ccc_tensor *t, uint64_t from, uint64_t n, float *out)
{
    if (t->type.dtype == CCC_F32) {
        if (n) memcpy(out, (const char *)t->data + from * sizeof *out, n * sizeof *out);
    } else if (t->type.dtype == CCC_BF16) {
        const char *p = (const char *)t->data + from * 2;
        for (uint64_t i = 0; i < n; i++) {
            uint16_t bits;
            memcpy(&bits, p + 2 * i, sizeof bits); /* mapped files are not aligned */
            uint32_t u = (uint32_t)bits << 16;
            memcpy(&out[i], &u, sizeof u);
        }
    } else {
        for (uint64_t i = 0; i < n; i++) out[i] = ccc_load_f32(t->type.dtype, t->data, from + i);
    }
}

float *ccc_eval_load_all(const ccc_tensor *t)
{
    float *p = ccc_eval_allocate(ccc_eval_count(t), sizeof *p);
    if (p) ccc_eval_load(t, 0, ccc_eval_count(t), p);
    return p;
}

/* ---- leaves */

static ccc_status fetch(eval *e, const char *name, ccc_tensor *t)
{
    if (!e->args->fetch) return ccc_fail(e->err, CCC_E_ARG, "nothing gives the data of '%s'", name);
    return e->args->fetch(e->args->payload, name, t, e->err);
}

static ccc_status run_named(eval *e, const ccc_node *n)
{
    shape(e, n->out[0]);
    return fetch(e, ccc_attr_str(n, "name"), &e->val[n->out[0]]);
}

static ccc_status run_cache(eval *e, const ccc_node *n)
{
    char name[32];
    ccc_tensor *t = &e->val[n->out[0]];
    shape(e, n->out[0]);
    snprintf(name, sizeof name, "kv.%" PRId64, ccc_attr_int(n, "layer"));
    t->size_B = 0;
    CCC_TRY(fetch(e, name, t));
    uint64_t block_B = ccc_eval_count(t) * 2 * sizeof(float);
    if (t->data && t->size_B % block_B == 0) return CCC_OK;
    return ccc_fail(e->err, CCC_E_ARG, "%s: its size must be a multiple of a block's %" PRIu64 " bytes", name,
                    block_B);
}

static ccc_status run_constant(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    CCC_TRY(ccc_eval_make(e, n, &t));
    *(float *)t->data = (float)ccc_attr_float(n, "value");
    return CCC_OK;
}

void ccc_rope_inv_freq(const ccc_node *n, float *inv_freq)
{
    static const double two_pi = 6.283185307179586476925286766559;
    int64_t rotary = ccc_attr_int(n, "rotary");
    double theta = ccc_attr_float(n, "theta"), factor = ccc_attr_float(n, "factor"),
           original = (double)ccc_attr_int(n, "original_max_position");
    double low = ccc_attr_float(n, "low_freq_factor"), high = ccc_attr_float(n, "high_freq_factor");
    const char *scaling = ccc_attr_str(n, "scaling");
    for (int64_t i = 0; i < rotary / 2; i++) {
        double f = 1.0 / pow(theta, (double)(2 * i) / (double)rotary);
        if (strcmp(scaling, "linear") == 0) {
            f /= factor;
        } else if (strcmp(scaling, "llama3") ==
                   0) { /* long waves are stretched, short ones kept, those between blended */
            double turns = original * f / two_pi, keep = (turns - low) / (high - low);
            keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
            f = (1 - keep) * f / factor + keep * f;
        }
        inv_freq[i] = (float)f;
    }
}

static ccc_status run_rope_table(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    int64_t half = ccc_attr_int(n, "rotary") / 2;
    CCC_TRY(ccc_eval_make(e, n, &t));
    float *inv_freq = ccc_eval_allocate((uint64_t)half, sizeof *inv_freq);
    if (!inv_freq) return ccc_nomem(e->err);
    ccc_rope_inv_freq(n, inv_freq);
    for (int64_t row = 0; row < t->dim[0]; row++) {
        float *cell = (float *)t->data + row * 2 * half;
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)row * inv_freq[i];
            cell[i] = (float)cos((double)angle);
            cell[half + i] = (float)sin((double)angle);
        }
    }
    free(inv_freq);
    return CCC_OK;
}

/* ---- data movement */

static ccc_status run_concat(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    CCC_TRY(ccc_eval_make(e, n, &t));
    char *to = t->data;
    for (unsigned i = 0; i < n->n_in; i++) {
        memcpy(to, ccc_eval_operand(e, n, i)->data, ccc_eval_operand(e, n, i)->size_B);
        to += ccc_eval_operand(e, n, i)->size_B;
    }
    return CCC_OK;
}

static ccc_status run_unpermute(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    CCC_TRY(ccc_eval_make(e, n, &t));
    int64_t d = ccc_attr_int(n, "head_size");
    size_t row_B = t->size_B / (size_t)t->dim[0];
    for (int64_t h = 0; h < t->dim[0] / d; h++)
        for (int64_t i = 0; i < 2; i++)
            for (int64_t j = 0; j < d / 2; j++)
                memcpy((char *)t->data + (size_t)(h * d + i * d / 2 + j) * row_B,
                       (const char *)ccc_eval_operand(e, n, 0)->data + (size_t)(h * d + 2 * j + i) * row_B,
                       row_B);
    return CCC_OK;
}

static ccc_status run_cast(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *x = ccc_eval_operand(e, n, 0);
    CCC_TRY(ccc_eval_make(e, n, &t));
    for (uint64_t i = 0; i < ccc_eval_count(t); i++)
        ccc_store_f32(t->type.dtype, t->data, i, ccc_load_f32(x->type.dtype, x->data, i));
    return CCC_OK;
}

static ccc_status run_slice(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *x = ccc_eval_operand(e, n, 0);
    CCC_TRY(ccc_eval_make(e, n, &t));
    size_t row_B = ccc_dtype_bytes(t->type.dtype, (uint64_t)last_dim(t)),
           x_row_B = ccc_dtype_bytes(t->type.dtype, (uint64_t)last_dim(x));
    size_t start_B = ccc_dtype_bytes(t->type.dtype, (uint64_t)ccc_attr_int(n, "start"));
    for (size_t row = 0; row < t->size_B / row_B; row++)
        memcpy((char *)t->data + row * row_B, (const char *)x->data + row * x_row_B + start_B, row_B);
    return CCC_OK;
}

static ccc_status run_gather(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *table = ccc_eval_operand(e, n, 0), *ids = ccc_eval_operand(e, n, 1);
    CCC_TRY(ccc_eval_make(e, n, &t));
    size_t row_B = ccc_dtype_bytes(t->type.dtype, (uint64_t)t->dim[1]);
    for (int64_t i = 0; i < t->dim[0]; i++) {
        int32_t id = ((const int32_t *)ids->data)[i];
        if (id < 0 || id >= table->dim[0])
            return ccc_fail(e->err, CCC_E_ARG,
                            "%s: row %" PRId64 " asks for row %" PRId32 " of a table of %" PRId64,
                            ccc_ops[n->op].name, i, id, table->dim[0]);
        memcpy((char *)t->data + (size_t)i * row_B, (const char *)table->data + (size_t)id * row_B, row_B);
    }
    return CCC_OK;
}

static ccc_status run_embed(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    if (!ccc_eval_operand(e, n, 2)->data) {
        if (!ccc_eval_operand(e, n, 1)->data)
            return ccc_fail(e->err, CCC_E_ARG, "embed: neither token ids nor embeddings are bound");
        return run_gather(e, n);
    }
    CCC_TRY(ccc_eval_make(e, n, &t));
    memcpy(t->data, ccc_eval_operand(e, n, 2)->data, t->size_B);
    return CCC_OK;
}

/* ---- sums */

enum { TILE = 8 }; /* outputs of a row that are summed side by side: each sum is still in its own order */

static void dots_f32(const float *x, const float *w, int64_t k_size, float *out)
{
    float sum[TILE] = {0};
    for (int64_t k = 0; k < k_size; k++)
        for (int j = 0; j < TILE; j++) sum[j] += x[k] * w[k * TILE + j];
    memcpy(out, sum, sizeof sum);
}

static void dots_f64(const float *x, const float *w, int64_t k_size, float *out)
{
    double sum[TILE] = {0};
    for (int64_t k = 0; k < k_size; k++)
        for (int j = 0; j < TILE; j++) sum[j] += (double)x[k] * (double)w[k * TILE + j];
    for (int j = 0; j < TILE; j++) out[j] = (float)sum[j];
}

static ccc_status run_matmul(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *w = ccc_eval_operand(e, n, 1);
    CCC_TRY(ccc_eval_make(e, n, &t));
    int64_t rows = t->dim[0], cols = t->dim[1], k_size = last_dim(w);
    float *x = ccc_eval_load_all(ccc_eval_operand(e, n, 0)),
          *row = ccc_eval_allocate((uint64_t)k_size, sizeof *row),
          *tile = ccc_eval_allocate((uint64_t)k_size * TILE, sizeof *tile);
    bool ok = x && row && tile;
    for (int64_t c = 0; ok && c < cols; c += TILE) {
        int64_t wide = cols - c < TILE ? cols - c : TILE;
        for (int64_t j = 0; j < wide; j++) {
            ccc_eval_load(w, (uint64_t)((c + j) * k_size), (uint64_t)k_size, row);
            for (int64_t k = 0; k < k_size; k++) tile[k * TILE + j] = row[k];
        }
        for (int64_t r = 0; r < rows; r++) {
            float out[TILE];
            (e->args->accumulate_f64 ? dots_f64 : dots_f32)(x + r * k_size, tile, k_size, out);
            memcpy((float *)t->data + r * cols + c, out, (size_t)wide * sizeof *out);
        }
    }
    free(x);
    free(row);
    free(tile);
    return ok ? CCC_OK : ccc_nomem(e->err);
}

/* The fixed order of a row's sum: element k goes to lane (k/8) % 512, then a tree over the lanes. */
static float sum_of_squares(const float *v, int64_t n)
{
    float lane[512] = {0};
    for (int64_t k = 0; k < n; k++) lane[k / 8 % 512] = fmaf(v[k], v[k], lane[k / 8 % 512]);
    for (int d = 256; d; d /= 2)
        for (int i = 0; i < d; i++) lane[i] += lane[i + d];
    return lane[0];
}

static ccc_status run_rms_norm(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    CCC_TRY(ccc_eval_make(e, n, &t));
    ccc_eval_load(ccc_eval_operand(e, n, 0), 0, ccc_eval_count(t), t->data);
    int64_t size = last_dim(t);
    double eps = ccc_attr_float(n, "eps");
    for (uint64_t row = 0; row < ccc_eval_count(t) / (uint64_t)size; row++) {
        float *v = (float *)t->data + row * (uint64_t)size;
        if (e->args->accumulate_f64) {
            double sum = 0;
            for (int64_t i = 0; i < size; i++) sum += (double)v[i] * (double)v[i];
            double scale = 1.0 / sqrt(sum / (double)size + eps);
            for (int64_t i = 0; i < size; i++) v[i] = (float)((double)v[i] * scale);
        } else {
            float scale = 1.0f / sqrtf(sum_of_squares(v, size) / (float)size + (float)eps);
            for (int64_t i = 0; i < size; i++) v[i] = v[i] * scale;
        }
    }
    return CCC_OK;
}

/* ---- rope */

static ccc_status run_rope(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *table = ccc_eval_operand(e, n, 1), *positions = ccc_eval_operand(e, n, 2);
    CCC_TRY(ccc_eval_make(e, n, &t));
    ccc_eval_load(ccc_eval_operand(e, n, 0), 0, ccc_eval_count(t), t->data);
    int64_t size = ccc_attr_int(n, "head_size"), half = last_dim(table) / 2;
    for (int64_t row = 0; row < t->dim[0]; row++) {
        int64_t at = ((const int64_t *)positions->data)[row];
        if (at < 0 || at >= table->dim[0])
            return ccc_fail(e->err, CCC_E_ARG,
                            "rope: position %" PRId64 " of row %" PRId64 " is outside the table of %" PRId64,
                            at, row, table->dim[0]);
        const float *cosine = (const float *)table->data + at * 2 * half, *sine = cosine + half;
        for (float *head = (float *)t->data + row * t->dim[1], *end = head + t->dim[1]; head < end;
             head += size) {
            for (int64_t i = 0; i < half; i++) {
                float a = head[i], b = head[i + half];
                head[i] = fmaf(a, cosine[i], -(b * sine[i]));
                head[i + half] = fmaf(b, cosine[i], a * sine[i]);
            }
        }
    }
    return CCC_OK;
}

/* ---- rows, elements */

static ccc_status run_argmax(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *x = ccc_eval_operand(e, n, 0);
    CCC_TRY(ccc_eval_make(e, n, &t));
    for (int64_t r = 0; r < t->dim[0]; r++) {
        int64_t best = 0;
        float most = NAN;
        for (int64_t i = 0; i < x->dim[1]; i++) {
            float v = ccc_load_f32(x->type.dtype, x->data, (uint64_t)(r * x->dim[1] + i));
            if (v > most || (isnan(most) && !isnan(v))) {
                most = v;
                best = i;
            }
        }
        ((int32_t *)t->data)[r] = (int32_t)best;
    }
    return CCC_OK;
}

/* Where element i of `t` comes from in an operand that is broadcast to it. */
static uint64_t broadcast(const ccc_tensor *t, const ccc_tensor *x, uint64_t i)
{
    uint64_t at = 0, step = 1;
    for (unsigned k = 1; k <= x->type.rank; k++) {
        uint64_t dim = (uint64_t)t->dim[t->type.rank - k], have = (uint64_t)x->dim[x->type.rank - k];
        if (have > 1) at += i % dim * step;
        step *= have;
        i /= dim;
    }
    return at;
}

static ccc_status run_elementwise(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *x = ccc_eval_operand(e, n, 0), *y = ccc_eval_operand(e, n, n->n_in - 1u);
    float (*elt)(float, float) = ccc_ops[n->op].elt;
    CCC_TRY(ccc_eval_make(e, n, &t));
    for (uint64_t i = 0; i < ccc_eval_count(t); i++) {
        float a = ccc_load_f32(x->type.dtype, x->data, broadcast(t, x, i));
        float b = n->n_in > 1 ? ccc_load_f32(y->type.dtype, y->data, broadcast(t, y, i)) : 0;
        ((float *)t->data)[i] = elt(a, b);
    }
    return CCC_OK;
}

/* ---- the walk */

static ccc_status (*const run[CCC_N_OPS])(eval *, const ccc_node *) = {
    /* NULL: elementwise, by its row's expression */
    [CCC_OP_input] = run_named,
    [CCC_OP_weight] = run_named,
    [CCC_OP_constant] = run_constant,
    [CCC_OP_cache] = run_cache,
    [CCC_OP_rope_table] = run_rope_table,
    [CCC_OP_concat] = run_concat,
    [CCC_OP_unpermute] = run_unpermute,
    [CCC_OP_cast] = run_cast,
    [CCC_OP_slice] = run_slice,
    [CCC_OP_embed] = run_embed,
    [CCC_OP_gather] = run_gather,
    [CCC_OP_matmul] = run_matmul,
    [CCC_OP_rms_norm] = run_rms_norm,
    [CCC_OP_rope] = run_rope,
    [CCC_OP_kv_write] = ccc_eval_kv_write,
    [CCC_OP_attention] = ccc_eval_attention,
    [CCC_OP_argmax] = run_argmax,
};

static void drop(eval *e, ccc_val v)
{
    if (e->owned[v]) free(e->val[v].data);
    e->owned[v] = false;
    e->val[v].data = NULL;
}

static ccc_status run_node(eval *e, const ccc_node *n)
{
    char name[CCC_TYPE_TEXT];
    for (unsigned i = 0; i < n->n_in; i++) {
        const ccc_tensor *x = ccc_eval_operand(e, n, i);
        if (!x->data && x->size_B && !(n->op == CCC_OP_embed && i > 0))
            return ccc_fail(e->err, CCC_E_ARG, "%s: operand %u (%s) is not bound", ccc_ops[n->op].name, i + 1,
                            ccc_value_text(e->g, n->in[i], name));
    }
    CCC_TRY((run[n->op] ? run[n->op] : run_elementwise)(e, n));
    for (unsigned i = 0; i < n->n_in; i++)
        if (--e->uses[n->in[i]] == 0) drop(e, n->in[i]);
    for (unsigned i = 0; i < n->n_out; i++)
        if (e->uses[n->out[i]] == 0) drop(e, n->out[i]);
    return CCC_OK;
}

static ccc_status copy_output(eval *e, ccc_val v, ccc_tensor *out)
{
    const ccc_tensor *t = &e->val[v];
    char name[CCC_TYPE_TEXT];
    if (!t->data && t->size_B)
        return ccc_fail(e->err, CCC_E_ARG, "output %s is not bound", ccc_value_text(e->g, v, name));
    *out = *t;
    out->data = ccc_eval_allocate(t->size_B, 1);
    if (out->data && t->size_B) memcpy(out->data, t->data, t->size_B);
    return out->data ? CCC_OK : ccc_nomem(e->err);
}

static ccc_status check_symbols(const eval *e)
{
    for (uint32_t i = 0; i < e->g->n_sym; i++) {
        const ccc_sym *s = &e->g->sym[i];
        int64_t v = e->args->sym_value[i];
        if (v < s->min || v > s->max)
            return ccc_fail(e->err, CCC_E_ARG, "%s is %" PRId64 ", outside %" PRId64 "..%" PRId64, s->name, v,
                            s->min, s->max);
    }
    return CCC_OK;
}

static ccc_status run_all(eval *e, ccc_arena *mem, ccc_tensor *out)
{
    const ccc_graph *g = e->g;
    e->val = ccc_arena_alloc(mem, g->n_values * sizeof *e->val);
    e->owned = ccc_arena_alloc(mem, g->n_values * sizeof *e->owned);
    e->uses = ccc_graph_uses(g, mem);
    if (!e->val || !e->owned || !e->uses) return ccc_nomem(e->err);
    ccc_status status = check_symbols(e);
    for (ccc_nid n = 1; status == CCC_OK && n < g->n_nodes; n++) status = run_node(e, &g->node[n]);
    for (uint32_t i = 0; status == CCC_OK && i < g->n_out; i++)
        status = copy_output(e, g->out[i].val, &out[i]);
    for (ccc_val v = 1; v < g->n_values; v++) drop(e, v);
    return status;
}

ccc_status ccc_ir_eval(const ccc_graph *g, const ccc_eval_args *args, ccc_tensor *out, ccc_err *err)
{
    eval e = {.g = g, .args = args, .err = err};
    for (uint32_t i = 0; i < g->n_out; i++) out[i] = (ccc_tensor){0};
    CCC_TRY(ccc_ir_verify(g, err));
    ccc_arena *mem = ccc_arena_new();
    ccc_status status = mem ? run_all(&e, mem, out) : ccc_nomem(err);
    ccc_arena_free(mem);
    for (uint32_t i = 0; status != CCC_OK && i < g->n_out; i++) ccc_tensor_release(&out[i]);
    return status;
}

void ccc_tensor_release(ccc_tensor *t)
{
    free(t->data);
    *t = (ccc_tensor){0};
}
