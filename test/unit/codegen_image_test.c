/* Flat images of host kernels: what can be laid out runs anywhere, what cannot is refused by name, and no
 * damage to the object makes the layout read or write outside its buffers (run under sanitizers). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "../../compiler/codegen_impl.h"

static ccc_err err;

static ccc_buf read_case(int n)
{
    char path[512];
    ccc_buf b = {0};
    snprintf(path, sizeof path, "%s/codegen_object_%d.o", CODEGEN_OBJECTS, n);
    cr_assert_eq(ccc_read_file(&b, path, &err), CCC_OK, "%s", err.msg);
    return b;
}

static int expected(int i) /* case 0 again, by the compiler of the tests */
{
    static const int table[4] = {3, 1, 4, 1};
    switch (i) {
    case 0:
        return table[1] * 2 + 10;
    case 1:
        return table[2] + 20;
    case 2:
        return table[3] * 2 + 30;
    case 3:
        return table[0] + 40;
    case 4:
        return table[1] * 2 + 50;
    case 5:
        return table[2] * i;
    }
    return (int)(1.5f * (float)i);
}

Test(codegen_image, runs_wherever_it_lies)
{
    ccc_buf object = read_case(0), image = {0};
    uint32_t at;
    cr_assert_eq(ccc_host_image(&image, &at, object.data, object.size_B, "entry", &err), CCC_OK, "%s",
                 err.msg);
    cr_assert_lt(at, image.size_B);
    uint8_t *m = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(m != MAP_FAILED && image.size_B < 1 << 14);
    for (int place = 0; place < 3; place++) memcpy(m + place * (1 << 14), image.data, image.size_B);
    cr_assert_eq(mprotect(m, 1 << 16, PROT_READ | PROT_EXEC), 0);
    for (int place = 0; place < 3; place++) {
        int (*entry)(int);
        void *p = m + place * (1 << 14) + at;
        memcpy(&entry, &p, sizeof entry);
        for (int i = 0; i < 10; i++) cr_expect_eq(entry(i), expected(i), "%d at place %d", i, place);
    }
    munmap(m, 1 << 16);
    ccc_buf_free(&object);
    ccc_buf_free(&image);
}

Test(codegen_image, what_needs_a_linker_is_refused)
{
    static const char *const because[] = {NULL,
                                          "writable data",
                                          "'elsewhere'",
                                          "thread-local",
                                          "addresses",
                                          "relocation type",
                                          "writable data",
                                          "no entry 'entry'",
                                          "entry is not code"};
    for (int n = 1; n < (int)(sizeof because / sizeof *because); n++) {
        ccc_buf object = read_case(n), image = {0};
        uint32_t at;
        cr_expect_neq(ccc_host_image(&image, &at, object.data, object.size_B, "entry", &err), CCC_OK,
                      "case %d", n);
        cr_expect(strstr(err.msg, because[n]), "case %d: expected '%s', got '%s'", n, because[n], err.msg);
        ccc_buf_free(&object);
        ccc_buf_free(&image);
    }
}

static bool
try_exactly(const char *data,
            size_t size_B) /* in a block of just that size, so that a sanitizer sees every overrun */
{
    uint8_t *copy = malloc(size_B ? size_B : 1);
    ccc_buf image = {0};
    uint32_t at = 0;
    cr_assert(copy);
    memcpy(copy, data, size_B);
    bool ok = ccc_host_image(&image, &at, copy, size_B, "entry", &err) == CCC_OK;
    if (ok) cr_expect_lt(at, image.size_B);
    ccc_buf_free(&image);
    free(copy);
    return ok;
}

Test(codegen_image, damaged_objects_are_survived)
{
    ccc_buf object = read_case(0);
    cr_assert(try_exactly(object.data, object.size_B));
    for (size_t n = 0; n < 64; n++) cr_expect_not(try_exactly(object.data, n), "%zu bytes", n);
    for (size_t n = 64; n < object.size_B; n += 3) try_exactly(object.data, n);
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < object.size_B; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            char was = object.data[i];
            object.data[i] = (char)values[v];
            try_exactly(object.data, object.size_B);
            object.data[i] = was;
        }
    ccc_buf_free(&object);
}
