/* Runs the sample kernels that test/kernels/build.sh made, on a GPU: every case on random data against sums in f64 on the CPU, with
 * poisoned outputs and NaN in everything that must not be read; then times matvec and gemm in chains of programmatic launches.
 *   kernels_check [check|time|tune]...      default: check time. The cubins and `list` lie beside the program.
 * Needs libcuda.so.1 and nothing else. One line a sample, PASS or FAIL; exit status 1 when one fails. */
#include "../../compiler/kernels/abi.h"
#include "../../compiler/kernels/geometry.h"
#include <cuda.h>
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCS(X)                                                                                                          \
    X(cuInit) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent)     \
    X(cuGetErrorString) X(cuModuleLoad) X(cuModuleUnload) X(cuModuleGetFunction) X(cuFuncSetAttribute) X(cuMemAlloc_v2)    \
    X(cuMemFree_v2) X(cuMemcpyDtoH_v2) X(cuMemcpyHtoD_v2) X(cuMemcpyDtoD_v2) X(cuMemsetD8_v2) X(cuTensorMapEncodeTiled)    \
    X(cuLaunchKernelEx) X(cuCtxSynchronize) X(cuStreamCreate) X(cuEventCreate) X(cuEventRecord) X(cuEventSynchronize)      \
    X(cuEventElapsedTime_v2) X(cuGraphCreate) X(cuGraphDestroy) X(cuGraphExecDestroy) X(cuGraphAddKernelNode_v2)              \
    X(cuGraphKernelNodeSetAttribute) X(cuGraphAddDependencies_v2) X(cuGraphInstantiateWithFlags) X(cuGraphUpload) X(cuGraphLaunch)
#define X(f) static __typeof__(f) *p_##f;
FUNCS(X)
#undef X
#define CK(x) ck((x), #x, __LINE__)
static void ck(CUresult r, const char *what, int line)
{
    const char *s = "?";
    if (!r) return;
    p_cuGetErrorString(r, &s);
    printf("FAIL line %d: %s: %s\n", line, what, s);
    exit(1);
}

enum { LD = 8192, MAX_T = 4096 };
typedef struct { char name[80], src[16], specs[128]; int set, width, threads; CUmodule m; CUfunction f; } sample;
static sample list[512];
static int n_list, n_sm, failed, small;
static char dir[4000];

