"""How much memory this process takes, now and at most."""

import contextlib
import ctypes
import gc


def memory(name: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at most since ``settle_memory``; 0 where the system does not say."""
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(name)).split()[1]) * 1024
    return 0


def settle_memory() -> int:
    """Give back what is free, forget the highest mark, and return the bytes in use."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")
    return memory("VmRSS")
