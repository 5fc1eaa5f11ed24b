"""No check accepts a solution with names swapped, terms dropped or operators replaced.

Each mutant is a solution in which one place is changed. It has to be refused, unless the change
makes no difference for any argument that the exercise allows: those stand in SAME.
"""

from __future__ import annotations

import ast
import copy
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from course.test_exercises import CODE

import tinyshuffle as ts
from tinyshuffle.course.exercise import judge
from tinyshuffle.course.lessons import EXERCISES

SAMPLE = 12  # mutants of each exercise in the quick test
MOST_LINES = 3_000_000  # that a mutant may run: one may lengthen the very list that it goes through

OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.FloorDiv, ast.Mult),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.Eq: (ast.NotEq,),
}
PARTNERS = {
    "max": "min", "min": "max", "mean": "sum", "sum": "mean", "var": "std", "rint": "floor",
    "round": "int", "zeros": "ones", "channel_shuffle_backward": "channel_shuffle",
}  # fmt: skip

Mutant = tuple[str, str]  # what was changed, and the code


def mutants(code: str) -> Iterator[Mutant]:
    """Every mutant of a solution that changes one place of it."""
    tree = ast.parse(code)
    names = sorted(_own_names(tree))
    nodes = list(ast.walk(tree))
    changes = [(place, change) for place, node in enumerate(nodes)
               for change in _changes(node, names)]  # fmt: skip
    changes += [(0, _exchanged(*pair)) for pair in combinations(names, 2)]
    before, seen = ast.unparse(tree).splitlines(), {_form(tree)}
    for place, change in changes:
        twin = copy.deepcopy(tree)
        old = list(ast.walk(twin))[place]
        new = change(old)
        if new is not None:
            twin = _Replace(old, new).visit(twin)
        text = ast.unparse(ast.fix_missing_locations(twin))
        lines = [b for a, b in zip(before, text.splitlines(), strict=True) if a != b]
        if lines and (form := _form(twin)) not in seen:
            seen.add(form)
            yield "; ".join(line.strip() for line in lines), text


def _form(tree: ast.AST) -> str:
    """The same text for codes that differ in the order of factors and of terms only."""

    class Sorted(ast.NodeTransformer):
        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            if not isinstance(node.op, ast.Add | ast.Mult):
                return self.generic_visit(node)
            parts, todo = [], [node.left, node.right]
            while todo:
                part = todo.pop()
                if isinstance(part, ast.BinOp) and type(part.op) is type(node.op):
                    todo += [part.left, part.right]
                else:
                    parts.append(self.visit(part))
            return ast.Call(ast.Name(type(node.op).__name__), sorted(parts, key=ast.dump), [])

    return ast.dump(Sorted().visit(copy.deepcopy(tree)))


def _own_names(tree: ast.AST) -> set[str]:
    """Parameters and names that are bound; not the library's, nor the functions'."""
    bound = {a.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for a in n.args}
    return bound | {
        n.id for n in ast.walk(tree)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id != "_"
    }  # fmt: skip


