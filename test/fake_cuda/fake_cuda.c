/* The fake driver's contexts, memory, streams and events. Device memory is a reserved range of addresses of
 * which allocated parts are accessible; between allocations lies a gap, and freed memory faults. */
#define _GNU_SOURCE
#include "fake.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
enum { MAX_ALLOCATIONS = 65536, PAGE = 4096 };
static const size_t range_B = (size_t)64 << 30, near_B = (size_t)128 << 30;

typedef struct {
    char *p;
    size_t size_B;
    bool live, pinned;
} allocation;
typedef struct {
    handle h;
    double ms;
    bool recorded;
} event;
static struct {
    pthread_mutex_t lock;
    char *base;
    size_t used_B;
    allocation allocation[MAX_ALLOCATIONS];
    unsigned n_allocations;
    size_t live_B;
    handle *handles;
    unsigned count[8];
    FILE *log;
    bool looked, line_open;
    long calls, fail_at;
    int fail_with;
    int retained;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};
static char contexts[2]; /* [0]: the primary one; [1]: one that a test passes as the caller's */
static __thread void *current[16];
static __thread int depth;

int fake_setting(const char *name, int otherwise)
{
    const char *v = getenv(name);
    return v && *v ? atoi(v) : otherwise;
}

static size_t total_B(void)
{
    const char *v = getenv("FAKE_CUDA_MEMORY");
    return v && *v ? strtoull(v, NULL, 0) : (size_t)60 << 30;
}

static void look(void)
{
    if (fake.looked) return;
    fake.looked = true;
    const char *path = getenv("FAKE_CUDA_LOG"), *fail = getenv("FAKE_CUDA_FAIL");
    if (path && *path) fake.log = fopen(path, "w");
    if (fail && *fail) {
        char *end;
        fake.fail_at = strtol(fail, &end, 10);
        fake.fail_with = *end == ':' ? atoi(end + 1) : CU_OUT_OF_MEMORY;
    }
    fake.base = mmap(NULL, range_B, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fake.base == MAP_FAILED) {
        perror("fake driver: cannot reserve addresses");
        _exit(3);
    }
}

void fake_log(const char *fmt, ...)
{
    if (!fake.log) return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(fake.log, fmt, ap);
    va_end(ap);
}

bool fake_ours(uint64_t p)
{
    return fake.base && p >= (uint64_t)(uintptr_t)fake.base && p < (uint64_t)(uintptr_t)fake.base + range_B;
}

bool fake_near(uint64_t p)
{
    uint64_t base = (uint64_t)(uintptr_t)fake.base;
    return base && p - (base - near_B) < 2 * near_B && !(p >> 47); /* above end a process's addresses: two numbers of 32 bits */
}

static const allocation *find(uint64_t p)
{
    for (unsigned i = 0; i < fake.n_allocations; i++) {
        const allocation *a = &fake.allocation[i];
        if (a->live && p >= (uint64_t)(uintptr_t)a->p && p <= (uint64_t)(uintptr_t)a->p + a->size_B) return a;
    }
    return NULL;
}

bool fake_inside(uint64_t p, size_t size_B, bool host_ok)
{
    if (!fake_ours(p)) return host_ok && p && size_B <= UINT64_MAX - p;
    const allocation *a = find(p);
    return a && size_B <= (uint64_t)(uintptr_t)a->p + a->size_B - p;
}

void fake_log_pointer(uint64_t p)
{
    const allocation *a = fake_ours(p) ? find(p) : NULL;
    if (a)
        fake_log(" %s%u+%llu", a->pinned ? "host" : "mem", (unsigned)(a - fake.allocation),
                 (unsigned long long)(p - (uint64_t)(uintptr_t)a->p));
    else fake_log(fake_ours(p) ? " WILD" : p ? " host" : " null");
}

/* Calls so far whose name has `part` in it. */
static struct {
    const char *name;
    unsigned long n;
} counts[128];
API unsigned long fake_count(const char *part);
API unsigned long fake_count(const char *part)
{
    unsigned long n = 0;
    for (unsigned i = 0; i < sizeof counts / sizeof *counts && counts[i].name; i++)
        if (strstr(counts[i].name, part)) n += counts[i].n;
    return n;
}

