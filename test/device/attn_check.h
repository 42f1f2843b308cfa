/* What a device test of kernels needs: the driver API (declared here, opened with dlopen, since a test machine may have no toolkit), a
 * fixed random sequence, and bf16. One device, one stream, errors end the program with the call that failed. */
#ifndef ATTN_CHECK_H
#define ATTN_CHECK_H
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/kernels/abi.h"
#include "../../compiler/kernels/attention_geometry.h"
#include "../../compiler/kernels/cuda/sincos.h"

typedef unsigned long long dptr;
typedef struct { int cluster, warps; } form_t;
static inline form_t form_of(const char *name) /* NAME_cNwM: clusters of N blocks of M warps */
{
    const char *c = strstr(name, "_c");
    form_t f = {1, CCC_DECODE_WARPS};
    if (c) sscanf(c, "_c%dw%d", &f.cluster, &f.warps);
    return f;
}
/* of a kernel NAME_BLOCK_HQ_HKV_D_joined: that which adds up what it leaves, and how many blocks of that a sequence has */
static inline unsigned join_name(const char *name, char *join, size_t n)
{
    const char *quant = strncmp(name, "q_", 2) ? "" : "q_", *fp8 = strstr(name, "fp8_"), *shape = strpbrk(fp8 ? fp8 + 4 : name, "0123456789");
    int block, hq, hkv, d;
    if (!strstr(name, "_joined") || !shape || sscanf(shape, "%d_%d_%d_%d", &block, &hq, &hkv, &d) != 4) return 0;
    snprintf(join, n, "%sjoin_%d_%d_%d_%d", quant, block, hq, hkv, d);
    return (unsigned)(hq * d / CCC_JOIN_ELEMS);
}
#ifdef EMULATE
#include "attn_check_emu.h"
#else
typedef struct { void *fn; form_t form; void *join; unsigned join_blocks; } kernel_t; /* join: launched behind it */
typedef struct { unsigned id; char pad[4]; union { char bytes[64]; unsigned cluster[3]; } v; } launch_attr;                          /* CUlaunchAttribute */
typedef struct { unsigned grid[3], block[3], shared; void *stream; launch_attr *attr; unsigned n; } launch_config;                  /* CUlaunchConfig */
typedef struct { void *func; unsigned grid[3], block[3], shared; void **params, **extra; void *kern, *ctx; } node_params; /* CUDA_KERNEL_NODE_PARAMS_v2 */
typedef struct { unsigned char from_port, to_port, type, reserved[5]; } edge_data;                                      /* CUgraphEdgeData */
#define DRIVER(X)                                                                                                                          \
    X(cuInit, (unsigned)) X(cuDeviceGet, (int *, int)) X(cuDeviceGetName, (char *, int, int)) X(cuDevicePrimaryCtxRetain, (void **, int)) \
    X(cuCtxSetCurrent, (void *)) X(cuDeviceGetAttribute, (int *, int, int)) X(cuModuleLoadData, (void **, const void *))                  \
    X(cuModuleGetFunction, (void **, void *, const char *)) X(cuModuleUnload, (void *)) X(cuFuncSetAttribute, (void *, int, int))         \
    X(cuMemAlloc_v2, (dptr *, size_t)) X(cuMemFree_v2, (dptr)) X(cuMemcpyHtoD_v2, (dptr, const void *, size_t))                            \
    X(cuMemcpyDtoH_v2, (void *, dptr, size_t)) X(cuMemsetD8_v2, (dptr, unsigned char, size_t)) X(cuMemsetD32_v2, (dptr, unsigned, size_t)) \
    X(cuLaunchKernelEx, (const launch_config *, void *, void **, void **)) X(cuGraphKernelNodeSetAttribute, (void *, unsigned, const void *)) \
    X(cuCtxSynchronize, (void)) X(cuStreamCreate, (void **, unsigned)) X(cuEventCreate, (void **, unsigned)) X(cuEventRecord, (void *, void *)) \
    X(cuEventSynchronize, (void *)) X(cuEventElapsedTime, (float *, void *, void *)) X(cuGraphCreate, (void **, unsigned))                 \
    X(cuGraphAddKernelNode_v2, (void **, void *, void *const *, size_t, const node_params *))                                             \
    X(cuGraphAddDependencies_v2, (void *, void *const *, void *const *, const edge_data *, size_t))                                       \
    X(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long)) X(cuGraphUpload, (void *, void *)) X(cuGraphLaunch, (void *, void *)) \
    X(cuGraphExecDestroy, (void *)) X(cuGraphDestroy, (void *)) X(cuGetErrorString, (int, const char **))
#define X(name, args) static int (*name) args;
DRIVER(X)
#undef X
#define CK(x) do { int r_ = (x); if (r_) { const char *s_ = "?"; cuGetErrorString(r_, &s_); printf("FAIL %s:%d %s: %s\n", __FILE__, __LINE__, #x, s_); exit(1); } } while (0)

