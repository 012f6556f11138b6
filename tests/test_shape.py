"""ConvShape: sizes and padding against hand-computed cases, keys, and the complaint about every malformed argument."""

import math
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import conv_shapes, examples

from convopt import DTypeError, ShapeError, output_shape
from convopt.shape import INDEX_LIMIT, ConvShape

INPUT, FILTERS = (2, 9, 8, 6), (3, 2, 6, 4)

# size, kernel, stride, dilation -> SAME: output, before, after; VALID: output. Worked out by hand from TensorFlow's rules.
AXIS_TABLE = [
    (28, 3, 1, 1, 28, 1, 1, 26),
    (28, 5, 1, 1, 28, 2, 2, 24),
    (28, 4, 1, 1, 28, 1, 2, 25),
    (28, 2, 1, 1, 28, 0, 1, 27),
    (28, 1, 1, 1, 28, 0, 0, 28),
    (224, 7, 2, 1, 112, 2, 3, 109),
    (224, 3, 2, 1, 112, 0, 1, 111),
    (225, 3, 2, 1, 113, 1, 1, 112),
    (112, 1, 2, 1, 56, 0, 0, 56),
    (5, 3, 2, 1, 3, 1, 1, 2),
    (6, 3, 2, 1, 3, 0, 1, 2),
    (7, 3, 3, 1, 3, 1, 1, 2),
    (8, 3, 3, 1, 3, 0, 1, 2),
    (9, 3, 3, 1, 3, 0, 0, 3),
    (10, 2, 5, 1, 2, 0, 0, 2),
    (11, 2, 5, 1, 3, 0, 1, 2),
    (28, 3, 1, 2, 28, 2, 2, 24),
    (28, 3, 1, 4, 28, 4, 4, 20),
    (28, 2, 1, 3, 28, 1, 2, 25),
    (28, 3, 2, 2, 14, 1, 2, 12),
    (7, 3, 2, 3, 4, 3, 3, 1),
    (1, 3, 1, 1, 1, 1, 1, None),
    (1, 3, 2, 1, 1, 1, 1, None),
    (2, 7, 1, 1, 2, 3, 3, None),
    (4, 3, 4, 2, 1, 0, 1, None),
    (1, 1, 9, 9, 1, 0, 0, 1),
    (33, 11, 4, 1, 9, 5, 5, 6),
    (227, 11, 4, 1, 57, 4, 4, 55),
]


def one_axis(size, kernel, stride, dilation, padding):
    """The shape with the case along H and nothing special along W."""
    return ConvShape.from_arguments((1, size, 5, 1), (kernel, 1, 1, 1), (stride, 1), padding, "NHWC", (dilation, 1))


@pytest.mark.parametrize("case", AXIS_TABLE, ids=str)
def test_hand_computed_sizes(case):
    size, kernel, stride, dilation, same, before, after, valid = case
    shape = one_axis(size, kernel, stride, dilation, "SAME")
    assert (shape.oh, shape.pads[0]) == (same, (before, after))
    assert (shape.ow, shape.pads[1]) == (5, (0, 0))
    if valid is None:
        with pytest.raises(ShapeError, match=r"filters span \d+ pixels along H .* only \d+"):
            one_axis(size, kernel, stride, dilation, "VALID")
    else:
        assert one_axis(size, kernel, stride, dilation, "VALID").oh == valid


