/* The cache: an object is found by exactly its factors, survives nothing that damages it, and is never seen
 * half written. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../../cache/cache.h"

static char dir[64];
static ccc_cache *cache;
static ccc_err err;

static void set_up(void)
{
    strcpy(dir, "/tmp/ccc-test-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(ccc_cache_open(&cache, dir, &err), CCC_OK, "%s", err.msg);
    cr_assert_null(ccc_cache_warning(cache));
}

static void tear_down(void)
{
    uint64_t freed_B;
    ccc_cache_clear(cache, &freed_B, NULL);
    ccc_cache_close(cache);
    cr_expect_eq(rmdir(dir), 0, "something is left in %s", dir);
}
TestSuite(cache, .init = set_up, .fini = tear_down);

static ccc_factors factors(const char *name, int64_t n)
{
    ccc_factors f = {0};
    ccc_factor_str(&f, "label", name);
    ccc_factor_int(&f, "n", n);
    return f;
}

static void put(const char *name, int64_t n, const char *payload)
{
    ccc_factors f = factors(name, n);
    cr_assert_eq(ccc_cache_put(cache, CCC_CACHE_KERNEL, &f, payload, strlen(payload), &err), CCC_OK, "%s",
                 err.msg);
    ccc_factors_free(&f);
}

static bool get(const char *name, int64_t n, const char *payload) /* found; then it must be the payload */
{
    ccc_factors f = factors(name, n);
    ccc_buf b = {0};
    bool found;
    cr_assert_eq(ccc_cache_get(cache, CCC_CACHE_KERNEL, &f, &b, &found, &err), CCC_OK, "%s", err.msg);
    if (found) {
        cr_expect_eq(b.size_B, strlen(payload));
        cr_expect_str_eq(b.data, payload);
    }
    ccc_buf_free(&b);
    ccc_factors_free(&f);
    return found;
}

static void path_of(const char *name, int64_t n, char out[200])
{
    ccc_factors f = factors(name, n);
    char hex[33];
    ccc_key_hex(ccc_factors_key(&f), hex);
    snprintf(out, 200, "%s/v1/kernel/%.2s/%s", dir, hex, hex + 2);
    ccc_factors_free(&f);
}

Test(cache, a_hit_needs_the_same_factors)
{
    cr_expect_not(get("x", 1, "one"));
    put("x", 1, "one");
    put("x", 2, "two");
    cr_expect(get("x", 1, "one"));
    cr_expect(get("x", 2, "two"));
    cr_expect_not(get("x", 3, ""));
    cr_expect_not(get("y", 1, ""));
    ccc_factors f = factors("x", 1);
    ccc_buf b = {0};
    bool found;
    cr_expect_eq(ccc_cache_get(cache, CCC_CACHE_ARTIFACT, &f, &b, &found, &err), CCC_OK);
    cr_expect_not(found, "kinds are apart");
    ccc_factors_free(&f);
}

Test(cache, names_and_values_do_not_run_together)
{
    ccc_factors a = {0}, b = {0};
    ccc_factor_str(&a, "ab", "c");
    ccc_factor_str(&b, "a", "bc");
    ccc_key ka = ccc_factors_key(&a), kb = ccc_factors_key(&b);
    cr_expect_neq(memcmp(&ka, &kb, sizeof ka), 0);
    ccc_factors_free(&a);
    ccc_factors_free(&b);
}

Test(cache, every_damaged_byte_is_a_miss)
{
    char path[200];
    put("x", 1, "payload");
    path_of("x", 1, path);
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    for (off_t i = 0; i < st.st_size; i++) {
        int fd = open(path, O_RDWR);
        uint8_t c, bad;
        cr_assert_eq(pread(fd, &c, 1, i), 1);
        bad = c ^ 0x40;
        cr_assert_eq(pwrite(fd, &bad, 1, i), 1);
        cr_expect_not(get("x", 1, ""), "byte %d", (int)i);
        cr_expect_not_null(ccc_cache_warning(cache), "byte %d", (int)i);
        cr_assert_eq(pwrite(fd, &c, 1, i), 1);
        close(fd);
    }
    cr_expect(get("x", 1, "payload"));
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        cr_assert_eq(truncate(path, n), 0);
        cr_expect_not(get("x", 1, ""), "%d bytes", (int)n);
    }
    put("x", 1, "payload"); /* and it heals */
    cr_expect(get("x", 1, "payload"));
}

