/* Code generation over the real templates: all of them compile without spills, calls or serialised wgmma;
 * wrong requests are refused with a message that says what is wrong; the same request gives the same bytes,
 * from any thread and from the cache; a host kernel runs. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../compiler/kernels/abi.h"
#include "codegen_kernels.h"

static char ptxas[PATH_MAX];
static ccc_codegen *cg;
static ccc_err err;

static ccc_codegen *make(ccc_cache *cache, int opt_level)
{
    ccc_codegen *c;
    ccc_codegen_args a = {.cache = cache, .ptxas = ptxas[0] ? ptxas : NULL, .opt_level = opt_level};
    cr_assert_eq(ccc_codegen_new(&c, &a, &err), CCC_OK, "%s", err.msg);
    return c;
}

static void set_up(void)
{
    const char *path = getenv("PATH");
    ccc_buf folders = {0};
    ccc_buf_printf(&folders, "%s:/usr/local/cuda/bin", path ? path : "");
    cr_assert_eq(ccc_find_ptxas(ptxas, "", folders.data, &err), CCC_OK);
    ccc_buf_free(&folders);
    cg = make(NULL, 3);
}
static void tear_down(void)
{
    ccc_codegen_free(cg);
}
TestSuite(codegen, .init = set_up, .fini = tear_down, .timeout = 300);

static const sample *find_sample(const char *target, const char *tmpl)
{
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        if (!strcmp(samples[i].target, target) && !strcmp(samples[i].tmpl, tmpl)) return &samples[i];
    return NULL;
}

static ccc_kernel_code build(ccc_codegen *c, const ccc_kernel_req *r)
{
    ccc_kernel_code k;
    cr_assert_eq(ccc_codegen_kernel(c, r, &k, &err), CCC_OK, "%s", err.msg);
    return k;
}

static bool same_code(const ccc_kernel_code *a, const ccc_kernel_code *b)
{
    return !strcmp(a->entry, b->entry) && a->ptx_B == b->ptx_B && a->code_B == b->code_B &&
           (!a->ptx_B || !memcmp(a->ptx, b->ptx, a->ptx_B)) &&
           (!a->code_B || !memcmp(a->code, b->code, a->code_B)) && a->entry_B == b->entry_B &&
           a->waits == b->waits && a->n_regs == b->n_regs;
}

/* ---- all templates ------------------------------------------------------------------------------------- */
Test(codegen, every_template_has_a_sample)
{
    for (const ccc_template *t = ccc_templates; t->name; t++)
        cr_expect_not_null(find_sample(t->kind == CCC_TARGET_CUDA ? "sm_90a" : "x86-64-v3", t->name), "%s",
                           t->name);
}

Test(codegen, every_template_compiles_clean)
{
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const sample *s = &samples[i];
        request q;
        ccc_kernel_code k;
        make_request(&q, s);
        ccc_codegen_times t0, t1;
        ccc_codegen_times_get(cg, &t0);
        ccc_status st = ccc_codegen_kernel(cg, &q.req, &k, &err);
        cr_expect_eq(st, CCC_OK, "%s %s: %s", s->target, s->tmpl, err.msg);
        if (st != CCC_OK) continue;
        ccc_codegen_times_get(cg, &t1);
        printf(
            "%-9s %-14s parse %4.1f, optimise %5.1f, emit %5.1f, ptxas %5.1f ms; %3u registers, %6zu bytes\n",
            s->target, s->tmpl, (t1.parse_s - t0.parse_s) * 1e3, (t1.optimise_s - t0.optimise_s) * 1e3,
            (t1.emit_s - t0.emit_s) * 1e3, (t1.ptxas_s - t0.ptxas_s) * 1e3, k.n_regs, k.code_B);
        cr_expect_eq(k.spill_B, 0, "%s spills %u bytes", s->tmpl, k.spill_B);
        cr_expect_eq(k.stack_B, 0, "%s has %u bytes of local memory", s->tmpl, k.stack_B);
        cr_expect_eq(k.n_advice, 0, "%s: ptxas warns %u times (C75xx)", s->tmpl, k.n_advice);
        if (q.req.target->kind == CCC_TARGET_CUDA) {
            cr_expect(strstr(k.ptx, k.entry));
            cr_expect_eq(k.waits, ccc_kernel_has_pdl(s->tmpl), "%s: not every block is seen to wait",
                         s->tmpl);
            cr_expect(strstr(k.ptx, ".version 8.3"));
            cr_expect_null(strstr(k.ptx, "__local_depot"), "%s", s->tmpl);
            cr_expect(!ptxas[0] || (k.code_B > 0 && !memcmp(k.code, "\177ELF", 4)));
        } else {
            cr_expect_null(k.ptx);
            cr_expect_lt(k.entry_B, k.code_B);
        }
        ccc_kernel_release(&k);
    }
}

