/* Hook bodies. A part of a group is a list of elementwise nodes; each becomes instructions over vectors: operands are values computed before,
 * what the template hands in, immediates, or loads of aux operands. Values used outside the group are stored. */
#include "plan.h"
#include "kernels/abi.h"
#include <string.h>

typedef struct { ccc_val val; uint16_t ins; } binding;
typedef struct {
    plan_builder *b;
    const ccc_group_info *u;
    ccc_hook *h;
    ccc_part_kind part;   /* whose aux numbering applies */
    binding env[64]; unsigned n_env;
    int64_t col_offset;   /* columns between this half and the first one */
    ccc_err *err;
} hook_writer;

static ccc_status emit(hook_writer *w, ccc_hook_ins ins, uint16_t *out)
{
    if (w->h->n == sizeof w->h->ins / sizeof *w->h->ins)
        return ccc_fail(w->err, CCC_E_UNSUPPORTED, "group %u has too many elementwise steps for one kernel", w->u->group);
    *out = (uint16_t)w->h->n;
    w->h->ins[w->h->n++] = ins;
    return CCC_OK;
}

static ccc_status bind(hook_writer *w, ccc_val v, uint16_t ins)
{
    for (unsigned i = 0; i < w->n_env; i++)
        if (w->env[i].val == v) {
            w->env[i].ins = ins; /* the second half computes the same nodes again */
            return CCC_OK;
        }
    if (w->n_env == sizeof w->env / sizeof *w->env) return ccc_fail(w->err, CCC_E_UNSUPPORTED, "group %u has too many values for one kernel", w->u->group);
    w->env[w->n_env++] = (binding){ v, ins };
    return CCC_OK;
}

static ccc_status access(hook_writer *w, ccc_val v, int aux, ccc_hook_ins *ins)
{
    const ccc_type *t = &w->b->g->value[v].type;
    plan_loc l = pb_loc(w->b, v);
    if (t->dtype != CCC_BF16 && t->dtype != CCC_F32 && t->dtype != CCC_E4M3)
        return ccc_fail(w->err, CCC_E_UNSUPPORTED, "an elementwise kernel cannot read or write %s; cast it to bf16, f32 or e4m3", ccc_dtype_name((ccc_dtype)t->dtype));
    ins->dtype = t->dtype;
    ins->at = w->u->aux[aux].at;
    ins->aux = (uint8_t)aux;
    ins->ld = ins->at == CCC_AT_ROWCOL ? l.ld : 0;
    ins->offset = ins->at == CCC_AT_ROWCOL || ins->at == CCC_AT_COL ? w->col_offset : 0;
    return CCC_OK;
}

static ccc_status operand(hook_writer *w, ccc_val v, uint16_t *out)
{
    for (unsigned i = 0; i < w->n_env; i++)
        if (w->env[i].val == v) {
            *out = w->env[i].ins;
            return CCC_OK;
        }
    const ccc_node *n = ccc_def(w->b->g, v);
    if (n->op == CCC_OP_constant) {
        CCC_TRY(emit(w, (ccc_hook_ins){ .kind = CCC_HOOK_CONST, .imm = (float)ccc_attr_float(n, "value") }, out));
        return bind(w, v, *out);
    }
    int aux = ccc_group_aux(w->b->g, w->u, w->part, v, false);
    if (aux < 0) return ccc_fail(w->err, CCC_E_TYPE, "group %u reads value %%%u, which has no place in it", w->u->group, v);
    ccc_hook_ins ins = { .kind = CCC_HOOK_LOAD };
    CCC_TRY(access(w, v, aux, &ins));
    ins.constant = pb_loc(w->b, v).kind == CCART_P_WEIGHT;
    CCC_TRY(emit(w, ins, out));
    return bind(w, v, *out);
}

