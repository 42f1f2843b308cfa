/* The text form, read. Statements are told apart by their first token, so lines may be broken anywhere:
 *     graph NAME | sym T 1..8192 | fact KEY = "VALUE" | group 1 "PASS" | return NAME = %v, ...
 *     %result = op %operand, %operand "NAME" {attr = value, ...} : TYPE @GROUP
 * A value, symbol or group is named before it is used. What has been read is verified, and a failure is
 * reported where the node that it blames stands. */
#include "internal.h"
#include <inttypes.h>
#include <string.h>

typedef struct {
    ccc_lex l;
    ccc_graph *g;
    ccc_arena *mem; /* of this parse */
    ccc_map values;
    const char **at; /* at[node]: where it stands */
    uint32_t cap_at;
    bool returned;
} parser;

static ccc_status name_or_string(parser *p, const char *what, const char **out)
{
    ccc_lex_skip(&p->l);
    if (p->l.p < p->l.end && *p->l.p == '"') return ccc_lex_string(&p->l, p->mem, out);
    return ccc_lex_ident(&p->l, p->mem, what, out);
}

/* %name, %9 or %"any name": the text behind the % */
static ccc_status value_name(parser *p, const char **out)
{
    ccc_lex *l = &p->l;
    CCC_TRY(ccc_lex_want(l, "%"));
    if (l->p == l->end || *l->p < '0' || *l->p > '9') return name_or_string(p, "the name of a value", out);
    const char *begin = l->p;
    while (l->p < l->end && *l->p >= '0' && *l->p <= '9') l->p++;
    *out = ccc_arena_strndup(p->mem, begin, (size_t)(l->p - begin));
    return *out ? CCC_OK : ccc_nomem(l->err);
}

static ccc_status value(parser *p, ccc_val *out)
{
    const char *name;
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(value_name(p, &name));
    *out = ccc_map_find(&p->values, name);
    return *out
               ? CCC_OK
               : ccc_lex_fail(&p->l, at, "unknown value %%%.60s: a value is defined before it is used", name);
}

static ccc_status number(parser *p, double *out)
{
    ccc_lex_skip(&p->l);
    const char *end = p->l.p;
    while (end < p->l.end && *end && strchr("0123456789+-.eE", *end)) end++;
    if (!ccc_double_parse(p->l.p, (size_t)(end - p->l.p), out))
        return ccc_lex_fail(&p->l, p->l.p, "expected a finite number");
    p->l.p = end;
    return CCC_OK;
}

static ccc_status attr_value(parser *p, ccc_attr_kind kind, ccc_attr *out)
{
    const char *name;
    switch (kind) {
    case CCC_ATTR_INT:
        return ccc_lex_int(&p->l, &out->i);
    case CCC_ATTR_FLOAT:
        return number(p, &out->f);
    case CCC_ATTR_STR:
        return ccc_lex_string(&p->l, p->mem, &out->s);
    case CCC_ATTR_DTYPE:
        break;
    }
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(ccc_lex_ident(&p->l, p->mem, "a dtype", &name));
    out->i = ccc_dtype_find(name);
    return out->i != CCC_NONE ? CCC_OK : ccc_lex_fail(&p->l, at, "unknown dtype '%.60s'", name);
}

static ccc_status attrs(parser *p, ccc_op op, ccc_attr_arg *out, unsigned *n)
{
    if (ccc_lex_take(&p->l, "}")) return CCC_OK;
    do {
        const char *name;
        ccc_lex_skip(&p->l);
        const char *at = p->l.p;
        CCC_TRY(ccc_lex_ident(&p->l, p->mem, "the name of an attribute", &name));
        int i = ccc_attr_find(op, name);
        if (i < 0) return ccc_lex_fail(&p->l, at, "%s has no attribute '%.60s'", ccc_ops[op].name, name);
        for (unsigned k = 0; k < *n; k++)
            if (strcmp(out[k].name, name) == 0)
                return ccc_lex_fail(&p->l, at, "attribute '%s' is given twice", name);
        CCC_TRY(ccc_lex_want(&p->l, "="));
        CCC_TRY(attr_value(p, ccc_ops[op].attr[i].kind, &out[*n].v));
        out[(*n)++].name = name;
    } while (ccc_lex_take(&p->l, ","));
    return ccc_lex_want(&p->l, "}");
}

typedef struct { /* one node as it is written */
    const char *at, *result[CCC_MAX_OUT];
    unsigned n_results, n_in, n_attrs, n_types;
    ccc_op op;
    ccc_val in[CCC_MAX_IN];
    ccc_attr_arg attr[CCC_MAX_ATTR];
    ccc_type type[CCC_MAX_OUT];
} line;

