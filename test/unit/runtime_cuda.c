/* The CUDA path against the fake driver: which calls are made, with which addresses, and what happens when
 * the device is not as wished. CCC_UPDATE=1 in the environment rewrites the expected log. */
#include "runtime_make.h"
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call)                                                                                             \
    do {                                                                                                     \
        ccc_err err = {0};                                                                                   \
        cr_assert_eq((call), CCC_OK, #call ": %s", err.msg);                                                 \
    } while (0)
#define FAILS(code_, text, call)                                                                             \
    do {                                                                                                     \
        ccc_err err = {0};                                                                                   \
        cr_assert_eq((call), (code_), #call);                                                                \
        cr_assert(strstr(err.msg, text) && !strchr(err.msg, '\n'), "%s", err.msg);                           \
    } while (0)

static char log_path[] = "/tmp/ccc-fake-XXXXXX";
static uint16_t embed[VOCAB * HIDDEN], rows_ab[6 * HIDDEN];

static void start_log(void)
{
    int fd = mkstemp(log_path);
    cr_assert(fd >= 0);
    close(fd);
    setenv("FAKE_CUDA_LOG", log_path, 1);
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 4 << 20);
    cr_assert(f && text, "%s", path);
    text[fread(text, 1, (4 << 20) - 1, f)] = 0;
    fclose(f);
    return text;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}

static unsigned logged(const char *what)
{
    char *text = read_file(log_path);
    unsigned n = count(text, what);
    free(text);
    return n;
}

typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;

static all make_all(int graphs)
{
    all x = {.a = make_open(0), .d = make_device("cuda")};
    for (int i = 0; i < VOCAB * HIDDEN; i++) embed[i] = (uint16_t)i;
    cccrt_tensor t[] = {{"embed", "bf16", 2, {VOCAB, HIDDEN}, embed, sizeof embed, 0},
                        {"a", "bf16", 2, {2, HIDDEN}, rows_ab, 2 * HIDDEN * 2, 0},
                        {"b", "bf16", 2, {4, HIDDEN}, rows_ab, 4 * HIDDEN * 2, 0}};
    cccrt_weights_args g = {.size_B = sizeof g, .tensors = t, .n_tensors = 3};
    OK(cccrt_weights_attach(&x.w, x.a, x.d, &g, &err));
    OK(cccrt_kv_alloc(&x.kv, x.a, x.d, 8, &err));
    cccrt_session_args s = {.size_B = sizeof s, .kv = cccrt_kv_describe(x.kv), .graphs = graphs};
    OK(cccrt_session_create(&x.s, x.a, x.w, &s, &err));
    return x;
}

static void close_all(all *x)
{
    cccrt_artifact_close(x->a);
    cccrt_device_close(x->d);
    cccrt_weights_close(x->w);
    cccrt_kv_close(x->kv);
    cccrt_session_close(x->s);
}

static ccc_status decode(cccrt_session *s, int64_t n, ccc_err *err)
{
    int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8}, lens[8] = {4, 4, 4, 4, 4, 4, 4, 4}, table[8 * 4] = {0},
            rows[8] = {0, 1, 2, 3, 4, 5, 6, 7}, starts[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    int64_t positions[8] = {3, 3, 3, 3, 3, 3, 3, 3}, slots[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = n,
                         .n_seqs = n,
                         .n_logits = n,
                         .token_ids = ids,
                         .positions = positions,
                         .seq_lens = lens,
                         .block_table = table,
                         .block_table_stride = 4,
                         .slot_mapping = slots,
                         .logits_indices = rows,
                         .query_start_loc = starts};
    return cccrt_step(s, &g, NULL, err);
}

Test(cuda, the_calls_of_a_session, .fini = NULL)
{
    start_log();
    all x = make_all(CCCRT_GRAPHS_ALL);
    OK(decode(x.s, 3, &err));
    OK(cccrt_advance(x.s, 3, NULL, &err));
    cccrt_step_args mixed = {.size_B = sizeof mixed, .n_tokens = 5, .n_seqs = 2, .n_logits = 2};
    OK(cccrt_step(x.s, &mixed, NULL, &err));
    OK(cccrt_check(x.s, NULL, &err));
    close_all(&x);
    char *got = read_file(log_path);
    unlink(log_path);
    if (getenv("CCC_UPDATE")) {
        FILE *f = fopen(RUNTIME_LOG, "wb");
        cr_assert(f && fputs(got, f) >= 0 && fclose(f) == 0);
    }
    char *want = read_file(RUNTIME_LOG);
    for (char *g = got, *w = want; *g || *w;) {
        size_t ng = strcspn(g, "\n"), nw = strcspn(w, "\n");
        cr_assert(ng == nw && memcmp(g, w, ng) == 0, "expected: %.*s\ngot: %.*s", (int)nw, w, (int)ng, g);
        g += ng + (g[ng] != 0);
        w += nw + (w[nw] != 0);
    }
    free(got);
    free(want);
}

Test(cuda, padding_to_a_captured_size)
{
    start_log();
    all x = make_all(CCCRT_GRAPHS_ON_DEMAND);
    cccrt_timings t = {.size_B = sizeof t};
    OK(decode(x.s, 3, &err));
    cccrt_session_timings(x.s, &t);
    cr_assert(t.n_graphs == 1 && t.n_graph_nodes == 5);
    cr_assert_eq(logged("cuGraphLaunch"), 1);
    int64_t slots[5];
    int32_t lens[5], rows[4], starts[5];
    OK(cccrt_session_read(x.s, "slot_mapping", slots, 0, sizeof slots, NULL, &err));
    OK(cccrt_session_read(x.s, "seq_lens", lens, 0, sizeof lens, NULL, &err));
    OK(cccrt_session_read(x.s, "logits_indices", rows, 0, sizeof rows, NULL, &err));
    OK(cccrt_session_read(x.s, "query_start_loc", starts, 0, sizeof starts, NULL, &err));
    cr_assert(slots[2] == 3 && slots[3] == -1 && slots[4] == -1 && lens[2] == 4 && lens[3] == 0 &&
              rows[2] == 2 && rows[3] == 2);
    /* on the device now: 3 sequences again may be padded, 2 not (the third is a real one), 4 may (the fourth
     * is the caller's business) */
    unsigned before = logged("cuGraphLaunch");
    for (int64_t n = 2; n <= 4; n++) {
        cccrt_step_args g = {
            .size_B = sizeof g, .n_tokens = n, .n_seqs = n, .n_logits = n, .max_query_len = 1};
        OK(cccrt_step(x.s, &g, NULL, &err));
        unsigned now = logged("cuGraphLaunch");
        cr_assert_eq(now - before, 1); /* 2 is a captured size itself */
        before = now;
    }
    OK(decode(x.s, 6, &err));
    before = logged("cuGraphLaunch");
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 5, .n_seqs = 5, .n_logits = 5, .max_query_len = 1};
    OK(cccrt_step(x.s, &g, NULL, &err));
    cr_assert_eq(logged("cuGraphLaunch"), before, "5 of 6 sequences on the device: launched without padding");
    g.n_logits = 0;
    OK(cccrt_step(x.s, &g, NULL, &err));
    close_all(&x);
    cr_assert_eq(logged("LEFT") + logged("WILD"), 0);
    unlink(log_path);
}

