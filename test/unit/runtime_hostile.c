/* What an artifact with right hashes and harmful numbers must not get away with. Each was found by test/fuzz;
 * each is refused by name. */
#include "runtime_make.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *bytes;
    cccrt_artifact *a;
    cccrt_device *d;
    cccrt_weights *w;
    cccrt_kv_cache *kv;
    cccrt_session *s;
} parts;

/* As far as it goes. */
static ccc_status make(parts *x, const ccart_file *f, ccc_err *err)
{
    size_t size_B;
    *x = (parts){0};
    cccrt_open_args open = {.size_B = sizeof open, .allow_host_code = 1};
    cccrt_weights_args weights = {.size_B = sizeof weights, .random = 1};
    cccrt_session_args session = {.size_B = sizeof session};
    x->d = make_device("cpu");
    cr_assert_eq(ccart_encode(&x->bytes, &size_B, f, err), CCC_OK);
    CCC_TRY(cccrt_artifact_open_memory(&x->a, x->bytes, size_B, &open, err));
    CCC_TRY(cccrt_weights_attach(&x->w, x->a, x->d, &weights, err));
    CCC_TRY(cccrt_kv_alloc(&x->kv, x->a, x->d, 8, err));
    session.kv = cccrt_kv_describe(x->kv);
    return cccrt_session_create(&x->s, x->a, x->w, &session, err);
}

static void drop(parts *x)
{
    cccrt_session_close(x->s);
    cccrt_kv_close(x->kv);
    cccrt_weights_close(x->w);
    cccrt_device_close(x->d);
    cccrt_artifact_close(x->a);
    free(x->bytes);
}

static ccart_target *host(ccart_file *f)
{
    *f = *make_file();
    return &f->target[0];
}

Test(hostile, an_input_is_smaller_than_a_step)
{
    static const char *const names[] = {"token_ids", "positions",    "query_start_loc",
                                        "seq_lens",  "slot_mapping", "logits_indices"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        ccart_file f;
        parts x;
        ccc_err err = {0};
        ccart_target *t = host(&f);
        for (uint32_t k = 0; k < t->n_in; k++)
            if (strcmp(t->in[k].name, names[i]) == 0)
                t->in[k].dim_expr[0] = 5; /* HIDDEN elements, whatever the step */
        bool too_small =
            i < 2 || i == 2 || i == 4; /* the others have one for each of MAX_SEQS == HIDDEN sequences */
        cr_assert_eq(make(&x, &f, &err), too_small ? CCC_E_CORRUPT : CCC_OK, "%s: %s", names[i], err.msg);
        cr_assert(!too_small || strstr(err.msg, names[i]), "%s", err.msg);
        drop(&x);
    }
}

Test(hostile, a_step_gives_an_input_that_has_no_buffer)
{
    ccart_file f;
    parts x;
    ccc_err err = {0};
    ccart_target *t = host(&f);
    t->in[0].optional = 1; /* token_ids */
    cr_assert_eq(make(&x, &f, &err), CCC_OK, "%s", err.msg);
    int32_t ids[1] = {1};
    cccrt_step_args g = {.size_B = sizeof g, .n_tokens = 1, .n_seqs = 1, .token_ids = ids};
    cr_assert_eq(cccrt_step(x.s, &g, NULL, &err), CCC_E_ARG);
    cr_assert(strstr(err.msg, "token_ids"), "%s", err.msg);
    drop(&x);
}

Test(hostile, a_launch_without_end, .timeout = 20)
{
    static const uint8_t code[] = {CCART_X_CONST, 0xff, 0xff, 0, 0, 0, 0, 0, 0};
    ccart_file f;
    parts x;
    ccc_err err = {0};
    ccart_target *t = host(&f);
    ccart_program *p = &t->load[t->segment[0].random_program];
    ccart_node *n = &p->node[0];
    p->expr[n->grid[1]] = (ccart_expr){
        code, sizeof code}; /* 65535 x 65535 x 16 blocks; grid[1] and [2] are the same expression */
    cr_assert_eq(make(&x, &f, &err), CCC_E_CORRUPT);
    cr_assert(strstr(err.msg, "blocks"), "%s", err.msg);
    drop(&x);
}

/* Mappings of this process that are executable; *both: those that are writable as well. */
static unsigned executable(unsigned *both)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512], mode[8];
    unsigned n = 0;
    *both = 0;
    cr_assert(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%*s %7s", mode) == 1 && strchr(mode, 'x')) n++, *both += strchr(mode, 'w') != NULL;
    fclose(f);
    return n;
}

Test(hostile, looking_maps_nothing_executable)
{
    ccart_file f;
    parts x;
    ccc_err err = {0};
    host(&f);
    unsigned both, both_before, before = executable(&both_before);
    cr_assert(before > 0);
    cr_assert_eq(make(&x, &f, &err), CCC_OK, "%s", err.msg);
    cr_assert(executable(&both) > before && both == both_before, "a session maps its code, not writable");
    drop(&x);
    cr_assert_eq(executable(&both), before);

    uint8_t *bytes;
    size_t size_B;
    char *json;
    cccrt_artifact *a;
    cccrt_device *d = make_device("cpu");
    cccrt_open_args args = {.size_B = sizeof args, .allow_host_code = 1};
    cccrt_memory memory = {.size_B = sizeof memory};
    const char *target;
    make_artifact(&bytes, &size_B);
    before = executable(&both);
    cr_assert_eq(cccrt_artifact_open_memory(&a, bytes, size_B, &args, &err), CCC_OK);
    cr_assert_eq(cccrt_artifact_verify(a, &err), CCC_OK);
    cr_assert_eq(cccrt_artifact_info(&json, a, &err), CCC_OK);
    cr_assert_eq(cccrt_artifact_memory(&memory, a, "x86-64-v3", 1, &err), CCC_OK);
    cr_assert_eq(cccrt_device_can_run(&target, d, a, &err), CCC_OK);
    cr_assert_eq(executable(&both), before);
    cccrt_free(json);
    cccrt_artifact_close(a);
    cccrt_device_close(d);
    free(bytes);
}

Test(hostile, names_that_a_terminal_obeys)
{
    ccc_err err = {0};
    for (int i = 0; i < 6; i++) {
        ccart_file f;
        ccart_target *t = host(&f);
        const char **name[] = {&t->name,           &t->kernel[0].name,    &t->kernel[0].symbol,
                               &t->weight[0].name, &t->segment[0].source, &t->in[0].name};
        *name[i] = "x\033]0;title\a";
        cr_assert_eq(ccart_validate(&f, &err), CCC_E_CORRUPT, "%d", i);
        for (const char *p = err.msg; *p; p++)
            cr_assert((unsigned char)*p >= ' ' && *p != 0x7f, "%d: %s", i, err.msg);
    }
}
