"""Problems as oneDNN's benchdnn writes them: ``mb1_ic64ih56_oc64oh56_kh3sh1dh0ph1_n"conv2*3"``.

mb: batch; g: groups; ic, oc: channels of all groups; i, o, k: sizes of input, output and kernel; s: strides; d: dilation, 0
for none; p: padding before; each of the last six followed by h or w. What is missing along w is as along h; strides default to
1, dilations to 0, mb to 2, as there. Padding follows from the output's size, and the output's size from the padding. In the
name, ``*3`` says that the layer occurs three times.
"""

from __future__ import annotations

import re

from convopt.errors import ShapeError
from convopt.shape import ConvShape

_NAME = re.compile(r"_?n\"?(?P<name>[^\"*]*)(?:\*(?P<count>[1-9]\d*))?\"?$")
_PART = re.compile(r"_*(?P<key>mb|g|ic|oc|[iokdsp][dhw])(?P<value>\d+)")
_KNOWN = re.compile(r"(?:_*(?:mb|g|ic|oc|[iokdsp][dhw])\d+)+_*")


def is_onednn(text: str) -> bool:
    """Whether a text has the form of such a problem."""
    return _KNOWN.fullmatch(_split(text)[0]) is not None


def _split(text: str) -> tuple[str, str, int]:
    """(the problem, its name, how often it occurs)."""
    match = re.search(r"(?<=\d)_*n(?:\".*|[^\d].*)$", text)
    if match is None:
        return text, "", 1
    name = _NAME.match(match.group().lstrip("_"))
    return text[: match.start()], name["name"] if name else "", int(name["count"] or 1) if name else 1


def parse(text: str) -> tuple[str, ConvShape, int]:
    """(name, the problem in float32 and NHWC, how often it occurs). Raises ShapeError."""
    problem, name, count = _split(text)
    if not _KNOWN.fullmatch(problem):
        raise ShapeError(f"problem is {text!r}; expected the form of 'mb1ic64ih56oc64oh56kh3ph1'")
    given = {match["key"]: int(match["value"]) for match in _PART.finditer(problem)}
    if any(key in given for key in ("id", "od", "kd", "sd", "dd", "pd")):
        raise ShapeError(f"problem is {text!r}, which has depth; convolutions here are two-dimensional")
    for key in ("ic", "oc", "ih", "kh"):
        if key not in given:
            raise ShapeError(f"problem is {text!r}, which lacks {key}")
    for axis_h, axis_w in (("ih", "iw"), ("kh", "kw"), ("sh", "sw"), ("dh", "dw"), ("ph", "pw"), ("oh", "ow")):
        if axis_h in given:
            given.setdefault(axis_w, given[axis_h])
    groups = given.get("g", 1)
    if groups < 1 or given["ic"] % groups or given["oc"] % groups:
        raise ShapeError(f"problem is {text!r}; its {groups} groups must divide ic and oc")
    shape = ConvShape.from_arguments(
        (given.get("mb", 2), given["ih"], given["iw"], given["ic"]),
        (given["kh"], given["kw"], given["ic"] // groups, given["oc"]),
        (given.get("sh", 1), given.get("sw", 1)),
        [_pads(given, axis) for axis in "hw"],
        "NHWC",
        (given.get("dh", 0) + 1, given.get("dw", 0) + 1),
    )
    for key, size in (("oh", shape.oh), ("ow", shape.ow)):
        if given.get(key, size) != size:
            raise ShapeError(f"problem is {text!r}; its {key} would be {size}")
    return name or problem, shape, count


def _pads(given: dict[str, int], axis: str) -> tuple[int, int]:
    """Padding before and behind along an axis."""
    before, size = given.get(f"p{axis}"), given.get(f"o{axis}")
    if size is None:
        return (before or 0, before or 0)
    extent = (given[f"k{axis}"] - 1) * (given.get(f"d{axis}", 0) + 1) + 1
    both = (size - 1) * given.get(f"s{axis}", 1) + extent - given[f"i{axis}"]
    if before is None:
        before = max(0, both) // 2
    return (before, max(0, both - before))
