/* The measured part of a target's schedule: a text file of rows, each the constants of the kernel that serves one matmul shape for a range of
 * tokens. compiler/schedules/TARGET.def is built in; --schedule names another file. What no row covers is left to the rules of
 * kernels/geometry.h.
 *     target sm_90a
 *     matvec bf16 N=4096 K=4096 pair=0 T=1..1 rows=1 loads=4 warps=8 split=4 turns=1   # 11.9 us instead of 12.8
 * A row's key is what stands before its constants, its class left out: two rows of one key must not serve the same T. */
#ifndef CCC_SCHEDULE_TABLE_H
#define CCC_SCHEDULE_TABLE_H
#include "codegen.h"
#include "kernels/geometry.h"

/* One kernel each: in which order its constants stand in a row and in `constant` is in schedule_table.c. */
typedef enum { SCHEDULE_MATVEC, SCHEDULE_GEMM_T /* weight rows are the tile's rows */, SCHEDULE_GEMM /* tokens are */, SCHEDULE_CLASSES } schedule_class;
enum { SCHEDULE_MATVEC_ROWS, SCHEDULE_MATVEC_LOADS, SCHEDULE_MATVEC_WARPS, SCHEDULE_MATVEC_SPLIT, SCHEDULE_MATVEC_TURNS, SCHEDULE_CONSTANTS,
       SCHEDULE_GEMM_BN = 0, SCHEDULE_GEMM_COLS, SCHEDULE_GEMM_SPLIT, SCHEDULE_GEMM_BLOCKS };
typedef struct { ccc_dtype dtype; int64_t N, K; bool pair; } schedule_shape; /* dtype of the weight; N columns of the output; with pair the weight has 2N rows */
typedef struct {
    schedule_class is;
    schedule_shape shape;
    int64_t t_min, t_max;
    int constant[SCHEDULE_CONSTANTS];
    const char *note;               /* the comment behind it, "" if there is none */
    unsigned line;                  /* in its file */
} schedule_row;
typedef struct { const char *target, *head; /* the lines of comment at the top */ schedule_row *row; uint32_t n, cap; } schedule_table;

/* Reads a file's text; the rows come back sorted. `name` is for messages. */
ccc_status schedule_read(schedule_table *out, ccc_arena *mem, const char *text, const char *name, ccc_err *err);
/* One row without the file around it, as schedule_print_row writes it. */
ccc_status schedule_read_row(schedule_row *out, ccc_arena *mem, const char *text, const char *name, unsigned line, ccc_err *err);
ccc_status schedule_add(schedule_table *t, ccc_arena *mem, const schedule_row *row, const char *name, ccc_err *err); /* in its place; refuses a T that another row serves */
void schedule_print(ccc_buf *out, const schedule_table *t);
void schedule_print_row(ccc_buf *out, const schedule_row *row);       /* without note and line end */
int schedule_order(const schedule_row *a, const schedule_row *b);     /* < 0, 0, > 0 */
bool schedule_same_shape(const schedule_shape *a, const schedule_shape *b);
/* Whether the template can be built with these constants; else *why says what is wrong. */
bool schedule_legal(const schedule_row *row, const char **why);
const schedule_row *schedule_find(const schedule_table *t, const schedule_shape *s, int64_t T);  /* NULL: the rules decide */
/* The number of parts in which a shape's K is added, if a row of the same weight says it: a pair of halves and both halves in one have the same bits. 0: none does */
int schedule_split_of(const schedule_table *t, const schedule_shape *s, int64_t T);
/* K as if the weight were bf16: a matvec counts the bytes of a row. And the blocks of K of a gemm. */
int schedule_matvec_K(const schedule_shape *s);
int schedule_gemm_kb(const schedule_shape *s);
ccc_gemm_tile schedule_tile(const schedule_row *row); /* of a gemm or gemm_t row */
ccc_matvec_shape schedule_matvec_of(const schedule_row *row); /* of a matvec row */
void schedule_set_matvec(schedule_row *row, ccc_matvec_shape s);
/* The text built in for a target, "" if there is none. */
const char *schedule_built_in(const char *target);
#endif
