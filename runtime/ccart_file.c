/* The container of an artifact: header, table of contents, chunks, closing hash. Chunks lie one after the
 * other at multiples of 64 bytes in the order of the table, with zeros between, so that for given content
 * there is exactly one valid file and nothing can overlap. The byte tables are in README.md. */
#define _GNU_SOURCE /* madvise */
#include "ccart_codec.h"
#include "ccart_format.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#define XXH_STATIC_LINKING_ONLY /* for a hash state on the stack */
#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

typedef struct {
    uint32_t kind, index;
    uint8_t codec, hash;
    uint64_t offset, stored_B, raw_B;
    uint8_t digest[CCART_HASH_B];
} row;
enum { HASHED_HEADER_B = 32 }; /* the bytes of the header that the table's hash covers too */

static void digest(uint8_t out[CCART_HASH_B], const void *data, size_t n)
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(data, n));
    memcpy(out, c.digest, CCART_HASH_B);
}

static void toc_digest(uint8_t out[CCART_HASH_B], const uint8_t *header, size_t n_rows)
{
    XXH3_state_t state;
    XXH128_canonical_t c;
    XXH3_INITSTATE(&state);
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, header, HASHED_HEADER_B);
    XXH3_128bits_update(&state, header + CCART_HEADER_B, n_rows * CCART_ROW_B);
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&state));
    memcpy(out, c.digest, CCART_HASH_B);
}

static uint64_t align_up(uint64_t n)
{
    return (n + CCART_ALIGN_B - 1) & ~(uint64_t)(CCART_ALIGN_B - 1);
}

/* ---- the two fixed parts, listed once for both directions */
static void header_io(ccart_stream *s, uint16_t *major, uint16_t *minor, uint32_t *flags, uint32_t *n,
                      uint32_t *zero, uint64_t *file_B)
{
    ccart_u16(s, major);
    ccart_u16(s, minor);
    ccart_u32(s, flags);
    ccart_u32(s, n);
    ccart_u32(s, zero);
    ccart_u64(s, file_B);
}

static void row_io(ccart_stream *s, row *r, uint8_t reserved[6])
{
    ccart_u32(s, &r->kind);
    ccart_u32(s, &r->index);
    ccart_u8(s, &r->codec);
    ccart_u8(s, &r->hash);
    ccart_raw(s, reserved, 6);
    ccart_u64(s, &r->offset);
    ccart_u64(s, &r->stored_B);
    ccart_u64(s, &r->raw_B);
    ccart_raw(s, r->digest, CCART_HASH_B);
}

/* ---- writing */
typedef struct {
    row row[CCART_MAX_CHUNKS];
    uint8_t *data[CCART_MAX_CHUNKS];
    uint32_t n;
    ZSTD_CCtx *zstd;
} writer;

static ccc_status compress(writer *w, row *r, const ccart_stream *s, ccc_err *err)
{
    size_t bound_B = ZSTD_compressBound(s->size_B);
    uint8_t *to = malloc(bound_B ? bound_B : 1);
    if (!to) return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is written");
    size_t n = ZSTD_compressCCtx(w->zstd, to, bound_B, s->out, s->size_B, CCART_ZSTD_LEVEL);
    if (ZSTD_isError(n)) {
        free(to);
        return ccc_fail(err, CCC_E_NOMEM, "cannot compress a chunk: %s", ZSTD_getErrorName(n));
    }
    r->codec = CCART_CODEC_ZSTD;
    if (n >= s->size_B) {
        memcpy(to, s->out, n = s->size_B);
        r->codec = CCART_CODEC_RAW;
    }
    r->stored_B = n;
    w->data[w->n++] = to;
    digest(r->digest, to, n);
    return CCC_OK;
}

