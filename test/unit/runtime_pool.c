/* The thread pool: every piece is done once, by one thread at a time under its number, after all pieces of
 * the step before; with fewer processors than threads, with steps of no piece and of many, and when several
 * threads want to run. What one step writes the next reads without any atomics: ThreadSanitizer, which
 * Criterion does not run under, sees an order that is not kept. */
#include "../../runtime/pool.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 40, MOST = 600, THREADS = 7, RUNS = 60, CALLERS = 3 };
static const uint64_t sizes[] = {1, 2, 0, MOST, 55, 56, 57, 3, 0, 0, 111};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

typedef struct {
    uint32_t value[STEPS][MOST]; /* 1 + the largest of the step before */
    uint32_t times[STEPS][MOST];
    bool busy[THREADS];
    bool bad;
} state;

static uint64_t pieces(void *payload, uint32_t step)
{
    (void)payload;
    return sizes[step % N_SIZES];
}

static uint32_t before(const state *s, uint32_t step)
{
    uint32_t most = 0;
    while (step-- > 0) {
        for (uint64_t i = 0; i < pieces(NULL, step); i++)
            if (s->value[step][i] > most) most = s->value[step][i];
        if (pieces(NULL, step)) break;
    }
    return most;
}

static void piece(void *payload, uint32_t step, uint64_t first, uint64_t end, unsigned thread)
{
    state *s = payload;
    if (thread >= THREADS || s->busy[thread] || first >= end || end > pieces(NULL, step)) {
        s->bad = true;
        return;
    }
    s->busy[thread] = true;
    for (uint64_t i = first; i < end; i++) {
        s->value[step][i] = before(s, step) + 1;
        s->times[step][i]++;
    }
    s->busy[thread] = false;
}

static bool right(const state *s)
{
    uint32_t expected = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint64_t n = pieces(NULL, step);
        expected += n > 0;
        for (uint64_t i = 0; i < n; i++)
            if (s->value[step][i] != expected || s->times[step][i] != 1) return false;
    }
    return !s->bad;
}

static void *run_often(void *pool)
{
    static _Thread_local state s;
    for (int i = 0; i < RUNS; i++) {
        memset(&s, 0, sizeof s);
        rt_pool_run(pool, &(rt_pool_job){&s, i % 10 ? STEPS : 0, pieces, piece});
        if (i % 10 && !right(&s)) return pool;
    }
    return NULL;
}

int main(void)
{
    int failed = 0;
    for (unsigned n = 1; n <= THREADS; n += 2) {
        rt_pool *pool;
        pthread_t caller[CALLERS];
        void *wrong;
        if (rt_pool_new(&pool, n, NULL) != CCC_OK || rt_pool_threads(pool) != n) return 2;
        for (int i = 0; i < CALLERS; i++)
            if (pthread_create(&caller[i], NULL, run_often, pool) != 0) return 2;
        for (int i = 0; i < CALLERS; i++) {
            pthread_join(caller[i], &wrong);
            failed += wrong != NULL;
        }
        rt_pool_free(pool);
        if (failed) fprintf(stderr, "%u threads: %d callers saw wrong results\n", n, failed);
    }
    return failed != 0;
}
