/* The container of an artifact, opened and closed by hand. See seal.h. */
#include "seal.h"
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include <zstd.h>

enum { HEADER_B = 64, ROW_B = 56, HASH_B = 16, ALIGN_B = 64, MOST_B = 1 << 26 };

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static void digest(uint8_t out[HASH_B], const void *a, size_t a_B, const void *b, size_t b_B)
{
    XXH3_state_t s;
    XXH128_canonical_t c;
    XXH3_INITSTATE(&s);
    XXH3_128bits_reset(&s);
    XXH3_128bits_update(&s, a, a_B);
    if (b_B) XXH3_128bits_update(&s, b, b_B);
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&s));
    memcpy(out, c.digest, HASH_B);
}

static bool unpack(seal_chunk *c, const uint8_t *from, size_t stored_B)
{
    if (c->raw_B > MOST_B || (!c->codec && stored_B != c->raw_B)) return false;
    c->data = malloc(c->raw_B + 1);
    if (!c->data) return false;
    c->size_B = c->raw_B;
    if (c->codec) return ZSTD_decompress(c->data, c->raw_B, from, stored_B) == c->raw_B;
    memcpy(c->data, from, c->raw_B);
    return true;
}

bool seal_open(seal_box *b, const uint8_t *file, size_t size_B)
{
    memset(b, 0, sizeof *b);
    if (size_B < HEADER_B + HASH_B) return false;
    b->major = (uint16_t)get(file + 8, 2);
    b->minor = (uint16_t)get(file + 10, 2);
    uint64_t n = get(file + 16, 4);
    bool ok = n <= SEAL_CHUNKS && n * ROW_B <= size_B - HEADER_B - HASH_B;
    for (uint64_t i = 0; ok && i < n; i++) {
        const uint8_t *row = file + HEADER_B + i * ROW_B;
        uint64_t at = get(row + 16, 8), stored_B = get(row + 24, 8);
        seal_chunk *c = &b->chunk[b->n++];
        *c = (seal_chunk){.kind = (uint32_t)get(row, 4),
                          .index = (uint32_t)get(row + 4, 4),
                          .codec = row[8],
                          .raw_B = get(row + 32, 8)};
        ok = at <= size_B && stored_B <= size_B - at && unpack(c, file + at, stored_B);
        c->codec = 0;
    }
    if (!ok) seal_free(b);
    return ok;
}

void seal_free(seal_box *b)
{
    for (uint32_t i = 0; i < b->n; i++) free(b->chunk[i].data);
    memset(b, 0, sizeof *b);
}

size_t seal_close(const seal_box *b, uint8_t *to, size_t room_B)
{
    size_t at = HEADER_B + b->n * (size_t)ROW_B, end = at + HASH_B;
    for (uint32_t i = 0; i < b->n; i++) end += b->chunk[i].size_B + ALIGN_B;
    if (end > room_B) return 0;
    memset(to, 0, end);
    memcpy(to,
           "\x89"
           "CCART\r\n",
           8);
    put(to + 8, b->major, 2);
    put(to + 10, b->minor, 2);
    put(to + 16, b->n, 4);
    for (uint32_t i = 0; i < b->n; i++) {
        const seal_chunk *c = &b->chunk[i];
        uint8_t *row = to + HEADER_B + i * (size_t)ROW_B;
        at = (at + ALIGN_B - 1) / ALIGN_B * ALIGN_B;
        put(row, c->kind, 4);
        put(row + 4, c->index, 4);
        row[8] = c->codec;
        row[9] = 1;
        put(row + 16, at, 8);
        put(row + 24, c->size_B, 8);
        put(row + 32, c->raw_B, 8);
        memcpy(to + at, c->data, c->size_B);
        at += c->size_B;
    }
    put(to + 24, at + HASH_B, 8);
    seal_again(to, at + HASH_B);
    return at + HASH_B;
}

void seal_again(uint8_t *file, size_t size_B)
{
    if (size_B < HEADER_B + HASH_B) return;
    uint64_t n = get(file + 16, 4);
    if (n > (size_B - HEADER_B - HASH_B) / ROW_B) n = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t *row = file + HEADER_B + i * ROW_B;
        uint64_t at = get(row + 16, 8), stored_B = get(row + 24, 8);
        if (at <= size_B && stored_B <= size_B - at) digest(row + 40, file + at, (size_t)stored_B, NULL, 0);
    }
    digest(file + 32, file, 32, file + HEADER_B, (size_t)n * ROW_B);
    digest(file + size_B - HASH_B, file, size_B - HASH_B, NULL, 0);
}
