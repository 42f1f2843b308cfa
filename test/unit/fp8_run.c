/* fp8-static, and a KV cache of fp8, from import to logits on the CPU: final weights are those of the
 * definition, the step is what the evaluator says, and fused and unfused give the same bits. Weights are
 * drawn here as random:SEED draws them. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "../../compiler/ccc.h"
#include "../../runtime/cccrt.h"

enum { T = 21, VOCAB = 101, SEED = 7, BLOCKS = 2 };

/* ---- weights */
static float drawn(const char *name, uint64_t i, double mean, double std)
{
    uint64_t z = (uint64_t)SEED ^ XXH64(name, strlen(name), 0);
    z += 0x9E3779B97F4A7C15u * (i + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return ccc_round_to(CCC_BF16, fmaf((float)((int32_t)(z >> 40) - 8388608),
                                       (float)(std * sqrt(3.0) / 8388608.0), (float)mean));
}

/* ---- a step of one sequence, as both sides take it */
static int32_t token_ids[T], starts[2] = {0, T}, lens[1] = {T}, table[16], rows[T];
static int64_t positions[T], slots[T];
static void make_step(void)
{
    for (int i = 0; i < T; i++) {
        token_ids[i] = i * 37 % VOCAB;
        rows[i] = i;
        positions[i] = i;
        slots[i] = i < 16 ? 16 + i : i - 16; /* blocks 1, 0 */
    }
    table[0] = 1;
}

typedef struct {
    const ccc_graph *g;
    void *data[256];
    unsigned n;
} given;

static void *keep(given *e, void *p)
{
    cr_assert(e->n < 256 && p);
    return e->data[e->n++] = p;
}
static ccc_status fetch(void *payload, const char *name, ccc_tensor *t, ccc_err *err)
{
    const struct {
        const char *name;
        void *data;
    } inputs[] = {{"token_ids", token_ids}, {"positions", positions}, {"query_start_loc", starts},
                  {"seq_lens", lens},       {"block_table", table},   {"slot_mapping", slots},
                  {"logits_indices", rows}, {"inputs_embeds", NULL}};
    given *e = payload;
    (void)err;
    for (unsigned i = 0; i < sizeof inputs / sizeof *inputs; i++)
        if (!strcmp(inputs[i].name, name)) {
            t->data = inputs[i].data;
            return CCC_OK;
        }
    if (!strncmp(name, "kv.", 3)) {
        t->size_B = sizeof(float) * BLOCKS * 2;
        for (unsigned i = 0; i < 3; i++) t->size_B *= (size_t)t->dim[i];
        t->data = keep(e, calloc(1, t->size_B));
        return CCC_OK;
    }
    double mean = 0, std = 0;
    for (ccc_nid i = 1; i < e->g->n_nodes; i++)
        if (e->g->node[i].op == CCC_OP_weight && !strcmp(ccc_attr_str(&e->g->node[i], "name"), name)) {
            mean = ccc_attr_float(&e->g->node[i], "init_mean");
            std = ccc_attr_float(&e->g->node[i], "init_std");
        }
    t->data = keep(e, malloc(t->size_B));
    for (uint64_t i = 0; i < t->size_B / 2; i++)
        ccc_store_f32(CCC_BF16, t->data, i, drawn(name, i, mean, std));
    return CCC_OK;
}

static void evaluate(const ccc_graph *g, float *logits)
{
    given e = {.g = g};
    ccc_eval_args a = {.accumulate_f64 = true, .fetch = fetch, .payload = &e};
    ccc_tensor out[4] = {0};
    ccc_err err = {0};
    a.sym_value[ccc_graph_find_sym(g, "T")] = T;
    a.sym_value[ccc_graph_find_sym(g, "S")] = 1;
    a.sym_value[ccc_graph_find_sym(g, "R")] = T;
    a.sym_value[ccc_graph_find_sym(g, "B")] = 16;
    cr_assert(ccc_ir_eval(g, &a, out, &err) == CCC_OK, "%s", err.msg);
    memcpy(logits, out[0].data, sizeof(float) * T * VOCAB);
    for (unsigned i = 0; i < g->n_out; i++) ccc_tensor_release(&out[i]);
    while (e.n) free(e.data[--e.n]);
}

static void check_weights(const cccrt_weights *w, int wanted)
{
    cccrt_tensor t;
    ccc_err err;
    int quantised = 0;
    const float inverse = 1.0f / (float)(0.125 / 448);
    for (uint32_t i = 0; cccrt_weights_get(w, i, &t, &err) == CCC_OK; i++) {
        if (strcmp(t.dtype, "e4m3")) continue;
        const uint8_t *have = t.data;
        for (const char *p = t.name; p; quantised++) { /* NAME*BITS:e4m3, joined by + */
            char name[200];
            const char *star = strchr(p, '*'), *next = strchr(p, '+');
            snprintf(name, sizeof name, "%.*s", (int)(star - p), p);
            uint64_t n = strstr(name, "k_proj") || strstr(name, "v_proj") ? 32 * 64
                         : strstr(name, "mlp")                            ? 160 * 64
                                                                          : 64 * 64;
            for (uint64_t k = 0; k < n; k++) {
                uint8_t want;
                ccc_store_f32(CCC_E4M3, &want, 0, drawn(name, k, 0, 0.02) * inverse);
                cr_assert(have[k] == want, "%s[%lu] is 0x%02x, not 0x%02x", name, (unsigned long)k, have[k],
                          want);
            }
            have += n;
            p = next ? next + 1 : NULL;
        }
        cr_assert(have == (const uint8_t *)t.data + t.data_B);
    }
    cr_assert(quantised == wanted, "%d projections are e4m3", quantised);
}

/* projections: how many are e4m3 */
static void execute(const ccc_graph *g, const char *opt_level, int projections, float *logits)
{
    ccc_config c;
    ccc_err err = {0};
    ccc_buf file = {0};
    ccc_config_init(&c);
    cr_assert(ccc_config_set(&c, "target", "x86-64-v3", &err) == CCC_OK &&
              ccc_config_set(&c, "cache", "false", &err) == CCC_OK);
    cr_assert(ccc_config_set(&c, "opt_level", opt_level, &err) == CCC_OK &&
              ccc_config_set(&c, "jobs", "2", &err) == CCC_OK);
    cr_assert(ccc_compile(&file, g, &(ccc_compile_args){.config = &c}, &err) == CCC_OK, "%s", err.msg);
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
    cr_assert(cccrt_artifact_open_memory(&a, file.data, file.size_B,
                                         &(cccrt_open_args){sizeof(cccrt_open_args), 1}, &err) == CCC_OK,
              "%s", err.msg);
    cr_assert(cccrt_device_open(
                  &d,
                  &(cccrt_device_args){.size_B = sizeof(cccrt_device_args), .kind = "cpu", .n_threads = 2},
                  &err) == CCC_OK,
              "%s", err.msg);
    cr_assert(cccrt_weights_attach(
                  &w, a, d,
                  &(cccrt_weights_args){.size_B = sizeof(cccrt_weights_args), .random = 1, .seed = SEED},
                  &err) == CCC_OK,
              "%s", err.msg);
    check_weights(w, projections);
    cr_assert(cccrt_kv_alloc(&kv, a, d, BLOCKS, &err) == CCC_OK, "%s", err.msg);
    cr_assert(cccrt_session_create(&s, a, w,
                                   &(cccrt_session_args){.size_B = sizeof(cccrt_session_args),
                                                         .kv = cccrt_kv_describe(kv),
                                                         .max_blocks_per_seq = 16},
                                   &err) == CCC_OK,
              "%s", err.msg);
    cccrt_step_args step = {.size_B = sizeof step,
                            .n_tokens = T,
                            .n_seqs = 1,
                            .n_logits = T,
                            .token_ids = token_ids,
                            .positions = positions,
                            .query_start_loc = starts,
                            .seq_lens = lens,
                            .block_table = table,
                            .slot_mapping = slots,
                            .logits_indices = rows};
    cr_assert(cccrt_step(s, &step, NULL, &err) == CCC_OK, "%s", err.msg);
    cr_assert(cccrt_check(s, NULL, &err) == CCC_OK, "%s", err.msg);
    cr_assert(cccrt_session_read(s, "logits", logits, 0, sizeof(float) * T * VOCAB, NULL, &err) == CCC_OK,
              "%s", err.msg);
    cccrt_session_close(s);
    cccrt_kv_close(kv);
    cccrt_weights_close(w);
    cccrt_device_close(d);
    cccrt_artifact_close(a);
    ccc_buf_free(&file);
}

static ccc_graph *import(const char *quantize, const char *cache, const char *layout)
{
    ccc_graph *g = NULL;
    ccc_config c;
    ccc_err err = {0};
    ccc_config_init(&c);
    cr_assert(ccc_config_set(&c, "quantize", quantize, &err) == CCC_OK &&
              ccc_config_set(&c, "kv_cache_dtype", cache, &err) == CCC_OK &&
              ccc_config_set(&c, "kv_layout", layout, &err) == CCC_OK);
    cr_assert(ccc_import(&g, CCC_TEST_DIR "/models/tiny", &(ccc_import_args){.config = &c}, &err) == CCC_OK,
              "%s", err.msg);
    return g;
}

static double distance(const float *a, const float *b)
{
    double d = 0, n = 0;
    for (int i = 0; i < T * VOCAB; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        n += (double)b[i] * b[i];
    }
    return sqrt(d / n);
}

Test(fp8, runs_as_defined_fused_and_not)
{
    static float want[T * VOCAB], fused[T * VOCAB], plain[T * VOCAB], bf16[T * VOCAB];
    make_step();
    ccc_graph *g = import("fp8-static", "auto", "ccc"), *full = import("none", "auto", "ccc");
    evaluate(g, want);
    evaluate(full, bf16);
    execute(g, "3", 7, fused);
    execute(g, "0", 7, plain);
    cr_assert(!memcmp(fused, plain, sizeof fused), "fused and unfused differ");
    double e = distance(fused, want), q = distance(want, bf16);
    cr_assert(e < 0.002, "%g from the evaluator", e);
    cr_assert(q > 0.002 && q < 0.2, "quantisation changes the logits by %g", q);
    ccc_graph_free(g);
    ccc_graph_free(full);
}

/* The same graph with scales of K and V: what import makes of a checkpoint that has some. */
static ccc_graph *with_scales(const ccc_graph *g)
{
    static const char *const change[][2] = {
        {"%l0.kq = cast %l0.kr ", "%ki = constant {value = 20} %kk = mul %l0.kr, %ki %l0.kq = cast %kk "},
        {"%l0.vq = cast %l0.v ", "%vi = constant {value = 0.75} %vv = mul %vi, %l0.v %l0.vq = cast %vv "},
        {"{scale = 0.25}", "{scale = 0.25, k_scale = 0.05, v_scale = 1.3333334}"}};
    ccc_buf text = {0};
    ccc_err err = {0};
    cr_assert(ccc_ir_print(g, &text) == CCC_OK);
    static char now[1 << 16], next[1 << 16];
    snprintf(now, sizeof now, "%.*s", (int)text.size_B, text.data);
    ccc_buf_free(&text);
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        char *at = strstr(now, change[i][0]);
        cr_assert(at, "no '%s'", change[i][0]);
        int n = snprintf(next, sizeof next, "%.*s%s%s", (int)(at - now), now, change[i][1],
                         at + strlen(change[i][0]));
        memcpy(now, next, (size_t)n + 1);
    }
    ccc_graph *out = NULL;
    cr_assert(ccc_ir_parse(&out, now, strlen(now), "scaled", &err) == CCC_OK, "%s", err.msg);
    return out;
}

Test(fp8, cache_runs_as_defined_fused_and_not)
{
    static float want[T * VOCAB], fused[T * VOCAB], plain[T * VOCAB], bf16[T * VOCAB];
    make_step();
    ccc_graph *full = import("none", "auto", "ccc");
    evaluate(full, bf16);
    for (int layout = 0; layout < 3; layout++) {
        ccc_graph *g = import("none", "fp8", (const char *[]){"nhd", "hnd", "ccc"}[layout]);
        if (layout) {
            ccc_graph *one = g;
            g = with_scales(one);
            ccc_graph_free(one);
        }
        evaluate(g, want);
        execute(g, "3", 0, fused);
        execute(g, "0", 0, plain);
        cr_assert(!memcmp(fused, plain, sizeof fused), "fused and unfused differ");
        double e = distance(fused, want), q = distance(want, bf16);
        cr_assert(e < 0.002, "layout %d: %g from the evaluator", layout, e);
        cr_assert(q > 1e-5 && q < 0.1, "the cache changes the logits by %g", q);
        ccc_graph_free(g);
    }
    ccc_graph_free(full);
}
