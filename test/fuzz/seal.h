/* Artifacts taken apart and put together again with right hashes, and changed in between: what somebody who
 * means harm would do, so that damage gets past the hashes to the code behind them. Knows the container
 * (header, table, chunks) from its documentation alone; where the numbers inside chunks lie it learns by
 * watching libcccrt's own reader (fields.c). */
#ifndef SEAL_H
#define SEAL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEAL_CHUNKS = 32, SEAL_FIELDS = 1 << 17 };
typedef struct {
    uint32_t kind, index;
    uint8_t codec;
    uint8_t *data;
    size_t size_B, raw_B;
} seal_chunk; /* codec 0 after seal_open */
typedef struct {
    uint16_t major, minor;
    seal_chunk chunk[SEAL_CHUNKS];
    uint32_t n;
} seal_box;

bool seal_open(seal_box *b, const uint8_t *file, size_t size_B); /* a valid container; chunks are unpacked */
void seal_free(seal_box *b);
/* Writes the container as it is described, hashes and all, into `to`; 0 if it does not fit. */
size_t seal_close(const seal_box *b, uint8_t *to, size_t room_B);
void seal_again(
    uint8_t *file,
    size_t size_B); /* makes all hashes of a changed file right, as far as its table can be followed */

/* ---- numbers in a file whose chunks are stored as they are */
typedef struct {
    uint32_t at_B;
    uint8_t size_B;
    bool count;
} seal_field;
typedef struct {
    seal_field *field;
    uint32_t n;
} seal_fields;
bool seal_watch(seal_fields *f, const uint8_t *file,
                size_t size_B); /* false: libcccrt refuses the file, or memory is out */
void seal_fields_free(seal_fields *f);

/* ---- changes */
typedef struct {
    uint64_t state;
} seal_random;
uint64_t seal_next(seal_random *r);
/* One artifact of endlessly many made from a good one: `plain` has its chunks stored as they are, `packed` as
 * the compiler wrote them. All but a few have right hashes. The result is in `to`. */
typedef struct {
    const uint8_t *plain;
    size_t plain_B;
    const uint8_t *packed;
    size_t packed_B;
    seal_fields fields;
} seal_base;
size_t seal_change(const seal_base *b, seal_random *r, uint8_t *to, size_t room_B);
#endif