Test(cuda, a_step_that_advances_is_one_graph)
{
    start_log();
    all x = make_all(CCCRT_GRAPHS_ON_DEMAND);
    cccrt_timings t = {.size_B = sizeof t};
    OK(decode(x.s, 4, &err));
    cccrt_step_args g = {
        .size_B = sizeof g, .n_tokens = 4, .n_seqs = 4, .n_logits = 4, .max_query_len = 1, .advance = 1};
    for (int i = 0; i < 3; i++) OK(cccrt_step(x.s, &g, NULL, &err));
    cccrt_session_timings(x.s, &t);
    cr_assert(t.n_graphs == 2 && t.n_graph_nodes == 5 + 6, "the program and what advances behind it");
    cr_assert_eq(logged("cuGraphLaunch"), 4);
    cr_assert(logged(" 3->4 programmatic") == 2 && logged(" 4->5 programmatic") == 1, "what advances waits by itself, as the kernel in front does");
    unsigned launches = logged("cuLaunchKernel");
    OK(decode(x.s, 3, &err)); /* 3 are padded to 4, and the padding must not advance */
    g.n_tokens = g.n_seqs = g.n_logits = 3;
    OK(cccrt_step(x.s, &g, NULL, &err));
    cr_assert(logged("cuGraphLaunch") == 6 && logged("cuLaunchKernel") == launches + 1);
    void *ids;
    OK(cccrt_device_alloc(&ids, x.d, MAX_TOKENS * 4, &err));
    OK(cccrt_session_rebind(x.s, &(cccrt_binding){"token_ids", ids, MAX_TOKENS * 4}, 1, &err));
    OK(decode(x.s, 4, &err));
    g.n_tokens = g.n_seqs = g.n_logits = 4;
    OK(cccrt_step(x.s, &g, NULL, &err));
    cccrt_session_timings(x.s, &t);
    cr_assert_eq(t.n_graphs, 2, "both were built again");
    cccrt_device_release(x.d, ids);
    close_all(&x);
    cr_assert_eq(logged("LEFT") + logged("WILD"), 0);
    unlink(log_path);
}

