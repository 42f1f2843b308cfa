#ifndef CCC_PDL_CHECK_H
#define CCC_PDL_CHECK_H
#include <stdbool.h>
#include "llvm_api.h"
/* Whether every block of the optimised kernel can be shown to wait for the kernel before it. */
ccc_status ccc_pdl_waits(const ccc_llvm *L, LLVMValueRef kernel, bool *result, ccc_err *err);
#endif
