/* See runtime_make.h. The programs are written with a few helpers that mirror what the planner does. */
#include "runtime_make.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include <zstd.h>

/* ---- a program being written */
enum { MAX_E = 64, MAX_P = 64, MAX_N = 16 };
typedef struct {
    ccart_program p;
    ccart_expr expr[MAX_E];
    uint8_t code[MAX_E][40];
    ccart_param param[MAX_P];
    ccart_node node[MAX_N];
    ccart_tmap tmap[2];
    ccart_traffic traffic[MAX_N];
} builder;

static uint32_t add_expr(builder *b, const uint8_t *code, uint32_t n)
{
    uint32_t i = b->p.n_exprs++;
    memcpy(b->code[i], code, n);
    b->expr[i] = (ccart_expr){b->code[i], n};
    return i;
}

static uint32_t num(builder *b, int64_t v)
{
    uint8_t c[9] = {CCART_X_CONST};
    for (int i = 0; i < 8; i++) c[1 + i] = (uint8_t)((uint64_t)v >> 8 * i);
    return add_expr(b, c, 9);
}

static uint32_t var(builder *b, uint8_t v)
{
    return add_expr(b, (uint8_t[]){CCART_X_VAR, v}, 2);
}

static void arg(builder *b, uint8_t kind, size_t offset_B, uint32_t index, int64_t value)
{
    bool e = kind == CCART_P_EXPR || kind == CCART_P_ARENA;
    b->param[b->p.n_params++] = (ccart_param){.kind = kind,
                                              .size_B = kind == CCART_P_TMAP ? 128 : 8,
                                              .offset_B = (uint16_t)offset_B,
                                              .index = e ? 0 : index,
                                              .value = value,
                                              .expr = e ? index : 0};
}

static void arg4(builder *b, size_t offset_B, uint32_t expr)
{
    arg(b, CCART_P_EXPR, offset_B, expr, 0);
    b->param[b->p.n_params - 1].size_B = 4;
}

static void node(builder *b, uint8_t kind, uint32_t kernel, uint32_t grid, uint32_t first, bool programmatic)
{
    uint32_t one = num(b, 1);
    b->node[b->p.n_nodes++] = (ccart_node){.kind = kind,
                                           .edge = programmatic,
                                           .kernel = kernel,
                                           .grid = {grid, one, one},
                                           .first_param = first,
                                           .n_params = b->p.n_params - first,
                                           .label = b->p.n_nodes + 1};
}

static ccart_program done(builder *b, uint32_t mode, int64_t t_min, int64_t t_max, uint64_t arena_B)
{
    b->p.mode = mode, b->p.t_min = t_min, b->p.t_max = t_max, b->p.arena_B = arena_B;
    b->p.expr = b->expr, b->p.param = b->param, b->p.node = b->node, b->p.tmap = b->tmap;
    return b->p;
}

/* ---- the programs of a target */
enum {
    IN_IDS,
    IN_POS,
    IN_STARTS,
    IN_LENS,
    IN_TABLE,
    IN_SLOTS,
    IN_ROWS,
    IN_EMBEDS,
    N_IN,
    OUT_SUMS = 0,
    OUT_NEXT,
    N_OUT
};
enum { ARENA_B = 4096, SUMS_AT = 0, COPY_AT = 1024, MAP_AT = 2048 };

