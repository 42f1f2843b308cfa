/* libcccrt: loads an artifact and replays it. The one public header; compiles alone as C99, C11 and C++17.
 *
 * Four objects. An engine that has a context, streams, weights and a KV cache on the GPU passes them as they are.
 *   cccrt_artifact   the file: mapped, checked, immutable; usable from any thread
 *   cccrt_device     a GPU (ordinal, or the caller's CUcontext) or the CPU's thread pool; usable from any thread
 *   cccrt_weights    the final bytes of all weights on one device; reference-counted, shared by sessions and by artifacts with the same layout
 *   cccrt_session    an arena, its inputs and outputs, and its graphs; one thread at a time, any number of sessions side by side
 *
 * Conventions. Every function that can fail returns ccc_status, takes its outputs first and `ccc_err *err` last (may be NULL).
 * What comes back through T** is owned by the caller and released with the matching _close, which accepts NULL. An object keeps what it needs
 * of the others alive: close in any order. Argument structs begin with their size (`size_B = sizeof args`), so that older callers keep working:
 * fields beyond the caller's size are taken as 0, and 0 means the default. Nothing here prints, exits, or reads the environment.
 * Streams are CUstream passed as void * (NULL: the default stream); on the CPU they are ignored and a step returns when it is done. */
#ifndef CCCRT_H
#define CCCRT_H
#include <stddef.h>
#include <stdint.h>
#include "ccc_err.h"

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#define CCCRT_API __attribute__((visibility("default")))
#else
#define CCCRT_API
#endif

enum { CCCRT_ABI = 1 };
CCCRT_API int cccrt_abi_version(void);           /* CCCRT_ABI of the library */
CCCRT_API const char *cccrt_version(void);       /* "0.1.0" */

typedef struct cccrt_artifact cccrt_artifact;
typedef struct cccrt_device cccrt_device;
typedef struct cccrt_weights cccrt_weights;
typedef struct cccrt_session cccrt_session;

/* ---- artifact ----------------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size_B;
    int allow_host_code;   /* 1: host targets (machine code) may be run. Without it they are listed, never mapped executable. */
} cccrt_open_args;
CCCRT_API ccc_status cccrt_artifact_open(cccrt_artifact **out, const char *path, const cccrt_open_args *args, ccc_err *err);
/* `data` must stay valid and unchanged until close. */
CCCRT_API ccc_status cccrt_artifact_open_memory(cccrt_artifact **out, const void *data, size_t size_B, const cccrt_open_args *args, ccc_err *err);
CCCRT_API void cccrt_artifact_close(cccrt_artifact *a);
/* Checks all hashes (open checks the table of contents and what it uses) and every structure of every target. Maps nothing executable. */
CCCRT_API ccc_status cccrt_artifact_verify(const cccrt_artifact *a, ccc_err *err);
/* One documented JSON object (runtime/README.md, "info"): format, targets, limits, sizes, memory, kernels, programs, weights, provenance, facts. Release with cccrt_free. */
CCCRT_API ccc_status cccrt_artifact_info(char **json_out, const cccrt_artifact *a, ccc_err *err);
CCCRT_API void cccrt_free(void *p);
/* The model's limits; fields the model does not have are 0. Borrowed strings live as long as the artifact. */
typedef struct {
    size_t size_B;
    int64_t max_tokens, max_seqs, max_model_len, vocab, hidden;
    uint32_t n_layers, kv_heads, head_size, kv_block_size;
    const char *kv_layout, *kv_dtype;       /* "nhd", "hnd", "ccc"; "bf16", "e4m3" */
    uint32_t n_sizes; const uint32_t *sizes; /* captured sizes, ascending */
    uint32_t n_targets; uint32_t n_programs; uint32_t n_kernels;
} cccrt_model;
CCCRT_API void cccrt_artifact_model(const cccrt_artifact *a, cccrt_model *out);
CCCRT_API const char *cccrt_artifact_fact(const cccrt_artifact *a, const char *key);  /* NULL: none */
CCCRT_API const char *cccrt_artifact_target(const cccrt_artifact *a, uint32_t i);     /* name of target i, NULL past the end */
/* Memory that a use would take, in bytes, exact for what ccc allocates. */
typedef struct { size_t size_B; uint64_t weights, arena, io, counters, kv, attach_extra_device, attach_extra_host; } cccrt_memory;
CCCRT_API ccc_status cccrt_artifact_memory(cccrt_memory *out, const cccrt_artifact *a, const char *target, int64_t kv_blocks, ccc_err *err);

