/* ccc opt: passes on the text form of a graph, one by one or as the pipelines of a compile. What a pass does
 * can be read, and a dump of a compile (--dump) is an input: this is where a miscompiled model is bisected.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../passes/check.h"
#include "../passes/group.h"
#include "../passes/pass.h"
#include "cmd.h"
#include "opt.h"

static const char program[] = "ccc opt";
enum { MAX_PASSES = 64 };

typedef struct {
    const char *pass, *pipeline, *print_after, *out;
    opt_list caps;
    bool check, explain, time, groups, list_passes, list_ops;
    const char *name[MAX_PASSES];
    unsigned n;
    ccc_arena *mem;
    ccc_buf text;
} options;

static const struct {
    const char *name;
    const char *const *passes[2];
} pipelines[] = {
    {"clean", {ccc_pipeline_clean}},
    {"fuse", {ccc_pipeline_fuse}},
    {"plain", {ccc_pipeline_plain}},
    {"all", {ccc_pipeline_clean, ccc_pipeline_fuse}},
};
enum { N_PIPELINES = sizeof pipelines / sizeof *pipelines };

static void list_passes(void)
{
    for (const ccc_pass *p = ccc_passes; p->name; p++) printf("%-16s %s\n", p->name, p->help);
    printf("\npipelines:\n");
    for (unsigned i = 0; i < N_PIPELINES; i++) {
        printf("  %-13s", pipelines[i].name);
        for (unsigned k = 0; k < 2 && pipelines[i].passes[k]; k++)
            for (const char *const *n = pipelines[i].passes[k]; *n; n++) printf(" %s", *n);
        printf("\n");
    }
}

static void list_ops(void)
{
    for (unsigned i = 0; i < CCC_N_OPS; i++) {
        const ccc_op_info *op = &ccc_ops[i];
        char operands[16];
        if (op->min_in == op->max_in) snprintf(operands, sizeof operands, "%u", op->min_in);
        else snprintf(operands, sizeof operands, "%u-%u", op->min_in, op->max_in);
        printf("%-12s %-5s %s", op->name, operands, op->help);
        for (unsigned a = 0; a < op->n_attr; a++)
            printf("%s%s%s", a ? ", " : " {", op->attr[a].name, op->attr[a].required ? "" : "?");
        printf("%s\n", op->n_attr ? "}" : "");
    }
}

static ccc_status add_pass(options *o, const char *name, ccc_err *err)
{
    if (!ccc_pass_find(name))
        return ccc_fail(err, CCC_E_ARG, "no pass is named '%s'; --list-passes lists them", name);
    if (o->n == MAX_PASSES) return ccc_fail(err, CCC_E_ARG, "more than %d passes", MAX_PASSES);
    o->name[o->n++] = name;
    return CCC_OK;
}

static ccc_status add_pipeline(options *o, const char *name, ccc_err *err)
{
    unsigned i = 0;
    while (i < N_PIPELINES && strcmp(name, pipelines[i].name) != 0) i++;
    if (i == N_PIPELINES)
        return ccc_fail(err, CCC_E_ARG, "--pipeline is clean, fuse, plain or all, not '%s'", name);
    for (unsigned k = 0; k < 2 && pipelines[i].passes[k]; k++)
        for (const char *const *p = pipelines[i].passes[k]; *p; p++) CCC_TRY(add_pass(o, *p, err));
    return CCC_OK;
}

static ccc_status choose_passes(options *o, ccc_err *err)
{
    char *list = o->pass ? ccc_arena_strdup(o->mem, o->pass) : NULL, *save;
    if (o->pass && !list) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    for (char *p = list ? strtok_r(list, ",", &save) : NULL; p; p = strtok_r(NULL, ",", &save))
        CCC_TRY(add_pass(o, p, err));
    if (o->pipeline) CCC_TRY(add_pipeline(o, o->pipeline, err));
    if (!o->pass && !o->pipeline && !o->groups)
        return ccc_fail(err, CCC_E_ARG, "give --pass, --pipeline or --groups");
    if (o->print_after && strcmp(o->print_after, "all") != 0 && !ccc_pass_find(o->print_after))
        return ccc_fail(err, CCC_E_ARG, "no pass is named '%s'; --list-passes lists them", o->print_after);
    return CCC_OK;
}

static ccc_status set_cap(ccc_fuse_caps *c, const char *text, ccc_err *err)
{
    char *end;
    const char *eq = strchr(text, '=');
    long v = eq ? strtol(eq + 1, &end, 10) : 0;
    if (!eq || end == eq + 1 || *end || v < 0 || v > 1 << 24)
        return ccc_fail(err, CCC_E_ARG, "--cap %s: NAME=NUMBER is wanted", text);
    size_t n = (size_t)(eq - text);
    if (n == 14 && !strncmp(text, "prologue_max_T", n)) c->prologue_max_T = (int)v;
    else if (n == 14 && !strncmp(text, "prologue_max_N", n)) c->prologue_max_N = v;
    else if (n == 13 && !strncmp(text, "pair_epilogue", n)) c->pair_epilogue = v != 0;
    else if (n == 7 && !strncmp(text, "max_aux", n)) c->max_aux = (int)v;
    else if (n == 7 && !strncmp(text, "rope_kv", n)) c->rope_kv = v != 0;
    else if (n == 14 && !strncmp(text, "rope_attention", n)) c->rope_attention = v != 0;
    else
        return ccc_fail(err, CCC_E_ARG,
                        "--cap %s: prologue_max_T, prologue_max_N, pair_epilogue, max_aux, rope_kv and "
                        "rope_attention can be set",
                        text);
    return CCC_OK;
}

static void after(void *payload, const ccc_pass *p, const ccc_graph *g, bool progress, double seconds)
{
    options *o = payload;
    if (o->time)
        fprintf(stderr, "%-16s %8.3f ms  %s\n", p->name, seconds * 1e3, progress ? "changed" : "no change");
    if (!o->print_after || (strcmp(o->print_after, "all") != 0 && strcmp(o->print_after, p->name) != 0))
        return;
    ccc_buf_printf(&o->text, "; after %s\n", p->name);
    if (ccc_ir_print(g, &o->text) != CCC_OK) o->text.failed = true;
    ccc_buf_printf(&o->text, "\n");
}

/* ---- --groups: what the planner gets to see, one unit after another in the order in which they run */

