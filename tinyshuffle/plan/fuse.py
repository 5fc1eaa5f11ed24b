"""Fewer rows that do the same: each rule looks at a few rows and puts one in their place.

A batch norm in training parts a step into stretches, as it has to see the whole batch before it can
change one number. What stands between two meetings can be done in one go, a few images at a time,
while the numbers are in the core's cache. So what follows a batch norm (its ReLU, a shuffle, the
next convolution, and that one's sums) becomes one row, forward and backward, and what is cheap to
compute again is not kept.

What a fused row means is written in :mod:`tinyshuffle.plan.fused`, as a composition of ``ops``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..ops.windows import is_pointwise
from .fused import ConvBackward, Gradient, Norm
from .table import Plan, Row, View

__all__ = ["RULES", "fuse"]

CONVS = ("conv2d", "pointwise_conv2d", "depthwise_conv2d")


def fuse(plan: Plan) -> Plan:
    """Return the plan with fewer rows."""
    rows = tuple(row for row in plan.rows if row.operation != "channel_split")  # it moves nothing
    table = _Table(replace(plan, rows=rows))
    for rule in RULES:
        for i in range(len(table.rows)):
            if table.rows[i] is not None:
                rule(table, i)
    rows = tuple(row for row in table.rows if row is not None)
    return replace(plan, rows=tuple(map(_joined, rows, (None, *rows))))


def _joined(row: Row, before: Row | None) -> Row:
    """branches meet ; pointwise conv, or pointwise conv' ; meet'  →  one walk over the pixels.

    A pass in which branches meet waits for memory, and the products of a pointwise convolution
    leave it idle. Where the first of two such rows writes what the second reads, they are done
    together, a block of pixels at a time, which is in the cache for both. They stay two rows.
    """
    if before is None or before.backward != row.backward:
        return row
    conv, meeting = (before, row) if row.backward else (row, before)
    if meeting.operation.removesuffix("_backward") not in ("concat_shuffle", "norm_add_relu"):
        return row
    if conv.operation.removesuffix("_backward") != "norm_conv":
        return row
    at = 3 if row.backward else 0  # behind dy, y and the norm behind
    x, norm, w, stride, padding = conv.arguments[at : at + 5]
    if norm is not None or len(w.shape) < 4 or not is_pointwise(w.shape, stride, padding):
        return row
    shared = row.arguments[0] if row.backward else x
    return replace(row, joined=shared.buffer == before.results[0].buffer)


class _Table:
    """The rows, and who reads and writes each buffer. A row keeps its place; its own may go."""

    def __init__(self, plan: Plan) -> None:
        self.buffers = plan.buffers
        self.rows: list[Row | None] = list(plan.rows)
        self.writer: dict[int, int] = {}
        self.readers: defaultdict[int, set[int]] = defaultdict(set)
        self.kept = {v.buffer for v in (plan.output, plan.gradient) if v is not None}
        for i, row in enumerate(plan.rows):
            self._enter(i, row)

    def _enter(self, i: int, row: Row) -> None:
        self.rows[i] = row
        for view in row.writes:
            self.writer[view.buffer] = i
        for view in row.reads:
            self.readers[view.buffer].add(i)

    def _leave(self, i: int) -> Row:
        row = self.rows[i]
        assert row is not None
        self.rows[i] = None
        for view in row.reads:
            self.readers[view.buffer].discard(i)
        for view in row.writes:
            if self.writer.get(view.buffer) == i:
                del self.writer[view.buffer]
        return row

    def made(self, view: Any, *operations: str) -> tuple[int, Row] | None:
        """The row that wrote the whole of this view's buffer, if it is one of these operations."""
        if not isinstance(view, View) or view.shape != self.buffers[view.buffer].shape:
            return None
        i = self.writer.get(view.buffer)
        row = None if i is None else self.rows[i]
        return (i, row) if i is not None and row and row.operation in operations else None

    def read_by(self, view: Any) -> list[tuple[int, Row]]:
        """The rows that read a view's buffer, in order; None of them if the caller gets it."""
        return [(i, self.rows[i]) for i in sorted(self.readers[view.buffer])]  # type: ignore[misc]

    def only_reader(self, view: View, *operations: str) -> tuple[int, Row] | None:
        """The only row that reads a buffer, if it is one of these operations."""
        found = self.read_by(view)
        if len(found) == 1 and view.buffer not in self.kept and found[0][1].operation in operations:
            return found[0]
        return None

    def sums_of(self, dz: View, x: View, n: Norm) -> tuple[int, Row] | None:
        """The row that adds up dβ and dγ of this norm of ``x``, dz being its output's gradient."""
        for i, row in self.read_by(dz):
            if row.operation == "batch_norm_backward_sums" and row.arguments[:2] == (dz, x):
                if row.keywords.get("relu", False) == n.relu:
                    return i, row
        return None

    def sums_over(self, view: View, operation: str) -> tuple[int, Row] | None:
        """The only row that adds up sums of just this view, and no part of it."""
        found = [(i, r) for i, r in self.read_by(view) if r.operation == operation]
        return found[0] if len(found) == 1 and found[0][1].arguments[0] == view else None

    def put(self, i: int, row: Row, *absorbed: int) -> None:
        """Put a row in place ``i``, for that row and the absorbed ones."""
        parts: list[Row] = []
        for j in sorted({i, *absorbed}):
            old = self._leave(j)
            parts += old.parts or (old,)
        self._enter(i, replace(
            row, parts=tuple(parts),
            multiply_adds=sum(p.multiply_adds for p in parts),
            elementwise=sum(p.elementwise for p in parts),
            meets=any(p.meets for p in parts),
        ))  # fmt: skip

    def edit(self, i: int, old: View, new: View, **keywords: Any) -> None:
        """Let a row read ``new`` where it read ``old``, a whole buffer, or some channels of it."""
        row = self._leave(i)

        def swap(value: Any) -> Any:
            if isinstance(value, View):
                if value.buffer != old.buffer:
                    return value
                return View(new.buffer, value.shape, new.start + value.start)
            if isinstance(value, tuple) and hasattr(value, "_fields"):
                return type(value)(*map(swap, value))
            return type(value)(map(swap, value)) if isinstance(value, list | tuple) else value

        self._enter(i, replace(
            row, arguments=swap(row.arguments), keywords=row.keywords | keywords
        ))  # fmt: skip


