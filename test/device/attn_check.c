/* Runs the attention, cache, argmax and load kernels on a GPU and compares them with plain f64 (or bit-exact) references; then times them.
 * Everything a kernel may not touch is poisoned: outputs with 0xff (NaN), unused cache rows with NaN, table entries behind the end of a
 * sequence with a block number that does not exist (a kernel that reads one sets the status word, which must stay 0).
 * The cubins come from test/kernels/build_b.sh; their file names say the constants. Only libcuda.so.1 is needed, opened with dlopen.
 *   gcc -std=gnu17 -O3 -march=x86-64-v3 -o .carry/attn/attn_check test/device/attn_check.c -ldl -lm
 *   .carry/attn/attn_check [FOLDER of the cubins] [check|time|all] [only names that contain this] [PART/PARTS: each PARTS-th kernel from PART on]
 *   .carry/attn/attn_check [FOLDER of the cubins] promises      times those alone that have a bound, or that torch is timed with */
#include "attn_check.h"

static int failed;
static void verdict(bool ok, const char *name, const char *fmt, ...)
{
    va_list v;
    va_start(v, fmt);
    printf("%s %-30s ", ok ? "PASS" : "FAIL", name);
    vprintf(fmt, v);
    printf("\n");
    fflush(stdout);
    va_end(v);
    if (!ok) failed++;
}

/* ---- a paged cache on the host and the device ------------------------------------------------------------------------------------------ */
typedef struct { int layout, block, hq, hkv, d, fp8 /* the cache is of e4m3 */; } model_t;
typedef struct { model_t m; int blocks, max_blocks, S; int *table, *lens; i64 bs, ts, hs; u8 *mem; size_t mem_B, v_B; float *k, *v; i64 *first; dptr dev, dtable, dlens; } cache_t;

