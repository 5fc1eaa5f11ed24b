"""Figures of detection hold what they are given, an empty picture and a foreign name too."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.patches import Rectangle

from tinyshuffle import plots


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_boxes_stand_where_their_pixels_are():
    images = np.zeros((3, 16, 16, 3), np.uint8)
    corners = np.array([[2.0, 3, 8, 12]])
    nothing = np.zeros((0, 4)), np.zeros(0, int), None
    found = [(corners, np.array([1]), np.array([0.5])), nothing, (corners, np.array([0]), None)]
    figure = drawn(plots.boxes(images, found, ("$a", "_b"), columns=2))
    axes = figure.axes[0]
    (box,) = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert box.get_bbox().extents.tolist() == [1.5, 2.5, 7.5, 11.5]
    assert axes.texts[0].get_text().strip() == "_b 50"
    assert not figure.axes[1].patches and len(figure.axes[2].patches) == 1


def test_curves_without_small_objects():
    rows = [
        {"epoch": e, "map": 0.1 * e, "map50": 0.2 * e, "map_small": -1.0,
         **dict.fromkeys(plots.LOSSES, 1 / e)}
        for e in (1, 2)
    ]  # fmt: skip
    above, below = drawn(plots.detection_curves(rows)).axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), [10, 20])
    assert np.isnan(above.lines[2].get_ydata()).all()
    assert above.lines[2].get_label() == "mAP, small -"
    assert len(below.lines) == 4


def test_precision_of_classes_that_have_no_object():
    precision = np.full((10, 101, 3), -1.0)
    precision[..., 1] = 0.25
    left, right = drawn(plots.precision_recall(precision, ("a", "b", "c"))).axes
    assert [bar.get_width() for bar in right.patches] == [25]
    assert "AP 25.0" in left.lines[0].get_label()
    drawn(plots.precision_recall(np.full((10, 101, 1), -1.0), ("a",)))


def test_receptive_fields_have_their_square_around_the_middle():
    field = np.zeros((12, 16))
    field[4:6, 8:10] = 0.25
    figure = drawn(plots.receptive_fields({"$a": field, "b": np.zeros((4, 4))},
                                          {"$a": 2.0, "b": 0.0}))  # fmt: skip
    first, second = figure.axes
    (box,) = first.patches
    np.testing.assert_allclose(box.get_bbox().extents, [7.5, 3.5, 9.5, 5.5])
    np.testing.assert_array_equal(first.images[0].get_array(), np.sqrt(field))
    assert "2.0 pixels" in first.get_title() and len(second.patches) == 1
