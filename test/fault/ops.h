/* The operations that faults.c makes fail: each from nothing, each leaving nothing behind. */
#ifndef OPS_H
#define OPS_H
#include "../../ir/ir.h"
#include "shim.h"

typedef struct {
    const char *name;
    void (*before)(void); /* puts the files into the state that the operation begins with */
    ccc_status (*run)(ccc_buf *out, ccc_err *err); /* out: the result's bytes */
    bool (*vague)(shim_fault fault, const char *what,
                  ccc_status status); /* errors that may name another cause than the fault itself */
    bool loads_llvm; /* when a kernel is not read from the cache; LLVM keeps memory of its own */
} op;
extern const op ops[]; /* ends with name NULL */
extern const char *op_folder;

int op_setup(const char *artifact, const char *model, const char *folder);
void op_teardown(void);
int op_keep(const op *o); /* runs it twice and keeps the result */
bool op_right(const op *o, const ccc_buf *out);
#endif
