/* The two-way stream under the artifact's format, and the memory that decoded structs lie in. */
#include "ccart_stream.h"
#include <stdlib.h>
#include <string.h>

/* ---- memory: blocks in a list */
enum { BLOCK_B = 64 << 10, HEAD_B = 16 };
typedef struct block {
    struct block *next;
} block;
_Static_assert(sizeof(block) <= HEAD_B, "the head of a block keeps its content aligned");
struct ccart_memory {
    block *first;
    uint8_t *free;
    size_t left_B;
};

ccart_memory *ccart_memory_new(void)
{
    return calloc(1, sizeof(ccart_memory));
}

void ccart_memory_free(ccart_memory *m)
{
    if (!m) return;
    for (block *b = m->first, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(m);
}

void *ccart_memory_get(ccart_memory *m, size_t size_B)
{
    if (size_B > SIZE_MAX / 2) return NULL;
    size_B = (size_B + 15) & ~(size_t)15;
    if (size_B > m->left_B) {
        size_t want_B = size_B > BLOCK_B / 4 ? size_B : BLOCK_B;
        block *b = calloc(1, HEAD_B + want_B);
        if (!b) return NULL;
        b->next = m->first;
        m->first = b;
        if (want_B == size_B) return (uint8_t *)b + HEAD_B;
        m->free = (uint8_t *)b + HEAD_B;
        m->left_B = want_B;
    }
    void *p = m->free;
    m->free += size_B;
    m->left_B -= size_B;
    return p;
}

/* ---- bytes */
void ccart_wrong(ccart_stream *s, const char *what)
{
    if (!s->wrong) s->wrong = what;
}

static void out_of_memory(ccart_stream *s)
{
    s->no_memory = true;
    ccart_wrong(s, "out of memory");
}

static void put(ccart_stream *s, const void *v, size_t n)
{
    if (s->wrong || !n) return;
    if (n > s->cap_B - s->size_B) {
        size_t cap_B = s->cap_B ? s->cap_B : 4096;
        while (cap_B - s->size_B < n && cap_B < SIZE_MAX / 4) cap_B *= 2;
        uint8_t *p = cap_B - s->size_B < n ? NULL : realloc(s->out, cap_B);
        if (!p) {
            out_of_memory(s);
            return;
        }
        s->out = p;
        s->cap_B = cap_B;
    }
    memcpy(s->out + s->size_B, v, n);
    s->size_B += n;
}

/* The next n bytes, or NULL with the failure noted. */
static inline const uint8_t *take(ccart_stream *s, uint64_t n)
{
    if (s->wrong) return NULL;
    if (n > s->size_B - s->pos) {
        ccart_wrong(s, "it ends too early");
        return NULL;
    }
    const uint8_t *p = s->in + s->pos;
    s->pos += (size_t)n;
    return p;
}

/* Inlined for each width, so that reading a number is a check and a load. */
static inline __attribute__((always_inline)) uint64_t number(ccart_stream *s, uint64_t v, unsigned size_B)
{
    uint8_t b[8];
    if (s->writing) {
        for (unsigned i = 0; i < size_B; i++) b[i] = (uint8_t)(v >> 8 * i);
        put(s, b, size_B);
        return v;
    }
    const uint8_t *p = take(s, size_B);
    uint64_t r = 0;
    if (!p) return 0;
    memcpy(&r, p, size_B); /* this machine is little endian too: ccart.h */
    return r;
}

void ccart_u8(ccart_stream *s, uint8_t *v)
{
    *v = (uint8_t)number(s, *v, 1);
}
void ccart_u16(ccart_stream *s, uint16_t *v)
{
    *v = (uint16_t)number(s, *v, 2);
}
void ccart_u32(ccart_stream *s, uint32_t *v)
{
    *v = (uint32_t)number(s, *v, 4);
}
void ccart_u64(ccart_stream *s, uint64_t *v)
{
    *v = number(s, *v, 8);
}
void ccart_i32(ccart_stream *s, int32_t *v)
{
    *v = (int32_t)(uint32_t)number(s, (uint32_t)*v, 4);
}
void ccart_i64(ccart_stream *s, int64_t *v)
{
    *v = (int64_t)number(s, (uint64_t)*v, 8);
}

void ccart_raw(ccart_stream *s, uint8_t *v, uint32_t n)
{
    if (s->writing) {
        put(s, v, n);
        return;
    }
    const uint8_t *p = take(s, n);
    if (p) memcpy(v, p, n);
    else memset(v, 0, n);
}

static void zero_byte(ccart_stream *s)
{
    uint8_t zero = 0;
    ccart_u8(s, &zero);
    if (zero) ccart_wrong(s, "a 0 byte is missing");
}

void ccart_str(ccart_stream *s, const char **v)
{
    static const char nothing[] = "";
    if (s->writing && !*v) {
        ccart_wrong(s, "a string is missing");
        return;
    }
    uint64_t n = number(s, s->writing ? strlen(*v) : 0, 4);
    if (s->writing) {
        if (n > UINT32_MAX) ccart_wrong(s, "a string is too long");
        put(s, *v, (size_t)n);
        zero_byte(s);
        return;
    }
    const uint8_t *p = take(s, n);
    zero_byte(s);
    if (p && memchr(p, 0, (size_t)n)) ccart_wrong(s, "a string has a 0 byte inside");
    *v = p && !s->wrong ? (const char *)p : nothing;
}

void ccart_blob(ccart_stream *s, const uint8_t **v, uint64_t *n)
{
    *n = number(s, *n, 8);
    size_t place = s->writing ? s->size_B : s->pos;
    for (size_t i = place; i % 16; i++) zero_byte(s);
    if (s->writing) {
        if (*n > SIZE_MAX / 4) ccart_wrong(s, "data is too large");
        put(s, *v, (size_t)*n);
    } else {
        *v = take(s, *n);
        if (!*v) *n = 0;
    }
    zero_byte(s);
}

void ccart_text(ccart_stream *s, const uint8_t **v, uint64_t n)
{
    if (!s->writing) *v = take(s, n);
    else if (*v) put(s, *v, (size_t)n);
    else ccart_wrong(s, "a text is missing");
    zero_byte(s);
}

void ccart_code(ccart_stream *s, const uint8_t **v, uint32_t *n)
{
    if (s->writing && *n > UINT16_MAX) ccart_wrong(s, "an expression is too long");
    *n = (uint32_t)number(s, *n, 2);
    if (s->writing) {
        put(s, *v, *n);
        return;
    }
    *v = take(s, *n);
    if (!*v) *n = 0;
}

static uint32_t count(ccart_stream *s, uint32_t n, uint32_t max)
{
    n = (uint32_t)number(s, n, 4);
    if (n > max) ccart_wrong(s, "a count is beyond the format's limit");
    return n;
}

void ccart_array(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max, size_t min_B)
{
    *n = count(s, *n, max);
    if (s->writing) return;
    if (!s->wrong && *n > (s->size_B - s->pos) / min_B)
        ccart_wrong(s, "a count is larger than the data behind it");
    *v = NULL;
    if (s->wrong || !*n) {
        *n = 0;
        return;
    }
    *v = ccart_memory_get(s->memory, *n * elem_B);
    if (!*v) {
        *n = 0;
        out_of_memory(s);
    }
}

void ccart_records(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max)
{
    *n = count(s, *n, max);
    if (s->writing) {
        put(s, *v, *n * elem_B);
        return;
    }
    *v = (void *)(uintptr_t)take(s, *n * (uint64_t)elem_B);
    if (!*v) *n = 0;
}
