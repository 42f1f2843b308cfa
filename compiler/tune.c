/* Which candidates there are: the rule's choice, that of the schedule in use, and the constants around these, nearest first. */
#include "tune.h"
#include <stdlib.h>
#include <string.h>

typedef struct { schedule_row row; int distance; } candidate;
typedef struct { candidate *c; uint32_t n, cap; ccc_arena *mem; const schedule_row *rule, *used /* of the schedule, NULL: none */; bool failed; } list;

static const int steps[] = { 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 224, 256 }; /* that constants take; some may lie between */
enum { N_STEPS = sizeof steps / sizeof *steps };

static int step_of(int v)
{
    int n = 0;
    while (n < N_STEPS && steps[n] < v) n++;
    return n;
}

/* Steps from one to the other; another class is two steps away. How many turns there are follows from the other constants: that there are any is a step. */
static int distance(const schedule_row *a, const schedule_row *b)
{
    int d = 0;
    if (a->is != b->is) return 2;
    for (int i = 0; i < SCHEDULE_CONSTANTS; i++)
        d += a->is == SCHEDULE_MATVEC && i == SCHEDULE_MATVEC_TURNS ? (a->constant[i] > 1) != (b->constant[i] > 1) : abs(step_of(a->constant[i]) - step_of(b->constant[i]));
    return d;
}

static int distance_to_known(const list *l, const schedule_row *row)
{
    int d = distance(row, l->rule), used = l->used ? distance(row, l->used) : d;
    return used < d ? used : d;
}

static bool same_constants(const schedule_row *a, const schedule_row *b) { return a->is == b->is && !memcmp(a->constant, b->constant, sizeof a->constant); }

static void add(list *l, const schedule_row *row)
{
    const char *why;
    for (uint32_t i = 0; i < l->n; i++)
        if (same_constants(&l->c[i].row, row)) return;
    if (!schedule_legal(row, &why)) return;
    if (!CCC_GROW(l->mem, l->c, l->n, l->cap)) {
        l->failed = true;
        return;
    }
    l->c[l->n++] = (candidate){ *row, distance_to_known(l, row) };
}

static int by_distance(const void *x, const void *y)
{
    const candidate *a = x, *b = y;
    int c = a->distance - b->distance;
    if (!c) c = (int)a->row.is - (int)b->row.is;
    for (int i = 0; i < SCHEDULE_CONSTANTS && !c; i++) c = a->row.constant[i] - b->row.constant[i];
    return c;
}

/* Without turns; behind a norm also with so many that the blocks fill the device once, and twice. */
static void add_turns(list *l, schedule_row row, bool norm, int n_sm)
{
    int once = ccc_matvec_turns((int)row.shape.N, schedule_matvec_of(&row), n_sm), n[] = { 1, once, (once + 1) / 2 };
    for (int i = 0; i < (norm && row.t_max == 1 ? 3 : 1); i++) {
        row.constant[SCHEDULE_MATVEC_TURNS] = n[i];
        add(l, &row);
    }
}

/* Loads in flight: some steps, and what a whole row takes; more would load nothing. */
static void add_loads(list *l, schedule_row row, bool norm, int n_sm)
{
    int pass = 256 * row.constant[SCHEDULE_MATVEC_SPLIT], whole = (schedule_matvec_K(&row.shape) + pass - 1) / pass;
    for (int loads = 1; loads <= 16 && loads <= whole; loads++) {
        row.constant[SCHEDULE_MATVEC_LOADS] = loads;
        if (loads == whole || steps[step_of(loads)] == loads) add_turns(l, row, norm, n_sm);
    }
}

static void add_matvecs(list *l, schedule_row row, bool norm, int n_sm)
{
    int *c = row.constant;
    for (c[SCHEDULE_MATVEC_ROWS] = 1; c[SCHEDULE_MATVEC_ROWS] <= 4; c[SCHEDULE_MATVEC_ROWS] *= 2)
        for (c[SCHEDULE_MATVEC_WARPS] = 1; c[SCHEDULE_MATVEC_WARPS] <= 16; c[SCHEDULE_MATVEC_WARPS] *= 2)
            for (c[SCHEDULE_MATVEC_SPLIT] = 1; c[SCHEDULE_MATVEC_SPLIT] <= c[SCHEDULE_MATVEC_WARPS]; c[SCHEDULE_MATVEC_SPLIT] *= 2)
                if ((c[SCHEDULE_MATVEC_SPLIT] - 1) * 256 < schedule_matvec_K(&row.shape)) add_loads(l, row, norm, n_sm);
}

/* The same tokens or a step more or less, columns around the rule's or such that N makes whole waves of tiles, splits of K, blocks of a stage. */
static void add_gemms(list *l, schedule_row row, bool by8, int n_sm)
{
    int *c = row.constant, rule_bn = l->rule->is == SCHEDULE_GEMM_T ? l->rule->constant[SCHEDULE_GEMM_BN] : 128, N = (int)row.shape.N;
    row.is = SCHEDULE_GEMM_T;
    for (c[SCHEDULE_GEMM_BN] = rule_bn / 2; c[SCHEDULE_GEMM_BN] <= 2 * rule_bn; c[SCHEDULE_GEMM_BN] *= 2)
        for (c[SCHEDULE_GEMM_COLS] = 16; c[SCHEDULE_GEMM_COLS] <= 256; c[SCHEDULE_GEMM_COLS] += 8) {
            int cols = c[SCHEDULE_GEMM_COLS], tiles = (N + cols - 1) / cols, next = (N + cols - 9) / (cols - 8);
            bool wave = (tiles + n_sm - 1) / n_sm < (next + n_sm - 1) / n_sm; /* eight columns less would take a wave more */
            if (!wave && cols % 32) continue;
            for (c[SCHEDULE_GEMM_SPLIT] = 1; c[SCHEDULE_GEMM_SPLIT] <= CCC_GEMM_MOST_SPLIT; c[SCHEDULE_GEMM_SPLIT] *= 2)
                for (c[SCHEDULE_GEMM_BLOCKS] = 1; c[SCHEDULE_GEMM_BLOCKS] <= 2; c[SCHEDULE_GEMM_BLOCKS] *= 2) add(l, &row);
        }
    row.is = SCHEDULE_GEMM;
    memset(c, 0, sizeof row.constant);
    for (c[SCHEDULE_GEMM_BN] = 224; c[SCHEDULE_GEMM_BN] <= 256; c[SCHEDULE_GEMM_BN] += 32)
        if (by8 && row.t_max > 64) add(l, &row);
}

