/* The paged KV cache and attention over it, the plainest way: each query token of each head walks its rows of
 * the cache twice, once for the scores and once for the sum. The caller's cache is [blocks, 2, kv_heads,
 * block_size, head_size] in f32. */
#include "eval.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct {
    float *data;
    int64_t blocks, heads, block_size, head_size;
} kv;

static kv kv_of(const ccc_tensor *t)
{
    kv c = {t->data, 0, t->dim[0], t->dim[1], t->dim[2]};
    c.blocks = (int64_t)(t->size_B / (ccc_eval_count(t) * 2 * sizeof(float)));
    return c;
}

/* The row of K (which = 0) or V (1) of one head in a slot. */
static float *kv_row(kv c, int64_t slot, int which, int64_t head)
{
    int64_t block = slot / c.block_size, token = slot % c.block_size;
    return c.data + (((block * 2 + which) * c.heads + head) * c.block_size + token) * c.head_size;
}

ccc_status ccc_eval_kv_write(eval *e, const ccc_node *n)
{
    const ccc_tensor *slots = ccc_eval_operand(e, n, 3);
    e->val[n->out[0]] = *ccc_eval_operand(e, n, 0);
    kv c = kv_of(ccc_eval_operand(e, n, 0));
    for (int64_t t = 0; t < slots->dim[0]; t++) {
        int64_t slot = ((const int64_t *)slots->data)[t];
        if (slot == -1) continue;
        if (slot < 0 || slot / c.block_size >= c.blocks)
            return ccc_fail(e->err, CCC_E_ARG,
                            "kv_write: slot %" PRId64 " of row %" PRId64 " is outside the cache of %" PRId64
                            " blocks",
                            slot, t, c.blocks);
        for (int which = 0; which < 2; which++)
            for (int64_t h = 0; h < c.heads; h++)
                ccc_eval_load(ccc_eval_operand(e, n, 1 + (unsigned)which),
                              (uint64_t)((t * c.heads + h) * c.head_size), (uint64_t)c.head_size,
                              kv_row(c, slot, which, h));
    }
    return CCC_OK;
}

typedef struct { /* one query token of one head: rows of the cache that it sees, and room for their scores */
    kv c;
    const int32_t *table; /* the sequence's blocks */
    int64_t rows, head;
    double *score, *sum;
    float scale, v_scale;
    bool f64;
} look;

/* f32 arithmetic: a sum, product or quotient of two f32 taken in f64 and rounded is the f32 one exactly. */
static double rounded(const look *l, double v)
{
    return l->f64 ? v : (double)(float)v;
}

static float *seen(const look *l, int64_t row, int which)
{
    return kv_row(l->c, l->table[row / l->c.block_size] * l->c.block_size + row % l->c.block_size, which,
                  l->head);
}

static void attend(look *l, const float *q, float *out)
{
    double most = -INFINITY, total = 0;
    for (int64_t j = 0; j < l->rows; j++) {
        const float *k = seen(l, j, 0);
        double dot = 0;
        for (int64_t d = 0; d < l->c.head_size; d++)
            dot = rounded(l, dot + rounded(l, (double)q[d] * (double)k[d]));
        l->score[j] = rounded(l, dot * (double)l->scale);
        if (l->score[j] > most) most = l->score[j];
    }
    for (int64_t d = 0; d < l->c.head_size; d++) l->sum[d] = 0;
    for (int64_t j = 0; j < l->rows; j++) {
        const float *v = seen(l, j, 1);
        double p = rounded(l, exp(rounded(l, l->score[j] - most)));
        total = rounded(l, total + p);
        for (int64_t d = 0; d < l->c.head_size; d++)
            l->sum[d] = rounded(l, l->sum[d] + rounded(l, p * (double)v[d]));
    }
    for (int64_t d = 0; d < l->c.head_size; d++)
        out[d] = l->rows > 0 ? (float)(rounded(l, l->sum[d] / total) * (double)l->v_scale) : 0;
}

/* The query tokens from .. from+n of one sequence of `len` rows. */
static ccc_status attend_sequence(eval *e, look *l, const float *q, float *out, int64_t from, int64_t n,
                                  int64_t len, int64_t cols)
{
    for (int64_t b = 0; b * l->c.block_size < len; b++)
        if (l->table[b] < 0 || l->table[b] >= l->c.blocks)
            return ccc_fail(e->err, CCC_E_ARG,
                            "attention: block %" PRId32 " is outside the cache of %" PRId64, l->table[b],
                            l->c.blocks);
    int64_t heads = cols / l->c.head_size;
    for (int64_t i = 0; i < n; i++) {
        l->rows = len - n + i + 1;
        for (int64_t h = 0; h < heads; h++) {
            l->head = h / (heads / l->c.heads);
            int64_t at = (from + i) * cols + h * l->c.head_size;
            attend(l, q + at, out + at);
        }
    }
    return CCC_OK;
}

ccc_status ccc_eval_attention(eval *e, const ccc_node *n)
{
    ccc_tensor *t;
    const ccc_tensor *table = ccc_eval_operand(e, n, 2);
    const int32_t *lens = ccc_eval_operand(e, n, 3)->data, *starts = ccc_eval_operand(e, n, 4)->data;
    CCC_TRY(ccc_eval_make(e, n, &t));
    look l = {.c = kv_of(ccc_eval_operand(e, n, 1)),
              .scale = (float)(ccc_attr_float(n, "scale") * ccc_attr_float(n, "k_scale")),
              .v_scale = (float)ccc_attr_float(n, "v_scale"),
              .f64 = e->args->accumulate_f64};
    int64_t most = table->dim[1] * l.c.block_size;
    float *q = ccc_eval_load_all(ccc_eval_operand(e, n, 0));
    l.score = ccc_eval_allocate((uint64_t)most, sizeof *l.score);
    l.sum = ccc_eval_allocate((uint64_t)l.c.head_size, sizeof *l.sum);
    ccc_status status = q && l.score && l.sum ? CCC_OK : ccc_nomem(e->err);
    for (int64_t s = 0; status == CCC_OK && s < table->dim[0]; s++) {
        int64_t from = starts[s], to = starts[s + 1];
        if (from < 0 || to < from || to > t->dim[0] || lens[s] < 0 || lens[s] > most)
            status = ccc_fail(e->err, CCC_E_ARG,
                              "attention: sequence %" PRId64 " has tokens %" PRId64 " to %" PRId64
                              " of %" PRId64 " and length %" PRId32 " of at most %" PRId64,
                              s, from, to, t->dim[0], lens[s], most);
        l.table = (const int32_t *)table->data + s * table->dim[1];
        if (status == CCC_OK)
            status = attend_sequence(e, &l, q, t->data, from, to - from, lens[s], t->dim[1]);
    }
    free(q);
    free(l.score);
    free(l.sum);
    return status;
}
