/* Launches on CUDA: one after the other on a stream, or as a graph built from explicit nodes - no capture, no
 * run before. A graph is one chain; its edges are full, or programmatic, where the next kernel starts while
 * the one before runs and waits by itself. */
#include "rt_cuda.h"
#include <stdlib.h>
#include <string.h>

ccc_status rt_cuda_encode_tmap(cccrt_device *d, uint8_t out[128], const rt_tmap_spec *m, ccc_err *err)
{
    static const uint32_t step[CCART_MAX_RANK] = {1, 1, 1, 1};
    rt_cuda *c = rt_cuda_of(d);
    int type = m->dtype == CCART_F32    ? CU_TMAP_F32
               : m->dtype == CCART_F16  ? CU_TMAP_F16
               : m->dtype == CCART_BF16 ? CU_TMAP_BF16
               : m->dtype == CCART_I32  ? CU_TMAP_I32
                                        : CU_TMAP_U8;
    int swizzle = m->swizzle == 128 ? 3 : m->swizzle == 64 ? 2 : m->swizzle == 32 ? 1 : 0;
    int promotion = m->promotion == 4 ? 3 : (int)m->promotion;
    cu_tensor_map map;
    RT_CU(c, "encode a tensor map",
          tensor_map(&map, type, m->rank, (void *)(uintptr_t)m->base, m->dim, m->stride + 1, m->box, step, 0,
                     swizzle, promotion, 0));
    memcpy(out, &map, sizeof map);
    return CCC_OK;
}

static unsigned attributes(cu_attr a[3], const ccart_kernel *k, const rt_launch *l)
{
    unsigned n = 0;
    if (k->cluster > 1) a[n++] = (cu_attr){.id = CU_ATTR_CLUSTER, .value.cluster = {k->cluster, 1, 1}};
    if (k->flags & CCART_KERNEL_COOPERATIVE) a[n++] = (cu_attr){.id = CU_ATTR_COOPERATIVE, .value.number = 1};
    if (l->edge == CCART_EDGE_PROGRAMMATIC) a[n++] = (cu_attr){.id = CU_ATTR_PROGRAMMATIC, .value.number = 1};
    return n;
}

ccc_status rt_cuda_run(rt_code *code, const rt_list *list, void *stream, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    for (uint32_t i = 0; i < list->n; i++) {
        const rt_launch *l = &list->launch[i];
        if (l->kind == CCART_NODE_MEMSET) {
            RT_CU(c, "fill memory", fill((cu_ptr)(uintptr_t)l->dst, l->fill, l->size_B, stream));
        } else if (l->kind == CCART_NODE_COPY) {
            RT_CU(c, "copy", copy((cu_ptr)(uintptr_t)l->dst, (cu_ptr)(uintptr_t)l->src, l->size_B, stream));
        } else {
            const ccart_kernel *k = &code->target->kernel[l->kernel];
            cu_attr a[3];
            void *params[] = {(void *)(uintptr_t)l->args};
            cu_launch x = {.grid = {l->grid[0], l->grid[1], l->grid[2]},
                           .block = {k->threads, 1, 1},
                           .shared_B = k->shared_B,
                           .stream = stream,
                           .attrs = a};
            x.n_attrs = attributes(a, k, l);
            RT_CU(c, "launch a kernel", launch(&x, code->kernel[l->kernel].entry, params, NULL));
        }
    }
    return CCC_OK;
}

static ccc_status add_kernel(rt_code *code, cu_node *out, cu_graph g, const rt_launch *l, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    const ccart_kernel *k = &code->target->kernel[l->kernel];
    void *params[] = {(void *)(uintptr_t)l->args};
    cu_kernel_node p = {.func = code->kernel[l->kernel].entry,
                        .grid = {l->grid[0], l->grid[1], l->grid[2]},
                        .block = {k->threads, 1, 1},
                        .shared_B = k->shared_B,
                        .params = params};
    RT_CU(c, "add a kernel to a graph", graph_kernel(out, g, NULL, 0, &p));
    cu_attr a[3];
    unsigned n = attributes(a, k, l);
    for (unsigned i = 0; i < n; i++)
        if (a[i].id != CU_ATTR_PROGRAMMATIC) /* in a graph that is the edge's property */
            RT_CU(c, "set an attribute of a graph's kernel", graph_kernel_attr(*out, a[i].id, &a[i].value));
    return CCC_OK;
}

static ccc_status add_memory(rt_code *code, cu_node *out, cu_graph g, const rt_launch *l, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    if (l->kind == CCART_NODE_MEMSET) {
        cu_memset_node m = {.dst = (cu_ptr)(uintptr_t)l->dst,
                            .value = l->fill,
                            .element_B = 1,
                            .width = l->size_B,
                            .height = 1};
        RT_CU(c, "add a fill to a graph", graph_memset(out, g, NULL, 0, &m, c->context));
        return CCC_OK;
    }
    cu_memcpy_node m = {.src_type = CU_MEMORY_DEVICE,
                        .src = (cu_ptr)(uintptr_t)l->src,
                        .dst_type = CU_MEMORY_DEVICE,
                        .dst = (cu_ptr)(uintptr_t)l->dst,
                        .width_B = l->size_B,
                        .height = 1,
                        .depth = 1};
    RT_CU(c, "add a copy to a graph", graph_memcpy(out, g, NULL, 0, &m, c->context));
    return CCC_OK;
}

static ccc_status fill_graph(rt_code *code, cu_graph g, const rt_list *list, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    cu_node before = NULL, node = NULL;
    for (uint32_t i = 0; i < list->n; i++, before = node) {
        const rt_launch *l = &list->launch[i];
        if (l->kind == CCART_NODE_KERNEL) CCC_TRY(add_kernel(code, &node, g, l, err));
        else CCC_TRY(add_memory(code, &node, g, l, err));
        cu_edge e = {0};
        if (l->edge == CCART_EDGE_PROGRAMMATIC)
            e = (cu_edge){.from_port = CU_PORT_PROGRAMMATIC, .type = CU_EDGE_PROGRAMMATIC};
        if (before) RT_CU(c, "join nodes of a graph", graph_edges(g, &before, &node, &e, 1));
    }
    return CCC_OK;
}

ccc_status rt_cuda_graph_new(void **out, rt_code *code, const rt_list *list, void *stream, ccc_err *err)
{
    rt_cuda *c = rt_cuda_of(code->device);
    cu_graph g;
    cu_exec e = NULL;
    RT_CU(c, "make a graph", graph_new(&g, 0));
    ccc_status status = fill_graph(code, g, list, err);
    if (status == CCC_OK) {
        cu_result r = c->cu.graph_instantiate(&e, g, 0);
        if (r) status = rt_cuda_fail(c, r, "make a graph executable", err);
    }
    if (status == CCC_OK) {
        cu_result r = c->cu.exec_upload(e, stream);
        if (r) {
            c->cu.exec_free(e);
            status = rt_cuda_fail(c, r, "upload a graph", err);
        }
    }
    c->cu.graph_free(g);
    if (status == CCC_OK) *out = e;
    return status;
}

ccc_status rt_cuda_graph_launch(cccrt_device *d, void *graph, void *stream, ccc_err *err)
{
    RT_CU(rt_cuda_of(d), "launch a graph", exec_launch(graph, stream));
    return CCC_OK;
}

void rt_cuda_graph_free(cccrt_device *d, void *graph)
{
    rt_cuda_of(d)->cu.exec_free(graph);
}
