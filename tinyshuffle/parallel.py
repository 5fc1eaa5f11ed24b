"""A net that runs as a plan, a slice of each batch on each core.

The net is traced once for a shape, a mode and a number of threads (``plan.trace``), fused
(``plan.fuse``) and from then on played (``plan.play``). Layers are serial and know nothing of this.
The slices meet only where the mathematics makes them: batch norm's sums are added over the slices,
so that every slice is normalised with the statistics of the whole batch, and so are the gradients
of the parameters. Both are added in slice order, so the same number of slices gives the same bits.
There are as many as threads were asked for, but no more than cores: those beyond would only take
turns.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import cache
from math import prod
from typing import Any, Literal, overload
from weakref import WeakSet

import numpy as np

from . import blas
from .backend import F
from .errors import TinyshuffleError
from .nn import BatchNorm2d, Module, Parameter, inference
from .nn.check import check_net
from .ops.arguments import check_real
from .plan import NoPlan, Plan, Player, cut, fuse, large, place, states, trace, worthwhile
from .ranks import Ranks, current
from .values import flags, whole

__all__ = [
    "DataParallel", "cores_of", "get_num_threads", "num_threads", "set_num_threads", "usable_cores",
]  # fmt: skip

_num_threads: int | None = None
_SHAPES = 8  # of batches whose players are kept; each has memory of its own
_KEPT = 3  # states of a net whose plans are kept: in training, in evaluation, and one more


def get_num_threads() -> int:
    """Return how many cores a net may use, unless set: :func:`usable_cores`.

    Of several ranks on a machine (:func:`tinyshuffle.ranks.ranks`) each has its share of these.
    """
    if _num_threads is not None:
        return _num_threads
    ranks = current()
    return usable_cores() if ranks is None else max(1, cores_of(ranks) // ranks.here)


def set_num_threads(n: int | None) -> None:
    """Set how many cores a net may use; None means all.

    Asking for more than :func:`usable_cores` is the same as asking for all.
    """
    global _num_threads
    if n is not None:
        cores = whole(n)
        if cores is None or cores < 1:
            raise TinyshuffleError(
                f"cannot use {n!r} threads; give a whole number from 1 up, or None for all cores"
            )
        n = cores
    _num_threads = n


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Within this context a net may use so many cores; behind it, what was set before holds again.

    Where nothing was set, nothing is: how many cores there are for a net may have changed, as it
    does behind :func:`tinyshuffle.ranks.ranks`.
    """
    before = _num_threads
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def usable_cores() -> int:
    """Return how many cores this process may keep busy.

    Those that it may run on, or what a container's share of time (its cgroup) comes to, if that is
    less.
    """
    return _cores(_allowed())


def cores_of(ranks: Ranks) -> int:
    """Return how many cores all ranks of this machine together may keep busy."""
    usable = usable_cores()
    # a container's share of time is for all of them; else each may have cores of its own
    return usable if usable < _allowed() else ranks.cores


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache  # reading a container's share takes longer than a layer, and it is given for good
def _cores(allowed: int) -> int:
    if allowed == 1:
        return 1
    from joblib import cpu_count

    return min(allowed, cpu_count())


