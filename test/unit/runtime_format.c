/* The artifact's file: what is written is read back; what is damaged, cut off or hostile is an error. */
#include "runtime_make.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(format, round_trip)
{
    uint8_t *a, *b;
    size_t na, nb;
    ccc_err err = {0};
    ccart_file *f;
    make_artifact(&a, &na);
    cr_assert_eq(ccart_decode(&f, a, na, CCART_WITH_TEXT | CCART_WITH_PTX, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccart_validate(f, &err), CCC_OK, "%s", err.msg);
    cr_assert_eq(ccart_encode(&b, &nb, f, &err), CCC_OK);
    cr_assert(na == nb && memcmp(a, b, na) == 0, "the same content must give the same bytes");
    cr_assert_str_eq(f->graph_text, "graph @test() {}\n");
    cr_assert_str_eq(f->target[1].kernel[K_MAP].name, "map");
    cr_assert_eq(f->target[1].program[0].tmap[0].box[1], 8);
    cr_assert_eq(((uintptr_t)f->target[0].module[0].data) % 16, 0);
    cr_assert(f->target[1].program[0].n_traffic == f->target[1].program[0].n_nodes &&
              f->target[1].program[0].traffic[1].kv_B == 100);
    ccart_release(f);
    cr_assert_eq(ccart_decode(&f, a, na, 0, &err), CCC_OK);
    cr_assert_str_eq(f->graph_text, "");
    ccart_release(f);
    free(a);
    free(b);
}

/* Opening leaves PTX packed; a device unpacks it. */
Test(format, ptx_lies_apart)
{
    uint8_t *a, *room;
    size_t n;
    ccc_err err = {0};
    ccart_file *f;
    make_artifact(&a, &n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_OK, "%s", err.msg);
    const ccart_target *t = &f->target[1];
    for (uint32_t i = 0; i < t->n_modules; i++)
        cr_assert(t->module[i].kind == CCART_MODULE_PTX && !t->module[i].data);
    cr_assert_eq(ccart_ptx_unpack(&room, t, &err), CCC_OK, "%s", err.msg);
    for (uint32_t i = 0; i < t->n_modules; i++) {
        const ccart_module *m = &make_file()->target[1].module[i];
        const uint8_t *text = ccart_ptx_text(t, i, room);
        cr_assert(t->module[i].size_B == m->size_B && !memcmp(text, m->data, m->size_B) && !text[m->size_B]);
    }
    free(room);
    a[t->ptx.data - a + 9] ^= 1; /* a caller's memory, changed after it was opened */
    cr_assert_eq(ccart_ptx_unpack(&room, t, &err), CCC_E_CORRUPT);
    cr_assert(strstr(err.msg, "PTX"), "%s", err.msg);
    ccart_release(f);
    free(a);
}

/* A chunk of the second target in an artifact of plain chunks. */
static uint8_t *chunk(uint8_t *a, uint8_t kind, uint8_t **row, uint64_t *size_B)
{
    for (*row = a + 64; *row < a + 64 + 56 * (size_t)a[16]; *row += 56)
        if ((*row)[0] == kind && (*row)[4] == 1) {
            uint64_t at;
            memcpy(&at, *row + 16, 8);
            memcpy(size_B, *row + 24, 8);
            return a + at;
        }
    cr_assert(false, "no chunk %d", kind);
    return NULL;
}

Test(format, ptx_that_does_not_fit_its_modules)
{
    uint8_t *a, *room, *row;
    size_t n;
    uint64_t size_B;
    ccart_file *f;
    ccc_err err = {0};
    make_raw(&a, &n);
    uint8_t *modules = chunk(a, CCART_CHUNK_KERNELS, &row, &size_B),
            *text = chunk(a, CCART_CHUNK_PTX, &row, &size_B);
    cr_assert(size_B && !text[size_B - 1]);
    cr_assert_eq(modules[4], CCART_MODULE_PTX_APART); /* behind the count */
    modules[8]++;
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_CORRUPT);
    cr_assert(strstr(err.msg, "its modules"), "%s", err.msg);
    modules[8]--;
    text[size_B - 1] = 'x'; /* a text without its end: seen when it is unpacked, before a driver sees it */
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, CCART_WITH_PTX, &err), CCC_E_CORRUPT);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_OK);
    cr_assert_eq(ccart_ptx_unpack(&room, &f->target[1], &err), CCC_E_CORRUPT);
    ccart_release(f);
    row[0] = 77; /* another kind: the modules' texts are missing */
    row[3] = 0;
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_CORRUPT);
    cr_assert(strstr(err.msg, "missing"), "%s", err.msg);
    row[0] = CCART_CHUNK_PTX, row[3] = 0x80, row[4] = 0; /* of the target that has no PTX */
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_CORRUPT);
    free(a);
}

