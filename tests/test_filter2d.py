"""filter2d against scipy.signal and, where it is installed, OpenCV's filter2D."""

import numpy as np
import pytest
from scipy import signal

import convopt

SIZES = [((20, 23), (3, 3)), ((20, 23), (4, 6)), ((31, 17), (1, 9)), ((16, 40), (15, 2)), ((9, 9), (9, 9)), ((70, 65), (21, 21))]


def picture(shape, dtype="f4", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_close(result, expected, dtype):
    assert result.dtype == dtype
    limit = (1e-5 if dtype == "f4" else 1e-13) * max(np.abs(expected).max(initial=0), 1)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max(initial=0) <= limit


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("mode", ["same", "valid", "full"])
@pytest.mark.parametrize(("size", "taps"), SIZES)
def test_agrees_with_scipy(size, taps, mode, dtype):
    image, kernel = picture(size, dtype), picture(taps, dtype, 1)
    wide = image.astype("f8"), kernel.astype("f8")
    assert_close(convopt.filter2d(image, kernel, mode), signal.correlate(*wide, mode), dtype)
    assert_close(convopt.filter2d(image, kernel, mode, convolve=True), signal.convolve2d(*wide, mode), dtype)
    assert_close(convopt.filter2d(image, kernel, mode, convolve=True), signal.fftconvolve(*wide, mode), dtype)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "depthwise", "fft"])
@pytest.mark.parametrize("channels", [1, 3, 4, 20])
def test_filters_each_channel_by_itself(channels, algorithm):
    image, kernel = picture((33, 41, channels)), picture((5, 4), seed=1)
    result = convopt.filter2d(image, kernel, "same", True, algorithm=algorithm, threads=2)
    for c in range(channels):
        assert_close(result[:, :, c], signal.convolve2d(image[:, :, c], kernel.astype("f8"), "same"), "f4")


@pytest.mark.parametrize(
    ("dtype", "result"), [("u1", "f4"), ("i2", "f4"), ("?", "f4"), ("f2", "f4"), ("i4", "f8"), ("i8", "f8"), (">f4", "f4")]
)
def test_takes_pictures_of_any_number_type(dtype, result):
    image = (np.random.default_rng(2).random((40, 30, 3)) * 255).astype(dtype)
    kernel = np.ones((5, 5)) / 25
    filtered = convopt.filter2d(image, kernel)
    for c in range(3):
        assert_close(filtered[:, :, c], signal.correlate(image[:, :, c].astype("f8"), kernel, "same"), result)


def test_kernel_may_be_a_list_of_integers():
    image = np.arange(30, dtype="u1").reshape(5, 6)
    np.testing.assert_array_equal(convopt.filter2d(image, [[0, 0, 0], [0, 2, 0], [0, 0, 0]], algorithm="direct"), 2 * image.astype("f4"))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("shape", [(64, 50), (64, 50, 3)])
@pytest.mark.parametrize("taps", [(3, 3), (4, 7), (25, 25)])
def test_agrees_with_opencv(shape, taps, dtype):
    cv2 = pytest.importorskip("cv2")
    image = (np.random.default_rng(3).random(shape) * 255).astype(dtype)
    kernel = picture(taps, seed=4)
    expected = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(convopt.filter2d(image, kernel), expected, atol=2e-5 * np.abs(expected).max())


def test_memory_layout_does_not_matter():
    image, kernel = picture((60, 44, 6)), picture((6, 10), seed=1)
    contiguous = np.ascontiguousarray(image[::-2, 3:, ::2]), np.ascontiguousarray(kernel[:, ::-2])
    expected = convopt.filter2d(*contiguous, deterministic=True)
    np.testing.assert_array_equal(convopt.filter2d(image[::-2, 3:, ::2], kernel[:, ::-2], deterministic=True), expected)
    assert convopt.filter2d(image.transpose(1, 0, 2), kernel).shape == (44, 60, 6)


def test_empty_pictures_give_empty_results():
    assert convopt.filter2d(np.zeros((0, 7)), np.ones((3, 3))).shape == (0, 7)
    assert convopt.filter2d(np.zeros((0, 7, 3), "u1"), np.ones((3, 3))).shape == (0, 7, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(5), np.ones((3, 3))), convopt.ShapeError, r"image has rank 1 \(shape \(5,\)\); 2 \(H x W\) or 3"),
        ((np.zeros((1, 5, 5, 1)), np.ones((3, 3))), convopt.ShapeError, r"image has rank 4"),
        ((np.zeros((5, 5)), np.ones((3, 3, 1))), convopt.ShapeError, r"kernel has rank 3 \(shape \(3, 3, 1\)\); 2"),
        ((np.zeros((5, 5)), np.ones((3, 0))), convopt.ShapeError, r"kernel has shape \(3, 0\); both sizes must be at least 1"),
        ((np.zeros((5, 5, 0)), np.ones((3, 3))), convopt.ShapeError, r"image has shape \(5, 5, 0\); it must have at least 1 channel"),
        ((np.zeros((5, 9)), np.ones((3, 3)), "SAME"), convopt.ShapeError, r"mode is 'SAME'; expected one of full, same, valid"),
        ((np.zeros((5, 9)), np.ones((3, 10)), "valid"), convopt.ShapeError, r"kernel has 10 taps along W; .* image's 9 pixels"),
        ((np.zeros((5, 9), complex), np.ones((3, 3))), convopt.DTypeError, r"image has dtype complex128"),
        ((np.zeros((5, 9)), np.ones((3, 3), object)), convopt.DTypeError, r"kernel has dtype object"),
        ((np.zeros((5, 9), np.longdouble), np.ones((3, 3))), convopt.DTypeError, r"image has dtype .*; expected .* up to 64 bits"),
        ((None, np.ones((3, 3))), convopt.DTypeError, r"image is None"),
        (("picture.png", np.ones((3, 3))), convopt.DTypeError, r"image is 'picture.png'"),
        ((np.ma.zeros((5, 9)), np.ones((3, 3))), convopt.DTypeError, r"image is a masked array"),
        (([[1, 2], [3]], np.ones((3, 3))), convopt.ShapeError, r"image is not an array"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        convopt.filter2d(*arguments)


def test_named_algorithm_that_cannot_serve_says_so():
    with pytest.raises(convopt.UnsupportedError, match="winograd"):
        convopt.filter2d(np.zeros((30, 30), "f4"), np.ones((20, 20)), algorithm="winograd")
