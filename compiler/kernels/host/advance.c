/* One decode step further, for sequences of one query token each: position and length + 1, and the slot of
 * the new position, -1 where the block table has none for it. A sequence of length 0 is padding and stays. */
#include "h.h"

ENTRY ccc_kernel(const advance_args *a, const host_ctx *c)
{
    i64 end = share(a->S, c->block[0] + 1, c->grid[0]);
    for (i64 s = share(a->S, c->block[0], c->grid[0]); s < end; s++) {
        if (a->seq_lens[s] <= 0) continue;
        i64 pos = ++a->positions[s], column = pos / a->block_size, block = -1;
        a->seq_lens[s]++;
        if (pos >= 0 && column < a->max_blocks) block = a->table[s * a->max_blocks + column];
        a->slots[s] = block >= 0 && block < a->kv_blocks ? block * a->block_size + pos % a->block_size : -1;
    }
}
