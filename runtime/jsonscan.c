/* JSON read with a cursor: the caller says what it expects next and the scanner moves over it or fails with
 * line and column. Nothing is built in memory, so a hostile file costs no more than its own length; depth,
 * key and number lengths are bounded. It is strict JSON (RFC 8259), less one thing: a string that holds a 0
 * character or other control characters is refused, because strings become names in messages. */
#define _GNU_SOURCE
#include "tensors_impl.h"
#include <locale.h>
#include <stdlib.h>
#include <string.h>

ccc_status cccrt_scan_fail(const cccrt_scan *s, ccc_err *err, const char *what)
{
    int line = 1, col = 1;
    for (const char *q = s->begin; q < s->p; q++) {
        col = *q == '\n' ? 1 : col + 1;
        line += *q == '\n';
    }
    ccc_fail(err, CCC_E_PARSE, "%.200s:%d:%d: %s", s->file, line, col, what);
    if (err) {
        err->line = line;
        err->col = col;
    }
    return CCC_E_PARSE;
}

static void skip_space(cccrt_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
}

cccrt_json_kind cccrt_scan_peek(cccrt_scan *s)
{
    skip_space(s);
    if (s->p == s->end) return CCCRT_JSON_BAD;
    switch (*s->p) {
    case '{':
        return CCCRT_JSON_OBJECT;
    case '[':
        return CCCRT_JSON_ARRAY;
    case '"':
        return CCCRT_JSON_STRING;
    case 't':
    case 'f':
        return CCCRT_JSON_BOOL;
    case 'n':
        return CCCRT_JSON_NULL;
    default:
        return *s->p == '-' || (*s->p >= '0' && *s->p <= '9') ? CCCRT_JSON_NUMBER : CCCRT_JSON_BAD;
    }
}

ccc_status cccrt_scan_open(cccrt_scan *s, char bracket, ccc_err *err)
{
    skip_space(s);
    if (s->p == s->end || *s->p != bracket)
        return cccrt_scan_fail(s, err, bracket == '{' ? "expected an object" : "expected an array");
    if (++s->depth > CCCRT_JSON_MAX_DEPTH) return cccrt_scan_fail(s, err, "nested too deeply");
    s->p++;
    return CCC_OK;
}

/* Moves over the comma or the closing bracket before the next item. */
static ccc_status next_item(cccrt_scan *s, char close, bool *first, bool *more, ccc_err *err)
{
    skip_space(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        s->depth--;
        *more = false;
        return CCC_OK;
    }
    if (!*first) {
        if (s->p == s->end || *s->p != ',')
            return cccrt_scan_fail(s, err, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
        s->p++;
    }
    *first = false;
    *more = true;
    return CCC_OK;
}

ccc_status cccrt_scan_member(cccrt_scan *s, bool *first, char *key, size_t key_cap, bool *more, ccc_err *err)
{
    CCC_TRY(next_item(s, '}', first, more, err));
    if (!*more) return CCC_OK;
    CCC_TRY(cccrt_scan_string(s, key, key_cap, err));
    skip_space(s);
    if (s->p == s->end || *s->p != ':') return cccrt_scan_fail(s, err, "expected ':'");
    s->p++;
    return CCC_OK;
}

ccc_status cccrt_scan_element(cccrt_scan *s, bool *first, bool *more, ccc_err *err)
{
    return next_item(s, ']', first, more, err);
}

static ccc_status hex4(cccrt_scan *s, unsigned *out, ccc_err *err)
{
    unsigned v = 0;
    if (s->end - s->p < 4) return cccrt_scan_fail(s, err, "string is not closed");
    for (int i = 0; i < 4; i++, s->p++) {
        char c = *s->p;
        if (c >= '0' && c <= '9') v = v * 16 + (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f') v = v * 16 + (unsigned)((c | 32) - 'a' + 10);
        else return cccrt_scan_fail(s, err, "expected four hexadecimal digits");
    }
    *out = v;
    return CCC_OK;
}

/* The character of an escape whose backslash has been read, as UTF-8 in out[*n]. */
static ccc_status escape(cccrt_scan *s, char out[4], size_t *n, ccc_err *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->p == s->end) return cccrt_scan_fail(s, err, "string is not closed");
    const char *at = memchr(from, *s->p, sizeof from - 1);
    *n = 1;
    if (at) {
        out[0] = to[at - from];
        s->p++;
        return CCC_OK;
    }
    if (*s->p != 'u') return cccrt_scan_fail(s, err, "unknown escape in a string");
    s->p++;
    unsigned c = 0, low = 0;
    CCC_TRY(hex4(s, &c, err));
    if (c >= 0xdc00 && c < 0xe000) return cccrt_scan_fail(s, err, "half of a surrogate pair");
    if (c >= 0xd800 && c < 0xdc00) {
        if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
            return cccrt_scan_fail(s, err, "half of a surrogate pair");
        s->p += 2;
        CCC_TRY(hex4(s, &low, err));
        if (low < 0xdc00 || low >= 0xe000) return cccrt_scan_fail(s, err, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *n = 0;
    if (c < 0x80) {
        out[(*n)++] = (char)c;
    } else if (c < 0x800) {
        out[(*n)++] = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) out[(*n)++] = (char)(0xe0 | c >> 12);
        else out[(*n)++] = (char)(0xf0 | c >> 18), out[(*n)++] = (char)(0x80 | (c >> 12 & 63));
        out[(*n)++] = (char)(0x80 | (c >> 6 & 63));
    }
    if (c >= 0x80) out[(*n)++] = (char)(0x80 | (c & 63));
    return CCC_OK;
}

/* Reads a string. With out == NULL it is only checked, of any length and with any escapes. */
static ccc_status read_string(cccrt_scan *s, char *out, size_t cap, ccc_err *err)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"') return cccrt_scan_fail(s, err, "expected a string");
    s->p++;
    size_t len = 0;
    for (;;) {
        char c[4];
        size_t n = 1;
        if (s->p == s->end) return cccrt_scan_fail(s, err, "string is not closed");
        if (*s->p == '"') break;
        if ((unsigned char)*s->p < 0x20) return cccrt_scan_fail(s, err, "control character in a string");
        c[0] = *s->p++;
        if (c[0] == '\\') CCC_TRY(escape(s, c, &n, err));
        if (!out) continue;
        if (n == 1 && ((unsigned char)c[0] < 0x20 || c[0] == 0x7f))
            return cccrt_scan_fail(s, err, "control character in a string");
        if (len + n >= cap) return cccrt_scan_fail(s, err, "string is too long");
        memcpy(out + len, c, n);
        len += n;
    }
    s->p++;
    if (out) out[len] = 0;
    return CCC_OK;
}

ccc_status cccrt_scan_string(cccrt_scan *s, char *out, size_t cap, ccc_err *err)
{
    return read_string(s, out, cap, err);
}

static bool digits(cccrt_scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    return s->p > from;
}

/* Moves over a number and checks its grammar; *integer: it has neither fraction nor exponent nor sign. */
static ccc_status number(cccrt_scan *s, const char **from, bool *integer, ccc_err *err)
{
    skip_space(s);
    *from = s->p;
    *integer = true;
    if (s->p < s->end && *s->p == '-') s->p++, *integer = false;
    const char *lead = s->p;
    if (!digits(s)) return cccrt_scan_fail(s, err, "expected a number");
    if (*lead == '0' && s->p - lead > 1) return cccrt_scan_fail(s, err, "number begins with 0");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        *integer = false;
        if (!digits(s)) return cccrt_scan_fail(s, err, "expected a digit");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        *integer = false;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        if (!digits(s)) return cccrt_scan_fail(s, err, "expected a digit");
    }
    return CCC_OK;
}

