"""What every layer is: parameters, a forward, a backward, and what the one keeps for the other."""

from __future__ import annotations

import copy
import gc
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import RLock, get_ident
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .. import memory
from ..errors import TinyshuffleError
from ..ops.arguments import check_plain, check_real, check_type, generator, integer
from ..values import flags

__all__ = ["Module", "Parameter", "inference", "inferring"]

Draw = Callable[[np.random.Generator], np.ndarray]

_inference: ContextVar[bool] = ContextVar("inference", default=False)


@contextmanager
def inference() -> Iterator[None]:
    """Keep nothing for a backward pass, in this thread, inside a ``with``."""
    token = _inference.set(True)
    try:
        yield
    finally:
        _inference.reset(token)


def inferring() -> bool:
    """Return whether this thread is inside ``with inference()``."""
    return _inference.get()


_drawing = RLock()  # two threads that both find no values yet must not both draw
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drawing._at_fork_reinit)  # type: ignore[attr-defined]


def _left_behind(rng: np.random.Generator) -> np.ndarray:
    raise TinyshuffleError(
        "this parameter cannot be drawn anew: it comes from a pickle, which holds its values but "
        "not the lambda or local function that drew them; draw with a function of a module, or "
        "with functools.partial of one"
    )


def _caller() -> int | None:
    """Return the thread that calls a layer."""
    return get_ident()