static int spec(const sample *s, const char *name)
{
    char key[32];
    snprintf(key, sizeof key, " %s=", name);
    char all[140];
    snprintf(all, sizeof all, " %s", s->specs);
    const char *p = strstr(all, key);
    return p ? atoi(p + strlen(key)) : 0;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------------------- */
static uint64_t rnd_state = 88172645463325252ull;
static uint64_t rnd(void) { rnd_state ^= rnd_state << 13; rnd_state ^= rnd_state >> 7; return rnd_state ^= rnd_state << 17; }
static float f_of(uint16_t h) { uint32_t u = (uint32_t)h << 16; float f; memcpy(&f, &u, 4); return f; }
static uint16_t h_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if (f != f) return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static double cast(double v) { return f_of(h_of((float)v)); }
static double silu(double x) { return x / (1 + exp(-x)); }
static uint16_t *random_bf16(size_t n, size_t valid, size_t ld) /* rows of ld with `valid` numbers in [-1, 1), NaN behind them */
{
    uint16_t *h = malloc(n * 2);
    for (size_t i = 0; i < n; i++) h[i] = i % ld < valid ? h_of((float)(int64_t)(rnd() >> 40) / 8388608.0f - 1.0f) : 0x7fff;
    return h;
}
/* e4m3: its bits, where f32 has exponent and mantissa, are the number times 2^-120. Nearest even, saturating */
static uint8_t e_of(float v)
{
    uint32_t u, b;
    volatile float a = fabsf(v), big;
    if (v != v) return 0x7f;
    memcpy(&u, (float *)&a, 4);
    b = ((u >> 23 > 121 ? u >> 23 : 121) + 20) << 23;
    if (a < 448) {
        memcpy((float *)&big, &b, 4);
        a = a + big;
        a = a - big;
    } else {
        a = 448;
    }
    a = a * 0x1p-120f;
    memcpy(&u, (float *)&a, 4);
    return (uint8_t)(u >> 20 | (signbit(v) ? 0x80 : 0));
}
static float of_e(uint8_t c)
{
    uint32_t u = (c & 0x7fu) << 20;
    float f;
    memcpy(&f, &u, 4);
    f *= 0x1p120f;
    return (c & 0x7f) == 0x7f ? NAN : c & 0x80 ? -f : f;
}
static uint8_t *random_e4m3(size_t n, size_t valid, size_t ld)
{
    uint8_t *e = malloc(n);
    for (size_t i = 0; i < n; i++) e[i] = i % ld < valid ? e_of((float)(int64_t)(rnd() >> 40) / 8388608.0f - 1.0f) : 0x7f;
    return e;
}
static int is_fp8(const sample *s) { return strchr(s->name, '_')[-1] == '8'; } /* matvec8_.., gemm8_.., gemmt8_.. */
static CUdeviceptr to_gpu(const void *p, size_t n)
{
    CUdeviceptr d;
    CK(p_cuMemAlloc_v2(&d, n ? n : 1));
    if (p) CK(p_cuMemcpyHtoD_v2(d, p, n));
    return d;
}
static CUdeviceptr poison(size_t n)
{
    CUdeviceptr d = to_gpu(NULL, n);
    CK(p_cuMemsetD8_v2(d, 0xff, n));
    return d;
}

/* ---- launching ------------------------------------------------------------------------------------------------------------------ */
typedef struct { unsigned grid, cluster, shared; union { gather_args gather; rows_args rows; elt_args elt; matvec_args matvec; gemm_args gemm; } a; } launch;
static CUfunction function(sample *s, unsigned shared)
{
    if (!s->f) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s.cubin", dir, s->name);
        CK(p_cuModuleLoad(&s->m, path));
        CK(p_cuModuleGetFunction(&s->f, s->m, "ccc_kernel"));
    }
    CK(p_cuFuncSetAttribute(s->f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared));
    return s->f;
}
static void run(sample *s, launch *l)
{
    CUlaunchAttribute at = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, .value.clusterDim = {l->cluster, 1, 1}};
    CUlaunchConfig c = {.gridDimX = l->grid, .gridDimY = 1, .gridDimZ = 1, .blockDimX = (unsigned)s->threads, .blockDimY = 1, .blockDimZ = 1,
                        .sharedMemBytes = l->shared, .attrs = &at, .numAttrs = l->cluster > 1};
    void *p[1] = {&l->a};
    CK(p_cuLaunchKernelEx(&c, function(s, l->shared), p, NULL));
    CK(p_cuCtxSynchronize());
}
static tmap_t encode(int fp8, CUdeviceptr p, uint64_t rows, uint64_t cols, uint64_t ld, unsigned box_rows)
{
    CUtensorMap m __attribute__((aligned(64)));
    tmap_t t;
    unsigned box[2] = {fp8 ? 128 : 64, box_rows}, step[2] = {1, 1};
    cuuint64_t dim[2] = {cols, rows}, pitch[1] = {fp8 ? ld : ld * 2};
    CK(p_cuTensorMapEncodeTiled(&m, fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)p, dim, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
    memcpy(&t, &m, sizeof t);
    return t;
}

/* ---- results ---------------------------------------------------------------------------------------------------------------------- */
typedef struct { double err, ref, worst; long n, bad; char first[160]; } score;
static void expect(score *s, double got, double want, double scale, const char *where, long i, long j)
{
    double e = fabs(got - want);
    s->err += e * e; s->ref += want * want; s->n++;
    if (e > s->worst) s->worst = e;
    if (!(e <= 0.03 * fabs(want) + 0.03 * scale) && !s->bad++) snprintf(s->first, sizeof s->first, "%s[%ld][%ld] is %g, not %g", where, i, j, got, want);
}
static void report(const sample *s, const score *r, double bound)
{
    double rel = sqrt(r->err / (r->ref > 0 ? r->ref : 1));
    int ok = !r->bad && rel <= bound && r->n;
    printf("%s %-32s %8ld values, relative error %.2e (bound %.0e), largest %.3g%s%s\n", ok ? "PASS" : "FAIL", s->name, r->n, rel, bound, r->worst, r->bad ? ": " : "", r->bad ? r->first : "");
    failed += !ok;
}
typedef struct { void *host; CUdeviceptr dev; size_t rows, ld; int f32; } out_buf; /* f32: 0 bf16, 1 f32, 2 e4m3 */
static size_t out_size(int f32) { return f32 == 1 ? 4 : f32 == 2 ? 1 : 2; }
static out_buf out_new(size_t rows, size_t ld, int f32) { return (out_buf){NULL, poison(rows * ld * out_size(f32)), rows, ld, f32}; }
static double out_at(const out_buf *o, size_t r, size_t c)
{
    if (o->f32 == 2) return (double)of_e(((uint8_t *)o->host)[r * o->ld + c]);
    return o->f32 ? (double)((float *)o->host)[r * o->ld + c] : (double)f_of(((uint16_t *)o->host)[r * o->ld + c]);
}
static void out_get(out_buf *o, size_t T, size_t N, score *s, const char *what) /* written inside [T, N], untouched outside */
{
    size_t n = o->rows * o->ld, size = out_size(o->f32);
    o->host = malloc(n * size);
    CK(p_cuMemcpyDtoH_v2(o->host, o->dev, n * size));
    for (size_t i = 0; i < n; i++) {
        int untouched = o->f32 == 2 ? ((uint8_t *)o->host)[i] == 0xff : o->f32 ? ((uint32_t *)o->host)[i] == 0xffffffffu : ((uint16_t *)o->host)[i] == 0xffff;
        int outside = i / o->ld >= T || i % o->ld >= N;
        if (untouched != outside && !s->bad++)
            snprintf(s->first, sizeof s->first, "%s[%zu][%zu] of [%zu][%zu] is %s", what, i / o->ld, i % o->ld, T, N, outside ? "written" : "not written");
    }
}
static void out_free(out_buf *o) { free(o->host); CK(p_cuMemFree_v2(o->dev)); }

/* ---- gather, rows, elt -------------------------------------------------------------------------------------------------------------- */
static void check_gather(sample *s)
{
    enum { N = 37, ROWS = 1000 };
    score sc = {0};
    for (int c = 0; c < 2; c++)
        for (int alt = 0; alt < 2; alt++) {
            size_t cols = c ? 577 : 4096;
            uint16_t *table = random_bf16(ROWS * cols, cols, cols), *own = random_bf16(N * cols, cols, cols);
            int ids[N];
            for (int i = 0; i < N; i++) ids[i] = (int)(rnd() % ROWS);
            ids[20] = -5;
            uint32_t status[4];
            CUdeviceptr t = to_gpu(table, ROWS * cols * 2), o = to_gpu(own, N * cols * 2), d = to_gpu(ids, sizeof ids), st = to_gpu(NULL, 16);
            CK(p_cuMemsetD8_v2(st, 0, 16));
            out_buf y = out_new(N + 1, cols, 0);
            launch l = {N, 1, 0, {.gather = {(u16 *)y.dev, (u16 *)t, (i32 *)d, alt ? (u16 *)o : NULL, (u32 *)st, N, (i32)cols, ROWS, 77}}};
            run(s, &l);
            out_get(&y, N, cols, &sc, "out");
            for (size_t i = 0; i < N; i++)
                for (size_t j = 0; j < cols; j++)
                    expect(&sc, out_at(&y, i, j), f_of(alt ? own[i * cols + j] : table[(size_t)(ids[i] < 0 ? 0 : ids[i]) * cols + j]), 0, "out", (long)i, (long)j);
            CK(p_cuMemcpyDtoH_v2(status, st, 16));
            int right = alt ? !status[0] : status[0] == 77 && status[1] == 20 && status[2] == (uint32_t)-5;
            if (!right && !sc.bad++) snprintf(sc.first, sizeof sc.first, "status is %u %u %u", status[0], status[1], status[2]);
            out_free(&y);
            CK(p_cuMemFree_v2(t)); CK(p_cuMemFree_v2(o)); CK(p_cuMemFree_v2(d)); CK(p_cuMemFree_v2(st));
            free(table); free(own);
        }
    report(s, &sc, 0);
}

static float row_squares(const float *v, int n) /* the order of rowsum.h */
{
    float lane[512] = {0};
    for (int k = 0; k < n; k++) lane[k / 8 % 512] = fmaf(v[k], v[k], lane[k / 8 % 512]);
    for (int d = 256; d; d >>= 1)
        for (int i = 0; i < d; i++) lane[i] += lane[i + d];
    return lane[0];
}
/* v = in(x), result out(norm(v)), as the kernels do it in f32; exact */
static void norm_ref(float *y, const uint16_t *x, const uint16_t *aux0_row, const uint16_t *w, int n, float eps, int set)
{
    for (int k = 0; k < n; k++) y[k] = set ? (float)cast(f_of(x[k]) + f_of(aux0_row[k])) : f_of(x[k]);
    volatile float mean = row_squares(y, n) / (float)n, root = sqrtf(mean + eps), scale = 1.0f / root;
    for (int k = 0; k < n; k++) {
        volatile float v = y[k] * scale;
        y[k] = set ? (float)cast((float)cast(v) * f_of(w[k])) : v;
    }
}

static void check_rows(sample *s)
{
    int nt = spec(s, "NT"), cols = spec(s, "COLS"), f32 = spec(s, "OUT_F32"), rows = 5;
    size_t ld = (size_t)cols + 8;
    if (s->set && cols > LD) { printf("skip %s: columns beyond the aux rows\n", s->name); return; }
    score sc = {0};
    uint16_t *x = random_bf16((size_t)rows * ld, (size_t)cols, ld), *aux0 = random_bf16((size_t)rows * LD, LD, LD), *w = random_bf16(LD, LD, LD);
    CUdeviceptr dx = to_gpu(x, (size_t)rows * ld * 2), d0 = to_gpu(aux0, (size_t)rows * LD * 2), dw = to_gpu(w, LD * 2);
    out_buf y = out_new((size_t)rows + 1, ld, f32);
    launch l = {(unsigned)rows, 1, (unsigned)ccc_rows_shared_B(nt), {.rows = {(void *)y.dev, (u16 *)dx, rows, cols, (i32)ld, (i32)ld, 1e-5f, 0, {{(void *)d0, (void *)dw}}}}};
    run(s, &l);
    out_get(&y, (size_t)rows, (size_t)cols, &sc, "out");
    float *want = malloc((size_t)cols * 4);
    for (int r = 0; r < rows; r++) {
        norm_ref(want, x + (size_t)r * ld, aux0 + (size_t)r * LD, w, cols, 1e-5f, s->set);
        for (int c = 0; c < cols; c++) expect(&sc, out_at(&y, (size_t)r, (size_t)c), f32 == 2 ? of_e(e_of(want[c])) : f32 ? want[c] : cast(want[c]), 0, "out", r, c);
    }
    report(s, &sc, 0); /* bit for bit: IEEE arithmetic in one order */
    out_free(&y);
    CK(p_cuMemFree_v2(dx)); CK(p_cuMemFree_v2(d0)); CK(p_cuMemFree_v2(dw));
    free(x); free(aux0); free(w); free(want);
}

static void check_elt(sample *s)
{
    int f32 = spec(s, "OUT_F32"), rows = 7, cols = s->width == 8 ? 1736 : 1001;
    size_t ld = s->width == 8 ? (size_t)cols + 8 : (size_t)cols + 3;
    score sc = {0};
    uint16_t *a0 = random_bf16((size_t)rows * LD, (size_t)cols, LD), *a1 = random_bf16((size_t)rows * LD, (size_t)cols, LD);
    CUdeviceptr d0 = to_gpu(a0, (size_t)rows * LD * 2), d1 = to_gpu(a1, (size_t)rows * LD * 2);
    for (unsigned grid = 1; grid <= 64; grid *= 8) {
        out_buf y = out_new((size_t)rows + 1, ld, f32);
        launch l = {grid, 1, 0, {.elt = {(void *)y.dev, rows, cols, (i32)ld, 0, {{(void *)d0, (void *)d1}}}}};
        run(s, &l);
        out_get(&y, (size_t)rows, (size_t)cols, &sc, "out");
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < cols; c++) {
                double p = f_of(a0[r * LD + c]), q = f_of(a1[r * LD + c]);
                expect(&sc, out_at(&y, (size_t)r, (size_t)c), s->set ? cast(silu(p) * q) : f32 ? p + q : cast(p + q), 0.01, "out", r, c);
            }
        out_free(&y);
    }
    report(s, &sc, 1e-3);
    CK(p_cuMemFree_v2(d0)); CK(p_cuMemFree_v2(d1));
    free(a0); free(a1);
}