@settings(max_examples=examples(300))
@given(*[st.integers(1, 300), st.integers(1, 15), st.integers(1, 9), st.integers(1, 5)], st.integers(0, 20), st.integers(0, 20))
def test_formulas(size, kernel, stride, dilation, before, after):
    extent = (kernel - 1) * dilation + 1
    same = one_axis(size, kernel, stride, dilation, "SAME")
    total = max((same.oh - 1) * stride + extent - size, 0)
    assert same.oh == math.ceil(size / stride)
    assert same.pads[0] == (total // 2, total - total // 2)
    if extent <= size:
        assert one_axis(size, kernel, stride, dilation, "VALID").oh == math.ceil((size - extent + 1) / stride)
    if extent <= size + before + after:
        explicit = one_axis(size, kernel, stride, dilation, ((before, after), (0, 0)))
        windows = [start for start in range(0, size + before + after, stride) if start + extent <= size + before + after]
        assert explicit.oh == len(windows)
        assert explicit.pads == ((before, after), (0, 0))


@settings(max_examples=examples(300))
@given(conv_shapes())
def test_derived_sizes_agree(shape):
    assert shape.group_c * shape.groups == shape.c
    assert shape.group_k * shape.groups == shape.k
    assert math.prod(shape.input_shape) == shape.n * shape.h * shape.w * shape.c
    assert math.prod(shape.output_shape) == shape.n * shape.oh * shape.ow * shape.k
    assert shape.flops == 2 * math.prod(shape.output_shape) * math.prod(shape.filters_shape[:3])
    assert shape.itemsize == np.dtype(shape.dtype).itemsize
    assert shape.is_depthwise == (shape.groups > 1 and shape.groups == shape.c)
    other = shape.with_layout("NCHW" if shape.data_format == "NHWC" else "NHWC")
    assert other.with_layout(shape.data_format) == shape
    assert (other.oh, other.ow, other.flops) == (shape.oh, shape.ow, shape.flops)


@settings(max_examples=examples(500))
@given(conv_shapes())
def test_key_and_parse_are_inverse(shape):
    assert re.fullmatch(r"[a-z0-9_-]+", shape.key()), "keys are written to files and file names"
    assert ConvShape.parse(shape.key()) == shape
    assert hash(ConvShape.parse(shape.key())) == hash(shape)


@settings(max_examples=examples(200))
@given(conv_shapes(), conv_shapes())
def test_different_problems_have_different_keys(first, second):
    assert (first.key() == second.key()) == (first == second)


def test_the_key_has_its_documented_form():
    shape = ConvShape(1, 56, 57, 64, 32, 3, 5, (2, 1), (1, 2), ((0, 1), (2, 3)), 4, "NCHW", "float64")
    assert shape.key() == "n1h56w57c64k32r3s5_st2x1_di1x2_pa0-1x2-3_g4_nchw_f64"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "n1h8w8c4k4r3s3",
        "n1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f16",
        "n1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f32 ",
        "n1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f32\n",
        "n-1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f32",
        "n1h8w8c4k4r3s3_st0x1_di1x1_pa0-0x0-0_g1_nhwc_f32",
        "n1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g0_nhwc_f32",
        "n1h8w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g3_nhwc_f32",
        "n1h8w8c4k3r3s3_st1x1_di1x1_pa0-0x0-0_g2_nhwc_f32",
        "n1h2w8c4k4r3s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f32",
        "n1h8w8c4k4r0s3_st1x1_di1x1_pa0-0x0-0_g1_nhwc_f32",
    ],
)
def test_parse_refuses_what_no_key_says(key):
    with pytest.raises(ShapeError, match=r"\w+"):
        ConvShape.parse(key)


@pytest.mark.parametrize("value", [2, (2,), [2], (2, 2), (1, 2, 2, 1), np.int32(2), np.array([2, 2])], ids=repr)
@pytest.mark.parametrize("argument", ["strides", "dilations"])
def test_forms_of_strides_and_dilations(argument, value):
    expected = ConvShape.from_arguments(INPUT, FILTERS, **{argument: (2, 2)})
    assert ConvShape.from_arguments(INPUT, FILTERS, **{argument: value}) == expected


def test_four_entries_follow_the_data_format():
    nhwc = ConvShape.from_arguments((2, 9, 8, 6), FILTERS, (1, 2, 3, 1), [[0, 0], [1, 2], [3, 4], [0, 0]], "NHWC", (1, 1, 2, 1))
    nchw = ConvShape.from_arguments((2, 6, 9, 8), FILTERS, (1, 1, 2, 3), [[0, 0], [0, 0], [1, 2], [3, 4]], "NCHW", (1, 1, 1, 2))
    assert nhwc == nchw.with_layout("NHWC")
    assert (nhwc.strides, nhwc.dilations, nhwc.pads) == ((2, 3), (1, 2), ((1, 2), (3, 4)))


