"""TensorFlow: a graph function with constant filters, which oneDNN reorders once."""

from typing import Any

import numpy as np
import tensorflow as tf


def start(engine: str, threads: int) -> None:
    """One operation at a time, on so many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x = tf.constant(problem.x)
    padding: Any = problem.padding or [[0, 0], *map(list, problem.pads), [0, 0]]
    strides = [1, *problem.strides, 1]
    if problem.is_depthwise:
        r, s, _, k = problem.w.shape
        c = problem.x.shape[3]
        w = tf.constant(np.ascontiguousarray(problem.w.transpose(0, 1, 3, 2).reshape(r, s, c, k // c)))
        function = tf.function(lambda x: tf.nn.depthwise_conv2d(x, w, strides, padding, dilations=list(problem.dilations)))
    else:
        w = tf.constant(problem.w)
        function = tf.function(lambda x: tf.nn.conv2d(x, w, strides, padding, dilations=list(problem.dilations)))
    concrete = function.get_concrete_function(x)
    return lambda: concrete(x), lambda y: y.numpy(), {}


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network as one graph."""

    def convolve(step: Any, x: Any, plus: Any) -> Any:
        strides, padding = [1, *step.strides, 1], [[0, 0], *map(list, step.pads), [0, 0]]
        convolution, w = tf.nn.conv2d, step.w
        rule: Any = padding
        if step.is_depthwise:  # pads of any size end its process
            convolution, w, rule = tf.nn.depthwise_conv2d, np.ascontiguousarray(w.transpose(0, 1, 3, 2)), "SAME"
            if max(step.strides) > 1:
                x, rule = tf.pad(x, padding), "VALID"
        y = tf.nn.bias_add(convolution(x, tf.constant(w), strides, rule, dilations=list(step.dilations)), tf.constant(step.b))
        y = y if plus is None else y + plus
        return {None: tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}[step.activation](y)

    def pool(step: Any, x: Any) -> Any:
        return tf.nn.max_pool2d(x, step.window, step.stride, [[0, 0], [step.pad] * 2, [step.pad] * 2, [0, 0]])

    x = tf.constant(network.x)
    concrete = tf.function(lambda x: network.walk(x, convolve, pool)).get_concrete_function(x)
    return lambda: concrete(x), lambda y: y.numpy(), {}
