/* Ways to wait, and not to wait, for the kernel before: templates of codegen_pdl_test.c, compiled once for each case by codegen.cmake. */
typedef struct {
    int __attribute__((address_space(1))) *out;
    int n, pad;
} args;
#define WAIT() __asm__ volatile("griddepcontrol.wait;" ::: "memory")
#define TID __nvvm_read_ptx_sreg_tid_x()
#define CTA __nvvm_read_ptx_sreg_ctaid_x()
__attribute__((nvptx_kernel)) void ccc_kernel(args a)
{
    int tid = TID, i = CTA * 64 + tid;
    (void)a, (void)i;
#if CASE == 0 /* yes: at once */
    WAIT();
    if (i < a.n) a.out[i] = i;
#elif CASE == 1 /* yes: behind a loop */
    for (int k = 0; k < a.n; k++) __asm__ volatile("prefetch.global.L2 [%0];" ::"l"(a.out + k));
    WAIT();
    a.out[i] = i;
#elif CASE == 2 /* yes: one thread of each block */
    if (tid == 5) WAIT();
    else __nvvm_barrier_sync(1);
#elif CASE == 3 /* yes: a warp, found by exchange */
    if (__nvvm_shfl_sync_idx_i32(-1, tid >> 5, 0, 31) == 1) WAIT();
#elif CASE == 4 /* no: never */
    a.out[i] = i;
#elif CASE == 5 /* no: blocks without work leave first */
    if (i >= a.n) return;
    WAIT();
    a.out[i] = i;
#elif CASE == 6 /* no: depends on the arguments */
    if (a.n > 5) WAIT();
#elif CASE == 7 /* no: only inside a loop that may not run */
    for (int k = 0; k < a.n; k++) {
        WAIT();
        a.out[k] = i;
    }
#elif CASE == 8 /* no: one of two blocks */
    if (CTA & 1) WAIT();
#endif
}