/* ---- matvec and gemm: one problem, two ways to launch it -------------------------------------------------------------------------------- */
typedef struct { int T, N, K, x_ld, y_ld, pair, norm; CUdeviceptr x, w, y; aux_t aux; } problem;
static ccc_matvec_shape matvec_shape(const sample *s) { return (ccc_matvec_shape){spec(s, "ROWS"), spec(s, "LOADS"), spec(s, "WARPS"), spec(s, "SPLIT"), spec(s, "TURNS")}; }
static launch matvec_launch(const sample *s, const problem *p)
{
    ccc_matvec_shape sh = matvec_shape(s);
    int cols = ccc_matvec_cols(sh);
    return (launch){(unsigned)((p->N + cols - 1) / cols), 1, (unsigned)ccc_matvec_shared_B(is_fp8(s) ? p->K / 2 : p->K, spec(s, "TOK"), p->norm, spec(s, "BULK"), p->pair, sh),
                    {.matvec = {(void *)p->y, (u16 *)p->w, (u16 *)p->x, p->T, p->N, p->K, p->x_ld, p->y_ld, 1e-5f, p->aux}}};
}
static ccc_gemm_tile gemm_tile(const sample *s) /* gemm_BN_PAIR_.., gemmt_BN_PAIR_.. */
{
    ccc_gemm_tile t = {.swap = !strncmp(s->name, "gemmt", 5), .split = 1, .blocks = 1};
    sscanf(strchr(s->name, '_'), "_%d_%d", &t.bn, &t.pair);
    t.cols = t.bn / (t.pair + 1);
    if (t.swap) t.cols = spec(s, "COLS"), t.split = spec(s, "SPLIT"), t.blocks = spec(s, "BLOCKS");
    t.stages = ccc_gemm_stages(t, 1);
    return t;
}
static launch gemm_launch(const sample *s, const problem *p)
{
    ccc_gemm_tile t = gemm_tile(s);
    int tok = ccc_gemm_tokens(t), nt = (p->T + tok - 1) / tok, no = (p->N + t.cols - 1) / t.cols, units = nt * no, fp8 = is_fp8(s), block = fp8 ? CCC_GEMM_K_FP8 : CCC_GEMM_K;
    launch l = {(unsigned)(t.split > 1 ? units * t.split : units < n_sm ? units : n_sm), (unsigned)t.split, (unsigned)ccc_gemm_shared_B(t), {.gather = {0}}};
    l.a.gemm = (gemm_args){.x = encode(fp8, p->x, (uint64_t)p->T + 2, (uint64_t)p->K, (uint64_t)p->x_ld, (unsigned)tok),
                           .w = encode(fp8, p->w, (uint64_t)p->N * (uint64_t)(p->pair + 1), (uint64_t)p->K, (uint64_t)p->K, (unsigned)t.cols),
                           .y = (void *)p->y, .T = p->T, .N = p->N, .K = p->K, .y_ld = p->y_ld, .na = t.swap ? no : nt, .nb = t.swap ? nt : no,
                           .kb = (p->K + block - 1) / block, .stages = t.stages, .aux = p->aux};
    return l;
}
static launch any_launch(const sample *s, const problem *p) { return !strcmp(s->src, "matvec") ? matvec_launch(s, p) : gemm_launch(s, p); }
static int is_pair(const sample *s) { return !strcmp(s->src, "matvec") ? spec(s, "PAIR") : gemm_tile(s).pair; }

