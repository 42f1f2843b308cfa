/* model.json, read and written. jansson reads the text; it keeps no positions, so the reader remembers the
 * path to where it is
 * ("nodes", 3, "in") and finds the line by walking the text along it when a message is written, and never
 * before. Nodes stand in order, each value is defined before it is used, and every key is known or an error.
 */
#include "internal.h"
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

enum { MAX_DEPTH = 6 };
typedef struct {
    const char *key;
    size_t index;
} step; /* key NULL: an index */
typedef struct {
    const char *section, *key;
    size_t index;
} origin;

typedef struct {
    const char *file, *text;
    ccc_err *err;
    ccc_graph *g;
    ccc_arena *mem;
    ccc_map values;
    step path[MAX_DEPTH];
    unsigned depth;
    origin *from; /* from[node]: where it stands */
    uint32_t cap_from;
} reader;

/* ---- places: text is known to be well-formed JSON here */

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') p++;
    return p;
}

static const char *skip_string(const char *p)
{
    for (p++; *p && *p != '"'; p++)
        if (*p == '\\' && p[1]) p++;
    return *p ? p + 1 : p;
}

static const char *skip_value(const char *p)
{
    int depth = 0;
    do {
        p = skip_space(p);
        if (*p == '"') {
            p = skip_string(p);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (*p) {
            p++;
            while (*p && !strchr(" \t\r\n\"{}[],", *p)) p++;
        }
    } while (depth > 0 && *p);
    return p;
}

/* The place of a member or an element of the object or array at p; p itself where it is not found. */
static const char *step_into(const char *p, const step *s)
{
    const char *begin = p;
    size_t n = s->key ? strlen(s->key) : 0;
    if (*p != '{' && *p != '[') return begin;
    p++;
    for (size_t i = 0;; i++) {
        p = skip_space(p);
        if (*p == '}' || *p == ']' || !*p) return begin;
        if (!s->key && i == s->index) return p;
        if (s->key) {
            bool found = *p == '"' && strncmp(p + 1, s->key, n) == 0 && p[1 + n] == '"';
            p = skip_space(skip_string(p));
            if (*p == ':') p = skip_space(p + 1);
            if (found) return p;
        }
        p = skip_space(skip_value(p));
        if (*p == ',') p++;
    }
}

static ccc_status place(reader *r, ccc_status status)
{
    const char *p = skip_space(r->text);
    for (unsigned i = 0; i < r->depth; i++) p = step_into(p, &r->path[i]);
    return ccc_err_place(r->err, status, r->file, r->text, p);
}

/* "nodes[3].in: message", placed */
__attribute__((format(printf, 2, 3))) static ccc_status bad(reader *r, const char *fmt, ...)
{
    if (!r->err) return CCC_E_PARSE;
    char msg[300], path[200];
    size_t n = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    path[0] = 0;
    for (unsigned i = 0; i < r->depth && n < sizeof path; i++) {
        int more = r->path[i].key
                       ? snprintf(path + n, sizeof path - n, "%s%.40s", i ? "." : "", r->path[i].key)
                       : snprintf(path + n, sizeof path - n, "[%zu]", r->path[i].index);
        n += more > 0 ? (size_t)more : 0;
    }
    ccc_fail(r->err, CCC_E_PARSE, "%s%s%s", path, *path ? ": " : "", msg);
    return place(r, CCC_E_PARSE);
}

static void enter(reader *r, const char *key)
{
    if (r->depth < MAX_DEPTH) r->path[r->depth++] = (step){.key = key};
}

static void enter_at(reader *r, size_t index)
{
    if (r->depth < MAX_DEPTH) r->path[r->depth++] = (step){.index = index};
}

static void leave(reader *r)
{
    r->depth--;
}

/* ---- small things */

static ccc_status want_string(reader *r, const json_t *j, const char **out)
{
    *out = json_string_value(j);
    if (!*out) return bad(r, "must be a string");
    return ccc_is_printable(*out) ? CCC_OK : bad(r, "must not have control characters");
}

static ccc_status want_int(reader *r, const json_t *j, int64_t *out)
{
    if (!json_is_integer(j)) return bad(r, "must be a whole number");
    *out = json_integer_value(j);
    return CCC_OK;
}

/* The member `key`, or NULL. With *path at it on success, so that the caller can complain about it and then
 * leave. */
static ccc_status section(reader *r, const json_t *root, const char *key, bool is_array, json_t **out)
{
    *out = json_object_get(root, key);
    enter(r, key);
    if (*out && (is_array ? !json_is_array(*out) : !json_is_object(*out)))
        return bad(r, is_array ? "must be an array" : "must be an object");
    return CCC_OK;
}

static ccc_status type_at(reader *r, const json_t *j, ccc_type *out)
{
    const char *text = NULL;
    ccc_err inner;
    CCC_TRY(want_string(r, j, &text));
    ccc_status status = ccc_type_parse(r->g, text, out, &inner);
    if (status == CCC_E_NOMEM) return ccc_nomem(r->err);
    return status == CCC_OK ? CCC_OK : bad(r, "'%.80s': %s", text, inner.msg);
}

/* ---- nodes */

static ccc_status remember(reader *r, ccc_nid nid, origin o)
{
    if (!CCC_GROW(r->mem, r->from, nid, r->cap_from)) return ccc_nomem(r->err);
    r->from[nid] = o;
    return CCC_OK;
}

static ccc_status define(reader *r, const char *name, ccc_val v)
{
    if (ccc_map_find(&r->values, name)) return bad(r, "value '%.60s' is defined twice", name);
    if (!ccc_is_number(name) && !(r->g->value[v].name = ccc_arena_strdup(r->g->mem, name)))
        return ccc_nomem(r->err);
    char *key = ccc_arena_strdup(r->mem, name);
    return key && ccc_map_put(&r->values, key, v) ? CCC_OK : ccc_nomem(r->err);
}

/* "inputs" and "weights": NAME: TYPE, each a node whose value has the same name */
static ccc_status leaves(reader *r, json_t *object, const char *key, ccc_op op)
{
    const char *name;
    json_t *j;
    json_object_foreach(object, name, j)
    {
        ccc_type type;
        ccc_val v;
        ccc_attr_arg attr = {"name", {.s = name}};
        enter(r, name);
        CCC_TRY(type_at(r, j, &type));
        ccc_status status = ccc_graph_add(r->g, &v, op, NULL, 0, &attr, 1, &type, NULL, r->err);
        if (status != CCC_OK) return place(r, status);
        CCC_TRY(define(r, name, v));
        CCC_TRY(remember(r, r->g->value[v].def, (origin){.section = key, .key = name}));
        leave(r);
    }
    return CCC_OK;
}

static bool defines(const json_t *node, const char *name)
{
    const json_t *out = json_object_get(node, "out");
    if (json_is_string(out)) return strcmp(json_string_value(out), name) == 0;
    for (size_t i = 0; i < json_array_size(out); i++)
        if (json_is_string(json_array_get(out, i)) &&
            strcmp(json_string_value(json_array_get(out, i)), name) == 0)
            return true;
    return false;
}

static ccc_status value(reader *r, const json_t *j, const json_t *nodes, size_t index, ccc_val *out)
{
    const char *name;
    CCC_TRY(want_string(r, j, &name));
    *out = ccc_map_find(&r->values, name);
    if (*out) return CCC_OK;
    for (size_t i = index; i < json_array_size(nodes); i++)
        if (defines(json_array_get(nodes, i), name))
            return bad(r, "'%.60s' is used before nodes[%zu] defines it: nodes come in order, without cycles",
                       name, i);
    return bad(r, "unknown value '%.60s'", name);
}

typedef struct { /* one node as it is written */
    ccc_op op;
    ccc_val in[CCC_MAX_IN];
    unsigned n_in, n_attrs, n_types;
    ccc_attr_arg attr[CCC_MAX_ATTR];
    ccc_type type[CCC_MAX_OUT];
    int64_t group;
} line;

static ccc_status attr(reader *r, const json_t *j, ccc_attr_kind kind, ccc_attr *out)
{
    const char *name;
    switch (kind) {
    case CCC_ATTR_INT:
        return want_int(r, j, &out->i);
    case CCC_ATTR_STR:
        return want_string(r, j, &out->s);
    case CCC_ATTR_FLOAT:
        if (!json_is_number(j)) return bad(r, "must be a number");
        out->f = json_number_value(j);
        return CCC_OK;
    case CCC_ATTR_DTYPE:
        break;
    }
    CCC_TRY(want_string(r, j, &name));
    out->i = ccc_dtype_find(name);
    return out->i != CCC_NONE ? CCC_OK : bad(r, "unknown dtype '%.60s'", name);
}

/* One key of a node that is not "op" or "out". */
static ccc_status member(reader *r, line *s, const char *key, const json_t *j, const json_t *nodes,
                         size_t index)
{
    if (strcmp(key, "in") == 0) {
        if (!json_is_array(j) || json_array_size(j) > CCC_MAX_IN)
            return bad(r, "must be an array of at most %d names", CCC_MAX_IN);
        for (s->n_in = 0; s->n_in < json_array_size(j); s->n_in++) {
            enter_at(r, s->n_in);
            CCC_TRY(value(r, json_array_get(j, s->n_in), nodes, index, &s->in[s->n_in]));
            leave(r);
        }
        return CCC_OK;
    }
    if (strcmp(key, "type") == 0) {
        size_t n = json_is_array(j) ? json_array_size(j) : 1;
        if (n != ccc_ops[s->op].n_out)
            return bad(r, "must be one type for each result of %s", ccc_ops[s->op].name);
        for (s->n_types = 0; s->n_types < n; s->n_types++)
            CCC_TRY(type_at(r, json_is_array(j) ? json_array_get(j, s->n_types) : j, &s->type[s->n_types]));
        return CCC_OK;
    }
    if (strcmp(key, "group") == 0) {
        CCC_TRY(want_int(r, j, &s->group));
        return s->group >= 1 && s->group < r->g->n_groups ? CCC_OK
                                                          : bad(r, "must be 1 to the number of groups");
    }
    int i = ccc_attr_find(s->op, key);
    if (i < 0) return bad(r, "unknown key: %s has no such attribute", ccc_ops[s->op].name);
    s->attr[s->n_attrs].name = ccc_ops[s->op].attr[i].name;
    return attr(r, j, ccc_ops[s->op].attr[i].kind, &s->attr[s->n_attrs++].v);
}

static ccc_status results(reader *r, const json_t *out, const line *s, ccc_nid nid)
{
    size_t n = json_is_array(out) ? json_array_size(out) : 1;
    enter(r, "out");
    if (n != r->g->node[nid].n_out)
        return bad(r, "must be one name for each result of %s", ccc_ops[s->op].name);
    for (size_t i = 0; i < n; i++) {
        const char *name;
        ccc_val v = r->g->node[nid].out[i];
        CCC_TRY(want_string(r, json_is_array(out) ? json_array_get(out, i) : out, &name));
        CCC_TRY(define(r, name, v));
        if (i < s->n_types && !ccc_type_equal(&s->type[i], &r->g->value[v].type))
            return bad(r, "result %zu has another type than given", i + 1);
    }
    leave(r);
    return CCC_OK;
}

static ccc_status node(reader *r, const json_t *nodes, size_t index)
{
    json_t *object = json_array_get(nodes, index), *j;
    const char *key, *name;
    line s = {0};
    ccc_val v;
    if (!json_is_object(object)) return bad(r, "must be an object");
    if (!json_object_get(object, "op")) return bad(r, "has no \"op\"");
    if (!json_object_get(object, "out")) return bad(r, "has no \"out\"");
    enter(r, "op");
    CCC_TRY(want_string(r, json_object_get(object, "op"), &name));
    s.op = ccc_op_find(name);
    if (s.op == CCC_N_OPS) return bad(r, "unknown op '%.60s'", name);
    leave(r);
    json_object_foreach(object, key, j)
    {
        if (strcmp(key, "op") == 0 || strcmp(key, "out") == 0) continue;
        enter(r, key);
        CCC_TRY(member(r, &s, key, j, nodes, index));
        leave(r);
    }
    ccc_status status = ccc_graph_add(r->g, &v, s.op, s.in, s.n_in, s.attr, s.n_attrs,
                                      s.n_types ? &s.type[0] : NULL, NULL, r->err);
    if (status != CCC_OK) return place(r, status);
    ccc_nid nid = r->g->value[v].def;
    r->g->node[nid].group = (uint32_t)s.group;
    CCC_TRY(remember(r, nid, (origin){.section = "nodes", .index = index}));
    return results(r, json_object_get(object, "out"), &s, nid);
}

/* ---- the sections of the file */

static ccc_status symbols(reader *r, json_t *object)
{
    const char *name;
    json_t *j;
    json_object_foreach(object, name, j)
    {
        int64_t min = 0, max = 0;
        enter(r, name);
        if (!json_is_array(j) || json_array_size(j) != 2) return bad(r, "must be [least, most]");
        CCC_TRY(want_int(r, json_array_get(j, 0), &min));
        CCC_TRY(want_int(r, json_array_get(j, 1), &max));
        if (!ccc_is_ident(name) || strlen(name) >= CCC_SYM_NAME)
            return bad(r, "the name of a symbol is a word of at most %d characters", CCC_SYM_NAME - 1);
        if (r->g->n_sym == CCC_MAX_SYM) return bad(r, "more than %d symbols", CCC_MAX_SYM);
        if (ccc_graph_add_sym(r->g, name, min, max) < 0) return ccc_nomem(r->err);
        leave(r);
    }
    return CCC_OK;
}

static ccc_status facts(reader *r, json_t *object)
{
    const char *name, *text;
    json_t *j;
    json_object_foreach(object, name, j)
    {
        enter(r, name);
        CCC_TRY(want_string(r, j, &text));
        CCC_TRY(ccc_graph_set_fact(r->g, name, text, r->err));
        leave(r);
    }
    return CCC_OK;
}

static ccc_status groups(reader *r, json_t *array)
{
    const char *pass;
    for (size_t i = 0; i < json_array_size(array); i++) {
        enter_at(r, i);
        CCC_TRY(want_string(r, json_array_get(array, i), &pass));
        if (!ccc_graph_add_group(r->g, pass)) return ccc_nomem(r->err);
        leave(r);
    }
    return CCC_OK;
}

static ccc_status outputs(reader *r, json_t *object)
{
    const char *name;
    json_t *j;
    json_object_foreach(object, name, j)
    {
        ccc_val v;
        enter(r, name);
        CCC_TRY(value(r, j, NULL, 0, &v));
        CCC_TRY(ccc_graph_add_output(r->g, name, v, r->err));
        leave(r);
    }
    return CCC_OK;
}

static ccc_status header(reader *r, json_t *root)
{
    static const char *const known[] = {"ccc_model", "name",    "symbols", "facts",  "groups",
                                        "inputs",    "weights", "nodes",   "outputs"};
    const char *key, *name;
    json_t *j;
    int64_t version = 0;
    if (!json_is_object(root)) return bad(r, "a model must be a JSON object");
    if (!json_object_get(root, "ccc_model")) return bad(r, "not a model: it has no \"ccc_model\": 1");
    enter(r, "ccc_model");
    CCC_TRY(want_int(r, json_object_get(root, "ccc_model"), &version));
    if (version != 1) {
        ccc_status status = bad(r, "version %" PRId64 " is unknown: this program reads version 1", version);
        if (version > 1 && r->err) r->err->code = CCC_E_VERSION;
        return version > 1 ? CCC_E_VERSION : status;
    }
    leave(r);
    json_object_foreach(root, key, j)
    {
        unsigned i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], key) != 0) i++;
        enter(r, key);
        if (i == sizeof known / sizeof *known) return bad(r, "unknown key");
        leave(r);
    }
    if (!(j = json_object_get(root, "name"))) return CCC_OK;
    enter(r, "name");
    CCC_TRY(want_string(r, j, &name));
    leave(r);
    return (r->g->name = ccc_arena_strdup(r->g->mem, name)) ? CCC_OK : ccc_nomem(r->err);
}

