"""Layer lists: the networks that come with convopt do the work they are known for, and bad lines are named."""

import pytest

from convopt.errors import ShapeError
from convopt.tuning import networks


@pytest.mark.parametrize(
    ("name", "gigaflops", "layers"),
    [("lenet5", 0.0008, 3), ("alexnet", 1.33, 5), ("vgg16", 30.69, 13), ("resnet50", 8.17, 53), ("mobilenetv2", 0.60, 52)],
)
def test_networks_do_the_published_amount_of_work(name, gigaflops, layers):
    """Two operations per multiply-add, convolutions only; published counts are of multiply-adds."""
    found = networks.network(name)
    assert sum(layer.count for layer in found) == layers
    assert sum(layer.count * layer.shape.flops for layer in found) / 1e9 == pytest.approx(gigaflops, rel=0.02)
    assert len({layer.shape for layer in found}) == len(found) == len({layer.name for layer in found})


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "mobilenetv2"])
def test_every_layer_reads_what_an_earlier_one_wrote(name):
    """Channels fit together; spatial sizes too, or were halved by the pooling between them."""
    found = networks.network(name)
    written = {(found[0].shape.h, found[0].shape.c)}
    for layer in found:
        readable = {(h // pool, c) for h, c in written for pool in (1, 2)}
        assert (layer.shape.h, layer.shape.c) in readable
        written.add((layer.shape.oh, layer.shape.k))


def test_networks_are_listed():
    assert networks.networks() == ["alexnet", "lenet5", "mobilenetv2", "public", "resnet50", "vgg16"]
    with pytest.raises(ShapeError, match="network is 'resnet'; known are alexnet, lenet5"):
        networks.network("resnet")
    with pytest.raises(ShapeError, match="known are"):
        networks.network("../networks")


def test_all_options_are_understood():
    (layer,) = networks.read_shapes(["a 2x9x8x6 3x2x3x4 stride=2,1 dilation=1,2 pad=0,1,2,3 format=nchw dtype=float64 x7  # why"])
    shape = layer.shape
    assert (layer.name, layer.count) == ("a", 7)
    assert (shape.n, shape.h, shape.w, shape.c, shape.k, shape.r, shape.s, shape.groups) == (2, 9, 8, 6, 4, 3, 2, 2)
    assert (shape.strides, shape.dilations, shape.pads) == ((2, 1), (1, 2), ((0, 1), (2, 3)))
    assert (shape.data_format, shape.dtype) == ("NCHW", "float64")


@pytest.mark.parametrize(
    ("option", "pads"),
    [
        ("", ((0, 0), (0, 0))),
        ("pad=valid", ((0, 0), (0, 0))),
        ("pad=SAME", ((1, 1), (2, 2))),
        ("pad=1", ((1, 1), (1, 1))),
        ("pad=1,2", ((1, 1), (2, 2))),
    ],
)
def test_paddings(option, pads):
    (layer,) = networks.read_shapes([f"a 1x9x9x1 3x5x1x1 {option}"])
    assert layer.shape.pads == pads


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("conv1", "expected a name, input sizes"),
        ("a 1x8x8 3x3x1x1", "input is '1x8x8'; expected four sizes"),
        ("a 1x8x8x1 3x3", "filters is '3x3'; expected four sizes"),
        ("a 1x8x8x1 3x3x1x-1", "expected four sizes"),
        ("a 1x8x8x3 3x3x2x1", "3 channels"),
        ("a 1x8x8x1 9x9x1x1", "kernel must not be larger"),
        ("a 1x8x8x1 3x3x1x1 stride=two", "stride is 'two'; expected integers"),
        ("a 1x8x8x1 3x3x1x1 stride=0", "strides is"),
        ("a 1x8x8x1 3x3x1x1 stride=1,2,3", "two: height, width"),
        ("a 1x8x8x1 3x3x1x1 pad=1,2,3", "expected SAME, VALID"),
        ("a 1x8x8x1 3x3x1x1 format=CHWN", "expected NHWC or NCHW"),
        ("a 1x8x8x1 3x3x1x1 dtype=int8", "expected one of float32"),
        ("a 1x8x8x1 3x3x1x1 twice", "found 'twice'; known are stride="),
        ("a 1x8x8x1 3x3x1x1 x0", "found 'x0'"),
    ],
)
def test_bad_lines_are_named_with_file_and_number(tmp_path, line, message):
    file = tmp_path / "layers.txt"
    file.write_text(f"# a comment\n\nfine 1x8x8x1 3x3x1x1\n{line}\n")
    with pytest.raises(ShapeError, match=f"layers.txt, line 4: .*{message}"):
        networks.read_shapes(file)


def test_a_file_that_is_no_text_is_an_error_of_the_user(tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ShapeError, match="not a text file"):
        networks.read_shapes(file)
