/* A stand-in for libcuda.so.1: the entry points of runtime/cuda_api.h on host memory. It checks what the real
 * driver would refuse, and more: every address must lie inside a live allocation. Kernels are not run. For
 * tests alone; told what to do by the environment:
 *   FAKE_CUDA_LOG=FILE     each call becomes a line, with addresses as allocation number + offset, so that
 *                          logs can be compared
 *   FAKE_CUDA_FAIL=N[:R]   the N-th call (from 1) that can fail does, with result R (2: out of memory)
 *   FAKE_CUDA_SLOW=N       of each graph every N-th launch takes 50 ms
 *   FAKE_CUDA_CAPTURING    not 0: every stream is being captured
 *   FAKE_CUDA_CC, _SM, _CONTEXT_SM, _DRIVER, _MEMORY   the device that it plays
 * Files: fake_cuda.c (contexts, memory, streams, events), fake_graph.c (modules, launches, graphs). */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "../../runtime/cuda_api.h"

enum {
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    INVALID_HANDLE = 400,
    INVALID_IMAGE = 200,
    INITIAL_SHARED_B = 48 << 10
};
typedef enum { H_MODULE = 1, H_FUNCTION, H_STREAM, H_EVENT, H_GRAPH, H_NODE, H_EXEC } handle_kind;
typedef struct handle { /* first member of each object; objects are kept until the process ends, so that stale
                           ones are noticed */
    struct handle *next;
    handle_kind kind;
    unsigned number;
    bool dead;
} handle;

/* Begins a call: takes the lock, writes its name, and says whether it is to fail. Every entry point ends
       with fake_end. */
cu_result fake_begin(const char *name, bool needs_context);
cu_result fake_end(cu_result r);
void fake_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fake_log_pointer(uint64_t p);
void *fake_new(handle_kind kind, size_t size_B);
bool fake_is(const void *h, handle_kind kind); /* live and of that kind */
void fake_kill(void *h);
/* Is [p, p + size) inside one live allocation? Addresses outside of all fake memory are the host's own: fine
 * only if host_ok. */
bool fake_inside(uint64_t p, size_t size_B, bool host_ok);
bool fake_ours(uint64_t p); /* an address in the range of fake memory, allocated or not */
bool fake_near(uint64_t p); /* or so close to it that no number is meant */
int fake_setting(const char *name, int otherwise);
/* The entry points, declared from the list that libcccrt uses. */
#define X(name, symbol, params) cu_result symbol params;
CU_ENTRY_POINTS(X)
CU_OPTIONAL_POINTS(X)
#undef X
#endif