static ccart_program step_program(builder *b, bool cuda, uint32_t mode, int64_t t_max)
{
    uint32_t T = var(b, CCART_VAR_T), R = var(b, CCART_VAR_R), first = 0;
    arg(b, CCART_P_ARENA, 0, num(b, COPY_AT), 0); /* MEMSET of the copies */
    node(b, CCART_NODE_MEMSET, 0, 0, first, false);
    b->node[0].size_expr = num(b, 4 * MAX_TOKENS), b->node[0].fill = 7;
    first = b->p.n_params;
    arg(b, CCART_P_OUTPUT, offsetof(sum_args, sums), OUT_SUMS, 0);
    arg(b, CCART_P_WEIGHT, offsetof(sum_args, table), 0, 0);
    arg(b, CCART_P_INPUT, offsetof(sum_args, ids), IN_IDS, 0);
    arg(b, CCART_P_INPUT, offsetof(sum_args, positions), IN_POS, 0);
    arg(b, CCART_P_STATUS, offsetof(sum_args, status), 0, 0);
    arg4(b, offsetof(sum_args, T), T);
    arg4(b, offsetof(sum_args, vocab), num(b, VOCAB));
    arg(b, CCART_P_KV, offsetof(sum_args, scratch), 0, 1);
    node(b, CCART_NODE_KERNEL, K_SUM, T, first, false);
    first = b->p.n_params; /* COPY: the first sums to the arena */
    arg(b, CCART_P_ARENA, 0, num(b, SUMS_AT), 0);
    arg(b, CCART_P_OUTPUT, 0, OUT_SUMS, 0);
    node(b, CCART_NODE_COPY, 0, 0, first, false);
    b->node[b->p.n_nodes - 1].size_expr = num(b, 4);
    first = b->p.n_params;
    if (cuda) {
        b->tmap[0] = (ccart_tmap){.base_kind = CCART_P_ARENA,
                                  .dtype = CCART_BF16,
                                  .rank = 2,
                                  .swizzle = 128,
                                  .promotion = 4,
                                  .base_expr = num(b, MAP_AT),
                                  .dim = {num(b, 16), T},
                                  .stride = {0, num(b, 32)},
                                  .box = {16, 8}};
        b->p.n_tmaps = 1;
        arg(b, CCART_P_TMAP, 0, 0, 0);
        arg(b, CCART_P_COUNTER, offsetof(map_args, out), 0, 16);
        arg4(b, offsetof(map_args, T), T);
        node(b, CCART_NODE_KERNEL, K_MAP, var(b, CCART_VAR_SM), first, false);
        first = b->p.n_params;
    }
    arg(b, CCART_P_OUTPUT, offsetof(next_args, next), OUT_NEXT, 0);
    arg(b, CCART_P_OUTPUT, offsetof(next_args, sums), OUT_SUMS, 0);
    arg(b, CCART_P_INPUT, offsetof(next_args, rows), IN_ROWS, 0);
    arg(b, CCART_P_ARENA, offsetof(next_args, copy), num(b, COPY_AT), 0);
    arg4(b, offsetof(next_args, R), R);
    node(b, CCART_NODE_KERNEL, K_NEXT, R, first, cuda);
    for (uint32_t i = 0; i < b->p.n_nodes; i++)
        b->traffic[i] = (ccart_traffic){.memory_expr = i ? T : num(b, 0), .local_expr = num(b, 4), .kv_B = i == 1 ? 100 : 0};
    b->p.traffic = b->traffic, b->p.n_traffic = b->p.n_nodes;
    return done(b, mode, 1, t_max, ARENA_B);
}

static ccart_program advance_program(builder *b)
{
    arg(b, CCART_P_INPUT, offsetof(advance_args, positions), IN_POS, 0);
    arg(b, CCART_P_INPUT, offsetof(advance_args, lens), IN_LENS, 0);
    arg(b, CCART_P_INPUT, offsetof(advance_args, slots), IN_SLOTS, 0);
    arg(b, CCART_P_INPUT, offsetof(advance_args, table), IN_TABLE, 0);
    arg4(b, offsetof(advance_args, S), var(b, CCART_VAR_S));
    arg4(b, offsetof(advance_args, max_blocks), var(b, CCART_VAR_MAX_BLOCKS));
    node(b, CCART_NODE_KERNEL, K_ADVANCE, num(b, 1), 0, false);
    return done(b, CCART_MODE_ADVANCE, 1, MAX_SEQS, 0);
}

static ccart_program read_program(builder *b)
{
    arg(b, CCART_P_STATUS, offsetof(read_args, out), 0, 12);
    arg(b, CCART_P_SRC, offsetof(read_args, src), 0, 0);
    arg(b, CCART_P_EXPR, offsetof(read_args, bytes), var(b, CCART_VAR_ROWS), 0);
    node(b, CCART_NODE_KERNEL, K_READ, var(b, CCART_VAR_SM), 0, false);
    return done(b, CCART_MODE_READ, 1, INT64_MAX, 0);
}

static ccart_program load_program(builder *b, uint32_t weight, int64_t dst_row0, bool random)
{
    uint32_t rows = var(b, CCART_VAR_ROWS);
    arg(b, CCART_P_WEIGHT, offsetof(load_args, dst), weight, 0);
    if (random) arg(b, CCART_P_SEED, offsetof(load_args, seed), 0, 0);
    else arg(b, CCART_P_SRC, offsetof(load_args, src), 0, 0);
    arg(b, CCART_P_EXPR, offsetof(load_args, row0), var(b, CCART_VAR_ROW0), 0);
    arg(b, CCART_P_EXPR, offsetof(load_args, rows), rows, 0);
    arg(b, CCART_P_IMM, offsetof(load_args, cols), 0, HIDDEN);
    arg(b, CCART_P_IMM, offsetof(load_args, dst_row0), 0, dst_row0);
    node(b, CCART_NODE_KERNEL, K_LOAD, rows, 0, false);
    return done(b, 0, 0, 0, 0);
}

