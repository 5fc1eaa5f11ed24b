"""Where the time of a training step goes, layer by layer, and how far it is from the roofline.

The net runs as it trains, in slices, one a core. Every operation that a layer asks the backend for
is timed where it happens; a layer's time is the mean over the slices. The same operations say what
they cannot do without: a product for each weight and pixel, and one look at each tensor that goes
in or comes out. What several layers do in one operation, such as a batch norm with the convolution
behind it, stands in the row of the convolution.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from ..backend import F
from ..cost.profile import _KIND_OF, Profile
from ..nn import Module
from .machine import Ceilings
from .sides import Ours

__all__ = ["LayerTime", "LayerTimes", "Sum", "time_layers"]

_OTHER_KINDS = {"concat_shuffle": "shuffle", "overwrite": "shuffle"}


@dataclass(frozen=True)
class LayerTime:
    """What one operation of a layer took in a step, and what it needs at the least.

    Attributes
    ----------
    layer : str
        Where it is in the net.
    operation : str
        Its name in ``tinyshuffle.ops``.
    kind : str
        One of :data:`tinyshuffle.cost.KINDS`.
    forward_seconds, backward_seconds : float
    multiply_adds, backward_multiply_adds : int
    nbytes, backward_nbytes : int
        Of the tensors that go in and come out, each counted once.
    """

    layer: str
    operation: str
    kind: str
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    multiply_adds: int = 0
    backward_multiply_adds: int = 0
    nbytes: int = 0
    backward_nbytes: int = 0

    @property
    def stage(self) -> str:
        """The first part of the layer's name."""
        return self.layer.partition(".")[0]

    @property
    def seconds(self) -> float:
        """Of both passes."""
        return self.forward_seconds + self.backward_seconds

    def least(self, ceilings: Ceilings) -> float:
        """Return the seconds that the roofline allows: the least for each pass, added up."""
        forward = ceilings.seconds(self.multiply_adds, self.nbytes)
        return forward + ceilings.seconds(self.backward_multiply_adds, self.backward_nbytes)


