/* One host kernel template, as tests want it: compiled by the compiler of the templates, once a template,
 * with -DTEMPLATE=FILE, -DNAME=hk_NAME and -DTEST_HOOKS_rows and the like. Hook bodies are written with the
 * functions that codegen calls, for both widths from one text. */
#define CCC_KERNEL_TEST
#ifdef FP8 /* a second object of one template: its hooks need names of their own */
#define OWN(name) fp8_##name
#define ccc_ROWS_FP8 hk_spec.ROWS_FP8
#else
#define OWN(name) ccc_##name
#endif
#ifdef TEST_HOOKS_attention /* beside matmul's */
#define ccc_hook_epilogue OWN(attention_hook_epilogue)
#elif defined(FP8)
#define ccc_hook_epilogue OWN(hook_epilogue)
#define ccc_hook_epilogue_tail OWN(hook_epilogue_tail)
#define ccc_hook_pair OWN(hook_pair)
#define ccc_hook_pair_tail OWN(hook_pair_tail)
#endif
#define ccc_OUT_F32 hk_spec.OUT_F32
#define ccc_TOK hk_spec.TOK
#define ccc_HQ hk_spec.HQ
#define ccc_HKV hk_spec.HKV
#define ccc_D hk_spec.D
#define ccc_ROTARY hk_spec.ROTARY
#define ccc_LAYOUT hk_spec.LAYOUT
#define ccc_BLOCK hk_spec.BLOCK
#define ccc_DO_Q hk_spec.DO_Q
#define ccc_DO_K hk_spec.DO_K
#define ccc_DO_KV hk_spec.DO_KV
#define ccc_K_ROTATED hk_spec.K_ROTATED
#define ccc_SRC hk_spec.SRC
#define ccc_DST hk_spec.DST
#define ccc_HALF hk_spec.HALF
#include "host_kernels.h"
#include TEMPLATE
#include "../../compiler/kernels/host/hooks.h"

INLINE VF map8(float (*f)(float, float), VF x, VF y)
{
    VF r;
    for (int l = 0; l < 8; l++) r[l] = f(x[l], y[l]);
    return r;
}
INLINE float map1(float (*f)(float, float), float x, float y) { return f(x, y); }
INLINE float to_bf16(float x, float y) { return (void)y, ccc_cast_bf16(x); }

/* in: bf16(v + aux0[row, col]), kept in aux1 (bf16); out: v * aux2[col] (f32) */
#define ROWS_HOOKS(suffix, T, W)                                                                             \
    T ccc_hook_in##suffix(T v, i32 row, i32 col, const aux_t *aux)                                           \
    {                                                                                                        \
        if (!hk_spec.hooks) return v;                                                                        \
        i64 at = (i64)row * hk_spec.hooks + col;                                                             \
        v = map##W(to_bf16, map##W(ccc_elt_add, v, ccc_ld##W##_bf16(aux->p[0], at)), v);                     \
        ccc_st##W##_bf16(aux->p[1], at, v);                                                                  \
        return v;                                                                                            \
    }                                                                                                        \
    T ccc_hook_out##suffix(T v, i32 row, i32 col, const aux_t *aux)                                          \
    {                                                                                                        \
        (void)row;                                                                                           \
        return hk_spec.hooks ? map##W(ccc_elt_mul, v, ccc_ldc##W##_f32(aux->p[2], col)) : v;                 \
    }
/* body: silu(aux0[row, col]) * aux1[col] + aux2[row], all f32 */
#define ELT_HOOKS(suffix, T, W)                                                                              \
    T ccc_hook_body##suffix(i32 row, i32 col, const aux_t *aux)                                              \
    {                                                                                                        \
        T x = ccc_ld##W##_f32(aux->p[0], (i64)row * hk_spec.hooks + col);                                    \
        x = map##W(ccc_elt_mul, map##W(ccc_elt_silu, x, x), ccc_ldc##W##_f32(aux->p[1], col));               \
        return map##W(ccc_elt_add, x, (T)ccc_ld1_f32(aux->p[2], row));                                       \
    }
/* epilogue: bf16(v) + aux0[row, col] (f32); pair: silu(v) * v2 */
#define EPILOGUE_HOOKS(suffix, T, W)                                                                         \
    T ccc_hook_epilogue##suffix(T v, i32 row, i32 col, const aux_t *aux)                                     \
    {                                                                                                        \
        if (!hk_spec.hooks) return v;                                                                        \
        return map##W(ccc_elt_add, map##W(to_bf16, v, v),                                                    \
                      ccc_ld##W##_f32(aux->p[0], (i64)row * hk_spec.hooks + col));                           \
    }
#define PAIR_HOOKS(suffix, T, W)                                                                             \
    T ccc_hook_pair##suffix(T v, T v2, i32 row, i32 col, const aux_t *aux)                                   \
    {                                                                                                        \
        (void)row, (void)col, (void)aux;                                                                     \
        return map##W(ccc_elt_mul, map##W(ccc_elt_silu, v, v), v2);                                          \
    }
#if defined(TEST_HOOKS_rows)
ROWS_HOOKS(, VF, 8)
ROWS_HOOKS(_tail, float, 1)
#elif defined(TEST_HOOKS_elt)
ELT_HOOKS(, VF, 8)
ELT_HOOKS(_tail, float, 1)
float hk_elt_value(int op, float x, float y)
{
    switch (op) {
#define OP(...)
#define ELT(name, ...)                                                                                       \
    case HK_##name:                                                                                          \
        return ccc_elt_##name(x, y);
#include "../../ir/op.def"
    case HK_CAST_BF16:
        return ccc_cast_bf16(x);
    case HK_CAST_F16:
        return ccc_cast_f16(x);
    case HK_CAST_E4M3:
        return ccc_cast_e4m3(x);
    case HK_CAST_E5M2:
        return ccc_cast_e5m2(x);
    default:
        return m_exp8((VF)x)[3];
    }
}
#elif defined(TEST_HOOKS_matmul) && defined(PAIR)
PAIR_HOOKS(, VF, 8)
PAIR_HOOKS(_tail, float, 1)
#elif defined(TEST_HOOKS_attention)
EPILOGUE_HOOKS(, VF, 8)
#elif defined(TEST_HOOKS_matmul)
EPILOGUE_HOOKS(, VF, 8)
EPILOGUE_HOOKS(_tail, float, 1)
#endif

void NAME(const void *args, const host_ctx *c) { ccc_kernel(args, c); }
