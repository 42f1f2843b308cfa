/* sin and cos of an f32 angle, for both targets in plain C: f64 throughout, so that the results, rounded once to f32, are the nearest f32 in all
 * but a few of a million cases. Good for |angle| up to 2^30: n = angle / (pi/2) is exact as an integer, and angle - n * pi/2 is taken with fused
 * multiply-adds of pi/2 in two parts. The series end where the next term is below 2^-36 of the result. */
#ifndef CCC_SINCOS_H
#define CCC_SINCOS_H

static inline __attribute__((always_inline)) void ccc_sincos(float angle, float *sine, float *cosine)
{
    const double to_int = 6755399441055744.0; /* 1.5 * 2^52: the sum keeps the integer in its low bits */
    double a = (double)angle, t = __builtin_elementwise_fma(a, 0x1.45f306dc9c883p-1, to_int), n = t - to_int;
    unsigned long long quarter = __builtin_bit_cast(unsigned long long, t);
    double r = __builtin_elementwise_fma(n, -0x1.921fb54442d18p+0, a);
    r = __builtin_elementwise_fma(n, -0x1.1a62633145c07p-54, r);
    double z = r * r, s = -1.0 / 39916800.0, c = 1.0 / 479001600.0;
    s = __builtin_elementwise_fma(s, z, 1.0 / 362880.0);
    s = __builtin_elementwise_fma(s, z, -1.0 / 5040.0);
    s = __builtin_elementwise_fma(s, z, 1.0 / 120.0);
    s = __builtin_elementwise_fma(s, z, -1.0 / 6.0);
    s = __builtin_elementwise_fma(s * z, r, r);
    c = __builtin_elementwise_fma(c, z, -1.0 / 3628800.0);
    c = __builtin_elementwise_fma(c, z, 1.0 / 40320.0);
    c = __builtin_elementwise_fma(c, z, -1.0 / 720.0);
    c = __builtin_elementwise_fma(c, z, 1.0 / 24.0);
    c = __builtin_elementwise_fma(c, z, -0.5);
    c = __builtin_elementwise_fma(c, z, 1.0);
    double x = quarter & 1 ? c : s, y = quarter & 1 ? s : c;
    *sine = (float)(quarter & 2 ? -x : x);
    *cosine = (float)((quarter + 1) & 2 ? -y : y);
}
#endif
