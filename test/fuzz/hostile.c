/* Damaged and hostile artifacts, very many of them. hostile FILE [N] [SEED]:
 *   every byte of FILE changed and every length of it cut: always an error;
 *   N artifacts made from its skeleton (use.h) by change.c, hashes made right: opened, verified, attached and
 * stepped on the CPU and on the fake driver: an error or a success, no crash, no address outside its buffer
 * in any launch, no more than 20 s for any of them. Children do the work, a few hundred inputs each; the
 * input that broke one is written to hostile-SEED-I.ccart. */
#define _GNU_SOURCE
#include "seal.h"
#include "use.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

unsigned long fake_wild_addresses(void); /* of the fake driver */
enum { BATCH = 250, SECONDS = 20, ROOM_EXTRA_B = 8192 };
enum { MOST_MB = 1024 }; /* all that use.c lets through, at 64 MB a buffer, and what a sanitizer keeps */
typedef struct {
    uint64_t at;
    use_counts n;
} shared_state;

static uint8_t *read_file(const char *path, size_t *size_B)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    if (f && fseek(f, 0, SEEK_END) == 0 && ftell(f) > 0) {
        *size_B = (size_t)ftell(f);
        rewind(f);
        data = malloc(*size_B);
        if (data && fread(data, 1, *size_B, f) != *size_B) *size_B = 0;
    }
    if (f) fclose(f);
    if (!data || !*size_B) use_fail(path, "cannot be read");
    return data;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- plain damage: hashes not made right */
static void refused(const void *data, size_t n, const char *what, size_t at)
{
    static const use_devices none;
    use_counts c = {0};
    char place[32];
    use_artifact(data, n, &none, &c);
    snprintf(place, sizeof place, "%zu", at);
    if (c.opened) use_fail(what, place);
}

static uint64_t flip_and_cut(const uint8_t *file, size_t n, unsigned values)
{
    uint64_t tried = 0;
    uint8_t *copy = malloc(n);
    if (!copy) abort();
    memcpy(copy, file, n);
    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < values; k++, tried++) {
            copy[i] ^= (uint8_t)(values == 1 ? 1 << i % 8 : k < 8 ? 1 << k : 0xff);
            refused(copy, n, "a changed byte was accepted", i);
            copy[i] = file[i];
        }
    free(copy);
    size_t page_B = (size_t)sysconf(_SC_PAGESIZE), span_B = (n + page_B - 1) / page_B * page_B;
    uint8_t *wall = mmap(NULL, span_B + page_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (wall == MAP_FAILED || mprotect(wall + span_B, page_B, PROT_NONE)) abort();
    for (size_t cut = n; cut-- > 0; tried++) { /* each ends where reading faults */
        memmove(wall + span_B - cut, cut == n - 1 ? file : wall + span_B - cut - 1, cut);
        refused(wall + span_B - cut, cut, "a part of a file was accepted", cut);
    }
    munmap(wall, span_B + page_B);
    return tried;
}

/* ---- hostile files */
static void open_devices(use_devices *d)
{
    cccrt_device_args cpu = {.size_B = sizeof cpu, .kind = "cpu", .n_threads = 1},
                      cuda = {.size_B = sizeof cuda, .kind = "cuda"};
    ccc_err err = {0};
    if (cccrt_device_open(&d->cpu, &cpu, &err) != CCC_OK ||
        cccrt_device_open(&d->cuda, &cuda, &err) != CCC_OK)
        use_fail("devices", err.msg);
}

static void close_devices(use_devices *d)
{
    cccrt_device_close(d->cpu);
    cccrt_device_close(d->cuda);
}

static void run_batch(const seal_base *base, uint64_t seed, uint64_t from, uint64_t end, shared_state *at)
{
    use_devices d;
    size_t room_B = base->plain_B + base->packed_B + ROOM_EXTRA_B;
    uint8_t *to = malloc(room_B);
    if (!to) abort();
    open_devices(&d);
    for (uint64_t i = from; i < end; i++) {
        seal_random r = {seed * 1000003 + i};
        at->at = i;
        size_t n = seal_change(base, &r, to, room_B);
        uint8_t *exact = malloc(n ? n : 1); /* its own size, so that a read behind it is seen */
        if (!exact) abort();
        memcpy(exact, to, n);
        alarm(SECONDS);
        use_artifact(exact, n, &d, &at->n);
        free(exact);
        if (fake_wild_addresses()) use_fail("a launch", "got an address outside its buffer");
    }
    alarm(0);
    close_devices(&d);
    free(to);
}

