/* Where the programs look for things. The libraries never read the environment; this file does. */
#ifndef CCC_TOOL_PATHS_H
#define CCC_TOOL_PATHS_H
#include <stddef.h>
/* $XDG_CACHE_HOME/ccc, else $HOME/.cache/ccc, else /tmp/ccc-UID */
void path_cache_dir(char *out, size_t size_B);
/* Folders in which ptxas may lie, joined by colons: PATH, /usr/local/cuda/bin, and the cache folder's bin (where tools/quickstart puts it). */
void path_program_dirs(char *out, size_t size_B);
#endif