Test(cuda, one_transfer_a_step)
{
    start_log();
    all x = make_all(CCCRT_GRAPHS_ALL);
    unsigned copies = logged("cuMemcpyAsync"), syncs = logged("Synchronize"),
             allocations = logged("cuMemAlloc") + logged("cuMemHostAlloc");
    for (int i = 0; i < 50; i++) OK(decode(x.s, 8, &err));
    cr_assert_eq(logged("cuMemcpyAsync") - copies, 50);
    cr_assert_eq(logged("Synchronize"), syncs);
    cr_assert_eq(logged("cuMemAlloc") + logged("cuMemHostAlloc"), allocations);
    close_all(&x);
    unlink(log_path);
}

Test(cuda, bound_buffers_and_rebuilt_graphs)
{
    start_log();
    all x = make_all(CCCRT_GRAPHS_ALL);
    void *ids;
    OK(cccrt_device_alloc(&ids, x.d, MAX_TOKENS * 4, &err));
    cccrt_binding b[] = {{"token_ids", ids, MAX_TOKENS * 4}, {"next_tokens", ids, MAX_TOKENS * 4}};
    OK(cccrt_session_rebind(x.s, b, 2, &err));
    unsigned before = logged("cuGraphInstantiate");
    OK(decode(x.s, 1, &err));
    cr_assert_eq(logged("cuGraphInstantiate") - before, 1);
    int32_t back;
    OK(cccrt_session_read(x.s, "token_ids", &back, 0, 4, NULL, &err));
    cr_assert_eq(back, 1);
    cccrt_device_release(x.d, ids);
    FAILS(CCC_E_DEVICE, "driver error 1", decode(x.s, 2, &err)); /* the fake driver sees the freed buffer */
    close_all(&x);
    cr_assert_eq(logged("LEFT"), 0);
    unlink(log_path);
}

