"""The V2 paper's guidelines: equal multiply-adds, verdicts, and the whole command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle import plots
from tinyshuffle.bench import blocks, guidelines
from tinyshuffle.bench.guideline_tables import relative_memory_access
from tinyshuffle.bench.guidelines import GUIDELINES, Found, median_interval, verdict
from tinyshuffle.cli import cli


@pytest.mark.parametrize("name", GUIDELINES)
def test_rows_cost_the_same_multiply_adds(name):
    """Up to the whole channels that the paper rounds to, which are named here."""
    for column in GUIDELINES[name].columns:
        counts = guidelines.relative_multiply_adds(column)
        widest = max(abs(count - 1) for count in counts)
        bound = {
            "g1": 0.055,  # 22:44 and 9:108 are a twentieth short of 32:32
            "g2": 0.034,  # 184 channels in 8 groups: the paper's 180 do not make 8
            "g3": 0.02,  # 64 / √2 = 45.25
            "g4": 0.0,
        }[name]
        assert widest <= bound, (column.name, counts)
        assert len(column.specs) == len(column.published) == len(GUIDELINES[name].rows)


def test_multiply_adds_are_those_of_the_paper():
    """G1, GPU x1: 20 pointwise convolutions of 128 channels at 56x56."""
    column = GUIDELINES["g1"].columns[0]
    net = blocks.build(column.specs[0])
    assert ts.cost.profile(net, (1, 56, 56, 128)).total.multiply_adds == 20 * 56 * 56 * 128**2
    bottleneck = blocks.build(blocks.residual(32, True, True))
    count = ts.cost.profile(bottleneck, (1, 56, 56, 32)).total.multiply_adds
    assert count == 10 * 56 * 56 * (32 * 8 + 9 * 8 * 8 + 8 * 32)


def test_unequal_rows_are_refused(monkeypatch):
    column = guidelines.Column("GPU x1", [blocks.grouped(16, 1), blocks.grouped(16, 4)],
                               ["16", "16"], [1.0, 1.0])  # fmt: skip
    monkeypatch.setattr(guidelines, "SIZE", 4)
    with pytest.raises(AssertionError, match="GPU x1"):
        guidelines.relative_multiply_adds(column)


def test_branches_are_added(rng):
    """A block of G3 and one of G4, by hand."""
    x = rng.standard_normal((1, 3, 2, 6)).astype(np.float32)
    net = blocks.build(blocks.fragments(6, 2, True)[:1]).eval()
    a, b = (p.data[0, 0] for p in net.parameters())
    np.testing.assert_allclose(net(x), x @ a + x @ b, rtol=1e-5, atol=1e-5)
    net = blocks.build(blocks.residual(8, relu=False, shortcut=True)[:1]).eval()
    x = rng.standard_normal((1, 1, 1, 8)).astype(np.float32)
    a, b, c = (p.data for p in net.parameters())
    np.testing.assert_allclose(
        net(x), x + x @ a[0, 0] @ b[1, 1] @ c[0, 0], rtol=1e-5, atol=1e-5
    )
    rectified = blocks.build(blocks.residual(8, relu=True, shortcut=False)[:6]).eval()
    assert rectified(x).min() == 0


# ---- verdicts


@pytest.mark.parametrize(("n", "k"), [(5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (17, 5)])
def test_the_interval_of_a_median(n, k):
    """The order statistics that tables of the sign test give for 95 %."""
    assert median_interval(list(range(1, n + 1))) == (k, n + 1 - k)


def test_the_interval_holds_the_median_as_often_as_it_says(rng):
    values = rng.exponential(size=(2000, 9))  # far from normal; its median is log 2
    inside = [low <= np.log(2) <= high for low, high in map(median_interval, values.tolist())]
    assert np.mean(inside) >= 0.95


def turns(rng, *rows, noise=0.02):
    """Turns whose machine becomes faster and slower, for all rows alike."""
    machine = rng.uniform(1, 3, 7)
    return [(row * machine * rng.normal(1, noise, 7)).tolist() for row in rows]


def test_verdicts_on_known_answers(rng):
    slower, equal, faster = (
        [turns(rng, 1.0, 1.2, 1.5), turns(rng, 2.0, 2.4, 3.0)],
        [turns(rng, 1.0, 1.0, 1.0), turns(rng, 2.0, 2.0, 2.0)],
        [turns(rng, 1.0, 0.8, 0.7), turns(rng, 2.0, 1.6, 1.4)],
    )
    assert verdict(slower, 0).word == "holds"
    assert verdict(slower, 0).slowdown == pytest.approx((1.2 * 1.5) ** 0.5, rel=0.03)
    assert verdict(faster, 0).word == "does not hold"
    equal[0][1] = [t * f for t, f in zip(equal[0][0], [0.9, 1.1, 0.9, 1.1, 0.9, 1.1, 1.0],
                                         strict=True)]  # fmt: skip
    assert verdict(equal[:1], 0).word == "too close to call"
    # G4 advises the last row
    assert verdict(slower, 2).word == "does not hold" and verdict(faster, 2).word == "holds"
    # the same answer drowns in noise
    loud = [turns(rng, 1.0, 1.02, 1.02, noise=0.3)]
    assert verdict(loud, 0).word == "too close to call"


def test_a_found_table_speaks_of_every_row():
    found = Found("tinyshuffle", {"ARM x1": [[1.0, 2.0], [2.0, 4.0], [0.5, 1.0], [1.0, 2.0]]}, 0)
    assert [found.speed("ARM x1", row).median for row in range(4)] == [1, 0.5, 2, 1]


# ---- the whole command


@pytest.fixture
def tiny(monkeypatch):
    """Small images, few turns; and no peers, which tests/peers has."""
    monkeypatch.setattr(guidelines, "SIZE", 4)
    monkeypatch.setattr(guidelines, "QUICK", guidelines.Effort(2, 0.001, ("ARM x1", "ARM c=64")))
    monkeypatch.setattr("tinyshuffle.bench.peers.installed_peers", lambda: [])


def run(*arguments):
    result = CliRunner().invoke(cli, ["bench", "guidelines", *arguments])
    return result


def test_the_command(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    result = run("--quick", "--threads", "1", "--plots", str(tmp_path / "figures"))
    assert result.exit_code == 0, result.output
    out = result.stdout
    for words in ("Table 1, c1:c2", "9, 108", "Table 2, groups", "184", "2 in parallel",
                  "shortcut only", "NumPy backend", "G4 in tinyshuffle: "):  # fmt: skip
        assert words in out, words
    for name in GUIDELINES:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_in_a_narrow_terminal(tiny, monkeypatch):
    """A line for each figure, of every guideline."""
    monkeypatch.setenv("COLUMNS", "40")
    result = run("--quick", "--threads", "1")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in ("1:12", "channels 9, 108", "channels 184", "2 in parallel", "shortcut only",
                 "NumPy backend 1"):  # fmt: skip
        assert line in lines, line
    assert lines.count("verdict") == len(GUIDELINES) and "G4 in tinyshuffle: " in result.stdout


def test_the_command_in_json(tiny):
    result = run("g2", "--quick", "--format", "json", "--threads", "1")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert "g1" not in record and record["machine"]["cpu"]
    (column,) = record["g2"]["columns"]
    assert column["name"] == "ARM x1" and column["published"] == [40.0, 35.0, 32.9, 27.8]
    assert column["channels"] == ["64", "90", "128", "184"]
    for side in ("tinyshuffle", "NumPy backend"):
        mine = column["sides"][side]
        assert len(mine["seconds"]) == 4 and min(mine["seconds"]) > 0
        assert mine["speed"][0]["median"] == 1
        words = ("holds", "does not hold", "too close to call")
        assert record["g2"]["verdicts"][side]["word"] in words


def test_mistakes_are_one_sentence():
    result = run("g5")
    assert result.exit_code == 1
    assert result.stderr == "Error: g5 is not a guideline: use g1, g2, g3, g4\n"


def test_the_figure_has_the_published_and_the_measured():
    table = GUIDELINES["g1"]
    seconds = {"ARM x1": [[1.0, 1.0], [2.0, 2.0], [2.0, 4.0], [4.0, 4.0]]}
    figure = plots.guideline(table, [Found("tinyshuffle", seconds, 0)])
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    level, published, predicted, measured = axes.lines[:4]
    assert published.get_ydata()[-1] == pytest.approx(57.6 / 76.2)
    (column,) = (c for c in table.columns if c.name == "ARM x1")
    memory = relative_memory_access(column)
    assert list(predicted.get_ydata()) == [1 / m for m in memory] and memory[1] > 1
    assert list(measured.get_ydata()) == [1, 0.5, 0.375, 0.25]
