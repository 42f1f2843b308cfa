/* One process that holds libcccrt for long and from several threads: threads TINY.ccart [OPENINGS [gpu]].
 *   Two sessions over the same weights step from two threads: each has the bits that it has alone.
 *   1000 steps allocate nothing, map nothing, and on the fake driver synchronise nothing.
 *   Everything opened and closed 1000 times: no growth of memory, descriptors or mappings.
 *   A child process that was forked after opening gets a clear error, and may close what it inherited.
 * With `gpu` all of it on a real driver (test/device/real_driver.c), where the two threads have a stream
 * each, and the memory of process and device that the driver shows must not grow either. */
#define _GNU_SOURCE
#include "../../runtime/cccrt.h"
#include "../../runtime/cuda_api.h"
#include "../fault/shim.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned long fake_count(const char *part);
enum { HOST_GROWTH_KB = 16 << 10, DEVICE_GROWTH_KB = 4 << 10 }; /* the driver's own, over 900 openings */
enum { VOCAB = 101, TOKENS = 40, BLOCK = 16, PARALLEL_ROUNDS = 6, STEPS = 1000, AT_ONCE = 50, OPENINGS = 1000, WARM = 8 };
static const char *path;
static bool gpu;
static ccc_err err;
typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;

static void fail(const char *what)
{
    fprintf(stderr, "threads: %s: %s\n", what, err.msg);
    _exit(1);
}

/* ---- the driver as another user of the process has it: a context that is kept, as PyTorch's, and current */
static cu_api cu;

static void use_context(void)
{
    static cu_context context;
    cu_device device;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("libcuda");
#define X(name, symbol, params) *(void **)&cu.name = dlsym(library, #symbol);
    CU_ENTRY_POINTS(X)
#undef X
    if (!context && (cu.init(0) || cu.device_get(&device, 0) || cu.primary_retain(&context, device)))
        fail("the context of the process");
    if (cu.ctx_push(context)) fail("the context of the process");
}

static long device_used_kB(void)
{
    size_t left_B = 0, all_B = 0;
    if (cu.mem_info(&left_B, &all_B)) fail("free memory");
    return (long)((all_B - left_B) >> 10);
}

static void open_all(all *x, const char *kind, int n_threads)
{
    cccrt_open_args open = {.size_B = sizeof open, .allow_host_code = 1};
    cccrt_device_args device = {.size_B = sizeof device, .kind = kind, .n_threads = n_threads};
    cccrt_weights_args random = {.size_B = sizeof random, .random = 1, .seed = 3};
    cccrt_session_args session = {.size_B = sizeof session};
    if (cccrt_artifact_open(&x->a, path, &open, &err) || cccrt_device_open(&x->d, &device, &err) ||
        cccrt_weights_attach(&x->w, x->a, x->d, &random, &err) || cccrt_kv_alloc(&x->kv, x->a, x->d, 8, &err))
        fail("open");
    session.kv = cccrt_kv_describe(x->kv);
    if (cccrt_session_create(&x->s, x->a, x->w, &session, &err)) fail("session");
}

static void close_all(all *x)
{
    cccrt_session_close(x->s);
    cccrt_kv_close(x->kv);
    cccrt_weights_close(x->w);
    cccrt_device_close(x->d);
    cccrt_artifact_close(x->a);
}

/* ---- a sequence: one token after the other, each the one that came out before; every bit of every logit is
 * folded into a sum */
static ccc_status decode(cccrt_session *s, int32_t id, int64_t at, int32_t *next, float logits[VOCAB],
                         void *stream, ccc_err *e)
{
    int32_t starts[] = {0, 1}, len = (int32_t)at + 1, table[] = {3, 1, 2, 0}, row = 0;
    int64_t slot = (int64_t)table[at / BLOCK] * BLOCK + at % BLOCK;
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = 1,
                         .n_seqs = 1,
                         .n_logits = 1,
                         .max_query_len = 1,
                         .token_ids = &id,
                         .positions = &at,
                         .query_start_loc = starts,
                         .seq_lens = &len,
                         .block_table = table,
                         .block_table_stride = 4,
                         .slot_mapping = &slot,
                         .logits_indices = &row};
    CCC_TRY(cccrt_step(s, &g, stream, e));
    if (!next) return CCC_OK;
    CCC_TRY(cccrt_session_read(s, "logits", logits, 0, VOCAB * sizeof *logits, stream, e));
    return cccrt_session_read(s, "next_tokens", next, 0, sizeof *next, stream, e);
}

