/* Where a row of the KV cache lies, for all layouts (the formulas stand at the end of abi.h). A row is D bf16
 * of one token and head; a piece is 16 bytes of it. */
#ifndef CCC_HOST_KV_H
#define CCC_HOST_KV_H
#include "h.h"

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
    return at + (i64)(t / KV_PAGE) * (64 * ccc_D) + (is_v ? 32 * ccc_D : 0) +
           (i64)(t % KV_PAGE) * (2 * ccc_D);
}
/* bytes from the start of token t's row to piece p */
INLINE i32 kv_piece(i32 t, i32 p)
{
    if (ccc_LAYOUT == KV_CCC && p < ccc_D / 64 * 8) p = (p & ~7) | ((p ^ t) & 7);
    return p * 16;
}
#endif
