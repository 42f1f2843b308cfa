"""The C interface: structs, functions, errors."""
import ctypes as c
import os


class Err(c.Structure):
    _fields_ = [("code", c.c_int), ("line", c.c_int), ("col", c.c_int), ("msg", c.c_char * 504)]


class CccError(RuntimeError):
    """A failed call: the library's one line; .code is the ccc_status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def struct(name, *fields):
    """A struct that begins with its size, all else zero."""

    def init(self, **values):
        c.Structure.__init__(self, size_B=c.sizeof(type(self)), **values)

    return type(name, (c.Structure,), {"_fields_": [("size_B", c.c_size_t), *fields], "__init__": init})


P, S, I, I64, U32, U64, D = c.c_void_p, c.c_char_p, c.c_int, c.c_int64, c.c_uint32, c.c_uint64, c.c_double
OpenArgs = struct("OpenArgs", ("allow_host_code", I))
Model = struct("Model", ("max_tokens", I64), ("max_seqs", I64), ("max_model_len", I64), ("vocab", I64), ("hidden", I64), ("n_layers", U32), ("kv_heads", U32),
               ("head_size", U32), ("kv_block_size", U32), ("kv_layout", S), ("kv_dtype", S), ("n_sizes", U32), ("sizes", c.POINTER(U32)), ("n_targets", U32),
               ("n_programs", U32), ("n_kernels", U32))
Memory = struct("Memory", *[(n, U64) for n in ("weights", "arena", "io", "counters", "kv", "attach_extra_device", "attach_extra_host")])
DeviceArgs = struct("DeviceArgs", ("kind", S), ("ordinal", I), ("context", P), ("n_threads", I))
DeviceProps = struct("DeviceProps", ("name", c.c_char * 96), ("is_cuda", I), ("cc", I), ("n_sm", I), ("driver_version", I), ("free_B", U64), ("total_B", U64))


class Tensor(c.Structure):
    _fields_ = [("name", S), ("dtype", S), ("rank", U32), ("shape", I64 * 4), ("data", P), ("data_B", c.c_size_t), ("on_device", I)]


PROGRESS = c.CFUNCTYPE(None, P, U64, U64)
WeightsArgs = struct("WeightsArgs", ("path", S), ("random", I), ("seed", U64), ("tensors", c.POINTER(Tensor)), ("n_tensors", U32), ("stream", P), ("progress", PROGRESS),
                     ("payload", P))
Kv = struct("Kv", ("n_layers", U32), ("k", c.POINTER(P)), ("v", c.POINTER(P)), ("n_blocks", I64), ("block_stride_B", I64), ("token_stride_B", I64), ("head_stride_B", I64))


class Binding(c.Structure):
    _fields_ = [("name", S), ("data", P), ("data_B", c.c_size_t)]


SessionArgs = struct("SessionArgs", ("kv", c.POINTER(Kv)), ("max_blocks_per_seq", I64), ("graphs", I), ("bindings", c.POINTER(Binding)), ("n_bindings", U32), ("stream", P))
StepArgs = struct("StepArgs", ("n_tokens", I64), ("n_seqs", I64), ("n_logits", I64), ("max_query_len", I64), ("token_ids", P), ("positions", P), ("query_start_loc", P),
                  ("seq_lens", P), ("block_table", P), ("block_table_stride", I64), ("slot_mapping", P), ("logits_indices", P), ("mode", I), ("advance", I))

PP = c.POINTER(P)
FUNCTIONS = {  # name: argument types before ccc_err *; the result is ccc_status
    "artifact_open": [PP, S, c.POINTER(OpenArgs)], "artifact_verify": [P], "artifact_info": [PP, P], "artifact_memory": [c.POINTER(Memory), P, S, I64],
    "device_open": [PP, c.POINTER(DeviceArgs)], "device_get_props": [P, c.POINTER(DeviceProps)], "device_can_run": [c.POINTER(S), P, P], "device_synchronize": [P],
    "device_alloc": [PP, P, c.c_size_t], "device_copy": [P, P, P, c.c_size_t, I, I], "device_fill": [P, P, I, c.c_size_t],
    "weights_attach": [PP, P, P, c.POINTER(WeightsArgs)], "weights_get": [P, U32, c.POINTER(Tensor)], "weights_save": [P, S], "kv_alloc": [PP, P, P, I64],
    "session_create": [PP, P, P, c.POINTER(SessionArgs)], "session_build_graphs": [P], "session_buffer": [P, S, PP, c.POINTER(c.c_size_t)],
    "session_rebind": [P, c.POINTER(Binding), U32], "step": [P, c.POINTER(StepArgs), P], "advance": [P, I64, P], "check": [P, P],
    "session_read": [P, S, P, c.c_size_t, c.c_size_t, P], "session_fill_arena": [P, I],
}
VOID = {"artifact_close": [P], "device_close": [P], "weights_close": [P], "kv_close": [P], "session_close": [P], "free": [P], "artifact_model": [P, c.POINTER(Model)],
        "device_release": [P, P]}


class Library:
    def __init__(self, path):
        self.dll = c.CDLL(path)
        if self.dll.cccrt_abi_version() != 1:
            raise CccError(6, f"{path} has ABI version {self.dll.cccrt_abi_version()}, this package is for 1")
        self.dll.cccrt_kv_describe.restype = c.POINTER(Kv)
        self.dll.cccrt_kv_describe.argtypes = [P]
        self.dll.cccrt_artifact_fact.restype = S
        self.dll.cccrt_artifact_fact.argtypes = [P, S]
        for name, types in FUNCTIONS.items():
            f = getattr(self.dll, "cccrt_" + name)
            f.argtypes, f.restype = [*types, c.POINTER(Err)], c.c_int
        for name, types in VOID.items():
            f = getattr(self.dll, "cccrt_" + name)
            f.argtypes, f.restype = types, None

    def __call__(self, name, *args):
        err = Err()
        if getattr(self.dll, "cccrt_" + name)(*args, c.byref(err)):
            raise CccError(err.code, err.msg.decode(errors="replace"))


_loaded = {}


def load(path=None):
    """The library at `path`, else $CCCRT_LIBRARY, else libcccrt.so.0 as the dynamic linker finds it."""
    path = path or os.environ.get("CCCRT_LIBRARY") or "libcccrt.so.0"
    if path not in _loaded:
        _loaded[path] = Library(path)
    return _loaded[path]