/* ---- device ------------------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size_B;
    const char *kind;      /* "cuda", "cpu"; NULL: cuda if a driver and a device are there, else cpu */
    int ordinal;           /* cuda: which device, when context is NULL: its primary context is retained and never reset */
    void *context;         /* cuda: the caller's CUcontext (also a green context's), not owned */
    int n_threads;         /* cpu: threads, 0: one for each processor this process may run on */
} cccrt_device_args;
CCCRT_API ccc_status cccrt_device_open(cccrt_device **out, const cccrt_device_args *args, ccc_err *err);
CCCRT_API void cccrt_device_close(cccrt_device *d);
typedef struct { size_t size_B; char name[96]; int is_cuda, cc, n_sm, driver_version; uint64_t free_B, total_B; } cccrt_device_props;
CCCRT_API ccc_status cccrt_device_get_props(const cccrt_device *d, cccrt_device_props *out, ccc_err *err);
/* Which target of the artifact this device runs: its name (borrowed from the artifact), or an error that says what is missing. */
CCCRT_API ccc_status cccrt_device_can_run(const char **target, const cccrt_device *d, const cccrt_artifact *a, ccc_err *err);
CCCRT_API ccc_status cccrt_device_synchronize(cccrt_device *d, ccc_err *err);
/* Plain memory of the device, for callers without an allocator of their own (tests, bindings). */
CCCRT_API ccc_status cccrt_device_alloc(void **out, cccrt_device *d, size_t size_B, ccc_err *err);
CCCRT_API void cccrt_device_release(cccrt_device *d, void *p);
CCCRT_API ccc_status cccrt_device_copy(cccrt_device *d, void *dst, const void *src, size_t size_B, int dst_on_device, int src_on_device, ccc_err *err); /* returns when done */
CCCRT_API ccc_status cccrt_device_fill(cccrt_device *d, void *dst, int byte, size_t size_B, ccc_err *err);

/* ---- weights ------------------------------------------------------------------------------------------------------------------ */
typedef struct { /* one tensor that the caller holds */
    const char *name;
    const char *dtype;      /* "bf16", "f16", "f32", ... */
    uint32_t rank; int64_t shape[4];
    const void *data; size_t data_B;  /* contiguous, row-major */
    int on_device;          /* 1: memory of the session's device */
} cccrt_tensor;
typedef struct {
    size_t size_B;
    /* One of: path: a Hugging Face folder or .safetensors file, a GGUF file, or a prepared .ccw file (told apart by content); */
    const char *path;
    /* or random:  weights drawn from `seed` as the artifact's graph states (the same numbers on every device and machine); */
    int random; uint64_t seed;
    /* or tensors of the caller, copied, which need not outlive the call. */
    const cccrt_tensor *tensors; uint32_t n_tensors;
    void *stream;           /* for copies and load programs; attach returns when all is done */
    void (*progress)(void *payload, uint64_t done_B, uint64_t total_B); void *payload; /* may be NULL */
} cccrt_weights_args;
/* Checks names, shapes, dtypes and (where the source has a config) facts before anything is allocated; missing, extra or misshapen tensors are errors that name them. */
CCCRT_API ccc_status cccrt_weights_attach(cccrt_weights **out, const cccrt_artifact *a, cccrt_device *d, const cccrt_weights_args *args, ccc_err *err);
CCCRT_API cccrt_weights *cccrt_weights_retain(cccrt_weights *w);
CCCRT_API void cccrt_weights_close(cccrt_weights *w);
/* Final weight i: name, dtype, shape, and its address on the device. CCC_E_ARG past the end. For tests and inspection. */
CCCRT_API ccc_status cccrt_weights_get(const cccrt_weights *w, uint32_t i, cccrt_tensor *out, ccc_err *err);
/* Writes the final bytes of all weights to `path`, whole or not at all: attaching such a file is copies alone. */
CCCRT_API ccc_status cccrt_weights_save(cccrt_weights *w, const char *path, ccc_err *err);

