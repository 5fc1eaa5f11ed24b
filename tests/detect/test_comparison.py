"""The comparison of backbones: equal costs, what it leaves, that it continues, its verdicts."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from train import tiny_run

from tinyshuffle import TinyshuffleError, data
from tinyshuffle.detect import comparison, trainer
from tinyshuffle.detect.backbone import backbone, map_of
from tinyshuffle.detect.comparison import ARMS, BEGINNINGS, ORDER, Comparison, Outcome, compare
from tinyshuffle.detect.config import DetectConfig
from tinyshuffle.train.ablation import Solved
from tinyshuffle.train.ablation.widths import count, solve
from tinyshuffle.train.config import Config

SIZES = {  # what the solver finds for pictures of 128x128
    "V2*": (46, 90, 178), "V2": (48, 96, 192), "Xception-like": (56, 112, 228),
    "V1, g=3": (96, 192, 372), "MobileNet V2": 0.23, "MobileNet V1": 0.33,
}  # fmt: skip


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_backbones_cost_the_same_and_make_maps_of_the_same_size(arm):
    found = count(arm, SIZES[arm.name], 128, 1, comparison._trunk)
    assert abs(found.multiply_adds / 123_936_768 - 1) < 0.03
    (h, w, _), stride = map_of(backbone(arm.model, **found.variant), 128)
    assert (h, w, stride) == (16, 16, 8)


@pytest.mark.parametrize("arm", [a for a in ARMS if a.multiple], ids=lambda arm: arm.name)
def test_widths_are_solved_for(arm):
    """From the narrowest up, whose units have a single channel."""
    budget = count(arm, SIZES[arm.name], 32, 1, comparison._trunk).multiply_adds
    found = solve(arm, budget, 32, 1, comparison._trunk)
    assert found.variant["stage_channels"] == list(SIZES[arm.name])
    assert found.multiply_adds == budget


def test_a_width_multiplier_is_solved_for():
    (arm,) = (arm for arm in ARMS if arm.name == "MobileNet V1")
    budget = count(arm, 0.41, 32, 1, comparison._trunk).multiply_adds
    found = solve(arm, budget, 32, 1, comparison._trunk)
    assert found.multiply_adds == budget and found.widths == "x0.41"
    with pytest.raises(TinyshuffleError, match="no widths of MobileNet V1 come within 5%"):
        solve(arm, 1000, 32, 1, comparison._trunk)


def test_the_papers_figures():
    """V2 Table 7 at 40 M, and V1 Table 7 at 300 pixels."""
    v2 = {"V2*": 23.7, "V2": 22.5, "Xception-like": 21.9, "V1, g=3": 20.9, "MobileNet V2": 20.7}
    for better, worse, source, one, other in ORDER:
        assert one > other
        expected = (v2[better], v2[worse]) if source.startswith("V2") else (18.7, 16.4)
        assert (one, other) == expected


CONFIG = DetectConfig(detector="light-head", side=32, pictures=12, batch_size=4, epochs=1, lr=0.01,
                      threads=1)  # fmt: skip
FIRST = Config(epochs=1, batch_size=35, threads=1, backend="numpy", lr=0.01)


@pytest.fixture
def here(monkeypatch):
    """Small data, a small net in the place of two, and all trainings in this process."""
    monkeypatch.setattr(data, "load", tiny_run.load)
    monkeypatch.setattr(comparison, "ARMS", ARMS[:2])
    monkeypatch.setattr(comparison, "ORDER", ORDER[1:2])

    def solved(arm, *arguments):
        return Solved(replace(arm, model="vgg_like_13m"), {"stage_channels": [4, 6, 8]}, 1000, 100)

    monkeypatch.setattr(comparison, "solve", solved)
    with parallel_config(backend="sequential"):
        yield


def test_it_leaves_runs_and_a_report_and_continues(here, tmp_path, monkeypatch):
    begun = []
    original = trainer.train

    def train(config, name, *arguments, **options):
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(name)
        return original(config, name, *arguments, **options)

    monkeypatch.setattr(trainer, "train", train)
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        compare(CONFIG, FIRST, seeds=1, runs_dir=tmp_path, quiet=True)
    assert begun == ["v2-star-from-nothing-seed0", "v2-star-from-shapes-seed0"]
    monkeypatch.setattr(trainer, "train", original)
    found = compare(CONFIG, FIRST, seeds=1, runs_dir=tmp_path, quiet=True)
    folder = tmp_path / "detect-compare"
    runs = [path for path in folder.iterdir() if path.is_dir()]
    assert len(runs) == 6 and {o.beginning for o in found.outcomes} == set(BEGINNINGS)
    text = (folder / "report.md").read_text()
    measured, published = text.split("Published, not measured here")
    assert found.verdict in measured and "23.7" not in measured and "V2* 23.7" in published
    lines = (folder / "report.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[0].endswith("step_seconds,half_width")
    for name in ("report.png", "receptive.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    outcome = found.of("V2", "from shapes")
    assert 0 < outcome.widths[0] < 64 and outcome.step[0] > 0 and math.isnan(outcome.error)
    # finished runs are neither trained nor drawn again
    monkeypatch.setattr(trainer, "Trainer", None)
    again = compare(CONFIG, FIRST, seeds=1, runs_dir=tmp_path, quiet=True)
    assert again.to_csv() == found.to_csv()
    with pytest.raises(TinyshuffleError, match=r"another comparison .lr is 0.01, not 0.5"):
        compare(replace(CONFIG, lr=0.5), FIRST, 1, tmp_path, quiet=True)
    publish(folder, tmp_path)


def publish(folder, place):
    results = Path(__file__).parents[2] / "docs" / "results"
    script = runpy.run_path(str(results / "publish.py"))
    into = place / "results"
    into.mkdir()
    (into / "published.csv").write_bytes((results / "published.csv").read_bytes())
    script["publish"](folder, "detection", "", into)
    page = script["page"](into)
    assert "](detection/report.png)" in page and "](detection/receptive.png)" in page
    assert "### Which backbone is the best for detection?" in page
    assert (into / "detection" / "v2-from-shapes-seed0.csv").exists()


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(TinyshuffleError, match="--seeds 0 was given"):
        compare(CONFIG, FIRST, seeds=0)
    with pytest.raises(TinyshuffleError, match="below 160 pixels"):
        compare(DetectConfig(side=192, threads=1), FIRST)


def outcomes(**maps):
    return [
        Outcome(
            Solved(arm, {"width": 1.0, "stage_channels": [1, 2, 3]}, 1, 1), beginning, 2,
            [{"map": m, "map50": m, "map_small": m} for m in maps.get(arm.name, [0.1, 0.2, 0.3])],
            [0.5, 0.6, 9.0], [10.0 + arm.name.count("*")] * 3, np.ones((4, 4)),
        )
        for arm in ARMS for beginning in BEGINNINGS
    ]  # fmt: skip


def test_verdicts_are_paired_by_seed():
    found = Comparison(CONFIG, outcomes(V2=[0.11, 0.21, 0.312]))
    better = found.against("V2", "V1, g=3", "from nothing")
    assert better.settled and better.difference == pytest.approx(0.032 / 3)
    first, *_ = found.verdicts
    assert first.startswith("V2 better than V1, g=3, from nothing: holds (by +1.07 points")
    star = next(v for v in found.verdicts if v.startswith("V2* better than V2, from nothing"))
    assert "does not hold (by -1.07 points" in star
    assert found.verdict == "The papers' order does not hold here."
    assert all(": holds (by +1.00 pixels, standard error 0.00)" in s for s in found.reach)
    assert "does not hold" not in Comparison(CONFIG, outcomes(V2=[0.3, 0.1, 0.2])).verdict
    headings, lines = found.table()
    line = dict(zip(headings, lines[2], strict=True))
    assert (line["backbone"], line["mmAP"], line["s/step"]) == ("V2", "21.07", "0.600")
    assert line["std error"] == "5.83"


def test_seeds_without_small_objects_do_not_count():
    found = outcomes()
    found[0].rows[0]["map_small"] = -1.0
    found[1].rows[:] = [{**row, "map_small": -1.0} for row in found[1].rows]
    headings, lines = Comparison(CONFIG, found).table()
    small = headings.index("small")
    assert (lines[0][small], lines[1][small]) == ("25.00", "-")
