/* A libcuda.so.1 for kernels_check without a GPU: memory is memory, a module is a shared library made of its template and emu_gemm.h, a
 * tensor map says what it was made of. Nothing can be timed. */
#include <cuda.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OUT __attribute__((visibility("default"))) CUresult
typedef void launch_fn(int gx, int gy, int threads, int cluster, const void *args);
typedef struct { const char *base; uint64_t cols, rows, ld; uint32_t box_cols, box_rows; } emu_tmap;

OUT cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
OUT cuDeviceGet(CUdevice *d, int i) { *d = i; return CUDA_SUCCESS; }
OUT cuDeviceGetName(char *name, int n, CUdevice d) { (void)d; strncpy(name, "emulated", (size_t)n); return CUDA_SUCCESS; }
OUT cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) { (void)d; *v = 5; return a == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }
OUT cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) { (void)d; *c = NULL; return CUDA_SUCCESS; }
OUT cuCtxSetCurrent(CUcontext c) { return c ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
OUT cuCtxSynchronize(void) { return CUDA_SUCCESS; }
OUT cuGetErrorString(CUresult r, const char **s) { *s = r == CUDA_ERROR_NOT_SUPPORTED ? "not emulated" : "refused by the emulation"; return CUDA_SUCCESS; }

OUT cuMemAlloc_v2(CUdeviceptr *p, size_t n) { return (*p = (CUdeviceptr)aligned_alloc(256, (n + 255) / 256 * 256)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY; }
OUT cuMemFree_v2(CUdeviceptr p) { free((void *)p); return CUDA_SUCCESS; }
OUT cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t n) { memcpy(to, (void *)from, n); return CUDA_SUCCESS; }
OUT cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t n) { memcpy((void *)to, from, n); return CUDA_SUCCESS; }
OUT cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) { memcpy((void *)to, (void *)from, n); return CUDA_SUCCESS; }
OUT cuMemsetD8_v2(CUdeviceptr p, unsigned char v, size_t n) { memset((void *)p, v, n); return CUDA_SUCCESS; }

OUT cuModuleLoad(CUmodule *m, const char *path) { return (*m = (CUmodule)dlopen(path, RTLD_NOW | RTLD_LOCAL)) ? CUDA_SUCCESS : CUDA_ERROR_FILE_NOT_FOUND; }
OUT cuModuleUnload(CUmodule m) { return dlclose(m) ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS; }
OUT cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) { (void)name; return (*f = (CUfunction)dlsym(m, "emu_launch")) ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND; }
OUT cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) { (void)f, (void)a; return v > 232448 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
OUT cuTensorMapEncodeTiled(CUtensorMap *m, CUtensorMapDataType type, cuuint32_t rank, void *base, const cuuint64_t *dim, const cuuint64_t *pitch, const cuuint32_t *box,
                           const cuuint32_t *step, CUtensorMapInterleave il, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion l2, CUtensorMapFloatOOBfill fill)
{
    (void)step, (void)il, (void)l2, (void)fill;
    unsigned size = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 1;
    if ((size == 1 && type != CU_TENSOR_MAP_DATA_TYPE_UINT8) || rank != 2 || swizzle != CU_TENSOR_MAP_SWIZZLE_128B || (uintptr_t)base % 16 || pitch[0] % 16) return CUDA_ERROR_INVALID_VALUE;
    if (!box[0] || !box[1] || box[0] > 256 || box[1] > 256) return CUDA_ERROR_INVALID_VALUE;
    emu_tmap t = {base, dim[0] * size, dim[1], pitch[0], box[0] * size, box[1]};
    memcpy(m, &t, sizeof t);
    return CUDA_SUCCESS;
}
OUT cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
    (void)extra;
    launch_fn *run = (launch_fn *)(uintptr_t)f;
    run((int)c->gridDimX, (int)c->gridDimY, (int)c->blockDimX, c->numAttrs ? (int)c->attrs[0].value.clusterDim.x : 1, params[0]);
    return CUDA_SUCCESS;
}

#define NOT(f, ...) OUT f(__VA_ARGS__) { return CUDA_ERROR_NOT_SUPPORTED; }
#pragma GCC diagnostic ignored "-Wunused-parameter"
NOT(cuStreamCreate, CUstream *s, unsigned flags)
NOT(cuEventCreate, CUevent *e, unsigned flags)
NOT(cuEventRecord, CUevent e, CUstream s)
NOT(cuEventSynchronize, CUevent e)
NOT(cuEventElapsedTime_v2, float *ms, CUevent a, CUevent b)
NOT(cuGraphCreate, CUgraph *g, unsigned flags)
NOT(cuGraphDestroy, CUgraph g)
NOT(cuGraphExecDestroy, CUgraphExec g)
NOT(cuGraphAddKernelNode_v2, CUgraphNode *n, CUgraph g, const CUgraphNode *d, size_t k, const CUDA_KERNEL_NODE_PARAMS *p)
NOT(cuGraphKernelNodeSetAttribute, CUgraphNode n, CUlaunchAttributeID a, const CUlaunchAttributeValue *v)
NOT(cuGraphAddDependencies_v2, CUgraph g, const CUgraphNode *a, const CUgraphNode *b, const CUgraphEdgeData *e, size_t n)
NOT(cuGraphInstantiateWithFlags, CUgraphExec *e, CUgraph g, unsigned long long flags)
NOT(cuGraphUpload, CUgraphExec e, CUstream s)
NOT(cuGraphLaunch, CUgraphExec e, CUstream s)
