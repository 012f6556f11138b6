"""Depthwise convolution: each input channel has filters of its own, so there is no product of matrices to make.

Lanes are output channels. A strip of a few output rows of one vector of channels is walked along its columns, so that
an input vector, once in a register, feeds all taps and rows that read it; or a strip of all vectors of channels is cut
into tiles of a few pixels, as many columns wide as the parameter `tiles` says (see kernels/depthwise-inl.h). Padding is
never multiplied: rows and columns outside the image are left out.

Dilation is gone by then: with g = gcd(stride, dilation) a dilated convolution is dilation/g independent ones per axis,
of stride stride/g, each on every dilation-th pixel, and each is walked by itself.

Where a channel has several filters (multiplier = K/C > 1), or channels are fewer than a vector has lanes, the input rows
of a strip are first spread out in the workspace, whole vectors to a pixel, each channel as often as it has filters.
Where channels fill vectors badly, a row of pixels can be taken as one line instead (parameter `lines`, depthwise_planes).

Loops, outermost first: share of a thread > strip of output rows > run of columns > phase of them > vector of channels; with
tiles: share > strip > phase > tile > vector of channels.
"""

import math

from convopt.algorithms import depthwise_planes, panels
from convopt.algorithms.contract import Work, error_of_sums

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, CONVOPT_STRIP_ROWS, DepthwiseBody, DepthwiseForm, Strip, kernels

NAME = "depthwise"
REVISION = 9
LAYOUTS = ("NHWC", "NCHW")    # the latter in depthwise_planes
SPREADS_NONFINITE = False

# Bytes of input and output from where on they come from beyond L2.
BEYOND_L2 = 3 << 19
# Input columns of a run then: all vectors of channels of few pixels, one after the other, so that memory is walked in order.
SHORT_RUN = 8

# Share of lanes that vectors of channels keep busy from where on lines of interleaved channels cannot win.
ENOUGH_LANES = 0.8

# A product of a tile of one row takes so many times as long: a load of weights serves half as many of them.
ONE_ROW = 1.12

# Share of the peak that lines reach: kernels that have a body of their own (see planes-inl.h), whose weights stay in registers, and others.
LINES_OF_KNOWN_TAPS, LINES_OF_ANY_TAPS = 0.9, 0.7

# Taps of a column that its other costs are worth: stores and loads, and a walk's reading of lines whose vectors it takes one by one.
COLUMN_COST, PARTS_OF_LINES_COST = 6, 9


def why_not(shape):
    """The reason depthwise cannot serve a shape: a group has several input channels."""
    if shape.group_c != 1:
        return f"each group has {shape.group_c} input channels; depthwise needs exactly 1"
    return depthwise_planes.why_not(shape) if shape.data_format == "NCHW" else None


