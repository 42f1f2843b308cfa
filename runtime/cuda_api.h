/* The part of the CUDA driver's interface that libcccrt uses, declared here so that no toolkit is needed to build it: types, numbers and
 * entry points with the version in their symbol names. Where cuda.h is found at build time, cuda_check.c compares. */
#ifndef CCCRT_CUDA_API_H
#define CCCRT_CUDA_API_H
#include <stddef.h>
#include <stdint.h>

typedef int cu_result; /* 0: success */
typedef int cu_device;
typedef struct cu_context_s *cu_context;
typedef struct cu_module_s *cu_module;
typedef struct cu_function_s *cu_function;
typedef struct cu_stream_s *cu_stream;
typedef struct cu_event_s *cu_event;
typedef struct cu_graph_s *cu_graph;
typedef struct cu_node_s *cu_node;
typedef struct cu_exec_s *cu_exec;
typedef unsigned long long cu_ptr;

enum { /* results */
    CU_INVALID_VALUE = 1, CU_OUT_OF_MEMORY = 2, CU_NOT_READY = 600, CU_ECC = 214, CU_ILLEGAL_ADDRESS = 700, CU_LAUNCH_TIMEOUT = 702, CU_CONTEXT_DESTROYED = 709,
    CU_ASSERT = 710, CU_HARDWARE_STACK = 714, CU_ILLEGAL_INSTRUCTION = 715, CU_MISALIGNED = 716, CU_ADDRESS_SPACE = 717, CU_INVALID_PC = 718,
    CU_LAUNCH_FAILED = 719, CU_CAPTURE_IMPLICIT = 906, CU_UNKNOWN = 999
};
enum { /* attributes and flags */
    CU_DEV_SM_COUNT = 16, CU_DEV_CC_MAJOR = 75, CU_DEV_CC_MINOR = 76,
    CU_FUNC_MAX_DYNAMIC_SHARED = 8, CU_FUNC_CARVEOUT = 9, CU_FUNC_NON_PORTABLE_CLUSTER = 14,
    CU_JIT_LOG = 5, CU_JIT_LOG_SIZE = 6, CU_HOSTALLOC_PORTABLE = 1, CU_HOSTALLOC_DEVICEMAP = 2, CU_HOSTREGISTER_PORTABLE = 1, CU_STREAM_OWN = 1, CU_EVENT_NO_TIMING = 2,
    CU_ATTR_COOPERATIVE = 2, CU_ATTR_CLUSTER = 4, CU_ATTR_PROGRAMMATIC = 6, CU_PORT_PROGRAMMATIC = 1, CU_EDGE_PROGRAMMATIC = 1,
    CU_MEMORY_DEVICE = 2, CU_RESOURCE_SM = 1, CU_AFFINITY_SM_COUNT = 0,
    CU_TMAP_U8 = 0, CU_TMAP_I32 = 3, CU_TMAP_F16 = 6, CU_TMAP_F32 = 7, CU_TMAP_BF16 = 9
};
typedef union { char pad[64]; int number; struct { unsigned x, y, z; } cluster; } cu_attr_value;
typedef struct { unsigned id; char pad[4]; cu_attr_value value; } cu_attr;
typedef struct { unsigned grid[3], block[3], shared_B; cu_stream stream; cu_attr *attrs; unsigned n_attrs; } cu_launch;
typedef struct { cu_function func; unsigned grid[3], block[3], shared_B; void **params, **extra; void *kernel; cu_context ctx; } cu_kernel_node;
typedef struct { uint8_t from_port, to_port, type, reserved[5]; } cu_edge;
typedef struct { cu_ptr dst; size_t pitch; unsigned value, element_B; size_t width, height; } cu_memset_node;
typedef struct {
    size_t src_x_B, src_y, src_z, src_lod; unsigned src_type; const void *src_host; cu_ptr src; void *src_array, *reserved0; size_t src_pitch, src_height;
    size_t dst_x_B, dst_y, dst_z, dst_lod; unsigned dst_type; void *dst_host; cu_ptr dst; void *dst_array, *reserved1; size_t dst_pitch, dst_height;
    size_t width_B, height, depth;
} cu_memcpy_node;
typedef struct { _Alignas(64) uint64_t opaque[16]; } cu_tensor_map;
typedef struct { unsigned type; unsigned char internal[92]; union { unsigned sm_count; unsigned char oversize[48]; }; } cu_resource;
typedef struct { unsigned type; unsigned sm_count; } cu_affinity;

