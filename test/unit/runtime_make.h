/* A small artifact made by hand, for tests of the runtime: a target for the CPU whose kernels are functions
 * of the test program itself (runtime_kernels.c), and one for a GPU whose kernels are PTX in name only (for
 * the fake driver). It "computes", per token, sums[t] = sum of row token_ids[t] of the table + position,
 * next_tokens[r] = sums[logits_indices[r]] % 16. */
#ifndef RUNTIME_MAKE_H
#define RUNTIME_MAKE_H
#include "../../runtime/ccart_codec.h"
#include "../../runtime/cccrt.h"

enum { VOCAB = 16, HIDDEN = 8, MAX_TOKENS = 32, MAX_SEQS = 8, MAX_LEN = 64, BLOCK = 16, HEAD = 16 };
const ccart_file *make_file(void); /* fresh, static storage: change it as you like, one at a time */
void make_artifact(uint8_t **bytes, size_t *size_B); /* encoded; free() */
cccrt_artifact *make_open(int allow_host_code);
cccrt_device *make_device(const char *kind);
/* All chunks stored as they are, so that their bytes can be changed; the result is sealed. free() */
void make_raw(uint8_t **bytes, size_t *size_B);
void make_seal(uint8_t *bytes, size_t size_B); /* recomputes every hash */

/* what kernels take */
typedef struct {
    uint16_t *dst;
    const uint16_t *src;
    uint64_t seed;
    int64_t row0, rows, cols, dst_row0;
} load_args;
typedef struct {
    float *dst;
    const float *values;
    int64_t n;
} fill_args;
typedef struct {
    int32_t *sums;
    const uint16_t *table;
    const int32_t *ids;
    const int64_t *positions;
    uint32_t *status;
    int32_t T, vocab;
    char *scratch;
} sum_args;
typedef struct {
    int32_t *next;
    const int32_t *sums;
    const int32_t *rows;
    int32_t *copy;
    int32_t R, pad;
} next_args;
typedef struct {
    int64_t *positions;
    int32_t *lens;
    int64_t *slots;
    const int32_t *table;
    int32_t S, max_blocks;
} advance_args;
typedef struct {
    uint32_t *out;
    const uint32_t *src;
    uint64_t bytes;
} read_args;
typedef struct {
    uint64_t map[16];
    void *out;
    int32_t T, pad;
    uint64_t rest[6];
} __attribute__((aligned(64))) map_args;
typedef struct {
    const char *name;
    unsigned offset_B;
} test_kernel;
enum { K_LOAD, K_FILL, K_SUM, K_NEXT, K_ADVANCE, K_READ, K_MAP, N_KERNELS };
/* The image of the CPU's kernels and where each begins in it. */
void test_image(const uint8_t **data, size_t *size_B, uint32_t entry_B[N_KERNELS]);
#endif
