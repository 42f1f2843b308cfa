/* What the files of libcccrt share. Objects are reference-counted: each keeps the ones it was made from
 * alive, so that the caller may close them in any order. A step touches its session alone; everything else is
 * immutable after it was made, or behind a lock that only the making of objects takes. */
#ifndef CCCRT_RT_H
#define CCCRT_RT_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "ccart_codec.h"
#include "cccrt.h"

typedef struct rt_backend rt_backend;
enum { RT_ALIGN_B = 256 }; /* of every buffer and of every weight in the weights' buffer */

struct cccrt_artifact {
    atomic_uint refs;
    ccart_file *file;
    void *owned; /* the file's bytes when we read them ourselves */
    const void *data;
    size_t size_B;
    bool allow_host_code;
    double open_ms;
};

struct cccrt_device { /* first member of the back end's own struct */
    atomic_uint refs;
    const rt_backend *backend;
    atomic_int lost; /* a driver error that leaves the context unusable: every later call says so */
    long pid;        /* a child process must not touch the parent's device */
    bool is_cuda;
    int cc, n_sm, driver_version; /* cpu: n_sm is the number of threads */
    char name[96];
    double context_ms;
};

/* ---- code: one target's kernels on one device, loaded when first needed */
typedef struct {
    void *entry;
    int64_t resident;
    bool loaded;
} rt_kernel; /* entry: CUfunction, or a host function */
typedef struct rt_code {
    atomic_uint refs;
    cccrt_artifact *artifact;
    cccrt_device *device;
    const ccart_target *target;
    uint32_t target_index;
    pthread_mutex_t lock; /* taken while kernels are loaded, never by a step */
    rt_kernel *kernel;    /* [n_kernels] */
    void **module;        /* [n_modules] what the back end made of each, NULL: not loaded */
    uint8_t *ptx;         /* unpacked when the first kernel without a cubin that fits is loaded */
    void *constant;       /* the target's constant data on the device */
    double modules_ms;
} rt_code;
ccc_status rt_code_open(rt_code **out, cccrt_artifact *a, cccrt_device *d,
                        ccc_err *err); /* chooses the target */
rt_code *rt_code_retain(rt_code *c);
void rt_code_close(rt_code *c);
/* Loads the kernels that the program's nodes name. */
ccc_status rt_code_need(rt_code *c, const ccart_program *p, ccc_err *err);
double rt_code_modules_ms(rt_code *c);

/* ---- resolved programs (resolve.c): the nodes of a program with numbers and addresses put in */
typedef struct {
    uint8_t kind, edge, fill;     /* CCART_NODE_*, CCART_EDGE_* */
    uint32_t kernel, node, label; /* node: its number in the program */
    uint32_t grid[3];
    const uint8_t *args; /* KERNEL: the argument struct */
    void *dst;
    const void *src;
    uint64_t size_B; /* MEMSET, COPY */
} rt_launch;
typedef struct {
    rt_launch *launch;
    uint32_t n, cap;
    uint8_t *args;
    size_t args_B, args_cap_B;
} rt_list;
/* Room for p, and `behind` after it unless that is NULL; of all calls the largest. */
ccc_status rt_list_reserve(rt_list *l, const ccart_target *t, const ccart_program *p,
                           const ccart_program *behind, ccc_err *err);
void rt_list_free(rt_list *l);

typedef struct {
    uint64_t base, dim[CCART_MAX_RANK], stride[CCART_MAX_RANK];
} rt_tmap_key;
typedef struct {
    _Alignas(64) uint8_t map[128];
    rt_tmap_key key;
    bool valid;
} rt_tmap; /* encoded once as long as its numbers stay */

typedef struct {
    char *p;
    uint64_t size_B;
} rt_buffer;
typedef struct { /* where the addresses of a program come from; load programs use a part of it */
    rt_code *code;
    char *weights;
    const uint64_t *weight_at_B;
    rt_buffer arena, counters, src;
    rt_buffer *in, *out;
    const cccrt_kv *kv;
    void *status;
    uint64_t seed;
    int64_t var[CCART_N_VARS]; /* RESIDENT is filled in for each node */
} rt_scope;
/* tmaps: p->n_tmaps entries kept by the caller, NULL when p has none. Allocates nothing. */
ccc_status rt_resolve(rt_list *out, rt_scope *s, const ccart_program *p, rt_tmap *tmaps, ccc_err *err);
/* The same behind what is in the list already. */
ccc_status rt_resolve_behind(rt_list *out, rt_scope *s, const ccart_program *p, rt_tmap *tmaps, ccc_err *err);
/* Evaluates expression e of the io table. */
ccc_status rt_io_bytes(uint64_t *out, const ccart_target *t, const ccart_io *io,
                       const int64_t var[CCART_N_VARS], ccc_err *err);

/* ---- what a device can do: one table for CUDA, one for the CPU. Addresses are device addresses unless they
 * say host. */
