/* Fuzzes everything that is done with an artifact (use.h), on the CPU and on the fake driver. Inputs get
 * right hashes before they are tried (mutate.c), so that the fuzzer sees what lies behind them. */
#include "file.h"
#include "use.h"
#include <stdlib.h>

unsigned long fake_wild_addresses(void);
void fake_forget(void);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    static use_devices all;
    use_counts n = {0};
    ccc_err err;
    if (!all.cpu) {
        cccrt_device_args cpu = {.size_B = sizeof cpu, .kind = "cpu", .n_threads = 1},
                          cuda = {.size_B = sizeof cuda, .kind = "cuda"};
        setenv("FAKE_CUDA_MEMORY", "0x10000000", 1);
        fuzz_require(cccrt_device_open(&all.cpu, &cpu, &err) == CCC_OK &&
                     cccrt_device_open(&all.cuda, &cuda, &err) == CCC_OK);
    }
    use_artifact(data, size_B, &all, &n);
    fuzz_require(!fake_wild_addresses());
    fake_forget();
    return 0;
}
