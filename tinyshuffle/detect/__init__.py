"""Detection: where in a picture are objects, and of which classes? Two nets, trained by hand."""

from .average_precision import Scores, average_precision

__all__ = ["Scores", "average_precision"]
