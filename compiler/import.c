/* ccc_import: what kind of model a path names, told by content; and the table of architectures. A graph in
 * text or JSON is read as it is: options that shape an imported graph cannot apply to it and are refused. */
#include "import.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

const import_arch *const import_archs[] = {&import_llama, NULL};

const char *const *ccc_architectures(void)
{
    static const char *const names[] = {"LlamaForCausalLM", NULL}; /* a test compares it with import_archs */
    return names;
}

static ccc_status check_options(const ccc_import_args *args, const char *model, ccc_err *err)
{
    ccc_config c;
    const char *option = NULL;
    ccc_config_init(&c);
    if (strcmp(args->config->outputs, c.outputs) != 0) option = "outputs";
    if (args->config->max_model_len != c.max_model_len) option = "max_model_len";
    if (args->config->kv_block_size != c.kv_block_size) option = "kv_block_size";
    if (strcmp(args->config->kv_layout, c.kv_layout) != 0) option = "kv_layout";
    if (strcmp(args->config->kv_cache_dtype, c.kv_cache_dtype) != 0) option = "kv_cache_dtype";
    if (strcmp(args->config->quantize, c.quantize) != 0) option = "quantize";
    if (strcmp(args->config->quantize_scales, c.quantize_scales) != 0) option = "quantize_scales";
    if (option)
        return ccc_fail(err, CCC_E_ARG, "option '%s' does not apply to '%.200s': a graph states it itself",
                        option, model);
    if (args->n_ignore_keys)
        return ccc_fail(err, CCC_E_ARG, "'%.200s' is a graph: it has no key '%.100s' to ignore", model,
                        args->ignore_keys[0]);
    return CCC_OK;
}

static ccc_status read_graph(ccc_graph **out, const char *model, const ccc_import_args *args, ccc_err *err)
{
    ccc_buf text = {0};
    const char *shown = strcmp(model, "-") == 0 ? "standard input" : model;
    ccc_status st = ccc_read_file(&text, model, err);
    if (st == CCC_OK && text.size_B && memchr(text.data, 0, text.size_B))
        st = ccc_fail(err, CCC_E_PARSE, "'%.300s' is neither a GGUF file nor a graph as JSON or text", shown);
    if (st == CCC_OK) st = check_options(args, shown, err);
    if (st == CCC_OK) {
        size_t at = 0, n = strlen(shown);
        while (at < text.size_B && strchr(" \t\r\n", text.data[at])) at++;
        bool json = (at < text.size_B && strchr("{[", text.data[at])) || (n > 5 && !strcmp(shown + n - 5, ".json"));
        st = json ? ccc_json_read(out, text.data ? text.data : "", text.size_B, shown, err)
                  : ccc_ir_parse(out, text.data ? text.data : "", text.size_B, shown, err);
    }
    ccc_buf_free(&text);
    return st;
}

static bool is_gguf(const char *path)
{
    char magic[4] = "";
    FILE *f = fopen(path, "rb");
    bool yes = f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (f) fclose(f);
    return yes;
}

ccc_status ccc_import(ccc_graph **out, const char *model, const ccc_import_args *args, ccc_err *err)
{
    struct stat st;
    if (strcmp(model, "-") == 0) return read_graph(out, model, args, err);
    if (stat(model, &st) != 0)
        return ccc_fail(err, CCC_E_IO, "cannot open '%.300s': %s", model, strerror(errno));
    if (S_ISDIR(st.st_mode)) return import_hf(out, model, args, err);
    if (S_ISREG(st.st_mode) && is_gguf(model)) return import_gguf(out, model, args, err);
    return read_graph(out, model, args, err);
}