static ccc_status results_and_op(parser *p, line *s)
{
    const char *name;
    do {
        ccc_lex_skip(&p->l);
        const char *at = p->l.p;
        if (s->n_results == CCC_MAX_OUT) return ccc_lex_fail(&p->l, at, "more than %d results", CCC_MAX_OUT);
        CCC_TRY(value_name(p, &s->result[s->n_results]));
        if (ccc_map_find(&p->values, s->result[s->n_results]))
            return ccc_lex_fail(&p->l, at, "value %%%.60s is defined twice", s->result[s->n_results]);
        s->n_results++;
    } while (ccc_lex_take(&p->l, ","));
    CCC_TRY(ccc_lex_want(&p->l, "="));
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(ccc_lex_ident(&p->l, p->mem, "the name of an op", &name));
    s->op = ccc_op_find(name);
    if (s->op == CCC_N_OPS) return ccc_lex_fail(&p->l, at, "unknown op '%.60s'", name);
    if (s->n_results != ccc_ops[s->op].n_out)
        return ccc_lex_fail(&p->l, s->at, "%s has %u results, not %u", name, ccc_ops[s->op].n_out,
                            s->n_results);
    return CCC_OK;
}

static bool next_is(parser *p, char c)
{
    ccc_lex_skip(&p->l);
    return p->l.p < p->l.end && *p->l.p == c;
}

static ccc_status operands_and_attrs(parser *p, line *s)
{
    if (next_is(p, '%')) {
        do {
            if (s->n_in == CCC_MAX_IN)
                return ccc_lex_fail(&p->l, p->l.p, "more than %d operands", CCC_MAX_IN);
            CCC_TRY(value(p, &s->in[s->n_in]));
            s->n_in++;
        } while (ccc_lex_take(&p->l, ","));
    }
    const ccc_attr_info *first = &ccc_ops[s->op].attr[0];
    if (next_is(p, '"')) {
        if (!ccc_ops[s->op].n_attr || first->kind != CCC_ATTR_STR || !first->required)
            return ccc_lex_fail(&p->l, p->l.p, "%s takes no name", ccc_ops[s->op].name);
        s->attr[s->n_attrs++].name = first->name;
        CCC_TRY(ccc_lex_string(&p->l, p->mem, &s->attr[0].v.s));
    }
    return ccc_lex_take(&p->l, "{") ? attrs(p, s->op, s->attr, &s->n_attrs) : CCC_OK;
}

static ccc_status types_and_group(parser *p, line *s, uint32_t *group)
{
    int64_t n;
    if (ccc_lex_take(&p->l, ":")) {
        do {
            if (s->n_types == s->n_results) return ccc_lex_fail(&p->l, p->l.p, "more types than results");
            CCC_TRY(ccc_lex_type(&p->l, p->g, &s->type[s->n_types]));
            s->n_types++;
        } while (ccc_lex_take(&p->l, ","));
    }
    if (!ccc_lex_take(&p->l, "@")) return CCC_OK;
    const char *at = p->l.p;
    CCC_TRY(ccc_lex_int(&p->l, &n));
    if (n < 1 || n >= p->g->n_groups) return ccc_lex_fail(&p->l, at, "unknown group %" PRId64, n);
    *group = (uint32_t)n;
    return CCC_OK;
}

static ccc_status add_node(parser *p, const line *s, uint32_t group)
{
    ccc_graph *g = p->g;
    ccc_val v;
    const char *name = ccc_is_number(s->result[0]) ? NULL : s->result[0];
    ccc_status status = ccc_graph_add(g, &v, s->op, s->in, s->n_in, s->attr, s->n_attrs,
                                      s->n_types ? &s->type[0] : NULL, name, p->l.err);
    if (status != CCC_OK) return ccc_err_place(p->l.err, status, p->l.file, p->l.start, s->at);
    ccc_nid nid = g->value[v].def;
    g->node[nid].group = group;
    for (unsigned i = 0; i < s->n_results; i++) {
        ccc_val r = g->node[nid].out[i];
        if (i && !ccc_is_number(s->result[i]) && !(g->value[r].name = ccc_arena_strdup(g->mem, s->result[i])))
            return ccc_nomem(p->l.err);
        if (i < s->n_types && !ccc_type_equal(&s->type[i], &g->value[r].type))
            return ccc_lex_fail(&p->l, s->at, "the type of result %u is not what %s yields", i + 1,
                                ccc_ops[s->op].name);
        if (!ccc_map_put(&p->values, s->result[i], r)) return ccc_nomem(p->l.err);
    }
    if (!CCC_GROW(p->mem, p->at, nid, p->cap_at)) return ccc_nomem(p->l.err);
    p->at[nid] = s->at;
    return CCC_OK;
}

static ccc_status node(parser *p)
{
    line s = {.at = p->l.p};
    uint32_t group = 0;
    CCC_TRY(results_and_op(p, &s));
    CCC_TRY(operands_and_attrs(p, &s));
    CCC_TRY(types_and_group(p, &s, &group));
    return add_node(p, &s, group);
}

