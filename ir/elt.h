/* The host's arithmetic behind the expressions of op.def's ELT rows. Device C brings its own m_* and includes
 * op.def itself: the expression is shared, the last bits of exp and tanh are each target's own. */
#ifndef CCC_ELT_H
#define CCC_ELT_H
#include <math.h>
static inline float m_exp(float x)
{
    return expf(x);
}
static inline float m_tanh(float x)
{
    return tanhf(x);
}
static inline float m_div(float x, float y)
{
    return x / y;
}
static inline float m_rsqrt(float x)
{
    return 1.0f / sqrtf(x);
}
#endif
