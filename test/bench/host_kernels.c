/* How near the host kernels come to the machine: matmul of one token beside a plain streaming read by as many
 * threads, matmul of many tokens beside the peak of fused multiply-adds, attention beside both. Best of
 * several runs, all in one process; the machine should be otherwise idle. usage: bench_host_kernels [threads
 * [rounds]] */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../../compiler/kernels/abi.h"
#include "../../compiler/kernels/host_geometry.h"

typedef void kernel(const void *args, const host_ctx *c);
void hb_stream(const void *args, const host_ctx *c);
void hb_tile(const void *args, const host_ctx *c);
void hb_attention(const void *args, const host_ctx *c);
void hb_read(const void *args, const host_ctx *c);
void hb_fma(float *out, long rounds);

enum { MAX_THREADS = 64, MAX_NODES = 512 };
typedef struct {
    kernel *f;
    const void *args;
    unsigned gx, gy;
} node;
typedef struct {
    node list[MAX_NODES];
    int n;
    atomic_int next[MAX_NODES], left[MAX_NODES];
} program;
typedef struct {
    program *p;
    unsigned thread, n_threads;
    void *scratch;
    pthread_barrier_t *gate;
    double began, ended;
} worker;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* blocks are taken one by one; a node begins when the one before is done */
static void work(worker *w)
{
    program *p = w->p;
    for (int i = 0; i < p->n; i++) {
        const node *n = &p->list[i];
        int blocks = (int)(n->gx * n->gy), b;
        while ((b = atomic_fetch_add(&p->next[i], 1)) < blocks) {
            host_ctx c = {.block = {(unsigned)b % n->gx, (unsigned)b / n->gx, 0},
                          .grid = {n->gx, n->gy, 1},
                          .thread = w->thread,
                          .n_threads = w->n_threads,
                          .scratch = w->scratch};
            n->f(n->args, &c);
            atomic_fetch_sub(&p->left[i], 1);
        }
        while (atomic_load(&p->left[i]) > 0) __builtin_ia32_pause();
    }
}
static void *run_worker(void *arg)
{
    worker *w = arg;
    pthread_barrier_wait(w->gate);
    w->began = now();
    work(w);
    w->ended = now();
    return NULL;
}
static void *get(size_t size_B)
{
    void *p = aligned_alloc(4096, (size_B + 4095) / 4096 * 4096);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}
static double run_once(program *p, unsigned n_threads)
{
    static void *scratch[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    worker w[MAX_THREADS];
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, n_threads);
    for (int i = 0; i < p->n; i++) {
        atomic_store(&p->next[i], 0);
        atomic_store(&p->left[i], (int)(p->list[i].gx * p->list[i].gy));
    }
    for (unsigned t = 0; t < n_threads; t++) {
        if (!scratch[t]) memset(scratch[t] = get(1 << 18), 0, 1 << 18);
        w[t] = (worker){.p = p, .thread = t, .n_threads = n_threads, .scratch = scratch[t], .gate = &gate};
        if (pthread_create(&id[t], NULL, run_worker, &w[t])) exit(1);
    }
    double began = 1e30, ended = 0;
    for (unsigned t = 0; t < n_threads; t++) {
        pthread_join(id[t], NULL);
        began = w[t].began < began ? w[t].began : began;
        ended = w[t].ended > ended ? w[t].ended : ended;
    }
    pthread_barrier_destroy(&gate);
    return ended - began;
}
static double best_time(program *p, unsigned n_threads, int rounds)
{
    double best = 1e30;
    for (int r = 0; r < rounds; r++) {
        double s = run_once(p, n_threads);
        if (s < best) best = s;
    }
    return best;
}

static void add(program *p, kernel *f, const void *args, unsigned gx, unsigned gy)
{
    if (p->n < MAX_NODES) p->list[p->n++] = (node){f, args, gx, gy};
}
static unsigned at_most(unsigned x, unsigned y) { return x < y ? x : y; }