static void check_product(sample *s, int T, int N, int K, score *sc)
{
    problem p = {.T = T, .N = N, .K = K, .pair = is_pair(s), .norm = spec(s, "NORM")};
    int f32 = spec(s, "OUT_F32"), rows = N * (p.pair + 1), fp8 = is_fp8(s), x8 = fp8 && !p.norm; /* the input of a norm is bf16 */
    p.x_ld = K + 16;
    p.y_ld = (N + 7) / 8 * 8 + 8;
    size_t x_n = (size_t)(T + 2) * (size_t)p.x_ld, w_n = (size_t)rows * (size_t)K;
    void *x = x8 ? (void *)random_e4m3(x_n, (size_t)K, (size_t)p.x_ld) : (void *)random_bf16(x_n, (size_t)K, (size_t)p.x_ld);
    void *w = fp8 ? (void *)random_e4m3(w_n, w_n, w_n) : (void *)random_bf16(w_n, w_n, w_n);
    uint16_t *aux0 = random_bf16((size_t)T * LD, LD, LD), *aux1 = random_bf16(LD, LD, LD);
    for (size_t i = (size_t)T * (size_t)p.x_ld; i < x_n; i++) { /* rows of other tokens: NaN */
        if (x8) ((uint8_t *)x)[i] = 0x7f;
        else ((uint16_t *)x)[i] = 0x7fff;
    }
    CUdeviceptr d0 = to_gpu(aux0, (size_t)T * LD * 2), d1 = to_gpu(aux1, LD * 2);
    out_buf y = out_new((size_t)T + 2, (size_t)p.y_ld, f32), second = out_new((size_t)T + 1, LD, 1);
    p.x = to_gpu(x, x_n * (x8 ? 1 : 2)); p.w = to_gpu(w, w_n * (fp8 ? 1 : 2)); p.y = y.dev;
    p.aux = (aux_t){{(void *)d0, (void *)d1, (void *)second.dev}};
    launch l = any_launch(s, &p);
    run(s, &l);
    out_get(&y, (size_t)T, (size_t)N, sc, "y");
    if (s->set && !p.pair) out_get(&second, (size_t)T, (size_t)N, sc, "aux2");
    float *xf = malloc((size_t)T * (size_t)K * 4);
    for (int t = 0; t < T; t++) {
        float *row = xf + (size_t)t * (size_t)K;
        size_t at = (size_t)t * (size_t)p.x_ld;
        const uint16_t *h = (const uint16_t *)x + (x8 ? 0 : at);
        if (p.norm) norm_ref(row, h, aux0 + (size_t)t * LD, aux1, K, 1e-5f, s->set);
        for (int k = 0; k < K; k++) row[k] = x8 ? of_e(((uint8_t *)x)[at + (size_t)k]) : !p.norm ? f_of(h[k]) : fp8 ? of_e(e_of(row[k])) : (float)cast(row[k]);
    }
    double scale = sqrt(K / (p.norm && !s->set ? 1.0 : 3.0)) / 1.7;
    long most = 1 + 6000000 / K, all = (long)T * N;
    for (long i = 0; i < (all < most ? all : most); i++) {
        long at = all <= most ? i : i < 4 ? (i & 1) * (T - 1) * (long)N + (i >> 1) * (N - 1) : (long)(rnd() % (uint64_t)all), t = at / N, n = at % N;
        double sum[2] = {0, 0};
        for (int h = 0; h <= p.pair; h++)
            for (int k = 0; k < K; k++) {
                size_t j = ((size_t)n + (size_t)(h * N)) * (size_t)K + (size_t)k;
                sum[h] += (double)xf[t * K + k] * (fp8 ? of_e(((uint8_t *)w)[j]) : f_of(((uint16_t *)w)[j]));
            }
        double r = f_of(aux0[t * LD + n]), v = sum[0];
        v = p.pair ? s->set ? cast(cast(silu(cast(v))) * cast(sum[1])) : silu(v) * sum[1] : s->set ? cast(cast(v) + r) : v;
        if (f32 == 2) v = fabs(v) > 448 ? copysign(448, v) : v; /* compared before its rounding, which errs by up to 1/16 */
        double slack = f32 == 2 ? fabs(v) / 16 : 0, got = out_at(&y, (size_t)t, (size_t)n), near = got - v > slack ? got - slack : v - got > slack ? got + slack : v;
        expect(sc, near, f32 ? v : cast(v), p.pair ? scale * scale : scale, "y", t, n);
        if (s->set && !p.pair) expect(sc, out_at(&second, (size_t)t, (size_t)n), sum[0], scale, "aux2", t, n);
    }
    if (sc->bad && !strstr(sc->first, " at ")) {
        size_t at = strlen(sc->first);
        snprintf(sc->first + at, sizeof sc->first - at, " at T %d N %d K %d", T, N, K);
    }
    out_free(&y); out_free(&second);
    CK(p_cuMemFree_v2(p.x)); CK(p_cuMemFree_v2(p.w)); CK(p_cuMemFree_v2(d0)); CK(p_cuMemFree_v2(d1));
    free(x); free(w); free(aux0); free(aux1); free(xf);
}
static double bound(const sample *s)
{
    if (is_fp8(s) && !strcmp(s->src, "gemm")) return 8e-3; /* tensor cores keep fewer bits of sums of e4m3 products */
    return s->set ? 6e-3 : spec(s, "OUT_F32") && !is_pair(s) ? 1e-4 : 4e-3;
}

