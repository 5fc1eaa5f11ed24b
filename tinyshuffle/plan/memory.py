"""A place in one block of memory for every buffer that lives in a step.

Two buffers may lie over one another if no row needs both. The largest gets its place first, and
each next one the lowest place that is free for as long as it lives: "greedy by size" (Pisarchyk and
Lee 2020, "Efficient memory management for deep neural net inference", algorithm 3). The block's
size is then little above the least that is possible, which is what is alive at the worst row.
"""

from __future__ import annotations

from dataclasses import replace

from .table import Buffer, Plan

__all__ = ["ALIGNMENT", "place"]

ALIGNMENT = 64  # bytes: a line of the cache, and of whole vectors


def place(plan: Plan) -> Plan:
    """Return the plan with a place for each buffer that lives in the step's memory."""
    placed: list[Buffer] = []
    living = [b for b in plan.buffers if plan.alive(b)]
    for buffer in sorted(living, key=lambda b: (-b.nbytes, b.index)):
        start, size = 0, _whole(buffer.nbytes)
        neighbours = [p for p in placed if p.first <= buffer.last and buffer.first <= p.last]
        for other in sorted(neighbours, key=_start):
            if start + size <= _start(other):
                break
            start = max(start, _start(other) + _whole(other.nbytes))
        placed.append(replace(buffer, place=start))
    places = {b.index: b.place for b in placed}
    return replace(
        plan, buffers=tuple(replace(b, place=places.get(b.index)) for b in plan.buffers)
    )


def _start(buffer: Buffer) -> int:
    assert buffer.place is not None
    return buffer.place


def _whole(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
