/* Changes of a good artifact, drawn at random: a number becomes one that hurts, two numbers change places, a
 * chunk loses or gains bytes, chunks are dropped, doubled or exchanged, the table lies about sizes, packed
 * bytes are damaged. Hashes are made right afterwards. */
#include "seal.h"
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_B = 64,
    ROW_B = 56,
    HEAD_FIELDS = 512 /* limits, targets, inputs and outputs: few, and much depends on them */
};

uint64_t seal_next(seal_random *r) /* splitmix64 */
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t below(seal_random *r, uint64_t n)
{
    return n ? seal_next(r) % n : 0;
}

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t bad_number(seal_random *r, uint64_t v, unsigned size_B)
{
    uint64_t most = size_B == 8 ? UINT64_MAX : (1ull << 8 * size_B) - 1;
    switch (below(r, 12)) {
    case 0:
        return 0;
    case 1:
        return most; /* -1, "none" */
    case 2:
        return most >> 1;
    case 3:
        return (most >> 1) + 1;
    case 4:
        return v + 1;
    case 5:
        return v - 1;
    case 6:
        return v * 2;
    case 7:
        return v * 256 + 1;
    case 8:
        return 1ull << below(r, 8 * size_B);
    case 9:
        return v ^ 1ull << below(r, 8 * size_B);
    case 10:
        return below(r, 64);
    default:
        return seal_next(r);
    }
}

static void change_number(const seal_base *b, seal_random *r, uint8_t *to)
{
    uint32_t n = b->fields.n > HEAD_FIELDS && !below(r, 3) ? HEAD_FIELDS : b->fields.n;
    const seal_field *f = &b->fields.field[below(r, n)], *from = &b->fields.field[below(r, b->fields.n)];
    if (!below(r, 4)) /* counts and sizes are few but matter most */
        for (unsigned tries = 0; tries < 64 && !f->count; tries++)
            f = &b->fields.field[below(r, b->fields.n)];
    for (unsigned tries = 0; tries < 64 && from->size_B != f->size_B; tries++)
        from = &b->fields.field[below(r, b->fields.n)];
    uint64_t v = get(to + f->at_B, f->size_B), other = get(to + from->at_B, from->size_B);
    switch (below(r, 4)) {
    case 0: /* exchanged */
        if (from->size_B != f->size_B) break;
        put(to + f->at_B, other, f->size_B);
        put(to + from->at_B, v, f->size_B);
        break;
    case 1:
        put(to + f->at_B, other, f->size_B);
        break;
    default:
        put(to + f->at_B, bad_number(r, v, f->size_B), f->size_B);
    }
}

static void change_bytes(seal_random *r, uint8_t *p, size_t n, unsigned most)
{
    for (uint64_t k = 1 + below(r, most); k && n; k--) p[below(r, n)] = (uint8_t)seal_next(r);
}

/* Bytes of a chunk go, come, or come twice. */
static void change_length(seal_random *r, seal_chunk *c)
{
    size_t at = below(r, c->size_B + 1), n = 1 + below(r, 1 + below(r, 256));
    if (below(r, 2)) {
        if (n > c->size_B - at) n = c->size_B - at;
        memmove(c->data + at, c->data + at + n, c->size_B - at - n);
        c->size_B -= n;
    } else {
        uint8_t *more = malloc(c->size_B + n + 1);
        if (!more) abort();
        memcpy(more, c->data, at);
        for (size_t i = 0; i < n; i++) more[at + i] = i < at ? c->data[at - i - 1] : 0;
        memcpy(more + at + n, c->data + at, c->size_B - at);
        free(c->data);
        c->data = more;
        c->size_B += n;
    }
    c->raw_B = c->size_B;
}

static void change_chunks(seal_random *r, seal_box *b)
{
    uint32_t i = (uint32_t)below(r, b->n), k = (uint32_t)below(r, b->n);
    seal_chunk *c = &b->chunk[i], *other = &b->chunk[k], old = *c;
    switch (below(r, 8)) {
    case 0:
        free(c->data);
        memmove(c, c + 1, (--b->n - i) * sizeof *c);
        break;
    case 1:
        c->kind = other->kind, c->index = other->index;
        break;
    case 2: /* content exchanged */
        c->data = other->data, c->size_B = c->raw_B = other->size_B;
        other->data = old.data, other->size_B = other->raw_B = old.size_B;
        break;
    case 3:
        c->kind = (uint32_t)bad_number(r, c->kind, 4);
        break;
    case 4:
        c->index = (uint32_t)bad_number(r, c->index, 4);
        break;
    case 5:
        c->raw_B = bad_number(r, c->raw_B, 8);
        break;
    case 6:
        c->codec = (uint8_t)(1 + below(r, 3));
        break;
    default:
        *c = *other, *other = old; /* another order */
    }
}

static size_t rebuilt(const seal_base *b, seal_random *r, uint8_t *to, size_t room_B)
{
    seal_box box;
    if (!seal_open(&box, b->plain, b->plain_B)) return 0;
    if (below(r, 2)) change_length(r, &box.chunk[below(r, box.n)]);
    else change_chunks(r, &box);
    size_t n = seal_close(&box, to, room_B);
    seal_free(&box);
    return n;
}

size_t seal_change(const seal_base *b, seal_random *r, uint8_t *to, size_t room_B)
{
    uint64_t what = below(r, 100);
    if (b->plain_B > room_B || b->packed_B > room_B) return 0;
    if (what < 10) return rebuilt(b, r, to, room_B);
    bool packed = what < 18;
    size_t n = packed ? b->packed_B : b->plain_B;
    memcpy(to, packed ? b->packed : b->plain, n);
    if (packed) change_bytes(r, to + HEADER_B, n - HEADER_B, 3);
    else if (what < 22) change_bytes(r, to + 8, HEADER_B + 4 * ROW_B, 2); /* header and table */
    else if (what < 30) change_bytes(r, to + HEADER_B, n - HEADER_B, 4);
    else
        for (uint64_t k = 1 + below(r, 3); k; k--) change_number(b, r, to);
    if (below(r, 64)) seal_again(to, n);
    return n;
}
