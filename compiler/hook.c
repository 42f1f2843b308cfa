/* Hooks: a template says where a fused elementwise chain goes (`ccc_hook_NAME`, declared only) and this file
 * writes the body, from the instruction list that the planner made. A body is straight-line code: loads of
 * aux operands, calls of the small functions that every template carries (ccc_ld8_bf16, ccc_elt_silu,
 * ccc_cast_bf16, ...: kernels/<target>/hooks.h), stores, a return. What arithmetic an op does is therefore
 * said once, in op.def, and LLVM inlines all of it. The same list has a canonical text, which enters the
 * cache key. */
#include <string.h>
#include "codegen_impl.h"
#include "hook_emit.h"
#include "kernels/abi.h"

static const char *const op_names[CCC_N_OPS] = {
#define OP(name, ...) [CCC_OP_##name] = #name,
#include "../ir/op.def"
};
static const char *const dtype_names[CCC_N_DTYPES] = {
#define X(e, text, bytes, elems) [CCC_##e] = text,
    CCC_DTYPES(X)
#undef X
};

/* ---- checks and text ----------------------------------------------------------------------------------- */
static bool uses_a(const ccc_hook_ins *i)
{
    return i->kind == CCC_HOOK_STORE || i->kind == CCC_HOOK_ELT || i->kind == CCC_HOOK_CAST;
}
static bool binary(const ccc_hook_ins *i)
{
    static const uint8_t arity[CCC_N_OPS] = {
#define OP(name, ...)
#define ELT(name, n, ...) [CCC_OP_##name] = n,
#include "../ir/op.def"
    };
    return i->kind == CCC_HOOK_ELT && arity[i->op] == 2;
}

static bool elementwise(unsigned op)
{
    static const bool is[CCC_N_OPS] = {
#define OP(name, ...)
#define ELT(name, ...) [CCC_OP_##name] = true,
#include "../ir/op.def"
    };
    return op < CCC_N_OPS && is[op];
}

ccc_status ccc_hook_check(const ccc_hook *h, ccc_err *err)
{
    if (!h->name || h->n == 0 || h->n > sizeof h->ins / sizeof *h->ins)
        return ccc_fail(err, CCC_E_ARG, "hook '%s' has %u instructions; 1 to %zu are possible",
                        h->name ? h->name : "", h->n, sizeof h->ins / sizeof *h->ins);
    for (unsigned n = 0; n < h->n; n++) {
        const ccc_hook_ins *i = &h->ins[n];
        bool memory = i->kind == CCC_HOOK_LOAD || i->kind == CCC_HOOK_STORE;
        const char *wrong =
            i->kind > CCC_HOOK_CAST                          ? "unknown kind"
            : i->kind == CCC_HOOK_ELT && !elementwise(i->op) ? "op is not elementwise"
            : uses_a(i) && i->a >= n                         ? "operand a is not an earlier value"
            : binary(i) && i->b >= n                         ? "operand b is not an earlier value"
            : (memory || i->kind == CCC_HOOK_CAST) && i->dtype >= CCC_N_DTYPES ? "unknown dtype"
            : memory && (i->at > CCC_AT_SCALAR || i->aux >= 8) ? "address or aux slot out of range"
            : i->kind == CCC_HOOK_STORE && i->at != CCC_AT_ROWCOL && i->at != CCC_AT_COL
                ? "a store needs an address for each element"
                : NULL;
        if (wrong) return ccc_fail(err, CCC_E_ARG, "hook '%s', instruction %u: %s", h->name, n, wrong);
    }
    return CCC_OK;
}

static void address_text(ccc_buf *out, const ccc_hook_ins *i)
{
    ccc_buf_printf(out, "aux%u[", i->aux);
    if (i->at == CCC_AT_ROWCOL) ccc_buf_printf(out, "row*%lld + col + ", (long long)i->ld);
    else if (i->at == CCC_AT_COL) ccc_buf_printf(out, "col + ");
    else if (i->at == CCC_AT_ROW) ccc_buf_printf(out, "row + ");
    ccc_buf_printf(out, "%lld]", (long long)i->offset);
}

