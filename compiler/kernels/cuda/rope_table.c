/* The rotary table: row p holds cos, then sin, of the f32 product p * inv_freq[i], each correctly rounded (sincos.h) and multiplied by scale. */
#include "k.h"
#include "../attention_geometry.h"
#include "sincos.h"

KERNEL ccc_kernel(rope_table_args a)
{
    i64 n = (i64)a.rows * a.half, step = (i64)ncta() * CCC_LOAD_THREADS;
    for (i64 i = (i64)cta() * CCC_LOAD_THREADS + tid(); i < n; i += step) {
        i32 row = (i32)(i / a.half), k = (i32)(i % a.half);
        float s, c;
        float GLOBAL *dst = a.dst + (i64)row * 2 * a.half + k;
        ccc_sincos((float)row * a.inv_freq[k], &s, &c);
        dst[0] = c * a.scale;
        dst[a.half] = s * a.scale;
    }
}
