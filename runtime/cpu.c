/* The CPU as a device: the same programs, with kernels that are functions in a flat image of machine code. An
 * image is mapped writable, filled, and then executable, never both; and only for artifacts that were opened
 * with allow_host_code. A grid's blocks are dealt to the threads of a pool; a step returns when it is done.
 */
#include "pool.h"
#include "rt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_THREADS = 512, HUGE_PAGE_B = 2 << 20, PAGE_B = 4096, COPY_PIECE_B = 256 << 10 };
typedef struct {
    cccrt_device base;
    rt_pool *pool;
    void **scratch;
    size_t scratch_B;
    pthread_mutex_t lock;
} rt_cpu;
typedef struct {
    size_t size_B;
    void *code;
} image;
typedef void host_kernel(const void *args, const rt_host_ctx *c);
typedef struct {
    const rt_cpu *cpu;
    const rt_code *code;
    const rt_list *list;
} run_job;

static rt_cpu *cpu_of(cccrt_device *d)
{
    return (rt_cpu *)d;
}

int rt_cpu_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#define HAS(f) __builtin_cpu_supports(f)
    if (!(HAS("avx") && HAS("avx2") && HAS("bmi") && HAS("bmi2") && HAS("fma") && HAS("sse4.2") &&
          HAS("popcnt")))
        return 0;
    return HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl") ? 4 : 3;
#undef HAS
#else
    return 0;
#endif
}

/* ---- memory and time */
static ccc_status enter(cccrt_device *d, ccc_err *err)
{
    (void)d, (void)err;
    return CCC_OK;
}

static void leave(cccrt_device *d)
{
    (void)d;
}

static ccc_status memory(cccrt_device *d, uint64_t *free_B, uint64_t *total_B, ccc_err *err)
{
    (void)d, (void)err;
    long pages = sysconf(_SC_PHYS_PAGES), page_B = sysconf(_SC_PAGESIZE);
    *total_B = *free_B = pages > 0 && page_B > 0 ? (uint64_t)pages * (uint64_t)page_B : 1ull << 40;
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kB;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kB) == 1) *free_B = kB << 10;
    if (f) fclose(f);
    return CCC_OK;
}

/* Memory is zeros. Large pieces come straight from the system, which gives pages when they are first touched,
 * huge ones if it can. A page before the address keeps what release needs. */
typedef struct {
    void *base;
    size_t mapped_B; /* 0: from malloc */
} alloc_head;