static ccc_status read_all(reader *r, json_t *root)
{
    json_t *j;
    CCC_TRY(header(r, root));
    CCC_TRY(section(r, root, "symbols", false, &j));
    CCC_TRY(symbols(r, j));
    leave(r);
    CCC_TRY(section(r, root, "facts", false, &j));
    CCC_TRY(facts(r, j));
    leave(r);
    CCC_TRY(section(r, root, "groups", true, &j));
    CCC_TRY(groups(r, j));
    leave(r);
    if (!CCC_GROW(r->mem, r->from, 0, r->cap_from)) return ccc_nomem(r->err);
    CCC_TRY(section(r, root, "inputs", false, &j));
    CCC_TRY(leaves(r, j, "inputs", CCC_OP_input));
    leave(r);
    CCC_TRY(section(r, root, "weights", false, &j));
    CCC_TRY(leaves(r, j, "weights", CCC_OP_weight));
    leave(r);
    CCC_TRY(section(r, root, "nodes", true, &j));
    for (size_t i = 0; i < json_array_size(j); i++) {
        enter_at(r, i);
        CCC_TRY(node(r, j, i));
        leave(r);
    }
    leave(r);
    CCC_TRY(section(r, root, "outputs", false, &j));
    CCC_TRY(outputs(r, j));
    leave(r);
    ccc_nid where;
    ccc_status status = ccc_verify_at(r->g, &where, r->err);
    if (status == CCC_OK) return CCC_OK;
    if (!where) return ccc_err_place(r->err, status, r->file, r->text, NULL);
    enter(r, r->from[where].section);
    if (r->from[where].key) enter(r, r->from[where].key);
    else enter_at(r, r->from[where].index);
    return place(r, status);
}

