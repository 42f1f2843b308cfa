/* Paged attention, causal, for any mixture of query lengths and any layout. A unit of work is a tile: up to
 * QUERIES query tokens of one sequence and some heads of one KV head (a row is a query token of a head). It
 * goes over the cache COLS rows at a time: scores, online softmax, sums of V, all in f32.
 *
 * A tile of several tokens turns K around in scratch, [D][COLS], and makes blocks of 4 rows x 16 columns in
 * registers. A tile of one token, as in decode, would spend most of its time on turning: it takes the rows of
 * K and V as they lie, 16 bf16 as two vectors of even and odd elements (as matmul does), with q and the
 * result laid out to match. Which way is taken depends on the sequence's own query length alone, and so do a
 * row's bits. Cache rows that a tile must not see are never read, scores that a row must not see become
 * probabilities of exactly 0. */
#include "kv.h"
#include "hooks.h"

SPEC(i32, ccc_OUT_F32);

enum {
    QUERIES = CCC_HOST_QUERIES,
    ROWS = CCC_HOST_ROWS,
    COLS = CCC_HOST_COLS,
    R_REG = 4 /* rows at once, .. */,
    R_ONE = 3 /* .. with one token */
};
#define NEVER (-3.0e38f)

typedef struct {
    const attention_args *a;
    i32 seq, kv_head, whole; /* whole: query tokens of the sequence */
    i32 first, n;            /* first query token of the tile (row of q), tokens */
    i32 visible;             /* cache rows that the last of them sees */
    i32 head0, heads, rows;      /* rows = heads * n, row r: head r / n, token r % n */
    i32 ld;                      /* of q and out: D, with one token rounded up to 16 */
    float *q, *out, *score, *kv; /* [ROWS][ld], [ROWS][ld], [ROWS][COLS], [D][COLS] for K, [COLS][D] for V */
    const char **k_page, **v_page; /* 16-token pages of the rows in hand */
    const char *page[2][2][COLS / KV_PAGE]; /* of K and V: of those in hand, and of those asked for ahead */
    float most[ROWS];
    VF sum[ROWS];
} tile_t;

/* ---- the cache ----------------------------------------------------------------------------------------- */
/* bytes between tokens of a page */
INLINE i64 page_step(const tile_t *m) { return ccc_LAYOUT == KV_CCC ? KV_ROW_B : m->a->token_stride; }
/* where the pages of cache rows j0 .. j0+n lie: of K, of V */
INLINE void find_pages(tile_t *m, const char *page[2][COLS / KV_PAGE], i32 j0, i32 n)
{
    const attention_args *a = m->a;
    kv_strides s = {a->block_stride, a->token_stride, a->head_stride};
    ROLLED for (i32 p = 0; p * KV_PAGE < n; p++) {
        i32 j = j0 + p * KV_PAGE, b = a->table[(i64)m->seq * a->max_blocks + j / ccc_BLOCK];
        if (b < 0 || b >= a->kv_blocks) {
            status_set(a->status, STATUS_BAD_BLOCK, (u32)m->seq, (u32)b);
            b = imax(0, imin(b, a->kv_blocks - 1));
        }
        page[0][p] = a->k_cache + kv_row(s, b, j % ccc_BLOCK, m->kv_head, 0);
        page[1][p] = a->v_cache + kv_row(s, b, j % ccc_BLOCK, m->kv_head, 1);
    }
}
/* the same, and asks for them: of a page the processor's own prefetch sees too little to run ahead */
INLINE void fetch_pages(tile_t *m, const char *page[2][COLS / KV_PAGE], i32 j0, i32 n)
{
    const i64 step = page_step(m);
    find_pages(m, page, j0, n);
    ROLLED for (i32 j = 0; j < n; j++)
        for (i32 at = 0; at < KV_ROW_B; at += 64) {
            __builtin_prefetch(page[0][j / KV_PAGE] + j % KV_PAGE * step + at, 0, 2);
            __builtin_prefetch(page[1][j / KV_PAGE] + j % KV_PAGE * step + at, 0, 2);
        }
}
/* elements 8p .. 8p+15 of row j of a page, as pairs of bf16; zeros beyond the head. e4m3 (p is even then, and nothing is beyond) becomes
 * bf16, which is exact */
