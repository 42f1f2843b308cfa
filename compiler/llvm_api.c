/* Opens libLLVM once in a process and fills the table of llvm_api.h. The version must be the one that ccc was
 * built with: it is part of every key although LLVM is not loaded when keys are computed. The library stays
 * open until the process ends. */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <llvm/Config/llvm-config.h>
#include "llvm_api.h"

static struct {
    pthread_once_t once;
    ccc_llvm api;
    ccc_status status;
    ccc_err err;
} llvm = {.once = PTHREAD_ONCE_INIT};

static ccc_status resolve(void *lib)
{
    static const struct {
        const char *name;
        size_t at;
    } table[] = {
#define F(name) {"LLVM" #name, offsetof(ccc_llvm, name)},
#include "llvm_api.def"
#undef F
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *f = dlsym(lib, table[i].name);
        if (!f)
            return ccc_fail(&llvm.err, CCC_E_UNSUPPORTED, "libLLVM has no %s; ccc needs LLVM %s",
                            table[i].name, CCC_LLVM_VERSION);
        memcpy((char *)&llvm.api + table[i].at, &f, sizeof f);
    }
    unsigned major, minor, patch;
    llvm.api.GetVersion(&major, &minor, &patch);
    if (major != LLVM_VERSION_MAJOR || minor != LLVM_VERSION_MINOR || patch != LLVM_VERSION_PATCH)
        return ccc_fail(&llvm.err, CCC_E_UNSUPPORTED,
                        "libLLVM is %u.%u.%u, but this ccc was built for %s: rebuild ccc", major, minor,
                        patch, CCC_LLVM_VERSION);
    return CCC_OK;
}

static void open_llvm(void)
{
    static const char *const names[] = {"libLLVM-19.so.1", "libLLVM.so.19.1", "libLLVM-19.so"};
    void *lib = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !lib; i++)
        lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        llvm.status =
            ccc_fail(&llvm.err, CCC_E_UNSUPPORTED,
                     "cannot open %s (%s), needed to compile kernels: install the package libllvm19",
                     names[1], dlerror());
        return;
    }
    llvm.status = resolve(lib);
    if (llvm.status != CCC_OK) return;
    const ccc_llvm *L = &llvm.api;
    L->InitializeNVPTXTargetInfo(), L->InitializeNVPTXTarget(), L->InitializeNVPTXTargetMC(),
        L->InitializeNVPTXAsmPrinter();
    L->InitializeX86TargetInfo(), L->InitializeX86Target(), L->InitializeX86TargetMC(),
        L->InitializeX86AsmPrinter();
    L->InitializeX86AsmParser();
}

ccc_status ccc_llvm_get(const ccc_llvm **out, ccc_err *err)
{
    pthread_once(&llvm.once, open_llvm);
    if (llvm.status != CCC_OK) {
        if (err) *err = llvm.err;
        return llvm.status;
    }
    *out = &llvm.api;
    return CCC_OK;
}
