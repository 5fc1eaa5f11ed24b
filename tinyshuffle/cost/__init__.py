"""Cost: where multiply-adds, parameters and memory accesses go."""

from .conventions import CONVENTIONS
from .profile import KINDS, Profile, Row, profile
from .roofline import roofline

__all__ = ["CONVENTIONS", "KINDS", "Profile", "Row", "profile", "roofline"]
