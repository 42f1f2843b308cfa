/* Times of attention (decode and prefill), rope_kv, argmax and the streaming read. Graphs of several layers, each with its own region of
 * the cache, so that nothing is found in L2; median of 15 replays. Bytes: K and V of every sequence once. "planned": the form
 * that the planner takes for so many sequences of a model so long. Part of attn_check.c. */

static const char *time_only = ""; /* names that contain this */
static dptr pool;
static size_t pool_B;
static double ceiling;
static void fill_bf16(dptr p, size_t n) /* random bf16 in -1..1, from a repeated block */
{
    static u16 block[1 << 20];
    for (size_t i = 0; i < sizeof block / 2; i++) block[i] = to_bf16(uniform());
    for (size_t at = 0; at < n; at += sizeof block) dev_set(p + at, block, n - at < sizeof block ? n - at : sizeof block);
}
static void fill_e4m3(dptr p, size_t n) /* random e4m3 in -2..2 */
{
    static u8 block[1 << 21];
    for (size_t i = 0; i < sizeof block; i++) block[i] = to_e4m3(uniform() * 2);
    for (size_t at = 0; at < n; at += sizeof block) dev_set(p + at, block, n - at < sizeof block ? n - at : sizeof block);
}
static void time_read(const char *dir, const char *name)
{
    kernel_t k = load_kernel(dir, name);
    if (!k.fn) return;
    dptr out = dev_zero(4);
    read_args a = {.out = (void *)out, .src = (void *)pool, .bytes = 4ull << 30};
    step_t s = read_step(name, k, &a);
    func_shared(k, (int)s.shared);
    void *g = graph_of(&s, 1, false);
    double us = graph_time(g, 15);
    double rate = (double)a.bytes / us / 1e3;
    if (rate > ceiling) ceiling = rate;
    printf("%s 4 GiB: %.0f us, %.0f GB/s\n", name, us, rate);
    graph_free(g);
    dev_free(out);
}
/* The pool, random bf16, and the read ceiling. */
static void time_begin(const char *dir)
{
    pool_B = 9ull << 30;
    pool = dev_alloc(pool_B);
    fill_bf16(pool, pool_B);
    time_read(dir, "read");
    time_read(dir, "read_bulk");
}
/* Layers of one attention, over at least 256 MB of cache; prints the time of one with both kinds of edges. fused: attn_decode_rope */
static void time_layers(const char *label, kernel_t k, model_t m, int S, const int *lens, const int *qlens, bool decode, bool fused)
{
    int T = 0, used = 0, mb = 1, *qs = malloc((S + 1) * 4), g = m.hq / m.hkv;
    double bytes = 0, flop = 0;
    for (int s = 0; s < S; s++) {
        int n = (lens[s] + m.block - 1) / m.block, q = qlens ? qlens[s] : 1;
        qs[s] = T;
        T += q;
        used += n;
        if (n > mb) mb = n;
        bytes += 2.0 * lens[s] * m.hkv * kv_row_B(m);
        flop += 4.0 * m.hq * m.d * (q * (double)(lens[s] - q) + q * (q + 1.0) / 2);
    }
    qs[S] = T;
    int row = kv_row_B(m);
    i64 hs = m.layout == 3 ? m.block * row * 2 : row, ts = m.hkv * row, bs = (i64)m.block * m.hkv * row * (m.layout == 3 ? 2 : 1), v_B = m.layout == 3 ? 0 : (i64)used * bs;
    size_t region = (size_t)m.block * m.hkv * row * 2 * used, qn = (size_t)T * m.hq * m.d;
    int layers = (int)(pool_B / region), *table = malloc((size_t)S * mb * 4), *perm = permutation(used), next = 0, shared = decode ? decode_shared(k, m) : m.fp8 ? ccc_attn_fp8_shared_B(m.d) : ccc_attn_shared_B(m.d);
    if (layers > 8 + (int)((256u << 20) / region)) layers = 8 + (int)((256u << 20) / region);
    for (int s = 0; s < S; s++) for (int i = 0; i < mb; i++) table[s * mb + i] = i * m.block < lens[s] ? perm[next++] : 0;
    dptr dt = dev_copy(table, (size_t)S * mb * 4), dl = dev_copy(lens, S * 4), dqs = dev_copy(qs, (S + 1) * 4), dq = dev_alloc(qn * 2), dout = dev_alloc(qn * 2), st = dev_zero(16);
    dptr part = dev_alloc((size_t)ccc_decode_scratch_B(g, m.d) * MOST_BLOCKS), count = dev_zero(CCC_DECODE_COUNT_B * MOST_BLOCKS);
    fill_bf16(dq, qn * 2);
    i64 *pos = malloc(S * 8), *slot = malloc(S * 8);
    for (int s = 0; s < S; s++) {
        pos[s] = lens[s] - 1;
        slot[s] = (i64)table[s * mb + (lens[s] - 1) / m.block] * m.block + (lens[s] - 1) % m.block;
    }
    dptr dp = dev_copy(pos, S * 8), ds = dev_copy(slot, S * 8);
    attention_rope_args *a = calloc(layers, sizeof *a);
    step_t *step = calloc(layers, sizeof *step);
    for (int i = 0; i < layers; i++) {
        dptr base = pool + i * region;
        a[i].a = (attention_args){.out = (void *)dout, .q = (void *)dq, .k_cache = (void *)base, .v_cache = (void *)(base + v_B), .table = (void *)dt, .seq_lens = (void *)dl, .query_start = (void *)dqs,
                                .part = (void *)part, .count = (void *)count, .status = (void *)st, .block_stride = bs, .token_stride = ts, .head_stride = hs, .S = S, .T = T, .max_blocks = mb,
                                .q_ld = m.hq * m.d, .out_ld = m.hq * m.d, .kv_blocks = used, .scale = 1 / sqrtf(m.d), .v_scale = 1};
        if (fused) /* rows and table: any numbers */
            a[i].n = (newest_args){.k_times = 1, .v_times = 1, .k = a[i].a.q, .v = a[i].a.q, .table = (void *)pool, .positions = (void *)dp, .slots = (void *)ds, .k_ld = m.hq * m.d, .v_ld = m.hq * m.d, .table_rows = 1 << 20};
        unsigned grid = decode ? decode_grid(k, m, S) : (unsigned)((T * g + CCC_ATTN_ROWS - 1) / CCC_ATTN_ROWS + S) * (unsigned)m.hkv;
        step[i] = (step_t){k, grid, 1, decode ? decode_threads(k) : CCC_ATTN_THREADS, (unsigned)shared, &a[i]};
    }
    func_shared(k, shared);
    printf("%-44s", label);
    for (int pdl = 0; pdl < 2; pdl++) {
        void *x = graph_of(step, layers, pdl);
        double us = graph_time(x, 15) / layers;
        if (qlens) printf("  %s edges %9.2f us %5.0f TFLOP/s", pdl ? "programmatic" : "full", us, flop / us / 1e6);
        else printf("  %s edges %9.2f us %5.0f GB/s (%3.0f %%)", pdl ? "programmatic" : "full", us, bytes / us / 1e3, 100 * bytes / us / 1e3 / ceiling);
        graph_free(x);
    }
    printf("\n");
    fflush(stdout);
    dev_free(dp); dev_free(ds); dev_free(dt); dev_free(dl); dev_free(dqs); dev_free(dq); dev_free(dout); dev_free(st); dev_free(part); dev_free(count);
    free(qs); free(table); free(perm); free(a); free(step); free(pos); free(slot);
}
static void time_decode(const char *dir, const char *name, model_t m, bool decode)
{
    static const struct { int S, len; } shape[] = {{1, 128}, {1, 1024}, {1, 2048}, {1, 4096}, {1, 8192}, {1, 16384}, {1, 32768}, {1, 131072}, {2, 1024}, {8, 1024}, {64, 1024}, {64, 4096}, {256, 128}, {256, 1024}};
    kernel_t k = load_kernel(dir, name);
    int lens[256];
    bool fused = strstr(name, "fused") != NULL;
    char label[200];
    if (!k.fn || !strstr(name, time_only)) return;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        for (int s = 0; s < shape[i].S; s++) lens[s] = shape[i].len;
        snprintf(label, sizeof label, "%s %d x %d", name, shape[i].S, shape[i].len);
        time_layers(label, k, m, shape[i].S, lens, NULL, decode, fused);
    }
    random_state = 1;
    for (int s = 0; s < 64; s++) lens[s] = 1 + rnd() % 8192;
    snprintf(label, sizeof label, "%s 64 of 1..8192", name);
    time_layers(label, k, m, 64, lens, NULL, decode, fused);
    for (int s = 0; s < 64; s++) lens[s] = s ? 256 : 65536;
    snprintf(label, sizeof label, "%s one of 65536, 63 of 256", name);
    time_layers(label, k, m, 64, lens, NULL, decode, fused);
}
/* ---- what has a bound, and what torch is timed with (test/bench/torch_prefill.py): the form that is planned, and plain blocks */
typedef struct { int hkv, fp8, S, len; /* len 0: any from 1 to 8192 */ } promise_t;
static void time_promise(const char *dir, const promise_t *p)
{
    model_t m = {3, 16, 32, p->hkv, 128, p->fp8};
    int lens[256], longest = 0;
    random_state = 1;
    for (int s = 0; s < p->S; s++) {
        lens[s] = p->len ? p->len : 1 + (int)(rnd() % 8192);
        if (lens[s] > longest) longest = lens[s];
    }
    ccc_decode_form f = ccc_decode_choose(p->S, (longest + CCC_PAGE - 1) / CCC_PAGE, m.hq / m.hkv, m.hkv, m.d, n_sm);
    for (int planned = f.cluster == 1 && !f.joined; planned < 2; planned++) {
        char form[30] = "", shape[40], name[100], label[200];
        if (planned && (f.cluster > 1 || f.warps < CCC_DECODE_WARPS)) snprintf(form, sizeof form, "_c%dw%d", f.cluster, f.warps);
        if (planned && f.joined) strcat(form, "_joined");
        snprintf(shape, sizeof shape, p->len ? "%d x %d" : "%d of 1..8192", p->S, p->len);
        snprintf(name, sizeof name, "%sdecode_16_32_%d_128%s", p->fp8 ? "fp8_" : "", p->hkv, form);
        snprintf(label, sizeof label, "%s %s%s", name, shape, planned ? ", planned" : "");
        kernel_t k = load_kernel(dir, name);
        if (!k.fn) verdict(false, name, "no such sample");
        else time_layers(label, k, m, p->S, lens, NULL, true, false);
    }
}
static void time_promises(const char *dir)
{
    static const promise_t bf16[] = {{8, 0, 1, 1024}, {8, 0, 1, 4096}, {8, 0, 1, 131072}, {8, 0, 64, 1024}, {8, 0, 64, 4096}, {8, 0, 64, 0}, {8, 0, 256, 1024}, {2, 0, 1, 131072}}, fp8 = {8, 1, 64, 4096};
    time_begin(dir);
    for (size_t i = 0; i < sizeof bf16 / sizeof *bf16; i++) time_promise(dir, &bf16[i]);
    kernel_t prefill = load_kernel(dir, "attn_3_16_32_8_128");
    for (int n = 512; prefill.fn && n <= 8192; n *= 2) {
        char label[100];
        snprintf(label, sizeof label, "attn_3_16_32_8_128 prefill of %d, planned", n);
        time_layers(label, prefill, (model_t){3, 16, 32, 8, 128, 0}, 1, &n, &n, false, false);
    }
    fill_e4m3(pool, pool_B);
    time_promise(dir, &fp8);
    dev_free(pool);
}

