"""Arrays that end, or begin, at a page nobody may touch: an access outside them ends the process at once."""

import contextlib
import ctypes
import mmap

import numpy as np

from convopt.algorithms.memory import Buffer

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_PROT_NONE = 0


def guarded(array, at_end=True):
    """A writable contiguous copy of `array` whose last byte (or, not at_end, whose first byte) touches a forbidden page."""
    array = np.ascontiguousarray(array)
    pages = -(-max(array.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = (pages + 1) * PAGE - array.nbytes if at_end else PAGE
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    for page in (address, address + (pages + 1) * PAGE):
        if _libc.mprotect(page, PAGE, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    return copy


@contextlib.contextmanager
def guarded_workspace(nbytes, poison=0xA5):
    """A Buffer of nbytes, all `poison`, whose end, but for less than one cache line, is the end of what may be touched.

    The memory a Buffer owns starts on a cache line and is followed by something; so its pointer is exchanged.
    """
    lines = guarded(np.full(-(-nbytes // 64) * 64, poison, np.uint8))
    buffer = Buffer(nbytes)
    words = ctypes.cast(id(buffer), ctypes.POINTER(ctypes.c_size_t))
    field = next(i for i in range(8) if words[i] == buffer.address)
    own = words[field]
    words[field] = lines.ctypes.data
    try:
        assert buffer.address == lines.ctypes.data
        yield buffer
        assert (lines[nbytes:] == poison).all(), "written beyond the workspace"
    finally:
        words[field] = own
