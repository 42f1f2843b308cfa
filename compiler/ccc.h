/* libccc: compiles a model into an artifact. The one public header. No global state: two compiles may run in two threads. */
#ifndef CCC_H
#define CCC_H
#include <limits.h>
#include "../ir/ir.h"

#define CCC_VERSION "0.1.0"

/* Options of a compile: one table, config.def. Every field also is a command line option, a JSON key and a line of --help. */
typedef struct ccc_config {
#define OPT_INT(name, dflt, key, help, ...) int64_t name;
#define OPT_BOOL(name, dflt, key, help, ...) bool name;
#define OPT_STR(name, dflt, key, help, ...) const char *name;
#include "config.def"
} ccc_config;
void ccc_config_init(ccc_config *c);
/* Sets one field from text. Unknown names, wrong types and values out of range are errors that say so. `value` must outlive the config. */
ccc_status ccc_config_set(ccc_config *c, const char *name, const char *value, ccc_err *err);
typedef enum { CCC_OPT_INT, CCC_OPT_BOOL, CCC_OPT_STR } ccc_opt_kind;
typedef struct { const char *name; ccc_opt_kind kind; const char *dflt; bool in_key; const char *help; } ccc_option;
extern const ccc_option ccc_options[]; /* ends with name NULL */
char *ccc_config_text(const ccc_config *c, const ccc_option *o, ccc_arena *mem); /* a field as ccc_config_set reads it; NULL: out of memory */

/* ---- import: MODEL is a Hugging Face folder (config.json alone is enough), a GGUF file, a model.json or a text graph (.ir); "-" reads model.json from standard input */
typedef struct { const char *const *ignore_keys; unsigned n_ignore_keys; /* config.json keys to pass over */ const ccc_config *config; } ccc_import_args;
ccc_status ccc_import(ccc_graph **out, const char *model, const ccc_import_args *args, ccc_err *err);
const char *const *ccc_architectures(void); /* "LlamaForCausalLM", ...; ends with NULL */

/* ---- compile */
/* Where ptxas is: `configured` ("none" gives "", a path must be a program), else the first in `folders`, joined by colons as PATH is; "" when there is none. */
ccc_status ccc_find_ptxas(char out[PATH_MAX], const char *configured, const char *folders, ccc_err *err);
typedef struct { const int64_t *tokens; unsigned n_tokens; int64_t candidates; /* at most, a shape */ } ccc_tune_args;
typedef struct { /* unused fields are NULL */
    const ccc_config *config;
    ccc_buf *explain;            /* receives why candidates were not fused */
    ccc_buf *time_report;        /* receives a table of where the time went */
    void (*progress)(void *payload, const char *what, unsigned done, unsigned total); void *payload;
    void (*warning)(void *payload, const char *message);
    const ccc_tune_args *tune;   /* instead of the model's programs: its decode steps with every candidate of each matmul, for `cccrt tune` */
} ccc_compile_args;
/* Compiles `g` (left as it is) for the targets of the config; *out is the artifact's bytes. Deterministic: same graph, config, version and ptxas give the same bytes. */
ccc_status ccc_compile(ccc_buf *out, const ccc_graph *g, const ccc_compile_args *args, ccc_err *err);

/* ---- schedules */
/* Puts what `cccrt tune` measured (`result`, its JSON) into a schedule: where a candidate beat the rule's choice by more than noise it becomes the
 * shape's row, else the shape's row goes. schedule: the file's text, NULL: the built-in one. *out: the new text, the same for the same input;
 * *log: a line a shape, for people. Names are for messages. */
ccc_status ccc_schedule_apply(ccc_buf *out, ccc_buf *log, const ccc_buf *schedule, const char *schedule_name, const ccc_buf *result, const char *result_name, ccc_err *err);
#endif