# ---- rules


def gate(table: _Table, i: int) -> None:
    """relu' ; batch_norm' sums ; batch_norm'  →  the batch norm computes the ReLU's mask again.

    relu'(dy, y) wants y; the mask is y > 0, and y = relu(BN(x)) can be had from x.
    """
    row = table.rows[i]
    if row is None or row.operation != "relu_backward":
        return
    dy, y = row.arguments
    (dz,) = row.results
    relu = table.made(y, "relu")
    norm = relu and table.made(relu[1].arguments[0], "batch_norm")
    if not norm or dz.buffer in table.kept:
        return
    x = norm[1].arguments[0]
    readers = table.read_by(dz)
    if not all(
        r.operation in ("batch_norm_backward_sums", "batch_norm_backward")
        and r.arguments[0] == dz and r.arguments[1] == x
        for _, r in readers
    ):
        return
    table._leave(i)
    for j, _ in readers:
        table.edit(j, dz, dy, relu=True)


def normalised(table: _Table, i: int) -> None:
    """batch_norm ; relu ; channel_shuffle  →  normalised."""
    row = table.rows[i]
    assert row is not None
    if row.operation == "batch_norm":
        x, gamma, beta, mean, var, eps = row.arguments
        table.put(i, replace(
            row, operation="normalised", arguments=(x, Norm(gamma, beta, mean, var, eps, False)),
        ))  # fmt: skip
        return
    if row.operation not in ("relu", "channel_shuffle"):
        return
    before = table.made(row.arguments[0], "normalised")
    if before is None:
        return
    x, n = before[1].arguments
    if row.operation == "relu":
        if n.relu or n.shuffle > 1:
            return
        n = n._replace(relu=True)
    else:
        # with running statistics the norm is to be a part of the convolution in front of it
        if n.shuffle > 1 or table.buffers[n.mean.buffer].role == "state":
            return
        n = n._replace(shuffle=_groups(row))
    alone = table.only_reader(before[1].results[0], row.operation)
    new = replace(row, operation="normalised", arguments=(x, n), keywords={}, layer=before[1].layer)
    table.put(i, new, *([before[0]] if alone else []))


def _groups(row: Row) -> int:
    return row.keywords.get("groups", row.arguments[-1])


def _geometry(row: Row, forward: bool) -> tuple[Any, ...]:
    """Stride, padding, dilation and groups of a convolution without a bias; else nothing."""
    operation = row.operation.removesuffix("_backward")
    if forward:
        _, _, bias, *rest = row.arguments
        if bias is not None:
            return ()
    else:
        _, _, w, *rest, bias = row.arguments
        if bias:
            return ()
    if operation == "pointwise_conv2d":
        return (1, 1), (0, 0), (1, 1), rest[0]
    if operation == "depthwise_conv2d":
        w = row.arguments[1 if forward else 2]
        return (*rest, w.shape[-1])
    return tuple(rest)


def norm_conv(table: _Table, i: int) -> None:
    """conv ; batch_norm sums  →  norm_conv."""
    row = table.rows[i]
    assert row is not None
    if row.operation not in CONVS or row.backward:
        return
    geometry = _geometry(row, forward=True)
    (y,) = row.results
    sums = table.sums_over(y, "batch_norm_sums")
    if not geometry or sums is None:
        return
    x, w = row.arguments[:2]
    table.put(i, replace(
        row, operation="norm_conv", arguments=(x, None, w, *geometry),
        results=(y, *sums[1].results),
    ), sums[0])  # fmt: skip


