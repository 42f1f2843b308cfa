"""DLPack (dmlc/dlpack, version 0 capsules): how memory of a GPU comes in from and goes out to torch, cupy, jax."""
import ctypes as c

CPU, CUDA = 1, 2
_TYPES = {"f32": (2, 32), "f16": (2, 16), "bf16": (4, 16), "i32": (0, 32), "i64": (0, 64), "u8": (1, 8), "i8": (0, 8)}
_NAMES = {v: k for k, v in _TYPES.items()}


class DLTensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device_type", c.c_int32), ("device_id", c.c_int32), ("ndim", c.c_int32), ("code", c.c_uint8), ("bits", c.c_uint8),
                ("lanes", c.c_uint16), ("shape", c.POINTER(c.c_int64)), ("strides", c.POINTER(c.c_int64)), ("byte_offset", c.c_uint64)]


class DLManagedTensor(c.Structure):
    pass


DELETER = c.CFUNCTYPE(None, c.POINTER(DLManagedTensor))
DLManagedTensor._fields_ = [("dl_tensor", DLTensor), ("manager_ctx", c.c_void_p), ("deleter", DELETER)]
_new = c.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]
_get = c.pythonapi.PyCapsule_GetPointer
_get.restype, _get.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
_alive = {}


@DELETER
def _delete(managed):
    _alive.pop(c.addressof(managed.contents), None)


class Array:
    """Memory of a device with a shape: what torch.from_dlpack takes. `owner` is kept alive as long as anything made from it."""

    def __init__(self, address, dtype, shape, cuda, ordinal=0, owner=None):
        self.address, self.dtype, self.shape, self.cuda, self.ordinal, self.owner = address, dtype, tuple(shape), cuda, ordinal, owner

    def __dlpack_device__(self):
        return (CUDA if self.cuda else CPU, self.ordinal)

    def __dlpack__(self, stream=None, **_):
        shape = (c.c_int64 * len(self.shape))(*self.shape)
        code, bits = _TYPES["u8" if self.dtype == "e4m3" else self.dtype]  # DLPack has e4m3 since 1.1: the codes go out as bytes
        managed = DLManagedTensor(DLTensor(self.address, *self.__dlpack_device__(), len(self.shape), code, bits, 1, shape, None, 0), None, _delete)
        _alive[c.addressof(managed)] = (managed, shape, self.owner)
        return _new(c.addressof(managed), b"dltensor", None)


def take(x):
    """(address, dtype, shape, on_cuda) of a contiguous array that speaks DLPack; the caller keeps x alive."""
    capsule = x.__dlpack__()
    t = c.cast(_get(capsule, b"dltensor"), c.POINTER(DLManagedTensor)).contents.dl_tensor
    shape = tuple(t.shape[i] for i in range(t.ndim))
    n = 1
    for i in reversed(range(t.ndim)):
        if t.strides and shape[i] > 1 and t.strides[i] != n:
            raise ValueError("the array is not contiguous")
        n *= shape[i]
    if (t.code, t.bits) not in _NAMES or t.lanes != 1:
        raise ValueError("dtype is not one of " + ", ".join(_TYPES))
    return t.data + t.byte_offset, _NAMES[t.code, t.bits], shape, t.device_type == CUDA
