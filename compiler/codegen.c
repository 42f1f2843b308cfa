/* The front of code generation: checks a request, computes its key from everything that the code depends on,
 * and serves it from the cache or compiles it (specialise.c, then ptxas or host_image.c). A kernel's name is
 * made of its template and of the key of its PTX, so it is the same on every machine and differs from that of
 * every other kernel; ptxas' version enters the key of the object alone. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>
#include <llvm/Config/llvm-config.h>
#include "codegen_id.h"
#include "codegen_impl.h"

struct ccc_codegen {
    ccc_codegen_args args;
    char templates[33];   /* hash of all bitcode */
    pthread_mutex_t lock; /* of what follows */
    bool ptxas_known;
    char ptxas[32];
    ccc_codegen_times times;
};

/* ---- keys ---------------------------------------------------------------------------------------------- */
static int by_spec_name(const void *a, const void *b)
{
    return strcmp(((const ccc_spec *)a)->name, ((const ccc_spec *)b)->name);
}
static int by_hook_name(const void *a, const void *b)
{
    return strcmp(((const ccc_hook *)a)->name, ((const ccc_hook *)b)->name);
}

/* Checks a request and puts its lists into the order of names, so that the order given has no influence. */
static ccc_status normalise(ccc_kernel_req *r, const ccc_template **t, ccc_err *err)
{
    if (!r->target || !r->tmpl)
        return ccc_fail(err, CCC_E_ARG, "a kernel request needs a target and a template");
    *t = ccc_template_find(r->tmpl, r->target->kind);
    if (!*t) return ccc_fail(err, CCC_E_ARG, "there is no template '%s' for %s", r->tmpl, r->target->name);
    if (r->n_specs > sizeof r->spec / sizeof *r->spec || r->n_hooks > sizeof r->hook / sizeof *r->hook)
        return ccc_fail(err, CCC_E_ARG, "template '%s': too many SPECs or hooks", r->tmpl);
    if (r->target->kind == CCC_TARGET_CUDA && (r->threads < 1 || r->threads > 1024 || r->min_blocks > 32))
        return ccc_fail(err, CCC_E_ARG, "template '%s': %u threads, %u blocks are out of range", r->tmpl,
                        r->threads, r->min_blocks);
    for (unsigned i = 0; i < r->n_specs; i++)
        if (!r->spec[i].name)
            return ccc_fail(err, CCC_E_ARG, "template '%s': SPEC %u has no name", r->tmpl, i);
    for (unsigned i = 0; i < r->n_hooks; i++) CCC_TRY(ccc_hook_check(&r->hook[i], err));
    qsort(r->spec, r->n_specs, sizeof *r->spec, by_spec_name);
    qsort(r->hook, r->n_hooks, sizeof *r->hook, by_hook_name);
    for (unsigned i = 1; i < r->n_specs; i++)
        if (!strcmp(r->spec[i - 1].name, r->spec[i].name))
            return ccc_fail(err, CCC_E_ARG, "template '%s': SPEC '%s' is given twice", r->tmpl,
                            r->spec[i].name);
    for (unsigned i = 1; i < r->n_hooks; i++)
        if (!strcmp(r->hook[i - 1].name, r->hook[i].name))
            return ccc_fail(err, CCC_E_ARG, "template '%s': hook '%s' is given twice", r->tmpl,
                            r->hook[i].name);
    return CCC_OK;
}

