/* See readers_make.h. */
#include "readers_make.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

const char *make_folder(void)
{
    if (!*folder) {
        strcpy(folder, "/tmp/ccc-test-XXXXXX");
        cr_assert(mkdtemp(folder));
    }
    return folder;
}

const char *make_path(const char *name)
{
    static char path[4][512];
    static unsigned at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", make_folder(), name);
    return path[at];
}

void make_write(const char *name, const void *data, size_t size_B)
{
    FILE *f = fopen(make_path(name), "wb");
    cr_assert(f && fwrite(data, 1, size_B, f) == size_B && fclose(f) == 0);
}

void make_clean(void)
{
    DIR *d = *folder ? opendir(folder) : NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') unlink(make_path(e->d_name));
    if (d) closedir(d);
    if (*folder) rmdir(folder);
    *folder = 0;
}

void make_safetensors(ccc_buf *out, const char *header, size_t data_B)
{
    ccc_buf_u64(out, strlen(header));
    ccc_buf_put(out, header, strlen(header));
    for (size_t i = 0; i < data_B; i++) ccc_buf_u8(out, (uint8_t)i);
}

static void str64(ccc_buf *b, const char *s)
{
    ccc_buf_u64(b, strlen(s));
    ccc_buf_put(b, s, strlen(s));
}

static void key(make_gguf *g, const char *name, uint32_t type)
{
    str64(&g->keys, name);
    ccc_buf_u32(&g->keys, type);
    g->n_keys++;
}

void gguf_str(make_gguf *g, const char *name, const char *value)
{
    key(g, name, 8);
    str64(&g->keys, value);
}

void gguf_u32(make_gguf *g, const char *name, uint32_t value)
{
    key(g, name, 4);
    ccc_buf_u32(&g->keys, value);
}

void gguf_f32(make_gguf *g, const char *name, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    key(g, name, 6);
    ccc_buf_u32(&g->keys, bits);
}

void gguf_bool(make_gguf *g, const char *name, bool value)
{
    key(g, name, 7);
    ccc_buf_u8(&g->keys, value);
}

void gguf_strings(make_gguf *g, const char *name, unsigned n)
{
    key(g, name, 9);
    ccc_buf_u32(&g->keys, 8);
    ccc_buf_u64(&g->keys, n);
    for (unsigned i = 0; i < n; i++) str64(&g->keys, "ab");
}

void gguf_tensor(make_gguf *g, const char *name, uint32_t type, uint64_t inner, uint64_t outer)
{
    uint64_t n = inner * (outer ? outer : 1);
    str64(&g->tensors, name);
    ccc_buf_u32(&g->tensors, outer ? 2 : 1);
    ccc_buf_u64(&g->tensors, inner);
    if (outer) ccc_buf_u64(&g->tensors, outer);
    ccc_buf_u32(&g->tensors, type);
    ccc_buf_u64(&g->tensors, g->data_B);
    uint64_t size = type == 0 ? n * 4 : type == 3 ? n / 32 * 20 : type == 8 ? n / 32 * 34 : n * 2;
    g->data_B = (g->data_B + size + 31) / 32 * 32;
    g->n_tensors++;
}

void gguf_finish(make_gguf *g, ccc_buf *out)
{
    ccc_buf_put(out, "GGUF", 4);
    ccc_buf_u32(out, 3);
    ccc_buf_u64(out, g->n_tensors);
    ccc_buf_u64(out, g->n_keys);
    ccc_buf_put(out, g->keys.data, g->keys.size_B);
    if (g->n_tensors) ccc_buf_put(out, g->tensors.data, g->tensors.size_B);
    while (out->size_B % 32) ccc_buf_u8(out, 0);
    for (uint64_t i = 0; i < g->data_B; i++) ccc_buf_u8(out, (uint8_t)i);
    ccc_buf_free(&g->keys);
    ccc_buf_free(&g->tensors);
    cr_assert(!out->failed);
}

void gguf_llama(make_gguf *g, bool tied)
{
    gguf_str(g, "general.architecture", "llama");
    gguf_u32(g, "llama.context_length", 128);
    gguf_u32(g, "llama.embedding_length", 64);
    gguf_u32(g, "llama.block_count", 1);
    gguf_u32(g, "llama.feed_forward_length", 96);
    gguf_u32(g, "llama.attention.head_count", 4);
    gguf_u32(g, "llama.attention.head_count_kv", 2);
    gguf_u32(g, "llama.rope.dimension_count", 16);
    gguf_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_f32(g, "llama.rope.freq_base", 100000);
    gguf_strings(g, "tokenizer.ggml.tokens", 32);
    gguf_tensor(g, "token_embd.weight", 8, 64, 32);
    gguf_tensor(g, "blk.0.attn_norm.weight", 0, 64, 0);
    gguf_tensor(g, "blk.0.attn_q.weight", 3, 64, 64);
    gguf_tensor(g, "blk.0.attn_k.weight", 3, 64, 32);
    gguf_tensor(g, "blk.0.attn_v.weight", 30, 64, 32);
    gguf_tensor(g, "blk.0.attn_output.weight", 1, 64, 64);
    gguf_tensor(g, "blk.0.ffn_norm.weight", 0, 64, 0);
    gguf_tensor(g, "blk.0.ffn_gate.weight", 3, 64, 96);
    gguf_tensor(g, "blk.0.ffn_up.weight", 3, 64, 96);
    gguf_tensor(g, "blk.0.ffn_down.weight", 3, 96, 64);
    gguf_tensor(g, "output_norm.weight", 0, 64, 0);
    if (!tied) gguf_tensor(g, "output.weight", 8, 64, 32);
}

/* Opens what the file holds now, and if it opens, reads every tensor through all ways in. */
static bool accepts(const char *path)
{
    cccrt_source *s = NULL;
    ccc_err err = {0};
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n;
    ccc_status st = cccrt_source_open(&s, path, &err);
    if (st != CCC_OK) {
        cr_assert_gt(strlen(err.msg), 0);
        cr_assert_eq(err.code, st);
        return false;
    }
    for (uint32_t i = 0; i < cccrt_source_count(s); i++) {
        const cccrt_source_tensor *t = cccrt_source_get(s, i);
        volatile uint8_t sum = 0;
        const uint8_t *p = cccrt_source_data(s, t);
        for (uint64_t k = 0; k < t->size_B; k++) sum += p[k];
        cr_assert_eq(cccrt_source_find(s, t->name), t);
    }
    cccrt_source_facts(s, facts, &n, &err);
    cccrt_source_close(s);
    return true;
}

unsigned make_mutations(const ccc_buf *bytes, const char *name, unsigned *n_tried)
{
    unsigned accepted = 0;
    make_write(name, bytes->data, bytes->size_B);
    const char *path = make_path(name);
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0);
    *n_tried = 0;
    for (size_t at = 0; at < bytes->size_B; at++) {
        uint8_t was = (uint8_t)bytes->data[at], with[] = {was ^ 1, was ^ 0x80, was ^ 0xff, 0, '"', '9'};
        for (size_t i = 0; i < sizeof with; i++, ++*n_tried) {
            cr_assert_eq(pwrite(fd, &with[i], 1, (off_t)at), 1);
            accepted += accepts(path);
        }
        cr_assert_eq(pwrite(fd, &was, 1, (off_t)at), 1);
    }
    for (size_t n = bytes->size_B; n-- > 0; ++*n_tried) {
        cr_assert_eq(ftruncate(fd, (off_t)n), 0);
        cr_expect(!accepts(path), "cut to %zu bytes of %zu, it still opens", n, bytes->size_B);
    }
    close(fd);
    return accepted;
}
