/* A template becomes a kernel: parse its bitcode, turn SPEC constants into literals, write hook bodies, make
 * everything but the entry internal and inlined, let LLVM optimise and emit. After that nothing may be left
 * to call: a call that survives is a hook without a body, a helper that was not inlined, or a library
 * function that does not exist on the target; each is an error here, not at load. One LLVM context a call, so
 * any number of threads can do this at once. */
#include <string.h>
#include <time.h>
#include "codegen_impl.h"
#include "hook_emit.h"
#include "pdl_check.h"

typedef struct { /* one specialisation under way; unset fields are NULL */
    const ccc_llvm *L;
    const ccc_template *t;
    const ccc_kernel_req *req;
    LLVMContextRef ctx;
    LLVMModuleRef m;
    LLVMTargetMachineRef tm;
    char diagnostic[400]; /* first error that LLVM reported */
} job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *payload) /* without one, LLVM prints and exits */
{
    job *j = payload;
    if (j->L->GetDiagInfoSeverity(info) != LLVMDSError || j->diagnostic[0]) return;
    char *text = j->L->GetDiagInfoDescription(info);
    snprintf(j->diagnostic, sizeof j->diagnostic, "%s", text);
    j->L->DisposeMessage(text);
    for (char *p = j->diagnostic; *p; p++)
        if (*p == '\n') *p = ' ';
}

static ccc_status llvm_failed(job *j, const char *doing, char *message, ccc_err *err)
{
    ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s': %s: %s", j->t->name, doing,
             j->diagnostic[0] ? j->diagnostic
             : message        ? message
                              : "no message");
    if (message) j->L->DisposeMessage(message);
    return CCC_E_UNSUPPORTED;
}

static bool is_spec(const ccc_llvm *L, LLVMValueRef g, const char **name)
{
    size_t size;
    *name = L->GetValueName2(g, &size);
    if (!L->IsDeclaration(g) || strncmp(*name, "ccc_", 4) != 0) return false;
    *name += 4;
    return L->GetTypeKind(L->GlobalGetValueType(g)) == LLVMIntegerTypeKind;
}

/* Every SPEC of the template gets its value, and every value given has its SPEC. */
static ccc_status fill_specs(job *j, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    const ccc_kernel_req *r = j->req;
    bool used[sizeof r->spec / sizeof *r->spec] = {0};
    const char *name;
    for (LLVMValueRef g = L->GetFirstGlobal(j->m); g; g = L->GetNextGlobal(g)) {
        if (!is_spec(L, g, &name)) continue;
        unsigned i = 0;
        while (i < r->n_specs && strcmp(r->spec[i].name, name) != 0) i++;
        if (i == r->n_specs)
            return ccc_fail(err, CCC_E_ARG, "template '%s' needs a value for SPEC '%s'", j->t->name, name);
        LLVMTypeRef type = L->GlobalGetValueType(g);
        unsigned bits = L->GetIntTypeWidth(type);
        int64_t v = r->spec[i].value;
        if (bits < 64 && (v < -(INT64_C(1) << (bits - 1)) || v >= INT64_C(1) << (bits - 1)))
            return ccc_fail(err, CCC_E_ARG, "template '%s': SPEC '%s' = %lld does not fit %u bits",
                            j->t->name, name, (long long)v, bits);
        used[i] = true;
        L->SetInitializer(g, L->ConstInt(type, (unsigned long long)v, 1));
        L->SetGlobalConstant(g, 1);
    }
    for (unsigned i = 0; i < r->n_specs; i++)
        if (!used[i])
            return ccc_fail(err, CCC_E_ARG, "template '%s' has no SPEC '%s'", j->t->name, r->spec[i].name);
    return CCC_OK;
}

/* The request's body for the declared hook `name`: its own, or for NAME_tail and the like that of NAME. */
static unsigned find_hook(const ccc_kernel_req *r, const char *name)
{
    static const char *const suffix[] = {"_tail", CCC_HOOK_TAKEN, CCC_HOOK_TAKE_WEIGHTS, CCC_HOOK_TAKE_OTHERS, CCC_HOOK_WEIGHTS};
    size_t n = strlen(name);
    for (unsigned k = 0; k < sizeof suffix / sizeof *suffix; k++) {
        size_t t = strlen(suffix[k]);
        if (n <= t || strcmp(name + n - t, suffix[k]) != 0) continue;
        n -= t;
        break;
    }
    unsigned i = 0;
    while (i < r->n_hooks && (strncmp(r->hook[i].name, name, n) != 0 || r->hook[i].name[n] != 0)) i++;
    return i;
}

