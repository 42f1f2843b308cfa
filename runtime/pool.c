/* The thread pool. A step is dealt out in chunks, and is over when the last of its chunks is done: who did
 * that opens the next one. So no step waits for a thread that has nothing of it in hand, which matters where
 * other processes take processors away: the rest do the work of one that does not run. Threads that find
 * nothing to do spin for some microseconds, then sleep on a futex. Whoever opens a step wakes sleepers only
 * if there are any, so a busy pool makes no system calls. */
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

enum { SPINS = 3000, CHUNKS_PER_THREAD = 8, LINE_B = 64 };

typedef struct {
    _Alignas(LINE_B) atomic_uint number;
    atomic_uint sleepers;
} signal_word;
typedef struct {
    rt_pool *pool;
    unsigned number;
    pthread_t thread;
} member;
struct rt_pool {
    _Alignas(LINE_B) atomic_uint open; /* chunks of the step that nobody has taken */
    _Alignas(LINE_B) atomic_uint left; /* chunks of it that are not done */
    signal_word begun;                 /* grows when a step is opened, when a job is over, and at the end */
    _Alignas(LINE_B) rt_pool_job job; /* this and the numbers of the step: read by who has taken a chunk */
    uint32_t step, n_chunks;
    uint64_t n_pieces, chunk;
    atomic_bool finished; /* the job */
    atomic_bool stop;
    unsigned n_threads, n_started, spins;
    pthread_mutex_t one_run;
    member *member; /* [n_threads], the first is whoever runs a job */
};

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

/* Opens the job's next step that has pieces, or ends the job. Only the thread that did the last chunk of the
 * step before is here: until `open` is set, the step is its own. */
static void open_step(rt_pool *p, uint32_t step)
{
    uint64_t n = 0;
    while (step < p->job.n_steps && !(n = p->job.pieces(p->job.payload, step))) step++;
    if (n) {
        uint64_t chunk = n / ((uint64_t)p->n_threads * CHUNKS_PER_THREAD);
        p->step = step;
        p->n_pieces = n;
        p->chunk = chunk ? chunk : 1;
        p->n_chunks = (uint32_t)((n + p->chunk - 1) / p->chunk);
        atomic_store_explicit(&p->left, p->n_chunks, memory_order_relaxed);
        atomic_store_explicit(&p->open, p->n_chunks, memory_order_release);
    } else {
        atomic_store_explicit(&p->finished, true, memory_order_release);
    }
    change(&p->begun);
}

/* Takes a chunk and does it. A thread that was held up between looking and taking gets one of a later step,
 * which is as good: nothing of a step is read before a chunk of it is taken. */
static bool work(rt_pool *p, unsigned thread)
{
    unsigned open = atomic_load_explicit(&p->open, memory_order_relaxed);
    do
        if (!open) return false;
    while (!atomic_compare_exchange_weak_explicit(&p->open, &open, open - 1, memory_order_acquire,
                                                  memory_order_relaxed));
    uint32_t step = p->step;
    uint64_t first = (p->n_chunks - open) * p->chunk, left = p->n_pieces - first;
    p->job.piece(p->job.payload, step, first, first + (left < p->chunk ? left : p->chunk), thread);
    if (atomic_fetch_sub_explicit(&p->left, 1, memory_order_acq_rel) == 1) open_step(p, step + 1);
    return true;
}

/* Works until *end, which is set before `begun` grows. */
static void work_until(rt_pool *p, const atomic_bool *end, unsigned thread)
{
    for (;;) {
        unsigned begun = atomic_load_explicit(&p->begun.number, memory_order_acquire);
        while (work(p, thread))
            ;
        if (atomic_load_explicit(end, memory_order_acquire)) return;
        wait_change(p, &p->begun, begun);
    }
}

static void *thread_main(void *arg)
{
    const member *m = arg;
    work_until(m->pool, &m->pool->stop, m->number);
    return NULL;
}

static bool start_thread(rt_pool *p, unsigned number)
{
    member *m = &p->member[number];
    m->pool = p;
    m->number = number;
    return pthread_create(&m->thread, NULL, thread_main, m) == 0;
}

ccc_status rt_pool_new(rt_pool **out, unsigned n_threads, ccc_err *err)
{
    rt_pool *p = aligned_alloc(LINE_B, sizeof *p);
    member *members = calloc(n_threads, sizeof *members);
    if (!p || !members) {
        free(p);
        free(members);
        return ccc_fail(err, CCC_E_NOMEM, "out of memory for %u threads", n_threads);
    }
    *p = (rt_pool){.n_threads = n_threads,
                   .n_started = 1,
                   .member = members,
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
    atomic_store(&p->stop, true);
    change(&p->begun);
    for (unsigned i = 1; i < p->n_started; i++) pthread_join(p->member[i].thread, NULL);
    pthread_mutex_destroy(&p->one_run);
    free(p->member);
    free(p);
}

void rt_pool_run(rt_pool *p, const rt_pool_job *job)
{
    if (!job->n_steps) return;
    pthread_mutex_lock(&p->one_run);
    p->job = *job;
    atomic_store_explicit(&p->finished, false, memory_order_relaxed);
    open_step(p, 0);
    work_until(p, &p->finished, 0);
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
