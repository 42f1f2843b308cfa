/* cccrt bench: the time of a decode step in a chain (each step's next_tokens feed the next on the device), per-kernel times, a prefill, and the
 * memory's read ceiling of the same run. Sequences are filled by running random tokens, so the KV cache holds what a model puts there. */
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCHES = 64, MAX_NODES = 4096 };
typedef struct {
    rt_place place;
    int64_t batch[MAX_BATCHES], prefill[MAX_BATCHES], context, steps, repeats;
    int n_batches, n_prefills;
    bool json, kernels;
    double ceiling; /* GB/s */
    int n_rows;     /* of JSON written so far */
} bench;

static uint32_t random_bits(uint32_t *state) /* xorshift32 */
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static uint64_t weight_bytes(const rt_machine *m)
{
    uint64_t n = 0;
    cccrt_tensor t;
    for (uint32_t i = 0; cccrt_weights_get(m->weights, i, &t, NULL) == CCC_OK; i++) n += t.data_B;
    return n;
}

/* Every sequence gets `context` random tokens, several sequences a step. */
static ccc_status fill_sequences(rt_runner *r, int64_t context, ccc_err *err)
{
    int64_t total = r->n_seqs * context, most = r->model.max_tokens < total ? r->model.max_tokens : total, max_seqs = r->n_seqs;
    int32_t *ids = malloc((size_t)most * 4), *start = malloc((size_t)(max_seqs + 1) * 4), *len = malloc((size_t)max_seqs * 4);
    int32_t *table = malloc((size_t)(max_seqs * r->blocks_per_seq) * 4), *last = malloc((size_t)max_seqs * 4);
    int64_t *pos = malloc((size_t)most * 8), *slot = malloc((size_t)most * 8);
    ccc_status st = ids && start && len && table && last && pos && slot ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    uint32_t seed = 12345;
    for (int64_t done = 0; done < total && st == CCC_OK;) {
        int64_t n = 0, s = 0;
        start[0] = 0;
        while (n < most && done < total) {
            int64_t seq = done / context, at = done % context, piece = context - at < most - n ? context - at : most - n;
            for (int64_t i = 0; i < piece; i++, n++) {
                int64_t b = r->model.kv_block_size;
                ids[n] = (int32_t)(random_bits(&seed) % (uint32_t)r->model.vocab);
                pos[n] = at + i;
                slot[n] = (int64_t)r->block_table[seq * r->blocks_per_seq + (at + i) / b] * b + (at + i) % b;
            }
            memcpy(table + s * r->blocks_per_seq, r->block_table + seq * r->blocks_per_seq, (size_t)r->blocks_per_seq * 4);
            len[s] = (int32_t)(at + piece);
            last[s] = (int32_t)n - 1;
            start[++s] = (int32_t)n;
            done += piece;
        }
        cccrt_step_args a = { .size_B = sizeof a, .n_tokens = n, .n_seqs = s, .n_logits = s, .mode = CCCRT_STEP_MIXED, .token_ids = ids, .positions = pos, .query_start_loc = start,
                              .seq_lens = len, .block_table = table, .slot_mapping = slot, .logits_indices = last };
        st = cccrt_step(r->session, &a, NULL, err);
        if (st == CCC_OK) st = cccrt_check(r->session, NULL, err);
    }
    free(ids), free(start), free(len), free(table), free(last), free(pos), free(slot);
    return st;
}

static void row_begin(bench *b, const char *kind)
{
    if (b->json) printf("%s{\"kind\":\"%s\"", b->n_rows++ ? "," : "", kind);
}

/* ---- what a step moves ------------------------------------------------------------------------------------------------------------ */
typedef struct { cccrt_node_traffic row[MAX_NODES]; uint32_t n; } traffic;

static cccrt_step_args decode_args(int64_t batch)
{
    return (cccrt_step_args){ .size_B = sizeof(cccrt_step_args), .n_tokens = batch, .n_seqs = batch, .n_logits = batch, .max_query_len = 1 };
}

static ccc_status get_traffic(traffic *t, rt_runner *r, int64_t batch, ccc_err *err)
{
    cccrt_step_args a = decode_args(batch);
    t->row[0].size_B = sizeof *t->row;
    CCC_TRY(cccrt_step_traffic(r->session, &a, t->row, MAX_NODES, &t->n, err));
    return t->n <= MAX_NODES ? CCC_OK : ccc_fail(err, CCC_E_UNSUPPORTED, "a step has %u kernels, bench has room for %d", t->n, MAX_NODES);
}

