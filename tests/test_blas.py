"""Threads of NumPy's matrix products: the lowest limit holds, and what was before comes back."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from tinyshuffle import blas


def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_limits_are_left_in_any_order():
    before = threads()
    low, high = blas.limit(1), blas.limit(2)
    with blas.limit(2):
        low.__enter__()
        high.__enter__()
        assert threads() == {1}
        low.__exit__(None, None, None)
        assert max(threads()) <= 2
        high.__exit__(None, None, None)
    assert threads() == before
