/* Puts compiled kernels and plans into the file. */
#ifndef CCC_PACK_H
#define CCC_PACK_H
#include "plan.h"
typedef struct { ccc_plan *plan; ccc_kernel_code *code; } pack_target; /* code[plan->n_kernels] */
/* *out: the artifact's bytes. `report` is JSON text. versions: LLVM, ptxas, templates. */
ccc_status ccc_pack(ccc_buf *out, const ccc_graph *model, const ccc_config *config, const pack_target *targets, unsigned n_targets,
                    const char *const versions[3], const char *report, ccc_err *err);
/* Everything that an artifact's bytes depend on: its key in the cache is their hash. schedule: text used instead of the built-in one, or empty. */
ccc_status ccc_artifact_factors(ccc_factors *f, const ccc_graph *g, const ccc_config *config, const char *const versions[3], const ccc_buf *schedule, ccc_err *err);
#endif
