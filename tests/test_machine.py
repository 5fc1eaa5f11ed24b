"""What is said of the machine."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tinyshuffle import machine


def test_the_machine_describes_itself():
    found = machine.describe(threads=3)
    assert found.cpu and found.cores >= 1 and found.threads == 3 and found.blas
    assert {"Python", "NumPy", "numba"} <= found.versions.keys()
    text = "\n".join(found.lines())
    assert found.cpu in text and "threads: 3" in text and found.versions["NumPy"] in text
    assert machine.Machine(**json.loads(json.dumps(found.to_dict()))) == found


def test_memory_grows_with_what_is_held():
    before = machine.resident_memory()
    if before is None:
        pytest.skip("this system does not say")
    block = np.ones(2**24)
    after = machine.resident_memory()
    assert after[0] >= before[1] + block.nbytes // 2
