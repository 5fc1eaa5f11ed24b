"""What notebooks show: figures with alternative text, tables, sliders; and the lessons' figures."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

import tinyshuffle as ts
from tinyshuffle import ops, plots

display = pytest.importorskip("IPython.core.displaypub", reason="pip install jupyter")


@pytest.fixture
def shown(monkeypatch) -> list[tuple[dict, dict]]:
    """What is displayed, as (data, metadata), without a notebook."""
    import IPython.display

    out: list[tuple[dict, dict]] = []
    monkeypatch.setattr(
        IPython.display, "display", lambda data, metadata, raw: out.append((data, metadata))
    )
    return out


def bars(count: int = 2, high: bool = False) -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.subplots().bar(range(count), [2 if high else 1] * count)
    return figure


def test_a_figure_is_stored_with_its_alternative_text(shown):
    plots.show(bars(), alt="two bars & nothing else")
    (data, metadata), = shown
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"] == {"alt": "two bars & nothing else", "width": 288}
    assert data["text/plain"] == "two bars & nothing else"


def test_the_same_figure_is_the_same_bytes(shown):
    plots.show(bars(), alt="")
    plots.show(bars(), alt="")
    assert shown[0] == shown[1]


def test_a_slider_shows_its_start_and_answers_when_moved(shown, monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    made: list = []
    make = widgets.VBox
    monkeypatch.setattr(widgets, "VBox", lambda parts: made.extend(parts) or make(parts))

    plots.slider(bars, alt="{count} bars, high: {high}", count=range(1, 5), high=[False, True])
    (data, _), = shown
    assert data["text/plain"] == "2 bars, high: False"  # the function's defaults
    assert "image/png" in data and "application/vnd.jupyter.widget-view+json" in data

    count, high, picture = made
    before = picture.value
    assert 'alt="2 bars, high: False"' in before
    count.value = 4
    assert 'alt="4 bars, high: False"' in picture.value and picture.value != before
    high.value = True
    assert 'alt="4 bars, high: True"' in picture.value


def test_no_move_of_a_slider_leads_to_a_picture_that_there_is_not(shown, monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    made: list = []
    make = widgets.VBox
    monkeypatch.setattr(widgets, "VBox", lambda parts: made.extend(parts) or make(parts))

    def draw(channels=48, groups=8):
        assert channels % groups == 0
        return bars(groups)

    plots.slider(draw, alt="{channels} in {groups}", channels=[24, 48, 64], groups=[2, 3, 8],
                 possible=lambda channels, groups: channels % groups == 0)  # fmt: skip
    channels, groups, picture = made
    assert channels.options == (24, 48, 64) and groups.options == (2, 3, 8)
    channels.value = 64
    assert groups.options == (2, 8) and 'alt="64 in 8"' in picture.value
    groups.value = 2
    channels.value = 24
    groups.value = 3
    assert channels.options == (24, 48) and 'alt="24 in 3"' in picture.value


def test_without_ipywidgets_a_slider_is_a_picture(shown, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    plots.slider(bars, alt="{count} bars", count=[1, 2])
    (data, _), = shown
    assert set(data) == {"image/png", "text/plain"}


def test_a_table_aligns_numbers_and_escapes_text(shown):
    plots.table(["net", "count", "share"], [["a < b", 12345, "1.5 %"], ["c", 6, "20 %"]])
    (data, _), = shown
    assert data["text/plain"] == (
        "net     count  share\na < b  12,345  1.5 %\nc           6   20 %"
    )
    markup = data["text/html"]
    assert "a &lt; b" in markup and markup.count("text-align: right") == 6
    assert "overflow-x: auto" in markup


def test_a_profile_and_a_papers_table_can_be_shown(shown):
    plots.table(*ts.cost.profile("shufflenet_v2_x0_5").table("stage"))
    assert "stage2" in shown[0][0]["text/plain"]


# ---- the figures show what they say


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def connections(channels: int, groups: int) -> np.ndarray:
    one_at_a_time = np.eye(channels).reshape(channels, 1, 1, channels)
    ones = np.ones((1, 1, channels // groups, channels))
    return ops.pointwise_conv2d(one_at_a_time, ones, groups=groups).reshape(channels, channels)


def test_a_window_of_stride_two_begins_where_it_must():
    words = texts(plots.sliding_window(size=5, kernel=3, stride=2, padding=1, pixel=(1, 2)))
    assert {f"{i},{j}" for i in range(3) for j in range(3)} <= set(words)
    assert words.count("1,2") == 2  # a tap, and the pixel
    assert "3×3 output; pixel p,q" in words


def test_a_window_that_there_is_not_is_refused():
    with pytest.raises(ts.TinyshuffleError, match="2 x 2 pixels, and none at .0, 4."):
        plots.sliding_window(size=5, kernel=3, stride=2, padding=0, pixel=(0, 4))


def test_a_faint_filter_is_drawn_as_strong_as_the_others():
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 2)).astype(np.float32)
    pictures = [
        [image.get_array() for image in plots.filters({"w": w}).findobj(AxesImage)]
        for w in (weights, weights * [1, 0.01])
    ]
    assert len(pictures[0]) == 2 and np.allclose(*pictures, atol=1e-6)


def test_an_axis_has_room_for_what_follows():
    one = {"a": {"inputs": 1e6, "weights": 1e6}}
    ends = [plots.memory_parts(one, most=m).axes[0].get_xlim()[1] for m in (0.0, 5e6)]
    assert ends[0] < 3 < 5 < ends[1]


def test_bars_of_channels_say_how_many_and_keep_their_axis():
    figure = plots.channel_bars({"ResNet": 99.6, "ShuffleNet": 240}, "channels, g = 3", most=500)
    assert {" 100", " 240", "channels, g = 3"} <= set(texts(figure))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["ResNet", "ShuffleNet"]
    assert figure.axes[0].get_xlim() == (0, 500)
    lengths = [bar.get_width() for bar in figure.axes[0].patches]
    assert lengths == [99.6, 240] and figure.axes[0].yaxis_inverted()


def test_connectivity_counts_connections():
    figure = plots.connectivity({"three": connections(12, 3), "depthwise": connections(12, 12)})
    assert {"three\n48 connections", "depthwise\n12 connections"} <= set(texts(figure))


def test_groups_meet_only_through_a_shuffle():
    conv = connections(12, 3)
    shuffle = ops.channel_shuffle(np.eye(12).reshape(12, 1, 1, 12), 3).reshape(12, 12)
    apart = texts(plots.reach([("one", conv), ("two", conv)], 3))
    assert [apart.count(letter) for letter in "ABC"] == [12, 12, 12]  # 4 in each of 3 rows
    mixed = texts(plots.reach([("one", conv), ("shuffle", shuffle), ("two", conv)], 3))
    assert [mixed.count(letter) for letter in "ABC"] == [24, 24, 24]  # 4 + 4 + 4, then all 12


def test_number_grid_leaves_zeros_out():
    words = texts(plots.number_grid(np.array([[3, 0], [0, 7]]), "to", "from", letters=True))
    assert {"3", "7", "A", "B"} <= set(words) and "0" not in words


def test_a_graph_shows_the_messages_and_which_arrows_carry_one():
    places = {"x": (0, 0), "z": (1, 0), "y": (0, 1)}
    figure = plots.dataflow(places, [("x", "y", "w dy"), ("z", "y", "")], marked=["x"])
    words = texts(figure)
    assert {"x", "z", "y", "w dy"} <= set(words)
    arrows = [t.arrow_patch for t in figure.axes[0].texts if getattr(t, "arrow_patch", None)]
    heavy, light = (arrow.get_linewidth() for arrow in arrows)
    assert heavy > light
    figure.draw_without_rendering()


def test_a_map_of_both_signs_is_grey_where_it_is_zero():
    signed = np.array([[-2.0, 0.0], [1.0, 0.5]])
    maps = {"photo": np.zeros((2, 2, 3), np.uint8), "signed": signed, "positive": abs(signed)}
    figure = plots.feature_maps(maps, columns=2, groups=[0, 1, 2])
    images = figure.findobj(AxesImage)
    assert [image.get_clim() for image in images[1:]] == [(-2, 2), (0, 2)]
    assert set(maps) <= set(texts(figure))
    frames = [axes.patches[0] for axes in figure.axes[:3]]
    assert len({frame.get_linestyle() for frame in frames}) == 3  # not by colour alone
    assert len({frame.get_edgecolor() for frame in frames}) == 3


def test_cost_figures_draw():
    profile = ts.cost.profile("mobilenet_v1_x0_25")
    for figure in (
        plots.layer_bars(profile.rows, {"multiply_adds": "work", "params": "weights"}),
        plots.kind_shares(profile.by("kind"), {"memory_access": "memory"}),
        plots.cost_over_groups(14, 24, 48, 3),
        plots.error_against_eps(np.array([0.1, 0.01]), {"a float64": [1, 0], "a float32": [1, 2]}),
    ):
        figure.draw_without_rendering()
