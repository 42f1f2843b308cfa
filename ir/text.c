/* Text of small things: names, numbers that read back exactly, quoted strings, and the map from names to
 * numbers. */
#include "internal.h"
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- characters */

bool ccc_is_ident(const char *s)
{
    for (const char *p = s; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
        bool later = (*p >= '0' && *p <= '9') || *p == '.';
        if (!letter && (!later || p == s)) return false;
    }
    return *s != 0;
}

bool ccc_is_number(const char *s)
{
    return s[strspn(s, "0123456789")] == 0;
}

bool ccc_is_printable(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        unsigned more = *p < 0x80                 ? 0
                        : *p >= 0xc2 && *p < 0xe0 ? 1
                        : *p >= 0xe0 && *p < 0xf0 ? 2
                        : *p >= 0xf0 && *p < 0xf5 ? 3
                                                  : 9;
        if (more == 9 || *p < 0x20 || *p == 0x7f) return false;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
            (p[0] == 0xf4 && p[1] > 0x8f))
            return false; /* overlong, a surrogate, or above U+10FFFF */
        p++;
        for (; more; more--, p++)
            if ((*p & 0xc0) != 0x80) return false;
    }
    return true;
}

void ccc_put_quoted(ccc_buf *out, const char *s)
{
    ccc_buf_put(out, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') ccc_buf_put(out, "\\", 1);
        ccc_buf_put(out, s, 1);
    }
    ccc_buf_put(out, "\"", 1);
}

const char *ccc_value_text(const ccc_graph *g, ccc_val v, char buf[CCC_TYPE_TEXT])
{
    if (v < g->n_values && g->value[v].name && *g->value[v].name)
        snprintf(buf, CCC_TYPE_TEXT, "%%%.100s", g->value[v].name);
    else snprintf(buf, CCC_TYPE_TEXT, "%%%u", v);
    return buf;
}

/* ---- numbers. The C locale is set for this thread alone while a number is converted. */

const char *ccc_double_text(double v, char buf[CCC_NUM_TEXT])
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = c ? uselocale(c) : (locale_t)0;
    bool whole = v == rint(v) && fabs(v) < 1e9; /* 500000 rather than 5e+05 */
    if (whole) snprintf(buf, CCC_NUM_TEXT, "%.0f", v);
    for (int digits = 1; !whole && digits <= 17; digits++) {
        snprintf(buf, CCC_NUM_TEXT, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) break;
    }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return buf;
}

bool ccc_double_parse(const char *s, size_t n, double *out)
{
    char buf[400], *end;
    if (n == 0 || n >= sizeof buf) return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789+-.eE", s[i]) || !s[i]) return false;
    memcpy(buf, s, n);
    buf[n] = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = c ? uselocale(c) : (locale_t)0;
    *out = strtod(buf, &end);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return end == buf + n && isfinite(*out);
}

/* ---- map: open addressing, at most half full */

static ccc_map_slot *slot_of(const ccc_map *m, const char *key)
{
    uint32_t i = (uint32_t)XXH3_64bits(key, strlen(key)) & (m->cap - 1);
    while (m->slot[i].number && strcmp(m->slot[i].key, key) != 0) i = (i + 1) & (m->cap - 1);
    return &m->slot[i];
}

uint32_t ccc_map_find(const ccc_map *m, const char *key)
{
    return m->cap ? slot_of(m, key)->number : 0;
}

bool ccc_map_put(ccc_map *m, const char *key, uint32_t number)
{
    if (m->n * 2 >= m->cap) {
        ccc_map bigger = {.mem = m->mem, .n = m->n, .cap = m->cap ? m->cap * 2 : 64};
        if (m->cap > UINT32_MAX / 4) return false;
        bigger.slot = ccc_arena_alloc(m->mem, bigger.cap * sizeof *bigger.slot);
        if (!bigger.slot) return false;
        for (uint32_t i = 0; i < m->cap; i++)
            if (m->slot[i].number) *slot_of(&bigger, m->slot[i].key) = m->slot[i];
        *m = bigger;
    }
    *slot_of(m, key) = (ccc_map_slot){key, number};
    m->n++;
    return true;
}
