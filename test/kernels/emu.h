/* The prelude of CUDA templates (cuda/k.h) for a CPU: the same names, so that a template runs without a GPU, thread by thread.
 * Each thread of a block is a fiber. What the lanes of a warp do together (shuffle, vote, mma, ldmatrix) is a meeting: each lane puts its
 * operands down and waits for the other 31. Blocks run one after the other, in order; those of a cluster together. Asynchronous copies land as late as they may: when
 * somebody waits for them; shared memory begins as NaN. So a missing wait or barrier shows, and a deadlock is reported.
 * Not emulated: memory order between blocks, alignment of shared accesses, and the approximations of ex2 and rcp. */
#ifndef CCC_K_H
#define CCC_K_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/kernels/abi.h"

#define KERNEL void
#define INLINE static inline
#define SHARED
#define SPEC(type, name) extern const type name
#define UNROLL
#define NO_UNROLL
#define CP_ASYNC_WAIT(n) cp_async_wait(n)

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
typedef float vf1;
typedef float vf2 __attribute__((ext_vector_type(2)));
typedef float vf4 __attribute__((ext_vector_type(4)));
typedef float vf8 __attribute__((ext_vector_type(8)));
typedef u32 vu2 __attribute__((ext_vector_type(2)));
typedef u32 vu4 __attribute__((ext_vector_type(4)));
typedef i32 vi4 __attribute__((ext_vector_type(4)));

enum { EMU_THREADS = 2304, EMU_CLUSTER = 8, EMU_STACK = 1 << 16, EMU_SHARED = 232448, EMU_COPIES = 512 };
typedef struct { u32 in[12]; } emu_slot;
typedef struct { u32 dst, n, group; const char *src; } emu_copy;
typedef struct { void *sp; char *stack; int done; u32 meetings, copies, groups; emu_copy copy[EMU_COPIES]; } emu_thread;
static struct {
    emu_thread *t; emu_slot slot[EMU_THREADS / 32][2][32]; u32 arrived[EMU_THREADS / 32], met[EMU_THREADS / 32], cta_arrived[EMU_CLUSTER], cta_met[EMU_CLUSTER], cluster_arrived, cluster_met;
    int n, cluster, cur, block[2], grid[2]; long progress; void *main_sp; void (*run)(void);
} emu;
static char emu_smem[EMU_CLUSTER][EMU_SHARED] __attribute__((aligned(1024)));
#define smem emu_smem[emu.cur / emu.n]

__attribute__((naked, noinline)) static void emu_switch(void **save, void *load)
{
    __asm__("push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
            "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret");
}
static void emu_yield(void) { emu_switch(&emu.t[emu.cur].sp, emu.main_sp); }
static void emu_entry(void)
{
    emu.run();
    emu.t[emu.cur].done = 1;
    emu.progress++;
    for (;;) emu_yield();
}
static void emu_block(void)
{
    int threads = emu.n * emu.cluster;
    emu.cluster_arrived = emu.cluster_met = 0;
    memset(emu.cta_arrived, 0, sizeof emu.cta_arrived);
    memset(emu.cta_met, 0, sizeof emu.cta_met);
    memset(emu.arrived, 0, sizeof emu.arrived);
    memset(emu.met, 0, sizeof emu.met);
    memset(emu_smem, 0xff, (size_t)emu.cluster * EMU_SHARED);
    for (int i = 0; i < threads; i++) {
        emu_thread *t = &emu.t[i];
        void **sp = (void **)(t->stack + EMU_STACK - 64);
        *sp = (void *)emu_entry; /* the return address of the first switch; the stack is 16-aligned at a call */
        t->sp = sp - 6;
        t->done = 0;
        t->meetings = t->copies = t->groups = 0;
    }
    for (int alive = 1; alive;) {
        long before = emu.progress;
        alive = 0;
        for (emu.cur = 0; emu.cur < threads; emu.cur++)
            if (!emu.t[emu.cur].done) { alive = 1; emu_switch(&emu.main_sp, emu.t[emu.cur].sp); }
        if (alive && before == emu.progress) { printf("FAIL deadlock in block %d,%d\n", emu.block[0], emu.block[1]); exit(1); }
    }
}
static void emu_clusters(int gx, int gy, int threads, int cluster, void (*run)(void))
{
    if (threads % 32 || threads * cluster > EMU_THREADS || cluster > EMU_CLUSTER || gx % cluster) { printf("FAIL a launch of %d threads, cluster %d\n", threads, cluster); exit(1); }
    if (!emu.t) {
        emu.t = calloc(EMU_THREADS, sizeof *emu.t);
        for (int i = 0; i < EMU_THREADS; i++) emu.t[i].stack = aligned_alloc(64, EMU_STACK);
    }
    emu.n = threads; emu.cluster = cluster; emu.run = run; emu.grid[0] = gx; emu.grid[1] = gy;
    for (emu.block[1] = 0; emu.block[1] < gy; emu.block[1]++)
        for (emu.block[0] = 0; emu.block[0] < gx; emu.block[0] += cluster) emu_block();
}
static inline void emu_grid(int gx, int gy, int threads, void (*run)(void)) { emu_clusters(gx, gy, threads, 1, run); }
/* every lane of the warp puts down n words; what all of them put down */
static emu_slot *emu_meet(const u32 *in, int n)
{
    int w = emu.cur / 32, me = emu.cur;
    u32 at = emu.met[w];
    memcpy(emu.slot[w][at & 1][me % 32].in, in, n * 4);
    emu.progress++;
    if (++emu.arrived[w] == 32) { emu.arrived[w] = 0; emu.met[w]++; }
    while (emu.met[w] == at) emu_yield();
    return emu.slot[w][at & 1];
}