Test(format, every_flip_and_every_cut_is_an_error)
{
    uint8_t *a;
    size_t n;
    ccart_file *f = NULL;
    make_artifact(&a, &n);
    for (size_t i = 0; i < n; i++)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            ccc_err err = {0};
            a[i] ^= (uint8_t)(1 << bit);
            cr_assert_neq(ccart_decode(&f, a, n, CCART_WITH_TEXT, &err), CCC_OK, "byte %zu", i);
            cr_assert(*err.msg);
            a[i] ^= (uint8_t)(1 << bit);
        }
    for (size_t i = 0; i < n; i++) {
        uint8_t *cut = malloc(i ? i : 1); /* its own size, so that a read behind it is seen */
        memcpy(cut, a, i);
        cr_assert_neq(ccart_decode(&f, cut, i, 0, NULL), CCC_OK, "%zu bytes", i);
        free(cut);
    }
    free(a);
}

Test(format, versions)
{
    uint8_t *a;
    size_t n;
    ccart_file *f;
    ccc_err err;
    make_artifact(&a, &n);
    a[8] = 2;
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_VERSION);
    cr_assert(strstr(err.msg, "2.2") && strstr(err.msg, "1.x"), "%s", err.msg);
    a[8] = 1, a[10] = 7; /* a newer minor version has at most chunks that this one does not know */
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_OK);
    ccart_release(f);
    uint8_t *last = a + 64 + 56 * (size_t)(a[16] - 1); /* the report, skippable */
    last[0] = 99;
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, CCART_WITH_TEXT, &err), CCC_OK);
    cr_assert_str_eq(f->report, "");
    ccart_release(f);
    last[3] = 0x80; /* the same, required */
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_VERSION);
    a[12] = 1; /* a flag of the header */
    make_seal(a, n);
    cr_assert_eq(ccart_decode(&f, a, n, 0, &err), CCC_E_VERSION);
    free(a);
}

/* Bytes of the content are changed and all hashes made right again: an error or a valid artifact, never a
 * crash. */
Test(format, resealed_changes, .timeout = 600)
{
    uint8_t *a;
    size_t n;
    uint64_t seed = 1, accepted = 0, refused = 0;
    make_raw(&a, &n);
    uint8_t *b = malloc(n);
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    size_t tries = getenv("CCC_TEST_LONG") ? 2000000 : 60000;
    for (size_t i = 0; i < tries; i++) {
        memcpy(b, a, n);
        for (int k = 0; k < 1 + (int)(i % 3); k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = 64 + (size_t)(seed >> 20) % (n - 64 - 16);
            b[at] = seed >> 60 & 1 ? values[(seed >> 56) % sizeof values] : (uint8_t)(seed >> 48);
        }
        make_seal(b, n);
        ccart_file *f;
        ccc_err err = {0};
        if (ccart_decode(&f, b, n, CCART_WITH_TEXT, &err) != CCC_OK) {
            refused++;
            continue;
        }
        ccart_validate(f, &err) == CCC_OK ? accepted++ : refused++;
        ccart_release(f);
    }
    cr_assert(accepted > tries / 100 && refused > tries / 10, "%llu accepted, %llu refused",
              (unsigned long long)accepted, (unsigned long long)refused);
    free(a);
    free(b);
}

