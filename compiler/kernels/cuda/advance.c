/* One decode step further, on the device: each sequence has one token more, and its next cache slot is looked up in the block table.
 * A sequence of length 0 is padding and stays as it is. Where the table or the cache ends, the slot becomes -1: nothing is written. */
#include "k.h"
#include "../attention_geometry.h"

KERNEL ccc_kernel(advance_args a)
{
    for (i32 s = cta() * CCC_ADVANCE_THREADS + tid(); s < a.S; s += ncta() * CCC_ADVANCE_THREADS) {
        i32 at = a.seq_lens[s]; /* the cache row of the new token */
        if (at <= 0) continue;
        i32 block = at / a.block_size < a.max_blocks ? a.table[(i64)s * a.max_blocks + at / a.block_size] : -1;
        a.positions[s] += 1;
        a.seq_lens[s] = at + 1;
        a.slots[s] = block >= 0 && block < a.kv_blocks ? (i64)block * a.block_size + at % a.block_size : -1;
    }
}
