/* A Hugging Face folder: config.json makes the graph; the weight files' headers, where there are any, must
 * agree with it and give the dtypes. Without them every tensor is taken to have the dtype that config.json
 * states. */
#include "import.h"
#include <string.h>

static ccc_status choose_arch(const import_arch **out, import_config *c, const char *path, ccc_err *err)
{
    const char *name = NULL, *type = NULL;
    CCC_TRY(import_config_str(c, "architectures", &name, err));
    CCC_TRY(import_config_str(c, "model_type", &type, err));
    if (!name && !type)
        return ccc_fail(err, CCC_E_TYPE, "%.200s: has neither 'architectures' nor 'model_type'", path);
    for (const import_arch *const *a = import_archs; *a; a++) {
        *out = *a;
        if (strcmp(name ? name : type, name ? (*a)->name : (*a)->model_type) == 0) return CCC_OK;
    }
    return ccc_fail(err, CCC_E_UNSUPPORTED,
                    "%.200s: architecture '%.100s' is not supported (ccc import --list-architectures)", path,
                    name ? name : type);
}

static ccc_status read_model(importer *im, import_config *c, ccc_err *err)
{
    CCC_TRY(choose_arch(&im->arch, c, im->file, err));
    CCC_TRY(import_config_refuse(c, err));
    CCC_TRY(im->arch->config(&im->m, c, err));
    CCC_TRY(import_config_dtype(c, &im->m.dtype, err));
    return import_config_finish(c, im->arch->name, err);
}

ccc_status import_hf(ccc_graph **out, const char *folder, const ccc_import_args *args, ccc_err *err)
{
    char path[4096];
    import_config *c = NULL;
    cccrt_source *source = NULL;
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n = 0;
    size_t text_B;
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return ccc_fail(err, CCC_E_ARG, "path is too long: '%.200s'", folder);
    importer im = {.config = args->config, .file = path, .err = err};
    ccc_status st = import_config_open(&c, path, args, err);
    if (st == CCC_OK) st = read_model(&im, c, err);
    if (st == CCC_OK) {
        const char *text = import_config_text(c, &text_B);
        st = cccrt_config_facts(text, text_B, path, facts, &n, err);
    }
    if (st == CCC_OK && cccrt_source_present(folder)) st = cccrt_source_open(&source, folder, err);
    im.source = source;
    if (st == CCC_OK) st = import_graph(out, &im, facts, n);
    cccrt_source_close(source);
    import_config_close(c);
    return st;
}
