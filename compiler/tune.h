/* The candidates of a schedule, planned into one artifact that the runtime can time: each matmul of a decode program is launched several times
 * over, once with each candidate's constants. All of them write the same result, so such an artifact still computes the model, and any one of
 * the candidates can be left out. Which row of a schedule a node stands for is told by its label and a fact of the artifact. */
#ifndef CCC_TUNE_H
#define CCC_TUNE_H
#include "plan.h"

enum { CCC_TUNE_LABEL = 1000000 /* + number of the candidate; its row is the fact "tune.<label>" */, CCC_TUNE_MAX = 4000 /* facts that a file has room for */ };
#define CCC_TUNE_BY_RULE "by rule" /* the note of the row that kernels/geometry.h would choose */
#define CCC_TUNE_IN_USE "in use"   /* of the schedule's, if it is another one */

struct plan_tune {
    const ccc_tune_args *args;     /* the numbers of tokens become the fact "tune.tokens" */
    const schedule_row *forced;    /* the candidate being planned */
    schedule_row *row; uint32_t n, cap;
};
/* Rows for shape s and the T of b's program, the rule's own choice first; they are kept in the plan, numbers *first to *first + *n - 1. */
ccc_status tune_candidates(uint32_t *first, uint32_t *n, plan_builder *b, const schedule_shape *s, bool norm, bool by8, ccc_err *err);
/* Leaves the decode ranges that serve `tokens`, each of which must be in one. */
ccc_status tune_ranges(plan_range *ranges, unsigned *n, const ccc_tune_args *args, ccc_err *err);
#endif