class DataParallel(Module):
    """A net that runs as a plan, each batch cut into as many slices as there are threads.

    It stands in for the net: parameters, state, modes and attributes are the net's own. A plan
    (:mod:`tinyshuffle.plan`) is made when a batch of another shape, another mode or another number
    of threads first comes, and again when a layer was exchanged or changed.

    Parameters
    ----------
    net : Module
        In evaluation each image's output must not depend on the other images.

    Notes
    -----
    The result is that of the net alone on the whole batch, up to rounding. In evaluation nothing
    is kept for a backward pass, and each slice is walked in chunks that are small enough for a
    core's cache; a single image is shared by the cores, some of its pixels each. With
    ``ts.backend("numpy")`` the layers run themselves, one after the other.
    """

    _OWN = ("net", "_lock", "_alone", "_made", "_now", "_seen", "_saved", "_saver", "_replaced")

    def __init__(self, net: Module) -> None:
        check_net(net)
        self.net = net
        self._lock = threading.RLock()  # one pass at a time, whoever calls
        self._alone: WeakSet[Module] = WeakSet()  # layers that run themselves, whatever they hold
        self._made: dict[Any, _Plans] = {}  # by what they were made of
        self._now = _Plans()
        self._seen: Any = None  # when the layers were looked at
        _nets.add(self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the net's output for the batch ``x``; the first axis is the images'."""
        if F.name == "trace":  # this net stands inside of another one
            return self.net(x)
        check_real(x)
        if x.ndim == 0 or len(x) == 0:
            raise TinyshuffleError("the net got an empty batch; give it at least one image")
        if x.size == 0:
            raise TinyshuffleError(
                f"the net got a batch of shape {x.shape}, in which there is nothing; "
                "give images with at least one pixel and one channel"
            )
        with self._lock:
            self._saved = None
            if F.name == "numpy":
                return self._by_layers(x)
            self._look()
            try:
                if not self.training:
                    return self._infer(x)
                plan = self._plan(x.shape, x.dtype)
                ranks = _sharing(plan, len(x))
                together = ranks is None or ranks.sync_bn
                mine = x if ranks is None or together else x[ranks.part(len(x))]
                slices = worthwhile(plan, _slices(), 1 / (1 if ranks is None else ranks.size))
                player = self._player(mine.shape, x.dtype, slices, 0, False, ranks, together)
            except NoPlan:
                return self._by_layers(x)
            changes = Module.changes
            with blas.limit(1):
                out = player.forward(mine)
            backward: Callable[[np.ndarray, bool], np.ndarray | None] = player.backward
            if ranks is not None:
                out = ranks.gather(out[ranks.part(len(x))] if together else out, len(x))
                backward = _of_my_images(player, ranks, together)
            # a layer may have changed itself on its way
            layers = self._now.layers
            if Module.changes != changes:
                layers = _layers(self.net, self._alone)
            self.save(self._unless_changed(backward, layers), out.shape)
        return out

    @overload
    def backward(self, dy: np.ndarray, images: Literal[True] = True) -> np.ndarray: ...

    @overload
    def backward(self, dy: np.ndarray, images: bool) -> np.ndarray | None: ...

    @flags
    def backward(self, dy: np.ndarray, images: bool = True) -> np.ndarray | None:
        """Add to the parameters' gradients and return the gradient of the batch.

        Training has no use for that: with ``images=False`` it is not worked out, and None comes
        back.
        """
        if F.name == "trace":
            return self.net.backward(dy)
        with self._lock:
            if not self.training:
                raise TinyshuffleError(
                    "in evaluation nothing is kept for a backward pass; "
                    "call net.train() before the forward pass"
                )
            waiting = self._saved
            if waiting is None:
                raise TinyshuffleError(
                    "backward was called before forward, or twice after one forward, or the last "
                    "forward pass was one in evaluation or was refused; call the net in training "
                    "before each backward"
                )
            backward, shape = self.saved()
            self._saved = waiting  # for the right gradient
            if shape is not None:
                check_real(dy)
            if shape is not None and np.shape(dy) != shape:
                what = f"has shape {np.shape(dy)}, and the forward pass returned {shape}"
                if len(np.shape(dy)) == len(shape) and np.shape(dy)[1:] == shape[1:]:
                    what = f"is for {len(dy)} images, and the forward pass had {shape[0]}"
                raise TinyshuffleError(f"the gradient {what}; give the gradient of that pass")
            self._saved = None
            with blas.limit(1):
                dx: np.ndarray | None = backward(dy, images)
        return dx if images else None

    def _unless_changed(
        self, backward: Callable[[Any, bool], Any], layers: tuple[Any, ...]
    ) -> Callable[[Any, bool], Any]:
        """A way back that is refused if the layers are not those of the way forward any more."""
        changes = Module.changes

        def checked(dy: np.ndarray, images: bool) -> Any:
            if Module.changes != changes and _layers(self.net, self._alone) != layers:
                raise TinyshuffleError(
                    "a layer was exchanged, or its mode or an argument changed, since the forward "
                    "pass; call the net again, and then backward"
                )
            return backward(dy, images)

        return checked

    @flags
    def plan(self, shape: tuple[int, ...], train: bool = True, as_written: bool = False) -> Plan:
        """Return a step as a table, without running it; ``print`` it.

        Parameters
        ----------
        shape : (N, H, W, C)
        train : bool
            A training step, or a forward pass in evaluation.
        as_written : bool
            The rows as the layers wrote them, before they are fused.

        >>> from tinyshuffle import models
        >>> net = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
        >>> net.plan((8, 32, 32, 3), train=False).meetings
        0
        """
        sides = [whole(n) for n in shape] if isinstance(shape, list | tuple) else []
        if len(sides) < 2 or not all(n is not None and n > 0 for n in sides):
            raise TinyshuffleError(
                f"shape={shape!r} is not possible: give the batch's, such as (8, 32, 32, 3)"
            )
        written = trace(self.net, tuple(sides), train=train)  # type: ignore[arg-type]
        return place(written if as_written else fuse(written))

    def _by_layers(self, x: np.ndarray) -> np.ndarray:
        """Let the layers run themselves."""
        if self.training:
            out = self.net(x)
            self.save(lambda dy, _: self.net.backward(dy), getattr(out, "shape", None))
            return out
        with inference():
            return self.net(x)

    def _infer(self, x: np.ndarray) -> np.ndarray:
        chunk = _chunk(x.shape, cut(len(x), _slices()))
        try:
            plan = self._plan((chunk, *x.shape[1:]), x.dtype)
        except NoPlan:
            raise
        except TinyshuffleError:  # of the batch that was given, it may say so, or be right
            return self._whole(x)
        if plan.reasons or not plan.by_image or self._now.trains:
            return self._whole(x)
        ranks = _sharing(plan, len(x))
        if ranks is None:
            return self._by_images(x, plan)
        return ranks.gather(self._by_images(x[ranks.part(len(x))], plan), len(x))

    def _by_images(self, x: np.ndarray, plan: Plan) -> np.ndarray:
        """Evaluate images by themselves; the plan is for some of them."""
        sharing = worthwhile(plan, _slices(), 1, len(plan.rows)) if len(x) == 1 else 1
        if sharing > 1:
            player = self._player(x.shape, x.dtype, sharing, by_pixels=True)
            with blas.limit(1) if player.slices[0].records.python else nullcontext():
                return player.forward(x)
        slices = min(len(x), _slices())
        parts = cut(len(x), worthwhile(plan, slices, len(x) / plan.shape[0]))
        chunk = _chunk(x.shape, parts)
        players = [
            self._player((chunk, *x.shape[1:]), x.dtype, 1, rank) for rank in range(len(parts))
        ]

        taken: list[int] | None = [] if len(parts) > 1 else None  # cores

        def walk(rank: int) -> list[np.ndarray]:
            found = []
            for first in range(parts[rank].start, parts[rank].stop, chunk):
                # the last images are taken with some before them: to trace, fuse and lay out a plan
                # for their number takes longer than that, and each has memory of its own
                start = min(first, len(x) - chunk)
                y = players[rank].forward(x[start : start + chunk], taken)
                found.append(y[first - start : parts[rank].stop - start])
            return found

        if len(parts) == 1:
            with blas.limit(1):
                return np.concatenate(walk(0))
        with ThreadPoolExecutor(len(parts) - 1, "tinyshuffle") as threads, blas.limit(1):
            ranks = range(1, len(parts))
            others = [threads.submit(copy_context().run, walk, rank) for rank in ranks]
            return np.concatenate([*walk(0), *(y for other in others for y in other.result())])

    def _whole(self, x: np.ndarray) -> np.ndarray:
        """Evaluate all images together, as something in the net has to see all of them."""
        ranks = _sharing(self._plan(x.shape, x.dtype), len(x))
        player = self._player(x.shape, x.dtype, _slices(), ranks=ranks)
        with blas.limit(1):
            out = player.forward(x)
        return out if ranks is None else ranks.gather(out[ranks.part(len(x))], len(x))

    def _plan(self, shape: tuple[int, ...], dtype: Any) -> Plan:
        """The plan for batches of this shape, in the mode that the layers are in."""
        key, plans = (shape, np.dtype(dtype)), self._now.plans
        if key not in plans:
            _make_room(plans, 4 * _SHAPES)
            try:
                plans[key] = plan = fuse(trace(self.net, shape, dtype))
                alone = {row.layer for row in plan.rows if row.operation == "python"}
            except NoPlan as error:  # nor will there be one the next time
                plans[key], alone = error, {""}
            self._let_alone(alone)
        found = plans[key]
        if isinstance(found, NoPlan):
            raise found
        return found

    def _look(self) -> None:
        """Take the plans that were made of the layers as they are, or begin anew."""
        if self._seen is not None:
            changes, kinds, mutable = self._seen
            if (
                changes == Module.changes
                and all(k.forward is passes[0] and k.backward is passes[1] for k, passes in kinds)
                and all(_passes(k) == passes for k, passes in kinds if len(passes) > 2)
                and all(states(module) == before for module, before in mutable)
            ):
                return
        changes = Module.changes  # beforehand: what another thread changes now is looked at again
        layers = _layers(self.net, self._alone)
        self._now = self._made.pop(layers) if layers in self._made else _Plans(layers)
        self._now.trains = any(module.training for _, module in self.net._tree(""))
        self._made[layers] = self._now  # the newest is the last
        for old in list(self._made)[: -_KEPT]:
            del self._made[old]
        self._seen = changes, _kinds(self.net), _mutable(self.net, self._alone)

    def _let_alone(self, paths: set[str]) -> None:
        """Look no more at what these layers hold, and those in them: each pass may change it."""
        inside = tuple(f"{path}." if path else "" for path in paths)
        found = {
            module
            for path, module in self.net._tree("")
            if path in paths or (inside and path.startswith(inside))
        }
        if not all(module in self._alone for module in found):
            self._alone.update(found)
            self._made = {k: plans for k, plans in self._made.items() if plans is not self._now}
            self._now.layers = _layers(self.net, self._alone)
            self._made[self._now.layers], self._seen = self._now, None

    def _player(
        self, shape: tuple[int, ...], dtype: Any, slices: int, rank: int = 0,
        by_pixels: bool = False, ranks: Ranks | None = None, together: bool = True,
    ) -> Player:  # fmt: skip
        """The plan for batches of this shape, ready to run; ``rank`` tells several apart."""
        plan = self._plan(shape, dtype)
        players = self._now.players
        key = shape, np.dtype(dtype), slices, rank, by_pixels, ranks, together
        if key not in players:
            if _make_room(players, _SHAPES):
                gc.collect()  # a player and its slices know each other
            players[key] = Player(self.net, plan, slices, by_pixels, ranks, together)
        players[key] = players.pop(key)  # the newest is the last
        return players[key]

    def _after_fork(self) -> None:
        """Go on in a forked process, which has a copy of everything but of the other threads."""
        mine = self._lock.acquire(blocking=False)
        self._lock = threading.RLock()
        if not mine:  # another thread was in the middle of a pass
            self._made, self._now, self._seen, self._saved = {}, _Plans(), None, None
        for plans in self._made.values():
            for player in plans.players.values():
                player.start()

    # ---- the rest is the net's own

    def _tree(self, prefix: str) -> Iterator[tuple[str, Module]]:
        return self.net._tree(prefix)

    def children(self) -> Iterator[tuple[str, Module]]:
        return self.net.children()

    def __getattr__(self, name: str) -> Any:
        if name in self._OWN or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.net, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.net, name, value)

    @property
    def training(self) -> bool:  # type: ignore[override]
        return self.net.training

    def __reduce__(self) -> tuple[Any, ...]:  # for copies and pickles
        return type(self), (self.net,)

    def __repr__(self) -> str:
        return repr(self.net)


_nets: WeakSet[DataParallel] = WeakSet()


def _after_fork() -> None:
    for net in list(_nets):
        net._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _slices() -> int:
    return min(get_num_threads(), usable_cores())


def _sharing(plan: Plan, n: int) -> Ranks | None:
    """The ranks among which ``n`` images are shared; None: this process does all of them."""
    ranks = current()
    if ranks is None or ranks.size == 1 or n < ranks.size or not plan.by_image:
        return None
    return ranks


def _of_my_images(
    player: Player, ranks: Ranks, together: bool
) -> Callable[[np.ndarray, bool], np.ndarray | None]:
    """A way back for the gradient of the whole batch; other ranks' images have NaN."""

    def backward(dy: np.ndarray, images: bool) -> np.ndarray | None:
        part = ranks.part(len(dy))
        mine = player.backward(dy if together else dy[part], images)
        if mine is None:
            return None
        dx = np.full((len(dy), *mine.shape[1:]), np.nan, mine.dtype)
        dx[part] = mine[part] if together else mine
        return dx

    return backward


def _chunk(shape: tuple[int, ...], parts: Sequence[slice]) -> int:
    """How many images of this shape to take through the net at a time in evaluation.

    So many that they stay in a core's cache, but four if they are not too large: weights are laid
    out, and rows begun, once for all of them. All chunks are of one length, that of one plan:
    as short as the number of chunks allows, as the last one takes images anew that it lacks.
    """
    pixels = prod(shape[1:3]) if len(shape) == 4 else 1
    most = max(1, 32 * 32 * 32 // pixels, min(4, 256 * 256 * 4 // pixels))
    longest = max(part.stop - part.start for part in parts)
    return -(-longest // -(-longest // most))


def _make_room(kept: dict[Any, Any], shapes: int) -> bool:
    """Forget what was kept for the oldest shape, if there are that many."""
    there = list(dict.fromkeys(key[0] for key in kept))
    if len(there) < shapes:
        return False
    for key in [key for key in kept if key[0] == there[0]]:
        del kept[key]
    return True


class _Plans:
    """The plans of a net whose layers are as they were when these were made, and their players."""

    def __init__(self, layers: tuple[Any, ...] = ()) -> None:
        self.layers = layers
        self.plans: dict[Any, Plan | NoPlan] = {}
        self.players: dict[Any, Player] = {}
        self.trains = False  # whether a layer is in training, even if the net is not


def _layers(net: Module, alone: WeakSet[Module]) -> tuple[Any, ...]:
    """What a plan depends on: the layers, their arguments, modes and passes, and the weights.

    And of what shape and type running statistics are, and what users' own layers hold, but for
    layers that stand alone.
    """
    found: list[Any] = []
    for path, module in net._tree(""):
        found.append((path, id(module), type(module), module.training, _passes(type(module))))
        for name, value in vars(module).items():
            if isinstance(value, Parameter):
                found.append((name, id(value), value.shape, value.dtype))
            elif isinstance(value, Module) or callable(value):
                found.append((name, id(value)))
            elif name in module.buffers and isinstance(value, np.ndarray):
                if module not in alone:
                    found.append((name, value.shape, value.dtype))
            elif name == "training" or (name == "momentum" and isinstance(module, BatchNorm2d)):
                pass  # the class may have the one, and a player looks at the other in every pass
            elif name[0] != "_" and isinstance(value, _SETTINGS):
                found.append((name, repr(value)))
        if _is_watched(module, alone):
            found.append(_frozen(states(module)))
    return tuple(found)


_SETTINGS = bool, int, float, str, tuple, list, type(None), np.generic


def _passes(kind: type[Module]) -> tuple[Any, ...]:
    """What the two passes of a class are, and what they read that is nobody's: settings.

    Those of the user's own class and the classes above it, and of the modules that they are in.
    """
    if kind.__module__.startswith("tinyshuffle."):
        return kind.forward, kind.backward
    found: list[Any] = [kind.forward, kind.backward, "settings"]
    for above in kind.__mro__:
        if not above.__module__.startswith(("tinyshuffle.", "builtins")):
            found += [(k, repr(v)) for k, v in vars(above).items() if _is_setting(k, v)]
    for function in (kind.forward, kind.backward):
        code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        if code is not None and not names.get("__name__", "").startswith("tinyshuffle."):
            read = {k: names[k] for k in code.co_names if k in names}
            found += [(k, repr(v)) for k, v in read.items() if _is_setting(k, v)]
    return tuple(found)


def _is_setting(name: str, value: Any) -> bool:
    return not name.startswith("__") and isinstance(value, (*_SETTINGS, dict))


def _frozen(value: Any) -> Any:
    """The same, as a value that never changes."""
    if isinstance(value, dict):
        return tuple((name, _frozen(part)) for name, part in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _kinds(net: Module) -> list[tuple[type[Module], tuple[Any, ...]]]:
    """The classes of the layers, and what their passes are."""
    return [(kind, _passes(kind)) for kind in {type(module) for _, module in net._tree("")}]


def _mutable(net: Module, alone: WeakSet[Module]) -> list[tuple[Module, dict[str, Any]]]:
    """The users' own layers that hold what can change inside, and what it holds."""
    return [
        (module, states(module))
        for _, module in net._tree("")
        if _is_watched(module, alone)
        and any(_can_change(value) for value in vars(module).values())
    ]


def _is_watched(module: Module, alone: WeakSet[Module]) -> bool:
    """Whether it is a user's own layer, and what it holds may change what it asks for."""
    users = not type(module).__module__.startswith("tinyshuffle.")
    return users and module not in alone and not large(module)


def _can_change(value: Any) -> bool:
    known = bool, int, float, str, type(None), Module, Parameter
    return not (isinstance(value, known) or callable(value))