typedef struct {
    uint32_t dtype, rank, swizzle, promotion;
    uint64_t base, dim[CCART_MAX_RANK], stride[CCART_MAX_RANK];
    uint32_t box[CCART_MAX_RANK];
} rt_tmap_spec;
struct rt_backend {
    void (*destroy)(cccrt_device *d);
    ccc_status (*enter)(cccrt_device *d,
                        ccc_err *err); /* makes the device's context current; pairs with leave */
    void (*leave)(cccrt_device *d);
    ccc_status (*can_run)(cccrt_device *d, const cccrt_artifact *a, const ccart_target *t, ccc_err *err);
    ccc_status (*memory)(cccrt_device *d, uint64_t *free_B, uint64_t *total_B, ccc_err *err);
    ccc_status (*alloc)(cccrt_device *d, void **out, size_t size_B, ccc_err *err);
    void (*release)(cccrt_device *d, void *p);
    ccc_status (*alloc_host)(cccrt_device *d, void **host, void **device, size_t size_B,
                             ccc_err *err); /* page-locked, mapped */
    void (*release_host)(cccrt_device *d, void *host);
    ccc_status (*lock_host)(cccrt_device *d, void *host, size_t size_B,
                            ccc_err *err); /* page-locks memory of ours; NULL on the CPU */
    void (*unlock_host)(cccrt_device *d, void *host);
    ccc_status (*copy)(cccrt_device *d, void *dst, const void *src, size_t size_B, void *stream,
                       ccc_err *err); /* either side may be host memory */
    ccc_status (*fill)(cccrt_device *d, void *dst, int byte, size_t size_B, void *stream, ccc_err *err);
    ccc_status (*synchronize)(cccrt_device *d, ccc_err *err);
    ccc_status (*stream_synchronize)(cccrt_device *d, void *stream, ccc_err *err);
    bool (*capturing)(cccrt_device *d, void *stream);
    ccc_status (*stream_new)(cccrt_device *d, void **out, ccc_err *err);
    void (*stream_free)(cccrt_device *d, void *stream);
    ccc_status (*event_new)(cccrt_device *d, void **out, bool timing, ccc_err *err);
    void (*event_free)(cccrt_device *d, void *event);
    ccc_status (*event_record)(cccrt_device *d, void *event, void *stream, ccc_err *err);
    ccc_status (*event_wait)(cccrt_device *d, void *event, ccc_err *err); /* the host waits */
    ccc_status (*event_ms)(cccrt_device *d, double *ms, void *from, void *to, ccc_err *err);
    ccc_status (*load_kernel)(rt_code *c, uint32_t kernel, ccc_err *err);
    void (*unload)(rt_code *c); /* all modules of c */
    ccc_status (*encode_tmap)(cccrt_device *d, uint8_t out[128], const rt_tmap_spec *m, ccc_err *err);
    ccc_status (*run)(rt_code *c, const rt_list *l, void *stream, ccc_err *err);
    /* NULL on the CPU: a list of launches as one object */
    ccc_status (*graph_new)(void **out, rt_code *c, const rt_list *l, void *stream, ccc_err *err);
    ccc_status (*graph_launch)(cccrt_device *d, void *graph, void *stream, ccc_err *err);
    void (*graph_free)(cccrt_device *d, void *graph);
};
ccc_status rt_cuda_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err);
ccc_status rt_cpu_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err);
typedef struct {
    uint32_t block[3], grid[3];
    uint32_t thread, n_threads;
    void *scratch;
} rt_host_ctx;          /* what a CPU kernel gets: compiler/kernels/abi.h */
int rt_cpu_level(void); /* 4, 3, or 0 for less */
void rt_device_init(cccrt_device *d, const rt_backend *b);
cccrt_device *rt_device_retain(cccrt_device *d);
/* The frame of each call that uses a device: checks process and health, makes the context current. */
ccc_status rt_enter(cccrt_device *d, ccc_err *err);
void rt_leave(cccrt_device *d);
ccc_status rt_target_for(uint32_t *index, cccrt_device *d, const cccrt_artifact *a, ccc_err *err);

/* ---- weights, KV cache */
struct cccrt_weights {
    atomic_uint refs;
    rt_code *code;
    char *base;
    uint64_t size_B; /* of the whole buffer */
    uint64_t *at_B;  /* [n_weights] */
    double attach_ms;
};
cccrt_artifact *rt_artifact_retain(cccrt_artifact *a);
uint64_t rt_weight_places(const ccart_target *t,
                          uint64_t *at_B); /* at_B may be NULL; returns the size of the buffer */
int64_t rt_kv_row_B(const ccart_file *f); /* of one token and head, K or V */
void rt_kv_strides(const ccart_file *f, cccrt_kv *kv, uint64_t *layer_B,
                   bool *joined); /* one block of a layer's K, or of K and V where joined */
double rt_now_ms(void);

/* ---- arguments of the public functions */
/* Copies a caller's struct: what it does not have is 0; what we do not know must be 0. */
ccc_status rt_args(void *to, size_t to_B, const void *from, const char *what, ccc_err *err);
void rt_result(void *to, const void *from,
               size_t from_B); /* fills the caller's struct up to the size it states */
#endif