@dataclass(frozen=True)
class Sum:
    """Some rows added up, next to the roofline.

    Attributes
    ----------
    name, operation : str
    forward_seconds, backward_seconds : float
    flops, nbytes : int
        Of both passes; a multiply-add is two.
    roofline_seconds : float
        The least time of each row, added up. Among several, a row whose tensors stay in a cache,
        and that beats the roofline so, counts with the time that it took: it must not make up for
        others.
    """

    name: str
    operation: str
    forward_seconds: float
    backward_seconds: float
    flops: int
    nbytes: int
    roofline_seconds: float

    @property
    def seconds(self) -> float:
        """Of both passes."""
        return self.forward_seconds + self.backward_seconds

    @property
    def attained(self) -> float:
        """The share of the roofline: 1 is a layer that cannot be faster."""
        return self.roofline_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class LayerTimes:
    """The layers' times of a net.

    Attributes
    ----------
    train : bool
        Whether a row holds the backward pass too.
    rows : list of LayerTime
        In the order in which the net runs.
    optimiser_seconds : float
        0 if the net is not trained.
    step_seconds, watched_seconds : float
        A whole step as it runs, and as it ran while its layers were timed.
    """

    train: bool
    rows: list[LayerTime]
    optimiser_seconds: float
    step_seconds: float
    watched_seconds: float

    @property
    def between_seconds(self) -> float:
        """What is neither in a layer nor in the optimiser: Python, and waiting for slices."""
        layers = sum(row.seconds for row in self.rows)
        return max(0.0, self.watched_seconds - self.optimiser_seconds - layers)

    def by(self, what: str, ceilings: Ceilings) -> list[Sum]:
        """Add the rows up by ``"layer"``, ``"unit"``, ``"stage"`` or ``"type"``."""
        if what == "layer":
            return [_add([row], row.layer, row.operation, ceilings) for row in self.rows]
        rows: list[Any] = list(self.rows)  # they have what the profile's grouping asks for
        groups: dict[str, list[Any]] = dict(
            Profile("", (), "float32", "paper", rows, 0, 0).groups(what)
        )
        return [_add(group, name, "", ceilings) for name, group in groups.items()]

    def total(self, ceilings: Ceilings) -> Sum:
        """Add all rows up."""
        return _add(self.rows, "all layers", "", ceilings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> LayerTimes:
        """Return what ``to_dict`` was called on."""
        return LayerTimes(**values | {"rows": [LayerTime(**row) for row in values["rows"]]})


def _add(rows: Sequence[LayerTime], name: str, operation: str, ceilings: Ceilings) -> Sum:
    return Sum(
        name=name,
        operation=operation,
        forward_seconds=sum(row.forward_seconds for row in rows),
        backward_seconds=sum(row.backward_seconds for row in rows),
        flops=sum(2 * (row.multiply_adds + row.backward_multiply_adds) for row in rows),
        nbytes=sum(row.nbytes + row.backward_nbytes for row in rows),
        roofline_seconds=rows[0].least(ceilings) if len(rows) == 1 else sum(
            min(row.seconds, row.least(ceilings)) for row in rows
        ),
    )


def time_layers(side: Ours, rounds: int, warm: int = 3) -> LayerTimes:
    """Time the layers of a net in ``rounds`` steps, after ``warm`` others.

    A row's time is the median over the steps; so are the others.
    """
    train = side.net.training
    watch = _Watch()
    with watch.watching(side.net):
        watch.counting = True
        side.run()
        watch.counting = False
    plain: list[float] = []
    watched: list[float] = []
    optimiser: list[float] = []
    steps: list[dict[_Key, float]] = []
    for _ in range(warm + rounds):
        plain.append(_clock(side.run))
        optimiser.append(0.0)
        watch.events.clear()
        with watch.watching(side.net), _timed(side.sgd, "step", optimiser):
            watched.append(_clock(side.run))
        steps.append(watch.seconds())
    steps = steps[warm:]

    def middle(values: Iterable[float]) -> float:
        return float(np.median(list(values)))

    rows = []
    for path, operation in watch.order():
        forward, backward = (path, operation, False), (path, operation, True)
        needs, backward_needs = watch.needs[forward], watch.needs[backward]
        rows.append(
            LayerTime(
                layer=path,
                operation=operation,
                kind=needs.kind or backward_needs.kind,
                forward_seconds=middle(step.get(forward, 0.0) for step in steps),
                backward_seconds=middle(step.get(backward, 0.0) for step in steps),
                multiply_adds=needs.multiply_adds,
                backward_multiply_adds=backward_needs.multiply_adds,
                nbytes=needs.nbytes,
                backward_nbytes=backward_needs.nbytes,
            )
        )
    return LayerTimes(
        train, rows, middle(optimiser[warm:]), middle(plain[warm:]), middle(watched[warm:])
    )


# ---- looking on

_Key = tuple[str, str, bool]  # layer, operation, whether in the backward pass


@dataclass
class _Needs:
    kind: str = ""
    multiply_adds: int = 0
    nbytes: int = 0


class _Watch:
    """Notes each operation of a net: for which layer, in which pass, and how long it took."""

    def __init__(self) -> None:
        self.counting = False
        self.needs: dict[_Key, _Needs] = defaultdict(_Needs)  # of one step, all slices
        self.events: list[tuple[int, _Key, float]] = []  # append is atomic: threads share it
        self._weights: dict[int, str] = {}
        self._here = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, net: Module) -> Iterator[None]:
        """Watch inside a ``with``: the classes of the net's modules, and the backend."""
        for path, module in net.named_modules():
            module.__dict__["_path"] = path  # the replicas, which are copies, get it too
        # an operation that is given a layer's weights works for that layer; slices share weights
        self._weights = {id(p.data): p.name.rpartition(".")[0] for p in net.parameters()}
        classes = {type(module) for module in net.modules()}
        own = [(c, name, vars(c).get(name)) for c in classes for name in _PASSES]
        found = [(c, name, getattr(c, name)) for c in classes for name in _PASSES]
        for c, name, function in found:
            setattr(c, name, self._follow(function, name == "backward"))
        for name in _operations():
            vars(F)[name] = self._time(name, getattr(F, name))
        try:
            yield
        finally:
            F.use(F.name)  # forgets what was put in front of the operations
            for c, name, before in own:
                if before is None:
                    delattr(c, name)
                else:
                    setattr(c, name, before)

    def _follow(self, function: Callable[..., Any], back: bool) -> Callable[..., Any]:
        """Wrap a pass so that it is known which module is at work in this thread."""

        def follow(module: Module, *args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._here, "at", None)
            self._here.at = module, back
            try:
                return function(module, *args, **kwargs)
            finally:
                self._here.at = outer

        vars(follow)["watches"] = function  # so that layers are joined as without it
        return follow

    def _time(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        operation = _family(name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            module, back = getattr(self._here, "at", None) or (None, name.endswith("_backward"))
            weights = next((a for a in args if id(a) in self._weights), None)
            if weights is not None:
                path = self._weights[id(weights)]
            else:
                path = "loss" if module is None else module.__dict__.get("_path", "")
            key = path, operation, back
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.events.append((threading.get_ident(), key, time.perf_counter() - start))
            if self.counting:
                with self._lock:
                    needs = self.needs[key]
                    needs.kind = needs.kind or _kind(operation, args, weights)
                    y = args[0] if back else result
                    needs.multiply_adds += _multiply_adds(y, weights, back)
                    needs.nbytes += _nbytes([args, list(kwargs.values())], result)
            return result

        return timed

    def seconds(self) -> dict[_Key, float]:
        """Return the time of each operation of one step, the mean over the slices."""
        threads = len({thread for thread, key, _ in self.events if key[0] != "loss"})
        total: dict[_Key, float] = defaultdict(float)
        for _, key, seconds in self.events:
            total[key] += seconds / (1 if key[0] == "loss" else threads)
        return total

    def order(self) -> list[tuple[str, str]]:
        """Return layers and operations as the net runs them forward.

        What only the backward pass does stands next to what else its layer does.
        """
        keys = list(dict.fromkeys(key[:2] for key in self.needs if not key[2]))
        for path, operation, _ in list(self.needs):
            if (path, operation) not in keys:
                same = [i for i, key in enumerate(keys, 1) if key[0] == path]
                keys.insert(same[-1] if same else len(keys), (path, operation))
        return keys


_PASSES = ("forward", "backward")


def _operations() -> list[str]:
    """The names of all operations that a layer may ask for."""
    from .. import kernels  # here, as PyTorch's process imports this file but has no use for numba

    return [
        name
        for name in dir(kernels)
        if name[0].islower()
        and not name.endswith("_cost")
        and name != "sgd_step"  # no layer's: the optimiser's time is taken as a whole
        and callable(getattr(kernels, name))
    ]


def _family(name: str) -> str:
    """The operation that ``name`` is a part of: batch_norm of batch_norm_backward_sums."""
    return "batch_norm" if name.startswith("batch_norm") else name.partition("_backward")[0]


def _kind(operation: str, args: Any, weights: np.ndarray | None) -> str:
    kind = _OTHER_KINDS.get(operation) or _KIND_OF.get(operation)
    if weights is None or weights.ndim < 3:
        return kind or "element-wise"
    if weights.ndim == 3:
        return "depthwise"
    if weights.shape[:2] == (1, 1):
        return "pointwise"
    images = [a for a in _arrays(args) if a.ndim == 4 and a is not weights]
    return "dense" if any(weights.shape[2] == a.shape[-1] for a in images) else "grouped"


def _multiply_adds(y: Any, weights: np.ndarray | None, back: bool) -> int:
    """Each weight meets each pixel of the output once, and twice on the way back."""
    if weights is None or weights.ndim < 2:
        return 0
    y = y if isinstance(y, np.ndarray) else y[0]
    return (2 if back else 1) * prod(y.shape[:-1]) * weights.size


def _nbytes(args: Any, result: Any) -> int:
    """Bytes of what goes in and what comes out, each tensor once.

    A result that lies in an argument is a view of it, or was changed in place: nothing moves but
    the other arguments, which are read and written.
    """
    given, made = {id(a): a for a in _arrays(args)}.values(), list(_arrays(result))
    inside = [a for a in given if any(np.may_share_memory(a, b) for b in made)]
    fresh = [b for b in made if not any(np.may_share_memory(a, b) for a in given)]
    others = [a for a in given if not any(a is b for b in inside)]
    read = sum(a.nbytes for a in others)
    return read * (2 if inside else 1) + sum(b.nbytes for b in fresh)


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)


def _clock(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@contextmanager
def _timed(owner: Any, method: str, seconds: list[float]) -> Iterator[None]:
    """Add what a method of ``owner`` takes to the last of ``seconds``, inside a ``with``."""
    if owner is None:
        yield
        return
    function = getattr(owner, method)

    def timed() -> None:
        start = time.perf_counter()
        function()
        seconds[-1] += time.perf_counter() - start

    setattr(owner, method, timed)
    try:
        yield
    finally:
        delattr(owner, method)
