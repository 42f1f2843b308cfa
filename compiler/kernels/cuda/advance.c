/* One decode step further, on the device: each sequence has one token more, and its next cache slot is looked up in the block table.
 * A sequence of length 0 is padding and stays as it is. Where the table or the cache ends, the slot becomes -1: nothing is written.
 *
 * What it writes, kernels of the step read before their own grid wait. That is sound for those in front, though the edge from the last of
 * them may be programmatic: a grid wait ends when the kernel in front has ended, which did not end before its own wait did, and so on
 * to the first. Whatever comes behind needs a full edge. What it reads nobody in front writes, so that is there before the wait. */
#include "k.h"
#include "../attention_geometry.h"

KERNEL ccc_kernel(advance_args a)
{
    i32 s = cta() * CCC_ADVANCE_THREADS + tid(), at = 0, block = -1;
    i64 position = 0;
    if (s < a.S) {
        at = a.seq_lens[s]; /* the cache row of the new token */
        position = a.positions[s];
        if (at > 0 && at / a.block_size < a.max_blocks) block = a.table[(i64)s * a.max_blocks + at / a.block_size];
    }
    grid_wait();
    if (at <= 0) return;
    a.positions[s] = position + 1;
    a.seq_lens[s] = at + 1;
    a.slots[s] = block >= 0 && block < a.kv_blocks ? (i64)block * a.block_size + at % a.block_size : -1;
}