/* ---- KV cache ----------------------------------------------------------------------------------------------------------------- */
typedef struct { /* where the cache lies: K and V base address of each layer, strides in bytes; the layout inside is the artifact's */
    size_t size_B;
    uint32_t n_layers; void *const *k; void *const *v;   /* [n_layers] device addresses; layout ccc: v[i] == k[i] */
    int64_t n_blocks, block_stride_B, token_stride_B, head_stride_B;
} cccrt_kv;
typedef struct cccrt_kv_cache cccrt_kv_cache;
CCCRT_API ccc_status cccrt_kv_alloc(cccrt_kv_cache **out, const cccrt_artifact *a, cccrt_device *d, int64_t n_blocks, ccc_err *err);
CCCRT_API void cccrt_kv_close(cccrt_kv_cache *kv);
CCCRT_API const cccrt_kv *cccrt_kv_describe(const cccrt_kv_cache *kv);  /* borrowed */

/* ---- session ------------------------------------------------------------------------------------------------------------------ */
enum { CCCRT_GRAPHS_ON_DEMAND = 0 /* each size when it is first used (not while a caller captures) */, CCCRT_GRAPHS_ALL = 1 /* all sizes before create returns */, CCCRT_GRAPHS_NONE = 2 /* every step eager */ };
typedef struct { const char *name; void *data; size_t data_B; } cccrt_binding; /* an input or output buffer of the caller's, on the device */
typedef struct {
    size_t size_B;
    const cccrt_kv *kv;                      /* copied; NULL only for a model without a cache */
    int64_t max_blocks_per_seq;              /* row stride of block_table, 0: ceil(max_model_len / block size) */
    int graphs;                              /* CCCRT_GRAPHS_* */
    const cccrt_binding *bindings; uint32_t n_bindings; /* inputs and outputs not named here get a buffer of the session's. Naming next_tokens' and
                                                           token_ids' buffer as one makes each step feed the next. inputs_embeds replaces the table when bound. */
    void *stream;                            /* for the set-up copies; create returns when they are done */
} cccrt_session_args;
CCCRT_API ccc_status cccrt_session_create(cccrt_session **out, const cccrt_artifact *a, cccrt_weights *w, const cccrt_session_args *args, ccc_err *err);
CCCRT_API void cccrt_session_close(cccrt_session *s);
CCCRT_API ccc_status cccrt_session_build_graphs(cccrt_session *s, ccc_err *err);   /* all sizes not built yet */
/* Address and size of an input or output of the session, by name: "token_ids", "positions", ..., "logits". */
CCCRT_API ccc_status cccrt_session_buffer(cccrt_session *s, const char *name, void **data, size_t *data_B, ccc_err *err);
/* Binds other buffers: every graph that names the old ones is built again when next used. */
CCCRT_API ccc_status cccrt_session_rebind(cccrt_session *s, const cccrt_binding *bindings, uint32_t n, ccc_err *err);

/* One step, with vLLM's names and meanings. Host pointers are copied into the bound buffers with one transfer on the stream; NULL means that the bound
 * buffer already holds the data (written by the caller or by a step before). Arguments in host memory are checked before anything is launched. */
