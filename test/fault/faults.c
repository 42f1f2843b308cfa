/* Failing machines: faults TINY.ccart MODEL_FOLDER WORK_FOLDER [EVERY [OPERATION]]. Each operation below is
 * done with the n-th allocation refused, for all n until nothing was refused; then with the n-th call on
 * files failing, transferring a part, finding the end, finding the disk full. Each time: a clear error or the
 * right result; nothing leaked, no file left half-written; and the same operation, tried again, succeeds.
 * EVERY: after the first 100, one n in so many alone (slow builds). */
#define _GNU_SOURCE
#include "ops.h"
#include "shim.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 200000, ALL_UP_TO = 100, TRY_AGAIN_EVERY = 16 };
static const struct {
    shim_fault fault;
    const char *name;
} faults[] = {
    {SHIM_MEMORY, "allocation refused"},
    {SHIM_CALL, "call fails"},
    {SHIM_PARTIAL, "part transferred"},
    {SHIM_CUT, "file ends"},
    {SHIM_FULL, "disk full"},
};
static long every = 1;

static int complain(const char *name, const char *fault, long n, const char *what, const char *detail)
{
    fprintf(stderr, "faults: %s, %s %ld (%s): %s: %s\n", name, fault, n, shim_what(), what, detail);
    return 1;
}

/* Every file of a folder and below must have a name that somebody meant. */
static unsigned left_over(const char *folder)
{
    DIR *d = opendir(folder);
    unsigned n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        n += strncmp(e->d_name, "tmp.", 4) == 0 || strstr(e->d_name, ".ccw.") != NULL;
        if (e->d_type == DT_DIR) n += left_over(path);
    }
    if (d) closedir(d);
    return n;
}

/* One round; *done when the fault did not happen any more. */
static int round_of(const op *o, unsigned f, long n, bool *done, unsigned *absorbed)
{
    ccc_err err = {0};
    ccc_buf out = {0};
    o->before();
    long live = shim_live();
    shim_arm(faults[f].fault, n);
    ccc_status status = o->run(&out, &err);
    bool happened = shim_disarm();
    bool right = status != CCC_OK || op_right(o, &out);
    ccc_buf_free(&out);
    long leaked = shim_live() - live;
    *done = !happened;
    *absorbed += happened && status == CCC_OK;
    if (!happened && status != CCC_OK)
        return complain(o->name, faults[f].name, n, "failed without a fault", err.msg);
    if (!right) return complain(o->name, faults[f].name, n, "said it succeeded", "with a wrong result");
    if (status != CCC_OK && (err.code != status || !*err.msg || strchr(err.msg, '\n')))
        return complain(o->name, faults[f].name, n, "no clear error", err.msg);
    if (status != CCC_OK && faults[f].fault == SHIM_PARTIAL)
        return complain(o->name, faults[f].name, n, "a part is no fault", err.msg);
    if (status != CCC_OK && (status == CCC_E_NOMEM) != (faults[f].fault == SHIM_MEMORY) &&
        !o->vague(faults[f].fault, shim_what(), status))
        return complain(o->name, faults[f].name, n, "another thing is blamed", err.msg);
    if (left_over(op_folder)) return complain(o->name, faults[f].name, n, "a file was left half-written", "");
    if (leaked && !(o->loads_llvm && faults[f].fault != SHIM_MEMORY))
        return complain(o->name, faults[f].name, n, "something leaked", "");
    return 0;
}

static int sweep(const op *o, unsigned f)
{
    unsigned absorbed = 0;
    int bad = 0;
    bool done = false;
    long n = 1, points = 0;
    for (; n < MOST && bad < 5; n += n < ALL_UP_TO ? 1 : every, points++) {
        bad += round_of(o, f, n, &done, &absorbed);
        if (done) break;
        if (n > ALL_UP_TO && points % TRY_AGAIN_EVERY) continue;
        ccc_err err = {0};
        ccc_buf out = {0};
        if (o->run(&out, &err) != CCC_OK || !op_right(o, &out))
            bad += complain(o->name, faults[f].name, n, "a second try fails", err.msg);
        ccc_buf_free(&out);
    }
    if (!done && bad < 5) bad += complain(o->name, faults[f].name, n, "it never succeeded", "");
    printf("%-20s %-20s %6ld points, %u of them without harm%s\n", o->name, faults[f].name, points, absorbed,
           bad ? "  FAILED" : "");
    if (faults[f].fault == SHIM_MEMORY && n < 5)
        bad += complain(o->name, faults[f].name, n, "next to nothing was refused", "");
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;
    if (argc < 4) return 2;
    const char *only = argc > 5 ? argv[5] : NULL;
    if (argc > 4) every = atol(argv[4]);
    if (every < 1) return 2;
    if (op_setup(argv[1], argv[2], argv[3])) return 1;
    for (const op *o = ops; o->name; o++) {
        if (only && strcmp(only, o->name) != 0) continue;
        o->before();
        if (op_keep(o)) return 1; /* what is right, made twice so that what the C library keeps is there */
        for (unsigned f = 0; f < sizeof faults / sizeof *faults; f++) bad += sweep(o, f);
    }
    op_teardown();
    return bad != 0;
}
