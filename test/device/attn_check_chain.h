/* A decode step from the packed rows of q, k and v: rope_kv and attn_decode behind a programmatic edge against f64 (does attn_decode see the
 * newest row and q?), and attn_decode_rope against these two, bit for bit. Part of attn_check.c. */

typedef struct { attn_case x; attention_rope_args f; rope_kv_args r; rope_model rm; u16 *rows; float *table; dptr rows_at, table_at, pos, slot; } step_case;

/* The reference gets the rotated rows. newest: the bytes that the device's cache has in place of a sequence's newest row, 0xff: NaN, 0: the rows
 * that the reference does not know. pos, slot [S]: filled in */
static void step_make(step_case *c, model_t m, int S, const int *lens, int max_pos, u8 newest, i64 *pos, i64 *slot)
{
    int w = m.hq * m.d, kw = m.hkv * m.d, ld = w + 2 * kw;
    attn_case *x = &c->x;
    const float k_times = m.fp8 ? 0.9f : 1, v_times = m.fp8 ? 1.3f : 1;
    case_make(x, m, S, NULL, lens, 0);
    decode_scratch(x);
    c->rows = malloc(S * ld * 2);
    c->table = rope_rows(max_pos, m.d);
    for (int i = 0; i < S * ld; i++) c->rows[i] = to_bf16(uniform() * 2);
    for (int s = 0; s < S; s++) {
        int t = lens[s] - 1, b = x->c.table[s * x->c.max_blocks + (t < 0 ? 0 : t / m.block)];
        pos[s] = t < 0 ? 0 : t;
        slot[s] = t < 0 ? -1 : (i64)b * m.block + t % m.block;
        for (int h = 0; h < m.hq; h++) rope_row(x->q + (size_t)s * x->a.q_ld + h * m.d, c->rows + s * ld + h * m.d, c->table + pos[s] * m.d, m.d, m.d);
        for (int h = 0; h < m.hkv && t >= 0; h++) {
            u16 kr[256];
            rope_row(kr, c->rows + s * ld + w + h * m.d, c->table + pos[s] * m.d, m.d, m.d);
            for (int d = 0; d < m.d; d++) {
                size_t i = ((x->c.first[s] + t) * m.hkv + h) * m.d + d;
                x->c.k[i] = round_kv(m, from_bf16(kr[d]) * k_times);
                x->c.v[i] = round_kv(m, from_bf16(c->rows[s * ld + w + kw + h * m.d + d]) * v_times);
                for (int v = 0; v < 2 && newest; v++) memset(kv_at(&x->c, b, t % m.block, h, v, d), newest, m.fp8 ? 1 : 2);
            }
        }
    }
    c->rows_at = dev_copy(c->rows, S * ld * 2);
    c->table_at = dev_copy(c->table, (size_t)max_pos * m.d * 4);
    c->pos = dev_copy(pos, S * 8);
    c->slot = dev_copy(slot, S * 8);
    c->rm = (rope_model){m, m.d, 1, 0, 1, 0, 0};
    c->r = (rope_kv_args){.k_times = k_times, .v_times = v_times, .q_out = (void *)x->dq, .q = (void *)c->rows_at, .k = (void *)(c->rows_at + w * 2), .v = (void *)(c->rows_at + (w + kw) * 2), .table = (void *)c->table_at,
                          .positions = (void *)c->pos, .slots = (void *)c->slot, .k_cache = (void *)x->c.dev, .v_cache = (void *)x->c.dev, .status = (void *)x->status,
                          .block_stride = x->c.bs, .token_stride = x->c.ts, .head_stride = x->c.hs, .T = S, .q_ld = ld, .k_ld = ld, .v_ld = ld, .q_out_ld = x->a.q_ld,
                          .table_rows = max_pos, .kv_blocks = x->c.blocks};
    c->f = (attention_rope_args){.a = x->a, .n = {.k_times = k_times, .v_times = v_times, .k = c->r.k, .v = c->r.v, .table = c->r.table, .positions = c->r.positions, .slots = c->r.slots, .k_ld = ld, .v_ld = ld, .table_rows = max_pos}};
    c->f.a.q = c->r.q;
    c->f.a.q_ld = ld;
}
static void step_free(step_case *c)
{
    dev_free(c->rows_at); dev_free(c->table_at); dev_free(c->pos); dev_free(c->slot); dev_free(c->x.part); dev_free(c->x.count);
    case_free(&c->x);
    free(c->rows); free(c->table);
}
/* everything as before a step */
static void step_reset(step_case *c)
{
    attn_case *x = &c->x;
    dev_set(x->c.dev, x->c.mem, x->c.mem_B);
    dev_fill(x->dq, 0xff, (size_t)x->T * x->a.q_ld * 2);
    dev_fill(x->dout, 0xff, x->out_n * 2);
    dev_fill(x->status, 0, 16);
    dev_sync();
}

static void check_chain(kernel_t rope, kernel_t decode, model_t m)
{
    enum { S = 50 };
    int lens[S], shared = decode_shared(decode, m);
    i64 pos[S], slot[S];
    step_case c;
    for (int s = 0; s < S; s++) lens[s] = 1 + rnd() % 200;
    step_make(&c, m, S, lens, 256, 0xff, pos, slot);
    u16 *first = malloc(c.x.out_n * 2);
    step_t steps[] = {{rope, rope_grid(&c.rm, S), 1, CCC_ROPE_THREADS, 0, &c.r}, {decode, decode_grid(decode, m, S), 1, decode_threads(decode), shared, &c.x.a}};
    func_shared(decode, shared);
    void *exec = graph_of(steps, 2, true);
    bool same = true;
    for (int run = 0; run < CHAIN_RUNS; run++) {
        step_reset(&c);
        graph_launch(exec);
        dev_get(run ? c.x.out : first, c.x.dout, c.x.out_n * 2);
        if (run && memcmp(c.x.out, first, c.x.out_n * 2)) same = false;
    }
    error_t_ e = case_compare(&c.x, NULL);
    double rel = sqrt(e.num / (e.den + 1e-30));
    verdict(rel < 6e-3 && same, "rope_kv -> attn_decode", "programmatic edge, %d runs %s, relative %.1e", CHAIN_RUNS, same ? "equal" : "DIFFER", rel);
    graph_free(exec);
    step_free(&c);
    free(first);
}

