"""Any net in PyTorch: what its layers ask for, as PyTorch's own layers and functions.

The rows are those of :func:`tinyshuffle.plan.trace`, as the layers wrote them, before anything is
fused; so there is a rule an operation, and none a net. Layers with weights become PyTorch's layers
of the same names; what lies between them becomes functions. ``print(net.code)`` shows what runs.
Backward, PyTorch derives for itself.

The names are the same, so :func:`~tinyshuffle.bench.peer_torch.load_state` can fill the net.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..errors import TinyshuffleError
from ..models.condensenet import FirstChannels
from ..models.nasnet import SecondPixels
from ..ops.arguments import pair
from ..plan import Plan, Row, View, trace
from ..values import flags

__all__ = ["plan_for_peers", "torch_graph"]

_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
"""What may have weights: PyTorch has the same layers, with the same names in them."""


@flags
def plan_for_peers(net: nn.Module, shape: tuple[int, ...], train: bool) -> Plan:
    """Return the rows that a peer is built from.

    Parameters
    ----------
    net : Module
    shape : (N, H, W, C)
    train : bool
        Whether the peer shall be trained too.

    Raises
    ------
    TinyshuffleError
        If PyTorch cannot be told what a row does, or the net's outputs in training are others than
        in evaluation.
    """
    net = getattr(net, "net", net)
    plan = trace(net, shape, train=train, weights=np.float32)
    layers, what = dict(net.named_modules()), f"no peer can be made of {type(net).__name__}"
    if train and (y := trace(net, shape, train=False).output.shape) != plan.output.shape:
        raise TinyshuffleError(
            f"{what}: in training it returns {plan.output.shape} and in evaluation {y}, which the "
            "benchmark's loss is not made for; leave out --peer"
        )
    for row in plan.rows[: plan.forward]:
        layer = layers[row.layer]
        named = any(plan.buffers[view.buffer].name for view in row.reads)
        if row.operation not in _RULES or (named and not isinstance(layer, _LAYERS)) or (
            row.operation == "python" and not isinstance(layer, FirstChannels | SecondPixels)
        ):
            raise TinyshuffleError(
                f"{what}: there is no rule for what {row.layer or 'the net'} "
                f"({type(layer).__name__}) does ({row.operation}); leave out --peer"
            )
    return plan


@flags
def torch_graph(net: nn.Module, shape: tuple[int, ...], train: bool) -> Any:
    """Return a net in PyTorch, a ``torch.fx.GraphModule``, that does what ``net`` does.

    Its weights are PyTorch's initial ones. Images are (N, C, H, W).

    Parameters and errors are those of :func:`plan_for_peers`.
    """
    from torch import fx

    plan = plan_for_peers(net, shape, train)
    graph = _Graph(dict(getattr(net, "net", net).named_modules()), plan)
    graph.build()
    return fx.GraphModule(graph.torch_layers, graph.fx, type(net).__name__)


class _Graph:
    """Nodes of PyTorch's graph, row by row."""

    def __init__(self, layers: dict[str, nn.Module], plan: Plan) -> None:
        import torch
        from torch import fx

        self.torch, self.functional = torch, torch.nn.functional
        self.layers, self.plan, self.fx = layers, plan, fx.Graph()
        self.torch_layers: dict[str, Any] = {}
        self.nodes: dict[tuple[int, int, int], Any] = {}  # of a buffer, from and to a channel

    def build(self) -> None:
        images = next(b for b in self.plan.buffers if b.role == "input")
        self.write(View(images.index, images.shape), self.fx.placeholder("images"))
        for row in self.plan.rows[: self.plan.forward]:
            made = _RULES[row.operation](self, row, *row.arguments, **row.keywords)
            if made is not None:
                self.write(row.results[0], made)
        self.fx.output(self.read(self.plan.output))

    def read(self, view: View) -> Any:
        """Return the node of what a view shows, cut out if it is not all of its buffer."""
        key = view.buffer, view.start, view.start + view.shape[-1]
        if key not in self.nodes:
            whole = self.nodes[view.buffer, 0, self.plan.buffers[view.buffer].shape[-1]]
            self.nodes[key] = self.method("narrow", whole, 1, view.start, view.shape[-1])
        return self.nodes[key]

    def write(self, view: View, node: Any) -> None:
        self.nodes[view.buffer, view.start, view.start + view.shape[-1]] = node

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return self.fx.call_function(function, arguments, keywords)

    def method(self, name: str, *arguments: Any) -> Any:
        return self.fx.call_method(name, arguments)

    def layer(self, row: Row, x: View, build: Callable[[], Any]) -> Any:
        """Call PyTorch's layer of the same name; what calls it twice shares its weights."""
        if row.layer not in self.torch_layers:
            self.torch_layers[row.layer] = build()
        return self.fx.call_module(row.layer, (self.read(x),))


# ---- a rule an operation