Test(cuda, half_of_a_device)
{
    start_log();
    setenv("FAKE_CUDA_CONTEXT_SM", "66", 1);
    cccrt_device *d;
    ccc_err e;
    cccrt_device_args probe = {.size_B = sizeof probe, .kind = "cuda"};
    OK(cccrt_device_open(&d, &probe, &err)); /* loads the fake driver */
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    cr_assert(lib);
    void *(*callers)(void);
    *(void **)&callers = dlsym(lib, "fake_callers_context");
    cccrt_device_close(d);
    cccrt_device_args g = {.size_B = sizeof g, .context = callers()};
    OK(cccrt_device_open(&d, &g, &err));
    cccrt_device_props p = {.size_B = sizeof p};
    OK(cccrt_device_get_props(d, &p, &err));
    cr_assert(p.n_sm == 66 && p.cc == 90 && p.is_cuda);
    cccrt_artifact *a = make_open(0);
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
    cccrt_weights_args r = {.size_B = sizeof r, .random = 1};
    OK(cccrt_weights_attach(&w, a, d, &r, &err));
    OK(cccrt_kv_alloc(&kv, a, d, 2, &err));
    cccrt_session_args sa = {.size_B = sizeof sa, .kv = cccrt_kv_describe(kv)};
    OK(cccrt_session_create(&s, a, w, &sa, &err));
    cr_assert_eq(decode(s, 1, &e), CCC_OK);
    cr_assert_eq(logged("grid=66,1,1"), 1);
    cccrt_session_close(s);
    cccrt_kv_close(kv);
    cccrt_weights_close(w);
    cccrt_artifact_close(a);
    cccrt_device_close(d);
    dlclose(lib);
    cr_assert_eq(logged("LEFT"), 0);
    unlink(log_path);
}

Test(cuda, wrong_device)
{
    setenv("FAKE_CUDA_CC", "89", 1);
    cccrt_artifact *a = make_open(0);
    cccrt_device *d = make_device("cuda");
    const char *target;
    FAILS(CCC_E_DEVICE, "compute capability 9.0, 'Fake GPU' has 8.9",
          cccrt_device_can_run(&target, d, a, &err));
    cccrt_device_close(d);
    setenv("FAKE_CUDA_CC", "90", 1);
    setenv("FAKE_CUDA_DRIVER", "11080", 1);
    d = make_device("cuda");
    FAILS(CCC_E_DEVICE, "CUDA 12.0, this one is for 11.8", cccrt_device_can_run(&target, d, a, &err));
    cccrt_device_close(d);
    cccrt_device_args g = {.size_B = sizeof g, .kind = "cuda", .ordinal = 3};
    FAILS(CCC_E_DEVICE, "no GPU 3", cccrt_device_open(&d, &g, &err));
    g.kind = "tpu";
    FAILS(CCC_E_ARG, "'tpu'", cccrt_device_open(&d, &g, &err));
    cccrt_artifact_close(a);
}

Test(cuda, too_little_memory)
{
    start_log();
    setenv("FAKE_CUDA_MEMORY", "3000", 1);
    cccrt_artifact *a = make_open(0);
    cccrt_device *d = make_device("cuda");
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
    cccrt_weights_args r = {.size_B = sizeof r, .random = 1};
    FAILS(CCC_E_NOMEM, "a KV cache of 8 blocks needs", cccrt_kv_alloc(&kv, a, d, 8, &err));
    OK(cccrt_weights_attach(&w, a, d, &r, &err));
    OK(cccrt_kv_alloc(&kv, a, d, 1, &err));
    cccrt_session_args sa = {.size_B = sizeof sa, .kv = cccrt_kv_describe(kv)};
    unsigned before = logged("cuMemAlloc");
    FAILS(CCC_E_NOMEM, "arena 4096", cccrt_session_create(&s, a, w, &sa, &err));
    cr_assert_eq(logged("cuMemAlloc"), before, "said before anything is allocated");
    cccrt_weights_close(w);
    cccrt_kv_close(kv);
    cccrt_device_close(d);
    cccrt_artifact_close(a);
    cr_assert_eq(logged("LEFT"), 0);
    unlink(log_path);
}

Test(cuda, while_a_stream_is_captured)
{
    all x = make_all(CCCRT_GRAPHS_ON_DEMAND);
    setenv("FAKE_CUDA_CAPTURING", "1", 1);
    FAILS(CCC_E_ARG, "host arrays", decode(x.s, 2, &err));
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 2, .n_seqs = 2, .n_logits = 2, .max_query_len = 1};
    OK(cccrt_step(x.s, &g, NULL, &err)); /* no graph is built: its kernels are launched one by one */
    cccrt_timings t = {.size_B = sizeof t};
    cccrt_session_timings(x.s, &t);
    cr_assert_eq(t.n_graphs, 0);
    close_all(&x);
}

