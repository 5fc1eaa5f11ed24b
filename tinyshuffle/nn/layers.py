"""The layers: parameters, and what the backward pass needs. The mathematics is one call away."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite, prod, sqrt
from typing import Any

import numpy as np

from ..backend import F
from ..errors import TinyshuffleError
from ..ops import arguments
from ..ops.arguments import IntPair, check_groups, check_pair, check_real, integer, number
from ..ops.pool import check_padding
from ..values import flags
from . import draw
from .check import check_images, check_rows
from .module import Module, Parameter

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "ReLU",
    "ReLU6",
    "Sigmoid",
    "Tanh",
]


def _ones(shape: tuple[int, ...]) -> Parameter:
    return Parameter(shape, draw.constant(shape, 1.0))


def _zeros(shape: tuple[int, ...]) -> Parameter:
    return Parameter(shape, draw.constant(shape, 0.0))


def _uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """PyTorch's default for convolutions and linear layers: uniform within ± 1/√fan_in."""
    return Parameter(shape, draw.uniform(shape, 1 / sqrt(fan_in)))


class Conv2d(Module):
    """A convolution; by its arguments dense, grouped, pointwise or depthwise.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation : int or (vertical, horizontal)
    groups : int
        Divides both channel counts. If it equals both (and is not 1) the convolution is depthwise.
    bias : bool

    Attributes
    ----------
    weight : (Kh, Kw, in_channels / groups, out_channels), or (Kh, Kw, channels) if depthwise
        Drawn uniformly within ± 1/√fan_in, as PyTorch does, and so torchvision for ShuffleNet V2.
    bias : (out_channels,) or None

    Raises
    ------
    TinyshuffleError
        If ``groups`` does not divide the channels, or an input does not fit.

    >>> conv = Conv2d(8, 12, 3, stride=2, padding=1, groups=4, bias=False)
    >>> conv.weight.shape
    (3, 3, 2, 12)
    >>> conv(np.zeros((1, 7, 5, 8), np.float32)).shape
    (1, 4, 3, 12)
    """

    @flags
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        self.in_channels = in_channels = integer(in_channels, "in_channels")
        self.out_channels = out_channels = integer(out_channels, "out_channels")
        self.groups = groups = integer(groups, "groups")
        check_groups(groups, in_channels, "in_channels")
        check_groups(groups, out_channels, "out_channels")
        self.kernel_size = check_pair(kernel_size, "kernel_size")
        self.stride, self.padding = check_pair(stride, "stride"), check_pair(padding, "padding", 0)
        self.dilation = check_pair(dilation, "dilation")
        fan_in = prod(self.kernel_size) * in_channels // groups
        if groups == in_channels == out_channels > 1:
            self.kind = "depthwise"
            shape: tuple[int, ...] = (*self.kernel_size, in_channels)
        else:
            plain = (self.kernel_size, self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))
            self.kind = "pointwise" if plain else "dense" if groups == 1 else "grouped"
            shape = (*self.kernel_size, in_channels // groups, out_channels)
        self.weight = _uniform(shape, fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None

    @property
    def geometry(self) -> tuple[IntPair, IntPair, IntPair, int]:
        """Stride, padding, dilation and groups."""
        return self.stride, self.padding, self.dilation, self.groups

    def check(self, x: np.ndarray) -> None:
        """Raise unless ``x`` is a batch of images that this layer is for."""
        check_images(x, self.in_channels, self.weight.dtype, self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return y (N, Ho, Wo, out_channels) of x (N, H, W, in_channels)."""
        self.check(x)
        w, b = self.weight.data, None if self.bias is None else self.bias.data
        self.save(x)
        if self.kind == "pointwise":
            return F.pointwise_conv2d(x, w, b, self.groups)
        if self.kind == "depthwise":
            return F.depthwise_conv2d(x, w, b, self.stride, self.padding, self.dilation)
        return F.conv2d(x, w, b, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add dw and db to the gradients and return dx."""
        (x,) = self.saved()
        w, b = self.weight.data, self.bias is not None
        if self.kind == "pointwise":
            dx, dw, db = F.pointwise_conv2d_backward(dy, x, w, self.groups, b)
        elif self.kind == "depthwise":
            dx, dw, db = F.depthwise_conv2d_backward(
                dy, x, w, self.stride, self.padding, self.dilation, b
            )
        else:
            dx, dw, db = F.conv2d_backward(
                dy, x, w, self.stride, self.padding, self.dilation, self.groups, b
            )
        self.weight.accumulate(dw)
        if self.bias is not None:
            self.bias.accumulate(db)
        return dx

    def extra_repr(self) -> str:
        words = [f"{self.in_channels}, {self.out_channels}, {_short(self.kernel_size)}"]
        for name, default in ("stride", 1), ("padding", 0), ("dilation", 1):
            value = _short(getattr(self, name))
            if value != default:
                words.append(f"{name}={value}")
        if self.groups > 1:
            words.append(f"groups={self.groups}")
        if self.bias is None:
            words.append("bias=False")
        return ", ".join(words)


class _Statistics:
    """An array with a number for each channel; whatever else is put in its place is refused."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: np.ndarray) -> None:
        shape = (instance.num_features,)
        try:
            check_real(value)
            if value.shape != shape:
                raise TinyshuffleError(f"got an array of shape {value.shape}")
        except TinyshuffleError as error:
            raise TinyshuffleError(
                f"{self.name} of BatchNorm2d({instance.num_features}) has to be an array of shape "
                f"{shape}, float32 or float64, such as np.zeros({shape[0]}, 'float32'): {error}"
            ) from None
        vars(instance)[self.name] = value


class _Number:
    """A number that may be set to another one; whatever does not fit is refused."""

    def __init__(self, fits: Callable[[float], bool], wanted: str, called: str = "") -> None:
        self.fits, self.wanted, self.called = fits, wanted, called

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.called = name, self.called or name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = number(value, self.called, self.fits, self.wanted)


class _Count(_Statistics):
    """A whole number, kept as an array, as PyTorch does."""

    def __set__(self, instance: Any, value: Any) -> None:
        if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != ((), np.int64):
            value = np.array(integer(value, self.name, 0), np.int64)
        vars(instance)[self.name] = value


class BatchNorm2d(Module):
    """Batch normalisation over the N·H·W pixels of each channel.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float
        Weight of the newest batch in the running statistics: r ← (1 - momentum) r + momentum·new.
        The running variance takes the unbiased estimate, σ² M / (M - 1), as PyTorch's does, while
        the batch is normalised with the biased one.

    Attributes
    ----------
    weight, bias : (C,)
        γ, which starts at 1, and β, which starts at 0.
    running_mean, running_var : (C,)
        Used in evaluation.

    Ioffe and Szegedy 2015, Algorithms 1 and 2.
    """

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    running_mean, running_var, num_batches_tracked = _Statistics(), _Statistics(), _Count()
    eps = _Number(lambda e: 0 <= e < inf, "a finite number, 0 or more")
    momentum = _Number(lambda m: 0 <= m <= 1, "a number from 0 to 1")

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features = num_features = integer(num_features, "num_features")
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = _ones((num_features,)), _zeros((num_features,))
        self.running_mean = np.zeros(num_features, np.float32)
        self.running_var = np.ones(num_features, np.float32)
        self.num_batches_tracked = np.array(0, np.int64)

    def check(self, x: np.ndarray) -> None:
        """Raise unless ``x`` is a batch of images that this layer is for."""
        check_images(x, self.num_features, self.weight.dtype, self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Normalise x (N, H, W, C)."""
        self.check(x)
        if self.training:
            count = x.shape[0] * x.shape[1] * x.shape[2]
            mean, var = F.batch_norm_statistics(F.batch_norm_sums(x))
            self.running_mean, self.running_var, self.num_batches_tracked = F.batch_norm_track(
                self.running_mean, self.running_var, self.num_batches_tracked,
                mean, var, count, self.momentum,
            )  # fmt: skip
        else:
            mean, var, count = self.running_mean, self.running_var, None
        self.save(x, mean, var, count)
        return F.batch_norm(x, self.weight.data, self.bias.data, mean, var, self.eps)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Add dγ and dβ to the gradients and return dx."""
        x, mean, var, count = self.saved()
        known = dy, x, self.weight.data, self.bias.data, mean, var
        sums = F.batch_norm_backward_sums(*known, self.eps)
        dbeta, dgamma = F.batch_norm_gradients(sums, self.weight.dtype)
        self.bias.accumulate(dbeta)
        self.weight.accumulate(dgamma)
        if count is None:
            return F.batch_norm_eval_backward(*known, self.eps)
        return F.batch_norm_backward(*known, sums, count, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}"


class ReLU(Module):
    """max(0, x). Behind a ``BatchNorm2d`` in a ``Sequential`` it runs in the same pass."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.relu(x)
        self.save(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self.saved()
        return F.relu_backward(dy, y)


class ReLU6(Module):
    """min(max(0, x), 6), of MobileNet."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.relu6(x)
        self.save(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self.saved()
        return F.relu6_backward(dy, y)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.sigmoid(x)
        self.save(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self.saved()
        return F.sigmoid_backward(dy, y)


class Tanh(Module):
    """(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.tanh(x)
        self.save(y)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (y,) = self.saved()
        return F.tanh_backward(dy, y)


class ChannelShuffle(Module):
    """The papers' channel shuffle, (G, n) → (n, G). V1, section 3.1."""

    def __init__(self, groups: int) -> None:
        self.groups = integer(groups, "groups")

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.save()
        return F.channel_shuffle(x, self.groups)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.saved()
        return F.channel_shuffle_backward(dy, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class MaxPool2d(Module):
    """The largest value of each window. Arguments as in PyTorch; stride defaults to the kernel.

    ``ceil_mode=True`` rounds the output size up: the last window may hang over the border.
    """

    @flags
    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = check_pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else check_pair(stride, "stride")
        self.padding, self.ceil_mode = check_pair(padding, "padding", 0), ceil_mode
        check_padding(self.kernel_size, self.padding)

    def forward(self, x: np.ndarray) -> np.ndarray:
        arguments.check_images(x)
        over = self._overhang(x.shape) if self.ceil_mode else (0, 0)
        if any(over):
            x = F.pad_end(x, *over, -np.inf)
        y, winner = F.max_pool2d(x, self.kernel_size, self.stride, self.padding)
        self.save(winner, x.shape, over)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        winner, shape, over = self.saved()
        dx = F.max_pool2d_backward(
            dy, winner, shape, self.kernel_size, self.stride, self.padding
        )
        return F.pad_end_backward(dx, *over) if any(over) else dx

    def _overhang(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """By how many pixels the last window hangs over the border: below, and at the right."""
        out = []
        for n, k, s, p in zip(
            shape[1:3], self.kernel_size, self.stride, self.padding, strict=True
        ):
            last = -(-(n + 2 * p - k) // s) * s  # where the last window starts
            if last >= n + p:  # it would see nothing but padding
                last -= s
            out.append(max(0, last + k - (n + 2 * p)))
        return out[0], out[1]

    def extra_repr(self) -> str:
        return _pool_repr(self) + (", ceil_mode=True" if self.ceil_mode else "")


class AvgPool2d(Module):
    """The mean of each window. Arguments as in PyTorch; stride defaults to the kernel."""

    @flags
    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = check_pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else check_pair(stride, "stride")
        self.padding = check_pair(padding, "padding", 0)
        self.count_include_pad = count_include_pad
        check_padding(self.kernel_size, self.padding)

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.count_include_pad
        )
        self.save(x.shape)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (shape,) = self.saved()
        return F.avg_pool2d_backward(
            dy, shape, self.kernel_size, self.stride, self.padding, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return _pool_repr(self)


class GlobalAvgPool(Module):
    """The mean over all pixels: (N, H, W, C) → (N, C)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.global_avg_pool(x)
        self.save(x.shape)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (shape,) = self.saved()
        return F.global_avg_pool_backward(dy, shape)


class Linear(Module):
    """A fully connected layer; ``weight`` is (in_features, out_features): PyTorch's, transposed."""

    @flags
    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = in_features = integer(in_features, "in_features")
        self.out_features = out_features = integer(out_features, "out_features")
        self.weight = _uniform((in_features, out_features), in_features)
        self.bias = _uniform((out_features,), in_features) if bias else None

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_rows(x, self.in_features, self.weight.dtype, self)
        self.save(x)
        return F.linear(x, self.weight.data, None if self.bias is None else self.bias.data)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x,) = self.saved()
        dx, dw, db = F.linear_backward(dy, x, self.weight.data)
        self.weight.accumulate(dw)
        if self.bias is not None:
            self.bias.accumulate(db)
        return dx

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (
            ", bias=False" if self.bias is None else ""
        )


class Dropout(Module):
    """Set a share ``p`` of the elements to zero in training, and scale up the others.

    Attributes
    ----------
    rng : numpy Generator
        Where the masks are drawn from; ``net.initialise(seed)`` replaces it.

    """

    p = _Number(lambda p: 0 <= p < 1, "0 <= p < 1", "dropout p")

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None) -> None:
        self.p = p
        self.rng = rng or np.random.default_rng()

    def forward(self, x: np.ndarray) -> np.ndarray:
        check_real(x)
        if not self.training:
            self.save(None)
            return x
        if not isinstance(self.rng, np.random.Generator):
            raise TinyshuffleError(
                f"rng={self.rng!r} of a Dropout is not possible; use np.random.default_rng(0)"
            )
        mask = F.dropout_mask(self.rng, x.shape, self.p, x.dtype)
        self.save(mask)
        return F.dropout(x, mask)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (mask,) = self.saved()
        return dy if mask is None else F.dropout_backward(dy, mask)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class AdaptiveAvgPool2d(Module):
    """Average to ``output_size`` (one number, or height and width), whatever size comes in."""

    def __init__(self, output_size: IntPair) -> None:
        self.output_size = check_pair(output_size, "output_size")

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.adaptive_avg_pool2d(x, self.output_size)
        self.save(x.shape)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (shape,) = self.saved()
        return F.adaptive_avg_pool2d_backward(dy, shape)

    def extra_repr(self) -> str:
        return f"{_short(self.output_size)}"


class Flatten(Module):
    """Lay images flat, (N, H, W, C) → (N, C·H·W), in PyTorch's order: channel by channel."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = F.flatten(x)
        self.save(x.shape)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (shape,) = self.saved()
        return F.flatten_backward(dy, shape)


class LocalResponseNorm(Module):
    """Damp each channel by its neighbours' activity; arguments as in PyTorch.

    ``alpha`` is divided by ``size``. Krizhevsky et al. 2012, section 3.3, who do not divide.
    """

    alpha, beta, k = (_Number(isfinite, "a finite number") for _ in range(3))

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        self.size = integer(size, "size")
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.save(x)
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        (x,) = self.saved()
        return F.local_response_norm_backward(dy, x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


def _short(value: tuple[int, int]) -> IntPair:
    return value[0] if value[0] == value[1] else value


def _pool_repr(pool: MaxPool2d | AvgPool2d) -> str:
    words = f"{_short(pool.kernel_size)}, stride={_short(pool.stride)}"
    return words + (f", padding={_short(pool.padding)}" if pool.padding != (0, 0) else "")
