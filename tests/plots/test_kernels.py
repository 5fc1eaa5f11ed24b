"""The figures of the kernels and of the first filters show what they say."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tinyshuffle import plots


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_a_curve_goes_through_its_values():
    figure = plots.curves([1, 2, 4], {"a": [3, 1, 2], "b": [1, 1, 1]}, "size", "ms",
                          marks={"here": 2}, log="x")  # fmt: skip
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[3, 1, 2], [1, 1, 1]]
    assert {"size (log scale)", "ms", " here", "a", "b"} <= set(texts(figure))
    assert axes.get_ylim()[0] == 0  # a share can be read off


def test_bars_end_at_the_times():
    figure = plots.speed_bars({"slow": 2.0, "fast": 0.005}, "ms", 1e3, {"floor": 0.001})
    (axes,) = figure.axes
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == pytest.approx([2000, 5])
    assert {" 2e+03", " 5", "slow", "fast", "floor", "ms (log scale)"} <= set(texts(figure))


@pytest.mark.parametrize(("registers", "best"), [(16, "1.71"), (32, "2.40")])
def test_the_best_tile_fits_the_registers(registers, best):
    # by trying all: R·V sums, V vectors and one spread number
    found = max(r * v / (r + v) for r in range(1, 13) for v in range(1, 5)
                if r * v + v + 1 <= registers)  # fmt: skip
    assert f"{found:.2f}" == best
    figure = plots.tile_choices(registers)
    bold = {t.get_text() for t in figure.findobj(Text) if t.get_weight() == "bold"}
    assert bold == {best} and f"{12 * 4 / 16:.2f}" not in texts(figure)


def test_every_filter_is_drawn_with_zero_in_grey():
    w = np.zeros((3, 3, 3, 10))
    w[0, 0, 0, 4] = -2
    figure = plots.filters({"before": w, "after": w})
    pictures = [image.get_array() for axes in figure.findobj() if hasattr(axes, "get_images")
                for image in axes.get_images()]  # fmt: skip
    assert len(pictures) == 20
    assert pictures[4][0, 0, 0] == 0 and pictures[4][1, 1, 1] == 0.5
    assert (pictures[3] == 0.5).all()  # a filter of zeros
    assert {"before", "after"} <= set(texts(figure))
