/* cccrt info: what an artifact needs, and whether this machine can run it (exit status). */
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <stdio.h>
#include <string.h>

static double mb(uint64_t bytes) { return (double)bytes / 1e6; }

static ccc_status print_text(const rt_machine *m, int64_t kv_blocks, ccc_err *err)
{
    cccrt_model model = { .size_B = sizeof model };
    cccrt_artifact_model(m->artifact, &model);
    printf("%u programs, %u kernels", model.n_programs, model.n_kernels);
    if (model.n_layers)
        printf("; %u layers, %u KV heads of %u, cache layout %s, blocks of %u; up to %lld tokens a step, %lld sequences, context %lld", model.n_layers, model.kv_heads,
               model.head_size, model.kv_layout, model.kv_block_size, (long long)model.max_tokens, (long long)model.max_seqs, (long long)model.max_model_len);
    printf("\n");
    if (model.n_sizes) printf("captured sizes: %u, from %u to %u\n", model.n_sizes, model.sizes[0], model.sizes[model.n_sizes - 1]);
    for (uint32_t i = 0; cccrt_artifact_target(m->artifact, i); i++) {
        const char *name = cccrt_artifact_target(m->artifact, i);
        cccrt_memory mem = { .size_B = sizeof mem };
        CCC_TRY(cccrt_artifact_memory(&mem, m->artifact, name, kv_blocks, err));
        printf("target %s: weights %.1f MB, arena %.1f MB, inputs and outputs %.1f MB, counters %.2f MB, KV cache of %lld blocks %.1f MB; while attaching %.1f MB more\n", name,
               mb(mem.weights), mb(mem.arena), mb(mem.io), mb(mem.counters), (long long)kv_blocks, mb(mem.kv), mb(mem.attach_extra_device));
    }
    return CCC_OK;
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
    if (!n_args) return opt_usage(program, "no artifact given");
    if (kv_blocks < 0) return opt_usage(program, "--kv-blocks: a number from 0");
    rt_machine m;
    ccc_err err = { 0 }, why = { 0 };
    char *text = NULL;
    rt_place file = { .artifact = place.artifact };
    ccc_status st = rt_open(&m, &file, &err), runs = CCC_OK;
    if (st == CCC_OK) st = json ? cccrt_artifact_info(&text, m.artifact, &err) : print_text(&m, kv_blocks, &err);
    if (st == CCC_OK && text) printf("%s\n", text);
    cccrt_free(text);
    if (st == CCC_OK) {
        const char *target = NULL;
        cccrt_device *d = NULL;
        runs = rt_open_device(&d, place.device, 0, &why);
        if (runs == CCC_OK) runs = cccrt_device_can_run(&target, d, m.artifact, &why);
        if (!json && runs == CCC_OK) printf("this machine runs target %s\n", target);
        cccrt_device_close(d);
    }
    rt_close(&m);
    if (st != CCC_OK) return opt_fail("cccrt", &err);
    return runs == CCC_OK ? 0 : opt_fail("cccrt", &why);
}
