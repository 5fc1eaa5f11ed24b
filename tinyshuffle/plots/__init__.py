"""Every figure that tinyshuffle draws.

Each function returns a matplotlib ``Figure`` that belongs to the caller: nothing is registered
with pyplot, and no style is set for anybody else. The colours are those of Okabe and Ito, which
stay apart under every common form of colour blindness; lines differ in dash as well.
"""

from .cost import accuracy_against_cost, cost
from .style import COLOURS, KIND_STYLES, STYLES
from .training import learning_curves, samples

__all__ = [
    "COLOURS",
    "KIND_STYLES",
    "STYLES",
    "accuracy_against_cost",
    "cost",
    "learning_curves",
    "samples",
]
