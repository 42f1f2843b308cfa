/* Threads: two step their own sessions over the same weights, a third makes and closes sessions meanwhile.
 * Every result must be right, and ThreadSanitizer, which Criterion does not run under, has nothing to say. */
#include "runtime_make.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3000, SESSIONS = 40 };
static uint16_t embed[VOCAB * HIDDEN], rows[6 * HIDDEN];
typedef struct {
    cccrt_artifact *a;
    cccrt_weights *w;
    cccrt_session_args g;
    int32_t id;
    int wrong;
} worker;

static void *step_often(void *arg)
{
    worker *x = arg;
    cccrt_session *s = NULL;
    if (cccrt_session_create(&s, x->a, x->w, &x->g, NULL) != CCC_OK) return x->wrong++, NULL;
    for (int i = 0; i < STEPS; i++) {
        int64_t position = i % MAX_LEN;
        int32_t row = 0, sum = 0, want = (int32_t)position;
        for (int k = 0; k < HIDDEN; k++) want += embed[x->id * HIDDEN + k];
        cccrt_step_args g = {.size_B = sizeof g,
                             .n_tokens = 1,
                             .n_seqs = 1,
                             .n_logits = 1,
                             .token_ids = &x->id,
                             .positions = &position,
                             .logits_indices = &row};
        if (cccrt_step(s, &g, NULL, NULL) != CCC_OK ||
            cccrt_session_read(s, "sums", &sum, 0, 4, NULL, NULL) != CCC_OK || sum != want)
            x->wrong++;
    }
    cccrt_session_close(s);
    return NULL;
}

static void *open_often(void *arg)
{
    worker *x = arg;
    for (int i = 0; i < SESSIONS; i++) {
        cccrt_session *s = NULL;
        cccrt_weights *w = cccrt_weights_retain(x->w);
        if (cccrt_session_create(&s, x->a, w, &x->g, NULL) != CCC_OK) x->wrong++;
        cccrt_weights_close(w);
        cccrt_session_close(s);
    }
    return NULL;
}

int main(void)
{
    ccc_err err = {0};
    cccrt_artifact *a = make_open(1);
    cccrt_device *d = make_device("cpu");
    cccrt_weights *w = NULL;
    cccrt_kv_cache *kv = NULL;
    for (int i = 0; i < VOCAB * HIDDEN; i++) embed[i] = (uint16_t)(i % 7);
    cccrt_tensor t[] = {{"embed", "bf16", 2, {VOCAB, HIDDEN}, embed, sizeof embed, 0},
                        {"a", "bf16", 2, {2, HIDDEN}, rows, 2 * HIDDEN * 2, 0},
                        {"b", "bf16", 2, {4, HIDDEN}, rows, 4 * HIDDEN * 2, 0}};
    cccrt_weights_args wa = {.size_B = sizeof wa, .tensors = t, .n_tensors = 3};
    if (cccrt_weights_attach(&w, a, d, &wa, &err) != CCC_OK || cccrt_kv_alloc(&kv, a, d, 4, &err) != CCC_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    worker x[3];
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        x[i] =
            (worker){a, w, {.size_B = sizeof(cccrt_session_args), .kv = cccrt_kv_describe(kv)}, 3 + 6 * i, 0};
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread[i], NULL, i < 2 ? step_often : open_often, &x[i]) != 0) return 1;
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    cccrt_device_close(d);
    cccrt_artifact_close(a);
    cccrt_weights_close(w);
    cccrt_kv_close(kv);
    if (x[0].wrong || x[1].wrong || x[2].wrong)
        fprintf(stderr, "wrong: %d %d %d\n", x[0].wrong, x[1].wrong, x[2].wrong);
    return x[0].wrong || x[1].wrong || x[2].wrong;
}