@pytest.mark.parametrize(
    "padding", [((1, 2), (3, 4)), [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), ((0, 0), (1, 2), (3, 4), (0, 0))], ids=repr
)
def test_forms_of_explicit_padding(padding):
    assert ConvShape.from_arguments(INPUT, FILTERS, padding=padding).pads == ((1, 2), (3, 4))


@pytest.mark.parametrize("text", ["same", "Same", "SAME"])
def test_text_in_either_case(text):
    expected = ConvShape.from_arguments(INPUT, FILTERS, padding="SAME")
    assert ConvShape.from_arguments(INPUT, FILTERS, padding=text, data_format="nhwc") == expected


def test_extra_batch_dimensions_become_one():
    shape = ConvShape.from_arguments((3, 2, 4, 9, 8, 6), FILTERS)
    assert shape.n == 24
    assert output_shape((3, 2, 4, 9, 8, 6), FILTERS) == (3, 2, 4, 7, 7, 4)
    assert output_shape((3, 2, 4, 6, 9, 8), FILTERS, data_format="NCHW") == (3, 2, 4, 4, 7, 7)


def test_empties():
    assert output_shape((0, 9, 8, 6), FILTERS) == (0, 7, 7, 4)
    assert output_shape((2, 0, 8, 6), FILTERS, padding="SAME") == (2, 0, 8, 4)
    assert output_shape((2, 0, 8, 6), FILTERS, padding="VALID") == (2, 0, 7, 4)
    assert output_shape((2, 0, 8, 6), FILTERS, padding=((2, 3), (0, 0))) == (2, 3, 7, 4)
    assert output_shape((2, 0, 0, 6), FILTERS, padding="SAME") == (2, 0, 0, 4)
    assert ConvShape.from_arguments((0, 9, 8, 6), FILTERS).is_empty


