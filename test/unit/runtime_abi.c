/* Promises to programs and files that exist: argument structs of another size, artifacts of earlier formats, and
 * what is said to newer ones. */
#include "../../runtime/cccrt.h"
#include "../fuzz/seal.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static ccc_err err;
#define OK(call) cr_assert_eq(call, CCC_OK, "%s", err.msg)
typedef struct {
    uint8_t *bytes;
    size_t size_B;
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} parts;

static uint8_t *fixture(const char *version, size_t *size_B)
{
    char path[512];
    snprintf(path, sizeof path, FIXTURES "v%s.ccart", version);
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20);
    cr_assert(f && data);
    *size_B = fread(data, 1, 1 << 20, f);
    cr_assert(*size_B > 1000 && *size_B < 1 << 20);
    fclose(f);
    return data;
}

/* Whole structs, or those of the first version: two fields, the rest not to be read. */
typedef struct {
    size_t open, device, weights, session, kv, step;
} sizes;
static const sizes whole = {sizeof(cccrt_open_args),    sizeof(cccrt_device_args), sizeof(cccrt_weights_args),
                            sizeof(cccrt_session_args), sizeof(cccrt_kv),          sizeof(cccrt_step_args)};

static bool make(parts *x, const char *version, const sizes *z)
{
    const char *target;
    cccrt_open_args open = {.size_B = z->open, .allow_host_code = 1};
    cccrt_device_args device = {
        .size_B = z->device, .kind = "cpu", .ordinal = 77, .n_threads = z->device == sizeof device ? 1 : -5};
    cccrt_weights_args weights = {.size_B = z->weights, .random = 1, .seed = 1};
    cccrt_session_args session = {.size_B = z->session, .graphs = z->session == sizeof session ? 0 : 99};
    *x = (parts){0};
    x->bytes = fixture(version, &x->size_B);
    OK(cccrt_artifact_open_memory(&x->a, x->bytes, x->size_B, &open, &err));
    OK(cccrt_device_open(&x->d, &device, &err));
    if (cccrt_device_can_run(&target, x->d, x->a, &err) != CCC_OK) return false; /* an old processor */
    OK(cccrt_weights_attach(&x->w, x->a, x->d, &weights, &err));
    OK(cccrt_kv_alloc(&x->kv, x->a, x->d, 4, &err));
    cccrt_kv kv = *cccrt_kv_describe(x->kv);
    kv.size_B = z->kv;
    session.kv = &kv;
    OK(cccrt_session_create(&x->s, x->a, x->w, &session, &err));
    return true;
}

static void drop(parts *x)
{
    cccrt_session_close(x->s);
    cccrt_kv_close(x->kv);
    cccrt_weights_close(x->w);
    cccrt_device_close(x->d);
    cccrt_artifact_close(x->a);
    free(x->bytes);
}

/* Three tokens of one sequence; the hash of their logits. */
static uint64_t step(parts *x, size_t args_B)
{
    int32_t ids[] = {1, 2, 3}, starts[] = {0, 3}, lens[] = {3}, table[16] = {0}, rows[] = {2}, next;
    int64_t positions[] = {0, 1, 2}, slots[] = {0, 1, 2};
    float logits[101];
    cccrt_step_args g = {.size_B = args_B,
                         .n_tokens = 3,
                         .n_seqs = 1,
                         .n_logits = 1,
                         .token_ids = ids,
                         .positions = positions,
                         .query_start_loc = starts,
                         .seq_lens = lens,
                         .block_table = table,
                         .slot_mapping = slots,
                         .logits_indices = rows,
                         .mode = args_B == sizeof g ? 0 : 99};
    OK(cccrt_step(x->s, &g, NULL, &err));
    OK(cccrt_session_read(x->s, "logits", logits, 0, sizeof logits, NULL, &err));
    OK(cccrt_session_read(x->s, "next_tokens", &next, 0, sizeof next, NULL, &err));
    OK(cccrt_check(x->s, NULL, &err));
    int32_t best = 0;
    for (int32_t i = 1; i < 101; i++)
        if (logits[i] > logits[best]) best = i;
    cr_assert_eq(next, best);
    return XXH64(logits, sizeof logits, 0);
}

/* 1.0 says nothing about bytes: whole weights are counted, the embedding's table too, and no cache. */
static void check_traffic(parts *x, bool stated)
{
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 3, .n_seqs = 1, .n_logits = 1};
    cccrt_node_traffic row[16] = {{.size_B = sizeof *row}};
    uint32_t n;
    uint64_t kv_B = 0;
    OK(cccrt_step_traffic(x->s, &g, row, 16, &n, &err));
    for (uint32_t i = 0; i < n; i++) kv_B += row[i].kv_B;
    cr_assert(n == 13 && row[0].memory_B == (stated ? 3 : 101) * 64 * 2 && kv_B == (stated ? 2 * 2 * 16 * 2 : 0));
}

