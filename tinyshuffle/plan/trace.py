"""Run a net on tensors without numbers, and write down every operation that its layers ask for.

A net is run once, forward and through its own hand-written backward, on :class:`Tensor` s, which
have a shape and a dtype and no numbers. The backend (``backend.F``) hands out operations that
compute nothing: each adds a :class:`~tinyshuffle.plan.table.Row` to a list and returns the tensors
that would come out. Nothing is derived: what the list says of the backward pass is what the layers'
backward methods asked for.

A layer that wants numbers (``x * 2`` in a user's own layer) cannot be looked into. It becomes one
row, ``python``, which calls the layer when the plan runs.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..backend import F, backend
from ..errors import TinyshuffleError
from ..nn import Module, Parameter, inference
from ..ops import Cost
from ..ops.pool import winner_type
from ..values import flags
from .table import Buffer, Plan, Row, View

__all__ = ["NeedsNumbers", "NoPlan", "Tensor", "large", "states", "trace"]

_LARGE = 2**20  # bytes of an array that are not compared before every pass


class NeedsNumbers(Exception):
    """Numbers were asked for where there are none."""


class Tensor:
    """What an operation sees of an array while a net is traced: shape, dtype, and where it lies.

    Anything else that a layer wants of it raises :class:`NeedsNumbers`.
    """

    def __init__(self, view: View, dtype: np.dtype) -> None:
        self.view, self.dtype = view, dtype

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what checks whether it is an array lets it pass
        return np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def channels(self, start: int, stop: int) -> Tensor:
        """Look at the channels from ``start`` to ``stop``."""
        v = self.view
        return Tensor(View(v.buffer, (*v.shape[:-1], stop - start), v.start + start), self.dtype)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        known = {np.shape: self.shape, np.ndim: self.ndim, np.size: self.size}
        if function in known:
            return known[function]
        raise NeedsNumbers(f"numpy.{function.__name__}")

    def __array_ufunc__(self, function: Any, *_: Any, **__: Any) -> Any:
        raise NeedsNumbers(f"numpy.{function.__name__}")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NeedsNumbers("numpy.asarray")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsNumbers(f".{name}")


def _refuse(name: str) -> Callable[..., Any]:
    def wants_numbers(self: Tensor, *_: Any) -> Any:
        raise NeedsNumbers(name.strip("_"))

    return wants_numbers


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul"
    " rmatmul iadd isub imul itruediv neg pos abs lt le gt ge eq ne bool float int index iter"
    " getitem setitem and rand or ror xor rxor invert contains"
).split():
    setattr(Tensor, f"__{_name}__", _refuse(f"__{_name}__"))
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]


class _Tracer:
    """The list of rows that grows while a net runs, and the buffers that they speak of."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.buffers: list[Buffer] = []
        self.path: list[str] = []
        self.backward = False

    def tensor(
        self, shape: tuple[int, ...], dtype: Any, role: str = "activation", name: str = ""
    ) -> Tensor:
        """Return a tensor in a buffer of its own."""
        shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype)
        self.buffers.append(Buffer(len(self.buffers), shape, dtype.name, role, name))
        return Tensor(View(len(self.buffers) - 1, shape), dtype)

    def rename(self, tensor: Tensor, role: str, name: str) -> None:
        """Say what a buffer is to the net."""
        b = self.buffers[tensor.view.buffer]
        self.buffers[b.index] = Buffer(b.index, b.shape, b.dtype, role, name)

    def row(
        self,
        operation: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        results: tuple[Any, ...],
        cost: Cost | None = None,
    ) -> None:
        """Write down an operation."""
        adds = elementwise = 0
        if cost is not None:
            adds = cost.backward_multiply_adds if self.backward else cost.multiply_adds
            elementwise = cost.backward_elementwise if self.backward else cost.elementwise
        self.rows.append(
            Row(
                operation, self.path[-1] if self.path else "", self.backward,
                _seen(args), _seen(results), _seen(kwargs), None if self.backward else cost,
                adds, elementwise, operation in _SUMS,
            )
        )  # fmt: skip


def _seen(value: Any) -> Any:
    """The same arguments, with the view of each tensor in its place."""
    if type(value) is Tensor:
        return value.view
    if isinstance(value, np.ndarray):
        raise NeedsNumbers("an array that no operation has made")
    if isinstance(value, list) and all(type(v) is int for v in value):  # a shape, a stride
        return tuple(value)
    if isinstance(value, list | tuple):
        return type(value)(_seen(v) for v in value)
    if isinstance(value, dict):
        return {k: _seen(v) for k, v in value.items()}
    return value