/* ---- wrong requests ------------------------------------------------------------------------------------ */
static void refused(const ccc_kernel_req *r, const char *because)
{
    ccc_kernel_code k;
    err = (ccc_err){0};
    cr_expect_neq(ccc_codegen_kernel(cg, r, &k, &err), CCC_OK, "expected: %s", because);
    cr_expect(strstr(err.msg, because), "expected '%s', got '%s'", because, err.msg);
    cr_expect_null(k.code);
    cr_expect_null(k.ptx);
}

Test(codegen, wrong_requests_are_refused)
{
    request q;
    const sample *rows = find_sample("sm_90a", "rows");
    make_request(&q, rows);
    q.req.tmpl = "nothing";
    refused(&q.req, "no template 'nothing'");
    make_request(&q, rows);
    q.req.n_specs--;
    refused(&q.req, "needs a value for SPEC 'OUT_F32'");
    make_request(&q, rows);
    q.req.spec[q.req.n_specs++] = (ccc_spec){"OTHER", 1};
    refused(&q.req, "no SPEC 'OTHER'");
    make_request(&q, rows);
    q.req.spec[q.req.n_specs++] = (ccc_spec){"NT", 256};
    refused(&q.req, "SPEC 'NT' is given twice");
    make_request(&q, rows);
    q.req.spec[0].value = INT64_C(1) << 31;
    refused(&q.req, "does not fit 32 bits");
    make_request(&q, rows);
    q.req.threads = 2048;
    refused(&q.req, "out of range");
    make_request(&q, rows);
    add_hook(&q.req, "body");
    refused(&q.req, "no hook 'body'");
    make_request(&q, find_sample("sm_90a", "elt"));
    q.req.n_hooks = 0;
    refused(&q.req, "needs a body for hook 'body'");
}

static void refused_hook(ccc_hook_ins last, const char *because)
{
    request q;
    make_request(&q, find_sample("x86-64-v3", "elt"));
    add_ins(&q.req.hook[0], last);
    refused(&q.req, because);
}

Test(codegen, wrong_hooks_are_refused)
{
    refused_hook((ccc_hook_ins){.kind = 17}, "unknown kind");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_matmul}, "not elementwise");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_neg, .a = 5}, "operand a");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_add, .a = 0, .b = 9}, "operand b");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_LOAD, .dtype = CCC_BF16, .aux = 8}, "aux slot");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_LOAD, .dtype = CCC_N_DTYPES}, "unknown dtype");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_STORE, .dtype = CCC_BF16, .at = CCC_AT_ROW},
                 "address for each element");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_ARG, .a = 0}, "0 incoming values");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_LOAD, .dtype = CCC_Q8_0}, "ccc_ld8_q8_0");
    refused_hook((ccc_hook_ins){.kind = CCC_HOOK_CAST, .dtype = CCC_I4, .a = 0}, "ccc_cast_i4");
}