typedef struct {
    size_t size_B;
    int64_t n_tokens, n_seqs, n_logits;      /* T, S, R. A model without sequences sets n_tokens alone. */
    int64_t max_query_len;                   /* longest query of a sequence; 0: taken from query_start_loc if given, else n_tokens == n_seqs means 1, else n_tokens */
    const int32_t *token_ids;                /* [T] */
    const int64_t *positions;                /* [T] */
    const int32_t *query_start_loc;          /* [S+1] */
    const int32_t *seq_lens;                 /* [S] with this step's tokens */
    const int32_t *block_table;              /* [S][block_table_stride] */
    int64_t block_table_stride;              /* 0: the session's max_blocks_per_seq */
    const int64_t *slot_mapping;             /* [T], -1: padding */
    const int32_t *logits_indices;           /* [R] rows of T */
    int mode;                                /* CCCRT_STEP_AUTO, or for measuring and tests the others */
    int advance;                             /* not 0: and then what cccrt_advance does, for steps of one token a sequence; in the same graph (built when
                                                first used) if n_seqs is a captured size, so that nothing lies between one step and the next */
} cccrt_step_args;
enum { CCCRT_STEP_AUTO = 0, CCCRT_STEP_EAGER = 1 /* no graph */, CCCRT_STEP_MIXED = 2 /* the mixed program even when every query is one token */ };
/* Enqueues and returns: no synchronisation (CPU: done), no allocation, no lock shared between sessions. Padded to the next captured size when there is a graph for it. */
CCCRT_API ccc_status cccrt_step(cccrt_session *s, const cccrt_step_args *args, void *stream, ccc_err *err);
/* On the device, after a decode step: positions and seq_lens + 1, slot_mapping of the new position; with next_tokens bound to token_ids the next cccrt_step needs no host data. */
CCCRT_API ccc_status cccrt_advance(cccrt_session *s, int64_t n_seqs, void *stream, ccc_err *err);
/* What a kernel had to clamp since the last check (synchronises the stream): CCC_E_ARG with the kind, the index and the value. */
CCCRT_API ccc_status cccrt_check(cccrt_session *s, void *stream, ccc_err *err);
CCCRT_API ccc_status cccrt_session_read(cccrt_session *s, const char *name, void *dst, size_t offset_B, size_t size_B, void *stream, ccc_err *err); /* copies a buffer's bytes to the host; returns when done */
/* Fills the arena with a byte (tests: 0xff poisons every intermediate). Counters and io buffers are left alone. */
CCCRT_API ccc_status cccrt_session_fill_arena(cccrt_session *s, int byte, ccc_err *err);

/* ---- measuring ---------------------------------------------------------------------------------------------------------------- */
typedef struct { size_t size_B; double ms; uint64_t weight_B; const char *kernel; uint32_t node, label; } cccrt_node_time;
/* Times the nodes of the program that a step of (n_tokens, n_seqs, mode) runs, one after the other without overlap, and from memory: nodes that run the same kernel on weights of
 * the same size are run in turn and have their mean in common. Median of `repeats` (events on the GPU); 0 where that is shorter than can be told. times[*n] receives up to cap rows.
 * The buffers hold whatever they hold. Takes 256 MiB of the device for a while. */
CCCRT_API ccc_status cccrt_time_nodes(cccrt_session *s, const cccrt_step_args *args, int repeats, cccrt_node_time *times, uint32_t cap, uint32_t *n, ccc_err *err);
/* Bytes that each of those nodes must move at least: from and to memory (weights; the rows that it looks up in a table; what it writes into the KV cache), values made in the same
 * step, and from the KV cache for each token that the step's sequences hold. The caller sets rows[0].size_B. */
typedef struct { size_t size_B; uint64_t memory_B, local_B, kv_B; } cccrt_node_traffic;
CCCRT_API ccc_status cccrt_step_traffic(cccrt_session *s, const cccrt_step_args *args, cccrt_node_traffic *rows, uint32_t cap, uint32_t *n, ccc_err *err);
/* Milliseconds of that step with the nodes alone whose run[i] is not 0 (n of them, as cccrt_time_nodes numbers its rows), mean of n_steps in a row. Nodes may be left out that
 * write what another one writes too, as in what `ccc tune` makes; else later nodes read what the buffers hold. */
CCCRT_API ccc_status cccrt_time_subset(cccrt_session *s, const cccrt_step_args *args, const uint8_t *run, uint32_t n, int n_steps, double *step_ms, ccc_err *err);
/* A chain of n_steps decode steps that advance, without synchronisation in between. step_ms: the mean of its steps; host_us: microseconds in which the host enqueues one
 * (CPU: does it), the median of them, so that a step in which the host was doing something else does not count. */
CCCRT_API ccc_status cccrt_time_chain(cccrt_session *s, int64_t n_seqs, int n_steps, double *step_ms, double *host_us, ccc_err *err);
/* Best GB/s of a streaming read over up to `size_B` bytes of device memory. */
CCCRT_API ccc_status cccrt_time_read(cccrt_session *s, size_t size_B, double *gb_per_s, ccc_err *err);
typedef struct { size_t size_B; double context_ms, open_ms, modules_ms, attach_ms, session_ms, graphs_ms; uint32_t n_graphs, n_graph_nodes; uint64_t graphs_device_B; } cccrt_timings;
CCCRT_API void cccrt_session_timings(const cccrt_session *s, cccrt_timings *out);

#ifdef __cplusplus
}
#endif
#endif
