/* Fuzzes the import of a config.json: jansson's tree and our own scanner read the same text, and the graph
 * that comes out must verify. */
#define _GNU_SOURCE
#include "../../compiler/ccc.h"
#include "../../runtime/tensors.h"
#include "file.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[96];

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

static void write_config(const uint8_t *data, size_t size_B)
{
    static int fd = -1;
    if (fd < 0) {
        snprintf(folder, sizeof folder, "%s/ccc-fuzz-%ld",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
        snprintf(path, sizeof path, "%s/config.json", folder);
        fuzz_require(mkdir(folder, 0700) == 0 && atexit(remove_folder) == 0);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    fuzz_require(ftruncate(fd, 0) == 0 && pwrite(fd, data, size_B, 0) == (ssize_t)size_B);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    ccc_err err = {0};
    cccrt_fact facts[CCCRT_MAX_FACTS];
    uint32_t n = 0;
    ccc_config config;
    ccc_graph *g;
    char *text = malloc(size_B + 1); /* its own size, so that a read behind it is seen */
    fuzz_require(text != NULL);
    memcpy(text, data, size_B);
    if (cccrt_config_facts(text, size_B, "config.json", facts, &n, &err) == CCC_OK)
        fuzz_require(n <= CCCRT_MAX_FACTS);
    free(text);
    write_config(data, size_B);
    ccc_config_init(&config);
    err.msg[0] = 0;
    if (ccc_import(&g, folder, &(ccc_import_args){.config = &config}, &err) != CCC_OK) {
        fuzz_require(*err.msg && !strchr(err.msg, '\n'));
        return 0;
    }
    fuzz_require(ccc_ir_verify(g, &err) == CCC_OK);
    ccc_graph_free(g);
    return 0;
}