/* X(name here, symbol, parameters) */
#define CU_ENTRY_POINTS(X)                                                                                                       \
    X(init, cuInit, (unsigned flags))                                                                                            \
    X(driver_version, cuDriverGetVersion, (int *version))                                                                        \
    X(error_string, cuGetErrorString, (cu_result r, const char **s))                                                             \
    X(device_count, cuDeviceGetCount, (int *n))                                                                                  \
    X(device_get, cuDeviceGet, (cu_device *d, int ordinal))                                                                      \
    X(device_name, cuDeviceGetName, (char *name, int size_B, cu_device d))                                                       \
    X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, cu_device d))                                          \
    X(primary_retain, cuDevicePrimaryCtxRetain, (cu_context *c, cu_device d))                                                    \
    X(primary_release, cuDevicePrimaryCtxRelease_v2, (cu_device d))                                                              \
    X(ctx_push, cuCtxPushCurrent_v2, (cu_context c))                                                                             \
    X(ctx_pop, cuCtxPopCurrent_v2, (cu_context *c))                                                                              \
    X(ctx_device, cuCtxGetDevice, (cu_device *d))                                                                                \
    X(ctx_synchronize, cuCtxSynchronize, (void))                                                                                 \
    X(mem_info, cuMemGetInfo_v2, (size_t *free_B, size_t *total_B))                                                              \
    X(mem_alloc, cuMemAlloc_v2, (cu_ptr *p, size_t size_B))                                                                      \
    X(mem_free, cuMemFree_v2, (cu_ptr p))                                                                                        \
    X(host_alloc, cuMemHostAlloc, (void **p, size_t size_B, unsigned flags))                                                     \
    X(host_free, cuMemFreeHost, (void *p))                                                                                       \
    X(host_pointer, cuMemHostGetDevicePointer_v2, (cu_ptr *p, void *host, unsigned flags))                                       \
    X(host_register, cuMemHostRegister_v2, (void *p, size_t size_B, unsigned flags))                                             \
    X(host_unregister, cuMemHostUnregister, (void *p))                                                                           \
    X(copy, cuMemcpyAsync, (cu_ptr dst, cu_ptr src, size_t size_B, cu_stream s))                                                 \
    X(fill, cuMemsetD8Async, (cu_ptr dst, unsigned char byte, size_t n, cu_stream s))                                            \
    X(stream_new, cuStreamCreate, (cu_stream *s, unsigned flags))                                                                \
    X(stream_free, cuStreamDestroy_v2, (cu_stream s))                                                                            \
    X(stream_synchronize, cuStreamSynchronize, (cu_stream s))                                                                    \
    X(stream_capturing, cuStreamIsCapturing, (cu_stream s, int *status))                                                         \
    X(event_new, cuEventCreate, (cu_event *e, unsigned flags))                                                                   \
    X(event_free, cuEventDestroy_v2, (cu_event e))                                                                               \
    X(event_record, cuEventRecord, (cu_event e, cu_stream s))                                                                    \
    X(event_query, cuEventQuery, (cu_event e))                                                                                   \
    X(event_synchronize, cuEventSynchronize, (cu_event e))                                                                       \
    X(event_ms, cuEventElapsedTime, (float *ms, cu_event from, cu_event to))                                                     \
    X(module_load, cuModuleLoadDataEx, (cu_module *m, const void *image, unsigned n, int *options, void **values))               \
    X(module_unload, cuModuleUnload, (cu_module m))                                                                              \
    X(module_function, cuModuleGetFunction, (cu_function *f, cu_module m, const char *name))                                     \
    X(func_set, cuFuncSetAttribute, (cu_function f, int attribute, int value))                                                   \
    X(occupancy_blocks, cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *n, cu_function f, int block, size_t shared_B))        \
    X(occupancy_clusters, cuOccupancyMaxActiveClusters, (int *n, cu_function f, const cu_launch *l))                             \
    X(tensor_map, cuTensorMapEncodeTiled, (cu_tensor_map *m, int dtype, unsigned rank, void *base, const uint64_t *dim,          \
        const uint64_t *stride, const uint32_t *box, const uint32_t *step, int interleave, int swizzle, int promotion, int fill)) \
    X(launch, cuLaunchKernelEx, (const cu_launch *l, cu_function f, void **params, void **extra))                                \
    X(graph_new, cuGraphCreate, (cu_graph *g, unsigned flags))                                                                   \
    X(graph_free, cuGraphDestroy, (cu_graph g))                                                                                  \
    X(graph_kernel, cuGraphAddKernelNode_v2, (cu_node *n, cu_graph g, const cu_node *deps, size_t n_deps, const cu_kernel_node *p)) \
    X(graph_kernel_attr, cuGraphKernelNodeSetAttribute, (cu_node n, unsigned id, const cu_attr_value *value))                    \
    X(graph_memset, cuGraphAddMemsetNode, (cu_node *n, cu_graph g, const cu_node *deps, size_t n_deps, const cu_memset_node *p, cu_context c)) \
    X(graph_memcpy, cuGraphAddMemcpyNode, (cu_node *n, cu_graph g, const cu_node *deps, size_t n_deps, const cu_memcpy_node *p, cu_context c)) \
    X(graph_edges, cuGraphAddDependencies_v2, (cu_graph g, const cu_node *from, const cu_node *to, const cu_edge *data, size_t n)) \
    X(graph_instantiate, cuGraphInstantiateWithFlags, (cu_exec *e, cu_graph g, unsigned long long flags))                        \
    X(exec_upload, cuGraphUpload, (cu_exec e, cu_stream s))                                                                      \
    X(exec_launch, cuGraphLaunch, (cu_exec e, cu_stream s))                                                                      \
    X(exec_free, cuGraphExecDestroy, (cu_exec e))
/* may be missing in older drivers: NULL then */
#define CU_OPTIONAL_POINTS(X)                                                                                                    \
    X(func_load, cuFuncLoad, (cu_function f))                                                                                    \
    X(func_param, cuFuncGetParamInfo, (cu_function f, size_t i, size_t *offset_B, size_t *size_B))                               \
    X(ctx_resource, cuCtxGetDevResource, (cu_context c, cu_resource *r, unsigned type))                                          \
    X(ctx_affinity, cuCtxGetExecAffinity, (cu_affinity *a, unsigned type))

typedef struct {
#define X(name, symbol, params) cu_result (*name) params;
    CU_ENTRY_POINTS(X) CU_OPTIONAL_POINTS(X)
#undef X
} cu_api;
#endif
