"""The papers' nets and units: what they are, and the commands that time and foretell them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle import machine, plots
from tinyshuffle.bench import calibrate, nets, resolutions
from tinyshuffle.bench.nets import NETS, UNITS, Row, Rows, Subject
from tinyshuffle.bench.resolutions import RESOLUTIONS
from tinyshuffle.cli import cli
from tinyshuffle.cost.roofline import CLASSES, Rates, Speeds

RATES = Rates(1e-6, 2e-11, 1.0, 2.0)
MACHINE = Speeds(1, 1e11, [(2**10, 1e10), (2**30, 1e10)], {name: RATES for name in CLASSES},
                 1e-6, 1e-5)  # fmt: skip


def test_units_cost_the_same_multiply_adds():
    """Up to whole channels, which for V1 come in twelves."""
    counts = {
        (subject.size, subject.name.split(", ")[1], subject.unit): ts.cost.profile(
            subject.build(), subject.shape
        ).total.multiply_adds
        for subject in UNITS
    }
    assert len(counts) == len(UNITS) == 24
    for (size, width, unit), count in counts.items():
        bound = {"v2": 0, "v1": 0.07, "mobilenet v2": 0.05, "xception": 0.065}[unit]
        assert count == pytest.approx(counts[size, width, "v2"], rel=bound), (width, unit)
    assert counts[56, "c=64", "v2"] == 10 * 56 * 56 * (64**2 // 2 + 9 * 32)


def test_nets_have_the_papers_multiply_adds():
    published = {
        "shufflenet_v2_x1_0": 146, "shufflenet_v1_x1_0_g3": 140, "mobilenet_v1_x0_5": 149,
        "mobilenet_v2_x0_4 at 160": 43, "mobilenet_v2_x0_75 at 192": 145, "alexnet": 720,
        "igcv3 at 1.0x": 318, "nasnet_a_mobile": 564, "pnasnet5_mobile": 588,
    }  # fmt: skip
    for subject in NETS:
        if subject.name in published:
            count = ts.cost.profile(subject.build(), subject.shape).total.multiply_adds / 1e6
            assert count == pytest.approx(published[subject.name], rel=0.08), subject.name


def test_the_larger_images_are_those_of_the_papers():
    """V2's appendix has 36 rows of nets that are here, V1's Table 8 ten; three are both."""
    names = [subject.name for subject in RESOLUTIONS]
    assert len(set(names)) == len(names) == 36 + 10 - 3
    both = next(s for s in RESOLUTIONS if s.name == "shufflenet_v1_x0_5_g3 at 480x640")
    assert both.shape == (1, 480, 640, 3)
    assert both.published == {"V2 GPU": 1 / 396, "V2 ARM": 1 / 8.0, "V1 ARM": 0.0874}
    assert {s.size for s in RESOLUTIONS} == {(320, 320), (480, 640), (720, 1080), (720, 1280)}


def test_the_nets_with_squeeze_and_excitation_have_it():
    names = [subject.name for subject in NETS]
    for net in ("shufflenet_v1_x2_0_g3", "shufflenet_v2_x2_0"):
        se = NETS[names.index(f"{net} with SE")]
        plain = ts.cost.profile(net, se.shape).total.params
        assert ts.cost.profile(se.build(), se.shape).total.params > plain


def rows():
    """Time follows the memory, not the multiply-adds; the model knows all but two."""
    table = [(4, 1, 1, 1), (1, 2, 2, 2), (3, 3, 3, 4), (2, 4, 4, 3)]
    return Rows([
        Row(Subject(f"net {i}", 8, {"V2 ARM": s} if i else {}, f"a_x{i}"), [s, s], m, a, p)
        for i, (m, a, s, p) in enumerate(table)
    ], machine.describe(1), [])  # fmt: skip


def test_a_net_is_compared_with_the_first_in_the_same_turn():
    """So that a machine that is busy in some turns does not change what they say of each other."""
    first, second = (
        Row(Subject("", 8, {}, "a_x1"), seconds, 1, 1, 1)
        for seconds in ([1.0, 1.0, 3.0, 3.0, 3.0], [2.0, 2.0, 2.1, 6.0, 6.0])
    )
    found = Rows([first, second], machine.describe(1), [])
    assert found.relative(second).median == 2 and found.relative(first).median == 1


def test_what_foretells_time():
    found = rows().correlations()
    assert found["memory access"] == 1
    assert found["multiply-adds"] == pytest.approx(1 - 6 * (9 + 1 + 0 + 4) / 60)
    assert found["roofline model"] == pytest.approx(0.8)
    assert rows().published() == {"V2 ARM": 1}
    assert json.loads(json.dumps(rows().to_dict()))["correlations"] == found
    titles = [axes.get_title() for axes in plots.foretold(rows()).axes]
    assert titles[1] == "memory access: rank correlation 1.00"


# ---- the whole commands


@pytest.fixture
def tiny(monkeypatch):
    def this_machine(cores, threads=None, remeasure=False, progress=None):
        return Speeds(**{**vars(MACHINE), "cores": cores})

    subjects = [
        Subject("small", 32, {"V2 ARM": 1.0}, "shufflenet_v1_x0_25_g1"),
        Subject("alone", 32, {"V1 ARM": 0.5}, "shufflenet_v2_x0_5"),
        Subject("other", 32, {"V2 ARM": 2.0, "V1 ARM": 0.25}, "mobilenet_v2_x0_15"),
    ]
    monkeypatch.setattr(calibrate, "this_machine", this_machine)
    monkeypatch.setattr(nets, "NETS", subjects)
    monkeypatch.setattr(resolutions, "RESOLUTIONS", [
        Subject("wide", (32, 64), {"V1 ARM": 0.5}, "shufflenet_v1_x0_25_g1"),
        Subject("square", 32, {"V1 ARM": 0.25}, "shufflenet_v1_x0_25_g1", variant={"se": True}),
        Subject("other", (48, 32), {"V1 ARM": 0.125}, "mobilenet_v2_x0_15"),
    ])  # fmt: skip
    monkeypatch.setattr(nets, "UNITS", [
        Subject(unit, 4, {"V2 ARM": 1.0 + i}, unit=unit, channels=nets.equal_channels(unit, 24))
        for i, unit in enumerate(("v2", "v1", "mobilenet v2", "xception"))
    ])  # fmt: skip


def run(*arguments):
    result = CliRunner().invoke(cli, ["bench", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", ["nets", "units"])
def test_the_command(tiny, command, tmp_path):
    figure = tmp_path / "foretold.png"
    out = run(command, "--quick", "--threads", "1", "--plot", str(figure))
    for what in ("multiply-adds", "memory access", "roofline model", "the published V2 ARM"):
        assert f"rank correlation of time with {what}: " in out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_command_for_larger_images(tiny):
    record = json.loads(run("sizes", "--quick", "--threads", "1", "--format", "json"))
    assert [row["subject"]["size"] for row in record["rows"]] == [[32, 64], 32, [48, 32]]


def test_the_command_in_json(tiny, tmp_path):
    figure = str(tmp_path / "foretold.png")
    record = json.loads(
        run("units", "--quick", "--threads", "1", "--format", "json", "--plot", figure)
    )
    assert [row["name"] for row in record["rows"]] == ["v2", "v1", "mobilenet v2", "xception"]
    assert all(row["predicted"] > 0 and min(row["seconds"]) > 0 for row in record["rows"])


def test_the_roofline_command(tiny, tmp_path):
    model = ("--model", "shufflenet_v1_x0_25_g2", "--batch", "2", "--input-size", "32")
    figure = tmp_path / "roofline.png"
    out = run("roofline", *model, "--rounds", "1", "--plot", str(figure))
    assert "grouped pointwise" in out and "layers: the median one is" in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    record = json.loads(run("roofline", *model, "--rounds", "1", "--format", "json"))
    assert record["net_error"] == pytest.approx(
        record["predicted_seconds"] / record["measured_seconds"] - 1
    )
    errors = sorted(
        abs(x["predicted_seconds"] / x["measured_seconds"] - 1) for x in record["layers"]
    )
    assert errors[0] <= record["layer_error"] <= errors[-1]
