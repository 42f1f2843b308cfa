/* cccrt: the runtime's program. Needs neither LLVM nor a compiler; this is what goes into an image. */
#include "cmd.h"
#include "../runtime/cccrt.h"

int main(int argc, char **argv)
{
    static const command table[] = {
        { "info", rt_info, "what an artifact needs, and whether this machine can run it" },
        { "verify", rt_verify, "check every hash and structure of an artifact; runs nothing" },
        { "prepare", rt_prepare, "write the weights' final bytes once, for a fast start" },
        { "run", rt_run, "run a model on token ids" },
        { "bench", rt_bench, "time a step and its kernels, beside the memory's read ceiling" },
        { "tune", rt_tune, "time the candidates that ccc tune made" },
        { 0 },
    };
    return command_main("cccrt", "Runs models that ccc compiled.", cccrt_version(), table, argc, argv);
}