static ccc_status add_chunk(writer *w, uint32_t kind, uint32_t index, ccart_stream *s, ccc_err *err)
{
    ccc_status status = CCC_OK;
    row *r = &w->row[w->n];
    *r = (row){.kind = kind, .index = index, .hash = CCART_HASH_XXH3_128, .raw_B = s->size_B};
    if (s->wrong)
        status =
            ccc_fail(err, s->no_memory ? CCC_E_NOMEM : CCC_E_ARG, "cannot write an artifact: %s", s->wrong);
    else if (s->size_B > CCART_MAX_RAW_B)
        status =
            ccc_fail(err, CCC_E_UNSUPPORTED, "a chunk of the artifact has %zu bytes, at most %d are allowed",
                     s->size_B, CCART_MAX_RAW_B);
    else status = compress(w, r, s, err);
    free(s->out);
    return status;
}

#define ADD(kind, index, fill)                                                                               \
    do {                                                                                                     \
        ccart_stream s = {.writing = true};                                                                  \
        fill;                                                                                                \
        CCC_TRY(add_chunk(w, (kind), (index), &s, err));                                                     \
    } while (0)

static bool states_traffic(const ccart_target *t)
{
    for (uint32_t i = 0; i < t->n_programs; i++)
        if (t->program[i].n_traffic) return true;
    return false;
}

static bool has_ptx(const ccart_target *t)
{
    for (uint32_t i = 0; i < t->n_modules; i++)
        if (t->module[i].kind == CCART_MODULE_PTX) return true;
    return false;
}

static ccc_status add_all(writer *w, ccart_file *f, ccc_err *err)
{
    if (f->n_targets > (CCART_MAX_CHUNKS - 4) / 5)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "too many targets for one artifact: %u", f->n_targets);
    ADD(CCART_REQUIRED | CCART_CHUNK_META, 0, ccart_chunk_meta(&s, f));
    ADD(CCART_REQUIRED | CCART_CHUNK_FACTS, 0, ccart_chunk_facts(&s, f));
    for (uint32_t t = 0; t < f->n_targets; t++) {
        ADD(CCART_REQUIRED | CCART_CHUNK_KERNELS, t, ccart_chunk_kernels(&s, &f->target[t]));
        if (has_ptx(&f->target[t]))
            ADD(CCART_REQUIRED | CCART_CHUNK_PTX, t, ccart_chunk_ptx(&s, &f->target[t]));
        ADD(CCART_REQUIRED | CCART_CHUNK_PROGRAMS, t, ccart_chunk_programs(&s, &f->target[t]));
        ADD(CCART_REQUIRED | CCART_CHUNK_WEIGHTS, t, ccart_chunk_weights(&s, &f->target[t]));
        if (states_traffic(&f->target[t]))
            ADD(CCART_CHUNK_TRAFFIC, t, ccart_chunk_traffic(&s, &f->target[t]));
    }
    if (f->graph_text && *f->graph_text) ADD(CCART_CHUNK_GRAPH, 0, ccart_chunk_graph(&s, f));
    if (f->report && *f->report) ADD(CCART_CHUNK_REPORT, 0, ccart_chunk_report(&s, f));
    return CCC_OK;
}

static ccc_status assemble(writer *w, uint8_t **out, size_t *size_B, ccc_err *err)
{
    uint64_t end_B = CCART_HEADER_B + (uint64_t)w->n * CCART_ROW_B;
    for (uint32_t i = 0; i < w->n; i++) {
        w->row[i].offset = align_up(end_B);
        end_B = w->row[i].offset + w->row[i].stored_B;
    }
    uint64_t file_B = end_B + CCART_HASH_B;
    uint8_t *to = calloc(1, (size_t)file_B);
    if (!to) return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is written");
    uint16_t major = CCART_MAJOR, minor = CCART_MINOR;
    uint32_t flags = 0, zero = 0;
    uint8_t reserved[6] = {0};
    ccart_stream s = {.writing = true};
    header_io(&s, &major, &minor, &flags, &w->n, &zero, &file_B);
    size_t header_B = s.size_B;
    for (uint32_t i = 0; i < w->n; i++) row_io(&s, &w->row[i], reserved);
    if (s.wrong) {
        free(s.out);
        free(to);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is written");
    }
    memcpy(to, CCART_MAGIC, 8);
    memcpy(to + 8, s.out, header_B);
    memcpy(to + CCART_HEADER_B, s.out + header_B, s.size_B - header_B);
    free(s.out);
    toc_digest(to + HASHED_HEADER_B, to, w->n);
    for (uint32_t i = 0; i < w->n; i++) memcpy(to + w->row[i].offset, w->data[i], (size_t)w->row[i].stored_B);
    digest(to + end_B, to, (size_t)end_B);
    *out = to;
    *size_B = (size_t)file_B;
    return CCC_OK;
}

