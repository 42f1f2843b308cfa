/* What the functions that plan units share: sizes as expressions, kernels with a target's defaults, dtypes that a kernel demands. Private to
 * plan_kernels.c, which has the dispatcher, and plan_attention.c. */
#ifndef CCC_PLAN_UNIT_H
#define CCC_PLAN_UNIT_H
#include "plan.h"
#include "kernels/abi.h"
#include "kernels/attention_geometry.h"
#include "kernels/host_geometry.h"

bool plan_wide_rows(plan_builder *b, const ccc_group_info *u);                     /* every operand and result can be touched eight elements at a time */
ccc_status plan_rope(plan_builder *b, const ccc_group_info *u, ccc_err *err);      /* anchor rope or kv_write */
ccc_status plan_attention(plan_builder *b, const ccc_group_info *u, ccc_err *err); /* with kv_write: rotation and cache write, too */

static inline bool is_cuda(const plan_builder *b) { return b->plan->target->kind == CCC_TARGET_CUDA; }
static inline const ccc_type *type_of(const plan_builder *b, ccc_val v) { return &b->g->value[v].type; }
static inline uint32_t one(plan_builder *b) { return px_const(b, 1); }
static inline uint32_t up(plan_builder *b, uint32_t x, int64_t by) { return px_op(b, CCART_X_CEILDIV, x, px_const(b, by)); }
static inline uint32_t mul(plan_builder *b, uint32_t x, int64_t by) { return px_op(b, CCART_X_MUL, x, px_const(b, by)); }
/* host kernels are right for every grid: some blocks a thread (CCART_VAR_SM), and no more than there is work */
static inline uint32_t host_grid(plan_builder *b, uint32_t work) { return px_op(b, CCART_X_MIN, work, mul(b, px_var(b, CCART_VAR_SM), CCC_HOST_BLOCKS)); }

static inline plan_kernel new_kernel(const plan_builder *b, const char *tmpl, unsigned threads, size_t args_B)
{
    plan_kernel k = { .req = { .target = b->plan->target, .tmpl = tmpl, .threads = is_cuda(b) ? threads : 1 }, .args_B = (uint32_t)args_B, .args_align = 8, .cluster = 1 };
    if (is_cuda(b) && ccc_kernel_has_pdl(tmpl)) k.flags |= CCART_KERNEL_PDL;
    return k;
}

/* Rows and columns of a value: [.., cols]; rank 0 and 1 are one row. */
static inline ccc_status shape(plan_builder *b, ccc_val v, uint32_t *rows, int64_t *cols, ccc_err *err)
{
    const ccc_type *t = type_of(b, v);
    *rows = one(b);
    *cols = 1;
    for (unsigned i = 0; i + 1 < t->rank; i++) {
        uint32_t d;
        CCC_TRY(px_dim(&d, b, b->g, t->dim[i], err));
        *rows = px_op(b, CCART_X_MUL, *rows, d);
    }
    if (t->rank) *cols = ccc_type_last(t);
    if (*cols < 0) return ccc_fail(err, CCC_E_UNSUPPORTED, "value %%%u: the last dimension of a kernel's operand must be a constant", v);
    return CCC_OK;
}

static inline ccc_status need_dtype(const plan_builder *b, ccc_val v, ccc_dtype d, const char *what, ccc_err *err)
{
    ccc_dtype is = (ccc_dtype)type_of(b, v)->dtype;
    if (is != d) return ccc_fail(err, CCC_E_UNSUPPORTED, "%s is %s, the kernel reads %s; cast it", what, ccc_dtype_name(is), ccc_dtype_name(d));
    return CCC_OK;
}

/* SPEC OUT_F32 of the templates */
static inline int out_kind(const plan_builder *b, ccc_val v)
{
    ccc_dtype d = (ccc_dtype)type_of(b, v)->dtype;
    return d == CCC_F32 ? 1 : d == CCC_E4M3 ? 2 : 0;
}

static inline ccc_status float_result(const plan_builder *b, ccc_val v, ccc_err *err)
{
    ccc_dtype d = (ccc_dtype)type_of(b, v)->dtype;
    if (d != CCC_F32 && d != CCC_BF16 && d != CCC_E4M3)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "no kernel writes %s; cast to bf16, f32 or e4m3", ccc_dtype_name(d));
    return CCC_OK;
}

static inline uint32_t label(const ccc_group_info *u) { return u->anchor; }
#endif
