"""Distillation: the loss is a divergence, and its gradient is checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, nn, ops

backends = pytest.mark.parametrize("backend", ["numpy", "numba"])


@backends
@given(
    st.integers(1, 6), st.integers(2, 8), st.floats(0.5, 20), st.floats(0, 1), st.integers(0, 99)
)
def test_gradient(backend, n, k, temperature, share, seed):
    rng = np.random.default_rng(seed)
    loss = nn.DistillationLoss(temperature, share)
    logits, teacher = 2 * rng.standard_normal((n, k)), 4 * rng.standard_normal((n, k))
    with ts.backend(backend):
        report = ts.gradcheck(loss, logits, rng.integers(0, k, n), teacher, seed=seed)
    assert report.passed, report
    assert report.max_relative_error <= 1e-6


def test_it_is_the_divergence_of_the_softened_answers(rng):
    z, t, temperature = rng.standard_normal((5, 7)), rng.standard_normal((5, 7)), 3.0
    q, p = (np.exp(a / temperature) for a in (z, t))
    q, p = q / q.sum(1, keepdims=True), p / p.sum(1, keepdims=True)
    value, mine_q, mine_p = ops.distillation(z, t, temperature)
    assert value == pytest.approx(9 * (p * np.log(p / q)).sum(1).mean(), rel=1e-12)
    np.testing.assert_allclose(mine_q, q, rtol=1e-12)
    np.testing.assert_allclose(mine_p, p, rtol=1e-12)
    assert ops.distillation(t, t, temperature)[0] == pytest.approx(0, abs=1e-12)


def test_hot_it_becomes_the_distance_of_logits(rng):
    """Hinton et al., section 2.1: T² KL goes to |z - t|² / 2K of logits without their mean."""
    z, t = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    z, t = z - z.mean(1, keepdims=True), t - t.mean(1, keepdims=True)
    value = ops.distillation(z, t, 1e4)[0]
    assert value == pytest.approx(((z - t) ** 2).mean() / 2, rel=1e-3)


def test_without_a_share_it_is_cross_entropy(rng):
    z, labels = rng.standard_normal((4, 6)).astype(np.float32), np.array([0, 5, 2, 2])
    one, other = nn.DistillationLoss(share=0), nn.CrossEntropyLoss()
    assert one(z, labels, 9 * z) == other(z, labels)
    dz = one.backward()
    assert dz.dtype == np.float32
    np.testing.assert_array_equal(dz, other.backward())


def test_large_logits_do_no_harm():
    loss = nn.DistillationLoss(temperature=0.5, share=1)
    z = np.array([[2000.0, -2000, 0]])
    assert loss(z, np.array([0]), z) == 0 and not loss.backward().any()


def test_what_does_not_fit():
    loss, z = nn.DistillationLoss(), np.zeros((2, 3))
    with pytest.raises(TinyshuffleError, match=r"\(2, 4\) where \(2, 3\)"):
        loss(z, np.array([0, 1]), np.zeros((2, 4)))
    with pytest.raises(TinyshuffleError, match="before the loss was computed, or twice"):
        nn.DistillationLoss().backward()
    for wrong in dict(temperature=0), dict(temperature=np.inf), dict(share=1.5):
        with pytest.raises(TinyshuffleError, match="is not possible"):
            nn.DistillationLoss(**wrong)
