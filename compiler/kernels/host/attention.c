/* Paged attention, causal, for any mixture of query lengths and any layout. A unit of work is a tile: up to QUERIES query tokens of one sequence
 * and some heads of it. For every COLS rows of the cache: scores of all rows of the tile (a row is a query token of a head) with K transposed in
 * scratch, online softmax in f32, then probabilities times V. The order of every sum depends on the number of visible cache rows alone.
 * Cache rows that a tile must not see are never read, scores that a row must not see become probabilities of exactly 0. */
#include "kv.h"
#include "hooks.h"

enum { QUERIES = CCC_HOST_QUERIES, ROWS = CCC_HOST_ROWS, COLS = CCC_HOST_COLS, R_REG = 4 };
#define NEVER (-3.0e38f)

typedef struct {
    const attention_args *a;
    i32 seq, kv_head, first, n, visible; /* first query token of the tile (row of q), tokens, cache rows that its last token sees */
    i32 head0, heads, rows;              /* rows = heads * n, row r: head r / n, token r % n */
    float *q, *out, *score, *kv;         /* [ROWS][D], [ROWS][D], [ROWS][COLS], [D][COLS] for K, [COLS][D] for V */
    float most[ROWS];
    VF sum[ROWS];
} tile_t;

/* ---- the cache ------------------------------------------------------------------------------------------------------------------- */
/* row j of the sequence in the cache, and its number in the block */
INLINE const char *cache_row(const tile_t *m, i32 j, i32 is_v, i32 *in_block)
{
    const attention_args *a = m->a;
    i32 b = a->table[(i64)m->seq * a->max_blocks + j / ccc_BLOCK];
    if (b < 0 || b >= a->kv_blocks) {
        status_set(a->status, STATUS_BAD_BLOCK, (u32)m->seq, (u32)b);
        b = imax(0, imin(b, a->kv_blocks - 1));
    }
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    *in_block = j % ccc_BLOCK;
    return (is_v ? a->v_cache : a->k_cache) + kv_row(s, b, *in_block, m->kv_head, is_v);
}

