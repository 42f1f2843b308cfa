/* Part of attn_decode.c, for ROPE: the warp that has the last page of a row rotates the newest k, writes k and v to the cache, and into its
 * copy of the page; every warp rotates the q of its rows. So nothing of the cache is another kernel's work. What comes from memory for it
 * waits in a room of the warp in shared memory, not in registers: cosines and sines, then k and v as the matmul made them. */
enum { K_LANE = 16 }; /* lanes 0 .. D/8-1 have a piece of v; from K_LANE on D/16 lanes have a pair of pieces of k */

typedef struct { i64 position, slot; } token_t; /* of a sequence: both loads are under way together, and looked at by newest_begin */
INLINE token_t token_of(const newest_args *n, i32 seq) { return (token_t){n->positions[seq], n->slots[seq]}; }
/* the place of a sequence's token in the cache or -1; its cosines and sines are on their way */
INLINE i64 newest_begin(const args_t *a, const newest_args *n, i32 seq, token_t t, u32 room)
{
    const float GLOBAL *row = rope_row(n->table, t.position, n->table_rows, ccc_D, a->status, seq);
    if (lane() < ccc_D / 4) cp_async16(room + lane() * 16, row + lane() * 4);
    cp_async_commit();
    return kv_slot(t.slot, a->kv_blocks, a->status, seq);
}
INLINE void newest_load(const newest_args *n, i32 row, u32 room, i32 on)
{
    i32 seq = row / ccc_HKV, col = row % ccc_HKV * ccc_D + lane() * 8;
    if (on && lane() < ccc_D / 8) {
        cp_async16(room + ccc_D * 4 + lane() * 16, n->k + (i64)seq * n->k_ld + col);
        cp_async16(room + ccc_D * 6 + lane() * 16, n->v + (i64)seq * n->v_ld + col);
    }
    cp_async_commit();
}
INLINE turn_t turn_of(u32 room, i32 p)
{
    u32 c = room + p * 32, s = c + ccc_D * 2;
    return (turn_t){{lds16_f(c), lds16_f(c + 16)}, {lds16_f(s), lds16_f(s + 16)}};
}
INLINE void q_rotate(q_t *Q, u32 room)
{
    CP_ASYNC_WAIT(1); /* k and v may still be on their way */
    warp_sync();
    UNROLL for (i32 i = 0; i < NK / 2; i++) {
        turn_t t = turn_of(room, q_at(i) / 8);
        UNROLL for (i32 h = 0; h < NQ; h++) rope_turn(&Q->r[h][i], &Q->r[h][i + NK / 2], &t);
    }
}
/* from there into the cache, and into the page in shared memory (d: what it holds) if its place is there, as it is unless the caller's
 * slots are odd */
INLINE void newest_put(u32 room, i64 slot, const args_t *a, const newest_args *n, vi4 d, char SHARED *page)
{
    i32 p = lane() - K_LANE, t = (i32)(slot % ccc_BLOCK), lo = t % PAGE * KV_ROW_B, hi = lo, is_k = p >= 0 && p < ccc_D / 16;
    struct { vu4 lo, hi; } r = {0, 0};
    CP_ASYNC_WAIT(0);
    warp_sync();
    if (is_k) {
        turn_t turn = turn_of(room, p);
        r.lo = lds16(room + ccc_D * 4 + p * 16);
        r.hi = lds16(room + ccc_D * 5 + p * 16);
        rope_turn(&r.lo, &r.hi, &turn);
        lo += kv_eight_ccc(t, p);
        hi += kv_eight_ccc(t, p + ccc_D / 16);
    } else if (lane() < ccc_D / 8) {
        r.lo = lds16(room + ccc_D * 6 + lane() * 16);
        lo += PAGE * KV_ROW_B + kv_eight_ccc(t, lane());
    }
    if (slot >= 0 && (is_k || lane() < ccc_D / 8)) {
        char GLOBAL *g = (char GLOBAL *)a->k_cache + slot / ccc_BLOCK * a->block_stride + d.y % ccc_HKV * a->head_stride + t / PAGE * STAGE;
        i32 here = d.w > 0 && slot == (i64)d.x * ccc_BLOCK + (d.w - 1) % ccc_BLOCK;
        kv_eight_t x = kv_eight(r.lo, is_k ? n->k_times : n->v_times), y = kv_eight(r.hi, n->k_times);
        *(kv_eight_t GLOBAL *)(g + lo) = x;
        if (is_k) *(kv_eight_t GLOBAL *)(g + hi) = y;
        if (here) *(kv_eight_t SHARED *)(page + lo) = x;
        if (here && is_k) *(kv_eight_t SHARED *)(page + hi) = y;
        fence_async(); /* the stage may be filled by a copy again */
    }
    warp_sync();
}
