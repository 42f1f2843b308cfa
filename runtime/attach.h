/* Attaching weights: what the source is (weights.c), the stream of its bytes to the device (attach.c), the
 * prepared file (ccw.c). */
#ifndef CCCRT_ATTACH_H
#define CCCRT_ATTACH_H
#include "rt.h"
#include "tensors.h"

typedef struct {                       /* where a segment's source bytes are: one of the three */
    const cccrt_source_tensor *tensor; /* in the open source */
    const void *host;
    const void *device;
} rt_place;

typedef struct { /* an open prepared file */
    int fd;
    uint32_t block_B, n_blocks;
    uint64_t data_B, data_at_B;
    uint8_t layout_hash[16];
    uint8_t *hash; /* [n_blocks][16] */
} rt_ccw;

typedef struct {
    cccrt_weights *w;
    const cccrt_weights_args *args;
    cccrt_source *source;
    rt_ccw ccw;
    bool prepared;
    rt_place *place; /* [n_segments] */
} rt_attach;

uint64_t rt_segment_rows(const ccart_segment *s);
/* Extra memory while weights are attached from files: the most that this library takes. */
enum { RT_SLOT_B = 4 << 20, RT_READERS = 12, RT_SLOTS_A_READER = 2 };
uint64_t rt_attach_staging_B(const ccart_target *t);
ccc_status rt_attach_run(rt_attach *a, ccc_err *err);

bool rt_ccw_is(const char *path);
ccc_status rt_ccw_open(rt_ccw *out, const char *path, ccc_err *err);
ccc_status rt_ccw_read(const rt_ccw *c, uint32_t block, void *dst,
                       ccc_err *err); /* reads and checks one block */
uint32_t rt_ccw_block_size(const rt_ccw *c, uint32_t block);
void rt_ccw_close(rt_ccw *c);
#endif
