/* The part of the LLVM-C API that ccc uses, as a table of function pointers: libLLVM is opened when the first
 * kernel has to be compiled, so that a compile served by the cache does not pay for loading 130 MB. Types
 * come from LLVM's own headers. */
#ifndef CCC_LLVM_API_H
#define CCC_LLVM_API_H
#include <llvm-c/Analysis.h>
#include <llvm-c/BitReader.h>
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include "../runtime/ccc_err.h"

typedef struct {
#define F(name) __typeof__(LLVM##name) *name;
#include "llvm_api.def"
#undef F
} ccc_llvm;

/* The table; opens libLLVM the first time. Any thread. */
ccc_status ccc_llvm_get(const ccc_llvm **out, ccc_err *err);
#define CCC_LLVM_VERSION LLVM_VERSION_STRING
#endif