static ccc_status fill_hooks(job *j, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    const ccc_kernel_req *r = j->req;
    static const char prefix[] = "ccc_hook_";
    bool used[sizeof r->hook / sizeof *r->hook] = {0};
    for (LLVMValueRef f = L->GetFirstFunction(j->m); f; f = L->GetNextFunction(f)) {
        size_t size;
        const char *name = L->GetValueName2(f, &size);
        if (strncmp(name, prefix, sizeof prefix - 1) != 0) continue;
        name += sizeof prefix - 1;
        if (!L->IsDeclaration(f))
            return ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s' defines hook '%s' itself", j->t->name,
                            name);
        unsigned i = find_hook(r, name);
        bool given = i < r->n_hooks;
        if (given) used[i] = true;
        CCC_TRY(ccc_hook_emit(L, j->ctx, j->m, f, name, given ? &r->hook[i] : NULL, err));
    }
    for (unsigned i = 0; i < r->n_hooks; i++)
        if (!used[i])
            return ccc_fail(err, CCC_E_ARG, "template '%s' has no hook '%s'", j->t->name, r->hook[i].name);
    return CCC_OK;
}

/* Functions that LLVM itself may call when it lowers a copy: host templates bring their own. */
static bool is_libcall(const char *name)
{
    return !strcmp(name, "memcpy") || !strcmp(name, "memset") || !strcmp(name, "memmove");
}

static void set_function_attr(job *j, LLVMValueRef f, const char *name, bool on)
{
    unsigned kind = j->L->GetEnumAttributeKindForName(name, strlen(name));
    if (on)
        j->L->AddAttributeAtIndex(f, LLVMAttributeFunctionIndex, j->L->CreateEnumAttribute(j->ctx, kind, 0));
    else j->L->RemoveEnumAttributeAtIndex(f, LLVMAttributeFunctionIndex, kind);
}

/* Everything but the entry becomes internal, and every function is inlined into it. */
static void internalise(job *j, LLVMValueRef entry)
{
    const ccc_llvm *L = j->L;
    size_t size;
    for (LLVMValueRef g = L->GetFirstGlobal(j->m); g; g = L->GetNextGlobal(g)) {
        if (L->IsDeclaration(g) || !strncmp(L->GetValueName2(g, &size), "llvm.", 5)) continue;
        L->SetVisibility(g, LLVMDefaultVisibility);
        L->SetLinkage(g, LLVMInternalLinkage);
    }
    for (LLVMValueRef f = L->GetFirstFunction(j->m); f; f = L->GetNextFunction(f)) {
        if (L->IsDeclaration(f)) continue;
        if (j->t->kind == CCC_TARGET_HOST) /* a loop that copies must not become a call of memcpy */
            L->AddAttributeAtIndex(f, LLVMAttributeFunctionIndex,
                                   L->CreateStringAttribute(j->ctx, "no-builtins", 11, "", 0));
        if (f == entry || (j->t->kind == CCC_TARGET_HOST && is_libcall(L->GetValueName2(f, &size)))) continue;
        L->SetVisibility(f, LLVMDefaultVisibility);
        L->SetLinkage(f, LLVMInternalLinkage);
        set_function_attr(j, f, "noinline", false);
        set_function_attr(j, f, "optnone", false);
        set_function_attr(j, f, "alwaysinline", true);
    }
}

static void annotate(job *j, LLVMValueRef entry, const char *key, LLVMValueRef value)
{
    const ccc_llvm *L = j->L;
    LLVMMetadataRef md[3] = {L->ValueAsMetadata(entry), L->MDStringInContext2(j->ctx, key, strlen(key)),
                             L->ValueAsMetadata(value)};
    L->AddNamedMetadataOperand(j->m, "nvvm.annotations",
                               L->MetadataAsValue(j->ctx, L->MDNodeInContext2(j->ctx, md, 3)));
}

/* Block size, blocks wanted on a multiprocessor, and that the argument struct is never written: no copy of it
 * is made, and a tensor map in it has an address that the hardware accepts. The last is a list of argument
 * numbers, counted from 1. */
