/* ccc import: a model's files into a graph. Of the options of a compile it takes those that shape the graph;
 * the written graph states them. */
#include "cmd.h"
#include "opt.h"
#include "../compiler/ccc.h"
#include <stdio.h>
#include <string.h>

static const char program[] = "ccc import";
enum { N_OWN = 4, N_SHAPING = 9 };
static const char *const shaping[N_SHAPING][2] = {
    {"--outputs", "LIST"},    {"--max-num-batched-tokens", "N"}, {"--max-num-seqs", "N"},
    {"--max-model-len", "N"}, {"--kv-block-size", "N"},          {"--kv-layout", "NAME"},
    {"--kv-cache-dtype", "NAME"}, {"--quantize", "NAME"}, {"--quantize-scales", "FILE"},
};

static ccc_status set_option(void *payload, const char *name, const char *value, ccc_err *err)
{
    return ccc_config_set(payload, name + 2, value, err);
}

static const char *help_of(const char *flag)
{
    for (const ccc_option *o = ccc_options; o->name; o++) {
        size_t n = strlen(o->name), i = 0;
        while (i < n && (flag[2 + i] == o->name[i] || (flag[2 + i] == '-' && o->name[i] == '_'))) i++;
        if (i == n && !flag[2 + n]) return o->help;
    }
    return "";
}

static ccc_status import_model(const char *model, const char *out, bool as_text, const ccc_import_args *args,
                               ccc_err *err)
{
    ccc_graph *g = NULL;
    ccc_buf text = {0};
    ccc_status st = ccc_import(&g, model, args, err);
    if (st == CCC_OK) st = as_text ? ccc_ir_print(g, &text) : ccc_json_write(g, &text);
    if (st == CCC_E_NOMEM && g) ccc_fail(err, st, "out of memory");
    if (st == CCC_OK) st = ccc_write_file(out, text.data, text.size_B, err);
    ccc_buf_free(&text);
    ccc_graph_free(g);
    return st;
}

int cmd_import(int argc, char **argv)
{
    ccc_config config;
    opt_list ignore = {0};
    const char *out = NULL, *model = NULL;
    bool list = false, as_text = false;
    int n_args;
    ccc_config_init(&config);
    opt_set set = {set_option, &config};
    opt opts[N_OWN + N_SHAPING + 1] = {
        {"-o", OPT_TEXT, &out, "FILE", "where the graph goes; - is standard output"},
        {"--text", OPT_FLAG, &as_text, NULL, "write the text form, not model.json"},
        {"--ignore-config-key", OPT_LIST, &ignore, "KEY",
         "pass over a key of config.json that ccc does not know; may be given again"},
        {"--list-architectures", OPT_FLAG, &list, NULL,
         "print the architectures that can be imported, one a line"},
    };
    for (unsigned i = 0; i < N_SHAPING; i++)
        opts[N_OWN + i] = (opt){shaping[i][0], OPT_SET, &set, shaping[i][1], help_of(shaping[i][0])};
    int status = opt_parse(argc, argv, opts, program, "MODEL -o FILE [options]",
                           "Reads a model's configuration and, where there are any, the headers of its "
                           "weight files. MODEL is a Hugging Face folder\n"
                           "(config.json alone is enough), a GGUF file, a model.json or a text graph; - "
                           "reads a graph from standard input.",
                           &model, 1, &n_args);
    if (status >= 0) return status;
    if (list) {
        for (const char *const *a = ccc_architectures(); *a; a++) puts(*a);
        return 0;
    }
    if (!n_args) return opt_usage(program, "no MODEL given");
    if (!out) return opt_usage(program, "no output given; use -o FILE");
    ccc_err err = {0};
    ccc_import_args args = {ignore.item, ignore.n, &config};
    return import_model(model, out, as_text, &args, &err) == CCC_OK ? 0 : opt_fail("ccc", &err);
}
