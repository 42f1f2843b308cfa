/* A stream that either writes or reads, so that one function lists the fields of a struct for both
 * directions: static void point(stream *s, point_t *p) { ccart_u32(s, &p->x); ccart_u32(s, &p->y); } Little
 * endian. The first failure sticks: reads after it yield 0 and empty arrays; the caller looks once, at the
 * end. */
#ifndef CCART_STREAM_H
#define CCART_STREAM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ccart_memory ccart_memory; /* what decoded structs lie in; freed at once */
ccart_memory *ccart_memory_new(void);
void ccart_memory_free(ccart_memory *m);
void *ccart_memory_get(ccart_memory *m, size_t size_B); /* zeroed, 16-byte aligned, NULL when memory is out */

typedef struct {
    bool writing;
    uint8_t *out;
    size_t cap_B;       /* writing: grows, from malloc */
    const uint8_t *in;  /* reading */
    size_t size_B, pos; /* writing: bytes so far; reading: bytes in all, and the place */
    ccart_memory *memory;
    const char *wrong; /* the first failure, NULL: none */
    bool no_memory;
} ccart_stream;

void ccart_u8(ccart_stream *s, uint8_t *v);
void ccart_u16(ccart_stream *s, uint16_t *v);
void ccart_u32(ccart_stream *s, uint32_t *v);
void ccart_u64(ccart_stream *s, uint64_t *v);
void ccart_i32(ccart_stream *s, int32_t *v);
void ccart_i64(ccart_stream *s, int64_t *v);
void ccart_raw(ccart_stream *s, uint8_t *v, uint32_t n); /* n bytes in place */
void ccart_str(ccart_stream *s, const char **v);         /* u32 size, bytes, a 0; no 0 inside */
void ccart_blob(ccart_stream *s, const uint8_t **v,
                uint64_t *n); /* u64 size, 0s up to a multiple of 16, bytes, a 0 */
void ccart_text(ccart_stream *s, const uint8_t **v, uint64_t n);  /* n bytes, a 0 */
void ccart_code(ccart_stream *s, const uint8_t **v, uint32_t *n); /* u16 size, bytes */
/* A u32 count and room for so many elements. Each takes at least min_B bytes of the stream, which bounds what
 * is allocated. */
void ccart_array(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max, size_t min_B);
/* A u32 count and so many structs that are their bytes in the file. Reading copies nothing: *v points into
 * the input. */
void ccart_records(ccart_stream *s, void **v, uint32_t *n, size_t elem_B, uint32_t max);
void ccart_wrong(ccart_stream *s, const char *what);

#define CCART_ARRAY(s, ptr, n, max, min_B, each)                                                             \
    do {                                                                                                     \
        void *array_ = (void *)(ptr);                                                                        \
        ccart_array((s), &array_, &(n), sizeof *(ptr), (max), (min_B));                                      \
        (ptr) = array_;                                                                                      \
        for (uint32_t i_ = 0; i_ < (n) && !(s)->wrong; i_++) each((s), &(ptr)[i_]);                          \
    } while (0)
#define CCART_RECORDS(s, ptr, n, max)                                                                        \
    do {                                                                                                     \
        void *records_ = (void *)(ptr);                                                                      \
        ccart_records((s), &records_, &(n), sizeof *(ptr), (max));                                           \
        (ptr) = records_;                                                                                    \
    } while (0)
#endif
