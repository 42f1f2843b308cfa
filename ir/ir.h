/* The graph: values are tensors, nodes are ops, everything is an index into an array of the graph.
 * Array order of nodes is a topological order. Lists of uses are recomputed when wanted (ccc_graph_uses), never maintained.
 * Three conventions carry the whole compiler:
 *   - Elementwise ops read any float dtype, compute in f32 and yield f32. A value is rounded in one place only: `cast`.
 *   - State (a KV cache) is a value; `kv_write` yields its next version; the verifier allows one writer and no read of an older version.
 *   - A fusion is a group: nodes with the same non-zero `group` become one kernel. No op is replaced, so fused and unfused
 *     execute the same casts in the same order of sums and give the same bits. */
#ifndef CCC_IR_H
#define CCC_IR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "../runtime/ccc_err.h"
#include "base.h"

enum { CCC_MAX_RANK = 4, CCC_MAX_IN = 12, CCC_MAX_OUT = 3, CCC_MAX_ATTR = 10, CCC_MAX_SYM = 16 };

/* ---- types ------------------------------------------------------------------------------------------------------------- */
typedef enum { /* the numbers are written into artifacts: never reused. X(enum, text, bytes a block, elements a block) */
#define CCC_DTYPES(X)                                                                                                 \
    X(NONE, "none", 0, 1) X(F32, "f32", 4, 1) X(F16, "f16", 2, 1) X(BF16, "bf16", 2, 1) X(E4M3, "e4m3", 1, 1)        \
    X(E5M2, "e5m2", 1, 1) X(E8M0, "e8m0", 1, 1) X(I8, "i8", 1, 1) X(U8, "u8", 1, 1) X(I32, "i32", 4, 1)              \
    X(I64, "i64", 8, 1) X(I4, "i4", 1, 2) X(U4, "u4", 1, 2) X(E2M1, "e2m1", 1, 2)                                     \
    X(Q8_0, "q8_0", 34, 32) X(Q4_1, "q4_1", 20, 32) X(F64, "f64", 8, 1)
#define X(e, text, bytes, elems) CCC_##e,
    CCC_DTYPES(X)
#undef X
    CCC_N_DTYPES
} ccc_dtype;

typedef enum { /* how a value lies in memory; ROW unless it is a KV cache */
    CCC_LAYOUT_ROW = 0,
    CCC_LAYOUT_NHD = 1, /* [block][token][head][size], K and V apart: vLLM's */
    CCC_LAYOUT_HND = 2, /* [block][head][token][size], K and V apart: FlashInfer's */
    CCC_LAYOUT_CCC = 3, /* [block][head][16-token page][K,V][token][size], 16-byte pieces swizzled by token & 7: the fastest */
    CCC_N_LAYOUTS
} ccc_layout;
#define CCC_KV_SCALE_LEAST 1e-12 /* of k_scale and v_scale: they and their inverses are normal f32 numbers */
#define CCC_KV_SCALE_MOST 1e12

typedef struct { /* a*sym + b, then nothing, ceil-div by `by`, or round-up to a multiple of `by`; constant: sym < 0, a = 0 */
    int64_t a, b;
    int32_t by;      /* 0 unless kind != CCC_DIM_LINEAR */
    int16_t sym;     /* index into graph->sym, -1: constant */
    uint8_t kind;    /* CCC_DIM_* */
} ccc_dim;
enum { CCC_DIM_LINEAR, CCC_DIM_CEILDIV, CCC_DIM_ROUNDUP };

typedef struct {
    uint8_t dtype, rank, layout;   /* ccc_dtype, 0..CCC_MAX_RANK, ccc_layout */
    ccc_dim dim[CCC_MAX_RANK];     /* in elements, outermost first */
} ccc_type; /* a KV cache has rank 3: [kv_heads, block_size, head_size]; the number of blocks is the caller's */

typedef struct { const char *name; int64_t min, max; } ccc_sym; /* T tokens, S sequences, R rows of logits, B blocks a sequence; more allowed */

/* ---- ops ---------------------------------------------------------------------------------------------------------------- */
typedef enum {
#define OP(name, ...) CCC_OP_##name,
#include "op.def"
    CCC_N_OPS
} ccc_op;

enum { /* flags of an op */
    CCC_LEAF = 1,        /* no inputs; never dead-code-eliminated into nothing it needs */
    CCC_WEIGHTY = 2,     /* its result is weight data when all inputs are: runs in a load program */
    CCC_ELTWISE = 4,     /* f32 arithmetic element by element, broadcasting */
    CCC_COMMUTATIVE = 8,
    CCC_ANCHOR = 16,     /* can be the anchor of a group; which one is: the largest `rank` */
    CCC_STATEFUL = 32,   /* its result is the next version of input 0 */
    CCC_VIEW = 64        /* moves no data: slice */
};