static i32 tid(void) { return emu.cur % emu.n; }
static i32 lane(void) { return emu.cur % 32; }
INLINE i32 cta(void) { return emu.block[0] + emu.cur / emu.n; }
INLINE i32 cta_y(void) { return emu.block[1]; }
INLINE i32 ncta(void) { return emu.grid[0]; }
INLINE i32 imin(i32 a, i32 b) { return a < b ? a : b; }
INLINE i32 imax(i32 a, i32 b) { return a > b ? a : b; }
INLINE u32 bits(float f) { return __builtin_bit_cast(u32, f); }
INLINE float flt(u32 u) { return __builtin_bit_cast(float, u); }
INLINE float fma_(float a, float b, float c) { return fmaf(a, b, c); }
INLINE float fmax2(float a, float b) { return fmaxf(a, b); }
INLINE float ex2(float x) { return exp2f(x); }
INLINE float rcp(float x) { return 1.0f / x; }
INLINE u32 prmt(u32 a, u32 b, u32 s)
{
    u64 v = (u64)b << 32 | a;
    u32 r = 0;
    for (int i = 0; i < 4; i++) r |= (u32)(v >> (8 * (s >> (4 * i) & 7)) & 255) << (8 * i);
    return r;
}
INLINE float bf16_lo(u32 u) { return flt(u << 16); }
INLINE float bf16_hi(u32 u) { return flt(u & 0xffff0000u); }
INLINE float bf16_f32(u16 u) { return flt((u32)u << 16); }
INLINE u16 f32_bf16(float v) { u32 u = bits(v); return v != v ? 0x7fff : (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16); }
INLINE u32 bf16_pack(float lo, float hi) { return (u32)f32_bf16(hi) << 16 | f32_bf16(lo); }
INLINE float f16_f32(u16 v) { return (float)__builtin_bit_cast(_Float16, v); }
INLINE float f16_lo(u32 u) { return f16_f32((u16)u); }
INLINE float f16_hi(u32 u) { return f16_f32((u16)(u >> 16)); }
INLINE u32 f16_pack(float lo, float hi) { return (u32)__builtin_bit_cast(u16, (_Float16)hi) << 16 | __builtin_bit_cast(u16, (_Float16)lo); }
INLINE u16 emu_e4m3_f16(u16 v)
{
    int e = v >> 3 & 15, m = v & 7;
    float f = (v & 127) == 127 ? NAN : e ? ldexpf(8 + m, e - 10) : ldexpf(m, -9);
    return __builtin_bit_cast(u16, (_Float16)(v >> 7 & 1 ? -f : f));
}
INLINE u32 e4m3_f16(u16 v) { return (u32)emu_e4m3_f16(v >> 8) << 16 | emu_e4m3_f16(v & 255); }
INLINE vf8 e4m3x8_f32(vu2 u)
{
    vf8 r;
    for (int i = 0; i < 8; i++) r[i] = f16_f32(emu_e4m3_f16((u16)(u[i / 4] >> 8 * (i % 4) & 255)));
    return r;
}
INLINE u32 emu_f32_e4m3(float v) /* by adding what leaves three bits behind the point of its exponent */
{
    float a = fabsf(v), big = a < 0x1p-6f ? 0x1.8p14f : ldexpf(1.5f, ilogbf(a) + 20), r = a >= 448 ? 448 : a + big - big;
    int e = r < 0x1p-6f ? -6 : ilogbf(r);
    return v != v ? 127u : (u32)(r < 0x1p-6f ? r * 512 : (e + 6) * 8 + ldexpf(r, 3 - e)) | bits(v) >> 24 & 128;
}
INLINE u16 f32_f16(float v) { return __builtin_bit_cast(u16, (_Float16)v); }
INLINE u16 e4m3_pack(float lo, float hi) { return (u16)(emu_f32_e4m3(hi) << 8 | emu_f32_e4m3(lo)); }
INLINE vu2 f32x8_e4m3(vf8 v)
{
    vu2 r = 0;
    for (int i = 0; i < 8; i++) r[i / 4] |= emu_f32_e4m3(v[i]) << 8 * (i % 4);
    return r;
}
INLINE vf8 bf16x8_f32(vu4 u) { return (vf8){bf16_lo(u.x), bf16_hi(u.x), bf16_lo(u.y), bf16_hi(u.y), bf16_lo(u.z), bf16_hi(u.z), bf16_lo(u.w), bf16_hi(u.w)}; }
INLINE vu4 f32x8_bf16(vf8 v) { return (vu4){bf16_pack(v[0], v[1]), bf16_pack(v[2], v[3]), bf16_pack(v[4], v[5]), bf16_pack(v[6], v[7])}; }

