"""Wrong answers of other kinds than the lessons' known ones are refused, with a true sentence.

What is right for the numbers that an exercise shows and wrong for others, right numbers in a wrong
form, an argument that is written into, a type that holds too few digits.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.course.exercise import judge
from tinyshuffle.course.lessons import EXERCISES

ROLLED = """
def fast_depthwise(x, w):
    y = 0
    for i in range(3):
        for j in range(3):
            y = y + np.roll(x, (1 - i, 1 - j), (1, 2)) * w[i, j]
    return y"""
NEXT_ROW = """
def fuse(rows, output):
    new, skip = [], False
    for k, (operation, reads, write) in enumerate(rows):
        readers = sum(write in row[1] for row in rows)
        follows = k + 1 < len(rows) and rows[k + 1][:2] == ("relu", (write,))
        if skip:
            skip = False
        elif operation == "batch_norm" and follows and readers == 1 and write != output:
            new.append(("norm_relu", reads, rows[k + 1][2]))
            skip = True
        else:
            new.append((operation, reads, write))
    return new"""
PRUNE = """
def prune(weights, share):
    flat = np.concatenate([w.ravel() for w in weights])
    zeros = {zeros}
    flat[np.argsort(abs(flat))[:zeros]] = 0
    parts = np.split(flat, np.cumsum([w.size for w in weights])[:-1])
    return {parts}"""
BY_SHAPE = "[part.reshape(w.shape) for part, w in zip(parts, weights)]"
DIFFERENCE = """
def numeric_gradient(f, x, eps):
    grad, {moved} = np.zeros(x.shape), {start}
    for i in np.ndindex(x.shape):
        {loop}
    return grad"""


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("01.2", """def multiply_adds(x_shape, w_shape, stride, padding):
    (n, h, v, c), (i, j, _, o) = x_shape, w_shape
    return n * ((h - i) // stride + 1) * ((v - j) // stride + 1) * o * i * j * c""",
         "the padding is forgotten"),
        ("01.3", """def memory_access(x_shape, w_shape, stride, padding):
    (n, h, v, c), (i, j, _, o) = x_shape, w_shape
    h, v = h + 2 * padding, v + 2 * padding
    out = n * ((h - i) // stride + 1) * ((v - j) // stride + 1) * o
    return n * h * v * c + i * j * c * o + out""", "the padding's zeros are not read"),
        ("02.2", """def connections(channels_in, channels_out, groups):
    return np.array([[c // groups == o // groups for o in range(channels_out)]
                     for c in range(channels_in)])""", "a group has C / G channels"),
        ("04.2", """def depthwise_dw(dy, x, kernel, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (0, 0), (0, 0)))
    dw, (ho, wo) = np.zeros((kernel, kernel, x.shape[-1])), dy.shape[1:3]
    for i, j in np.ndindex(kernel, kernel):
        seen = x[:, i : i + stride * ho : stride, j : j + stride * wo : stride]
        dw[i, j] = (seen[:, :ho, :wo] * dy).sum((0, 1, 2))
    return dw""", "around both of them"),
        ("04.4", DIFFERENCE.format(moved="_", start="0", loop="grad[i] = (f(x[i] + eps) - "
                                   "f(x[i] - eps)) / (2 * eps)"), "f needs the whole array"),
        ("04.4", DIFFERENCE.format(
            moved="x", start="x.copy()", loop="x[i] += eps; up = f(x); x[i] -= 2 * eps; "
            "grad[i] = (up - f(x)) / (2 * eps)"), "is put back before the next one"),
        ("04.4", "def numeric_gradient(f, x, eps): return 3 * x**2 + eps**2",
         "f=cube_of_the_sum"),
        ("04.4", DIFFERENCE.format(
            moved="low", start="x.copy()", loop="low[i] -= eps; grad[i] = (f(x) - f(low)) / eps; "
            "low[i] = x[i]"), "the lower one"),
        ("05.3", """def running(mean, var, x, momentum):
    n, new = len(x), x.var((0, 1, 2))
    return ((1 - momentum) * mean + momentum * x.mean((0, 1, 2)),
            (1 - momentum) * var + momentum * new * n / (n - 1))""", "not the images"),
        ("06.1", "def unit_multiply_adds(hw, c, m, g): return hw * (2 * c * m / g + 9 * c)",
         "not on c"),
        ("07.1", "def memory_access(hw, c1, c2, g): return hw * (c1 + c2) + (c1 / g) * (c2 / g)",
         "divided by g once"),
        ("08.1", "def v2_unit_multiply_adds(hw, c): return hw * (c * c / 4 + 9 * c / 2)",
         "neither has groups"),
        ("10.1", """def cross_entropy_gradient(logits, labels):
    p = np.exp(np.clip(logits, -700, 700))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)""", "large logits are cut off"),
        ("10.1", """def cross_entropy_gradient(logits, labels):
    p = np.exp(logits - logits.max(0))
    p /= p.sum(0)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)""", "not over the images"),
        ("10.1", """def cross_entropy_gradient(logits, labels):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[:, labels] -= 1
    return p / len(labels)""", "are whole columns"),
        ("10.3", """def confusion(labels, predictions, classes):
    size = max(labels.max(), predictions.max()) + 1
    counts = np.zeros((size, size))
    np.add.at(counts, (labels, predictions), 1)
    return counts""", "one that does not occur"),
        ("12.1", ROLLED, "goes on behind its border"),
        ("12.3", """def slice_sizes(images, cores):
    cores = min(images, cores)
    return [(images + i) // cores for i in range(cores)]""", "some slices are empty"),
        ("12.4", NEXT_ROW, "the ReLU need not be the next row"),
        ("13.1", """def to_bytes(x):
    a, b = min(x.min(), 0), max(x.max(), 0)
    scale = (b - a) / 255
    return np.rint((x - a) / scale), scale, np.rint(-a / scale)""", "one byte off"),
        ("13.2", """def byte_sums(qx, zx, qw):
    return (qx.astype(np.float32) - zx) @ qw.astype(np.float32)""", "float32 has 24 bits"),
        ("13.3", PRUNE.format(zeros="round(share * flat.size)", parts="parts"),
         "has the right numbers, but not in an array for each layer"),
        ("13.3", PRUNE.format(zeros="round(share * flat.size)", parts="flat"),
         "has the right numbers, but not in an array for each layer"),
        ("13.3", PRUNE.format(zeros="int(np.ceil(share * flat.size))", parts=BY_SHAPE),
         "rounded up"),
        ("13.3", """def prune(weights, share):
    flat = np.sort(np.concatenate([abs(w).ravel() for w in weights]))
    threshold = flat[round(share * flat.size) - 1]
    for w in weights:
        w[abs(w) <= threshold] = 0
    return weights""", "it changes its argument weights: work on a copy"),
        ("15.2", """def suppress(boxes, scores, threshold):
    longer, stay = boxes + np.array([0, 0, 1, 1]), []
    for i in np.argsort(-scores):
        if not stay or ops.box_iou(longer[i : i + 1], longer[stay]).max() <= threshold:
            stay.append(i)
    return stay""", "without + 1"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused_with_a_sentence_that_fits(key, text, said):
    names: dict = {"np": np, "ops": ts.ops}
    exec(text, names)
    with np.errstate(all="ignore"):
        reply = judge(EXERCISES[key], names[EXERCISES[key].name])
    assert not reply
    assert said in reply.sentence, reply


def test_right_numbers_of_pruning_are_right_in_the_layers_shapes():
    names: dict = {"np": np}
    exec(PRUNE.format(zeros="round(share * flat.size)", parts=BY_SHAPE), names)
    assert judge(EXERCISES["13.3"], names["prune"])


def test_the_library_is_no_answer_for_some_of_the_cases_either():
    def grouped_dw(dy, x, groups):
        if groups == 1:
            return x.T @ dy
        return EXERCISES["04.3"].reference(dy, x, groups)  # the course's own, which is no fault

    def by_library(dy, x, groups):
        if groups == 1:
            return x.T @ dy
        w = np.zeros((1, 1, x.shape[1] // groups, dy.shape[1]))
        images = dy[None, None], x[None, None]
        return ts.ops.pointwise_conv2d_backward(*images, w, groups)[1][0, 0]

    assert judge(EXERCISES["04.3"], grouped_dw)
    reply = judge(EXERCISES["04.3"], by_library)
    assert "calls the library's own pointwise_conv2d_backward" in reply.sentence