static int kv_row_B(model_t m) { return m.fp8 ? m.d : 2 * m.d; }
static float round_kv(model_t m, float f) { return m.fp8 ? from_e4m3(to_e4m3(f)) : round_bf16(f); }
/* (block, token, head, d) of K or V: abi.h, written down a second time */
static u8 *kv_at(const cache_t *c, int b, int t, int h, int v, int d)
{
    int row = kv_row_B(c->m), at = c->m.fp8 ? d : 2 * d, r = t % 16, piece = at / 16;
    if (c->m.layout != 3) return c->mem + v * c->v_B + b * c->bs + t * c->ts + h * c->hs + at;
    if (piece < row / 128 * 8) piece = piece / 8 * 8 + ((piece % 8) ^ (r % 8));
    return c->mem + b * c->bs + h * c->hs + t / 16 * (32 * row) + v * (16 * row) + r * row + piece * 16 + at % 16;
}
static void kv_put(const cache_t *c, u8 *at, float f)
{
    u16 wide = to_bf16(f);
    if (c->m.fp8) *at = to_e4m3(f);
    else memcpy(at, &wide, 2);
}
static void cache_make(cache_t *c, model_t m, int S, const int *lens)
{
    *c = (cache_t){.m = m, .S = S, .max_blocks = 3};
    size_t row = (size_t)m.hkv * m.d, total = 0;
    int used = 0, row_B = kv_row_B(m);
    c->lens = memcpy(malloc(S * 4), lens, S * 4);
    c->first = malloc(S * sizeof *c->first);
    for (int s = 0; s < S; s++) {
        int n = (lens[s] + m.block - 1) / m.block;
        used += n;
        if (n + 2 > c->max_blocks) c->max_blocks = n + 2;
        c->first[s] = total;
        total += lens[s];
    }
    c->blocks = used + 5;
    c->hs = m.layout == 3 ? m.block * row_B * 2 : m.layout == 2 ? m.block * row_B : row_B;
    c->ts = m.layout == 2 ? row_B : (i64)m.hkv * row_B;
    c->bs = m.layout == 3 ? m.hkv * c->hs : m.block * (i64)m.hkv * row_B;
    c->bs += 256 * 3; /* the caller's stride may be larger */
    c->v_B = m.layout == 3 ? 0 : c->blocks * c->bs;
    c->mem_B = c->v_B + c->blocks * c->bs;
    c->mem = malloc(c->mem_B);
    memset(c->mem, 0xff, c->mem_B);
    c->table = malloc((size_t)S * c->max_blocks * 4);
    int *perm = permutation(c->blocks), next = 0;
    for (int s = 0; s < S; s++)
        for (int i = 0; i < c->max_blocks; i++) c->table[s * c->max_blocks + i] = i * m.block < lens[s] ? perm[next++] : 1 << 28;
    free(perm);
    c->k = malloc(total * row * 4 + 4);
    c->v = malloc(total * row * 4 + 4);
    for (size_t i = 0; i < total * row; i++) { c->k[i] = round_kv(m, uniform() * 2); c->v[i] = round_kv(m, uniform() * 2); }
    for (int s = 0; s < S; s++)
        for (int t = 0; t < lens[s]; t++)
            for (int h = 0; h < m.hkv; h++)
                for (int d = 0; d < m.d; d++) {
                    int b = c->table[s * c->max_blocks + t / m.block];
                    size_t i = ((c->first[s] + t) * m.hkv + h) * m.d + d;
                    kv_put(c, kv_at(c, b, t % m.block, h, 0, d), c->k[i]);
                    kv_put(c, kv_at(c, b, t % m.block, h, 1, d), c->v[i]);
                }
    c->dev = dev_copy(c->mem, c->mem_B);
    c->dtable = dev_copy(c->table, (size_t)S * c->max_blocks * 4);
    c->dlens = dev_copy(c->lens, S * 4);
}
static void cache_free(cache_t *c)
{
    dev_free(c->dev); dev_free(c->dtable); dev_free(c->dlens);
    free(c->mem); free(c->table); free(c->lens); free(c->k); free(c->v); free(c->first);
}
/* attention of one query row over the first n rows of sequence s, KV head h, in f64 */
static void attend(const cache_t *c, int s, int h, int n, const float *q, double scale, double *out, double *p)
{
    int D = c->m.d, ld = c->m.hkv * D;
    const float *k = c->k + (c->first[s] * c->m.hkv + h) * D, *v = c->v + (c->first[s] * c->m.hkv + h) * D;
    double mx = -1e300, sum = 0;
    for (int t = 0; t < n; t++) {
        double z = 0;
        for (int d = 0; d < D; d++) z += (double)q[d] * k[(size_t)t * ld + d];
        p[t] = z * scale;
        if (p[t] > mx) mx = p[t];
    }
    for (int d = 0; d < D; d++) out[d] = 0;
    for (int t = 0; t < n; t++) {
        double e = exp(p[t] - mx);
        sum += e;
        for (int d = 0; d < D; d++) out[d] += e * v[(size_t)t * ld + d];
    }
    for (int d = 0; d < D && n > 0; d++) out[d] /= sum;
}

/* ---- attention and attn_decode ------------------------------------------------------------------------------------------------------------- */
typedef struct { double num, den, worst; long nonzero, poison; } error_t_;
typedef struct { cache_t c; attention_args a; int T; size_t out_n; u16 *q, *out; dptr dq, dout, dqs, part, count, status; } attn_case;

