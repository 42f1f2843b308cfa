/* The thread pool. Between runs and between steps threads wait for a number to change: they spin for some
 * microseconds, then sleep on a futex. Whoever changes the number wakes sleepers only if there are any, so a
 * busy pool makes no system calls. */
#define _GNU_SOURCE /* CPU_COUNT */
#include "pool.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 3000, PIECES_PER_THREAD = 8, LINE_B = 64 };

typedef struct {
    _Alignas(LINE_B) atomic_uint number;
    atomic_uint sleepers;
} signal_word;
typedef struct {
    _Alignas(LINE_B) _Atomic uint64_t next;
} piece_counter;
struct rt_pool {
    signal_word epoch; /* a run begins */
    signal_word phase; /* a step ends */
    _Alignas(LINE_B) atomic_uint arrived;
    piece_counter counter[2]; /* of even and odd steps: one is reset while the other is in use */
    const rt_pool_job *job;
    bool stop;
    unsigned n_threads, n_started, spins;
    pthread_mutex_t one_run;
    pthread_t *thread;
};
typedef struct {
    rt_pool *pool;
    unsigned number;
} start_args;

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void wait_change(const rt_pool *p, signal_word *w, unsigned old)
{
    for (unsigned i = 0; i < p->spins; i++) {
        if (atomic_load_explicit(&w->number, memory_order_acquire) != old) return;
        pause_cpu();
    }
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->number) == old)
        syscall(SYS_futex, &w->number, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&w->sleepers, 1);
}

static void change(signal_word *w)
{
    atomic_fetch_add(&w->number, 1);
    if (atomic_load(&w->sleepers))
        syscall(SYS_futex, &w->number, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void barrier(rt_pool *p, uint32_t step)
{
    unsigned phase = atomic_load_explicit(&p->phase.number, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 < p->n_threads) {
        wait_change(p, &p->phase, phase);
        return;
    }
    atomic_store_explicit(&p->counter[step & 1].next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
    change(&p->phase);
}

static void work(rt_pool *p, const rt_pool_job *job, unsigned thread)
{
    uint32_t n_steps = job->n_steps;
    for (uint32_t i = 0; i < n_steps; i++) {
        uint64_t n = job->pieces(job->payload, i), first;
        uint64_t chunk = n / ((uint64_t)p->n_threads * PIECES_PER_THREAD);
        if (!chunk) chunk = 1;
        while ((first = atomic_fetch_add_explicit(&p->counter[i & 1].next, chunk, memory_order_relaxed)) < n)
            job->piece(job->payload, i, first, n - first < chunk ? n : first + chunk, thread);
        barrier(p, i); /* after the last one nothing of the job is touched: its owner goes on */
    }
}

static void *thread_main(void *arg)
{
    start_args a = *(start_args *)arg;
    free(arg);
    for (unsigned seen = 0;; seen++) {
        wait_change(a.pool, &a.pool->epoch, seen);
        if (a.pool->stop) return NULL;
        work(a.pool, a.pool->job, a.number);
    }
}

static bool start_thread(rt_pool *p, unsigned number)
{
    start_args *a = malloc(sizeof *a);
    if (!a) return false;
    *a = (start_args){p, number};
    if (pthread_create(&p->thread[number], NULL, thread_main, a) == 0) return true;
    free(a);
    return false;
}

ccc_status rt_pool_new(rt_pool **out, unsigned n_threads, ccc_err *err)
{
    rt_pool *p = aligned_alloc(LINE_B, sizeof *p);
    pthread_t *threads = calloc(n_threads, sizeof *threads);
    if (!p || !threads) {
        free(p);
        free(threads);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for %u threads", n_threads);
    }
    *p = (rt_pool){.n_threads = n_threads,
                   .n_started = 1,
                   .thread = threads,
                   .spins = n_threads > rt_pool_processors() ? 0 : SPINS};
    pthread_mutex_init(&p->one_run, NULL);
    sigset_t all, old; /* the application's signals are the application's threads' */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->n_started < n_threads && start_thread(p, p->n_started)) p->n_started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (p->n_started < n_threads) {
        ccc_status status =
            ccc_fail(err, CCC_E_NOMEM, "cannot start %u threads, only %u", n_threads, p->n_started);
        rt_pool_free(p);
        return status;
    }
    *out = p;
    return CCC_OK;
}

void rt_pool_free(rt_pool *p)
{
    if (!p) return;
    p->stop = true;
    change(&p->epoch);
    for (unsigned i = 1; i < p->n_started; i++) pthread_join(p->thread[i], NULL);
    pthread_mutex_destroy(&p->one_run);
    free(p->thread);
    free(p);
}

void rt_pool_run(rt_pool *p, const rt_pool_job *job)
{
    if (!job->n_steps) return;
    pthread_mutex_lock(&p->one_run);
    p->job = job;
    change(&p->epoch);
    work(p, job, 0);
    pthread_mutex_unlock(&p->one_run);
}

unsigned rt_pool_threads(const rt_pool *p)
{
    return p->n_threads;
}

unsigned rt_pool_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}