/* What would be chosen without any table. */
static schedule_row by_rule(const plan_builder *b, const schedule_shape *s, bool norm, bool by8)
{
    ccc_plan bare = { .config = b->plan->config, .target = b->plan->target };
    schedule_row row = { .shape = *s, .t_min = b->t_min, .t_max = b->t_max, .note = CCC_TUNE_BY_RULE };
    if (b->t_max <= CCC_MATVEC_MAX_T) {
        schedule_set_matvec(&row, schedule_matvec(&bare, s, (int)b->t_max, norm));
        return row;
    }
    ccc_gemm_tile t = schedule_gemm(&bare, s, (int)b->t_max, by8);
    row.is = t.swap ? SCHEDULE_GEMM_T : SCHEDULE_GEMM;
    memcpy(row.constant, (int[]){ t.bn, t.swap ? t.cols : 0, t.swap ? t.split : 0, t.swap ? t.blocks : 0 }, 4 * sizeof(int));
    return row;
}

static bool same_range(const schedule_row *r, const plan_builder *b) { return r->t_min == b->t_min && r->t_max == b->t_max; }

ccc_status tune_candidates(uint32_t *first, uint32_t *n, plan_builder *b, const schedule_shape *s, bool norm, bool by8, ccc_err *err)
{
    struct plan_tune *t = b->plan->tune;
    for (*first = 0, *n = 0; *first < t->n && !(schedule_same_shape(&t->row[*first].shape, s) && same_range(&t->row[*first], b));) ++*first;
    while (*first + *n < t->n && schedule_same_shape(&t->row[*first + *n].shape, s) && same_range(&t->row[*first + *n], b)) ++*n;
    if (*n) return CCC_OK; /* another layer had this shape */
    schedule_row rule = by_rule(b, s, norm, by8), any = rule;
    const schedule_row *used = schedule_find(&b->plan->schedule, s, b->t_max);
    list l = { .mem = b->plan->mem, .rule = &rule, .used = used };
    any.note = "";
    add(&l, &rule);
    if (used) memcpy(any.constant, used->constant, sizeof any.constant), any.is = used->is, any.note = CCC_TUNE_IN_USE, add(&l, &any);
    any = rule, any.note = "";
    if (rule.is == SCHEDULE_MATVEC) add_matvecs(&l, any, norm, b->plan->target->n_sm);
    else add_gemms(&l, any, by8, b->plan->target->n_sm);
    if (l.failed) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (uint32_t i = 0; i < l.n; i++)
        if (same_constants(&l.c[i].row, &rule)) l.c[i].distance = -1;
        else if (used && same_constants(&l.c[i].row, used)) l.c[i].distance = 0;
    qsort(l.c, l.n, sizeof *l.c, by_distance);
    for (uint32_t i = 0; i < l.n && i < t->args->candidates; i++) {
        if (t->n == CCC_TUNE_MAX) return ccc_fail(err, CCC_E_ARG, "more than %d candidates; ask for fewer a shape or fewer numbers of tokens", CCC_TUNE_MAX);
        if (!CCC_GROW(b->plan->mem, t->row, t->n, t->cap)) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
        t->row[t->n++] = l.c[i].row;
        ++*n;
    }
    return *n && same_constants(&t->row[*first], &rule) ? CCC_OK : ccc_fail(err, CCC_E_UNSUPPORTED, "no schedule is possible for a matmul of N=%lld K=%lld", (long long)s->N, (long long)s->K);
}

ccc_status tune_ranges(plan_range *ranges, unsigned *n, const ccc_tune_args *args, ccc_err *err)
{
    unsigned kept = 0;
    int64_t most = 0;
    for (unsigned i = 0; i < *n; i++)
        if (ranges[i].mode == CCART_MODE_DECODE && ranges[i].t_max > most) most = ranges[i].t_max;
    if (!most) return ccc_fail(err, CCC_E_UNSUPPORTED, "tune times decode steps; this model has no KV cache, or none of its targets is a GPU");
    for (unsigned k = 0; k < args->n_tokens; k++)
        if (args->tokens[k] < 1 || args->tokens[k] > most) return ccc_fail(err, CCC_E_ARG, "%lld tokens: a decode step has 1 to %lld (the largest of --sizes)", (long long)args->tokens[k], (long long)most);
    for (unsigned i = 0; i < *n; i++) {
        bool wanted = false;
        for (unsigned k = 0; k < args->n_tokens; k++) wanted |= ranges[i].t_min <= args->tokens[k] && args->tokens[k] <= ranges[i].t_max;
        if (wanted && ranges[i].mode == CCART_MODE_DECODE) ranges[kept++] = ranges[i];
    }
    *n = kept;
    return CCC_OK;
}
