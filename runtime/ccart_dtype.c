/* Element types: names and storage sizes. The numbers are ccc_dtype's, written into artifacts; a unit test
 * compares both tables. */
#include "ccart_codec.h"
#include <string.h>

typedef struct {
    const char *name;
    uint8_t block_B, block_elems;
} dtype_info;
static const dtype_info dtypes[CCART_N_DTYPES] = {
    {"none", 0, 1}, {"f32", 4, 1},  {"f16", 2, 1},    {"bf16", 2, 1},   {"e4m3", 1, 1}, {"e5m2", 1, 1},
    {"e8m0", 1, 1}, {"i8", 1, 1},   {"u8", 1, 1},     {"i32", 4, 1},    {"i64", 8, 1},  {"i4", 1, 2},
    {"u4", 1, 2},   {"e2m1", 1, 2}, {"q8_0", 34, 32}, {"q4_1", 20, 32}, {"f64", 8, 1},
};

const char *ccart_dtype_name(uint32_t dtype)
{
    return dtype && dtype < CCART_N_DTYPES ? dtypes[dtype].name : NULL;
}

uint32_t ccart_dtype_find(const char *name)
{
    for (uint32_t i = 1; i < CCART_N_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) return i;
    return 0;
}

bool ccart_storage_B(uint32_t dtype, uint64_t n_elements, uint64_t *size_B)
{
    if (!dtype || dtype >= CCART_N_DTYPES) return false;
    const dtype_info *d = &dtypes[dtype];
    if (n_elements % d->block_elems) return false;
    return !__builtin_mul_overflow(n_elements / d->block_elems, (uint64_t)d->block_B, size_B) &&
           *size_B <= INT64_MAX;
}

bool ccart_product(const int64_t *dim, uint32_t rank, uint64_t *out)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < rank; i++)
        if (dim[i] < 0 || __builtin_mul_overflow(n, (uint64_t)dim[i], &n) || n > INT64_MAX) return false;
    *out = n;
    return true;
}
