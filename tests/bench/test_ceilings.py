"""What is measured of the machine."""

from __future__ import annotations

import pytest

from tinyshuffle.bench import ceilings


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_are_measured(threads):
    assert ceilings.matrix_peak(threads, seconds=0.0, size=64) > 0
    for past_cache in (False, True):
        assert ceilings.bandwidth(2**20, threads, 0.0, past_cache) > 0


def test_stores_past_the_cache_are_never_the_lower_ceiling(monkeypatch):
    monkeypatch.setattr(ceilings, "matrix_peak", lambda *_: 1e11)
    monkeypatch.setattr(ceilings, "bandwidth", lambda n, threads, s, past: 8e9 if past else 1e10)
    assert ceilings.measure(1, 0.0) == ceilings.Ceilings(1e11, 1e10, 1e10)
    assert ceilings.Ceilings(1e11, 1e10).past_cache == 1e10
