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

#define CCC_LLVM_FUNCTIONS(F)                                                                                \
    /* process */                                                                                            \
    F(GetVersion)                                                                                            \
    F(DisposeMessage) F(GetErrorMessage) F(DisposeErrorMessage) F(InitializeNVPTXTargetInfo)                 \
        F(InitializeNVPTXTarget) F(InitializeNVPTXTargetMC) F(InitializeNVPTXAsmPrinter)                     \
            F(InitializeX86TargetInfo) F(InitializeX86Target) F(InitializeX86TargetMC)                       \
                F(InitializeX86AsmPrinter) F(InitializeX86AsmParser) /* module */                            \
        F(ContextCreate) F(ContextDispose) F(ContextSetDiagnosticHandler) F(GetDiagInfoDescription)          \
            F(GetDiagInfoSeverity) F(CreateMemoryBufferWithMemoryRange) F(DisposeMemoryBuffer)               \
                F(GetBufferStart) F(GetBufferSize) F(ParseBitcodeInContext2) F(DisposeModule)                \
                    F(PrintModuleToString) F(VerifyModule) /* globals and functions */                       \
        F(GetFirstGlobal) F(GetNextGlobal) F(GlobalGetValueType) F(SetInitializer) F(SetGlobalConstant)      \
            F(SetLinkage) F(SetVisibility) F(IsDeclaration) F(GetFirstFunction) F(GetNextFunction)           \
                F(GetNamedFunction) F(GetValueName2) F(SetValueName2) F(CountParams) F(GetParam)             \
                    F(GetFirstUse) F(GetNextUse) F(GetUser) F(IsACallInst) F(GetInstructionParent)           \
                        F(GetBasicBlockParent) F(GetEnumAttributeKindForName) F(CreateEnumAttribute)         \
                            F(CreateStringAttribute) F(AddAttributeAtIndex) F(GetEnumAttributeAtIndex)       \
                                F(RemoveEnumAttributeAtIndex) F(GetTypeAttributeValue)                       \
                                    F(GetAttributeCountAtIndex) F(GetAttributesAtIndex) F(IsStringAttribute) \
                                        F(MDStringInContext2) F(MDNodeInContext2) F(ValueAsMetadata)         \
                                            F(MetadataAsValue)                                               \
                                                F(AddNamedMetadataOperand) /* types and constants */         \
        F(GetTypeKind) F(GetIntTypeWidth) F(GetVectorSize) F(GetElementType) F(GetReturnType)                \
            F(CountParamTypes) F(GetParamTypes) F(TypeOf) F(Int8TypeInContext) F(Int32TypeInContext)         \
                F(Int64TypeInContext) F(FloatTypeInContext) F(ConstInt) F(ConstReal) F(ConstBitCast)         \
                    F(ConstVector) F(GetPoison) /* instructions */                                           \
        F(CreateBuilderInContext) F(DisposeBuilder) F(AppendBasicBlockInContext) F(PositionBuilderAtEnd)     \
            F(BuildGEP2) F(BuildLoad2) F(SetAlignment) F(BuildCall2) F(BuildSExt) F(BuildAdd) F(BuildMul)    \
                F(BuildExtractElement) F(BuildInsertElement) F(BuildRet) /* optimise and emit */             \
        F(GetTargetFromTriple) F(CreateTargetMachine) F(DisposeTargetMachine) F(CreateTargetDataLayout)      \
            F(DisposeTargetData) F(ABISizeOfType) F(CreatePassBuilderOptions)                                \
                F(PassBuilderOptionsSetSLPVectorization) F(DisposePassBuilderOptions) F(RunPasses)           \
                    F(TargetMachineEmitToMemoryBuffer)

typedef struct {
#define F(name) __typeof__(LLVM##name) *name;
    CCC_LLVM_FUNCTIONS(F)
#undef F
} ccc_llvm;

/* The table; opens libLLVM the first time. Any thread. */
ccc_status ccc_llvm_get(const ccc_llvm **out, ccc_err *err);
#define CCC_LLVM_VERSION LLVM_VERSION_STRING
#endif