ccc_status ccart_encode(uint8_t **out, size_t *size_B, const ccart_file *f, ccc_err *err)
{
    writer *w = calloc(1, sizeof *w);
    ccart_file copy = *f; /* the lists of fields serve both directions, so they take pointers to non-const;
                             writing changes nothing */
    ccc_status status = CCC_E_NOMEM;
    if (w) w->zstd = ZSTD_createCCtx();
    if (!w || !w->zstd) ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is written");
    else status = add_all(w, &copy, err);
    if (status == CCC_OK) status = assemble(w, out, size_B, err);
    for (uint32_t i = 0; w && i < w->n; i++) free(w->data[i]);
    if (w) ZSTD_freeCCtx(w->zstd);
    free(w);
    return status;
}

/* ---- reading */
typedef struct {
    ccart_file file;
    ccart_memory *memory;
    void *room; /* for all that is unpacked */
} decoded;
typedef struct {
    const uint8_t *data;
    size_t size_B;
    uint32_t n;
    row row[CCART_MAX_CHUNKS];
    decoded *to;
    unsigned flags;
    ZSTD_DCtx *zstd;   /* made with the first packed chunk */
    uint8_t *unpacked; /* where the next one goes */
} reader;
enum { UNPACKED_ALIGN_B = 16, HUGE_B = 2 << 20 };

static bool all_zero(const uint8_t *p, size_t n)
{
    while (n && !*p) p++, n--;
    return !n;
}

static bool known_chunk(uint32_t kind)
{
    uint32_t id = kind & ~CCART_REQUIRED;
    bool required = id <= CCART_CHUNK_FACTS || id == CCART_CHUNK_PTX;
    return id >= CCART_CHUNK_META && id <= CCART_CHUNK_PTX && required == !!(kind & CCART_REQUIRED);
}

static ccc_status read_header(reader *r, ccc_err *err)
{
    if (r->size_B < 8 || memcmp(r->data, CCART_MAGIC, 8) != 0)
        return ccc_fail(err, CCC_E_CORRUPT, "not an artifact: it does not begin with the mark of one");
    if (r->size_B < CCART_HEADER_B + CCART_HASH_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is cut off: %zu bytes", r->size_B);
    ccart_stream s = {.in = r->data + 8, .size_B = CCART_HEADER_B - 8};
    uint32_t flags, zero;
    uint64_t file_B;
    ccart_file *f = &r->to->file;
    header_io(&s, &f->major, &f->minor, &flags, &r->n, &zero, &file_B);
    if (f->major != CCART_MAJOR)
        return ccc_fail(err, CCC_E_VERSION,
                        "artifact has format %u.%u, this library reads %d.x: compile it again", f->major,
                        f->minor, CCART_MAJOR);
    if (flags || zero ||
        !all_zero(r->data + HASHED_HEADER_B + CCART_HASH_B, CCART_HEADER_B - HASHED_HEADER_B - CCART_HASH_B))
        return ccc_fail(err, CCC_E_VERSION,
                        "artifact (format %u.%u) uses a header field that this library (%d.%d) does not know",
                        f->major, f->minor, CCART_MAJOR, CCART_MINOR);
    if (file_B != r->size_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: it has %zu bytes and says %llu", r->size_B,
                        (unsigned long long)file_B);
    if (r->n > CCART_MAX_CHUNKS || r->n * (uint64_t)CCART_ROW_B > r->size_B - CCART_HEADER_B - CCART_HASH_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: %u chunks do not fit", r->n);
    uint8_t sum[CCART_HASH_B];
    toc_digest(sum, r->data, r->n);
    if (memcmp(sum, r->data + HASHED_HEADER_B, sizeof sum) != 0)
        return ccc_fail(err, CCC_E_CORRUPT,
                        "artifact is damaged: the table of contents does not match its hash");
    return CCC_OK;
}

/* Chunks must lie exactly where the writer puts them: this leaves no room for overlaps or hidden bytes. */
static ccc_status check_place(reader *r, const row *c, uint64_t *end_B, ccc_err *err)
{
    uint64_t limit_B = r->size_B - CCART_HASH_B, at = align_up(*end_B);
    if (c->offset != at || at > limit_B || c->stored_B > limit_B - at)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u is out of place", c->kind,
                        c->index);
    if (!all_zero(r->data + *end_B, (size_t)(at - *end_B)))
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: bytes between its chunks are not 0");
    *end_B = at + c->stored_B;
    uint8_t sum[CCART_HASH_B];
    digest(sum, r->data + at, (size_t)c->stored_B);
    if (memcmp(sum, c->digest, sizeof sum) != 0)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u does not match its hash",
                        c->kind, c->index);
    return CCC_OK;
}

