"""The figures of notebooks 7, 9 and 10 show what they say, and fit on a telephone."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tinyshuffle import data, plots
from tinyshuffle.bench.guidelines import GUIDELINES, Found
from tinyshuffle.bench.nets import NETS, Row, Rows
from tinyshuffle.machine import describe

TELEPHONE = 5.3  # inches that 360 CSS pixels can show at 70 % of their size


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def offsets(collection) -> list[list[float]]:
    return np.asarray(collection.get_offsets()).tolist()


def test_the_parts_of_a_bar_add_up():
    rows = {"a": {"in": 1e6, "out": 3e6, "weights": 0.5e6},
            "b": {"in": 2e6, "out": 2e6, "weights": 0.5e6}}  # fmt: skip
    figure = plots.memory_parts(rows, floor=4.25e6)
    (axes,) = figure.axes
    bars = [(b.get_x(), b.get_x() + b.get_width()) for b in axes.patches]
    assert bars == [(0, 1), (0, 2), (1, 4), (2, 4), (4, 4.5), (4, 4.5)]  # part by part
    assert list(axes.lines[0].get_xdata()) == [4.25, 4.25]
    assert {"a", "b", "in", "out", "weights", "least possible", " 4.50"} <= set(texts(figure))
    assert figure.get_figwidth() < TELEPHONE
    assert not plots.memory_parts(rows).axes[0].lines


def test_time_against_memory_has_both_lines():
    points = {"G1": [(1.5, 1.2), (2.0, 1.1)], "G2": [(3.0, 0.9)]}
    figure = plots.time_against_memory(points)
    (axes,) = figure.axes
    assert [offsets(c) for c in axes.collections] == [[[1.5, 1.2], [2.0, 1.1]], [[3.0, 0.9]]]
    level, rising = axes.lines
    assert set(level.get_ydata()) == {1} and list(rising.get_xdata()) == list(rising.get_ydata())
    assert rising.get_xdata()[1] > 3
    assert {"G1", "G2", level.get_label(), rising.get_label()} <= set(texts(figure))
    assert figure.get_figwidth() < TELEPHONE


def test_the_roof_bends_at_the_ridge():
    points = {"depthwise": [(1.0, 20e9)], "pointwise": [(16.0, 90e9), (8.0, 80e9)]}
    figure = plots.roof(points, peak=100e9, bandwidth=20e9)
    (axes,) = figure.axes
    x, y = axes.lines[0].get_data()
    assert x[1] == 5 and list(y[1:]) == [100, 100]
    assert y[0] / x[0] == pytest.approx(20)  # GB/s times multiply-adds a byte
    marks = {c.get_label(): offsets(c) for c in axes.collections}
    assert marks == {"pointwise": [[16, 90], [8, 80]], "depthwise": [[1, 20]]}
    assert {"100 a ns", "20 GB/s"} <= set(texts(figure))
    assert plots.roof({}, 100e9, 20e9).axes[0].lines
    assert figure.get_figwidth() < TELEPHONE


def test_layers_against_the_clock():
    layers = [("pointwise", 1e-3, 2e-3), ("depthwise", 3e-4, 1e-4)]
    figure = plots.against_the_clock(layers)
    (axes,) = figure.axes
    marks = {c.get_label(): offsets(c)[0] for c in axes.collections}
    assert marks["pointwise"] == pytest.approx([2, 1])  # measured across, predicted up
    assert marks["depthwise"] == pytest.approx([0.1, 0.3])
    assert "measured, ms (log scale)" in texts(figure)
    assert figure.get_figwidth() < TELEPHONE


def test_panels_can_stand_below_each_other():
    table = GUIDELINES["g1"]
    turns = [[1.0, 1.0], [2.0, 2.0], [2.0, 4.0], [4.0, 4.0]]
    found = [Found("tinyshuffle", {"ARM x1": turns, "ARM x4": turns}, 0)]
    for figure in plots.guideline(table, found, across=1), plots.foretold(rows(), across=1):
        figure.draw_without_rendering()
        lefts = {round(axes.get_position().x0, 2) for axes in figure.axes}
        assert len(lefts) == 1 and len(figure.axes) > 1
        assert figure.get_figwidth() < TELEPHONE
    assert plots.guideline(table, found).get_figwidth() > TELEPHONE  # side by side by default
    wide = plots.foretold(rows()).axes
    assert len({round(axes.get_position().y0, 2) for axes in wide}) == 1


def test_a_guideline_stands_beside_what_memory_access_foretells():
    turns = [[1.0, 1.0], [2.0, 2.0], [2.0, 4.0], [4.0, 4.0]]
    figure = plots.guideline(GUIDELINES["g1"], [Found("tinyshuffle", {"ARM x1": turns}, 0)])
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    totals = [56 * 56 * (a + b) + a * b for a, b in ((32, 32), (22, 44), (13, 78), (9, 108))]
    predicted = lines["predicted, if memory access were time"]
    assert predicted == pytest.approx([totals[0] / total for total in totals])


def test_every_family_is_drawn_though_there_are_more_than_colours():
    found = Rows([Row(net, [1e-3 * i] * 3, 10 + i, 20 - i, 1e-3 / i)
                  for i, net in enumerate(NETS, 1)], describe(1), [])  # fmt: skip
    for axes in plots.foretold(found).axes:
        assert sum(len(offsets(c)) for c in axes.collections) == len(NETS)
        looks = {(str(c.get_facecolor()), len(c.get_paths()[0])) for c in axes.collections}
        assert len(looks) == len(axes.collections) > 7


@pytest.mark.parametrize("most", [1.5, 8, 20, 60, 200, 50_000])
def test_no_two_labels_of_an_axis_overlap(most):
    """Half a decade or five: in plain numbers, at least two of them."""
    ends = [(1.3, 1.3), (1.3 * most, 1.3 * most)]
    layers = [("pointwise", 1e-3 * y, 1e-3 * x) for x, y in ends]
    figures = (
        plots.foretold(Rows([
            Row(NETS[i], [1e-3 * x] * 3, round(1e6 * x), round(1e6 * x), 1e-3 * x)
            for i, (x, _) in enumerate(ends)
        ], describe(1), [])),
        plots.against_the_clock(layers),
        plots.roof({"pointwise": [(x, 1e9 * y) for x, y in ends]}, 1e9 * most, 1e9),
    )  # fmt: skip
    for figure in figures:
        figure.draw_without_rendering()
        for axes in figure.axes:
            for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
                low, high = axis.get_view_interval()
                labels = [tick.label1 for tick in axis.get_major_ticks()
                          if low <= tick.get_loc() <= high]  # fmt: skip
                extents = [label.get_window_extent() for label in labels if label.get_visible()]
                boxes = sorted((box.min[side], box.max[side]) for box in extents)
                assert not any(t.get_text() for t in axis.get_ticklabels(minor=True))
                assert len(boxes) >= 2 or not labels[0].get_visible()
                assert all(a[1] < b[0] for a, b in zip(boxes, boxes[1:], strict=False)), boxes


def rows() -> Rows:
    ways = enumerate(NETS[:4], 1)
    found = [Row(net, [1e-3 * i] * 3, 10 + i, 20 - i, 1e-3 / i) for i, net in ways]
    return Rows(found, describe(1), [])


def test_a_nets_figures_fit_on_a_telephone():
    _, test = data.load("shapes")
    p = np.eye(10)[(test.labels + 1) % 10]  # all wrong
    figure = plots.worst_images(test, p, count=4, columns=3)
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(figure.axes) == 6 and len(drawn) == 4
    for narrow in (figure, plots.confusion(np.eye(10, dtype=int), test.classes),
                   plots.samples(test, each=4),
                   plots.compare({"a": [{"epoch": 1, "seconds": 60, "test_accuracy": 0.5}]})):
        assert narrow.get_figwidth() < TELEPHONE
