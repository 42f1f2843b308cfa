/* Kernels of the hand-made artifact, as machine code: functions in a section of their own that call nothing,
 * copied out as a flat image. This only works because the compiler needs no constants and no calls for them;
 * real images come from the code generator. */
#include "runtime_make.h"

typedef struct {
    uint32_t block[3], grid[3];
    uint32_t thread, n_threads;
    void *scratch;
} host_ctx;
#ifdef __clang__
#define AS_WRITTEN optnone, disable_sanitizer_instrumentation
#else
#define AS_WRITTEN optimize("O1", "no-tree-loop-distribute-patterns", "no-stack-protector")
#endif
#define KERNEL                                                                                               \
    __attribute__((section("kernels"), used, noinline, no_profile_instrument_function, AS_WRITTEN,           \
                   no_sanitize("address", "undefined", "thread"))) static void
extern const uint8_t __start_kernels[], __stop_kernels[];

KERNEL k_load(const load_args *a, const host_ctx *c) /* one block a row */
{
    int64_t r = c->block[0];
    for (int64_t i = 0; i < a->cols; i++) {
        uint64_t at = (uint64_t)((a->dst_row0 + a->row0 + r) * a->cols + i);
        a->dst[at] = a->src ? (uint16_t)(a->src[r * a->cols + i] + 1) : (uint16_t)((a->seed + at) & 15);
    }
}

KERNEL k_fill(const fill_args *a, const host_ctx *c)
{
    for (int64_t i = c->block[0]; i < a->n; i += c->grid[0]) a->dst[i] = a->values[i] + a->values[i];
}

KERNEL k_sum(const sum_args *a, const host_ctx *c) /* one block a token */
{
    int32_t t = (int32_t)c->block[0], id = a->ids[t], sum = (int32_t)a->positions[t];
    if (id < 0 || id >= a->vocab) {
        if (!a->status[0])
            a->status[2] = (uint32_t)id, a->status[1] = (uint32_t)t, a->status[0] = CCART_STATUS_BAD_TOKEN;
        id = 0;
    }
    for (int32_t i = 0; i < HIDDEN; i++) sum += a->table[id * HIDDEN + i];
    ((int32_t *)c->scratch)[0] = sum;
    a->sums[t] = ((int32_t *)c->scratch)[0];
}

KERNEL k_next(const next_args *a, const host_ctx *c)
{
    for (int32_t r = (int32_t)c->block[0]; r < a->R; r += (int32_t)c->grid[0]) {
        a->next[r] = a->sums[a->rows[r]] % VOCAB;
        a->copy[r] = a->next[r];
    }
}

KERNEL k_advance(const advance_args *a, const host_ctx *c)
{
    (void)c;
    for (int32_t s = 0; s < a->S; s++) {
        if (!a->lens[s]) continue;
        int64_t p = ++a->positions[s];
        a->lens[s]++;
        a->slots[s] = (int64_t)a->table[s * a->max_blocks + p / BLOCK] * BLOCK + p % BLOCK;
    }
}

KERNEL k_read(const read_args *a, const host_ctx *c)
{
    uint32_t sum = 0;
    for (uint64_t i = c->block[0]; i < a->bytes / 4; i += c->grid[0]) sum += a->src[i];
    __atomic_fetch_add(a->out, sum, __ATOMIC_RELAXED);
}

void test_image(const uint8_t **data, size_t *size_B, uint32_t entry_B[N_KERNELS])
{
    const void *at[N_KERNELS] = {
        [K_LOAD] = (void *)k_load, [K_FILL] = (void *)k_fill,       [K_SUM] = (void *)k_sum,
        [K_NEXT] = (void *)k_next, [K_ADVANCE] = (void *)k_advance, [K_READ] = (void *)k_read,
        [K_MAP] = (void *)k_read};
    *data = __start_kernels;
    *size_B = (size_t)(__stop_kernels - __start_kernels);
    for (int i = 0; i < N_KERNELS; i++) entry_B[i] = (uint32_t)((const uint8_t *)at[i] - __start_kernels);
}
