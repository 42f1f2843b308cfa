/* model.json, written: one line a node, leaves among the others so that the order of nodes is kept. The same
 * graph gives the same bytes, and reading them back gives the same text form. */
#include "internal.h"
#include <inttypes.h>
#include <string.h>

static void put_value(ccc_buf *out, const ccc_names *names, ccc_val v)
{
    if (names->name[v]) ccc_put_quoted(out, names->name[v]);
    else ccc_buf_printf(out, "\"%" PRIu32 "\"", names->number[v]);
}

static void put_attr(ccc_buf *out, const ccc_attr_info *info, ccc_attr v)
{
    char buf[CCC_NUM_TEXT];
    ccc_buf_printf(out, ", \"%s\": ", info->name);
    switch (info->kind) {
    case CCC_ATTR_INT:
        ccc_buf_printf(out, "%" PRId64, v.i);
        break;
    case CCC_ATTR_STR:
        ccc_put_quoted(out, v.s);
        break;
    case CCC_ATTR_DTYPE:
        ccc_buf_printf(out, "\"%s\"", ccc_dtype_name((ccc_dtype)v.i));
        break;
    case CCC_ATTR_FLOAT: /* with a point: -0 and numbers above 2^63 are no whole numbers of JSON */
        ccc_buf_printf(out, "%s%s", ccc_double_text(v.f, buf),
                       strpbrk(ccc_double_text(v.f, buf), ".e") ? "" : ".0");
        break;
    }
}

static void put_node(ccc_buf *out, const ccc_graph *g, const ccc_names *names, const ccc_node *n)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    char text[CCC_TYPE_TEXT];
    const char *open = n->n_out == 1 ? "" : "[", *close = n->n_out == 1 ? "" : "]";
    ccc_buf_printf(out, "    {\"op\": \"%s\"", op->name);
    for (unsigned i = 0; i < n->n_in; i++) {
        ccc_buf_printf(out, i ? ", " : ", \"in\": [");
        put_value(out, names, n->in[i]);
    }
    if (n->n_in) ccc_buf_put(out, "]", 1);
    for (unsigned i = 0; i < op->n_attr; i++)
        if (!ccc_attr_is_default(&op->attr[i], n->attr[i])) put_attr(out, &op->attr[i], n->attr[i]);
    ccc_buf_printf(out, ", \"type\": %s", open);
    for (unsigned i = 0; i < n->n_out; i++)
        ccc_buf_printf(out, "%s\"%s\"", i ? ", " : "", ccc_type_text(g, &g->value[n->out[i]].type, text));
    ccc_buf_printf(out, "%s", close);
    if (n->group) ccc_buf_printf(out, ", \"group\": %" PRIu32, n->group);
    ccc_buf_printf(out, ", \"out\": %s", open);
    for (unsigned i = 0; i < n->n_out; i++) {
        if (i) ccc_buf_put(out, ", ", 2);
        put_value(out, names, n->out[i]);
    }
    ccc_buf_printf(out, "%s}", close);
}

static void put_pair(ccc_buf *out, uint32_t i, const char *key)
{
    ccc_buf_printf(out, i ? ",\n    " : "\n    ");
    ccc_put_quoted(out, key);
    ccc_buf_put(out, ": ", 2);
}

static void put_head(ccc_buf *out, const ccc_graph *g)
{
    ccc_buf_printf(out, "{\n  \"ccc_model\": 1,\n  \"name\": ");
    ccc_put_quoted(out, g->name);
    ccc_buf_printf(out, ",\n  \"symbols\": {");
    for (uint32_t i = 0; i < g->n_sym; i++) {
        put_pair(out, i, g->sym[i].name);
        ccc_buf_printf(out, "[%" PRId64 ", %" PRId64 "]", g->sym[i].min, g->sym[i].max);
    }
    ccc_buf_printf(out, "%s},\n  \"facts\": {", g->n_sym ? "\n  " : "");
    for (uint32_t i = 0; i < g->n_facts; i++) {
        put_pair(out, i, g->fact[i].key);
        ccc_put_quoted(out, g->fact[i].value);
    }
    ccc_buf_printf(out, "%s},\n  \"groups\": [", g->n_facts ? "\n  " : "");
    for (uint32_t i = 1; i < g->n_groups; i++) {
        if (i > 1) ccc_buf_put(out, ", ", 2);
        ccc_put_quoted(out, g->group[i].pass);
    }
    ccc_buf_printf(out, "],\n");
}

ccc_status ccc_json_write(const ccc_graph *g, ccc_buf *out)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_names names;
    if (!mem || !ccc_print_names(g, mem, &names)) {
        ccc_arena_free(mem);
        return CCC_E_NOMEM;
    }
    put_head(out, g);
    ccc_buf_printf(out, "  \"nodes\": [");
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        ccc_buf_printf(out, n > 1 ? ",\n" : "\n");
        put_node(out, g, &names, &g->node[n]);
    }
    ccc_buf_printf(out, "%s],\n  \"outputs\": {", g->n_nodes > 1 ? "\n  " : "");
    for (uint32_t i = 0; i < g->n_out; i++) {
        put_pair(out, i, g->out[i].name);
        put_value(out, &names, g->out[i].val);
    }
    ccc_buf_printf(out, "%s}\n}\n", g->n_out ? "\n  " : "");
    ccc_arena_free(mem);
    return out->failed ? CCC_E_NOMEM : CCC_OK;
}
