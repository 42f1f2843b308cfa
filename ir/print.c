/* The text form, written. A value is printed by its name, or by its number: its place among all results, in
 * the order of nodes. The parser numbers values in the same way, which makes print o parse o print the same
 * as print. */
#include "internal.h"
#include <inttypes.h>
#include <string.h>

bool ccc_print_names(const ccc_graph *g, ccc_arena *mem, ccc_names *out)
{
    ccc_map taken = {.mem = mem};
    out->name = ccc_arena_alloc(mem, g->n_values * sizeof *out->name);
    out->number = ccc_arena_alloc(mem, g->n_values * sizeof *out->number);
    if (!out->name || !out->number) return false;
    uint32_t count = 0;
    for (ccc_nid n = 1; n < g->n_nodes; n++) {
        for (unsigned i = 0; i < g->node[n].n_out; i++) {
            ccc_val v = g->node[n].out[i];
            const char *name = g->value[v].name;
            out->number[v] = ++count;
            if (!name || ccc_is_number(name) || ccc_map_find(&taken, name)) continue;
            if (!ccc_map_put(&taken, name, v)) return false;
            out->name[v] = name;
        }
    }
    return true;
}

static void put_name(ccc_buf *out, const char *name)
{
    if (ccc_is_ident(name)) ccc_buf_printf(out, "%s", name);
    else ccc_put_quoted(out, name);
}

static void put_value(ccc_buf *out, const ccc_names *names, ccc_val v)
{
    ccc_buf_put(out, "%", 1);
    if (names->name[v]) put_name(out, names->name[v]);
    else ccc_buf_printf(out, "%" PRIu32, names->number[v]);
}

static void put_attr(ccc_buf *out, const ccc_attr_info *info, ccc_attr v)
{
    char buf[CCC_NUM_TEXT];
    switch (info->kind) {
    case CCC_ATTR_INT:
        ccc_buf_printf(out, "%" PRId64, v.i);
        break;
    case CCC_ATTR_FLOAT:
        ccc_buf_printf(out, "%s", ccc_double_text(v.f, buf));
        break;
    case CCC_ATTR_STR:
        ccc_put_quoted(out, v.s);
        break;
    case CCC_ATTR_DTYPE:
        ccc_buf_printf(out, "%s", ccc_dtype_name((ccc_dtype)v.i));
        break;
    }
}

bool ccc_attr_is_default(const ccc_attr_info *info, ccc_attr v)
{
    if (info->required) return false;
    if (info->kind == CCC_ATTR_FLOAT) return memcmp(&v.f, &info->dflt, sizeof v.f) == 0; /* -0 is not 0 */
    return info->kind == CCC_ATTR_STR ? *v.s == 0 : v.i == (int64_t)info->dflt;
}

static void put_node(ccc_buf *out, const ccc_graph *g, const ccc_names *names, const ccc_node *n)
{
    const ccc_op_info *op = &ccc_ops[n->op];
    char text[CCC_TYPE_TEXT];
    for (unsigned i = 0; i < n->n_out; i++) {
        if (i) ccc_buf_put(out, ", ", 2);
        put_value(out, names, n->out[i]);
    }
    ccc_buf_printf(out, " = %s", op->name);
    for (unsigned i = 0; i < n->n_in; i++) {
        ccc_buf_printf(out, i ? ", " : " ");
        put_value(out, names, n->in[i]);
    }
    unsigned first =
        op->n_attr && op->attr[0].kind == CCC_ATTR_STR && op->attr[0].required; /* a name stands alone */
    if (first) {
        ccc_buf_put(out, " ", 1);
        ccc_put_quoted(out, n->attr[0].s);
    }
    const char *before = " {";
    for (unsigned i = first; i < op->n_attr; i++) {
        if (ccc_attr_is_default(&op->attr[i], n->attr[i])) continue;
        ccc_buf_printf(out, "%s%s = ", before, op->attr[i].name);
        put_attr(out, &op->attr[i], n->attr[i]);
        before = ", ";
    }
    if (*before == ',') ccc_buf_put(out, "}", 1);
    for (unsigned i = 0; i < n->n_out; i++)
        ccc_buf_printf(out, "%s%s", i ? ", " : " : ", ccc_type_text(g, &g->value[n->out[i]].type, text));
    if (n->group) ccc_buf_printf(out, " @%" PRIu32, n->group);
    ccc_buf_put(out, "\n", 1);
}

static void put_head(ccc_buf *out, const ccc_graph *g)
{
    ccc_buf_printf(out, "graph ");
    ccc_put_quoted(out, g->name);
    ccc_buf_put(out, "\n", 1);
    for (uint32_t i = 0; i < g->n_sym; i++)
        ccc_buf_printf(out, "sym %s %" PRId64 "..%" PRId64 "\n", g->sym[i].name, g->sym[i].min,
                       g->sym[i].max);
    for (uint32_t i = 0; i < g->n_facts; i++) {
        ccc_buf_printf(out, "fact ");
        put_name(out, g->fact[i].key);
        ccc_buf_printf(out, " = ");
        ccc_put_quoted(out, g->fact[i].value);
        ccc_buf_put(out, "\n", 1);
    }
    for (uint32_t i = 1; i < g->n_groups; i++) {
        ccc_buf_printf(out, "group %" PRIu32 " ", i);
        ccc_put_quoted(out, g->group[i].pass);
        ccc_buf_put(out, "\n", 1);
    }
}

ccc_status ccc_ir_print(const ccc_graph *g, ccc_buf *out)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_names names;
    if (!mem || !ccc_print_names(g, mem, &names)) {
        ccc_arena_free(mem);
        return CCC_E_NOMEM;
    }
    put_head(out, g);
    if (g->n_nodes > 1) ccc_buf_put(out, "\n", 1);
    for (ccc_nid n = 1; n < g->n_nodes; n++) put_node(out, g, &names, &g->node[n]);
    if (g->n_out) ccc_buf_put(out, "\n", 1);
    for (uint32_t i = 0; i < g->n_out; i++) {
        ccc_buf_printf(out, i ? ", " : "return ");
        put_name(out, g->out[i].name);
        ccc_buf_printf(out, " = ");
        put_value(out, &names, g->out[i].val);
    }
    if (g->n_out) ccc_buf_put(out, "\n", 1);
    ccc_arena_free(mem);
    return out->failed ? CCC_E_NOMEM : CCC_OK;
}
