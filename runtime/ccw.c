/* Prepared files (.ccw): the final bytes of all weights of one target, as they lie on the device, with a hash
 * for each block so that reading threads check what they read. Written whole or not at all. The bytes:
 * README.md, "Prepared weights". */
#define _GNU_SOURCE /* mkostemp */
#include "attach.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* XXH3_state_t on the stack */
#include <xxhash.h>

/* The library's own choice for this processor (AVX2, AVX-512: 50 GB/s a core instead of 18), where it was
 * built with it. */
extern XXH_errorcode XXH3_128bits_update_dispatch(XXH3_state_t *state, const void *p, size_t n)
    __attribute__((weak));

enum {
    HEADER_B = 64,
    HASHED_B = 48,
    HASH_B = 16,
    DATA_ALIGN_B = 4096,
    MAJOR = 1,
    MINOR = 0,
    MAX_BLOCKS = 1 << 24,
    CHUNK_B = 256 << 10
};
static const char magic[8] = {'\x89', 'C', 'C', 'W', '\r', '\n', '\x1a', '\n'};

static void put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void digest(uint8_t out[HASH_B], const void *data, size_t n)
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(data, n));
    memcpy(out, c.digest, HASH_B);
}

static uint64_t data_place(uint64_t n_blocks)
{
    return (HEADER_B + n_blocks * HASH_B + DATA_ALIGN_B - 1) / DATA_ALIGN_B * DATA_ALIGN_B;
}

/* Header and table as one piece of memory; its hash, of everything but itself, is put into the header. */
static void seal(uint8_t *head, uint64_t n_blocks, uint8_t sum[HASH_B])
{
    uint8_t both[2 * HASH_B];
    digest(both, head, HASHED_B);
    digest(both + HASH_B, head + HEADER_B, (size_t)(n_blocks * HASH_B));
    digest(sum, both, sizeof both);
}

static ccc_status read_at(int fd, void *to, size_t n, uint64_t at_B, ccc_err *err)
{
    for (char *p = to; n;) {
        ssize_t k = pread(fd, p, n, (off_t)at_B);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return ccc_fail(err, CCC_E_IO, "cannot read prepared weights: %s",
                            k < 0 ? strerror(errno) : "the file became shorter");
        p += k, at_B += (uint64_t)k, n -= (size_t)k;
    }
    return CCC_OK;
}

bool rt_ccw_is(const char *path)
{
    char m[sizeof magic];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in place of a file must not block */
    bool is = fd >= 0 && read_at(fd, m, sizeof m, 0, NULL) == CCC_OK && memcmp(m, magic, sizeof m) == 0;
    if (fd >= 0) close(fd);
    return is;
}

static ccc_status read_head(rt_ccw *c, const char *path, ccc_err *err)
{
    uint8_t h[HEADER_B], sum[HASH_B];
    struct stat st;
    if (fstat(c->fd, &st) != 0 || st.st_size < HEADER_B)
        return ccc_fail(err, CCC_E_CORRUPT, "prepared weights '%s' are cut off", path);
    CCC_TRY(read_at(c->fd, h, sizeof h, 0, err));
    unsigned major = (unsigned)get(h + 8, 2), minor = (unsigned)get(h + 10, 2);
    if (major != MAJOR)
        return ccc_fail(
            err, CCC_E_VERSION,
            "prepared weights '%s' have format %u.%u, this library reads %d.x: prepare them again", path,
            major, minor, MAJOR);
    c->block_B = (uint32_t)get(h + 12, 4);
    c->data_B = get(h + 16, 8);
    c->data_at_B = get(h + 24, 8);
    memcpy(c->layout_hash, h + 32, sizeof c->layout_hash);
    uint64_t n = c->block_B ? c->data_B / c->block_B + (c->data_B % c->block_B != 0) : 0;
    if (c->block_B != RT_SLOT_B || n > MAX_BLOCKS || c->data_at_B != data_place(n) ||
        c->data_B != (uint64_t)st.st_size - c->data_at_B)
        return ccc_fail(err, CCC_E_CORRUPT,
                        "prepared weights '%s' are damaged: their header does not fit the file", path);
    c->n_blocks = (uint32_t)n;
    uint8_t *whole = malloc(HEADER_B + n * HASH_B);
    if (!whole) return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are attached");
    memcpy(whole, h, sizeof h);
    ccc_status status = read_at(c->fd, whole + HEADER_B, n * HASH_B, HEADER_B, err);
    if (status == CCC_OK) {
        seal(whole, n, sum);
        if (memcmp(sum, h + HASHED_B, HASH_B) != 0)
            status = ccc_fail(err, CCC_E_CORRUPT,
                              "prepared weights '%s' are damaged: the header does not match its hash", path);
    }
    memmove(whole, whole + HEADER_B, n * HASH_B);
    c->hash = whole;
    return status;
}

