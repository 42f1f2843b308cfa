/* From a fused graph to launch programs. One ccc_plan a target collects kernels (the same request once), final weights with their load
 * programs, and the programs; pack.c turns it into the file. Everything is allocated in the plan's arena.
 *   plan_expr.c     numbers that depend on the step, as postfix code
 *   plan_weights.c  values made of weights alone -> final weights, segments, load programs
 *   plan_traffic.c  how many bytes each launch moves
 *   plan_hook.c     elementwise chains of a group -> hook bodies and aux operands
 *   plan_kernels.c  one function a template: which kernel, grid and argument struct a group becomes
 *   plan.c          units in order, buffers, memory plan, edges
 *   schedule.c      which programs there are, and what the target's schedule says of a matmul (schedule_table.h) */
#ifndef CCC_PLAN_H
#define CCC_PLAN_H
#include "ccc.h"
#include "codegen.h"
#include "schedule_table.h"
#include "kernels/geometry.h"
#include "../passes/pass.h"
#include "../passes/group.h"
#include "../runtime/ccart.h"

/* ---- a target's plan ------------------------------------------------------------------------------------------------------------ */
typedef struct { /* a kernel that codegen will be asked for */
    ccc_kernel_req req;
    const char *name;      /* template and constants, for people */
    const char *text;      /* canonical form of the request: equal text, equal kernel */
    uint32_t shared_B, args_B, args_align, flags, cluster;
} plan_kernel;

typedef struct ccc_plan {
    ccc_arena *mem;
    const ccc_config *config;
    const ccc_target *target;
    plan_kernel *kernel; uint32_t n_kernels, cap_kernels;
    ccart_program *program; uint32_t n_programs, cap_programs;
    ccart_program *load; uint32_t n_load, cap_load;
    ccart_weight *weight; uint32_t n_weights, cap_weights;
    ccart_segment *segment; uint32_t n_segments, cap_segments;
    ccc_buf constant;              /* released by plan_free; the rest lies in mem */
    ccart_io *in, *out; uint32_t n_in, n_out;
    ccart_expr *io_expr; uint32_t n_io_exprs;
    uint64_t counters_B, arena_B;
    schedule_table schedule;       /* measured shapes; none on the CPU */
    struct plan_tune *tune;        /* NULL: the best is planned, else every candidate (tune.h) */
} ccc_plan;

ccc_status plan_new(ccc_plan **out, const ccc_config *config, const ccc_target *target, ccc_err *err);
void plan_free(ccc_plan *p); /* accepts NULL */
/* The io table of the model's graph: input and output numbers that programs refer to. Call once, before the first program. */
ccc_status plan_io(ccc_plan *p, const ccc_graph *g, ccc_err *err);
/* Plans one program from a fused graph whose symbol T already has the range t_min..t_max. */
ccc_status plan_program(ccc_plan *p, const ccc_graph *g, uint32_t mode, int64_t t_min, int64_t t_max, ccc_err *err);
/* The programs that do not come from the graph: advance (for models with a KV cache) and read. */
ccc_status plan_service_programs(ccc_plan *p, const ccc_graph *g, ccc_err *err);
/* Number of the final weight that weight value v of g becomes, with its load programs; the same structure gives the same number. */
ccc_status plan_weight(uint32_t *out, ccc_plan *p, const ccc_graph *g, ccc_val v, ccc_err *err);
ccc_status plan_add_kernel(uint32_t *out, ccc_plan *p, const plan_kernel *k, ccc_err *err);
void plan_spec(plan_kernel *k, const char *name, int64_t value);

