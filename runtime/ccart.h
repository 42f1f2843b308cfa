/* The content of an artifact in memory, and the numbers of its file format. compiler/pack.c writes the file from these structs,
 * runtime/artifact.c reads it into them after checking every offset, count and size. The bytes on disk: runtime/README.md.
 * Numbers are never reused; what a reader does not know it refuses, except chunks whose id has bit 31 clear (skippable).
 *
 * A target holds kernels, programs and a weight plan. A program is a list of nodes in order; each number in it that may depend on
 * the step (grids, sizes, offsets) is an index into the program's table of expressions, which the runtime evaluates once per
 * (program, size). One captured size is therefore the same program with numbers put in. */
#ifndef CCART_H
#define CCART_H
#include <stdint.h>

#define CCART_MAGIC "\x89" "CCART\r\n"   /* 8 bytes */
enum { CCART_MAJOR = 1, CCART_MINOR = 2, CCART_HASH_XXH3_128 = 1, CCART_CODEC_RAW = 0, CCART_CODEC_ZSTD = 1 };
enum { /* limits a reader enforces before it allocates */
    CCART_MAX_CHUNKS = 256, CCART_MAX_RAW_B = 1 << 30, CCART_MAX_KERNELS = 4096, CCART_MAX_PROGRAMS = 1024, CCART_MAX_NODES = 65536,
    CCART_MAX_PARAMS = 1 << 20, CCART_MAX_EXPRS = 1 << 20, CCART_MAX_EXPR_B = 256, CCART_MAX_EXPR_DEPTH = 16, CCART_MAX_WEIGHTS = 1 << 18,
    CCART_MAX_ARGS_B = 1024, CCART_MAX_RANK = 4, CCART_MAX_SHARED_B = 232448
};
#define CCART_ID(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define CCART_REQUIRED 0x80000000u        /* OR'ed into ids below: a reader that does not know the chunk must refuse the file */
enum { /* chunk kinds; `index` in the table of contents is the target's number, 0 for whole-file chunks */
    CCART_CHUNK_META = 1,     /* targets' names and requirements; provenance: key/value strings; the model's io table and limits */
    CCART_CHUNK_KERNELS = 2,  /* modules and kernels of a target */
    CCART_CHUNK_PROGRAMS = 3, /* programs of a target with expressions, params, tensor maps */
    CCART_CHUNK_WEIGHTS = 4,  /* final weights, segments, constant data */
    CCART_CHUNK_FACTS = 5,    /* key/value strings: theta, eps, ... */
    CCART_CHUNK_GRAPH = 6,    /* the graph as text, skippable */
    CCART_CHUNK_REPORT = 7,   /* JSON: passes, decisions, times left out (they would not be deterministic), skippable */
    CCART_CHUNK_TRAFFIC = 8,  /* since 1.1: how many bytes the nodes of a target's step programs move, skippable */
    CCART_CHUNK_PTX = 9       /* since 1.2: the PTX of a target's modules, unpacked when a driver is given it */
};

/* ---- expressions: postfix code over int64, checked when opened (stack never empty, never over DEPTH, exactly one value left),
 * evaluated with overflow checks */
enum { CCART_X_CONST = 1 /* followed by int64 LE */, CCART_X_VAR = 2 /* followed by u8 CCART_VAR_* */, CCART_X_ADD = 3, CCART_X_SUB = 4, CCART_X_MUL = 5,
       CCART_X_CEILDIV = 6 /* divisor > 0 */, CCART_X_MIN = 7, CCART_X_MAX = 8 };