/* A norm's weights are loaded before the wait for the kernel in front, and not again; other operands never are. */
Test(codegen, weights_are_loaded_ahead_of_the_wait)
{
    for (int constant = 0; constant < 2; constant++) {
        request q;
        ccc_kernel_code k;
        make_request(&q, find_sample("sm_90a", "rows"));
        ccc_hook *h = &q.req.hook[q.req.n_hooks++];
        h->name = "out";
        add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_ARG});
        add_ins(h, (ccc_hook_ins){
                       .kind = CCC_HOOK_LOAD, .dtype = CCC_BF16, .at = CCC_AT_COL, .constant = constant});
        add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_mul, .a = 0, .b = 1});
        add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_CAST, .dtype = CCC_BF16, .a = 2});
        cr_assert_eq(ccc_codegen_kernel(cg, &q.req, &k, &err), CCC_OK, "%s", err.msg);
        const char *load = strstr(k.ptx, "ld.global.nc"), *wait = strstr(k.ptx, "griddepcontrol.wait");
        cr_assert_not_null(wait);
        cr_expect(constant ? load && load < wait : !load);
        cr_expect_null(strstr(wait, "ld.global.nc"));
        cr_expect(k.waits);
        ccc_kernel_release(&k);
    }
}

/* ---- names and bytes ----------------------------------------------------------------------------------- */
Test(codegen, the_same_request_gives_the_same_bytes)
{
    static const char *const tmpl[][2] = {{"sm_90a", "elt"}, {"sm_90a", "rows"}, {"x86-64-v3", "elt"}};
    for (size_t i = 0; i < 3; i++) {
        request q;
        make_request(&q, find_sample(tmpl[i][0], tmpl[i][1]));
        ccc_kernel_code a = build(cg, &q.req);
        for (unsigned j = 0; j < q.req.n_specs / 2; j++) { /* in another order */
            ccc_spec swap = q.req.spec[j];
            q.req.spec[j] = q.req.spec[q.req.n_specs - 1 - j];
            q.req.spec[q.req.n_specs - 1 - j] = swap;
        }
        ccc_codegen *other = make(NULL, 3);
        ccc_kernel_code b = build(other, &q.req);
        cr_expect(same_code(&a, &b), "%s", tmpl[i][1]);
        ccc_kernel_release(&a);
        ccc_kernel_release(&b);
        ccc_codegen_free(other);
    }
}

Test(codegen, every_factor_changes_the_name)
{
    enum { N = 10 };
    request q[N];
    char entry[N + 1][64];
    for (int i = 0; i < N; i++) make_request(&q[i], find_sample("sm_90a", "elt"));
    ccc_hook_ins *ins[N];
    for (int i = 0; i < N; i++) ins[i] = q[i].req.hook[0].ins;
    q[1].req.spec[0].value = 1;
    q[2].req.threads = 128;
    q[3].req.min_blocks = 2;
    ins[4][0].ld = 72;
    ins[5][0].offset = 8;
    ins[6][0].constant = true;
    ins[7][3].op = CCC_OP_add;
    ins[8][4].dtype = CCC_F16;
    ins[9][1].aux = 2;
    for (int i = 0; i <= N; i++) {
        ccc_codegen *c = make(NULL, i < N ? 3 : 2);
        ccc_kernel_code k = build(c, &q[i % N].req);
        memcpy(entry[i], k.entry, sizeof entry[i]);
        ccc_kernel_release(&k);
        ccc_codegen_free(c);
        for (int j = 0; j < i; j++) cr_expect_str_neq(entry[i], entry[j], "%d and %d", i, j);
    }
}

static void *build_rows(void *out)
{
    request *q = malloc(sizeof *q);
    make_request(q, find_sample("sm_90a", "rows"));
    *(ccc_kernel_code *)out = build(cg, &q->req);
    free(q);
    return NULL;
}

Test(codegen, threads_do_not_disturb_each_other)
{
    enum { N = 4 };
    pthread_t thread[N];
    ccc_kernel_code k[N];
    for (int i = 0; i < N; i++) cr_assert_eq(pthread_create(&thread[i], NULL, build_rows, &k[i]), 0);
    for (int i = 0; i < N; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < N; i++) {
        cr_expect(same_code(&k[0], &k[i]));
        if (i) ccc_kernel_release(&k[i]);
    }
    ccc_kernel_release(&k[0]);
}