typedef struct {
    int N, K;
} shape;
static const shape smol[] = {{960, 576}, {576, 576}, {3072, 576}, {576, 1536}},
                   llama[] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};

typedef struct {
    program p;
    u16 *weights, *x, *y;
    size_t elems;
    double flops;
    matvec_args args[MAX_NODES];
    int n;
} model;
static void add_matmul(model *m, shape s, int T, unsigned n_threads)
{
    matvec_args *a = &m->args[m->n++];
    *a = (matvec_args){.y = m->y,
                       .w = m->weights + m->elems,
                       .x = m->x,
                       .T = T,
                       .N = s.N,
                       .K = s.K,
                       .x_ld = s.K,
                       .y_ld = s.N};
    unsigned gx = at_most((unsigned)(s.N + 7) / 8, CCC_HOST_BLOCKS * n_threads);
    if (ccc_host_matmul_tok(T, s.K)) add(&m->p, hb_stream, a, gx, 1);
    else add(&m->p, hb_tile, a, gx, (unsigned)(T + CCC_HOST_TILE_T - 1) / CCC_HOST_TILE_T);
    m->elems += (size_t)s.N * (size_t)s.K;
    m->flops += 2.0 * T * s.N * s.K;
}
static model *make(const shape *s, int layers, shape head, int T, unsigned n_threads)
{
    model *m = get(sizeof *m);
    memset(m, 0, sizeof *m);
    size_t elems = (size_t)head.N * (size_t)head.K;
    for (int i = 0; i < 4; i++) elems += (size_t)layers * (size_t)s[i].N * (size_t)s[i].K;
    m->weights = get(elems * 2);
    m->x = get((size_t)T * 16384 * 2);
    m->y = get((size_t)T * 131072 * 2);
    for (size_t i = 0; i < elems; i++) m->weights[i] = (u16)(0x3c00 + (i * 2654435761u >> 22) % 512);
    for (size_t i = 0; i < (size_t)T * 16384; i++) m->x[i] = (u16)(0x3c00 + i * 40503u % 512);
    memset(m->y, 0, (size_t)T * 131072 * 2);
    for (int l = 0; l < layers; l++)
        for (int i = 0; i < 4; i++) add_matmul(m, s[i], T, n_threads);
    if (head.N) add_matmul(m, head, T, n_threads);
    return m;
}
static void release(model *m)
{
    free(m->weights);
    free(m->x);
    free(m->y);
    free(m);
}

