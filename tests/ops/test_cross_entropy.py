"""Cross entropy where a probability is zero, or a logit at the end of its type."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, nn
from tinyshuffle.backend import F

pytestmark = pytest.mark.usefixtures("each_backend")

INF = math.inf
E = math.e


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("logits", "label", "smoothing", "loss", "p"),
    [
        ([0, -INF, 1], 0, 0, math.log(1 + E), [1 / (1 + E), 0, E / (1 + E)]),
        ([0, -INF, 1], 1, 0, INF, [1 / (1 + E), 0, E / (1 + E)]),
        ([0, -INF, 1], 0, 0.1, INF, [1 / (1 + E), 0, E / (1 + E)]),
        ([0, -INF, 1], 1, 1, INF, [1 / (1 + E), 0, E / (1 + E)]),
        ([3e38, -3e38, 0], 0, 0, 0, [1, 0, 0]),
        ([3e38, 3e38, -3e38], 1, 0, math.log(2), [0.5, 0.5, 0]),
        ([-3e38, -3e38, -3e38], 2, 0.3, math.log(3), [1 / 3, 1 / 3, 1 / 3]),
        ([-INF, -INF, 5], 2, 0, 0, [0, 0, 1]),
        ([0, 0, 0], 0, 1, math.log(3), [1 / 3, 1 / 3, 1 / 3]),
    ],
    ids=str,
)
def test_infinite_logits(dtype, logits, label, smoothing, loss, p):
    function = nn.CrossEntropyLoss(smoothing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = function(np.array([logits], dtype), np.array([label]))
        gradient = function.backward()
    assert value == pytest.approx(loss, rel=1e-6, abs=1e-6)
    target = np.full(3, smoothing / 3)
    target[label] += 1 - smoothing
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient[0], np.array(p) - target, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((2, 3)), [0, -1], "labels go from -1 to 0"),
        (np.zeros((2, 3)), [0, 3], "labels go from 0 to 3"),
        (np.zeros((2, 3)), [0.0, 1.0], "whole numbers"),
        (np.zeros((2, 3)), [0], "one label for each image"),
        (np.zeros((0, 3)), np.zeros(0, int), "empty batch"),
    ],
)
def test_labels_are_checked_in_the_function_too(logits, labels, words):
    for call in nn.CrossEntropyLoss(), F.cross_entropy, F.cross_entropy_backward:
        with pytest.raises(TinyshuffleError, match=words):
            call(logits, np.asarray(labels))