def _shapes(value: Any) -> Any:
    if type(value) is Tensor:
        return value.shape
    if isinstance(value, list | tuple):
        return type(value)(map(_shapes, value))
    return value


# ---- the operations that compute nothing

_SUMS = ("batch_norm_sums", "batch_norm_backward_sums")  # over the batch
_OF_CHANNELS = (*_SUMS, "batch_norm_statistics", "batch_norm_track", "batch_norm_gradients")


class Tracing:
    """Stands in for ``ops``: every function of it writes a row and returns empty tensors."""

    def __init__(self, tracer: _Tracer) -> None:
        self.tracer = tracer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or not hasattr(ops, name):
            raise AttributeError(name)
        tracer, rule = self.tracer, _RESULTS.get(name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            _check(name, args, kwargs)
            if name == "channel_split":  # two views: nothing is written
                x, first = args
                tracer.row(name, args, kwargs, (), _cost(name, args, kwargs))
                return x.channels(0, first), x.channels(first, x.shape[-1])
            if name == "add_backward":  # both sides get what came
                return args[0], args[0]
            cost = _cost(name, args, kwargs)
            if rule is None:
                if cost is None:
                    raise NeedsNumbers(f"{name}, whose results have no known shapes")
                first = args[0][0] if isinstance(args[0], list | tuple) else args[0]
                shapes = [(cost.output, first)]
            else:
                shapes = rule(*args, **kwargs)
            role = "sums" if name in _OF_CHANNELS else "activation"
            # a bias's gradient may be as long as the batch, and is not one number an image
            roles = [role, "weights", "weights"] if rule is _conv_backward else [role] * len(shapes)
            results = tuple(
                tracer.tensor(shape, of.dtype if type(of) is Tensor else of, what)
                for (shape, of), what in zip(shapes, roles, strict=True)
            )
            tracer.row(name, args, kwargs, results, cost)
            if name in _LISTS:
                return list(results)
            return results[0] if len(results) == 1 else results

        return operation


def _check(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Let an operation check its arguments, as it does first of all; then it wants numbers."""
    if name in ("dropout_mask", "batch_norm_track"):  # these have numbers of their own
        return
    try:
        getattr(ops, name)(*args, **kwargs)
    except NeedsNumbers:
        pass


def _cost(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cost | None:
    """What an operation costs, or of a backward operation, what its forward operation does."""
    forward = getattr(ops, name + "_cost", None)
    if forward is not None:
        return forward(*map(_shapes, args), **kwargs)
    if name.endswith("conv2d_backward") or name == "linear_backward":
        dy, x, w, *rest = args
        forward = getattr(ops, name.removesuffix("_backward") + "_cost")
        geometry = () if name == "linear_backward" else rest[: 1 if name.startswith("point") else 4]
        geometry = geometry[:3] if name.startswith("depthwise") else geometry
        return forward(x.shape, w.shape, None, *geometry)
    return None


def _like(*arguments: int) -> Callable[..., list[Any]]:
    """Results that look like these arguments."""
    return lambda *args, **kwargs: [(args[i].shape, args[i].dtype) for i in arguments]


def _conv_backward(dy: Any, x: Any, w: Any, *_: Any, **__: Any) -> list[Any]:
    return [(x.shape, x.dtype), (w.shape, w.dtype), (dy.shape[-1:], w.dtype)]


def _shape_of(argument: int) -> Callable[..., list[Any]]:
    return lambda *args, **kwargs: [(args[argument], args[0].dtype)]


_LISTS = ("concat_backward",)
_RESULTS: dict[str, Callable[..., list[Any]]] = {
    "max_pool2d": lambda x, kernel, *a: [
        (y := ops.max_pool2d_cost(x.shape, kernel, *a).output, x.dtype), (y, winner_type(kernel))
    ],
    "batch_norm_sums": lambda x: [((3, x.shape[-1]), np.float64)],
    "batch_norm_statistics": lambda sums: [(sums.shape[1:], np.float64)] * 2,
    "batch_norm_track": lambda mean, var, tracked, *_: [
        (mean.shape, mean.dtype), (var.shape, var.dtype), (tracked.shape, tracked.dtype)
    ],
    "batch_norm_gradients": lambda sums, dtype: [(sums.shape[1:], dtype)] * 2,
    "dropout_mask": lambda rng, shape, p, dtype: [(shape, dtype)],
    # backward: what comes out has the shape of these arguments
    "conv2d_backward": _conv_backward,
    "pointwise_conv2d_backward": _conv_backward,
    "depthwise_conv2d_backward": _conv_backward,
    "linear_backward": _conv_backward,
    "batch_norm_backward_sums": lambda dy, *_, **__: [((2, dy.shape[-1]), np.float64)],
    "batch_norm_backward": _like(0),
    "batch_norm_eval_backward": _like(0),
    "relu_backward": _like(0),
    "relu6_backward": _like(0),
    "sigmoid_backward": _like(0),
    "tanh_backward": _like(0),
    "dropout_backward": _like(0),
    "channel_shuffle_backward": _like(0),
    "max_pool2d_backward": _shape_of(2),
    "avg_pool2d_backward": _shape_of(1),
    "global_avg_pool_backward": _shape_of(1),
    "adaptive_avg_pool2d_backward": _shape_of(1),
    "flatten_backward": _shape_of(1),
    "local_response_norm_backward": _like(0),
    "pad_end_backward": lambda dy, bottom, right: [
        ((dy.shape[0], dy.shape[1] - bottom, dy.shape[2] - right, dy.shape[3]), dy.dtype)
    ],
    "channel_scale_backward": _like(1, 2),
    "concat_backward": lambda dy, channels: [((*dy.shape[:-1], c), dy.dtype) for c in channels],
    "channel_split_backward": lambda dy1, dy2: [
        ((*dy1.shape[:-1], dy1.shape[-1] + dy2.shape[-1]), dy1.dtype)
    ],
}  # fmt: skip


# ---- the net


class NoPlan(TinyshuffleError):
    """A net that cannot be looked into; its layers can run themselves."""


class _Opaque(Exception):
    """A layer that cannot be looked into."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason


class _Weight(Parameter):
    """A parameter without numbers, which notes where its gradient comes from."""

    def __init__(self, of: Parameter, tracer: _Tracer, dtype: np.dtype) -> None:
        super().__init__(of.shape, of._draw)
        self.name, self._dtype, self.tracer = of.name, dtype, tracer
        self.tensor = tracer.tensor(of.shape, dtype, "parameter", of.name)
        self.sum: Tensor | None = None

    @property  # type: ignore[misc]
    def data(self) -> Any:
        return self.tensor

    def accumulate(self, grad: Any) -> None:
        self._check_shape(grad)
        if self.sum is None:
            if self.tracer.buffers[grad.view.buffer].role == "gradient":
                raise NeedsNumbers("one gradient of two parameters")
            self.tracer.rename(grad, "gradient", self.name)
            self.sum = grad
        else:  # several layers share it
            self.tracer.row("accumulate", (self.sum, grad), {}, (self.sum,))


@flags
def trace(
    net: Module,
    shape: tuple[int, ...],
    dtype: Any = np.float32,
    train: bool | None = None,
    weights: Any = None,
    probe: bool = True,
) -> Plan:
    """Return the plan of a step, as the layers wrote it.

    Parameters
    ----------
    net : Module
        It is not changed, and none of its numbers is looked at.
    shape : (N, H, W, C)
    dtype : float32 or float64
        Of the images.
    train : bool, optional
        Forward and backward in training, or forward in evaluation; the modes that the layers are
        in, unless given.
    weights : float32 or float64, optional
        As if the parameters had this type; their own, unless given.
    probe : bool
        A layer that computes by itself and does not say what it costs is asked for the shape of
        its output with an image of zeros; without this it is refused.

    Raises
    ------
    NoPlan
        If the net cannot be looked into, such as one whose own ``forward`` looks at numbers.
    TinyshuffleError
        If the input does not fit the net.
    """
    opaque: dict[str, str] = {}
    draws = 0
    while True:
        try:
            return _Trace(net, opaque, probe).run(shape, dtype, train, weights)
        except _Opaque as found:
            draws += found.reason == _DRAWS
            if found.reason == _DRAWS and draws < 3:
                continue  # another thread may have drawn, such as one of Dask's; a layer does again
            if found.path in opaque:  # it is a row already: who calls it wants numbers
                found.path = found.path.rpartition(".")[0]
            if not found.path and (probe or "" in opaque):
                raise NoPlan(f"this net has no plan: {found.reason}") from found
            opaque[found.path] = found.reason


_DRAWS = "it draws random numbers"


class _Trace:
    def __init__(self, net: Module, opaque: dict[str, str], probe: bool) -> None:
        self.net, self.opaque, self.probe = net, opaque, probe
        self.tracer = _Tracer()
        self.before: dict[str, dict[str, Any]] = {}  # the layers' attributes

    def run(
        self, shape: tuple[int, ...], dtype: Any, train: bool | None, weights: Any
    ) -> Plan:
        tracer = self.tracer
        # its layers take our tensors for arrays
        bones: Any = self._skeleton(None if weights is None else np.dtype(weights), train)
        train, no_backward = bones.training if train is None else train, None
        x = tracer.tensor(shape, dtype, "input")
        with _tracing(tracer), _nobody_draws():
            if train:
                y = bones(x)
                dy = tracer.tensor(y.shape, y.dtype, "output's gradient")
                tracer.backward = True
                try:
                    dx = bones.backward(dy)
                except TinyshuffleError as error:  # nobody may ever ask for it
                    no_backward, dx = error, None
                    tracer.rows = [row for row in tracer.rows if not row.backward]
            else:
                with inference():
                    y, dx = bones(x), None
        for path, module in bones._tree(""):
            self._check_unchanged(path, module)
            for buffer in module.buffers:  # new running statistics
                value = getattr(module, buffer)
                if tracer.buffers[value.view.buffer].role != "state":
                    tracer.rename(value, "state", f"{path}.{buffer}" if path else buffer)
        reasons = tuple(
            f"{path or 'the net'} is a row of its own in Python: {reason}"
            for path, reason in self.opaque.items()
        )
        return Plan(
            type(self.net).__name__, tuple(shape), np.dtype(dtype).name, train,
            tuple(tracer.rows), tuple(tracer.buffers), y.view,
            None if dx is None else dx.view, reasons, no_backward,
        )  # fmt: skip

    def _skeleton(self, dtype: np.dtype | None, train: bool | None) -> Module:
        """Copy the layers, without a number of theirs, and watch who asks for what."""
        memo: dict[int, Any] = {}
        for p in self.net.parameters():
            memo[id(p)] = _Weight(p, self.tracer, dtype or p.dtype)
        for path, module in self.net._tree(""):
            for array in large(module):
                memo[id(array)] = array
                self.opaque.setdefault(path, "it holds an array too large to look at every time")
        try:
            bones: Module = copy.deepcopy(self.net, memo)
        except Exception as error:  # a lock, an open file
            raise NoPlan(f"this net has no plan: it cannot be copied ({error})") from error
        if train is not None:
            for _, module in bones._tree(""):
                module.training = train
        originals = dict(self.net.named_modules())
        for path, module in list(bones._tree("")):
            for name in module.buffers:
                value = getattr(originals[path], name)
                full = f"{path}.{name}" if path else name
                kind = dtype if dtype and value.dtype.kind == "f" else value.dtype
                setattr(module, name, self.tracer.tensor(value.shape, kind, "state", full))
            self._watch(path, module, originals[path])
        return bones

    def _check_unchanged(self, path: str, module: Module) -> None:
        """A layer that changes itself as it runs, such as one that counts its calls, has to run."""
        if path in self.opaque:
            return
        for name, state in states(module).items():
            if self.before[path].get(name) != state:
                raise _Opaque(path, f"it changes its own {name}")

    def _watch(self, path: str, module: Module, original: Module) -> None:
        tracer, ours = self.tracer, type(original).__module__.startswith("tinyshuffle.")
        replaced = [n for n in ("forward", "backward") if n in vars(original)]
        if replaced and path not in self.opaque:
            self.opaque[path] = f"its {replaced[0]} was replaced"
        if hasattr(original, "cost"):
            self.opaque.setdefault(path, "it says itself what it costs")
            if not path and self.probe:
                raise _Opaque(path, self.opaque[path])
        if path in self.opaque:
            forward, backward = self._python(path, original)
        else:
            forward, backward = module.forward, module.backward

        def watch(function: Callable[..., Any]) -> Callable[..., Any]:
            def watched(x: Any, *args: Any, **kwargs: Any) -> Any:
                tracer.path.append(path)
                rows = len(tracer.rows)
                try:
                    y = function(x, *args, **kwargs)
                except (_Opaque, TinyshuffleError):
                    raise
                except NeedsNumbers as wish:
                    raise _Opaque(path, f"it computes by itself ({wish})") from None
                except Exception as error:
                    raise _Opaque(path, f"{type(error).__name__}: {error}") from error
                finally:
                    tracer.path.pop()
                if type(y) is not Tensor:
                    raise _Opaque(path, "what it returns was not made by an operation")
                if len(tracer.rows) == rows and not ours:
                    raise _Opaque(path, "it asks for no operation, so it does something else")
                return y

            return watched

        module.forward = watch(forward)  # type: ignore[method-assign]
        module.backward = watch(backward)  # type: ignore[method-assign]
        self.before[path] = states(module)

    def _python(self, path: str, original: Module) -> tuple[Callable[..., Any], ...]:
        """The two passes of a layer that computes by itself, as rows."""
        tracer, shapes = self.tracer, list[Any]()

        def forward(x: Tensor) -> Tensor:
            says = getattr(original, "cost", None)
            cost = says(x.shape) if says is not None else None
            if cost is None and not self.probe:
                raise TinyshuffleError(_without_cost(path, original))
            shape = cost.output if cost is not None else _probe(original, x)
            y = tracer.tensor(shape, x.dtype)
            shapes.append(x)
            tracer.row("python", (x,), {}, (y,), cost)
            return y

        def backward(dy: Tensor) -> Tensor:
            x = shapes.pop()
            dx = tracer.tensor(x.shape, x.dtype)
            tracer.row("python", (dy,), {}, (dx,))
            return dx

        return forward, backward


def large(module: Module) -> list[np.ndarray]:
    """Return the arrays of a layer, its weights and statistics apart, that are large."""
    mine = vars(module).items()
    return [
        value
        for name, value in mine
        if type(value) is np.ndarray and value.nbytes > _LARGE and name not in module.buffers
    ]


def states(module: Module) -> dict[str, Any]:
    """Return what a layer's own attributes hold, as values that can be compared later.

    Parameters, running statistics, and what a pass saves are not among them.
    """
    mine = vars(module).items()
    passing = {*module.buffers, "_saved", "_saver", "_replaced"}
    return {name: _state(value, ()) for name, value in mine if name not in passing}


def _state(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value), value
    if callable(value):  # a generator's method draws from it
        value = getattr(value, "__self__", value)
    if isinstance(value, np.random.RandomState | random.Random):
        return id(value), repr(value.__reduce__())
    if isinstance(value, Module | Parameter) or callable(value) or id(value) in above:
        return id(value)
    if type(value) is np.ndarray:
        return id(value), value.tobytes()
    if isinstance(value, np.random.Generator):
        return id(value), repr(value.bit_generator.state)
    if isinstance(value, dict):
        parts: Any = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = value
    else:
        parts = vars(value).values() if hasattr(value, "__dict__") else ()
    return id(value), [_state(part, (*above, id(value))) for part in parts]


@contextmanager
def _nobody_draws() -> Iterator[None]:
    """Refuse a net that draws from the generators that everybody shares, inside a ``with``."""
    before = random.getstate(), np.random.get_state()
    try:
        yield
        if (random.getstate(), repr(np.random.get_state())) != (before[0], repr(before[1])):
            raise _Opaque("", _DRAWS)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _probe(layer: Module, x: Tensor) -> tuple[int, ...]:
    """Ask a copy of a layer what shape comes out."""
    twin, tracing = copy.deepcopy(layer), dict(vars(F))
    try:
        with inference(), backend("numpy"):
            return np.shape(twin.forward(np.zeros(x.shape, x.dtype)))
    finally:
        F.follow(tracing)


def _without_cost(path: str, layer: Module) -> str:
    name = type(layer).__name__
    return (
        f"{path or 'the net'} ({name}) does not say what it costs: give the class {name} these "
        "three lines, with the counts of one forward pass:\n"
        "    def cost(self, x):  # x is a shape\n"
        "        n = math.prod(x)\n"
        "        return tinyshuffle.ops.Cost(output=x, elementwise=n, memory_access=2 * n)"
    )


@contextmanager
def _tracing(tracer: _Tracer) -> Iterator[None]:
    """Let the layers ask the tracer, in this thread, inside a ``with``."""
    before = dict(vars(F))
    F.use("trace")
    vars(F).update((name, getattr(Tracing(tracer), name)) for name in _operations())
    try:
        yield
    finally:
        F.follow(before)


@cache
def _operations() -> list[str]:
    return [
        name
        for name, value in vars(ops).items()
        if inspect.isfunction(value) and not name.endswith("_cost") and not name.startswith("sgd_")
    ]