static void check_format(const char *version)
{
    parts x;
    cccrt_model m = {.size_B = sizeof m};
    bool runs = make(&x, version, &whole);
    OK(cccrt_artifact_verify(x.a, &err));
    cccrt_artifact_model(x.a, &m);
    cr_assert(m.vocab == 101 && m.hidden == 64 && m.n_layers == 1 && m.kv_heads == 2 && m.head_size == 16 &&
              m.max_tokens == 8 && m.n_targets == 2);
    cr_assert_str_eq(cccrt_artifact_target(x.a, 1), "sm_90a");
    cr_assert_str_eq(cccrt_artifact_fact(x.a, "rope_theta"), "10000");
    uint64_t logits = runs ? step(&x, sizeof(cccrt_step_args)) : LOGITS_OF_1_0;
    cr_assert_eq(logits, LOGITS_OF_1_0, "the logits are %#llx", (unsigned long long)logits);
    if (runs) check_traffic(&x, strcmp(version, "1.0") != 0);
    drop(&x);
}

Test(abi, artifacts_of_earlier_formats)
{
    check_format("1.0");
    check_format("1.1");
    check_format("1.2");
}

Test(abi, argument_structs_of_an_older_size)
{
    static const sizes old = {offsetof(cccrt_open_args, allow_host_code) + sizeof(int),
                              offsetof(cccrt_device_args, n_threads),
                              offsetof(cccrt_weights_args, tensors),
                              offsetof(cccrt_session_args, graphs),
                              sizeof(cccrt_kv),
                              offsetof(cccrt_step_args, mode)};
    parts x;
    if (make(&x, "1.0", &old)) cr_assert_eq(step(&x, old.step), LOGITS_OF_1_0);
    struct {
        cccrt_model m;
    } model;
    memset(&model, 0x5a, sizeof model);
    model.m.size_B = offsetof(cccrt_model, vocab);
    cccrt_artifact_model(x.a, &model.m);
    cr_assert_eq(model.m.max_tokens, 8);
    cr_assert_eq(model.m.vocab, 0x5a5a5a5a5a5a5a5a, "a field that an older caller does not have was written");
    cccrt_device_props p;
    memset(&p, 0x5a, sizeof p);
    p.size_B = offsetof(cccrt_device_props, cc);
    OK(cccrt_device_get_props(x.d, &p, &err));
    cr_assert(p.is_cuda == 0 && p.cc == 0x5a5a5a5a);
    cccrt_memory memory;
    memset(&memory, 0x5a, sizeof memory);
    memory.size_B = offsetof(cccrt_memory, arena);
    OK(cccrt_artifact_memory(&memory, x.a, "sm_90a", 4, &err));
    cr_assert(memory.weights > 0 && memory.arena == 0x5a5a5a5a5a5a5a5a);
    drop(&x);
}

Test(abi, argument_structs_of_a_newer_size)
{
    struct {
        cccrt_open_args a;
        uint64_t more[2];
    } newer = {.a = {.size_B = sizeof newer}};
    size_t size_B;
    uint8_t *bytes = fixture("1.0", &size_B);
    cccrt_artifact *a;
    OK(cccrt_artifact_open_memory(&a, bytes, size_B, &newer.a,
                                  &err)); /* what we do not know is 0: not asked for */
    cccrt_artifact_close(a);
    newer.more[1] = 1;
    cr_assert_eq(cccrt_artifact_open_memory(&a, bytes, size_B, &newer.a, &err), CCC_E_VERSION);
    cr_assert(strstr(err.msg, "cccrt_open_args"), "%s", err.msg);
    free(bytes);
}

Test(abi, newer_formats)
{
    size_t size_B;
    uint8_t *bytes = fixture("1.0", &size_B);
    cccrt_artifact *a;
    bytes[10] = 9; /* 1.9, with a chunk that this version may pass over */
    uint8_t *last = bytes + 64 + 56 * (size_t)(bytes[16] - 1);
    last[0] = 77;
    seal_again(bytes, size_B);
    OK(cccrt_artifact_open_memory(&a, bytes, size_B, NULL, &err));
    cccrt_artifact_close(a);
    last[3] |= 0x80; /* with one that it must know */
    seal_again(bytes, size_B);
    cr_assert_eq(cccrt_artifact_open_memory(&a, bytes, size_B, NULL, &err), CCC_E_VERSION);
    cr_assert(strstr(err.msg, "1.9") && strstr(err.msg, "1.2"), "%s", err.msg);
    bytes[8] = 2, bytes[10] = 3; /* 2.3 */
    seal_again(bytes, size_B);
    cr_assert_eq(cccrt_artifact_open_memory(&a, bytes, size_B, NULL, &err), CCC_E_VERSION);
    cr_assert(strstr(err.msg, "2.3") && strstr(err.msg, "1."), "%s", err.msg);
    free(bytes);
}