INLINE VU pairs16(const char *row, i32 j, i32 p)
{
    if (FP8) {
        VU u = __builtin_convertvector(*(const VH_any *)(row + kv_piece(j, p / 2)), VU);
        return (VU)e4m3u_f32(u & 0xffu) >> 16 | ((VU)e4m3u_f32(u >> 8) & 0xffff0000u);
    }
    VU r = (VU)0;
    r.lo = ld4u(row + kv_piece(j, p));
    if (p + 1 < ccc_D / 8) r.hi = ld4u(row + kv_piece(j, p + 1));
    return r;
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

/* the n rows of K in hand as f32 [D][COLS], zeros behind them up to a multiple of 16 */
INLINE void load_k(tile_t *m, i32 n)
{
    const i64 step = page_step(m);
    ROLLED for (i32 j = 0; j < (n + 15) / 16 * 16; j += 8)
        ROLLED for (i32 p = 0; p < ccc_D / 8; p += 2) {
            VU r[8];
            UNROLL for (i32 i = 0; i < 8; i++) {
                i32 t = (j + i) % KV_PAGE;
                r[i] = j + i < n ? pairs16(m->k_page[j / KV_PAGE] + t * step, t, p) : (VU)0;
            }
            transpose8(r);
            UNROLL for (i32 d = 0; d < 8; d++) {
                if (p * 8 + 2 * d >= ccc_D) continue;
                st8f(m->kv + (i64)(p * 8 + 2 * d) * COLS + j, even_f32(r[d]));
                st8f(m->kv + (i64)(p * 8 + 2 * d + 1) * COLS + j, odd_f32(r[d]));
            }
        }
}
/* the n rows of V in hand as f32 [COLS][D] */
INLINE void load_v(tile_t *m, i32 n)
{
    const i64 step = page_step(m);
    ROLLED for (i32 j = 0; j < n; j++) {
        const char *row = m->v_page[j / KV_PAGE] + j % KV_PAGE * step;
        for (i32 p = 0; p < ccc_D / 8; p++) {
            const void *from = row + kv_eight(j, p);
            st8f(m->kv + (i64)j * ccc_D + p * 8, FP8 ? ld8e(from) : ld8b(from));
        }
    }
}

/* ---- scores, softmax, sums ----------------------------------------------------------------------------- */
/* of 4 rows from r0 on */
INLINE void scores(tile_t *m, i32 r0, i32 n)
{
    ROLLED for (i32 j = 0; j < n; j += 16) {
        VF s[R_REG][2];
        UNROLL for (i32 r = 0; r < R_REG; r++) s[r][0] = s[r][1] = splat(0.0f);
        TWICE for (i32 d = 0; d < ccc_D; d++) {
            VF k0 = ld8f(m->kv + (i64)d * COLS + j), k1 = ld8f(m->kv + (i64)d * COLS + j + 8);
            UNROLL for (i32 r = 0; r < R_REG; r++) {
                VF q = splat(m->q[(i64)(r0 + r) * ccc_D + d]);
                s[r][0] = fma8(q, k0, s[r][0]);
                s[r][1] = fma8(q, k1, s[r][1]);
            }
        }
        UNROLL for (i32 r = 0; r < R_REG; r++) {
            st8f(m->score + (r0 + r) * COLS + j, s[r][0]);
            st8f(m->score + (r0 + r) * COLS + j + 8, s[r][1]);
        }
    }
}

/* scores of row r become probabilities relative to the largest score so far; what was summed before is scaled
 * to it */
INLINE void softmax(tile_t *m, i32 r, i32 j0, i32 n)
{
    i32 seen = m->visible - m->n + 1 + r % m->n - j0; /* columns of this piece that the row sees */
    const VI lane = {0, 1, 2, 3, 4, 5, 6, 7};
    float *s = m->score + r * COLS, scale = m->a->scale;
    VF most8 = splat(m->most[r]);
    ROLLED for (i32 j = 0; j < n; j += 8) {
        VF v = (lane + j) < seen ? ld8f(s + j) * scale : splat(NEVER);
        st8f(s + j, v);
        most8 = v > most8 ? v : most8;
    }
    float most = most8[0];
    for (i32 l = 1; l < 8; l++) most = most8[l] > most ? most8[l] : most;
    float keep = m_exp(m->most[r] - most);
    VF sum = m->sum[r] * keep;
    ROLLED for (i32 j = 0; j < n; j += 8) {
        VF p = (lane + j) < seen ? m_exp8(ld8f(s + j) - most) : splat(0.0f);
        st8f(s + j, p);
        sum += p;
    }
    m->sum[r] = sum;
    m->most[r] = most;
    if (keep == 1.0f) return;
    ROLLED for (i32 d = 0; d < m->ld; d += 8)
        st8f(m->out + (i64)r * m->ld + d, ld8f(m->out + (i64)r * m->ld + d) * keep);
}

/* out[r] += probabilities * V for 4 rows and n cache rows, 8 * dn columns from d */
INLINE void weigh(tile_t *m, i32 r0, i32 d, i32 n, i32 dn)
{
    VF s[R_REG][2];
    float *out = m->out + (i64)r0 * ccc_D + d;
    UNROLL for (i32 r = 0; r < R_REG; r++)
        UNROLL for (i32 i = 0; i < dn; i++) s[r][i] = ld8f(out + (i64)r * ccc_D + 8 * i);
    TWICE for (i32 j = 0; j < n; j++) {
        const float *v = m->kv + (i64)j * ccc_D + d;
        UNROLL for (i32 r = 0; r < R_REG; r++) {
            VF p = splat(m->score[(r0 + r) * COLS + j]);
            UNROLL for (i32 i = 0; i < dn; i++) s[r][i] = fma8(p, ld8f(v + 8 * i), s[r][i]);
        }
    }
    UNROLL for (i32 r = 0; r < R_REG; r++)
        UNROLL for (i32 i = 0; i < dn; i++) st8f(out + (i64)r * ccc_D + 8 * i, s[r][i]);
}
INLINE void weigh_rows(tile_t *m, i32 r0, i32 n)
{
    ROLLED for (i32 d = 0; d + 16 <= ccc_D; d += 16) weigh(m, r0, d, n, 2);
    if (ccc_D % 16) weigh(m, r0, ccc_D - 8, n, 1);
}

/* ---- one token: scores and sums with K and V as they lie ----------------------------------------------- */
enum { KEYS = 4 };
INLINE void scores_one(tile_t *m, i32 r0, i32 n, i32 rn)
{
    const i64 step = page_step(m);
    ROLLED for (i32 j = 0; j < n;
                j += KEYS) { /* pages are whole: rows beyond the last are read as the last */
        VF s[R_ONE][KEYS];
        const char *row[KEYS];
        i32 t[KEYS];
        UNROLL for (i32 i = 0; i < KEYS; i++) {
            t[i] = imin(j + i, n - 1) % KV_PAGE;
            row[i] = m->k_page[j / KV_PAGE] + t[i] * step;
            UNROLL for (i32 r = 0; r < rn; r++) s[r][i] = splat(0.0f);
        }
        ROLLED for (i32 p = 0; p < ccc_D / 8; p += 2) {
            const float *q = m->q + (i64)r0 * m->ld + p * 8;
            UNROLL for (i32 i = 0; i < KEYS; i++) {
                VU k = pairs16(row[i], t[i], p);
                UNROLL for (i32 r = 0; r < rn; r++) {
                    s[r][i] = fma8(even_f32(k), ld8f(q + r * m->ld), s[r][i]);
                    s[r][i] = fma8(odd_f32(k), ld8f(q + r * m->ld + 8), s[r][i]);
                }
            }
        }
        UNROLL for (i32 r = 0; r < rn; r++)
            st4f(m->score + (r0 + r) * COLS + j, sum4(s[r][0], s[r][1], s[r][2], s[r][3]));
    }
}
/* 16 columns from piece p on */
INLINE void weigh_one(tile_t *m, i32 r0, i32 p, i32 n, i32 rn)
{
    const i64 step = page_step(m);
    float *out = m->out + (i64)r0 * m->ld + p * 8;
    VF even[R_ONE], odd[R_ONE];
    UNROLL for (i32 r = 0; r < rn; r++) even[r] = ld8f(out + r * m->ld), odd[r] = ld8f(out + r * m->ld + 8);
    TWICE for (i32 j = 0; j < n; j++) {
        VU v = pairs16(m->v_page[j / KV_PAGE] + j % KV_PAGE * step, j, p);
        UNROLL for (i32 r = 0; r < rn; r++) {
            VF w = splat(m->score[(r0 + r) * COLS + j]);
            even[r] = fma8(w, even_f32(v), even[r]);
            odd[r] = fma8(w, odd_f32(v), odd[r]);
        }
    }
    UNROLL for (i32 r = 0; r < rn; r++) {
        st8f(out + r * m->ld, even[r]);
        st8f(out + r * m->ld + 8, odd[r]);
    }
}

/* ---- a tile -------------------------------------------------------------------------------------------- */
/* scores of all rows with the n cache rows in hand, and, when they have become probabilities, the sums of V.
 * Rows are made up to fours. */
INLINE void all_scores(tile_t *m, i32 n, i32 one)
{
    i32 r = 0;
    if (one) {
        ROLLED for (; r + R_ONE <= m->rows; r += R_ONE) scores_one(m, r, n, R_ONE);
        ROLLED for (; r < m->rows; r++) scores_one(m, r, n, 1);
        return;
    }
    load_k(m, n);
    ROLLED for (; r < m->rows; r += R_REG) scores(m, r, n);
}
INLINE void all_sums(tile_t *m, i32 n, i32 one)
{
    i32 r = 0;
    if (one) {
        ROLLED for (; r + R_ONE <= m->rows; r += R_ONE)
            ROLLED for (i32 p = 0; p < ccc_D / 8; p += 2) weigh_one(m, r, p, n, R_ONE);
        ROLLED for (; r < m->rows; r++)
            ROLLED for (i32 p = 0; p < ccc_D / 8; p += 2) weigh_one(m, r, p, n, 1);
        return;
    }
    load_v(m, n);
    ROLLED for (; r < m->rows; r += R_REG) weigh_rows(m, r, n);
}
INLINE void begin(tile_t *m, i32 one)
{
    ROLLED for (i32 r = 0; r < m->rows; r++) {
        const u16 *q = m->a->q + (i64)(m->first + r % m->n) * m->a->q_ld + (i64)(m->head0 + r / m->n) * ccc_D;
        float *to = m->q + (i64)r * m->ld;
        m->most[r] = NEVER;
        m->sum[r] = splat(0.0f);
        ROLLED for (i32 d = 0; d < m->ld; d += 8) st8f(m->out + (i64)r * m->ld + d, splat(0.0f));
        ROLLED for (i32 d = 0; d < ccc_D && !one; d += 8) st8f(to + d, ld8b(q + d));
        ROLLED for (i32 p = 0; p < ccc_D / 8 && one; p += 2) {
            VU v = (VU)0;
            v.lo = ld4u(q + p * 8);
            if (p + 1 < ccc_D / 8) v.hi = ld4u(q + p * 8 + 8);
            st8f(to + p * 8, even_f32(v));
            st8f(to + p * 8 + 8, odd_f32(v));
        }
    }
}
VF ccc_hook_epilogue(VF v, i32 row, i32 col, const aux_t *aux);
INLINE void put(const tile_t *m, i32 r, i32 d, VF v)
{
    const attention_args *a = m->a;
    i32 row = m->first + r % m->n, col = (m->head0 + r / m->n) * ccc_D + d;
    OUT_STORE(8, a->out, (i64)row * a->out_ld + col, ccc_hook_epilogue(v, row, col, &a->aux));
}
INLINE void end(const tile_t *m, i32 one)
{
    ROLLED for (i32 r = 0; r < m->rows; r++) {
        float sum = sum1(m->sum[r]), part = sum == 0.0f ? 0.0f : (FP8 ? m->a->v_scale : 1.0f) / sum, *from = m->out + (i64)r * m->ld;
        ROLLED for (i32 d = 0; d < ccc_D && !one; d += 8) put(m, r, d, ld8f(from + d) * part);
        ROLLED for (i32 d = 0; d < ccc_D && one; d += 16) {
            VF even = ld8f(from + d) * part, odd = ld8f(from + d + 8) * part;
            put(m, r, d, __builtin_shufflevector(even, odd, 0, 8, 1, 9, 2, 10, 3, 11));
            if (d + 8 < ccc_D)
                put(m, r, d + 8, __builtin_shufflevector(even, odd, 4, 12, 5, 13, 6, 14, 7, 15));
        }
    }
}
INLINE void attend(tile_t *m, i32 one)
{
    m->ld = one ? (ccc_D + 15) / 16 * 16 : ccc_D;
    fetch_pages(m, m->page[0], 0, imin(COLS, m->visible));
    begin(m, one);
    ROLLED for (i32 j0 = 0; j0 < m->visible; j0 += COLS) {
        i32 n = imin(COLS, m->visible - j0), turn = j0 / COLS % 2;
        if (m->visible - j0 > COLS)
            fetch_pages(m, m->page[!turn], j0 + COLS, imin(COLS, m->visible - j0 - COLS));
        m->k_page = m->page[turn][0];
        m->v_page = m->page[turn][1];
        all_scores(m, n, one);
        ROLLED for (i32 r = 0; r < m->rows; r++) softmax(m, r, j0, n);
        all_sums(m, n, one);
    }
    end(m, one);
}

/* Tile number `index` counted over all sequences; its query tokens and visible rows. False: there are not so
 * many tiles. */
INLINE i32 find_tile(tile_t *m, i64 index)
{
    const attention_args *a = m->a;
    ROLLED for (m->seq = 0; m->seq < a->S; m->seq++) {
        i32 from = imax(0, imin(a->query_start[m->seq], a->T)),
            to = imax(from, imin(a->query_start[m->seq + 1], a->T));
        i32 n = to - from, tiles = (n + QUERIES - 1) / QUERIES;
        if (index >= tiles) {
            index -= tiles;
            continue;
        }
        i32 skip = (i32)index * QUERIES;
        i64 room = (i64)a->max_blocks * ccc_BLOCK;
        i32 len = (i32)lmin(imax(0, a->seq_lens[m->seq]), room);
        m->whole = n;
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
    const i32 group = ccc_HQ / ccc_HKV, one = m.whole == 1,
              most = one ? ROWS / 2 : ROWS / m.n; /* with one token rows may be longer by 8 */
    i32 head_end = (i32)share(ccc_HQ, c->block[1] + 1, c->grid[1]);
    for (i32 h = (i32)share(ccc_HQ, c->block[1], c->grid[1]); h < head_end; h += m.heads) {
        m.head0 = h;
        m.kv_head = h / group;
        m.heads = imin(imin(most, head_end - h), (m.kv_head + 1) * group - h); /* of one KV head */
        m.rows = m.heads * m.n;
        attend(&m, one);
    }
}
