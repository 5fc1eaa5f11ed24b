"""Is this backward pass right? Compare it with finite differences.

For a module y = f(x; θ) and a random cotangent dy, the number L = Σ dy · y has the gradients that
``backward(dy)`` returns and accumulates. Each of them is compared with the central difference

    (L(θ + ε v) - L(θ - ε v)) / 2ε,      v a unit vector, or a direction

computed as Σ dy · (y₊ - y₋) / 2ε, which loses less to rounding than the difference of two sums.

* float64 only: in float32 rounding alone makes an error of 10⁻³ at the best ε.
* A random cotangent, not ones: the gradient of a batch norm is exactly zero for ones, whatever
  its backward pass gets wrong.
* Everything is computed twice first, and has to come out the same to the bit: where L moves by
  itself, no difference of it means anything.
* Every gradient is *right*, *wrong* or *not judged*. Near a kink (of ReLU, or of a max) the
  difference straddles two slopes. A smaller ε then helps, or another direction. If none does, and
  the gradient is among the slopes that were measured to the left and to the right, then it cannot
  be judged: on a kink, any slope in between is right. A gradient outside of them is wrong.
* A gradient so small beside the others that one of the other sign would be within the tolerance is
  right only if the difference agrees with it by itself, perhaps with a larger ε, which lifts it
  out of the rounding; or if it is nothing but rounding itself, as that of a bias before a batch
  norm is, which is zero. Else it is not judged.
* Parameters' gradients have to be added to what is there: a second backward pass doubles them.
"""

from .check import gradcheck
from .report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
