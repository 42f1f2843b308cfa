/* Devices: the same calls for a GPU and for the CPU. Everything that is particular to one lies behind its
 * table of functions (cuda.c, cpu.c). */
#include "rt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void rt_device_init(cccrt_device *d, const rt_backend *b)
{
    atomic_init(&d->refs, 1);
    atomic_init(&d->lost, 0);
    d->backend = b;
    d->pid = (long)getpid();
}

cccrt_device *rt_device_retain(cccrt_device *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void cccrt_device_close(cccrt_device *d)
{
    if (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1) d->backend->destroy(d);
}

ccc_status rt_enter(cccrt_device *d, ccc_err *err)
{
    if (d->pid != (long)getpid())
        return ccc_fail(err, CCC_E_DEVICE,
                        "device '%s' was opened before fork; open it again in the child process", d->name);
    int lost = atomic_load_explicit(&d->lost, memory_order_relaxed);
    if (lost)
        return ccc_fail(err, CCC_E_LOST,
                        "device '%s' is lost since driver error %d; close everything on it and start again",
                        d->name, lost);
    return d->backend->enter(d, err);
}

void rt_leave(cccrt_device *d)
{
    d->backend->leave(d);
}

ccc_status cccrt_device_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err)
{
    cccrt_device_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_device_args", err));
    if (a.kind && strcmp(a.kind, "cuda") == 0) return rt_cuda_open(out, &a, err);
    if (a.kind && strcmp(a.kind, "cpu") == 0) return rt_cpu_open(out, &a, err);
    if (a.kind) return ccc_fail(err, CCC_E_ARG, "device kind '%s' is neither cuda nor cpu", a.kind);
    if (a.context) return rt_cuda_open(out, &a, err);
    if (rt_cuda_open(out, &a, NULL) == CCC_OK) return CCC_OK;
    return rt_cpu_open(out, &a, err);
}

ccc_status cccrt_device_get_props(const cccrt_device *cd, cccrt_device_props *out, ccc_err *err)
{
    cccrt_device *d = (cccrt_device *)cd; /* asking the driver changes nothing that a caller sees */
    cccrt_device_props p = {
        .is_cuda = d->is_cuda, .cc = d->cc, .n_sm = d->n_sm, .driver_version = d->driver_version};
    memcpy(p.name, d->name, sizeof p.name);
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->memory(d, &p.free_B, &p.total_B, err);
    rt_leave(d);
    if (status == CCC_OK) rt_result(out, &p, sizeof p);
    return status;
}

static ccc_status no_target(const cccrt_device *d, const ccart_file *f, ccc_err *err)
{
    char names[160] = "";
    for (uint32_t i = 0; i < f->n_targets; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", f->target[i].name);
    }
    if (d->is_cuda)
        return ccc_fail(err, CCC_E_DEVICE,
                        "the artifact is for %s; this device is a GPU of compute capability %d.%d, '%s': "
                        "run it on the CPU, or compile for this GPU",
                        names, d->cc / 10, d->cc % 10, d->name);
    return ccc_fail(
        err, CCC_E_DEVICE,
        "the artifact is for %s; this device is a CPU, '%s'; compile for it with --target x86-64-v3", names,
        d->name);
}

/* The best target: one for exactly this device before one that merely runs on it, then the newest. */
ccc_status rt_target_for(uint32_t *index, cccrt_device *d, const cccrt_artifact *a, ccc_err *err)
{
    const ccart_file *f = a->file;
    uint32_t best = UINT32_MAX;
    ccc_status first = CCC_OK;
    for (uint32_t i = 0; i < f->n_targets; i++) {
        const ccart_target *t = &f->target[i];
        if ((t->kind == CCART_TARGET_CUDA) != d->is_cuda) continue;
        ccc_status status = d->backend->can_run(d, a, t, first == CCC_OK ? err : NULL);
        if (status != CCC_OK && first == CCC_OK) first = status;
        if (status != CCC_OK) continue;
        const ccart_target *b = best == UINT32_MAX ? NULL : &f->target[best];
        if (!b || t->cc_exact > b->cc_exact ||
            (t->cc_exact == b->cc_exact && (t->cc > b->cc || t->cpu_level > b->cpu_level)))
            best = i;
    }
    if (best == UINT32_MAX && first != CCC_OK) return first;
    if (best == UINT32_MAX) return no_target(d, f, err);
    *index = best;
    return CCC_OK;
}

ccc_status cccrt_device_can_run(const char **target, const cccrt_device *d, const cccrt_artifact *a,
                                ccc_err *err)
{
    uint32_t i;
    CCC_TRY(rt_target_for(&i, (cccrt_device *)d, a, err));
    *target = a->file->target[i].name;
    return CCC_OK;
}

ccc_status cccrt_device_synchronize(cccrt_device *d, ccc_err *err)
{
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->synchronize(d, err);
    rt_leave(d);
    return status;
}

ccc_status cccrt_device_alloc(void **out, cccrt_device *d, size_t size_B, ccc_err *err)
{
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->alloc(d, out, size_B ? size_B : 1, err);
    rt_leave(d);
    return status;
}

void cccrt_device_release(cccrt_device *d, void *p)
{
    if (!p || rt_enter(d, NULL) != CCC_OK) return; /* a lost context takes its memory with it */
    d->backend->release(d, p);
    rt_leave(d);
}

ccc_status cccrt_device_copy(cccrt_device *d, void *dst, const void *src, size_t size_B, int dst_on_device,
                             int src_on_device, ccc_err *err)
{
    if (!size_B) return CCC_OK;
    if (!dst_on_device && !src_on_device) {
        memmove(dst, src, size_B);
        return CCC_OK;
    }
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->copy(d, dst, src, size_B, NULL, err);
    if (status == CCC_OK) status = d->backend->stream_synchronize(d, NULL, err);
    rt_leave(d);
    return status;
}

ccc_status cccrt_device_fill(cccrt_device *d, void *dst, int byte, size_t size_B, ccc_err *err)
{
    if (!size_B) return CCC_OK;
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->fill(d, dst, byte, size_B, NULL, err);
    if (status == CCC_OK) status = d->backend->stream_synchronize(d, NULL, err);
    rt_leave(d);
    return status;
}
