/* Reads, checks, orders and writes schedule files; finds a row. */
#include "schedule_table.h"
#include "plan.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 4096, MAX_LINE = 512 };
static const struct { const char *name; const char *constant[SCHEDULE_CONSTANTS]; } classes[SCHEDULE_CLASSES] = {
    [SCHEDULE_MATVEC] = { "matvec", { "rows", "loads", "warps", "split", "turns" } },
    [SCHEDULE_GEMM_T] = { "gemm_t", { "bn", "cols", "split", "blocks" } },
    [SCHEDULE_GEMM] = { "gemm", { "bn" } },
};

/* ---- what is legal --------------------------------------------------------------------------------------------------------------- */
static bool power_of_2(int v) { return v > 0 && !(v & (v - 1)); }

ccc_matvec_shape schedule_matvec_of(const schedule_row *r)
{
    const int *c = r->constant;
    return (ccc_matvec_shape){ c[SCHEDULE_MATVEC_ROWS], c[SCHEDULE_MATVEC_LOADS], c[SCHEDULE_MATVEC_WARPS], c[SCHEDULE_MATVEC_SPLIT], c[SCHEDULE_MATVEC_TURNS] };
}

void schedule_set_matvec(schedule_row *r, ccc_matvec_shape s)
{
    r->is = SCHEDULE_MATVEC;
    memcpy(r->constant, (int[SCHEDULE_CONSTANTS]){ s.rows, s.loads, s.warps, s.split, s.turns }, sizeof r->constant);
}

static const char *wrong_matvec(const schedule_row *r)
{
    ccc_matvec_shape s = schedule_matvec_of(r);
    int tok = 1, K = schedule_matvec_K(&r->shape);
    if (r->t_max > CCC_MATVEC_MAX_T) return "a matvec serves 1 or 2 tokens";
    while (tok < r->t_max) tok *= 2;
    if (!power_of_2(s.rows) || !power_of_2(s.warps) || !power_of_2(s.split)) return "rows, warps and split must be powers of two";
    if (!ccc_matvec_ok(tok, r->shape.pair, s)) return "the template cannot be built with these constants";
    if (s.rows * (r->shape.pair + 1) * s.loads > (s.turns > 1 ? CCC_MATVEC_MAX_IN_FLIGHT / 2 : CCC_MATVEC_MAX_IN_FLIGHT)) return "rows x loads needs too many registers";
    if (ccc_matvec_shared_B(K, tok, r->shape.K <= CCC_PROLOGUE_MAX_COLS_ONE, 0, r->shape.pair, s) > CCC_SHARED_MOST) return "it needs too much shared memory";
    return NULL;
}

ccc_gemm_tile schedule_tile(const schedule_row *r)
{
    const int *c = r->constant;
    bool swap = r->is == SCHEDULE_GEMM_T;
    ccc_gemm_tile t = { swap, c[SCHEDULE_GEMM_BN], r->shape.pair, swap ? c[SCHEDULE_GEMM_COLS] : c[SCHEDULE_GEMM_BN] / (r->shape.pair + 1), swap ? c[SCHEDULE_GEMM_SPLIT] : 1,
                        swap ? c[SCHEDULE_GEMM_BLOCKS] : 1, 0 };
    t.stages = ccc_gemm_stages(t, 1);
    return t;
}

static const char *wrong_gemm_t(const schedule_row *r)
{
    int bn = r->constant[SCHEDULE_GEMM_BN], cols = r->constant[SCHEDULE_GEMM_COLS], split = r->constant[SCHEDULE_GEMM_SPLIT], blocks = r->constant[SCHEDULE_GEMM_BLOCKS];
    int kb = schedule_gemm_kb(&r->shape), most = bn == 128 ? r->shape.pair ? 112 : 128 : r->shape.pair ? 128 : 256;
    if (!power_of_2(bn) || bn < 8 || bn > 128) return "bn must be 8, 16, 32, 64 or 128";
    if (cols < 8 || cols % 8 || cols > most) return "cols must be a multiple of 8 up to 256, of a pair 128, with bn=128 up to 128, of a pair 112";
    if (!power_of_2(split) || split > CCC_GEMM_MOST_SPLIT || (split > 1 && r->shape.pair && bn == 128)) return "split must be 1, 2 or 4, of a pair with bn=128 1";
    if (!power_of_2(blocks) || blocks > 4) return "blocks must be 1, 2 or 4";
    if (kb < split) return "K is too short for this split";
    if (blocks > 1 && kb % (blocks * split)) return "K is no multiple of the blocks of a stage";
    if (schedule_tile(r).stages < 2) return "it needs too much shared memory";
    return NULL;
}

