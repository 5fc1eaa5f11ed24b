"""The diagrams of units: what they are traced from, and that every unit can be drawn."""

import numpy as np
import pytest

from tinyshuffle import plots
from tinyshuffle.gradcheck.cases import CASES
from tinyshuffle.models import ShuffleUnitV1, ShuffleUnitV2
from tinyshuffle.plots.units import _Layout, trace

UNITS = [name for name, (build, shape) in CASES.items() if len(shape) == 4]


def test_a_trace_is_the_unit_in_its_running_order():
    boxes = trace(ShuffleUnitV1(24, 24, 3, 1), (1, 6, 5, 24))
    assert [box.lines[0] for box in boxes] == [
        "6×5×24", "1×1 grouped conv", "channel shuffle", "3×3 depthwise", "1×1 grouped conv", "add"
    ]  # fmt: skip
    assert boxes[1].lines[1:] == ["24 → 6, g = 3", "1.44 k", "BN · ReLU"]
    assert boxes[3].tail == ["BN"]  # V1, section 3.2: no ReLU behind the depthwise convolution
    assert [box.inputs for box in boxes] == [[], [0], [1], [2], [3], [0, 4]]


def test_a_split_is_what_both_halves_come_from():
    boxes = trace(ShuffleUnitV2(16, 16, 1), (1, 6, 5, 16))
    words = [box.lines[0] for box in boxes]
    split, concat = words.index("channel split"), words.index("concat")
    assert boxes[split].lines[1] == "8 | 8" and boxes[concat].lines[1] == "8 + 8"
    assert boxes[concat].inputs == [split, concat - 1]  # the untouched half stands on the left


@pytest.mark.parametrize("name", UNITS)
def test_boxes_neither_overlap_nor_leave_the_figure(name):
    build, shape = CASES[name]
    figure = plots.unit(build(), shape)
    layout = _Layout(trace(build(), shape))
    layout.place(layout.chain, 0, layout.height, 0)
    assert set(layout.centre) == set(range(len(layout.boxes)))
    frames = []
    for i, (x, y) in layout.centre.items():
        w, h = layout.box_size(i)
        frames.append((x - w / 2, x + w / 2, y - h / 2, y + h / 2))
    for i, (left, right, low, high) in enumerate(frames):
        assert right - left <= layout.width + 1e-9 and low > -1e-9
        for other in frames[:i]:
            apart = right <= other[0] or other[1] <= left or high <= other[2] or other[3] <= low
            assert apart
    assert figure.get_figwidth() > layout.width


def test_the_other_figures_are_drawn():
    shares = np.where(np.triu(np.ones((3, 3))), 0.5, np.nan)
    assert plots.feature_reuse(shares).axes
    assert plots.channel_ages([[0, 0], [0, 1]]).axes
    assert plots.kind_bars({"a": {"pointwise": 1.0}, "b": {"depthwise": 2.0}}, "words").axes
    assert plots.accuracy_map([("a", 1e6, 70.0, "here", "left")]).axes
