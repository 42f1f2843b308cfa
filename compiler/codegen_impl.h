/* Shared by the files of code generation: codegen.c (keys, cache), specialise.c (template to PTX or object),
 * hook.c (bodies), host_image.c (object to flat image), ptxas.c, llvm_api.c (LLVM by dlopen), kernel_table.c.
 */
#ifndef CCC_CODEGEN_IMPL_H
#define CCC_CODEGEN_IMPL_H
#include "codegen.h"

enum { CCC_TEMPLATE_PDL = 1 /* begins with griddepcontrol: may be launched programmatically */ };
typedef struct { /* one row of kernel.def */
    const char *name;
    ccc_target_kind kind;
    const char *hooks;      /* "in:8 out:8" */
    uint32_t flags, args_B; /* CCC_TEMPLATE_*, size of the argument struct */
    const uint8_t *bc, *bc_end;
} ccc_template;
extern const ccc_template ccc_templates[]; /* ends with name NULL */
const ccc_template *ccc_template_find(const char *name, ccc_target_kind kind);

/* ---- specialise.c. Fills the constants and hooks of `t`, optimises and emits. `req` must be whole and valid
 * (ccc_codegen_kernel checks it). */
typedef struct {
    ccc_buf code, ll; /* PTX (cuda) or a relocatable ELF object (host); the optimised IR if it is wanted. Free
                         both, also after an error */
    bool waits;       /* as in ccc_kernel_code */
    double parse_s, optimise_s, emit_s;
} ccc_specialised;
ccc_status ccc_specialise(ccc_specialised *out, const ccc_template *t, const ccc_kernel_req *req,
                          const char *entry, int opt_level, bool want_ll, ccc_err *err);

/* ---- hook.c -------------------------------------------------------------------------------------------- */
ccc_status ccc_hook_check(const ccc_hook *h,
                          ccc_err *err); /* operands in range: what can be said without the template */
void ccc_hook_text(ccc_buf *out,
                   const ccc_hook *h); /* canonical listing: part of the key, and what a dump shows */

/* ---- host_image.c: a relocatable object of one kernel -> flat, position-independent bytes; *entry_B is
 * where `entry` lies */
ccc_status ccc_host_image(ccc_buf *out, uint32_t *entry_B, const void *obj, size_t obj_B, const char *entry,
                          ccc_err *err);

/* ---- ptxas.c ------------------------------------------------------------------------------------------- */
typedef struct {
    uint32_t n_regs, spill_B, stack_B, n_advice;
} ccc_ptxas_report;
ccc_status ccc_ptxas_run(ccc_buf *cubin, ccc_ptxas_report *report, const char *ptxas, const char *arch,
                         const char *ptx, size_t ptx_B, ccc_err *err);
ccc_status ccc_ptxas_version(char out[32], const char *ptxas, ccc_cache *cache, ccc_err *err); /* "13.0.88" */
void ccc_ptxas_parse(ccc_ptxas_report *report, const char *log);                               /* of -v */
#endif