void ccc_hook_text(ccc_buf *out, const ccc_hook *h)
{
    ccc_buf_printf(out, "hook %s\n", h->name);
    for (unsigned n = 0; n < h->n; n++) {
        const ccc_hook_ins *i = &h->ins[n];
        uint32_t bits;
        memcpy(&bits, &i->imm, sizeof bits);
        ccc_buf_printf(out, "  %%%u = ", n);
        switch ((ccc_hook_kind)i->kind) {
        case CCC_HOOK_ARG:
            ccc_buf_printf(out, "arg %u", i->a);
            break;
        case CCC_HOOK_CONST:
            ccc_buf_printf(out, "const 0x%08x", bits);
            break;
        case CCC_HOOK_LOAD:
            ccc_buf_printf(out, "load.%s%s ", dtype_names[i->dtype], i->constant ? ".constant" : "");
            address_text(out, i);
            break;
        case CCC_HOOK_STORE:
            ccc_buf_printf(out, "store.%s %%%u -> ", dtype_names[i->dtype], i->a);
            address_text(out, i);
            break;
        case CCC_HOOK_ELT:
            ccc_buf_printf(out, "%s %%%u", op_names[i->op], i->a);
            if (binary(i)) ccc_buf_printf(out, ", %%%u", i->b);
            break;
        case CCC_HOOK_CAST:
            ccc_buf_printf(out, "cast.%s %%%u", dtype_names[i->dtype], i->a);
            break;
        }
        ccc_buf_printf(out, "\n");
    }
}

/* ---- bodies -------------------------------------------------------------------------------------------- */
typedef struct { /* one hook being written */
    const ccc_llvm *L;
    LLVMContextRef ctx;
    LLVMModuleRef m;
    LLVMBuilderRef b;
    LLVMValueRef fn;
    const char *hook;
    unsigned n_args, width; /* incoming values; elements of a value */
    unsigned n_loads;       /* written so far */
    LLVMTypeRef f32, i32, i64, value_type;
    LLVMValueRef row, col, aux, taken; /* taken: NULL, or where loads have been done ahead */
} emitter;

static ccc_status call_helper(emitter *e, LLVMValueRef *out, LLVMValueRef *args, unsigned n, ccc_err *err,
                              const char *name)
{
    LLVMValueRef f = e->L->GetNamedFunction(e->m, name);
    if (!f)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s' needs '%s', which the template does not define",
                        e->hook, name);
    LLVMTypeRef type = e->L->GlobalGetValueType(f), param[3];
    bool fits = e->L->CountParamTypes(type) == n;
    if (fits) e->L->GetParamTypes(type, param);
    for (unsigned i = 0; i < n && fits; i++) fits = param[i] == e->L->TypeOf(args[i]);
    if (!fits)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s': '%s' has other parameters than hooks need",
                        e->hook, name);
    *out = e->L->BuildCall2(e->b, type, f, args, n, "");
    return CCC_OK;
}

static LLVMValueRef imm64(emitter *e, int64_t v)
{
    return e->L->ConstInt(e->i64, (unsigned long long)v, 1);
}
static LLVMValueRef imm_float(emitter *e,
                              float v) /* by its bits: no trip through double, so a NaN keeps its payload */
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return e->L->ConstBitCast(e->L->ConstInt(e->i32, bits, 0), e->f32);
}

static LLVMValueRef lane(emitter *e, LLVMValueRef v, unsigned i)
{
    return e->width == 1 ? v : e->L->BuildExtractElement(e->b, v, e->L->ConstInt(e->i32, i, 0), "");
}
static LLVMValueRef with_lane(emitter *e, LLVMValueRef v, unsigned i, LLVMValueRef x)
{
    return e->width == 1 ? x : e->L->BuildInsertElement(e->b, v, x, e->L->ConstInt(e->i32, i, 0), "");
}
static LLVMValueRef splat(emitter *e, LLVMValueRef x)
{
    LLVMValueRef v = e->L->GetPoison(e->value_type);
    for (unsigned i = 0; i < e->width; i++) v = with_lane(e, v, i, x);
    return v;
}

