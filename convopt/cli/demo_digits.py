"""A LeNet-style network that Keras trains on real handwritten digits, and that convopt then runs layer by layer."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convopt
from convopt.cli.demo_pictures import FAINT, INK, PAPER
from convopt.cli.demo_timing import best_seconds
from convopt.cli.terminal import need
from convopt.plan import ConvPlan

Array = NDArray[np.float32]

TRAINING_DIGITS = 1297  # the other 500 of 1,797 are never trained on
EPOCHS = 25


@dataclass(frozen=True)
class Layer:
    """One convolution of the network as convopt runs it; seconds: of one call for all test digits."""

    name: str
    plan: ConvPlan
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """What Keras and convopt say about the test digits.

    images: N x 8 x 8 x 1. labels: N true digits. maps: N x 8 x 8 x K, after the first convolution and its ReLU.
    keras, convopt: N x 10 probabilities.
    """

    images: Array
    labels: NDArray[np.int64]
    layers: list[Layer]
    maps: Array
    keras: Array
    convopt: Array

    @property
    def same_predictions(self) -> int:
        """How many digits both read alike."""
        return int(np.sum(np.argmax(self.keras, 1) == np.argmax(self.convopt, 1)))

    @property
    def keras_accuracy(self) -> float:
        """Share of digits that Keras reads correctly."""
        return float(np.mean(np.argmax(self.keras, 1) == self.labels))

    @property
    def convopt_accuracy(self) -> float:
        """Share of digits that convopt reads correctly."""
        return float(np.mean(np.argmax(self.convopt, 1) == self.labels))

    @property
    def largest_difference(self) -> float:
        """Largest difference between two probabilities."""
        return float(np.max(np.abs(self.keras - self.convopt)))


class Network:
    """The trained weights as convopt plans and NumPy matrices; called on N x 8 x 8 x 1 digits, gives N x 10 probabilities."""

    def __init__(self, model: Any, batch: int, tune: str) -> None:
        self.plans: list[tuple[str, ConvPlan]] = []
        self.dense: list[tuple[Array, Array]] = []
        size = 8
        for layer in model.layers:
            if not layer.get_weights():
                continue
            weights, bias = layer.get_weights()
            if weights.ndim == 2:
                self.dense.append((weights, bias))
                continue
            shape = (batch, size, size, weights.shape[2])
            self.plans.append((layer.name, convopt.plan(shape, weights, padding="SAME", bias=bias, activation="relu", tune=tune)))
            size //= 2

    def __call__(self, x: Array) -> Array:
        for _, plan in self.plans:
            x = halve(plan(x))
        x = x.reshape(len(x), -1)
        for weights, bias in self.dense[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self.dense[-1]
        return softmax(x @ weights + bias)


def halve(x: Array) -> Array:
    """The largest of each 2 x 2 pixels: N x H x W x C to N x H/2 x W/2 x C."""
    n, h, w, c = x.shape
    return np.asarray(x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4)))


def softmax(x: Array) -> Array:
    """Rows to probabilities."""
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def compare(tune: str) -> Comparison:
    """Train with Keras, run the test digits with both, and return what each said. Some 15 seconds."""
    digits = need("sklearn.datasets", "demo").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = (digits.images[order, ..., np.newaxis] / 16).astype(np.float32)
    labels = digits.target[order]
    test = images[TRAINING_DIGITS:]
    with _quiet():
        model = _trained(images[:TRAINING_DIGITS], labels[:TRAINING_DIGITS])
        expected = np.asarray(model.predict(test, batch_size=len(test), verbose=0))
    network = Network(model, len(test), tune)
    probabilities = network(test)
    layers, x = [], test
    for name, plan in network.plans:
        maps = plan(x)
        layers.append(Layer(name, plan, best_seconds(lambda plan=plan, x=x, maps=maps: plan(x, out=maps))))  # type: ignore[misc]
        x = halve(maps)
    return Comparison(test, labels[TRAINING_DIGITS:], layers, network.plans[0][1](test), expected, probabilities)


def _trained(images: Array, labels: NDArray[np.int64]) -> Any:
    """A small LeNet, fitted; the same each time on the same machine."""
    keras = need("keras", "demo")
    keras.utils.set_random_seed(5)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input(images.shape[1:]),
            layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow's C++ side greets on file descriptor 2 while it loads; that is not the demo's output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def save_picture(path: Path, result: Comparison, shown: int = 10) -> None:
    """One PNG: some digits, what the first layer makes of them, and what both read."""
    need("matplotlib", "demo").use("Agg")
    from matplotlib import pyplot

    maps = result.maps.shape[-1]
    figure, places = pyplot.subplots(maps + 1, shown, figsize=(shown * 1.15 + 0.9, maps * 1.15 + 2.3), facecolor=PAPER)
    figure.subplots_adjust(left=0.09, right=0.985, bottom=0.02, top=0.86, wspace=0.08, hspace=0.08)
    figure.text(0.09, 0.945, "Handwritten digits through a trained layer", size=18, weight="bold", color=INK)
    said = f"Keras {result.keras_accuracy:.1%}, convopt {result.convopt_accuracy:.1%} of {len(result.labels)} unseen digits read correctly"
    figure.text(0.09, 0.915, said, size=11, color=FAINT)
    for column in range(shown):
        read = np.argmax(result.convopt[column])
        places[0, column].imshow(result.images[column, ..., 0], cmap="gray_r")
        places[0, column].set_title(f"{read}", color=INK if read == result.labels[column] else "#c0392b", size=14)
        for row in range(maps):
            places[row + 1, column].imshow(result.maps[column, ..., row], cmap="inferno", vmin=0, vmax=result.maps[..., row].max())
    for row, name in enumerate(("digit", *(f"map {index + 1}" for index in range(maps)))):
        places[row, 0].set_ylabel(name, color=INK, size=11)
    for place in places.flat:
        place.set_xticks([])
        place.set_yticks([])
        for spine in place.spines.values():
            spine.set(color=FAINT, linewidth=0.5)
    figure.savefig(path, dpi=100, facecolor=PAPER)
    pyplot.close(figure)