#define MIX(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
INLINE void transpose8(VU r[8])
{
    VU t[8], u[8];
    UNROLL for (i32 i = 0; i < 8; i += 2) {
        t[i] = MIX(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = MIX(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLL for (i32 i = 0; i < 8; i += 4)
        UNROLL for (i32 k = 0; k < 2; k++) {
            u[i + 2 * k] = MIX(t[i + k], t[i + 2 + k], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + 2 * k + 1] = MIX(t[i + k], t[i + 2 + k], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    UNROLL for (i32 i = 0; i < 4; i++) {
        r[i] = MIX(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = MIX(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* K rows j0 .. j0+n as f32 [D][COLS], zeros behind them up to a multiple of 16 */
INLINE void load_k(tile_t *m, i32 j0, i32 n)
{
    for (i32 j = 0; j < (n + 15) / 16 * 16; j += 8) {
        const char *row[8];
        i32 at[8];
        UNROLL for (i32 i = 0; i < 8; i++) row[i] = j + i < n ? cache_row(m, j0 + j + i, 0, &at[i]) : (at[i] = 0, (const char *)0);
        for (i32 p = 0; p < ccc_D / 8; p += 2) {
            VU r[8];
            UNROLL for (i32 i = 0; i < 8; i++) {
                r[i] = (VU)0;
                if (!row[i]) continue;
                r[i].lo = ld4u(row[i] + kv_piece(at[i], p));
                if (p + 1 < ccc_D / 8) r[i].hi = ld4u(row[i] + kv_piece(at[i], p + 1));
            }
            transpose8(r);
            UNROLL for (i32 d = 0; d < 8; d++) {
                if (p * 8 + 2 * d >= ccc_D) continue;
                st8f(m->kv + (i64)(p * 8 + 2 * d) * COLS + j, even_f32(r[d]));
                st8f(m->kv + (i64)(p * 8 + 2 * d + 1) * COLS + j, odd_f32(r[d]));
            }
        }
    }
}
/* V rows j0 .. j0+n as f32 [COLS][D] */
INLINE void load_v(tile_t *m, i32 j0, i32 n)
{
    for (i32 j = 0; j < n; j++) {
        i32 at;
        const char *row = cache_row(m, j0 + j, 1, &at);
        for (i32 p = 0; p < ccc_D / 8; p++) st8f(m->kv + (i64)j * ccc_D + p * 8, ld8b((const u16 *)(const void *)(row + kv_piece(at, p))));
    }
}

/* ---- scores, softmax, sums ----------------------------------------------------------------------------------------------------------- */
INLINE void scores(tile_t *m, i32 r0, i32 n, i32 rn)
{
    for (i32 j = 0; j < n; j += 16) {
        VF s[R_REG][2];
        UNROLL for (i32 r = 0; r < rn; r++) s[r][0] = s[r][1] = splat(0.0f);
        for (i32 d = 0; d < ccc_D; d++) {
            VF k0 = ld8f(m->kv + (i64)d * COLS + j), k1 = ld8f(m->kv + (i64)d * COLS + j + 8);
            UNROLL for (i32 r = 0; r < rn; r++) {
                VF q = splat(m->q[(i64)(r0 + r) * ccc_D + d]);
                s[r][0] = fma8(q, k0, s[r][0]);
                s[r][1] = fma8(q, k1, s[r][1]);
            }
        }
        UNROLL for (i32 r = 0; r < rn; r++) {
            st8f(m->score + (r0 + r) * COLS + j, s[r][0]);
            st8f(m->score + (r0 + r) * COLS + j + 8, s[r][1]);
        }
    }
}

/* scores of row r become probabilities relative to the largest score so far; what was summed before is scaled to it */
INLINE void softmax(tile_t *m, i32 r, i32 j0, i32 n)
{
    i32 seen = m->visible - m->n + 1 + r % m->n - j0; /* columns of this piece that the row sees */
    const VI lane = {0, 1, 2, 3, 4, 5, 6, 7};
    float *s = m->score + r * COLS, scale = m->a->scale;
    VF most8 = splat(m->most[r]);
    for (i32 j = 0; j < n; j += 8) {
        VF v = (lane + j) < seen ? ld8f(s + j) * scale : splat(NEVER);
        st8f(s + j, v);
        most8 = v > most8 ? v : most8;
    }
    float most = most8[0];
    for (i32 l = 1; l < 8; l++) most = most8[l] > most ? most8[l] : most;
    float keep = m_exp(m->most[r] - most);
    VF sum = m->sum[r] * keep;
    for (i32 j = 0; j < n; j += 8) {
        VF p = (lane + j) < seen ? m_exp8(ld8f(s + j) - most) : splat(0.0f);
        st8f(s + j, p);
        sum += p;
    }
    m->sum[r] = sum;
    m->most[r] = most;
    if (keep == 1.0f) return;
    for (i32 d = 0; d < ccc_D; d += 8) st8f(m->out + (i64)r * ccc_D + d, ld8f(m->out + (i64)r * ccc_D + d) * keep);
}

/* out[r] += probabilities * V for n cache rows, 8 * dn columns from d */
INLINE void weigh(tile_t *m, i32 r0, i32 d, i32 n, i32 rn, i32 dn)
{
    VF s[R_REG][2];
    float *out = m->out + (i64)r0 * ccc_D + d;
    UNROLL for (i32 r = 0; r < rn; r++)
        UNROLL for (i32 i = 0; i < dn; i++) s[r][i] = ld8f(out + (i64)r * ccc_D + 8 * i);
    for (i32 j = 0; j < n; j++) {
        const float *v = m->kv + (i64)j * ccc_D + d;
        UNROLL for (i32 r = 0; r < rn; r++) {
            VF p = splat(m->score[(r0 + r) * COLS + j]);
            UNROLL for (i32 i = 0; i < dn; i++) s[r][i] = fma8(p, ld8f(v + 8 * i), s[r][i]);
        }
    }
    UNROLL for (i32 r = 0; r < rn; r++)
        UNROLL for (i32 i = 0; i < dn; i++) st8f(out + (i64)r * ccc_D + 8 * i, s[r][i]);
}
INLINE void weigh_rows(tile_t *m, i32 r0, i32 n, i32 rn)
{
    i32 d = 0;
    for (; d + 16 <= ccc_D; d += 16) weigh(m, r0, d, n, rn, 2);
    if (d < ccc_D) weigh(m, r0, d, n, rn, 1);
}

/* ---- a tile ---------------------------------------------------------------------------------------------------------------------------- */
INLINE void begin(tile_t *m)
{
    for (i32 r = 0; r < m->rows; r++) {
        const u16 *q = m->a->q + (i64)(m->first + r % m->n) * m->a->q_ld + (i64)(m->head0 + r / m->n) * ccc_D;
        m->most[r] = NEVER;
        m->sum[r] = splat(0.0f);
        for (i32 d = 0; d < ccc_D; d += 8) {
            st8f(m->q + (i64)r * ccc_D + d, ld8b(q + d));
            st8f(m->out + (i64)r * ccc_D + d, splat(0.0f));
        }
    }
}
INLINE void end(const tile_t *m)
{
    for (i32 r = 0; r < m->rows; r++) {
        float sum = sum1(m->sum[r]), part = sum == 0.0f ? 0.0f : 1.0f / sum;
        u16 *out = m->a->out + (i64)(m->first + r % m->n) * m->a->out_ld + (i64)(m->head0 + r / m->n) * ccc_D;
        for (i32 d = 0; d < ccc_D; d += 8) st8b(out + d, ld8f(m->out + (i64)r * ccc_D + d) * part);
    }
}
INLINE void attend(tile_t *m)
{
    begin(m);
    for (i32 j0 = 0; j0 < m->visible; j0 += COLS) {
        i32 n = imin(COLS, m->visible - j0), r = 0;
        load_k(m, j0, n);
        for (; r + R_REG <= m->rows; r += R_REG) scores(m, r, n, R_REG);
        for (; r < m->rows; r++) scores(m, r, n, 1);
        for (r = 0; r < m->rows; r++) softmax(m, r, j0, n);
        load_v(m, j0, n);
        for (r = 0; r + R_REG <= m->rows; r += R_REG) weigh_rows(m, r, n, R_REG);
        for (; r < m->rows; r++) weigh_rows(m, r, n, 1);
    }
    end(m);
}

/* Tile number `index` counted over all sequences; its query tokens and visible rows. False: there are not so many tiles. */
INLINE i32 find_tile(tile_t *m, i64 index)
{
    const attention_args *a = m->a;
    for (m->seq = 0; m->seq < a->S; m->seq++) {
        i32 from = imax(0, imin(a->query_start[m->seq], a->T)), to = imax(from, imin(a->query_start[m->seq + 1], a->T));
        i32 n = to - from, tiles = (n + QUERIES - 1) / QUERIES;
        if (index >= tiles) {
            index -= tiles;
            continue;
        }
        i32 skip = (i32)index * QUERIES;
        i64 room = (i64)a->max_blocks * ccc_BLOCK;
        i32 len = (i32)lmin(imax(0, a->seq_lens[m->seq]), room);
        m->first = from + skip;
        m->n = imin(QUERIES, n - skip);
        m->visible = imax(0, len - n + skip + m->n);
        return 1;
    }
    return 0;
}

ENTRY ccc_kernel(const attention_args *a, const host_ctx *c)
{
    tile_t m;
    m.a = a;
    m.q = c->scratch;
    m.out = m.q + ROWS * ccc_D;
    m.score = m.out + ROWS * ccc_D;
    m.kv = m.score + ROWS * COLS;
    if (!find_tile(&m, c->block[0])) return;
    const i32 group = ccc_HQ / ccc_HKV, most = ROWS / m.n;
    i32 head_end = (i32)share(ccc_HQ, c->block[1] + 1, c->grid[1]);
    for (i32 h = (i32)share(ccc_HQ, c->block[1], c->grid[1]); h < head_end; h += m.heads) {
        m.head0 = h;
        m.kv_head = h / group;
        m.heads = imin(imin(most, head_end - h), (m.kv_head + 1) * group - h); /* of one KV head */
        m.rows = m.heads * m.n;
        attend(&m);
    }
}
