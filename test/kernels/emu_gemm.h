/* What gemm.c needs beyond emu.h: boxes of tensor maps, clusters, and wgmma, whose products are made as late as they may be: when a thread
 * waits for them. So a stage that is released too early shows. */
#include "emu.h"
#define CCC_WGMMA_H
#define REGS_DOWN(n) (void)0
#define REGS_UP(n) (void)0
#define HOOK
#ifdef FP8
enum { EMU_BK = 128 };
#else
enum { EMU_BK = 64 };
#endif

/* ---- shared memory, barriers, clusters */
INLINE float lds4_f(u32 a) { return *(float *)emu_shared(a, 4); }
INLINE void sts8_f(u32 a, float x, float y) { float *p = (float *)emu_shared(a, 8); p[0] = x; p[1] = y; }
INLINE void bar_wait(u32 b, u32 parity) { while (!bar_try(b, parity)) {} }
static void st_cluster_f(u32 a, float v)
{
    u32 rank = a / EMU_MAPPED - 1, at = a % EMU_MAPPED;
    if (!emu.cluster_met) { printf("FAIL shared memory of a block that may not have started\n"); exit(1); }
    if (rank >= (u32)emu.cluster || at + 4 > EMU_SHARED) { printf("FAIL shared address of another block\n"); exit(1); }
    memcpy(emu_smem[rank] + at, &v, 4);
}

/* ---- tensor maps: what emu_cuda.c's cuTensorMapEncodeTiled writes; columns in bytes */
typedef struct { const char *base; u64 cols, rows, ld; u32 box_cols, box_rows; } emu_tmap;
INLINE u32 emu_swizzle(u32 a) { return a ^ (a >> 7 & 7) << 4; }
INLINE void tmap_prefetch(const tmap_t *m) { (void)m; }
static void tmap_load_2d(u32 dst, const tmap_t *map, i32 x, i32 y, u32 bar)
{
    emu_tmap m;
    memcpy(&m, map, sizeof m);
    if (dst % 1024 || m.box_cols != 128 || m.box_rows % 8) { printf("FAIL a box of %u bytes x %u to %u\n", m.box_cols, m.box_rows, dst); exit(1); }
    for (u32 r = 0; r < m.box_rows; r++)
        for (u32 c = 0; c < 128; c++) {
            u64 row = (u64)y + r, col = (u64)x * 128 / EMU_BK + c;
            *emu_shared(emu_swizzle(dst + r * 128 + c), 1) = row < m.rows && col < m.cols ? m.base[row * m.ld + col] : 0;
        }
    emu_bar_at(bar)->bytes -= (i32)(m.box_rows * 128);
    emu_bar_step(emu_bar_at(bar));
}

/* ---- wgmma */
typedef struct { float *d; u64 a, b; int first; } emu_mma;
static struct { emu_mma q[64]; int n, committed; } emu_mmas[EMU_THREADS]; /* committed: of q, those of groups before the last */
static struct { int before, all; } emu_groups[EMU_THREADS];
INLINE u64 mma_desc(u32 a) { return a >> 4; }
static void emu_issue(float *d, u64 a, u64 b, int first)
{
    emu_mmas[emu.cur].q[emu_mmas[emu.cur].n++] = (emu_mma){d, a, b, first};
}
INLINE void mma_first(float *d, u64 a, u64 b) { emu_issue(d, a, b, 1); }
INLINE void mma_acc(float *d, u64 a, u64 b) { emu_issue(d, a, b, 0); }
INLINE void mma_fence(void) {}
INLINE void mma_commit(void) { emu_groups[emu.cur].before = emu_groups[emu.cur].all; emu_groups[emu.cur].all = emu_mmas[emu.cur].n; }
INLINE float emu_operand(u64 desc, u32 row, u32 k) /* 32 bytes of k */
{
    u32 at = (u32)desc * 16 + row * 128;
    if (EMU_BK == 128) return f16_f32(emu_e4m3_f16(*(u8 *)emu_shared(emu_swizzle(at + k), 1)));
    return bf16_f32(*(u16 *)emu_shared(emu_swizzle(at + k * 2), 2));
}
static void emu_products(int n) /* the oldest n */
{
    int t = emu.cur, w = tid() % 128;
    for (int j = 0; j < n; j++) {
        emu_mma m = emu_mmas[t].q[j];
        for (u32 i = 0; i < BN / 2; i++) {
            u32 row = (u32)(w / 32 * 16 + w % 32 / 4) + 8 * (i >> 1 & 1), col = i / 4 * 8 + 2 * (u32)(w % 4) + (i & 1);
            float s = m.first ? 0 : m.d[i];
            for (u32 k = 0; k < EMU_BK / 4; k++) s += emu_operand(m.a, row, k) * emu_operand(m.b, col, k);
            m.d[i] = s;
        }
    }
    memmove(emu_mmas[t].q, emu_mmas[t].q + n, (size_t)(emu_mmas[t].n - n) * sizeof(emu_mma));
    emu_mmas[t].n -= n;
    emu_groups[t].before -= n;
    emu_groups[t].all -= n;
}
INLINE void mma_one_left(void) { if (emu_groups[emu.cur].before > 0) emu_products(emu_groups[emu.cur].before); }
INLINE void mma_settle(float *d) { (void)d; emu_products(emu_mmas[emu.cur].n); }