/* ---- what validation refuses: one change each */
#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        ccart_file f = *make_file();                                                                         \
        ccart_target *host = &f.target[0], *cuda = &f.target[1];                                             \
        ccart_program *p = &cuda->program[0];                                                                \
        ccc_err err = {0};                                                                                   \
        (void)host, (void)p;                                                                                 \
        cr_assert_eq(ccart_validate(&f, &err), CCC_OK, "%s", err.msg);                                       \
        change;                                                                                              \
        cr_assert_neq(ccart_validate(&f, &err), CCC_OK, "accepted: " #change);                               \
        cr_assert(*err.msg && !strchr(err.msg, '\n'));                                                       \
    } while (0)

Test(format, validation)
{
    REFUSED(cuda->kernel[0].ptx = 99);
    REFUSED(cuda->kernel[0].ptx = UINT32_MAX);
    REFUSED(host->kernel[0].entry_B = 1 << 30);
    REFUSED(cuda->kernel[0].threads = 2048);
    REFUSED(cuda->kernel[0].shared_B = 232449);
    REFUSED(cuda->kernel[0].args_B = 2048);
    REFUSED(cuda->kernel[0].flags = 64);
    REFUSED(p->node[1].kernel = N_KERNELS);
    REFUSED(p->node[1].kind = CCART_NODE_COLLECTIVE);
    REFUSED(p->node[1].kind = CCART_NODE_SPLIT);
    REFUSED(p->node[1].kind = 77);
    REFUSED(p->node[1].grid[2] = 1000);
    REFUSED(p->node[1].n_params = 1000);
    REFUSED(p->node[1].first_param = UINT32_MAX);
    REFUSED(p->node[1].edge = CCART_EDGE_PROGRAMMATIC); /* its kernel does not wait */
    REFUSED(p->node[0].edge = CCART_EDGE_PROGRAMMATIC);
    REFUSED(p->param[1].offset_B = 8); /* overlaps the next one */
    REFUSED(p->param[1].offset_B = 4); /* unaligned */
    REFUSED(p->param[1].offset_B = 1024);
    REFUSED(p->param[1].size_B = 4);
    REFUSED(p->param[1].index = 2);
    REFUSED(p->param[2].index = 3);
    REFUSED(p->param[2].value = VOCAB * HIDDEN * 2);
    REFUSED(p->param[2].value = -1);
    REFUSED(p->param[1].kind = CCART_P_PEER);
    REFUSED(p->param[1].kind = CCART_P_SRC);
    REFUSED(p->param[1].kind = 200);
    REFUSED(p->tmap[0].swizzle = 48);
    REFUSED(p->tmap[0].box[0] = 300);
    REFUSED(p->tmap[0].box[0] = 128);
    REFUSED(p->tmap[0].dim[1] = 999);
    REFUSED(p->tmap[0].base_kind = CCART_P_KV);
    REFUSED(p->arena_B = 1 << 20);
    REFUSED(p->t_max = 0);
    REFUSED(p->mode = 9);
    REFUSED(p->n_traffic = 1);
    REFUSED(p->traffic[1].memory_expr = 1000);
    REFUSED(p->traffic[1].local_expr = UINT32_MAX);
    REFUSED(p->expr[0] = ((ccart_expr){(const uint8_t *)"\3", 1}));
    REFUSED(p->expr[0] = ((ccart_expr){(const uint8_t[]){CCART_X_VAR, CCART_VAR_ROW0}, 2}));
    REFUSED(cuda->load[0].node[0].kind = CCART_NODE_MEMSET);
    REFUSED(cuda->load[1].n_nodes = 0);
    REFUSED(cuda->weight[0].size_B = 1);
    REFUSED(cuda->weight[0].dim[0] = -1);
    REFUSED(cuda->weight[0].dim[0] = INT64_MAX);
    REFUSED(cuda->segment[1].dst_B = 6 * HIDDEN * 2);
    REFUSED(cuda->segment[1].load_program = 17);
    REFUSED(cuda->segment[1].row_B = 3);
    REFUSED(cuda->segment[2].row_group = 3);
    REFUSED(cuda->segment[0].dst_size_B = 2);
    REFUSED(cuda->in[0].dim_expr[0] = 6);
    REFUSED(cuda->in[0].rank = 5);
    REFUSED(cuda->in[0].name = "positions");
    REFUSED(f.size[1] = 1);
    REFUSED(f.size[3] = 100);
    REFUSED(f.kv_layout = 4);
    REFUSED(f.kv_heads = 0);
    REFUSED(f.max_tokens = -1);
    REFUSED(cuda->name = "x86-64-v3");
    REFUSED(cuda->kind = 3);
}

