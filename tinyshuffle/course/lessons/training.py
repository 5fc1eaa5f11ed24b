"""Notebook 10: training."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...nn.module import Parameter
from ...optim import SGD
from ..exercise import Exercise, Mistake

__all__ = ["EXERCISES"]


def _gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return ops.cross_entropy_backward(ops.cross_entropy(logits, labels)[1], labels)


def _naive(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)


def _whole_columns(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = ops.cross_entropy(logits, labels)[1].copy()
    p[:, labels] -= 1
    return p / len(labels)


def _logits() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(12)
    return [
        (np.array([[0.0, 0.0]]), np.array([1])),
        (np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), np.array([2, 0])),
        (rng.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])),
        # the rows lie far apart: the largest logit of all of them would leave 0 / 0 of the second
        # and two of the large logits are near each other, which cutting them off would not show
        (np.array([[1000.0, 998.0, -1000.0], [0.0, 1.0, 2.0]]), np.array([1, 2])),
    ]


def _step(w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, momentum: float,
          decay: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    p = Parameter(w.shape, lambda rng: np.zeros(w.shape))
    p.data = w.copy()
    optimiser = SGD([p], lr=lr, momentum=momentum, weight_decay=decay, decay_all=True)
    optimiser.lr = 0.0  # a first step that leaves w where it is makes the velocity v
    p.accumulate(v - decay * w)
    optimiser.step()
    optimiser.zero_grad()
    optimiser.lr = lr
    p.accumulate(dw)
    optimiser.step()
    return p.data, momentum * v + dw + decay * w


def _steps() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(13)
    return [
        (np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.1, 0.5, 0.25),
        (*rng.standard_normal((3, 2, 3)), 0.05, 0.9, 1e-2),
    ]


def _moved(v: np.ndarray, w: np.ndarray, lr: float) -> tuple[np.ndarray, np.ndarray]:
    return w - lr * v, v


def _confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, -1)


EXERCISES = (
    Exercise(
        key="10.1",
        title="The gradient that starts the backward pass",
        name="cross_entropy_gradient",
        reference=_gradient,
        cases=_logits,
        section=2,
        hints=(
            "The gradient of -log p[label] with respect to the logits is short: what are p and "
            "the target?",
            "(p - t) / N, where t is 1 at the label and 0 elsewhere. Subtract each row's largest "
            "logit before exp.",
        ),
        mistakes=(
            Mistake("the loss is a mean over the batch: divide by N",
                    lambda z, labels: _gradient(z, labels) * len(z)),
            Mistake("the 1 at the label is forgotten: p - t",
                    lambda z, labels: ops.cross_entropy(z, labels)[1] / len(z)),
            Mistake("the sign is turned round: this would climb the loss",
                    lambda z, labels: -_gradient(z, labels)),
            Mistake("exp of a large logit overflows: subtract the row's largest one first",
                    _naive),
            Mistake("the largest logit of the whole batch is subtracted, and a row far below it "
                    "becomes 0 / 0: subtract each row's own",
                    lambda z, labels: _naive(z - z.max(), labels)),
            Mistake("large logits are cut off, and how far they lie apart is lost: subtract the "
                    "row's largest one instead",
                    lambda z, labels: _naive(np.clip(z, -500, 500), labels)),
            Mistake("the softmax runs over the classes of an image, axis 1, not over the images",
                    lambda z, labels: _gradient(z, labels) + (
                        ops.cross_entropy(z.T, np.zeros(z.shape[1], int))[1].T
                        - ops.cross_entropy(z, labels)[1]) / len(z)),
            Mistake("each image loses 1 at its own label only: p[np.arange(N), labels], where "
                    "p[:, labels] are whole columns", _whole_columns),
            Mistake("it is divided by the number of classes as well; N is the images",
                    lambda z, labels: _gradient(z, labels) / z.shape[1]),
        ),
    ),
    Exercise(
        key="10.2",
        title="A step of SGD with momentum",
        name="sgd_step",
        reference=_step,
        cases=_steps,
        outputs=("w", "v"),
        section=3,
        hints=(
            "The velocity remembers gradients; weight decay adds a little of w to the gradient.",
            "v ← momentum · v + dw + decay · w, then w ← w - lr · v.",
        ),
        mistakes=(
            Mistake("weight decay is forgotten",
                    lambda w, dw, v, lr, momentum, decay: _moved(momentum * v + dw, w, lr)),
            Mistake("weight decay is decoupled, which is AdamW's; here decay · w is a part of the "
                    "gradient, and the velocity remembers it: v ← momentum · v + dw + decay · w",
                    lambda w, dw, v, lr, momentum, decay:
                    _moved(momentum * v + dw, w * (1 - lr * decay), lr)),
            Mistake("weight decay is decoupled and not scaled by the learning rate; here decay · w "
                    "is a part of the gradient: v ← momentum · v + dw + decay · w",
                    lambda w, dw, v, lr, momentum, decay:
                    _moved(momentum * v + dw, w * (1 - decay), lr)),
            Mistake("the velocity holds decay · w already, and w is shrunk once more",
                    lambda w, dw, v, lr, momentum, decay: (
                        w * (1 - lr * decay) - lr * (momentum * v + dw + decay * w),
                        momentum * v + dw + decay * w)),
            Mistake("this is Nesterov's variant: without it, w moves by v alone",
                    lambda w, dw, v, lr, momentum, decay: (
                        w - lr * (dw + decay * w + momentum * (momentum * v + dw + decay * w)),
                        momentum * v + dw + decay * w)),
            Mistake("the gradient is weighed with 1 - momentum; here, as in PyTorch, it is not",
                    lambda w, dw, v, lr, momentum, decay:
                    _moved(momentum * v + (1 - momentum) * (dw + decay * w), w, lr)),
            Mistake("the learning rate belongs to the step of w, not to the velocity",
                    lambda w, dw, v, lr, momentum, decay: (
                        w - (momentum * v + lr * (dw + decay * w)),
                        momentum * v + lr * (dw + decay * w))),
            Mistake("w moves by the old velocity; update v first",
                    lambda w, dw, v, lr, momentum, decay:
                    (w - lr * v, momentum * v + dw + decay * w)),
            Mistake("w moves up the gradient; the step is subtracted",
                    lambda w, dw, v, lr, momentum, decay:
                    (w + lr * (momentum * v + dw + decay * w), momentum * v + dw + decay * w)),
        ),
    ),
    Exercise(
        key="10.3",
        title="A confusion matrix",
        name="confusion",
        reference=_confusion,
        cases=lambda: [
            (np.array([0, 0]), np.array([1, 0]), 2),
            (np.array([0, 1, 2, 2, 1, 0]), np.array([0, 2, 2, 0, 2, 0]), 3),
            (np.array([0, 1, 3]), np.array([1, 1, 0]), 4),
            (np.array([1, 0]), np.array([1, 1]), 3),  # the last class does not occur
        ],
        section=5,
        hints=(
            "Row: what it is. Column: what it was taken for. Each image adds 1 to one field.",
            "Loop over zip(labels, predictions); begin with np.zeros((classes, classes)).",
        ),
        mistakes=(
            Mistake("it is transposed: rows are true classes, columns are predictions",
                    lambda labels, predictions, classes: _confusion(predictions, labels, classes)),
            Mistake("there is a row and a column for each of the classes, also for one that does "
                    "not occur",
                    lambda labels, predictions, classes: _confusion(
                        labels, predictions, 1 + max(*labels, *predictions))),
            Mistake("these are shares; counts are asked for",
                    lambda labels, predictions, classes:
                    _confusion(labels, predictions, classes) / len(labels)),
            Mistake("a field that occurs twice is counted once: counts[a, b] += 1 with arrays "
                    "does not add up, np.add.at does",
                    lambda labels, predictions, classes:
                    _confusion(labels, predictions, classes) > 0),
            Mistake("only the correct ones are counted",
                    lambda labels, predictions, classes:
                    np.diag(np.diag(_confusion(labels, predictions, classes)))),
        ),
    ),
)  # fmt: skip
