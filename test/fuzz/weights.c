/* Fuzzes the readers of weight files, safetensors and GGUF alike: they are told apart by content. What is
 * accepted must be usable: every tensor's bytes lie in the file, its name finds it, and the file's facts can
 * be asked for. A GGUF is imported as well. */
#include "../../compiler/ccc.h"
#include "../../runtime/tensors.h"
#include "file.h"
#include <stdlib.h>
#include <string.h>

static void look_at(const cccrt_source *s)
{
    volatile uint8_t seen = 0;
    uint8_t byte;
    for (uint32_t i = 0; i < cccrt_source_count(s); i++) {
        const cccrt_source_tensor *t = cccrt_source_get(s, i);
        fuzz_require(t && t->rank <= CCCRT_SOURCE_RANK && cccrt_source_find(s, t->name) == t);
        if (!t->size_B) continue;
        const uint8_t *data = cccrt_source_data(s, t);
        seen = data[0] ^ data[t->size_B - 1];
        fuzz_require(cccrt_source_read(s, t, t->size_B - 1, 1, &byte, NULL) == CCC_OK &&
                     byte == data[t->size_B - 1]);
        fuzz_require(cccrt_source_read(s, t, t->size_B, 1, &byte, NULL) == CCC_E_ARG);
    }
    fuzz_require(cccrt_source_get(s, cccrt_source_count(s)) == NULL);
    (void)seen;
    for (uint32_t i = 0; i < cccrt_gguf_keys(s); i++) {
        const char *key = cccrt_gguf_key(s, i), *text = NULL;
        uint64_t u = 0;
        double d = 0;
        bool b = false;
        fuzz_require(key != NULL);
        if (cccrt_gguf_str(s, key, &text)) fuzz_require(strlen(text) < 1 << 20);
        cccrt_gguf_u64(s, key, &u);
        cccrt_gguf_f64(s, key, &d);
        cccrt_gguf_bool(s, key, &b);
        cccrt_gguf_array(s, key, &u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    ccc_err err = {0};
    cccrt_source *s = NULL;
    const char *path = fuzz_file(data, size_B);
    if (cccrt_source_open(&s, path, &err) != CCC_OK) {
        fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        return 0;
    }
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n = 0;
    look_at(s);
    if (cccrt_source_facts(s, facts, &n, &err) == CCC_OK) fuzz_require(n <= CCCRT_MAX_FACTS);
    bool gguf = cccrt_source_get_kind(s) == CCCRT_SOURCE_GGUF;
    cccrt_source_close(s);
    if (!gguf) return 0;
    ccc_config config;
    ccc_graph *g;
    ccc_config_init(&config);
    if (ccc_import(&g, path, &(ccc_import_args){.config = &config}, &err) != CCC_OK) return 0;
    fuzz_require(ccc_ir_verify(g, &err) == CCC_OK);
    ccc_graph_free(g);
    return 0;
}