static void put_value(ccc_buf *b, const ccc_graph *g, ccc_val v)
{
    if (g->value[v].name) ccc_buf_printf(b, " %%%s", g->value[v].name);
    else ccc_buf_printf(b, " %%%u", v);
}

static void put_part(ccc_buf *b, const ccc_graph *g, const ccc_part *p, const char *name)
{
    if (!p->n) return;
    ccc_buf_printf(b, "    %-9s", name);
    for (unsigned i = 0; i < p->n_args; i++) put_value(b, g, p->arg[i]);
    ccc_buf_printf(b, p->n_args ? " ->" : "  ->");
    for (unsigned i = 0; i < p->n; i++) {
        ccc_buf_printf(b, " %s", ccc_ops[g->node[p->node[i]].op].name);
        if (g->node[p->node[i]].op == CCC_OP_cast)
            ccc_buf_printf(b, ":%s",
                           ccc_dtype_name((ccc_dtype)g->value[g->node[p->node[i]].out[0]].type.dtype));
    }
    ccc_buf_printf(b, " ->");
    put_value(b, g, p->result);
    ccc_buf_printf(b, "\n");
}

static void put_unit(ccc_buf *b, const ccc_graph *g, const ccc_group_info *u)
{
    static const char *const parts[CCC_N_PARTS] = {"in", "out", "pre", "epilogue", "body"}, *const at[] = {
                                                                                                "", "[col]",
                                                                                                "[row]",
                                                                                                "[scalar]"};
    ccc_buf_printf(b, "%s", ccc_ops[g->node[u->anchor].op].name);
    if (u->group) ccc_buf_printf(b, " @%u %s", u->group, g->group[u->group].pass);
    ccc_buf_printf(b, "%s%s%s%s%s\n", u->norm && u->norm != u->anchor ? ", norm" : "",
                   u->pair ? ", pair" : "", u->kv_write && u->kv_write != u->anchor ? ", cache write" : "",
                   u->rope_q ? ", rope q" : "", u->rope_k ? ", rope k" : "");
    if (u->x) ccc_buf_printf(b, "    x        "), put_value(b, g, u->x), ccc_buf_printf(b, "\n");
    for (unsigned k = 0; k < CCC_N_PARTS; k++) put_part(b, g, &u->part[k], parts[k]);
    if (u->n_aux) ccc_buf_printf(b, "    aux      ");
    for (unsigned i = 0; i < u->n_aux; i++) {
        put_value(b, g, u->aux[i].val);
        ccc_buf_printf(b, "%s%s", at[u->aux[i].at], u->aux[i].store ? "!" : "");
    }
    ccc_buf_printf(b, u->n_aux ? "\n    reads    " : "    reads    ");
    for (unsigned i = 0; i < u->n_reads; i++) put_value(b, g, u->read[i]);
    ccc_buf_printf(b, "\n    results  ");
    for (unsigned i = 0; i < u->n_results; i++) put_value(b, g, u->result[i]);
    ccc_buf_printf(b, "\n");
}

static ccc_status put_groups(options *o, const ccc_graph *g, ccc_err *err)
{
    ccc_group_info *unit;
    unsigned n;
    CCC_TRY(ccc_group_list(g, o->mem, &unit, &n, err));
    for (unsigned i = 0; i < n; i++) put_unit(&o->text, g, &unit[i]);
    ccc_buf_printf(&o->text, "%u kernel%s\n", n, n == 1 ? "" : "s");
    return CCC_OK;
}

