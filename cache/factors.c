/* Factors and keys. A key is the hash of a byte string that lists everything that a result depends on; the
 * string itself is kept with the object, so a hit is decided by comparing factors and the hash only finds the
 * place. */
#include <string.h>
#include <xxhash.h>
#include "cache.h"

void ccc_factor_add(ccc_factors *f, const char *name, const void *value, size_t size_B)
{
    if (size_B > UINT32_MAX) {
        f->bytes.failed = true;
        return;
    }
    ccc_buf_str(&f->bytes, name);
    ccc_buf_u32(&f->bytes, (uint32_t)size_B);
    ccc_buf_put(&f->bytes, value, size_B);
}

void ccc_factor_str(ccc_factors *f, const char *name, const char *value)
{
    ccc_factor_add(f, name, value, strlen(value));
}

void ccc_factor_int(ccc_factors *f, const char *name, int64_t value)
{
    uint8_t le[8];
    for (int i = 0; i < 8; i++) le[i] = (uint8_t)((uint64_t)value >> (8 * i));
    ccc_factor_add(f, name, le, sizeof le);
}

void ccc_factors_free(ccc_factors *f)
{
    ccc_buf_free(&f->bytes);
}

ccc_key ccc_factors_key(const ccc_factors *f)
{
    ccc_key k;
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(f->bytes.data, f->bytes.size_B));
    memcpy(k.b, c.digest, sizeof k.b);
    return k;
}

void ccc_key_hex(ccc_key k, char out[33])
{
    static const char digit[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        out[2 * i] = digit[k.b[i] >> 4];
        out[2 * i + 1] = digit[k.b[i] & 15];
    }
    out[32] = 0;
}