static const char *wrong_gemm(const schedule_row *r)
{
    int bn = r->constant[SCHEDULE_GEMM_BN];
    if (bn != 256 && bn != 224) return "bn must be 224 or 256";
    if (r->shape.N % 8) return "N must be a multiple of 8";
    return NULL;
}

bool schedule_legal(const schedule_row *r, const char **why)
{
    static const char *(*const wrong[])(const schedule_row *) = { wrong_matvec, wrong_gemm_t, wrong_gemm };
    *why = NULL;
    if (r->shape.N < 1 || r->shape.N > 1 << 28 || r->shape.K < 8 || r->shape.K > 1 << 24) *why = "N must be 1 to 2^28 and K 8 to 2^24";
    else if (r->shape.dtype != CCC_BF16 && r->shape.dtype != CCC_E4M3) *why = "the element type must be bf16 or e4m3";
    else if (r->shape.K % (r->shape.dtype == CCC_E4M3 ? 16 : 8)) *why = "a row of the weight must be a multiple of 16 bytes";
    else if (r->t_min < 1 || r->t_max < r->t_min || r->t_max > 1 << 28) *why = "T must be a range of at least 1";
    else if (r->is != SCHEDULE_MATVEC && r->t_min <= CCC_MATVEC_MAX_T) *why = "1 or 2 tokens are served by a matvec";
    else *why = wrong[r->is](r);
    return !*why;
}

int schedule_gemm_kb(const schedule_shape *s)
{
    int block = s->dtype == CCC_E4M3 ? CCC_GEMM_K_FP8 : CCC_GEMM_K;
    return (int)((s->K + block - 1) / block);
}

int schedule_matvec_K(const schedule_shape *s) { return (int)s->K / (s->dtype == CCC_E4M3 ? 2 : 1); }

/* ---- order ---------------------------------------------------------------------------------------------------------------------- */
static int compare(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int shape_order(const schedule_shape *a, const schedule_shape *b)
{
    int c = compare(a->dtype, b->dtype);
    if (!c) c = compare(a->N * (a->pair + 1), b->N * (b->pair + 1)); /* both forms of one weight are neighbours */
    if (!c) c = compare(a->K, b->K);
    return c ? c : compare(a->pair, b->pair);
}

int schedule_order(const schedule_row *a, const schedule_row *b)
{
    int c = shape_order(&a->shape, &b->shape);
    return c ? c : compare(a->t_min, b->t_min);
}

bool schedule_same_shape(const schedule_shape *a, const schedule_shape *b) { return !shape_order(a, b); }

static bool meet(const schedule_row *a, const schedule_row *b) { return a->t_min <= b->t_max && b->t_min <= a->t_max; }

static int split_of(const schedule_row *r)
{
    return r->is == SCHEDULE_MATVEC ? r->constant[SCHEDULE_MATVEC_SPLIT] : r->is == SCHEDULE_GEMM_T ? r->constant[SCHEDULE_GEMM_SPLIT] : 1;
}

static schedule_shape other_form(const schedule_shape *s)
{
    schedule_shape o = *s;
    o.pair = !s->pair;
    o.N = s->pair ? 2 * s->N : s->N % 2 ? 0 : s->N / 2;
    return o;
}

ccc_status schedule_add(schedule_table *t, ccc_arena *mem, const schedule_row *row, const char *name, ccc_err *err)
{
    schedule_shape other = other_form(&row->shape);
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const schedule_row *r = &t->row[i];
        if (schedule_same_shape(&r->shape, &row->shape) && meet(r, row))
            return ccc_fail(err, CCC_E_PARSE, "%s:%u: line %u already serves this shape for some of these T", name, row->line, r->line);
        if (schedule_same_shape(&r->shape, &other) && meet(r, row) && split_of(r) != split_of(row))
            return ccc_fail(err, CCC_E_PARSE, "%s:%u: line %u splits the sum of the same weight another way: the bits of a result would depend on fusion", name, row->line, r->line);
        if (schedule_order(r, row) < 0) at = i + 1;
    }
    if (t->n == MAX_ROWS) return ccc_fail(err, CCC_E_PARSE, "%s:%u: more than %d rows", name, row->line, MAX_ROWS);
    if (!CCC_GROW(mem, t->row, t->n, t->cap)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    memmove(t->row + at + 1, t->row + at, (t->n - at) * sizeof *t->row);
    t->row[at] = *row;
    t->n++;
    return CCC_OK;
}

const schedule_row *schedule_find(const schedule_table *t, const schedule_shape *s, int64_t T)
{
    for (uint32_t i = 0; t && i < t->n; i++)
        if (schedule_same_shape(&t->row[i].shape, s) && t->row[i].t_min <= T && T <= t->row[i].t_max) return &t->row[i];
    return NULL;
}

int schedule_split_of(const schedule_table *t, const schedule_shape *s, int64_t T)
{
    schedule_shape other = other_form(s);
    const schedule_row *r = schedule_find(t, s, T);
    if (!r) r = schedule_find(t, &other, T);
    return r ? split_of(r) : 0;
}

/* ---- reading -------------------------------------------------------------------------------------------------------------------- */
typedef struct { const char *name; unsigned line; ccc_err *err; const char *p; } reader; /* p: within the line */

static bool next_word(reader *r, char word[64])
{
    r->p += strspn(r->p, " \t");
    size_t n = strcspn(r->p, " \t#");
    if (n > 63) n = 63;
    memcpy(word, r->p, n);
    word[n] = 0;
    r->p += n;
    return n;
}

static ccc_status number(int64_t *out, reader *r, const char *text, const char **end)
{
    if (*text < '0' || *text > '9') return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' is not a number", r->name, r->line, text);
    *out = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        *out = *out * 10 + (*text - '0');
        if (*out > INT32_MAX) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: a number is too large", r->name, r->line);
    }
    *end = text;
    return CCC_OK;
}

