/* Hook bodies for the samples of build.sh and build_b.sh, in C, as codegen would write them in LLVM IR. SET chooses; WIDTH is that of epilogue, pair and
 * body. Every aux array has rows of LD elements. kernels_check.c computes the same on the CPU.
 *   SET 0: in, out, epilogue are the identity; pair = silu(v) * v2; body = aux0 + aux1
 *   SET 1: in = bf16(v + aux0); out = bf16(bf16(v) * weight aux1[col]); epilogue = bf16(bf16(v) + aux0), and aux2 = f32 v (a second result);
 *          pair = bf16(bf16(silu(bf16(v))) * bf16(v2)); body = bf16(silu(aux0) * aux1)
 *   SET 2: as 0, but epilogue = e4m3(3 * bf16(v)) */
#define LIB static __attribute__((always_inline, unused))
#include "../../compiler/kernels/cuda/hooks.h"

#define LD 8192
typedef CAT(vf, WIDTH) vf;
#define BODY __attribute__((always_inline))
#if WIDTH == 1
#define EACH(r, e) do { enum { i = 0 }; r = (e); } while (0)
#define AT(v) (v)
#else
#define EACH(r, e) UNROLL for (i32 i = 0; i < WIDTH; i++) r[i] = (e)
#define AT(v) (v)[i]
#endif
#define LOAD(k) CAT(CAT(ccc_ld, WIDTH), _bf16)(aux->p[k], (i64)row * LD + col)

#if SET != 1
BODY vf8 ccc_hook_in(vf8 v, i32 row, i32 col, const aux_t *aux) { (void)row, (void)col, (void)aux; return v; }
BODY vf8 ccc_hook_out(vf8 v, i32 row, i32 col, const aux_t *aux) { (void)row, (void)col, (void)aux; return v; }
INLINE float behind(float v) { return SET == 2 ? ccc_cast_e4m3(ccc_elt_mul(ccc_cast_bf16(v), 3)) : v; }
BODY vf ccc_hook_epilogue(vf v, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    vf y = v;
    EACH(y, behind(AT(v)));
    return y;
}
#if WIDTH == 8
BODY vf2 ccc_hook_epilogue_tail(vf2 v, i32 row, i32 col, const aux_t *aux) /* of attn_decode */
{
    (void)row, (void)col, (void)aux;
    return (vf2){behind(v.x), behind(v.y)};
}
#endif
BODY vf ccc_hook_pair(vf v, vf v2, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    vf y = v;
    EACH(y, ccc_elt_mul(ccc_elt_silu(AT(v), 0), AT(v2)));
    return y;
}
BODY vf ccc_hook_body(i32 row, i32 col, const aux_t *aux) { return LOAD(0) + LOAD(1); }
#else
BODY vf8 ccc_hook_in(vf8 v, i32 row, i32 col, const aux_t *aux)
{
    vf8 y = v, r = ccc_ld8_bf16(aux->p[0], (i64)row * LD + col);
    UNROLL for (i32 i = 0; i < 8; i++) y[i] = ccc_cast_bf16(ccc_elt_add(v[i], r[i]));
    return y;
}
BODY vf8 ccc_hook_out(vf8 v, i32 row, i32 col, const aux_t *aux)
{
    (void)row;
    vf8 y = v, w = ccc_ldc8_bf16(aux->p[1], col);
    UNROLL for (i32 i = 0; i < 8; i++) y[i] = ccc_cast_bf16(ccc_elt_mul(ccc_cast_bf16(v[i]), w[i]));
    return y;
}
BODY vf ccc_hook_epilogue(vf v, i32 row, i32 col, const aux_t *aux)
{
    vf y = v, r = LOAD(0);
    CAT(CAT(ccc_st, WIDTH), _f32)(aux->p[2], (i64)row * LD + col, v);
    EACH(y, ccc_cast_bf16(ccc_elt_add(ccc_cast_bf16(AT(v)), AT(r))));
    return y;
}
BODY vf ccc_hook_pair(vf v, vf v2, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    vf y = v;
    EACH(y, ccc_cast_bf16(ccc_elt_mul(ccc_cast_bf16(ccc_elt_silu(ccc_cast_bf16(AT(v)), 0)), ccc_cast_bf16(AT(v2)))));
    return y;
}
BODY vf ccc_hook_body(i32 row, i32 col, const aux_t *aux)
{
    vf x = LOAD(0), w = LOAD(1), y = x;
    EACH(y, ccc_cast_bf16(ccc_elt_mul(ccc_elt_silu(AT(x), 0), AT(w))));
    return y;
}
#endif

/* what they read: on its way to L2, or loaded ahead of them */
BODY void ccc_hook_in_weights(i32 row, i32 col, const aux_t *aux) { (void)row, (void)col, (void)aux; }
BODY void ccc_hook_pair_take_weights(vf *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
BODY void ccc_hook_pair_take_others(vf *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
BODY vf ccc_hook_pair_taken(vf v, vf v2, const vf *t, i32 row, i32 col, const aux_t *aux) { return (void)t, ccc_hook_pair(v, v2, row, col, aux); }
BODY void ccc_hook_epilogue_take_weights(vf *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
BODY void ccc_hook_out_take_others(vf8 *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
#if SET != 1
BODY void ccc_hook_out_weights(i32 row, i32 col, const aux_t *aux) { (void)row, (void)col, (void)aux; }
BODY void ccc_hook_out_take_weights(vf8 *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
BODY vf8 ccc_hook_out_taken(vf8 v, const vf8 *t, i32 row, i32 col, const aux_t *aux) { return (void)t, ccc_hook_out(v, row, col, aux); }
BODY void ccc_hook_epilogue_take_others(vf *t, i32 row, i32 col, const aux_t *aux) { (void)t, (void)row, (void)col, (void)aux; }
BODY vf ccc_hook_epilogue_taken(vf v, const vf *t, i32 row, i32 col, const aux_t *aux) { return (void)t, ccc_hook_epilogue(v, row, col, aux); }
#else
BODY void ccc_hook_out_weights(i32 row, i32 col, const aux_t *aux) { (void)row, ccc_prefetch_bf16(aux->p[1], col); }
BODY void ccc_hook_out_take_weights(vf8 *t, i32 row, i32 col, const aux_t *aux) { (void)row, t[0] = ccc_ldc8_bf16(aux->p[1], col); }
BODY vf8 ccc_hook_out_taken(vf8 v, const vf8 *t, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    vf8 y = v, w = t[0];
    UNROLL for (i32 i = 0; i < 8; i++) y[i] = ccc_cast_bf16(ccc_elt_mul(ccc_cast_bf16(v[i]), w[i]));
    return y;
}
BODY void ccc_hook_epilogue_take_others(vf *t, i32 row, i32 col, const aux_t *aux) { t[0] = LOAD(0); }
BODY vf ccc_hook_epilogue_taken(vf v, const vf *t, i32 row, i32 col, const aux_t *aux)
{
    vf y = v, r = t[0];
    CAT(CAT(ccc_st, WIDTH), _f32)(aux->p[2], (i64)row * LD + col, v);
    EACH(y, ccc_cast_bf16(ccc_elt_add(ccc_cast_bf16(AT(v)), AT(r))));
    return y;
}
#endif