def _changes(node: ast.AST, names: list[str]) -> Iterator:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in names:
            yield from (_set("id", other) for other in names if other != node.id)
        if node.id in PARTNERS:
            yield _set("id", PARTNERS[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in PARTNERS:
        yield _set("attr", PARTNERS[node.attr])
    elif isinstance(node, ast.BinOp):
        yield lambda n: n.left  # a term, a factor is dropped
        yield lambda n: n.right
        yield from (_set("op", new()) for new in OPERATORS.get(type(node.op), ()))
    elif isinstance(node, ast.Compare):
        yield from (_set("ops", [new()]) for new in OPERATORS.get(type(node.ops[0]), ()))
    elif isinstance(node, ast.UnaryOp):
        yield lambda n: n.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value < 10:
        yield from (_set("value", new) for new in (node.value + 1, node.value - 1))
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        for i in range(len(node.elts)):
            yield lambda n, i=i: ast.Tuple(n.elts[:i] + n.elts[i + 1 :], n.ctx)
        fixed = all(isinstance(e, ast.Constant) for e in node.elts)  # axes, in whatever order
        for i in range(0 if fixed else len(node.elts) - 1):
            yield lambda n, i=i: ast.Tuple(
                [*n.elts[:i], n.elts[i + 1], n.elts[i], *n.elts[i + 2 :]], n.ctx
            )
    elif isinstance(node, ast.Call):
        for i in range(len(node.keywords)):
            yield lambda n, i=i: ast.Call(n.func, n.args, n.keywords[:i] + n.keywords[i + 1 :])
        either = isinstance(node.func, ast.Name) and node.func.id in ("max", "min")
        for i in range(0 if either else len(node.args) - 1):
            yield lambda n, i=i: ast.Call(
                n.func, [*n.args[:i], n.args[i + 1], n.args[i], *n.args[i + 2 :]], n.keywords
            )
        if len(node.args) == 1 and not node.keywords:
            yield lambda n: n.args[0]  # abs(w), round(z): the call is dropped


def _set(field: str, value: object):
    def change(node: ast.AST) -> None:
        setattr(node, field, value)

    return change


def _exchanged(a: str, b: str):
    """Every use of one name becomes one of the other, and the other way round."""

    def change(tree: ast.AST) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                node.id = {a: b, b: a}.get(node.id, node.id)

    return change


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST):
        return self.new if node is self.old else self.generic_visit(node)


# ---- what makes no difference

SAME = {
    "01.2": ["ho, wo = (output_side(w, kw, stride, padding), output_side(h, kh, stride, padding))"],
    "01.3": ["ho, wo = (output_side(w, kw, stride, padding), output_side(h, kh, stride, padding))"],
    # Ho and Wo are multiplied; groups divide both sides' channels
    "02.1": [
        "ho, wo = (-(-w // stride), -(-h // stride))",
        "return n * ho * wo * channels_out * kernel ** 2 * (c / groups)",
        "return n * ho * wo * c * kernel ** 2 * (channels_out // groups)",
    ],
    "02.2": [
        "group_in = np.arange(channels_in) // (channels_in / groups)",
        "group_out = np.arange(channels_out) // (channels_out / groups)",
        "return (group_in[:, None] == group_out[:,]).astype(int)",  # NumPy adds axes on the left
        "return (group_in[:, None] == group_out[None,]).astype(int)",
    ],
    "02.4": ["wider = 144 * (4 * 0.5)"],  # the root of 4 is 4 / 2
    "03.1": [
        "return x.reshape(*x.shape[:3], groups, -1).swapaxes(4, 3).reshape(x.shape)",
        "return x.reshape(*x.shape[:3], groups, -2).swapaxes(3, 4).reshape(x.shape)",
    ],
    "03.3": ["g, j = divmod(channel, channels / groups)"],
    "03.4": ["return min(channels / groups, groups)"],
    # every place of dw is written; a border that no tap reaches; x, xp and dy have C channels
    "04.2": [
        "dw = np.ones((kernel, kernel, x.shape[-1]))",
        "xp = np.pad(x, ((0, 0), (padding, kernel), (padding, padding), (0, 0)))",
        "xp = np.pad(x, ((0, 0), (padding, padding), (padding, kernel), (0, 0)))",
        "dw = np.zeros((kernel, kernel, dy.shape[-1]))",
        "dw = np.zeros((kernel, kernel, xp.shape[-1]))",
        "seen = xp[:, j:j + stride * (ho - 1) + 1:stride, i:i + stride * (wo - 1) + 1:stride]; "
        "dw[j, i] = (seen * dy).sum(axis=(0, 1, 2))",  # both names are exchanged
    ],
    "04.4": ["for index in np.ndindex(gradient.shape):", "step = np.zeros_like(gradient)"],
    # what lies outside of the image is cut off, however wide it is
    "04.5": [
        f"border = ({a}, {b})" for a, b in (
            ("h", "padding"), ("ho", "padding"), ("padding", "h"), ("padding", "ho"),
            ("padding", "stride"), ("padding", "wide"), ("padding", "wo"), ("stride", "padding"),
            ("wide", "padding"), ("wo", "padding"),
        )
    ],  # fmt: skip
    # quotients of numbers of channels and pixels are whole
    "06.1": [
        "return hw * (2 * c * m / g + 9 * m)",
        "return m * (2 * c * hw // g + 9 * hw)",
    ],
    "06.2": [
        "m = c_out / 4",
        "return hw * c_in * m / g + hw // 4 * (9 * m + m * made // g)",
        "return hw * c_in * m // g + hw / 4 * (9 * m + m * made // g)",
        "return hw * c_in * m // g + hw // 4 * (9 * m + m * made / g)",
    ],
    "07.1": ["return hw * (c1 + c2) + c1 * c2 / g"],
    "07.2": ["return 2 * (hw * B) ** 0.5 + B // hw"],
    "07.3": [
        "axes.plot(groups, [access(g) for g in groups])",  # without marks
        "c2 = B * g // (hw * c1)",
        "return hw * (c1 + c2) + c1 * c2 // g",
    ],
    # without marks; a sum has the sign of its mean; the first row's logarithms are 0; True is 1
    "07.4": [
        "axes.plot(range(len(rows)), np.median(ratios, axis=0))",
        "against = np.log(ratios[:, 1:]).sum(axis=1)",
        "against = np.log(ratios[:,]).mean(axis=1)",
        "against = np.log(ratios[:, 0:]).mean(axis=1)",
        "verdict = (against > 0).all() - int((against < 0).all())",
        "verdict = int((against > 0).all()) - (against < 0).all()",
    ],
    "08.1": ["m = c / 2"],
    "08.2": ["return np.arange(channels).reshape(2, -2).T.ravel()"],
    "10.1": [  # all of these have N rows
        "return dlogits / len(dlogits)",
        "return dlogits / len(exp)",
        "return dlogits / len(logits)",
        "dlogits[np.arange(len(dlogits)), labels] -= 1",
        "dlogits[np.arange(len(exp)), labels] -= 1",
        "dlogits[np.arange(len(logits)), labels] -= 1",
    ],
    "11.1": ["return hw * (2 * c * m + 9 * m * m / g)"],
    "11.2": ["return t * (2 * c * hw * c + 9 * hw * c)"],
    "12.1": [  # x and w are exchanged in the call and in the function
        "return _loops(w, x); n, h, v, c = w.shape; y = np.zeros_like(w); y[image, p, q, k] += "
        "w[image, p + i - 1, q + j - 1, k] * x[i, j, k]"
    ],
    "12.2": ["return 4 * np.prod(shape[axis + 1:])"],
    # clip is symmetric in the number and the lower end; no sum of two roundings is below 0
    "13.1": [
        "return (np.clip(0, np.rint(x / scale) + zero, 255), scale, zero)",
        "return (np.clip(np.rint(x / scale) + zero, -1, 255), scale, zero)",
    ],
    # no operation is called (); a ReLU reads one buffer; both lists begin empty
    "12.4": [
        "before, sources = made.get(reads[0], ((), ''))",
        "before, sources = made.get(reads[-1], ('', ()))",
        "alone = readers.count(reads[0]) == 1 and reads[-1] != output",
        "alone = readers.count(reads[-1]) == 1 and reads[0] != output",
        "gone.append(reads[-1])",
        "fused.append(reads[0]); gone.append((operation, reads, write)); "
        "return [row for row in gone if row[2] not in fused]",
    ],
    "13.2": ["return products - zx * qw.sum(axis=0)"],  # NumPy sums bytes as longer integers
    # an absolute value is above any negative number; none is 0
    "13.3": [
        "threshold = sizes[zeros - 1] if zeros else -2",
        "threshold = sizes[zeros - 1] if zeros else -0",
    ],
    "13.4": ["u, sigma, vt = np.linalg.svd(w)"],  # the columns behind r are cut off
    # the larger of two; IoU is symmetric; all have one number a detection, and a mean has no order
    "15.1": [
        "a = np.maximum(1 - abs(rows[:, None] - np.arange(height)), 0)",
        "b = np.maximum(1 - abs(columns[:, None] - np.arange(width)), 0)",
    ],
    "15.2": ["overlaps = ops.box_iou(boxes[stay], boxes[[i]])"],
    "15.3": [
        "precision = hits / np.arange(1, len(hits) + 1)",
        "precision = hits / np.arange(1, len(recall) + 1)",
        "return np.mean([max(precision[recall >= r], default=0) for r in np.linspace(1, 0, 101)])",
    ],
    "13.5": ["return T * (softmax(z / T) - softmax(t / T)) / len(t)"],
    "14.1": [  # the stride divides h and w, 4 divides c
        "pixels = h / stride * (w // stride)",
        "pixels = h // stride * (w / stride)",
        "squeeze = 2 * middle * (c / 4)",
    ],
    "14.3": [  # a 1×1 kernel has one tap; both biases have C numbers
        "w[1, 1] += w1[-1, 0] + np.eye(len(b3))",
        "w[1, 1] += w1[0, -1] + np.eye(len(b3))",
        "w[1, 1] += w1[0, 0] + np.eye(len(b1))",
    ],
    "14.5": [  # no x lies at a corner
        "return dy * np.where(x >= -3, slope, 0)",
        "return slope * np.where(x > -3, dy, 0)",
        "slope = np.where(x >= 3, 1, inside)",
    ],
}


class Endless(BaseException):
    """Of code that does not end; no Exception, which a check would take for the code's own."""


@contextmanager
def _ending() -> Iterator[None]:
    """An exception in the place of a loop without end, in code that was not read from a file."""
    left = MOST_LINES

    def line(frame, event, argument):
        nonlocal left
        left -= 1
        if left < 0:
            raise Endless
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename == "<string>" else None)
    try:
        yield
    finally:
        sys.settrace(before)