/* Everything that the PTX or object depends on. */
static ccc_status code_factors(ccc_factors *f, const ccc_codegen *c, const ccc_kernel_req *r,
                               const ccc_template *t, ccc_err *err)
{
    XXH128_canonical_t bitcode;
    XXH128_canonicalFromHash(&bitcode, XXH3_128bits(t->bc, (size_t)(t->bc_end - t->bc)));
    const ccc_target *g = r->target;
    ccc_factor_str(f, "template", t->name);
    ccc_factor_str(f, "codegen", CCC_CODEGEN_ID);
    ccc_factor_int(f, "flags", t->flags);
    ccc_factor_str(f, "llvm", LLVM_VERSION_STRING);
    ccc_factor_str(f, "target", g->name);
    ccc_factor_str(f, "triple", g->triple);
    ccc_factor_str(f, "cpu", g->cpu);
    ccc_factor_str(f, "features", g->features);
    ccc_factor_int(f, "opt", c->args.opt_level);
    ccc_factor_add(f, "bitcode", &bitcode, sizeof bitcode);
    ccc_factor_int(f, "threads", r->threads);
    ccc_factor_int(f, "min_blocks", r->min_blocks);
    ccc_factor_int(f, "specs", r->n_specs);
    for (unsigned i = 0; i < r->n_specs; i++) ccc_factor_int(f, r->spec[i].name, r->spec[i].value);
    ccc_buf hooks = {0};
    for (unsigned i = 0; i < r->n_hooks; i++) ccc_hook_text(&hooks, &r->hook[i]);
    ccc_factor_add(f, "hooks", hooks.data, hooks.size_B);
    bool failed = hooks.failed || f->bytes.failed;
    ccc_buf_free(&hooks);
    return failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

static ccc_status ptxas_version(ccc_codegen *c, ccc_err *err)
{
    pthread_mutex_lock(&c->lock);
    ccc_status s = CCC_OK;
    if (!c->ptxas_known) {
        if (c->args.ptxas) s = ccc_ptxas_version(c->ptxas, c->args.ptxas, c->args.cache, err);
        else strcpy(c->ptxas, "none");
        c->ptxas_known = s == CCC_OK;
    }
    pthread_mutex_unlock(&c->lock);
    return s;
}

/* ---- the object in the cache
 * --------------------------------------------------------------------------------------------------- */
static void *copy(const void *p, size_t n)
{
    uint8_t *m = malloc(n + 1);
    if (m && n) memcpy(m, p, n);
    if (m) m[n] = 0;
    return m;
}

enum { HEADER_B = 40, HAS_PTX = 1, WAITS = 2 };
static void write_object(ccc_buf *b, const ccc_kernel_code *k)
{
    ccc_buf_u32(b, k->n_regs);
    ccc_buf_u32(b, k->spill_B);
    ccc_buf_u32(b, k->stack_B);
    ccc_buf_u32(b, k->n_advice);
    ccc_buf_u32(b, k->entry_B);
    ccc_buf_u32(b, (k->ptx ? HAS_PTX : 0) | (k->waits ? WAITS : 0));
    ccc_buf_u64(b, k->ptx_B);
    ccc_buf_u64(b, k->code_B);
    ccc_buf_put(b, k->ptx, k->ptx_B);
    ccc_buf_put(b, k->code, k->code_B);
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t get_u64(const uint8_t *p)
{
    return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static ccc_status read_object(ccc_kernel_code *k, bool *whole, const ccc_buf *b, ccc_err *err)
{
    const uint8_t *p = (const uint8_t *)b->data;
    *whole = false;
    if (b->size_B < HEADER_B) return CCC_OK;
    uint64_t left_B = b->size_B - HEADER_B, ptx_B = get_u64(p + 24), code_B = get_u64(p + 32);
    if (ptx_B > left_B || code_B != left_B - ptx_B || get_u32(p + 20) > (HAS_PTX | WAITS)) return CCC_OK;
    k->n_regs = get_u32(p);
    k->spill_B = get_u32(p + 4);
    k->stack_B = get_u32(p + 8);
    k->n_advice = get_u32(p + 12);
    k->entry_B = get_u32(p + 16);
    bool has_ptx = get_u32(p + 20) & HAS_PTX;
    k->waits = get_u32(p + 20) & WAITS;
    if (has_ptx) k->ptx = copy(p + HEADER_B, ptx_B);
    if (code_B) k->code = copy(p + HEADER_B + ptx_B, code_B);
    k->ptx_B = ptx_B;
    k->code_B = code_B;
    k->cached = *whole = true;
    if ((has_ptx && !k->ptx) || (code_B && !k->code)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    return CCC_OK;
}

/* ---- compiling ----------------------------------------------------------------------------------------- */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static ccc_status dump(const ccc_codegen *c, const char *entry, const char *suffix, const void *data,
                       size_t size_B, ccc_err *err)
{
    char path[PATH_MAX];
    if (!c->args.dump_dir) return CCC_OK;
    int n = snprintf(path, sizeof path, "%s/%s%s", c->args.dump_dir, entry, suffix);
    if (n < 0 || (size_t)n >= sizeof path)
        return ccc_fail(err, CCC_E_ARG, "the path of the dump folder is too long");
    return ccc_write_file(path, data, size_B, err);
}

static ccc_status dump_hooks(const ccc_codegen *c, const ccc_kernel_req *r, const char *entry, ccc_err *err)
{
    if (!c->args.dump_dir || !r->n_hooks) return CCC_OK;
    ccc_buf text = {0};
    for (unsigned i = 0; i < r->n_hooks; i++) ccc_hook_text(&text, &r->hook[i]);
    ccc_status s = text.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                               : dump(c, entry, ".hooks", text.data, text.size_B, err);
    ccc_buf_free(&text);
    return s;
}

/* A buffer's bytes become the caller's, exactly as long as they are. */
static ccc_status take(ccc_buf *b, void *data, size_t *size_B, ccc_err *err)
{
    void *m = copy(b->data, b->size_B);
    if (!m) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    memcpy(data, &m, sizeof m);
    *size_B = b->size_B;
    return CCC_OK;
}

static ccc_status finish(ccc_codegen *c, const ccc_kernel_req *r, ccc_buf *emitted, ccc_kernel_code *k,
                         double *ptxas_s, ccc_err *err)
{
    ccc_buf code = {0};
    ccc_status s = CCC_OK;
    if (r->target->kind == CCC_TARGET_HOST) {
        s = ccc_host_image(&code, &k->entry_B, emitted->data, emitted->size_B, k->entry, err);
        if (s == CCC_OK) s = dump(c, k->entry, ".o", emitted->data, emitted->size_B, err);
    } else {
        s = take(emitted, &k->ptx, &k->ptx_B, err);
        if (s == CCC_OK) s = dump(c, k->entry, ".ptx", k->ptx, k->ptx_B, err);
        if (s == CCC_OK && c->args.ptxas) {
            ccc_ptxas_report report = {0};
            double t = now();
            s = ccc_ptxas_run(&code, &report, c->args.ptxas, r->target->cpu, k->ptx, k->ptx_B, err);
            *ptxas_s = now() - t;
            k->n_regs = report.n_regs;
            k->spill_B = report.spill_B;
            k->stack_B = report.stack_B;
            k->n_advice = report.n_advice;
            if (s == CCC_OK) s = dump(c, k->entry, ".cubin", code.data, code.size_B, err);
        }
    }
    if (s == CCC_OK && code.size_B) s = take(&code, &k->code, &k->code_B, err);
    ccc_buf_free(&code);
    return s;
}

static ccc_status compile(ccc_codegen *c, const ccc_template *t, const ccc_kernel_req *r, ccc_kernel_code *k,
                          ccc_err *err)
{
    ccc_specialised made = {0};
    double ptxas_s = 0;
    bool dumping = c->args.dump_dir != NULL;
    ccc_status s = dump_hooks(c, r, k->entry, err);
    if (s == CCC_OK) s = ccc_specialise(&made, t, r, k->entry, c->args.opt_level, dumping, err);
    if (s == CCC_OK && dumping) s = dump(c, k->entry, ".ll", made.ll.data, made.ll.size_B, err);
    if (s == CCC_OK) s = finish(c, r, &made.code, k, &ptxas_s, err);
    k->waits = made.waits;
    ccc_buf_free(&made.code);
    ccc_buf_free(&made.ll);
    pthread_mutex_lock(&c->lock);
    c->times.parse_s += made.parse_s;
    c->times.optimise_s += made.optimise_s;
    c->times.emit_s += made.emit_s;
    c->times.ptxas_s += ptxas_s;
    c->times.n_compiled += s == CCC_OK;
    pthread_mutex_unlock(&c->lock);
    return s;
}

/* ---- one kernel ---------------------------------------------------------------------------------------- */
static ccc_status from_cache(ccc_codegen *c, const ccc_factors *f, ccc_kernel_code *k, ccc_err *err)
{
    if (!c->args.cache || c->args.dump_dir) return CCC_OK; /* a dump wants to see every stage */
    ccc_buf object = {0};
    bool found = false, whole = false;
    ccc_status s = ccc_cache_get(c->args.cache, CCC_CACHE_KERNEL, f, &object, &found, err);
    if (s == CCC_OK && found) s = read_object(k, &whole, &object, err);
    ccc_buf_free(&object);
    if (s == CCC_OK && k->cached) {
        pthread_mutex_lock(&c->lock);
        c->times.n_cached++;
        pthread_mutex_unlock(&c->lock);
    }
    return s;
}

static ccc_status to_cache(ccc_codegen *c, const ccc_factors *f, const ccc_kernel_code *k, ccc_err *err)
{
    if (!c->args.cache) return CCC_OK;
    ccc_buf object = {0};
    write_object(&object, k);
    ccc_status s = object.failed
                       ? ccc_fail(err, CCC_E_NOMEM, "out of memory")
                       : ccc_cache_put(c->args.cache, CCC_CACHE_KERNEL, f, object.data, object.size_B, err);
    ccc_buf_free(&object);
    return s;
}

static ccc_status kernel(ccc_codegen *c, ccc_kernel_req *r, ccc_factors *f, ccc_kernel_code *k, ccc_err *err)
{
    const ccc_template *t = NULL;
    CCC_TRY(normalise(r, &t, err));
    CCC_TRY(code_factors(f, c, r, t, err));
    char hex[33];
    ccc_key_hex(ccc_factors_key(f), hex);
    snprintf(k->entry, sizeof k->entry, "ccc_%.36s_%.16s", t->name, hex);
    if (t->kind == CCC_TARGET_CUDA) {
        CCC_TRY(ptxas_version(c, err));
        ccc_factor_str(f, "ptxas", c->ptxas);
        if (f->bytes.failed) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    }
    CCC_TRY(from_cache(c, f, k, err));
    if (k->cached) return CCC_OK;
    CCC_TRY(compile(c, t, r, k, err));
    return to_cache(c, f, k, err);
}

ccc_status ccc_codegen_kernel(ccc_codegen *c, const ccc_kernel_req *req, ccc_kernel_code *out, ccc_err *err)
{
    ccc_kernel_req *r = copy(req, sizeof *req); /* too large for a small thread's stack */
    ccc_factors f = {0};
    memset(out, 0, sizeof *out);
    if (!r) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_status s = kernel(c, r, &f, out, err);
    if (s != CCC_OK) ccc_kernel_release(out);
    ccc_factors_free(&f);
    free(r);
    return s;
}

void ccc_kernel_release(ccc_kernel_code *k)
{
    free(k->ptx);
    free(k->code);
    memset(k, 0, sizeof *k);
}

/* ---- the object ---------------------------------------------------------------------------------------- */
static ccc_status hash_templates(char out[33], ccc_err *err)
{
    XXH3_state_t *x = XXH3_createState();
    if (!x) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    XXH3_128bits_reset(x);
    for (const ccc_template *t = ccc_templates; t->name; t++) {
        uint64_t size_B = (uint64_t)(t->bc_end - t->bc);
        XXH3_128bits_update(x, &size_B, sizeof size_B);
        XXH3_128bits_update(x, t->bc, size_B);
    }
    ccc_key k;
    XXH128_canonicalFromHash((XXH128_canonical_t *)k.b, XXH3_128bits_digest(x));
    XXH3_freeState(x);
    ccc_key_hex(k, out);
    return CCC_OK;
}

ccc_status ccc_codegen_new(ccc_codegen **out, const ccc_codegen_args *args, ccc_err *err)
{
    *out = NULL;
    if (args->opt_level < 0 || args->opt_level > 3)
        return ccc_fail(err, CCC_E_ARG, "opt level %d is not 0 to 3", args->opt_level);
    ccc_codegen *c = calloc(1, sizeof *c);
    if (!c) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    c->args = *args;
    ccc_status s = hash_templates(c->templates, err);
    if (s != CCC_OK) {
        free(c);
        return s;
    }
    pthread_mutex_init(&c->lock, NULL);
    *out = c;
    return CCC_OK;
}

void ccc_codegen_free(ccc_codegen *c)
{
    if (!c) return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void ccc_codegen_versions(ccc_codegen *c, const char **llvm, const char **ptxas, const char **templates)
{
    *llvm = LLVM_VERSION_STRING;
    *ptxas = ptxas_version(c, NULL) == CCC_OK ? c->ptxas : "unusable"; /* compiling a kernel will say why */
    *templates = c->templates;
}

void ccc_codegen_times_get(ccc_codegen *c, ccc_codegen_times *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->times;
    pthread_mutex_unlock(&c->lock);
}
