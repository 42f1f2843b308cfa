/* CUDA by its driver interface alone, opened with dlopen: devices and contexts, memory, streams and events,
 * kernels. The primary context is retained and released, never reset; a context of the caller's is pushed
 * around each call. libcuda is never closed: others in the process may use it. */
#include "rt_cuda.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JIT_LOG_B = 2048, LARGE_SHARED_B = 48 << 10, PORTABLE_CLUSTER = 8 };

static bool sticky(cu_result r)
{
    return r == CU_ECC || r == CU_ILLEGAL_ADDRESS || r == CU_LAUNCH_TIMEOUT || r == CU_CONTEXT_DESTROYED ||
           r == CU_ASSERT || (r >= CU_HARDWARE_STACK && r <= CU_LAUNCH_FAILED) || r == CU_UNKNOWN;
}

ccc_status rt_cuda_fail(rt_cuda *c, cu_result r, const char *what, ccc_err *err)
{
    const char *text = NULL;
    if (c->cu.error_string(r, &text) != 0 || !text) text = "unknown error";
    if (sticky(r)) {
        atomic_store_explicit(&c->base.lost, r, memory_order_relaxed);
        return ccc_fail(err, CCC_E_LOST,
                        "cannot %s: %s (driver error %d); the device is lost, close everything on it", what,
                        text, r);
    }
    return ccc_fail(err, r == CU_OUT_OF_MEMORY ? CCC_E_NOMEM : CCC_E_DEVICE,
                    "cannot %s: %s (driver error %d)", what, text, r);
}

/* ---- memory, streams, events */
static ccc_status enter(cccrt_device *d, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "use the device's context", ctx_push(rt_cuda_of(d)->context));
    return CCC_OK;
}

static void leave(cccrt_device *d)
{
    cu_context c;
    rt_cuda_of(d)->cu.ctx_pop(&c);
}

static ccc_status memory(cccrt_device *d, uint64_t *free_B, uint64_t *total_B, ccc_err *err)
{
    size_t f, t;
    RT_CU(rt_cuda_of(d), "ask for free memory", mem_info(&f, &t));
    *free_B = f;
    *total_B = t;
    return CCC_OK;
}

static ccc_status alloc(cccrt_device *d, void **out, size_t size_B, ccc_err *err)
{
    cu_ptr p;
    char what[64];
    snprintf(what, sizeof what, "allocate %zu bytes on the device", size_B);
    RT_CU(rt_cuda_of(d), what, mem_alloc(&p, size_B));
    *out = (void *)(uintptr_t)p;
    return CCC_OK;
}

static void release(cccrt_device *d, void *p)
{
    rt_cuda_of(d)->cu.mem_free((cu_ptr)(uintptr_t)p);
}

static ccc_status alloc_host(cccrt_device *d, void **host, void **device, size_t size_B, ccc_err *err)
{
    cu_ptr p;
    rt_cuda *c = rt_cuda_of(d);
    RT_CU(c, "allocate page-locked memory",
          host_alloc(host, size_B, CU_HOSTALLOC_PORTABLE | CU_HOSTALLOC_DEVICEMAP));
    cu_result r = c->cu.host_pointer(&p, *host, 0);
    if (r) {
        c->cu.host_free(*host);
        return rt_cuda_fail(c, r, "map page-locked memory", err);
    }
    if (device) *device = (void *)(uintptr_t)p;
    return CCC_OK;
}

static void release_host(cccrt_device *d, void *host)
{
    rt_cuda_of(d)->cu.host_free(host);
}

static ccc_status lock_host(cccrt_device *d, void *host, size_t size_B, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "page-lock memory", host_register(host, size_B, CU_HOSTREGISTER_PORTABLE));
    return CCC_OK;
}

static void unlock_host(cccrt_device *d, void *host)
{
    rt_cuda_of(d)->cu.host_unregister(host);
}

static ccc_status copy(cccrt_device *d, void *dst, const void *src, size_t size_B, void *stream, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "copy", copy((cu_ptr)(uintptr_t)dst, (cu_ptr)(uintptr_t)src, size_B, stream));
    return CCC_OK;
}

static ccc_status fill(cccrt_device *d, void *dst, int byte, size_t size_B, void *stream, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "fill memory", fill((cu_ptr)(uintptr_t)dst, (unsigned char)byte, size_B, stream));
    return CCC_OK;
}

static ccc_status synchronize(cccrt_device *d, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "finish the device's work", ctx_synchronize());
    return CCC_OK;
}

