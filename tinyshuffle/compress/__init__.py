"""A trained net made smaller: bytes for numbers, weights left out, a matrix of lower rank."""

from .int8 import Int8Net, quantise
from .low_rank import low_rank
from .prune import prune

__all__ = ["Int8Net", "low_rank", "prune", "quantise"]
