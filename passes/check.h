/* A graph on random data: what `ccc eval` shows and `ccc opt --check` compares. Symbols get small values
 * inside their ranges; weights and activations are drawn from (seed, name); ids, positions, lengths and slots
 * form a valid step (mixed lengths, blocks in a shuffled order). All is a function of graph and seed. */
#ifndef CCC_CHECK_H
#define CCC_CHECK_H
#include "../ir/ir.h"

typedef struct ccc_sample ccc_sample;
typedef struct {
    uint64_t seed;
    int64_t sym_value[CCC_MAX_SYM]; /* by symbol of the graph; used where sym_given */
    bool sym_given[CCC_MAX_SYM];
} ccc_sample_args;
/* Chooses symbols and step inputs for `g`. args may be NULL. CCC_E_ARG when a symbol is outside its range.
 * Free with ccc_sample_free. */
ccc_status ccc_sample_new(ccc_sample **out, const ccc_graph *g, const ccc_sample_args *args, ccc_err *err);
void ccc_sample_free(ccc_sample *s); /* accepts NULL */
/* The value chosen; -1: the graph has no such symbol. */
int64_t ccc_sample_sym(const ccc_sample *s, const char *name);
/* Evaluates `g`, the graph of the sample or one made from it by passes, on fresh copies of the data.
 * The result holds the outputs and the contents of all caches after the step, in the order of the graph.
 * Release with ccc_sample_release. */
typedef struct {
    int64_t layer;
    ccc_tensor t;
} ccc_sample_cache;
typedef struct {
    ccc_tensor *out;
    uint32_t n_out;
    ccc_sample_cache *cache;
    uint32_t n_cache;
} ccc_sample_result;
ccc_status ccc_sample_eval(ccc_sample *s, const ccc_graph *g, bool accumulate_f64, ccc_sample_result *r,
                           ccc_err *err);
void ccc_sample_release(ccc_sample_result *r);

/* The pass runner's: remembers the results of a graph, and compares those of what passes made of it, bit for
 * bit. */
typedef struct ccc_check ccc_check;
ccc_status ccc_check_new(ccc_check **out, const ccc_graph *g, ccc_err *err);
ccc_status ccc_check_same(ccc_check *c, const ccc_graph *g, ccc_err *err);
void ccc_check_free(ccc_check *c); /* accepts NULL */
#endif
