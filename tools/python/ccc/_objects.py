"""The four objects of libcccrt, and generate()."""
import ctypes as c
import json

import numpy as np

from . import _dlpack
from ._lib import (Binding, DeviceArgs, DeviceProps, Kv, Memory, Model, OpenArgs, SessionArgs, StepArgs, Tensor, WeightsArgs, load)

_NUMPY = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "i64": np.int64, "u8": np.uint8, "i8": np.int8}


class _Object:
    _close = None

    def close(self):
        handle, self.handle = getattr(self, "handle", None), None
        if handle:
            getattr(self.lib.dll, "cccrt_" + self._close)(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()


class Artifact(_Object):
    """A compiled model. allow_host_code: its CPU target (machine code) may be run."""

    _close = "artifact_close"

    def __init__(self, path, allow_host_code=False, library=None):
        self.lib, self.handle = load(library), None
        h = c.c_void_p()
        self.lib("artifact_open", h, str(path).encode(), OpenArgs(allow_host_code=int(allow_host_code)))
        self.handle = h
        self.model = Model()
        self.lib.dll.cccrt_artifact_model(h, self.model)

    def verify(self):
        self.lib("artifact_verify", self.handle)

    def info(self):
        text = c.c_void_p()
        self.lib("artifact_info", text, self.handle)
        try:
            return json.loads(c.string_at(text))
        finally:
            self.lib.dll.cccrt_free(text)

    def fact(self, key):
        v = self.lib.dll.cccrt_artifact_fact(self.handle, key.encode())
        return v.decode() if v is not None else None

    def memory(self, target, kv_blocks=0):
        m = Memory()
        self.lib("artifact_memory", m, self.handle, target.encode(), kv_blocks)
        return {n: getattr(m, n) for n, _ in m._fields_ if n != "size_B"}


class Device(_Object):
    """Device("cpu"), Device("cuda:1"), Device() (what is there), or Device(context=CUcontext)."""

    _close = "device_close"

    def __init__(self, name=None, context=None, threads=0, library=None):
        self.lib, self.handle = load(library), None
        kind, _, ordinal = (name or "").partition(":")
        h = c.c_void_p()
        self.lib("device_open", h, DeviceArgs(kind=kind.encode() or None, ordinal=int(ordinal or 0), context=context, n_threads=threads))
        self.handle = h
        self.ordinal = int(ordinal or 0)
        p = self.props()
        self.name, self.is_cuda = p.name.decode(), bool(p.is_cuda)

    def props(self):
        p = DeviceProps()
        self.lib("device_get_props", self.handle, p)
        return p

    def can_run(self, artifact):
        target = c.c_char_p()
        self.lib("device_can_run", target, self.handle, artifact.handle)
        return target.value.decode()

    def synchronize(self):
        self.lib("device_synchronize", self.handle)

    def fill(self, address, byte, size_B):
        self.lib("device_fill", self.handle, address, byte, size_B)

    def empty(self, shape, dtype):
        """New memory of the device as an Array (DLPack); freed with the Array."""
        n = int(np.prod(shape)) * {"f32": 4, "i32": 4, "i64": 8, "bf16": 2, "f16": 2, "u8": 1, "i8": 1, "e4m3": 1}[dtype]
        p = c.c_void_p()
        self.lib("device_alloc", p, self.handle, n)
        return _dlpack.Array(p.value, dtype, shape, self.is_cuda, self.ordinal, _Memory(self, p))


class _Memory:
    def __init__(self, device, address):
        self.device, self.address = device, address

    def __del__(self):
        if self.device.handle:
            self.device.lib.dll.cccrt_device_release(self.device.handle, self.address)


class Weights(_Object):
    """Weights of `artifact` on `device`, from a path, seed=N (random), or a dict of name -> array (numpy, or DLPack on the device; bf16 through DLPack)."""

    _close = "weights_close"

    def __init__(self, artifact, device, path=None, seed=None, tensors=None):
        self.lib, self.handle, self.device = artifact.lib, None, device
        args, keep = WeightsArgs(), []
        if path is not None:
            args.path = str(path).encode()
        elif seed is not None:
            args.random, args.seed = 1, seed
        elif tensors is not None:
            rows = (Tensor * len(tensors))()
            for row, (name, x) in zip(rows, tensors.items()):
                address, dtype, shape, cuda = _dlpack.take(x)
                row.name, row.dtype, row.rank, row.data, row.on_device = name.encode(), dtype.encode(), len(shape), address, int(cuda)
                row.shape[: len(shape)] = shape
                row.data_B = int(np.prod(shape)) * (_dlpack._TYPES[dtype][1] // 8)
                keep.append(x)
            args.tensors, args.n_tensors = rows, len(rows)
        else:
            raise ValueError("give path, seed or tensors")
        h = c.c_void_p()
        self.lib("weights_attach", h, artifact.handle, device.handle, args)
        self.handle = h

    def save(self, path):
        self.lib("weights_save", self.handle, str(path).encode())

    def arrays(self):
        """Final weights as kernels read them: name -> Array (DLPack, borrowed: keep these Weights alive)."""
        out, i = {}, 0
        while True:
            t = Tensor()
            if self.lib.dll.cccrt_weights_get(self.handle, i, t, None):
                return out
            out[t.name.decode()] = _dlpack.Array(t.data, t.dtype.decode(), t.shape[: t.rank], self.device.is_cuda, self.device.ordinal, self)
            i += 1


class KVCache(_Object):
    _close = "kv_close"

    def __init__(self, artifact, device, n_blocks):
        self.lib, self.handle = artifact.lib, None
        h = c.c_void_p()
        self.lib("kv_alloc", h, artifact.handle, device.handle, n_blocks)
        self.handle, self.n_blocks = h, n_blocks

    def describe(self):
        return self.lib.dll.cccrt_kv_describe(self.handle)


def kv_of_caller(k, v, block_stride_B, token_stride_B, head_stride_B, n_blocks):
    """A cache that somebody else holds: lists of device addresses of K and V, one a layer (of torch tensors: data_ptr()). Its numbers are
    those of artifact.model.kv_dtype: bf16, or e4m3, which is torch.float8_e4m3fn, or uint8 as vLLM keeps it."""
    ks, vs = (c.c_void_p * len(k))(*k), (c.c_void_p * len(v))(*v)
    kv = Kv(n_layers=len(k), k=ks, v=vs, n_blocks=n_blocks, block_stride_B=block_stride_B, token_stride_B=token_stride_B, head_stride_B=head_stride_B)
    kv.keep = (ks, vs)
    return kv


_INPUTS = {"token_ids": np.int32, "positions": np.int64, "query_start_loc": np.int32, "seq_lens": np.int32, "block_table": np.int32, "slot_mapping": np.int64,
           "logits_indices": np.int32}


class Session(_Object):
    """kv: a KVCache or what kv_of_caller returns. bindings: name -> (address, bytes) of buffers of the caller's. graphs: "on-demand", "all", "none"."""

    _close = "session_close"

    def __init__(self, artifact, weights, kv=None, max_blocks_per_seq=0, graphs="on-demand", bindings=None, stream=None):
        self.lib, self.handle, self.artifact, self.weights = artifact.lib, None, artifact, weights
        args = SessionArgs(max_blocks_per_seq=max_blocks_per_seq, graphs={"on-demand": 0, "all": 1, "none": 2}[graphs], stream=stream)
        if kv is not None:
            args.kv = kv.describe() if isinstance(kv, KVCache) else c.pointer(kv)
        if bindings:
            rows = (Binding * len(bindings))(*[Binding(n.encode(), a, b) for n, (a, b) in bindings.items()])
            args.bindings, args.n_bindings = rows, len(rows)
        h = c.c_void_p()
        self.lib("session_create", h, artifact.handle, weights.handle, args)
        self.handle, self.kv = h, kv

    def build_graphs(self):
        self.lib("session_build_graphs", self.handle)

    def step(self, n_tokens, n_seqs=0, n_logits=0, max_query_len=0, mode="auto", advance=False, stream=None, **inputs):
        """Inputs by vLLM's names, numpy arrays; those left out are already in their device buffers. Enqueues and returns. advance: and then what
        `advance` does, in one graph where it can be."""
        args = StepArgs(n_tokens=n_tokens, n_seqs=n_seqs, n_logits=n_logits, max_query_len=max_query_len, mode={"auto": 0, "eager": 1, "mixed": 2}[mode], advance=advance)
        keep = []
        for name, x in inputs.items():
            x = np.ascontiguousarray(x, dtype=_INPUTS[name])
            if name == "block_table":
                args.block_table_stride = x.shape[1]
            setattr(args, name, x.ctypes.data)
            keep.append(x)
        self.lib("step", self.handle, args, stream)

    def advance(self, n_seqs, stream=None):
        self.lib("advance", self.handle, n_seqs, stream)

    def check(self, stream=None):
        self.lib("check", self.handle, stream)

    def buffer(self, name):
        """(address, bytes) of an input or output on the device."""
        p, n = c.c_void_p(), c.c_size_t()
        self.lib("session_buffer", self.handle, name.encode(), p, n)
        return p.value, n.value

    def read(self, name, shape, dtype="f32", stream=None):
        """The first elements of a buffer as a numpy array; waits for the stream. bf16 comes widened to float32."""
        raw = np.empty(shape, np.uint16 if dtype == "bf16" else _NUMPY[dtype])
        self.lib("session_read", self.handle, name.encode(), raw.ctypes.data_as(c.c_void_p), 0, raw.nbytes, stream)
        return (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else raw

    def fill_arena(self, byte):
        self.lib("session_fill_arena", self.handle, byte)


def generate(artifact, weights, device, ids, steps, eos=(), on_token=None, graphs="on-demand"):
    """Greedy decoding of one sequence; yields nothing, returns the new ids. on_token(id) is called as each is known."""
    m = artifact.model
    n_blocks = -(-(len(ids) + steps) // m.kv_block_size)
    kv = KVCache(artifact, device, n_blocks)
    session = Session(artifact, weights, kv, max_blocks_per_seq=n_blocks, graphs=graphs)
    table, out, pos = np.arange(n_blocks, dtype=np.int32)[None], [], 0
    piece = list(ids)
    while True:
        while piece:  # a prompt in pieces that the artifact allows, then one token a step
            now, piece = piece[: m.max_tokens], piece[m.max_tokens :]
            p = np.arange(pos, pos + len(now))
            pos += len(now)
            session.step(len(now), 1, 1, token_ids=now, positions=p, query_start_loc=[0, len(now)], seq_lens=[pos], block_table=table, slot_mapping=p,
                         logits_indices=[len(now) - 1])
        token = int(session.read("next_tokens", 1, "i32")[0])
        session.check()
        out.append(token)
        if on_token:
            on_token(token)
        if token in eos or len(out) == steps:
            return out
        piece = [token]
