/* What the passes share: lists of users, and for the fuse_* passes a region that grows around an anchor until
 * the one legality function (legal.c) says no. Private to passes/; what others may see of groups is group.h.
 */
#ifndef CCC_FUSE_H
#define CCC_FUSE_H
#include "pass.h"
#include "group.h"

typedef struct { /* of one state of the graph: made anew after it changes. Arrays are indexed by value */
    const ccc_graph *g;
    uint32_t *start; /* users of v: user[start[v]] .. user[start[v + 1]], in order, one entry an operand */
    ccc_nid *user;
    uint32_t *n_out; /* outputs of the graph that name v */
    ccc_nid *writer; /* the node that makes the next version of v; 0: none */
    bool *weight;    /* made by load programs */
} ccc_users;
ccc_status ccc_users_new(ccc_users *u, const ccc_graph *g, ccc_arena *mem, ccc_err *err);
static inline uint32_t ccc_n_uses(const ccc_users *u, ccc_val v)
{
    return u->start[v + 1] - u->start[v] + u->n_out[v];
}
/* Is a value of a marked node needed by anybody who is not marked? (A cache's last version is: by the next
 * step.) */
bool ccc_value_open(const ccc_users *u, const uint8_t *mark, ccc_val v);

typedef struct {
    ccc_nid *member; /* nodes of units, those of a group side by side */
    uint32_t *first; /* by unit: its nodes are member[first[u]] .. member[first[u + 1]] */
    uint32_t *order; /* units, in an order in which they can run */
    uint32_t n;
} ccc_units;
/* All units of u's graph; the arrays live in `mem`. CCC_E_TYPE when groups form a cycle. */
ccc_status ccc_units_order(ccc_units *out, const ccc_users *u, ccc_arena *mem, ccc_err *err);

/* How `v` is addressed by a hook over [rows, cols]: a ccc_aux_at, or -1 when it does not broadcast. */
int ccc_aux_at_of(const ccc_graph *g, ccc_val v, ccc_dim rows, ccc_dim cols);
/* The operand of an input chain that the template loads by itself: the first bf16 tensor, else the first
 * tensor; 0: none. */
ccc_val ccc_chain_x(const ccc_graph *g, const uint8_t *mark, const ccc_nid *node, unsigned n);
bool ccc_is_unit_node(const ccc_users *u, ccc_nid n); /* runs in a step: neither leaf, view nor weight data */
bool ccc_is_immediate(const ccc_graph *g, ccc_val v);
/* k or v of a cache write, seen through a quantisation to e4m3: at most one product by a constant, then the
 * cast */
ccc_kv_rows ccc_kv_rows_of(const ccc_graph *g, ccc_val v);
/* Does n read what the anchor made, other than to round it to bf16? */
bool ccc_reads_unrounded(const ccc_graph *g, ccc_nid anchor, ccc_nid n);

typedef enum {
    CCC_HOOKS_NONE,
    CCC_HOOKS_CAST /* the kernel rounds to bf16, no more */,
    CCC_HOOKS_ROUND /* it rounds to bf16, then anything */,
    CCC_HOOKS_ANY
} ccc_hooks;
ccc_hooks ccc_op_hooks(ccc_op op); /* what may follow an anchor in its group */

/* ---- regions */
enum {
    CCC_REGION_MAX = 64,
    CCC_HOOK_INS = 48 /* of codegen.h */,
    CCC_HOOK_LIVE = 8 /* vectors of a hook in registers at once */
};
typedef struct {
    ccc_nid node[CCC_REGION_MAX];
    unsigned n; /* in the order of joining */
    ccc_nid anchor;
    ccc_hooks hooks;
    ccc_dim rows, cols; /* of the part that grows */
    unsigned n_stores;  /* secondary results that it will have */
} ccc_region;

typedef struct {
    ccc_graph *g;
    const ccc_pass_ctx *ctx;
    const char *pass;
    ccc_users u;
    uint8_t *mark;       /* by node: in the region (one region at a time) */
    uint8_t *refused;    /* by node: asked and refused for this region */
    const char **reason; /* by node: for --explain */
    bool *always;
    ccc_nid *next;         /* by node: the next member of its group, a ring */
    ccc_nid *far;          /* by node i: the last member of any group that has a member <= i, at least i */
    uint32_t *seen, epoch; /* by node, for the search for cycles */
    ccc_nid *stack;
} ccc_fuse;
ccc_status ccc_fuse_new(ccc_fuse *f, ccc_graph *g, ccc_pass_ctx *ctx, const char *pass, ccc_err *err);
/* Prints the reasons, drops groups that became empty. */
ccc_status ccc_fuse_end(ccc_fuse *f, bool progress, ccc_err *err);

/* Legality: may elementwise node `n` join region `r`? NULL: yes. Otherwise the reason, for --explain. */
const char *ccc_fuse_illegal(ccc_fuse *f, const ccc_region *r, ccc_nid n);
/* The part of it that concerns a set of marked nodes as a whole (also asked when two groups are merged): aux
 * operands (n_stores of them secondary results), hook size, cycles. */
const char *ccc_fuse_illegal_set(ccc_fuse *f, const ccc_nid *node, unsigned n, unsigned n_stores);

/* Rows and columns are those of `domain`. Every start has an end, which unmarks. */
void ccc_region_start(ccc_fuse *f, ccc_region *r, ccc_nid anchor, ccc_val domain);
void ccc_region_end(ccc_fuse *f, ccc_region *r);
bool ccc_region_add(ccc_fuse *f, ccc_region *r, ccc_nid n);       /* false: full */
bool ccc_region_add_group(ccc_fuse *f, ccc_region *r, ccc_nid n); /* n and the other members of its group */
void ccc_region_truncate(ccc_fuse *f, ccc_region *r, unsigned n);
/* values that leave the region; a cache is none of them */
unsigned ccc_region_open(const ccc_fuse *f, const ccc_region *r);
/* Adds elementwise users of the region, lowest first, as long as it is legal, and keeps the largest set that
 * one value leaves. False: no such set with more than what was there. */
bool ccc_region_grow(ccc_fuse *f, ccc_region *r);
/* Makes the region one group (or, with `group` != 0, lets its nodes join that one). */
ccc_status ccc_region_commit(ccc_fuse *f, const ccc_region *r, uint32_t group, ccc_err *err);

/* Remembers why `n` was refused. ccc_fuse_end prints one line for each node that no group took after all:
 * pass, value, op, reason.
 * ..._always: also when the node is in a group (a norm that stayed apart from its matmul). */
extern const char ccc_no_hooks[];
void ccc_fuse_explain(ccc_fuse *f, ccc_nid n, const char *reason);
void ccc_fuse_explain_always(ccc_fuse *f, ccc_nid n, const char *reason);
/* `out` may be NULL. */
void ccc_explain_line(ccc_buf *out, const ccc_graph *g, const char *pass, ccc_nid n, const char *reason);
/* after an allocation from the scratch arena failed */
static inline ccc_status ccc_pass_nomem(ccc_err *err, const char *pass)
{
    return ccc_fail(err, CCC_E_NOMEM, "pass %s: out of memory", pass);
}
#endif
