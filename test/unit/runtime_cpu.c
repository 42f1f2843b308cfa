/* The runtime on the CPU with the hand-made artifact: weights from every source, steps, advance, limits,
 * reports, errors. */
#include "runtime_make.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

static uint16_t embed[VOCAB * HIDDEN], rows_a[2 * HIDDEN], rows_b[4 * HIDDEN];

static void tensors(cccrt_tensor t[3])
{
    for (int i = 0; i < VOCAB * HIDDEN; i++) embed[i] = (uint16_t)(i % 7);
    for (int i = 0; i < 2 * HIDDEN; i++) rows_a[i] = (uint16_t)(100 + i);
    for (int i = 0; i < 4 * HIDDEN; i++) rows_b[i] = (uint16_t)(200 + i);
    t[0] = (cccrt_tensor){"embed", "bf16", 2, {VOCAB, HIDDEN}, embed, sizeof embed, 0};
    t[1] = (cccrt_tensor){"a", "bf16", 2, {2, HIDDEN}, rows_a, sizeof rows_a, 0};
    t[2] = (cccrt_tensor){"b", "bf16", 2, {4, HIDDEN}, rows_b, sizeof rows_b, 0};
}

static cccrt_weights *attach(const cccrt_artifact *a, cccrt_device *d)
{
    cccrt_tensor t[3];
    cccrt_weights *w = NULL;
    tensors(t);
    cccrt_weights_args g = {.size_B = sizeof g, .tensors = t, .n_tensors = 3};
    OK(cccrt_weights_attach(&w, a, d, &g, &err));
    return w;
}

static void check_weights(cccrt_weights *w)
{
    cccrt_tensor t;
    OK(cccrt_weights_get(w, 0, &t, &err));
    cr_assert(memcmp(t.data, embed, sizeof embed) == 0);
    OK(cccrt_weights_get(w, 1, &t, &err));
    const uint16_t *ab = t.data;
    for (int i = 0; i < 6 * HIDDEN; i++)
        cr_assert_eq(ab[i], (i < 2 * HIDDEN ? 101 + i : 201 + i - 2 * HIDDEN));
    OK(cccrt_weights_get(w, 2, &t, &err));
    cr_assert_eq(((const float *)t.data)[3], 8.0f);
    cr_assert_str_eq(t.dtype, "f32");
    FAILS(CCC_E_ARG, "3 weights", cccrt_weights_get(w, 3, &t, &err));
}

typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;

static all make_all(void)
{
    all x = {.a = make_open(1), .d = make_device("cpu")};
    x.w = attach(x.a, x.d);
    OK(cccrt_kv_alloc(&x.kv, x.a, x.d, 8, &err));
    cccrt_session_args g = {.size_B = sizeof g, .kv = cccrt_kv_describe(x.kv)};
    OK(cccrt_session_create(&x.s, x.a, x.w, &g, &err));
    return x;
}

static void close_all(all *x) /* in the wrong order, which is allowed */
{
    cccrt_artifact_close(x->a);
    cccrt_device_close(x->d);
    cccrt_weights_close(x->w);
    cccrt_kv_close(x->kv);
    cccrt_session_close(x->s);
}

Test(cpu, weights_from_tensors_and_random)
{
    cccrt_artifact *a = make_open(1);
    cccrt_device *d = make_device("cpu");
    cccrt_weights *w = attach(a, d), *r, *r2;
    check_weights(w);
    cccrt_weights_args g = {.size_B = sizeof g, .random = 1, .seed = 5};
    OK(cccrt_weights_attach(&r, a, d, &g, &err));
    OK(cccrt_weights_attach(&r2, a, d, &g, &err));
    cccrt_tensor t, t2;
    OK(cccrt_weights_get(r, 1, &t, &err));
    OK(cccrt_weights_get(r2, 1, &t2, &err));
    cr_assert(memcmp(t.data, t2.data, t.data_B) == 0);
    cr_assert_eq(((const uint16_t *)t.data)[17], (5 + 17) & 15);
    cccrt_weights_close(w);
    cccrt_weights_close(r);
    cccrt_weights_close(r2);
    cccrt_artifact_close(a);
    cccrt_device_close(d);
}