/* pointer aux->p[slot] and the index of the first element */
static void address(emitter *e, const ccc_hook_ins *i, LLVMTypeRef ptr, LLVMValueRef out[2])
{
    const ccc_llvm *L = e->L;
    LLVMValueRef slot = imm64(e, (int64_t)i->aux * 8);
    out[0] =
        L->BuildLoad2(e->b, ptr, L->BuildGEP2(e->b, L->Int8TypeInContext(e->ctx), e->aux, &slot, 1, ""), "");
    L->SetAlignment(out[0], 8);
    LLVMValueRef index = imm64(e, i->offset), row = L->BuildSExt(e->b, e->row, e->i64, "");
    if (i->at == CCC_AT_ROWCOL)
        index = L->BuildAdd(e->b, index, L->BuildMul(e->b, row, imm64(e, i->ld), ""), "");
    if (i->at == CCC_AT_ROW) index = L->BuildAdd(e->b, index, row, "");
    if (i->at == CCC_AT_ROWCOL || i->at == CCC_AT_COL)
        index = L->BuildAdd(e->b, index, L->BuildSExt(e->b, e->col, e->i64, ""), "");
    out[1] = index;
}

static ccc_status memory(emitter *e, const ccc_hook_ins *i, LLVMValueRef stored, LLVMValueRef *out,
                         ccc_err *err)
{
    char name[32];
    bool one = i->at == CCC_AT_ROW || i->at == CCC_AT_SCALAR, store = i->kind == CCC_HOOK_STORE;
    snprintf(name, sizeof name, "ccc_%s%u_%s",
             store         ? "st"
             : i->constant ? "ldc"
                           : "ld",
             one ? 1 : e->width, dtype_names[i->dtype]);
    LLVMValueRef f = e->L->GetNamedFunction(e->m, name), arg[3] = {NULL, NULL, stored};
    LLVMTypeRef param[3];
    LLVMTypeRef type = f ? e->L->GlobalGetValueType(f) : NULL;
    if (!f || e->L->CountParamTypes(type) != (store ? 3u : 2u))
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s' needs '%s', which the template does not define",
                        e->hook, name);
    e->L->GetParamTypes(type, param);
    if (e->L->GetTypeKind(param[0]) != LLVMPointerTypeKind)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s': '%s' has other parameters than hooks need",
                        e->hook, name);
    address(e, i, param[0], arg);
    LLVMValueRef got;
    CCC_TRY(call_helper(e, &got, arg, store ? 3 : 2, err, name));
    *out = store ? stored : one ? splat(e, got) : got;
    return CCC_OK;
}

/* where the load of that number was put ahead of the hook */
static LLVMValueRef place(emitter *e, unsigned number)
{
    LLVMValueRef at = imm64(e, number);
    return e->L->BuildGEP2(e->b, e->value_type, e->taken, &at, 1, "");
}

static ccc_status per_lane(emitter *e, const char *prefix, const char *name, LLVMValueRef a, LLVMValueRef b,
                           LLVMValueRef *out, ccc_err *err)
{
    char helper[48];
    snprintf(helper, sizeof helper, "%s%s", prefix, name);
    LLVMValueRef v = e->L->GetPoison(e->value_type);
    for (unsigned i = 0; i < e->width; i++) {
        LLVMValueRef arg[2] = {lane(e, a, i), b ? lane(e, b, i) : NULL}, r;
        CCC_TRY(call_helper(e, &r, arg, b ? 2 : 1, err, helper));
        v = with_lane(e, v, i, r);
    }
    *out = v;
    return CCC_OK;
}