static ccc_status check_row(reader *r, uint32_t i, const uint8_t reserved[6], uint64_t *raw_total_B,
                            ccc_err *err)
{
    const row *c = &r->row[i];
    if (c->hash != CCART_HASH_XXH3_128 || c->codec > CCART_CODEC_ZSTD || !all_zero(reserved, 6))
        return ccc_fail(err, CCC_E_VERSION,
                        "artifact (format %u.%u): chunk %#x/%u has a codec or hash that this library (%d.%d) "
                        "does not know",
                        r->to->file.major, r->to->file.minor, c->kind, c->index, CCART_MAJOR, CCART_MINOR);
    if ((c->kind & CCART_REQUIRED) && !known_chunk(c->kind))
        return ccc_fail(err, CCC_E_VERSION,
                        "artifact (format %u.%u) needs chunk %#x, which this library (%d.%d) does not know",
                        r->to->file.major, r->to->file.minor, c->kind, CCART_MAJOR, CCART_MINOR);
    if (c->raw_B > CCART_MAX_RAW_B || (*raw_total_B += c->raw_B) > CCART_MAX_RAW_B)
        return ccc_fail(err, CCC_E_CORRUPT,
                        "artifact is damaged: its chunks are larger than the format allows");
    if (c->codec == CCART_CODEC_RAW && c->raw_B != c->stored_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u has two sizes", c->kind,
                        c->index);
    for (uint32_t k = 0; k < i; k++)
        if (r->row[k].kind == c->kind && r->row[k].index == c->index)
            return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u is there twice", c->kind,
                            c->index);
    return CCC_OK;
}

static ccc_status read_toc(reader *r, ccc_err *err)
{
    ccart_stream s = {.in = r->data + CCART_HEADER_B, .size_B = (size_t)r->n * CCART_ROW_B};
    uint64_t end_B = CCART_HEADER_B + s.size_B, raw_total_B = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        uint8_t reserved[6];
        row_io(&s, &r->row[i], reserved);
        CCC_TRY(check_row(r, i, reserved, &raw_total_B, err));
        CCC_TRY(check_place(r, &r->row[i], &end_B, err));
    }
    if (end_B != r->size_B - CCART_HASH_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: there are bytes behind its last chunk");
    uint8_t sum[CCART_HASH_B];
    digest(sum, r->data, (size_t)end_B);
    if (memcmp(sum, r->data + end_B, sizeof sum) != 0)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: it does not match its closing hash");
    return CCC_OK;
}

