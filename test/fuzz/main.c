/* Runs a fuzz target on given files and on all files of given folders, without libFuzzer: seeds and findings
 * are read in every build. */
#include "file.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned n_files;

static void run_file(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    uint8_t *data = f && stat(path, &st) == 0 ? malloc((size_t)st.st_size + !st.st_size) : NULL;
    if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
        perror(path);
        exit(1);
    }
    fclose(f);
    fprintf(stderr, "%s\n", path); /* the last one is the one that broke */
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    n_files++;
}

static void run(const char *path)
{
    DIR *d = opendir(path);
    if (!d) {
        run_file(path);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        char inner[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        run(inner);
    }
    closedir(d);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) run(argv[i]);
    printf("%u files\n", n_files);
    return n_files == 0;
}