static ccc_status stream_synchronize(cccrt_device *d, void *stream, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "finish a stream's work", stream_synchronize(stream));
    return CCC_OK;
}

static bool capturing(cccrt_device *d, void *stream)
{
    int status = 0;
    cu_result r = rt_cuda_of(d)->cu.stream_capturing(stream, &status);
    return r == CU_CAPTURE_IMPLICIT || (!r && status);
}

static ccc_status stream_new(cccrt_device *d, void **out, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "make a stream", stream_new((cu_stream *)out, CU_STREAM_OWN));
    return CCC_OK;
}

static void stream_free(cccrt_device *d, void *stream)
{
    rt_cuda_of(d)->cu.stream_free(stream);
}

static ccc_status event_new(cccrt_device *d, void **out, bool timing, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "make an event", event_new((cu_event *)out, timing ? 0 : CU_EVENT_NO_TIMING));
    return CCC_OK;
}

static void event_free(cccrt_device *d, void *event)
{
    rt_cuda_of(d)->cu.event_free(event);
}

static ccc_status event_record(cccrt_device *d, void *event, void *stream, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "record an event", event_record(event, stream));
    return CCC_OK;
}

static ccc_status event_wait(cccrt_device *d, void *event, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(d);
    cu_result r = c->cu.event_query(event);
    if (r == 0) return CCC_OK; /* mostly it is long past: no need to synchronise */
    if (r != CU_NOT_READY) return rt_cuda_fail(c, r, "wait for the device", err);
    RT_CU(c, "wait for the device", event_synchronize(event));
    return CCC_OK;
}

static ccc_status event_ms(cccrt_device *d, double *ms, void *from, void *to, ccc_err *err)
{
    float f;
    RT_CU(rt_cuda_of(d), "measure time", event_ms(&f, from, to));
    *ms = f;
    return CCC_OK;
}

/* ---- kernels */
static bool cubin_fits(const cccrt_device *d, const ccart_target *t)
{
    bool cc = t->cc_exact ? (uint32_t)d->cc == t->cc
                          : (uint32_t)d->cc / 10 == t->cc / 10 && (uint32_t)d->cc >= t->cc;
    return cc && (uint32_t)d->driver_version >= t->min_driver_cubin;
}

static bool ptx_fits(const cccrt_device *d, const ccart_target *t)
{
    bool cc = t->cc_exact ? (uint32_t)d->cc == t->cc : (uint32_t)d->cc >= t->cc;
    return cc && t->min_driver_ptx && (uint32_t)d->driver_version >= t->min_driver_ptx;
}

static ccc_status can_run(cccrt_device *d, const cccrt_artifact *a, const ccart_target *t, ccc_err *err)
{
    (void)a;
    bool cubins = true, ptx = true;
    for (uint32_t i = 0; i < t->n_kernels; i++) {
        cubins &= t->kernel[i].cubin != UINT32_MAX;
        ptx &= t->kernel[i].ptx != UINT32_MAX;
    }
    if ((cubins && cubin_fits(d, t)) || (ptx && ptx_fits(d, t))) return CCC_OK;
    uint32_t least =
        cubins && (!ptx || t->min_driver_cubin < t->min_driver_ptx) ? t->min_driver_cubin : t->min_driver_ptx;
    if (t->cc_exact ? (uint32_t)d->cc == t->cc : (uint32_t)d->cc >= t->cc)
        return ccc_fail(err, CCC_E_DEVICE, "target %s needs a driver for CUDA %u.%u, this one is for %d.%d",
                        t->name, least / 1000, least % 1000 / 10, d->driver_version / 1000,
                        d->driver_version % 1000 / 10);
    return ccc_fail(err, CCC_E_DEVICE, "target %s needs a GPU of compute capability %u.%u, '%s' has %d.%d",
                    t->name, t->cc / 10, t->cc % 10, d->name, d->cc / 10, d->cc % 10);
}

static ccc_status load_module(rt_cuda *c, cu_module *out, const void *image, const char *kernel, ccc_err *err)
{
    char log[JIT_LOG_B] = "";
    int options[] = {CU_JIT_LOG, CU_JIT_LOG_SIZE};
    void *values[] = {log, (void *)(uintptr_t)JIT_LOG_B};
    cu_result r = c->cu.module_load(out, image, 2, options, values);
    if (!r) return CCC_OK;
    log[strcspn(log, "\n")] = 0;
    char what[400];
    snprintf(what, sizeof what, "load kernel '%.100s'%s%.200s", kernel, *log ? ": " : "", log);
    return rt_cuda_fail(c, r, what, err);
}

