/* See ops.h. The models are random or made here from what the artifact says about its weights. */
#define _GNU_SOURCE
#include "ops.h"
#include "../../cache/cache.h"
#include "../../compiler/ccc.h"
#include "../../runtime/ccart_codec.h"
#include "../../runtime/cccrt.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *op_folder;
static const char *artifact_path, *model_path;
static char weights_path[4096], cache_path[4096], kernels_path[4096], ccw_path[4096], artifacts_path[4096];
static ccc_graph *graph;
static ccc_config config;
static ccc_buf kept;

/* ---- files */
static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void drop_folder(const char *path)
{
    nftw(path, drop, 16, FTW_DEPTH | FTW_PHYS);
}

static int write_file(const char *path, const void *data, size_t size_B)
{
    FILE *f = fopen(path, "wb");
    if (!f) return 1;
    size_t n = fwrite(data, 1, size_B, f);
    return fclose(f) || n != size_B;
}

static int copy_file(const char *from, const char *to)
{
    char data[65536];
    FILE *f = fopen(from, "rb");
    size_t n = f ? fread(data, 1, sizeof data, f) : 0;
    if (f) fclose(f);
    return !n || write_file(to, data, n);
}

/* A safetensors file with every source tensor of the artifact's first target, bytes that count up. */
static int write_weights(const char *path)
{
    ccart_file *f;
    ccc_buf artifact = {0}, head = {0}, file = {0};
    uint64_t at = 0;
    FILE *in = fopen(artifact_path, "rb");
    for (int c; in && (c = fgetc(in)) != EOF;) ccc_buf_put(&artifact, &(char){(char)c}, 1);
    if (in) fclose(in);
    if (ccart_decode(&f, artifact.data, artifact.size_B, 0, NULL) != CCC_OK) return 1;
    const ccart_target *t = &f->target[0];
    for (uint32_t i = 0; i < t->n_segments; i++) {
        const ccart_segment *s = &t->segment[i];
        bool seen = !*s->source;
        for (uint32_t k = 0; k < i; k++) seen |= strcmp(t->segment[k].source, s->source) == 0;
        if (seen) continue;
        ccc_buf_printf(&head, "%c\"%s\":{\"dtype\":\"BF16\",\"shape\":[", head.size_B ? ',' : '{', s->source);
        uint64_t size_B = 2;
        for (uint32_t d = 0; d < s->rank; d++) {
            ccc_buf_printf(&head, "%s%lld", d ? "," : "", (long long)s->dim[d]);
            size_B *= (uint64_t)s->dim[d];
        }
        ccc_buf_printf(&head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                       (unsigned long long)(at + size_B));
        at += size_B;
    }
    ccart_release(f);
    ccc_buf_printf(&head, "}");
    while (head.size_B % 8) ccc_buf_printf(&head, " ");
    ccc_buf_u64(&file, head.size_B);
    ccc_buf_put(&file, head.data, head.size_B);
    for (uint64_t i = 0; i < at; i++) ccc_buf_put(&file, &(uint8_t){(uint8_t)(i % 2 ? 0x3c : i / 7)}, 1);
    int failed = write_file(path, file.data, file.size_B);
    ccc_buf_free(&artifact);
    ccc_buf_free(&head);
    ccc_buf_free(&file);
    return failed;
}

/* ---- the operations */
static void nothing(void) {}
static void no_artifacts(void)
{
    drop_folder(artifacts_path);
}
static void no_cache(void)
{
    drop_folder(cache_path);
}
static void no_ccw(void)
{
    unlink(ccw_path);
}

static ccc_status import(const char *path, ccc_buf *out, ccc_err *err)
{
    ccc_graph *g;
    CCC_TRY(ccc_import(&g, path, &(ccc_import_args){.config = &config}, err));
    ccc_status status = ccc_ir_print(g, out);
    ccc_graph_free(g);
    return status == CCC_OK ? status : ccc_fail(err, CCC_E_NOMEM, "out of memory");
}
static ccc_status import_folder(ccc_buf *out, ccc_err *err)
{
    return import(model_path, out, err);
}
static ccc_status import_weights(ccc_buf *out, ccc_err *err)
{
    return import(weights_path, out, err);
}

static ccc_status compile(ccc_buf *out, ccc_err *err)
{
    return ccc_compile(out, graph, &(ccc_compile_args){.config = &config}, err);
}