static void check_matvec(sample *s)
{
    static const int shape[][2] = {{1001, 576}, {4096, 4096}, {515, 14336}, {7, 64}, {2048, 8}};
    ccc_matvec_shape sh = matvec_shape(s);
    score sc = {0};
    for (unsigned i = 0; i < sizeof shape / sizeof *shape; i++)
        for (int T = 1; T <= spec(s, "TOK"); T += T < spec(s, "TOK") - 1 && spec(s, "TOK") > 2 ? spec(s, "TOK") - 2 : 1) {
            int N = shape[i][0], K = is_fp8(s) ? (shape[i][1] + 15) / 16 * 16 : shape[i][1];
            if (spec(s, "NORM") && (K > LD || ccc_matvec_shared_B(is_fp8(s) ? K / 2 : K, spec(s, "TOK"), 1, 0, spec(s, "PAIR"), sh) > CCC_SHARED_MOST)) continue;
            if (spec(s, "WHOLE") && !ccc_matvec_whole(is_fp8(s) ? K / 2 : K, sh)) continue;
            check_product(s, T, N, K, &sc);
        }
    report(s, &sc, bound(s));
}
static void check_gemm(sample *s)
{
    static const int large[][3] = {{1, 1544, 576}, {16, 1544, 576}, {77, 1544, 576}, {300, 1544, 576}, {129, 256, 128}, {8, 256, 512}, {1, 1001, 584}, {129, 1001, 584}, {16, 640, 4096}, {300, 640, 4096}, {64, 512, 4096}};
    static const int small_[][3] = {{1, 131, 584}, {9, 264, 192}, {16, 144, 512}, {71, 200, 512}, {128, 136, 1024}};
    ccc_gemm_tile t = gemm_tile(s);
    score sc = {0};
    for (unsigned i = 0; i < (small ? sizeof small_ / sizeof *small_ : sizeof large / sizeof *large); i++) {
        int T = (small ? small_ : large)[i][0], N = (small ? small_ : large)[i][1], K = (small ? small_ : large)[i][2], kb;
        if (is_fp8(s)) K = (K + 15) / 16 * 16;
        kb = is_fp8(s) ? (K + 127) / 128 : (K + 63) / 64;
        if (!t.swap) N = N / 8 * 8;
        if (kb < t.split || (t.blocks > 1 && kb % (t.blocks * t.split))) continue;
        check_product(s, T, N, K, &sc);
    }
    report(s, &sc, bound(s));
}

