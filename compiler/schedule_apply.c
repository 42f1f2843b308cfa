/* From measurements to rows of a schedule. For each shape the candidates' times are set against that of the rule's own choice; a candidate
 * that was timed in whole steps is judged by those, in units of the kernel's own time, since a step also holds what is not this kernel.
 * Only a gain beyond noise makes a row: a schedule says what rules do not know, and nothing else. */
#include "tune.h"
#include <jansson.h>
#include <math.h>
#include <string.h>

enum { MAX_RESULTS = 16384, MAX_FILE_B = 64 << 20 };
static const double least_gain = 0.015;
typedef struct { /* one candidate at one number of tokens */
    schedule_row row;
    int64_t tokens;
    double count, us, step_us; /* count kernels of us each in a step of step_us; 0: not timed in steps */
    bool by_rule;
} timing;
typedef struct { timing *t; uint32_t n; const char *name; ccc_arena *mem; ccc_err *err; } timings;

/* ---- the result's JSON ---------------------------------------------------------------------------------------------------------- */
static ccc_status number_of(double *out, const timings *r, const json_t *row, const char *key, unsigned i, bool needed)
{
    const json_t *j = json_object_get(row, key);
    *out = 0;
    if (!needed && (!j || json_is_null(j))) return CCC_OK;
    *out = json_number_value(j);
    if (!json_is_number(j) || !isfinite(*out) || *out <= 0) return ccc_fail(r->err, CCC_E_PARSE, "%s: candidate %u: '%s' must be a number above 0", r->name, i, key);
    return CCC_OK;
}

static ccc_status read_timing(timing *out, const timings *r, const json_t *j, unsigned i)
{
    double tokens;
    const char *text = json_string_value(json_object_get(j, "row"));
    if (!text) return ccc_fail(r->err, CCC_E_PARSE, "%s: candidate %u has no 'row'", r->name, i);
    CCC_TRY(schedule_read_row(&out->row, r->mem, text, r->name, i, r->err));
    CCC_TRY(number_of(&tokens, r, j, "tokens", i, true));
    CCC_TRY(number_of(&out->count, r, j, "count", i, true));
    CCC_TRY(number_of(&out->us, r, j, "us", i, true));
    CCC_TRY(number_of(&out->step_us, r, j, "step_us", i, false));
    out->tokens = (int64_t)(tokens < 1e9 ? tokens : 1e9);
    out->by_rule = !strcmp(out->row.note, CCC_TUNE_BY_RULE);
    return CCC_OK;
}

static ccc_status read_timings(timings *r, const json_t *root, const char **target)
{
    const json_t *list = json_object_get(root, "candidates"), *j;
    size_t i;
    *target = json_string_value(json_object_get(root, "target"));
    if (json_integer_value(json_object_get(root, "tune")) != 1) return ccc_fail(r->err, CCC_E_VERSION, "%s: not a result of `cccrt tune`, or of a newer one", r->name);
    if (!*target || !json_is_array(list)) return ccc_fail(r->err, CCC_E_PARSE, "%s: 'target' or 'candidates' is missing", r->name);
    if (json_array_size(list) > MAX_RESULTS) return ccc_fail(r->err, CCC_E_PARSE, "%s: more than %d candidates", r->name, MAX_RESULTS);
    r->t = ccc_arena_alloc(r->mem, (json_array_size(list) + 1) * sizeof *r->t);
    if (!r->t) return ccc_fail(r->err, CCC_E_NOMEM, "out of memory");
    json_array_foreach(list, i, j) CCC_TRY(read_timing(&r->t[r->n++], r, j, (unsigned)i + 1));
    return CCC_OK;
}

/* ---- the best of a shape -------------------------------------------------------------------------------------------------------- */
static bool same_work(const schedule_row *a, const schedule_row *b) { return schedule_same_shape(&a->shape, &b->shape) && a->t_min == b->t_min && a->t_max == b->t_max; }
static bool same_row(const schedule_row *a, const schedule_row *b) { return same_work(a, b) && a->is == b->is && !memcmp(a->constant, b->constant, sizeof a->constant); }

static const timing *rule_at(const timings *r, const schedule_row *work, int64_t tokens)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->t[i].by_rule && r->t[i].tokens == tokens && same_work(&r->t[i].row, work)) return &r->t[i];
    return NULL;
}

/* What candidate c saves of the kernel's time, 0.02 for 2 %: the mean over the numbers of tokens that the rule's choice was timed at. False: not
 * timed at all of them. In a step, if the rule's choice was timed there. */
static bool gain_of(double *gain, const timings *r, const schedule_row *c)
{
    double sum = 0;
    unsigned n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const timing *rule = &r->t[i], *mine = NULL;
        if (!rule->by_rule || !same_work(&rule->row, c)) continue;
        for (uint32_t k = 0; k < r->n && !mine; k++)
            if (r->t[k].tokens == rule->tokens && same_row(&r->t[k].row, c) && (r->t[k].step_us > 0 || !(rule->step_us > 0))) mine = &r->t[k];
        if (!mine) return false;
        sum += rule->step_us > 0 ? (rule->step_us - mine->step_us) / (rule->us * rule->count) : 1 - mine->us / rule->us;
        n++;
    }
    *gain = n ? sum / n : 0;
    return n;
}

