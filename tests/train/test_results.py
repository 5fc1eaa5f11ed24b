"""docs/results: how a run becomes a result, and that the page says what the files say."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from joblib import parallel_config
from train import tiny_run

from tinyshuffle import data, models
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, ablate, train

RESULTS = Path(data.__file__).parents[2] / "docs" / "results"
SCRIPT = runpy.run_path(str(RESULTS / "publish.py"))
publish, page = SCRIPT["publish"], SCRIPT["page"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "published.csv").write_bytes((RESULTS / "published.csv").read_bytes())
    return folder


def test_the_page_is_up_to_date():
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page(RESULTS)


def test_the_guide_names_what_there_is():
    guide = RESULTS.parent / "training.md"
    text = guide.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (guide.parent / link).exists(), link
    for command, option in re.findall(r"tinyshuffle (\w+)[^\n#]* --([a-z-]+)", text):
        options = [o for p in cli.commands[command].params for o in p.opts]
        assert f"--{option}" in options, (command, option)
    for field in re.findall(r"`(\w+) = ", text):
        assert field in Config().to_dict(), field


def test_a_run_becomes_a_result(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(data, "load", tiny_run.load)
    config = Config(
        epochs=2, batch_size=35, backend="numpy", seed=3, data_dir=str(tmp_path), threads=1,
        model="shufflenet_v1_x0_25_g1", variant={"se": True},
    )  # fmt: skip
    result = train(config, "a", tmp_path / "runs", quiet=True)
    publish(result.run, "mine", "Of tiny images.", folder)
    assert sorted(path.name for path in (folder / "mine").iterdir()) == [
        "config.json", "confusion.png", "curves.png", "log.csv", "machine.json", "note.txt",
    ]  # fmt: skip
    assert str(tmp_path) not in (folder / "mine" / "config.json").read_text()
    text = page(folder)
    measured, published = text.split("## Published by others, not measured here")
    for part in (f"{100 * result.accuracy:.2f} %", "| 3 |", "[mine](#mine)", "Of tiny images.",
                 "shufflenet_v1_x0_25_g1", "](mine/curves.png)"):  # fmt: skip
        assert part in measured
    assert "90.13 %" in published and "chenyaofo" not in measured
    net = models.create("shufflenet_v1_x0_25_g1", num_classes=10, stem="cifar", se=True)
    assert f"| {sum(p.data.size for p in net.parameters()):,} |" in measured
    with pytest.raises(TinyshuffleError, match=r"exists already"):
        publish(result.run, "mine", "", folder)


def test_an_ablation_becomes_a_result(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(data, "load", tiny_run.load)
    config = Config(epochs=1, batch_size=35, backend="numpy", threads=1, lr=0.01)
    with parallel_config(backend="sequential"):
        report = ablate("v1-v2", config, seeds=1, runs_dir=tmp_path, quiet=True)
    publish(tmp_path / "ablate-v1-v2", "v1-v2", "", folder)
    names = {path.name for path in (folder / "v1-v2").iterdir()}
    assert {"report.csv", "v2-seed0.csv", "v1-g-3-seed0.csv", "machine.json"} <= names
    measured, published = page(folder).split("## Published by others, not measured here")
    assert report.verdict in measured and "](v1-v2/report.png)" in measured
    assert "### Is V2 better than V1?" in measured and "39.7" not in measured
    assert "Is V2 better than V1? (V2 Table 8, 0.5x)" in published and "39.7 %" in published


def test_what_is_not_finished_is_not_published(tmp_path, folder):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(Config(threads=1).to_dict()))
    with pytest.raises(TinyshuffleError, match=r"not a finished run.*--resume"):
        publish(run, "run", "", folder)
    assert not (folder / "run").exists()
