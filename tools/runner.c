/* Artifact, device, weights, a session and its steps, for the subcommands of cccrt. */
#define _GNU_SOURCE
#include "runner.h"
#include "opt.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double rt_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* ---- numbers from text ---------------------------------------------------------------------------------------------------------- */
static ccc_status read_text(char **out, const char *path, ccc_err *err)
{
    FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    size_t n = 0, cap = 1 << 16;
    char *text = f ? malloc(cap) : NULL;
    if (!f) return ccc_fail(err, CCC_E_IO, "cannot open '%s': %s", path, strerror(errno));
    for (size_t got; text && (got = fread(text + n, 1, cap - n - 1, f)) > 0;) {
        n += got;
        if (n + 1 == cap) {
            char *more = realloc(text, cap *= 2);
            if (!more) free(text);
            text = more;
        }
    }
    if (f != stdin) fclose(f);
    if (!text) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    text[n] = 0;
    *out = text;
    return CCC_OK;
}

ccc_status rt_parse_ids(int32_t **ids, int64_t *n, const char *text, ccc_err *err)
{
    char *file = NULL;
    if (text[0] == '@') CCC_TRY(read_text(&file, text + 1, err));
    const char *p = file ? file : text;
    int32_t *out = malloc((strlen(p) / 2 + 2) * sizeof *out);
    ccc_status st = out ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *n = 0;
    while (st == CCC_OK) {
        p += strspn(p, ", \t\r\n");
        if (!*p) break;
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (end == p || errno || v < INT32_MIN || v > INT32_MAX) st = ccc_fail(err, CCC_E_ARG, "token %lld: '%.20s' is not a token id", (long long)*n, p);
        else out[(*n)++] = (int32_t)v;
        p = end;
    }
    if (st == CCC_OK && !*n) st = ccc_fail(err, CCC_E_ARG, "no token ids given");
    free(file);
    if (st != CCC_OK) free(out);
    else *ids = out;
    return st;
}

