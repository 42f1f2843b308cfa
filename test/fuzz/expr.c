/* Fuzzes the expression code of artifacts: what passes the check evaluates without harm for values of every
 * size, and the set of variables is exactly the set that the result may depend on. */
#include "../../runtime/ccart_codec.h"
#include "file.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    static const int64_t values[] = {0, 1, -1, 7, 4096, INT32_MAX, INT64_MAX, INT64_MIN};
    enum { N = sizeof values / sizeof *values };
    ccart_expr e = {data, (uint32_t)size_B};
    uint32_t used = 0;
    ccc_err err = {0};
    if (size_B > UINT16_MAX) return 0;
    if (ccart_expr_check(&e, &used, &err) != CCC_OK) {
        fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        return 0;
    }
    for (unsigned k = 0; k < N; k++) {
        int64_t var[CCART_N_VARS], other[CCART_N_VARS], a = 0, b = 0;
        for (unsigned i = 0; i < CCART_N_VARS; i++) {
            var[i] = values[(k + i * (k + 1)) % N];
            other[i] = used >> i & 1 ? var[i] : values[(k + i + 3) % N];
        }
        bool fine = ccart_expr_eval(&e, var, &a);
        fuzz_require(fine == ccart_expr_eval(&e, other, &b) && (!fine || a == b));
    }
    return 0;
}