typedef struct { u16 *out, *cache; u32 status[4]; } step_result;
static step_result step_results(const step_case *c)
{
    step_result r = {malloc(c->x.out_n * 2), malloc(c->x.c.mem_B), {0}};
    dev_get(r.out, c->x.dout, c->x.out_n * 2);
    dev_get(r.cache, c->x.c.dev, c->x.c.mem_B);
    dev_get(r.status, c->x.status, 16);
    return r;
}
/* known: the reference knows the rows; bad: the status that both must report, 0: none */
static void compare_fused(const char *name, const char *what, step_case *c, kernel_t rope, kernel_t decode, kernel_t fused, bool known, u32 bad)
{
    int shared = decode_shared(decode, c->x.c.m);
    bool out = true, cache = true, status = true;
    func_shared(decode, shared);
    func_shared(fused, shared);
    step_reset(c);
    launch(rope, rope_grid(&c->rm, c->x.T), 1, CCC_ROPE_THREADS, 0, &c->r);
    launch(decode, decode_grid(decode, c->x.c.m, c->x.c.S), 1, decode_threads(decode), shared, &c->x.a);
    step_result want = step_results(c);
    memcpy(c->x.out, want.out, c->x.out_n * 2);
    error_t_ e = case_compare(&c->x, NULL);
    double rel = sqrt(e.num / (e.den + 1e-30));
    for (int run = 0; run < RUNS; run++) {
        step_reset(c);
        launch(fused, decode_grid(fused, c->x.c.m, c->x.c.S), 1, decode_threads(fused), shared, &c->f);
        step_result got = step_results(c);
        out = out && !memcmp(got.out, want.out, c->x.out_n * 2);
        cache = cache && !memcmp(got.cache, want.cache, c->x.c.mem_B);
        status = status && got.status[0] == bad && want.status[0] == bad;
        free(got.out); free(got.cache);
    }
    verdict(out && cache && status && (rel < 6e-3 || !known), name, "%-16s result %s, cache %s, status %s, bit for bit; relative %.1e", what, out ? "ok" : "WRONG", cache ? "ok" : "WRONG",
            status ? "ok" : "WRONG", rel);
    free(want.out); free(want.cache);
}
static void check_fused(const char *dir, const char *name, kernel_t fused, model_t m)
{
    static const int edge[] = {0, 1, 15, 16, 17, 0, 33, 1000, 1, 16, 64, 65, 128}, big[] = {5000, 3, 7, 0, 900};
    int one[] = {1}, b1[] = {1024}, mix[64], many[150];
    char label[100];
    kernel_t rope, decode;
    m.layout = 3;
    snprintf(label, sizeof label, "%srope_3_%d_%d_%d_%d_%d_1010", m.fp8 ? "fp8_" : "", m.block, m.hq, m.hkv, m.d, m.d);
    rope = load_kernel(dir, label);
    snprintf(label, sizeof label, "%sdecode%s", m.fp8 ? "fp8_" : "", strchr(m.fp8 ? name + 4 : name, '_')); /* of the same clusters */
    decode = load_kernel(dir, label);
    if (!rope.fn || !decode.fn) {
        verdict(false, name, "there is no rope_kv or attn_decode of its shape to compare with");
        return;
    }
    for (int i = 0; i < 64; i++) mix[i] = 1 + rnd() % 600;
    for (int i = 0; i < 150; i++) many[i] = rnd() % 41;
    even_t even = even_lens(fused, m);
    struct { const char *name; int S; const int *lens; } set[] = {{"edges", 13, edge}, {"1", 1, one}, {"1024", 1, b1}, {"5000 and short", 5, big}, {"64 random", 64, mix}, {"150 short", 150, many},
        {"even", even.many, even.lens}, {"few even", even.few, even.lens}};
    i64 pos[MOST_EVEN], slot[MOST_EVEN];
    step_case c;
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        step_make(&c, m, set[i].S, set[i].lens, 5000, 0xff, pos, slot);
        compare_fused(name, set[i].name, &c, rope, decode, fused, true, 0);
        step_free(&c);
    }
    /* rows that are not written (the cache's own are attended to), and what is outside the cache or the table */
    step_make(&c, m, 64, mix, 5000, 0, pos, slot);
    for (int s = 0; s < 64; s += 3) slot[s] = -1;
    dev_set(c.slot, slot, 64 * 8);
    compare_fused(name, "slot -1", &c, rope, decode, fused, false, 0);
    slot[5] = (i64)c.x.c.blocks * m.block;
    dev_set(c.slot, slot, 64 * 8);
    compare_fused(name, "a bad slot", &c, rope, decode, fused, false, 2);
    slot[5] = -1;
    pos[9] = 5000;
    pos[11] = -4;
    dev_set(c.slot, slot, 64 * 8);
    dev_set(c.pos, pos, 64 * 8);
    compare_fused(name, "bad positions", &c, rope, decode, fused, false, 5);
    step_free(&c);
}
