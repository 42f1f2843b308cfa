/* Structs that cross the library's boundary begin with their size, so that programs built against an older or
 * a newer header work. */
#include "rt.h"
#include <string.h>
#include <time.h>

ccc_status rt_args(void *to, size_t to_B, const void *from, const char *what, ccc_err *err)
{
    memset(to, 0, to_B);
    if (!from) return CCC_OK;
    size_t size_B;
    memcpy(&size_B, from, sizeof size_B);
    if (size_B < sizeof size_B || size_B > 4096)
        return ccc_fail(err, CCC_E_ARG, "%s: size_B is %zu; set it to the size of the struct", what, size_B);
    memcpy(to, from, size_B < to_B ? size_B : to_B);
    for (size_t i = to_B; i < size_B; i++)
        if (((const uint8_t *)from)[i])
            return ccc_fail(err, CCC_E_VERSION,
                            "%s: a field is set that this version of the library does not know", what);
    return CCC_OK;
}

void rt_result(void *to, const void *from, size_t from_B)
{
    size_t size_B;
    memcpy(&size_B, to, sizeof size_B);
    size_t n = size_B < from_B ? size_B : from_B;
    if (n > sizeof size_B)
        memcpy((char *)to + sizeof size_B, (const char *)from + sizeof size_B, n - sizeof size_B);
}

double rt_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int cccrt_abi_version(void)
{
    return CCCRT_ABI;
}
const char *cccrt_version(void)
{
    return "0.1.0";
}