static ccart_program fill_program(builder *b)
{
    arg(b, CCART_P_WEIGHT, offsetof(fill_args, dst), 2, 0);
    arg(b, CCART_P_CONST, offsetof(fill_args, values), 0, 0);
    arg(b, CCART_P_IMM, offsetof(fill_args, n), 0, 4);
    node(b, CCART_NODE_KERNEL, K_FILL, num(b, 2), 0, false);
    return done(b, 0, 0, 0, 0);
}

typedef struct {
    builder step[2], advance, read, load[6];
    ccart_program program[4], loads[6];
    ccart_kernel kernel[N_KERNELS];
    ccart_module module[N_KERNELS];
    char ptx[N_KERNELS][256];
    ccart_weight weight[3];
    ccart_segment segment[4];
    ccart_io in[N_IN], out[N_OUT];
    ccart_expr io_expr[6];
} target_parts;
static const float constants[4] = {1, 2, 3, 4};

static void make_io(ccart_target *t, target_parts *p)
{
    static const uint8_t T[] = {2, CCART_VAR_T}, S[] = {2, CCART_VAR_S}, R[] = {2, CCART_VAR_R},
                         B[] = {2, CCART_VAR_MAX_BLOCKS},
                         S1[] = {2, CCART_VAR_S, 1, 1, 0, 0, 0, 0, 0, 0, 0, CCART_X_ADD},
                         H[] = {1, HIDDEN, 0, 0, 0, 0, 0, 0, 0};
    const ccart_expr e[6] = {{T, 2}, {S, 2}, {R, 2}, {B, 2}, {S1, sizeof S1}, {H, sizeof H}};
    memcpy(p->io_expr, e, sizeof e);
    const ccart_io in[N_IN] = {
        [IN_IDS] = {CCART_I32, 1, "token_ids", 0, {0}},
        [IN_POS] = {CCART_I64, 1, "positions", 0, {0}},
        [IN_STARTS] = {CCART_I32, 1, "query_start_loc", 0, {4}},
        [IN_LENS] = {CCART_I32, 1, "seq_lens", 0, {1}},
        [IN_TABLE] = {CCART_I32, 2, "block_table", 0, {1, 3}},
        [IN_SLOTS] = {CCART_I64, 1, "slot_mapping", 0, {0}},
        [IN_ROWS] = {CCART_I32, 1, "logits_indices", 0, {2}},
        [IN_EMBEDS] = {CCART_BF16, 2, "inputs_embeds", 1, {0, 5}},
    };
    const ccart_io out[N_OUT] = {
        [OUT_SUMS] = {CCART_I32, 1, "sums", 0, {0}}, [OUT_NEXT] = {CCART_I32, 1, "next_tokens", 0, {2}}};
    memcpy(p->in, in, sizeof in);
    memcpy(p->out, out, sizeof out);
    t->io_expr = p->io_expr, t->n_io_exprs = 6, t->in = p->in, t->n_in = N_IN, t->out = p->out,
    t->n_out = N_OUT;
}

static void make_weights(ccart_target *t, target_parts *p)
{
    const ccart_weight w[3] = {{"table", CCART_BF16, 2, {VOCAB, HIDDEN}, VOCAB * HIDDEN * 2},
                               {"ab", CCART_BF16, 2, {6, HIDDEN}, 6 * HIDDEN * 2},
                               {"made", CCART_F32, 1, {4}, 16}};
    memcpy(p->weight, w, sizeof w);
    const uint32_t none = UINT32_MAX;
    const ccart_segment s[4] = {
        {0, "embed", CCART_BF16, 2, {VOCAB, HIDDEN}, HIDDEN * 2, 0, VOCAB * HIDDEN * 2, 1, 1, none, 0},
        {1, "a", CCART_BF16, 2, {2, HIDDEN}, HIDDEN * 2, 0, 2 * HIDDEN * 2, 0, 2, 1, 2},
        {1, "b", CCART_BF16, 2, {4, HIDDEN}, HIDDEN * 2, 2 * HIDDEN * 2, 4 * HIDDEN * 2, 0, 1, 3, 4},
        {2, "", 0, 1, {4}, 0, 0, 16, 0, 1, 5, 5},
    };
    memcpy(p->segment, s, sizeof s);
    p->loads[0] = load_program(&p->load[0], 0, 0, true);
    p->loads[1] = load_program(&p->load[1], 1, 0, false);
    p->loads[2] = load_program(&p->load[2], 1, 0, true);
    p->loads[3] = load_program(&p->load[3], 1, 2, false);
    p->loads[4] = load_program(&p->load[4], 1, 2, true);
    p->loads[5] = fill_program(&p->load[5]);
    t->weight = p->weight, t->n_weights = 3, t->segment = p->segment, t->n_segments = 4, t->load = p->loads,
    t->n_load = 6;
    t->constant = (const uint8_t *)constants, t->constant_B = sizeof constants;
    memcpy(t->layout_hash, "a layout of mine", 16);
}

