/* Arena, buffers, files. */
#include "../../ir/base.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Test(ir_base, arena_gives_zeroed_aligned_memory)
{
    ccc_arena *a = ccc_arena_new();
    char *before = NULL;
    for (size_t n = 1; n < 3000000; n = n * 3 + 1) {
        char *p = ccc_arena_alloc(a, n), *q = ccc_arena_alloc(a, 1);
        cr_assert(p && q && (uintptr_t)p % 16 == 0 && p != before);
        for (size_t i = 0; i < n; i++) cr_assert_eq(p[i], 0);
        memset(p, 1, n);
        cr_assert_eq(*q, 0);
        before = p;
    }
    cr_expect_str_eq(ccc_arena_printf(a, "%s-%d", "layer", 3), "layer-3");
    cr_expect_str_eq(ccc_arena_strndup(a, "abcdef", 3), "abc");
    cr_expect_null(ccc_arena_alloc(a, SIZE_MAX));
    cr_expect_null(ccc_arena_strndup(a, "", SIZE_MAX));
    ccc_arena_free(a);
    ccc_arena_free(NULL);
}

Test(ir_base, buffers_grow_and_end_with_zero)
{
    ccc_buf b = {0};
    ccc_buf_printf(&b, "%d", 7);
    for (int i = 0; i < 1000; i++) ccc_buf_put(&b, "x", 1);
    cr_expect_eq(b.size_B, 1001);
    cr_expect_eq(b.data[b.size_B], 0);
    ccc_buf_free(&b);
    ccc_buf_u16(&b, 0x0102);
    ccc_buf_u32(&b, 0x03040506);
    ccc_buf_u64(&b, 1);
    ccc_buf_u8(&b, 9);
    ccc_buf_str(&b, "ab");
    cr_expect_arr_eq(b.data, "\2\1\6\5\4\3\1\0\0\0\0\0\0\0\11\2\0\0\0ab", b.size_B);
    cr_expect_eq(b.size_B, 21);
    ccc_buf_put(&b, "", SIZE_MAX / 2); /* cannot be had; what is there stays */
    cr_expect(b.failed && b.size_B == 21);
    ccc_buf_put(&b, "x", 1);
    cr_expect_eq(b.size_B, 21);
    ccc_buf_free(&b);
    cr_expect(!b.failed);
}

Test(ir_base, files_are_whole_or_not_there)
{
    char dir[] = "/tmp/ccc-base-XXXXXX", path[64], missing[64];
    ccc_buf b = {0};
    ccc_err err;
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    snprintf(missing, sizeof missing, "%s/no/file", dir);
    cr_expect_eq(ccc_write_file(path, "one", 3, &err), CCC_OK);
    cr_expect_eq(ccc_write_file(path, "twice", 5, &err), CCC_OK);
    cr_expect_eq(ccc_read_file(&b, path, &err), CCC_OK);
    cr_expect_str_eq(b.data, "twice");
    cr_expect_eq(ccc_write_file(missing, "", 0, &err), CCC_E_IO);
    cr_expect_not_null(strstr(err.msg, "cannot write '"));
    cr_expect_eq(ccc_read_file(&b, missing, &err), CCC_E_IO);
    cr_expect_not_null(strstr(err.msg, "No such file or directory"));
    cr_expect_eq(ccc_read_file(&b, dir, &err), CCC_E_IO);
    cr_expect_eq(ccc_write_file("/dev/null", "x", 1, &err), CCC_OK);
    struct stat st;
    cr_expect(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
    ccc_buf_free(&b);
    unlink(path);
    cr_expect_eq(rmdir(dir), 0, "a temporary file was left");
}