Test(cpu, weights_that_do_not_fit)
{
    cccrt_artifact *a = make_open(1);
    cccrt_device *d = make_device("cpu");
    cccrt_tensor t[4];
    cccrt_weights *w = NULL;
    tensors(t);
    cccrt_weights_args g = {.size_B = sizeof g, .tensors = t, .n_tensors = 2};
    FAILS(CCC_E_TYPE, "tensor 'b' is missing", cccrt_weights_attach(&w, a, d, &g, &err));
    g.n_tensors = 4;
    t[3] = t[2], t[3].name = "extra";
    FAILS(CCC_E_TYPE, "tensor 'extra' is not used", cccrt_weights_attach(&w, a, d, &g, &err));
    g.n_tensors = 3;
    t[1].shape[0] = 1, t[1].data_B /= 2;
    FAILS(CCC_E_TYPE, "tensor 'a' has shape [1,8], the artifact was compiled for [2,8]",
          cccrt_weights_attach(&w, a, d, &g, &err));
    tensors(t);
    t[0].dtype = "f16";
    FAILS(CCC_E_TYPE, "is f16", cccrt_weights_attach(&w, a, d, &g, &err));
    t[0].dtype = "bf16", t[0].data_B--;
    FAILS(CCC_E_ARG, "255 bytes", cccrt_weights_attach(&w, a, d, &g, &err));
    g.random = 1;
    FAILS(CCC_E_ARG, "one of", cccrt_weights_attach(&w, a, d, &g, &err));
    cccrt_weights_args p = {.size_B = sizeof p, .path = "/nonexistent/x"};
    FAILS(CCC_E_IO, "/nonexistent/x", cccrt_weights_attach(&w, a, d, &p, &err));
    cccrt_artifact_close(a);
    a = make_open(0);
    FAILS(CCC_E_ARG, "allow_host_code", cccrt_weights_attach(&w, a, d, &g, &err));
    cccrt_artifact_close(a);
    cccrt_device_close(d);
}

static void write_safetensors(const char *path, const char *extra)
{
    char header[512];
    cccrt_tensor t[3];
    tensors(t);
    int n = snprintf(header, sizeof header,
                     "{\"embed\":{\"dtype\":\"BF16\",\"shape\":[16,8],\"data_offsets\":[0,256]},\"a\":{"
                     "\"dtype\":\"BF16\",\"shape\":[2,8],\"data_offsets\":[256,288]},"
                     "\"b\":{\"dtype\":\"BF16\",\"shape\":[4,8],\"data_offsets\":[288,352]}%s}",
                     extra);
    uint64_t size = (uint64_t)n;
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    fwrite(&size, 8, 1, f);
    fwrite(header, 1, (size_t)n, f);
    for (int i = 0; i < 3; i++) fwrite(t[i].data, 1, t[i].data_B, f);
    if (*extra) fwrite(embed, 1, 2, f);
    fclose(f);
}