enum { CCART_VAR_T = 0, CCART_VAR_S = 1, CCART_VAR_R = 2, CCART_VAR_SM = 3 /* multiprocessors of the context (host: threads) */, CCART_VAR_RANK = 4, CCART_VAR_WORLD = 5,
       CCART_VAR_RESIDENT = 6 /* clusters of this node's kernel that the device holds at once */,
       CCART_VAR_MAX_BLOCKS = 7 /* row stride of block_table in elements */, CCART_VAR_KV_BLOCKS = 8 /* blocks in the cache */,
       CCART_VAR_KV_BLOCK_STRIDE = 9, CCART_VAR_KV_TOKEN_STRIDE = 10, CCART_VAR_KV_HEAD_STRIDE = 11 /* bytes */,
       CCART_VAR_ROW0 = 12, CCART_VAR_ROWS = 13 /* load programs: rows of the source in this piece */, CCART_N_VARS = 14 };
typedef struct { const uint8_t *code; uint32_t size_B; } ccart_expr;

/* ---- kernels */
enum { CCART_TARGET_CUDA = 1, CCART_TARGET_HOST = 2 };
enum { CCART_MODULE_CUBIN = 1, CCART_MODULE_PTX = 2, CCART_MODULE_HOST = 3 /* flat position-independent image; see runtime/README.md */,
       CCART_MODULE_PTX_APART = 4 /* in a file alone: PTX that lies in the target's PTX chunk */ };
typedef struct { uint32_t kind; const uint8_t *data /* NULL: PTX, see ccart_ptx_text */; uint64_t size_B; } ccart_module;
typedef struct { const uint8_t *data; uint64_t stored_B, raw_B; uint8_t codec, digest[16]; } ccart_packed; /* a chunk as it lies in the file */
typedef struct { /* one compiled kernel; every kernel takes one argument struct by value (compiler/kernels/abi.h) */
    const char *name;          /* for people: template and constants */
    const char *symbol;        /* entry in the module; host: unused */
    uint32_t cubin, ptx;       /* module numbers, UINT32_MAX: none. host: `cubin` is the image */
    uint32_t entry_B;          /* host: offset of the entry in the image */
    uint32_t threads;          /* of a block; host: 1 */
    uint32_t shared_B;         /* dynamic shared memory; host: scratch bytes a thread */
    uint32_t cluster;          /* CTAs of a cluster, 1: none */
    uint32_t args_B, args_align; /* size and alignment of the argument struct; 64 with tensor maps */
    uint32_t flags;            /* CCART_KERNEL_* */
} ccart_kernel;
enum { CCART_KERNEL_PDL = 1 /* executes griddepcontrol.wait in every thread block: may have programmatic in-edges */, CCART_KERNEL_COOPERATIVE = 2 };

/* ---- parameters of a node: where each field of the argument struct comes from */
enum {
    CCART_P_IMM = 1,      /* value: size_B bytes of it */
    CCART_P_EXPR = 2,     /* expr; stored as i32 (size 4) or i64 (size 8) */
    CCART_P_WEIGHT = 3,   /* address of final weight `index` + value bytes */
    CCART_P_ARENA = 4,    /* arena address + expr bytes */
    CCART_P_INPUT = 5,    /* address of io.in[index] + value bytes; 0 when that input is optional and not bound */
    CCART_P_OUTPUT = 6,   /* address of io.out[index] + value bytes; a session gives every output a buffer */
    CCART_P_KV = 7,       /* base address of layer `index`; value 0: K, 1: V */
    CCART_P_TMAP = 8,     /* 128 bytes: tensor map `index` of the program, by value */
    CCART_P_STATUS = 9,   /* address of the session's status words u32[4]: see CCART_STATUS_* */
    CCART_P_COUNTER = 10, /* address in the session's counters (zeroed once) + value bytes */
    CCART_P_CONST = 11,   /* address of the target's constant data + value bytes */
    CCART_P_SRC = 12,     /* load programs: the piece of source bytes, on the device */
    CCART_P_SEED = 13,    /* load programs: u64 seed of random:SEED */
    CCART_P_PEER = 14, CCART_P_ADAPTER = 15 /* reserved: refused by this version */
};
enum { CCART_STATUS_BAD_TOKEN = 1, CCART_STATUS_BAD_SLOT = 2, CCART_STATUS_BAD_BLOCK = 3, CCART_STATUS_BAD_ROW = 4, CCART_STATUS_BAD_POSITION = 5 };
/* status words: [0] kind (0: fine; the first one to be set stays), [1] index of the token, sequence or row, [2] low 32 bits of the offending value */
/* Params, tensor maps and nodes are most of an artifact: these structs are the bytes of the file, which are
 * used where they lie. */
