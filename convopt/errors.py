"""The errors convopt raises; each is also the built-in kind a caller would expect to catch.

Every message names the argument, the value it had and the limit it broke.
"""


class ConvoptError(Exception):
    """Base of everything convopt raises on purpose."""


class ShapeError(ConvoptError, ValueError):
    """A size, stride, dilation, padding, layout or option has an impossible value."""


class DTypeError(ConvoptError, TypeError):
    """An argument has a type or dtype that no convolution here is defined for."""


class UnsupportedError(ConvoptError, NotImplementedError):
    """The request is meaningful, but the named algorithm or device cannot serve it."""


class WorkspaceError(ConvoptError, MemoryError):
    """Every applicable algorithm needs more scratch memory than allowed or available.

    needed: bytes that were asked for (0 where unknown).
    """

    def __init__(self, message: str, needed: int = 0) -> None:
        super().__init__(message)
        self.needed = needed


class CacheMiss(ConvoptError, LookupError):
    """``tune="cached"`` was asked for, and nothing is remembered for this problem."""
