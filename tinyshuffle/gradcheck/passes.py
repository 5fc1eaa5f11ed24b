"""A module's two passes, repeated from the same state, and what they must not do."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..nn import Module
from ..nn.module import layers_inside
from ..ops.arguments import check_plain
from ..values import flags

__all__ = ["Passes"]


class Passes:
    """A module's two passes, always from the same running statistics and random states."""

    def __init__(self, module: Any, x: np.ndarray, others: tuple[Any, ...]) -> None:
        self.module, self.others, self.kind = module, others, type(module).__name__
        self._require_passes(x)
        parameters = module.parameters() if hasattr(module, "parameters") else []
        self.parameters = list({id(p): p for p in parameters}.values())  # a shared one once
        self.names = ["dx", *(p.name or f"parameter {i}" for i, p in enumerate(self.parameters))]
        self._require_float64(x)
        self.x = x.copy()  # it is moved, and the caller's stays as it is
        self.tensors = [self.x, *(p.data for p in self.parameters)]
        self.is_loss = not inspect.signature(module.backward).parameters
        modules = list(module.modules()) if isinstance(module, Module) else []
        self.buffers = [(m, name, getattr(m, name)) for m in modules for name in m.buffers]
        self.randoms = module.random_states() if modules else {}
        self.grads = [p.grad for p in self.parameters]

    def leave(self) -> None:
        """Give the module back what it had before."""
        self._rewind()
        for p, grad in zip(self.parameters, self.grads, strict=True):
            p.grad = grad

    def forward(self) -> np.ndarray:
        """Return the output."""
        self._rewind()
        self.given = self.x.copy()
        y = self.module(self.given, *copy.deepcopy(self.others))
        self._require_unwritten("forward", self.given, self.x)
        if _dtype(y) != np.float64 or np.size(y) == 0 or (self.is_loss and np.size(y) != 1):
            raise TinyshuffleError(
                f"{self.kind} returned {_what(y)}; gradcheck needs one float64 array that is not "
                "empty (several outputs can be concatenated), or from a loss, whose backward() "
                "has no dy, one number"
            )
        return np.array(y)

    def backward_again(self, dy: np.ndarray) -> list[np.ndarray | None]:
        """Return what parameters' gradients are after another backward pass; None for dx."""
        self.forward()
        _, *grads = self.backward(dy, clear=False)
        return [None, *grads]

    @flags
    def backward(self, dy: np.ndarray, clear: bool = True) -> list[np.ndarray]:
        """Return dx and the parameters' gradients."""
        if clear:
            for p in self.parameters:
                p.grad = None
        given = dy.copy()
        dx = self.module.backward() if self.is_loss else self.module.backward(given)
        self._require_unwritten("backward", self.given, self.x)
        self._require_unwritten("backward", given, dy)
        if (_dtype(dx), np.shape(dx)) != (np.float64, self.x.shape):
            raise TinyshuffleError(
                f"{self.kind}.backward returned {_what(dx)} for an input of {self.x.shape}; it "
                "must return the gradient of the input, a float64 array of its shape"
            )
        grads = [np.array(dx)]
        for name, p in zip(self.names[1:], self.parameters, strict=True):
            grad = np.zeros(p.data.shape) if p.grad is None else p.grad
            if (_dtype(grad), np.shape(grad)) != (np.float64, p.data.shape):
                raise TinyshuffleError(
                    f"the gradient of {name} is {_what(grad)}, the parameter {_what(p.data)}; they "
                    "must have the same shape and dtype"
                )
            grads.append(np.array(grad))
        return grads

    def repeat(self, y: np.ndarray, dy: np.ndarray, grads: list[np.ndarray]) -> None:
        """Raise unless both passes give the same again, to the bit, and numbers at all."""
        again = [self.forward(), *self.backward(dy)]
        names = ["output", "dx", *(f"gradient of {name}" for name in self.names[1:])]
        for name, first, second in zip(names, [y, *grads], again, strict=True):
            if not np.array_equal(first, second, equal_nan=True):
                raise TinyshuffleError(
                    f"{self.kind} cannot be checked: two runs on the same x differ in the {name}, "
                    f"by up to {np.nanmax(abs(first - second)):.1e}. Draw random numbers from "
                    "self.rng, list running statistics in buffers (gradcheck rewinds both), keep "
                    "nothing else from call to call, or check it after eval()"
                )
        if not np.isfinite(y).all():
            raise TinyshuffleError(
                f"{self.kind} returned NaN or infinite numbers, which have no gradient; "
                "use another x"
            )

    def _rewind(self) -> None:
        for module, name, value in self.buffers:
            setattr(module, name, value.copy())
        if self.randoms:
            self.module.load_random_states(self.randoms)

    def _require_passes(self, x: np.ndarray) -> None:
        module = self.module
        if isinstance(module, type) or not (callable(module) and hasattr(module, "backward")):
            raise TinyshuffleError(
                "gradcheck needs a layer, an object with forward and backward such as nn.ReLU(), "
                f"and got {module!r}"
            )
        for call in (module, getattr(module, "forward", module)):
            try:
                inspect.signature(call).bind(x, *self.others)
            except TypeError as error:
                raise TinyshuffleError(
                    f"{self.kind} cannot be called with {1 + len(self.others)} input(s): {error}; "
                    "gradcheck(module, x, …) hands it x and what follows x"
                ) from None
        if isinstance(module, Module):  # which looks for them itself
            return
        listed = {id(p) for p in module.parameters()} if hasattr(module, "parameters") else set()
        for held in layers_inside(module):
            own = held.parameters() if isinstance(held, Module) else [held]
            if not listed or not all(id(p) in listed for p in own):
                raise TinyshuffleError(
                    f"{self.kind} has layers or parameters, and no parameters() that lists them "
                    "for the check; derive it from nn.Module"
                )

    def _require_float64(self, x: np.ndarray) -> None:
        for name, array in zip(self.names, [x, *(p.data for p in self.parameters)], strict=True):
            check_plain(array)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                raise TinyshuffleError(
                    f"gradcheck needs float64, and {'x' if name == 'dx' else name} is "
                    f"{_dtype(array) or _what(array)}: rounding in float32 hides errors, and whole "
                    "numbers have no gradient; use module.astype('float64') and "
                    "x.astype('float64')"
                )
        if x.size == 0:
            raise TinyshuffleError(f"x is empty, {x.shape}: nothing to check; give it some entries")

    def _require_unwritten(self, which: str, given: np.ndarray, kept: np.ndarray) -> None:
        if not np.array_equal(given, kept, equal_nan=True):
            raise TinyshuffleError(
                f"{self.kind}.{which} writes into the array that it was given, which other layers "
                "still need; write the result into a new one"
            )


def _dtype(value: Any) -> np.dtype | None:
    """Return the dtype of an array or a number, None of anything else."""
    return np.asarray(value).dtype if isinstance(value, np.ndarray | np.generic | float) else None


def _what(value: Any) -> str:
    if _dtype(value) is None:
        return "None" if value is None else f"a {type(value).__name__}"
    return f"{_dtype(value)} of shape {np.shape(value)}"