ccc_status cccrt_scan_u64(cccrt_scan *s, uint64_t *out, ccc_err *err)
{
    const char *from;
    bool integer;
    CCC_TRY(number(s, &from, &integer, err));
    if (!integer) return cccrt_scan_fail(s, err, "expected a whole number that is not negative");
    uint64_t v = 0;
    for (; from < s->p; from++)
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*from - '0'), &v))
            return cccrt_scan_fail(s, err, "number is too large");
    *out = v;
    return CCC_OK;
}

ccc_status cccrt_scan_f64(cccrt_scan *s, double *out, ccc_err *err)
{
    const char *from;
    bool integer;
    char text[64];
    CCC_TRY(number(s, &from, &integer, err));
    size_t n = (size_t)(s->p - from);
    if (n >= sizeof text) return cccrt_scan_fail(s, err, "number is too long");
    memcpy(text, from, n);
    text[n] = 0;
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *out = strtod_l(text, NULL, c);
    freelocale(c);
    if (!(*out >= -1e300 && *out <= 1e300)) return cccrt_scan_fail(s, err, "number is too large");
    return CCC_OK;
}

static bool literal(cccrt_scan *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) return false;
    s->p += n;
    return true;
}

ccc_status cccrt_scan_bool(cccrt_scan *s, bool *out, ccc_err *err)
{
    skip_space(s);
    *out = literal(s, "true");
    if (!*out && !literal(s, "false")) return cccrt_scan_fail(s, err, "expected true or false");
    return CCC_OK;
}

static ccc_status skip_items(cccrt_scan *s, bool object, ccc_err *err)
{
    bool first = true, more;
    CCC_TRY(cccrt_scan_open(s, object ? '{' : '[', err));
    for (;;) {
        CCC_TRY(next_item(s, object ? '}' : ']', &first, &more, err));
        if (!more) return CCC_OK;
        if (object) {
            CCC_TRY(read_string(s, NULL, 0, err));
            skip_space(s);
            if (s->p == s->end || *s->p != ':') return cccrt_scan_fail(s, err, "expected ':'");
            s->p++;
        }
        CCC_TRY(cccrt_scan_skip(s, err)); /* as deep as CCCRT_JSON_MAX_DEPTH */
    }
}

ccc_status cccrt_scan_skip(cccrt_scan *s, ccc_err *err)
{
    const char *from;
    bool flag;
    switch (cccrt_scan_peek(s)) {
    case CCCRT_JSON_OBJECT:
        return skip_items(s, true, err);
    case CCCRT_JSON_ARRAY:
        return skip_items(s, false, err);
    case CCCRT_JSON_STRING:
        return read_string(s, NULL, 0, err);
    case CCCRT_JSON_NUMBER:
        return number(s, &from, &flag, err);
    case CCCRT_JSON_BOOL:
        return cccrt_scan_bool(s, &flag, err);
    case CCCRT_JSON_NULL:
        return literal(s, "null") ? CCC_OK : cccrt_scan_fail(s, err, "expected a value");
    default:
        return cccrt_scan_fail(s, err, "expected a value");
    }
}

ccc_status cccrt_scan_end(cccrt_scan *s, ccc_err *err)
{
    skip_space(s);
    return s->p == s->end ? CCC_OK : cccrt_scan_fail(s, err, "more text after the end");
}
