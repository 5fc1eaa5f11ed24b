"""docs/counters.md: what eight counters say of torchvision's nets, reproduced to the digit."""

from __future__ import annotations

import pytest
from peers.counters import COUNTERS, NETS, PAGE, read, table

from tinyshuffle import cost

_, CELLS = read()


def test_there_are_all_nets_of_torchvision_and_eight_counters():
    assert list(CELLS) == NETS and len(NETS) >= 20
    assert all(list(row) == list(COUNTERS) for row in CELLS.values())
    assert len(COUNTERS) >= 6


@pytest.mark.parametrize("net", NETS)
def test_every_cell_is_reproduced_to_the_digit(net):
    ours = {
        counter: cost.profile(net, convention=convention).total.multiply_adds
        for counter, (_, convention, _) in COUNTERS.items()
    }
    assert ours == CELLS[net]


def test_the_page_shows_them():
    assert PAGE.read_text(encoding="utf-8").endswith(table())
