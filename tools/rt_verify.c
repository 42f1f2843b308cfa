/* cccrt verify: every hash, offset and parameter of an artifact. Runs nothing, maps nothing executable. */
#include "cmd.h"
#include "opt.h"
#include "../runtime/cccrt.h"
#include <stdio.h>

int rt_verify(int argc, char **argv)
{
    static const char program[] = "cccrt verify";
    const char *path = NULL;
    int n_args, status = opt_parse(argc, argv, (opt[]){ { 0 } }, program, "FILE.ccart", "Checks every hash and structure of an artifact. Exit status 0: whole.", &path, 1, &n_args);
    if (status >= 0) return status;
    if (!n_args) return opt_usage(program, "no artifact given");
    cccrt_artifact *a = NULL;
    ccc_err err = { 0 };
    ccc_status st = cccrt_artifact_open(&a, path, NULL, &err);
    if (st == CCC_OK) st = cccrt_artifact_verify(a, &err);
    cccrt_artifact_close(a);
    if (st != CCC_OK) return opt_fail("cccrt", &err);
    printf("%s: whole\n", path);
    return 0;
}