/* ---- schedule ------------------------------------------------------------------------------------------------------------------- */
enum {
    CCC_MATVEC_MAX_T = 2,          /* cuda: from here on a tensor-core tile is the better matmul, norm kernel in front included */
    CCC_MATVEC_MAX_IN_FLIGHT = 16, /* 16-byte loads of a lane: more need too many registers, half as many where columns are taken by turns */
    /* A norm in front of a matvec is computed by every thread block. Where its rows are short that hides under the weights on their way, whatever
     * the matmul (measured on an H100: hidden 576 gains 13 %). Rows of 2048 and 4096 take longer; for one token it pays in front of a weight that
     * is short, too. Steps with it in front of qkv, of gate and up, of both, instead of 7 kernels a layer: 8B e4m3 3.107, 3.189, 3.136 ms for 3.137
     * (weights of 6144 and 28672 rows); 8B bf16 5.180, 5.373, 5.302 for 5.215; 1B bf16 0.989, 1.007, 0.988 for 1.003 (3072 and 16384 rows), and
     * with shapes tuned for each 0.979 with qkv's alone, 0.961 with both. */
    CCC_PROLOGUE_MAX_COLS = 1024,
    CCC_PROLOGUE_MAX_COLS_ONE = 4096, CCC_PROLOGUE_MAX_N_ONE = 8192,
    CCC_PROLOGUE_MAX_N_ONE_2048 = 16384 /* of bf16 rows of at most 2048 */
};
typedef struct { uint32_t mode; int64_t t_min, t_max; } plan_range;
/* Programs of a target: ranges[0..*n), at most cap. has_tokens: the graph has a symbol T. */
ccc_status schedule_programs(plan_range *ranges, unsigned cap, unsigned *n, const ccc_target *t, const ccc_config *c, const ccc_graph *g, ccc_err *err);
ccc_fuse_caps schedule_caps(const ccc_target *t, const ccc_config *c, const ccc_graph *g, uint32_t mode);
/* Whether the kernel of decode steps serves attention n: one query token a sequence, the cache in layout ccc. */
bool schedule_decode_attention(const ccc_target *t, const ccc_config *c, const ccc_graph *g, const ccc_node *n, uint32_t mode);
/* Fills p->schedule of a GPU from `text`, the content of the file that the config names, or where that is NULL from what is built in. */
ccc_status schedule_open(ccc_plan *p, const char *text, ccc_err *err);
/* The shape of a matvec: the schedule's, else by rule. norm: it has a norm in front. */
ccc_matvec_shape schedule_matvec(const ccc_plan *p, const schedule_shape *s, int tok, bool norm);
/* The tile of a gemm for up to T rows. by8: rows of the output lie at multiples of eight elements, which the wide tiles need. */
ccc_gemm_tile schedule_gemm(const ccc_plan *p, const schedule_shape *s, int T, bool by8);
/* "1,2,4" or "" (the 51 default sizes) -> ascending sizes in mem, none above the step's limits. */
ccc_status schedule_sizes(uint32_t **sizes, uint32_t *n, ccc_arena *mem, const ccc_config *c, ccc_err *err);

/* ---- expressions ---------------------------------------------------------------------------------------------------------------- */
typedef struct plan_builder plan_builder;
uint32_t px_const(plan_builder *b, int64_t v);
uint32_t px_var(plan_builder *b, int var);
uint32_t px_op(plan_builder *b, int op, uint32_t x, uint32_t y); /* folds constants; equal code, equal number */
ccc_status px_dim(uint32_t *out, plan_builder *b, const ccc_graph *g, ccc_dim d, ccc_err *err);

/* ---- a program being built ------------------------------------------------------------------------------------------------------ */
typedef struct { /* where a value lies: base + byte offset, `ld` elements a row, first column `col` */
    uint8_t kind;             /* 0: nowhere yet; CCART_P_ARENA (index: buffer), _INPUT, _OUTPUT, _WEIGHT, _KV */
    uint32_t index;
    int64_t ld, col;
} plan_loc;
typedef struct { uint64_t size_B, offset_B; uint32_t first, last; } plan_buffer; /* units between which it is alive */

typedef struct { int64_t memory_B[4], local_B[4]; uint32_t kv_B; } plan_moves; /* bytes: constant, and for each of T, S, R (ccart_traffic) */