/* q of every head with gaps between rows, and an output of another stride */
static void case_make(attn_case *x, model_t m, int S, const int *qlens, const int *lens, int pad)
{
    int *qs = malloc((S + 1) * 4), W = m.hq * m.d;
    cache_make(&x->c, m, S, lens);
    qs[0] = 0;
    for (int s = 0; s < S; s++) qs[s + 1] = qs[s] + (qlens ? qlens[s] : 1);
    x->T = qs[S] + pad;
    x->a = (attention_args){.S = S, .T = x->T, .max_blocks = x->c.max_blocks, .q_ld = W + 64, .out_ld = W + 8, .kv_blocks = x->c.blocks,
                            .scale = 1.0f / sqrtf(m.d), .v_scale = m.fp8 ? 1.5f : 1, .block_stride = x->c.bs, .token_stride = x->c.ts, .head_stride = x->c.hs};
    size_t qn = (size_t)x->T * x->a.q_ld;
    x->out_n = (size_t)x->T * x->a.out_ld;
    x->q = malloc(qn * 2 + 16);
    x->out = malloc(x->out_n * 2 + 16);
    memset(x->q, 0xff, qn * 2);
    for (int t = 0; t < qs[S]; t++) for (int i = 0; i < W; i++) x->q[(size_t)t * x->a.q_ld + i] = to_bf16(uniform() * 3);
    x->dq = dev_copy(x->q, qn * 2 + 16);
    x->dout = dev_alloc(x->out_n * 2 + 16);
    x->dqs = dev_copy(qs, (S + 1) * 4);
    x->status = dev_zero(16);
    x->a.out = (void *)x->dout; x->a.q = (void *)x->dq; x->a.k_cache = (void *)x->c.dev; x->a.v_cache = (void *)(x->c.dev + x->c.v_B);
    x->a.table = (void *)x->c.dtable; x->a.seq_lens = (void *)x->c.dlens; x->a.query_start = (void *)x->dqs; x->a.status = (void *)x->status;
    free(qs);
}
static void case_free(attn_case *x)
{
    cache_free(&x->c);
    dev_free(x->dq); dev_free(x->dout); dev_free(x->dqs); dev_free(x->status);
    free(x->q); free(x->out);
}
static error_t_ case_compare(const attn_case *x, const int *qlens)
{
    const cache_t *c = &x->c;
    int D = c->m.d, g = c->m.hq / c->m.hkv, most = 1;
    error_t_ e = {0};
    for (int s = 0; s < c->S; s++) if (c->lens[s] > most) most = c->lens[s];
    double *p = malloc(most * 8), ref[256];
    float q[256];
    for (int s = 0, t = 0; s <= c->S; s++) {
        int n = s == c->S ? x->T - t : qlens ? qlens[s] : 1;
        for (int i = 0; i < n; i++, t++)
            for (int h = 0; h < c->m.hq; h++) {
                int sees = s == c->S ? 0 : c->lens[s] - n + i + 1;
                const u16 *o = x->out + (size_t)t * x->a.out_ld + h * D;
                for (int d = 0; d < D; d++) q[d] = from_bf16(x->q[(size_t)t * x->a.q_ld + h * D + d]);
                for (int d = 0; d < D; d++) ref[d] = 0;
                if (sees > 0) attend(c, s, h / g, sees, q, x->a.scale, ref, p);
                for (int d = 0; d < D; d++) ref[d] *= x->a.v_scale;
                for (int d = 0; d < D; d++) {
                    double v = from_bf16(o[d]), err = fabs(v - ref[d]);
                    if (sees <= 0 && v != 0) e.nonzero++;
                    e.num += err * err;
                    e.den += ref[d] * ref[d];
                    if (!(err <= e.worst)) e.worst = err;
                }
            }
    }
    for (int t = 0; t < x->T; t++) for (int i = c->m.hq * D; i < x->a.out_ld; i++) e.poison += x->out[(size_t)t * x->a.out_ld + i] != 0xffff;
    free(p);
    return e;
}
static unsigned attn_grid(const attn_case *x)
{
    int g = x->c.m.hq / x->c.m.hkv;
    return ((x->T * g + CCC_ATTN_ROWS - 1) / CCC_ATTN_ROWS + x->c.S) * x->c.m.hkv;
}
static void case_run(attn_case *x, kernel_t k, unsigned grid, int threads, int shared, const char *name, const char *what, const int *qlens)
{
    u16 *again = malloc(x->out_n * 2);
    bool same = true;
    for (int run = 0; run < RUNS; run++) {
        dev_fill(x->dout, 0xff, x->out_n * 2);
        launch(k, grid, 1, threads, shared, &x->a);
        dev_get(run ? again : x->out, x->dout, x->out_n * 2);
        if (run && memcmp(again, x->out, x->out_n * 2)) same = false;
    }
    u32 status[4];
    dev_get(status, x->status, 16);
    error_t_ e = case_compare(x, qlens);
    double rel = sqrt(e.num / (e.den + 1e-30));
    verdict(rel < 6e-3 && e.worst < 0.05 && same && !e.nonzero && !e.poison && !status[0], name,
            "%-16s relative %.1e largest %.1e%s%s%s%s", what, rel, e.worst, same ? "" : " RUNS DIFFER", e.nonzero ? " NOT ZERO" : "",
            e.poison ? " WROTE OUTSIDE" : "", status[0] ? " STATUS SET" : "");
    free(again);
}
static void check_attention(const char *name, kernel_t k, model_t m)
{
    static const int q0[] = {1, 7, 128, 33, 0, 1, 200, 64, 1, 5, 1, 1}, l0[] = {1000, 7, 128, 500, 50, 0, 777, 64, 1, 3, 16, 17}, one[] = {301};
    int q2[70], l2[70], shared = m.fp8 ? ccc_attn_fp8_shared_B(m.d) : ccc_attn_shared_B(m.d);
    attn_case x;
    func_shared(k, shared);
    case_make(&x, m, 12, q0, l0, 10);
    case_run(&x, k, attn_grid(&x), CCC_ATTN_THREADS, shared, name, "mixed", q0);
    x.c.table[0] = -7; /* forced into the cache, and reported */
    dev_set(x.c.dtable, x.c.table, 4);
    launch(k, attn_grid(&x), 1, CCC_ATTN_THREADS, shared, &x.a);
    u32 st[4];
    dev_get(st, x.status, 16);
    verdict(st[0] == 3 && st[1] == 0 && st[2] == (u32)-7, name, "bad block reported: kind %u, sequence %u, value %d", st[0], st[1], (int)st[2]);
    case_free(&x);
    case_make(&x, m, 1, one, one, 0);
    case_run(&x, k, attn_grid(&x), CCC_ATTN_THREADS, shared, name, "one prompt", one);
    case_free(&x);
    for (int s = 0; s < 70; s++) { q2[s] = rnd() % 5; l2[s] = q2[s] + rnd() % 150; }
    case_make(&x, m, 70, q2, l2, 3);
    case_run(&x, k, attn_grid(&x), CCC_ATTN_THREADS, shared, name, "70 sequences", q2);
    case_free(&x);
    for (int s = 0; s < 40; s++) l2[s] = rnd() % 300;
    case_make(&x, m, 40, NULL, l2, 0);
    case_run(&x, k, attn_grid(&x), CCC_ATTN_THREADS, shared, name, "decode", NULL);
    case_free(&x);
}
/* blocks of attn_decode: as many as there are multiprocessors, in whole clusters (emulated: room for some of these); a cluster for each row if
 * that is less and blocks are small, or the planner does so though rows may be long */
