/* Memory that runs out: the whole path over a small graph, once for each allocation in it, with that
 * allocation refused. Every refusal is CCC_E_NOMEM (jansson, which calls some of its own a syntax error, is
 * let off), nothing leaks, and the last round, in which nothing was refused, succeeds. The linker sends the
 * library's allocations here (--wrap), jansson's come by its hook. */
#include "../../ir/ir.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static long countdown = -1, live; /* countdown 0: refuse the next one; below: refuse nothing */

static bool refused(void)
{
    return countdown >= 0 && countdown-- == 0;
}

static void *counted(void *p)
{
    live += p != NULL;
    return p;
}

void *__wrap_malloc(size_t n)
{
    return refused() ? NULL : counted(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t m)
{
    return refused() ? NULL : counted(__real_calloc(n, m));
}

void *__wrap_realloc(void *p, size_t n)
{
    if (refused()) return NULL;
    void *q = __real_realloc(p, n);
    live += !p && q;
    return q;
}

void __wrap_free(void *p)
{
    live -= p != NULL;
    __real_free(p);
}

static bool jansson_went_without;

static void *jansson_malloc(size_t n)
{
    void *p = __wrap_malloc(n);
    jansson_went_without = jansson_went_without || !p;
    return p;
}

static const char *const text =
    "graph \"g\" sym T 1..8 fact k = \"v\" group 1 \"p\" %x = input \"x\" : f32[T,4] %w = weight \"w\" : "
    "bf16[4,4] %j = concat %w, %w "
    "%h = matmul %x, %j @1 %a = silu %h @1 %b = cast %a {to = bf16} @1 %n = rms_norm %b {eps = 1} %m = "
    "argmax %n "
    "%t = rope_table {rotary = 2, rows = 8, theta = 10} %p = input \"p\" : i64[T] %r = rope %n, %t, %p "
    "{head_size = 4} "
    "%c = cache {layer = 0} : f32.hnd[1,16,8] %s = input \"p\" : i64[T] %d = kv_write %c, %n, %n, %s %bt = "
    "input \"bt\" : i32[1,1] %l = input \"l\" : i32[1] "
    "%u = input \"u\" : i32[2] %o = attention %r, %d, %bt, %l, %u {scale = 1} return y = %o, m = %m";

static ccc_status fetch(void *payload, const char *name, ccc_tensor *t, ccc_err *err)
{
    static float kv[2 * 16 * 8];
    (void)err;
    t->data = payload; /* zeros */
    if (strcmp(name, "kv.0") == 0) t->data = kv, t->size_B = sizeof kv;
    return CCC_OK;
}

static ccc_status whole_path(ccc_graph **g, ccc_graph **h, ccc_buf *a, ccc_buf *b, ccc_tensor *out,
                             ccc_err *err)
{
    static char zeros[4096];
    ccc_eval_args args = {.sym_value = {3}, .fetch = fetch, .payload = zeros};
    CCC_TRY(ccc_ir_parse(g, text, strlen(text), "f", err));
    CCC_TRY(ccc_graph_clone(h, *g, err));
    CCC_TRY(ccc_graph_compact(*h, NULL, err));
    CCC_TRY(ccc_ir_print(*h, a));
    CCC_TRY(ccc_json_write(*h, b));
    ccc_graph_free(*h);
    *h = NULL;
    CCC_TRY(ccc_json_read(h, b->data, b->size_B, "f", err));
    return ccc_ir_eval(*h, &args, out, err);
}

Test(ir_nomem, every_allocation_may_fail)
{
    json_set_alloc_funcs(jansson_malloc, __wrap_free);
    ccc_status status = CCC_E_NOMEM;
    long n = 0;
    for (; status != CCC_OK; n++) {
        ccc_graph *g = NULL, *h = NULL;
        ccc_buf a = {0}, b = {0};
        ccc_tensor out[2] = {0};
        ccc_err err = {.code = CCC_E_NOMEM};
        long before = live;
        countdown = n;
        jansson_went_without = false;
        status = whole_path(&g, &h, &a, &b, out, &err);
        bool was_refused = countdown < 0;
        countdown = -1;
        ccc_status want = !was_refused                                    ? CCC_OK
                          : jansson_went_without && status == CCC_E_PARSE ? CCC_E_PARSE
                                                                          : CCC_E_NOMEM;
        cr_assert_eq(status, want, "allocation %ld: %s", n, err.msg);
        cr_assert(status == CCC_OK || err.code == want, "allocation %ld: %s", n, err.msg);
        ccc_graph_free(g);
        ccc_graph_free(h);
        ccc_buf_free(&a);
        ccc_buf_free(&b);
        ccc_tensor_release(&out[0]);
        ccc_tensor_release(&out[1]);
        cr_assert_eq(live, before, "allocation %ld: %ld were not freed", n, live - before);
    }
    cr_expect_gt(n, 50);
}
