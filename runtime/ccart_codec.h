/* Bytes <-> ccart_file, shared by the compiler's pack step and libcccrt. One list of fields (ccart_format.c)
 * is both the writer and the reader, so that they cannot disagree. Decoding checks the container (sizes,
 * hashes, counts); ccart_validate checks what the numbers mean (indices, ranges, overlaps). Nothing may be
 * used that has not passed both. */
#ifndef CCART_CODEC_H
#define CCART_CODEC_H
#include <stdbool.h>
#include <stddef.h>
#include "ccart.h"
#include "ccc_err.h"

enum { CCART_HEADER_B = 64, CCART_ROW_B = 56, CCART_ALIGN_B = 64, CCART_HASH_B = 16, CCART_ZSTD_LEVEL = 9 };
enum {
    CCART_WITH_TEXT = 1, /* also decode the graph's text and the report; without it both are "" */
    CCART_TEXT_ALONE = 2, /* nothing else: no targets, no limits; all hashes are checked as ever */
    CCART_WITH_PTX = 4    /* also unpack PTX that lies apart; without it such modules have no data */
};

/* *out comes from malloc: release it with free(). The same content always gives the same bytes. Encoding
 * checks the limits of ccart.h, not the meaning: call ccart_validate first. */
ccc_status ccart_encode(uint8_t **out, size_t *size_B, const ccart_file *f, ccc_err *err);
/* Checks every hash. Strings, code and data in *out may point into `data`, which must stay valid and
 * unchanged until ccart_release. */
ccc_status ccart_decode(ccart_file **out, const void *data, size_t size_B, unsigned flags, ccc_err *err);
void ccart_release(ccart_file *f); /* of ccart_decode alone; accepts NULL */
/* PTX is most of what an artifact unpacks to, and where there are cubins nobody reads it: so it stays packed
 * until a driver is to compile it. *room comes from malloc and holds the texts of all modules without data,
 * one after the other, each with a 0 behind it; checked against the chunk's hash and the modules' sizes. */
ccc_status ccart_ptx_unpack(uint8_t **room, const ccart_target *t, ccc_err *err);
const uint8_t *ccart_ptx_text(const ccart_target *t, uint32_t module, const uint8_t *room);
/* Every index, range, size and expression of all targets. */
ccc_status ccart_validate(const ccart_file *f, ccc_err *err);

/* ---- expressions (expr.c) */
/* Well-formed? *vars, if given, receives the set of variables: bit CCART_VAR_x. */
ccc_status ccart_expr_check(const ccart_expr *e, uint32_t *vars, ccc_err *err);
/* Of a checked expression. False on overflow or a divisor below 1. */
bool ccart_expr_eval(const ccart_expr *e, const int64_t var[CCART_N_VARS], int64_t *out);

/* ---- element types: the numbers of ccc_dtype (ccart_dtype.c) */
enum {
    CCART_F32 = 1,
    CCART_F16 = 2,
    CCART_BF16 = 3,
    CCART_E4M3 = 4,
    CCART_I32 = 9,
    CCART_I64 = 10,
    CCART_N_DTYPES = 17
};
const char *ccart_dtype_name(uint32_t dtype); /* NULL: unknown */
uint32_t ccart_dtype_find(const char *name);  /* 0: unknown */
bool ccart_storage_B(uint32_t dtype, uint64_t n_elements,
                     uint64_t *size_B); /* false: unknown type, a broken block, or overflow */
/* Product of the dimensions; false when one is negative or the product does not fit in 63 bits. */
bool ccart_product(const int64_t *dim, uint32_t rank, uint64_t *out);
#endif