/* "NAME=7", or with `to` "NAME=7..9" */
static ccc_status field(int64_t *from, int64_t *to, reader *r, const char *name)
{
    char word[64];
    const char *end = word;
    size_t n = strlen(name);
    if (!next_word(r, word) || strncmp(word, name, n) || word[n] != '=')
        return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%s=' is wanted, not '%.40s'", r->name, r->line, name, word);
    CCC_TRY(number(from, r, word + n + 1, &end));
    if (to && strncmp(end, "..", 2)) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%s=FIRST..LAST' is wanted, not '%.40s'", r->name, r->line, name, word);
    if (to) CCC_TRY(number(to, r, end + 2, &end));
    if (*end) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' has something behind its number", r->name, r->line, word);
    return CCC_OK;
}

static ccc_status read_key(schedule_row *out, reader *r)
{
    char word[64];
    int64_t pair;
    unsigned i = 0;
    next_word(r, word);
    while (i < SCHEDULE_CLASSES && strcmp(classes[i].name, word)) i++;
    if (i == SCHEDULE_CLASSES) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' is no class of kernels; there are matvec, gemm_t and gemm", r->name, r->line, word);
    out->is = (schedule_class)i;
    next_word(r, word);
    for (i = 1; i < CCC_N_DTYPES && strcmp(ccc_dtype_name((ccc_dtype)i), word); i++) continue;
    if (i == CCC_N_DTYPES) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' is no element type", r->name, r->line, word);
    out->shape.dtype = (ccc_dtype)i;
    CCC_TRY(field(&out->shape.N, NULL, r, "N"));
    CCC_TRY(field(&out->shape.K, NULL, r, "K"));
    CCC_TRY(field(&pair, NULL, r, "pair"));
    if (pair > 1) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: pair is 0 or 1", r->name, r->line);
    out->shape.pair = pair;
    return field(&out->t_min, &out->t_max, r, "T");
}