enum { MOST_BLOCKS = 256 };
static unsigned decode_grid(kernel_t k, model_t m, int S)
{
    int all = n_sm / k.form.cluster * k.form.cluster, rows = m.hkv * S * k.form.cluster;
    ccc_decode_form f = ccc_decode_choose(S, 4096, m.hq / m.hkv, m.hkv, m.d, n_sm);
    bool own = k.form.cluster > 1 && (k.form.warps < CCC_DECODE_WARPS || (f.cluster == k.form.cluster && f.blocks == rows));
#ifdef EMULATE
    if (k.form.cluster > 1) all = 5 * k.form.cluster;
#endif
    return (unsigned)(own && rows < all ? rows : all);
}
static unsigned decode_threads(kernel_t k) { return 32 * (unsigned)k.form.warps; }
static int decode_shared(kernel_t k, model_t m) { return ccc_decode_shared_B(m.hq / m.hkv, m.d, k.form.cluster, k.form.warps, m.fp8); }
static void decode_scratch(attn_case *x)
{
    size_t n = (size_t)ccc_decode_scratch_B(x->c.m.hq / x->c.m.hkv, x->c.m.d) * MOST_BLOCKS;
    x->part = dev_alloc(n);
    dev_fill(x->part, 0xff, n);
    x->count = dev_zero(CCC_DECODE_COUNT_B * MOST_BLOCKS);
    x->a.part = (void *)x->part; x->a.count = (void *)x->count;
}
/* Sequences that are about equally long: so many that blocks have two whole rows each (`many`), and as many as have a cluster for each row (`few`) */
enum { MOST_EVEN = 333 };
typedef struct { int lens[MOST_EVEN], many, few; } even_t;
static even_t even_lens(kernel_t k, model_t m)
{
    even_t e = {.many = 2 * n_sm / m.hkv, .few = (int)decode_grid(k, m, MOST_EVEN) / (m.hkv * k.form.cluster)};
    for (int i = 0; i < MOST_EVEN; i++) e.lens[i] = 97 + rnd() % 16;
    if (e.many > MOST_EVEN) e.many = MOST_EVEN;
    if (e.few < 1) e.few = 1;
    return e;
}
static void check_decode(const char *name, kernel_t k, model_t m)
{
    static const int edge[] = {0, 1, 15, 16, 17, 0, 33, 1000, 1, 16}, big[] = {9000, 3, 7, 0, 900};
    int one[] = {1}, zero[] = {0}, b1[] = {1024}, l20[] = {20000}, mix[64], w[333], shared = decode_shared(k, m);
    for (int i = 0; i < 64; i++) mix[i] = 1 + rnd() % 600;
    for (int i = 0; i < 333; i++) w[i] = rnd() % 41;
    even_t even = even_lens(k, m);
    struct { const char *name; int S; const int *lens; } set[] = {{"edges", 10, edge}, {"1", 1, one}, {"0", 1, zero}, {"1024", 1, b1},
        {"20000", 1, l20}, {"9000 and short", 5, big}, {"64 random", 64, mix}, {"333 short", 333, w}, {"even", even.many, even.lens},
        {"few even", even.few, even.lens}};
    func_shared(k, shared);
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        attn_case x;
        case_make(&x, m, set[i].S, NULL, set[i].lens, 0);
        decode_scratch(&x);
        case_run(&x, k, decode_grid(k, m, set[i].S), (int)decode_threads(k), shared, name, set[i].name, NULL);
        dev_free(x.part); dev_free(x.count);
        case_free(&x);
    }
}