static ccc_status write_node(hook_writer *w, const ccc_node *n)
{
    uint16_t a = 0, b = 0, r = 0;
    CCC_TRY(operand(w, n->in[0], &a));
    if (n->n_in > 1) CCC_TRY(operand(w, n->in[1], &b));
    if (n->op == CCC_OP_cast) {
        ccc_dtype to = (ccc_dtype)w->b->g->value[n->out[0]].type.dtype;
        r = a; /* widening to f32 changes nothing in registers */
        if (to != CCC_F32) CCC_TRY(emit(w, (ccc_hook_ins){ .kind = CCC_HOOK_CAST, .dtype = (uint8_t)to, .a = a }, &r));
    } else {
        CCC_TRY(emit(w, (ccc_hook_ins){ .kind = CCC_HOOK_ELT, .op = (uint16_t)n->op, .a = a, .b = b }, &r));
    }
    CCC_TRY(bind(w, n->out[0], r));
    int aux = ccc_group_aux(w->b->g, w->u, w->part, n->out[0], true);
    if (aux < 0) return CCC_OK;
    ccc_hook_ins st = { .kind = CCC_HOOK_STORE, .a = r };
    CCC_TRY(access(w, n->out[0], aux, &st));
    CCC_TRY(emit(w, st, &r));
    return bind(w, n->out[0], r);
}

static ccc_status write_part(hook_writer *w, ccc_part_kind part)
{
    const ccc_part *p = &w->u->part[part];
    w->part = part;
    for (unsigned i = 0; i < p->n; i++) CCC_TRY(write_node(w, &w->b->g->node[p->node[i]]));
    return CCC_OK;
}

/* Both halves of a pair go through PRE, then meet in EPILOGUE. */
static ccc_status write_pair(hook_writer *w)
{
    const ccc_part *pre = &w->u->part[CCC_PART_PRE], *epi = &w->u->part[CCC_PART_EPILOGUE];
    uint16_t half[2] = { 0 };
    for (unsigned i = 0; i < 2; i++) CCC_TRY(emit(w, (ccc_hook_ins){ .kind = CCC_HOOK_ARG, .a = (uint16_t)i }, &half[i]));
    for (unsigned i = 0; i < 2 && pre->n; i++) {
        w->n_env = 0;
        w->col_offset = i ? ccc_type_last(&w->b->g->value[epi->result].type) : 0;
        CCC_TRY(bind(w, pre->arg[0], half[i]));
        CCC_TRY(write_part(w, CCC_PART_PRE));
        CCC_TRY(operand(w, pre->result, &half[i]));
    }
    w->n_env = 0;
    w->col_offset = 0;
    for (unsigned i = 0; i < 2; i++) CCC_TRY(bind(w, epi->arg[i], half[i]));
    return write_part(w, CCC_PART_EPILOGUE);
}

ccc_status plan_hook(plan_builder *b, plan_kernel *k, const ccc_group_info *u, const char *name, ccc_part_kind part, ccc_err *err)
{
    const ccc_part *p = &u->part[part];
    bool pair = u->pair && part == CCC_PART_EPILOGUE;
    if (!p->n && !pair && part != CCC_PART_BODY) return CCC_OK;
    if (k->req.n_hooks == sizeof k->req.hook / sizeof *k->req.hook) return ccc_fail(err, CCC_E_UNSUPPORTED, "group %u needs too many hooks", u->group);
    hook_writer w = { .b = b, .u = u, .h = &k->req.hook[k->req.n_hooks++], .part = part, .err = err };
    w.h->name = name;
    uint16_t r = 0;
    if (pair) {
        CCC_TRY(write_pair(&w));
    } else {
        for (unsigned i = 0; i < p->n_args; i++) {
            CCC_TRY(emit(&w, (ccc_hook_ins){ .kind = CCC_HOOK_ARG, .a = (uint16_t)i }, &r));
            CCC_TRY(bind(&w, p->arg[i], r));
        }
        CCC_TRY(write_part(&w, part));
    }
    CCC_TRY(operand(&w, p->result, &r));
    if (r + 1u != w.h->n) { /* the result is the last value: say it again through a widening that costs nothing */
        ccc_hook_ins again = { .kind = CCC_HOOK_CAST, .dtype = CCC_F32, .a = r };
        CCC_TRY(emit(&w, again, &r));
    }
    return CCC_OK;
}

ccc_status plan_aux(plan_builder *b, const ccc_group_info *u, size_t aux_B, ccc_err *err)
{
    if (u->n_aux > CCC_MAX_AUX) return ccc_fail(err, CCC_E_UNSUPPORTED, "group %u has %u memory operands, a kernel has room for %d", u->group, u->n_aux, CCC_MAX_AUX);
    for (unsigned i = 0; i < CCC_MAX_AUX; i++) {
        if (i < u->n_aux) pb_value(b, aux_B + 8 * i, u->aux[i].val, 0);
        else pb_plain(b, aux_B + 8 * i, 8, CCART_P_IMM, 0, 0);
    }
    return CCC_OK;
}