enum { CLUSTER = 4 }; /* CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION */
static int n_sm;
static void *stream, *event[2];
static void device_open(void)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW), *ctx;
    int dev, cc[2];
    char name[100];
    if (!lib) { printf("FAIL no libcuda.so.1: %s\n", dlerror()); exit(1); }
#define X(f, args) if (!(*(void **)&f = dlsym(lib, #f))) { printf("FAIL libcuda.so.1 has no " #f "\n"); exit(1); }
    DRIVER(X)
#undef X
    CK(cuInit(0));
    CK(cuDeviceGet(&dev, 0));
    CK(cuDeviceGetName(name, sizeof name, dev));
    CK(cuDevicePrimaryCtxRetain(&ctx, dev));
    CK(cuCtxSetCurrent(ctx));
    CK(cuDeviceGetAttribute(&n_sm, 16, dev));
    CK(cuDeviceGetAttribute(&cc[0], 75, dev));
    CK(cuDeviceGetAttribute(&cc[1], 76, dev));
    CK(cuStreamCreate(&stream, 0)); /* ordered with the copies and fills, which use the default stream */
    CK(cuEventCreate(&event[0], 0));
    CK(cuEventCreate(&event[1], 0));
    printf("%s, compute capability %d.%d, %d multiprocessors\n", name, cc[0], cc[1], n_sm);
}
static inline dptr dev_alloc(size_t n) { dptr p; CK(cuMemAlloc_v2(&p, n ? n : 1)); return p; }
static inline void dev_free(dptr p) { CK(cuMemFree_v2(p)); }
static inline void dev_fill(dptr p, int v, size_t n) { if (n) CK(cuMemsetD8_v2(p, (unsigned char)v, n)); }
static inline dptr dev_zero(size_t n) { dptr p = dev_alloc(n); dev_fill(p, 0, n); return p; }
static inline void dev_set(dptr p, const void *h, size_t n) { if (n) CK(cuMemcpyHtoD_v2(p, h, n)); }
static inline dptr dev_copy(const void *h, size_t n) { dptr p = dev_alloc(n); dev_set(p, h, n); return p; }
static inline void dev_get(void *h, dptr p, size_t n) { CK(cuCtxSynchronize()); if (n) CK(cuMemcpyDtoH_v2(h, p, n)); }
static inline void launch(kernel_t k, unsigned gx, unsigned gy, unsigned threads, unsigned shared, void *args)
{
    void *params[] = {args};
    launch_attr a = {.id = CLUSTER, .v.cluster = {(unsigned)k.form.cluster, 1, 1}};
    launch_config c = {{gx, gy, 1}, {threads, 1, 1}, shared, stream, &a, k.form.cluster > 1};
    if (k.join) ((attention_args *)args)->blocks = (int)gx;
    CK(cuLaunchKernelEx(&c, k.fn, params, NULL));
    if (k.join) {
        launch_config join = {{k.join_blocks, (unsigned)((attention_args *)args)->S, 1}, {CCC_JOIN_THREADS, 1, 1}, CCC_JOIN_SHARED_B, stream, &a, 0};
        CK(cuLaunchKernelEx(&join, k.join, params, NULL));
    }
    CK(cuCtxSynchronize());
}
static inline void func_shared(kernel_t k, int bytes)
{
    CK(cuFuncSetAttribute(k.fn, 8, bytes)); /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
    CK(cuFuncSetAttribute(k.fn, 9, 100));   /* PREFERRED_SHARED_MEMORY_CARVEOUT */
}