/* ---- rope_kv --------------------------------------------------------------------------------------------------------------------------------- */
typedef struct { model_t m; int rotary, do_q, do_k, do_kv, k_rotated, rows_fp8; } rope_model;
static void rope_row(u16 *out, const u16 *in, const float *row, int d, int rotary)
{
    int half = rotary / 2;
    memcpy(out, in, d * 2);
    for (int i = 0; i < half; i++) {
        float a = from_bf16(in[i]), b = from_bf16(in[half + i]), c = row[i], s = row[half + i];
        volatile float bs = b * s, as = a * s;
        out[i] = to_bf16(fmaf(a, c, -bs));
        out[half + i] = to_bf16(fmaf(b, c, as));
    }
}
static float *rope_rows(int rows, int rotary)
{
    float *t = malloc((size_t)rows * rotary * 4 + 4);
    for (int p = 0; p < rows; p++)
        for (int i = 0; i < rotary / 2; i++) ccc_sincos((float)p * (float)pow(10000, -2.0 * i / rotary), &t[p * rotary + rotary / 2 + i], &t[p * rotary + i]);
    return t;
}
static unsigned rope_grid(const rope_model *r, int T)
{
    return (unsigned)((T * ccc_rope_items(r->m.hq, r->m.hkv, r->m.d, r->rotary, r->do_q, r->do_k, r->do_kv) + CCC_ROPE_THREADS - 1) / CCC_ROPE_THREADS);
}
static void check_rope(const char *name, kernel_t k, rope_model r)
{
    enum { T = 77, ROWS = 4096 };
    model_t m = r.m;
    const float K_TIMES = m.fp8 ? 147.3f : 1, V_TIMES = m.fp8 ? 0.0371f : 1; /* some saturate, some are subnormal */
    int len = 20 * m.block, ld = (m.hq + 2 * m.hkv) * m.d + 8, qw = m.hq * m.d, kw = m.hkv * m.d;
    cache_t c;
    cache_make(&c, m, 1, (int[]){len});
    memset(c.mem, 0xff, c.mem_B);
    dev_fill(c.dev, 0xff, c.mem_B);
    u16 *x = malloc(T * ld * 2), *q = malloc(T * qw * 2), *ko = malloc(T * kw * 2), *got = malloc(c.mem_B + T * qw * 2 + T * kw * 2), row[256];
    memset(q, 0xff, T * qw * 2);
    memset(ko, 0xff, T * kw * 2);
    float *table = rope_rows(ROWS, r.rotary);
    i64 pos[T], slot[T];
    int *perm = permutation(c.blocks * m.block);
    for (int i = 0; i < T * ld; i++) x[i] = to_bf16(uniform() * 4);
    for (int t = 0; t < T; t++) {
        pos[t] = t == 5 ? 123456 : t == 6 ? -1 : t == 7 ? ROWS - 1 : (i64)(rnd() % ROWS);
        slot[t] = t == 3 ? -1 : t == 9 ? (i64)c.blocks * m.block : t == 10 ? -2 : perm[t];
        i64 p = pos[t] < 0 ? 0 : pos[t] >= ROWS ? ROWS - 1 : pos[t];
        for (int h = 0; h < m.hq && r.do_q; h++) rope_row(q + t * qw + h * m.d, x + t * ld + h * m.d, table + p * r.rotary, m.d, r.rotary);
        for (int h = 0; h < m.hkv; h++) {
            rope_row(row, x + t * ld + qw + h * m.d, table + p * r.rotary, m.d, r.k_rotated ? 0 : r.rotary);
            if (r.do_k) memcpy(ko + t * kw + h * m.d, row, m.d * 2);
            for (int d = 0; d < m.d && r.do_kv && slot[t] >= 0 && slot[t] < (i64)c.blocks * m.block; d++) {
                int b = (int)(slot[t] / m.block), o = (int)(slot[t] % m.block), at = t * ld + qw + h * m.d + d;
                if (r.rows_fp8) { /* as they are */
                    *kv_at(&c, b, o, h, 0, d) = ((u8 *)x)[at];
                    *kv_at(&c, b, o, h, 1, d) = ((u8 *)x)[at + kw];
                    continue;
                }
                kv_put(&c, kv_at(&c, b, o, h, 0, d), from_bf16(row[d]) * K_TIMES);
                kv_put(&c, kv_at(&c, b, o, h, 1, d), from_bf16(x[at + kw]) * V_TIMES);
            }
        }
    }
    dptr dx = dev_copy(x, T * ld * 2), dq = dev_alloc(T * qw * 2), dk = dev_alloc(T * kw * 2), dt = dev_copy(table, (size_t)ROWS * r.rotary * 4), dp = dev_copy(pos, sizeof pos), ds = dev_copy(slot, sizeof slot), st = dev_zero(16);
    dev_fill(dq, 0xff, T * qw * 2);
    dev_fill(dk, 0xff, T * kw * 2);
    int x_B = r.rows_fp8 ? 1 : 2;
    rope_kv_args a = {.k_times = K_TIMES, .v_times = V_TIMES, .q_out = (void *)dq, .q = (void *)dx, .k = (void *)(dx + qw * x_B), .v = (void *)(dx + (qw + kw) * x_B), .k_out = (void *)dk, .table = (void *)dt, .positions = (void *)dp, .slots = (void *)ds,
                      .k_cache = (void *)c.dev, .v_cache = (void *)(c.dev + c.v_B), .status = (void *)st, .block_stride = c.bs, .token_stride = c.ts, .head_stride = c.hs,
                      .T = T, .q_ld = ld, .k_ld = ld, .v_ld = ld, .q_out_ld = qw, .k_out_ld = kw, .table_rows = ROWS, .kv_blocks = c.blocks};
    launch(k, rope_grid(&r, T), 1, CCC_ROPE_THREADS, 0, &a);
    dev_get(got, dq, T * qw * 2);
    bool ok_q = !memcmp(got, q, T * qw * 2);
    dev_get(got, dk, T * kw * 2);
    bool ok_k = !memcmp(got, ko, T * kw * 2);
    dev_get(got, c.dev, c.mem_B);
    bool ok_c = !memcmp(got, c.mem, c.mem_B);
    u32 s[4];
    dev_get(s, st, 16);
    bool rotates = r.do_q || !r.k_rotated, ok_s = (s[0] == 5 && rotates && (s[1] == 5 || s[1] == 6)) || (s[0] == 2 && r.do_kv && (s[1] == 9 || s[1] == 10));
    verdict(ok_q && ok_k && ok_c && ok_s, name, "q %s, k %s, cache %s, status %u of token %u, bit for bit", ok_q ? "ok" : "WRONG", ok_k ? "ok" : "WRONG", ok_c ? "ok" : "WRONG", s[0], s[1]);
    dev_free(dx); dev_free(dq); dev_free(dk); dev_free(dt); dev_free(dp); dev_free(ds); dev_free(st);
    cache_free(&c);
    free(x); free(q); free(ko); free(got); free(table); free(perm);
}

