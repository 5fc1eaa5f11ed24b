"""Detection: where in a picture are objects, and of which classes? Two nets, trained by hand."""

from .average_precision import Scores, average_precision
from .detector import KINDS, Detector
from .losses import Losses
from .targets import Choice, choose

__all__ = ["KINDS", "Choice", "Detector", "Losses", "Scores", "average_precision", "choose"]
