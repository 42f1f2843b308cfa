/* The one order in which a row is summed, whatever the number of threads: element k belongs to virtual lane (k/8) % 512; a lane adds its
 * elements in increasing k, starting from 0, then a tree over the lanes: lane[i] += lane[i+d] for d = 256, 128, .. 1. So a norm has the
 * same bits as a kernel of its own, as the prologue of a matvec, and on the host.
 *
 * NT threads (a power of two, 32 .. 512): thread t holds lanes t, t+NT, .. and reads 8-element vectors t, t+NT, ..; its vector m belongs
 * to its lane m % (512/NT). Distances down to NT are inside a thread, down to 32 across warps, the rest are shuffles. */
#ifndef CCC_ROWSUM_H
#define CCC_ROWSUM_H
#include "k.h"

enum { ROWSUM_LANES = 16 }; /* most lanes of a thread */
typedef struct { float lane[ROWSUM_LANES]; } rowsum;

INLINE rowsum rowsum_zero(void)
{
    rowsum s;
    UNROLL for (i32 i = 0; i < ROWSUM_LANES; i++) s.lane[i] = 0;
    return s;
}

INLINE void rowsum_squares(rowsum *s, i32 at, vf8 v) /* at: a constant after unrolling */
{
    UNROLL for (i32 i = 0; i < 8; i++) s->lane[at] = fma_(v[i], v[i], s->lane[at]);
}

/* this thread's part goes to scratch (NT floats of shared memory); the caller then synchronises the block */
INLINE void rowsum_put(rowsum *s, i32 nt, u32 scratch)
{
    UNROLL for (i32 h = ROWSUM_LANES / 2; h; h >>= 1)
        UNROLL for (i32 i = 0; i < h; i++)
            if (h * nt < 512) s->lane[i] += s->lane[i + h];
    sts4_f(scratch + tid() * 4, s->lane[0]);
}

INLINE float rowsum_get(i32 nt, u32 scratch)
{
    float v[16];
    UNROLL for (i32 w = 0; w < 16; w++)
        if (w * 32 < nt) v[w] = lds4_f(scratch + (w * 32 + lane()) * 4);
    UNROLL for (i32 h = 8; h; h >>= 1)
        UNROLL for (i32 w = 0; w < h; w++)
            if (h * 32 < nt) v[w] += v[w + h];
    return warp_sum(v[0]);
}

INLINE float rms_scale(float squares, i32 n, float eps) { return div_rn(1.0f, sqrt_rn(div_rn(squares, (float)n) + eps)); }
#endif