typedef struct __attribute__((packed)) {
    uint8_t kind, size_B;
    uint16_t offset_B; /* in the argument struct */
    uint32_t index;
    int64_t value;
    uint32_t expr;
} ccart_param;
_Static_assert(sizeof(ccart_param) == 20 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as in the file");

typedef struct __attribute__((packed)) { /* a tensor map, encoded when the session is made */
    uint8_t base_kind;          /* CCART_P_WEIGHT, _ARENA, _INPUT or _OUTPUT */
    uint8_t dtype;              /* ccc_dtype number: BF16, F32, E4M3 (as U8) ... */
    uint8_t rank, swizzle;      /* 2; swizzle in bytes: 0, 32, 64, 128 */
    uint8_t promotion;          /* L2 promotion in bytes / 64: 0, 1 (64), 2 (128), 4 (256) */
    uint32_t index; int64_t value; uint32_t base_expr; /* as in a param: arena offset is an expression */
    uint32_t dim[CCART_MAX_RANK];    /* expressions, innermost first, elements */
    uint32_t stride[CCART_MAX_RANK]; /* expressions, bytes, stride[0] unused */
    uint32_t box[CCART_MAX_RANK];    /* elements */
} ccart_tmap;
_Static_assert(sizeof(ccart_tmap) == 69, "as in the file");

/* ---- programs */
enum { CCART_NODE_KERNEL = 1, CCART_NODE_MEMSET = 2, CCART_NODE_COPY = 3, CCART_NODE_SPLIT = 4,
       CCART_NODE_COLLECTIVE = 5, CCART_NODE_CHILD = 6, CCART_NODE_SWITCH = 7 /* 5..7 reserved: refused */ };
enum { CCART_EDGE_FULL = 0, CCART_EDGE_PROGRAMMATIC = 1 }; /* from the node before */
typedef struct __attribute__((packed)) {
    uint8_t kind, edge;
    uint32_t kernel;              /* KERNEL */
    uint32_t grid[3];             /* expressions */
    uint32_t first_param, n_params; /* KERNEL: fields; MEMSET: one pointer param; COPY: two (destination, source) */
    uint32_t size_expr;           /* MEMSET, COPY: bytes */
    uint32_t fill;                /* MEMSET: byte */
    uint32_t label;               /* number of the graph node or group, for reports */
} ccart_node;
_Static_assert(sizeof(ccart_node) == 38, "as in the file");

/* Bytes that a node must move, for reports alone: expressions like its grid. Indices are not counted. */
typedef struct {
    uint32_t memory_expr;         /* weights, the rows of tables that it looks up, what it writes into the KV cache */
    uint32_t local_expr;          /* values made in the same step, read and written */
    uint32_t kv_B;                /* read from the KV cache, for each token that the step's sequences hold */
} ccart_traffic;

enum { /* modes */
    CCART_MODE_DECODE = 1, /* every sequence has one query token: T == S */
    CCART_MODE_MIXED = 2,  /* anything */
    CCART_MODE_ADVANCE = 3,/* positions, seq_lens += 1 and slot_mapping of the next decode step, on the device */
    CCART_MODE_READ = 4    /* streaming read over the weights, for the read ceiling; output: nothing of use */
};
typedef struct {
    uint32_t mode;
    int64_t t_min, t_max;         /* tokens this program serves (after padding) */
    ccart_expr *expr; uint32_t n_exprs;
    ccart_tmap *tmap; uint32_t n_tmaps;
    ccart_param *param; uint32_t n_params;
    ccart_node *node; uint32_t n_nodes;
    ccart_traffic *traffic; uint32_t n_traffic; /* a row a node; 0: not stated */
    uint64_t arena_B;             /* of the largest T of the range */
} ccart_program;

/* ---- weights */
typedef struct { /* what kernels read; 256-byte aligned, one after the other in one device buffer, in table order */
    const char *name; uint32_t dtype, rank; int64_t dim[CCART_MAX_RANK]; uint64_t size_B;
} ccart_weight;
typedef struct { /* one source tensor that becomes rows [row0, row0 + rows of the source) of a final weight; a load program of one node */
    uint32_t weight;              /* final */
    const char *source;           /* name in the model's files; "" when it is made from constants alone (rope tables): no source bytes */
    uint32_t src_dtype, rank; int64_t dim[CCART_MAX_RANK];  /* of the source; dim[0] rows */
    uint64_t row_B;               /* bytes of one row of the source */
    uint64_t dst_B, dst_size_B;   /* where this segment lies in the final weight: for plain copies and checks */
    uint8_t plain;                /* 1: source bytes are the final bytes: a copy does */
    int32_t row_group;            /* pieces must begin at a multiple of this many rows (unpermute: head size) */
    uint32_t load_program, random_program; /* indices into target.load; load: UINT32_MAX when plain */
} ccart_segment;

typedef struct { uint32_t dtype, rank; const char *name; uint8_t optional; uint32_t dim_expr[CCART_MAX_RANK]; } ccart_io; /* dims: expressions of target.io_expr */
/* well-known io names: token_ids inputs_embeds positions query_start_loc seq_lens block_table slot_mapping logits_indices; hidden logits next_tokens */

typedef struct {
    const char *name;             /* "sm_90a", "x86-64-v3" */
    uint32_t kind;                /* CCART_TARGET_* */
    uint32_t cc, cc_exact;        /* cuda: compute capability *10, and whether only that one runs the cubins */
    uint32_t min_driver_cubin, min_driver_ptx; /* CUDA version *1000 + minor*10, as cuDriverGetVersion; 0: does not apply */
    uint32_t cpu_level;           /* host: 3 = x86-64-v3, 4 = x86-64-v4 */
    ccart_module *module; uint32_t n_modules;
    ccart_packed ptx;             /* of a file that was read: the texts of its PTX modules */
    ccart_kernel *kernel; uint32_t n_kernels;
    ccart_program *program; uint32_t n_programs;
    ccart_program *load; uint32_t n_load;   /* load programs: mode 0 */
    ccart_weight *weight; uint32_t n_weights;
    ccart_segment *segment; uint32_t n_segments;
    const uint8_t *constant; uint64_t constant_B;
    ccart_io *in, *out; uint32_t n_in, n_out;
    ccart_expr *io_expr; uint32_t n_io_exprs;
    uint64_t counters_B;          /* zeroed when the session is made */
    uint64_t arena_B;             /* largest of the programs */
    uint8_t layout_hash[16];      /* of the weight plan: artifacts with the same one can share cccrt_weights */
} ccart_target;

typedef struct { const char *key, *value; } ccart_kv;
typedef struct { /* the whole file */
    uint16_t major, minor;
    ccart_target *target; uint32_t n_targets;
    ccart_kv *provenance; uint32_t n_provenance;
    ccart_kv *fact; uint32_t n_facts;
    /* limits of the model it was compiled for */
    int64_t max_tokens, max_seqs, max_model_len, vocab, hidden; /* 0: does not apply */
    uint32_t n_layers, kv_heads, head_size, kv_block_size, kv_dtype, kv_layout; /* n_layers = layers with a KV cache, 0: none */
    uint32_t *size; uint32_t n_sizes;  /* captured sizes, ascending */
    const char *graph_text, *report;   /* "" if absent */
} ccart_file;
#endif