static ccc_status symbol(parser *p)
{
    const char *name;
    int64_t min, max;
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(ccc_lex_ident(&p->l, p->mem, "the name of a symbol", &name));
    CCC_TRY(ccc_lex_int(&p->l, &min));
    CCC_TRY(ccc_lex_want(&p->l, ".."));
    CCC_TRY(ccc_lex_int(&p->l, &max));
    if (ccc_graph_find_sym(p->g, name) >= 0)
        return ccc_lex_fail(&p->l, at, "symbol '%s' is defined twice", name);
    if (p->g->n_sym == CCC_MAX_SYM) return ccc_lex_fail(&p->l, at, "more than %d symbols", CCC_MAX_SYM);
    if (strlen(name) >= CCC_SYM_NAME)
        return ccc_lex_fail(&p->l, at, "the name of a symbol has at most %d characters", CCC_SYM_NAME - 1);
    return ccc_graph_add_sym(p->g, name, min, max) < 0 ? ccc_nomem(p->l.err) : CCC_OK;
}

static ccc_status fact(parser *p)
{
    const char *key, *text;
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(name_or_string(p, "the name of a fact", &key));
    CCC_TRY(ccc_lex_want(&p->l, "="));
    CCC_TRY(ccc_lex_string(&p->l, p->mem, &text));
    if (ccc_graph_fact(p->g, key)) return ccc_lex_fail(&p->l, at, "fact '%.60s' is given twice", key);
    return ccc_graph_set_fact(p->g, key, text, p->l.err);
}

static ccc_status group(parser *p)
{
    const char *pass;
    int64_t n;
    ccc_lex_skip(&p->l);
    const char *at = p->l.p;
    CCC_TRY(ccc_lex_int(&p->l, &n));
    if (n != p->g->n_groups)
        return ccc_lex_fail(&p->l, at, "groups are numbered in order: this one is %" PRIu32, p->g->n_groups);
    CCC_TRY(ccc_lex_string(&p->l, p->mem, &pass));
    return ccc_graph_add_group(p->g, pass) ? CCC_OK : ccc_nomem(p->l.err);
}

static ccc_status outputs(parser *p)
{
    do {
        const char *name;
        ccc_val v;
        CCC_TRY(name_or_string(p, "the name of an output", &name));
        CCC_TRY(ccc_lex_want(&p->l, "="));
        CCC_TRY(value(p, &v));
        CCC_TRY(ccc_graph_add_output(p->g, name, v, p->l.err));
    } while (ccc_lex_take(&p->l, ","));
    return CCC_OK;
}

static ccc_status statement(parser *p)
{
    const char *at = p->l.p, *word;
    if (*at == '%') return node(p);
    CCC_TRY(ccc_lex_ident(&p->l, p->mem, "a value (%...), graph, sym, fact, group or return", &word));
    if (strcmp(word, "sym") == 0) return symbol(p);
    if (strcmp(word, "fact") == 0) return fact(p);
    if (strcmp(word, "group") == 0) return group(p);
    if (strcmp(word, "graph") == 0) {
        if (*p->g->name || p->g->n_nodes > 1) return ccc_lex_fail(&p->l, at, "graph comes first, and once");
        CCC_TRY(name_or_string(p, "the name of the graph", &word));
        return (p->g->name = ccc_arena_strdup(p->g->mem, word)) ? CCC_OK : ccc_nomem(p->l.err);
    }
    if (strcmp(word, "return") != 0) return ccc_lex_fail(&p->l, at, "unknown statement '%.60s'", word);
    if (p->returned) return ccc_lex_fail(&p->l, at, "there is one return");
    p->returned = true;
    return outputs(p);
}

static ccc_status parse(parser *p)
{
    if (!CCC_GROW(p->mem, p->at, 0, p->cap_at)) return ccc_nomem(p->l.err);
    for (ccc_lex_skip(&p->l); p->l.p < p->l.end; ccc_lex_skip(&p->l)) CCC_TRY(statement(p));
    ccc_nid where;
    ccc_status status = ccc_verify_at(p->g, &where, p->l.err);
    return status == CCC_OK
               ? CCC_OK
               : ccc_err_place(p->l.err, status, p->l.file, p->l.start, where ? p->at[where] : NULL);
}

ccc_status ccc_ir_parse(ccc_graph **out, const char *text, size_t size_B, const char *file, ccc_err *err)
{
    parser p = {.l = {.file = file, .p = text, .start = text, .end = text + size_B, .err = err}};
    CCC_TRY(ccc_graph_new(&p.g, "", err));
    p.mem = p.values.mem = ccc_arena_new();
    ccc_status status = p.mem ? parse(&p) : ccc_nomem(err);
    ccc_arena_free(p.mem);
    if (status == CCC_OK) *out = p.g;
    else ccc_graph_free(p.g);
    return status;
}
