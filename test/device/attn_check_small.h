/* Tests of the small kernels: argmax, load, rope_table, advance, read. All are compared bit for bit. Part of attn_check.c. */

static int32_t ordered(float f) { int32_t i; memcpy(&i, &f, 4); return i < 0 ? (int32_t)0x80000000 - i : i; }
/* sincos.h against libm's f64, on the CPU: the kernel must give the same bits (check_rope_table) */
static void check_sincos(void)
{
    long n = 0, off = 0, far = 0;
    for (int i = 0; i < 64; i += 3) {
        float f = (float)pow(500000, -i / 64.0);
        for (int p = 0; p < 1 << 17; p += 1 + i % 4) {
            float a = (float)p * f, s, c;
            ccc_sincos(a, &s, &c);
            long x = labs((long)ordered(s) - ordered((float)sin((double)a))), y = labs((long)ordered(c) - ordered((float)cos((double)a)));
            n += 2; off += (x > 0) + (y > 0); far += (x > 1) + (y > 1);
        }
    }
    verdict(far == 0 && off * 1000 < n, "sincos (CPU)", "%ld values, %ld not correctly rounded, %ld off by more than one", n, off, far);
}

static void check_argmax(kernel_t k)
{
    static const int shape[][3] = {{1, 1, 1}, {1, 5, 8}, {3, 4096, 4096}, {2, 4097, 4100}, {64, 49152, 49152}, {2, 8190, 8192}, {5, 128256, 128257}, {1, 262144, 262144}, {7, 1000, 1000}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        int rows = shape[i][0], cols = shape[i][1], ld = shape[i][2], bad = 0;
        size_t n = (size_t)rows * ld;
        float *x = malloc(n * 4);
        int *want = malloc(rows * 4), *got = malloc(rows * 4);
        for (size_t j = 0; j < n; j++) x[j] = roundf(uniform() * 2000) / 8; /* many ties */
        for (int r = 0; r < rows; r++) {
            float *v = x + (size_t)r * ld;
            if (r % 7 == 1) v[rnd() % cols] = NAN;
            if (r % 7 == 2) for (int c = 0; c < cols; c++) v[c] = c % 3 ? -INFINITY : NAN;
            if (r % 7 == 3) for (int c = 0; c < cols; c++) v[c] = c == cols / 2 ? 0.0f : c == cols / 3 ? -0.0f : -1;
            if (r % 7 == 4) for (int c = 0; c < cols; c++) v[c] = NAN;
            if (r % 7 == 5) v[cols - 1] = INFINITY;
            for (int c = cols; c < ld; c++) v[c] = INFINITY;
            int best = 0;
            for (int c = 0; c < cols; c++) if ((v[best] != v[best] && v[c] == v[c]) || v[c] > v[best]) best = c;
            want[r] = best;
        }
        dptr dx = dev_copy(x, n * 4), out = dev_alloc(rows * 4), best = dev_zero(rows * 8), count = dev_zero(rows * 4);
        argmax_args a = {.out = (void *)out, .x = (void *)dx, .best = (void *)best, .count = (void *)count, .rows = rows, .cols = cols, .x_ld = ld};
        for (int run = 0; run < 5; run++) {
            dev_fill(out, 0xff, rows * 4);
            launch(k, (unsigned)ccc_argmax_blocks(rows, cols), rows, CCC_ARGMAX_THREADS, CCC_ARGMAX_SHARED_B, &a);
            dev_get(got, out, rows * 4);
            for (int r = 0; r < rows; r++) bad += got[r] != want[r];
        }
        verdict(!bad, "argmax", "%d rows of %d, 5 runs: %d wrong", rows, cols, bad);
        dev_free(dx); dev_free(out); dev_free(best); dev_free(count);
        free(x); free(want); free(got);
    }
}