static void fma_kernel(const void *args, const host_ctx *c)
{
    float v[2] = {1.0f, 0.5f};
    (void)c;
    hb_fma(v, *(const long *)args);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
/* The read and the matmuls of one token take turns, so that both see the same neighbours; the share is the
 * median of the turns' shares. */
static void stream_bench(const char *name, const shape *s, int layers, shape head, unsigned n_threads,
                         int rounds)
{
    static program p;
    model *m = make(s, layers, head, 1, n_threads);
    double bytes = (double)m->elems * 2, best = 1e30, best_read = 1e30,
           *share = get((size_t)rounds * sizeof *share);
    u32 out = 0;
    read_args a = {.out = &out, .src = m->weights, .bytes = m->elems * 2};
    memset(&p, 0, sizeof p);
    add(&p, hb_read, &a, 64 * n_threads, 1);
    for (int r = 0; r < rounds; r++) {
        double read = run_once(&p, n_threads), t = run_once(&m->p, n_threads);
        share[r] = read / t;
        best = t < best ? t : best;
        best_read = read < best_read ? read : best_read;
    }
    qsort(share, (size_t)rounds, sizeof *share, compare);
    printf("%-9s T 1     %7.3f ms  %6.1f GB/s  read %6.1f GB/s  %5.1f %%, median %5.1f %%\n", name,
           best * 1e3, bytes / best / 1e9, bytes / best_read / 1e9, 100 * best_read / best,
           100 * share[rounds / 2]);
    free(share);
    release(m);
}
static void tile_bench(const char *name, const shape *s, int T, double peak, unsigned n_threads, int rounds)
{
    model *m = make(s, 2, (shape){0, 0}, T, n_threads);
    double t = best_time(&m->p, n_threads, rounds), speed = m->flops / t / 1e9;
    printf("%-9s T %-4d  %7.3f ms  %6.1f GFLOP/s  peak %6.1f  %5.1f %%  (weights %.1f GB/s)\n", name, T,
           t * 1e3, speed, peak, 100 * speed / peak, (double)m->elems * 2 / t / 1e9);
    release(m);
}
/* SmolLM2's heads, layout ccc: n new tokens of a sequence of `context` */
static void attention_bench(int context, int n, unsigned n_threads, int rounds)
{
    static program p;
    int blocks = (context + 15) / 16, *table = get((size_t)blocks * 4), start[2] = {0, n};
    size_t kv_B = (size_t)blocks * 16 * 3 * 64 * 4;
    u16 *kv = get(kv_B), *q = get((size_t)n * 576 * 2), *out = get((size_t)n * 576 * 2);
    for (size_t i = 0; i < kv_B / 2; i++) kv[i] = (u16)(0x3c00 + i * 40503u % 512);
    for (int i = 0; i < n * 576; i++) q[i] = (u16)(0x3c00 + i % 512);
    for (int i = 0; i < blocks; i++) table[i] = blocks - 1 - i;
    attention_args a = {.out = out,
                        .q = q,
                        .k_cache = (char *)kv,
                        .v_cache = (char *)kv,
                        .table = table,
                        .seq_lens = &context,
                        .query_start = start,
                        .block_stride = 16 * 3 * 64 * 4,
                        .head_stride = 16 * 64 * 4,
                        .S = 1,
                        .T = n,
                        .max_blocks = blocks,
                        .q_ld = 576,
                        .out_ld = 576,
                        .kv_blocks = blocks,
                        .scale = 0.125f};
    memset(&p, 0, sizeof p);
    for (int layer = 0; layer < 30; layer++)
        add(&p, hb_attention, &a, (unsigned)(n + CCC_HOST_QUERIES - 1) / CCC_HOST_QUERIES + 1,
            n_threads < 3 ? 3 : at_most(9, n_threads));
    double t = best_time(&p, n_threads, rounds),
           flops = 30.0 * 9 * 64 * 4 * ((double)n * context - 0.5 * n * (n - 1));
    printf("attention %d of %d, 30 layers: %7.3f ms  %6.1f GFLOP/s\n", n, context, t * 1e3, flops / t / 1e9);
    free(kv);
    free(q);
    free(out);
    free(table);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 2 ? atoi(argv[2]) : 10;
    if (threads < 1 || threads > MAX_THREADS || rounds < 1) {
        fprintf(stderr, "usage: %s [threads [rounds]]\n", argv[0]);
        return 2;
    }
    unsigned n = (unsigned)threads;
    static program p;
    long count = 20000000;
    add(&p, fma_kernel, &count, n, 1);
    double peak = 12.0 * 8 * 2 * (double)count * n / best_time(&p, n, rounds) / 1e9;
    printf("%u threads, best of %d\n", n, rounds);
    stream_bench("SmolLM2", smol, 30, (shape){49152, 576}, n, rounds);
    stream_bench("8B", llama, 2, (shape){0, 0}, n, rounds);
    static const int tokens[] = {2, 4, 8, 32, 512};
    for (unsigned i = 0; i < sizeof tokens / sizeof *tokens; i++)
        tile_bench("SmolLM2", smol, tokens[i], peak, n, rounds);
    tile_bench("8B", llama, 64, peak, n, (rounds + 2) / 3);
    attention_bench(1024, 1, n, rounds);
    attention_bench(8192, 1, n, rounds);
    attention_bench(512, 512, n, rounds);
    return 0;
}
