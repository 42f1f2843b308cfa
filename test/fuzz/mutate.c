/* How libFuzzer changes an artifact: where its numbers lie (fields.c, change.c), or anywhere; then all hashes
 * are made right. */
#include "file.h"
#include "seal.h"
#include <stdlib.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size_B, size_t room_B);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size_B, size_t room_B, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size_B, size_t room_B, unsigned seed)
{
    seal_random r = {seed};
    if (seal_next(&r) % 4 == 0) {
        size_B = LLVMFuzzerMutate(data, size_B, room_B);
        seal_again(data, size_B);
        return size_B;
    }
    uint8_t *copy = malloc(size_B ? size_B : 1);
    fuzz_require(copy != NULL);
    memcpy(copy, data, size_B);
    seal_base b = {.plain = copy, .plain_B = size_B, .packed = copy, .packed_B = size_B};
    if (seal_watch(&b.fields, copy, size_B) && b.fields.n) {
        size_t n = seal_change(&b, &r, data, room_B);
        size_B = n ? n : size_B;
    } else {
        size_B = LLVMFuzzerMutate(data, size_B, room_B);
        seal_again(data, size_B);
    }
    seal_fields_free(&b.fields);
    free(copy);
    return size_B;
}