ccc_status rt_ccw_open(rt_ccw *out, const char *path, ccc_err *err)
{
    *out = (rt_ccw){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (out->fd < 0) return ccc_fail(err, CCC_E_IO, "cannot open '%s': %s", path, strerror(errno));
    ccc_status status = read_head(out, path, err);
    if (status != CCC_OK) rt_ccw_close(out);
    return status;
}

uint32_t rt_ccw_block_size(const rt_ccw *c, uint32_t block)
{
    uint64_t left_B = c->data_B - (uint64_t)block * c->block_B;
    return left_B < c->block_B ? (uint32_t)left_B : c->block_B;
}

ccc_status rt_ccw_read(const rt_ccw *c, uint32_t block, void *dst, ccc_err *err)
{
    uint32_t n = rt_ccw_block_size(c, block);
    uint64_t at_B = c->data_at_B + (uint64_t)block * c->block_B;
    XXH3_state_t state;
    XXH128_canonical_t sum;
    XXH3_128bits_reset(&state);
    for (uint32_t done = 0, size; done < n;
         done += size) { /* hashed while the bytes are still in this core's cache */
        size = n - done < CHUNK_B ? n - done : CHUNK_B;
        CCC_TRY(read_at(c->fd, (char *)dst + done, size, at_B + done, err));
        (XXH3_128bits_update_dispatch ? XXH3_128bits_update_dispatch
                                      : XXH3_128bits_update)(&state, (char *)dst + done, size);
    }
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(&state));
    if (memcmp(sum.digest, c->hash + (size_t)block * HASH_B, HASH_B) != 0)
        return ccc_fail(err, CCC_E_CORRUPT, "prepared weights are damaged: block %u does not match its hash",
                        block);
    return CCC_OK;
}

void rt_ccw_close(rt_ccw *c)
{
    if (c->fd >= 0) close(c->fd);
    free(c->hash);
    *c = (rt_ccw){.fd = -1};
}

/* ---- writing */
static ccc_status write_at(int fd, const void *from, size_t n, uint64_t at_B, ccc_err *err)
{
    for (const char *p = from; n;) {
        ssize_t k = pwrite(fd, p, n, (off_t)at_B);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            return ccc_fail(err, CCC_E_IO, "cannot write prepared weights: %s",
                            k < 0 ? strerror(errno) : "nothing was written");
        p += k, at_B += (uint64_t)k, n -= (size_t)k;
    }
    return CCC_OK;
}

static ccc_status write_all(cccrt_weights *w, int fd, ccc_err *err)
{
    uint64_t n = w->size_B / RT_SLOT_B + (w->size_B % RT_SLOT_B != 0), at_B = data_place(n);
    uint8_t *head = calloc(1, (size_t)at_B), *block = malloc(RT_SLOT_B);
    ccc_status status =
        head && block ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are prepared");
    for (uint64_t i = 0; i < n && status == CCC_OK; i++) {
        uint64_t left_B = w->size_B - i * RT_SLOT_B;
        size_t size_B = left_B < RT_SLOT_B ? (size_t)left_B : (size_t)RT_SLOT_B;
        status = cccrt_device_copy(w->code->device, block, w->base + i * RT_SLOT_B, size_B, 0, 1, err);
        if (status == CCC_OK) status = write_at(fd, block, size_B, at_B + i * RT_SLOT_B, err);
        digest(head + HEADER_B + i * HASH_B, block, size_B);
    }
    if (status == CCC_OK) {
        memcpy(head, magic, sizeof magic);
        put(head + 8, MAJOR, 2);
        put(head + 10, MINOR, 2);
        put(head + 12, RT_SLOT_B, 4);
        put(head + 16, w->size_B, 8);
        put(head + 24, at_B, 8);
        memcpy(head + 32, w->code->target->layout_hash, 16);
        seal(head, n, head + HASHED_B);
        status = write_at(fd, head, (size_t)at_B, 0, err);
    }
    free(head);
    free(block);
    if (status == CCC_OK && fsync(fd) != 0)
        status = ccc_fail(err, CCC_E_IO, "cannot write prepared weights: %s", strerror(errno));
    return status;
}

ccc_status cccrt_weights_save(cccrt_weights *w, const char *path, ccc_err *err)
{
    size_t n = strlen(path) + 8;
    char *temporary = malloc(n);
    if (!temporary) return ccc_fail(err, CCC_E_NOMEM, "out of memory while weights are prepared");
    snprintf(temporary, n, "%s.XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        ccc_status failed = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", path, strerror(errno));
        free(temporary);
        return failed;
    }
    ccc_status status = write_all(w, fd, err);
    if (status == CCC_OK && fchmod(fd, 0644) != 0)
        status = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", path, strerror(errno));
    if (close(fd) != 0 && status == CCC_OK)
        status = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", path, strerror(errno));
    if (status == CCC_OK && rename(temporary, path) != 0)
        status = ccc_fail(err, CCC_E_IO, "cannot write '%s': %s", path, strerror(errno));
    if (status != CCC_OK) unlink(temporary);
    free(temporary);
    return status;
}