static ccc_status run(options *o, ccc_graph *g, ccc_err *err)
{
    ccc_fuse_caps caps = {.prologue_max_T = 8, .pair_epilogue = true, .max_aux = 8, .rope_kv = true};
    ccc_buf explain = {0};
    ccc_pass_report report = {.after = after, .payload = o, .check = o->check};
    for (unsigned i = 0; i < o->caps.n; i++) CCC_TRY(set_cap(&caps, o->caps.item[i], err));
    ccc_status status = ccc_pass_run(g, o->name, o->n, &caps, o->explain ? &explain : NULL, &report, err);
    for (char *line = explain.data, *end; status == CCC_OK && line && *line;
         line = end + 1) { /* comments of the text form */
        if (!(end = strchr(line, '\n'))) break;
        ccc_buf_printf(&o->text, "; %.*s\n", (int)(end - line), line);
    }
    bool failed = explain.failed;
    ccc_buf_free(&explain);
    CCC_TRY(status);
    if (o->groups) CCC_TRY(put_groups(o, g, err));
    else if (ccc_ir_print(g, &o->text) != CCC_OK) failed = true;
    if (failed || o->text.failed)
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for the text of the graph");
    return ccc_write_file(o->out, o->text.data ? o->text.data : "", o->text.size_B, err);
}

static ccc_status read_and_run(options *o, const char *in, ccc_err *err)
{
    ccc_buf text = {0};
    ccc_graph *g = NULL;
    ccc_status status = ccc_read_file(&text, in, err);
    const char *data = text.data ? text.data : "", *file = strcmp(in, "-") ? in : "standard input";
    bool is_json = data[strspn(data, " \t\r\n")] == '{';
    if (status == CCC_OK) status = (is_json ? ccc_json_read : ccc_ir_parse)(&g, data, text.size_B, file, err);
    ccc_buf_free(&text);
    if (status == CCC_OK) status = run(o, g, err);
    ccc_graph_free(g);
    return status;
}

int cmd_opt(int argc, char **argv)
{
    options o = {.out = "-"};
    const char *in = "-";
    int n_args;
    const opt opts[] = {
        {"--pass", OPT_TEXT, &o.pass, "NAME[,NAME]", "passes to run, in this order"},
        {"--pipeline", OPT_TEXT, &o.pipeline, "clean|fuse|plain|all",
         "the passes of a compile: clean-up, fusion, or both (after those of --pass)"},
        {"--cap", OPT_LIST, &o.caps, "NAME=VALUE",
         "what fusion may count on: prologue_max_T (8), prologue_max_N (0: any), pair_epilogue (1), "
         "max_aux (8), rope_kv (1), rope_attention (0)"},
        {"--check", OPT_FLAG, &o.check, NULL,
         "evaluate on random inputs before and after each pass, and require the same bits"},
        {"--explain", OPT_FLAG, &o.explain, NULL,
         "say for each candidate that was not fused why, as comments in front of the graph"},
        {"--print-after", OPT_TEXT, &o.print_after, "NAME|all", "print the graph after this pass too"},
        {"--groups", OPT_FLAG, &o.groups, NULL,
         "instead of the graph, print the kernels that its groups become"},
        {"--time", OPT_FLAG, &o.time, NULL, "time of each pass, on standard error"},
        {"--list-passes", OPT_FLAG, &o.list_passes, NULL, "names of passes and pipelines"},
        {"--list-ops", OPT_FLAG, &o.list_ops, NULL, "ops: number of operands, meaning, attributes"},
        {"-o", OPT_TEXT, &o.out, "FILE", "where the result goes; usually standard output"},
        {0},
    };
    int status = opt_parse(argc, argv, opts, program,
                           "--pass=NAME[,NAME]|--pipeline=clean|fuse|plain|all [options] [IN.ir|IN.json]",
                           "Runs passes on a graph (standard input unless named) and prints it. The graph is "
                           "verified after each pass.",
                           &in, 1, &n_args);
    if (status >= 0) return status;
    if (o.list_passes) list_passes();
    if (o.list_ops) list_ops();
    if (o.list_passes || o.list_ops) return 0;
    ccc_err err = {0};
    o.mem = ccc_arena_new();
    if (!o.mem) ccc_fail(&err, CCC_E_NOMEM, "out of memory");
    if (o.mem && choose_passes(&o, &err) != CCC_OK) status = opt_usage(program, "%s", err.msg);
    else status = o.mem && read_and_run(&o, in, &err) == CCC_OK ? 0 : opt_fail(program, &err);
    ccc_buf_free(&o.text);
    ccc_arena_free(o.mem);
    return status;
}
