/* The prelude of every CUDA kernel template: names for what a GPU has and C has not. Every inline-asm wrapper of the templates is here,
 * one line of PTX each, and nowhere else (wgmma.h is its continuation for the tensor core instructions of gemm.c).
 *
 * Rules that these names rely on:
 *   - Templates are compiled with -fconvergent-functions: without it LLVM sinks barriers and shuffles into divergent branches.
 *   - Programmatic launch: dependents_launch() early; every thread block calls grid_wait(), also one without work, before it exits.
 *     Weights and constant tables may be read before grid_wait(); everything else only after it. Weights alone are read with ldg16*
 *     (the read-only path) or ldc*: never activations, ids, caches or flags.
 *   - Shared addresses are u32 (saddr), as the instructions want them. Arrays that live in registers are indexed by constants after
 *     UNROLL: a run-time index puts them into local memory, which test/kernels/build.sh refuses. */
#ifndef CCC_K_H
#define CCC_K_H
#include "../abi.h"

#define KERNEL __attribute__((nvptx_kernel)) void
#define INLINE static inline __attribute__((always_inline))
#define SHARED __attribute__((address_space(3)))
#define SPEC(type, name) extern const type name /* a specialisation constant: codegen gives it its initialiser */
#define HOOK __attribute__((nothrow))           /* a function whose body codegen fills in; see hooks.h */
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define STR_(a) #a
#define STR(a) STR_(a)
#define ASM __asm__ volatile
#define PURE_ASM __asm__ /* no side effect: may be moved and merged */

typedef float vf1; /* hooks of width 1 */
typedef float vf2 __attribute__((ext_vector_type(2)));
typedef float vf4 __attribute__((ext_vector_type(4)));
typedef float vf8 __attribute__((ext_vector_type(8)));
typedef u32 vu2 __attribute__((ext_vector_type(2)));
typedef u32 vu4 __attribute__((ext_vector_type(4)));
typedef i32 vi4 __attribute__((ext_vector_type(4)));
typedef u16 vh8 __attribute__((ext_vector_type(8)));

extern SHARED char smem[] __attribute__((aligned(1024))); /* dynamic shared memory; its size comes with the launch (geometry.h) */

/* ---- who am I ------------------------------------------------------------------------------------------------------------ */
INLINE i32 tid(void) { return __nvvm_read_ptx_sreg_tid_x(); }
INLINE i32 lane(void) { return __nvvm_read_ptx_sreg_tid_x() & 31; }
INLINE i32 ntid(void) { return __nvvm_read_ptx_sreg_ntid_x(); }
INLINE i32 cta(void) { return __nvvm_read_ptx_sreg_ctaid_x(); }
INLINE i32 cta_y(void) { return __nvvm_read_ptx_sreg_ctaid_y(); }
INLINE i32 cta_z(void) { return __nvvm_read_ptx_sreg_ctaid_z(); }
INLINE i32 ncta(void) { return __nvvm_read_ptx_sreg_nctaid_x(); }
INLINE i32 ncta_y(void) { return __nvvm_read_ptx_sreg_nctaid_y(); }