static ccc_status instruction(emitter *e, const ccc_hook_ins *i, LLVMValueRef *value, LLVMValueRef *out,
                              ccc_err *err)
{
    switch ((ccc_hook_kind)i->kind) {
    case CCC_HOOK_ARG:
        if (i->a >= e->n_args)
            return ccc_fail(err, CCC_E_ARG, "hook '%s' has %u incoming values, the body asks for number %u",
                            e->hook, e->n_args, i->a);
        *out = e->L->GetParam(e->fn, i->a);
        return CCC_OK;
    case CCC_HOOK_CONST:
        *out = splat(e, imm_float(e, i->imm));
        return CCC_OK;
    case CCC_HOOK_LOAD:
        if (!e->taken || e->n_loads >= CCC_MAX_TAKEN) return memory(e, i, NULL, out, err);
        *out = e->L->BuildLoad2(e->b, e->value_type, place(e, e->n_loads++), "");
        return CCC_OK;
    case CCC_HOOK_STORE:
        return memory(e, i, value[i->a], out, err);
    case CCC_HOOK_ELT:
        return per_lane(e, "ccc_elt_", op_names[i->op], value[i->a],
                        binary(i) ? value[i->b] : splat(e, imm_float(e, 0.0f)), out, err);
    case CCC_HOOK_CAST:
        *out = value[i->a];
        return i->dtype == CCC_F32
                   ? CCC_OK
                   : per_lane(e, "ccc_cast_", dtype_names[i->dtype], value[i->a], NULL, out, err);
    }
    return ccc_fail(err, CCC_E_ARG, "hook '%s': unknown instruction %u", e->hook, i->kind);
}

/* ---- functions beside a hook that only load what it will read: to the cache, or ahead of it --------------- */
static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), e = strlen(end);
    return n > e && !strcmp(s + n - e, end);
}

static ccc_status part_signature(emitter *e, bool take, ccc_err *err)
{
    const ccc_llvm *L = e->L;
    LLVMTypeRef type = L->GlobalGetValueType(e->fn);
    unsigned n = take ? 4 : 3;
    if (L->CountParamTypes(type) != n)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "hook '%s' is not declared as void ccc_hook_%s(%si32 row, i32 col, const aux_t *aux)",
                        e->hook, e->hook, take ? "VF *taken, " : "");
    if (take) e->taken = L->GetParam(e->fn, 0);
    e->row = L->GetParam(e->fn, n - 3);
    e->col = L->GetParam(e->fn, n - 2);
    e->aux = L->GetParam(e->fn, n - 1);
    return CCC_OK;
}

static ccc_status prefetch_one(emitter *e, const ccc_hook_ins *i, ccc_err *err)
{
    const ccc_llvm *L = e->L;
    char name[32];
    snprintf(name, sizeof name, "ccc_prefetch_%s", dtype_names[i->dtype]);
    LLVMValueRef f = L->GetNamedFunction(e->m, name), arg[2], none;
    LLVMTypeRef param[2];
    if (!f || L->CountParamTypes(L->GlobalGetValueType(f)) != 2)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s' needs '%s', which the template does not define",
                        e->hook, name);
    L->GetParamTypes(L->GlobalGetValueType(f), param);
    address(e, i, param[0], arg);
    return call_helper(e, &none, arg, 2, err, name);
}

/* The values of NAME_take_.. are those that NAME_taken is declared with. */
static ccc_status value_of_taken(emitter *e, ccc_err *err)
{
    const ccc_llvm *L = e->L;
    const char *end = strstr(e->hook, "_take_");
    char name[64];
    snprintf(name, sizeof name, "ccc_hook_%.*s%s", (int)(end - e->hook), e->hook, CCC_HOOK_TAKEN);
    LLVMValueRef f = L->GetNamedFunction(e->m, name);
    if (!f) return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s': the template declares no '%s'", e->hook, name);
    e->value_type = L->GetReturnType(L->GlobalGetValueType(f));
    e->width = L->GetTypeKind(e->value_type) == LLVMVectorTypeKind ? L->GetVectorSize(e->value_type) : 1;
    return CCC_OK;
}

static ccc_status part_body(emitter *e, const ccc_hook *h, bool weights, bool take, ccc_err *err)
{
    CCC_TRY(part_signature(e, take, err));
    if (take) CCC_TRY(value_of_taken(e, err));
    for (unsigned n = 0, number = 0; h && n < h->n; n++) {
        const ccc_hook_ins *i = &h->ins[n];
        if (i->kind != CCC_HOOK_LOAD) continue;
        unsigned at = number++;
        if (i->constant != weights || (take && at >= CCC_MAX_TAKEN)) continue;
        LLVMValueRef got;
        if (!take) CCC_TRY(prefetch_one(e, i, err));
        else {
            CCC_TRY(memory(e, i, NULL, &got, err));
            e->L->BuildStore(e->b, got, place(e, at));
        }
    }
    e->L->BuildRetVoid(e->b);
    return CCC_OK;
}

