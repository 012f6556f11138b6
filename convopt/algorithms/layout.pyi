from convopt.algorithms.contract import Convolver
from convopt.shape import ConvShape

class LayoutChange(Convolver):
    def __init__(self, shape: ConvShape, params: dict[str, int], inner: Convolver) -> None: ...