typedef enum { CCC_ATTR_INT, CCC_ATTR_FLOAT, CCC_ATTR_STR, CCC_ATTR_DTYPE } ccc_attr_kind;
typedef struct { const char *name; ccc_attr_kind kind; bool required; double dflt; } ccc_attr_info; /* dflt also holds ints */
typedef union { int64_t i; double f; const char *s; } ccc_attr; /* DTYPE uses i. STR: owned by the graph, never NULL ("" by default) */

typedef uint32_t ccc_val;  /* index into graph->value; 0 = none */
typedef uint32_t ccc_nid;  /* index into graph->node; 0 = none */

typedef struct {
    ccc_op op;
    uint8_t n_in, n_out;
    uint32_t group;              /* 0: alone */
    ccc_val in[CCC_MAX_IN], out[CCC_MAX_OUT];
    ccc_attr attr[CCC_MAX_ATTR]; /* in the order of the op's row */
} ccc_node;

typedef struct {
    ccc_type type;
    ccc_nid def;
    uint8_t result;        /* which result of `def` */
    const char *name;      /* may be NULL: printed as its number. Names never reach a kernel. */
} ccc_value;

typedef struct { const char *name; ccc_val val; } ccc_output;
typedef struct { const char *key, *value; } ccc_fact; /* what the graph was made from: theta, eps, ... compared when weights are attached */
typedef struct { const char *pass; } ccc_group;       /* which pass made it, for --explain */

typedef struct ccc_graph {
    ccc_arena *mem;            /* everything below lives here */
    const char *name;
    ccc_sym sym[CCC_MAX_SYM]; uint32_t n_sym;
    ccc_node *node;   uint32_t n_nodes, cap_nodes;    /* node[0] unused and counted: for (ccc_nid n = 1; n < g->n_nodes; n++) */
    ccc_value *value; uint32_t n_values, cap_values;  /* value[0] unused and counted */
    ccc_output *out;  uint32_t n_out, cap_out;
    ccc_fact *fact;   uint32_t n_facts, cap_facts;
    ccc_group *group; uint32_t n_groups, cap_groups;  /* group[0] unused and counted */
} ccc_graph;

typedef struct { /* one row of op.def, with the functions that give it meaning */
    const char *name;
    uint8_t min_in, max_in, n_out, rank; /* rank: which node of a group is its anchor */
    uint32_t flags;
    ccc_attr_info attr[CCC_MAX_ATTR]; uint8_t n_attr;
    ccc_status (*type)(const ccc_graph *g, const ccc_node *n, ccc_type *out, ccc_err *err); /* fills n_out types; leaves keep what is there */
    float (*elt)(float x, float y);      /* elementwise ops, else NULL */
    const char *help;
} ccc_op_info;
extern const ccc_op_info ccc_ops[CCC_N_OPS];
ccc_op ccc_op_find(const char *name);              /* CCC_N_OPS: unknown */
int ccc_attr_find(ccc_op op, const char *name);    /* index, or -1 */

/* ---- types: questions ----------------------------------------------------------------------------------------------------- */
const char *ccc_dtype_name(ccc_dtype d);
ccc_dtype ccc_dtype_find(const char *name);        /* CCC_NONE: unknown */
bool ccc_dtype_is_float(ccc_dtype d);              /* f32 f16 bf16 e4m3 e5m2 f64 */
uint64_t ccc_dtype_bytes(ccc_dtype d, uint64_t n_elems); /* the one function for storage size; n a multiple of the block */
const char *ccc_layout_name(ccc_layout l);
ccc_dim ccc_dim_const(int64_t n);
ccc_dim ccc_dim_sym(int sym);
bool ccc_dim_is_const(ccc_dim d, int64_t *n);      /* n may be NULL */
bool ccc_dim_equal(ccc_dim a, ccc_dim b);
int64_t ccc_dim_eval(const ccc_graph *g, ccc_dim d, const int64_t *sym_value); /* sym_value[graph->n_sym] */
int64_t ccc_dim_max(const ccc_graph *g, ccc_dim d);
bool ccc_type_equal(const ccc_type *a, const ccc_type *b);
int64_t ccc_type_last(const ccc_type *t);          /* last dim if constant, else -1 */
/* May node n be part of a load program, as far as it alone can say: its op is CCC_WEIGHTY, or it scales something by a constant. */
bool ccc_is_weighty(const ccc_graph *g, const ccc_node *n);
/* depends on weights and constants alone (made by load programs) */
ccc_status ccc_is_weight_value(bool *is, const ccc_graph *g, ccc_val v, ccc_err *err);

/* ---- building ------------------------------------------------------------------------------------------------------------ */
ccc_status ccc_graph_new(ccc_graph **out, const char *name, ccc_err *err); /* owned by the caller; ccc_graph_free accepts NULL */
void ccc_graph_free(ccc_graph *g);
ccc_status ccc_graph_clone(ccc_graph **out, const ccc_graph *g, ccc_err *err);
int ccc_graph_add_sym(ccc_graph *g, const char *name, int64_t min, int64_t max); /* index of a new or already known symbol; -1: no room */
int ccc_graph_find_sym(const ccc_graph *g, const char *name);                    /* -1: none */
ccc_status ccc_graph_set_fact(ccc_graph *g, const char *key, const char *value, ccc_err *err);
const char *ccc_graph_fact(const ccc_graph *g, const char *key);                 /* NULL: none */