def _conv2d(
    g: _Graph, row: Row, x: View, w: View, b: View | None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    o, kernel = w.shape[-1], w.shape[:2]
    geometry = map(pair, (stride, padding, dilation))
    return g.layer(row, x, lambda: g.torch.nn.Conv2d(
        x.shape[-1], o, kernel, *geometry, groups, b is not None
    ))  # fmt: skip


def _pointwise(g: _Graph, row: Row, x: View, w: View, b: View | None, groups: int = 1) -> Any:
    return _conv2d(g, row, x, w, b, groups=groups)


def _depthwise(
    g: _Graph, row: Row, x: View, w: View, b: View | None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1,
) -> Any:  # fmt: skip
    return _conv2d(g, row, x, w, b, stride, padding, dilation, x.shape[-1])


def _linear(g: _Graph, row: Row, x: View, w: View, b: View | None = None) -> Any:
    return g.layer(row, x, lambda: g.torch.nn.Linear(*w.shape, b is not None))


def _batch_norm(g: _Graph, row: Row, x: View, *_: Any) -> Any:
    """The whole layer: in training it takes its own sums, and follows its running statistics."""
    norm: Any = g.layers[row.layer]
    return g.layer(
        row, x, lambda: g.torch.nn.BatchNorm2d(x.shape[-1], norm.eps, norm.momentum)
    )


def _dropout(g: _Graph, row: Row, x: View, mask: View) -> Any:
    layer: Any = g.layers[row.layer]
    return g.layer(row, x, lambda: g.torch.nn.Dropout(layer.p))


def _split(g: _Graph, row: Row, x: View, first: int) -> None:
    sizes = [first, x.shape[-1] - first]
    halves = sizes[0] == sizes[1]
    y = g.read(x)
    parts = g.method("chunk", y, 2, 1) if halves else g.method("split", y, sizes, 1)
    starts = (x.start, x.start + first)
    for i, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        g.write(View(x.buffer, (*x.shape[:-1], size), start), g.call(operator.getitem, parts, i))


def _shuffle(g: _Graph, row: Row, x: View, groups: int) -> Any:
    y = g.method("unflatten", g.read(x), 1, (groups, -1))
    return g.method("flatten", g.method("transpose", y, 1, 2), 1, 2)


def _max_pool(g: _Graph, row: Row, x: View, kernel: Any, stride: Any, padding: Any = 0) -> Any:
    ceil_mode = getattr(g.layers[row.layer], "ceil_mode", False)
    return g.call(
        g.functional.max_pool2d, g.read(x), kernel, stride, padding, ceil_mode=ceil_mode
    )


def _pad_end(
    g: _Graph, row: Row, x: View, bottom: int, right: int, value: float = 0.0
) -> Any:
    if isinstance(g.layers[row.layer], nn.MaxPool2d):  # PyTorch's ceil_mode does it by itself
        return g.read(x)
    return g.call(g.functional.pad, g.read(x), (0, right, 0, bottom), value=value)


def _avg_pool(
    g: _Graph, row: Row, x: View, kernel: Any, stride: Any, padding: Any = 0, include: bool = True
) -> Any:
    return g.call(
        g.functional.avg_pool2d, g.read(x), kernel, stride, padding, count_include_pad=include
    )


def _channel_scale(g: _Graph, row: Row, x: View, s: View) -> Any:
    scales = g.method("unsqueeze", g.method("unsqueeze", g.read(s), -1), -1)  # (N, C, 1, 1)
    return g.call(operator.mul, g.read(x), scales)


def _python(g: _Graph, row: Row, x: View) -> Any:
    """Layers that compute by themselves: the zoo has two kinds."""
    layer, y = g.layers[row.layer], g.read(x)
    if isinstance(layer, FirstChannels):
        return g.method("narrow", y, 1, 0, layer.channels)
    _, h, w, _ = x.shape
    if h % 2 or w % 2:
        y = g.call(g.functional.pad, y, (0, w % 2, 0, h % 2))
    every, second = slice(None), slice(1, None, 2)
    return g.call(operator.getitem, y, (every, every, second, second))


def _function(name: str) -> Callable[..., Any]:
    return lambda g, row, x, *rest: g.call(getattr(g.functional, name), g.read(x), *rest)


def _nothing(*_: Any, **__: Any) -> None:
    """What another row does along with its own work."""


_RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "pointwise_conv2d": _pointwise,
    "depthwise_conv2d": _depthwise,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **dict.fromkeys(
        ("batch_norm_sums", "batch_norm_statistics", "batch_norm_track", "dropout_mask"), _nothing
    ),
    "dropout": _dropout,
    "channel_split": _split,
    "channel_shuffle": _shuffle,
    "max_pool2d": _max_pool,
    "pad_end": _pad_end,
    "avg_pool2d": _avg_pool,
    "channel_scale": _channel_scale,
    "python": _python,
    **{
        name: _function(name)
        for name in ("relu", "relu6", "sigmoid", "tanh", "adaptive_avg_pool2d",
                     "local_response_norm")
    },
    "global_avg_pool": lambda g, row, x: g.method("mean", g.read(x), (2, 3)),
    "flatten": lambda g, row, x: g.method("flatten", g.read(x), 1),
    "add": lambda g, row, x, y: g.call(operator.add, g.read(x), g.read(y)),
    "concat": lambda g, row, parts: g.call(g.torch.cat, [*map(g.read, parts)], 1),
}  # fmt: skip
