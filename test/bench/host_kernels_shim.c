/* Host templates for the benchmark, with their constants as constants. Compiled by the compiler of the
 * templates, once with each of -DBENCH_stream, -DBENCH_tile, -DBENCH_attention and -DBENCH_read; the last
 * also holds the loop of fused multiply-adds that the peak is measured with. */
#define CCC_KERNEL_TEST
#define ccc_OUT_F32 0
#define ccc_HQ 9
#define ccc_HKV 3
#define ccc_D 64
#define ccc_LAYOUT 3
#define ccc_BLOCK 16
#if defined(BENCH_stream)
#define ccc_TOK 1
#define NAME hb_stream
#define ccc_hook_epilogue hb_stream_hook /* a symbol of its own in each object */
#define ccc_hook_epilogue_tail hb_stream_hook_tail
#include "../../compiler/kernels/host/matmul.c"
#elif defined(BENCH_tile)
#define ccc_TOK 0
#define NAME hb_tile
#include "../../compiler/kernels/host/matmul.c"
#elif defined(BENCH_attention)
#define NAME hb_attention
#define ccc_hook_epilogue hb_attention_hook
#include "../../compiler/kernels/host/attention.c"
#else
#define NAME hb_read
#include "../../compiler/kernels/host/read.c"

enum { CHAINS = 12 };
void hb_fma(float *out, long rounds); /* 12 * 8 multiply-adds a round */
void hb_fma(float *out, long rounds)
{
    VF s[CHAINS], a = splat(out[0]), b = splat(out[1]);
    UNROLL for (int i = 0; i < CHAINS; i++) s[i] = splat((float)i);
    for (long r = 0; r < rounds; r++) {
        UNROLL for (int i = 0; i < CHAINS; i++) s[i] = fma8(s[i], a, b);
    }
    UNROLL for (int i = 1; i < CHAINS; i++) s[0] += s[i];
    out[0] = s[0][0];
}
#endif

#if defined(BENCH_stream) || defined(BENCH_tile) || defined(BENCH_attention)
VF ccc_hook_epilogue(VF v, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    return v;
}
#endif
#if defined(BENCH_stream) || defined(BENCH_tile)
float ccc_hook_epilogue_tail(float v, i32 row, i32 col, const aux_t *aux)
{
    (void)row, (void)col, (void)aux;
    return v;
}
#endif
void NAME(const void *args, const host_ctx *c);
void NAME(const void *args, const host_ctx *c) { ccc_kernel(args, c); }
