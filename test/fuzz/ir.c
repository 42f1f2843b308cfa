/* Fuzzes both readers of graphs. What they accept must go through both forms unchanged, keep its hash,
 * survive compaction, and, if it is small, evaluate on zeros without harm. */
#include "../../ir/ir.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_ELEMS = 4096, MOST_OUTPUTS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) abort();
}

static ccc_status fetch(void *payload, const char *name, ccc_tensor *t, ccc_err *err)
{
    (void)name;
    (void)err;
    t->data = payload;
    if (t->type.layout != CCC_LAYOUT_ROW) t->size_B = 0; /* a cache without blocks */
    return CCC_OK;
}

static void evaluate(const ccc_graph *g)
{
    static _Alignas(8) char zeros[MOST_ELEMS * 8];
    ccc_eval_args args = {.fetch = fetch, .payload = zeros};
    ccc_tensor out[MOST_OUTPUTS];
    ccc_err err;
    for (ccc_val v = 1; v < g->n_values; v++) {
        double elems = 1;
        for (unsigned i = 0; i < g->value[v].type.rank; i++)
            elems *= (double)ccc_dim_max(g, g->value[v].type.dim[i]);
        if (elems > MOST_ELEMS) return;
    }
    for (uint32_t i = 0; i < g->n_sym; i++) args.sym_value[i] = g->sym[i].min;
    if (g->n_out > MOST_OUTPUTS || ccc_ir_eval(g, &args, out, &err) != CCC_OK) return;
    for (uint32_t i = 0; i < g->n_out; i++) ccc_tensor_release(&out[i]);
}

/* Through one form and back: the text is the same, and so is the hash. */
static void round_trip(const ccc_graph *g, const ccc_buf *text, bool json)
{
    ccc_buf form = {0}, again = {0};
    ccc_graph *h;
    require((json ? ccc_json_write : ccc_ir_print)(g, &form) == CCC_OK);
    require((json ? ccc_json_read : ccc_ir_parse)(&h, form.data, form.size_B, "form", NULL) == CCC_OK);
    require(ccc_ir_print(h, &again) == CCC_OK && strcmp(text->data, again.data) == 0 &&
            ccc_graph_hash(g) == ccc_graph_hash(h));
    ccc_graph_free(h);
    ccc_buf_free(&form);
    ccc_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ccc_graph *g;
    ccc_err err = {.code = CCC_OK};
    ccc_buf text = {0};
    bool json = size > 0 && data[0] == '{';
    if ((json ? ccc_json_read : ccc_ir_parse)(&g, (const char *)data, size, "input", &err) != CCC_OK) {
        require(err.code != CCC_OK && err.msg[0]);
        return 0;
    }
    require(ccc_ir_print(g, &text) == CCC_OK);
    round_trip(g, &text, false);
    round_trip(g, &text, true);
    evaluate(g);
    require(ccc_graph_compact(g, NULL, &err) == CCC_OK && ccc_ir_verify(g, &err) == CCC_OK);
    ccc_graph_free(g);
    ccc_buf_free(&text);
    return 0;
}
