# cython: nonecheck=True
"""ConvPlan: one problem, one algorithm, packed filters; calling it is the short road to a result.

A call checks its arguments in C, takes a workspace from a small pool (so any number of threads may call one plan at
once), and enters the algorithm without the GIL.
"""

import numpy as np

cimport numpy as cnp
from libc.string cimport memcpy, memset

from convopt.algorithms.arrays cimport empty
from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.parallel cimport thread_limit
from convopt.kernels.registry cimport Epilogue

from convopt.algorithms import ALGORITHMS, prepare
from convopt.errors import DTypeError, ShapeError, WorkspaceError
from convopt.shape import ACTIVATIONS

cnp.import_array()

cdef enum:
    IDLE_WORKSPACES = 2    # kept between calls; more are made, and freed again, while more threads call at once
    BIAS_MARGIN = 64       # bytes a kernel may read beyond the last bias
    FLOPS_PER_THREAD = 1000000    # waking a thread costs some microseconds, the time of about this much work


cdef class ConvPlan:
    """A planned convolution. Made by ``convopt.plan``; call it with an input array.

    Attributes:
        shape: ConvShape; extra batch dimensions of the input are folded into its n.
        algorithm, params: what was chosen. threads: the most threads a call uses.
        choice: how it was chosen (None where a caller named algorithm and parameters).
    """

    cdef readonly object shape
    cdef readonly str algorithm
    cdef readonly dict params
    cdef readonly int threads
    cdef readonly object choice
    cdef int wanted_threads
    cdef Convolver convolver
    cdef Buffer bias
    cdef object dtype
    cdef tuple input_shape, output_shape
    cdef Epilogue epilogue
    cdef int type_num, ndim
    cdef cnp.npy_intp in_dims[32]
    cdef cnp.npy_intp out_dims[32]
    cdef cnp.npy_intp filter_dims[4]
    cdef size_t in_bytes, out_bytes
    cdef list idle
    cdef bint has_filters

    def __init__(self, shape, str algorithm, dict params, filters, *, bias=None, activation=None, threads=None,
                 input_shape=None, choice=None):
        """shape: ConvShape. filters: its filters, of its dtype; None to give them later. bias: K values or None.

        input_shape: the input's full shape where it has extra batch dimensions. threads: None follows the default.
        Raises DTypeError, ShapeError, WorkspaceError (with byte counts).
        """
        self.shape, self.algorithm, self.params, self.choice = shape, algorithm, params, choice
        self.wanted_threads = 0 if threads is None else threads
        self.threads = min(thread_limit(self.wanted_threads), 1 + shape.flops // FLOPS_PER_THREAD)
        self.dtype = np.dtype(shape.dtype)
        self.type_num = cnp.NPY_FLOAT if shape.itemsize == 4 else cnp.NPY_DOUBLE
        self.input_shape = shape.input_shape if input_shape is None else tuple(input_shape)
        self.output_shape = self.input_shape[:-3] + shape.output_shape[1:]
        self.ndim = len(self.input_shape)
        if self.ndim > 32:
            raise ShapeError(f"input has rank {self.ndim}; at most 32 is supported")
        for axis in range(4):
            self.filter_dims[axis] = shape.filters_shape[axis]
        self.in_bytes = self.out_bytes = shape.itemsize
        for axis in range(self.ndim):
            self.in_dims[axis], self.out_dims[axis] = self.input_shape[axis], self.output_shape[axis]
            self.in_bytes *= self.in_dims[axis]
            self.out_bytes *= self.out_dims[axis]
        self.epilogue.lo, self.epilogue.hi = limits_of(activation)
        self.epilogue.bias = self.epilogue.row_bias = NULL
        self.idle = []
        try:
            self.convolver = prepare(algorithm, shape, params)
            if filters is not None:
                self.convolver.pack_filters(self.checked_filters(filters), self.threads)
                self.has_filters = True
            if bias is not None:
                self.bias = Buffer(shape.k * shape.itemsize + BIAS_MARGIN)
                self.set_bias(bias)
            self.idle.append(Buffer(self.workspace_bytes))
        except MemoryError as error:
            needed = self.packed_bytes + self.workspace_bytes if self.convolver is not None else 0
            raise WorkspaceError(f"{algorithm} needs {needed} bytes for packed filters and workspace: {error}", needed) from None

    def __call__(self, x, out=None):
        """The convolution of `x`, an array of the planned shape and dtype; written to `out` if given, and returned.

        `out` follows NumPy: any writable array of the result's shape that its dtype can be cast to; it may overlap x.
        Raises ShapeError, DTypeError, WorkspaceError; `out` is then untouched.
        """
        cdef cnp.ndarray source, target
        cdef size_t a, b
        if not self.fits(x, self.ndim, self.in_dims, cnp.NPY_ARRAY_CARRAY_RO):
            x = self.checked_input(x)
        source = x
        if out is None:
            target = empty(self.ndim, self.out_dims, self.type_num, self.out_bytes)
            self.compute(source, target)
            return target
        if self.fits(out, self.ndim, self.out_dims, cnp.NPY_ARRAY_CARRAY):
            target = out
            a, b = <size_t>cnp.PyArray_DATA(source), <size_t>cnp.PyArray_DATA(target)
            if a + self.in_bytes <= b or b + self.out_bytes <= a:
                self.compute(source, target)
                return out
        return self.call_through_copy(source, out)

    cdef bint fits(self, array, int ndim, const cnp.npy_intp *dims, int flags):
        """Whether kernels may use the object as it is: a C-contiguous, aligned, native array of these sizes."""
        cdef cnp.ndarray a
        cdef int axis
        if type(array) is not cnp.ndarray:
            return False
        a = array
        if cnp.PyArray_TYPE(a) != self.type_num or cnp.PyArray_NDIM(a) != ndim or not cnp.PyArray_CHKFLAGS(a, flags):
            return False
        if not cnp.PyArray_ISNOTSWAPPED(a):
            return False
        for axis in range(ndim):
            if cnp.PyArray_DIM(a, axis) != dims[axis]:
                return False
        return True

    cdef int compute(self, cnp.ndarray source, cnp.ndarray target) except -1:
        cdef Call call
        cdef Convolver convolver = self.convolver    # update_filters may replace it meanwhile
        cdef Buffer workspace
        if self.out_bytes == 0:
            return 0
        if self.in_bytes == 0:
            return self.fill_with_bias(target)
        if not self.has_filters:
            raise ShapeError("filters is None; this plan was made without, and takes them by update_filters")
        call.threads = min(self.threads, thread_limit(self.wanted_threads))
        workspace = self.take_workspace(convolver)
        call.x, call.out = <const char *>cnp.PyArray_DATA(source), <char *>cnp.PyArray_DATA(target)
        call.epilogue, call.workspace = &self.epilogue, <char *>workspace.data
        with nogil:
            convolver.run(&call)
        if len(self.idle) < IDLE_WORKSPACES:
            self.idle.append(workspace)
        return 0

    cdef Buffer take_workspace(self, Convolver convolver):
        cdef size_t nbytes
        try:
            return self.idle.pop()
        except IndexError:
            nbytes = convolver.workspace_size(self.threads)
        try:
            return Buffer(nbytes)
        except MemoryError:
            raise WorkspaceError(f"{self.algorithm} needs a workspace of {nbytes} bytes, which cannot be allocated", nbytes) from None

    cdef int fill_with_bias(self, cnp.ndarray target) except -1:
        """An input without pixels whose padding alone makes outputs: zeros, plus bias, activated."""
        pixels = np.zeros((*self.output_shape[:-3], self.shape.oh, self.shape.ow, self.shape.k), self.dtype)
        if self.bias is not None:
            pixels += np.frombuffer(<char[:self.shape.k * self.shape.itemsize]>self.bias.data, self.dtype)
        np.clip(pixels, self.epilogue.lo, self.epilogue.hi, out=pixels)
        target[...] = pixels if self.shape.data_format == "NHWC" else np.moveaxis(pixels, -1, -3)
        return 0

    def call_through_copy(self, source, out):
        """A call whose `out` kernels cannot write directly, or must not because it overlaps the input."""
        if isinstance(out, tuple) and len(out) == 1:
            return self(source, out[0])
        if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
            raise DTypeError(f"out is a {type(out).__name__}; expected a numpy.ndarray")
        if out.shape != self.output_shape:
            raise ShapeError(f"out has shape {out.shape}; the result has shape {self.output_shape}")
        if not out.flags.writeable:
            raise ShapeError("out is read-only; it must be writable")
        if not np.can_cast(self.dtype, out.dtype, "same_kind"):
            raise DTypeError(f"out has dtype {out.dtype}; {self.dtype} results cannot be cast to it")
        np.copyto(out, self(source), casting="same_kind")
        return out

    def checked_input(self, x):
        """`x` as a contiguous, aligned, native array of the planned shape and dtype; copied where it is not one."""
        array = array_of("input", x, self.dtype)
        if array.dtype.itemsize != self.dtype.itemsize:
            raise DTypeError(f"input has dtype {array.dtype}; the plan was made for {self.dtype}")
        if array.shape != self.input_shape:
            raise ShapeError(f"input has shape {array.shape}; the plan was made for {self.input_shape}")
        return np.require(array, self.dtype, ["C", "A"])

    def checked_filters(self, filters):
        """`filters` as a contiguous, aligned, native array of the planned shape and dtype."""
        array = array_of("filters", filters, self.dtype)
        if array.dtype.itemsize != self.dtype.itemsize:
            raise DTypeError(f"filters has dtype {array.dtype}; input has {self.dtype}: they must be the same")
        if array.shape != self.shape.filters_shape:
            raise ShapeError(f"filters has shape {array.shape}; the plan was made for {self.shape.filters_shape}")
        return np.require(array, self.dtype, ["C", "A"])

    def set_bias(self, bias):
        """Take the values of `bias`, K of them, into the plan's own copy."""
        array = checked_bias(bias, self.shape.k, self.dtype)
        cdef size_t address = array.ctypes.data, nbytes = array.nbytes
        memcpy(self.bias.data, <const void *>address, nbytes)
        memset(<char *>self.bias.data + nbytes, 0, BIAS_MARGIN)
        self.epilogue.bias = self.bias.data

    def update_filters(self, filters):
        """Use new filters of the same shape and dtype from now on; calls that are running finish with the old ones.

        Raises ShapeError, DTypeError, WorkspaceError; the plan then keeps the filters it had.
        """
        array = self.checked_filters(filters)
        try:
            convolver = prepare(self.algorithm, self.shape, self.params)
            convolver.pack_filters(array, min(self.threads, thread_limit(self.wanted_threads)))
        except MemoryError as error:
            needed = self.packed_bytes
            raise WorkspaceError(f"{self.algorithm} needs {needed} bytes for packed filters: {error}", needed) from None
        self.convolver = convolver
        self.has_filters = True

    def call_once(self, x, filters, bias, out):
        """A call with filters (and bias, where the plan was made with one) of its own; not from two threads at once."""
        if not self.fits(x, self.ndim, self.in_dims, cnp.NPY_ARRAY_CARRAY_RO):
            x = self.checked_input(x)
        if not self.fits(filters, 4, self.filter_dims, cnp.NPY_ARRAY_CARRAY_RO):
            filters = self.checked_filters(filters)
        threads = min(self.threads, thread_limit(self.wanted_threads))
        try:
            self.convolver.take_filters(cnp.PyArray_DATA(<cnp.ndarray>filters), threads, True)
        except MemoryError as error:
            needed = self.packed_bytes
            raise WorkspaceError(f"{self.algorithm} needs {needed} bytes for packed filters: {error}", needed) from None
        if self.bias is not None:
            self.set_bias(bias)
        self.has_filters = True
        try:
            return self(x, out)
        finally:
            self.has_filters = False    # those were borrowed

    @property
    def workspace_bytes(self):
        """Bytes of scratch memory one running call holds."""
        return self.convolver.workspace_size(self.threads)

    @property
    def packed_bytes(self):
        """Bytes of the packed filters."""
        return self.convolver.packed_size()

    @property
    def spreads_nonfinite(self):
        """Whether one NaN or Inf in the input may reach outputs whose window does not hold it."""
        return ALGORITHMS[self.algorithm].SPREADS_NONFINITE

    @property
    def measured_error(self):
        """Largest error over largest result, measured against float64 when the algorithm was timed; None if it was not."""
        return None if self.choice is None else self.choice.error

    def explain(self):
        """Why this algorithm: a text for people."""
        text = f"{self.algorithm} {self.params}: named by the caller" if self.choice is None else self.choice.explain()
        if self.spreads_nonfinite:
            text += "\nNaN and Inf in the input may reach outputs whose window does not hold them; accuracy='ieee' excludes such algorithms"
        return text

    def __repr__(self):
        params = "".join(f" {key}={value}" for key, value in self.params.items())
        return f"<ConvPlan {self.shape.key()}: {self.algorithm}{params}, {self.threads} threads>"


def limits_of(activation):
    """(smallest, largest) result an activation lets through."""
    try:
        return ACTIVATIONS[activation]
    except (KeyError, TypeError):
        known = ", ".join(repr(name) for name in ACTIVATIONS)
        raise ShapeError(f"activation is {activation!r}; expected one of {known}") from None


def array_of(name, value, like=None):
    """`value` as a float32 or float64 array, in whatever memory layout it has.

    like: dtype of the array that it goes with, which lists and tuples of real numbers take: they have none of their own.
    """
    if value is None or isinstance(value, (str, bytes, dict)):
        raise DTypeError(f"{name} is {value!r}; expected an array")
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array; fill it first: a convolution has no notion of masked elements")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name} is not an array: {error}") from None
    if like is not None and isinstance(value, (list, tuple)) and array.dtype.kind in "iuf":
        array = array.astype(like)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise DTypeError(f"{name} has dtype {array.dtype}; expected float32 or float64")
    return array


def checked_bias(bias, k, dtype):
    """`bias` as a contiguous native array of k values of the dtype."""
    array = array_of("bias", bias, dtype)
    if array.shape != (k,):
        raise ShapeError(f"bias has shape {array.shape}; one value for each of the {k} output channels is needed: ({k},)")
    if array.dtype.itemsize != dtype.itemsize:
        raise DTypeError(f"bias has dtype {array.dtype}; input has {dtype}: they must be the same")
    return np.require(array, dtype, ["C", "A"])
