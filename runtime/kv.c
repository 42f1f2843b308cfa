/* The KV cache: one allocation for all layers, laid out as the kernels expect (compiler/kernels/abi.h has the
 * formulas). Engines that have a cache of their own describe it with a cccrt_kv instead. */
#include "rt.h"
#include <stdlib.h>

struct cccrt_kv_cache {
    cccrt_kv kv;
    cccrt_device *device;
    void *memory;
    void *address[]; /* k[n_layers], v[n_layers] */
};

int64_t rt_kv_row_B(const ccart_file *f)
{
    return (int64_t)f->head_size * (f->kv_dtype == CCART_E4M3 ? 1 : 2);
}

void rt_kv_strides(const ccart_file *f, cccrt_kv *kv, uint64_t *layer_B, bool *joined)
{
    int64_t heads = f->kv_heads, block = f->kv_block_size, row_B = rt_kv_row_B(f);
    *joined = f->kv_layout == 3;
    switch (f->kv_layout) {
    case 1: /* nhd: [block][token][head][size] */
        kv->head_stride_B = row_B;
        kv->token_stride_B = heads * row_B;
        break;
    case 2: /* hnd: [block][head][token][size] */
        kv->token_stride_B = row_B;
        kv->head_stride_B = block * row_B;
        break;
    default: /* ccc: [block][head][page][K,V][token][size] */
        kv->token_stride_B = 0;
        kv->head_stride_B = 2 * block * row_B;
    }
    kv->block_stride_B = heads * block * row_B * (*joined ? 2 : 1);
    *layer_B = (uint64_t)kv->block_stride_B;
}

static ccc_status fill_cache(cccrt_kv_cache *c, uint64_t part_B, bool joined, ccc_err *err)
{
    cccrt_device *d = c->device;
    uint32_t n = c->kv.n_layers;
    uint64_t total_B = part_B * n * (joined ? 1 : 2), free_B, all_B;
    CCC_TRY(rt_enter(d, err));
    ccc_status status = d->backend->memory(d, &free_B, &all_B, err);
    if (status == CCC_OK && total_B > free_B)
        status =
            ccc_fail(err, CCC_E_NOMEM, "a KV cache of %lld blocks needs %llu bytes, the device has %llu free",
                     (long long)c->kv.n_blocks, (unsigned long long)total_B, (unsigned long long)free_B);
    if (status == CCC_OK) status = d->backend->alloc(d, &c->memory, (size_t)total_B, err);
    if (status == CCC_OK && d->is_cuda)
        status = d->backend->fill(d, c->memory, 0, (size_t)total_B, NULL, err); /* the CPU's is zeros */
    if (status == CCC_OK) status = d->backend->stream_synchronize(d, NULL, err);
    rt_leave(d);
    for (uint32_t i = 0; i < n && status == CCC_OK; i++) {
        char *k = (char *)c->memory + part_B * i * (joined ? 1 : 2);
        c->address[i] = k;
        c->address[n + i] = joined ? k : k + part_B;
    }
    return status;
}

ccc_status cccrt_kv_alloc(cccrt_kv_cache **out, const cccrt_artifact *a, cccrt_device *d, int64_t n_blocks,
                          ccc_err *err)
{
    const ccart_file *f = a->file;
    if (!f->n_layers) return ccc_fail(err, CCC_E_ARG, "the model has no KV cache");
    if (n_blocks < 1 || n_blocks > INT32_MAX)
        return ccc_fail(err, CCC_E_ARG, "a KV cache of %lld blocks; 1 to %d are possible",
                        (long long)n_blocks, INT32_MAX);
    cccrt_kv_cache *c = calloc(1, sizeof *c + 2 * (size_t)f->n_layers * sizeof *c->address);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory for a KV cache");
    uint64_t block_B, part_B;
    bool joined;
    c->device = rt_device_retain(d);
    c->kv = (cccrt_kv){.size_B = sizeof c->kv,
                       .n_layers = f->n_layers,
                       .k = c->address,
                       .v = c->address + f->n_layers,
                       .n_blocks = n_blocks};
    rt_kv_strides(f, &c->kv, &block_B, &joined);
    ccc_status status =
        __builtin_mul_overflow(block_B, (uint64_t)n_blocks, &part_B) || part_B >> 46
            ? ccc_fail(err, CCC_E_ARG, "a KV cache of %lld blocks is too large", (long long)n_blocks)
            : fill_cache(c, (part_B + RT_ALIGN_B - 1) & ~(uint64_t)(RT_ALIGN_B - 1), joined, err);
    if (status != CCC_OK) {
        cccrt_kv_close(c);
        return status;
    }
    *out = c;
    return CCC_OK;
}

void cccrt_kv_close(cccrt_kv_cache *c)
{
    if (!c) return;
    cccrt_device_release(c->device, c->memory);
    cccrt_device_close(c->device);
    free(c);
}

const cccrt_kv *cccrt_kv_describe(const cccrt_kv_cache *c)
{
    return &c->kv;
}