static void make_kernels(ccart_target *t, target_parts *p, bool cuda)
{
    static const char *const names[N_KERNELS] = {"load", "fill", "sum", "next", "advance", "read", "map"};
    static const uint32_t args_B[N_KERNELS] = {sizeof(load_args), sizeof(fill_args),    sizeof(sum_args),
                                               sizeof(next_args), sizeof(advance_args), sizeof(read_args),
                                               sizeof(map_args)};
    uint32_t entry_B[N_KERNELS];
    size_t size_B;
    test_image(&p->module[0].data, &size_B, entry_B);
    p->module[0].kind = CCART_MODULE_HOST;
    p->module[0].size_B = size_B;
    for (uint32_t i = 0; i < N_KERNELS; i++) {
        p->kernel[i] = (ccart_kernel){.name = names[i],
                                      .symbol = cuda ? names[i] : "",
                                      .cubin = cuda ? UINT32_MAX : 0,
                                      .ptx = cuda ? i : UINT32_MAX,
                                      .entry_B = cuda ? 0 : entry_B[i],
                                      .threads = cuda ? 128 : 1,
                                      .shared_B = cuda ? (i == K_MAP ? 100000 : 0) : 64,
                                      .cluster = cuda && i == K_MAP ? 2 : 1,
                                      .args_B = args_B[i],
                                      .args_align = i == K_MAP ? 64 : 8,
                                      .flags = cuda && i != K_SUM ? CCART_KERNEL_PDL : 0};
        if (!cuda) continue;
        snprintf(p->ptx[i], sizeof p->ptx[i],
                 ".version 8.0\n.target sm_90\n.visible .entry %s(.param .align 8 .b8 p[%u])\n{ ret; }\n",
                 names[i], args_B[i]);
        p->module[i] = (ccart_module){CCART_MODULE_PTX, (const uint8_t *)p->ptx[i], strlen(p->ptx[i])};
    }
    t->kernel = p->kernel, t->n_kernels = N_KERNELS, t->module = p->module,
    t->n_modules = cuda ? N_KERNELS : 1;
}

static void make_target(ccart_target *t, target_parts *p, bool cuda)
{
    memset(p, 0, sizeof *p);
    *t = (ccart_target){.name = cuda ? "sm_90a" : "x86-64-v3",
                        .kind = cuda ? CCART_TARGET_CUDA : CCART_TARGET_HOST,
                        .cc = cuda ? 90 : 0,
                        .cc_exact = cuda,
                        .min_driver_ptx = cuda ? 12000 : 0,
                        .cpu_level = cuda ? 0 : 3,
                        .counters_B = 64,
                        .arena_B = ARENA_B};
    make_kernels(t, p, cuda);
    make_io(t, p);
    make_weights(t, p);
    uint32_t n = 0;
    if (cuda) p->program[n++] = step_program(&p->step[0], cuda, CCART_MODE_DECODE, MAX_SEQS);
    p->program[n++] = step_program(&p->step[1], cuda, CCART_MODE_MIXED, MAX_TOKENS);
    p->program[n++] = advance_program(&p->advance);
    p->program[n++] = read_program(&p->read);
    t->program = p->program, t->n_programs = n;
}