static ccc_status occupancy(rt_cuda *c, const ccart_kernel *k, rt_kernel *to, ccc_err *err)
{
    int blocks = 0, clusters = 0;
    RT_CU(c, "ask for a kernel's occupancy",
          occupancy_blocks(&blocks, to->entry, (int)k->threads, k->shared_B));
    if (blocks < 1)
        return ccc_fail(err, CCC_E_DEVICE, "kernel '%s' does not fit on a multiprocessor of this device",
                        k->name);
    to->resident = (int64_t)blocks * c->base.n_sm / k->cluster;
    if (k->cluster > 1) {
        cu_attr a = {.id = CU_ATTR_CLUSTER, .value.cluster = {k->cluster, 1, 1}};
        cu_launch l = {.grid = {k->cluster * (unsigned)c->base.n_sm, 1, 1},
                       .block = {k->threads, 1, 1},
                       .shared_B = k->shared_B,
                       .attrs = &a,
                       .n_attrs = 1};
        RT_CU(c, "ask for a kernel's occupancy", occupancy_clusters(&clusters, to->entry, &l));
        if (clusters < to->resident) to->resident = clusters;
    }
    if (to->resident < 1)
        return ccc_fail(err, CCC_E_DEVICE, "a cluster of kernel '%s' does not fit on this device", k->name);
    return CCC_OK;
}

/* One struct, as large as the artifact says: the driver copies as many bytes as the kernel declares. It may
 * begin behind offset 0. */
static ccc_status check_arguments(rt_cuda *c, const ccart_kernel *k, cu_function f, ccc_err *err)
{
    size_t offset_B, size_B = 0, more_B;
    if (!c->cu.func_param) return CCC_OK; /* older drivers cannot tell */
    cu_result first = c->cu.func_param(f, 0, &offset_B, &size_B),
              second = first ? first : c->cu.func_param(f, 1, &offset_B, &more_B);
    if (second && second != CU_INVALID_VALUE)
        return rt_cuda_fail(c, second, "ask for a kernel's arguments", err);
    if (first || !second || size_B != k->args_B)
        return ccc_fail(err, CCC_E_CORRUPT, "kernel '%s' does not take one argument of %u bytes", k->name,
                        k->args_B);
    return CCC_OK;
}

static ccc_status load_kernel(rt_code *code, uint32_t index, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    const ccart_target *t = code->target;
    const ccart_kernel *k = &t->kernel[index];
    rt_kernel *to = &code->kernel[index];
    uint32_t m = k->cubin != UINT32_MAX && cubin_fits(&c->base, t) ? k->cubin : k->ptx;
    if (m == UINT32_MAX)
        return ccc_fail(err, CCC_E_DEVICE, "kernel '%s' has no code for this device", k->name);
    if (!code->module[m]) {
        if (!t->module[m].data && !code->ptx) CCC_TRY(ccart_ptx_unpack(&code->ptx, t, err));
        CCC_TRY(load_module(c, (cu_module *)&code->module[m], ccart_ptx_text(t, m, code->ptx), k->name, err));
    }
    RT_CU(c, "find a kernel in its module",
          module_function((cu_function *)&to->entry, code->module[m], k->symbol));
    CCC_TRY(check_arguments(c, k, to->entry, err));
    if (k->shared_B > LARGE_SHARED_B) {
        RT_CU(c, "give a kernel its shared memory",
              func_set(to->entry, CU_FUNC_MAX_DYNAMIC_SHARED, (int)k->shared_B));
        RT_CU(c, "give a kernel its shared memory", func_set(to->entry, CU_FUNC_CARVEOUT, 100));
    }
    if (k->cluster > PORTABLE_CLUSTER)
        RT_CU(c, "allow large clusters", func_set(to->entry, CU_FUNC_NON_PORTABLE_CLUSTER, 1));
    if (c->cu.func_load) RT_CU(c, "load a kernel", func_load(to->entry)); /* else the first launch would */
    return occupancy(c, k, to, err);
}

static void unload(rt_code *code)
{
    for (uint32_t i = 0; i < code->target->n_modules; i++)
        if (code->module[i]) rt_cuda_of(code->device)->cu.module_unload(code->module[i]);
}

/* ---- opening */
static void destroy(cccrt_device *d)
{
    rt_cuda *c = rt_cuda_of(d);
    if (c->own_context) c->cu.primary_release(c->ordinal);
    free(c);
}