static void count(const char *name) /* names are literals: one address each */
{
    unsigned i = 0;
    while (i < sizeof counts / sizeof *counts - 1 && counts[i].name && counts[i].name != name) i++;
    counts[i].name = name;
    counts[i].n++;
}

cu_result fake_begin(const char *name, bool needs_context)
{
    pthread_mutex_lock(&fake.lock);
    count(name);
    look();
    fake_log("%s", name);
    fake.line_open = true;
    if (++fake.calls == fake.fail_at) return fake.fail_with;
    if (needs_context && (!depth || !current[depth - 1])) return INVALID_CONTEXT;
    return 0;
}

cu_result fake_end(cu_result r)
{
    if (r) fake_log(" = %d", r);
    fake_log("\n");
    if (fake.log) fflush(fake.log);
    fake.line_open = false;
    pthread_mutex_unlock(&fake.lock);
    return r;
}

void *fake_new(handle_kind kind, size_t size_B)
{
    handle *h = calloc(1, size_B);
    if (!h) return NULL;
    h->kind = kind;
    h->number = fake.count[kind]++;
    h->next = fake.handles;
    fake.handles = h;
    return h;
}

bool fake_is(const void *p, handle_kind kind)
{
    for (const handle *h = fake.handles; h; h = h->next)
        if (h == p) return h->kind == kind && !h->dead;
    return false;
}

void fake_kill(void *h)
{
    ((handle *)h)->dead = true;
}

/* Forgets what is dead, so that a process may go on for ever; with it goes the knowledge of stale addresses. */
API void fake_forget(void);
API void fake_forget(void)
{
    handle **at = &fake.handles;
    pthread_mutex_lock(&fake.lock);
    while (*at) {
        handle *h = *at;
        bool part = h->kind == H_FUNCTION || h->kind == H_NODE; /* they have no end of their own */
        if (!h->dead && !part) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h);
    }
    unsigned live = 0;
    for (unsigned i = 0; i < fake.n_allocations; i++) live += fake.allocation[i].live;
    if (!live) fake.n_allocations = 0, fake.used_B = 0;
    pthread_mutex_unlock(&fake.lock);
}

__attribute__((destructor)) static void at_exit(void)
{
    static const char *const names[] = {"",       "modules", "", "streams",
                                        "events", "graphs",  "", "graph executables"};
    unsigned left[8] = {0}, memory = 0;
    for (handle *h = fake.handles, *next; h; h = next) {
        next = h->next;
        if (!h->dead) left[h->kind]++;
        free(h);
    }
    for (unsigned i = 0; i < fake.n_allocations; i++) memory += fake.allocation[i].live;
    if (!fake.log) return;
    for (int k = 0; k < 8; k++)
        if (*names[k] && left[k]) fprintf(fake.log, "LEFT %u %s\n", left[k], names[k]);
    if (memory) fprintf(fake.log, "LEFT %u allocations\n", memory);
    if (fake.retained) fprintf(fake.log, "LEFT the primary context\n");
    fclose(fake.log);
}

