"""Which instruction set is in use, and the table of its kernels.

Chosen once at import: the largest that CPU and operating system support, or what CONVOPT_ISA names if that is lower.
"""

import os
import warnings

#: Bytes of a cache line.
LINE_BYTES = CONVOPT_LINE_BYTES

cdef int detected = convopt_isa_detect()
cdef int selected = detected


cdef const Kernels *kernels(int itemsize) noexcept nogil:
    return convopt_kernels_for(selected, itemsize)


def isas():
    """Names of the instruction sets this machine can run, in rising order."""
    return tuple(convopt_isa_name(i).decode() for i in range(detected + 1))


def isa():
    """Name of the instruction set in use."""
    return convopt_isa_name(selected).decode()


def select(name):
    """Use another instruction set for what is planned from now on; for tests and comparisons.

    Raises ValueError for a name this machine cannot run.
    """
    global selected
    if name not in isas():
        raise ValueError(f"isa is {name!r}; this machine runs {', '.join(isas())}")
    selected = isas().index(name)


def tile(int itemsize=4):
    """(vl, [mr for nv = 1 .. nv_max]): vector length in elements and tallest register tile per width."""
    cdef const Kernels *table = kernels(itemsize)
    return table.vl, [table.mr[nv] for nv in range(1, table.nv_max + 1)]


def igemm(str isa_name, rows, double[:, ::1] b, double[:, ::1] out, int nr, bias=None, row_bias=None,
          double lo=-float("inf"), double hi=float("inf"), bint accumulate=False):
    """One call of the float64 igemm of a named instruction set, for tests.

    rows: (taps, mr, depth) contiguous float64; b: (taps * depth, ldb); out: (mr, ldo), changed in place.
    """
    return _igemm(convopt_kernels_for(isas().index(isa_name), 8), 8, rows, &b[0, 0], b.shape[1], &out[0, 0], out.shape[1],
                  nr, bias, row_bias, lo, hi, accumulate)


def igemm32(str isa_name, rows, float[:, ::1] b, float[:, ::1] out, int nr, bias=None, row_bias=None,
            double lo=-float("inf"), double hi=float("inf"), bint accumulate=False):
    """As ``igemm``, in float32."""
    return _igemm(convopt_kernels_for(isas().index(isa_name), 4), 4, rows, &b[0, 0], b.shape[1], &out[0, 0], out.shape[1],
                  nr, bias, row_bias, lo, hi, accumulate)


cdef _igemm(const Kernels *table, int itemsize, rows, const void *b, ptrdiff_t ldb, void *out, ptrdiff_t ldo, int nr,
            bias, row_bias, double lo, double hi, bint accumulate):
    cdef ptrdiff_t taps = rows.shape[0], depth = rows.shape[2], i
    cdef int mr = rows.shape[1]
    cdef const void *pointers[1024]
    cdef size_t base = rows.ctypes.data
    cdef Epilogue epilogue
    if taps * mr > 1024:
        raise ValueError("at most 1024 row pointers")
    if not 1 <= (nr + table.vl - 1) // table.vl <= table.nv_max or not 1 <= mr <= table.mr[(nr + table.vl - 1) // table.vl]:
        raise ValueError(f"no tile of {mr} rows x {nr} columns")
    for i in range(taps * mr):
        pointers[i] = <const void *>(base + <size_t>(i * depth * itemsize))
    epilogue.bias = <const void *><size_t>(0 if bias is None else bias.ctypes.data)
    epilogue.row_bias = <const void *><size_t>(0 if row_bias is None else row_bias.ctypes.data)
    epilogue.lo = lo
    epilogue.hi = hi
    table.igemm(mr, nr, taps, depth, pointers, b, ldb, out, ldo, accumulate, &epilogue)


def _initial_isa():
    name = os.environ.get("CONVOPT_ISA", "").strip().lower()
    if not name:
        return isa()
    if name in isas():
        return name
    known = [convopt_isa_name(i).decode() for i in range(CONVOPT_ISAS)]
    reason = "this machine does not support it" if name in known else f"known are {', '.join(known)}"
    warnings.warn(f"CONVOPT_ISA is {name!r}, {reason}; using {isa()}", RuntimeWarning, stacklevel=2)
    return isa()


select(_initial_isa())
