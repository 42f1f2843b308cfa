/* attn_check.c without a GPU: "device" memory is memory, and a kernel is a shared library made of its template and test/kernels/emu.h. */
typedef void emu_kernel(int, int, int, int, const void *);
typedef struct { emu_kernel *fn; form_t form; emu_kernel *join; unsigned join_blocks; } kernel_t;
typedef struct { kernel_t k; unsigned gx, gy, threads, shared; void *args; } step_t;
typedef struct { int n; step_t step[8]; } emu_graph;
enum { RUNS = 2, CHAIN_RUNS = 2 };
#define KERNEL_SUFFIX ".so"
#define CHAIN_ROPE "rope_3_16_4_2_128_128_1010"
#define CHAIN_DECODE "decode_16_4_2_128"
#define CHAIN_MODEL ((model_t){3, 16, 4, 2, 128, 0})

static int n_sm;
static void device_open(void)
{
    n_sm = getenv("EMU_SM") ? atoi(getenv("EMU_SM")) : 13;
    printf("emulated, %d multiprocessors\n", n_sm);
}
static inline dptr dev_alloc(size_t n) { return (dptr)(uintptr_t)aligned_alloc(256, (n + 511) / 256 * 256); }
static inline void dev_free(dptr p) { free((void *)(uintptr_t)p); }
static inline void dev_fill(dptr p, int v, size_t n) { memset((void *)(uintptr_t)p, v, n); }
static inline dptr dev_zero(size_t n) { dptr p = dev_alloc(n); dev_fill(p, 0, n); return p; }
static inline void dev_set(dptr p, const void *h, size_t n) { memcpy((void *)(uintptr_t)p, h, n); }
static inline dptr dev_copy(const void *h, size_t n) { dptr p = dev_alloc(n); dev_set(p, h, n); return p; }
static inline void dev_get(void *h, dptr p, size_t n) { memcpy(h, (void *)(uintptr_t)p, n); }
static inline void dev_sync(void) {}
__attribute__((noinline)) static void launch_join(kernel_t k, int blocks, attention_args *a)
{
    a->blocks = blocks;
    k.fn(blocks, 1, k.form.warps * 32, 1, a);
    k.join((int)k.join_blocks, a->S, CCC_JOIN_THREADS, 1, a);
}
static inline void launch(kernel_t k, unsigned gx, unsigned gy, unsigned threads, unsigned shared, void *args)
{
    (void)shared;
    if (k.join) launch_join(k, (int)gx, args);
    else k.fn((int)gx, (int)gy, (int)threads, k.form.cluster, args);
}
static inline void func_shared(kernel_t k, int bytes)
{
    (void)k;
    if (bytes > CCC_MAX_SHARED) { printf("FAIL %d bytes of shared memory\n", bytes); exit(1); }
}
static inline void *graph_of(const step_t *s, int n, bool programmatic)
{
    (void)programmatic;
    emu_graph *g = calloc(1, sizeof *g);
    g->n = n;
    memcpy(g->step, s, n * sizeof *s);
    return g;
}
static inline void graph_launch(void *exec)
{
    emu_graph *g = exec;
    for (int i = 0; i < g->n; i++) launch(g->step[i].k, g->step[i].gx, g->step[i].gy, g->step[i].threads, 0, g->step[i].args);
}
static inline void graph_free(void *exec) { free(exec); }
static kernel_t load_kernel(const char *dir, const char *name)
{
    char path[600];
    kernel_t k = {NULL, form_of(name), NULL, 0};
    char join[100];
    k.join_blocks = join_name(name, join, sizeof join);
    if (k.join_blocks && !(k.join = load_kernel(dir, join).fn)) return k;
    snprintf(path, sizeof path, "%s%s/%s.so", dir[0] == '/' ? "" : "./", dir, name);
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib) *(void **)&k.fn = dlsym(lib, "emu_launch");
    return k;
}
