"""Strides and dilations as interleaved convolutions of stride 1, which are all that a transform computes.

Along an axis of stride s and dilation d, tap r of output o acts on pixel o*s + r*d - pad. With ``pitch`` the least common
multiple of both, o = outputs*t + p and r = taps*a + q, that is pixel pitch*(t + a) + p*s + q*d - pad: for each *output phase* p
a sum, over the *input phases* q, of convolutions of every pitch-th pixel with every taps-th tap. Dilation alone is so many
separate convolutions, told apart by p like the images of a batch; stride alone is one whose phases q are summed like channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from convopt.shape import ConvShape


@dataclass(frozen=True)
class Phases:
    """One axis of a problem: `outputs` x `inputs` convolutions of stride 1 of `size` pixels padded by `pad` with `kernel` taps to `out`.

    Pixel j of one is pixel j*pitch + p*stride + q*dilation - start of the image; that it has none there means padding.
    """

    outputs: int
    inputs: int
    pitch: int
    taps: int
    start: int
    size: int
    out: int
    kernel: int
    pad: int

    @classmethod
    def of(cls, shape: ConvShape, axis: int) -> Phases:
        """The phases of axis 0, the height, or 1."""
        size, out, kernel = ((shape.h, shape.oh, shape.r), (shape.w, shape.ow, shape.s))[axis]
        stride, dilation, pad = shape.strides[axis], shape.dilations[axis], shape.pads[axis][0]
        pitch = math.lcm(stride, dilation)
        outputs, taps = pitch // stride, pitch // dilation
        # No phase may have pixels before its pixel 0: the last one begins so far after the first.
        last = (pitch - stride) + (pitch - dilation)
        sub_pad = (pad - last - 1) // pitch + 1
        start = pad - sub_pad * pitch
        # Outputs, taps and pitch beyond what is there give phases without any.
        return cls(
            outputs=max(min(outputs, out), 1),
            inputs=min(taps, kernel),
            pitch=pitch,
            taps=taps,
            start=start,
            size=-(-(size + start) // pitch),
            out=-(-out // outputs),
            kernel=-(-kernel // taps),
            pad=sub_pad,
        )