static bool first_of_work(const timings *r, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (same_work(&r->t[k].row, &r->t[i].row)) return false;
    return true;
}

static ccc_status best_of(const timing **best, double *gain, const timings *r, const schedule_row *work)
{
    *best = NULL;
    for (uint32_t i = 0; i < r->n; i++) {
        const timing *t = &r->t[i];
        double g;
        if (!same_work(&t->row, work)) continue;
        if (!rule_at(r, &t->row, t->tokens)) return ccc_fail(r->err, CCC_E_PARSE, "%s: candidate %u: the rule's own choice was not timed for its shape at %lld tokens", r->name, i + 1, (long long)t->tokens);
        if (!gain_of(&g, r, &t->row) || (*best && g <= *gain)) continue;
        *best = t;
        *gain = g;
    }
    return *best ? CCC_OK : ccc_fail(r->err, CCC_E_PARSE, "%s: no candidate of a shape was timed at all numbers of tokens", r->name);
}

/* ---- the schedule --------------------------------------------------------------------------------------------------------------- */
static void drop_rows(schedule_table *t, const schedule_row *work)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const schedule_row *r = &t->row[i];
        if (!schedule_same_shape(&r->shape, &work->shape) || r->t_max < work->t_min || work->t_max < r->t_min) t->row[kept++] = *r;
    }
    t->n = kept;
}

/* "11.90 us instead of 12.80, step 5310.2 us instead of 5402.7" */
static char *note_of(const timings *r, const timing *t)
{
    const timing *rule = rule_at(r, &t->row, t->tokens);
    if (!(rule->step_us > 0 && t->step_us > 0)) return ccc_arena_printf(r->mem, "%.2f us instead of %.2f", t->us, rule->us);
    return ccc_arena_printf(r->mem, "%.2f us instead of %.2f, step %.1f us instead of %.1f", t->us, rule->us, t->step_us, rule->step_us);
}

static ccc_status apply_work(schedule_table *table, ccc_buf *log, const timings *r, const schedule_row *work)
{
    const timing *best;
    double gain = 0;
    ccc_err clash = { 0 };
    CCC_TRY(best_of(&best, &gain, r, work));
    drop_rows(table, work);
    schedule_row row = best->row;
    row.note = note_of(r, best);
    if (!row.note) return ccc_fail(r->err, CCC_E_NOMEM, "out of memory");
    bool better = !best->by_rule && gain > least_gain;
    ccc_status st = better ? schedule_add(table, r->mem, &row, r->name, &clash) : CCC_OK;
    if (st == CCC_E_NOMEM) return ccc_fail(r->err, st, "out of memory");
    schedule_print_row(log, &row);
    if (!better) ccc_buf_printf(log, ": %s\n", best->by_rule ? "the rule's choice is the best" : "not enough better than the rule's choice");
    else ccc_buf_printf(log, ": %.1f %% of the kernel's time saved; %s%s\n", 100 * gain, st == CCC_OK ? row.note : "left out, ", st == CCC_OK ? "" : clash.msg);
    return CCC_OK;
}

static ccc_status apply(ccc_buf *out, ccc_buf *log, const ccc_buf *schedule, const char *schedule_name, timings *r, const json_t *root)
{
    const char *target;
    schedule_table table;
    CCC_TRY(read_timings(r, root, &target));
    if (!schedule && !*schedule_built_in(target)) return ccc_fail(r->err, CCC_E_ARG, "%s: there is no built-in schedule for target '%.40s'", r->name, target);
    CCC_TRY(schedule_read(&table, r->mem, schedule ? schedule->data : schedule_built_in(target), schedule ? schedule_name : "the built-in schedule", r->err));
    if (strcmp(table.target, target)) return ccc_fail(r->err, CCC_E_ARG, "%s was measured for target %s, the schedule is for %s", r->name, target, table.target);
    for (uint32_t i = 0; i < r->n; i++)
        if (first_of_work(r, i)) CCC_TRY(apply_work(&table, log, r, &r->t[i].row));
    schedule_print(out, &table);
    return out->failed || log->failed ? ccc_fail(r->err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

ccc_status ccc_schedule_apply(ccc_buf *out, ccc_buf *log, const ccc_buf *schedule, const char *schedule_name, const ccc_buf *result, const char *result_name, ccc_err *err)
{
    json_error_t at;
    if (schedule && (!schedule->size_B || strlen(schedule->data) != schedule->size_B)) return ccc_fail(err, CCC_E_PARSE, "%s: not a text file", schedule_name);
    if (result->size_B > MAX_FILE_B) return ccc_fail(err, CCC_E_PARSE, "%s: larger than %d bytes", result_name, MAX_FILE_B);
    json_t *root = json_loadb(result->data ? result->data : "", result->size_B, JSON_REJECT_DUPLICATES, &at);
    if (!root) return ccc_fail(err, CCC_E_PARSE, "%s:%d:%d: %s", result_name, at.line, at.column, at.text);
    timings r = { .name = result_name, .mem = ccc_arena_new(), .err = err };
    ccc_status st = r.mem ? apply(out, log, schedule, schedule_name, &r, root) : ccc_fail(err, CCC_E_NOMEM, "out of memory");
    ccc_arena_free(r.mem);
    json_decref(root);
    return st;
}