static void keep(const seal_base *base, uint64_t seed, uint64_t i)
{
    char name[64];
    size_t room_B = base->plain_B + base->packed_B + ROOM_EXTRA_B;
    uint8_t *to = malloc(room_B);
    seal_random r = {seed * 1000003 + i};
    size_t n = to ? seal_change(base, &r, to, room_B) : 0;
    snprintf(name, sizeof name, "hostile-%llu-%llu.ccart", (unsigned long long)seed, (unsigned long long)i);
    FILE *f = fopen(name, "wb");
    if (f) fwrite(to, 1, n, f), fclose(f);
    free(to);
    fprintf(stderr, "hostile: input %s broke a process\n", name);
}

static int hostile(const seal_base *base, uint64_t n, uint64_t seed, shared_state *at)
{
    int bad = 0;
    for (uint64_t from = 0; from < n && bad < 8;) {
        uint64_t end = from + BATCH < n ? from + BATCH : n;
        fflush(NULL);
        pid_t pid = fork();
        if (!pid) {
            run_batch(base, seed, from, end, at);
            exit(0); /* with the leak checker */
        }
        int status;
        if (waitpid(pid, &status, 0) != pid) return 1;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            from = end;
            continue;
        }
        keep(base, seed, at->at);
        bad++;
        from = at->at + 1;
    }
    return bad;
}

/* hostile --use FILE...: each once, in this process. */
static int use_files(int n, char **path)
{
    use_devices d;
    use_counts c = {0};
    open_devices(&d);
    for (int i = 0; i < n; i++) {
        size_t size_B;
        uint8_t *file = read_file(path[i], &size_B);
        alarm(SECONDS);
        use_artifact(file, size_B, &d, &c);
        free(file);
        if (fake_wild_addresses()) use_fail(path[i], "a launch got an address outside its buffer");
    }
    close_devices(&d);
    printf("%d files: %u opened, %u attached, %u sessions, %u steps\n", n, c.opened, c.attached, c.sessions,
           c.steps);
    return 0;
}

int main(int argc, char **argv)
{
    size_t size_B;
    if (argc < 2) return 2;
    setenv("FAKE_CUDA_MEMORY", "0x10000000", 1);
    if (strcmp(argv[1], "--use") == 0) return use_files(argc - 2, argv + 2);
    uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 0) : 1000,
             seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    uint8_t *file = read_file(argv[1], &size_B);
    use_skeleton s;
    use_make_skeleton(&s, file, size_B);
    double start = now();
    uint64_t tried = flip_and_cut(file, size_B, 1) + flip_and_cut(s.packed, s.packed_B, 9);
    printf("%llu damaged files, all refused, %.1f s (%zu and %zu bytes)\n", (unsigned long long)tried,
           now() - start, size_B, s.packed_B);
    seal_base base = {.plain = s.plain, .plain_B = s.plain_B, .packed = s.packed, .packed_B = s.packed_B};
    if (!seal_watch(&base.fields, s.plain, s.plain_B)) use_fail("skeleton", "is not read");
    shared_state *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return 1;
    start = now();
    int bad = hostile(&base, n, seed, at);
    printf("%llu hostile files (of %zu bytes, %u numbers): %u opened, %u attached, %u sessions, %u steps, %d "
           "broke something, %.1f s\n",
           (unsigned long long)n, s.plain_B, base.fields.n, at->n.opened, at->n.attached, at->n.sessions,
           at->n.steps, bad, now() - start);
    struct rusage used;
    if (getrusage(RUSAGE_CHILDREN, &used) != 0) return 1;
    printf("no process took more than %ld MB\n", used.ru_maxrss >> 10);
    if (used.ru_maxrss >> 10 > MOST_MB) use_fail("hostile", "memory beyond what the files declare");
    if (n >= 1000 && (at->n.sessions < n / 100 || at->n.steps < n / 100))
        use_fail("hostile", "next to nothing got through: this tests nothing");
    seal_fields_free(&base.fields);
    free(s.plain);
    free(s.packed);
    free(file);
    return bad != 0;
}
