/* The table of passes (pass.def) and the pipelines, each on one screen. */
#include "pass.h"

#include <string.h>

const ccc_pass ccc_passes[] = {
#define PASS(name, help) {#name, help, ccc_pass_##name},
#include "pass.def"
    {NULL, NULL, NULL},
};

const ccc_pass *ccc_pass_find(const char *name)
{
    for (const ccc_pass *p = ccc_passes; p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

/* Once for a model, independent of target and T. Folding makes equal nodes, merging makes dead ones. */
const char *const ccc_pipeline_clean[] = {"constants", "noop", "cse", "dce", "merge_siblings", "dce", NULL};

/* Once for each (target, mode, T range). The narrow shapes first, because the general ones would take their
 * nodes: a rotation's cast, the cast behind gate and up. Then epilogues, so that a residual add ends up
 * behind its matmul and not in front of the next norm; then what is in front of norms, and norms in front of
 * matmuls; then the rest. */
const char *const ccc_pipeline_fuse[] = {"fuse_rope_kv",  "fuse_round",    "fuse_attention", "fuse_act_mul",
                                         "fuse_epilogue", "fuse_prologue", "fuse_eltwise",   NULL};

/* Instead of it where nothing is to be fused: what kernels cannot do apart. */
const char *const ccc_pipeline_plain[] = {"fuse_round", NULL};