def norm_conv_backward(table: _Table, i: int) -> None:
    """batch_norm' ; conv'  →  norm_conv'."""
    row = table.rows[i]
    assert row is not None
    if not row.backward or row.operation.removesuffix("_backward") not in CONVS:
        return
    geometry = _geometry(row, forward=False)
    if not geometry:
        return
    dy, x, w = row.arguments[:3]
    dx, dw, _ = row.results
    arguments = ConvBackward(dy, dy, None, x, None, w, *geometry)
    absorbed = []
    behind = table.made(dy, "batch_norm_backward")
    if behind and table.only_reader(dy, row.operation):
        d, y, *known, sums, count, eps = behind[1].arguments
        relu = behind[1].keywords.get("relu", False)
        gradient = Gradient(Norm._make([*known, eps, relu, 1]), sums, count)
        arguments = arguments._replace(dy=d, y=y, behind=gradient)
        absorbed.append(behind[0])
    table.put(i, replace(
        row, operation="norm_conv_backward", arguments=arguments, keywords={},
        results=(dx, dw, None),
    ), *absorbed)  # fmt: skip


def again(table: _Table, i: int) -> None:
    """norm ; norm_conv … norm_conv' ; shuffle' ; batch_norm' sums: compute the norm again.

    If one convolution alone reads what a norm makes, forward and backward, it makes it itself, a
    few images at a time, and nobody has to keep it.
    """
    row = table.rows[i]
    assert row is not None
    if row.operation != "normalised":
        return
    (z,) = row.results
    x, n = row.arguments
    readers = table.read_by(z)
    if z.buffer in table.kept or [r.operation for _, r in readers] != [
        "norm_conv", "norm_conv_backward"
    ]:  # fmt: skip
        return
    (f, forward), (b, backward) = readers
    conv = backward.arguments
    assert isinstance(conv, ConvBackward)
    if conv.x != z or forward.arguments[0] != z or conv.plus is not None:
        return
    dx, absorbed = backward.results[0], []
    if n.shuffle > 1:
        shuffle = table.only_reader(dx, "channel_shuffle_backward")
        if shuffle is None:
            return
        absorbed.append(shuffle[0])
        (dx,) = shuffle[1].results
    sums = table.sums_of(dx, x, n)
    if sums is None:
        return
    table.put(b, replace(
        backward, arguments=conv._replace(x=x, norm=n),
        results=(dx, backward.results[1], *sums[1].results),
    ), *absorbed, sums[0])  # fmt: skip
    table.put(f, replace(forward, arguments=(x, n, *forward.arguments[2:])), i)


def concat_shuffle(table: _Table, i: int) -> None:
    """norm ; norm ; concat ; channel_shuffle in two groups  →  concat_shuffle."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "channel_shuffle" or _groups(row) != 2:
        return
    concat = table.made(row.arguments[0], "concat")
    if concat is None or len(concat[1].arguments[0]) != 2:
        return
    if not table.only_reader(row.arguments[0], "channel_shuffle"):
        return
    xs, norms, absorbed = [], [], [concat[0]]
    for z in concat[1].arguments[0]:
        made = table.made(z, "normalised")
        if made and table.only_reader(z, "concat") and made[1].arguments[1].shuffle == 1:
            absorbed.append(made[0])
            x, n = made[1].arguments
        else:
            x, n = z, None
        xs.append(x)
        norms.append(n)
    table.put(i, replace(
        row, operation="concat_shuffle", arguments=(*xs, *norms), keywords={},
    ), *absorbed)  # fmt: skip


def concat_shuffle_backward(table: _Table, i: int) -> None:
    """channel_shuffle' ; concat' ; batch_norm' sums of either side  →  concat_shuffle'.

    Both gradients lie side by side in one buffer, so that they need not be copied apart.
    """
    row = table.rows[i]
    assert row is not None
    if row.operation != "concat_backward" or len(row.results) != 2:
        return
    shuffle = table.made(row.arguments[0], "channel_shuffle_backward")
    if shuffle is None or _groups(shuffle[1]) != 2:
        return
    if not table.only_reader(row.arguments[0], "concat_backward"):
        return
    dy, (dz,) = shuffle[1].arguments[0], shuffle[1].results
    absorbed, xs, norms, sums = [shuffle[0]], list[Any](), list[Any](), list[Any]()
    for d in row.results:
        mine = table.sums_over(d, "batch_norm_backward_sums")
        if mine:
            j, r = mine
            _, x, *known, eps = r.arguments
            absorbed.append(j)
            xs.append(x)
            norms.append(Norm._make([*known, eps, r.keywords.get("relu", False), 1]))
            sums.append(r.results[0])
        else:
            xs.append(None)
            norms.append(None)
            sums.append(None)
    first, start = row.results[0].shape[-1], 0
    for d in row.results:
        part = View(dz.buffer, d.shape, start)
        start += d.shape[-1]
        for j, _ in table.read_by(d):
            if j not in absorbed:
                table.edit(j, d, part)
    table.put(i, replace(
        row, operation="concat_shuffle_backward", arguments=(dy, first, *xs, *norms),
        keywords={}, results=(dz, *sums),
    ), *absorbed)  # fmt: skip


def norm_add_relu(table: _Table, i: int) -> None:
    """norm ; add ; relu  →  norm_add_relu."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "relu":
        return
    added = table.made(row.arguments[0], "add")
    if added is None or not table.only_reader(row.arguments[0], "relu"):
        return
    a, b = added[1].arguments
    for z, shortcut in ((b, a), (a, b)):
        made = table.made(z, "normalised")
        if made is None or not table.only_reader(z, "add"):
            continue
        x, n = made[1].arguments
        if n.relu or n.shuffle > 1:
            continue
        table.put(i, replace(
            row, operation="norm_add_relu", arguments=(x, n, shortcut)
        ), added[0], made[0])  # fmt: skip
        return


