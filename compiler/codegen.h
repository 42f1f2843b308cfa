/* From a kernel template to machine code: SPEC constants, hook bodies, LLVM, ptxas. The only part of ccc that knows LLVM, which it
 * opens with dlopen when a kernel is missing from the cache. */
#ifndef CCC_CODEGEN_H
#define CCC_CODEGEN_H
#include "../ir/ir.h"
#include "../cache/cache.h"
#include <limits.h>

typedef enum { CCC_TARGET_CUDA = 1, CCC_TARGET_HOST = 2 } ccc_target_kind; /* as in ccart.h */
typedef struct { /* one row of target.def */
    const char *name;        /* "sm_90a" */
    ccc_target_kind kind;
    const char *triple, *cpu, *features;
    int cc, cc_exact;        /* 90, 1 */
    int ptx_version;         /* 83: least .version that the templates need */
    int min_driver_cubin, min_driver_ptx;
    int cpu_level;
    int n_sm;                /* multiprocessors of the part that schedules are chosen for; never a launch's grid */
} ccc_target;
extern const ccc_target ccc_targets[]; /* ends with name NULL */
const ccc_target *ccc_target_find(const char *name);

/* A hook body: a list of instructions in SSA form; instruction i yields value i, a vector of the hook's width of f32. Parameters of a hook:
 * arg 0 (and 1 for `pair`) the incoming vectors (none for `body`), then row, col (of the first element) and aux. The result is the last value. */
typedef enum { CCC_HOOK_ARG /* a: which */, CCC_HOOK_CONST /* imm */, CCC_HOOK_LOAD, CCC_HOOK_STORE /* of value a, yields it */, CCC_HOOK_ELT /* op; a, b */, CCC_HOOK_CAST /* value a rounded to dtype */ } ccc_hook_kind;
typedef enum { CCC_AT_ROWCOL /* row*ld + col + offset */, CCC_AT_COL /* col + offset */, CCC_AT_ROW /* row (one value for the vector) */, CCC_AT_SCALAR } ccc_hook_at;
typedef struct { uint8_t kind, dtype /* ccc_dtype of the memory, or of the cast */, at, aux; uint16_t a, b; uint16_t op /* ccc_op */; int64_t ld, offset; float imm; bool constant; /* LOAD of weight data: may use the read-only path */ } ccc_hook_ins;
typedef struct { const char *name; ccc_hook_ins ins[48]; unsigned n; } ccc_hook; /* name as in kernel.def. A hook not given is the identity (pair, body: an error). A template that also handles columns one by one, or in pairs, declares ccc_hook_NAME_tail of that width: it gets the same body */

typedef struct { const char *name; int64_t value; } ccc_spec;
typedef struct {
    const ccc_target *target;
    const char *tmpl;                     /* row of kernel.def for the target's kind */
    ccc_spec spec[16]; unsigned n_specs;  /* every SPEC of the template must be given, no other; sorted by codegen for the key */
    ccc_hook hook[4]; unsigned n_hooks;
    unsigned threads;                     /* cuda: of a block, becomes maxntid */
    unsigned min_blocks;                  /* cuda: minctasm, 0: not given */
} ccc_kernel_req;

typedef struct { /* from malloc by ccc_kernel_release */
    char *ptx; size_t ptx_B;          /* cuda; NULL for host */
    uint8_t *code; size_t code_B;     /* cubin (NULL without ptxas) or host image */
    uint32_t entry_B;                 /* host: entry in the image */
    uint32_t n_regs, spill_B, stack_B;/* cuda with ptxas: as it reported */
    bool cached;
    uint32_t n_advice;                /* cuda with ptxas: its C75xx lines (serialised wgmma and the like); 0 in a good kernel */
    char entry[64];                   /* the kernel's symbol: "ccc_<template>_<16 hex digits of its key>", the same on every machine */
    bool waits;                       /* cuda: every block can be shown to wait for the kernel before it, so that it may be launched programmatically */
} ccc_kernel_code;

typedef struct ccc_codegen ccc_codegen; /* thread-safe: ccc_codegen_kernel may be called from several threads */
typedef struct {
    ccc_cache *cache;        /* NULL: none */
    const char *ptxas;       /* path; NULL: none. Its version (asked once, when first needed, remembered in the cache by path, size and mtime) is part of the key */
    const char *dump_dir;    /* NULL, or where .ll, .ptx, .cubin and hook listings go */
    int opt_level;           /* 0..3 */
} ccc_codegen_args;
ccc_status ccc_codegen_new(ccc_codegen **out, const ccc_codegen_args *args, ccc_err *err);
void ccc_codegen_free(ccc_codegen *c);
ccc_status ccc_codegen_kernel(ccc_codegen *c, const ccc_kernel_req *req, ccc_kernel_code *out, ccc_err *err);
void ccc_kernel_release(ccc_kernel_code *k);
void ccc_codegen_versions(ccc_codegen *c, const char **llvm, const char **ptxas, const char **templates); /* "19.1.7", "13.0.88" or "none", hash of the template library. LLVM's is known without loading it (a build constant) */
bool ccc_kernel_has_pdl(const char *tmpl); /* whether a cuda template may be launched programmatically (its flag in kernel.def) */
/* Where ptxas is: `configured` ("none" gives "", a path must be a program), else the first that lies in `folders`, joined by colons as PATH is; "" when there is none */
ccc_status ccc_find_ptxas(char out[PATH_MAX], const char *configured, const char *folders, ccc_err *err);
typedef struct { double parse_s, optimise_s, emit_s, ptxas_s; unsigned n_compiled, n_cached; } ccc_codegen_times; /* summed over threads */
void ccc_codegen_times_get(ccc_codegen *c, ccc_codegen_times *out);
#endif