const ccart_file *make_file(void)
{
    static target_parts parts[2];
    static ccart_target target[2];
    static uint32_t sizes[4];
    static ccart_kv facts[] = {{"rope_theta", "10000"}, {"source", "huggingface"}},
                    from[] = {{"ccc", "test \"quoted\"\n"}};
    static ccart_file f;
    for (uint32_t i = 0; i < 4; i++) sizes[i] = 1u << i;
    make_target(&target[0], &parts[0], false);
    make_target(&target[1], &parts[1], true);
    f = (ccart_file){.major = CCART_MAJOR,
                     .minor = CCART_MINOR,
                     .target = target,
                     .n_targets = 2,
                     .provenance = from,
                     .n_provenance = 1,
                     .fact = facts,
                     .n_facts = 2,
                     .max_tokens = MAX_TOKENS,
                     .max_seqs = MAX_SEQS,
                     .max_model_len = MAX_LEN,
                     .vocab = VOCAB,
                     .hidden = HIDDEN,
                     .n_layers = 1,
                     .kv_heads = 1,
                     .head_size = HEAD,
                     .kv_block_size = BLOCK,
                     .kv_dtype = CCART_BF16,
                     .kv_layout = 1,
                     .size = sizes,
                     .n_sizes = 4,
                     .graph_text = "graph @test() {}\n",
                     .report = "{}"};
    return &f;
}

void make_artifact(uint8_t **bytes, size_t *size_B)
{
    ccc_err err = {0};
    const ccart_file *f = make_file();
    cr_assert_eq(ccart_validate(f, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccart_encode(bytes, size_B, f, &err), CCC_OK, "%s", err.msg);
}

static uint8_t *kept[16]; /* bytes of open artifacts, until the test process ends */
static unsigned n_kept;

__attribute__((destructor)) static void free_kept(void)
{
    for (unsigned i = 0; i < n_kept; i++) free(kept[i]);
}

cccrt_artifact *make_open(int allow_host_code)
{
    uint8_t *bytes;
    size_t size_B;
    ccc_err err = {0};
    cccrt_artifact *a = NULL;
    make_artifact(&bytes, &size_B);
    cr_assert(n_kept < sizeof kept / sizeof *kept);
    kept[n_kept++] = bytes;
    cccrt_open_args args = {sizeof args, allow_host_code};
    cr_assert_eq(cccrt_artifact_open_memory(&a, bytes, size_B, &args, &err), CCC_OK, "%s", err.msg);
    return a;
}

cccrt_device *make_device(const char *kind)
{
    ccc_err err = {0};
    cccrt_device *d = NULL;
    cccrt_device_args args = {.size_B = sizeof args, .kind = kind, .n_threads = 2};
    cr_assert_eq(cccrt_device_open(&d, &args, &err), CCC_OK, "%s", err.msg);
    return d;
}

/* ---- the container from outside */
static uint64_t get(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static void digest(uint8_t *out, const void *a, size_t na, const void *b, size_t nb)
{
    XXH3_state_t s;
    XXH128_canonical_t c;
    XXH3_INITSTATE(&s);
    XXH3_128bits_reset(&s);
    XXH3_128bits_update(&s, a, na);
    XXH3_128bits_update(&s, b, nb);
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&s));
    memcpy(out, c.digest, 16);
}

void make_seal(uint8_t *b, size_t size_B)
{
    uint64_t n = get(b + 16, 4);
    for (uint64_t i = 0; 64 + i * 56 + 56 <= size_B && i < 256 && i < n; i++) {
        uint8_t *row = b + 64 + i * 56;
        uint64_t at = get(row + 16, 8), stored = get(row + 24, 8);
        if (at <= size_B && stored <= size_B - at) digest(row + 40, b + at, (size_t)stored, NULL, 0);
    }
    if (64 + n * 56 + 16 > size_B) return;
    digest(b + 32, b, 32, b + 64, (size_t)n * 56);
    digest(b + size_B - 16, b, size_B - 16, NULL, 0);
}

void make_raw(uint8_t **bytes, size_t *size_B)
{
    uint8_t *from;
    size_t from_B;
    make_artifact(&from, &from_B);
    uint64_t n = get(from + 16, 4), at = 64 + n * 56, total = at + 16;
    for (uint64_t i = 0; i < n; i++) total += get(from + 64 + i * 56 + 32, 8) + 64;
    uint8_t *to = calloc(1, (size_t)total);
    memcpy(to, from, (size_t)at);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t *row = to + 64 + i * 56;
        uint64_t offset = get(row + 16, 8), stored = get(row + 24, 8), raw = get(row + 32, 8);
        at = (at + 63) & ~63ull;
        if (row[8]) cr_assert_eq(ZSTD_decompress(to + at, (size_t)raw, from + offset, (size_t)stored), raw);
        else memcpy(to + at, from + offset, (size_t)raw);
        row[8] = 0;
        put(row + 16, at, 8);
        put(row + 24, raw, 8);
        at += raw;
    }
    put(to + 24, at + 16, 8);
    make_seal(to, (size_t)at + 16);
    free(from);
    *bytes = to;
    *size_B = (size_t)at + 16;
}