Test(cuda, measuring)
{
    all x = make_all(CCCRT_GRAPHS_ON_DEMAND);
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 2, .n_seqs = 2, .n_logits = 2, .max_query_len = 1};
    cccrt_node_time t[4];
    uint32_t n;
    double ms, us;
    OK(cccrt_time_nodes(x.s, &g, 3, t, 4, &n, &err));
    cr_assert_eq(n, 5);
    cr_assert_str_eq(t[3].kernel, "map");
    OK(cccrt_time_subset(x.s, &g, (uint8_t[]){1, 1, 1, 0, 1}, 5, 3, &ms, &err));
    setenv("FAKE_CUDA_SLOW", "10", 1); /* one launch of ten: that is in the mean, not in the median */
    OK(cccrt_time_chain(x.s, 2, 10, &ms, &us, &err));
    cr_assert(ms > 4.9 && us > 0 && us < 4.9e3, "%g ms a step, enqueued in %g us", ms, us);
    setenv("FAKE_CUDA_SLOW", "3", 1); /* the reading in front of node 1 varies by more than that takes */
    OK(cccrt_time_nodes(x.s, &g, 3, t, 4, &n, &err));
    cr_assert(t[0].ms > 0 && t[1].ms == 0, "%g and %g ms", t[0].ms, t[1].ms);
    unsetenv("FAKE_CUDA_SLOW");
    FAILS(CCC_E_ARG, "a chain of 0 steps", cccrt_time_chain(x.s, 2, 0, &ms, &us, &err));
    close_all(&x);
}

/* Artifacts with changed bytes and right hashes, as far as they are valid: whatever reaches the driver points
 * into live memory. */
Test(cuda, hostile_artifacts, .timeout = 600)
{
    start_log();
    uint8_t *raw, *b;
    size_t size_B;
    uint64_t seed = 7, ran = 0;
    make_raw(&raw, &size_B);
    b = malloc(size_B);
    cccrt_device *d = make_device("cuda");
    for (int i = 0; i < (getenv("CCC_TEST_LONG") ? 200000 : 3000); i++) {
        memcpy(b, raw, size_B);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        b[64 + (seed >> 20) % (size_B - 80)] =
            seed >> 60 & 1 ? (uint8_t)(seed >> 48) : (uint8_t)(seed >> 48 & 3);
        make_seal(b, size_B);
        cccrt_artifact *a = NULL;
        cccrt_weights *w = NULL;
        cccrt_kv_cache *kv = NULL;
        cccrt_session *s = NULL;
        cccrt_memory m = {.size_B = sizeof m};
        cccrt_weights_args g = {.size_B = sizeof g, .random = 1};
        if (cccrt_artifact_open_memory(&a, b, size_B, NULL, NULL) != CCC_OK) continue;
        if (cccrt_artifact_memory(&m, a, NULL, 2, NULL) == CCC_OK && m.io + m.arena + m.weights < 1 << 26) {
            if (cccrt_weights_attach(&w, a, d, &g, NULL) == CCC_OK &&
                cccrt_kv_alloc(&kv, a, d, 2, NULL) == CCC_OK) {
                cccrt_session_args sa = {.size_B = sizeof sa, .kv = cccrt_kv_describe(kv)};
                cccrt_step_args mixed = {.size_B = sizeof mixed, .n_tokens = 5, .n_seqs = 2, .n_logits = 2};
                if (cccrt_session_create(&s, a, w, &sa, NULL) == CCC_OK) {
                    ran += decode(s, 1, NULL) == CCC_OK;
                    ran += cccrt_step(s, &mixed, NULL, NULL) == CCC_OK;
                }
            }
        }
        cccrt_session_close(s);
        cccrt_kv_close(kv);
        cccrt_weights_close(w);
        cccrt_artifact_close(a);
    }
    cccrt_device_close(d);
    cr_assert_gt(ran, 100);
    cr_assert_eq(logged("WILD"), 0);
    free(raw);
    free(b);
    unlink(log_path);
}
