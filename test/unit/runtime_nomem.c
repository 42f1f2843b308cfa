/* The n-th allocation of the host fails, for every n until a whole use of the runtime succeeds: each time an
 * error that says so, nothing leaked, and the same objects work when it is tried again. Linked with --wrap
 * for the allocating functions. */
#include "runtime_make.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

static _Atomic long left = -1; /* allocations until one fails; negative: none does */

static int fails(void)
{
    return left >= 0 && left-- == 0;
}
void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}
int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    return fails() ? 12 : __real_posix_memalign(p, align, n);
}

typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;
static uint8_t *bytes;
static size_t bytes_B;

static ccc_status use(all *x, const char *kind, ccc_err *err)
{
    cccrt_open_args oa = {sizeof oa, 1};
    cccrt_device_args da = {.size_B = sizeof da, .kind = kind, .n_threads = 2};
    cccrt_weights_args wa = {.size_B = sizeof wa, .random = 1};
    cccrt_session_args sa = {.size_B = sizeof sa, .graphs = CCCRT_GRAPHS_ALL};
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 3, .n_seqs = 3, .n_logits = 3};
    char *json;
    if (!x->a) CCC_TRY(cccrt_artifact_open_memory(&x->a, bytes, bytes_B, &oa, err));
    CCC_TRY(cccrt_artifact_verify(x->a, err));
    CCC_TRY(cccrt_artifact_info(&json, x->a, err));
    cccrt_free(json);
    if (!x->d) CCC_TRY(cccrt_device_open(&x->d, &da, err));
    if (!x->w) CCC_TRY(cccrt_weights_attach(&x->w, x->a, x->d, &wa, err));
    if (!x->kv) CCC_TRY(cccrt_kv_alloc(&x->kv, x->a, x->d, 4, err));
    sa.kv = cccrt_kv_describe(x->kv);
    if (!x->s) CCC_TRY(cccrt_session_create(&x->s, x->a, x->w, &sa, err));
    CCC_TRY(cccrt_step(x->s, &g, NULL, err));
    return cccrt_check(x->s, NULL, err);
}

static int sweep(const char *kind)
{
    for (long n = 0; n < 10000; n++) {
        all x = {0};
        ccc_err err = {0};
        left = n;
        ccc_status status = use(&x, kind, &err);
        int reached = left < 0;
        left = -1;
        if (status != CCC_OK && (status != CCC_E_NOMEM || !*err.msg)) {
            fprintf(stderr, "%s, allocation %ld: status %d '%s'\n", kind, n, status, err.msg);
            return 1;
        }
        if (status != CCC_OK && use(&x, kind, &err) != CCC_OK) {
            fprintf(stderr, "%s, allocation %ld, second try: '%s'\n", kind, n, err.msg);
            return 1;
        }
        cccrt_session_close(x.s);
        cccrt_kv_close(x.kv);
        cccrt_weights_close(x.w);
        cccrt_device_close(x.d);
        cccrt_artifact_close(x.a);
        if (!reached) {
            printf("%s: %ld allocations failed well\n", kind, n);
            return n < 20;
        }
    }
    return 1;
}

static int encode(void) /* and the writer */
{
    for (long n = 0; n < 10000; n++) {
        uint8_t *out = NULL;
        size_t size_B;
        ccc_err err = {0};
        left = n;
        ccc_status status = ccart_encode(&out, &size_B, make_file(), &err);
        int reached = left < 0;
        left = -1;
        if (status == CCC_OK) free(out);
        if (!reached) return status != CCC_OK;
        if (status != CCC_OK && (status != CCC_E_NOMEM || !*err.msg)) return 1;
    }
    return 1;
}

int main(void)
{
    make_artifact(&bytes, &bytes_B);
    int bad = encode() | sweep("cpu") | sweep("cuda");
    free(bytes);
    return bad;
}