/* ---- time: a chain of launches with programmatic edges, each on other weights ------------------------------------------------------------- */
static CUdeviceptr pools[2], pools_x[2], pool_y, pool_aux; /* weights and inputs: bf16, e4m3 */
static const size_t pool_B = (size_t)3 << 30;
static CUstream stream;
static void fill(CUdeviceptr d, size_t n, int fp8) /* random numbers: power, and so speed, depends on the data */
{
    size_t part = (size_t)64 << 20, have = n < part ? n : part;
    void *h = fp8 ? (void *)random_e4m3(have, have, have) : (void *)random_bf16(have / 2, have, have);
    CK(p_cuMemcpyHtoD_v2(d, h, have));
    for (; have < n; have += part) CK(p_cuMemcpyDtoD_v2(d + have, d, n - have < part ? n - have : part));
    free(h);
}
static double time_us(sample *s, problem p, int programmatic)
{
    int fp8 = is_fp8(s);
    if (!pools[fp8]) {
        fill(pools[fp8] = to_gpu(NULL, pool_B), pool_B, fp8);
        fill(pools_x[fp8] = to_gpu(NULL, (size_t)MAX_T * 16384 * 2), (size_t)MAX_T * 16384 * 2, fp8);
    }
    if (!pool_y) {
        pool_y = to_gpu(NULL, (size_t)MAX_T * 32768 * 2 * 2);
        fill(pool_aux = to_gpu(NULL, (size_t)MAX_T * LD * 4), (size_t)MAX_T * LD * 4, 0);
        CK(p_cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    }
    size_t w_B = (size_t)p.N * (size_t)(p.pair + 1) * (size_t)p.K * (fp8 ? 1 : 2), off = 0;
    double flop = 2.0 * p.T * p.N * (p.pair + 1) * p.K;
    int nodes = flop > 2e11 ? 6 : w_B > 200e6 ? 12 : w_B > 80e6 ? 24 : 48;
    p.x_ld = p.K; p.y_ld = p.N; p.x = spec(s, "NORM") ? pools_x[0] : pools_x[fp8]; p.norm = spec(s, "NORM");
    p.aux = (aux_t){{(void *)pool_aux, (void *)pool_aux, (void *)pool_aux}};
    CUgraph g;
    CUgraphExec ge;
    CUgraphNode node[64];
    CK(p_cuGraphCreate(&g, 0));
    for (int i = 0; i < nodes; i++) {
        if (off + w_B > pool_B) off = 0;
        p.w = pools[fp8] + off; p.y = pool_y + (size_t)(i & 1) * MAX_T * 32768 * 2;
        off += (w_B + 1023) / 1024 * 1024;
        launch l = any_launch(s, &p);
        void *arg[1] = {&l.a};
        CUDA_KERNEL_NODE_PARAMS kp = {.func = function(s, l.shared), .gridDimX = l.grid, .gridDimY = 1, .gridDimZ = 1, .blockDimX = (unsigned)s->threads, .blockDimY = 1, .blockDimZ = 1,
                                      .sharedMemBytes = l.shared, .kernelParams = arg};
        CK(p_cuGraphAddKernelNode_v2(&node[i], g, NULL, 0, &kp));
        CUlaunchAttributeValue av = {.clusterDim = {l.cluster, 1, 1}};
        if (l.cluster > 1) CK(p_cuGraphKernelNodeSetAttribute(node[i], CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, &av));
        CUgraphEdgeData e = {0};
        if (programmatic) { e.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC; e.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC; }
        if (i) CK(p_cuGraphAddDependencies_v2(g, &node[i - 1], &node[i], &e, 1));
    }
    CK(p_cuGraphInstantiateWithFlags(&ge, g, 0));
    CK(p_cuGraphUpload(ge, stream));
    CUevent a, b;
    float ms, all[21];
    CK(p_cuEventCreate(&a, 0));
    CK(p_cuEventCreate(&b, 0));
    int n = flop > 2e11 ? 7 : 15;
    for (int i = -2; i < n; i++) {
        CK(p_cuEventRecord(a, stream)); CK(p_cuGraphLaunch(ge, stream)); CK(p_cuEventRecord(b, stream)); CK(p_cuEventSynchronize(b));
        CK(p_cuEventElapsedTime_v2(&ms, a, b));
        if (i < 0) continue;
        int j = i;
        for (; j > 0 && all[j - 1] > ms; j--) all[j] = all[j - 1];
        all[j] = ms;
    }
    CK(p_cuGraphExecDestroy(ge));
    CK(p_cuGraphDestroy(g));
    return all[n / 2] * 1e3 / nodes;
}
static const struct { const char *what; int N, K, pair; } layer[] = {
    {"qkv", 6144, 4096, 0}, {"o", 4096, 4096, 0}, {"gate_up", 28672, 4096, 0}, {"gate_up pair", 14336, 4096, 1}, {"down", 4096, 14336, 0}, {"head", 128256, 4096, 0},
};
static void time_one(sample *s, int T, unsigned i)
{
    problem p = {.T = T, .N = layer[i].N, .K = layer[i].K, .pair = layer[i].pair};
    if (is_pair(s) != p.pair || spec(s, "OUT_F32") || (s->set && p.N > LD) || (size_t)T * (size_t)p.N > (size_t)MAX_T * 32768 / 2) return;
    double us = time_us(s, p, 1), bytes = (is_fp8(s) ? 1.0 : 2.0) * p.K * ((double)p.N * (p.pair + 1) + T) + 2.0 * T * p.N, flop = 2.0 * T * p.N * (p.pair + 1) * p.K;
    printf("TIME %-12s T %-4d %-32s %9.1f us %6.0f GB/s %6.1f TFLOP/s\n", layer[i].what, T, s->name, us, bytes / us * 1e-3, flop / us * 1e-6);
    fflush(stdout);
}
static void times(int tune)
{
    static const int many[] = {256, 512, 2048, 4096};
    for (unsigned i = 0; i < sizeof layer / sizeof *layer; i++)
        for (int k = 0; k < n_list; k++) {
            sample *s = &list[k];
            if (!strcmp(s->src, "matvec")) time_one(s, spec(s, "TOK"), i);
            if (tune || strcmp(s->src, "gemm")) continue;
            int bn = atoi(strchr(s->name, '_') + 1), swap = !strncmp(s->name, "gemmt", 5);
            if (swap && i < 5) time_one(s, bn, i);
            for (unsigned j = 0; !swap && j < 4 && i < 5; j++) time_one(s, many[j], i);
        }
}

/* ---- ---------------------------------------------------------------------------------------------------------------------------------------- */
static void start(const char *self)
{
    void *l = dlopen("libcuda.so.1", RTLD_NOW);
    if (!l) { printf("FAIL: %s\n", dlerror()); exit(1); }
#define X(f) if (!(p_##f = (__typeof__(p_##f))dlsym(l, #f))) { printf("FAIL: no %s\n", #f); exit(1); }
    FUNCS(X)
#undef X
    CUdevice d;
    CUcontext c;
    char name[100];
    CK(p_cuInit(0)); CK(p_cuDeviceGet(&d, 0)); CK(p_cuDevicePrimaryCtxRetain(&c, d)); CK(p_cuCtxSetCurrent(c)); CK(p_cuDeviceGetName(name, 100, d));
    CK(p_cuDeviceGetAttribute(&n_sm, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, d));
    printf("%s, %d SMs\n", name, n_sm);
    snprintf(dir, sizeof dir, "%s", self);
    char *slash = strrchr(dir, '/'), line[512], path[4200];
    if (slash) *slash = 0;
    else strcpy(dir, ".");
    snprintf(path, sizeof path, "%s/list", dir);
    FILE *f = fopen(path, "r");
    if (!f) { printf("FAIL: cannot read %s\n", path); exit(1); }
    while (n_list < 512 && fgets(line, sizeof line, f)) { /* NAME|SOURCE|FLAGS|SPECS|SET|WIDTH|THREADS|... */
        sample *s = &list[n_list++];
        char *field[8] = {line};
        int n = 1;
        for (char *p = line; *p && n < 8; p++)
            if (*p == '|') *p = 0, field[n++] = p + 1;
        snprintf(s->name, sizeof s->name, "%.79s", field[0]);
        snprintf(s->src, sizeof s->src, "%.15s", field[1]);
        snprintf(s->specs, sizeof s->specs, "%.127s", field[3]);
        s->set = atoi(field[4]); s->width = atoi(field[5]); s->threads = atoi(field[6]);
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    start(argv[0]);
    int check = argc < 2, time = argc < 2, tune = 0, part = 0, parts = 1;
    for (int i = 1; i < argc; i++) {
        sscanf(argv[i], "%d/%d", &part, &parts);
        check |= !strcmp(argv[i], "check");
        time |= !strcmp(argv[i], "time");
        tune |= !strcmp(argv[i], "tune");
        small |= !strcmp(argv[i], "small");
    }
    for (int i = part; check && i < n_list; i += parts) {
        sample *s = &list[i];
        if (!strcmp(s->src, "gather")) check_gather(s);
        if (!strcmp(s->src, "rows")) check_rows(s);
        if (!strcmp(s->src, "elt")) check_elt(s);
        if (!strcmp(s->src, "matvec")) check_matvec(s);
        if (!strcmp(s->src, "gemm")) check_gemm(s);
        fflush(stdout);
    }
    if (time) times(0);
    if (tune) times(1);
    if (check) printf(failed ? "FAIL: %d samples\n" : "PASS: all samples\n", failed);
    return failed != 0;
}