class Parameter:
    """An array that is learned, and its gradient.

    Both are its own: whatever is given to it is copied, so that an optimiser's step moves nothing
    else, and nothing else moves it. Two layers share weights if they have the same parameter.

    Parameters
    ----------
    shape : tuple of int, or ndarray
        An array is taken for the initial values, and converted to float32.
    draw : function of a numpy Generator
        Returns the initial values, if the first argument is a shape. It is called when ``data`` is
        first read, so a net whose weights are loaded, or only counted, never draws them.

    Attributes
    ----------
    name : str
        Where it sits in its net, such as ``stage2.0.branch1.0.weight``.
    data : ndarray
        C-contiguous, writable, float32 or float64. It may be set to an array of any layout that has
        the shape and one of these types, which becomes the parameter's.
    grad : ndarray or None
        Sum of the gradients of all backward passes since ``zero_grad``; None if there was none. It
        has the shape and the type of ``data``.

    Raises
    ------
    TinyshuffleError
        If values or a gradient are of another shape, or no float32 or float64 numbers.

    >>> p = Parameter(np.ones((2, 3)))
    >>> p.data = np.arange(6.0).reshape(3, 2).T
    >>> p.data
    array([[0., 2., 4.],
           [1., 3., 5.]])
    """

    moves = 0  # how often the array of any parameter was put in the place of another

    def __init__(self, shape: tuple[int, ...] | np.ndarray, draw: Draw | None = None) -> None:
        if isinstance(shape, np.ndarray):
            check_plain(shape)
            draw = partial(_given, np.array(shape, np.float32))
            shape = shape.shape
        elif draw is None or not isinstance(shape, tuple):
            raise TinyshuffleError(
                f"a Parameter cannot be made of {shape!r} alone; give it an array, "
                "or a shape such as (3, 4) and a function that draws its values from a generator"
            )
        self.name = ""
        self.shape = tuple(integer(n, "a side of the shape", 0) for n in shape)
        self._grad: np.ndarray | None = None
        self._draw = draw
        self._dtype = np.dtype(np.float32)
        self._rng: np.random.Generator | None = None
        self._data: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        if self._data is None:
            with _drawing:
                if self._data is None:  # still, when this thread's turn has come
                    values = self._draw(self._rng or np.random.default_rng())
                    self._check_shape(values)
                    self._data = np.array(values, self._dtype, order="C")
                    Parameter.moves += 1
        return self._data

    @data.setter
    def data(self, value: np.ndarray) -> None:
        if value is self._data:  # p.data -= …
            return
        check_real(value)
        self._check_shape(value)
        new = self._dtype != value.dtype
        self._data, self._dtype = np.array(value, order="C"), value.dtype
        Module.changes += new  # afterwards: who sees the numbers sees the array
        Parameter.moves += 1
        if self._grad is not None:
            self._grad = self._grad.astype(self._dtype, copy=False)

    @property
    def grad(self) -> np.ndarray | None:
        return self._grad

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        if value is None:
            self._grad = None
        elif value is not self._grad:  # it is in p.grad *= …
            check_real(value)
            self._check_shape(value)
            own = memory.empty(self.shape, self._dtype)
            own[...] = value
            self._grad = own

    @property
    def dtype(self) -> np.dtype:
        return self._dtype

    def initialise(self, rng: np.random.Generator) -> None:
        """Forget the values and the gradient; draw new ones from ``rng`` when they are needed."""
        self._data, self._grad, self._rng = None, None, rng
        Parameter.moves += 1

    def astype(self, dtype: np.dtype) -> None:
        """Convert to another dtype; the gradient is cleared."""
        dtype = np.dtype(dtype)
        check_type(dtype)
        new, data = self._dtype != dtype, self._data
        converted = None if data is None else data.astype(dtype)
        self._data, self._dtype, self._grad = converted, dtype, None
        Module.changes += new
        Parameter.moves += 1

    def accumulate(self, grad: np.ndarray) -> None:
        """Add to the gradient; ``grad`` itself stays the caller's."""
        if self._grad is None:
            self.grad = grad
        else:
            check_real(grad)
            self._check_shape(grad)
            self._grad += grad

    def _check_shape(self, value: np.ndarray) -> None:
        if np.shape(value) != self.shape:
            raise TinyshuffleError(
                f"{self.name or 'a parameter'} has shape {self.shape} and was given an array of "
                f"shape {np.shape(value)}; give one of its shape"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds. What it cannot hold, such as a lambda, draws now."""
        state = vars(self).copy()
        try:
            pickle.dumps(self._draw)
        except Exception:  # pickle has many ways to say that it cannot
            state |= {"_data": self.data, "_draw": _left_behind}
        return state

    # a copy in this process keeps the draw, and does not make it

    def __copy__(self) -> Parameter:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        memo[id(self)] = twin = copy.copy(self)
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, {self.shape}, {self._dtype})"


def _given(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw what was given; a function with a name, as pickle needs it."""
    return values


_NOTHING_INSIDE = frozenset(
    [bool, int, float, complex, str, bytes, type(None), np.dtype, np.random.Generator]
)


def layers_inside(value: Any, seen: set[int] | None = None) -> Iterator[Module | Parameter]:
    """Visit the layers and parameters that ``value`` holds: itself, or wherever it keeps them.

    In containers of every kind and their keys, in attributes of objects and of their classes, in
    what a function closes over, has as a default or calls by its name. What those hold in turn is
    not visited, nor what the methods of a class call: a net may ask another one. ``seen`` are the
    ids of what need not be visited again.
    """
    seen = set() if seen is None else seen
    rest = [value]
    while rest:
        value = rest.pop()
        if type(value) in _NOTHING_INSIDE or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Module | Parameter):
            yield value
        else:
            rest += _held_by(value)


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype.hasobject else ()
    if isinstance(value, FunctionType):
        if _is_ours(value):  # it looks on, as ``cost`` does, and hides nothing
            return ()
        names = value.__code__.co_names
        called = (value.__globals__.get(name) for name in names)
        return [
            *(value.__closure__ or ()),
            *(value.__defaults__ or ()),
            *(value.__kwdefaults__ or {}).values(),
            *vars(value).values(),
            *(thing for thing in called if isinstance(thing, Module | Parameter)),
        ]
    if isinstance(value, MethodType):
        return value.__self__, value.__func__
    if isinstance(value, type):
        kinds = _written_by_users(value)
        return [item for kind in kinds for item in _class_attributes(kind).values()]
    # Python's modules hold all that there is, and nothing that is one layer's
    return () if isinstance(value, ModuleType | CodeType) else gc.get_referents(value)


def _written_by_users(kind: type) -> Iterator[type]:
    """Visit a class and what it is derived from, but not what this library and Python have."""
    for base in kind.__mro__:
        if base.__module__ not in ("builtins", "numpy") and not _is_ours(base):
            yield base


def _class_attributes(kind: type) -> dict[str, Any]:
    """Return what all instances share, without the methods."""
    methods = FunctionType | staticmethod | classmethod | property
    return {name: value for name, value in vars(kind).items() if not isinstance(value, methods)}


def _is_ours(thing: type | FunctionType) -> bool:
    return str(thing.__module__).partition(".")[0] == __name__.partition(".")[0]


_PASSING = ("_saved", "_saver", "_replaced")  # what a pass leaves behind
_NOTHING = object()


