/* Replacing values by others while walking the nodes once, in order: the operands of a node are looked up
 * before the node is looked at, so a chain of replacements is resolved by the time it is reached. Nodes that
 * lost their users are dropped at the end. */
#ifndef CCC_REWRITE_H
#define CCC_REWRITE_H
#include "pass.h"

typedef struct {
    ccc_graph *g;
    ccc_arena *mem;
    ccc_val *to; /* by value, of those that were there at the start */
    uint32_t n_values;
    ccc_nid n_nodes; /* nodes at the start */
    bool *dead;      /* by node, of those that were there at the start */
    bool progress;
} ccc_rewrite;
ccc_status ccc_rewrite_start(ccc_rewrite *w, ccc_graph *g, ccc_arena *mem, ccc_err *err);
/* Looks up the node's operands. The result is valid until a node is added. */
ccc_node *ccc_rewrite_node(ccc_rewrite *w, ccc_nid n);
/* Replaces `from`, whose node is dropped, by `to`. */
void ccc_rewrite_value(ccc_rewrite *w, ccc_val from, ccc_val to);
ccc_status ccc_rewrite_end(ccc_rewrite *w, bool *progress, ccc_err *err);
#endif