/* ---- chains of kernels as explicit graphs ------------------------------------------------------------------------------------- */
typedef struct { kernel_t k; unsigned gx, gy, threads, shared; void *args; } step_t;
static void *graph_of(const step_t *s, int n, bool programmatic)
{
    void *g, *prev = NULL, *node, *exec;
    CK(cuGraphCreate(&g, 0));
    for (int i = 0; i < n; i++) for (int join = 0; join <= (s[i].k.join != NULL); join++) {
        void *params[] = {s[i].args};
        node_params p = {.func = s[i].k.fn, .grid = {s[i].gx, s[i].gy, 1}, .block = {s[i].threads, 1, 1}, .shared = s[i].shared, .params = params};
        if (s[i].k.join) ((attention_args *)s[i].args)->blocks = (int)s[i].gx;
        if (join) p = (node_params){.func = s[i].k.join, .grid = {s[i].k.join_blocks, (unsigned)((attention_args *)s[i].args)->S, 1}, .block = {CCC_JOIN_THREADS, 1, 1}, .shared = CCC_JOIN_SHARED_B, .params = params};
        edge_data e = {.from_port = programmatic, .type = programmatic}; /* PORT_PROGRAMMATIC, TYPE_PROGRAMMATIC: both 1 */
        launch_attr a = {.v.cluster = {(unsigned)s[i].k.form.cluster, 1, 1}};
        CK(cuGraphAddKernelNode_v2(&node, g, NULL, 0, &p));
        if (s[i].k.form.cluster > 1) CK(cuGraphKernelNodeSetAttribute(node, CLUSTER, &a.v));
        if (prev) CK(cuGraphAddDependencies_v2(g, &prev, &node, &e, 1));
        prev = node;
    }
    CK(cuGraphInstantiateWithFlags(&exec, g, 0));
    CK(cuGraphUpload(exec, stream));
    CK(cuCtxSynchronize());
    CK(cuGraphDestroy(g));
    return exec;
}
static inline void dev_sync(void) { CK(cuCtxSynchronize()); }
static inline void graph_launch(void *exec) { CK(cuGraphLaunch(exec, stream)); }
static inline void graph_free(void *exec) { CK(cuGraphExecDestroy(exec)); }
static int by_float(const void *a, const void *b) { float x = *(const float *)a, y = *(const float *)b; return (x > y) - (x < y); }
/* median time of a replay in microseconds */
static double graph_time(void *exec, int runs)
{
    float ms[64];
    for (int i = -3; i < runs; i++) {
        CK(cuEventRecord(event[0], stream));
        CK(cuGraphLaunch(exec, stream));
        CK(cuEventRecord(event[1], stream));
        CK(cuEventSynchronize(event[1]));
        CK(cuEventElapsedTime(&ms[i < 0 ? 0 : i], event[0], event[1]));
    }
    qsort(ms, runs, sizeof *ms, by_float);
    return ms[runs / 2] * 1e3;
}
static kernel_t load_kernel(const char *dir, const char *name)
{
    char path[600];
    void *module;
    kernel_t k = {NULL, form_of(name), NULL, 0};
    char join[100];
    k.join_blocks = join_name(name, join, sizeof join);
    if (k.join_blocks && !(k.join = load_kernel(dir, join).fn)) return k;
    snprintf(path, sizeof path, "%s/%s.cubin", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) return k;
    char *data = calloc(1, 1 << 20);
    size_t n = fread(data, 1, (1 << 20) - 1, f);
    fclose(f);
    if (n) {
        CK(cuModuleLoadData(&module, data));
        CK(cuModuleGetFunction(&k.fn, module, "ccc_kernel"));
    }
    free(data);
    return k;
}
enum { RUNS = 10, CHAIN_RUNS = 50 };
#define KERNEL_SUFFIX ".cubin"
#define CHAIN_ROPE "rope_3_16_32_8_128_128_1010"
#define CHAIN_DECODE "decode_16_32_8_128"
#define CHAIN_MODEL ((model_t){3, 16, 32, 8, 128, 0})
#endif

/* ---- numbers ---------------------------------------------------------------------------------------------------------------------- */
static uint32_t random_state = 1;
static inline uint32_t rnd(void) { uint32_t x = random_state; x ^= x << 13; x ^= x >> 17; x ^= x << 5; return random_state = x; }
static inline float uniform(void) { return (int32_t)rnd() * 4.6566e-10f; } /* -1 .. 1 */
static inline u16 to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return f != f ? 0x7fff : (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline float from_bf16(u16 b) { uint32_t u = (uint32_t)b << 16; float f; memcpy(&f, &u, 4); return f; }
static inline float round_bf16(float f) { return from_bf16(to_bf16(f)); }
static float from_e4m3(u8 b)
{
    int e = b >> 3 & 15, m = b & 7;
    float v = (b & 127) == 127 ? NAN : e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
    return b >> 7 ? -v : v;
}
/* to nearest, ties to even, saturating: by search, as no kernel does it */
static u8 to_e4m3(float f)
{
    int lo = 0, hi = 126;
    float a = fabsf(f);
    if (f != f) return 127;
    if (a >= 448) lo = 126;
    else while (hi - lo > 1) { int mid = (lo + hi) / 2; if (from_e4m3((u8)mid) <= a) lo = mid; else hi = mid; }
    if (lo < 126) {
        float down = a - from_e4m3((u8)lo), up = from_e4m3((u8)hi) - a; /* both are exact */
        if (up < down || (up == down && hi % 2 == 0)) lo = hi;
    }
    return (u8)(lo | (signbit(f) ? 128 : 0));
}
static int *permutation(int n)
{
    int *p = malloc(n * sizeof *p + 4);
    for (int i = 0; i < n; i++) p[i] = i;
    for (int i = n - 1; i > 0; i--) { int j = rnd() % (i + 1), t = p[i]; p[i] = p[j]; p[j] = t; }
    return p;
}
#endif