Test(format, dtypes_match)
{
    cr_assert_str_eq(ccart_dtype_name(CCART_BF16), "bf16");
    cr_assert_eq(ccart_dtype_find("f64"), 16);
    uint64_t n;
    cr_assert(ccart_storage_B(15, 64, &n) && n == 40);
    cr_assert(!ccart_storage_B(15, 33, &n));
    cr_assert(!ccart_storage_B(17, 1, &n));
    cr_assert(!ccart_storage_B(10, UINT64_MAX / 4, &n));
}

/* ---- expressions */
static bool evaluate(const uint8_t *code, uint32_t n, int64_t *v)
{
    int64_t var[CCART_N_VARS] = {[CCART_VAR_T] = 10, [CCART_VAR_S] = 3};
    ccart_expr e = {code, n};
    return ccart_expr_check(&e, NULL, NULL) == CCC_OK && ccart_expr_eval(&e, var, v);
}

Test(expr, arithmetic)
{
    int64_t v;
    cr_assert(evaluate((uint8_t[]){2, 0, 2, 1, CCART_X_CEILDIV}, 5, &v) && v == 4);
    cr_assert(evaluate((uint8_t[]){2, 0, 2, 1, CCART_X_SUB}, 5, &v) && v == 7);
    cr_assert(evaluate((uint8_t[]){2, 0, 2, 1, CCART_X_MIN, 2, 0, CCART_X_MUL}, 8, &v) && v == 30);
    cr_assert(evaluate((uint8_t[]){2, 0, 2, 1, CCART_X_MAX}, 5, &v) && v == 10);
    cr_assert(evaluate((uint8_t[]){1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, CCART_X_CEILDIV},
                       12, &v) &&
              v == 0);
    cr_assert(!evaluate((uint8_t[]){2, 0, 2, 2, CCART_X_CEILDIV}, 5, &v), "division by R = 0");
    cr_assert(
        !evaluate((uint8_t[]){1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 2, 1, CCART_X_ADD}, 12, &v),
        "overflow");
    cr_assert(!evaluate((uint8_t[]){1, 0, 0, 0, 0, 0, 0, 0, 0x40, 2, 0, CCART_X_MUL}, 12, &v), "overflow");
}

Test(expr, malformed)
{
    int64_t v;
    uint8_t longest[CCART_MAX_EXPR_B + 2] = {CCART_X_VAR, 0}; /* T */
    for (unsigned i = 2; i + 3 <= sizeof longest; i += 3)
        memcpy(longest + i, (uint8_t[]){CCART_X_VAR, 1, CCART_X_ADD}, 3);
    cr_assert(evaluate(longest, 254, &v) && v == 10 + 3 * 84);
    cr_assert(!evaluate(longest, 257, &v), "longer than the format allows");
    cr_assert(!evaluate(NULL, 0, &v));
    cr_assert(!evaluate((uint8_t[]){2}, 1, &v));
    cr_assert(!evaluate((uint8_t[]){1, 0, 0}, 3, &v));
    cr_assert(!evaluate((uint8_t[]){2, 0, CCART_X_ADD}, 3, &v));
    cr_assert(!evaluate((uint8_t[]){2, 0, 2, 0}, 4, &v));
    cr_assert(!evaluate((uint8_t[]){2, CCART_N_VARS}, 2, &v));
    cr_assert(!evaluate((uint8_t[]){9}, 1, &v));
    cr_assert(!evaluate((uint8_t[]){0}, 1, &v));
    uint8_t deep[2 * 17 + 16];
    for (int i = 0; i < 17; i++) deep[2 * i] = CCART_X_VAR, deep[2 * i + 1] = 0;
    memset(deep + 34, CCART_X_ADD, 16);
    cr_assert(!evaluate(deep, sizeof deep, &v), "17 values at once");
    cr_assert(evaluate(deep + 2, sizeof deep - 3, &v) && v == 160, "16 are allowed");
}
