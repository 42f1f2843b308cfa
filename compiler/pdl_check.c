/* The rule of programmatic launch that no machine checks: a kernel that may start before its predecessor has
 * ended must wait for it (griddepcontrol.wait) in every thread block, also one without work; else its
 * successor could start while the predecessor still runs. A block ends when its last thread does, so one
 * waiting thread is enough. Shown on the optimised IR, where control flow is what will be executed: on every
 * way from the entry to a return some thread passes a wait. At a branch whose condition is a function of the
 * thread's number alone, threads go both ways in every block, and one of them is enough; at all other
 * branches both must wait. Not being able to show it is no error: such a kernel is launched in full order. */
#include <stdlib.h>
#include <string.h>
#include "pdl_check.h"

typedef enum { LOOP, YES, NO } verdict;
typedef struct {
    LLVMBasicBlockRef block;
    verdict waits;
} node;
typedef struct {
    const ccc_llvm *L;
    node *seen;
    unsigned n;
} walk;

static bool is_wait(const ccc_llvm *L, LLVMValueRef ins)
{
    if (!L->IsACallInst(ins)) return false;
    LLVMValueRef callee = L->GetCalledValue(ins);
    size_t size;
    return L->IsAInlineAsm(callee) && strstr(L->GetInlineAsmAsmString(callee, &size), "griddepcontrol.wait");
}

static bool thread_intrinsic(const ccc_llvm *L, LLVMValueRef call)
{
    size_t size;
    const char *name = L->GetValueName2(L->GetCalledValue(call), &size);
    return !strncmp(name, "llvm.nvvm.read.ptx.sreg.tid.", 28) ||
           !strncmp(name, "llvm.nvvm.read.ptx.sreg.laneid", 30);
}

/* Made of the thread's number and constants by arithmetic, comparisons and exchange in a warp; *thread: the
 * number is in it. */
static bool of_thread(const ccc_llvm *L, LLVMValueRef v, bool *thread, unsigned depth)
{
    size_t size;
    if (L->IsConstant(v)) return true;
    if (!depth || !L->IsAInstruction(v) || L->GetInstructionOpcode(v) == LLVMPHI ||
        L->GetInstructionOpcode(v) == LLVMLoad)
        return false;
    int n = L->GetNumOperands(v);
    if (L->IsACallInst(v)) {
        if (L->IsAInlineAsm(L->GetCalledValue(v))) return false;
        if (thread_intrinsic(L, v)) return *thread = true;
        if (strncmp(L->GetValueName2(L->GetCalledValue(v), &size), "llvm.nvvm.shfl.", 15) != 0) return false;
        n--; /* the last operand is the callee */
    }
    for (int i = 0; i < n; i++)
        if (!of_thread(L, L->GetOperand(v, (unsigned)i), thread, depth - 1)) return false;
    return true;
}

static bool splits_threads(const ccc_llvm *L, LLVMValueRef end)
{
    bool thread = false;
    return L->GetInstructionOpcode(end) == LLVMBr && L->GetNumSuccessors(end) == 2 &&
           of_thread(L, L->GetCondition(end), &thread, 32) && thread;
}

/* Whether a thread block that gets here has a thread that waits. LOOP: this way only leads back into a loop
 * that is being looked at, so it says nothing and is left out. */
static verdict look(walk *w, LLVMBasicBlockRef b)
{
    const ccc_llvm *L = w->L;
    for (unsigned i = 0; i < w->n; i++)
        if (w->seen[i].block == b) return w->seen[i].waits;
    unsigned self = w->n++;
    w->seen[self] = (node){b, LOOP};
    LLVMValueRef end = L->GetBasicBlockTerminator(b);
    verdict v = L->GetInstructionOpcode(end) == LLVMUnreachable ? YES : LOOP;
    for (LLVMValueRef i = L->GetFirstInstruction(b); i && v != YES; i = L->GetNextInstruction(i))
        if (is_wait(L, i)) v = YES;
    if (L->GetInstructionOpcode(end) == LLVMRet && v != YES) v = NO;
    unsigned count[3] = {0}, n = v == LOOP ? L->GetNumSuccessors(end) : 0;
    for (unsigned s = 0; s < n; s++) count[look(w, L->GetSuccessor(end, s))]++;
    if (count[YES] && (!count[NO] || splits_threads(L, end))) v = YES;
    else if (count[NO]) v = NO;
    w->seen[self].waits = v;
    return v;
}

ccc_status ccc_pdl_waits(const ccc_llvm *L, LLVMValueRef kernel, bool *result, ccc_err *err)
{
    walk w = {L, calloc(L->CountBasicBlocks(kernel), sizeof(node)), 0};
    if (!w.seen) return ccc_fail(err, CCC_E_NOMEM, "out of memory");
    *result = look(&w, L->GetEntryBasicBlock(kernel)) == YES;
    free(w.seen);
    return CCC_OK;
}
