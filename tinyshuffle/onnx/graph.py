"""Rows of a plan in evaluation as nodes of an ONNX graph.

The rows are those that the layers themselves ask for (:func:`tinyshuffle.plan.trace`), so there is
a rule an operation, and none a net. Inside the graph images are (N, C, H, W), which all of ONNX's
operations want; channels are the last axis of every buffer here and axis 1 there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..models.condensenet import FirstChannels
from ..models.nasnet import SecondPixels
from ..nn import Module
from ..ops.arguments import pair
from ..plan import Plan, Row, View
from ..values import flags

__all__ = ["Graph"]

CONVOLUTIONS = ("conv2d", "pointwise_conv2d", "depthwise_conv2d")


class Graph:
    """Nodes and weights, row by row.

    Parameters
    ----------
    net : Module
        Whose weights are taken.
    plan : Plan
        Of a pass in evaluation, as the layers wrote it.
    fold : bool
        Fold each batch norm into the convolution before it, where nothing else reads that.
    """

    @flags
    def __init__(self, net: Module, plan: Plan, fold: bool) -> None:
        from onnx import helper, numpy_helper

        self._node, self._array = helper.make_node, numpy_helper.from_array
        self.plan, self.state = plan, net.state_dict()
        self.modules = dict(net.named_modules())
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.tensors: dict[tuple[int, int, int], str] = {}  # of a buffer, from and to a channel
        self.used: Counter[str] = Counter()
        self.folded = self._folded() if fold else {}

    # ---- what the rules are written with

    def node(self, kind: str, row: Row | None, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = self._unique(f"{row.layer if row else 'input'}.{kind.lower()}".lstrip("."))
        given: dict[str, Any] = {
            key: list(v) if isinstance(v, tuple) else v for key, v in attributes.items()
        }
        self.nodes.append(self._node(kind, list(inputs), [name], name, **given))
        return name

    def weight(self, name: str, values: Any) -> str:
        """Add numbers; those that a layer has learned become float32."""
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
        name = self._unique(name)
        self.weights[name] = self._array(np.require(values, requirements="C"), name)
        return name

    def integers(self, row: Row, *numbers: int) -> str:
        return self.weight(f"{row.layer}.shape".lstrip("."), np.array(numbers, np.int64))

    def read(self, view: View) -> str:
        """Return the name of what a view shows, cut out if it is not all of its buffer."""
        key = view.buffer, view.start, view.start + view.shape[-1]
        if key not in self.tensors:
            whole = self.plan.buffers[view.buffer].shape[-1]
            row = Row("channel_split", f"b{view.buffer}", False, (), ())
            self.tensors[key] = self.cut(
                row, self.tensors[view.buffer, 0, whole], [key[1]], [key[2]], [1]
            )
        return self.tensors[key]

    def cut(
        self, row: Row, x: str, start: list[int], stop: list[int], axes: list[int], step: int = 1
    ) -> str:
        arguments = [self.integers(row, *given) for given in (start, stop, axes)]
        return self.node(
            "Slice", row, x, *arguments, self.integers(row, *[step] * len(axes))
        )

    def value(self, view: View | None) -> np.ndarray | None:
        """Return a parameter's or a statistic's numbers."""
        return None if view is None else self.state[self.plan.buffers[view.buffer].name]

    def write(self, view: View, name: str) -> None:
        """Say which tensor a buffer is."""
        self.tensors[view.buffer, view.start, view.start + view.shape[-1]] = name

    def _unique(self, name: str) -> str:
        self.used[name] += 1
        return name if self.used[name] == 1 else self._unique(f"{name}.{self.used[name]}")

    # ---- the walk

    def build(self, x: str) -> str:
        """Add all rows; ``x`` is the images' name, (N, C, H, W). Return the output's."""
        for buffer in self.plan.buffers:
            if buffer.role == "input":
                self.write(View(buffer.index, buffer.shape), x)
        norms = set(self.folded.values())
        for i, row in enumerate(self.plan.rows):
            if row.operation == "channel_split" or i in norms:
                continue
            rule = RULES.get(row.operation)
            if rule is None:
                raise TinyshuffleError(
                    f"{row.layer or 'the net'} asks for {row.operation}, for which ONNX has no "
                    "operation: leave that layer out of the net that is exported"
                )
            if i in self.folded:
                norm = self.plan.rows[self.folded[i]]
                self.write(norm.results[0], _convolution(self, row, *row.arguments, norm=norm))
            else:
                made = rule(self, row, *row.arguments, **row.keywords)
                self.write(row.results[0], made)
        return self.read(self.plan.output)

    def _folded(self) -> dict[int, int]:
        """Return which convolution's row may take up which batch norm's."""
        reads = Counter(view.buffer for row in self.plan.rows for view in row.reads)
        reads[self.plan.output.buffer] += 1
        maker = {
            row.results[0].buffer: i
            for i, row in enumerate(self.plan.rows)
            if row.operation in CONVOLUTIONS
        }
        return {
            maker[row.arguments[0].buffer]: i
            for i, row in enumerate(self.plan.rows)
            if row.operation == "batch_norm"
            and row.arguments[0].buffer in maker
            and reads[row.arguments[0].buffer] == 1
        }


# ---- a rule an operation


def _convolution(
    g: Graph, row: Row, x: View, w: View, b: View | None, *geometry: Any, norm: Row | None = None
) -> str:
    values, bias = g.value(w), g.value(b)
    assert values is not None
    values = values.astype(np.float64)  # (…, O)
    if norm is not None:
        _, *given, eps = norm.arguments
        gamma, beta, mean, var = (np.float64(g.value(view)) for view in given)  # type: ignore[arg-type]
        scale = gamma / np.sqrt(var + eps)
        values, bias = values * scale, beta + ((0 if bias is None else bias) - mean) * scale
    stride, padding, dilation = (1, 1), (0, 0), (1, 1)
    groups = 1
    if row.operation == "pointwise_conv2d":
        (groups,) = geometry
    else:
        stride, padding, dilation = map(pair, geometry[:3])
    if row.operation == "conv2d":
        groups = geometry[3]
    if row.operation == "depthwise_conv2d":
        groups, values = values.shape[-1], values[:, :, None]
    weight = g.plan.buffers[w.buffer].name
    inputs = [g.read(x), g.weight(weight, values.transpose(3, 2, 0, 1))]  # (O, Cg, Kh, Kw)
    if bias is not None:
        inputs.append(g.weight(f"{weight.removesuffix('weight')}bias", bias))
    return g.node(
        "Conv", row, *inputs, group=groups, strides=stride, pads=padding * 2,
        dilations=dilation, kernel_shape=values.shape[:2],
    )  # fmt: skip


def _batch_norm(g: Graph, row: Row, x: View, *rest: Any) -> str:
    *views, eps = rest
    names = [g.plan.buffers[view.buffer].name for view in views]
    given = [g.weight(name, g.value(view)) for name, view in zip(names, views, strict=True)]
    return g.node("BatchNormalization", row, g.read(x), *given, epsilon=float(eps))


def _linear(g: Graph, row: Row, x: View, w: View, b: View | None = None) -> str:
    names = [g.plan.buffers[view.buffer].name for view in (w, b) if view is not None]
    values = [g.value(view) for view in (w, b) if view is not None]
    given = [g.weight(name, value) for name, value in zip(names, values, strict=True)]
    return g.node("Gemm", row, g.read(x), *given)


def _shuffle(g: Graph, row: Row, x: View, groups: int) -> str:
    _, h, w, c = x.shape
    y = g.node("Reshape", row, g.read(x), g.integers(row, 0, groups, c // groups, h, w))
    y = g.node("Transpose", row, y, perm=(0, 2, 1, 3, 4))
    return g.node("Reshape", row, y, g.integers(row, 0, c, h, w))


def _max_pool(g: Graph, row: Row, x: View, kernel: Any, stride: Any, padding: Any = 0) -> str:
    return g.node(
        "MaxPool", row, g.read(x), kernel_shape=pair(kernel), strides=pair(stride),
        pads=pair(padding) * 2,
    )  # fmt: skip


def _avg_pool(
    g: Graph, row: Row, x: View, kernel: Any, stride: Any, padding: Any = 0, include: bool = True
) -> str:
    return g.node(
        "AveragePool", row, g.read(x), kernel_shape=pair(kernel), strides=pair(stride),
        pads=pair(padding) * 2, count_include_pad=int(include),
    )  # fmt: skip


def _global_avg_pool(g: Graph, row: Row, x: View) -> str:
    return g.node("Flatten", row, g.node("GlobalAveragePool", row, g.read(x)), axis=1)


def _adaptive_avg_pool(g: Graph, row: Row, x: View, size: Any) -> str:
    """Average with two matrices, whose rows are the windows, as ONNX has no such operation."""
    y = g.read(x)
    (_, h, w, _), (ho, wo) = x.shape, pair(size)
    if (h, w) == (ho, wo):
        return y
    if h % ho == 0 and w % wo == 0:
        kernel = h // ho, w // wo
        return g.node("AveragePool", row, y, kernel_shape=kernel, strides=kernel)
    y = g.node("MatMul", row, g.weight(f"{row.layer}.rows", _windows(h, ho)), y)  # (N, C, Ho, W)
    return g.node("MatMul", row, y, g.weight(f"{row.layer}.columns", _windows(w, wo).T))


def _windows(length: int, size: int) -> np.ndarray:
    """Return the shares of ``length`` pixels in each of ``size`` means, (size, length)."""
    out = np.zeros((size, length), np.float32)
    for p in range(size):
        first, stop = p * length // size, -(-(p + 1) * length // size)
        out[p, first:stop] = 1 / (stop - first)
    return out


def _pad_end(
    g: Graph, row: Row, x: View, bottom: int, right: int, value: float = 0.0
) -> str:
    number = g.weight(f"{row.layer}.value", np.float32(max(value, np.finfo(np.float32).min)))
    return g.node("Pad", row, g.read(x), g.integers(row, 0, 0, 0, 0, 0, 0, bottom, right), number)


def _local_response_norm(
    g: Graph, row: Row, x: View, size: int, alpha: float, beta: float, k: float
) -> str:
    if size % 2 == 0:  # the two sides of a channel differ, in ONNX the other way round
        raise TinyshuffleError(
            f"{row.layer} normalises over {size} channels, and in ONNX their number has to be odd"
        )
    return g.node("LRN", row, g.read(x), size=size, alpha=alpha, beta=beta, bias=k)


def _channel_scale(g: Graph, row: Row, x: View, s: View) -> str:
    s4 = g.node("Reshape", row, g.read(s), g.integers(row, 0, s.shape[-1], 1, 1))
    return g.node("Mul", row, g.read(x), s4)


def _concat(g: Graph, row: Row, parts: list[View]) -> str:
    return g.node("Concat", row, *map(g.read, parts), axis=1)


def _relu6(g: Graph, row: Row, x: View) -> str:
    low, high = (g.weight(f"{row.layer}.{word}", np.float32(n)) for word, n in _CLIP)
    return g.node("Clip", row, g.read(x), low, high)


_CLIP = (("low", 0), ("high", 6))


def _elementwise(kind: str) -> Callable[..., str]:
    return lambda g, row, *views: g.node(kind, row, *map(g.read, views))


def _flatten(g: Graph, row: Row, x: View) -> str:
    return g.node("Flatten", row, g.read(x), axis=1)


def _python(g: Graph, row: Row, x: View) -> str:
    """Layers that compute by themselves: the zoo has two kinds."""
    layer = g.modules[row.layer]
    if isinstance(layer, FirstChannels):
        return g.cut(row, g.read(x), [0], [layer.channels], [1])
    if isinstance(layer, SecondPixels):
        (_, h, w, _), y = x.shape, g.read(x)
        if h % 2 or w % 2:
            y = g.node("Pad", row, y, g.integers(row, 0, 0, 0, 0, 0, 0, h % 2, w % 2))
        return g.cut(row, y, [1, 1], [h + h % 2, w + w % 2], [2, 3], 2)
    raise TinyshuffleError(
        f"{row.layer or 'the net'} ({type(layer).__name__}) computes by itself, with NumPy, and "
        "not with this library's operations: nobody can say what it would be in ONNX"
    )


RULES: dict[str, Callable[..., str]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    "batch_norm": _batch_norm,
    "linear": _linear,
    "channel_shuffle": _shuffle,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "pad_end": _pad_end,
    "local_response_norm": _local_response_norm,
    "channel_scale": _channel_scale,
    "concat": _concat,
    "relu6": _relu6,
    "relu": _elementwise("Relu"),
    "sigmoid": _elementwise("Sigmoid"),
    "tanh": _elementwise("Tanh"),
    "add": _elementwise("Add"),
    "flatten": _flatten,
    "python": _python,
}
