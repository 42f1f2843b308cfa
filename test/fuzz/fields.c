/* Where the numbers of an artifact lie. The linker sends the calls of libcccrt's list of fields (ccart_u32
 * and its kind) through here
 * (--wrap), so that one reading of a good file writes down the place and size of each number, string size and
 * count. Elsewhere they pass. */
#include "seal.h"
#include <stdlib.h>
#include "../../runtime/ccart_codec.h"
#include "../../runtime/ccart_stream.h"

static struct {
    const uint8_t *file;
    size_t size_B;
    seal_fields *to;
} watch;

static void note(const ccart_stream *s, unsigned size_B, bool count)
{
    if (!watch.to || s->writing || watch.to->n == SEAL_FIELDS) return;
    uintptr_t at = (uintptr_t)s->in - (uintptr_t)watch.file + s->pos;
    if (at < watch.size_B && size_B <= watch.size_B - at)
        watch.to->field[watch.to->n++] = (seal_field){(uint32_t)at, (uint8_t)size_B, count};
}

#define WRAP(name, type, size)                                                                               \
    void __real_##name(ccart_stream *s, type *v);                                                            \
    void __wrap_##name(ccart_stream *s, type *v);                                                            \
    void __wrap_##name(ccart_stream *s, type *v)                                                             \
    {                                                                                                        \
        note(s, size, false);                                                                                \
        __real_##name(s, v);                                                                                 \
    }
WRAP(ccart_u8, uint8_t, 1)
WRAP(ccart_u16, uint16_t, 2)
WRAP(ccart_u32, uint32_t, 4)
WRAP(ccart_u64, uint64_t, 8)
WRAP(ccart_i32, int32_t, 4)
WRAP(ccart_i64, int64_t, 8)
WRAP(ccart_str, const char *, 4)

void __real_ccart_blob(ccart_stream *s, const uint8_t **v, uint64_t *n);
void __wrap_ccart_blob(ccart_stream *s, const uint8_t **v, uint64_t *n);
void __wrap_ccart_blob(ccart_stream *s, const uint8_t **v, uint64_t *n)
{
    note(s, 8, true);
    __real_ccart_blob(s, v, n);
}

void __real_ccart_code(ccart_stream *s, const uint8_t **v, uint32_t *n);
void __wrap_ccart_code(ccart_stream *s, const uint8_t **v, uint32_t *n);
void __wrap_ccart_code(ccart_stream *s, const uint8_t **v, uint32_t *n)
{
    size_t at = s->pos;
    note(s, 2, true);
    __real_ccart_code(s, v, n);
    for (; watch.to && !s->writing && at + 2 < s->pos; at++) /* each byte of an expression */
        note(&(ccart_stream){.in = s->in, .pos = at + 2}, 1, false);
}

void __real_ccart_array(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max, size_t min_B);
void __wrap_ccart_array(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max, size_t min_B);
void __wrap_ccart_array(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max, size_t min_B)
{
    note(s, 4, true);
    __real_ccart_array(s, v, n, elem_B, max, min_B);
}

/* Params, nodes and tensor maps lie in the file as they are. The sizes of their fields, from README.md: */
static const unsigned param_B[] = {1, 1, 2, 4, 8, 4, 0}, node_B[] = {1, 1, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0},
                      tmap_B[] = {1, 1, 1, 1, 1, 4, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0};
void __real_ccart_records(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max);
void __wrap_ccart_records(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max);
void __wrap_ccart_records(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max)
{
    note(s, 4, true);
    ccart_stream field = {.in = s->in, .pos = s->pos + 4};
    const unsigned *sizes_B = elem_B == sizeof(ccart_param)  ? param_B
                              : elem_B == sizeof(ccart_node) ? node_B
                                                             : tmap_B;
    __real_ccart_records(s, v, n, elem_B, max);
    for (uint32_t i = 0; watch.to && !s->writing && i < *n; i++)
        for (const unsigned *size_B = sizes_B; *size_B; field.pos += *size_B++)
            note(&field, *size_B, false);
}

bool seal_watch(seal_fields *f, const uint8_t *file, size_t size_B)
{
    ccart_file *decoded;
    *f = (seal_fields){.field = malloc(SEAL_FIELDS * sizeof *f->field)};
    if (!f->field) return false;
    watch.file = file;
    watch.size_B = size_B;
    watch.to = f;
    bool ok = ccart_decode(&decoded, file, size_B, CCART_WITH_TEXT, NULL) == CCC_OK;
    watch.to = NULL;
    if (ok) ccart_release(decoded);
    else seal_fields_free(f);
    return ok;
}

void seal_fields_free(seal_fields *f)
{
    free(f->field);
    *f = (seal_fields){0};
}