#include "attn_check_chain.h"
#include "attn_check_small.h"
#ifndef EMULATE
#include "attn_check_time.h"
#endif

/* ---- which cubin is what -------------------------------------------------------------------------------------------------------------------------- */
/* A hook behind the kernel (test/kernels/hooks.c) makes the result e4m3: exactly that of what the kernel without it gives. */
static void compare_quantised(const char *name, const char *what, attn_case *x, void *args, kernel_t plain, kernel_t k, unsigned grid, unsigned threads, int shared)
{
    size_t n = x->out_n * 2;
    u8 *got = malloc(n);
    long wrong = 0, outside = 0, cols = x->c.m.hq * x->c.m.d;
    func_shared(plain, shared);
    func_shared(k, shared);
    dev_fill(x->dout, 0xff, n);
    launch(plain, grid, 1, threads, (unsigned)shared, args);
    dev_get(x->out, x->dout, n);
    dev_fill(x->dout, 0xff, n);
    launch(k, grid, 1, threads, (unsigned)shared, args);
    dev_get(got, x->dout, n);
    for (size_t i = 0; i < n; i++) {
        bool inside = i < x->out_n && (long)(i % (size_t)x->a.out_ld) < cols;
        if (inside) wrong += got[i] != to_e4m3(3 * from_bf16(x->out[i]));
        else outside += got[i] != 0xff;
    }
    verdict(!wrong && !outside, name, "%-16s e4m3 behind it: %ld wrong, %ld written outside", what, wrong, outside);
    free(got);
}
static void check_quantised(const char *dir, const char *name, kernel_t k)
{
    static const int edge[] = {0, 1, 15, 16, 17, 0, 33, 1000, 1, 16}, queries[] = {1, 7, 128, 33, 0, 1, 200, 64, 1, 5}, lens[] = {1000, 7, 128, 500, 50, 0, 777, 64, 1, 3};
    const char *of = strncmp(name + 2, "fp8_", 4) ? name + 2 : name + 6;
    model_t m = {.layout = 3, .block = 16, .fp8 = of != name + 2};
    kernel_t plain = load_kernel(dir, name + 2);
    int b1[] = {1024};
    i64 pos[10], slot[10];
    if (!plain.fn) verdict(false, name, "there is no such kernel without a hook");
    else if (sscanf(of, "attn_%d_%d_%d_%d_%d", &m.layout, &m.block, &m.hq, &m.hkv, &m.d) == 5) {
        attn_case x;
        case_make(&x, m, 10, queries, lens, 10);
        compare_quantised(name, "mixed", &x, &x.a, plain, k, attn_grid(&x), CCC_ATTN_THREADS, m.fp8 ? ccc_attn_fp8_shared_B(m.d) : ccc_attn_shared_B(m.d));
        case_free(&x);
    } else if (sscanf(of, "decode_%d_%d_%d_%d", &m.block, &m.hq, &m.hkv, &m.d) == 4 || sscanf(of, "fused_%d_%d_%d_%d", &m.block, &m.hq, &m.hkv, &m.d) == 4)
        for (int i = 0; i < 2; i++) {
            step_case c;
            int S = i ? 1 : 10;
            m.layout = 3;
            step_make(&c, m, S, i ? b1 : edge, 5000, 0, pos, slot);
            compare_quantised(name, i ? "1024" : "edges", &c.x, *of == 'f' ? (void *)&c.f : (void *)&c.x.a, plain, k, decode_grid(k, m, S), decode_threads(k), decode_shared(k, m));
            step_free(&c);
        }
    else verdict(false, name, "no test for this kernel");
}