static void annotate_cuda(job *j, LLVMValueRef entry)
{
    const ccc_llvm *L = j->L;
    LLVMTypeRef i32 = L->Int32TypeInContext(j->ctx);
    annotate(j, entry, "maxntidx", L->ConstInt(i32, j->req->threads, 0));
    if (j->req->min_blocks) annotate(j, entry, "minctasm", L->ConstInt(i32, j->req->min_blocks, 0));
    LLVMMetadataRef one = L->ValueAsMetadata(L->ConstInt(i32, 1, 0));
    LLVMMetadataRef md[3] = {L->ValueAsMetadata(entry), L->MDStringInContext2(j->ctx, "grid_constant", 13),
                             L->MDNodeInContext2(j->ctx, &one, 1)};
    L->AddNamedMetadataOperand(j->m, "nvvm.annotations",
                               L->MetadataAsValue(j->ctx, L->MDNodeInContext2(j->ctx, md, 3)));
}

/* The planner takes argument offsets from the host's compiler: device and host must agree on the struct. */
static ccc_status check_args(job *j, LLVMValueRef entry, ccc_err *err)
{
    if (j->t->kind != CCC_TARGET_CUDA) return CCC_OK;
    const ccc_llvm *L = j->L;
    LLVMAttributeRef byval =
        L->CountParams(entry) == 1
            ? L->GetEnumAttributeAtIndex(entry, 1, L->GetEnumAttributeKindForName("byval", 5))
            : NULL;
    if (!byval)
        return ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s': ccc_kernel must take one struct by value",
                        j->t->name);
    LLVMTargetDataRef layout = L->CreateTargetDataLayout(j->tm);
    unsigned long long size_B = L->ABISizeOfType(layout, L->GetTypeAttributeValue(byval));
    L->DisposeTargetData(layout);
    if (size_B != j->t->args_B)
        return ccc_fail(err, CCC_E_UNSUPPORTED,
                        "template '%s' takes %llu bytes of arguments, kernel.def's struct has %u", j->t->name,
                        size_B, j->t->args_B);
    return CCC_OK;
}

static ccc_status make_machine(job *j, ccc_err *err)
{
    const ccc_target *t = j->req->target;
    LLVMTargetRef target;
    char *message = NULL;
    if (j->L->GetTargetFromTriple(t->triple, &target, &message))
        return llvm_failed(j, "no such target", message, err);
    j->tm = j->L->CreateTargetMachine(target, t->triple, t->cpu, t->features, LLVMCodeGenLevelAggressive,
                                      t->kind == CCC_TARGET_HOST ? LLVMRelocPIC : LLVMRelocDefault,
                                      LLVMCodeModelDefault);
    if (!j->tm) return ccc_fail(err, CCC_E_UNSUPPORTED, "LLVM has no target machine for %s", t->name);
    return CCC_OK;
}

/* -O0 and -O1 are the same here: templates count on inlining, unrolling and registers for arrays, so less is
 * not possible. */
static ccc_status optimise(job *j, int level, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    char passes[32], *message = NULL;
    snprintf(passes, sizeof passes, "default<O%d>", level < 1 ? 1 : level);
    if (L->VerifyModule(j->m, LLVMReturnStatusAction, &message))
        return llvm_failed(j, "invalid before optimisation", message, err);
    L->DisposeMessage(message);
    LLVMPassBuilderOptionsRef o = L->CreatePassBuilderOptions();
    L->PassBuilderOptionsSetSLPVectorization(o, j->t->kind ==
                                                    CCC_TARGET_HOST); /* hooks are written lane by lane */
    LLVMErrorRef e = L->RunPasses(j->m, passes, j->tm, o);
    L->DisposePassBuilderOptions(o);
    if (e) {
        char *text = L->GetErrorMessage(e);
        ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s': %s: %s", j->t->name, passes, text);
        L->DisposeErrorMessage(text);
        return CCC_E_UNSUPPORTED;
    }
    if (j->diagnostic[0] || L->VerifyModule(j->m, LLVMReturnStatusAction, &message))
        return llvm_failed(j, "invalid after optimisation", message, err);
    L->DisposeMessage(message);
    return CCC_OK;
}

