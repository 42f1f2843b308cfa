/* The n-th call of the driver fails, for every n until all succeed, with "out of memory" and with a fault
 * that loses the context: each time a clear error, nothing left behind, and a second try works. One process
 * for each n; the leak checker looks at it when it exits. */
#include "runtime_make.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char log_path[] = "/tmp/ccc-fake-XXXXXX";
typedef struct {
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} all;

static ccc_status use(all *x, ccc_err *err)
{
    static uint16_t embed[VOCAB * HIDDEN], rows[6 * HIDDEN];
    cccrt_tensor t[] = {{"embed", "bf16", 2, {VOCAB, HIDDEN}, embed, sizeof embed, 0},
                        {"a", "bf16", 2, {2, HIDDEN}, rows, 2 * HIDDEN * 2, 0},
                        {"b", "bf16", 2, {4, HIDDEN}, rows, 4 * HIDDEN * 2, 0}};
    cccrt_device_args da = {.size_B = sizeof da, .kind = "cuda"};
    cccrt_weights_args wa = {.size_B = sizeof wa, .tensors = t, .n_tensors = 3};
    cccrt_session_args sa = {.size_B = sizeof sa, .graphs = CCCRT_GRAPHS_ALL};
    int32_t ids[] = {1, 2, 3}, back[3];
    int64_t positions[] = {0, 0, 0};
    cccrt_step_args g = {.size_B = sizeof g,
                         .n_tokens = 3,
                         .n_seqs = 3,
                         .n_logits = 3,
                         .token_ids = ids,
                         .positions = positions};
    cccrt_step_args mixed = {.size_B = sizeof mixed, .n_tokens = 5, .n_seqs = 2, .n_logits = 2};
    cccrt_step_args advancing = {
        .size_B = sizeof advancing, .n_tokens = 2, .n_seqs = 2, .n_logits = 2, .max_query_len = 1, .advance = 1};
    if (!x->a) x->a = make_open(0);
    if (!x->d) CCC_TRY(cccrt_device_open(&x->d, &da, err));
    if (!x->w) CCC_TRY(cccrt_weights_attach(&x->w, x->a, x->d, &wa, err));
    if (!x->kv) CCC_TRY(cccrt_kv_alloc(&x->kv, x->a, x->d, 4, err));
    sa.kv = cccrt_kv_describe(x->kv);
    if (!x->s) CCC_TRY(cccrt_session_create(&x->s, x->a, x->w, &sa, err));
    CCC_TRY(cccrt_step(x->s, &g, NULL, err));
    CCC_TRY(cccrt_step(x->s, &mixed, NULL, err));
    CCC_TRY(cccrt_step(x->s, &advancing, NULL, err));
    CCC_TRY(cccrt_advance(x->s, 3, NULL, err));
    CCC_TRY(cccrt_session_read(x->s, "token_ids", back, 0, sizeof back, NULL, err));
    return cccrt_check(x->s, NULL, err);
}

static void close_all(all *x)
{
    cccrt_session_close(x->s);
    cccrt_kv_close(x->kv);
    cccrt_weights_close(x->w);
    cccrt_device_close(x->d);
    cccrt_artifact_close(x->a);
}

enum { DONE = 0, FAILED_WELL = 10, FAILED_BADLY = 11 };

static int child(long n, int code)
{
    char fail[32];
    ccc_err err = {0};
    all x = {0};
    snprintf(fail, sizeof fail, "%ld:%d", n, code);
    setenv("FAKE_CUDA_FAIL", fail, 1);
    setenv("FAKE_CUDA_LOG", log_path, 1);
    ccc_status status = use(&x, &err);
    int result = status == CCC_OK ? DONE : FAILED_WELL;
    if (status != CCC_OK && (!*err.msg || strchr(err.msg, '\n') || !strstr(err.msg, "driver error"))) {
        fprintf(stderr, "call %ld: '%s'\n", n, err.msg);
        result = FAILED_BADLY;
    }
    if (status != CCC_OK && code == 2) { /* out of memory passes: the same objects do the rest */
        if (use(&x, &err) != CCC_OK) {
            fprintf(stderr, "call %ld, second try: '%s'\n", n, err.msg);
            result = FAILED_BADLY;
        }
    } else if (status == CCC_E_LOST && x.s && cccrt_check(x.s, NULL, &err) != CCC_E_LOST) {
        fprintf(stderr, "call %ld: a lost device was used again\n", n);
        result = FAILED_BADLY;
    }
    close_all(&x);
    return result;
}

/* What the fake driver wrote: kinds of things left behind; whether the call was reached at all. */
static int left_behind(int code, int *reached)
{
    FILE *f = fopen(log_path, "r");
    char line[4096], result[32];
    int n = 0, freeing = 0;
    snprintf(result, sizeof result, " = %d\n", code);
    *reached = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strstr(line, result)) {
            *reached =
                1; /* where giving something back is what fails, or entering the context to do so, it stays */
            freeing = strstr(line, "cuCtxPush") || strstr(line, "Destroy") || strstr(line, "Free") ||
                      strstr(line, "Unload") || strstr(line, "Release") || strstr(line, "Unregister");
        }
        if (code == 2 && !freeing && strncmp(line, "LEFT", 4) == 0)
            fputs(line, stderr), n++; /* a lost context takes everything with it */
    }
    if (f) fclose(f);
    return n;
}

static int sweep(int code)
{
    for (long n = 1; n < 5000; n++) {
        fflush(NULL);
        pid_t pid = fork();
        if (!pid) exit(child(n, code));
        int status;
        if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
            fprintf(stderr, "call %ld, error %d: crashed\n", n, code);
            return 1;
        }
        int result = WEXITSTATUS(status), reached, left = left_behind(code, &reached);
        if ((result != DONE && result != FAILED_WELL) || left) {
            fprintf(stderr, "call %ld, error %d: result %d, %d kinds of things left\n", n, code, result,
                    left);
            return 1;
        }
        if (!reached) {
            printf("error %d: %ld calls failed well\n", code, n - 1);
            return n < 100; /* fewer calls than a session makes: the fake driver was not there */
        }
    }
    fprintf(stderr, "it never succeeded\n");
    return 1;
}

int main(void)
{
    int fd = mkstemp(log_path);
    if (fd < 0) return 1;
    close(fd);
    int bad = sweep(2) | sweep(700);
    unlink(log_path);
    return bad;
}
