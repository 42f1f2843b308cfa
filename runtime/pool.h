/* A pool of threads that runs a list of steps together: each step is dealt out in pieces, and none begins
 * before all pieces of the one before are done. Made for lists of hundreds of steps of a few
 * microseconds: threads spin a little before they sleep. */
#ifndef CCCRT_POOL_H
#define CCCRT_POOL_H
#include <stdint.h>
#include "ccc_err.h"

typedef struct rt_pool rt_pool;
typedef struct {
    void *payload;
    uint32_t n_steps;
    uint64_t (*pieces)(void *payload, uint32_t step);
    void (*piece)(void *payload, uint32_t step, uint64_t first, uint64_t end,
                  unsigned thread); /* pieces first .. end-1 */
} rt_pool_job;

ccc_status rt_pool_new(rt_pool **out, unsigned n_threads,
                       ccc_err *err); /* the caller of rt_pool_run is one of them */
void rt_pool_free(rt_pool *p);
/* Returns when every step is done. One run at a time: other callers wait. */
void rt_pool_run(rt_pool *p, const rt_pool_job *job);
unsigned rt_pool_threads(const rt_pool *p);
unsigned rt_pool_processors(void); /* that this process may run on */
#endif
