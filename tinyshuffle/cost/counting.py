"""What the operations of a net cost, read off its plan.

A net is traced in evaluation, on tensors without numbers (``plan.trace``). Each row of the plan
says who asked for it and what it costs: so every layer, unit and net is counted by the very code
that runs it, and nothing is counted that has not said what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from ..nn import Module, Residual, Sequential
from ..ops import Cost
from ..plan import Plan, Row, View, trace
from ..values import flags

__all__ = ["Count", "count_of", "counts", "traced"]


@dataclass(frozen=True)
class Count:
    """One operation of a net: who asked for it, its name, and what it costs.

    ``functional`` says that the layer stands in a unit's ``forward``, where PyTorch's users call a
    function, and not in a chain, where they write a module.
    """

    layer: str
    module: Module | None
    functional: bool
    operation: str
    input: tuple[int, ...]
    weight: tuple[int, ...] | None
    groups: int
    cost: Cost


@flags
def traced(
    net: Module, shape: tuple[int, ...], dtype: Any = "float32", train: bool = False
) -> Plan:
    """Return the plan of a net, whose layers all say what they cost."""
    return trace(net, shape, dtype, train, weights=dtype, probe=False)


def counts(net: Module, plan: Plan) -> Iterator[Count]:
    """Visit what each operation of a plan as the layers wrote it costs.

    Parameters that several operations share are the first one's.
    """
    modules, seen = dict(net.named_modules()), set[int]()
    for row in plan.rows:
        if row.cost is not None:
            count = count_of(modules, row)
            if row.operation != "python":
                new = {v.buffer for v in row.reads} - seen
                mine = [plan.buffers[b] for b in new if plan.buffers[b].role == "parameter"]
                params = sum(prod(b.shape) for b in mine)
                count = replace(count, cost=replace(count.cost, params=params))
                seen |= new
            yield count


def count_of(modules: dict[str, Module], row: Row) -> Count:
    """Return what a row as the layers wrote it costs."""
    module = modules.get(row.layer)
    inside = modules.get(row.layer.rpartition(".")[0]) if row.layer else None
    x, w = row.arguments[0], row.arguments[1] if len(row.arguments) > 1 else None
    conv = row.operation.endswith(("conv2d", "linear"))
    assert row.cost is not None
    return Count(
        layer=row.layer,
        module=module,
        functional=not isinstance(inside, Sequential)
        or (isinstance(inside, Residual) and module is inside[-1]),
        operation=type(module).__name__ if row.operation == "python" else row.operation,
        input=(x[0] if isinstance(x, list) else x).shape,
        weight=w.shape if conv and isinstance(w, View) else None,
        groups=int(getattr(module, "groups", 1)),
        cost=row.cost,
    )
