"""Batch normalisation (Ioffe and Szegedy 2015), a ReLU fused behind it or not.

Forward, for each channel, over the M = N·H·W numbers that it has in the batch::

    μ = Σ x / M                                   (BN-1)
    σ² = Σ x² / M - μ²                            (BN-2)
    x̂ = (x - μ) / √(σ² + ε)                       (BN-3)
    y = γ x̂ + β,   with ReLU max(0, γ x̂ + β)      (BN-4)

Backward, with dz = dy, or dy where y > 0 if there was a ReLU::

    dβ = Σ dz                                     (BN-5)
    dγ = Σ dz x̂                                   (BN-6)
    dx = γ / √(σ² + ε) · (dz - dβ / M - x̂ dγ / M) (BN-7)

The last two terms of BN-7 are the gradient's way through μ and through σ². In evaluation μ and σ²
are constants and only the first is left. x̂ and the ReLU's mask are computed again in the backward
pass, from x: cheaper than keeping them.

The work is cut where sums over the batch are needed, so that a batch which lies in several slices
can add the slices' sums in between (``tinyshuffle.parallel``). The sums are float64: BN-2 then
loses nothing that float32 data had, up to |μ| / σ of about 10⁴. There μ itself is no float32 number
any more, so BN-3 takes away the float32 number k next to it, and what is left of it after the
division::

    x̂ = (x - k) / √(σ² + ε) + r,   r = (k - μ) / √(σ² + ε)
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from ..values import flags
from .arguments import fit
from .cost import Cost, size

__all__ = [
    "batch_norm", "batch_norm_backward", "batch_norm_backward_sums", "batch_norm_cost",
    "batch_norm_eval_backward", "batch_norm_gradients", "batch_norm_statistics",
    "batch_norm_sums", "batch_norm_track",
]  # fmt: skip

HUGE = 1e68
"""σ² above which x - μ can be too large for float32, and k = 0 instead of μ."""


def batch_norm_sums(x: np.ndarray) -> np.ndarray:
    """Return (M, Σ x, Σ x²) of each channel: a float64 array (3, C) that slices can add up."""
    x = x.reshape(-1, x.shape[-1])  # (M, C)
    total = x.sum(axis=0, dtype=np.float64)
    squares = np.square(x, dtype=np.float64).sum(axis=0)
    return np.stack([np.full_like(total, len(x)), total, squares])  # (3, C)


def batch_norm_statistics(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (μ, σ²), float64 (C,), of the sums (3, C): BN-1 and BN-2. The variance is biased."""
    count, total, squares = sums
    mean = total / count
    return mean, np.maximum(squares / count - mean * mean, 0.0)


def batch_norm_track(
    running_mean: np.ndarray,
    running_var: np.ndarray,
    tracked: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    count: int,
    momentum: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the running statistics (C,), moved towards a batch's, and the number of batches.

    r ← (1 - momentum) r + momentum · new, where the new variance is the unbiased one,
    σ² M / (M - 1), of the ``count`` = M pixels.
    """
    if count < 2:
        raise TinyshuffleError(
            "batch norm in training needs more than one pixel per channel to take a variance "
            "of; use a larger batch or image, or net.eval()"
        )
    m, dtype = momentum, running_mean.dtype
    unbiased = var * (count / (count - 1))
    mean = ((1 - m) * running_mean + m * mean).astype(dtype)
    return mean, ((1 - m) * running_var + m * unbiased).astype(dtype), tracked + 1


def batch_norm_gradients(sums: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return dβ and dγ (C,) of their sums over the whole batch, float64 (2, C)."""
    dbeta, dgamma = sums.astype(dtype)
    return dbeta, dgamma


@flags
def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Normalise ``x`` (N, H, W, C) with the given statistics (C,): BN-3 and BN-4.

    In training they are the batch's, in evaluation the running ones.
    """
    k, _, scale, shift, _ = _constants(x.dtype, gamma, beta, mean, var, eps)
    y = (x - k) * scale + shift
    return np.maximum(y, 0) if relu else y


@flags
def batch_norm_backward_sums(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return (dβ, dγ) of this slice, BN-5 and BN-6: a float64 array (2, C)."""
    dz, xhat, _ = _dz_xhat(dy, x, gamma, beta, mean, var, eps, relu)
    return np.stack([
        dz.sum(axis=(0, 1, 2), dtype=np.float64),
        (dz * xhat).sum(axis=(0, 1, 2), dtype=np.float64),
    ])  # (2, C)


@flags
def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    sums: np.ndarray,
    count: np.ndarray | int,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return dx (N, H, W, C) in training, BN-7.

    ``sums`` (2, C) are dβ and dγ over the whole batch, ``count`` its M, a number or (C,).
    """
    dz, xhat, scale = _dz_xhat(dy, x, gamma, beta, mean, var, eps, relu)
    mean_dz, mean_dz_xhat = (sums / count).astype(x.dtype)
    return scale * (dz - mean_dz - xhat * mean_dz_xhat)


@flags
def batch_norm_eval_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    relu: bool = False,
) -> np.ndarray:
    """Return dx (N, H, W, C) when μ and σ² are constants: the first term of BN-7."""
    dz, _, scale = _dz_xhat(dy, x, gamma, beta, mean, var, eps, relu)
    return scale * dz


def batch_norm_cost(
    x: tuple[int, ...], gamma: tuple[int, ...], beta: tuple[int, ...], *_: object, **__: object
) -> Cost:
    """Cost: no multiply-adds by the papers' convention, but two passes of reading in training.

    Counted as in evaluation, where x is read once and y written once. The training step reads x
    once more for the statistics, and its backward pass reads x and dy twice and writes dx.
    """
    return Cost(
        output=x,
        params=size(gamma) + size(beta),
        elementwise=2 * size(x),
        memory_access=2 * size(x) + 2 * size(gamma) + 2 * size(beta),
        backward_elementwise=7 * size(x),
        backward_memory_access=5 * size(x) + 2 * size(gamma) + 2 * size(beta),
    )


def _constants(
    dtype: np.dtype,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return k, s = 1 / √(σ² + ε), γ s, β + γ r and r, all (C,) and of type ``dtype``.

    With them x̂ = (x - k) s + r and y = (x - k) γ s + (β + γ r).
    """
    mean, var = np.asarray(mean, np.float64), np.asarray(var, np.float64)
    k = np.where(var > HUGE, 0, mean).astype(dtype)
    inv_std = 1 / np.sqrt(var + eps)
    r = (k - mean) * inv_std
    scale = gamma * inv_std.astype(dtype)
    return k, inv_std.astype(dtype), scale, (beta + gamma * r).astype(dtype), r.astype(dtype)


def _dz_xhat(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
    relu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute again what the backward pass needs of the forward: dz, x̂ and γ / √(σ² + ε)."""
    dy = fit(dy, x.shape)
    k, inv_std, scale, shift, r = _constants(x.dtype, gamma, beta, mean, var, eps)
    v = x - k
    if relu:  # the same expression as in the forward pass, so the mask is the same to the bit
        dy = np.where(v * scale + shift <= 0, dy.dtype.type(0), dy)  # open at a NaN, as in PyTorch
    return dy, v * inv_std + r, scale
