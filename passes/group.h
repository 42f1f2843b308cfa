/* A group as a kernel sees it. A group is a set of nodes around an anchor; a kernel template is the anchor's
 * loop with hooks in it. ccc_group_describe sorts the nodes of a group into those hooks and lists what goes
 * in and out. Nothing here depends on a target.
 *
 *     x --IN--> norm --OUT--> anchor --EPILOGUE--> results[0]    a matmul with a norm in front
 *     x --IN--> anchor = norm --OUT--> results[0]                rms_norm
 *     x --> anchor --PRE--> two halves --EPILOGUE--> results[0]  a matmul, `pair`
 *     BODY --> results[0]                                        elementwise
 *     rope_q, rope_k, kv_write                                   a template of its own; k, v: to e4m3 in it
 *     rope                                                       anchor, then at most one cast to bf16
 *     attention --EPILOGUE--> results[0]                         the hook begins with a cast to bf16
 *     rope_q, rope_k, kv_write, attention --EPILOGUE--> ..       the same
 *     embed, gather, argmax, ...                                 anchor alone
 *
 * A hook evaluates its part's nodes in order. An operand of such a node is: the result of an earlier node of
 * the part, one of part.arg, a `constant` (an immediate), or found with ccc_group_aux (a load). Values of the
 * part that are among results[1..] are stored. */
#ifndef CCC_GROUP_H
#define CCC_GROUP_H
#include "../ir/ir.h"

typedef enum {
    CCC_PART_IN,
    CCC_PART_OUT,
    CCC_PART_PRE,
    CCC_PART_EPILOGUE,
    CCC_PART_BODY,
    CCC_N_PARTS
} ccc_part_kind;
typedef enum {
    CCC_AUX_ROWCOL,
    CCC_AUX_COL,
    CCC_AUX_ROW,
    CCC_AUX_SCALAR
} ccc_aux_at; /* same numbers as ccc_hook_at */

typedef struct {
    const ccc_nid *node;
    unsigned n; /* elementwise nodes, each after what it reads; n 0: the hook is the identity */
    ccc_val arg[2];
    unsigned n_args; /* what the template hands to the hook (IN: x, maybe 0 args; EPILOGUE of a pair: both
                        halves; BODY: none) */
    ccc_val result;  /* what the hook yields: that of the last node, or arg[0] when there is none */
} ccc_part;

typedef struct {
    ccc_val val;  /* never a constant; may be a view: see ccc_view_base */
    uint8_t at;   /* ccc_aux_at, relative to the part's rows and columns */
    bool store;   /* a secondary result, written by the hook of `part`; else read */
    uint8_t part; /* first part that touches it */
} ccc_aux;

typedef struct {
    ccc_val rows; /* what the kernel takes: the operand of kv_write, or that in front of its quantisation */
    ccc_nid cast; /* that quantisation, in the group: rounds to e4m3; 0: none */
    ccc_nid mul;  /* in front of the cast: rows times `times`; 0: none */
    float times;
} ccc_kv_rows;

typedef struct {
    uint32_t group;         /* 0: a node alone */
    ccc_nid anchor;         /* the loop */
    ccc_nid norm;           /* rms_norm: the anchor itself, or the one in front of a matmul; 0: none */
    ccc_nid kv_write;       /* the anchor itself, or the one in front of an attention; 0: none */
    ccc_kv_rows k, v;       /* with kv_write; k.rows is rotated, by rope_k if that is there */
    ccc_nid rope_q, rope_k; /* with kv_write, or anchor rope; 0: none. A rope alone is rope_q */
    bool pair;              /* a matmul whose two halves are combined */
    const ccc_nid *node;
    unsigned n; /* all members, in order */
    ccc_part part[CCC_N_PARTS];
    ccc_val x; /* the activation that the template loads: norm's or matmul's input, or the operand of IN that
                * is arg[0]; 0: elementwise, or all operands of IN are aux. Any dtype: the planner checks. */
    ccc_val q_out, k_out; /* rope: the value stored (after its cast), 0 when there is no such part or it is
                             used inside only */
    const ccc_val *read;
    unsigned n_reads; /* values from outside, each once: in order of nodes and operands; constants left out */
    const ccc_val *result;
    unsigned n_results; /* values used outside (or that are outputs, or the last version of a cache): main one
                           first */
    const ccc_aux *aux;
    unsigned n_aux; /* memory of hooks: reads in order of first use, then stores. Position = index in aux_t */
} ccc_group_info;

/* Describes a group, or the unit that node `nid` belongs to (its group, or the node alone). All arrays live
 * in `mem`. CCC_E_TYPE when no kernel has the shape of this group, with a message that names group, node and
 * reason: groups may come from a text file. */
ccc_status ccc_group_describe(const ccc_graph *g, uint32_t group, ccc_arena *mem, ccc_group_info *out,
                              ccc_err *err);
ccc_status ccc_node_describe(const ccc_graph *g, ccc_nid nid, ccc_arena *mem, ccc_group_info *out,
                             ccc_err *err);

/* All units of a graph (groups, and ungrouped nodes that are neither leaves, views nor weight data), in an
 * order in which they can run: after what they read, and a reader of an old version of a cache before its
 * writer. Deterministic. CCC_E_TYPE when groups form a cycle. */
ccc_status ccc_group_list(const ccc_graph *g, ccc_arena *mem, ccc_group_info **out, unsigned *n,
                          ccc_err *err);

/* index of a value in info->aux as it is read (or stored) in `part`; -1: not there */
int ccc_group_aux(const ccc_graph *g, const ccc_group_info *info, ccc_part_kind part, ccc_val v, bool store);

/* Follows slices back to the value that has memory; *col is the first column of v in it (may be NULL). */
ccc_val ccc_view_base(const ccc_graph *g, ccc_val v, int64_t *col);
#endif