static ccc_status parse(reader *r, size_t size_B)
{
    json_error_t e;
    json_t *root = json_loadb(r->text, size_B, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        if (json_error_code(&e) == json_error_out_of_memory || !*e.text)
            return ccc_nomem(r->err); /* jansson is silent at times */
        ccc_fail(r->err, CCC_E_PARSE, "%.200s:%d:%d: %.200s", r->file, e.line < 1 ? 1 : e.line,
                 e.column < 1 ? 1 : e.column, e.text);
        if (r->err) r->err->line = e.line < 1 ? 1 : e.line, r->err->col = e.column < 1 ? 1 : e.column;
        return CCC_E_PARSE;
    }
    ccc_status status = read_all(r, root);
    json_decref(root);
    return status;
}

ccc_status ccc_json_read(ccc_graph **out, const char *text, size_t size_B, const char *file, ccc_err *err)
{
    reader r = {.file = file ? file : "model.json", .err = err, .mem = ccc_arena_new()};
    r.values.mem = r.mem;
    ccc_status status = r.mem ? ccc_graph_new(&r.g, "", err) : ccc_nomem(err);
    if (status == CCC_OK && !(r.text = ccc_arena_strndup(r.mem, text, size_B)))
        status = ccc_nomem(err); /* ends with a 0 byte */
    if (status == CCC_OK) status = parse(&r, size_B);
    ccc_arena_free(r.mem);
    if (status == CCC_OK) *out = r.g;
    else ccc_graph_free(r.g);
    return status;
}