Test(cpu, weights_from_files)
{
    char folder[] = "/tmp/ccc-test-XXXXXX", path[64], prepared[64];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(prepared, sizeof prepared, "%s/w.ccw", folder);
    write_safetensors(path, "");
    cccrt_artifact *a = make_open(1);
    cccrt_device *d = make_device("cpu");
    cccrt_weights *w, *p;
    cccrt_weights_args g = {.size_B = sizeof g, .path = path}, gp = {.size_B = sizeof gp, .path = prepared};
    OK(cccrt_weights_attach(&w, a, d, &g, &err));
    check_weights(w);
    OK(cccrt_weights_save(w, prepared, &err));
    OK(cccrt_weights_attach(&p, a, d, &gp, &err));
    check_weights(p);
    cccrt_weights_close(p);
    cccrt_weights_close(w);
    write_safetensors(path, ",\"more\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[352,354]}");
    FAILS(CCC_E_TYPE, "tensor 'more'", cccrt_weights_attach(&w, a, d, &g, &err));
    FILE *f = fopen(prepared, "r+b"); /* every byte of a prepared file is covered by a hash or a check */
    cr_assert(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    for (long i = 0; i < n; i += i < 96 ? 1 : 61) {
        if (i >= 80 && i < 4096) continue; /* between the table and the data lie zeros that nothing reads */
        fseek(f, i, SEEK_SET);
        int c = fgetc(f);
        fseek(f, i, SEEK_SET);
        fputc(c ^ 4, f);
        fflush(f);
        cr_assert_neq(cccrt_weights_attach(&p, a, d, &gp, NULL), CCC_OK, "byte %ld", i);
        fseek(f, i, SEEK_SET);
        fputc(c, f);
        fflush(f);
    }
    OK(cccrt_weights_attach(&p, a, d, &gp, &err));
    cccrt_weights_close(p);
    cr_assert(ftruncate(fileno(f), n - 1) == 0);
    FAILS(CCC_E_CORRUPT, "damaged", cccrt_weights_attach(&p, a, d, &gp, &err));
    fclose(f);
    w = attach(a, d);
    FAILS(CCC_E_IO, "cannot write", cccrt_weights_save(w, "/nonexistent/w.ccw", &err));
    cccrt_weights_close(w);
    unlink(path);
    unlink(prepared);
    rmdir(folder);
    cccrt_artifact_close(a);
    cccrt_device_close(d);
}

static int32_t sum_of(int32_t id, int64_t position)
{
    int32_t s = (int32_t)position;
    for (int i = 0; i < HIDDEN; i++) s += embed[id * HIDDEN + i];
    return s;
}

Test(cpu, steps)
{
    all x = make_all();
    int32_t ids[] = {3, 1, 4, 1, 5}, starts[] = {0, 3, 5}, lens[] = {3, 2},
            table[] = {2, 0, 0, 0, 5, 0, 0, 0}, rows[] = {2, 4}, sums[5], next[2];
    int64_t positions[] = {0, 1, 2, 0, 1}, slots[] = {32, 33, 34, 80, 81};
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = 5,
                         .n_seqs = 2,
                         .n_logits = 2,
                         .token_ids = ids,
                         .positions = positions,
                         .query_start_loc = starts,
                         .seq_lens = lens,
                         .block_table = table,
                         .slot_mapping = slots,
                         .logits_indices = rows};
    OK(cccrt_step(x.s, &g, NULL, &err));
    OK(cccrt_session_read(x.s, "sums", sums, 0, sizeof sums, NULL, &err));
    for (int i = 0; i < 5; i++) cr_assert_eq(sums[i], sum_of(ids[i], positions[i]));
    OK(cccrt_session_read(x.s, "next_tokens", next, 0, sizeof next, NULL, &err));
    cr_assert(next[0] == sums[2] % VOCAB && next[1] == sums[4] % VOCAB);
    OK(cccrt_check(x.s, NULL, &err));
    /* decode from what is on the device: the next tokens become the ids */
    void *p;
    size_t n;
    OK(cccrt_session_buffer(x.s, "next_tokens", &p, &n, &err));
    int32_t lens1[] = {4, 3}, rows1[] = {0, 1};
    int64_t pos1[] = {3, 2}, slots1[] = {35, 82};
    cccrt_step_args h = {.size_B = sizeof h,
                         .n_tokens = 2,
                         .n_seqs = 2,
                         .n_logits = 2,
                         .token_ids = next,
                         .positions = pos1,
                         .seq_lens = lens1,
                         .block_table = table,
                         .slot_mapping = slots1,
                         .logits_indices = rows1};
    OK(cccrt_step(x.s, &h, NULL, &err));
    OK(cccrt_advance(x.s, 2, NULL, &err));
    int64_t pos2[2], slots2[2];
    OK(cccrt_session_read(x.s, "positions", pos2, 0, sizeof pos2, NULL, &err));
    OK(cccrt_session_read(x.s, "slot_mapping", slots2, 0, sizeof slots2, NULL, &err));
    cr_assert(pos2[0] == 4 && pos2[1] == 3 && slots2[0] == 36 && slots2[1] == 83);
    cccrt_step_args again = {.size_B = sizeof again, .n_tokens = 2, .n_seqs = 2, .n_logits = 2};
    OK(cccrt_step(x.s, &again, NULL, &err));
    OK(cccrt_session_read(x.s, "sums", sums, 0, 8, NULL, &err));
    cr_assert_eq(sums[0], sum_of(next[0], 4));
    again.advance = 1; /* both in one call */
    OK(cccrt_step(x.s, &again, NULL, &err));
    OK(cccrt_session_read(x.s, "positions", pos2, 0, sizeof pos2, NULL, &err));
    OK(cccrt_session_read(x.s, "slot_mapping", slots2, 0, sizeof slots2, NULL, &err));
    OK(cccrt_session_read(x.s, "sums", sums, 0, 8, NULL, &err));
    cr_assert(pos2[0] == 5 && pos2[1] == 4 && slots2[0] == 37 && slots2[1] == 84 && sums[0] == sum_of(next[0], 4));
    g.advance = 1;
    FAILS(CCC_E_ARG, "advance with 5 tokens of 2 sequences", cccrt_step(x.s, &g, NULL, &err));
    close_all(&x);
}

