/* Where a row of the KV cache lies, for all layouts (the formulas stand at the end of abi.h), and the numbers of what can be wrong with
 * device data that a kernel clamps instead of following. A row is D numbers of one token and head, bf16 or with FP8 e4m3; a piece is 16 bytes of it. */
#ifndef CCC_KV_H
#define CCC_KV_H
#include "k.h"
#include "../attention_geometry.h"

#ifndef FP8
#define FP8 0
#endif
#define KV_ROW_B (ccc_D * (FP8 ? 1 : 2)) /* bytes of a row */

SPEC(i32, ccc_HQ);     /* query heads */
SPEC(i32, ccc_HKV);    /* heads in the cache */
SPEC(i32, ccc_D);      /* head size, a multiple of 8 */
SPEC(i32, ccc_BLOCK);  /* tokens a block: 16, 32 or 64 */
SPEC(i32, ccc_LAYOUT); /* ccc_layout */

enum { KV_NHD = 1, KV_HND = 2, KV_CCC = 3 };                               /* as in ir/ir.h */
enum { STATUS_BAD_SLOT = 2, STATUS_BAD_BLOCK = 3, STATUS_BAD_POSITION = 5 }; /* as in runtime/ccart.h */
typedef struct { i64 block, token, head; } kv_strides;                     /* bytes; token is unused with layout ccc */

/* bytes from the base of K to token `t` of block b, head 0 */
INLINE i64 kv_token(kv_strides s, i32 b, i32 t)
{
    i64 at = (i64)b * s.block;
    return ccc_LAYOUT == KV_CCC ? at + t / CCC_PAGE * (2 * CCC_PAGE * KV_ROW_B) + t % CCC_PAGE * KV_ROW_B : at + t * s.token;
}
/* bytes between tokens of a 16-token page */
INLINE i64 kv_token_step(kv_strides s) { return ccc_LAYOUT == KV_CCC ? KV_ROW_B : s.token; }
/* bytes from a row of K to the same row of V, beyond the difference of the two bases */
INLINE i32 kv_v(void) { return ccc_LAYOUT == KV_CCC ? CCC_PAGE * KV_ROW_B : 0; }
/* bytes from the start of token t's row to piece c: in layout ccc, in all of them */
INLINE i32 kv_piece_ccc(i32 t, i32 c) { return (c < KV_ROW_B / 128 * 8 ? (c & ~7) | ((c ^ t) & 7) : c) * 16; }
INLINE i32 kv_piece(i32 t, i32 c) { return ccc_LAYOUT == KV_CCC ? kv_piece_ccc(t, c) : c * 16; }
/* eight elements of a row from bf16 (times a number, where the cache rounds), and bytes from the start of token t's row to elements 8p .. 8p+7 */
#if FP8
typedef vu2 kv_eight_t;
INLINE kv_eight_t kv_eight(vu4 v, float times) { return f32x8_e4m3(bf16x8_f32(v) * times); }
#else
typedef vu4 kv_eight_t;
INLINE kv_eight_t kv_eight(vu4 v, float times) { return (void)times, v; }
#endif
INLINE i32 kv_eight_ccc(i32 t, i32 p) { return FP8 ? kv_piece_ccc(t, p / 2) + p % 2 * 8 : kv_piece_ccc(t, p); } /* in layout ccc */
INLINE i32 kv_eight_at(i32 t, i32 p) { return ccc_LAYOUT == KV_CCC ? kv_eight_ccc(t, p) : p * (KV_ROW_B / (ccc_D / 8)); }
/* a block number of the table, forced into the cache */
INLINE i32 kv_block(const i32 GLOBAL *entry, i32 kv_blocks, u32 GLOBAL *status, i32 seq)
{
    i32 b = *entry;
    if (b >= 0 && b < kv_blocks) return b;
    status_set(status, STATUS_BAD_BLOCK, (u32)seq, (u32)b);
    return imin(imax(b, 0), kv_blocks - 1);
}
#endif