static bool wanted(const reader *r, uint32_t kind)
{
    bool text = kind == CCART_CHUNK_GRAPH || kind == CCART_CHUNK_REPORT;
    if (kind == (CCART_REQUIRED | CCART_CHUNK_PTX) && !(r->flags & CCART_WITH_PTX)) return false;
    return known_chunk(kind) &&
           (text ? r->flags & (CCART_WITH_TEXT | CCART_TEXT_ALONE) : !(r->flags & CCART_TEXT_ALONE));
}

static uint64_t unpacked_B(const row *c)
{
    return (c->raw_B + UNPACKED_ALIGN_B - 1) & ~(uint64_t)(UNPACKED_ALIGN_B - 1);
}

/* Room for all packed chunks at once. Half of the time that opening a large artifact took went into page
 * faults; where there are huge pages, a few of them do. */
static ccc_status make_room(reader *r, ccc_err *err)
{
    uint64_t size_B = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const row *c = &r->row[i];
        const uint8_t *from = r->data + c->offset;
        bool now = wanted(r, c->kind), later = c->kind == (CCART_REQUIRED | CCART_CHUNK_PTX);
        if (c->codec == CCART_CODEC_RAW || (!now && !later)) continue;
        if (ZSTD_getFrameContentSize(from, (size_t)c->stored_B) != c->raw_B ||
            ZSTD_findFrameCompressedSize(from, (size_t)c->stored_B) != c->stored_B)
            return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u is not one whole frame",
                            c->kind, c->index);
        if (now) size_B += unpacked_B(c);
    }
    bool huge = size_B >= HUGE_B;
    r->to->room = malloc((size_t)(huge ? size_B + 2 * HUGE_B : size_B + 1));
    if (!r->to->room)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory: an artifact needs %llu bytes",
                        (unsigned long long)size_B);
    r->unpacked = r->to->room;
#ifdef MADV_HUGEPAGE
    if (huge) { /* advice: it may be refused */
        r->unpacked += -(uintptr_t)r->unpacked % HUGE_B;
        madvise(r->unpacked, (size_t)((size_B + HUGE_B - 1) / HUGE_B * HUGE_B), MADV_HUGEPAGE);
    }
#endif
    return CCC_OK;
}

static ccc_status unpack(reader *r, const row *c, const uint8_t **out, ccc_err *err)
{
    const uint8_t *from = r->data + c->offset;
    *out = from;
    if (c->codec == CCART_CODEC_RAW) return CCC_OK;
    uint8_t *to = r->unpacked;
    r->unpacked += unpacked_B(c);
    if (!r->zstd && !(r->zstd = ZSTD_createDCtx()))
        return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is read");
    size_t n = ZSTD_decompressDCtx(r->zstd, to, (size_t)c->raw_B, from, (size_t)c->stored_B);
    if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is read");
    if (ZSTD_isError(n) || n != c->raw_B)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u cannot be unpacked", c->kind,
                        c->index);
    *out = to;
    return CCC_OK;
}

static void read_content(ccart_stream *s, ccart_file *f, uint32_t id, uint32_t index)
{
    ccart_target *t = f->n_targets ? &f->target[index] : NULL; /* none yet while the first chunk is read */
    switch (id) {
    case CCART_CHUNK_META:
        ccart_chunk_meta(s, f);
        break;
    case CCART_CHUNK_FACTS:
        ccart_chunk_facts(s, f);
        break;
    case CCART_CHUNK_GRAPH:
        ccart_chunk_graph(s, f);
        break;
    case CCART_CHUNK_REPORT:
        ccart_chunk_report(s, f);
        break;
    case CCART_CHUNK_KERNELS:
        ccart_chunk_kernels(s, t);
        break;
    case CCART_CHUNK_PTX:
        ccart_chunk_ptx(s, t);
        break;
    case CCART_CHUNK_PROGRAMS:
        ccart_chunk_programs(s, t);
        break;
    case CCART_CHUNK_TRAFFIC:
        ccart_chunk_traffic(s, t);
        break;
    default:
        ccart_chunk_weights(s, t);
        break;
    }
}

