"""The exercises, one file a lesson."""

from __future__ import annotations

from ..exercise import Exercise
from . import (
    after_2018,
    backprop,
    batch_norm,
    counting,
    detection,
    flops_and_time,
    grouped,
    history,
    kernels,
    roofline,
    shuffle,
    smaller,
    training,
    unit_v1,
    unit_v2,
)

_LESSONS = (
    counting,
    grouped,
    shuffle,
    backprop,
    batch_norm,
    unit_v1,
    flops_and_time,
    unit_v2,
    roofline,
    training,
    history,
    kernels,
    smaller,
    after_2018,
    detection,
)

EXERCISES: dict[str, Exercise] = {
    exercise.key: exercise for lesson in _LESSONS for exercise in lesson.EXERCISES
}
"""By key, in the order of the course."""