static ccc_status alloc(cccrt_device *d, void **out, size_t size_B, ccc_err *err)
{
    (void)d;
    alloc_head head = {0};
    char *p = NULL;
    if (size_B > SIZE_MAX / 2) return ccc_fail(err, CCC_E_NOMEM, "cannot allocate %zu bytes", size_B);
    if (size_B >= HUGE_PAGE_B) {
        head.mapped_B = size_B + 2 * (size_t)HUGE_PAGE_B;
        head.base = mmap(NULL, head.mapped_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (head.base == MAP_FAILED) return ccc_fail(err, CCC_E_NOMEM, "cannot allocate %zu bytes", size_B);
        p = (char *)(((uintptr_t)head.base + PAGE_B + HUGE_PAGE_B - 1) / HUGE_PAGE_B * HUGE_PAGE_B);
        madvise(p, size_B, MADV_HUGEPAGE); /* no harm if refused */
    } else {
        if (posix_memalign(&head.base, PAGE_B, size_B + PAGE_B) != 0)
            return ccc_fail(err, CCC_E_NOMEM, "cannot allocate %zu bytes", size_B);
        p = (char *)head.base + PAGE_B;
        memset(p, 0, size_B);
    }
    memcpy(p - PAGE_B, &head, sizeof head);
    *out = p;
    return CCC_OK;
}

static void release(cccrt_device *d, void *p)
{
    (void)d;
    alloc_head head;
    memcpy(&head, (char *)p - PAGE_B, sizeof head);
    if (head.mapped_B) munmap(head.base, head.mapped_B);
    else free(head.base);
}

static ccc_status alloc_host(cccrt_device *d, void **host, void **device, size_t size_B, ccc_err *err)
{
    CCC_TRY(alloc(d, host, size_B, err));
    if (device) *device = *host;
    return CCC_OK;
}

static ccc_status copy(cccrt_device *d, void *dst, const void *src, size_t size_B, void *stream, ccc_err *err)
{
    (void)d, (void)stream, (void)err;
    memmove(dst, src, size_B);
    return CCC_OK;
}

static ccc_status fill(cccrt_device *d, void *dst, int byte, size_t size_B, void *stream, ccc_err *err)
{
    (void)d, (void)stream, (void)err;
    memset(dst, byte, size_B);
    return CCC_OK;
}

static ccc_status synchronize(cccrt_device *d, ccc_err *err)
{
    (void)d, (void)err;
    return CCC_OK;
}

static ccc_status stream_synchronize(cccrt_device *d, void *stream, ccc_err *err)
{
    (void)d, (void)stream, (void)err;
    return CCC_OK;
}

static bool capturing(cccrt_device *d, void *stream)
{
    (void)d, (void)stream;
    return false;
}

static ccc_status stream_new(cccrt_device *d, void **out, ccc_err *err)
{
    (void)d, (void)err;
    *out = NULL;
    return CCC_OK;
}

static void stream_free(cccrt_device *d, void *stream)
{
    (void)d, (void)stream;
}

static ccc_status event_new(cccrt_device *d, void **out, bool timing,
                            ccc_err *err) /* an event is the time at which it was recorded */
{
    (void)d, (void)timing;
    *out = calloc(1, sizeof(double));
    return *out ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory for an event");
}

static void event_free(cccrt_device *d, void *event)
{
    (void)d;
    free(event);
}

static ccc_status event_record(cccrt_device *d, void *event, void *stream, ccc_err *err)
{
    (void)d, (void)stream, (void)err;
    *(double *)event = rt_now_ms();
    return CCC_OK;
}

static ccc_status event_wait(cccrt_device *d, void *event, ccc_err *err)
{
    (void)d, (void)event, (void)err;
    return CCC_OK;
}

static ccc_status event_ms(cccrt_device *d, double *ms, void *from, void *to, ccc_err *err)
{
    (void)d, (void)err;
    *ms = *(double *)to - *(double *)from;
    return CCC_OK;
}

/* ---- kernels */
static ccc_status can_run(cccrt_device *d, const cccrt_artifact *a, const ccart_target *t, ccc_err *err)
{
    (void)d;
    if ((int)t->cpu_level > rt_cpu_level())
        return ccc_fail(err, CCC_E_DEVICE, "target %s needs an x86-64-v%u processor, this one is %s%.0d",
                        t->name, t->cpu_level, rt_cpu_level() ? "x86-64-v" : "older", rt_cpu_level());
    if (!a->allow_host_code)
        return ccc_fail(
            err, CCC_E_ARG,
            "target %s is machine code for the CPU; open the artifact with allow_host_code if you trust it",
            t->name);
    return CCC_OK;
}

static ccc_status map_image(void **out, const ccart_module *m, ccc_err *err)
{
    image *i = malloc(sizeof *i);
    if (!i) return ccc_fail(err, CCC_E_NOMEM, "out of memory for the artifact's code");
    i->size_B = (size_t)m->size_B;
    i->code = mmap(NULL, i->size_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (i->code == MAP_FAILED) {
        free(i);
        return ccc_fail(err, CCC_E_NOMEM, "cannot map %llu bytes for the artifact's code",
                        (unsigned long long)m->size_B);
    }
    memcpy(i->code, m->data, i->size_B);
    if (mprotect(i->code, i->size_B, PROT_READ | PROT_EXEC) != 0) {
        munmap(i->code, i->size_B);
        free(i);
        return ccc_fail(err, CCC_E_DEVICE,
                        "this system does not allow code to be made executable (mprotect)");
    }
    *out = i;
    return CCC_OK;
}

static ccc_status grow_scratch(rt_cpu *c, size_t size_B, ccc_err *err)
{
    ccc_status status = CCC_OK;
    size_B = (size_B + 63) & ~(size_t)63;
    pthread_mutex_lock(&c->lock); /* no run is under way: runs hold it too */
    for (int i = 0; size_B > c->scratch_B && i < c->base.n_sm && status == CCC_OK; i++) {
        void *p = aligned_alloc(64, size_B);
        if (!p)
            status =
                ccc_fail(err, CCC_E_NOMEM, "out of memory: kernels want %zu bytes for each thread", size_B);
        else {
            free(c->scratch[i]);
            c->scratch[i] = p;
        }
    }
    if (status == CCC_OK && size_B > c->scratch_B) c->scratch_B = size_B;
    pthread_mutex_unlock(&c->lock);
    return status;
}

static ccc_status load_kernel(rt_code *code, uint32_t index, ccc_err *err)
{
    const ccart_kernel *k = &code->target->kernel[index];
    CCC_TRY(grow_scratch(cpu_of(code->device), k->shared_B, err));
    if (!code->module[k->cubin])
        CCC_TRY(map_image(&code->module[k->cubin], &code->target->module[k->cubin], err));
    code->kernel[index].entry = (char *)((image *)code->module[k->cubin])->code + k->entry_B;
    code->kernel[index].resident = code->device->n_sm;
    return CCC_OK;
}

static void unload(rt_code *code)
{
    for (uint32_t i = 0; i < code->target->n_modules; i++) {
        image *m = code->module[i];
        if (m) munmap(m->code, m->size_B);
        free(m);
    }
}

static ccc_status encode_tmap(cccrt_device *d, uint8_t out[128], const rt_tmap_spec *m, ccc_err *err)
{
    (void)out, (void)m;
    return ccc_fail(err, CCC_E_UNSUPPORTED, "device '%s' has no tensor maps", d->name);
}

static uint64_t job_pieces(void *payload, uint32_t step)
{
    const rt_launch *l = &((run_job *)payload)->list->launch[step];
    if (l->kind == CCART_NODE_KERNEL) return (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    return (l->size_B + COPY_PIECE_B - 1) / COPY_PIECE_B;
}

static void job_piece(void *payload, uint32_t step, uint64_t first, uint64_t end, unsigned thread)
{
    const run_job *j = payload;
    const rt_launch *l = &j->list->launch[step];
    if (l->kind != CCART_NODE_KERNEL) {
        uint64_t at = first * COPY_PIECE_B,
                 n = (end * COPY_PIECE_B < l->size_B ? end * COPY_PIECE_B : l->size_B) - at;
        if (l->kind == CCART_NODE_MEMSET) memset((char *)l->dst + at, l->fill, n);
        else memcpy((char *)l->dst + at, (const char *)l->src + at, n);
        return;
    }
    host_kernel *entry = (host_kernel *)(uintptr_t)j->code->kernel[l->kernel].entry;
    rt_host_ctx c = {.grid = {l->grid[0], l->grid[1], l->grid[2]},
                     .thread = thread,
                     .n_threads = (uint32_t)j->cpu->base.n_sm,
                     .scratch = j->cpu->scratch[thread]};
    for (uint64_t i = first; i < end; i++) {
        c.block[0] = (uint32_t)(i % l->grid[0]);
        c.block[1] = (uint32_t)(i / l->grid[0] % l->grid[1]);
        c.block[2] = (uint32_t)(i / l->grid[0] / l->grid[1]);
        entry(l->args, &c);
    }
}

static ccc_status run(rt_code *code, const rt_list *l, void *stream, ccc_err *err)
{
    (void)stream, (void)err;
    rt_cpu *c = cpu_of(code->device);
    run_job j = {c, code, l};
    pthread_mutex_lock(&c->lock);
    rt_pool_run(c->pool,
                &(rt_pool_job){.payload = &j, .n_steps = l->n, .pieces = job_pieces, .piece = job_piece});
    pthread_mutex_unlock(&c->lock);
    return CCC_OK;
}

/* ---- opening */
static void destroy(cccrt_device *d)
{
    rt_cpu *c = cpu_of(d);
    if (d->pid == (long)getpid()) rt_pool_free(c->pool); /* the pool's threads are not in a child process */
    for (int i = 0; c->scratch && i < d->n_sm; i++) free(c->scratch[i]);
    free(c->scratch);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static const rt_backend cpu_backend = {
    .destroy = destroy,
    .enter = enter,
    .leave = leave,
    .can_run = can_run,
    .memory = memory,
    .alloc = alloc,
    .release = release,
    .alloc_host = alloc_host,
    .release_host = release,
    .copy = copy,
    .fill = fill,
    .synchronize = synchronize,
    .stream_synchronize = stream_synchronize,
    .capturing = capturing,
    .stream_new = stream_new,
    .stream_free = stream_free,
    .event_new = event_new,
    .event_free = event_free,
    .event_record = event_record,
    .event_wait = event_wait,
    .event_ms = event_ms,
    .load_kernel = load_kernel,
    .unload = unload,
    .encode_tmap = encode_tmap,
    .run = run,
};

static void read_name(cccrt_device *d)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    strcpy(d->name, "CPU");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %95[^\n]", d->name) == 1) break;
    if (f) fclose(f);
}

ccc_status rt_cpu_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err)
{
    double start = rt_now_ms();
    if (args->n_threads < 0 || args->n_threads > MAX_THREADS)
        return ccc_fail(err, CCC_E_ARG, "%d threads; 1 to %d are possible", args->n_threads, MAX_THREADS);
    rt_cpu *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory while a device is opened");
    unsigned n = args->n_threads ? (unsigned)args->n_threads : rt_pool_processors();
    rt_device_init(&c->base, &cpu_backend);
    pthread_mutex_init(&c->lock, NULL);
    c->base.n_sm = (int)(n < MAX_THREADS ? n : MAX_THREADS);
    c->scratch = calloc((size_t)c->base.n_sm, sizeof *c->scratch);
    ccc_status status = c->scratch ? rt_pool_new(&c->pool, (unsigned)c->base.n_sm, err)
                                   : ccc_fail(err, CCC_E_NOMEM, "out of memory while a device is opened");
    if (status != CCC_OK) {
        destroy(&c->base);
        return status;
    }
    read_name(&c->base);
    c->base.context_ms = rt_now_ms() - start;
    *out = &c->base;
    return CCC_OK;
}
