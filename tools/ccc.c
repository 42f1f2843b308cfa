/* ccc: the compiler's program. */
#include "cmd.h"
#include "../compiler/ccc.h"

int main(int argc, char **argv)
{
    static const command table[] = {
        { "import", cmd_import, "a model's files -> model.json" },
        { "compile", cmd_compile, "a model -> artifact" },
        { "opt", cmd_opt, "run passes on the text form of a graph" },
        { "eval", cmd_eval, "run the reference evaluator on a graph" },
        { "inspect", cmd_inspect, "what is in an artifact" },
        { "tune", cmd_tune, "candidates for kernel shapes, and a schedule from their times" },
        { "cache", cmd_cache, "list, verify, shrink or clear the cache" },
        { 0 },
    };
    return command_main("ccc", "An ahead-of-time compiler for LLM inference.", CCC_VERSION, table, argc, argv);
}