static const row *find_row(const reader *r, uint32_t kind, uint32_t index)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->row[i].kind == kind && r->row[i].index == index) return &r->row[i];
    return NULL;
}

static ccc_status read_chunk(reader *r, uint32_t kind, uint32_t index, ccc_err *err)
{
    const row *c = find_row(r, kind, index);
    if (!c && !(kind & CCART_REQUIRED)) return CCC_OK;
    if (!c) return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u is missing", kind, index);
    ccart_stream s = {.size_B = (size_t)c->raw_B, .memory = r->to->memory};
    CCC_TRY(unpack(r, c, &s.in, err));
    read_content(&s, &r->to->file, kind & ~CCART_REQUIRED, index);
    if (!s.wrong && s.pos != s.size_B) ccart_wrong(&s, "it is longer than its content");
    if (s.no_memory) return ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is read");
    if (s.wrong)
        return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u: %s", kind, index, s.wrong);
    return CCC_OK;
}

static bool of_target(uint32_t id)
{
    return (id >= CCART_CHUNK_KERNELS && id <= CCART_CHUNK_WEIGHTS) || id == CCART_CHUNK_TRAFFIC ||
           id == CCART_CHUNK_PTX;
}

static bool lies_apart(const ccart_module *m)
{
    return m->kind == CCART_MODULE_PTX && !m->data;
}

/* PTX stays packed; its chunk must have room for what the modules say, and no more. */
static ccc_status read_ptx(reader *r, uint32_t index, ccc_err *err)
{
    const uint32_t kind = CCART_REQUIRED | CCART_CHUNK_PTX;
    const row *c = find_row(r, kind, index);
    ccart_target *t = &r->to->file.target[index];
    uint64_t size_B = 0;
    for (uint32_t i = 0; i < t->n_modules; i++)
        if (lies_apart(&t->module[i])) {
            if (t->module[i].size_B > CCART_MAX_RAW_B)
                return ccc_fail(err, CCC_E_CORRUPT,
                                "artifact is damaged: a module of target %u is larger than the format allows",
                                index);
            size_B += t->module[i].size_B + 1;
        }
    if (!c && !size_B) return CCC_OK;
    if (!c) return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u is missing", kind, index);
    if (!size_B || c->raw_B != size_B)
        return ccc_fail(err, CCC_E_CORRUPT,
                        "artifact is damaged: chunk %#x/%u has %llu bytes, its modules %llu", kind, index,
                        (unsigned long long)c->raw_B, (unsigned long long)size_B);
    t->ptx = (ccart_packed){
        .data = r->data + c->offset, .stored_B = c->stored_B, .raw_B = c->raw_B, .codec = c->codec};
    memcpy(t->ptx.digest, c->digest, sizeof t->ptx.digest);
    return r->flags & CCART_WITH_PTX ? read_chunk(r, kind, index, err) : CCC_OK;
}

ccc_status ccart_ptx_unpack(uint8_t **room, const ccart_target *t, ccc_err *err)
{
    const ccart_packed *p = &t->ptx;
    uint8_t sum[CCART_HASH_B], *to = malloc(p->raw_B ? (size_t)p->raw_B : 1);
    if (!to)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory: the PTX of target %s has %llu bytes", t->name,
                        (unsigned long long)p->raw_B);
    digest(sum, p->data, (size_t)p->stored_B); /* a caller's memory may have changed since it was opened */
    bool fine = memcmp(sum, p->digest, sizeof sum) == 0;
    size_t n = (size_t)p->raw_B;
    if (fine && p->codec == CCART_CODEC_RAW) memcpy(to, p->data, n);
    else if (fine) n = ZSTD_decompress(to, n, p->data, (size_t)p->stored_B);
    bool no_memory = fine && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation;
    fine = fine && n == p->raw_B;
    const uint8_t *end = to;
    for (uint32_t i = 0; fine && i < t->n_modules; i++)
        if (lies_apart(&t->module[i])) {
            end += t->module[i].size_B + 1;
            fine = !end[-1];
        }
    if (fine) {
        *room = to;
        return CCC_OK;
    }
    free(to);
    return no_memory ? ccc_fail(err, CCC_E_NOMEM, "out of memory while PTX is unpacked")
                     : ccc_fail(err, CCC_E_CORRUPT,
                                "artifact is damaged: the PTX of target %s cannot be unpacked", t->name);
}

