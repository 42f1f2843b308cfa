/* Does with an artifact what an engine does: open, verify, info, memory, attach random weights, make a
 * session, step. For artifacts that nobody vouches for: the machine code of the CPU's target must have been
 * replaced by code that does no harm. Whatever happens must be an error with a message or a success; anything
 * else aborts. */
#ifndef USE_H
#define USE_H
#include <stddef.h>
#include <stdint.h>
#include "../../runtime/cccrt.h"

typedef struct {
    cccrt_device *cpu, *cuda;
} use_devices; /* NULL: left out */
typedef struct {
    uint32_t opened, attached, sessions, steps;
} use_counts;
void use_artifact(const void *data, size_t size_B, const use_devices *d, use_counts *n);
void use_fail(const char *what, const char *detail); /* says it and aborts */
/* A copy of the artifact in which every module is the least that passes for one: host images return at once,
 * PTX has entries alone. Its chunks are stored as they are (plain) and packed. free() both. */
typedef struct {
    uint8_t *plain, *packed;
    size_t plain_B, packed_B;
} use_skeleton;
void use_make_skeleton(use_skeleton *out, const void *data, size_t size_B);
#endif