struct plan_builder {
    ccc_plan *plan;
    const ccc_graph *g;
    uint32_t mode;
    int64_t t_min, t_max;
    uint32_t unit;                     /* number of the unit being planned */
    plan_loc *loc;                     /* by value */
    plan_buffer *buffer; uint32_t n_buffers, cap_buffers;
    ccart_expr *expr; uint32_t n_exprs, cap_exprs;
    ccart_tmap *tmap; uint32_t n_tmaps, cap_tmaps;
    ccart_param *param; uint32_t n_params, cap_params;
    ccart_node *node; uint32_t n_nodes, cap_nodes;
    ccart_traffic *traffic; uint32_t cap_traffic; /* [n_nodes] */
    plan_moves moves;                  /* of the launch whose arguments are being set */
    uint64_t counters_B;               /* of this program */
    bool oom;                          /* sticky: checked once, when the program is finished */
};
/* Sets a node's argument from ...; offset_B and size_B from offsetof and sizeof of the argument struct. */
void pb_imm(plan_builder *b, size_t offset_B, size_t size_B, const void *bytes);
void pb_expr(plan_builder *b, size_t offset_B, size_t size_B, uint32_t expr);
void pb_address(plan_builder *b, size_t offset_B, ccc_val v, int64_t extra_B); /* of value v, its column offset included */
void pb_value(plan_builder *b, size_t offset_B, ccc_val v, int64_t extra_B); /* the same; all of it is moved */
void pb_table(plan_builder *b, size_t offset_B, ccc_val v, ccc_val rows_of); /* the same; as many rows of it are moved as value rows_of has */
void pb_plain(plan_builder *b, size_t offset_B, size_t size_B, uint8_t kind, uint32_t index, int64_t value);
void pb_buffer(plan_builder *b, size_t offset_B, uint32_t buffer);           /* address of a scratch buffer of this unit */
uint32_t pb_scratch(plan_builder *b, uint64_t size_B);                       /* a buffer that lives during this unit */
/* Traffic of the launch: all of value v; row_B bytes of something that lies in `kind` (CCART_P_*) for each row of v; kv_B for each token in the cache. */
void pb_moves(plan_builder *b, ccc_val v);
void pb_moves_rows(plan_builder *b, ccc_val v, int64_t row_B, uint8_t kind);
void pb_moves_kv(plan_builder *b, int64_t kv_B);
ccart_traffic pb_traffic(plan_builder *b); /* what was moved since the launch before */
uint32_t pb_tmap(plan_builder *b, ccc_val v, int64_t rows, int64_t cols, uint32_t box_rows, uint32_t box_cols);
ccc_status pb_launch(plan_builder *b, const plan_kernel *k, const uint32_t grid[3], uint32_t first_param, uint32_t label, ccc_err *err);
plan_loc pb_loc(plan_builder *b, ccc_val v);                                 /* through views */
ccc_status pb_result(plan_builder *b, ccc_val v, ccc_err *err);              /* gives a value produced here a place: output or arena */
#define PB_I32(b, T, f, v) do { int32_t v_ = (int32_t)(v); pb_imm(b, offsetof(T, f), 4, &v_); } while (0)
#define PB_I64(b, T, f, v) do { int64_t v_ = (v); pb_imm(b, offsetof(T, f), 8, &v_); } while (0)
#define PB_F32(b, T, f, v) do { float v_ = (float)(v); pb_imm(b, offsetof(T, f), 4, &v_); } while (0)

/* ---- units and hooks ------------------------------------------------------------------------------------------------------------ */
/* Plans one unit (a group, or a node alone): chooses the kernel, adds the launch. */
ccc_status plan_unit(plan_builder *b, const ccc_group_info *u, ccc_err *err);
/* Adds to k the hook `name` that computes `part` of u (with CCC_PART_PRE before it on both halves when u is a pair). Nothing is added when the
 * part is empty and the hook may be the identity. */
ccc_status plan_hook(plan_builder *b, plan_kernel *k, const ccc_group_info *u, const char *name, ccc_part_kind part, ccc_err *err);
/* The pointers of u's aux operands and secondary results, as fields of the aux_t at aux_B of the argument struct. */
ccc_status plan_aux(plan_builder *b, const ccc_group_info *u, size_t aux_B, ccc_err *err);
#endif