static ccc_status check_calls(job *j, LLVMValueRef entry, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    size_t size;
    for (LLVMValueRef f = L->GetFirstFunction(j->m); f; f = L->GetNextFunction(f)) {
        const char *name = L->GetValueName2(f, &size);
        if (f == entry || !strncmp(name, "llvm.", 5) || (j->t->kind == CCC_TARGET_HOST && is_libcall(name)))
            continue;
        if (!strncmp(name, "ccc_hook_", 9) && L->GetFirstUse(f))
            return ccc_fail(err, CCC_E_ARG, "template '%s' needs a body for hook '%s'", j->t->name, name + 9);
        if (!L->IsDeclaration(f) || L->GetFirstUse(f))
            return ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s': a call of '%s' was not inlined",
                            j->t->name, name);
    }
    return CCC_OK;
}

static ccc_status emit(job *j, ccc_buf *out, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    LLVMMemoryBufferRef code = NULL;
    char *message = NULL;
    LLVMCodeGenFileType type = j->t->kind == CCC_TARGET_CUDA ? LLVMAssemblyFile : LLVMObjectFile;
    if (L->TargetMachineEmitToMemoryBuffer(j->tm, j->m, type, &message, &code))
        return llvm_failed(j, "cannot emit code", message, err);
    if (!j->diagnostic[0]) ccc_buf_put(out, L->GetBufferStart(code), L->GetBufferSize(code));
    L->DisposeMemoryBuffer(code);
    if (j->diagnostic[0]) return llvm_failed(j, "cannot emit code", NULL, err);
    return out->failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory while emitting '%s'", j->t->name) : CCC_OK;
}

static ccc_status parse(job *j, LLVMValueRef *entry, const char *name, ccc_err *err)
{
    const ccc_llvm *L = j->L;
    size_t size_B = (size_t)(j->t->bc_end - j->t->bc);
    LLVMMemoryBufferRef bc =
        L->CreateMemoryBufferWithMemoryRange((const char *)j->t->bc, size_B, j->t->name, 0);
    LLVMBool failed = L->ParseBitcodeInContext2(j->ctx, bc, &j->m);
    L->DisposeMemoryBuffer(bc);
    if (failed) {
        j->m = NULL;
        return llvm_failed(j, "unreadable bitcode", NULL, err);
    }
    *entry = L->GetNamedFunction(j->m, "ccc_kernel");
    if (!*entry || L->IsDeclaration(*entry))
        return ccc_fail(err, CCC_E_UNSUPPORTED, "template '%s' has no ccc_kernel", j->t->name);
    L->SetValueName2(*entry, name, strlen(name));
    return CCC_OK;
}

static ccc_status run(job *j, ccc_specialised *out, const char *name, int level, bool want_ll, ccc_err *err)
{
    LLVMValueRef entry = NULL;
    double t0 = now();
    CCC_TRY(parse(j, &entry, name, err));
    CCC_TRY(make_machine(j, err));
    CCC_TRY(check_args(j, entry, err));
    CCC_TRY(fill_specs(j, err));
    CCC_TRY(fill_hooks(j, err));
    internalise(j, entry);
    if (j->t->kind == CCC_TARGET_CUDA) annotate_cuda(j, entry);
    double t1 = now();
    CCC_TRY(optimise(j, level, err));
    double t2 = now();
    if (want_ll) {
        char *text = j->L->PrintModuleToString(j->m);
        ccc_buf_put(&out->ll, text, strlen(text));
        j->L->DisposeMessage(text);
    }
    CCC_TRY(check_calls(j, entry, err));
    if (j->t->flags & CCC_TEMPLATE_PDL) CCC_TRY(ccc_pdl_waits(j->L, entry, &out->waits, err));
    double t3 = now();
    CCC_TRY(emit(j, &out->code, err));
    out->parse_s = t1 - t0;
    out->optimise_s = t2 - t1;
    out->emit_s = now() - t3;
    return out->ll.failed ? ccc_fail(err, CCC_E_NOMEM, "out of memory") : CCC_OK;
}

ccc_status ccc_specialise(ccc_specialised *out, const ccc_template *t, const ccc_kernel_req *req,
                          const char *entry, int opt_level, bool want_ll, ccc_err *err)
{
    job j = {.t = t, .req = req};
    memset(out, 0, sizeof *out);
    CCC_TRY(ccc_llvm_get(&j.L, err));
    j.ctx = j.L->ContextCreate();
    j.L->ContextSetDiagnosticHandler(j.ctx, on_diagnostic, &j);
    ccc_status s = run(&j, out, entry, opt_level, want_ll, err);
    if (j.tm) j.L->DisposeTargetMachine(j.tm);
    if (j.m) j.L->DisposeModule(j.m);
    j.L->ContextDispose(j.ctx);
    return s;
}
