"""Layer lists: the networks that come with convopt do the work they are known for, and bad lines are named."""

import pytest

from convopt.errors import ShapeError
from convopt.tuning import networks


@pytest.mark.parametrize(
    ("name", "gigaflops", "layers"),
    [
        ("lenet5", 0.0008, 3),
        ("alexnet", 1.33, 5),
        ("vgg16", 30.69, 13),
        ("resnet50", 8.17, 53),
        ("mobilenetv2", 0.60, 52),
        ("efficientnet-b0", 0.77, 81),
        ("inception-v3", 11.42, 94),
        ("unet", 289.6, 19),
    ],
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
    known = {"alexnet", "efficientnet-b0", "inception-v3", "lenet5", "mobilenetv2", "resnet50", "unet", "vgg16"}
    assert known <= set(networks.networks()) == {file.stem for file in networks.FOLDER.iterdir()}
    with pytest.raises(ShapeError, match="network is 'resnet'; known are alexnet, efficientnet-b0"):
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


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mb1ic64ih56oc64oh56kh3ph1", "n1h56w56c64k64r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32"),
        ("mb8_g32_ic32oc32_ih112oh56_kh3sh2dh0ph1", "n8h112w112c32k32r3s3_st2x2_di1x1_pa1-0x1-0_g32_nhwc_f32"),
        ("ic3ih224iw200oc64kh7kw5sh2ph3pw2", "n2h224w200c3k64r7s5_st2x2_di1x1_pa3-3x2-2_g1_nhwc_f32"),
        ("mb1ic4ih9oc4oh9kh3dh1", "n1h9w9c4k4r3s3_st1x1_di2x2_pa2-2x2-2_g1_nhwc_f32"),
        ("mb1_ic4_ih8_iw16_oc4_kh1_kw3_ph0_pw1", "n1h8w16c4k4r1s3_st1x1_di1x1_pa0-0x1-1_g1_nhwc_f32"),
    ],
)
def test_problems_of_benchdnn(text, key):
    (layer,) = networks.read_shapes([text])
    assert (layer.name, layer.shape.key(), layer.count) == (text, key, 1)


def test_names_and_counts_of_benchdnn():
    layers = networks.read_shapes(['mb1ic4ih9oc4kh3n"resnet:conv2*3"', 'mb1_ic4ih9_oc4_kh3_n"b"', "a 1x9x9x4 3x3x4x4"])
    assert [(layer.name, layer.count) for layer in layers[:2]] == [("resnet:conv2", 3), ("b", 1)]
    assert len({layer.shape for layer in layers}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mb1ic4ih9oc4", "lacks kh"),
        ("mb1ic4id5ih9oc4kh3", "two-dimensional"),
        ("mb1g3ic4ih9oc4kh3", "groups must divide"),
        ("mb1ic4ih9oc4oh5kh3ph1", "its oh would be 8"),
        ("mb1ic4ih9oc4kh30", "kernel must not be larger"),
    ],
)
def test_impossible_problems_of_benchdnn(text, message):
    with pytest.raises(ShapeError, match=message):
        networks.read_shapes([text])


def test_a_layers_name_may_be_missing():
    assert networks.layer("1x9x9x4 3x3x4x4 pad=1") == networks.layer("layer 1x9x9x4 3x3x4x4 pad=1")
    with pytest.raises(ShapeError, match="expected a name"):
        networks.layer("")