/* ---- small arithmetic ---------------------------------------------------------------------------------------------------- */
INLINE i32 imin(i32 a, i32 b) { return a < b ? a : b; }
INLINE i32 imax(i32 a, i32 b) { return a > b ? a : b; }
INLINE u32 bits(float f) { return __builtin_bit_cast(u32, f); }
INLINE float flt(u32 u) { return __builtin_bit_cast(float, u); }
INLINE float fma_(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE float fmax2(float a, float b) { return __nvvm_fmax_f(a, b); } /* NaN loses */
INLINE float ex2(float x) { return __nvvm_ex2_approx_ftz_f(x); }
INLINE float lg2(float x) { return __nvvm_lg2_approx_ftz_f(x); }
INLINE float rcp(float x) { return __nvvm_rcp_approx_ftz_f(x); }
INLINE float rsqrt_approx(float x) { return __nvvm_rsqrt_approx_f(x); }
INLINE float sqrt_rn(float x) { return __nvvm_sqrt_rn_f(x); }                 /* IEEE */
INLINE float div_rn(float x, float y) { return __nvvm_div_rn_f(x, y); }       /* IEEE */
INLINE float div_full(float x, float y) { float r; PURE_ASM("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y)); return r; } /* 2 ulp */
INLINE float tanh_approx(float x) { float r; PURE_ASM("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
INLINE u32 prmt(u32 a, u32 b, u32 s) { return __nvvm_prmt(a, b, s); }

/* ---- bf16 and other narrow floats ---------------------------------------------------------------------------------------- */
INLINE float bf16_lo(u32 u) { return flt(u << 16); }                          /* of a pair: the lower address */
INLINE float bf16_hi(u32 u) { return flt(u & 0xffff0000u); }
INLINE float bf16_f32(u16 u) { return flt((u32)u << 16); }
INLINE u32 bf16_pack(float lo, float hi) { u32 r; PURE_ASM("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r; }
INLINE u16 f32_bf16(float v) { u16 r; PURE_ASM("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v)); return r; } /* nearest even; NaN: 0x7fff */
INLINE u16 f32_f16(float v) { u16 r; PURE_ASM("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v)); return r; }
INLINE float f16_f32(u16 v) { float r; PURE_ASM("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v)); return r; }
INLINE u32 f16_pack(float lo, float hi) { u32 r; PURE_ASM("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r; }
INLINE u16 e4m3_pack(float lo, float hi) { u16 r; PURE_ASM("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo)); return r; }
INLINE u16 e5m2_pack(float lo, float hi) { u16 r; PURE_ASM("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo)); return r; }
INLINE u32 e4m3_f16(u16 v) { u32 r; PURE_ASM("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(v)); return r; } /* exact */
INLINE u32 e5m2_f16(u16 v) { u32 r; PURE_ASM("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(r) : "h"(v)); return r; }
INLINE vf8 bf16x8_f32(vu4 u)
{
    return (vf8){bf16_lo(u.x), bf16_hi(u.x), bf16_lo(u.y), bf16_hi(u.y), bf16_lo(u.z), bf16_hi(u.z), bf16_lo(u.w), bf16_hi(u.w)};
}
INLINE vu4 f32x8_bf16(vf8 v)
{
    return (vu4){bf16_pack(v[0], v[1]), bf16_pack(v[2], v[3]), bf16_pack(v[4], v[5]), bf16_pack(v[6], v[7])};
}
INLINE vu2 f32x8_e4m3(vf8 v) /* saturating */
{
    return (vu2){e4m3_pack(v[0], v[1]) | (u32)e4m3_pack(v[2], v[3]) << 16, e4m3_pack(v[4], v[5]) | (u32)e4m3_pack(v[6], v[7]) << 16};
}
INLINE float f16_lo(u32 u) { return f16_f32((u16)u); }                        /* of a pair: the lower address */
INLINE float f16_hi(u32 u) { return f16_f32((u16)(u >> 16)); }
INLINE vf4 e4m3x4_f32(u32 u)
{
    u32 lo = e4m3_f16((u16)u), hi = e4m3_f16((u16)(u >> 16));
    return (vf4){f16_lo(lo), f16_hi(lo), f16_lo(hi), f16_hi(hi)};
}
INLINE vf8 e4m3x8_f32(vu2 u)
{
    vf4 a = e4m3x4_f32(u.x), b = e4m3x4_f32(u.y);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}

/* ---- lanes of a warp, threads of a block ----------------------------------------------------------------------------------- */
INLINE float shfl_xor(float v, i32 m) { return __nvvm_shfl_sync_bfly_f32(-1, v, m, 31); }
INLINE i32 shfl_xor_i(i32 v, i32 m) { return __nvvm_shfl_sync_bfly_i32(-1, v, m, 31); }
INLINE float shfl(float v, i32 from) { return __nvvm_shfl_sync_idx_f32(-1, v, from, 31); }
INLINE i32 shfl_i(i32 v, i32 from) { return __nvvm_shfl_sync_idx_i32(-1, v, from, 31); }
INLINE i32 shfl_up_i(i32 v, i32 by) { return __nvvm_shfl_sync_up_i32(-1, v, by, 0); } /* a lane below `by` keeps its own */
INLINE i32 uniform(i32 v) { return shfl_i(v, 0); }                            /* tells ptxas that a value is the same in the warp */
INLINE u32 max_u16x2(u32 a, u32 b) { u32 r; PURE_ASM("max.u16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); return r; } /* of both halves */
INLINE i32 redux_max(i32 v) { return __nvvm_redux_sync_max(v, -1); }
INLINE i32 redux_add(i32 v) { return __nvvm_redux_sync_add(v, -1); }
INLINE u32 ballot(i32 p) { return __nvvm_vote_ballot_sync(-1, p); }
INLINE i32 vote_any(i32 p) { return __nvvm_vote_any_sync(-1, p); }
INLINE void warp_sync(void) { __nvvm_bar_warp_sync(-1); }
INLINE void cta_sync(void) { __syncthreads(); }
#define NAMED_SYNC(id, n) ASM("bar.sync " STR(id) ", %0;" :: "r"(n) : "memory") /* id 1..15, a literal: a register reserves all 16 */
/* all lanes get the sum; the tree of distances 16, 8, .. 1 */
INLINE float warp_sum(float v) { UNROLL for (i32 d = 16; d; d >>= 1) v += shfl_xor(v, d); return v; }
INLINE float warp_max(float v) { UNROLL for (i32 d = 16; d; d >>= 1) v = fmax2(v, shfl_xor(v, d)); return v; }

/* ---- programmatic launch ----------------------------------------------------------------------------------------------------- */
INLINE void dependents_launch(void) { ASM("griddepcontrol.launch_dependents;" ::: "memory"); }
INLINE void grid_wait(void) { ASM("griddepcontrol.wait;" ::: "memory"); }

/* ---- global memory --------------------------------------------------------------------------------------------------------------
 * ldg16_*: 16 bytes of weights through the read-only path. Volatile: issued where they stand, so they do not sink below grid_wait(). */
INLINE vu4 ldg16_once(const void GLOBAL *p) { vu4 r; ASM("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p)); return r; }
INLINE vu4 ldg16_once_if(const void GLOBAL *p, i32 on) /* zeros if not */
{
    vu4 r;
    ASM("{ .reg .pred p; setp.ne.s32 p, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
        " @p ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4]; }"
        : "=&r"(r.x), "=&r"(r.y), "=&r"(r.z), "=&r"(r.w) : "l"(p), "r"(on));
    return r;
}
INLINE vu4 ldg16(const void GLOBAL *p) { vu4 r; ASM("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p)); return r; }
/* ldc*: constants and weights too, free to be moved and merged by the compiler */
INLINE u16 ldc1(const void GLOBAL *p) { u16 r; PURE_ASM("ld.global.nc.u8 %0, [%1];" : "=h"(r) : "l"(p)); return r; }
INLINE u16 ldc2(const void GLOBAL *p) { u16 r; PURE_ASM("ld.global.nc.u16 %0, [%1];" : "=h"(r) : "l"(p)); return r; }
INLINE u32 ldc4(const void GLOBAL *p) { u32 r; PURE_ASM("ld.global.nc.u32 %0, [%1];" : "=r"(r) : "l"(p)); return r; }
INLINE vu2 ldc8(const void GLOBAL *p) { vu2 r; PURE_ASM("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(r.x), "=r"(r.y) : "l"(p)); return r; }
INLINE vu4 ldc16(const void GLOBAL *p) { vu4 r; PURE_ASM("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p)); return r; }
INLINE vu4 ld16(const void GLOBAL *p) { return *(const vu4 GLOBAL *)p; }     /* 16-byte aligned */
INLINE void st16(void GLOBAL *p, vu4 v) { *(vu4 GLOBAL *)p = v; }
INLINE vf2 ld_relaxed_f2(const float GLOBAL *p) { vf2 r; ASM("ld.relaxed.gpu.global.v2.f32 {%0,%1}, [%2];" : "=f"(r.x), "=f"(r.y) : "l"(p) : "memory"); return r; }
INLINE vf4 ld_relaxed_f4(const float GLOBAL *p) { vf4 r; ASM("ld.relaxed.gpu.global.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(r.x), "=f"(r.y), "=f"(r.z), "=f"(r.w) : "l"(p) : "memory"); return r; }
INLINE float ld_relaxed_f(const float GLOBAL *p) { float r; ASM("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(r) : "l"(p) : "memory"); return r; }
INLINE u64 ld_relaxed_u64(const u64 GLOBAL *p) { u64 r; ASM("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(r) : "l"(p) : "memory"); return r; }
INLINE i32 ld_acquire(const i32 GLOBAL *p) { i32 r; ASM("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(r) : "l"(p) : "memory"); return r; }
INLINE void st_release(i32 GLOBAL *p, i32 v) { ASM("st.release.gpu.global.s32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
INLINE i32 atomic_add(i32 GLOBAL *p, i32 v) { i32 r; ASM("atom.relaxed.gpu.global.add.s32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory"); return r; }
INLINE i32 atomic_add_acq_rel(i32 GLOBAL *p, i32 v) { i32 r; ASM("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory"); return r; }
INLINE u32 atomic_cas(u32 GLOBAL *p, u32 expect, u32 v) { u32 r; ASM("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;" : "=r"(r) : "l"(p), "r"(expect), "r"(v) : "memory"); return r; }
INLINE u64 atomic_max_u64(u64 GLOBAL *p, u64 v) { u64 r; ASM("atom.relaxed.gpu.global.max.u64 %0, [%1], %2;" : "=l"(r) : "l"(p), "l"(v) : "memory"); return r; }
INLINE void red_add(u32 GLOBAL *p, u32 v) { ASM("red.relaxed.gpu.global.add.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
INLINE void red_max_u64(u64 GLOBAL *p, u64 v) { ASM("red.relaxed.gpu.global.max.u64 [%0], %1;" :: "l"(p), "l"(v) : "memory"); }
INLINE void fence_gpu(void) { ASM("fence.acq_rel.gpu;" ::: "memory"); }
INLINE void prefetch_l2(const void GLOBAL *p) { ASM("prefetch.global.L2 [%0];" :: "l"(p)); }
/* first report of a step wins: status[0] kind, [1] index, [2] value */
INLINE void status_set(u32 GLOBAL *status, u32 kind, u32 index, u32 value)
{
    if (atomic_cas(status, 0, kind) == 0) { status[1] = index; status[2] = value; }
}

/* ---- shared memory --------------------------------------------------------------------------------------------------------------- */
INLINE u32 saddr(const void SHARED *p) { return (u32)(u64)p; }
INLINE vu4 lds16(u32 a) { vu4 r; ASM("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(a) : "memory"); return r; }
INLINE vf4 lds16_f(u32 a) { vf4 r; ASM("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(r.x), "=f"(r.y), "=f"(r.z), "=f"(r.w) : "r"(a) : "memory"); return r; }
INLINE void sts8(u32 a, vu2 v) { ASM("st.shared.v2.u32 [%0], {%1,%2};" :: "r"(a), "r"(v.x), "r"(v.y) : "memory"); }
INLINE void sts16(u32 a, vu4 v) { ASM("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" :: "r"(a), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory"); }
INLINE void sts8_f(u32 a, float x, float y) { ASM("st.shared.v2.f32 [%0], {%1,%2};" :: "r"(a), "f"(x), "f"(y) : "memory"); }
INLINE float lds4_f(u32 a) { float r; ASM("ld.shared.f32 %0, [%1];" : "=f"(r) : "r"(a) : "memory"); return r; }
INLINE void sts4_f(u32 a, float v) { ASM("st.shared.f32 [%0], %1;" :: "r"(a), "f"(v) : "memory"); }
INLINE void sts4(u32 a, u32 v) { ASM("st.shared.u32 [%0], %1;" :: "r"(a), "r"(v) : "memory"); }
INLINE void cp_async16(u32 dst, const void GLOBAL *src) { ASM("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(dst), "l"(src) : "memory"); }
INLINE void cp_async16_n(u32 dst, const void GLOBAL *src, u32 n) { ASM("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(dst), "l"(src), "r"(n) : "memory"); } /* n < 16: rest zero */
INLINE void cp_async_commit(void) { ASM("cp.async.commit_group;" ::: "memory"); }
#define CP_ASYNC_WAIT(n) ASM("cp.async.wait_group " STR(n) ";" ::: "memory")

/* ---- barriers in shared memory and bulk copies -------------------------------------------------------------------------------------- */
INLINE void bar_init(u32 b, u32 n) { ASM("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(b), "r"(n) : "memory"); }
INLINE void bar_init_fence(void) { ASM("fence.mbarrier_init.release.cluster;" ::: "memory"); }
INLINE void bar_expect(u32 b, u32 n) { ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(b), "r"(n) : "memory"); }
INLINE void bar_arrive(u32 b) { ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(b) : "memory"); }
INLINE void bar_wait(u32 b, u32 parity) { ASM("{ .reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra DONE; bra AGAIN; DONE: }" :: "r"(b), "r"(parity) : "memory"); }
INLINE i32 bar_try(u32 b, u32 parity) { u32 r; ASM("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(r) : "r"(b), "r"(parity) : "memory"); return (i32)r; }
INLINE void bulk_load(u32 dst, const void GLOBAL *src, u32 n, u32 bar) { ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(dst), "l"(src), "r"(n), "r"(bar) : "memory"); } /* 16-byte multiples */
INLINE void bulk_load_hint(u32 dst, const void GLOBAL *src, u32 n, u32 bar, u64 policy) { ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" :: "r"(dst), "l"(src), "r"(n), "r"(bar), "l"(policy) : "memory"); }
INLINE void bulk_prefetch_l2(const void GLOBAL *src, u32 n, u64 policy) { ASM("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" :: "l"(src), "r"(n), "l"(policy) : "memory"); }
INLINE u64 policy_evict_first(void) { u64 r; PURE_ASM("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(r)); return r; }
INLINE void tmap_prefetch(const tmap_t *m) { ASM("prefetch.tensormap [%0];" :: "l"(m) : "memory"); }
INLINE void tmap_load_2d(u32 dst, const tmap_t *m, i32 x, i32 y, u32 bar) { ASM("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" :: "r"(dst), "l"(m), "r"(bar), "r"(x), "r"(y) : "memory"); }
INLINE void fence_async(void) { ASM("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- clusters --------------------------------------------------------------------------------------------------------------------------- */
INLINE i32 cluster_rank(void) { i32 r; ASM("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
INLINE u32 map_shared(u32 a, i32 rank) { u32 r; PURE_ASM("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(rank)); return r; }
INLINE void st_cluster_f(u32 a, float v) { ASM("st.shared::cluster.f32 [%0], %1;" :: "r"(a), "f"(v) : "memory"); }
INLINE void cluster_arrive(void) { ASM("barrier.cluster.arrive.release;" ::: "memory"); }
INLINE void cluster_arrive_relaxed(void) { ASM("barrier.cluster.arrive.relaxed;" ::: "memory"); } /* orders no memory, as a release does in 0.7 us */
INLINE void cluster_wait(void) { ASM("barrier.cluster.wait.acquire;" ::: "memory"); } /* for all threads of all CTAs that have not exited */
/* two floats to the shared memory of a block of the cluster, and 8 bytes counted at its barrier; both addresses from map_shared */
INLINE void st_async_f(u32 a, float x, u32 bar) { ASM("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" :: "r"(a), "f"(x), "r"(bar) : "memory"); } /* one, and 4 bytes */
INLINE void st_async_f2(u32 a, float x, float y, u32 bar) { ASM("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1,%2}, [%3];" :: "r"(a), "f"(x), "f"(y), "r"(bar) : "memory"); }
#define REGS_DOWN(n) ASM("setmaxnreg.dec.sync.aligned.u32 " STR(n) ";") /* of a warpgroup; the block has 3, and minctasm is 1 */
#define REGS_UP(n) ASM("setmaxnreg.inc.sync.aligned.u32 " STR(n) ";")

/* ---- tensor cores of one warp --------------------------------------------------------------------------------------------------------- */
INLINE void ldmatrix4(u32 r[4], u32 a) { ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory"); }
INLINE void ldmatrix4_t(u32 r[4], u32 a) { ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a) : "memory"); }
INLINE void stmatrix4(u32 a, const u32 *r) { ASM("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" :: "r"(a), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory"); }
INLINE void stmatrix4_t(u32 a, const u32 *r) { ASM("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" :: "r"(a), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory"); }
INLINE u32 movmatrix_t(u32 x) { u32 r; ASM("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x)); return r; } /* an 8x8 matrix of 16 bits, as ldmatrix lays it out, transposed */
/* c[16x8] += a[16x16] * b[16x8]: c0,c1 row lane/4, columns 2*(lane%4), +1; c2,c3 row + 8 */
INLINE void mma_bf16(float c[4], const u32 a[4], u32 b0, u32 b1)
{
    PURE_ASM("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
             : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
INLINE void mma_f16(float c[4], const u32 a[4], u32 b0, u32 b1) /* the same of f16 */
{
    PURE_ASM("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
             : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
