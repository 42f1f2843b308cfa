/* Command line options of a subcommand: one table gives parsing, checks and --help. Exit status everywhere: 0 done, 1 failed, 2 wrong usage. */
#ifndef CCC_TOOL_OPT_H
#define CCC_TOOL_OPT_H
#include <stdbool.h>
#include <stdint.h>
#include "../runtime/ccc_err.h"

typedef enum { OPT_FLAG /* bool * */, OPT_TEXT /* const char ** */, OPT_NUMBER /* int64_t * */, OPT_LIST /* opt_list *, may be given again */,
               OPT_SET /* opt_set *: handed on by name */ } opt_kind;
typedef struct { const char *item[64]; unsigned n; } opt_list;
typedef struct { ccc_status (*set)(void *payload, const char *name, const char *value, ccc_err *err); void *payload; } opt_set;
typedef struct {
    const char *name;     /* "--target"; also "-o" or "-O" (the value may follow at once: -O3, -j4) */
    opt_kind kind;
    void *to;
    const char *value;    /* how the value is called in --help; NULL for flags */
    const char *help;
} opt;
/* Parses argv[1..]; what is no option goes to args (at most max_args; `--` ends options, a lone "-" is an argument). Returns -1 to go on, or the
 * status to leave with: --help printed (0), wrong usage explained on stderr (2). `program` "ccc compile", `usage` "MODEL -o FILE", `about` one line. */
int opt_parse(int argc, char **argv, const opt *opts, const char *program, const char *usage, const char *about, const char **args, int max_args, int *n_args);
/* "program: message" on stderr; returns 1. */
int opt_fail(const char *program, const ccc_err *err);
int opt_usage(const char *program, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* returns 2 */
#endif