static const rt_backend cuda_backend = {
    .destroy = destroy,
    .enter = enter,
    .leave = leave,
    .can_run = can_run,
    .memory = memory,
    .alloc = alloc,
    .release = release,
    .alloc_host = alloc_host,
    .release_host = release_host,
    .lock_host = lock_host,
    .unlock_host = unlock_host,
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
    .encode_tmap = rt_cuda_encode_tmap,
    .run = rt_cuda_run,
    .graph_new = rt_cuda_graph_new,
    .graph_launch = rt_cuda_graph_launch,
    .graph_free = rt_cuda_graph_free,
};

static ccc_status open_driver(cu_api *cu, ccc_err *err)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!lib) return ccc_fail(err, CCC_E_DEVICE, "no CUDA driver: libcuda.so.1 cannot be opened");
    const char *missing = NULL;
#define X(name, symbol, params)                                                                              \
    *(void **)&cu->name = dlsym(lib, #symbol);                                                               \
    if (!cu->name && !missing) missing = #symbol;
    CU_ENTRY_POINTS(X)
#undef X
    const char *needed = missing;
#define X(name, symbol, params) *(void **)&cu->name = dlsym(lib, #symbol);
    CU_OPTIONAL_POINTS(X)
#undef X
    if (needed) return ccc_fail(err, CCC_E_DEVICE, "the CUDA driver is too old: it has no %s", needed);
    return CCC_OK;
}

/* How many multiprocessors the context may use: fewer than the device has in a green context or under MPS. */
static int count_sm(rt_cuda *c, int all)
{
    cu_resource r = {0};
    cu_affinity a = {0};
    int n = all;
    if (c->cu.ctx_resource && c->cu.ctx_resource(c->context, &r, CU_RESOURCE_SM) == 0 && r.sm_count &&
        (int)r.sm_count < n)
        n = (int)r.sm_count;
    if (c->cu.ctx_affinity && c->cu.ctx_affinity(&a, CU_AFFINITY_SM_COUNT) == 0 && a.sm_count &&
        (int)a.sm_count < n)
        n = (int)a.sm_count;
    return n;
}

static ccc_status look_at_device(rt_cuda *c, ccc_err *err)
{
    int major, minor, sm;
    if (!c->own_context) RT_CU(c, "use the caller's context", ctx_device(&c->ordinal));
    RT_CU(c, "ask for the device's name", device_name(c->base.name, sizeof c->base.name, c->ordinal));
    RT_CU(c, "ask for the device's properties", device_attribute(&major, CU_DEV_CC_MAJOR, c->ordinal));
    RT_CU(c, "ask for the device's properties", device_attribute(&minor, CU_DEV_CC_MINOR, c->ordinal));
    RT_CU(c, "ask for the device's properties", device_attribute(&sm, CU_DEV_SM_COUNT, c->ordinal));
    c->base.cc = 10 * major + minor;
    c->base.n_sm = count_sm(c, sm);
    return CCC_OK;
}

static ccc_status open_context(rt_cuda *c, const cccrt_device_args *args, ccc_err *err)
{
    int n;
    CCC_TRY(open_driver(&c->cu, err));
    RT_CU(c, "start the CUDA driver", init(0));
    RT_CU(c, "ask for the driver's version", driver_version(&c->base.driver_version));
    if (args->context) {
        c->context = args->context;
    } else {
        RT_CU(c, "count GPUs", device_count(&n));
        if (args->ordinal < 0 || args->ordinal >= n)
            return ccc_fail(err, CCC_E_DEVICE, "there is no GPU %d; the driver shows %d", args->ordinal, n);
        RT_CU(c, "open the GPU", device_get(&c->ordinal, args->ordinal));
        RT_CU(c, "open the GPU's context", primary_retain(&c->context, c->ordinal));
        c->own_context = true;
    }
    CCC_TRY(enter(&c->base, err));
    ccc_status status = look_at_device(c, err);
    leave(&c->base);
    return status;
}

ccc_status rt_cuda_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err)
{
    double start = rt_now_ms();
    rt_cuda *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory while a device is opened");
    rt_device_init(&c->base, &cuda_backend);
    c->base.is_cuda = true;
    ccc_status status = open_context(c, args, err);
    if (status != CCC_OK) {
        destroy(&c->base);
        return status;
    }
    c->base.context_ms = rt_now_ms() - start;
    *out = &c->base;
    return CCC_OK;
}
