/* What the files of ir/ share among themselves: text of types and numbers, a map from names to numbers, the
 * lexer, and the verifier with the place of the failure. Nothing outside ir/ includes this. */
#ifndef CCC_IR_INTERNAL_H
#define CCC_IR_INTERNAL_H
#include "ir.h"

/* ---- text of things; buffers are the caller's, results point into them */
enum { CCC_TYPE_TEXT = 400, CCC_NUM_TEXT = 32, CCC_SYM_NAME = 16 };
const char *ccc_type_text(const ccc_graph *g, const ccc_type *t, char buf[CCC_TYPE_TEXT]);
const char *ccc_value_text(const ccc_graph *g, ccc_val v,
                           char buf[CCC_TYPE_TEXT]); /* "%h" or "%9", for messages */
const char *
ccc_double_text(double v,
                char buf[CCC_NUM_TEXT]); /* the fewest digits that read back exactly, '.' in every locale */
bool ccc_double_parse(const char *s, size_t n, double *out); /* all of it, finite, '.' in every locale */
bool ccc_is_printable(const char *s);                        /* UTF-8 without control characters */
bool ccc_is_ident(const char *s);                            /* [A-Za-z_][A-Za-z0-9_.]* */
bool ccc_is_number(const char *s); /* digits alone, or nothing: a value so called has no name */
void ccc_put_quoted(ccc_buf *out, const char *s); /* "..." with \" and \\ */

/* ---- names: a hash map from strings (kept, not copied) to numbers that are not 0 */
typedef struct {
    const char *key;
    uint32_t number;
} ccc_map_slot;
typedef struct {
    ccc_arena *mem;
    ccc_map_slot *slot;
    uint32_t n, cap;
} ccc_map;
uint32_t ccc_map_find(const ccc_map *m, const char *key); /* 0: none */
bool ccc_map_put(ccc_map *m, const char *key,
                 uint32_t number); /* key is not in the map; false: out of memory */

/* Names under which the values of a graph are printed: name[v] is NULL where the number is, for values
 * without a name of their own. number[v] counts results in the order of nodes, from 1. Both in `mem`; false:
 * out of memory. */
typedef struct {
    const char **name;
    uint32_t *number;
} ccc_names;
bool ccc_print_names(const ccc_graph *g, ccc_arena *mem, ccc_names *out);
bool ccc_attr_is_default(const ccc_attr_info *info, ccc_attr v); /* optional, and what it is when left out */

/* ---- checks */
int ccc_dtype_block(ccc_dtype d); /* elements of a block: 1 for most */
ccc_status ccc_type_check(const ccc_graph *g, const ccc_type *t,
                          ccc_err *err); /* dims in range and in canonical form */
ccc_status ccc_op_infer(const ccc_graph *g, const ccc_node *n, ccc_type out[CCC_MAX_OUT],
                        ccc_err *err); /* operands, attributes, types */
ccc_status ccc_verify_at(const ccc_graph *g, ccc_nid *where,
                         ccc_err *err); /* *where: the node to blame, 0 if none */
ccc_status ccc_nomem(ccc_err *err);

/* ---- lexer: white space and comments (";" to the end of the line) separate, nothing else does */
typedef struct {
    const char *file, *p, *end, *start;
    ccc_err *err;
} ccc_lex; /* file NULL: messages without a place */
void ccc_lex_skip(ccc_lex *l);
ccc_status ccc_lex_fail(ccc_lex *l, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool ccc_lex_take(ccc_lex *l, const char *token); /* a punctuation mark, if it is next */
ccc_status ccc_lex_want(ccc_lex *l, const char *token);
ccc_status ccc_lex_ident(ccc_lex *l, ccc_arena *mem, const char *what, const char **out);
ccc_status ccc_lex_string(ccc_lex *l, ccc_arena *mem, const char **out);
ccc_status ccc_lex_int(ccc_lex *l, int64_t *out);
ccc_status ccc_lex_type(ccc_lex *l, const ccc_graph *g, ccc_type *out);
ccc_status ccc_type_parse(const ccc_graph *g, const char *text, ccc_type *out,
                          ccc_err *err); /* the whole of text */
/* Turns *err into "FILE:LINE:COL: message" for the byte `at` of the text that begins at `start`; at NULL:
 * "FILE: message". */
ccc_status ccc_err_place(ccc_err *err, ccc_status status, const char *file, const char *start,
                         const char *at);
#endif
