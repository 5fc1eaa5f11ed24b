"""A third implementation of the operations, which computes nothing: it notes what each one costs.

A net runs forward (and backward) on :class:`Blank` tensors, which have a shape and a dtype and no
numbers. Each operation that the net asks the backend for is looked up in ``ops`` by its name: its
``…_cost`` says what it costs and what shape comes out. So every layer, unit and net is counted by
the very code that runs it, and nothing is counted that has not said what it costs.

A blank tensor also says when nobody needs it any more, which gives the peak of the activation
memory, as the library really runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import ops
from ..backend import F
from ..errors import TinyshuffleError
from ..nn import Module, Residual, Sequential
from ..ops import Cost
from ..ops.pool import winner_type

__all__ = ["Blank", "Count", "Recorder", "blank", "recording", "skeleton"]


class Blank(np.ndarray):
    """A tensor without numbers: any arithmetic on it outside the operations is an error."""

    alive: Any = None

    def __array_finalize__(self, of: Any) -> None:
        self.alive = getattr(of, "alive", None)  # views live as long as what they look at

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise _Uncounted

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in (np.shape, np.ndim, np.size):
            return super().__array_function__(function, types, args, kwargs)
        raise _Uncounted


class _Uncounted(Exception):
    """Numbers were asked for where there are none."""


def blank(shape: tuple[int, ...], dtype: Any = np.float32) -> Blank:
    """Return a tensor of this shape, every element of which is the same one.

    >>> blank((1000, 1000, 1000)).strides
    (0, 0, 0)
    """
    return np.broadcast_to(np.zeros((), dtype), shape).view(Blank)


@dataclass(frozen=True)
class Count:
    """One operation of a net: who asked for it, its name, and what it costs.

    ``functional`` says that the layer stands in a unit's ``forward``, where PyTorch's users call a
    function, and not in a chain, where they write a module.
    """

    layer: str
    module: Module | None
    functional: bool
    operation: str
    input: tuple[int, ...]
    weight: tuple[int, ...] | None
    groups: int
    cost: Cost


class Recorder:
    """What a net asked for while it ran."""

    def __init__(self) -> None:
        self.counts: list[Count] = []
        self.bytes = 0  # of the tensors that are alive
        self.peak = 0
        self.path: list[tuple[str, Module]] = []
        self.parameters: set[int] = set()  # their arrays, by id
        self.counted: set[int] = set()  # those of them, and of layers, that were met before

    def tensor(self, shape: tuple[int, ...], dtype: Any) -> Blank:
        """Return a blank tensor whose bytes count as long as anybody holds it."""
        out = blank(shape, dtype)
        out.alive = _Alive(self, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return out

    def note(self, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cost:
        shapes = [_shape(a) for a in args]
        cost: Cost = getattr(ops, operation + "_cost")(*shapes, **kwargs)
        for a in args:  # a parameter counts once, however many layers or calls use it
            if id(a) in self.counted:
                cost = replace(cost, params=cost.params - a.size)
            elif id(a) in self.parameters:
                self.counted.add(id(a))
        name, module = self.path[-1] if self.path else ("", None)
        inside = self.path[-2][1] if len(self.path) > 1 else None
        first = shapes[0][0] if isinstance(args[0], list) else shapes[0]
        conv = operation.endswith(("conv2d", "linear"))
        self.counts.append(
            Count(
                layer=name,
                module=module,
                functional=not isinstance(inside, Sequential)
                or (isinstance(inside, Residual) and module is inside[-1]),
                operation=operation,
                input=first,
                weight=shapes[1] if conv else None,
                groups=int(getattr(module, "groups", 1)),
                cost=cost,
            )
        )
        return cost


class _Alive:
    def __init__(self, recorder: Recorder, nbytes: int) -> None:
        self.recorder, self.nbytes = recorder, nbytes
        recorder.bytes += nbytes
        recorder.peak = max(recorder.peak, recorder.bytes)

    def __del__(self) -> None:
        self.recorder.bytes -= self.nbytes


def _shape(value: Any) -> Any:
    if isinstance(value, list):
        return [v.shape for v in value]
    return value.shape if isinstance(value, np.ndarray) else value


# ---- the operations

_recorder: ContextVar[Recorder] = ContextVar("recorder")


def __getattr__(name: str) -> Callable[..., Any]:
    """Return the counting twin of an operation; the backend looks it up here."""
    if name.startswith("__") or not hasattr(ops, name):
        raise AttributeError(name)
    recorder = _recorder.get()
    special = _SPECIAL.get(name)
    if special is not None:
        return lambda *args, **kwargs: special(recorder, *args, **kwargs)

    def operation(*args: Any, **kwargs: Any) -> Any:
        dtype = (args[0][0] if isinstance(args[0], list) else args[0]).dtype
        return recorder.tensor(recorder.note(name, args, kwargs).output, dtype)

    return operation


def _max_pool2d(r: Recorder, x: Blank, *args: Any) -> tuple[Blank, Blank]:
    y = r.note("max_pool2d", (x, *args), {}).output
    return r.tensor(y, x.dtype), r.tensor(y, winner_type(args[0]))


def _channel_split(r: Recorder, x: Blank, first: int) -> tuple[np.ndarray, np.ndarray]:
    r.note("channel_split", (x, first), {})
    return x[..., :first], x[..., first:]


def _concat_shuffle(r: Recorder, x1: Blank, x2: Blank, *norms: None) -> np.ndarray:
    return F.channel_shuffle(F.concat([x1, x2]), groups=2)


def _batch_norm_sums(r: Recorder, x: Blank) -> np.ndarray:
    sums = np.zeros((3, x.shape[-1]))
    sums[0] = np.prod(x.shape[:-1])
    return sums


def _dropout_mask(r: Recorder, rng: Any, shape: tuple[int, ...], p: float, dtype: Any) -> Blank:
    return r.tensor(shape, dtype)


def _dx_like(argument: int) -> Callable[..., Blank]:
    return lambda r, *args, **kwargs: r.tensor(_shape(args[argument]), args[0].dtype)


def _conv_backward(
    r: Recorder, dy: Blank, x: Blank, w: np.ndarray, *args: Any
) -> tuple[Blank, Blank, Blank]:
    # the parameters' gradients are as large as the parameters and count there
    return r.tensor(x.shape, x.dtype), blank(w.shape, w.dtype), blank(dy.shape[-1:], w.dtype)


_SPECIAL: dict[str, Callable[..., Any]] = {
    "max_pool2d": _max_pool2d,
    "channel_split": _channel_split,
    "concat_shuffle": _concat_shuffle,
    "batch_norm_sums": _batch_norm_sums,
    "batch_norm_statistics": lambda r, sums: (sums[1], sums[2]),
    "dropout_mask": _dropout_mask,
    # backward: what comes out has the shape of this argument
    "conv2d_backward": _conv_backward,
    "pointwise_conv2d_backward": _conv_backward,
    "depthwise_conv2d_backward": _conv_backward,
    "linear_backward": _conv_backward,
    "batch_norm_backward_sums": lambda r, dy, *_: np.zeros((2, dy.shape[-1])),
    "batch_norm_backward": _dx_like(0),
    "batch_norm_eval_backward": _dx_like(0),
    "relu_backward": _dx_like(0),
    "relu6_backward": _dx_like(0),
    "sigmoid_backward": _dx_like(0),
    "tanh_backward": _dx_like(0),
    "dropout_backward": _dx_like(0),
    "channel_shuffle_backward": _dx_like(0),
    "concat_shuffle_backward": lambda r, dy, *_: (r.tensor(dy.shape, dy.dtype), None, None),
    "overwrite": lambda r, there, dx: there,
    "max_pool2d_backward": _dx_like(2),
    "avg_pool2d_backward": _dx_like(1),
    "global_avg_pool_backward": _dx_like(1),
    "adaptive_avg_pool2d_backward": _dx_like(1),
    "flatten_backward": _dx_like(1),
    "local_response_norm_backward": _dx_like(0),
    "pad_end_backward": lambda r, dy, bottom, right: r.tensor(
        (dy.shape[0], dy.shape[1] - bottom, dy.shape[2] - right, dy.shape[3]), dy.dtype
    ),
    "channel_scale_backward": lambda r, dy, x, s: (
        r.tensor(x.shape, x.dtype),
        r.tensor(s.shape, s.dtype),
    ),
    "add_backward": lambda r, dy: (dy, dy),
    "concat_backward": lambda r, dy, channels: [
        r.tensor((*dy.shape[:-1], c), dy.dtype) for c in channels
    ],
    "channel_split_backward": lambda r, dy1, dy2: r.tensor(
        (*dy1.shape[:-1], dy1.shape[-1] + dy2.shape[-1]), dy1.dtype
    ),
}


# ---- the net


def skeleton(net: Module, dtype: Any = np.float32) -> Module:
    """Copy a net without its numbers: blank weights, and every layer on its own."""
    memo: dict[int, Any] = {}
    for p in net.parameters():
        twin = copy.copy(p)
        twin._data, twin._dtype, twin._grad = blank(p.shape, dtype), np.dtype(dtype), None
        twin.accumulate = lambda grad: None  # type: ignore[method-assign]
        memo[id(p)] = twin
    bones: Module = copy.deepcopy(net, memo)
    for module in bones.modules():
        if isinstance(module, Sequential):
            module.joined = False
    return bones


@contextmanager
def recording(bones: Module) -> Iterator[Recorder]:
    """Note what a skeleton asks for, inside a ``with``. Changes the skeleton for good."""
    recorder = Recorder()
    recorder.parameters = {id(p.data) for p in bones.parameters()}
    for path, module in bones.named_modules():
        _watch(recorder, path, module)
    before, token = F.name, _recorder.set(recorder)
    F.use("cost")
    try:
        yield recorder
    finally:
        F.use(before)
        _recorder.reset(token)


def _watch(recorder: Recorder, path: str, module: Module) -> None:
    """Let the recorder know when this module is the one that asks, and check that it does."""
    forward, leaf = module.forward, not any(True for _ in module.children())
    own = getattr(module, "cost", None)

    def watched(x: Any, **kwargs: Any) -> Any:
        recorder.path.append((path, module))
        noted = len(recorder.counts)
        try:
            if own is not None:  # a user's own layer, which says itself what it costs
                cost = own(x.shape)
                if id(module) in recorder.counted:
                    cost = replace(cost, params=0)
                recorder.counted.add(id(module))
                recorder.counts.append(
                    Count(path, module, True, type(module).__name__, x.shape, None, 1, cost)
                )
                return recorder.tensor(cost.output, x.dtype)
            y = forward(x, **kwargs)
        except _Uncounted:
            raise TinyshuffleError(_without_cost(path, module)) from None
        finally:
            recorder.path.pop()
        if leaf and y is not x and len(recorder.counts) == noted:
            raise TinyshuffleError(_without_cost(path, module))
        return y

    if own is None:  # so that layers are joined as without it
        vars(watched)["watches"] = getattr(forward, "__func__", forward)
    module.forward = watched  # type: ignore[method-assign]


def _without_cost(path: str, module: Module) -> str:
    name = type(module).__name__
    return (
        f"{path or 'the net'} ({name}) does not say what it costs: give the class {name} these "
        "three lines, with the counts of one forward pass:\n"
        "    def cost(self, x):  # x is a shape\n"
        "        n = math.prod(x)\n"
        "        return tinyshuffle.ops.Cost(output=x, elementwise=n, memory_access=2 * n)"
    )