/* Bytes that must come from or go to memory while the cache holds `tokens`: what kernels hand to each other stays in the cache of the device. */
static double step_bytes(const traffic *t, double tokens)
{
    double bytes = 0;
    for (uint32_t i = 0; i < t->n; i++) bytes += (double)t->row[i].memory_B + (double)t->row[i].kv_B * tokens;
    return bytes;
}

/* ---- each kernel -------------------------------------------------------------------------------------------------------------------- */
typedef struct { const char *kernel; unsigned count; double us, bytes; } kernel_row;

/* Without times where nodes are too short to be told. */
static void print_kernel(bench *b, const kernel_row *k, bool first)
{
    double gbs = k->us > 0 ? k->bytes / k->us / 1e3 : 0, share = b->ceiling > 0 ? gbs / b->ceiling : 0;
    if (b->json) printf("%s{\"kernel\":\"%s\",\"count\":%u,", first ? "" : ",", k->kernel, k->count);
    else printf("  %6u ", k->count);
    if (k->us > 0 && b->json) printf("\"us\":%.3f,\"bytes\":%.0f,\"gb_per_s\":%.1f,\"share\":%.4f}", k->us, k->bytes, gbs, share);
    else if (b->json) printf("\"us\":null,\"bytes\":%.0f,\"gb_per_s\":null,\"share\":null}", k->bytes);
    else if (k->us > 0) printf("%10.2f %10.1f %10.3f %8.0f %6.1f%%  %s\n", k->us / k->count, k->us, k->bytes / k->count / 1e6, gbs, 100 * share, k->kernel);
    else printf("%10s %10s %10.3f %8s %7s  %s\n", "-", "-", k->bytes / k->count / 1e6, "-", "-", k->kernel);
}

/* One row for all nodes that run the same kernel on as many bytes, in order of first use. */
static void print_kernels(bench *b, const cccrt_node_time *t, const traffic *moved, int64_t tokens)
{
    if (b->json) printf(",\"kernels\":[");
    else printf("  %6s %10s %10s %10s %8s %7s  kernel (alone, from memory, median of %lld)\n", "count", "us each", "us all", "MB each", "GB/s", "share", (long long)b->repeats);
    for (uint32_t i = 0; i < moved->n; i++) {
        kernel_row k = { .kernel = t[i].kernel };
        bool seen = false;
        for (uint32_t j = 0; j < moved->n; j++) {
            const cccrt_node_traffic *x = &moved->row[i], *y = &moved->row[j];
            if (strcmp(t[j].kernel, t[i].kernel) || x->memory_B != y->memory_B || x->local_B != y->local_B || x->kv_B != y->kv_B) continue;
            if (j < i) seen = true;
            k.us += 1e3 * t[j].ms;
            k.bytes += (double)(y->memory_B + y->local_B) + (double)y->kv_B * (double)tokens;
            k.count++;
        }
        if (!seen) print_kernel(b, &k, i == 0);
    }
    if (b->json) printf("]");
}

