/* The check that a kernel may be launched before its predecessor has ended: it must see the waits that are
 * there, and above all must not see one that is not. */
#include <criterion/criterion.h>
#include "../../compiler/codegen_impl.h"

Test(codegen_pdl, sees_who_waits)
{
    static const bool waits[] = {true, true, true, true, false, false, false, false, false};
    for (int n = 0; n < (int)(sizeof waits / sizeof *waits); n++) {
        char path[512];
        ccc_err err;
        ccc_buf bc = {0};
        ccc_specialised out;
        snprintf(path, sizeof path, "%s/codegen_pdl_%d.bc", CODEGEN_OBJECTS, n);
        cr_assert_eq(ccc_read_file(&bc, path, &err), CCC_OK, "%s", err.msg);
        ccc_template t = {"pdl",
                          CCC_TARGET_CUDA,
                          "",
                          CCC_TEMPLATE_PDL,
                          16,
                          (uint8_t *)bc.data,
                          (uint8_t *)bc.data + bc.size_B};
        ccc_kernel_req req = {.target = ccc_target_find("sm_90a"), .tmpl = "pdl", .threads = 64};
        cr_assert_eq(ccc_specialise(&out, &t, &req, "k", 3, false, &err), CCC_OK, "case %d: %s", n, err.msg);
        cr_expect_eq(out.waits, waits[n], "case %d", n);
        ccc_buf_free(&out.code);
        ccc_buf_free(&out.ll);
        ccc_buf_free(&bc);
    }
}
