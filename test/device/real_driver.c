/* Counts what libcccrt asks of the real driver, under the names that the fake driver counts under: the test
 * is linked with --wrap=dlsym, and gets functions of ours for those that allocate, free, create, load or
 * wait. */
#include "../../runtime/cuda_api.h"
#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

/* name here, symbol, parameters, their names */
#define COUNTED(X)                                                                                           \
    X(ctx_synchronize, cuCtxSynchronize, (void), ())                                                         \
    X(stream_synchronize, cuStreamSynchronize, (cu_stream s), (s))                                           \
    X(event_synchronize, cuEventSynchronize, (cu_event e), (e))                                              \
    X(mem_alloc, cuMemAlloc_v2, (cu_ptr * p, size_t n), (p, n))                                              \
    X(mem_free, cuMemFree_v2, (cu_ptr p), (p))                                                               \
    X(host_alloc, cuMemHostAlloc, (void **p, size_t n, unsigned f), (p, n, f))                               \
    X(host_free, cuMemFreeHost, (void *p), (p))                                                              \
    X(stream_new, cuStreamCreate, (cu_stream * s, unsigned f), (s, f))                                       \
    X(stream_free, cuStreamDestroy_v2, (cu_stream s), (s))                                                   \
    X(event_new, cuEventCreate, (cu_event * e, unsigned f), (e, f))                                          \
    X(event_free, cuEventDestroy_v2, (cu_event e), (e))                                                      \
    X(module_load, cuModuleLoadDataEx, (cu_module * m, const void *i, unsigned n, int *o, void **v),         \
      (m, i, n, o, v))                                                                                       \
    X(func_load, cuFuncLoad, (cu_function f), (f))                                                           \
    X(graph_new, cuGraphCreate, (cu_graph * g, unsigned f), (g, f))                                          \
    X(graph_free, cuGraphDestroy, (cu_graph g), (g))                                                         \
    X(graph_instantiate, cuGraphInstantiateWithFlags, (cu_exec * e, cu_graph g, unsigned long long f),       \
      (e, g, f))                                                                                             \
    X(exec_free, cuGraphExecDestroy, (cu_exec e), (e))

#define X(name, symbol, params, args)                                                                        \
    static cu_result(*real_##name) params;                                                                   \
    static atomic_ulong n_##name;                                                                            \
    static cu_result counted_##name params                                                                   \
    {                                                                                                        \
        atomic_fetch_add(&n_##name, 1);                                                                      \
        return real_##name args;                                                                             \
    }
COUNTED(X)
#undef X

void *__real_dlsym(void *library, const char *name);
void *__wrap_dlsym(void *library, const char *name);
void *__wrap_dlsym(void *library, const char *name)
{
    void *p = __real_dlsym(library, name);
#define X(name_, symbol, params, args)                                                                       \
    if (p && strcmp(name, #symbol) == 0) {                                                                   \
        *(void **)&real_##name_ = p;                                                                         \
        return (void *)(uintptr_t)counted_##name_;                                                           \
    }
    COUNTED(X)
#undef X
    return p;
}

unsigned long fake_count(const char *part);
unsigned long fake_count(const char *part)
{
    unsigned long n = 0;
#define X(name, symbol, params, args)                                                                        \
    if (strstr(#symbol, part)) n += atomic_load(&n_##name);
    COUNTED(X)
#undef X
    return n;
}