static ccc_status bench_kernels(bench *b, rt_runner *r, int64_t batch, const traffic *moved, int64_t tokens, ccc_err *err)
{
    cccrt_node_time *t = calloc(MAX_NODES, sizeof *t);
    uint32_t n = 0;
    cccrt_step_args a = decode_args(batch);
    ccc_status st = t ? cccrt_time_nodes(r->session, &a, (int)b->repeats, t, MAX_NODES, &n, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (st == CCC_OK) print_kernels(b, t, moved, tokens);
    free(t);
    return st;
}

/* Tokens of a sequence in front of the first step, so that the mean step of the chain sees `context`; at least one. */
static int64_t filled(const bench *b) { return b->context > (b->steps + 5) / 2 ? b->context - (b->steps + 5) / 2 : 1; }
/* Tokens of a sequence: these, a step in front of the chain, one that is not counted, the chain, and the position after it. */
static int64_t room(const bench *b) { return filled(b) + b->steps + 3; }

static void print_decode(bench *b, int64_t batch, double ms, double host_us, double bytes)
{
    double gbs = bytes / ms / 1e6;
    row_begin(b, "decode");
    if (b->json) printf(",\"batch\":%lld,\"context\":%lld,\"step_ms\":%.4f,\"host_us\":%.2f,\"bytes\":%.0f,\"gb_per_s\":%.1f,\"share\":%.4f", (long long)batch, (long long)b->context, ms, host_us,
                        bytes, gbs, b->ceiling > 0 ? gbs / b->ceiling : 0);
    else printf("decode  batch %-4lld context %-6lld %9.3f ms a step, %.3f GB, %7.1f GB/s = %.1f %% of the read ceiling%s, enqueued in %.1f us\n", (long long)batch, (long long)b->context, ms, bytes / 1e9,
                gbs, 100 * gbs / b->ceiling, gbs > b->ceiling ? " (over 100 %: a measuring error)" : "", host_us);
}

/* Steps of the chain hold, of each sequence, from filled + 3 tokens on; the bytes are those of the mean. */
static ccc_status run_chain(bench *b, rt_runner *r, traffic *moved, int64_t batch, ccc_err *err)
{
    double ms = 0, host_us = 0;
    CCC_TRY(cccrt_advance(r->session, batch, NULL, err));
    CCC_TRY(cccrt_time_chain(r->session, batch, (int)b->steps, &ms, &host_us, err));
    CCC_TRY(cccrt_check(r->session, NULL, err));
    CCC_TRY(get_traffic(moved, r, batch, err));
    double tokens = (double)batch * ((double)filled(b) + 2.5 + 0.5 * (double)b->steps);
    print_decode(b, batch, ms, host_us, step_bytes(moved, tokens));
    return b->kernels ? bench_kernels(b, r, batch, moved, batch * room(b), err) : CCC_OK;
}

static ccc_status bench_batch(bench *b, rt_machine *m, int64_t batch, ccc_err *err)
{
    rt_runner r = { 0 };
    int32_t *ids = calloc((size_t)batch, sizeof *ids);
    traffic *moved = calloc(1, sizeof *moved);
    ccc_status st = ids && moved ? rt_runner_open(&r, m, batch, room(b), CCCRT_GRAPHS_ON_DEMAND, true, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (st == CCC_OK) st = fill_sequences(&r, filled(b), err);
    for (int64_t i = 0; i < batch && st == CCC_OK; i++) ids[i] = (int32_t)(i * 7919 % r.model.vocab);
    if (st == CCC_OK) st = rt_decode(&r, ids, filled(b), ids, err);
    if (st == CCC_OK) st = run_chain(b, &r, moved, batch, err);
    if (st == CCC_OK && b->json) printf("}");
    fflush(stdout);
    rt_runner_close(&r);
    free(ids);
    free(moved);
    return st;
}

static int by_value(const void *x, const void *y) { return (*(const double *)x > *(const double *)y) - (*(const double *)x < *(const double *)y); }

static ccc_status bench_prefill(bench *b, rt_machine *m, int64_t n, ccc_err *err)
{
    rt_runner r = { 0 };
    double t[64];
    int64_t repeats = b->repeats < 64 ? b->repeats : 64;
    uint32_t seed = 99;
    int32_t *ids = malloc((size_t)n * sizeof *ids), next;
    ccc_status st = ids ? rt_runner_open(&r, m, 1, n, CCCRT_GRAPHS_NONE, false, err) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (int64_t i = 0; i < n && st == CCC_OK; i++) ids[i] = (int32_t)(random_bits(&seed) % (uint32_t)r.model.vocab);
    for (int64_t i = -1; i < repeats && st == CCC_OK; i++) { /* the first run is not counted */
        double t0 = rt_ms();
        st = rt_prefill(&r, ids, n, 0, &next, err);
        if (i >= 0) t[i] = rt_ms() - t0;
    }
    if (st == CCC_OK) {
        qsort(t, (size_t)repeats, sizeof *t, by_value);
        row_begin(b, "prefill");
        if (b->json) printf(",\"tokens\":%lld,\"ms\":%.3f}", (long long)n, t[repeats / 2]);
        else printf("prefill %lld tokens %24.3f ms, %.0f tokens/s\n", (long long)n, t[repeats / 2], 1e3 * (double)n / t[repeats / 2]);
        fflush(stdout);
    }
    rt_runner_close(&r);
    free(ids);
    return st;
}

static ccc_status measure_ceiling(bench *b, rt_machine *m, ccc_err *err)
{
    rt_runner r = { 0 };
    ccc_status st = rt_runner_open(&r, m, 1, 16, CCCRT_GRAPHS_NONE, false, err);
    if (st == CCC_OK) st = cccrt_time_read(r.session, m->cuda ? (size_t)4 << 30 : (size_t)1 << 30, &b->ceiling, err);
    rt_runner_close(&r);
    return st;
}

static ccc_status run(bench *b, ccc_err *err)
{
    rt_machine m;
    ccc_status st = rt_open(&m, &b->place, err);
    for (int i = 0; i < b->n_batches && st == CCC_OK; i++) st = rt_check(&m, b->batch[i], room(b), err); /* before minutes have gone by */
    for (int i = 0; i < b->n_prefills && st == CCC_OK; i++) st = rt_check(&m, 1, b->prefill[i], err);
    if (st == CCC_OK) st = measure_ceiling(b, &m, err);
    if (st == CCC_OK && b->json) printf("{\"device\":\"%s\",\"read_ceiling_gb_per_s\":%.1f,\"weight_bytes\":%llu,\"rows\":[", m.props.name, b->ceiling, (unsigned long long)weight_bytes(&m));
    if (st == CCC_OK && !b->json) printf("%s, read ceiling %.0f GB/s, weights %.3f GB\n", m.props.name, b->ceiling, (double)weight_bytes(&m) / 1e9);
    for (int i = 0; i < b->n_batches && st == CCC_OK; i++) st = bench_batch(b, &m, b->batch[i], err);
    for (int i = 0; i < b->n_prefills && st == CCC_OK; i++) st = bench_prefill(b, &m, b->prefill[i], err);
    if (st == CCC_OK && b->json) printf("]}\n");
    rt_close(&m);
    return st;
}

int rt_bench(int argc, char **argv)
{
    static const char program[] = "cccrt bench";
    bench b = { .context = 1024, .steps = 100, .repeats = 15 };
    const char *batch = "1", *prefill = NULL;
    int n_args;
    const opt opts[] = {
        { "--weights", OPT_TEXT, &b.place.weights, "MODEL", "Hugging Face folder, .safetensors, GGUF, prepared .ccw file, or random:SEED" },
        { "--batch", OPT_TEXT, &batch, "LIST", "sequences of a decode step, e.g. 1,8,64 [1]" },
        { "--context", OPT_NUMBER, &b.context, "N", "tokens in the cache of each sequence, in the mean of the chain [1024]" },
        { "--steps", OPT_NUMBER, &b.steps, "N", "steps of the chain [100]" },
        { "--prefill", OPT_TEXT, &prefill, "LIST", "also time prompts of so many tokens, e.g. 512,2048" },
        { "--repeats", OPT_NUMBER, &b.repeats, "N", "runs of which the median is taken (kernels, prefill) [15]" },
        { "--kernels", OPT_FLAG, &b.kernels, NULL, "time each kernel alone" },
        { "--device", OPT_TEXT, &b.place.device, "DEVICE", "cpu, cuda or cuda:N; else what is there" },
        { "--threads", OPT_NUMBER, &b.place.threads, "N", "cpu: threads, 0: one for each processor [0]" },
        { "--json", OPT_FLAG, &b.json, NULL, "one JSON object" },
        { 0 },
    };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart --weights MODEL [options]", "Times decode steps, kernels and prefill.", &b.place.artifact, 1, &n_args);
    if (status >= 0) return status;
    if ((status = rt_usage(&b.place, program)) >= 0) return status;
    if (!b.place.weights) return opt_usage(program, "no weights given; use --weights");
    if (b.context < 1 || b.steps < 1 || b.steps > 100000 || b.repeats < 1 || b.repeats > 10000) return opt_usage(program, "--context, --steps and --repeats are numbers from 1");
    ccc_err err = { 0 };
    ccc_status st = rt_parse_numbers(b.batch, MAX_BATCHES, &b.n_batches, batch, 1, "--batch", &err);
    if (st == CCC_OK && prefill) st = rt_parse_numbers(b.prefill, MAX_BATCHES, &b.n_prefills, prefill, 1, "--prefill", &err);
    if (st != CCC_OK) return opt_usage(program, "%s", err.msg);
    st = run(&b, &err);
    return st == CCC_OK ? 0 : opt_fail("cccrt", &err);
}
