/* The lexer of the text form, and the one reader of types, which model.json uses as well. There is no token
 * stream: a caller asks for what it wants next. Positions are found by counting lines when a message is
 * written, and never before. */
#include "internal.h"
#include <limits.h>
#include <string.h>

ccc_status ccc_err_place(ccc_err *err, ccc_status status, const char *file, const char *start, const char *at)
{
    if (!err || !file) return status;
    char msg[sizeof err->msg];
    memcpy(msg, err->msg, sizeof msg);
    if (!at) return ccc_fail(err, status, "%.200s: %.280s", file, msg);
    int line = 1, col = 1;
    for (const char *p = start; p < at; p++) {
        col = *p == '\n' ? 1 : col < INT_MAX ? col + 1 : col;
        if (*p == '\n' && line < INT_MAX) line++;
    }
    ccc_fail(err, status, "%.200s:%d:%d: %.250s", file, line, col, msg);
    err->line = line;
    err->col = col;
    return status;
}

ccc_status ccc_lex_fail(ccc_lex *l, const char *at, const char *fmt, ...)
{
    if (!l->err) return CCC_E_PARSE;
    char msg[sizeof l->err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    ccc_fail(l->err, CCC_E_PARSE, "%s", msg);
    return ccc_err_place(l->err, CCC_E_PARSE, l->file, l->start, at);
}

void ccc_lex_skip(ccc_lex *l)
{
    while (l->p < l->end) {
        if (*l->p == ';') {
            while (l->p < l->end && *l->p != '\n') l->p++;
        } else if (*l->p == ' ' || *l->p == '\t' || *l->p == '\r' || *l->p == '\n') {
            l->p++;
        } else {
            return;
        }
    }
}

bool ccc_lex_take(ccc_lex *l, const char *token)
{
    ccc_lex_skip(l);
    size_t n = strlen(token);
    if ((size_t)(l->end - l->p) < n || memcmp(l->p, token, n) != 0) return false;
    l->p += n;
    return true;
}

ccc_status ccc_lex_want(ccc_lex *l, const char *token)
{
    return ccc_lex_take(l, token) ? CCC_OK : ccc_lex_fail(l, l->p, "expected '%s'", token);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

ccc_status ccc_lex_ident(ccc_lex *l, ccc_arena *mem, const char *what, const char **out)
{
    ccc_lex_skip(l);
    const char *p = l->p;
    if (p < l->end && is_letter(*p))
        while (p < l->end && (is_letter(*p) || is_digit(*p) || *p == '.')) p++;
    if (p == l->p) return ccc_lex_fail(l, l->p, "expected %s", what);
    *out = ccc_arena_strndup(mem, l->p, (size_t)(p - l->p));
    l->p = p;
    return *out ? CCC_OK : ccc_nomem(l->err);
}

ccc_status ccc_lex_string(ccc_lex *l, ccc_arena *mem, const char **out)
{
    CCC_TRY(ccc_lex_want(l, "\""));
    const char *begin = l->p - 1;
    size_t n = 0;
    char *s = NULL;
    for (const char *p = l->p; p < l->end && *p != '"'; p += p[0] == '\\' && p + 1 < l->end ? 2 : 1) n++;
    if (!(s = ccc_arena_alloc(mem, n + 1))) return ccc_nomem(l->err);
    for (size_t i = 0; i < n; i++, l->p++) {
        if (*l->p == '\\' && l->p + 1 < l->end) {
            l->p++;
            if (*l->p != '"' && *l->p != '\\')
                return ccc_lex_fail(l, l->p - 1, "unknown escape: only \\\" and \\\\ are known");
        }
        if ((unsigned char)*l->p < 0x20)
            return ccc_lex_fail(l, l->p, "a control character or the end of the line in a string");
        s[i] = *l->p;
    }
    if (l->p == l->end) return ccc_lex_fail(l, begin, "this string has no end");
    if (!ccc_is_printable(s))
        return ccc_lex_fail(l, begin, "this string is not UTF-8 without control characters");
    l->p++;
    *out = s;
    return CCC_OK;
}

ccc_status ccc_lex_int(ccc_lex *l, int64_t *out)
{
    ccc_lex_skip(l);
    const char *p = l->p;
    bool negative = p < l->end && *p == '-';
    if (negative) p++;
    if (p == l->end || !is_digit(*p)) return ccc_lex_fail(l, l->p, "expected a whole number");
    int64_t v = 0;
    for (; p < l->end && is_digit(*p); p++)
        if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_add_overflow(v, (int64_t)((*p - '0') * (negative ? -1 : 1)), &v))
            return ccc_lex_fail(l, l->p, "this number is too large");
    l->p = p;
    *out = v;
    return CCC_OK;
}

/* ---- types: DTYPE[.LAYOUT] "[" dims "]" */

/* n, SYM, n*SYM, each but the first with +n or -n behind it */
static ccc_status linear(ccc_lex *l, const ccc_graph *g, ccc_arena *mem, ccc_dim *out)
{
    ccc_lex_skip(l);
    const char *at = l->p, *name;
    int64_t a = 1;
    if (l->p < l->end && (is_digit(*l->p) || *l->p == '-')) {
        CCC_TRY(ccc_lex_int(l, &a));
        *out = ccc_dim_const(a);
        if (!ccc_lex_take(l, "*")) return CCC_OK;
    }
    CCC_TRY(ccc_lex_ident(l, mem, "a number or a symbol", &name));
    int sym = ccc_graph_find_sym(g, name);
    if (sym < 0) return ccc_lex_fail(l, at, "unknown symbol '%.60s'", name);
    *out = ccc_dim_sym(sym);
    out->a = a;
    bool minus = ccc_lex_take(l, "-");
    if (!minus && !ccc_lex_take(l, "+")) return CCC_OK;
    at = l->p;
    CCC_TRY(ccc_lex_int(l, &out->b));
    if (out->b < 0) return ccc_lex_fail(l, at, "expected a number without a sign");
    if (minus) out->b = -out->b;
    return CCC_OK;
}

static ccc_status dim(ccc_lex *l, const ccc_graph *g, ccc_arena *mem, ccc_dim *out)
{
    bool ceil = ccc_lex_take(l, "ceildiv("), round = !ceil && ccc_lex_take(l, "roundup(");
    int64_t by = 1;
    CCC_TRY(linear(l, g, mem, out));
    if (!ceil && !round) return CCC_OK;
    CCC_TRY(ccc_lex_want(l, ","));
    const char *at = l->p;
    CCC_TRY(ccc_lex_int(l, &by));
    if (by < 1 || by > 1 << 20) return ccc_lex_fail(l, at, "a divisor must be 1 to 1048576");
    CCC_TRY(ccc_lex_want(l, ")"));
    if (by > 1) {
        out->by = (int32_t)by;
        out->kind = ceil ? CCC_DIM_CEILDIV : CCC_DIM_ROUNDUP;
    }
    if (ccc_dim_is_const(*out, NULL)) *out = ccc_dim_const(ccc_dim_eval(g, *out, NULL));
    return CCC_OK;
}

static ccc_status type_in(ccc_lex *l, const ccc_graph *g, ccc_arena *mem, ccc_type *out)
{
    const char *name;
    ccc_lex_skip(l);
    const char *at = l->p;
    CCC_TRY(ccc_lex_ident(l, mem, "a type, such as f32[T,576]", &name));
    const char *dot = strchr(name, '.'),
               *dtype = dot ? ccc_arena_strndup(mem, name, (size_t)(dot - name)) : name;
    if (!dtype) return ccc_nomem(l->err);
    *out = (ccc_type){.dtype = (uint8_t)ccc_dtype_find(dtype)};
    if (out->dtype == CCC_NONE) return ccc_lex_fail(l, at, "unknown dtype '%.60s'", dtype);
    while (dot && out->layout < CCC_N_LAYOUTS && strcmp(ccc_layout_name(out->layout), dot + 1) != 0)
        out->layout++;
    if (out->layout == CCC_N_LAYOUTS) return ccc_lex_fail(l, at, "unknown layout '%.60s'", dot + 1);
    CCC_TRY(ccc_lex_want(l, "["));
    if (ccc_lex_take(l, "]")) return CCC_OK;
    do {
        if (out->rank == CCC_MAX_RANK) return ccc_lex_fail(l, l->p, "more than %d dims", CCC_MAX_RANK);
        CCC_TRY(dim(l, g, mem, &out->dim[out->rank]));
        out->rank++;
    } while (ccc_lex_take(l, ","));
    return ccc_lex_want(l, "]");
}

ccc_status ccc_lex_type(ccc_lex *l, const ccc_graph *g, ccc_type *out)
{
    ccc_arena *mem = ccc_arena_new();
    ccc_status status = mem ? type_in(l, g, mem, out) : ccc_nomem(l->err);
    ccc_arena_free(mem);
    return status;
}

ccc_status ccc_type_parse(const ccc_graph *g, const char *text, ccc_type *out, ccc_err *err)
{
    ccc_lex l = {.p = text, .start = text, .end = text + strlen(text), .err = err};
    CCC_TRY(ccc_lex_type(&l, g, out));
    ccc_lex_skip(&l);
    return l.p == l.end ? CCC_OK : ccc_lex_fail(&l, l.p, "something follows the type");
}
