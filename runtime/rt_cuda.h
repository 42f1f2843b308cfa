/* The CUDA back end's own struct, shared by cuda.c (devices, memory, modules) and cuda_graph.c (launches and
 * graphs). */
#ifndef CCCRT_CUDA_H
#define CCCRT_CUDA_H
#include "cuda_api.h"
#include "rt.h"

typedef struct {
    cccrt_device base;
    cu_api cu;
    cu_context context;
    cu_device ordinal;
    bool own_context; /* the primary context was retained by us */
} rt_cuda;

static inline rt_cuda *rt_cuda_of(cccrt_device *d)
{
    return (rt_cuda *)d;
}
/* Turns a driver result into an error; `what` was being done. A fault that spoils the context marks the
 * device as lost. */
ccc_status rt_cuda_fail(rt_cuda *c, cu_result r, const char *what, ccc_err *err);
#define RT_CU(c, what, call)                                                                                 \
    do {                                                                                                     \
        cu_result cu_ = (c)->cu.call;                                                                        \
        if (cu_) return rt_cuda_fail((c), cu_, (what), err);                                                 \
    } while (0)

ccc_status rt_cuda_encode_tmap(cccrt_device *d, uint8_t out[128], const rt_tmap_spec *m, ccc_err *err);
ccc_status rt_cuda_run(rt_code *c, const rt_list *l, void *stream, ccc_err *err);
ccc_status rt_cuda_graph_new(void **out, rt_code *c, const rt_list *l, void *stream, ccc_err *err);
ccc_status rt_cuda_graph_launch(cccrt_device *d, void *graph, void *stream, ccc_err *err);
void rt_cuda_graph_free(cccrt_device *d, void *graph);
#endif
