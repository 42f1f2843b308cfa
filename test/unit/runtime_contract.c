/* Numbers and structs that the runtime repeats because it depends on nothing else: they must be those of the
 * rest of the project. */
#include "../../ir/ir.h"
#include "../../compiler/kernels/abi.h"
#include "../../runtime/rt.h"
#include "../../runtime/tensors.h"
#include <criterion/criterion.h>
#include <string.h>

#define SAME_FIELD(f) _Static_assert(offsetof(host_ctx, f) == offsetof(rt_host_ctx, f), #f)
SAME_FIELD(block);
SAME_FIELD(grid);
SAME_FIELD(thread);
SAME_FIELD(n_threads);
SAME_FIELD(scratch);
_Static_assert(sizeof(host_ctx) == sizeof(rt_host_ctx), "host_ctx");
#define SAME_NUMBER(a, b) _Static_assert((int)(a) == (int)(b), #a)
SAME_NUMBER(CCART_F32, CCC_F32);
SAME_NUMBER(CCART_F16, CCC_F16);
SAME_NUMBER(CCART_BF16, CCC_BF16);
SAME_NUMBER(CCART_E4M3, CCC_E4M3);
SAME_NUMBER(CCART_I32, CCC_I32);
SAME_NUMBER(CCART_I64, CCC_I64);
SAME_NUMBER(CCART_N_DTYPES, CCC_N_DTYPES);
SAME_NUMBER(CCART_MAX_RANK, CCC_MAX_RANK);
SAME_NUMBER(sizeof(tmap_t), 128);

Test(contract, element_types)
{
    static const struct {
        const char *name;
        unsigned bytes, elems;
    } want[] = {
#define X(e, text, bytes, elems) {text, bytes, elems},
        CCC_DTYPES(X)
#undef X
    };
    for (uint32_t i = 1; i < CCC_N_DTYPES; i++) {
        uint64_t size_B;
        cr_assert_str_eq(ccart_dtype_name(i), want[i].name);
        cr_assert_eq(ccart_dtype_find(want[i].name), i);
        cr_assert(ccart_storage_B(i, 6 * want[i].elems, &size_B) && size_B == 6 * want[i].bytes);
        uint32_t block_B, elems;
        if (cccrt_dtype_size(i, &block_B, &elems))
            cr_assert(block_B == want[i].bytes && elems == want[i].elems &&
                      strcmp(cccrt_dtype_text(i), want[i].name) == 0);
    }
    cr_assert_null(ccart_dtype_name(CCC_N_DTYPES));
    cr_assert_eq(ccart_dtype_find("bf17"), 0);
}
