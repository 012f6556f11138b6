"""What is raced, and the processes it runs in.

``worker.py`` runs in whatever Python has the engine installed, so nothing beside this file imports convopt.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to compute a convolution.

    title: as tables say it. module: in the folder of the worker. packages: distributions whose versions matter.
    constant_filters: filters are handed over once, before timing starts.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    constant_filters: bool = True

    @property
    def is_own(self) -> bool:
        """Whether it is convopt itself."""
        return self.module == "own"


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("convopt", "convopt", "own", ("convopt", "numpy")),
        Engine("convopt_fresh", "convopt, fresh filters", "own", ("convopt", "numpy"), constant_filters=False),
        Engine("torch_nchw", "PyTorch NCHW", "peer_torch", ("torch",), constant_filters=False),
        Engine("torch_nhwc", "PyTorch channels_last", "peer_torch", ("torch",), constant_filters=False),
        Engine("torch_prepacked", "PyTorch prepacked", "peer_torch", ("torch",)),
        Engine("torch_blocked", "PyTorch blocked", "peer_torch", ("torch",)),
        Engine("tensorflow", "TensorFlow", "peer_tensorflow", ("tensorflow", "tensorflow-cpu")),
        Engine("jax", "JAX", "peer_jax", ("jax", "jaxlib")),
        Engine("onnxruntime", "ONNX Runtime", "peer_onnxruntime", ("onnxruntime", "onnx")),
        Engine("openvino", "OpenVINO", "peer_openvino", ("openvino",)),
        Engine("ncnn", "ncnn", "peer_ncnn", ("ncnn",)),
        Engine("scipy", "SciPy fftconvolve", "peer_filters", ("scipy",)),
        Engine("opencv", "OpenCV filter2D", "peer_filters", ("opencv-python-headless", "opencv-python")),
    )
}
PEERS = tuple(name for name, engine in ENGINES.items() if not engine.is_own)
