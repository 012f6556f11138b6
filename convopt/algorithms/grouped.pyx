"""Grouped convolution with few channels per group: groups share a vector, or fill one or two, so that no lane is idle.

Lanes are output channels, `lanes` of them to a block, of as many groups as fit. Step j of Cg takes the j-th input
channel of every lane's own group: one vector of a pixel's channels (or two, where the groups lie further apart),
permuted, serves all lanes at once, and once in a register it feeds every tap that reads it in several output rows
(see kernels/grouped-inl.h). No input ever meets the weights of another group.

A table holds the address of each input pixel under a tile, or of a row of zeros for padding. Dilation is gone by then:
with g = gcd(stride, dilation) a dilated convolution is dilation/g independent ones per axis, of stride stride/g, each
on every dilation-th pixel, and each is tiled by itself.

Loops, outermost first: share of a thread > strip of output rows > run of tiles, whose table is filled > block > tile.
"""

import math

from convopt.algorithms import panels
from convopt.algorithms.contract import Work, error_of_sums

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run
from convopt.kernels.registry cimport (
    CONVOPT_GROUPED_AHEAD, CONVOPT_LINE_BYTES as CACHE_LINE, GroupedBody, GroupedForm, GroupedTile, kernels,
)

NAME = "grouped"
REVISION = 3
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = False

cdef enum:
    RUN_COLUMNS = 256            # output columns whose table is filled at a time
    STRIP_COLUMNS = 64           # of those, columns of one tile where a form takes any number


def why_not(shape):
    """The reason grouped cannot serve a shape: nothing to put side by side in a vector, or groups too far apart."""
    vl, _ = panels.tiles(shape)
    if shape.groups == 1:
        return "there is one group; grouped needs several"
    if shape.group_c == 1:
        return "each group has a single input channel, which is depthwise's case; grouped needs more"
    if shape.group_k > 2 * vl:
        return f"each group has {shape.group_k} output channels; grouped needs at most the {2 * vl} of two vectors"
    if not _block_sizes(shape):
        return f"inputs of neighbouring groups lie {shape.group_c} channels apart; grouped needs two groups within two vectors of {vl}"
    return None