static i32 shfl_xor_i(i32 v, i32 m) { return (i32)emu_meet((u32 *)&v, 1)[lane() ^ m].in[0]; }
static i32 shfl_i(i32 v, i32 from) { return (i32)emu_meet((u32 *)&v, 1)[from].in[0]; }
static i32 shfl_up_i(i32 v, i32 by) { emu_slot *s = emu_meet((u32 *)&v, 1); return lane() >= by ? (i32)s[lane() - by].in[0] : v; }
INLINE float shfl_xor(float v, i32 m) { return flt((u32)shfl_xor_i((i32)bits(v), m)); }
INLINE i32 uniform(i32 v)
{
    i32 r = shfl_i(v, 0);
    if (r != v) { printf("FAIL uniform() of a value that differs in the warp\n"); exit(1); }
    return r;
}
INLINE u32 max_u16x2(u32 a, u32 b) { return (u32)imax((i32)(a >> 16), (i32)(b >> 16)) << 16 | (u32)imax((i32)(a & 0xffff), (i32)(b & 0xffff)); }
static i32 redux_max(i32 v) { emu_slot *s = emu_meet((u32 *)&v, 1); i32 r = v; for (int i = 0; i < 32; i++) if ((i32)s[i].in[0] > r) r = (i32)s[i].in[0]; return r; }
static i32 redux_add(i32 v) { emu_slot *s = emu_meet((u32 *)&v, 1); u32 r = 0; for (int i = 0; i < 32; i++) r += s[i].in[0]; return (i32)r; }
static u32 ballot(i32 p) { emu_slot *s = emu_meet((u32 *)&p, 1); u32 r = 0; for (int i = 0; i < 32; i++) r |= (u32)(s[i].in[0] != 0) << i; return r; }
INLINE i32 vote_any(i32 p) { return ballot(p) != 0; }
INLINE void warp_sync(void) { ballot(0); }
static void cta_sync(void)
{
    int c = emu.cur / emu.n;
    u32 at = emu.cta_met[c];
    emu.progress++;
    if (++emu.cta_arrived[c] == (u32)emu.n) { emu.cta_arrived[c] = 0; emu.cta_met[c]++; }
    while (emu.cta_met[c] == at) emu_yield();
}
INLINE void dependents_launch(void) {}
INLINE void grid_wait(void) {}
INLINE i32 cluster_rank(void) { return emu.cur / emu.n; }
static u32 emu_cluster_phase[EMU_THREADS];
INLINE void cluster_arrive(void)
{
    emu_cluster_phase[emu.cur] = emu.cluster_met;
    emu.progress++;
    if (++emu.cluster_arrived == (u32)(emu.n * emu.cluster)) { emu.cluster_arrived = 0; emu.cluster_met++; }
}
INLINE void cluster_arrive_relaxed(void) { cluster_arrive(); }
INLINE void cluster_wait(void) { while (emu.cluster_met == emu_cluster_phase[emu.cur]) emu_yield(); }