# Arguments over the good ones -> class, and what the message must hold: argument, value, limit.
HUGE = 2**31
BAD_ARGUMENTS = [
    *(
        ({name: value}, ShapeError, [name, repr(value)])
        for name, value in product(["strides", "dilations"], [0, -1, HUGE, (1, 0), (1, 2, 3)])
    ),
    *(({name: (2, 1, 1, 1)}, ShapeError, [name, "(2, 1, 1, 1)", "batch and channels must be 1"]) for name in ("strides", "dilations")),
    *(({name: (1, 1, 1, 2)}, ShapeError, [name, "batch and channels must be 1"]) for name in ("strides", "dilations")),
    *(({name: ()}, ShapeError, [name, "1, 2 or 4"]) for name in ("strides", "dilations")),
    *(
        ({name: value}, ShapeError, [name, "integer"])
        for name, value in product(["strides", "dilations"], [1.0, 1.5, (1.0, 1), np.float32(2)])
    ),
    *(
        ({name: value}, DTypeError, [name, "integer"])
        for name, value in product(["strides", "dilations"], ["2", b"2", True, (True, 1), {1: 1}])
    ),
    ({"strides": None}, DTypeError, ["strides", "None"]),
    ({"strides": [[1, 1], [1, 1]]}, ShapeError, ["strides", "integer"]),
    ({"padding": "FULL"}, ShapeError, ["padding", "'FULL'", "SAME", "VALID"]),
    ({"padding": None}, DTypeError, ["padding", "None"]),
    ({"padding": 1}, DTypeError, ["padding", "1"]),
    ({"padding": (1, 1)}, DTypeError, ["padding"]),
    ({"padding": ((1, 1),)}, ShapeError, ["padding", "2 pairs", "4 pairs"]),
    ({"padding": ((1, 1), (1, 1, 1))}, ShapeError, ["padding", "2 pairs"]),
    ({"padding": ((1, 1), (1, -1))}, ShapeError, ["padding", "-1", "from 0"]),
    ({"padding": ((1, 1), (1, HUGE))}, ShapeError, ["padding", str(HUGE), str(HUGE - 1)]),
    ({"padding": ((1, 1), (1, 0.5))}, ShapeError, ["padding", "0.5", "integer"]),
    ({"padding": ((1, 1), (1, None))}, DTypeError, ["padding", "None"]),
    ({"padding": ((1, 0), (1, 1), (1, 1), (0, 0))}, ShapeError, ["padding", "batch and channels", "(0, 0)"]),
    ({"data_format": "HWNC"}, ShapeError, ["data_format", "'HWNC'", "NHWC", "NCHW"]),
    ({"data_format": None}, DTypeError, ["data_format", "None"]),
    ({"data_format": 4}, DTypeError, ["data_format", "4"]),
    ({"input_shape": (9, 8, 6)}, ShapeError, ["input", "rank 3", "at least 4"]),
    ({"input_shape": ()}, ShapeError, ["input", "rank 0", "at least 4"]),
    ({"input_shape": (2, -9, 8, 6)}, ShapeError, ["input", "-9", "from 0"]),
    ({"input_shape": (2, 9.0, 8, 6)}, ShapeError, ["input", "9.0", "integer"]),
    ({"input_shape": None}, DTypeError, ["input", "None"]),
    ({"input_shape": 9}, DTypeError, ["input", "9"]),
    ({"input_shape": (2, 9, 8, 5)}, ShapeError, ["input", "5 channels", "multiple of 6"]),
    ({"input_shape": (2, 9, 8, 0)}, ShapeError, ["input", "0 channels", "multiple of 6"]),
    ({"input_shape": (2, 2, 8, 6)}, ShapeError, ["filters", "span 3", "only 2", "H"]),
    ({"input_shape": (2, 9, 1, 6)}, ShapeError, ["filters", "span 2", "only 1", "W"]),
    ({"input_shape": (2, 9, 8, 6), "dilations": (5, 1)}, ShapeError, ["filters", "span 11", "only 9", "H"]),
    ({"filters_shape": (3, 2, 6)}, ShapeError, ["filters", "rank 3", "4"]),
    ({"filters_shape": (3, 2, 6, 4, 1)}, ShapeError, ["filters", "rank 5", "4"]),
    *(
        ({"filters_shape": sizes}, ShapeError, ["filters", str(sizes), "at least 1"])
        for sizes in ((0, 2, 6, 4), (3, 0, 6, 4), (3, 2, 0, 4), (3, 2, 6, 0))
    ),
    ({"filters_shape": (3, 2, 4, 4)}, ShapeError, ["input", "6 channels", "multiple of 4"]),
    ({"filters_shape": (3, 2, 2, 4)}, ShapeError, ["filters", "4 output channels", "3 groups"]),
    ({"input_shape": (2, INDEX_LIMIT + 1, 8, 6)}, ShapeError, ["input", str(INDEX_LIMIT + 1), str(INDEX_LIMIT)]),
    ({"input_shape": (2**20, 2**20, 2**20, 6)}, ShapeError, ["input", str(6 * 2**60), "64-bit"]),
    ({"filters_shape": (1, 1, 6, 2**60)}, ShapeError, ["filters", str(6 * 2**60), "64-bit"]),
    ({"input_shape": (2**30, 2**12, 2**12, 6), "filters_shape": (1, 1, 6, 2**12)}, ShapeError, ["64-bit"]),
    ({"input_shape": (2, 9, 8, 6), "padding": ((HUGE - 1, HUGE - 1), (HUGE - 1, HUGE - 1))}, ShapeError, ["output", "64-bit"]),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), BAD_ARGUMENTS, ids=[str(row[0]) for row in BAD_ARGUMENTS])
def test_malformed_arguments(arguments, kind, words):
    good = {"input_shape": INPUT, "filters_shape": FILTERS}
    for call in (ConvShape.from_arguments, output_shape):
        with pytest.raises(kind) as caught:
            call(**{**good, **arguments})
        assert isinstance(caught.value, ValueError if kind is ShapeError else TypeError)
        missing = [word for word in words if word not in str(caught.value)]
        assert not missing, f"{str(caught.value)!r} does not mention {missing}"


def test_values_are_frozen():
    shape = ConvShape.from_arguments(INPUT, FILTERS)
    with pytest.raises(AttributeError):
        shape.n = 3
    assert {shape: 1}[ConvShape.from_arguments(INPUT, FILTERS)] == 1
