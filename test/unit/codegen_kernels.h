/* One request for every template of kernel.def, and the body that hooks without identity get in tests. */
#ifndef CODEGEN_KERNELS_H
#define CODEGEN_KERNELS_H
#include <stdlib.h>
#include <string.h>
#include "../../compiler/codegen_impl.h"

typedef struct {
    const char *target, *tmpl;
    unsigned threads, min_blocks;
    const char *specs;
} sample;
#define HEADS "HQ=32 HKV=8 D=128 BLOCK=16 "
static const sample samples[] = {
    {"sm_90a", "gather", 128, 0, ""},
    {"sm_90a", "rows", 256, 0, "NT=256 COLS=4096 OUT_F32=0"},
    {"sm_90a", "elt", 256, 0, "OUT_F32=0"},
    {"sm_90a", "elt_1", 256, 0, "OUT_F32=1"},
    {"sm_90a", "matvec", 256, 0, "TOK=1 NORM=1 PAIR=0 OUT_F32=0 ROWS=2 LOADS=4 WARPS=8 SPLIT=1 WHOLE=0 TURNS=1 KEEP=2 BULK=0"},
    {"sm_90a", "matvec", 256, 0, "TOK=4 NORM=0 PAIR=1 OUT_F32=0 ROWS=2 LOADS=2 WARPS=8 SPLIT=2 WHOLE=0 TURNS=1 KEEP=2 BULK=0"},
    {"sm_90a", "matvec", 128, 1, "TOK=1 NORM=1 PAIR=1 OUT_F32=0 ROWS=2 LOADS=3 WARPS=4 SPLIT=1 WHOLE=1 TURNS=1 KEEP=2 BULK=0"},
    {"sm_90a", "matvec", 512, 0, "TOK=1 NORM=0 PAIR=0 OUT_F32=0 ROWS=1 LOADS=3 WARPS=16 SPLIT=1 WHOLE=1 TURNS=1 KEEP=1 BULK=1"},
    {"sm_90a", "matvec", 256, 4, "TOK=1 NORM=1 PAIR=0 OUT_F32=0 ROWS=2 LOADS=2 WARPS=8 SPLIT=8 WHOLE=1 TURNS=3 KEEP=2 BULK=0"},
    {"sm_90a", "gemm_256", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_224", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_256_pair", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_224_pair", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_t8", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t16", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t32", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t64", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t128", 288, 1, "OUT_F32=1 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t8_pair", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t16_pair", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t32_pair", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t64_pair", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t128_pair", 288, 1, "OUT_F32=0 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "matvec_fp8", 128, 0, "TOK=1 NORM=1 PAIR=0 OUT_F32=2 ROWS=1 LOADS=4 WARPS=4 SPLIT=2 WHOLE=0 TURNS=1 KEEP=2 BULK=0"},
    {"sm_90a", "matvec_fp8", 256, 4, "TOK=1 NORM=1 PAIR=0 OUT_F32=0 ROWS=2 LOADS=2 WARPS=8 SPLIT=4 WHOLE=1 TURNS=3 KEEP=2 BULK=0"},
    {"sm_90a", "matvec_fp8", 256, 0, "TOK=2 NORM=0 PAIR=1 OUT_F32=0 ROWS=2 LOADS=2 WARPS=8 SPLIT=1 WHOLE=0 TURNS=1 KEEP=2 BULK=0"},
    {"sm_90a", "gemm_256_fp8", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_256_pair_fp8", 384, 1, "OUT_F32=2"},
    {"sm_90a", "gemm_224_fp8", 384, 1, "OUT_F32=0"},
    {"sm_90a", "gemm_224_pair_fp8", 384, 1, "OUT_F32=2"},
    {"sm_90a", "gemm_t8_fp8", 160, 1, "OUT_F32=0 COLS=64 SPLIT=2 BLOCKS=1"},
    {"sm_90a", "gemm_t16_fp8", 160, 1, "OUT_F32=0 COLS=64 SPLIT=2 BLOCKS=1"},
    {"sm_90a", "gemm_t8_pair_fp8", 288, 1, "OUT_F32=2 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t16_pair_fp8", 288, 1, "OUT_F32=2 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t32_fp8", 160, 1, "OUT_F32=0 COLS=64 SPLIT=2 BLOCKS=1"},
    {"sm_90a", "gemm_t32_pair_fp8", 288, 1, "OUT_F32=2 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t64_fp8", 160, 1, "OUT_F32=0 COLS=64 SPLIT=2 BLOCKS=1"},
    {"sm_90a", "gemm_t64_pair_fp8", 288, 1, "OUT_F32=2 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "gemm_t128_fp8", 160, 1, "OUT_F32=0 COLS=64 SPLIT=2 BLOCKS=1"},
    {"sm_90a", "gemm_t128_pair_fp8", 288, 1, "OUT_F32=2 COLS=96 SPLIT=1 BLOCKS=1"},
    {"sm_90a", "rope_kv", 128, 0, HEADS "LAYOUT=3 ROTARY=128 DO_Q=1 DO_K=0 DO_KV=1 K_ROTATED=0"},
    {"sm_90a", "attention", 256, 2, HEADS "LAYOUT=3 OUT_F32=0"},
    {"sm_90a", "attn_decode", 256, 1, HEADS "CLUSTER=1 WARPS=8 JOINED=0 OUT_F32=0"},
    {"sm_90a", "attn_decode", 256, 1, HEADS "CLUSTER=1 WARPS=8 JOINED=1 OUT_F32=0"},
    {"sm_90a", "attn_join", 64, 0, HEADS "OUT_F32=0"},
    {"sm_90a", "attn_decode_rope", 128, 1, HEADS "CLUSTER=8 WARPS=4 JOINED=0 OUT_F32=2"},
    {"sm_90a", "rope_kv_fp8", 128, 0, HEADS "LAYOUT=3 ROTARY=128 DO_Q=1 DO_K=0 DO_KV=1 K_ROTATED=0 ROWS_FP8=0"},
    {"sm_90a", "attention_fp8", 256, 2, HEADS "LAYOUT=3 OUT_F32=0"},
    {"sm_90a", "attn_decode_fp8", 256, 1, HEADS "CLUSTER=1 WARPS=8 JOINED=0 OUT_F32=0"},
    {"sm_90a", "attn_decode_rope_fp8", 128, 1, HEADS "CLUSTER=8 WARPS=4 JOINED=0 OUT_F32=2"},
    {"sm_90a", "argmax", 256, 0, ""},
    {"sm_90a", "load", 256, 0, "SRC=0 DST=3 HALF=0"},
    {"sm_90a", "load", 256, 0, "SRC=3 DST=4 HALF=0"},
    {"sm_90a", "rope_table", 256, 0, ""},
    {"sm_90a", "advance", 256, 0, ""},
    {"sm_90a", "read", 1024, 0, ""},
    {"sm_90a", "read_bulk", 128, 0, ""},
    {"x86-64-v3", "gather", 0, 0, ""},
    {"x86-64-v3", "rows", 0, 0, "OUT_F32=0"},
    {"x86-64-v3", "elt", 0, 0, "OUT_F32=1"},
    {"x86-64-v3", "matmul", 0, 0, "OUT_F32=0 TOK=4"},
    {"x86-64-v3", "matmul_pair", 0, 0, "OUT_F32=0 TOK=4"},
    {"x86-64-v3", "matmul_fp8", 0, 0, "OUT_F32=0"},
    {"x86-64-v3", "matmul_pair_fp8", 0, 0, "OUT_F32=2"},
    {"x86-64-v3", "rope_kv", 0, 0, HEADS "LAYOUT=3 ROTARY=128 DO_Q=1 DO_K=0 DO_KV=1 K_ROTATED=0"},
    {"x86-64-v3", "attention", 0, 0, HEADS "LAYOUT=3 OUT_F32=0"},
    {"x86-64-v3", "rope_kv_fp8", 0, 0, HEADS "LAYOUT=3 ROTARY=128 DO_Q=1 DO_K=0 DO_KV=1 K_ROTATED=0 ROWS_FP8=0"},
    {"x86-64-v3", "attention_fp8", 0, 0, HEADS "LAYOUT=3 OUT_F32=0"},
    {"x86-64-v3", "argmax", 0, 0, ""},
    {"x86-64-v3", "load", 0, 0, "SRC=0 DST=3 HALF=0"},
    {"x86-64-v3", "load", 0, 0, "SRC=3 DST=4 HALF=0"},
    {"x86-64-v3", "rope_table", 0, 0, ""},
    {"x86-64-v3", "advance", 0, 0, ""},
    {"x86-64-v3", "read", 0, 0, ""},
};

typedef struct {
    ccc_kernel_req req;
    char names[256];
} request; /* names: what req.spec points into */

static void add_ins(ccc_hook *h, ccc_hook_ins i)
{
    h->ins[h->n++] = i;
}

/* body: silu(aux0) * aux1; pair: silu(v) * v2; both rounded to bf16 */
static void add_hook(ccc_kernel_req *r, const char *name)
{
    ccc_hook *h = &r->hook[r->n_hooks++];
    bool body = !strcmp(name, "body");
    h->name = name;
    for (uint8_t i = 0; i < 2; i++)
        add_ins(h, body ? (ccc_hook_ins){.kind = CCC_HOOK_LOAD,
                                         .dtype = CCC_BF16,
                                         .at = CCC_AT_ROWCOL,
                                         .aux = i,
                                         .ld = 64}
                        : (ccc_hook_ins){.kind = CCC_HOOK_ARG, .a = i});
    add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_silu, .a = 0});
    add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_ELT, .op = CCC_OP_mul, .a = 2, .b = 1});
    add_ins(h, (ccc_hook_ins){.kind = CCC_HOOK_CAST, .dtype = CCC_BF16, .a = 3});
}

static void make_request(request *q, const sample *s)
{
    memset(q, 0, sizeof *q);
    q->req.target = ccc_target_find(s->target);
    q->req.tmpl = s->tmpl;
    q->req.threads = s->threads;
    q->req.min_blocks = s->min_blocks;
    snprintf(q->names, sizeof q->names, "%s", s->specs);
    for (char *p = strtok(q->names, " "); p; p = strtok(NULL, " ")) {
        char *value = strchr(p, '=');
        *value++ = 0;
        q->req.spec[q->req.n_specs++] = (ccc_spec){p, atoi(value)};
    }
    const ccc_template *t = ccc_template_find(s->tmpl, q->req.target->kind);
    if (t && strstr(t->hooks, "body")) add_hook(&q->req, "body");
    if (t && strstr(t->hooks, "pair") && !strstr(s->specs, "PAIR=0")) add_hook(&q->req, "pair");
}
#endif
