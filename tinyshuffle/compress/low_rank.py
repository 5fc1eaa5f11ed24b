"""A linear layer as two thin ones, by its singular values (Denil et al. 2013, arXiv 1306.0543).

    W = U diag(σ) Vᵀ ≈ (U_r) (diag(σ_r) V_rᵀ)        (C, O) ≈ (C, r) (r, O)

Of all matrices of rank r this one is nearest to W: the sum of squares of what is lost is that of
the singular values left out (Eckart and Young 1936). Cost: r (C + O) multiply-adds and weights
instead of C · O, so r has to be below C O / (C + O).
"""

from __future__ import annotations

import numpy as np

from ..errors import TinyshuffleError
from ..nn import Linear, Sequential
from ..ops.arguments import integer
from ..text import shown

__all__ = ["low_rank"]


def low_rank(layer: Linear, rank: int) -> Sequential:
    """Return two linear layers that come as near to ``layer`` as ``rank`` numbers between them can.

    Parameters
    ----------
    layer : Linear
        It is left as it is.
    rank : int
        From 1 to the smaller side of the weights.

    >>> net = low_rank(Linear(1024, 10).initialise(0), 4)
    >>> [p.shape for p in net.parameters()]
    [(1024, 4), (4, 10), (10,)]
    """
    if not isinstance(layer, Linear):
        raise TinyshuffleError(f"got {shown(layer)}: give an nn.Linear, such as net.fc")
    (c, o), rank = layer.weight.shape, integer(rank, "rank")
    if rank > min(c, o):
        raise TinyshuffleError(
            f"rank={rank} is more than a matrix {layer.weight.shape} has: use 1 to {min(c, o)}"
        )
    w = layer.weight.data
    u, sigma, vt = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    first, second = Linear(c, rank, bias=False), Linear(rank, o, bias=layer.bias is not None)
    first.weight.data = u[:, :rank].astype(w.dtype)
    second.weight.data = (sigma[:rank, None] * vt[:rank]).astype(w.dtype)
    if layer.bias is not None and second.bias is not None:
        second.bias.data = layer.bias.data.copy()
    return Sequential(first, second)
