/* Part of attn_decode.c: results of rows. A row that lies inside a warp goes straight to the output. Of other rows each warp leaves a partial
 * result in a slot in shared memory: O, then (m, l) of each head. When a block is through, the rows that cross its edges go to memory first.
 * With JOINED that is all. Else its counters are on their way while the others are merged, and the last block to arrive merges what is in memory,
 * of many blocks in groups of 8 first. All in the order of the line: no sum depends on who comes first. */

/* ---- results: lane (g,t) holds, of heads 2t, 2t+1 (+8), 8 consecutive elements at NV places ------------------------------------------------ */
#define EL(A, q, c, e) (A)->o[q][(e) % (NE / 2)][(e) / (NE / 2) * 2 + (c)]
INLINE void finish(acc_t *A)
{
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) {
        float l = A->l[q][c];
        l += shfl_xor(l, 4);
        l += shfl_xor(l, 8);
        l += shfl_xor(l, 16);
        A->l[q][c] = l;
    }
}
INLINE void put_out(acc_t *A, const args_t *a, i32 row)
{
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) {
        i32 r = 2 * (lane() & 3) + c + 8 * q;
        if (r >= G) continue;
        float f = inverse(a, A->l[q][c]);
        UNROLL for (i32 b = 0; b < NV; b++) {
            vf8 v;
            UNROLL for (i32 k = 0; k < 8; k++) v[k] = EL(A, q, c, 8 * b + k) * f;
            put8(a, row, r * ccc_D + dim_of(b), v);
        }
    }
}
INLINE void put_slot(acc_t *A, float SHARED *s)
{
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) {
        i32 r = 2 * (lane() & 3) + c + 8 * q;
        if (r >= G) continue;
        UNROLL for (i32 b = 0; b < NV; b++) UNROLL for (i32 k = 0; k < 8; k += 4) {
            vf4 w;
            UNROLL for (i32 e = 0; e < 4; e++) w[e] = EL(A, q, c, 8 * b + k + e);
            *(vf4 SHARED *)(s + r * ccc_D + dim_of(b) + k) = w;
        }
        if (lane() < 4) *(vf2 SHARED *)(s + G * ccc_D + r * 2) = (vf2){A->m[q][c], A->l[q][c]};
    }
}

/* ---- merging: a row of several warps, blocks ----------------------------------------------------------------------------------------------- */
/* `wide` (2, 4) elements from e on of a row from the slots of the warps in `grp` (two bits a warp), in order: to the output, to partial result p, or to
 * address `to` of the cluster and its barrier. A warp has at most one slot of a row; no branches, so that all loads are in flight together */
