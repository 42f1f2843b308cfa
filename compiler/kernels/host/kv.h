/* Where a row of the KV cache lies, for all layouts (the formulas stand at the end of abi.h). A row is D numbers
 * of one token and head, bf16 or with FP8 e4m3; a piece is 16 bytes of it. */
#ifndef CCC_HOST_KV_H
#define CCC_HOST_KV_H
#include "h.h"

#ifndef FP8
#define FP8 0
#endif
#define KV_ROW_B (ccc_D * (FP8 ? 1 : 2)) /* bytes of a row */

SPEC(i32, ccc_HQ);     /* query heads */
SPEC(i32, ccc_HKV);    /* heads in the cache */
SPEC(i32, ccc_D);      /* head size, a multiple of 8 */
SPEC(i32, ccc_BLOCK);  /* tokens a block: 16, 32 or 64 */
SPEC(i32, ccc_LAYOUT); /* ccc_layout */

enum { KV_NHD = 1, KV_HND = 2, KV_CCC = 3, KV_PAGE = 16 };
typedef struct {
    i64 block, token, head;
} kv_strides; /* bytes; token is unused with layout ccc */

/* bytes from the base to the row of token t of a block */
INLINE i64 kv_row(kv_strides s, i64 block, i32 t, i32 head, i32 is_v)
{
    i64 at = block * s.block + head * s.head;
    if (ccc_LAYOUT != KV_CCC) return at + t * s.token;
    return at + (i64)(t / KV_PAGE) * (2 * KV_PAGE * KV_ROW_B) + (is_v ? KV_PAGE * KV_ROW_B : 0) +
           (i64)(t % KV_PAGE) * KV_ROW_B;
}
/* bytes from the start of token t's row to piece p */
INLINE i32 kv_piece(i32 t, i32 p)
{
    if (ccc_LAYOUT == KV_CCC && p < KV_ROW_B / 128 * 8) p = (p & ~7) | ((p ^ t) & 7);
    return p * 16;
}
/* bytes from the start of token t's row to elements 8p .. 8p+7 */
INLINE i32 kv_eight(i32 t, i32 p) { return FP8 ? kv_piece(t, p / 2) + p % 2 * 8 : kv_piece(t, p); }
#endif
