/* The table of kernel templates, from kernel.def: names, hooks, size of the argument struct, and the embedded
 * bitcode. */
#include <string.h>
#include "codegen_impl.h"
#include "kernels/abi.h"

#define KERNEL(name, kind, file, flags, args, hooks, bits)                                                   \
    extern const uint8_t ccc_bc_##kind##_##name[], ccc_bc_##kind##_##name##_end[];
#include "kernels/kernel.def"

enum { PDL = CCC_TEMPLATE_PDL };
const ccc_template ccc_templates[] = {
#define KERNEL(name, kind, file, flags, args, hooks, bits)                                                   \
    {#name,                                                                                                  \
     CCC_TARGET_##kind,                                                                                      \
     hooks,                                                                                                  \
     bits,                                                                                                   \
     sizeof(args),                                                                                           \
     ccc_bc_##kind##_##name,                                                                                 \
     ccc_bc_##kind##_##name##_end},
#include "kernels/kernel.def"
    {0}};

const ccc_template *ccc_template_find(const char *name, ccc_target_kind kind)
{
    for (const ccc_template *t = ccc_templates; t->name; t++)
        if (t->kind == kind && !strcmp(t->name, name)) return t;
    return NULL;
}

bool ccc_kernel_has_pdl(const char *tmpl)
{
    const ccc_template *t = ccc_template_find(tmpl, CCC_TARGET_CUDA);
    return t && (t->flags & CCC_TEMPLATE_PDL);
}