class Module:
    """Base of all layers, units and nets.

    A subclass sets its parameters and submodules as attributes, writes ``forward(x)``, in which
    it calls ``self.save(…)`` with whatever its backward pass needs, and ``backward(dy)``, which
    begins with ``self.saved()``, adds to its parameters' gradients and returns dx.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.weight = Parameter((1,), lambda rng: np.ones(1))
    ...     def forward(self, x):
    ...         self.save(x)
    ...         return x * self.weight.data
    ...     def backward(self, dy):
    ...         (x,) = self.saved()
    ...         self.weight.accumulate(np.sum(dy * x, keepdims=True).reshape(1))
    ...         return dy * self.weight.data
    >>> layer = Scale()
    >>> layer(np.float32([2, 3]))
    array([2., 3.], dtype=float32)
    >>> layer.backward(np.float32([1, 10]))
    array([ 1., 10.], dtype=float32)
    >>> layer.weight.grad
    array([32.], dtype=float32)
    """

    training = True
    changes = 0  # how often an attribute of any layer was set to something else
    buffers: tuple[str, ...] = ()  # names of arrays that are part of the state but not learned
    rng: np.random.Generator | None = None  # for layers that draw numbers, such as dropout
    _saved: tuple[Any, ...] | None = None
    _saver: int | None = None  # the thread that saved; None is one of a net's own
    _replaced = False  # whether it replaced what another thread had saved and not yet used

    def __setattr__(self, name: str, value: Any) -> None:
        new = name not in _PASSING and vars(self).get(name, _NOTHING) is not value
        object.__setattr__(self, name, value)
        Module.changes += new  # afterwards: who sees the number sees the value

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        Module.changes += 1

    # ---- the two passes

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the layer's output."""
        raise TinyshuffleError(f"{type(self).__name__} has no forward(self, x); write one")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add to the parameters' gradients and return the gradient of the input."""
        raise TinyshuffleError(f"{type(self).__name__} has no backward(self, dy); write one")

    def save(self, *values: Any) -> None:
        """Keep what the backward pass needs; the next forward pass replaces it."""
        me = _caller()
        self._replaced = self._saved is not None and (self._replaced or self._saver != me)
        self._saved, self._saver = None if inferring() else values, me

    def saved(self) -> tuple[Any, ...]:
        """Return what ``save`` kept, once."""
        if self._saved is None:
            raise TinyshuffleError(
                f"{type(self).__name__}.backward was called before forward, or twice after one "
                "forward; call forward (outside of nn.inference) before each backward. A layer "
                "remembers one pass only: if this one stands in several places of a net, give each "
                f"place a {type(self).__name__} of its own"
            )
        if self._replaced and self._saver != _caller():
            raise TinyshuffleError(
                f"another thread called the forward pass of this {type(self).__name__} before "
                "this one called backward, and a net remembers one pass only; give each thread "
                "a net of its own (copy.deepcopy(net)), or let one run at a time"
            )
        values, self._saved = self._saved, None
        return values

    # ---- the tree of modules

    def children(self) -> Iterator[tuple[str, Module]]:
        """Visit the direct submodules, with their names, in the order they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Visit this module (named ``""``) and all below it, depth first, with dotted names.

        Raises
        ------
        TinyshuffleError
            If an attribute holds layers or parameters that are not visited: they would be neither
            trained, nor saved, nor checked.
        """
        found = list(self._tree(prefix))
        _refuse_hidden([module for _, module in found])
        yield from found

    def _tree(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.children():
            usual = type(child).named_modules is Module.named_modules
            visit = child._tree if usual else child.named_modules
            yield from visit(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """Visit this module and all below it."""
        return (module for _, module in self.named_modules())

    def parameters(self) -> list[Parameter]:
        """Return all parameters, and write into each where it sits.

        One that several layers share is listed once, under its first name.
        """
        found: dict[int, Parameter] = {}
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in found:
                    value.name = f"{path}.{name}" if path else name
                    found[id(value)] = value
        return list(found.values())

    @flags
    def train(self, mode: bool = True) -> Module:
        """Switch to training mode (batch statistics, dropout, gradients); return the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode (running statistics, no dropout); return the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for p in self.parameters():
            p.grad = None

    # ---- the state

    def initialise(self, seed: int | np.random.Generator = 0) -> Module:
        """Draw all weights anew, each from a generator of its own; return the module."""
        rng = generator(seed)
        for p in self.parameters():
            p.initialise(rng.spawn(1)[0])
        for module in self.modules():
            if module.rng is not None:
                module.rng = rng.spawn(1)[0]
        return self

    def astype(self, dtype: Any) -> Module:
        """Convert parameters and running statistics to float32 or float64; return the module."""
        check_type(np.dtype(dtype))
        for p in self.parameters():
            p.astype(dtype)
        for module in self.modules():
            for name in module.buffers:
                value = getattr(module, name)
                if value.dtype.kind == "f":
                    setattr(module, name, value.astype(dtype))
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and running statistics, by dotted name."""
        return {name: value.copy() for name, value in self._state().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take parameters and running statistics from ``state``, all of them or none.

        Raises
        ------
        TinyshuffleError
            Names all that is missing, unexpected or of another shape.
        """
        for value in state.values():
            check_plain(value)
        mine = {name: value.shape for name, value in self._state(shapes_only=True).items()}
        wrong = [f"missing {name}" for name in mine if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in mine]
        wrong += [
            f"{name} has shape {np.shape(state[name])} instead of {shape}"
            for name, shape in mine.items()
            if name in state and np.shape(state[name]) != shape
        ]
        wrong += [
            f"{name} holds {np.asarray(state[name]).dtype} instead of real numbers"
            for name in mine
            if name in state and np.asarray(state[name]).dtype.kind not in "fiu"
        ]
        if wrong:
            raise TinyshuffleError(
                "the state does not fit this net, load one saved from the same net: "
                + "; ".join(wrong)
            )
        for p in self.parameters():
            p.data = np.asarray(state[p.name], p.dtype)
        for path, module in self.named_modules():
            for name in module.buffers:
                full = f"{path}.{name}" if path else name
                setattr(module, name, np.array(state[full], getattr(module, name).dtype))

    def random_states(self) -> dict[str, Any]:
        """Return the state of every generator in the net (dropout), as JSON can hold it."""
        return {
            path: module.rng.bit_generator.state
            for path, module in self.named_modules()
            if module.rng is not None
        }

    def load_random_states(self, states: dict[str, Any]) -> None:
        """Continue every generator from where ``random_states`` saw it."""
        for path, module in self.named_modules():
            if module.rng is not None:
                module.rng.bit_generator.state = states[path]

    def _state(self, shapes_only: bool = False) -> dict[str, Any]:
        """Parameters and buffers by name, a module's own in the order PyTorch lists them."""
        state: dict[str, Any] = {}
        self.parameters()  # writes the names
        for path, module in self.named_modules():
            for value in vars(module).values():
                if isinstance(value, Parameter):
                    state[value.name] = value if shapes_only else value.data
            for name in module.buffers:
                state[f"{path}.{name}" if path else name] = getattr(module, name)
        return state

    def __getstate__(self) -> dict[str, Any]:
        """Leave what waits for a backward pass out of copies and pickles."""
        return {k: v for k, v in vars(self).items() if k not in ("_saved", "_saver", "_replaced")}

    # ---- words

    def extra_repr(self) -> str:
        """Return the layer's arguments, for ``repr``."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, child in self.children():
            first, *rest = repr(child).split("\n")
            lines += [f"  ({name}): {first}", *(f"  {line}" for line in rest)]
        body = "\n" + "\n".join(lines) + "\n" if lines else ""
        return f"{type(self).__name__}({self.extra_repr()}{body})"


def _refuse_hidden(modules: list[Module]) -> None:
    """Raise if one of these holds a layer or parameter that none of them has as its own."""
    known = {id(module) for module in modules}
    for module in modules:
        known |= {id(value) for value in vars(module).values() if isinstance(value, Parameter)}
        known |= {id(child) for _, child in module.children()}
    seen = set(known)
    for module in modules:
        held = list(vars(module).items())
        for kind in _written_by_users(type(module)):
            if id(kind) not in seen:
                seen.add(id(kind))
                held += _class_attributes(kind).items()
        for name, value in held:
            if name == "_saved":
                continue
            if not all(_is_one_with(hidden, module) for hidden in layers_inside(value, seen)):
                raise TinyshuffleError(
                    f"{type(module).__name__}.{name} is a {type(value).__name__} with layers or "
                    "parameters that would be neither trained nor saved nor checked; give layers "
                    "to nn.Sequential(*layers), or each layer and parameter to an nn.Module as an "
                    "attribute of its own"
                )


def _is_one_with(layer: Module | Parameter, copied: Module) -> bool:
    """Whether a net's replica holds the layer that it is a replica of, and learns with it.

    A pass that somebody put in the layer's place calls the layer's own, and is not copied.
    """
    mine = {id(value._data) for value in vars(copied).values() if isinstance(value, Parameter)}
    theirs = (value for value in vars(layer).values() if isinstance(value, Parameter))
    return type(layer) is type(copied) and all(id(value._data) in mine for value in theirs)
