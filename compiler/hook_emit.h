/* The one function of hook.c that speaks LLVM. Writes the body of the declared function `fn`, which is
 * `ccc_hook_<name>`. Without `h` the hook becomes the identity, or stays undefined when it has no single
 * incoming value. */
#ifndef CCC_HOOK_EMIT_H
#define CCC_HOOK_EMIT_H
#include "codegen.h"
#include "llvm_api.h"
/* A template may declare, beside hook NAME, functions that do a part of its work (kernels/cuda/hooks.h says what for):
 *   void ccc_hook_NAME_weights(i32 row, i32 col, const aux_t *aux)              to the cache with what of NAME's loads are weights
 *   void ccc_hook_NAME_take_weights(VF *taken, i32 row, i32 col, const aux_t *aux)  to taken[] with them, each at the number of its load
 *   void ccc_hook_NAME_take_others(..)                                           the same for all that are no weights
 *   VF ccc_hook_NAME_taken(VF v, [VF v2,] const VF *taken, i32 row, ..)         NAME, its loads taken from there */
#define CCC_HOOK_WEIGHTS "_weights"
#define CCC_HOOK_TAKE_WEIGHTS "_take_weights"
#define CCC_HOOK_TAKE_OTHERS "_take_others"
#define CCC_HOOK_TAKEN "_taken"
ccc_status ccc_hook_emit(const ccc_llvm *L, LLVMContextRef ctx, LLVMModuleRef m, LLVMValueRef fn,
                         const char *name, const ccc_hook *h, ccc_err *err);
#endif
