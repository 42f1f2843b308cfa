"""Python over libcccrt (runtime/cccrt.h): Artifact, Device, Weights, KVCache, Session. numpy arrays in and out; memory of a GPU goes in and
out as DLPack. One ctypes struct for each argument struct, in the order of the header."""
from ._lib import CccError, load
from ._objects import Artifact, Device, KVCache, Session, Weights, generate, kv_of_caller

__all__ = ["Artifact", "CccError", "Device", "KVCache", "Session", "Weights", "generate", "kv_of_caller", "load"]