INLINE void merge_warps(const args_t *a, i32 row, i32 e, i32 wide, u32 grp, float GLOBAL *p, u32 to, u32 bar)
{
    i32 r = e / ccc_D;
    vf2 ml[NW_MOST];
    vf4 o[NW_MOST], x = 0;
    float M = -1e30f, L = 0;
    UNROLL for (i32 i = 0; i < NW; i++) {
        const char SHARED *s = smem + (grp >> (2 * i) & 2 ? i * STAGES * STAGE : O_SLOT + i * SLOT);
        ml[i] = *(const vf2 SHARED *)(s + G * ccc_D * 4 + r * 8);
        if (wide == 4) o[i] = *(const vf4 SHARED *)(s + e * 4);
        else o[i].xy = *(const vf2 SHARED *)(s + e * 4);
    }
    UNROLL for (i32 i = 0; i < NW; i++) {
        if (!(grp >> (2 * i) & 3)) { ml[i] = (vf2){-1e30f, 0}; o[i] = 0; }
        M = fmax2(M, ml[i].x);
    }
    UNROLL for (i32 i = 0; i < NW; i++) {
        float u = ex2(ml[i].x - M);
        UNROLL for (i32 k = 0; k < wide; k++) x[k] = fma_(o[i][k], u, x[k]);
        L = fma_(ml[i].y, u, L);
    }
    UNROLL for (i32 k = 0; k < wide; k += 2) {
        if (to) st_async_f2(to + (e + k) * 4, x[k], x[k + 1], bar);
        else if (p) *(vf2 GLOBAL *)(p + e + k) = (vf2){x[k], x[k + 1]};
        else put_pair(a, row, e + k, x[k], x[k + 1], L);
    }
    if (e % ccc_D) return;
    if (to) st_async_f2(to + (G * ccc_D + r * 2) * 4, M, L, bar);
    else if (p) *(vf2 GLOBAL *)(p + G * ccc_D + r * 2) = (vf2){M, L};
}
/* Slots are ordered 2w, 2w+1. A row is known by its first one. Bits: slots in use, rows that cross the edges of the block's positions, and the others */
typedef struct { u32 valid, open, inner; } slots_t;
INLINE slots_t slots_of(i32 from, i32 to)
{
    vi4 m = {-1, 0, 0, 0};
    if (lane() < 2 * NW) m = ((const vi4 SHARED *)(smem + O_META))[lane()];
    u32 valid = ballot(m.x >= 0), below = valid & ((1u << lane()) - 1);
    i32 prev = shfl_i(m.x, below ? 31 - __builtin_clz(below) : lane()), first = m.x >= 0 && (!below || prev != m.x), crosses = m.y < from || m.y + m.z > to;
    return (slots_t){valid, ballot(first && crosses), ballot(first && !crosses)};
}
/* the rows of `some`, together: open ones become partial results, the others the output */
INLINE void merge_rows(const args_t *a, slots_t s, u32 some, i32 open, i32 from)
{
    NO_UNROLL for (i32 i = tid(); i < __builtin_popcount(some) * (G * ccc_D / 4); i += NT) {
        u32 rows = some;
        for (i32 k = i / (G * ccc_D / 4); k > 0; k--) rows &= rows - 1;
        i32 p0 = __builtin_ctz(rows);
        u32 above = (s.open | s.inner) & (-2u << p0), grp = s.valid & (-1u << p0) & (above ? (1u << __builtin_ctz(above)) - 1 : -1u);
        vi4 m = ((const vi4 SHARED *)(smem + O_META))[p0];
        merge_warps(a, m.x, i % (G * ccc_D / 4) * 4, 4, grp, open ? a->part + (i64)(cta() * 2 + (m.y >= from)) * PART_STRIDE : 0, 0, 0);
    }
}
/* of the open rows: that which begins before the block, then that which begins in it */
INLINE open_t open_rows(const plan_t *P, u32 open, i32 from)
{
    open_t o = {{-1, -1}, {0, 0}, {0, 0}};
    while (open) {
        vi4 m = ((const vi4 SHARED *)(smem + O_META))[__builtin_ctz(open)];
        i32 f = quo(m.y, P->per), l = quo(m.y + m.z - 1, P->per);
        open &= open - 1;
        if (m.y >= from) { o.row[1] = m.x; o.first[1] = f; o.last[1] = l; }
        else { o.row[0] = m.x; o.first[0] = f; o.last[0] = l; }
    }
    return o;
}
/* Of a row that crosses many blocks the parts are first merged in groups of GROUP blocks, each by the last of them to arrive: one block would read them
 * all for 20 us. A group has parts of two such rows at most, one that begins before it and one that begins in it, as a block has; their results lie
 * behind those of the blocks. */