Test(cache, another_object_under_the_name_is_a_miss)
{
    char x[200], y[200];
    put("x", 1, "of x");
    put("y", 1, "of y");
    path_of("x", 1, x);
    path_of("y", 1, y);
    cr_assert_eq(rename(y, x), 0);
    cr_expect_not(get("x", 1, ""));
    cr_expect(strstr(ccc_cache_warning(cache), "other factors"));
}

Test(cache, a_folder_or_link_in_the_place_of_an_object_is_a_miss)
{
    char path[200];
    put("x", 1, "one");
    path_of("x", 1, path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(symlink("/etc/hostname", path), 0);
    cr_expect_not(get("x", 1, ""));
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_not(get("x", 1, ""), "and does not block");
}

Test(cache, an_unusable_folder_is_a_warning)
{
    ccc_cache *c;
    cr_assert_eq(ccc_cache_open(&c, "/dev/null/x", &err), CCC_OK);
    cr_expect(strstr(ccc_cache_warning(c), "/dev/null/x"));
    cr_expect_null(ccc_cache_warning(c), "told once");
    ccc_factors f = factors("x", 1);
    ccc_buf b = {0};
    bool found = true;
    cr_expect_eq(ccc_cache_put(c, CCC_CACHE_KERNEL, &f, "a", 1, &err), CCC_OK);
    cr_expect_not_null(ccc_cache_warning(c));
    cr_expect_eq(ccc_cache_get(c, CCC_CACHE_KERNEL, &f, &b, &found, &err), CCC_OK);
    cr_expect_not(found);
    ccc_factors_free(&f);
    ccc_cache_close(c);
}

Test(cache, a_write_that_fails_is_a_warning)
{
    char path[200], sub[200];
    path_of("x", 1, path);
    put("x", 1, "one");
    cr_assert_eq(unlink(path), 0);
    snprintf(sub, sizeof sub, "%.*s", (int)(strrchr(path, '/') - path), path);
    cr_assert_eq(rmdir(sub), 0);
    FILE *f = fopen(sub, "w"); /* a file where the folder should be: writing must fail */
    cr_assert(f);
    fclose(f);
    put("x", 1, "one");
    cr_expect_not_null(ccc_cache_warning(cache));
    cr_expect_not(get("x", 1, ""));
    unlink(sub);
}

Test(cache, a_folder_for_everybody_is_a_warning)
{
    ccc_cache *c;
    cr_assert_eq(chmod(dir, 0777), 0);
    cr_assert_eq(ccc_cache_open(&c, dir, &err), CCC_OK);
    cr_expect(strstr(ccc_cache_warning(c), "writable by other users"));
    ccc_cache_close(c);
}

enum { WRITERS = 8, ROUNDS = 60 };
static void payload_of(int64_t n, char *out, size_t size_B) /* told by n alone */
{
    for (size_t i = 0; i + 1 < size_B; i++) out[i] = (char)('a' + (n * 7 + (int64_t)i * (n + 3)) % 26);
    out[size_B - 1] = 0;
}

Test(cache, eight_processes_write_the_same_objects)
{
    enum { SIZE_B = 100000 };
    static char want[SIZE_B];
    pid_t pid[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pid[w] = fork();
        if (pid[w]) continue;
        int wrong = 0;
        for (int r = 0; r < ROUNDS; r++) {
            int64_t n = r % 4;
            ccc_factors f = factors("shared", n);
            ccc_buf b = {0};
            bool found;
            payload_of(n, want, SIZE_B);
            wrong |= ccc_cache_put(cache, CCC_CACHE_KERNEL, &f, want, SIZE_B, NULL) != CCC_OK;
            wrong |= ccc_cache_get(cache, CCC_CACHE_KERNEL, &f, &b, &found, NULL) != CCC_OK;
            wrong |=
                !found || b.size_B != SIZE_B || memcmp(b.data, want, SIZE_B) != 0 || ccc_cache_warning(cache);
            ccc_buf_free(&b);
            ccc_factors_free(&f);
        }
        _exit(wrong);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        cr_assert_eq(waitpid(pid[w], &status, 0), pid[w]);
        cr_expect_eq(status, 0);
    }
}

typedef struct {
    int n, damaged;
    ccc_key last;
} seen;
static void visit(void *payload, ccc_cache_kind kind, ccc_key key, uint64_t size_B, const char *label,
                  const char *status)
{
    seen *s = payload;
    cr_expect_eq(kind, CCC_CACHE_KERNEL);
    cr_expect_gt(size_B, 0);
    cr_expect(s->n == 0 || memcmp(&s->last, &key, sizeof key) < 0, "in order");
    s->last = key;
    s->n++;
    s->damaged += status != NULL;
    cr_expect_str_eq(label, status ? "" : "thing");
}

Test(cache, list_and_clear_touch_our_objects_alone)
{
    char path[200], own[200];
    for (int i = 0; i < 20; i++) put("thing", i, "payload");
    path_of("thing", 3, path);
    cr_assert_eq(truncate(path, 45), 0);
    seen s = {0};
    cr_expect_eq(ccc_cache_list(cache, true, visit, &s, &err), CCC_OK);
    cr_expect_eq(s.n, 20);
    cr_expect_eq(s.damaged, 1);
    snprintf(own, sizeof own, "%s/notes", dir);
    FILE *f = fopen(own, "w");
    cr_assert(f);
    fclose(f);
    uint64_t freed_B;
    cr_expect_eq(ccc_cache_clear(cache, &freed_B, &err), CCC_OK);
    cr_expect_gt(freed_B, 0);
    cr_expect_eq(access(own, F_OK), 0);
    cr_expect_not(get("thing", 1, ""));
    unlink(own);
}

/* ---- gc */
static void used(const char *name, int64_t n, int hours_ago)
{
    char path[200];
    struct timespec t[2] = {{.tv_sec = time(NULL) - hours_ago * 3600}, {.tv_sec = time(NULL) - hours_ago * 3600}};
    path_of(name, n, path);
    cr_assert_eq(utimensat(AT_FDCWD, path, t, 0), 0);
}

Test(cache, gc_takes_what_was_not_used_for_longest)
{
    uint64_t freed_B, left_B, all_B;
    for (int64_t i = 0; i < 6; i++) put("x", i, "a payload");
    for (int64_t i = 0; i < 6; i++) used("x", i, 10 + (int)i);
    cr_expect(get("x", 5, "a payload")); /* the oldest is used now */
    cr_assert_eq(ccc_cache_gc(cache, UINT64_MAX, &freed_B, &all_B, &err), CCC_OK);
    cr_expect_eq(freed_B, 0);
    cr_assert_eq(ccc_cache_gc(cache, all_B / 2, &freed_B, &left_B, &err), CCC_OK);
    cr_expect(left_B == all_B / 2 && freed_B == all_B - left_B);
    for (int64_t i = 0; i < 6; i++) cr_expect_eq(get("x", i, "a payload"), i < 2 || i == 5, "object %d", (int)i);
    cr_assert_eq(ccc_cache_gc(cache, 0, &freed_B, &left_B, &err), CCC_OK);
    cr_expect_eq(left_B, 0);
    cr_expect_not(get("x", 0, ""));
}

Test(cache, gc_takes_files_of_dead_writers_alone)
{
    char path[200], old[260], young[260], foreign[260];
    uint64_t freed_B, left_B;
    put("x", 1, "payload");
    path_of("x", 1, path);
    *strrchr(path, '/') = 0;
    snprintf(old, sizeof old, "%s/tmp.abcdef", path);
    snprintf(young, sizeof young, "%s/tmp.ghijkl", path);
    snprintf(foreign, sizeof foreign, "%s/notes.txt", path);
    const char *const all[] = {old, young, foreign};
    for (int i = 0; i < 3; i++) {
        FILE *f = fopen(all[i], "w");
        cr_assert(f && fputs("half", f) >= 0 && fclose(f) == 0);
    }
    struct timespec t[2] = {{.tv_sec = time(NULL) - 8000}, {.tv_sec = time(NULL) - 8000}};
    cr_assert_eq(utimensat(AT_FDCWD, old, t, 0), 0);
    cr_assert_eq(utimensat(AT_FDCWD, foreign, t, 0), 0);
    cr_assert_eq(ccc_cache_gc(cache, 0, &freed_B, &left_B, &err), CCC_OK);
    cr_expect_neq(access(old, F_OK), 0);
    cr_expect_eq(access(young, F_OK), 0);
    cr_expect_eq(access(foreign, F_OK), 0);
    unlink(young);
    unlink(foreign);
}