def _block_sizes(shape):
    """Numbers of output channels to a block, the one of least cost first: whole vectors, or whole groups in a vector.

    All hold more than one group's worth of channels, or else direct does as well.
    """
    vl, _ = panels.tiles(shape)
    sizes = {lanes: _sources(shape, lanes) for lanes in {vl, *range(2 * shape.group_k, vl + 1, shape.group_k)}}
    return sorted((lanes for lanes in sizes if sizes[lanes]), key=lambda lanes: -(-shape.k // lanes) * (1 + 0.2 * sizes[lanes]))[:2]


def _sources(shape, lanes):
    """How many vectors of input channels the blocks need at each step: 1 or 2; 0 where two are not enough."""
    vl, _ = panels.tiles(shape)
    worst = 1
    for block in range(-(-shape.k // lanes)):
        for step in range(shape.group_c):
            steps = _step(shape, vl, lanes, block, step)
            if steps is None:
                return 0
            worst = max(worst, len(steps))
    return worst


def _step(shape, vl, lanes, block, step):
    """Channels from which the vectors are read that hold each lane's `step`-th channel; None where two do not."""
    last_start = max(0, shape.c - vl)
    groups = range(block * lanes // shape.group_k, (min(shape.k, (block + 1) * lanes) - 1) // shape.group_k + 1)
    choices = []
    for grain in (vl, 1):        # from a vector's boundary if that takes no more of them: such loads stay within a cache line
        starts = []
        for channel in (group * shape.group_c + step for group in groups):
            if not starts or channel >= starts[-1] + vl:
                starts.append(min(channel // grain * grain, last_start))
        choices.append(starts)
    starts = min(choices, key=len)
    return starts if len(starts) <= 2 else None


def _forms(shape):
    """Output rows computed together by the forms that serve a shape, the one of least cost first, each with its columns."""
    cdef const GroupedForm *form = kernels(shape.itemsize).grouped_forms
    cost = {}
    while form.rows:
        if form.taps == 0 or (form.taps == shape.r == shape.s and (form.stride, form.stride) == _reduced(shape)[0]):
            cost[form.rows, form.columns] = _instructions(shape, form.rows, form.columns)
        form += 1
    return sorted(cost, key=cost.__getitem__)


def _reduced(shape):
    """(strides, phases) per axis once dilation is gone."""
    pairs = [(s // math.gcd(s, d), d // math.gcd(s, d)) for s, d in zip(shape.strides, shape.dilations)]
    return tuple(stride for stride, _ in pairs), tuple(phases for _, phases in pairs)


def _instructions(shape, rows, columns):
    """Multiply-adds and permutations per step and image; strips permute a pixel once for all taps."""
    (stride_h, stride_w), (phases_h, phases_w) = _reduced(shape)
    strips, taps = len(_spans(shape.oh, phases_h, rows)), shape.r * shape.s
    if columns:
        return strips * len(_spans(shape.ow, phases_w, columns)) * columns * taps * 2
    return strips * shape.ow * (rows * taps + ((rows - 1) * stride_h + shape.r) * stride_w)


def _spans(size, phases, most):
    """(first, count) of runs of at most `most` outputs, `phases` apart, that cover 0 .. size-1."""
    return [
        (first, min(most, -(-(size - first) // phases)))
        for phase in range(min(phases, size))
        for first in range(phase, size, most * phases)
    ]


def candidates(shape):
    """Output channels to a block and output rows to a strip."""
    return [{"lanes": lanes, "rows": rows} for lanes in _block_sizes(shape) for rows, _ in _forms(shape)[:3]]


def expected_error(shape, params):
    """That of sums in order."""
    return error_of_sums(shape)


def row_step(shape, params):
    """Rows of a tile."""
    return params.get("rows", 1)


def work(shape, params, threads):
    """Multiply-adds of whole tiles and vectors; the permutations take their part of the instructions."""
    vl, _ = panels.tiles(shape)
    rows, columns = next(form for form in _forms(shape) if form[0] == params["rows"])
    blocks = -(-shape.k // params["lanes"])
    pixels = shape.n * -(-shape.oh // rows) * rows * shape.ow
    products = pixels * shape.r * shape.s
    sources = _sources(shape, params["lanes"])
    tensors = shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    return Work(
        gemm_flops=2.0 * products * blocks * vl * shape.group_c,
        gemm_efficiency=0.8 * min(1.0, products / (shape.n * _instructions(shape, rows, columns))) / sources**0.5,
        vector_flops=0.0,
        moved_bytes=float(shape.itemsize * tensors),
        parts=max(1, shape.n * -(-shape.oh // rows) * blocks),
    )


# Outputs first, first + phases, ... along one axis: `count` of them.
cdef struct Span:
    ptrdiff_t first, count


cdef Buffer span_buffer(spans):
    cdef Buffer buffer = Buffer(len(spans) * sizeof(Span))
    cdef ptrdiff_t index
    for index, (first, count) in enumerate(spans):
        (<Span *>buffer.data)[index].first, (<Span *>buffer.data)[index].count = first, count
    return buffer


cdef class Implementation(Convolver):
    cdef const GroupedForm *form
    cdef GroupedBody **bodies            # of each block
    cdef ptrdiff_t vl, lanes, blocks
    cdef ptrdiff_t stride_h, stride_w, phases_h, phases_w
    cdef ptrdiff_t high, wide            # input pixels under a tile, at most
    cdef ptrdiff_t strip_count, tile_count, run_tiles, runs
    cdef ptrdiff_t elements, tail        # of x; where its last vector begins
    cdef Buffer strips, tiles            # Spans of output rows and of output columns
    cdef Buffer steps, body_table, zeros

    def __init__(self, shape, dict params):
        self.vl, self.lanes = self.kernels.vl, params["lanes"]
        self.blocks = -(-shape.k // params["lanes"])
        (self.stride_h, self.stride_w), (self.phases_h, self.phases_w) = _reduced(shape)
        self.form = self.kernels.grouped_forms
        while self.form.rows != params["rows"] or not self.serves(self.form):
            self.form += 1
        self.high = (self.form.rows - 1) * self.stride_h + self.conv.r
        columns = self.form.columns or min(<int>STRIP_COLUMNS, shape.ow)
        self.wide = (columns + (self.conv.s - 1) // self.stride_w) * self.stride_w
        strips = _spans(shape.oh, self.phases_h, self.form.rows)
        tiles = _spans(shape.ow, self.phases_w, columns)
        self.strips, self.tiles = span_buffer(strips), span_buffer(tiles)
        self.strip_count, self.tile_count = len(strips), len(tiles)
        self.run_tiles = max(1, RUN_COLUMNS // columns)
        self.runs = (self.tile_count + self.run_tiles - 1) // self.run_tiles
        self.elements = shape.n * shape.h * shape.w * shape.c
        self.tail = max(0, self.elements - self.vl)
        self.zeros = Buffer(max(shape.c, self.vl) * shape.itemsize)
        self.zeros.fill(0)
        self.plan_steps(shape)

    cdef bint serves(self, const GroupedForm *form) noexcept nogil:
        if form.taps == 0:
            return True
        return form.taps == self.conv.r == self.conv.s and form.stride == self.stride_h == self.stride_w

    cdef int plan_steps(self, shape) except -1:
        """Where each step of each block reads, and with which body a block is computed."""
        self.steps = Buffer(self.blocks * shape.group_c * 2 * sizeof(ptrdiff_t))
        self.body_table = Buffer(self.blocks * sizeof(GroupedBody *))
        self.bodies = <GroupedBody **>self.body_table.data
        cdef ptrdiff_t *to = <ptrdiff_t *>self.steps.data
        for block in range(self.blocks):
            self.bodies[block] = self.form.one_source
            for step in range(shape.group_c):
                starts = _step(shape, self.vl, self.lanes, block, step)
                to[0], to[1] = starts[0], starts[-1]
                if to[0] != to[1]:
                    self.bodies[block] = self.form.two_sources
                to += 2
        return 0

    cdef ptrdiff_t step_elements(self) noexcept nogil:
        """Of a packed step: lane numbers, then a vector of weights per tap."""
        return (1 + self.conv.r * self.conv.s) * self.vl

    cdef size_t packed_size(self) noexcept nogil:
        return self.blocks * self.conv.group_c * self.step_elements() * self.conv.itemsize

    cdef size_t table_size(self) noexcept nogil:
        cdef ptrdiff_t columns = min(self.tile_count, self.run_tiles) * self.wide + CONVOPT_GROUPED_AHEAD * self.stride_w
        return whole(columns * self.high * sizeof(void *), CACHE_LINE)

    cdef size_t tail_size(self) noexcept nogil:
        """The last vector of x, with room for one more behind it: only pixels shorter than a vector need it."""
        return whole(2 * self.vl * self.conv.itemsize, CACHE_LINE) if self.conv.c < self.vl else 0

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.table_size() + self.tail_size())

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[block][step]: lane numbers, then [tap][lane], zero where a block has no more channels."""
        cdef ptrdiff_t item = self.conv.itemsize, block, step, tap, lane, count, channel, number
        cdef const ptrdiff_t *starts = <const ptrdiff_t *>self.steps.data
        cdef char *to = <char *>self.packed.data
        for block in range(self.blocks):
            count = min(self.lanes, self.conv.k - block * self.lanes)
            for step in range(self.conv.group_c):
                for lane in range(self.vl):
                    channel = (block * self.lanes + min(lane, count - 1)) // self.conv.group_k * self.conv.group_c + step
                    number = channel - starts[0]
                    if number >= self.vl:
                        number = self.vl + channel - starts[1]
                    if item == 4:
                        (<int32_t *>to)[lane] = <int32_t>number
                    else:
                        (<int64_t *>to)[lane] = number
                to += self.vl * item
                for tap in range(self.conv.r * self.conv.s):
                    memcpy(to, <const char *>filters + ((tap * self.conv.group_c + step) * self.conv.k + block * self.lanes) * item,
                           count * item)
                    memset(to + count * item, 0, (self.vl - count) * item)
                    to += self.vl * item
                starts += 2

    cdef void run(self, const Call *call) noexcept nogil:
        self.fork_join(call, 0, call.threads, 1, self.conv.n * self.strip_count * self.runs * self.blocks, 1)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Images, strips, runs of tiles and blocks, in order."""
        cdef ptrdiff_t unit, block, end
        cdef char *memory = call.workspace + share.part * (self.table_size() + self.tail_size())
        cdef char *tail = memory + self.table_size()
        if self.tail_size():
            memcpy(tail, call.x + self.tail * self.conv.itemsize, (self.elements - self.tail) * self.conv.itemsize)
        while next_run(share):
            unit = share.first
            while unit < share.last:
                block = unit % self.blocks
                end = min(self.blocks, block + share.last - unit)
                self.run_blocks(call, unit // self.blocks, block, end, <const void **>memory, tail)
                unit += end - block

    cdef void run_blocks(self, const Call *call, ptrdiff_t index, ptrdiff_t block, ptrdiff_t end, const void **table,
                         const char *tail) noexcept nogil:
        """Blocks from `block` to `end` of one run of tiles of one strip of one image."""
        cdef ptrdiff_t run = index % self.runs, image = index // self.runs // self.strip_count, item = self.conv.itemsize
        cdef const Span *strip = <const Span *>self.strips.data + index // self.runs % self.strip_count
        cdef const Span *first = <const Span *>self.tiles.data + run * self.tile_count // self.runs
        cdef const Span *last = <const Span *>self.tiles.data + (run + 1) * self.tile_count // self.runs
        cdef const Span *span
        cdef const void **entry = table
        cdef char *out = call.out + (image * self.conv.oh + strip.first) * self.conv.ow * self.conv.k * item
        cdef GroupedTile tile
        span = first
        while span < last:
            self.fill_table(call.x, image, strip, span, entry, tail)
            entry += self.high * self.wide
            span += 1
        tile.taps_h, tile.taps_w, tile.depth = self.conv.r, self.conv.s, self.conv.group_c
        tile.stride_h, tile.stride_w = self.stride_h, self.stride_w
        tile.out_row, tile.out_column = self.phases_h * self.conv.ow * self.conv.k, self.phases_w * self.conv.k
        tile.rows = <int>strip.count
        tile.epilogue = call.epilogue
        for block in range(block, end):
            tile.steps = <const ptrdiff_t *>self.steps.data + block * self.conv.group_c * 2
            tile.panel = <const char *>self.packed.data + block * self.conv.group_c * self.step_elements() * item
            tile.count = <int>min(self.lanes, self.conv.k - block * self.lanes)
            tile.bias = NULL
            if call.epilogue.bias != NULL:
                tile.bias = <const char *>call.epilogue.bias + block * self.lanes * item
            tile.inputs = <const void *const *>table
            span = first
            while span < last:
                tile.columns = <int>span.count
                tile.out = out + (span.first * self.conv.k + block * self.lanes) * item
                self.bodies[block](&tile)
                tile.inputs += self.high * self.wide
                span += 1

    cdef void fill_table(self, const char *x, ptrdiff_t image, const Span *rows, const Span *columns, const void **entry,
                         const char *tail) noexcept nogil:
        """Addresses of the input pixels under the tile of these output rows and columns."""
        cdef ptrdiff_t y = rows.first * self.conv.stride_h - self.conv.pad_top, pixel_bytes = self.conv.c * self.conv.itemsize
        cdef ptrdiff_t left = columns.first * self.conv.stride_w - self.conv.pad_left, wide = self.wide, column, offset, i, j
        cdef const char *line
        cdef const void *zeros = self.zeros.data
        if self.form.columns == 0:
            wide = (columns.count + (self.conv.s - 1) // self.stride_w) * self.stride_w
        for i in range(self.high):
            offset = (image * self.conv.h + y) * self.conv.w
            line = x + offset * pixel_bytes
            column = left
            for j in range(wide):
                if y < 0 or y >= self.conv.h or column < 0 or column >= self.conv.w:
                    entry[j * self.high + i] = zeros
                elif self.conv.c < self.vl and (offset + column) * self.conv.c + self.vl > self.elements:
                    entry[j * self.high + i] = tail + ((offset + column) * self.conv.c - self.tail) * self.conv.itemsize
                else:
                    entry[j * self.high + i] = line + column * pixel_bytes
                column += self.conv.dilation_w
            y += self.conv.dilation_h
        if self.form.columns == 0:
            for j in range(wide // self.stride_w):
                column = left + j * self.stride_w * self.conv.dilation_w
                if column + (self.stride_w - 1) * self.conv.dilation_w < 0 or column >= self.conv.w:
                    entry[j * self.stride_w * self.high] = NULL