static void check_one(const char *dir, const char *name, kernel_t k)
{
    const char *full = name;
    int flags, src, dst, half, fp8 = !strncmp(name, "fp8_", 4);
    model_t m = {.layout = 3, .block = 16, .fp8 = fp8};
    rope_model r = {.m.fp8 = fp8};
    if (fp8) name += 4;
    if (strstr(name, "join_")) return; /* checked behind those that leave it work */
    if (!strncmp(name, "q_", 2)) check_quantised(dir, name, k);
    else if (sscanf(name, "rope_%d_%d_%d_%d_%d_%d_%d", &r.m.layout, &r.m.block, &r.m.hq, &r.m.hkv, &r.m.d, &r.rotary, &flags) == 7) {
        r.do_q = flags / 1000; r.do_k = flags / 100 % 10; r.do_kv = flags / 10 % 10; r.k_rotated = flags % 10 > 0; r.rows_fp8 = flags % 10 == 2;
        check_rope(full, k, r);
    } else if (sscanf(name, "attn_%d_%d_%d_%d_%d", &m.layout, &m.block, &m.hq, &m.hkv, &m.d) == 5) check_attention(full, k, m);
    else if (sscanf(name, "decode_%d_%d_%d_%d", &m.block, &m.hq, &m.hkv, &m.d) == 4) { m.layout = 3; check_decode(full, k, m); }
    else if (sscanf(name, "fused_%d_%d_%d_%d", &m.block, &m.hq, &m.hkv, &m.d) == 4) check_fused(dir, full, k, m);
    else if (sscanf(name, "load_%d_%d_%d", &src, &dst, &half) == 3) check_load(name, k, src, dst, half);
    else if (!strcmp(name, "argmax")) check_argmax(k);
    else if (!strcmp(name, "rope_table")) check_rope_table(k);
    else if (!strcmp(name, "advance")) check_advance(k);
    else if (!strncmp(name, "read", 4)) check_read(name, k);
    else verdict(false, name, "no test for this kernel");
}
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_kernel(const struct dirent *e)
{
    size_t n = strlen(e->d_name), k = strlen(KERNEL_SUFFIX);
    return n > k && !strcmp(e->d_name + n - k, KERNEL_SUFFIX);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : ".carry/attn", *what = argc > 2 ? argv[2] : "all", *only = argc > 3 ? argv[3] : "";
    int part = 0, parts = 1;
    if (argc > 4) sscanf(argv[4], "%d/%d", &part, &parts);
    struct dirent **e;
#ifndef EMULATE
    if (!strcmp(what, "promises")) {
        device_open();
        time_promises(dir);
        return failed > 0;
    }
#endif
    check_sincos();
    device_open();
    int n = scandir(dir, &e, is_kernel, by_name), ran = 0;
    for (int i = part; i < n && strcmp(what, "time"); i += parts) {
        char name[300];
        snprintf(name, sizeof name, "%.*s", (int)(strlen(e[i]->d_name) - strlen(KERNEL_SUFFIX)), e[i]->d_name);
        if (!strstr(name, only)) continue;
        random_state = 12345;
        check_one(dir, name, load_kernel(dir, name));
        ran++;
    }
    kernel_t rope = load_kernel(dir, CHAIN_ROPE), decode = load_kernel(dir, CHAIN_DECODE);
    if (strcmp(what, "time") && !part && rope.fn && decode.fn && strstr("chain", only)) { check_chain(rope, decode, CHAIN_MODEL); ran++; }
    if (strcmp(what, "time")) printf("%s: %d kernels checked, %d failures\n", failed || !ran ? "FAIL" : "PASS", ran, failed);
#ifndef EMULATE
    if (strcmp(what, "check") && !failed) time_all(dir, only);
#endif
    return failed || (strcmp(what, "time") && !ran);
}