/* Reads the declared signature: VF f([VF [, VF]] [const VF *taken,] i32 row, i32 col, const aux_t *aux), VF
 * float or a vector of float. */
static ccc_status signature(emitter *e, bool taken, ccc_err *err)
{
    const ccc_llvm *L = e->L;
    LLVMTypeRef type = L->GlobalGetValueType(e->fn), param[6];
    unsigned n = L->CountParamTypes(type), rest = taken ? 4 : 3;
    e->value_type = L->GetReturnType(type);
    bool vector = L->GetTypeKind(e->value_type) == LLVMVectorTypeKind;
    e->width = vector ? L->GetVectorSize(e->value_type) : 1;
    bool fits = n >= rest && n <= rest + 2 && (vector ? L->GetElementType(e->value_type) : e->value_type) == e->f32;
    if (fits) {
        L->GetParamTypes(type, param);
        e->n_args = n - rest;
        for (unsigned i = 0; i < e->n_args; i++) fits = fits && param[i] == e->value_type;
        fits = fits && param[n - 3] == e->i32 && param[n - 2] == e->i32 &&
               L->GetTypeKind(param[n - 1]) == LLVMPointerTypeKind &&
               L->GetTypeKind(param[n - rest]) == (taken ? LLVMPointerTypeKind : LLVMIntegerTypeKind);
    }
    if (!fits)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "hook '%s' is not declared as VF ccc_hook_%s([VF v, [VF v2,]]%s i32 row, i32 col, "
                        "const aux_t *aux)",
                        e->hook, e->hook, taken ? " const VF *taken," : "");
    static const char memory_attr[] =
        "memory"; /* pure, const: a promise that a body which stores would break */
    if (L->GetEnumAttributeAtIndex(e->fn, LLVMAttributeFunctionIndex,
                                   L->GetEnumAttributeKindForName(memory_attr, strlen(memory_attr))))
        return ccc_fail(err, CCC_E_UNSUPPORTED, "hook '%s' is declared pure or const, but hooks may store",
                        e->hook);
    if (taken) e->taken = L->GetParam(e->fn, e->n_args);
    e->row = L->GetParam(e->fn, n - 3);
    e->col = L->GetParam(e->fn, n - 2);
    e->aux = L->GetParam(e->fn, n - 1);
    return CCC_OK;
}

static ccc_status body(emitter *e, const ccc_hook *h, ccc_err *err)
{
    LLVMValueRef value[sizeof h->ins / sizeof *h->ins], result;
    if (h) {
        for (unsigned n = 0; n < h->n; n++) CCC_TRY(instruction(e, &h->ins[n], value, &value[n], err));
        result = value[h->n - 1];
    } else {
        result = e->L->GetParam(e->fn, 0);
    }
    e->L->BuildRet(e->b, result);
    return CCC_OK;
}

ccc_status ccc_hook_emit(const ccc_llvm *L, LLVMContextRef ctx, LLVMModuleRef m, LLVMValueRef fn,
                         const char *name, const ccc_hook *h, ccc_err *err)
{
    emitter e = {.L = L, .ctx = ctx, .m = m, .fn = fn, .hook = name};
    e.f32 = L->FloatTypeInContext(ctx);
    e.i32 = L->Int32TypeInContext(ctx);
    e.i64 = L->Int64TypeInContext(ctx);
    bool weights = ends_with(name, CCC_HOOK_WEIGHTS), others = ends_with(name, CCC_HOOK_TAKE_OTHERS);
    bool take = others || ends_with(name, CCC_HOOK_TAKE_WEIGHTS), part = weights || others;
    if (!part) CCC_TRY(signature(&e, ends_with(name, CCC_HOOK_TAKEN), err));
    if (!part && !h && e.n_args != 1)
        return CCC_OK; /* no identity: stays undefined, and an error if a call of it survives */
    e.b = L->CreateBuilderInContext(ctx);
    L->PositionBuilderAtEnd(e.b, L->AppendBasicBlockInContext(ctx, fn, "entry"));
    ccc_status s = part ? part_body(&e, h, weights, take, err) : body(&e, h, err);
    L->DisposeBuilder(e.b);
    return s;
}