static uint64_t sequence(cccrt_session *s, int32_t first, void *stream)
{
    float logits[VOCAB];
    uint32_t bits[VOCAB];
    uint64_t sum = 1;
    ccc_err e = {0};
    int32_t id = first;
    for (int64_t at = 0; at < TOKENS; at++) {
        if (decode(s, id, at, &id, logits, stream, &e) != CCC_OK) {
            fprintf(stderr, "threads: %s\n", e.msg);
            return 0;
        }
        memcpy(bits, logits, sizeof bits);
        for (int i = 0; i < VOCAB; i++) sum = (sum ^ bits[i]) * 0x100000001b3u;
        id = (id + first + (int32_t)at) % VOCAB;
    }
    return sum;
}

typedef struct {
    const all *x;
    int32_t first;
    uint64_t want;
    void *stream;
    int wrong;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    ccc_err e = {0};
    cccrt_kv_cache *kv = NULL;
    cccrt_session *s = NULL;
    cccrt_session_args g = {.size_B = sizeof g};
    if (cccrt_kv_alloc(&kv, w->x->a, w->x->d, 4, &e) != CCC_OK) return w->wrong++, NULL;
    g.kv = cccrt_kv_describe(kv);
    if (cccrt_session_create(&s, w->x->a, w->x->w, &g, &e) != CCC_OK) w->wrong++;
    for (int i = 0; s && i < PARALLEL_ROUNDS; i++) w->wrong += sequence(s, w->first, w->stream) != w->want;
    cccrt_session_close(s);
    cccrt_kv_close(kv);
    return NULL;
}

static void side_by_side(const char *kind)
{
    all x;
    pthread_t thread[2];
    open_all(&x, kind, 2);
    worker w[2] = {{&x, 5, sequence(x.s, 5, NULL), NULL, 0}, {&x, 9, sequence(x.s, 9, NULL), NULL, 0}};
    for (int i = 0; i < 2 && strcmp(kind, "cuda") == 0; i++) {
        cu_stream own;
        use_context();
        if (cu.stream_new(&own, CU_STREAM_OWN)) fail("stream");
        w[i].stream = own;
    }
    if (!w[0].want || w[0].want == w[1].want) fail("two sequences that do not differ show nothing");
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, work, &w[i])) fail("thread");
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    if (w[0].wrong || w[1].wrong) fail("a session has other bits beside another one");
    close_all(&x);
}

/* ---- nothing per step */
static void steady(const char *kind)
{
    static const char *const never[] = {"Synchronize", "Alloc", "Free",       "Create",
                                        "Destroy",     "Load",  "Instantiate"};
    unsigned long before[sizeof never / sizeof *never];
    all x;
    open_all(&x, kind, 2);
    for (int64_t i = 0; i < WARM; i++)
        if (decode(x.s, 1, i, NULL, NULL, NULL, &err) || cccrt_advance(x.s, 1, NULL, &err)) fail("step");
    if (strcmp(kind, "cuda") == 0 && !fake_count("Alloc")) fail("the driver's calls are not counted");
    for (int64_t i = 0; i < STEPS;) { /* in between the device catches up: half a ring ahead of it a step waits */
        if (cccrt_check(x.s, NULL, &err)) fail("check");
        for (unsigned k = 0; k < sizeof never / sizeof *never; k++) before[k] = fake_count(never[k]);
        long allocations = shim_allocations(), live = shim_live();
        for (int64_t end = i + AT_ONCE; i < end; i++)
            if (decode(x.s, (int32_t)(i % VOCAB), i % TOKENS, NULL, NULL, NULL, &err) ||
                cccrt_advance(x.s, 1, NULL, &err))
                fail("step");
        if (shim_allocations() != allocations || shim_live() != live) fail("a step allocates");
        for (unsigned k = 0; k < sizeof never / sizeof *never; k++)
            if (fake_count(never[k]) != before[k]) fail(never[k]);
    }
    close_all(&x);
}

