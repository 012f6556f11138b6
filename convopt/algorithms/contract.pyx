"""The contract every algorithm keeps, so that planner, plan, tests and benchmarks need to know none of them.

An algorithm is one module with

* ``NAME``, the name users write, and ``REVISION``, raised whenever its results or speed change (stored timings of
  earlier revisions are then forgotten);
* ``LAYOUTS``, the data formats it reads and writes itself; the plan changes the layout around it for the others;
* ``SPREADS_NONFINITE``, whether one NaN or Inf in the input may reach outputs whose window does not hold it;
* ``why_not(shape) -> str | None``: the reason it cannot serve the shape, None where it can;
* ``candidates(shape) -> list[dict[str, int]]``: its parameter sets worth measuring, the default first;
* ``expected_error(shape, params) -> float``: typical max|y - y64| / max|y64|, for choosing before anything is measured;
* ``row_step(shape, params) -> int | None``: output rows that it computes together, None where it wants all rows at once: how
  a tensor of another layout is divided into parts, each with the same parameters;
* ``work(shape, params, threads) -> Work``: what it will do, for the cost model;
* ``Implementation(shape, params)``, a subclass of ``Convolver`` or a function that chooses one.

A Convolver is an algorithm made ready for one problem: it holds the geometry and the packed filters, nothing that a
call changes, so any number of threads may ``run`` it at once, each with a workspace of its own.
"""

from dataclasses import dataclass

import numpy as np

from cython.parallel cimport prange

from convopt.algorithms.shares cimport MOST_QUEUES, Queue, begin_shares
from convopt.kernels.registry cimport kernels


@dataclass(frozen=True)
class Work:
    """What one call does, in units a cost model can turn into seconds.

    gemm_flops: floating-point operations inside the micro-kernel (padding of tiles included).
    gemm_efficiency: share of the FMA peak the micro-kernel reaches on such tiles, 0 to 1.
    vector_flops: operations of transforms and other code that is not a GEMM.
    moved_bytes: traffic beyond the first-level caches: tensors, packed filters and intermediates, each as often as it moves.
    parts: independent pieces of work, the most threads that can be kept busy.
    near_bytes: traffic besides that stays within a core's second-level cache.

    Besides, where filters are not constant:
    packing_flops: operations of code that is not a GEMM which turn filters into packed ones.
    packing_bytes: traffic of that; None where all filters are read and what they become is written, before it is used.
    """

    gemm_flops: float
    gemm_efficiency: float
    vector_flops: float
    moved_bytes: float
    parts: int
    near_bytes: float = 0.0
    packing_flops: float = 0.0
    packing_bytes: float | None = None


def error_of_sums(shape):
    """Expected error, of the largest result, of sums in order over windows: rounding grows as the square root of their length."""
    return (2e-8 if shape.dtype == "float32" else 4e-17) * (9 + shape.depth) ** 0.5