static void time_prefill(const char *dir, const char *name, model_t m)
{
    kernel_t k = load_kernel(dir, name);
    char label[100];
    if (!k.fn || !strstr(name, time_only)) return;
    for (int n = 512; n <= 16384; n *= 2) {
        snprintf(label, sizeof label, "%s prefill of %d", name, n);
        time_layers(label, k, m, 1, &n, &n, false, false);
    }
    int lens[64], q[64];
    for (int s = 0; s < 64; s++) { q[s] = s ? 1 : 1985; lens[s] = s ? 1024 : 1985; }
    snprintf(label, sizeof label, "%s 1985 + 63 decode of 1024", name);
    time_layers(label, k, m, 64, lens, q, false, false);
}
static void time_small(const char *dir)
{
    kernel_t k = load_kernel(dir, "argmax"), r = load_kernel(dir, "rope_3_16_32_8_128_128_1010");
    dptr small = dev_zero(1 << 20), st = dev_zero(16);
    for (int rows = 1; k.fn && rows <= 256; rows *= 8) {
        argmax_args a = {.out = (void *)small, .x = (void *)pool, .best = (void *)(small + 4096), .count = (void *)(small + 16384), .rows = rows, .cols = 128256, .x_ld = 128256};
        step_t s[16];
        for (int i = 0; i < 16; i++) s[i] = (step_t){k, (unsigned)ccc_argmax_blocks(rows, 128256), (unsigned)rows, CCC_ARGMAX_THREADS, CCC_ARGMAX_SHARED_B, &a};
        void *x = graph_of(s, 16, true);
        printf("argmax %3d x 128256: %.2f us\n", rows, graph_time(x, 15) / 16);
        graph_free(x);
        dev_fill(small, 0, 1 << 20);
    }
    for (int T = 1; r.fn && T <= 4096; T *= 8) {
        rope_model m = {{3, 16, 32, 8, 128, 0}, 128, 1, 0, 1, 0, 0};
        i64 *pos = malloc(T * 8);
        for (int t = 0; t < T; t++) pos[t] = t;
        dptr dp = dev_copy(pos, T * 8);
        rope_kv_args a = {.q_out = (void *)(pool + (1u << 30)), .q = (void *)pool, .k = (void *)(pool + 8192), .v = (void *)(pool + 10240), .table = (void *)(pool + (1u << 29)), .positions = (void *)dp, .slots = (void *)dp,
                          .k_cache = (void *)(pool + (2ull << 30)), .v_cache = (void *)(pool + (2ull << 30)), .status = (void *)st, .block_stride = 65536, .head_stride = 8192, .T = T, .q_ld = 6144, .k_ld = 6144, .v_ld = 6144,
                          .q_out_ld = 4096, .table_rows = 4096, .kv_blocks = 4096};
        step_t s[16];
        for (int i = 0; i < 16; i++) s[i] = (step_t){r, rope_grid(&m, T), 1, CCC_ROPE_THREADS, 0, &a};
        void *x = graph_of(s, 16, true);
        printf("rope_kv %4d tokens, 32/8 heads of 128: %.2f us\n", T, graph_time(x, 15) / 16);
        graph_free(x);
        dev_free(dp);
        free(pos);
    }
    dev_free(small); dev_free(st);
}
static void time_all(const char *dir, const char *only)
{
    time_only = only;
    time_begin(dir);
    static const struct { const char *of; model_t m; } models[] = {{"16_32_8_128", {3, 16, 32, 8, 128, 0}}, {"16_32_8_64", {3, 16, 32, 8, 64, 0}}, {"32_9_3_64", {3, 32, 9, 3, 64, 0}}};
    static const char *const names[] = {"decode_%s", "decode_%s_c8w8", "fused_%s", "fused_%s_c8w8", "fused_%s_c8w4"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
            char name[100];
            snprintf(name, sizeof name, names[j], models[i].of);
            time_decode(dir, name, models[i].m, true);
        }
    time_prefill(dir, "attn_3_16_32_8_128", (model_t){3, 16, 32, 8, 128, 0});
    time_prefill(dir, "attn_1_16_32_8_128", (model_t){1, 16, 32, 8, 128, 0});
    time_prefill(dir, "attn_3_16_32_8_64", (model_t){3, 16, 32, 8, 64, 0});
    time_decode(dir, "attn_1_16_32_8_128", (model_t){1, 16, 32, 8, 128, 0}, false);
    if (!*only) time_small(dir);
    fill_e4m3(pool, pool_B);
    for (size_t j = 0; j < sizeof names / sizeof *names; j++)
        for (int d = 128; d >= 64; d -= 64) {
            char name[100], of[100];
            snprintf(of, sizeof of, "fp8_%s", names[j]);
            snprintf(name, sizeof name, of, d == 128 ? "16_32_8_128" : "16_32_8_64");
            time_decode(dir, name, (model_t){3, 16, 32, 8, d, 1}, true);
        }
    time_decode(dir, "fp8_decode_64_32_8_128", (model_t){3, 64, 32, 8, 128, 1}, true);
    time_prefill(dir, "fp8_attn_3_16_32_8_128", (model_t){3, 16, 32, 8, 128, 1});
    dev_free(pool);
}