/* ---- open and close */
static unsigned entries(const char *file)
{
    FILE *f = fopen(file, "re");
    unsigned n = 0;
    for (int c; f && (c = fgetc(f)) != EOF;) n += c == '\n';
    if (f) fclose(f);
    return n;
}

static long resident_kB(void)
{
    long kB = 0;
    char line[128];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmRSS: %ld", &kB) != 1)
        ;
    if (f) fclose(f);
    return kB;
}

static void often(const char *kind, int times)
{
    all x;
    bool real = gpu && strcmp(kind, "cuda") == 0;
    long live = 0, host_kB = 0, device_kB = 0;
    unsigned maps = 0;
    for (int i = 0; i < times; i++) {
        open_all(&x, kind, 2);
        if (decode(x.s, 1, 0, NULL, NULL, NULL, &err)) fail("step");
        close_all(&x);
        if (i == WARM) live = shim_live(), maps = entries("/proc/self/maps");
        if (i == times / 10) host_kB = resident_kB(), device_kB = real ? device_used_kB() : 0;
    }
    if (real)
        printf("opened and closed %d times: process %+ld KB, device %+ld KB\n", times,
               resident_kB() - host_kB, device_used_kB() - device_kB);
    if (real && (resident_kB() - host_kB > HOST_GROWTH_KB || device_used_kB() - device_kB > DEVICE_GROWTH_KB))
        fail("opening and closing takes memory that the driver does not get back");
    if ((real || strcmp(kind, "cpu") == 0) && shim_live() != live)
        fail("opening and closing leaves something"); /* the fake driver keeps what died, to know it again */
#ifdef SHIM_WRAP_MALLOC
    (void)maps; /* sanitizers map memory as they like */
#else
    if (!real && entries("/proc/self/maps") > maps + 8) fail("opening and closing leaves mappings");
#endif
}

/* ---- fork */
static void forked(const char *kind)
{
    all x;
    open_all(&x, kind, 2);
    pid_t pid = fork();
    if (!pid) {
        cccrt_weights_args random = {.size_B = sizeof random, .random = 1};
        cccrt_weights *w = NULL;
        int32_t next;
        float logits[VOCAB];
        bool refused = decode(x.s, 1, 0, &next, logits, NULL, &err) == CCC_E_DEVICE &&
                       strstr(err.msg, "fork") && cccrt_advance(x.s, 1, NULL, &err) == CCC_E_DEVICE &&
                       cccrt_weights_attach(&w, x.a, x.d, &random, &err) == CCC_E_DEVICE &&
                       cccrt_check(x.s, NULL, &err) == CCC_E_DEVICE &&
                       cccrt_device_synchronize(x.d, &err) == CCC_E_DEVICE;
        close_all(&x);
        _exit(refused ? 0 : 1);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status) fail("a child process uses its parent's device");
    if (!sequence(x.s, 4, NULL)) fail("the parent is disturbed by its child");
    close_all(&x);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    path = argv[1];
    int openings = argc > 2 ? atoi(argv[2]) : OPENINGS;
    gpu = argc > 3 && strcmp(argv[3], "gpu") == 0;
    forked("cpu"); /* before there are other threads */
    forked("cuda");
    side_by_side("cpu");
    if (gpu) side_by_side("cuda"); /* the fake driver does not compute */
    steady("cpu");
    steady("cuda");
    often("cpu", openings);
    if (gpu) use_context();
    often("cuda", gpu ? openings : openings / 10);
    printf("threads: all is well, %d times\n", openings);
    return 0;
}
