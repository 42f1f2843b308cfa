/* What subcommands that compile share: each row of compiler/config.def is a long option; nothing is said about one here. */
#ifndef CCC_TOOL_COMPILE_OPTS_H
#define CCC_TOOL_COMPILE_OPTS_H
#include "../compiler/ccc.h"
#include "opt.h"

/* own[0..n_own), then a row for each option that own does not name itself; booleans take true or false. NULL: out of memory. */
opt *compile_opts_new(const opt *own, unsigned n_own, opt_set *set);
void compile_opts_free(opt *o, unsigned n_own);
/* opt_set.set with a ccc_config as payload; also -O and -j. */
ccc_status compile_opt_set(void *payload, const char *name, const char *value, ccc_err *err);
/* What the library leaves to the program: folders, ptxas, the number of processors. Both buffers have PATH_MAX bytes and must outlive c. */
ccc_status compile_fill_in(ccc_config *c, char *cache_dir, char *ptxas, ccc_err *err);
/* For ccc_compile_args; payload: bool, whether standard error is a terminal. */
void compile_progress(void *payload, const char *what, unsigned done, unsigned total);
void compile_warning(void *payload, const char *message);
#endif