/* Adds a node at the end, infers its result types (leaves: from `type`), and gives its first result in *out (may be NULL).
 * attrs: name/value list below, missing optional ones take their default. Fails with CCC_E_TYPE and a message that names the op and the operands. */
typedef struct { const char *name; ccc_attr v; } ccc_attr_arg;
ccc_status ccc_graph_add(ccc_graph *g, ccc_val *out, ccc_op op, const ccc_val *in, unsigned n_in, const ccc_attr_arg *attrs, unsigned n_attrs,
                         const ccc_type *type, const char *name, ccc_err *err);
ccc_status ccc_graph_add_output(ccc_graph *g, const char *name, ccc_val v, ccc_err *err);
uint32_t ccc_graph_add_group(ccc_graph *g, const char *pass);                    /* its number; 0: out of memory */

/* ---- looking and changing ------------------------------------------------------------------------------------------------- */
const ccc_node *ccc_def(const ccc_graph *g, ccc_val v);                          /* the node that makes v */
int64_t ccc_attr_int(const ccc_node *n, const char *name);                       /* asserts that the op has it */
double ccc_attr_float(const ccc_node *n, const char *name);
const char *ccc_attr_str(const ccc_node *n, const char *name);
uint32_t *ccc_graph_uses(const ccc_graph *g, ccc_arena *mem);                    /* uses[value] = number of operands + outputs that name it */
void ccc_graph_replace(ccc_graph *g, ccc_val from, ccc_val to);                  /* every operand and output */
/* Drops nodes marked dead[nid], keeps order otherwise topological (nodes added at the end are moved before their first user), renumbers. */
ccc_status ccc_graph_compact(ccc_graph *g, const bool *dead, ccc_err *err);      /* dead may be NULL */
ccc_nid ccc_group_anchor(const ccc_graph *g, uint32_t group);                    /* node with the largest op rank (first on a tie); 0: empty */

/* ---- forms ---------------------------------------------------------------------------------------------------------------- */
ccc_status ccc_ir_parse(ccc_graph **out, const char *text, size_t size_B, const char *file, ccc_err *err); /* errors carry line and col; `file` for messages */
ccc_status ccc_ir_print(const ccc_graph *g, ccc_buf *out);                       /* print o parse o print == print */
ccc_status ccc_json_read(ccc_graph **out, const char *text, size_t size_B, const char *file, ccc_err *err); /* model.json, version 1; ir/README.md, ir/model.schema.json */
ccc_status ccc_json_write(const ccc_graph *g, ccc_buf *out);
ccc_status ccc_ir_verify(const ccc_graph *g, ccc_err *err);                      /* every invariant, one message each */
uint64_t ccc_graph_hash(const ccc_graph *g);                                     /* of structure, not of names of values */

/* ---- reference evaluator --------------------------------------------------------------------------------------------------- *
 * Naive loops that are plainly right; shares no code with kernels but elementwise expressions and ccc_rope_inv_freq. Every dot product
 * and sum is accumulated in f32 in the written order (accumulate_f64 = false) or in f64. */
typedef struct { ccc_type type; int64_t dim[CCC_MAX_RANK]; void *data; size_t size_B; } ccc_tensor; /* data in the dtype's storage form, row-major; i64 as is */
typedef struct {
    bool accumulate_f64;
    int64_t sym_value[CCC_MAX_SYM];
    /* gives the data of an input, weight or cache by name ("kv.LAYER" for caches: [blocks, 2, kv_heads, block_size, head_size] f32, plain order,
     * updated in place). t->type, dims and size_B are filled in; set t->data (kept by the caller) or fail. For a cache set size_B too: it says
     * how many blocks there are. data NULL: not bound, which is allowed for the unused one of embed's token_ids and inputs_embeds. */
    ccc_status (*fetch)(void *payload, const char *name, ccc_tensor *t, ccc_err *err);
    void *payload;
} ccc_eval_args;
/* Evaluates all outputs. out[n_out of graph] receive data from malloc: release with ccc_tensor_release. */
ccc_status ccc_ir_eval(const ccc_graph *g, const ccc_eval_args *args, ccc_tensor *out, ccc_err *err);
void ccc_tensor_release(ccc_tensor *t);
float ccc_load_f32(ccc_dtype d, const void *data, uint64_t i);            /* element i as f32 (block formats dequantised) */
void ccc_store_f32(ccc_dtype d, void *data, uint64_t i, float v);         /* rounds to nearest even; e4m3/e5m2 saturate */
float ccc_round_to(ccc_dtype d, float v);                                 /* what `cast` does */
/* inv_freq[rotary/2] of a rope_table node: f64 arithmetic, rounded once to f32. The table is cos,sin of f32(position)*inv_freq (an f32 product). */
void ccc_rope_inv_freq(const ccc_node *rope_table, float *inv_freq);
#endif
