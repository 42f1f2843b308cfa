/* A fuzzer's input as a file, for readers that want a path. In memory, one for the whole run. */
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H
#include <stddef.h>
#include <stdint.h>

const char *fuzz_file(const uint8_t *data, size_t size_B); /* its path */
void fuzz_require(int ok);                                 /* aborts if not */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B);
#endif