Test(cpu, arguments_out_of_range)
{
    all x = make_all();
    int32_t ids[] = {3, 1}, starts[] = {0, 1, 2}, lens[] = {3, 2}, table[] = {2, 0, 0, 0, 5, 0, 0, 0},
            rows[] = {0, 1};
    int64_t positions[] = {0, 1}, slots[] = {32, -1};
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = 2,
                         .n_seqs = 2,
                         .n_logits = 2,
                         .token_ids = ids,
                         .positions = positions,
                         .query_start_loc = starts,
                         .seq_lens = lens,
                         .block_table = table,
                         .slot_mapping = slots,
                         .logits_indices = rows};
    OK(cccrt_step(x.s, &g, NULL, &err));
#define STEP_FAILS(text, place, bad, good)                                                                   \
    place = bad;                                                                                             \
    FAILS(CCC_E_ARG, text, cccrt_step(x.s, &g, NULL, &err));                                                 \
    place = good
    STEP_FAILS("token_ids[1] is 16", ids[1], 16, 1);
    STEP_FAILS("token_ids[0] is -1", ids[0], -1, 3);
    STEP_FAILS("positions[1] is 64", positions[1], 64, 1);
    STEP_FAILS("slot_mapping[0] is 128", slots[0], 128, 32);
    STEP_FAILS("slot_mapping[0] is -2", slots[0], -2, 32);
    STEP_FAILS("seq_lens[1] is 65", lens[1], 65, 2);
    STEP_FAILS("logits_indices[1] is 2", rows[1], 2, 1);
    STEP_FAILS("block_table[1][0] is 8", table[4], 8, 5);
    STEP_FAILS("query_start_loc[2] is smaller", starts[1], 3, 1);
    lens[1] = 1;
    STEP_FAILS("sequence 1 has 2 query tokens, but seq_lens[1] is 1", starts[1], 0, 1);
    lens[1] = 2;
    STEP_FAILS("query_start_loc begins with 1", starts[0], 1, 0);
    STEP_FAILS("33 tokens in a step", g.n_tokens, 33, 2);
    STEP_FAILS("3 sequences", g.n_seqs, 3, 2);
    STEP_FAILS("rows of logits", g.n_logits, 3, 2);
    STEP_FAILS("max_query_len is -1", g.max_query_len, -1, 0);
    STEP_FAILS("mode is 7", g.mode, 7, 0);
    lens[0] = 64;
    STEP_FAILS("sequence 0 needs 4 blocks, block_table has room for 3", g.block_table_stride, 3, 0);
    close_all(&x);
}