#define BEGIN(name)                                                                                          \
    cu_result r_ = fake_begin(#name, true);                                                                  \
    if (r_) return fake_end(r_)
#define BEGIN_FREE(name)                                                                                     \
    cu_result r_ = fake_begin(#name, false);                                                                 \
    if (r_) return fake_end(r_)

/* ---- devices and contexts */
API cu_result cuInit(unsigned flags)
{
    BEGIN_FREE(cuInit);
    return fake_end(flags ? CU_INVALID_VALUE : 0);
}
API cu_result cuDriverGetVersion(int *v)
{
    BEGIN_FREE(cuDriverGetVersion);
    *v = fake_setting("FAKE_CUDA_DRIVER", 13000);
    return fake_end(0);
}
API cu_result cuDeviceGetCount(int *n)
{
    BEGIN_FREE(cuDeviceGetCount);
    *n = 1;
    return fake_end(0);
}
API cu_result cuDeviceGet(cu_device *d, int ordinal)
{
    BEGIN_FREE(cuDeviceGet);
    *d = 0;
    return fake_end(ordinal ? CU_INVALID_VALUE : 0);
}
API cu_result cuGetErrorString(cu_result r, const char **s)
{
    *s = r == CU_OUT_OF_MEMORY     ? "out of memory"
         : r == CU_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
         : r == CU_INVALID_VALUE   ? "invalid argument"
                                   : "fake error";
    return 0;
}

API cu_result cuDeviceGetName(char *name, int size_B, cu_device d)
{
    BEGIN_FREE(cuDeviceGetName);
    snprintf(name, (size_t)size_B, "Fake GPU");
    return fake_end(d ? CU_INVALID_VALUE : 0);
}

API cu_result cuDeviceGetAttribute(int *value, int attribute, cu_device d)
{
    BEGIN_FREE(cuDeviceGetAttribute);
    int cc = fake_setting("FAKE_CUDA_CC", 90);
    if (d || (attribute != CU_DEV_SM_COUNT && attribute != CU_DEV_CC_MAJOR && attribute != CU_DEV_CC_MINOR))
        return fake_end(CU_INVALID_VALUE);
    *value = attribute == CU_DEV_SM_COUNT   ? fake_setting("FAKE_CUDA_SM", 132)
             : attribute == CU_DEV_CC_MAJOR ? cc / 10
                                            : cc % 10;
    return fake_end(0);
}

API cu_result cuDevicePrimaryCtxRetain(cu_context *c, cu_device d)
{
    BEGIN_FREE(cuDevicePrimaryCtxRetain);
    if (d) return fake_end(CU_INVALID_VALUE);
    fake.retained++;
    *c = (cu_context)(void *)&contexts[0];
    return fake_end(0);
}

API cu_result cuDevicePrimaryCtxRelease_v2(cu_device d)
{
    BEGIN_FREE(cuDevicePrimaryCtxRelease_v2);
    if (d || !fake.retained) return fake_end(CU_INVALID_VALUE);
    fake.retained--;
    return fake_end(0);
}

API cu_result cuCtxPushCurrent_v2(cu_context c)
{
    BEGIN_FREE(cuCtxPushCurrent_v2);
    if (((void *)c != &contexts[0] && (void *)c != &contexts[1]) || depth == 16)
        return fake_end(INVALID_CONTEXT);
    current[depth++] = c;
    return fake_end(0);
}

API cu_result cuCtxPopCurrent_v2(cu_context *c)
{
    BEGIN_FREE(cuCtxPopCurrent_v2);
    if (!depth) return fake_end(INVALID_CONTEXT);
    *c = current[--depth];
    return fake_end(0);
}

API cu_result cuCtxGetDevice(cu_device *d)
{
    BEGIN(cuCtxGetDevice);
    *d = 0;
    return fake_end(0);
}
API cu_result cuCtxSynchronize(void)
{
    BEGIN(cuCtxSynchronize);
    return fake_end(0);
}

API cu_result cuCtxGetDevResource(cu_context c, cu_resource *out, unsigned type)
{
    BEGIN_FREE(cuCtxGetDevResource);
    if (!c || type != CU_RESOURCE_SM) return fake_end(CU_INVALID_VALUE);
    out->type = type;
    out->sm_count = (unsigned)fake_setting("FAKE_CUDA_CONTEXT_SM", fake_setting("FAKE_CUDA_SM", 132));
    return fake_end(0);
}

API cu_result cuCtxGetExecAffinity(cu_affinity *a, unsigned type)
{
    BEGIN(cuCtxGetExecAffinity);
    a->type = type;
    a->sm_count = (unsigned)fake_setting("FAKE_CUDA_SM", 132);
    return fake_end(0);
}

/* a context that is not ours: for tests of a caller's context; not an entry point of the driver */
API void *fake_callers_context(void);
API void *fake_callers_context(void)
{
    return &contexts[1];
}

/* ---- memory */
static cu_result allocate(uint64_t *out, size_t size_B, bool pinned)
{
    if (!size_B) return CU_INVALID_VALUE;
    size_t span_B = (size_B + PAGE - 1) / PAGE * PAGE;
    if (fake.n_allocations == MAX_ALLOCATIONS || (!pinned && size_B > total_B() - fake.live_B) ||
        span_B + PAGE > range_B - fake.used_B)
        return CU_OUT_OF_MEMORY;
    char *p = fake.base + fake.used_B;
    if (mprotect(p, span_B, PROT_READ | PROT_WRITE) != 0) return CU_OUT_OF_MEMORY;
    fake.used_B += span_B + PAGE; /* a page that faults behind each */
    fake.allocation[fake.n_allocations++] = (allocation){p, size_B, true, pinned};
    if (!pinned) fake.live_B += size_B;
    *out = (uint64_t)(uintptr_t)p;
    return 0;
}

static cu_result release(uint64_t p, bool pinned)
{
    for (unsigned i = 0; i < fake.n_allocations; i++) {
        allocation *a = &fake.allocation[i];
        if (!a->live || (uint64_t)(uintptr_t)a->p != p || a->pinned != pinned) continue;
        a->live = false;
        if (!pinned) fake.live_B -= a->size_B;
        size_t span_B = (a->size_B + PAGE - 1) / PAGE * PAGE;
        madvise(a->p, span_B, MADV_DONTNEED);
        mprotect(a->p, span_B, PROT_NONE);
        return 0;
    }
    return CU_INVALID_VALUE;
}

API cu_result cuMemGetInfo_v2(size_t *free_B, size_t *total)
{
    BEGIN(cuMemGetInfo_v2);
    *total = total_B();
    *free_B = *total - fake.live_B;
    return fake_end(0);
}

API cu_result cuMemAlloc_v2(cu_ptr *p, size_t size_B)
{
    BEGIN(cuMemAlloc_v2);
    uint64_t v = 0;
    fake_log(" %zu", size_B);
    cu_result r = allocate(&v, size_B, false);
    *p = v;
    return fake_end(r);
}

API cu_result cuMemFree_v2(cu_ptr p)
{
    BEGIN(cuMemFree_v2);
    fake_log_pointer(p);
    return fake_end(release(p, false));
}

API cu_result cuMemHostAlloc(void **p, size_t size_B, unsigned flags)
{
    BEGIN(cuMemHostAlloc);
    uint64_t v = 0;
    fake_log(" %zu flags=%u", size_B, flags);
    cu_result r = allocate(&v, size_B, true);
    *p = (void *)(uintptr_t)v;
    return fake_end(r);
}

API cu_result cuMemFreeHost(void *p)
{
    BEGIN(cuMemFreeHost);
    fake_log_pointer((uintptr_t)p);
    return fake_end(release((uintptr_t)p, true));
}

/* The caller's own memory: only noted, so that it must be given back. */
API cu_result cuMemHostRegister_v2(void *p, size_t size_B, unsigned flags)
{
    BEGIN(cuMemHostRegister_v2);
    fake_log(" %zu flags=%u", size_B, flags);
    if (!p || !size_B || fake_ours((uintptr_t)p)) return fake_end(CU_INVALID_VALUE);
    if (fake.n_allocations == MAX_ALLOCATIONS) return fake_end(CU_OUT_OF_MEMORY);
    fake.allocation[fake.n_allocations++] = (allocation){p, size_B, true, true};
    return fake_end(0);
}

API cu_result cuMemHostUnregister(void *p)
{
    BEGIN(cuMemHostUnregister);
    for (unsigned i = 0; i < fake.n_allocations && !fake_ours((uintptr_t)p); i++)
        if (fake.allocation[i].live && fake.allocation[i].p == p) {
            fake.allocation[i].live = false;
            return fake_end(0);
        }
    return fake_end(CU_INVALID_VALUE);
}

API cu_result cuMemHostGetDevicePointer_v2(cu_ptr *p, void *host, unsigned flags)
{
    BEGIN(cuMemHostGetDevicePointer_v2);
    *p = (uintptr_t)host;
    return fake_end(flags || !fake_inside((uintptr_t)host, 1, false) ? CU_INVALID_VALUE : 0);
}

static bool stream_ok(cu_stream s)
{
    return !s || fake_is(s, H_STREAM);
}
static void log_stream(cu_stream s)
{
    if (s) fake_log(" stream%u", ((handle *)(void *)s)->number);
}

API cu_result cuMemcpyAsync(cu_ptr dst, cu_ptr src, size_t size_B, cu_stream s)
{
    BEGIN(cuMemcpyAsync);
    if (!stream_ok(s)) return fake_end(INVALID_HANDLE);
    fake_log_pointer(dst);
    fake_log_pointer(src);
    fake_log(" %zu", size_B);
    log_stream(s);
    if (!fake_inside(dst, size_B, true) || !fake_inside(src, size_B, true)) return fake_end(CU_INVALID_VALUE);
    memmove((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, size_B);
    return fake_end(0);
}

API cu_result cuMemsetD8Async(cu_ptr dst, unsigned char byte, size_t n, cu_stream s)
{
    BEGIN(cuMemsetD8Async);
    if (!stream_ok(s)) return fake_end(INVALID_HANDLE);
    fake_log_pointer(dst);
    fake_log(" %u %zu", byte, n);
    log_stream(s);
    if (!n || !fake_inside(dst, n, false)) return fake_end(CU_INVALID_VALUE);
    memset((void *)(uintptr_t)dst, byte, n);
    return fake_end(0);
}

/* ---- streams and events */
API cu_result cuStreamCreate(cu_stream *s, unsigned flags)
{
    BEGIN(cuStreamCreate);
    fake_log(" flags=%u", flags);
    *s = fake_new(H_STREAM, sizeof(handle));
    return fake_end(*s ? 0 : CU_OUT_OF_MEMORY);
}

API cu_result cuStreamDestroy_v2(cu_stream s)
{
    BEGIN(cuStreamDestroy_v2);
    if (!fake_is(s, H_STREAM)) return fake_end(INVALID_HANDLE);
    log_stream(s);
    fake_kill(s);
    return fake_end(0);
}

API cu_result cuStreamSynchronize(cu_stream s)
{
    BEGIN(cuStreamSynchronize);
    if (stream_ok(s)) log_stream(s);
    return fake_end(stream_ok(s) ? 0 : INVALID_HANDLE);
}
API cu_result cuStreamIsCapturing(cu_stream s, int *status)
{
    BEGIN(cuStreamIsCapturing);
    *status = fake_setting("FAKE_CUDA_CAPTURING", 0);
    return fake_end(stream_ok(s) ? 0 : INVALID_HANDLE);
}

API cu_result cuEventCreate(cu_event *e, unsigned flags)
{
    BEGIN(cuEventCreate);
    fake_log(" flags=%u", flags);
    *e = fake_new(H_EVENT, sizeof(event));
    return fake_end(*e ? 0 : CU_OUT_OF_MEMORY);
}

API cu_result cuEventDestroy_v2(cu_event e)
{
    BEGIN(cuEventDestroy_v2);
    if (!fake_is(e, H_EVENT)) return fake_end(INVALID_HANDLE);
    fake_kill(e);
    return fake_end(0);
}

API cu_result cuEventRecord(cu_event e, cu_stream s)
{
    BEGIN(cuEventRecord);
    if (!fake_is(e, H_EVENT) || !stream_ok(s)) return fake_end(INVALID_HANDLE);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    ((event *)(void *)e)->ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
    ((event *)(void *)e)->recorded = true;
    fake_log(" event%u", ((handle *)(void *)e)->number);
    log_stream(s);
    return fake_end(0);
}

API cu_result cuEventQuery(cu_event e)
{
    BEGIN(cuEventQuery);
    return fake_end(fake_is(e, H_EVENT) ? 0 : INVALID_HANDLE);
}

API cu_result cuEventSynchronize(cu_event e)
{
    BEGIN(cuEventSynchronize);
    return fake_end(fake_is(e, H_EVENT) ? 0 : INVALID_HANDLE);
}

API cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to)
{
    BEGIN(cuEventElapsedTime);
    if (!fake_is(from, H_EVENT) || !fake_is(to, H_EVENT)) return fake_end(INVALID_HANDLE);
    const event *a = (event *)(void *)from, *b = (event *)(void *)to;
    if (!a->recorded || !b->recorded) return fake_end(INVALID_HANDLE);
    *ms = (float)(b->ms - a->ms);
    return fake_end(0);
}
