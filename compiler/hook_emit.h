/* The one function of hook.c that speaks LLVM. Writes the body of the declared function `fn`, which is
 * `ccc_hook_<name>`. Without `h` the hook becomes the identity, or stays undefined when it has no single
 * incoming value. */
#ifndef CCC_HOOK_EMIT_H
#define CCC_HOOK_EMIT_H
#include "codegen.h"
#include "llvm_api.h"
/* A template may declare, beside hook NAME, functions that only bring to the cache what NAME will read:
 * void ccc_hook_NAME_weights(i32 row, i32 col, const aux_t *aux) what is weights, void
 * ccc_hook_NAME_others(..) the rest. */
#define CCC_HOOK_WEIGHTS "_weights"
#define CCC_HOOK_OTHERS "_others"
ccc_status ccc_hook_emit(const ccc_llvm *L, LLVMContextRef ctx, LLVMModuleRef m, LLVMValueRef fn,
                         const char *name, const ccc_hook *h, ccc_err *err);
#endif
