"""Is this a net, and does this array fit this layer? If not, say what it is and what to do."""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from ..ops.arguments import check_array
from .module import Module

__all__ = ["check_images", "check_net", "check_rows"]


def check_net(net: object) -> None:
    """Raise unless ``net`` is one."""
    if not isinstance(net, Module):
        raise TinyshuffleError(
            f"got a {type(net).__name__} where a net is expected: a tinyshuffle.nn.Module"
        )


def check_images(x: np.ndarray, channels: int, dtype: np.dtype, layer: object) -> None:
    """Raise unless ``x`` is (N, H, W, channels) of ``dtype``; NCHW is recognised and named."""
    shape = np.shape(x)
    if len(shape) != 4:
        hint = "add the batch axis with x[None]" if len(shape) == 3 else "reshape it"
        raise TinyshuffleError(
            f"{layer} expects images of shape (N, H, W, {channels}), got {shape}; {hint}"
        )
    if shape[3] != channels:
        if shape[1] == channels:
            raise TinyshuffleError(
                f"{layer} expects channels last, (N, H, W, {channels}), and {shape} looks like "
                "(N, C, H, W); use x.transpose(0, 2, 3, 1)"
            )
        raise TinyshuffleError(
            f"{layer} expects {channels} channels in the last axis, got {shape[3]} "
            f"in {shape}; check the layer before it"
        )
    if 0 in shape:
        raise TinyshuffleError(f"{layer} got an empty batch of shape {shape}; give it some images")
    _check_dtype(x, dtype, layer)


def check_rows(x: np.ndarray, features: int, dtype: np.dtype, layer: object) -> None:
    """Raise unless ``x`` is (N, features) of ``dtype``."""
    shape = np.shape(x)
    if len(shape) != 2 or shape[1] != features:
        raise TinyshuffleError(
            f"{layer} expects shape (N, {features}), got {shape}; pool or flatten before it"
        )
    _check_dtype(x, dtype, layer)


def _check_dtype(x: np.ndarray, dtype: np.dtype, layer: object) -> None:
    if type(x) is not np.ndarray:
        check_array(x)
    if x.dtype != dtype:
        what = "uint8 pixels: normalise them (ts.data.normalise)" if x.dtype == np.uint8 else (
            f"x = x.astype(np.{dtype})"
        )
        raise TinyshuffleError(f"{layer} has {dtype} parameters and got {x.dtype}; use {what}")
