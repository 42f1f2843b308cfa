/* The least that any process on the GPU pays: libcuda opened, cuInit, the primary context. Writes one byte when it has them, as a process
 * that is measured writes its first token; then ends. gcc -std=c17 -O2 -o bare bare.c -ldl */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW), *context = NULL;
    if (!lib) return fprintf(stderr, "bare: %s\n", dlerror()), 1;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(lib, "cuDevicePrimaryCtxRetain");
    int r = !init || !retain ? -1 : init(0);
    if (!r) r = retain(&context, 0);
    if (r) return fprintf(stderr, "bare: driver error %d\n", r), 1;
    return write(1, "x", 1) != 1;
}
