/* What the evaluator's files share: the state of one evaluation, and access to its tensors. */
#ifndef CCC_IR_EVAL_H
#define CCC_IR_EVAL_H
#include "internal.h"

typedef struct {
    const ccc_graph *g;
    const ccc_eval_args *args;
    ccc_tensor *val; /* of each value */
    bool *owned;     /* val[v].data is from malloc and ours */
    uint32_t *uses;  /* still to come */
    ccc_err *err;
} eval;

uint64_t ccc_eval_count(const ccc_tensor *t);       /* elements */
void *ccc_eval_allocate(uint64_t n, size_t elem_B); /* zeroed, from malloc; NULL: out of memory */
ccc_status ccc_eval_make(eval *e, const ccc_node *n, ccc_tensor **out); /* the node's result, zeroed */
const ccc_tensor *ccc_eval_operand(eval *e, const ccc_node *n, unsigned i);
void ccc_eval_load(const ccc_tensor *t, uint64_t from, uint64_t n,
                   float *out);                /* elements from .. from+n as f32 */
float *ccc_eval_load_all(const ccc_tensor *t); /* from malloc; NULL: out of memory */

ccc_status ccc_eval_kv_write(eval *e, const ccc_node *n);
ccc_status ccc_eval_attention(eval *e, const ccc_node *n);
#endif