ccc_status rt_parse_numbers(int64_t *out, int max, int *n, const char *text, int64_t least, const char *what, ccc_err *err)
{
    *n = 0;
    for (const char *p = text; *p;) {
        char *end;
        long long v = strtoll(p, &end, 10);
        if (end == p || (*end && *end != ',') || v < least) return ccc_fail(err, CCC_E_ARG, "%s: '%s' is not a list of numbers from %lld", what, text, (long long)least);
        if (*n == max) return ccc_fail(err, CCC_E_ARG, "%s: more than %d numbers", what, max);
        out[(*n)++] = v;
        p = *end ? end + 1 : end;
    }
    return *n ? CCC_OK : ccc_fail(err, CCC_E_ARG, "%s: no number given", what);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */
static void show_progress(void *payload, uint64_t done_B, uint64_t total_B)
{
    (void)payload;
    fprintf(stderr, "\rweights %.0f/%.0f MB%s", (double)done_B / 1e6, (double)total_B / 1e6, done_B == total_B ? "\r\033[K" : "");
}

/* "cpu", "cuda" or "cuda:N" */
static bool parse_device(cccrt_device_args *a, const char *name)
{
    const char *number = name + 5;
    size_t digits;
    a->kind = !strcmp(name, "cpu") ? "cpu" : "cuda";
    if (!strcmp(name, "cpu") || !strcmp(name, "cuda")) return true;
    if (strncmp(name, "cuda:", 5)) return false;
    digits = strspn(number, "0123456789");
    a->ordinal = digits && digits < 7 ? atoi(number) : 0;
    return digits && digits < 7 && !number[digits];
}

int rt_usage(const rt_place *p, const char *program)
{
    cccrt_device_args a = { .size_B = sizeof a };
    if (!p->artifact) return opt_usage(program, "no artifact given");
    if (p->device && !parse_device(&a, p->device)) return opt_usage(program, "--device '%s' is not cpu, cuda or cuda:N", p->device);
    if (p->threads < 0 || p->threads > 4096) return opt_usage(program, "--threads: a number from 0 to 4096");
    return -1;
}

static ccc_status open_named(cccrt_device **out, const char *name, int64_t threads, ccc_err *err)
{
    cccrt_device_args a = { .size_B = sizeof a, .n_threads = (int)threads };
    if (!parse_device(&a, name)) return ccc_fail(err, CCC_E_ARG, "device '%s' is not cpu, cuda or cuda:N", name);
    return cccrt_device_open(out, &a, err);
}

ccc_status rt_choose_device(cccrt_device **out, const char *name, int64_t threads, ccc_err *no_gpu, ccc_err *err)
{
    *no_gpu = (ccc_err){ 0 };
    if (name) return open_named(out, name, threads, err);
    if (open_named(out, "cuda", threads, no_gpu) == CCC_OK) return CCC_OK;
    return open_named(out, "cpu", threads, err);
}

ccc_status rt_explain(ccc_status st, const ccc_err *no_gpu, ccc_err *err)
{
    ccc_err e = *err;
    if (st != CCC_E_DEVICE || !*no_gpu->msg) return st;
    return ccc_fail(err, st, "%.320s (%.160s)", e.msg, no_gpu->msg);
}

static ccc_status open_device(rt_machine *m, const rt_place *p, ccc_err *no_gpu, ccc_err *err)
{
    CCC_TRY(rt_choose_device(&m->device, p->device, p->threads, no_gpu, err));
    m->props.size_B = sizeof m->props;
    CCC_TRY(cccrt_device_get_props(m->device, &m->props, err));
    m->cuda = m->props.is_cuda;
    return CCC_OK;
}

static ccc_status attach(rt_machine *m, const rt_place *p, ccc_err *err)
{
    cccrt_weights_args a = { .size_B = sizeof a, .progress = isatty(2) ? show_progress : NULL };
    if (!strncmp(p->weights, "random:", 7)) {
        char *end;
        a.random = 1;
        a.seed = strtoull(p->weights + 7, &end, 10);
        if (end == p->weights + 7 || *end) return ccc_fail(err, CCC_E_ARG, "weights '%s': random:SEED needs a number", p->weights);
    } else {
        a.path = p->weights;
    }
    return cccrt_weights_attach(&m->weights, m->artifact, m->device, &a, err);
}

ccc_status rt_open(rt_machine *m, const rt_place *p, ccc_err *err)
{
    *m = (rt_machine){ 0 };
    ccc_err no_gpu;
    double t = rt_ms(), t1;
    CCC_TRY(open_device(m, p, &no_gpu, err));
    m->device_ms = (t1 = rt_ms()) - t;
    cccrt_open_args a = { .size_B = sizeof a, .allow_host_code = !m->cuda };
    CCC_TRY(cccrt_artifact_open(&m->artifact, p->artifact, &a, err));
    m->open_ms = (t = rt_ms()) - t1;
    CCC_TRY(rt_explain(attach(m, p, err), &no_gpu, err));
    m->attach_ms = rt_ms() - t;
    return CCC_OK;
}

void rt_close(rt_machine *m)
{
    cccrt_weights_close(m->weights);
    cccrt_artifact_close(m->artifact);
    cccrt_device_close(m->device);
}

/* ---- steps ------------------------------------------------------------------------------------------------------------------------- */
ccc_status rt_check(const rt_machine *m, int64_t n_seqs, int64_t context, ccc_err *err)
{
    cccrt_model model = { .size_B = sizeof model };
    cccrt_artifact_model(m->artifact, &model);
    if (!model.n_layers) return ccc_fail(err, CCC_E_UNSUPPORTED, "this artifact has no KV cache: it is no language model that run could decode with");
    if (n_seqs > model.max_seqs) return ccc_fail(err, CCC_E_ARG, "%lld sequences, the artifact was compiled for %lld", (long long)n_seqs, (long long)model.max_seqs);
    if (context > model.max_model_len)
        return ccc_fail(err, CCC_E_ARG, "%lld tokens a sequence, the artifact was compiled for %lld; compile with a larger --max-model-len", (long long)context,
                        (long long)model.max_model_len);
    return CCC_OK;
}

ccc_status rt_runner_open(rt_runner *r, rt_machine *m, int64_t n_seqs, int64_t context, int graphs, bool chain, ccc_err *err)
{
    *r = (rt_runner){ .m = m, .n_seqs = n_seqs, .context = context };
    r->model.size_B = sizeof r->model;
    cccrt_artifact_model(m->artifact, &r->model);
    CCC_TRY(rt_check(m, n_seqs, context, err));
    r->blocks_per_seq = (context + r->model.kv_block_size - 1) / r->model.kv_block_size;
    CCC_TRY(cccrt_kv_alloc(&r->kv, m->artifact, m->device, n_seqs * r->blocks_per_seq, err));
    r->block_table = malloc((size_t)(n_seqs * r->blocks_per_seq) * sizeof *r->block_table);
    if (!r->block_table) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (int64_t i = 0; i < n_seqs * r->blocks_per_seq; i++) r->block_table[i] = (int32_t)i;
    void *ids = NULL;
    size_t ids_B = (size_t)r->model.max_tokens * sizeof(int32_t);
    cccrt_session_args a = { .size_B = sizeof a, .kv = cccrt_kv_describe(r->kv), .max_blocks_per_seq = r->blocks_per_seq, .graphs = graphs };
    if (!chain) return cccrt_session_create(&r->session, m->artifact, m->weights, &a, err);
    CCC_TRY(cccrt_device_alloc(&ids, m->device, ids_B, err));
    CCC_TRY(cccrt_device_fill(m->device, ids, 0, ids_B, err));
    r->ids = ids;
    cccrt_binding both[] = { { "token_ids", ids, ids_B }, { "next_tokens", ids, ids_B } };
    a.bindings = both;
    a.n_bindings = 2;
    return cccrt_session_create(&r->session, m->artifact, m->weights, &a, err);
}

void rt_runner_close(rt_runner *r)
{
    cccrt_session_close(r->session);
    cccrt_kv_close(r->kv);
    if (r->ids) cccrt_device_release(r->m->device, r->ids);
    free(r->block_table);
}

static int64_t slot_of(const rt_runner *r, int64_t seq, int64_t pos)
{
    int64_t b = r->model.kv_block_size;
    return (int64_t)r->block_table[seq * r->blocks_per_seq + pos / b] * b + pos % b;
}

static ccc_status step(rt_runner *r, const cccrt_step_args *a, int32_t *next, ccc_err *err)
{
    CCC_TRY(cccrt_step(r->session, a, NULL, err));
    if (!next) return CCC_OK;
    CCC_TRY(cccrt_session_read(r->session, "next_tokens", next, 0, (size_t)a->n_logits * sizeof *next, NULL, err));
    return cccrt_check(r->session, NULL, err);
}

ccc_status rt_prefill(rt_runner *r, const int32_t *ids, int64_t n, int64_t before, int32_t *next, ccc_err *err)
{
    int64_t most = r->model.max_tokens < n ? r->model.max_tokens : n;
    int64_t *number = malloc((size_t)most * 2 * sizeof *number);
    if (!number) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_status st = CCC_OK;
    for (int64_t at = 0; at < n && st == CCC_OK; at += most) {
        int64_t piece = n - at < most ? n - at : most, from = before + at;
        for (int64_t i = 0; i < piece; i++) {
            number[i] = from + i;
            number[most + i] = slot_of(r, 0, from + i);
        }
        int32_t start[] = { 0, (int32_t)piece }, len = (int32_t)(from + piece), last = (int32_t)piece - 1;
        cccrt_step_args a = { .size_B = sizeof a, .n_tokens = piece, .n_seqs = 1, .n_logits = 1, .token_ids = ids + at, .positions = number, .query_start_loc = start,
                              .seq_lens = &len, .block_table = r->block_table, .slot_mapping = number + most, .logits_indices = &last };
        st = step(r, &a, at + piece == n ? next : NULL, err);
    }
    free(number);
    return st;
}

ccc_status rt_decode(rt_runner *r, const int32_t *ids, int64_t before, int32_t *next, ccc_err *err)
{
    int64_t n = r->n_seqs;
    int64_t *number = malloc((size_t)n * 2 * sizeof *number);
    int32_t *index = malloc((size_t)(3 * n + 1) * sizeof *index);
    ccc_status st = number && index ? CCC_OK : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (int64_t i = 0; i < n && st == CCC_OK; i++) {
        number[i] = before;
        number[n + i] = slot_of(r, i, before);
        index[i] = index[n + i] = (int32_t)i; /* query_start_loc, logits_indices */
        index[2 * n + 1 + i] = (int32_t)before + 1;
    }
    if (st == CCC_OK) {
        int32_t *start = index + n; /* n + 1 entries: 0 .. n */
        start[n] = (int32_t)n;
        cccrt_step_args a = { .size_B = sizeof a, .n_tokens = n, .n_seqs = n, .n_logits = n, .max_query_len = 1, .token_ids = ids, .positions = number, .query_start_loc = start,
                              .seq_lens = index + 2 * n + 1, .block_table = r->block_table, .slot_mapping = number + n, .logits_indices = index };
        st = step(r, &a, next, err);
    }
    free(number);
    free(index);
    return st;
}