def candidates(shape):
    """Tiles, runs of output columns, and lines of interleaved channels where they leave fewer lanes idle.

    A walk reads a cache line once for each of its vectors, and can hold few weights in 16 registers: tiles come first where a
    line has several vectors.
    """
    if shape.data_format == "NCHW":
        return [{}]
    vl, _ = panels.tiles(shape)
    tiles = _tiles(shape) if vl <= shape.c == shape.k and _square(shape) else []
    strips = [*tiles, *_runs(shape)] if vl * shape.itemsize < CACHE_LINE else [*_runs(shape), *tiles]
    if not _interleaves(shape) or shape.c >= ENOUGH_LANES * vl * -(-shape.c // vl):
        return strips
    return [{"lines": 1}, *strips] if shape.c < vl else [*strips, {"lines": 1}]


def _interleaves(shape):
    """Whether lines of interleaved channels serve a shape."""
    return shape.k == shape.c and shape.strides[1] == 1 and depthwise_planes.why_not(shape) is None


def _square(shape):
    """Whether filters are, and strides once dilation is gone."""
    strides = {_reduced(*axis)[0] for axis in zip(shape.strides, shape.dilations, strict=True)}
    return shape.r == shape.s and len(strides) == 1


def _runs(shape):
    """Output columns of a run: whole rows, or few, where the walk's start costs little and what it saves may be more."""
    whole_rows = {"columns": shape.ow}
    short = {"columns": max(1, SHORT_RUN // shape.strides[1])}
    vl, _ = panels.tiles(shape)
    if _live(shape) > 3 or shape.ow < 3 * short["columns"] or shape.k < 2 * vl or shape.k != shape.c or shape.dilations[1] > 1:
        return [whole_rows]
    tensors = shape.itemsize * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    return [short, whole_rows] if tensors > BEYOND_L2 else [whole_rows, short]


def _tiles(shape):
    """Tiles of each width there is, the cheapest first."""
    found = sorted(_tile_columns(shape), key=lambda columns: _tile_cost(shape, columns))
    return [{"tiles": columns} for columns in found]


def _tile_columns(shape):
    """Columns of the tiles that serve a shape."""
    cdef const DepthwiseForm *form = kernels(shape.itemsize).depthwise_tile_forms
    columns, (stride, _) = set(), _reduced(shape.strides[1], shape.dilations[1])
    while form.rows:
        if form.taps == shape.s and form.stride == stride:
            columns.add(form.columns)
        form += 1
    return sorted(columns)


def _tile_cost(shape, columns):
    """Products of the tiles that cover an image, over its own; those of a single row count more."""
    rows = max(_forms(shape, columns))
    phases = [_reduced(*axis)[1] for axis in zip(shape.strides, shape.dilations, strict=True)]
    height, width = max(1, shape.oh // phases[0]), max(1, shape.ow // phases[1])
    covered = -(-height // rows) * rows * -(-width // columns) * columns
    return (ONE_ROW if rows == 1 else 1.0) * covered / (height * width)


def _live(shape):
    """Output columns under way at a time: what the start of a run costs."""
    return -(-shape.s // shape.strides[1])


def _forms(shape, columns=0):
    """Output rows of the forms that serve a shape by tiles of so many columns or, of 0, by a walk, ascending."""
    cdef const DepthwiseForm *form = kernels(shape.itemsize).depthwise_tile_forms
    if not columns:
        form = kernels(shape.itemsize).depthwise_forms
    rows, (stride, _) = [], _reduced(shape.strides[1], shape.dilations[1])
    while form.rows:
        if form.taps == shape.s and form.stride == stride and form.columns == columns:
            rows.append(form.rows)
        form += 1
    return rows


def expected_error(shape, params):
    """That of sums in order."""
    return error_of_sums(shape)


def row_step(shape, params):
    """None: all rows at once."""
    return None


def work(shape, params, threads):
    """Multiply-adds on whole vectors; each strip reads the rows above and below it once more."""
    if "lines" in params:
        return _work_of_lines(shape)
    vl, _ = panels.tiles(shape)
    padded_k = -(-shape.k // vl) * vl
    pixels = shape.n * shape.oh * shape.ow
    inputs = shape.n * shape.h * shape.w
    rows = max(_forms(shape, params.get("tiles", 0)), default=0)
    runs = -(-shape.ow // params.get("columns", max(1, shape.ow)))
    started = (shape.ow + (runs - 1) * (_live(shape) - 1)) / shape.ow if rows else 1.0
    if "tiles" in params:
        started = _tile_cost(shape, params["tiles"])
    cost = COLUMN_COST + (PARTS_OF_LINES_COST if "tiles" not in params and vl * shape.itemsize < CACHE_LINE else 0)
    efficiency = 0.9 * shape.depth / (shape.depth + cost) if rows else 0.4
    spread = 0 if shape.k == shape.c >= vl else inputs * padded_k * (1 + (shape.r - 1) / max(1, rows * shape.strides[0]))
    return Work(
        gemm_flops=2.0 * pixels * padded_k * shape.depth * started,
        gemm_efficiency=efficiency,
        vector_flops=2.0 * spread,
        moved_bytes=shape.itemsize * (inputs * shape.c + pixels * shape.k + 2.0 * spread),
        parts=max(1, shape.n * shape.oh * -(-shape.k // vl) // 2),
    )


def _work_of_lines(shape):
    """Multiply-adds without idle lanes; the input is copied once more."""
    inputs, outputs = shape.n * shape.h * shape.w * shape.c, shape.n * shape.oh * shape.ow * shape.c
    peak = LINES_OF_KNOWN_TAPS if shape.r == shape.s and shape.s in (3, 5, 7) else LINES_OF_ANY_TAPS
    return Work(
        gemm_flops=2.0 * outputs * shape.depth,
        gemm_efficiency=peak * shape.depth / (shape.depth + COLUMN_COST),
        vector_flops=2.0 * inputs,
        moved_bytes=float(shape.itemsize * (inputs + outputs)),
        parts=max(1, shape.n * shape.oh // 8),
    )


def Implementation(shape, dict params):
    """The Convolver of depthwise for NHWC: of vectors of channels, or of lines."""
    return depthwise_planes.Implementation(shape, params) if "lines" in params else Strips(shape, params)


cdef class Strips(Convolver):
    """Vectors of channels, a strip of output rows at a time."""

    cdef ptrdiff_t tiles                 # columns of the tiles of a body that takes all vectors of channels at a time; or 0
    cdef Buffer zeros                    # a row of padding, for these
    cdef DepthwiseBody *bodies[CONVOPT_STRIP_ROWS + 1]  # by output rows
    cdef ptrdiff_t most_rows
    cdef ptrdiff_t vl, blocks            # channels of a vector, vectors of channels
    cdef ptrdiff_t last_channel          # where the last vector begins: back in the one before it, if so it can be read whole
    cdef bint spreading, overlapping     # whether it is so
    cdef ptrdiff_t stride_h, stride_w, phases_h, phases_w, run_columns

    def __init__(self, shape, dict params):
        cdef const DepthwiseForm *form = self.kernels.depthwise_forms
        self.tiles = params.get("tiles", 0)
        if self.tiles:
            form = self.kernels.depthwise_tile_forms
            self.zeros = Buffer(self.conv.w * self.conv.c * self.conv.itemsize)
            self.zeros.fill(0)
        self.stride_h, self.phases_h = _reduced(shape.strides[0], shape.dilations[0])
        self.stride_w, self.phases_w = _reduced(shape.strides[1], shape.dilations[1])
        self.run_columns = params.get("columns", max(1, shape.ow))
        while form.rows:
            if form.columns == self.tiles and (
                (form.taps == self.conv.s and form.stride == self.stride_w) or (form.taps == 0 and self.most_rows == 0)
            ):
                self.bodies[form.rows] = form.body
                self.most_rows = form.rows
            form += 1
        self.vl = self.kernels.vl
        self.spreading = self.conv.group_k > 1 or self.conv.k < self.vl
        self.blocks = (self.conv.k + self.vl - 1) // self.vl
        self.overlapping = not self.spreading and self.conv.k % self.vl != 0
        self.last_channel = self.conv.k - self.vl if self.overlapping else (self.blocks - 1) * self.vl

    cdef ptrdiff_t input_rows(self, ptrdiff_t rows) noexcept nogil:
        """Under a strip."""
        return (rows - 1) * self.stride_h + self.conv.r

    cdef ptrdiff_t panel_elements(self) noexcept nogil:
        """Of a vector of channels: lane numbers where channels are spread out, then weights."""
        return (self.conv.r * self.conv.s + self.spreading) * self.vl

    cdef size_t packed_size(self) noexcept nogil:
        return self.blocks * self.panel_elements() * self.conv.itemsize

    cdef size_t spread_size(self) noexcept nogil:
        return self.input_rows(self.most_rows) * self.conv.w * self.vl * self.conv.itemsize if self.spreading else 0

    cdef size_t pointers_size(self) noexcept nogil:
        return whole(self.input_rows(self.most_rows) * sizeof(void *), CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.pointers_size() + whole(self.spread_size(), CACHE_LINE))

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[vector of channels][tap][channel], the last vector's padding zero; before the taps lane numbers, if need be."""
        cdef ptrdiff_t item = self.conv.itemsize, block, tap, lane, count, channel
        cdef char *to = <char *>self.packed.data
        for block in range(self.blocks):
            channel = min(block * self.vl, self.last_channel)
            count = min(self.vl, self.conv.k - channel)
            if self.spreading:
                for lane in range(self.vl):
                    self.put_number(to, lane, (channel + min(lane, count - 1)) // self.conv.group_k - channel // self.conv.group_k)
                to += self.vl * item
            for tap in range(self.conv.r * self.conv.s):
                memcpy(to, <const char *>filters + (tap * self.conv.k + channel) * item, count * item)
                memset(to + count * item, 0, (self.vl - count) * item)
                to += self.vl * item

    cdef void put_number(self, char *to, ptrdiff_t lane, ptrdiff_t number) noexcept nogil:
        if self.conv.itemsize == 4:
            (<int32_t *>to)[lane] = <int32_t>number
        else:
            (<int64_t *>to)[lane] = number

    cdef ptrdiff_t strips_of(self, ptrdiff_t rows) noexcept nogil:
        """Strips of each phase of an image, where they have at most so many rows."""
        cdef ptrdiff_t longest = (self.conv.oh + self.phases_h - 1) // self.phases_h
        return (longest + rows - 1) // rows

    cdef ptrdiff_t rows_for(self, int parts, ptrdiff_t units) noexcept nogil:
        """Rows of a strip that make the longest share shortest: a strip costs about a row more than it has.

        units: vectors of channels of all phases of all images.
        """
        cdef ptrdiff_t rows, cost, best = self.most_rows, least = -1
        for rows in range(self.most_rows, 0, -1):
            cost = (units * self.strips_of(rows) + parts - 1) // parts * (rows + 1)
            if least < 0 or cost < least:
                best, least = rows, cost
        return best

    cdef void run(self, const Call *call) noexcept nogil:
        cdef ptrdiff_t images = self.conv.n * min(self.phases_h, self.conv.oh), blocks = self.blocks - self.overlapping
        cdef ptrdiff_t strips = self.strips_of(self.rows_for(call.threads, images * blocks))
        self.fork_join(call, <int>strips, call.threads, 1, images * strips * blocks, 1)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Strips, and within a strip vectors of channels, in order; `phase` is how many strips a phase of an image has.

        Vectors that overlap go to the same thread.
        """
        cdef ptrdiff_t blocks = self.blocks - self.overlapping, unit, block, end
        cdef char *memory = call.workspace + share.part * (self.pointers_size() + whole(self.spread_size(), CACHE_LINE))
        while next_run(share):
            unit = share.first
            while unit < share.last:
                block = unit % blocks
                end = min(blocks, block + share.last - unit)
                self.run_vectors(call, unit // blocks, phase, block, self.blocks if end == blocks else end, memory)
                unit += end - block

    cdef void run_vectors(self, const Call *call, ptrdiff_t index, ptrdiff_t strips, ptrdiff_t begin, ptrdiff_t end,
                          char *memory) noexcept nogil:
        """Vectors of channels from `begin` to `end` of one of the strips, numbered image by image, phase by phase."""
        cdef ptrdiff_t phases = min(self.phases_h, self.conv.oh), phase = index // strips % phases
        cdef ptrdiff_t height = (self.conv.oh - phase + self.phases_h - 1) // self.phases_h
        cdef ptrdiff_t row = index % strips * height // strips, rows = (index % strips + 1) * height // strips - row
        if rows:
            self.run_strip(call, index // strips // phases, phase, row, rows, begin, end, memory)

    cdef void run_strip(self, const Call *call, ptrdiff_t image, ptrdiff_t phase, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t begin,
                        ptrdiff_t end, char *memory) noexcept nogil:
        """Vectors of channels from `begin` to `end` of the rows from `row` on of a phase of an image."""
        cdef ptrdiff_t item = self.conv.itemsize, oy = phase + row * self.phases_h, height = self.input_rows(rows), block, first = 0
        cdef ptrdiff_t y = oy * self.conv.stride_h - self.conv.pad_top, pixel = self.vl if self.spreading else self.conv.c
        # Input rows top .. bottom-1 of the strip are there.
        cdef ptrdiff_t top = steps_to(-y, self.conv.dilation_h), bottom = min(height, steps_to(self.conv.h - y, self.conv.dilation_h))
        cdef ptrdiff_t longest = (self.conv.ow + self.phases_w - 1) // self.phases_w, run = min(self.run_columns, longest)
        cdef const char *x = call.x + (image * self.conv.h + y) * self.conv.w * self.conv.c * item
        cdef char *out = call.out + (image * self.conv.oh + oy) * self.conv.ow * self.conv.k * item
        cdef const char *weights
        cdef ptrdiff_t panel_bytes = self.panel_elements() * item, channel, start, column_phase
        cdef Strip strip
        strip.taps_w, strip.stride_h, strip.stride_w = self.conv.s, self.stride_h, self.stride_w
        strip.vectors = 1
        strip.first_tap, strip.last_tap = max(0, top - (rows - 1) * self.stride_h), min(self.conv.r, bottom)
        strip.inputs = <const void *const *>memory
        strip.pitch = pixel * self.conv.dilation_w
        strip.out_row, strip.out_pixel = self.phases_h * self.conv.ow * self.conv.k, self.phases_w * self.conv.k
        strip.epilogue, strip.bias = call.epilogue, NULL
        self.point_at_rows(x, height, top, bottom, <const char **>memory, memory + self.pointers_size())
        while first < longest:
            for column_phase in range(min(self.phases_w, self.conv.ow)):
                self.set_columns(&strip, column_phase, first, run, pixel)
                start = strip.start
                block = begin
                while block < end:
                    channel = min(block * self.vl, self.last_channel)
                    if self.tiles:    # all vectors that follow each other
                        strip.vectors = max(<ptrdiff_t>1, min(end, self.blocks - self.overlapping) - block)
                    weights = <const char *>self.packed.data + block * panel_bytes
                    if self.spreading:
                        self.spread_rows(x, block, weights, top, bottom, memory + self.pointers_size())
                        weights += self.vl * item
                    else:
                        strip.start = start + channel
                    strip.weights = weights
                    strip.count = <int>min(self.vl, self.conv.k - channel)
                    if call.epilogue.bias != NULL:
                        strip.bias = <const char *>call.epilogue.bias + channel * item
                    strip.out = out + ((column_phase + first * self.phases_w) * self.conv.k + channel) * item
                    self.bodies[rows](&strip)
                    block += strip.vectors
            first += run

    cdef void set_columns(self, Strip *strip, ptrdiff_t phase, ptrdiff_t first, ptrdiff_t run, ptrdiff_t pixel) noexcept nogil:
        """At most `run` output columns of a phase, from the `first` of it on."""
        cdef ptrdiff_t column = (phase + first * self.phases_w) * self.conv.stride_w - self.conv.pad_left
        strip.start = column * pixel
        strip.left = steps_to(-column, self.conv.dilation_w)
        strip.right = steps_to(self.conv.w - column, self.conv.dilation_w)
        strip.width = min(run, (self.conv.ow - phase + self.phases_w - 1) // self.phases_w - first)

    cdef void point_at_rows(self, const char *x, ptrdiff_t height, ptrdiff_t top, ptrdiff_t bottom, const char **inputs,
                            const char *spread) noexcept nogil:
        """Addresses of the rows under a strip, NULL or zeros for padding: in x, whose first row is, or would be, at `x`; or spread out."""
        cdef ptrdiff_t i, row_bytes = self.conv.dilation_h * self.conv.w * self.conv.c * self.conv.itemsize
        for i in range(height):
            inputs[i] = <const char *>self.zeros.data if self.tiles else NULL
            if top <= i < bottom:
                inputs[i] = spread + i * self.conv.w * self.vl * self.conv.itemsize if self.spreading else x + i * row_bytes

    cdef void spread_rows(self, const char *x, ptrdiff_t block, const char *numbers, ptrdiff_t top, ptrdiff_t bottom,
                          char *spread) noexcept nogil:
        """Rows top .. bottom-1 under a strip as a vector of output channels sees them."""
        cdef ptrdiff_t item = self.conv.itemsize, channel = min(block * self.vl, self.last_channel), begin = channel // self.conv.group_k, i
        cdef ptrdiff_t end = (min(channel + self.vl, self.conv.k) - 1) // self.conv.group_k + 1
        cdef ptrdiff_t row_bytes = self.conv.dilation_h * self.conv.w * self.conv.c * item
        for i in range(top, bottom):
            self.kernels.depthwise_spread(self.conv.w, x + i * row_bytes + begin * item, self.conv.c, <int>(end - begin), numbers,
                                          spread + i * self.conv.w * self.vl * item)


cdef ptrdiff_t steps_to(ptrdiff_t distance, ptrdiff_t step) noexcept nogil:
    """How many steps go that far or farther: 0 for where one is already."""
    return (distance + step - 1) // step if distance > 0 else 0


def _reduced(ptrdiff_t stride, ptrdiff_t dilation):
    """(stride, phases) along an axis once dilation is gone."""
    common = math.gcd(stride, dilation)
    return stride // common, dilation // common