def norm_add_relu_backward(table: _Table, i: int) -> None:
    """relu' ; batch_norm' sums  →  norm_add_relu'."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "relu_backward":
        return
    dy, y = row.arguments
    (dz,) = row.results
    sums = table.sums_over(dz, "batch_norm_backward_sums")
    if sums is None or sums[1].keywords.get("relu"):
        return
    _, x, *known, eps = sums[1].arguments
    n = Norm._make([*known, eps, False, 1])
    table.put(i, replace(
        row, operation="norm_add_relu_backward", arguments=(dy, y, x, n),
        results=(dz, *sums[1].results),
    ), sums[0])  # fmt: skip


def plus(table: _Table, i: int) -> None:
    """norm_conv' ; add  →  norm_conv' that adds another gradient as it writes."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "add" or not row.backward:
        return
    for mine, other in (row.arguments, row.arguments[::-1]):
        made = table.made(mine, "norm_conv_backward")
        if made is None or not table.only_reader(mine, "add") or mine == other:
            continue
        j, conv = made
        arguments = conv.arguments
        assert isinstance(arguments, ConvBackward)
        if arguments.norm is not None or arguments.plus is not None:
            continue
        if table.writer.get(other.buffer, -1) > j:  # not there yet
            continue
        table.put(j, replace(
            conv, arguments=arguments._replace(plus=other),
            results=(*row.results, *conv.results[1:]),
        ), i)  # fmt: skip
        return


def in_place(table: _Table, i: int) -> None:
    """channel_split' of one half that lies where it belongs  →  the other half is written there."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "channel_split_backward":
        return
    left, right = row.arguments
    (dx,) = row.results
    whole = table.buffers[left.buffer]
    made = table.made(right, "norm_conv_backward")
    if made is None or not table.only_reader(right, row.operation):
        return
    if whole.shape != dx.shape or left.start > 0 or {whole.index, dx.buffer} & table.kept:
        return
    j, conv = made
    assert isinstance(conv.arguments, ConvBackward)
    if conv.arguments.norm is not None or max(table.readers[left.buffer] - {i}, default=-1) > j:
        return  # somebody still reads what would be overwritten
    there = View(left.buffer, right.shape, left.shape[-1])
    readers = table.read_by(dx)
    table.put(j, replace(
        conv, arguments=conv.arguments._replace(there=there), results=(there, *conv.results[1:])
    ), i)  # fmt: skip
    for k, _ in readers:
        table.edit(k, dx, View(left.buffer, dx.shape))


def conv_norm(table: _Table, i: int) -> None:
    """conv ; norm in evaluation  →  conv_norm: the norm is folded into the weights."""
    row = table.rows[i]
    assert row is not None
    if row.operation != "normalised":
        return
    x, n = row.arguments
    conv = table.made(x, *CONVS)
    if conv is None or not table.only_reader(x, "normalised"):
        return
    geometry = _geometry(conv[1], forward=True)
    if not geometry or table.buffers[n.mean.buffer].role != "state":
        return
    image, w = conv[1].arguments[:2]
    table.put(i, replace(
        row, operation="conv_norm", arguments=(image, n, w, *geometry), layer=conv[1].layer
    ), conv[0])  # fmt: skip


RULES: tuple[Callable[[_Table, int], None], ...] = (
    gate, normalised, norm_conv, norm_conv_backward, again, concat_shuffle, concat_shuffle_backward,
    norm_add_relu, norm_add_relu_backward, plus, in_place, conv_norm,
)  # fmt: skip
