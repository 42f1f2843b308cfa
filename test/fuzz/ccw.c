/* Fuzzes the reader of prepared weights (.ccw): the file alone, then attached to an artifact on the CPU and
 * on the fake driver. Most inputs get right hashes before they are tried. What is attached is the file's
 * bytes, and they have the hash that the file says. */
#include "../../runtime/attach.h"
#include "file.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { HEADER_B = 64, HASHED_B = 48, HASH_B = 16, DATA_AT_B = 4096 }; /* one block */

static void digest(uint8_t *out, const void *data, size_t size_B)
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(data, size_B));
    memcpy(out, c.digest, sizeof c.digest);
}

#ifdef FUZZ_MUTATES /* with libFuzzer, not where seeds are only read */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size_B, size_t room_B);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size_B, size_t room_B, unsigned seed);

/* As a file of one block, which is all that fits into an input: the block's hash, then the header's. */
static void seal(uint8_t *data, size_t size_B)
{
    uint8_t both[2 * HASH_B];
    if (size_B < HEADER_B + HASH_B) return;
    if (size_B > DATA_AT_B) digest(data + HEADER_B, data + DATA_AT_B, size_B - DATA_AT_B);
    digest(both, data, HASHED_B);
    digest(both + HASH_B, data + HEADER_B, size_B > DATA_AT_B ? HASH_B : 0);
    digest(data + HASHED_B, both, sizeof both);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size_B, size_t room_B, unsigned seed)
{
    if (seed % 2 && size_B >= HEADER_B) LLVMFuzzerMutate(data, HASHED_B, HASHED_B); /* the numbers */
    else size_B = LLVMFuzzerMutate(data, size_B, room_B);
    if (seed % 16) seal(data, size_B);
    return size_B;
}
#endif

static void attach(const cccrt_artifact *a, cccrt_device *d, const char *path, const uint8_t *data,
                   size_t size_B)
{
    ccc_err err = {0};
    cccrt_weights *w;
    cccrt_weights_args from = {.size_B = sizeof from, .path = path};
    if (cccrt_weights_attach(&w, a, d, &from, &err) != CCC_OK) {
        fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        return;
    }
    uint8_t sum[HASH_B];
    digest(sum, data + DATA_AT_B, size_B - DATA_AT_B);
    fuzz_require(w->size_B == size_B - DATA_AT_B && memcmp(sum, data + HEADER_B, HASH_B) == 0);
    char *bytes = malloc(w->size_B);
    fuzz_require(bytes && cccrt_device_copy(d, bytes, w->base, w->size_B, 0, 1, &err) == CCC_OK &&
                 memcmp(bytes, data + DATA_AT_B, w->size_B) == 0);
    free(bytes);
    cccrt_weights_close(w);
}

static void read_alone(const char *path)
{
    ccc_err err = {0};
    rt_ccw c;
    if (rt_ccw_open(&c, path, &err) != CCC_OK) {
        fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        return;
    }
    for (uint32_t i = 0; i < c.n_blocks; i++) {
        uint32_t n = rt_ccw_block_size(&c, i);
        char *block = malloc(n); /* its own size, so that a write behind it is seen */
        fuzz_require(block && n);
        if (rt_ccw_read(&c, i, block, &err) != CCC_OK) fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        free(block);
    }
    rt_ccw_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    static cccrt_device *cpu, *cuda;
    static cccrt_artifact *a;
    ccc_err err;
    if (!a) {
        cccrt_device_args on_cpu = {.size_B = sizeof on_cpu, .kind = "cpu", .n_threads = 1},
                          on_cuda = {.size_B = sizeof on_cuda, .kind = "cuda"};
        cccrt_open_args open = {.size_B = sizeof open, .allow_host_code = 1};
        fuzz_require(cccrt_device_open(&cpu, &on_cpu, &err) == CCC_OK &&
                     cccrt_device_open(&cuda, &on_cuda, &err) == CCC_OK &&
                     cccrt_artifact_open(&a, ARTIFACT, &open, &err) == CCC_OK);
    }
    const char *path = fuzz_file(data, size_B);
    if (rt_ccw_is(path)) { /* else the target of weight files reads it */
        read_alone(path);
        attach(a, cpu, path, data, size_B);
        attach(a, cuda, path, data, size_B);
    }
    return 0;
}
