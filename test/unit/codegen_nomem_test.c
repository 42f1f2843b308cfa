/* Memory that runs out, in the cache and in code generation as far as LLVM is not involved (it ends the process
 * when memory is out): every allocation is refused once. Each refusal is CCC_E_NOMEM, nothing leaks, no temporary
 * file stays, and the last round, in which nothing was refused, succeeds. The linker sends the library's
 * allocations here (--wrap). */
#include <criterion/criterion.h>
#include <unistd.h>
#include "codegen_kernels.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static long countdown = -1, live; /* countdown 0: refuse the next one; below: refuse nothing */

static bool refused(void) { return countdown >= 0 && countdown-- == 0; }
static void *counted(void *p)
{
    live += p != NULL;
    return p;
}
void *__wrap_malloc(size_t n) { return refused() ? NULL : counted(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t m) { return refused() ? NULL : counted(__real_calloc(n, m)); }
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

static char dir[32];

/* Runs `round` with the n-th allocation refused, for all n. */
static void starve(ccc_status (*round)(ccc_err *err))
{
    for (long n = 0;; n++) {
        ccc_err err = {0};
        long before = live;
        countdown = n;
        ccc_status s = round(&err);
        bool all_granted = countdown >= 0;
        countdown = -1;
        cr_assert_eq(live, before, "allocation %ld: %ld blocks leaked", n, live - before);
        cr_assert_lt(n, 10000);
        if (all_granted) {
            cr_assert_eq(s, CCC_OK, "%s", err.msg);
            cr_assert_gt(n, 5);
            return;
        }
        cr_assert_eq(s, CCC_E_NOMEM, "allocation %ld: %d, '%s'", n, (int)s, err.msg);
    }
}

static void visit(void *payload, ccc_cache_kind kind, ccc_key key, uint64_t size_B, const char *label,
                  const char *status)
{
    (void)kind, (void)key, (void)size_B, (void)label;
    *(int *)payload += status ? 100 : 1;
}

static ccc_status use(ccc_cache *c, ccc_factors *f, ccc_err *err)
{
    uint64_t freed_B;
    int n = 0;
    bool found;
    ccc_buf b = {0};
    ccc_factor_str(f, "label", "thing");
    CCC_TRY(ccc_cache_put(c, CCC_CACHE_ARTIFACT, f, "payload", 7, err));
    CCC_TRY(ccc_cache_get(c, CCC_CACHE_ARTIFACT, f, &b, &found, err));
    cr_expect(found && b.size_B == 7);
    ccc_buf_free(&b);
    CCC_TRY(ccc_cache_list(c, true, visit, &n, err));
    cr_expect_eq(n, 1);
    return ccc_cache_clear(c, &freed_B, err);
}

static ccc_status cache_round(ccc_err *err)
{
    ccc_cache *c = NULL;
    ccc_factors f = {0};
    ccc_status s = ccc_cache_open(&c, dir, err);
    if (s == CCC_OK) s = use(c, &f, err);
    ccc_factors_free(&f);
    ccc_cache_close(c);
    return s;
}

static ccc_status hit_round(ccc_err *err) /* a kernel that lies in the cache */
{
    static request q;
    ccc_cache *cache = NULL;
    ccc_codegen *c = NULL;
    ccc_kernel_code k = {0};
    make_request(&q, &samples[2]);
    ccc_status s = ccc_cache_open(&cache, dir, err);
    if (s == CCC_OK) s = ccc_codegen_new(&c, &(ccc_codegen_args){.cache = cache, .opt_level = 3}, err);
    if (s == CCC_OK) s = ccc_codegen_kernel(c, &q.req, &k, err);
    ccc_kernel_release(&k);
    ccc_codegen_free(c);
    ccc_cache_close(cache);
    return s;
}

Test(nomem, cache_and_code_generation)
{
    ccc_cache *c;
    ccc_err err;
    uint64_t freed_B;
    strcpy(dir, "/tmp/ccc-test-XXXXXX");
    cr_assert(mkdtemp(dir));
    starve(cache_round);
    cr_assert_eq(hit_round(&err), CCC_OK, "%s", err.msg); /* fills the cache */
    starve(hit_round);
    cr_assert_eq(ccc_cache_open(&c, dir, &err), CCC_OK);
    cr_assert_eq(ccc_cache_clear(c, &freed_B, &err), CCC_OK);
    ccc_cache_close(c);
    cr_expect_eq(rmdir(dir), 0, "something stayed behind");
}
