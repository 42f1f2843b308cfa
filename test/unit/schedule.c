/* Schedule files: what is read comes out again, sorted; each kind of bad line is refused by line number; a row is found by its shape and T, and
 * decides the kernel; measurements become rows only where they beat the rule by more than noise. */
#include <criterion/criterion.h>
#include <string.h>
#include "../../compiler/kernels/attention_geometry.h"
#include "../../compiler/tune.h"

#define HEAD "target sm_90a\n"
static ccc_err err;

static ccc_arena *mem;
static void open_arena(void) { mem = ccc_arena_new(); }
static void close_arena(void) { ccc_arena_free(mem); }
TestSuite(schedule, .init = open_arena, .fini = close_arena);

static schedule_table table_of(const char *text)
{
    schedule_table t;
    cr_assert(schedule_read(&t, mem, text, "s.def", &err) == CCC_OK, "%s", err.msg);
    return t;
}

static char *printed(const schedule_table *t)
{
    ccc_buf b = { 0 };
    schedule_print(&b, t);
    char *s = ccc_arena_strdup(mem, b.data);
    ccc_buf_free(&b);
    return s;
}

Test(schedule, what_is_read_is_printed_sorted)
{
    schedule_table t = table_of("# head\n" HEAD "\n# more\n"
                                "gemm bf16 N=4096 K=4096 pair=0 T=129..256 bn=224\r\n"
                                "gemm_t bf16 N=4096 K=4096 pair=0 T=3..16 bn=16 cols=64 split=4 blocks=1\n"
                                "matvec bf16 N=14336 K=4096 pair=1 T=1..1 rows=1 loads=4 warps=8 split=2 turns=1   # 75.1 us instead of 77.0\n"
                                "matvec bf16 N=4096  K=4096 pair=0\tT=1..1 rows=1 loads=4 warps=8 split=4 turns=1#x\n");
    cr_assert_str_eq(printed(&t), HEAD "# head\n# more\n"
                                       "matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=1 loads=4 warps=8 split=4 turns=1   # x\n"
                                       "gemm_t bf16 N=4096 K=4096 pair=0 T=3..16 bn=16 cols=64 split=4 blocks=1\n"
                                       "gemm bf16 N=4096 K=4096 pair=0 T=129..256 bn=224\n"
                                       "matvec bf16 N=14336 K=4096 pair=1 T=1..1 rows=1 loads=4 warps=8 split=2 turns=1   # 75.1 us instead of 77.0\n");
    schedule_table again = table_of(printed(&t));
    cr_assert_str_eq(printed(&again), printed(&t));
}