def test_a_loop_without_end_is_ended():
    names: dict = {}
    exec("def grow(rows):\n    for row in rows:\n        rows.append(row)", names)
    with pytest.raises(Endless), _ending():
        names["grow"]([1])


def passing(key: str, chosen: list[Mutant]) -> list[str]:
    """The mutants that the check accepts."""
    before: dict = {"np": np, "ts": ts, "ops": ts.ops}
    for other, code in CODE.items():  # later exercises may call earlier answers
        if other[:3] == key[:3]:
            exec(code, before)
    exercise = EXERCISES[key]
    if key == "12.1":  # to compile each mutant would take minutes; its speed does not matter here
        exercise = replace(exercise, further=None)
    accepted = []
    for what, text in chosen:
        names = dict(before)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                exec(text, names)
            except Exception:  # a number that cannot be computed
                continue
            try:
                with _ending():
                    right = judge(exercise, names[exercise.name])
            except Endless:
                continue
            if right:
                accepted.append(what)
    return accepted


def all_mutants(key: str) -> list[Mutant]:
    return list(mutants(CODE[key].replace("@numba.njit\n", "")))


each_exercise = pytest.mark.parametrize("key", EXERCISES)


@each_exercise
def test_a_sample_of_mutants_is_refused(key):
    others = [m for m in all_mutants(key) if m[0] not in SAME.get(key, [])]
    assert len(others) >= 6
    sample = random.Random(key).sample(others, min(SAMPLE, len(others)))
    assert passing(key, sample) == []


@pytest.mark.slow
@each_exercise
def test_every_mutant_is_refused_but_those_that_make_no_difference(key):
    assert sorted(passing(key, all_mutants(key))) == sorted(SAME.get(key, []))


def test_mutants_swap_names_drop_terms_and_replace_operators():
    found = {what for what, _ in mutants("def area(h, w, n):\n    return n * h * w + h")}
    assert {
        "return n * h * h + h",  # a name for another
        "return n * h * w + w",
        "return n * h + h",  # a factor is dropped
        "return n * h * w",  # a term
        "return n * h * w - h",
        "return n * h / w + h",
        "return n * h * w + n",
    } <= found
    assert "return w - h" in {what for what, _ in mutants("def f(h, w):\n    return h - w")}
    assert "return n * w * h + h" not in found  # the same product