cdef class Convolver:
    """One algorithm made ready for one problem; see the module's text.

    shape: ConvShape, in a layout of LAYOUTS. params: one of candidates(shape).
    Raises MemoryError, naming the byte count, if the packed filters cannot be allocated.
    """

    def __cinit__(self, shape, dict params, *args):
        self.shape = shape
        self.params = params
        self.conv.n, self.conv.h, self.conv.w, self.conv.c = shape.n, shape.h, shape.w, shape.c
        self.conv.k, self.conv.r, self.conv.s = shape.k, shape.r, shape.s
        self.conv.oh, self.conv.ow = shape.oh, shape.ow
        self.conv.stride_h, self.conv.stride_w = shape.strides
        self.conv.dilation_h, self.conv.dilation_w = shape.dilations
        self.conv.pad_top, self.conv.pad_left = shape.pads[0][0], shape.pads[1][0]
        self.conv.groups, self.conv.group_c, self.conv.group_k = shape.groups, shape.group_c, shape.group_k
        self.conv.nchw = shape.data_format == "NCHW"
        self.conv.itemsize = shape.itemsize
        self.kernels = kernels(shape.itemsize)

    cdef size_t packed_size(self) noexcept nogil:
        """Bytes of packed filters."""
        return 0

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        """Bytes of scratch memory that `run` needs with so many threads; contents undefined before and after."""
        return 0

    cdef int allocate(self) except -1:
        """Make room for packed filters, once."""
        if self.packed is None:
            self.packed = Buffer(self.packed_size())
        return 0

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """Fill self.packed.data from contiguous HWIO filters: what depends on filters alone is done here, once."""

    cdef void borrow(self, const void *filters, int threads) noexcept nogil:
        """As `pack`, for filters that are used once: they stay where and as they are until `run` is over."""
        self.pack(filters, threads)

    cdef void run(self, const Call *call) noexcept nogil:
        """out = epilogue(conv(x)), on contiguous, element-aligned arrays in the shape's layout.

        epilogue.bias, where not NULL, has K values and is readable one cache line beyond; epilogue.row_bias is NULL.
        workspace is 64-byte aligned and holds workspace_size(threads) bytes. The output is not empty.
        An algorithm hands its work, a phase after the other, to `fork_join`, whose threads do their shares of it in `share`.
        """

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Do runs of a phase's items of work, while `next_run(share)` finds one; others do so at the same time."""

    cdef void fork_join(self, const Call *call, int phase, int rows, int columns, ptrdiff_t items, ptrdiff_t grain) noexcept nogil:
        """Have rows x columns threads do the items of a phase, `grain` or more at a time, and wait for them (see ``shares``).

        No more rows than items are woken. One thread does all items in one run, and enters no parallel region.
        """
        cdef Queue[MOST_QUEUES] queues
        rows = <int>max(<ptrdiff_t>1, min(<ptrdiff_t>rows, items))
        cdef Share whole = begin_shares(queues, rows, columns, items, grain)
        cdef int part, threads = rows * columns
        if threads <= 1:
            self.share(call, phase, &whole)
            return
        for part in prange(threads, num_threads=threads, schedule="static", chunksize=1):
            self.one_share(call, phase, &whole, part)

    cdef void one_share(self, const Call *call, int phase, const Share *whole, int part) noexcept nogil:
        """That of the thread of this number."""
        cdef Share share = whole[0]
        share.part = part
        self.share(call, phase, &share)

    cdef int take_filters(self, const void *filters, int threads, bint borrow) except -1:
        """What `pack_filters` does, for filters that are known to be contiguous and of the right shape and dtype."""
        self.allocate()
        with nogil:
            if borrow:
                self.borrow(filters, threads)
            else:
                self.pack(filters, threads)
        return 0

    def packed_bytes(self):
        """Bytes of packed filters."""
        return self.packed_size()

    def workspace_bytes(self, int threads):
        """Bytes of scratch memory a call needs with so many threads."""
        return self.workspace_size(threads)

    def pack_filters(self, filters, int threads=1, bint borrow=False):
        """Take (new) filters: array of shape.filters_shape and the shape's dtype. Not while another thread runs.

        borrow: the caller keeps the filters, a contiguous array, as they are until the next run is over, the only one
        with these filters; packing them may then be left out.
        """
        filters = np.ascontiguousarray(filters, dtype=self.shape.dtype)
        if filters.shape != self.shape.filters_shape:
            raise ValueError(f"filters has shape {filters.shape}; expected {self.shape.filters_shape}")
        cdef size_t address = filters.ctypes.data
        self.take_filters(<const void *>address, threads, borrow)

    def run_on(self, x, out, Buffer workspace not None, bias=None, double lo=-float("inf"), double hi=float("inf"), int threads=1):
        """`run` for tests: contiguous arrays of the shape's own layout and dtype, bias padded by a cache line."""
        cdef Epilogue epilogue
        cdef Call call
        cdef size_t x_address = x.ctypes.data, out_address = out.ctypes.data
        if x.shape != self.shape.input_shape or out.shape != self.shape.output_shape:
            raise ValueError(f"x has shape {x.shape} and out {out.shape}; expected {self.shape.input_shape}, {self.shape.output_shape}")
        if workspace.nbytes < self.workspace_size(threads):
            raise ValueError(f"workspace has {workspace.nbytes} bytes; {self.workspace_size(threads)} are needed")
        padded = None
        if bias is not None:
            padded = np.zeros(self.shape.k + 64 // self.shape.itemsize, self.shape.dtype)
            padded[:self.shape.k] = bias
        epilogue.bias = <const void *><size_t>(0 if padded is None else padded.ctypes.data)
        epilogue.row_bias = NULL
        epilogue.lo, epilogue.hi = lo, hi
        call.x, call.epilogue, call.out = <const char *>x_address, &epilogue, <char *>out_address
        call.workspace, call.threads = <char *>workspace.data, threads
        with nogil:
            self.run(&call)
