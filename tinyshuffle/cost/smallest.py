"""How small an image may be for a net."""

from __future__ import annotations

from ..errors import TinyshuffleError
from ..nn import Module
from .counting import traced

__all__ = ["smallest_input", "too_small"]

LARGEST = 1024


def smallest_input(net: Module, channels: int = 3) -> int | None:
    """Return the side of the smallest square image that ``net`` takes, found by trying.

    The net runs on tensors without numbers, so this takes a fraction of a second. None if it
    takes no image of up to 1024 pixels.

    >>> from tinyshuffle.models import AlexNet
    >>> smallest_input(AlexNet())
    63
    """

    def fits(side: int) -> bool:
        try:
            traced(net, (1, side, side, channels))
        except TinyshuffleError:
            return False
        return True

    high = 1
    while not fits(high):
        high *= 2
        if high > LARGEST:
            return None
    low = high // 2  # does not fit, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def too_small(
    error: TinyshuffleError, net: Module, name: str, shape: tuple[int, ...]
) -> TinyshuffleError:
    """Return the sentence about an image that is too small, or ``error`` if that is not why."""
    if len(shape) != 4:
        return error
    smallest = smallest_input(net, shape[3])
    if smallest is None or min(shape[1:3]) >= smallest:
        return error
    return TinyshuffleError(
        f"an image of {shape[1]}x{shape[2]} pixels is too small for {name}; "
        f"the smallest that it takes is {smallest}x{smallest}"
    )