Test(cpu, kernels_report_what_they_clamped)
{
    all x = make_all();
    void *p;
    size_t n;
    OK(cccrt_session_buffer(x.s, "token_ids", &p, &n, &err));
    cr_assert_eq(n, MAX_TOKENS * 4);
    ((int32_t *)p)[1] = 99;
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 2, .n_seqs = 2};
    OK(cccrt_step(x.s, &g, NULL, &err));
    FAILS(CCC_E_ARG, "number 1 had the value 99",
          cccrt_step(x.s, &g, NULL, &err)); /* the next step says so */
    OK(cccrt_step(x.s, &g, NULL, &err));
    FAILS(CCC_E_ARG, "a token id", cccrt_check(x.s, NULL, &err));
    ((int32_t *)p)[1] = 1;
    OK(cccrt_check(x.s, NULL, &err));
    close_all(&x);
}

Test(cpu, bindings)
{
    all x = make_all();
    static _Alignas(64) int32_t ids[MAX_TOKENS], small[4];
    cccrt_binding b[] = {{"token_ids", ids, sizeof ids}, {"next_tokens", ids, sizeof ids}};
    OK(cccrt_session_rebind(x.s, b, 2, &err));
    int64_t positions[] = {0, 0};
    int32_t rows[] = {0, 1};
    ids[0] = 1, ids[1] = 2;
    int32_t first = sum_of(1, 0) % VOCAB;
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = 2,
                         .n_seqs = 2,
                         .n_logits = 2,
                         .positions = positions,
                         .logits_indices = rows};
    OK(cccrt_step(x.s, &g, NULL, &err));
    cr_assert_eq(ids[0], first, "each step feeds the next");
    cccrt_binding bad[] = {{"token_ids", small, sizeof small}}, none[] = {{"tokens", ids, sizeof ids}};
    FAILS(CCC_E_ARG, "'token_ids' has 16 bytes; 128", cccrt_session_rebind(x.s, bad, 1, &err));
    FAILS(CCC_E_ARG, "no input or output 'tokens'", cccrt_session_rebind(x.s, none, 1, &err));
    void *p;
    size_t n;
    FAILS(CCC_E_ARG, "optional and not bound", cccrt_session_buffer(x.s, "inputs_embeds", &p, &n, &err));
    close_all(&x);
}

Test(cpu, sessions_that_do_not_fit)
{
    all x = make_all();
    cccrt_session *s = NULL;
    cccrt_session_args g = {.size_B = sizeof g};
    FAILS(CCC_E_ARG, "needs a KV cache", cccrt_session_create(&s, x.a, x.w, &g, &err));
    cccrt_kv kv = *cccrt_kv_describe(x.kv);
    g.kv = &kv;
    kv.head_stride_B = 8;
    FAILS(CCC_E_ARG, "strides", cccrt_session_create(&s, x.a, x.w, &g, &err));
    kv = *cccrt_kv_describe(x.kv), kv.n_layers = 2;
    FAILS(CCC_E_ARG, "2 layers", cccrt_session_create(&s, x.a, x.w, &g, &err));
    g.kv = cccrt_kv_describe(x.kv);
    g.size_B = 4;
    FAILS(CCC_E_ARG, "size_B is 4", cccrt_session_create(&s, x.a, x.w, &g, &err));
    struct {
        cccrt_session_args a;
        uint64_t later;
    } newer = {.a = {.size_B = sizeof newer, .kv = g.kv}};
    OK(cccrt_session_create(&s, x.a, x.w, &newer.a, &err));
    cccrt_session_close(s);
    newer.later = 1;
    FAILS(CCC_E_VERSION, "does not know", cccrt_session_create(&s, x.a, x.w, &newer.a, &err));
    g = (cccrt_session_args){.size_B = offsetof(cccrt_session_args, max_blocks_per_seq),
                             .kv = g.kv,
                             .graphs = 77}; /* an older caller's struct ends before */
    OK(cccrt_session_create(&s, x.a, x.w, &g, &err));
    cccrt_session_close(s);
    close_all(&x);
}

Test(cpu, after_fork)
{
    all x = make_all();
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        ccc_err err = {0};
        cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 1, .n_seqs = 1};
        int good = cccrt_step(x.s, &g, NULL, &err) == CCC_E_DEVICE && strstr(err.msg, "before fork");
        close_all(&x); /* must neither hang nor crash */
        _exit(good ? 0 : 1);
    }
    int status;
    cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close_all(&x);
}

