/* The kernels of one target on one device. Modules are loaded when a program that needs them is first
 * prepared, so that attaching weights loads the load kernels alone; no kernel is loaded by a step. */
#include "rt.h"
#include <stdlib.h>

static ccc_status put_constant(rt_code *c, ccc_err *err)
{
    const ccart_target *t = c->target;
    const rt_backend *b = c->device->backend;
    if (!t->constant_B) return CCC_OK;
    CCC_TRY(b->alloc(c->device, &c->constant, (size_t)t->constant_B, err));
    CCC_TRY(b->copy(c->device, c->constant, t->constant, (size_t)t->constant_B, NULL, err));
    return b->stream_synchronize(c->device, NULL, err);
}

ccc_status rt_code_open(rt_code **out, cccrt_artifact *a, cccrt_device *d, ccc_err *err)
{
    uint32_t index;
    CCC_TRY(rt_target_for(&index, d, a, err));
    rt_code *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory while kernels are loaded");
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->artifact = rt_artifact_retain(a);
    c->device = rt_device_retain(d);
    c->target = &a->file->target[index];
    c->target_index = index;
    c->kernel = calloc(c->target->n_kernels + 1, sizeof *c->kernel);
    c->module = calloc(c->target->n_modules + 1, sizeof *c->module);
    ccc_status status = c->kernel && c->module
                            ? put_constant(c, err)
                            : ccc_fail(err, CCC_E_NOMEM, "out of memory while kernels are loaded");
    if (status != CCC_OK) {
        rt_code_close(c);
        return status;
    }
    *out = c;
    return CCC_OK;
}

rt_code *rt_code_retain(rt_code *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void rt_code_close(rt_code *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) return;
    if (rt_enter(c->device, NULL) == CCC_OK) {
        if (c->module && c->kernel) c->device->backend->unload(c);
        if (c->constant) c->device->backend->release(c->device, c->constant);
        rt_leave(c->device);
    }
    pthread_mutex_destroy(&c->lock);
    cccrt_device_close(c->device);
    cccrt_artifact_close(c->artifact);
    free(c->kernel);
    free(c->module);
    free(c->ptx);
    free(c);
}

ccc_status rt_code_need(rt_code *c, const ccart_program *p, ccc_err *err)
{
    ccc_status status = CCC_OK;
    double start = rt_now_ms();
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < p->n_nodes && status == CCC_OK; i++) {
        uint32_t k = p->node[i].kernel;
        if (p->node[i].kind != CCART_NODE_KERNEL || c->kernel[k].loaded) continue;
        status = c->device->backend->load_kernel(c, k, err);
        c->kernel[k].loaded = status == CCC_OK;
    }
    c->modules_ms += rt_now_ms() - start;
    pthread_mutex_unlock(&c->lock);
    return status;
}

double rt_code_modules_ms(rt_code *c)
{
    pthread_mutex_lock(&c->lock);
    double ms = c->modules_ms;
    pthread_mutex_unlock(&c->lock);
    return ms;
}