static ccc_status cache(ccc_buf *out, ccc_err *err)
{
    ccc_cache *c = NULL;
    ccc_factors f = {0};
    bool found = false;
    static const char object[3000] = "an object";
    ccc_status status = ccc_cache_open(&c, cache_path, err);
    ccc_factor_str(&f, "label", "a thing");
    for (int i = 0; i < 3 && status == CCC_OK; i++) {
        ccc_factor_int(&f, "number", i);
        status = ccc_cache_put(c, CCC_CACHE_KERNEL, &f, object, sizeof object - (size_t)i, err);
        if (status == CCC_OK) status = ccc_cache_get(c, CCC_CACHE_KERNEL, &f, out, &found, err);
        if (status == CCC_OK && found &&
            (out->size_B != sizeof object - (size_t)i || memcmp(out->data, object, out->size_B) != 0))
            abort();
        ccc_buf_free(out); /* a miss is no fault of the cache: only a wrong object is */
    }
    ccc_factors_free(&f);
    ccc_cache_close(c);
    return status;
}

static ccc_status open_artifact(ccc_buf *out, ccc_err *err)
{
    cccrt_artifact *a;
    char *json = NULL;
    CCC_TRY(cccrt_artifact_open(&a, artifact_path, NULL, err));
    ccc_status status = cccrt_artifact_verify(a, err);
    if (status == CCC_OK) status = cccrt_artifact_info(&json, a, err);
    if (status == CCC_OK) ccc_buf_str(out, json);
    if (out->failed) status = ccc_fail(err, CCC_E_NOMEM, "out of memory");
    cccrt_free(json);
    cccrt_artifact_close(a);
    return status;
}

typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;

static ccc_status attach(all *x, const cccrt_weights_args *args, ccc_err *err)
{
    cccrt_open_args open = {.size_B = sizeof open, .allow_host_code = 1};
    cccrt_device_args device = {.size_B = sizeof device, .kind = "cpu", .n_threads = 2};
    CCC_TRY(cccrt_artifact_open(&x->a, artifact_path, &open, err));
    CCC_TRY(cccrt_device_open(&x->d, &device, err));
    return cccrt_weights_attach(&x->w, x->a, x->d, args, err);
}

static void close_all(all *x)
{
    cccrt_session_close(x->s);
    cccrt_kv_close(x->kv);
    cccrt_weights_close(x->w);
    cccrt_device_close(x->d);
    cccrt_artifact_close(x->a);
}

