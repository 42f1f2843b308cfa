/* The table of targets, from target.def. A target is data: what LLVM needs to know, what the artifact states
 * about the machine that can run its code, and for which size of machine schedules are chosen. */
#include <string.h>
#include "codegen.h"

const ccc_target ccc_targets[] = {
#define TARGET(name, kind, triple, cpu, features, cc, cc_exact, ptx, cubin_driver, ptx_driver, cpu_level,    \
               n_sm)                                                                                         \
    {name, CCC_TARGET_##kind, triple,     cpu,       features, cc, cc_exact,                                 \
     ptx,  cubin_driver,      ptx_driver, cpu_level, n_sm},
#include "target.def"
    {0}};

const ccc_target *ccc_target_find(const char *name)
{
    for (const ccc_target *t = ccc_targets; t->name; t++)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}
