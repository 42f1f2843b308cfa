/* Sine and cosine of an f32 angle, as the f32 next to the true value: reduction by pi/2 and two polynomials, all in f64. Plain C for any
 * target: the CUDA and the host template of rope_table and the tests include it, and get the same bits.
 * Angles up to 2^31 in magnitude; beyond, and for NaN, the result is NaN. The f64 result is within 2^-50, so it rounds to the wrong
 * neighbour about once in 2^25, and is never off by more than one. */
#ifndef CCC_SINCOS_H
#define CCC_SINCOS_H

/* r of x = k * pi/2 + r, |r| <= pi/4, and k mod 4. k * (53 bits of pi/2) and x are multiples of 2^-52, and so is their difference,
 * which is small: the first fma is exact. The second brings the next 53 bits of pi/2 in. */
static inline double ccc_reduce(double x, int *quadrant)
{
    double k = x * 0x1.45f306dc9c883p-1 + 0x1.8p52 - 0x1.8p52;
    *quadrant = (int)((long long)k & 3);
    return __builtin_fma(-k, 0x1.1a62633145c07p-54, __builtin_fma(-k, 0x1.921fb54442d18p+0, x));
}
static inline double ccc_poly_sin(double r)
{
    double z = r * r, p = -0x1.ae7f3e733b81fp-41; /* -1/15!, 1/13!, .. -1/3! */
    p = __builtin_fma(p, z, 0x1.6124613a86d09p-33);
    p = __builtin_fma(p, z, -0x1.ae64567f544e4p-26);
    p = __builtin_fma(p, z, 0x1.71de3a556c734p-19);
    p = __builtin_fma(p, z, -0x1.a01a01a01a01ap-13);
    p = __builtin_fma(p, z, 0x1.1111111111111p-7);
    p = __builtin_fma(p, z, -0x1.5555555555555p-3);
    return __builtin_fma(r * z, p, r);
}
static inline double ccc_poly_cos(double r)
{
    double z = r * r, p = 0x1.ae7f3e733b81fp-45; /* 1/16!, -1/14!, .. -1/2! */
    p = __builtin_fma(p, z, -0x1.93974a8c07c9dp-37);
    p = __builtin_fma(p, z, 0x1.1eed8eff8d898p-29);
    p = __builtin_fma(p, z, -0x1.27e4fb7789f5cp-22);
    p = __builtin_fma(p, z, 0x1.a01a01a01a01ap-16);
    p = __builtin_fma(p, z, -0x1.6c16c16c16c17p-10);
    p = __builtin_fma(p, z, 0x1.5555555555555p-5);
    p = __builtin_fma(p, z, -0.5);
    return __builtin_fma(z, p, 1.0);
}
static inline void ccc_sincos(float angle, float *sin_out, float *cos_out)
{
    int q;
    if (!(angle <= 0x1p31f && angle >= -0x1p31f)) {
        *sin_out = *cos_out = __builtin_nanf("");
        return;
    }
    double r = ccc_reduce(angle, &q), s = ccc_poly_sin(r), c = ccc_poly_cos(r);
    double a = q & 1 ? c : s, b = q & 1 ? s : c;
    *sin_out = (float)(q & 2 ? -a : a);
    *cos_out = (float)((q + 1) & 2 ? -b : b);
}
#endif
