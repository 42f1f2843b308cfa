/* The same templates once more, through code generation: hk_NAME asks ccc_codegen_kernel for the kernel with
 * the constants of hk_spec and the hooks of host_kernels_shim.c as instruction lists, maps the image and runs
 * it. Linked with the same tests instead of the shim's objects. */
#include <stdio.h>
#include <sys/mman.h>
#include "../../compiler/codegen.h"
#include "host_kernels.h"

typedef struct {
    char text[512];
    void (*entry)(const void *, const host_ctx *);
} compiled;
static compiled table[1024];
static unsigned n_compiled;
static ccc_codegen *codegen;

static void give_up(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}
static void *map_image(const uint8_t *code, size_t size_B)
{
    void *p = mmap(NULL, size_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) give_up("cannot map an image");
    memcpy(p, code, size_B);
    if (mprotect(p, size_B, PROT_READ | PROT_EXEC)) give_up("cannot make an image executable");
    return p;
}
static void add(ccc_hook *h, ccc_hook_ins i) { h->ins[h->n++] = i; }
#define ARG(number) ((ccc_hook_ins){.kind = CCC_HOOK_ARG, .a = number})
#define LOAD(type, slot, where)                                                                              \
    ((ccc_hook_ins){                                                                                         \
        .kind = CCC_HOOK_LOAD, .dtype = CCC_##type, .aux = slot, .at = CCC_AT_##where, .ld = hk_spec.hooks})
#define STORE(type, slot, value)                                                                             \
    ((ccc_hook_ins){.kind = CCC_HOOK_STORE,                                                                  \
                    .dtype = CCC_##type,                                                                     \
                    .aux = slot,                                                                             \
                    .at = CCC_AT_ROWCOL,                                                                     \
                    .ld = hk_spec.hooks,                                                                     \
                    .a = value})
#define CAST(type, value) ((ccc_hook_ins){.kind = CCC_HOOK_CAST, .dtype = CCC_##type, .a = value})
#define ELT_(number, x, y) ((ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = number, .a = x, .b = y})

static void rows_hooks(ccc_kernel_req *r)
{
    if (!hk_spec.hooks) return;
    ccc_hook *in = &r->hook[r->n_hooks++], *out = &r->hook[r->n_hooks++];
    in->name = "in";
    add(in, ARG(0));
    add(in, LOAD(BF16, 0, ROWCOL));
    add(in, ELT_(CCC_OP_add, 0, 1));
    add(in, CAST(BF16, 2));
    add(in, STORE(BF16, 1, 3));
    out->name = "out";
    add(out, ARG(0));
    add(out, LOAD(F32, 2, COL));
    add(out, ELT_(CCC_OP_mul, 0, 1));
}
static void elt_hooks(ccc_kernel_req *r)
{
    ccc_hook *h = &r->hook[r->n_hooks++];
    h->name = "body";
    add(h, LOAD(F32, 0, ROWCOL));
    add(h, ELT_(CCC_OP_silu, 0, 0));
    add(h, LOAD(F32, 1, COL));
    add(h, ELT_(CCC_OP_mul, 1, 2));
    add(h, LOAD(F32, 2, ROW));
    add(h, ELT_(CCC_OP_add, 3, 4));
}
static void epilogue_hooks(ccc_kernel_req *r)
{
    if (!hk_spec.hooks) return;
    ccc_hook *h = &r->hook[r->n_hooks++];
    h->name = "epilogue";
    add(h, ARG(0));
    add(h, CAST(BF16, 0));
    add(h, LOAD(F32, 0, ROWCOL));
    add(h, ELT_(CCC_OP_add, 1, 2));
}
static void pair_hooks(ccc_kernel_req *r)
{
    ccc_hook *h = &r->hook[r->n_hooks++];
    h->name = "pair";
    add(h, ARG(0));
    add(h, ARG(1));
    add(h, ELT_(CCC_OP_silu, 0, 0));
    add(h, ELT_(CCC_OP_mul, 2, 1));
}

static compiled *get(ccc_kernel_req *r, const char *text)
{
    for (unsigned i = 0; i < n_compiled; i++)
        if (!strcmp(table[i].text, text)) return &table[i];
    ccc_err err;
    ccc_kernel_code code = {0};
    if (n_compiled == sizeof table / sizeof *table) give_up("too many kernels");
    if (!codegen && ccc_codegen_new(&codegen, &(ccc_codegen_args){.opt_level = 3}, &err)) give_up(err.msg);
    r->target = ccc_target_find("x86-64-v3");
    r->threads = 1;
    if (ccc_codegen_kernel(codegen, r, &code, &err)) give_up(err.msg);
    compiled *c = &table[n_compiled++];
    snprintf(c->text, sizeof c->text, "%s", text);
    const char *image = map_image(code.code, code.code_B);
    void *entry = (void *)(uintptr_t)(image + code.entry_B);
    memcpy(&c->entry, &entry, sizeof entry);
    ccc_kernel_release(&code);
    return c;
}

/* spec: names of SPEC constants, each with its value in hk_spec */
static void run(const char *tmpl, const ccc_spec *spec, unsigned n, void (*hooks)(ccc_kernel_req *),
                const void *args, const host_ctx *c)
{
    static ccc_kernel_req r;
    char text[512];
    int at = snprintf(text, sizeof text, "%s %d", tmpl, hk_spec.hooks);
    memset(&r, 0, sizeof r);
    r.tmpl = tmpl;
    for (r.n_specs = 0; r.n_specs < n; r.n_specs++) {
        r.spec[r.n_specs] = spec[r.n_specs];
        at += snprintf(text + at, sizeof text - (size_t)at, " %s=%lld", spec[r.n_specs].name,
                       (long long)spec[r.n_specs].value);
    }
    if (hooks) hooks(&r);
    get(&r, text)->entry(args, c);
}
#define S(x)                                                                                                 \
    {                                                                                                        \
#x, hk_spec.x                                                                                        \
    }
#define DEFINE(name, hooks, ...)                                                                             \
    void hk_##name(const void *args, const host_ctx *c)                                                      \
    {                                                                                                        \
        const ccc_spec spec[] = {__VA_ARGS__};                                                               \
        run(#name, spec, sizeof spec / sizeof *spec, hooks, args, c);                                        \
    }
#define DEFINE_PLAIN(name)                                                                                   \
    void hk_##name(const void *args, const host_ctx *c) { run(#name, NULL, 0, NULL, args, c); }
DEFINE_PLAIN(gather)
DEFINE_PLAIN(argmax)
DEFINE_PLAIN(rope_table)
DEFINE_PLAIN(advance)
DEFINE_PLAIN(read)
DEFINE(rows, rows_hooks, S(OUT_F32))
DEFINE(elt, elt_hooks, S(OUT_F32))
DEFINE(matmul, epilogue_hooks, S(OUT_F32), S(TOK))
DEFINE(matmul_pair, pair_hooks, S(OUT_F32), S(TOK))
DEFINE(matmul_fp8, epilogue_hooks, S(OUT_F32))
DEFINE(matmul_pair_fp8, pair_hooks, S(OUT_F32))
DEFINE(rope_kv, NULL, S(HQ), S(HKV), S(D), S(ROTARY), S(LAYOUT), S(BLOCK), S(DO_Q), S(DO_K), S(DO_KV),
       S(K_ROTATED))
DEFINE(attention, epilogue_hooks, S(OUT_F32), S(HQ), S(HKV), S(D), S(LAYOUT), S(BLOCK))
DEFINE(rope_kv_fp8, NULL, S(HQ), S(HKV), S(D), S(ROTARY), S(LAYOUT), S(BLOCK), S(DO_Q), S(DO_K), S(DO_KV),
       S(K_ROTATED), S(ROWS_FP8))
DEFINE(attention_fp8, epilogue_hooks, S(OUT_F32), S(HQ), S(HKV), S(D), S(LAYOUT), S(BLOCK))
DEFINE(load, NULL, S(SRC), S(DST), S(HALF))

/* one elementwise op or cast, of eight equal elements, through an elt kernel of its own */
float hk_elt_value(int op, float x, float y)
{
    static compiled *of[HK_EXP8 + 1];
    static const uint16_t number[] = {
#define OP(...)
#define ELT(name, ...) [HK_##name] = CCC_OP_##name,
#include "../../ir/op.def"
        [HK_EXP8] = CCC_OP_exp};
    static const uint8_t to[] = {[HK_CAST_BF16] = CCC_BF16,
                                 [HK_CAST_F16] = CCC_F16,
                                 [HK_CAST_E4M3] = CCC_E4M3,
                                 [HK_CAST_E5M2] = CCC_E5M2,
                                 [HK_EXP8] = 0};
    float in[2][8], out[8];
    for (int i = 0; i < 8; i++) in[0][i] = x, in[1][i] = y;
    if (!of[op]) {
        static ccc_kernel_req r;
        char text[32];
        memset(&r, 0, sizeof r);
        snprintf(text, sizeof text, "op %d", op);
        r.tmpl = "elt";
        r.spec[0] = (ccc_spec){"OUT_F32", 1};
        r.n_specs = r.n_hooks = 1;
        r.hook[0].name = "body";
        add(&r.hook[0], LOAD(F32, 0, COL));
        add(&r.hook[0], LOAD(F32, 1, COL));
        if (to[op]) add(&r.hook[0], (ccc_hook_ins){.kind = CCC_HOOK_CAST, .dtype = to[op], .a = 0});
        else add(&r.hook[0], ELT_(number[op], 0, 1));
        of[op] = get(&r, text);
    }
    elt_args a = {.out = out, .rows = 1, .cols = op % 2 ? 8 : 7, .out_ld = 8, .aux.p = {in[0], in[1]}};
    of[op]->entry(&a, &(host_ctx){.grid = {1, 1, 1}});
    return out[6];
}