/* ---- the cache ----------------------------------------------------------------------------------------- */
static bool llvm_is_loaded(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[4096];
    bool found = false;
    while (f && fgets(line, sizeof line, f)) found = found || strstr(line, "libLLVM");
    if (f) fclose(f);
    return found;
}

Test(codegen, a_hit_gives_the_same_kernel)
{
    char dir[] = "/tmp/ccc-test-XXXXXX";
    ccc_cache *cache;
    uint64_t freed_B;
    cr_assert(mkdtemp(dir));
    cr_assert_eq(ccc_cache_open(&cache, dir, &err), CCC_OK);
    for (int host = 0; host < 2; host++) {
        request q;
        make_request(&q, find_sample(host ? "x86-64-v3" : "sm_90a", "elt"));
        ccc_codegen *c = make(cache, 3);
        ccc_kernel_code a = build(c, &q.req), b = build(c, &q.req);
        ccc_codegen_times t;
        ccc_codegen_times_get(c, &t);
        cr_expect(!a.cached && b.cached && t.n_compiled == 1 && t.n_cached == 1);
        cr_expect(same_code(&a, &b));
        ccc_kernel_release(&a);
        ccc_kernel_release(&b);
        ccc_codegen_free(c);
        c = make(cache, 2);
        a = build(c, &q.req);
        cr_expect_not(a.cached, "another level");
        ccc_kernel_release(&a);
        ccc_codegen_free(c);
    }
    cr_expect_null(ccc_cache_warning(cache));
    cr_expect_eq(ccc_cache_clear(cache, &freed_B, &err), CCC_OK);
    ccc_cache_close(cache);
    cr_expect_eq(rmdir(dir), 0);
}

