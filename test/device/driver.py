"""The CUDA driver through ctypes: memory figures, the page-locked copy rate, and a context on a part of the multiprocessors."""

import ctypes as c
import time

MB = 1 << 20
DEV_RESOURCE_SM, GREEN_DEFAULT_STREAM = 1, 1


class Driver:
    """Primary context of one device, retained and current in the thread that made this."""

    def __init__(self, ordinal=0):
        self.dll = c.CDLL("libcuda.so.1")
        self.device, self.context = c.c_int(), c.c_void_p()
        self("cuInit", 0)
        self("cuDeviceGet", c.byref(self.device), ordinal)
        self("cuDevicePrimaryCtxRetain", c.byref(self.context), self.device)
        self.use()

    def __call__(self, name, *args):
        r = getattr(self.dll, name)(*args)
        if r:
            text = c.c_char_p()
            self.dll.cuGetErrorString(r, c.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()}")

    def use(self, context=None):
        """Makes the primary context (or another) this thread's."""
        self("cuCtxPushCurrent_v2", context or self.context)

    def used(self):
        """Bytes of device memory that are taken, by anybody."""
        free, total = c.c_size_t(), c.c_size_t()
        self("cuMemGetInfo_v2", c.byref(free), c.byref(total))
        return total.value - free.value

    def multiprocessors(self):
        n = c.c_int()
        self("cuDeviceGetAttribute", c.byref(n), 16, self.device)
        return n.value

    def part(self, n_sm):
        """A CUcontext on at least n_sm multiprocessors, as few as the device deals out. The structs are larger than any version's."""
        whole, some, rest = (c.create_string_buffer(1024) for _ in range(3))
        groups, description, green, context = c.c_uint(1), c.c_void_p(), c.c_void_p(), c.c_void_p()
        self("cuDeviceGetDevResource", self.device, whole, DEV_RESOURCE_SM)
        self("cuDevSmResourceSplitByCount", some, c.byref(groups), whole, rest, 0, n_sm)
        self("cuDevResourceGenerateDesc", c.byref(description), some, 1)
        self("cuGreenCtxCreate", c.byref(green), description, self.device, GREEN_DEFAULT_STREAM)
        self("cuCtxFromGreenCtx", c.byref(context), green)
        return context

    def copy_rate(self, size_B=512 * MB, repeats=10):
        """Best GB/s from page-locked memory to the device."""
        host, there, best = c.c_void_p(), c.c_uint64(), 0.0
        self("cuMemHostAlloc", c.byref(host), c.c_size_t(size_B), 0)
        self("cuMemAlloc_v2", c.byref(there), c.c_size_t(size_B))
        c.memset(host, 1, size_B)
        for _ in range(repeats):
            start = time.perf_counter()
            self("cuMemcpyAsync", there, host, c.c_size_t(size_B), None)
            self("cuCtxSynchronize")
            best = max(best, size_B / (time.perf_counter() - start) / 1e9)
        self("cuMemFree_v2", there)
        self("cuMemFreeHost", host)
        return best
