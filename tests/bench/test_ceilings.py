"""What is measured of the machine."""

from __future__ import annotations

import pytest

from tinyshuffle.bench import ceilings


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_are_measured(threads):
    assert ceilings.matrix_peak(threads, seconds=0.0, size=64) > 0
    assert ceilings.bandwidth(2**20, threads, seconds=0.0) > 0
