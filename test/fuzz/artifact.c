/* Fuzzes everything that is done with an artifact (use.h), on the CPU and on the fake driver. Inputs get
 * right hashes before they are tried (mutate.c), so that the fuzzer sees what lies behind them. Host images
 * must be `ret` alone: what foreign machine code does is not the question. */
#include "../../runtime/ccart_codec.h"
#include "file.h"
#include "use.h"
#include <stdlib.h>

unsigned long fake_wild_addresses(void);
void fake_forget(void);

/* Machine code that is not all `ret` must not run. */
static bool harmless(const uint8_t *data, size_t size_B)
{
    ccart_file *f;
    bool fine = true;
    if (ccart_decode(&f, data, size_B, 0, NULL) != CCC_OK) return true;
    for (uint32_t t = 0; t < f->n_targets; t++)
        for (uint32_t m = 0; m < f->target[t].n_modules; m++)
            for (uint64_t i = 0; fine && f->target[t].module[m].kind == CCART_MODULE_HOST &&
                                 i < f->target[t].module[m].size_B;
                 i++)
                fine = f->target[t].module[m].data[i] == 0xc3;
    ccart_release(f);
    return fine;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_B)
{
    static use_devices all;
    use_devices d;
    use_counts n = {0};
    ccc_err err;
    if (!all.cpu) {
        cccrt_device_args cpu = {.size_B = sizeof cpu, .kind = "cpu", .n_threads = 1},
                          cuda = {.size_B = sizeof cuda, .kind = "cuda"};
        setenv("FAKE_CUDA_MEMORY", "0x10000000", 1);
        fuzz_require(cccrt_device_open(&all.cpu, &cpu, &err) == CCC_OK &&
                     cccrt_device_open(&all.cuda, &cuda, &err) == CCC_OK);
    }
    d = all;
    if (!harmless(data, size_B)) d.cpu = NULL;
    use_artifact(data, size_B, &d, &n);
    fuzz_require(!fake_wild_addresses());
    fake_forget();
    return 0;
}