static float half_float(u16 h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf(1024 + m, e - 25) : ldexpf(m, -24);
    return h >> 15 ? -v : v;
}
static float source_value(const u8 *p, int src, i64 i, const load_args *a)
{
    u16 h[2];
    float f;
    double d;
    if (src == 0) {
        u64 z = a->seed ^ a->name_hash;
        z += 0x9E3779B97F4A7C15u * (u64)(i + a->row0 * a->cols + 1);
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        return fmaf((float)((int)(z >> 40) - (1 << 23)), a->std, a->mean);
    }
    switch (src) {
    case 1: memcpy(&f, p + i * 4, 4); return f;
    case 2: memcpy(h, p + i * 2, 2); return half_float(h[0]);
    case 3: memcpy(h, p + i * 2, 2); return from_bf16(h[0]);
    case 4: return from_e4m3(p[i]);
    case 5: return half_float((u16)(p[i] << 8));
    case 14: p += i / 32 * 34; memcpy(h, p, 2); return half_float(h[0]) * (float)(signed char)p[2 + i % 32];
    case 15: p += i / 32 * 20; memcpy(h, p, 4); return fmaf((float)(p[4 + i % 16] >> (i % 32 < 16 ? 0 : 4) & 15), half_float(h[0]), half_float(h[1]));
    default: memcpy(&d, p + i * 8, 8); return (float)d;
    }
}
static void check_load(const char *name, kernel_t k, int src, int dst, int half)
{
    bool quant = src == 14 || src == 15;
    i64 rows = half ? 6 * half : 100, row0 = half ? 4 * half : 12, dst0 = 5, cols = quant ? 288 : 1000;
    for (int odd = 0; odd < (quant ? 1 : 2); odd++, cols = 77) {
        size_t src_B = src == 14 ? rows * cols / 32 * 34 : src == 15 ? rows * cols / 32 * 20 : rows * cols * 8, esz = dst == 1 ? 4 : 2, n = (size_t)(dst0 + row0 + rows + 3) * cols;
        u8 *p = malloc(src_B), *got = malloc(n * esz), *want = malloc(n * esz);
        for (size_t i = 0; i < src_B; i++) p[i] = (u8)(rnd() >> 24);
        for (size_t i = 0; i < src_B / 8 && src == 16; i++) { double d = uniform() * 1e3 + uniform() * 1e-7; memcpy(p + 8 * i, &d, 8); }
        memset(want, 0xff, n * esz);
        dptr ds = dev_alloc(src_B + 2), dd = dev_alloc(n * esz);
        dptr at = ds + (quant ? 2 : 0);
        dev_set(at, p, src_B);
        dev_fill(dd, 0xff, n * esz);
        load_args a = {.dst = (void *)dd, .src = (void *)at, .seed = 42, .name_hash = 0x123456789abcdef0u, .row0 = row0, .rows = rows, .cols = cols, .dst_row0 = dst0, .mean = 0.5f, .std = 0.02f / (1 << 23), .scale = 1.0f};
        for (i64 r = 0; r < rows; r++)
            for (i64 c = 0; c < cols; c++) {
                i64 s = row0 + r, to = !half ? s : s / (2 * half) * (2 * half) + s % 2 * half + s % (2 * half) / 2, i = (dst0 + to) * cols + c;
                float v = source_value(p, src, r * cols + c, &a);
                u16 b = to_bf16(v);
                memcpy(want + i * esz, dst == 1 ? (void *)&v : (void *)&b, esz);
            }
        launch(k, 7, 1, CCC_LOAD_THREADS, 0, &a);
        dev_get(got, dd, n * esz);
        long bad = 0;
        for (size_t i = 0; i < n; i++) {
            float x, y;
            if (!memcmp(got + i * esz, want + i * esz, esz)) continue;
            if (dst == 1) { memcpy(&x, got + i * 4, 4); memcpy(&y, want + i * 4, 4); }
            else { x = from_bf16(((u16 *)got)[i]); y = from_bf16(((u16 *)want)[i]); }
            bad += !(x != x && y != y); /* any NaN is as good as another */
        }
        verdict(!bad, name, "%d columns: %ld of %zu wrong", (int)cols, bad, n);
        dev_free(ds); dev_free(dd);
        free(p); free(got); free(want);
    }
}