enum { GROUP = 8, AT_ONCE = 9 /* parts, in one round trip */ };
typedef struct { i32 base, first, from, to; } parts_t; /* numbers from..to; number i lies in slot base + 2i, or in the next one if it is the row's first */
INLINE float GLOBAL *part_at(const args_t *a, const parts_t *s, i32 i) { return a->part + (i64)(s->base + 2 * i + (i == s->first)) * PART_STRIDE; }
INLINE parts_t parts_of_blocks(i32 first, i32 from, i32 to) { return (parts_t){0, first, from, to}; }
INLINE parts_t parts_of_groups(i32 first, i32 last) { return (parts_t){2 * ncta(), first / GROUP, first / GROUP, last / GROUP}; }
/* the parts in that order, `most` in a round trip: to p, or (0) the output */
INLINE void merge_parts(const args_t *a, i32 row, parts_t s, i32 most, float GLOBAL *p)
{
    NO_UNROLL for (i32 e = tid() * 4; e < G * ccc_D; e += NT * 4) {
        i32 r = e / ccc_D;
        float M = -1e30f, L = 0;
        vf4 x = 0;
        NO_UNROLL for (i32 c = s.from; c <= s.to; c += most) {
            vf4 o[AT_ONCE];
            vf2 ml[AT_ONCE];
            float nm = M;
            UNROLL for (i32 k = 0; k < AT_ONCE && k < most; k++) {
                const float GLOBAL *q = part_at(a, &s, imin(c + k, s.to));
                o[k] = ld_relaxed_f4(q + e);
                ml[k] = ld_relaxed_f2(q + G * ccc_D + r * 2);
            }
            UNROLL for (i32 k = 0; k < AT_ONCE && k < most; k++) nm = fmax2(nm, ml[k].x);
            float w = ex2(M - nm);
            x *= w;
            L *= w;
            M = nm;
            UNROLL for (i32 k = 0; k < AT_ONCE && k < most; k++) {
                w = c + k > s.to ? 0 : ex2(ml[k].x - M);
                UNROLL for (i32 i = 0; i < 4; i++) x[i] = fma_(o[k][i], w, x[i]);
                L = fma_(ml[k].y, w, L);
            }
        }
        if (!p) UNROLL for (i32 i = 0; i < 4; i += 2) put_pair(a, row, e + i, x[i], x[i + 1], L);
        else {
            *(vf4 GLOBAL *)(p + e) = x;
            if (e % ccc_D == 0) *(vf2 GLOBAL *)(p + G * ccc_D + r * 2) = (vf2){M, L};
        }
    }
}
/* whether this is the last of need + 1 to arrive, which leaves the counter at zero. One thread, behind a barrier of the block */
INLINE i32 arrive(i32 GLOBAL *count, i32 need)
{
    i32 last = atomic_add_acq_rel(count, 1) == need;
    if (last) *count = 0;
    return last;
}
INLINE i32 in_groups(i32 f, i32 l) { return l - f >= 2 * AT_ONCE; }
/* this block's group of a row's blocks */
INLINE parts_t my_group(i32 f, i32 l)
{
    i32 from = cta() / GROUP * GROUP;
    return parts_of_blocks(f, imax(f, from), imin(l, from + GROUP - 1));
}
/* for a block's open row of blocks f..l: the first arrival, at its group or its row */
INLINE i32 arrive_open(const args_t *a, i32 f, i32 l)
{
    if (!in_groups(f, l)) return arrive(a->count + f, l - f);
    parts_t s = my_group(f, l);
    i32 g = cta() / GROUP;
    return arrive(a->count + ncta() + 2 * g + (g == f / GROUP), s.to - s.from);
}
/* by the last block to arrive there. flag: of the block, in shared memory */
INLINE void merge_open(const args_t *a, i32 row, i32 f, i32 l, i32 SHARED *flag)
{
    parts_t s = parts_of_blocks(f, f, l);
    if (in_groups(f, l)) {
        parts_t groups = parts_of_groups(f, l);
        merge_parts(a, row, my_group(f, l), AT_ONCE, part_at(a, &groups, cta() / GROUP));
        cta_sync();
        if (tid() == 0) *flag = arrive(a->count + f, groups.to - groups.from);
        cta_sync();
        if (!*flag) return;
        s = groups;
    }
    if (s.to - s.from < 2) merge_parts(a, row, s, 2, 0);
    else merge_parts(a, row, s, AT_ONCE, 0);
}