Test(codegen, llvm_is_opened_for_a_miss_alone)
{
    char dir[] = "/tmp/ccc-test-XXXXXX";
    ccc_cache *cache;
    uint64_t freed_B;
    request q;
    cr_assert(mkdtemp(dir));
    cr_assert_eq(ccc_cache_open(&cache, dir, &err), CCC_OK);
    make_request(&q, find_sample("x86-64-v3", "advance"));
    fflush(NULL);
    pid_t child = fork(); /* fills the cache, in a process of its own */
    if (!child) {
        ccc_kernel_code k;
        _exit(ccc_codegen_kernel(make(cache, 3), &q.req, &k, NULL) == CCC_OK && llvm_is_loaded() ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    ccc_codegen *c = make(cache, 3);
    ccc_kernel_code k = build(c, &q.req);
    const char *version[3];
    ccc_codegen_versions(c, &version[0], &version[1], &version[2]);
    cr_expect(k.cached);
    cr_expect_not(llvm_is_loaded());
    cr_expect_str_eq(version[0], "19.1.7");
    cr_expect_eq(strlen(version[2]), 32);
    ccc_kernel_release(&k);
    ccc_codegen_free(c);
    ccc_cache_clear(cache, &freed_B, NULL);
    ccc_cache_close(cache);
    rmdir(dir);
}

/* ---- what a person sees ---------------------------------------------------------------------------- */
Test(codegen, a_dump_has_every_stage)
{
    static const char *const suffix[] = {".hooks", ".ll", ".ptx", ".cubin"};
    char dir[] = "/tmp/ccc-test-XXXXXX", path[200];
    request q;
    cr_assert(mkdtemp(dir));
    ccc_codegen *c;
    ccc_codegen_args a = {.ptxas = ptxas[0] ? ptxas : NULL, .dump_dir = dir, .opt_level = 3};
    cr_assert_eq(ccc_codegen_new(&c, &a, &err), CCC_OK);
    make_request(&q, find_sample("sm_90a", "elt"));
    q.req.hook[0].ins[1].constant = true;
    ccc_kernel_code k = build(c, &q.req);
    for (int i = 0; i < 3 + (ptxas[0] != 0); i++) {
        ccc_buf b = {0};
        snprintf(path, sizeof path, "%s/%s%s", dir, k.entry, suffix[i]);
        cr_expect_eq(ccc_read_file(&b, path, &err), CCC_OK, "%s", err.msg);
        cr_expect(i || !strcmp(b.data, "hook body\n"
                                       "  %0 = load.bf16 aux0[row*64 + col + 0]\n"
                                       "  %1 = load.bf16.constant aux1[row*64 + col + 0]\n"
                                       "  %2 = silu %0\n"
                                       "  %3 = mul %2, %1\n"
                                       "  %4 = cast.bf16 %3\n"));
        ccc_buf_free(&b);
        unlink(path);
    }
    ccc_kernel_release(&k);
    ccc_codegen_free(c);
    cr_expect_eq(rmdir(dir), 0);
}

/* ---- ptxas --------------------------------------------------------------------------------------------- */
Test(codegen, the_report_of_ptxas_is_read)
{
    ccc_ptxas_report r;
    ccc_ptxas_parse(
        &r,
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n"
        "ptxas info    : Compiling entry function 'k' for 'sm_90a'\nptxas info    : Function properties for "
        "k\n"
        "    16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads\n"
        "ptxas info    : Used 168 registers, used 9 barriers, 16 bytes cumulative stack size\n");
    cr_expect(r.n_regs == 168 && r.stack_B == 16 && r.spill_B == 56 && r.n_advice == 1);
}

Test(codegen, a_missing_ptxas_is_told)
{
    char out[PATH_MAX];
    cr_expect_neq(ccc_find_ptxas(out, "/nowhere/ptxas", "", &err), CCC_OK);
    cr_expect(strstr(err.msg, "/nowhere/ptxas"));
    cr_expect_eq(ccc_find_ptxas(out, "none", "/usr/bin", &err), CCC_OK);
    cr_expect_str_eq(out, "");
    cr_expect_eq(ccc_find_ptxas(out, "", ":/nowhere::/tmp", &err), CCC_OK);
    cr_expect_str_eq(out, "");
    strcpy(ptxas, "/bin/true"); /* not ptxas: has no version */
    request q;
    ccc_kernel_code k;
    make_request(&q, find_sample("sm_90a", "elt"));
    ccc_codegen *c = make(NULL, 3);
    cr_expect_neq(ccc_codegen_kernel(c, &q.req, &k, &err), CCC_OK);
    cr_expect(strstr(err.msg, "is it ptxas"), "%s", err.msg);
    ccc_codegen_free(c);
}

/* ---- a host kernel runs -------------------------------------------------------------------------------- */
Test(codegen, a_host_kernel_runs)
{
    enum { ROWS = 3, COLS = 21, LD = 64 }; /* 21: two whole vectors and a tail */
    static u16 x[ROWS * LD], g[ROWS * LD];
    static float y[ROWS * LD];
    request q;
    make_request(&q, find_sample("x86-64-v3", "elt"));
    ccc_kernel_code k = build(cg, &q.req);
    void *image = mmap(NULL, k.code_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(image, MAP_FAILED);
    memcpy(image, k.code, k.code_B);
    cr_assert_eq(mprotect(image, k.code_B, PROT_READ | PROT_EXEC), 0);
    for (int i = 0; i < ROWS * LD; i++)
        x[i] = 0x3f80, g[i] = (u16)(0x4000 + i % 64); /* 1.0, and 2.0 and up */
    elt_args a = {.out = y, .rows = ROWS, .cols = COLS, .out_ld = LD, .aux = {{x, g}}};
    host_ctx ctx = {.grid = {1, 1, 1}, .n_threads = 1};
    void (*entry)(const elt_args *, const host_ctx *);
    void *at = (char *)image + k.entry_B;
    memcpy(&entry, &at, sizeof entry);
    entry(&a, &ctx);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < LD; c++) {
            uint32_t bits = (uint32_t)(0x4000 + c) << 16;
            float v, want;
            memcpy(&v, &bits, sizeof v);
            want = c < COLS ? v * 0.7310586f : 0; /* silu(1) = 0.7310586, then rounded to bf16 */
            cr_expect_float_eq(y[r * LD + c], want, want / 256 + 1e-30f, "%d %d: %g, not %g", r, c,
                               y[r * LD + c], want);
        }
    munmap(image, k.code_B);
    ccc_kernel_release(&k);
}