static ccc_status use(all *x, ccc_buf *out, ccc_err *err)
{
    int32_t ids[] = {3, 1, 4}, starts[] = {0, 3}, lens[] = {3}, table[] = {0}, rows[] = {2}, next = 0;
    int64_t positions[] = {0, 1, 2}, slots[] = {0, 1, 2};
    cccrt_weights_args random = {.size_B = sizeof random, .random = 1, .seed = 7};
    cccrt_session_args session = {.size_B = sizeof session, .max_blocks_per_seq = 1};
    cccrt_step_args step = {.size_B = sizeof step,
                            .n_tokens = 3,
                            .n_seqs = 1,
                            .n_logits = 1,
                            .token_ids = ids,
                            .positions = positions,
                            .query_start_loc = starts,
                            .seq_lens = lens,
                            .block_table = table,
                            .slot_mapping = slots,
                            .logits_indices = rows};
    float logits[8];
    CCC_TRY(attach(x, &random, err));
    CCC_TRY(cccrt_kv_alloc(&x->kv, x->a, x->d, 2, err));
    session.kv = cccrt_kv_describe(x->kv);
    CCC_TRY(cccrt_session_create(&x->s, x->a, x->w, &session, err));
    CCC_TRY(cccrt_step(x->s, &step, NULL, err));
    CCC_TRY(cccrt_session_read(x->s, "next_tokens", &next, 0, sizeof next, NULL, err));
    CCC_TRY(cccrt_session_read(x->s, "logits", logits, 0, sizeof logits, NULL, err));
    CCC_TRY(cccrt_check(x->s, NULL, err));
    ccc_buf_put(out, &next, sizeof next);
    ccc_buf_put(out, logits, sizeof logits);
    return out->failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

static ccc_status step(ccc_buf *out, ccc_err *err)
{
    all x = {0};
    ccc_status status = use(&x, out, err);
    close_all(&x);
    return status;
}

static ccc_status bytes_of(all *x, ccc_buf *out, ccc_err *err)
{
    cccrt_tensor t;
    for (uint32_t i = 0; cccrt_weights_get(x->w, i, &t, NULL) == CCC_OK; i++)
        ccc_buf_put(out, t.data, t.data_B);
    return out->failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

static ccc_status weights_from(const char *path, const char *save, ccc_buf *out, ccc_err *err)
{
    all x = {0};
    cccrt_weights_args args = {.size_B = sizeof args, .path = path};
    ccc_status status = attach(&x, &args, err);
    if (status == CCC_OK && save) status = cccrt_weights_save(x.w, save, err);
    if (status == CCC_OK) status = bytes_of(&x, out, err);
    close_all(&x);
    return status;
}

static ccc_status prepare(ccc_buf *out, ccc_err *err)
{
    ccc_buf again = {0};
    CCC_TRY(weights_from(weights_path, ccw_path, out, err));
    ccc_status status = weights_from(ccw_path, NULL, &again, err);
    if (status == CCC_OK && (again.size_B != out->size_B || memcmp(again.data, out->data, out->size_B) != 0))
        abort();
    ccc_buf_free(&again);
    return status;
}

static bool exact(shim_fault fault, const char *what, ccc_status status)
{
    (void)fault, (void)what, (void)status;
    return false;
}

/* mmap gives memory to the CPU as a device, and files to readers of weights. */
static bool mapped(shim_fault fault, const char *what, ccc_status status)
{
    (void)fault;
    return strcmp(what, "mmap") == 0 && (status == CCC_E_NOMEM || status == CCC_E_IO);
}

/* jansson does not say so when it has no memory for a token: it calls the token wrong, or drops a character.
 */
static bool by_jansson(shim_fault fault, const char *what, ccc_status status)
{
    (void)what, (void)status;
    return fault == SHIM_MEMORY;
}

const op ops[] = {
    {"import config", nothing, import_folder, by_jansson, false},
    {"import weights", nothing, import_weights, by_jansson, false},
    {"compile", no_artifacts, compile, exact, true},
    {"compile from cache", nothing, compile, exact, true},
    {"cache", no_cache, cache, exact, false},
    {"open and verify", nothing, open_artifact, exact, false},
    {"step", nothing, step, mapped, false},
    {"prepare", no_ccw, prepare, mapped, false},
    {0},
};

/* ---- what is right */
int op_keep(const op *o)
{
    ccc_err err = {0};
    ccc_buf again = {0};
    ccc_buf_free(&kept);
    for (int i = 0; i < 2; i++) {
        ccc_buf_free(&again);
        ccc_status status = o->run(i ? &again : &kept, &err);
        if (status != CCC_OK) return fprintf(stderr, "faults: %s: %s\n", o->name, err.msg), 1;
    }
    bool same = op_right(o, &again);
    ccc_buf_free(&again);
    return same ? 0 : (fprintf(stderr, "faults: %s: two results\n", o->name), 1);
}

bool op_right(const op *o, const ccc_buf *out)
{
    (void)o;
    return out->size_B == kept.size_B && (!kept.size_B || memcmp(out->data, kept.data, kept.size_B) == 0);
}

int op_setup(const char *artifact, const char *model, const char *folder)
{
    static const char *const options[][2] = {
        {"target", "x86-64-v3,sm_90a"}, {"sizes", "1,2"},  {"max_num_batched_tokens", "16"},
        {"max_num_seqs", "4"},          {"ptxas", "none"}, {"jobs", "1"}};
    char from[4096], to[4200];
    ccc_err err = {0};
    artifact_path = artifact, model_path = model, op_folder = folder;
    drop_folder(folder);
    snprintf(weights_path, sizeof weights_path, "%s/weights", folder);
    snprintf(cache_path, sizeof cache_path, "%s/objects", folder);
    snprintf(kernels_path, sizeof kernels_path, "%s/cache", folder);
    snprintf(artifacts_path, sizeof artifacts_path, "%s/cache/v1/artifact", folder);
    snprintf(ccw_path, sizeof ccw_path, "%s/prepared.ccw", folder);
    snprintf(from, sizeof from, "%s/config.json", model);
    snprintf(to, sizeof to, "%s/config.json", weights_path);
    if (mkdir(folder, 0777) || mkdir(weights_path, 0777) || copy_file(from, to)) return perror(folder), 1;
    snprintf(to, sizeof to, "%s/model.safetensors", weights_path);
    if (write_weights(to)) return fprintf(stderr, "faults: cannot write '%s'\n", to), 1;
    ccc_config_init(&config);
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++)
        if (ccc_config_set(&config, options[i][0], options[i][1], &err) != CCC_OK)
            return fprintf(stderr, "faults: %s\n", err.msg), 1;
    config.cache_dir = kernels_path;
    if (ccc_import(&graph, model, &(ccc_import_args){.config = &config}, &err) != CCC_OK)
        return fprintf(stderr, "faults: %s\n", err.msg), 1;
    return 0;
}

void op_teardown(void)
{
    ccc_graph_free(graph);
    ccc_buf_free(&kept);
    drop_folder(op_folder);
}
