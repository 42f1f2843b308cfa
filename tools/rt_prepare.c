/* cccrt prepare: attaches weights once and writes their final bytes, so that later starts only copy. */
#include "cmd.h"
#include "opt.h"
#include "runner.h"
#include <stdio.h>

int rt_prepare(int argc, char **argv)
{
    static const char program[] = "cccrt prepare";
    rt_place place = { 0 };
    const char *out = NULL;
    int n_args;
    const opt opts[] = {
        { "--weights", OPT_TEXT, &place.weights, "MODEL", "Hugging Face folder, .safetensors, GGUF, or random:SEED" },
        { "-o", OPT_TEXT, &out, "FILE", "the prepared file to write" },
        { "--device", OPT_TEXT, &place.device, "DEVICE", "cpu, cuda or cuda:N; else what is there" },
        { 0 },
    };
    int status = opt_parse(argc, argv, opts, program, "FILE.ccart --weights MODEL -o FILE.ccw", "Writes the weights' final bytes, ready to be copied to the device.", &place.artifact, 1, &n_args);
    if (status >= 0) return status;
    if ((status = rt_usage(&place, program)) >= 0) return status;
    if (!place.weights) return opt_usage(program, "no weights given; use --weights");
    if (!out) return opt_usage(program, "no output given; use -o");
    rt_machine m;
    ccc_err err = { 0 };
    ccc_status st = rt_open(&m, &place, &err);
    if (st == CCC_OK) st = cccrt_weights_save(m.weights, out, &err);
    rt_close(&m);
    return st == CCC_OK ? 0 : opt_fail("cccrt", &err);
}
