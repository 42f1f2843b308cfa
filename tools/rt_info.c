/* cccrt info: what an artifact needs, and whether this machine can run it (exit status). */
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <stdio.h>
#include <string.h>

static double mb(uint64_t bytes) { return (double)bytes / 1e6; }

static ccc_status print_text(const cccrt_artifact *a, int64_t kv_blocks, ccc_err *err)
{
    cccrt_model model = { .size_B = sizeof model };
    cccrt_artifact_model(a, &model);
    printf("%u programs, %u kernels", model.n_programs, model.n_kernels);
    if (model.n_layers)
        printf("; %u layers, %u KV heads of %u, cache %s in layout %s, blocks of %u; up to %lld tokens a step, %lld sequences, context %lld", model.n_layers, model.kv_heads,
               model.head_size, model.kv_dtype, model.kv_layout, model.kv_block_size, (long long)model.max_tokens, (long long)model.max_seqs, (long long)model.max_model_len);
    printf("\n");
    if (model.n_sizes) printf("captured sizes: %u, from %u to %u\n", model.n_sizes, model.sizes[0], model.sizes[model.n_sizes - 1]);
    for (uint32_t i = 0; cccrt_artifact_target(a, i); i++) {
        const char *name = cccrt_artifact_target(a, i);
        cccrt_memory mem = { .size_B = sizeof mem };
        CCC_TRY(cccrt_artifact_memory(&mem, a, name, kv_blocks, err));
        printf("target %s: weights %.1f MB, arena %.1f MB, inputs and outputs %.1f MB, counters %.2f MB, KV cache of %lld blocks %.1f MB; while attaching %.1f MB more\n", name,
               mb(mem.weights), mb(mem.arena), mb(mem.io), mb(mem.counters), (long long)kv_blocks, mb(mem.kv), mb(mem.attach_extra_device));
    }
    return CCC_OK;
}

/* *runs: whether this machine can run the artifact, and *why not. */
static ccc_status show(const rt_place *p, bool json, int64_t kv_blocks, ccc_status *runs, ccc_err *why, ccc_err *err)
{
    cccrt_device *d = NULL;
    cccrt_artifact *a = NULL;
    char *text = NULL;
    const char *target = NULL;
    ccc_err no_gpu = { 0 };
    cccrt_device_props props = { .size_B = sizeof props };
    *runs = rt_choose_device(&d, p->device, 0, &no_gpu, why);
    if (*runs == CCC_OK) *runs = cccrt_device_get_props(d, &props, why);
    cccrt_open_args args = { .size_B = sizeof args, .allow_host_code = *runs == CCC_OK && !props.is_cuda };
    ccc_status st = cccrt_artifact_open(&a, p->artifact, &args, err);
    if (st == CCC_OK) st = json ? cccrt_artifact_info(&text, a, err) : print_text(a, kv_blocks, err);
    if (st == CCC_OK && text) printf("%s\n", text);
    if (st == CCC_OK && *runs == CCC_OK) *runs = rt_explain(cccrt_device_can_run(&target, d, a, why), &no_gpu, why);
    if (st == CCC_OK && *runs == CCC_OK && !json) printf("this machine runs target %s on '%s'\n", target, props.name);
    cccrt_free(text);
    cccrt_artifact_close(a);
    cccrt_device_close(d);
    return st;
}

int rt_info(int argc, char **argv)
{
    static const char program[] = "cccrt info";
    rt_place place = { 0 };
    bool json = false;
    int64_t kv_blocks = 1024;
    int n_args;
    const opt opts[] = {
        { "--json", OPT_FLAG, &json, NULL, "one JSON object (runtime/README.md)" },
        { "--device", OPT_TEXT, &place.device, "DEVICE", "cpu, cuda or cuda:N; else what is there" },
        { "--kv-blocks", OPT_NUMBER, &kv_blocks, "N", "blocks of the KV cache whose memory is shown [1024]" },
        { 0 },
    };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart", "Says what an artifact needs. Exit status 0: this machine can run it, 1: it cannot.", &place.artifact, 1, &n_args);
    if (status >= 0) return status;
    if ((status = rt_usage(&place, program)) >= 0) return status;
    if (kv_blocks < 0) return opt_usage(program, "--kv-blocks: a number from 0");
    ccc_err err = { 0 }, why = { 0 };
    ccc_status runs, st = show(&place, json, kv_blocks, &runs, &why, &err);
    if (st != CCC_OK) return opt_fail("cccrt", &err);
    return runs == CCC_OK ? 0 : opt_fail("cccrt", &why);
}
