/* A machine that fails on request: the n-th allocation is refused, or the n-th call that reads, writes or
 * maps a file fails, transfers a part, or finds the disk full. The linker sends the calls of our libraries
 * here (--wrap); without sanitizers, allocations of all libraries pass through here too, because this
 * program's malloc is everybody's. */
#ifndef SHIM_H
#define SHIM_H
#include <stdbool.h>

typedef enum {
    SHIM_NOTHING,
    SHIM_MEMORY,  /* the n-th allocation is refused */
    SHIM_CALL,    /* the n-th call fails with EIO */
    SHIM_PARTIAL, /* the n-th read or write transfers a part: no fault, callers go on */
    SHIM_CUT,     /* the n-th read finds the end of the file */
    SHIM_FULL     /* the n-th write and all after it: no space left */
} shim_fault;
void shim_arm(shim_fault fault, long n); /* n from 1 */
bool shim_disarm(void);                  /* did it happen? */
const char *shim_what(void);             /* the call that failed */
long shim_live(void);                    /* allocations not freed yet, descriptors not closed yet, mappings */
long shim_allocations(void);             /* so far */
#endif