INLINE vu4 ld16(const void *p)
{
    if ((u64)p & 15) { printf("FAIL a 16-byte access is not aligned\n"); exit(1); }
    return *(const vu4 *)p;
}
INLINE void st16(void *p, vu4 v) { ld16(p); *(vu4 *)p = v; }
INLINE void bulk_prefetch_l2(const void *p, u32 n, u64 policy) { (void)p; (void)n; (void)policy; }
INLINE vu4 ldg16_once(const void *p) { return ld16(p); }
INLINE vf4 ld_relaxed_f4(const float *p) { return *(const vf4 *)p; }
INLINE vf2 ld_relaxed_f2(const float *p) { return *(const vf2 *)p; }
INLINE i32 atomic_add_acq_rel(i32 *p, i32 v) { i32 r = *p; *p += v; return r; }
INLINE u64 atomic_max_u64(u64 *p, u64 v) { u64 r = *p; if (v > r) *p = v; return r; }
INLINE void red_max_u64(u64 *p, u64 v) { atomic_max_u64(p, v); }
INLINE void red_add(u32 *p, u32 v) { *p += v; }
INLINE void status_set(u32 *s, u32 kind, u32 index, u32 value) { if (!s[0]) { s[0] = kind; s[1] = index; s[2] = value; } }

/* ---- what hooks need */
INLINE void prefetch_l2(const void *p) { (void)p; }
INLINE u16 e5m2_pack(float lo, float hi) { (void)lo, (void)hi; return 0; }
INLINE u32 e5m2_f16(u16 v) { (void)v; return 0; }
INLINE float div_full(float x, float y) { return x / y; }
INLINE float rsqrt_approx(float x) { return 1.0f / sqrtf(x); }
INLINE u16 ldc1(const void *p) { return *(const u8 *)p; }
INLINE u16 ldc2(const void *p) { return *(const u16 *)p; }
INLINE u32 ldc4(const void *p) { return *(const u32 *)p; }
INLINE vu2 ldc8(const void *p) { return *(const vu2 *)p; }
INLINE vu4 ldc16(const void *p) { return ld16(p); }
INLINE float lg2(float x) { return log2f(x); }
INLINE float sqrt_rn(float x) { return sqrtf(x); }
INLINE float div_rn(float x, float y) { return x / y; }

INLINE u32 saddr(const void *p) { return (u32)((const char *)p - smem); }
enum { EMU_MAPPED = 1 << 20 }; /* a mapped address: 1 + rank in the upper bits */
INLINE u32 map_shared(u32 a, i32 rank) { return a + (u32)(rank + 1) * EMU_MAPPED; }
static char *emu_shared(u32 a, u32 n)
{
    char *base = a >= EMU_MAPPED ? emu_smem[a / EMU_MAPPED - 1] : smem;
    if (a >= EMU_MAPPED && !emu.cluster_met) { printf("FAIL shared memory of a block that may not have started\n"); exit(1); }
    a %= EMU_MAPPED;
    if (a + n > EMU_SHARED || a % n) { printf("FAIL shared address %u of %u bytes\n", a, n); exit(1); }
    return base + a;
}
INLINE vu4 lds16(u32 a) { return *(vu4 *)emu_shared(a, 16); }
INLINE void sts16(u32 a, vu4 v) { *(vu4 *)emu_shared(a, 16) = v; }
INLINE vf4 lds16_f(u32 a) { return *(vf4 *)emu_shared(a, 16); }
INLINE void sts4(u32 a, u32 v) { *(u32 *)emu_shared(a, 4) = v; }
static void cp_async16_n(u32 dst, const void *src, u32 n)
{
    emu_thread *t = &emu.t[emu.cur];
    if (t->copies == EMU_COPIES || (u64)src & 15) { printf("FAIL cp.async\n"); exit(1); }
    t->copy[t->copies++] = (emu_copy){dst, n, t->groups, src};
}
INLINE void cp_async16(u32 dst, const void *src) { cp_async16_n(dst, src, 16); }
INLINE void cp_async_commit(void) { emu.t[emu.cur].groups++; }
static void cp_async_wait(u32 left)
{
    emu_thread *t = &emu.t[emu.cur];
    u32 kept = 0;
    for (u32 i = 0; i < t->copies; i++) {
        emu_copy c = t->copy[i];
        if (c.group + left >= t->groups) { t->copy[kept++] = c; continue; }
        memset(emu_shared(c.dst, 16), 0, 16);
        memcpy(emu_shared(c.dst, 16), c.src, c.n);
    }
    t->copies = kept;
}
/* mbarrier: arrivals of a phase, arrivals still missing, bytes still missing, number of completed phases */
typedef struct { unsigned char count, missing; u16 phase; i32 bytes; } emu_bar;
INLINE emu_bar *emu_bar_at(u32 b) { return (emu_bar *)emu_shared(b, 8); }
INLINE void emu_bar_step(emu_bar *b) { if (!b->missing && !b->bytes) { b->missing = b->count; b->phase++; emu.progress++; } }
INLINE void bar_init(u32 b, u32 n) { *emu_bar_at(b) = (emu_bar){(unsigned char)n, (unsigned char)n, 0, 0}; }
INLINE void bar_init_fence(void) {}
INLINE void fence_async(void) {}
INLINE void bar_arrive(u32 b) { emu_bar_at(b)->missing--; emu_bar_step(emu_bar_at(b)); }
INLINE void bar_expect(u32 b, u32 n) { emu_bar_at(b)->bytes += (i32)n; emu_bar_at(b)->missing--; }
INLINE i32 bar_try(u32 b, u32 parity) { if ((emu_bar_at(b)->phase & 1) != parity) return 1; emu_yield(); return (emu_bar_at(b)->phase & 1) != parity; }
static void emu_st_async(u32 a, const float *v, int n, u32 bar)
{
    if (bar < EMU_MAPPED || a / EMU_MAPPED != bar / EMU_MAPPED) { printf("FAIL st.async and its barrier are in two blocks\n"); exit(1); }
    memcpy(emu_shared(a, (u32)n * 4), v, (size_t)n * 4);
    emu_bar_at(bar)->bytes -= n * 4;
    emu_bar_step(emu_bar_at(bar));
}
INLINE void st_async_f(u32 a, float x, u32 bar) { emu_st_async(a, &x, 1, bar); }
INLINE void st_async_f2(u32 a, float x, float y, u32 bar) { emu_st_async(a, (float[]){x, y}, 2, bar); }
INLINE u64 policy_evict_first(void) { return 0; }
static void bulk_load_hint(u32 dst, const void *src, u32 n, u32 bar, u64 policy)
{
    (void)policy;
    if (dst % 16 || (u64)src % 16 || n % 16) { printf("FAIL bulk copy is not aligned\n"); exit(1); }
    memcpy(smem + dst, src, n);
    emu_bar_at(bar)->bytes -= (i32)n;
    emu_bar_step(emu_bar_at(bar));
}