Test(schedule, bad_lines)
{
    static const struct { const char *text, *says; } bad[] = {
        { "", "s.def: no 'target NAME'" },
        { "matvec\n", "s.def:1: the first line must be 'target NAME'" },
        { "target\n", "s.def:1: the first line must be 'target NAME'" },
        { "target x86-64-v3\n", "s.def:1: 'x86-64-v3' is not a target that has a schedule" },
        { "target sm_10\n", "s.def:1: 'sm_10' is not a target" },
        { "target sm_90a sm_80\n", "s.def:1: 'sm_80' is more than" },
        { HEAD "conv bf16 N=1\n", "s.def:2: 'conv' is no class" },
        { HEAD "matvec f31 N=1\n", "s.def:2: 'f31' is no element type" },
        { HEAD "matvec bf16 K=8\n", "s.def:2: 'N=' is wanted, not 'K=8'" },
        { HEAD "matvec bf16 N=8\n", "s.def:2: 'K=' is wanted, not ''" },
        { HEAD "matvec bf16 N=-8\n", "s.def:2: '-8' is not a number" },
        { HEAD "matvec bf16 N=99999999999 K=8\n", "s.def:2: a number is too large" },
        { HEAD "matvec bf16 N=8 K=8 pair=2 T=1..1\n", "s.def:2: pair is 0 or 1" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1 rows=1\n", "s.def:2: 'T=FIRST..LAST' is wanted" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1x rows=1\n", "s.def:2: 'T=1..1x' has something behind" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=1\n", "s.def:2: 'split=' is wanted" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=1 split=1\n", "s.def:2: 'turns=' is wanted" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=1 split=1 turns=1 bn=16\n", "s.def:2: 'bn=16' is more than a row of class matvec has" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=3 loads=1 warps=4 split=1 turns=1\n", "s.def:2: rows, warps and split must be powers of two" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=8 loads=1 warps=4 split=1 turns=1\n", "s.def:2: the template cannot be built" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=4 split=8 turns=1\n", "s.def:2: the template cannot be built" },
        { HEAD "matvec bf16 N=8 K=8 pair=1 T=1..1 rows=2 loads=8 warps=4 split=1 turns=1\n", "s.def:2: rows x loads needs too many registers" },
        { HEAD "matvec bf16 N=8 K=8 pair=1 T=1..1 rows=2 loads=3 warps=4 split=1 turns=2\n", "s.def:2: rows x loads needs too many registers" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..2 rows=1 loads=1 warps=4 split=1 turns=2\n", "s.def:2: the template cannot be built" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=0\n", "s.def:2: the template cannot be built" },
        { HEAD "matvec bf16 N=8 K=12 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:2: a row of the weight must be a multiple of 16 bytes" },
        { HEAD "matvec e4m3 N=8 K=24 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:2: a row of the weight must be a multiple of 16 bytes" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=2..1 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:2: T must be a range" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..4 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:2: a matvec serves 1 or 2 tokens" },
        { HEAD "matvec f16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:2: the element type must be bf16 or e4m3" },
        { HEAD "gemm bf16 N=8 K=8 pair=0 T=2..16 bn=256\n", "s.def:2: 1 or 2 tokens are served by a matvec" },
        { HEAD "gemm bf16 N=8 K=8 pair=0 T=3..16 bn=128\n", "s.def:2: bn must be 224 or 256" },
        { HEAD "gemm bf16 N=9 K=8 pair=0 T=3..16 bn=256\n", "s.def:2: N must be a multiple of 8" },
        { HEAD "gemm_t bf16 N=8 K=8 pair=0 T=3..16 bn=12 cols=64 split=1 blocks=1\n", "s.def:2: bn must be 8, 16, 32, 64 or 128" },
        { HEAD "gemm_t bf16 N=8 K=64 pair=0 T=3..16 bn=16 cols=64 split=2 blocks=1\n", "s.def:2: K is too short for this split" },
        { HEAD "gemm_t bf16 N=8 K=512 pair=0 T=3..16 bn=16 cols=68 split=2 blocks=1\n", "s.def:2: cols must be a multiple of 8" },
        { HEAD "gemm_t bf16 N=8 K=512 pair=1 T=3..16 bn=16 cols=136 split=1 blocks=1\n", "s.def:2: cols must be a multiple of 8" },
        { HEAD "gemm_t bf16 N=8 K=512 pair=1 T=3..128 bn=128 cols=64 split=2 blocks=1\n", "s.def:2: split must be 1, 2 or 4, of a pair with bn=128 1" },
        { HEAD "gemm_t bf16 N=8 K=512 pair=0 T=3..16 bn=16 cols=64 split=1 blocks=3\n", "s.def:2: blocks must be 1, 2 or 4" },
        { HEAD "gemm_t bf16 N=8 K=512 pair=0 T=3..16 bn=16 cols=64 split=4 blocks=4\n", "s.def:2: K is no multiple of the blocks" },
        { HEAD "gemm_t bf16 N=8 K=4096 pair=0 T=3..128 bn=64 cols=256 split=4 blocks=4\n", "s.def:2: it needs too much shared memory" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1\n# late\n", "s.def:3: comments stand above the first row" },
        { HEAD "matvec bf16 N=8 K=8 pair=0 T=1..2 rows=1 loads=1 warps=4 split=1 turns=1\nmatvec bf16 N=8 K=8 pair=0 T=2..2 rows=2 loads=1 warps=4 split=1 turns=1\n", "s.def:3: line 2 already serves this shape" },
        { HEAD "matvec bf16 N=8 K=8 pair=1 T=1..1 rows=1 loads=1 warps=4 split=2 turns=1\nmatvec bf16 N=16 K=8 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1\n", "s.def:3: line 2 splits the sum" },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        schedule_table t;
        err = (ccc_err){ 0 };
        cr_assert(schedule_read(&t, mem, bad[i].text, "s.def", &err) == CCC_E_PARSE, "accepted: %s", bad[i].text);
        cr_assert(strstr(err.msg, bad[i].says) == err.msg && !strchr(err.msg, '\n'), "'%s' is wanted, not '%s'", bad[i].says, err.msg);
    }
    char line[600];
    snprintf(line, sizeof line, HEAD "#%0520d\n", 0);
    schedule_table t;
    cr_assert(schedule_read(&t, mem, line, "s.def", &err) == CCC_E_PARSE && strstr(err.msg, "s.def:2: the line is longer"));
}

/* Every row of every built-in file: the reader refuses what its template cannot be. */
Test(schedule, what_is_built_in)
{
    unsigned n = 0;
    for (const ccc_target *t = ccc_targets; t->name; t++) {
        schedule_table s;
        if (t->kind != CCC_TARGET_CUDA) continue;
        cr_assert(schedule_read(&s, mem, schedule_built_in(t->name), t->name, &err) == CCC_OK, "%s", err.msg);
        cr_assert_str_eq(s.target, t->name);
        cr_assert_str_eq(printed(&s), schedule_built_in(t->name), "%s: not as ccc tune --apply writes it", t->name);
        n++;
    }
    cr_assert(n && !*schedule_built_in("x86-64-v3"));
}

/* ---- what it decides */
static ccc_plan plan_with(const char *text)
{
    static ccc_config config;
    ccc_config_init(&config);
    config.schedule = "s.def";
    ccc_plan p = { .mem = mem, .config = &config, .target = ccc_target_find("sm_90a") };
    cr_assert(schedule_open(&p, text, &err) == CCC_OK, "%s", err.msg);
    return p;
}

Test(schedule, a_row_decides_and_its_split_holds_for_the_same_weight)
{
    ccc_plan none = plan_with(HEAD), p = plan_with(HEAD "matvec bf16 N=14336 K=4096 pair=1 T=1..1 rows=1 loads=2 warps=16 split=16 turns=1\n"
                                                        "gemm_t bf16 N=512 K=4096 pair=0 T=3..16 bn=32 cols=64 split=4 blocks=2\n"
                                                        "gemm bf16 N=512 K=4096 pair=0 T=65..128 bn=224\n");
    schedule_shape pair = { CCC_BF16, 14336, 4096, true }, joined = { CCC_BF16, 28672, 4096, false }, other = { CCC_BF16, 14336, 4096, false };
    ccc_matvec_shape m = schedule_matvec(&p, &pair, 1, false), r = schedule_matvec(&none, &joined, 1, false);
    cr_assert(m.rows == 1 && m.loads == 2 && m.warps == 16 && m.split == 16 && m.turns == 1);
    m = schedule_matvec(&p, &joined, 1, false); /* unfused: the same sums */
    cr_assert(m.split == 16 && m.warps == 16 && m.rows == r.rows && m.loads == r.loads);
    m = schedule_matvec(&p, &other, 1, false);
    r = schedule_matvec(&none, &other, 1, false);
    cr_assert(!memcmp(&m, &r, sizeof m));
    m = schedule_matvec(&p, &pair, 2, false);
    r = schedule_matvec(&none, &pair, 2, false);
    cr_assert(!memcmp(&m, &r, sizeof m));

    schedule_shape small = { CCC_BF16, 512, 4096, false }, halves = { CCC_BF16, 256, 4096, true };
    ccc_gemm_tile t = schedule_gemm(&p, &small, 16, true);
    cr_assert(t.swap && t.bn == 32 && t.cols == 64 && t.split == 4 && t.blocks == 2 && t.stages > 1 && !t.pair);
    t = schedule_gemm(&p, &halves, 16, true);
    cr_assert(t.swap && t.split == 4 && t.pair);
    t = schedule_gemm(&p, &small, 100, true);
    cr_assert(!t.swap && t.bn == 224 && t.split == 1 && t.cols == 224 && t.stages == 4);
    t = schedule_gemm(&p, &small, 100, false);
    cr_assert(t.swap, "the wide tiles cannot write such rows");
    ((ccc_config *)p.config)->batch_invariant = true;
    t = schedule_gemm(&p, &small, 16, true);
    cr_assert(t.split == 1);
}

/* A norm in front of long rows: blocks fill the device once, and what the sums depend on stays as it is without. */
Test(schedule, rules_take_turns_behind_a_norm)
{
    static const struct { schedule_shape s; ccc_matvec_shape m; } want[] = { { { CCC_E4M3, 6144, 4096, false }, { 2, 2, 8, 4, 3 } },
                                                                            { { CCC_BF16, 6144, 4096, false }, { 2, 2, 16, 8, 6 } },
                                                                            { { CCC_BF16, 3072, 2048, false }, { 1, 2, 8, 4, 3 } },
                                                                            { { CCC_BF16, 960, 576, false }, { 2, 3, 4, 1, 1 } } };
    ccc_plan none = plan_with(HEAD);
    for (unsigned i = 0; i < sizeof want / sizeof *want; i++) {
        ccc_matvec_shape m = schedule_matvec(&none, &want[i].s, 1, true), bare = schedule_matvec(&none, &want[i].s, 1, false);
        cr_assert(!memcmp(&m, &want[i].m, sizeof m), "%u: rows=%d loads=%d warps=%d split=%d turns=%d", i, m.rows, m.loads, m.warps, m.split, m.turns);
        cr_assert(bare.split == m.split && bare.turns == 1 && !ccc_matvec_min_blocks(0, bare));
        cr_assert(m.turns == 1 || (want[i].s.N + ccc_matvec_cols(m) - 1) / ccc_matvec_cols(m) <= 132 * ccc_matvec_min_blocks(1, m));
    }
}

/* By rule too: the order of the sum must not depend on what is fused. */
Test(schedule, rules_split_both_forms_of_a_weight_alike)
{
    static const int K[] = { 64, 576, 1024, 1536, 2048, 3072, 4096, 8192, 14336, 28672 };
    for (unsigned k = 0; k < sizeof K / sizeof *K; k++)
        for (int N = 64; N <= 131072; N += 1 + N / 3)
            for (int tok = 1; tok <= CCC_MATVEC_MAX_T; tok++)
                for (int norm = 0; norm < 2; norm++)
                    {
                        cr_assert(ccc_matvec_pick(N, K[k], tok, norm, 1, 132).split == ccc_matvec_pick(2 * N, K[k], tok, 0, 0, 132).split, "N=%d K=%d", N, K[k]);
                        cr_assert(ccc_matvec_pick(N, K[k], tok, norm, 0, 132).split == ccc_matvec_pick(N, K[k], tok, 0, 0, 132).split, "N=%d K=%d", N, K[k]);
                        cr_assert(ccc_matvec_pick_fp8(N, K[k], tok, norm, 0, 132).split == ccc_matvec_pick_fp8(N, K[k], tok, 0, 0, 132).split, "e4m3 N=%d K=%d", N, K[k]);
                    }
}

Test(schedule, rules_split_both_forms_of_a_gemm_alike)
{
    static const int K[] = { 576, 1024, 2048, 4096 }, T[] = { 8, 16, 64, 128, 300 };
    ccc_plan none = plan_with(HEAD);
    unsigned splits = 0;
    for (unsigned k = 0; k < 4; k++)
        for (unsigned i = 0; i < 5; i++)
            for (int N = 64; N <= 32768; N += 8 + N / 24 * 8) {
                schedule_shape pair = { CCC_BF16, N, K[k], true }, joined = { CCC_BF16, 2 * N, K[k], false };
                ccc_gemm_tile t = schedule_gemm(&none, &pair, T[i], true);
                cr_assert(t.split == schedule_gemm(&none, &joined, T[i], true).split && t.stages > 1, "N=%d K=%d T=%d", N, K[k], T[i]);
                schedule_row r = { .is = t.swap ? SCHEDULE_GEMM_T : SCHEDULE_GEMM, .shape = pair, .t_min = 3, .t_max = T[i], .constant = { t.bn, t.cols, t.split, t.blocks } };
                const char *why;
                cr_assert(schedule_legal(&r, &why), "N=%d K=%d T=%d: %s", N, K[k], T[i], why);
                splits += t.split > 1;
            }
    cr_assert(splits, "none was split: this tests nothing");
}

/* What a rule chooses could stand in a file. */
Test(schedule, rules_are_legal)
{
    static const int K[] = { 64, 576, 1024, 1536, 2048, 4096, 14336, 28672 }, N[] = { 64, 576, 960, 4096, 14336, 49152, 128256 };
    ccc_plan none = plan_with(HEAD);
    for (unsigned k = 0; k < sizeof K / sizeof *K; k++)
        for (unsigned n = 0; n < sizeof N / sizeof *N; n++)
            for (int i = 0; i < 8; i++) {
                schedule_row r = { .shape = { i / 2 % 2 ? CCC_E4M3 : CCC_BF16, N[n], K[k], i % 2 }, .t_min = 1, .t_max = 1 };
                const char *why;
                schedule_set_matvec(&r, schedule_matvec(&none, &r.shape, 1, i / 4 && K[k] <= CCC_PROLOGUE_MAX_COLS_ONE));
                cr_assert(schedule_legal(&r, &why), "N=%d K=%d: %s", N[n], K[k], why);
                ccc_gemm_tile t = schedule_gemm(&none, &r.shape, 64, true);
                r.t_min = 33, r.t_max = 64, r.is = t.swap ? SCHEDULE_GEMM_T : SCHEDULE_GEMM;
                memcpy(r.constant, (int[SCHEDULE_CONSTANTS]){ t.bn, t.cols, t.split, t.blocks }, sizeof r.constant);
                cr_assert(schedule_legal(&r, &why), "N=%d K=%d: %s", N[n], K[k], why);
            }
}

Test(schedule, a_file_for_another_target)
{
    static ccc_config config;
    ccc_config_init(&config);
    config.schedule = "s.def";
    ccc_target other = *ccc_target_find("sm_90a");
    other.name = "sm_80";
    ccc_plan p = { .mem = mem, .config = &config, .target = &other };
    cr_assert(schedule_open(&p, HEAD, &err) == CCC_E_ARG && strstr(err.msg, "s.def is for target sm_90a, not sm_80"), "%s", err.msg);
}

/* ---- candidates */
Test(schedule, candidates_begin_with_the_rule_and_are_legal_and_different)
{
    static const int K[] = { 64, 576, 1536, 2048, 4096, 14336 }, N[] = { 64, 101, 576, 4096, 128256 };
    static const int64_t tokens[] = { 1 };
    unsigned turns[2] = { 0 };
    for (unsigned i = 0; i < 6 * 5 * 3 * 2 * 2; i++) {
        bool norm = i >= 6 * 5 * 3 * 2;
        ccc_tune_args args = { tokens, 1, 40 };
        struct plan_tune t = { .args = &args };
        ccc_plan p = plan_with(HEAD "matvec bf16 N=576 K=576 pair=0 T=1..1 rows=4 loads=1 warps=16 split=1 turns=1\n");
        p.tune = &t;
        plan_builder b = { .plan = &p, .t_min = i % 3 ? i % 3 == 1 ? 3 : 65 : 1, .t_max = i % 3 ? i % 3 == 1 ? 16 : 128 : 1 };
        schedule_shape s = { CCC_BF16, N[i / 6 % 5], K[i / 30 % 6], i / 3 % 2 };
        uint32_t first, n, again;
        cr_assert(tune_candidates(&first, &n, &b, &s, norm, s.N % 8 == 0, &err) == CCC_OK, "%s", err.msg);
        cr_assert(first == 0 && n >= 2 && n <= 40 && !strcmp(t.row[0].note, CCC_TUNE_BY_RULE));
        for (uint32_t k = 0; k < n; k++) {
            const char *why;
            cr_assert(schedule_legal(&t.row[k], &why), "%s", why);
            cr_assert(!k || !*t.row[k].note || (k == 1 && !strcmp(t.row[k].note, CCC_TUNE_IN_USE)));
            turns[norm] += t.row[k].is == SCHEDULE_MATVEC && t.row[k].constant[SCHEDULE_MATVEC_TURNS] > 1;
            for (uint32_t j = 0; j < k; j++) cr_assert(t.row[j].is != t.row[k].is || memcmp(t.row[j].constant, t.row[k].constant, sizeof t.row[k].constant));
        }
        if (s.N == 576 && s.K == 576 && b.t_max == 1 && !s.pair) cr_assert(t.row[1].constant[SCHEDULE_MATVEC_WARPS] == 16 && *t.row[1].note, "what the schedule in use says is the second");
        cr_assert(tune_candidates(&first, &again, &b, &s, norm, true, &err) == CCC_OK && first == 0 && again == n && t.n == n, "another layer of the same shape");
    }
    cr_assert(!turns[0] && turns[1], "turns serve a norm alone: %u, %u", turns[0], turns[1]);
}

/* ---- from measurements to rows */
#define RULE "\"row\":\"matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=1 loads=4 warps=4 split=2 turns=1 # by rule\",\"tokens\":1,\"count\":10"
#define MINE "\"row\":\"matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=2 loads=4 warps=8 split=4 turns=1\",\"tokens\":1,\"count\":10"
#define RESULT(list) "{\"tune\":1,\"target\":\"sm_90a\",\"candidates\":[" list "]}"
#define OLD_ROW "matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=1 loads=8 warps=4 split=1 turns=1   # older\n"

static char *applied(const char *schedule, const char *result, ccc_status want)
{
    ccc_buf s = { 0 }, r = { 0 }, out = { 0 }, log = { 0 };
    ccc_buf_printf(&s, "%s", schedule);
    ccc_buf_printf(&r, "%s", result);
    err = (ccc_err){ 0 };
    ccc_status st = ccc_schedule_apply(&out, &log, &s, "s.def", &r, "r.json", &err);
    cr_assert(st == want, "%d: %s", st, err.msg);
    char *text = ccc_arena_strdup(mem, out.data ? out.data : "");
    ccc_buf_free(&s), ccc_buf_free(&r), ccc_buf_free(&out), ccc_buf_free(&log);
    return text;
}

Test(schedule, apply)
{
    /* alone: 3 % is a gain, 1 % is noise, and then a row that was there goes */
    cr_assert_str_eq(applied(HEAD, RESULT("{" RULE ",\"us\":10.0},{" MINE ",\"us\":9.7}"), CCC_OK),
                     HEAD "matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=2 loads=4 warps=8 split=4 turns=1   # 9.70 us instead of 10.00\n");
    cr_assert_str_eq(applied(HEAD OLD_ROW, RESULT("{" RULE ",\"us\":10.0},{" MINE ",\"us\":9.9}"), CCC_OK), HEAD);
    /* steps decide where there are some: 10 kernels of 10 us, 1 us saved of 100 is noise, 2 are not */
    cr_assert_str_eq(applied(HEAD, RESULT("{" RULE ",\"us\":10.0,\"step_us\":500.0},{" MINE ",\"us\":9.0,\"step_us\":499.0}"), CCC_OK), HEAD);
    cr_assert_str_eq(applied(HEAD, RESULT("{" RULE ",\"us\":10.0,\"step_us\":500.0},{" MINE ",\"us\":11.0,\"step_us\":498.0}"), CCC_OK),
                     HEAD "matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=2 loads=4 warps=8 split=4 turns=1   # 11.00 us instead of 10.00, step 498.0 us instead of 500.0\n");
    cr_assert_str_eq(applied(HEAD, RESULT("{" RULE ",\"us\":10.0,\"step_us\":500.0},{" MINE ",\"us\":5.0,\"step_us\":null}"), CCC_OK), HEAD);
    /* rows of other shapes stay, and the other form of the same weight is not contradicted */
    cr_assert_str_eq(applied(HEAD "matvec bf16 N=512 K=4096 pair=0 T=1..1 rows=1 loads=8 warps=4 split=1 turns=1   # mine\n", RESULT("{" RULE ",\"us\":10.0},{" MINE ",\"us\":9.0}"), CCC_OK),
                     HEAD "matvec bf16 N=512 K=4096 pair=0 T=1..1 rows=1 loads=8 warps=4 split=1 turns=1   # mine\n"
                          "matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=2 loads=4 warps=8 split=4 turns=1   # 9.00 us instead of 10.00\n");
    cr_assert_str_eq(applied(HEAD "matvec bf16 N=2048 K=4096 pair=1 T=1..1 rows=1 loads=4 warps=4 split=2 turns=1\n", RESULT("{" RULE ",\"us\":10.0},{" MINE ",\"us\":9.0}"), CCC_OK),
                     HEAD "matvec bf16 N=2048 K=4096 pair=1 T=1..1 rows=1 loads=4 warps=4 split=2 turns=1\n");
}

Test(schedule, apply_takes_the_mean_of_several_numbers_of_tokens)
{
#define AT(row, tokens, us) "{\"row\":\"gemm_t bf16 N=512 K=4096 pair=0 T=3..16 " row "\",\"tokens\":" tokens ",\"count\":1,\"us\":" us "}"
    const char *few = RESULT(AT("bn=16 cols=64 split=1 blocks=1 # by rule", "4", "10.0") "," AT("bn=16 cols=64 split=1 blocks=1 # by rule", "16", "10.0") "," AT("bn=16 cols=64 split=2 blocks=1", "4", "9.0") "," AT("bn=16 cols=64 split=2 blocks=1", "16", "10.9") ","
                             AT("bn=16 cols=64 split=4 blocks=1", "4", "9.8") "," AT("bn=16 cols=64 split=4 blocks=1", "16", "9.6") "," AT("bn=32 cols=64 split=1 blocks=1", "4", "1.0"));
    cr_assert_str_eq(applied(HEAD, few, CCC_OK), HEAD "gemm_t bf16 N=512 K=4096 pair=0 T=3..16 bn=16 cols=64 split=4 blocks=1   # 9.80 us instead of 10.00\n");
}

Test(schedule, apply_refuses)
{
    static const struct { const char *result, *says; ccc_status is; } bad[] = {
        { "{", "r.json:1:1: ", CCC_E_PARSE },
        { "[]", "r.json: not a result of `cccrt tune`", CCC_E_VERSION },
        { "{\"tune\":2}", "r.json: not a result", CCC_E_VERSION },
        { "{\"tune\":1,\"target\":\"sm_90a\"}", "r.json: 'target' or 'candidates' is missing", CCC_E_PARSE },
        { "{\"tune\":1,\"target\":\"sm_80\",\"candidates\":[]}", "r.json was measured for target sm_80, the schedule is for sm_90a", CCC_E_ARG },
        { RESULT("{}"), "r.json: candidate 1 has no 'row'", CCC_E_PARSE },
        { RESULT("{" RULE ",\"us\":10.0},{\"row\":\"conv\"}"), "r.json:2: 'conv' is no class", CCC_E_PARSE },
        { RESULT("{" RULE ",\"us\":0}"), "r.json: candidate 1: 'us' must be a number above 0", CCC_E_PARSE },
        { RESULT("{" RULE ",\"us\":\"10\"}"), "r.json: candidate 1: 'us' must be a number", CCC_E_PARSE },
        { RESULT("{" MINE ",\"us\":9.0}"), "r.json: candidate 1: the rule's own choice was not timed", CCC_E_PARSE },
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        applied(HEAD, bad[i].result, bad[i].is);
        cr_assert(strstr(err.msg, bad[i].says) == err.msg && !strchr(err.msg, '\n'), "'%s' is wanted, not '%s'", bad[i].says, err.msg);
    }
    applied("target sm_90a\nconv\n", RESULT(""), CCC_E_PARSE);
    cr_assert(strstr(err.msg, "s.def:2: 'conv'") == err.msg, "%s", err.msg);
}

/* The kernel puts a partial result into a ring, and all it has must fit a multiprocessor. */
Test(schedule, every_form_of_decode_attention_fits)
{
    unsigned clusters = 0;
    for (int g = 1; g <= 16; g++)
        for (int d = 64; d <= 128; d += 64)
            for (int hkv = 1; hkv <= 16; hkv++)
                for (long long i = 0; i < 9; i++) {
                    long long seqs = 1 + i / 3 * 3, pages = i % 3 == 0 ? 64 : i % 3 == 1 ? 256 * hkv : 8192;
                    ccc_decode_form f = ccc_decode_choose(seqs, pages, g, hkv, d, 132);
                    for (int fp8 = 0; fp8 < 2; fp8++) {
                        int stages = ccc_decode_stages(g, d, f.cluster, f.warps, fp8);
                        cr_assert_leq(stages, CCC_DECODE_STAGES);
                        cr_assert_geq(stages * ccc_decode_stage_B(d, fp8), ccc_decode_slot_B(g, d), "%d heads of %d a row, %d x %d, e4m3 %d", g, d, f.cluster, f.warps, fp8);
                        cr_assert_leq(ccc_decode_shared_B(g, d, f.cluster, f.warps, fp8), CCC_MAX_SHARED);
                    }
                    cr_assert(f.cluster == 1 || seqs * hkv * (f.cluster == 8 ? 16 : 2) <= 132);
                    cr_assert(!f.blocks || (f.blocks == seqs * hkv * f.cluster && ((seqs * hkv + 1) * 16 > 132 || pages <= seqs * hkv * CCC_DECODE_ROW_PAGES)));
                    cr_assert(f.cluster != 8 || pages * ccc_decode_stage_B(d, 0) <= CCC_DECODE_ROW_B);
                    clusters += f.cluster > 1;
                }
    cr_assert_gt(clusters, 100);
}
