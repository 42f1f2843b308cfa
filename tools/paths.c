/* Where the programs look for things. */
#define _GNU_SOURCE
#include "paths.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void path_cache_dir(char *out, size_t size_B)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') snprintf(out, size_B, "%s/ccc", xdg);
    else if (home && home[0] == '/') snprintf(out, size_B, "%s/.cache/ccc", home);
    else snprintf(out, size_B, "/tmp/ccc-%u", (unsigned)getuid());
}

void path_program_dirs(char *out, size_t size_B)
{
    const char *path = getenv("PATH");
    char cache[4096];
    path_cache_dir(cache, sizeof cache);
    snprintf(out, size_B, "%s:/usr/local/cuda/bin:%s/bin", path ? path : "", cache);
}