/* ---- few rows: each has a cluster of blocks. They send their parts to the first one, which need not look at memory for them ------------- */
#define O_SENT_BAR (O_FLAG + 8)
/* before run_warp: the barrier of the first block is there when anybody sends */
INLINE void cluster_begin(void)
{
    if (tid() == 0) {
        bar_init(saddr(smem) + O_SENT_BAR, 1);
        bar_init_fence();
    }
    cluster_arrive();
}
INLINE void merge_cluster(const args_t *a, share_t h)
{
    i32 valid = lane() < 2 * NW && ((const vi4 SHARED *)(smem + O_META))[lane()].x >= 0, rank = cta() % ccc_CLUSTER;
    u32 grp = ballot(valid), bar = saddr(smem) + O_SENT_BAR;
    cluster_wait();
    if (rank == 0 && tid() == 0) bar_expect(bar, (u32)(h.blocks * PSTRIDE) * 4);
    u32 to = map_shared(saddr(smem) + O_SENT + rank * PSTRIDE * 4, 0), there = map_shared(bar, 0);
    NO_UNROLL for (i32 e = tid() * 2; e < G * ccc_D; e += 2 * NT) merge_warps(a, h.row, e, 2, grp, 0, to, there); /* pairs: sent by 8 consecutive bytes a lane */
    if (rank) return;
    while (!bar_try(bar, 0)) {}
    for (i32 e = tid() * 2; e < G * ccc_D; e += NT * 2) {
        i32 r = e / ccc_D;
        vf2 o[CLUSTER_MOST], ml[CLUSTER_MOST];
        float M = -1e30f, L = 0, x = 0, y = 0;
        UNROLL for (i32 k = 0; k < CLUSTER_MOST; k++) {
            const float SHARED *p = (const float SHARED *)(smem + O_SENT) + imin(k, h.blocks - 1) * PSTRIDE;
            if (k >= ccc_CLUSTER) break;
            o[k] = *(const vf2 SHARED *)(p + e);
            ml[k] = *(const vf2 SHARED *)(p + G * ccc_D + r * 2);
            M = fmax2(M, ml[k].x);
        }
        UNROLL for (i32 k = 0; k < CLUSTER_MOST; k++) {
            if (k >= ccc_CLUSTER) break;
            float w = k < h.blocks ? ex2(ml[k].x - M) : 0;
            x = fma_(o[k].x, w, x);
            y = fma_(o[k].y, w, y);
            L = fma_(ml[k].y, w, L);
        }
        put_pair(a, h.row, e, x, y, L);
    }
}

/* ---- the line of work: rows that cross blocks go through memory ------------------------------------------------------------------------ */
INLINE void merge_line(const args_t *a, const plan_t *P, share_t h)
{
    slots_t s = slots_of(h.from, h.to);
    i32 counted = s.open && !ccc_JOINED;
    i32 SHARED *last = (i32 SHARED *)(smem + O_FLAG);
    open_t o = open_rows(P, s.open, h.from);
    merge_rows(a, s, s.open, 1, h.from);
    if (counted) cta_sync();
    if (counted && tid() < 2) {
        i32 k = tid();
        last[k] = (k ? o.row[1] : o.row[0]) >= 0 && arrive_open(a, k ? o.first[1] : o.first[0], k ? o.last[1] : o.last[0]);
    }
    merge_rows(a, s, s.inner, 0, h.from); /* while the counter is on its way */
    if (!counted) return;
    cta_sync();
    NO_UNROLL for (i32 k = 0; k < 2; k++)
        if (last[k]) merge_open(a, k ? o.row[1] : o.row[0], k ? o.first[1] : o.first[0], k ? o.last[1] : o.last[0], last + k);
}
