"""Cases by number: each draws from a generator of its own, so that one that fails can be repeated.

A kind of cases is a function of a generator. It raises if the case fails, and returns a word on how
the case went, which is counted.
"""

from __future__ import annotations

import traceback
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np

__all__ = ["generator", "run_cases"]

SEED = 20181010

Case = Callable[[np.random.Generator], str]


def generator(kind: str, number: int) -> np.random.Generator:
    """The generator of a case; the kinds' are independent."""
    return np.random.default_rng([SEED, zlib.crc32(kind.encode()), number])


def run_cases(kind: str, count: int, case: Case) -> None:
    """Run ``count`` cases, print how they went, and fail with the numbers of those that failed.

    ``case(generator(kind, number))`` repeats one.
    """
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    for number in range(count):
        try:
            outcomes[case(generator(kind, number))] += 1
        except AssertionError as error:
            failures.append(f"{kind} {number}: {error}")
        except Exception:
            failures.append(f"{kind} {number}: {traceback.format_exc(limit=-3).strip()}")
    words = ", ".join(f"{n:,} {word}" for word, n in sorted(outcomes.items()))
    print(f"\n{kind}: {count:,} cases, {len(failures):,} failures; {words}")
    shown = "\n".join(failures[:60])
    assert not failures, (
        f"{len(failures)} of {count} cases of {kind!r} fail (repeat one with "
        f"case(generator({kind!r}, number))):\n{shown}"
    )