const uint8_t *ccart_ptx_text(const ccart_target *t, uint32_t module, const uint8_t *room)
{
    if (!lies_apart(&t->module[module])) return t->module[module].data;
    for (uint32_t i = 0; i < module; i++)
        if (lies_apart(&t->module[i])) room += t->module[i].size_B + 1;
    return room;
}

static ccc_status read_model(reader *r, ccc_err *err)
{
    ccart_file *f = &r->to->file;
    CCC_TRY(read_chunk(r, CCART_REQUIRED | CCART_CHUNK_META, 0, err));
    CCC_TRY(read_chunk(r, CCART_REQUIRED | CCART_CHUNK_FACTS, 0, err));
    for (uint32_t t = 0; t < f->n_targets; t++) {
        CCC_TRY(read_chunk(r, CCART_REQUIRED | CCART_CHUNK_KERNELS, t, err));
        CCC_TRY(read_ptx(r, t, err));
        CCC_TRY(read_chunk(r, CCART_REQUIRED | CCART_CHUNK_PROGRAMS, t, err));
        CCC_TRY(read_chunk(r, CCART_REQUIRED | CCART_CHUNK_WEIGHTS, t, err));
        CCC_TRY(read_chunk(r, CCART_CHUNK_TRAFFIC, t, err));
    }
    for (uint32_t i = 0; i < r->n; i++)
        if (known_chunk(r->row[i].kind) && r->row[i].index &&
            (r->row[i].index >= f->n_targets || !of_target(r->row[i].kind & ~CCART_REQUIRED)))
            return ccc_fail(err, CCC_E_CORRUPT, "artifact is damaged: chunk %#x/%u belongs to nothing",
                            r->row[i].kind, r->row[i].index);
    return CCC_OK;
}

static ccc_status read_all(reader *r, ccc_err *err)
{
    CCC_TRY(read_header(r, err));
    CCC_TRY(read_toc(r, err));
    CCC_TRY(make_room(r, err));
    r->to->file.graph_text = r->to->file.report = "";
    if (!(r->flags & CCART_TEXT_ALONE)) CCC_TRY(read_model(r, err));
    if (r->flags & (CCART_WITH_TEXT | CCART_TEXT_ALONE)) {
        CCC_TRY(read_chunk(r, CCART_CHUNK_GRAPH, 0, err));
        CCC_TRY(read_chunk(r, CCART_CHUNK_REPORT, 0, err));
    }
    return CCC_OK;
}

ccc_status ccart_decode(ccart_file **out, const void *data, size_t size_B, unsigned flags, ccc_err *err)
{
    reader *r = calloc(1, sizeof *r);
    decoded *to = calloc(1, sizeof *to);
    ccc_status status = CCC_E_NOMEM;
    if (to) to->memory = ccart_memory_new();
    if (!r || !to || !to->memory) {
        ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is read");
    } else {
        *r = (reader){.data = data, .size_B = size_B, .to = to, .flags = flags};
        status = read_all(r, err);
        ZSTD_freeDCtx(r->zstd);
    }
    free(r);
    if (status == CCC_OK) *out = &to->file;
    else if (to) ccart_release(&to->file);
    return status;
}

void ccart_release(ccart_file *f)
{
    if (!f) return;
    decoded *d = (decoded *)f; /* `file` is its first member */
    free(d->room);
    ccart_memory_free(d->memory);
    free(d);
}
