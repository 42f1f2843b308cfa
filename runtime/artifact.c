/* An artifact in memory: read, decoded, validated, immutable. The file's bytes are read, not mapped: what was
 * checked cannot change afterwards, and a file cut off behind our back is no signal. */
#include "rt.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH_SHOWN = 200 };

static ccc_status read_whole(void **out, size_t *size_B, const char *path, ccc_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in place of a file must not block */;
    if (fd < 0) return ccc_fail(err, CCC_E_IO, "cannot open '%s': %s", path, strerror(errno));
    struct stat st;
    ccc_status status = CCC_OK;
    uint8_t *data = NULL;
    size_t n = 0;
    if (fstat(fd, &st) != 0) status = ccc_fail(err, CCC_E_IO, "cannot read '%s': %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode)) status = ccc_fail(err, CCC_E_IO, "'%s' is not a file", path);
    else if (st.st_size > 2 * (off_t)CCART_MAX_RAW_B)
        status =
            ccc_fail(err, CCC_E_CORRUPT, "'%s' is no artifact: it is larger than the format allows", path);
    else if (!(data = malloc(st.st_size ? (size_t)st.st_size : 1)))
        status =
            ccc_fail(err, CCC_E_NOMEM, "out of memory: '%s' has %lld bytes", path, (long long)st.st_size);
    while (status == CCC_OK && n < (size_t)st.st_size) {
        ssize_t k = read(fd, data + n, (size_t)st.st_size - n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            status = ccc_fail(err, CCC_E_IO, "cannot read '%s': %s", path,
                              k < 0 ? strerror(errno) : "it became shorter");
        else n += (size_t)k;
    }
    close(fd);
    if (status != CCC_OK) {
        free(data);
        return status;
    }
    *out = data;
    *size_B = n;
    return CCC_OK;
}

static ccc_status open_bytes(cccrt_artifact **out, const void *data, size_t size_B,
                             const cccrt_open_args *args, ccc_err *err)
{
    cccrt_open_args a;
    CCC_TRY(rt_args(&a, sizeof a, args, "cccrt_open_args", err));
    double start = rt_now_ms();
    ccart_file *file;
    CCC_TRY(ccart_decode(&file, data, size_B, 0, err));
    ccc_status status = ccart_validate(file, err);
    cccrt_artifact *r = status == CCC_OK ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        ccart_release(file);
        return status != CCC_OK ? status
                                : ccc_fail(err, CCC_E_NOMEM, "out of memory while an artifact is opened");
    }
    atomic_init(&r->refs, 1);
    r->file = file;
    r->data = data;
    r->size_B = size_B;
    r->allow_host_code = a.allow_host_code != 0;
    r->open_ms = rt_now_ms() - start;
    *out = r;
    return CCC_OK;
}

ccc_status cccrt_artifact_open(cccrt_artifact **out, const char *path, const cccrt_open_args *args,
                               ccc_err *err)
{
    void *data = NULL;
    size_t size_B = 0;
    double start = rt_now_ms();
    if (!path) return ccc_fail(err, CCC_E_ARG, "cccrt_artifact_open: path is NULL");
    CCC_TRY(read_whole(&data, &size_B, path, err));
    ccc_err inner = {0};
    ccc_status status = open_bytes(out, data, size_B, args, &inner);
    if (status != CCC_OK) {
        free(data);
        return ccc_fail(err, status, "'%.*s': %.*s", MAX_PATH_SHOWN, path,
                        (int)sizeof inner.msg - MAX_PATH_SHOWN - 8, inner.msg);
    }
    (*out)->owned = data;
    (*out)->open_ms = rt_now_ms() - start;
    return CCC_OK;
}

ccc_status cccrt_artifact_open_memory(cccrt_artifact **out, const void *data, size_t size_B,
                                      const cccrt_open_args *args, ccc_err *err)
{
    if (!data) return ccc_fail(err, CCC_E_ARG, "cccrt_artifact_open_memory: data is NULL");
    return open_bytes(out, data, size_B, args, err);
}

cccrt_artifact *rt_artifact_retain(cccrt_artifact *a)
{
    atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    return a;
}

void cccrt_artifact_close(cccrt_artifact *a)
{
    if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1) return;
    ccart_release(a->file);
    free(a->owned);
    free(a);
}

/* Opening has decoded and checked all but the texts. Hashes are looked at once more; and in a caller's memory,
 * which may have changed since, every number. */
ccc_status cccrt_artifact_verify(const cccrt_artifact *a, ccc_err *err)
{
    ccart_file *text;
    CCC_TRY(ccart_decode(&text, a->data, a->size_B, CCART_TEXT_ALONE, err));
    ccart_release(text);
    return a->owned ? CCC_OK : ccart_validate(a->file, err);
}

void cccrt_artifact_model(const cccrt_artifact *a, cccrt_model *out)
{
    static const char *const layouts[] = {"", "nhd", "hnd", "ccc"};
    const ccart_file *f = a->file;
    cccrt_model m = {
        .max_tokens = f->max_tokens,
        .max_seqs = f->max_seqs,
        .max_model_len = f->max_model_len,
        .vocab = f->vocab,
        .hidden = f->hidden,
        .n_layers = f->n_layers,
        .kv_heads = f->kv_heads,
        .head_size = f->head_size,
        .kv_block_size = f->kv_block_size,
        .kv_layout = layouts[f->n_layers ? f->kv_layout : 0],
        .kv_dtype = f->n_layers ? ccart_dtype_name(f->kv_dtype) : "",
        .n_sizes = f->n_sizes,
        .sizes = f->size,
        .n_targets = f->n_targets,
    };
    for (uint32_t i = 0; i < f->n_targets; i++) {
        m.n_programs += f->target[i].n_programs;
        m.n_kernels += f->target[i].n_kernels;
    }
    rt_result(out, &m, sizeof m);
}

const char *cccrt_artifact_fact(const cccrt_artifact *a, const char *key)
{
    for (uint32_t i = 0; i < a->file->n_facts; i++)
        if (strcmp(a->file->fact[i].key, key) == 0) return a->file->fact[i].value;
    return NULL;
}

const char *cccrt_artifact_target(const cccrt_artifact *a, uint32_t i)
{
    return i < a->file->n_targets ? a->file->target[i].name : NULL;
}
void cccrt_free(void *p)
{
    free(p);
}
