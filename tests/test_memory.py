"""The pool hands memory out again, and never while somebody looks at it."""

from __future__ import annotations

import threading

import numpy as np

from tinyshuffle.memory import Pool, empty, zeros

SHAPE = (100, 1000)
SIZE = 400_000


def test_a_block_is_used_again_when_nobody_refers_to_it():
    pool = Pool()
    with pool:
        a = empty(SHAPE, np.float32)
        address = a.ctypes.data
        assert address % 64 == 0
        del a
        b = empty((1000, 100), np.int32)
        assert b.ctypes.data == address
        assert pool.nbytes == SIZE


def test_views_keep_a_block():
    pool = Pool()
    with pool:
        a = empty(SHAPE, np.float32)
        view = a.reshape(10, -1).T[3:, None]
        view[...] = 7
        del a
        for _ in range(3):
            zeros(SHAPE, np.float32)
        assert (view == 7).all()
        assert pool.nbytes == 2 * SIZE
        del view
        empty(SHAPE, np.float32)
        assert pool.nbytes == 2 * SIZE


def test_forgotten_blocks_live_on_with_their_users():
    pool = Pool()
    with pool:
        a = zeros(SHAPE, np.float64)
        pool.clear()
        assert pool.nbytes == 0
        zeros(SHAPE, np.float64).fill(1)
        assert not a.any()


def test_fresh_arrays_outside_and_in_other_threads():
    outside = empty(SHAPE, np.float32)
    assert outside.base is None
    pool = Pool()
    found = []
    with pool:
        thread = threading.Thread(target=lambda: found.append(empty(SHAPE, np.float32)))
        thread.start()
        thread.join()
        assert empty((3,), np.float32).base is None  # too small to be worth it
    assert found[0].base is None
    assert pool.nbytes == 0
    assert empty(SHAPE, np.float32).base is None