/* matrices of 8 rows of 8 elements: lane l holds elements 2*(l%4), +1 of row l/4 */
static void emu_ldmatrix(u32 r[4], u32 a, int trans)
{
    emu_slot *s = emu_meet(&a, 1);
    int l = lane();
    for (int i = 0; i < 4; i++) {
        u16 e[2];
        for (int k = 0; k < 2; k++) {
            int row = trans ? 2 * (l % 4) + k : l / 4, col = trans ? l / 4 : 2 * (l % 4) + k;
            e[k] = ((u16 *)emu_shared(s[8 * i + row].in[0], 16))[col];
        }
        r[i] = (u32)e[1] << 16 | e[0];
    }
}
INLINE void ldmatrix4(u32 r[4], u32 a) { emu_ldmatrix(r, a, 0); }
INLINE void ldmatrix4_t(u32 r[4], u32 a) { emu_ldmatrix(r, a, 1); }
static u32 movmatrix_t(u32 x)
{
    emu_slot *s = emu_meet(&x, 1);
    int l = lane();
    u32 r = 0;
    for (int k = 0; k < 2; k++) { int row = 2 * (l % 4) + k, col = l / 4; r |= (s[row * 4 + col / 2].in[0] >> (16 * (col & 1)) & 0xffff) << (16 * k); }
    return r;
}
static void emu_warp_mma(float c[4], const u32 a[4], u32 b0, u32 b1, int f16)
{
    u32 in[6] = {a[0], a[1], a[2], a[3], b0, b1};
    emu_slot *s = emu_meet(in, 6);
    int g = lane() / 4, t = lane() % 4;
    for (int i = 0; i < 4; i++) {
        double z = c[i];
        for (int k = 0; k < 16; k++) {
            u32 x = s[g * 4 + k % 8 / 2].in[(k >= 8) * 2 + (i >= 2)], y = s[(2 * t + (i & 1)) * 4 + k % 8 / 2].in[4 + (k >= 8)];
            if (f16) z += (double)(k & 1 ? f16_hi(x) : f16_lo(x)) * (k & 1 ? f16_hi(y) : f16_lo(y));
            else z += (double)(k & 1 ? bf16_hi(x) : bf16_lo(x)) * (k & 1 ? bf16_hi(y) : bf16_lo(y));
        }
        c[i] = (float)z;
    }
}
static void mma_bf16(float c[4], const u32 a[4], u32 b0, u32 b1) { emu_warp_mma(c, a, b0, b1, 0); }
static void mma_f16(float c[4], const u32 a[4], u32 b0, u32 b1) { emu_warp_mma(c, a, b0, b1, 1); }
#endif
