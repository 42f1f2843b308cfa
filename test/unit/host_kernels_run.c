/* Running a kernel template's blocks, guarded memory and random numbers, for the tests of the host kernels.
 */
#include <sys/mman.h>
#include <unistd.h>
#include "host_kernels.h"

hk_spec_t hk_spec;

typedef struct {
    void *base;
    size_t size_B;
} mapping;
static mapping mappings[4096];
static size_t n_mappings;

void *hk_alloc(size_t size_B)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size_B + page - 1) / page * page;
    char *p = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || n_mappings == sizeof mappings / sizeof *mappings ||
        mprotect(p + body, page, PROT_NONE))
        abort();
    mappings[n_mappings++] = (mapping){p, body + page};
    memset(p, 0xff, body);
    return p + body - size_B; /* element sizes divide sizes, so that elements are aligned */
}
void hk_free_all(void)
{
    while (n_mappings) n_mappings--, munmap(mappings[n_mappings].base, mappings[n_mappings].size_B);
}

static void run_block(hk_kernel *kernel, const void *args, host_ctx *c, size_t scratch_B)
{
    size_t first = n_mappings;
    c->scratch = NULL;
    if (scratch_B) c->scratch = hk_alloc((scratch_B + 63) / 64 * 64);
    kernel(args, c);
    while (n_mappings > first) n_mappings--, munmap(mappings[n_mappings].base, mappings[n_mappings].size_B);
}
void hk_run(hk_kernel *kernel, const void *args, unsigned gx, unsigned gy, size_t scratch_B)
{
    unsigned n = gx * gy, step = n > 2 ? n / 2 + 1 : 1;
    while (n > 2 && step % 2 == 0 && n % 2 == 0) step++;
    unsigned g = n, s = step;
    while (s) { /* a step without a common factor visits every block once */
        unsigned r = g % s;
        g = s;
        s = r;
    }
    if (g != 1) step = 1;
    for (unsigned i = 0, b = n / 3; i < n; i++, b = (b + step) % n) {
        host_ctx c = {.block = {b % gx, b / gx, 0}, .grid = {gx, gy, 1}, .n_threads = 1};
        run_block(kernel, args, &c, scratch_B);
    }
}

static uint64_t state;
void hk_seed(uint64_t seed)
{
    state = seed * 2 + 1;
}
uint32_t hk_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}
float hk_uniform(void)
{
    return (float)((int32_t)hk_random() >> 8) / 8388608.0f;
}
float hk_bf16_f32(u16 v)
{
    uint32_t u = (uint32_t)v << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
u16 hk_f32_bf16(float v) /* by the two neighbours and their distance: not how kernels do it */
{
    uint32_t u;
    memcpy(&u, &v, 4);
    u16 low = (u16)(u >> 16);
    if (v != v) return (u16)(low | 0x40);
    if (isinf(v)) return low;
    double down = hk_bf16_f32(low), up = hk_bf16_f32((u16)(low + 1)), mid;
    if (isinf(up)) up = copysign(ldexp(1.0, 128), v);
    mid = (down + up) / 2;
    if ((double)v == mid) return (u16)(low + (low & 1));
    return fabs((double)v) > fabs(mid) ? (u16)(low + 1) : low;
}
u16 *hk_random_bf16(size_t n, float scale)
{
    u16 *p = hk_alloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = hk_f32_bf16(hk_uniform() * scale);
    return p;
}

hk_cache hk_cache_new(int layout, int blocks, int size, int heads, int d, int bytes)
{
    hk_cache c = {.blocks = blocks, .size = size, .d = d, .layout = layout, .bytes = bytes};
    i64 row = (i64)bytes * d;
    if (layout == 1)
        c.head_stride = row, c.token_stride = row * heads, c.block_stride = c.token_stride * size;
    if (layout == 2) c.token_stride = row, c.head_stride = row * size, c.block_stride = c.head_stride * heads;
    if (layout == 3) c.head_stride = 2 * row * size, c.block_stride = c.head_stride * heads;
    c.k = hk_alloc((size_t)(c.block_stride * blocks));
    c.v = layout == 3 ? c.k : hk_alloc((size_t)(c.block_stride * blocks));
    return c;
}

void *hk_cache_element(const hk_cache *c, int block, int t, int head, int d, int is_v)
{
    i64 at = block * c->block_stride + head * c->head_stride, x = (i64)d * c->bytes,
        row = (i64)c->d * c->bytes;
    if (c->layout != 3) return (is_v ? c->v : c->k) + at + t * c->token_stride + x;
    i64 chunk = x / 16, r = t % 16;
    if (chunk < row / 128 * 8) chunk = (chunk & ~7) | ((chunk ^ r) & 7);
    return c->k + at + t / 16 * (32 * row) + (is_v ? 16 * row : 0) + r * row + chunk * 16 + x % 16;
}

attention_args hk_attention_args(const hk_cache *c, void *out, const u16 *q, int hq)
{
    return (attention_args){.out = out,
                            .q = q,
                            .k_cache = c->k,
                            .v_cache = c->v,
                            .block_stride = c->block_stride,
                            .token_stride = c->token_stride,
                            .head_stride = c->head_stride,
                            .q_ld = hq * c->d,
                            .out_ld = hq * c->d,
                            .kv_blocks = c->blocks};
}