ccc_status schedule_read_row(schedule_row *out, ccc_arena *mem, const char *text, const char *name, unsigned line, ccc_err *err)
{
    reader r = { name, line, err, text };
    const char *why;
    char word[64];
    *out = (schedule_row){ .line = line };
    CCC_TRY(read_key(out, &r));
    for (unsigned i = 0; i < SCHEDULE_CONSTANTS && classes[out->is].constant[i]; i++) {
        int64_t v;
        CCC_TRY(field(&v, NULL, &r, classes[out->is].constant[i]));
        out->constant[i] = (int)v;
    }
    if (next_word(&r, word)) return ccc_fail(err, CCC_E_PARSE, "%s:%u: '%.40s' is more than a row of class %s has", name, line, word, classes[out->is].name);
    r.p += strspn(r.p, "# \t");
    out->note = ccc_arena_strdup(mem, r.p);
    if (!out->note) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    if (!schedule_legal(out, &why)) return ccc_fail(err, CCC_E_PARSE, "%s:%u: %s", name, line, why);
    return CCC_OK;
}

static ccc_status read_target(schedule_table *out, reader *r)
{
    char word[64];
    if (!next_word(r, word) || strcmp(word, "target") || !next_word(r, word)) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: the first line must be 'target NAME'", r->name, r->line);
    const ccc_target *t = ccc_target_find(word);
    if (!t || t->kind != CCC_TARGET_CUDA) return ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' is not a target that has a schedule", r->name, r->line, word);
    out->target = t->name;
    return next_word(r, word) ? ccc_fail(r->err, CCC_E_PARSE, "%s:%u: '%.40s' is more than 'target NAME'", r->name, r->line, word) : CCC_OK;
}

ccc_status schedule_read(schedule_table *out, ccc_arena *mem, const char *text, const char *name, ccc_err *err)
{
    ccc_buf head = { 0 };
    ccc_status st = CCC_OK;
    *out = (schedule_table){ 0 };
    for (unsigned line = 1; *text && st == CCC_OK; line++) {
        char buf[MAX_LINE];
        size_t n = strcspn(text, "\n"), len = n && text[n - 1] == '\r' ? n - 1 : n;
        if (len >= sizeof buf) st = ccc_fail(err, CCC_E_PARSE, "%s:%u: the line is longer than %d characters", name, line, MAX_LINE - 1);
        snprintf(buf, sizeof buf, "%.*s", (int)(len < sizeof buf ? len : 0), text);
        text += n + (text[n] == '\n');
        const char *p = buf + strspn(buf, " \t");
        schedule_row row;
        reader r = { name, line, err, p };
        if (st != CCC_OK) break;
        if (*p == '#' && out->n) st = ccc_fail(err, CCC_E_PARSE, "%s:%u: comments stand above the first row, or behind a row", name, line);
        else if (*p == '#') ccc_buf_printf(&head, "%s\n", p);
        if (!*p || *p == '#') continue;
        if (!out->target) st = read_target(out, &r);
        else if ((st = schedule_read_row(&row, mem, p, name, line, err)) == CCC_OK) st = schedule_add(out, mem, &row, name, err);
    }
    if (st == CCC_OK && !out->target) st = ccc_fail(err, CCC_E_PARSE, "%s: no 'target NAME' in it", name);
    if (st == CCC_OK && (head.failed || !(out->head = ccc_arena_strdup(mem, head.data ? head.data : "")))) st = ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_buf_free(&head);
    return st;
}

/* ---- writing -------------------------------------------------------------------------------------------------------------------- */
void schedule_print_row(ccc_buf *out, const schedule_row *r)
{
    const schedule_shape *s = &r->shape;
    ccc_buf_printf(out, "%s %s N=%lld K=%lld pair=%d T=%lld..%lld", classes[r->is].name, ccc_dtype_name(s->dtype), (long long)s->N, (long long)s->K, s->pair, (long long)r->t_min,
                   (long long)r->t_max);
    for (unsigned i = 0; i < SCHEDULE_CONSTANTS && classes[r->is].constant[i]; i++) ccc_buf_printf(out, " %s=%d", classes[r->is].constant[i], r->constant[i]);
}

void schedule_print(ccc_buf *out, const schedule_table *t)
{
    ccc_buf_printf(out, "target %s\n%s", t->target, t->head);
    for (uint32_t i = 0; i < t->n; i++) {
        schedule_print_row(out, &t->row[i]);
        ccc_buf_printf(out, "%s%s\n", *t->row[i].note ? "   # " : "", t->row[i].note);
    }
}

/* ---- what is built in ------------------------------------------------------------------------------------------------------------- */
extern const char ccc_schedule_sm_90a[] __attribute__((visibility("hidden")));

const char *schedule_built_in(const char *target) { return strcmp(target, "sm_90a") ? "" : ccc_schedule_sm_90a; }
