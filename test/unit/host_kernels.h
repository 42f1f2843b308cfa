/* The host kernel templates, compiled for tests: constants are read from hk_spec at run time and hooks have
 * the bodies of host_kernels_shim.c, so that one object serves every shape. hk_run deals a grid's blocks in a
 * scattered order, with scratch full of NaNs. Memory from hk_alloc ends where an inaccessible page begins, so
 * that a kernel that reaches over the end of a buffer faults in every build. */
#ifndef HOST_KERNELS_H
#define HOST_KERNELS_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/kernels/abi.h"
#include "../../compiler/kernels/host_geometry.h"

typedef struct { /* values of the SPEC constants */
    int OUT_F32, TOK, HQ, HKV, D, ROTARY, LAYOUT, BLOCK, DO_Q, DO_K, DO_KV, K_ROTATED, ROWS_FP8, SRC, DST,
        HALF;
    int hooks; /* 0: identity */
} hk_spec_t;
extern hk_spec_t hk_spec;

void hk_gather(const void *args, const host_ctx *c);
void hk_rows(const void *args, const host_ctx *c);
void hk_elt(const void *args, const host_ctx *c);
void hk_matmul(const void *args, const host_ctx *c);
void hk_matmul_pair(const void *args, const host_ctx *c);
void hk_matmul_fp8(const void *args, const host_ctx *c);
void hk_matmul_pair_fp8(const void *args, const host_ctx *c);
void hk_rope_kv(const void *args, const host_ctx *c);
void hk_attention(const void *args, const host_ctx *c);
void hk_rope_kv_fp8(const void *args, const host_ctx *c);
void hk_attention_fp8(const void *args, const host_ctx *c);
void hk_argmax(const void *args, const host_ctx *c);
void hk_load(const void *args, const host_ctx *c);
void hk_rope_table(const void *args, const host_ctx *c);
void hk_advance(const void *args, const host_ctx *c);
void hk_read(const void *args, const host_ctx *c);
float hk_elt_value(int op, float x, float y); /* op: the ELT row's number; casts follow: bf16 f16 e4m3 e5m2 */
enum {
#define OP(...)
#define ELT(name, ...) HK_##name,
#include "../../ir/op.def"
    HK_CAST_BF16,
    HK_CAST_F16,
    HK_CAST_E4M3,
    HK_CAST_E5M2,
    HK_EXP8 /* m_exp8, in every lane */
};

typedef void hk_kernel(const void *args, const host_ctx *c);
void hk_run(hk_kernel *kernel, const void *args, unsigned gx, unsigned gy, size_t scratch_B);
#define HK_RUN(name, args, gx, gy, scratch_B) hk_run(hk_##name, args, gx, gy, scratch_B)

void *hk_alloc(size_t size_B); /* filled with 0xff: NaNs; lives until hk_free_all */
void hk_free_all(void);
void hk_seed(uint64_t seed);
uint32_t hk_random(void);
float hk_uniform(void); /* in [-1, 1) */
float hk_bf16_f32(u16 v);
u16 hk_f32_bf16(float v);
u16 *hk_random_bf16(size_t n, float scale);

typedef struct { /* a KV cache of rows of d numbers, `bytes` each; NaN throughout */
    char *k, *v;
    i64 block_stride, token_stride, head_stride;
    int blocks, size, d, layout, bytes;
} hk_cache;
hk_cache hk_cache_new(int layout, int blocks, int size, int heads, int d, int bytes);
void *hk_cache_element(const hk_cache *c, int block, int t, int head, int d, int is_v); /* by the formulas of abi.h */
/* What of the arguments is the cache's and the heads': a row of out is that of q. */
attention_args hk_attention_args(const hk_cache *c, void *out, const u16 *q, int hq);
#endif
