"""A training step as a plan: traced from the layers' own passes, fused, and played."""

from .fuse import fuse
from .memory import place
from .play import Player, clocked, cut, worthwhile
from .replay import Validation, validate
from .table import Buffer, Event, Plan, Row, View, views
from .trace import NoPlan, large, states, trace

__all__ = [
    "Buffer",
    "Event",
    "NoPlan",
    "Plan",
    "Player",
    "Row",
    "Validation",
    "View",
    "clocked",
    "cut",
    "fuse",
    "large",
    "place",
    "states",
    "trace",
    "validate",
    "views",
    "worthwhile",
]