static void check_rope_table(kernel_t k)
{
    enum { ROWS = 131072, HALF = 64 };
    float freq[HALF], *got = malloc((size_t)ROWS * HALF * 8), scale = 1.25f;
    for (int i = 0; i < HALF; i++) freq[i] = (float)pow(500000, -i / 64.0);
    dptr df = dev_copy(freq, sizeof freq), dd = dev_alloc((size_t)ROWS * HALF * 8);
    rope_table_args a = {.dst = (void *)dd, .inv_freq = (void *)df, .rows = ROWS, .half = HALF, .scale = scale};
    launch(k, (ROWS * HALF + CCC_LOAD_THREADS - 1) / CCC_LOAD_THREADS, 1, CCC_LOAD_THREADS, 0, &a);
    dev_get(got, dd, (size_t)ROWS * HALF * 8);
    long bad = 0;
    for (int p = 0; p < ROWS; p++)
        for (int i = 0; i < HALF; i++) {
            float s, c;
            ccc_sincos((float)p * freq[i], &s, &c);
            bad += got[(size_t)p * 2 * HALF + i] != c * scale || got[(size_t)p * 2 * HALF + HALF + i] != s * scale;
        }
    verdict(!bad, "rope_table", "131072 rows: %ld differ from the CPU", bad);
    dev_free(df); dev_free(dd);
    free(got);
}
static void check_advance(kernel_t k)
{
    enum { S = 300, MB = 6, B = 16, BLOCKS = 50 };
    i64 pos[S], slot[S], p2[S], s2[S];
    int len[S], l2[S], table[S * MB], bad = 0;
    for (int i = 0; i < S * MB; i++) table[i] = rnd() % 20 ? (int)(rnd() % BLOCKS) : BLOCKS + 3;
    for (int s = 0; s < S; s++) { len[s] = s % 5 ? (int)(rnd() % (MB * B + 4)) : 0; pos[s] = len[s] - 1; slot[s] = -5; }
    dptr dp = dev_copy(pos, sizeof pos), dl = dev_copy(len, sizeof len), ds = dev_copy(slot, sizeof slot), dt = dev_copy(table, sizeof table);
    advance_args a = {.positions = (void *)dp, .seq_lens = (void *)dl, .slots = (void *)ds, .table = (void *)dt, .S = S, .max_blocks = MB, .block_size = B, .kv_blocks = BLOCKS};
    launch(k, (S + CCC_ADVANCE_THREADS - 1) / CCC_ADVANCE_THREADS, 1, CCC_ADVANCE_THREADS, 0, &a);
    dev_get(p2, dp, sizeof p2); dev_get(l2, dl, sizeof l2); dev_get(s2, ds, sizeof s2);
    for (int s = 0; s < S; s++) {
        int b = len[s] / B < MB ? table[s * MB + len[s] / B] : -1;
        i64 want = b < 0 || b >= BLOCKS ? -1 : (i64)b * B + len[s] % B;
        bad += len[s] ? p2[s] != pos[s] + 1 || l2[s] != len[s] + 1 || s2[s] != want : p2[s] != pos[s] || l2[s] != 0 || s2[s] != -5;
    }
    verdict(!bad, "advance", "%d sequences, %d wrong", S, bad);
    dev_free(dp); dev_free(dl); dev_free(ds); dev_free(dt);
}
static step_t read_step(const char *name, kernel_t k, read_args *a)
{
    bool bulk = strstr(name, "bulk");
    return (step_t){k, (unsigned)((a->bytes + CCC_READ_B - 1) / CCC_READ_B), 1, bulk ? CCC_READ_BULK_THREADS : CCC_READ_THREADS, bulk ? CCC_READ_BULK_SHARED_B : CCC_READ_SHARED_B, a};
}
static void check_read(const char *name, kernel_t k)
{
    for (size_t bytes = 4; bytes < 1 << 22; bytes = bytes * 5 + 4) {
        u32 *p = malloc(bytes), sum = 0, got;
        for (size_t i = 0; i < bytes / 4; i++) sum += p[i] = rnd();
        dptr d = dev_copy(p, bytes), out = dev_zero(4);
        read_args a = {.out = (void *)out, .src = (void *)d, .bytes = bytes};
        step_t s = read_step(name, k, &a);
        func_shared(k, (int)s.shared);
        launch(k, s.gx, 1, s.threads, s.shared, &a);
        dev_get(&got, out, 4);
        verdict(got == sum, name, "%zu bytes, sum %s", bytes, got == sum ? "right" : "WRONG");
        dev_free(d); dev_free(out);
        free(p);
    }
}