Test(cpu, measuring)
{
    all x = make_all();
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 4, .n_seqs = 2, .n_logits = 2};
    cccrt_node_time t[8];
    uint32_t n;
    double ms, us;
    OK(cccrt_time_nodes(x.s, &g, 3, t, 8, &n, &err));
    cr_assert(n == 4 && strcmp(t[1].kernel, "sum") == 0 && t[1].weight_B == sizeof embed &&
              strcmp(t[0].kernel, "memset") == 0);
    struct {
        cccrt_node_traffic row;
        uint64_t later;
    } f[4] = {{.row.size_B = sizeof *f, .later = 5}}; /* a row of a caller that knows more, and one that knows less */
    OK(cccrt_step_traffic(x.s, &g, &f->row, 4, &n, &err));
    cr_assert(n == 4 && f[0].row.memory_B == 0 && f[1].row.memory_B == 4 && f[1].row.local_B == 4 && f[1].row.kv_B == 100 &&
              f[3].row.kv_B == 0 && f[0].later == 5);
    size_t shorter[4][2] = {{sizeof *shorter, 9}};
    OK(cccrt_step_traffic(x.s, &g, (cccrt_node_traffic *)shorter, 4, &n, &err));
    cr_assert(shorter[1][1] == 4 && shorter[3][1] == 4);
    FAILS(CCC_E_ARG, "size_B is 7", cccrt_step_traffic(x.s, &g, &(cccrt_node_traffic){.size_B = 7}, 4, &n, &err));
    OK(cccrt_time_subset(x.s, &g, (uint8_t[]){1, 0, 1, 0}, 4, 3, &ms, &err));
    cr_assert(ms > 0);
    FAILS(CCC_E_ARG, "has 4 nodes, not 3", cccrt_time_subset(x.s, &g, (uint8_t[]){1, 1, 1}, 3, 3, &ms, &err));
    OK(cccrt_time_chain(x.s, 2, 5, &ms, &us, &err));
    cr_assert(ms > 0 && us > 0);
    FAILS(CCC_E_ARG, "too small", cccrt_time_read(x.s, 100, &ms, &err));
    close_all(&x);
}

Test(cpu, info_and_memory)
{
    cccrt_artifact *a = make_open(0);
    char *json;
    OK(cccrt_artifact_verify(a, &err));
    OK(cccrt_artifact_info(&json, a, &err));
    cr_assert(strstr(json, "\"format\":\"1.2\"") && strstr(json, "\"test \\\"quoted\\\"\\u000a\"") &&
                  strstr(json, "\"mode\":\"decode\""),
              "%s", json);
    cccrt_free(json);
    cccrt_memory m = {.size_B = sizeof m};
    OK(cccrt_artifact_memory(&m, a, "sm_90a", 8, &err));
    cr_assert(m.weights == 768 && m.arena == 4096 && m.kv == 2 * 8 * BLOCK * HEAD * 2 && m.counters == 64);
    FAILS(CCC_E_ARG, "no target 'x'", cccrt_artifact_memory(&m, a, "x", 8, &err));
    cccrt_model model = {.size_B = sizeof model};
    cccrt_artifact_model(a, &model);
    cr_assert(model.vocab == VOCAB && strcmp(model.kv_layout, "nhd") == 0 && model.n_sizes == 4 &&
              model.sizes[3] == 8);
    cr_assert_str_eq(cccrt_artifact_fact(a, "rope_theta"), "10000");
    cr_assert_null(cccrt_artifact_fact(a, "nothing"));
    cr_assert_str_eq(cccrt_artifact_target(a, 1), "sm_90a");
    cr_assert_null(cccrt_artifact_target(a, 2));
    cccrt_artifact_close(a);
    FAILS(CCC_E_IO, "cannot open '/nonexistent'", cccrt_artifact_open(&a, "/nonexistent", NULL, &err));
    FAILS(CCC_E_CORRUPT, "'/proc/self/cmdline'", cccrt_artifact_open(&a, "/proc/self/cmdline", NULL, &err));
    FAILS(CCC_E_IO, "not a file", cccrt_artifact_open(&a, "/", NULL, &err));
}
