"""docs/results: how a run becomes a result, and that the page says what the files say."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
from joblib import parallel_config
from train import tiny_run

from tinyshuffle import data, models
from tinyshuffle.cli import cli
from tinyshuffle.cost.profile import profile
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, ablate, train
from tinyshuffle.train.record import COLUMNS, write_rows

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


def test_an_ablation_that_is_not_its_runs_is_not_published(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(data, "load", tiny_run.load)
    config = Config(epochs=2, batch_size=35, backend="numpy", threads=1, lr=0.01)
    with parallel_config(backend="sequential"):
        ablate("v1-v2", config, seeds=1, runs_dir=tmp_path, quiet=True)
    of = tmp_path / "ablate-v1-v2"
    kept = {path: path.read_bytes() for path in of.rglob("*") if path.is_file()}

    def refused(words):
        with pytest.raises(TinyshuffleError, match=words):
            publish(of, "it", "", folder)
        assert not (folder / "it").exists()
        for path, content in kept.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    log = of / "v2-seed0" / "log.csv"
    log.write_text("\n".join(log.read_text().splitlines()[:2]) + "\n")
    refused("v2-seed0 has 1 of 2 epochs: give the command that began it again")
    shutil.rmtree(of / "v2-seed0")
    refused("is not of the runs beside it, of which there are 1 for its 2 lines")
    shutil.copytree(of / "v2-seed0", of / "v2-seed1")  # of a later start with more seeds
    refused("of which there are 3 for its 2 lines")
    shutil.rmtree(of / "v2-seed1")
    report = of / "report.csv"
    report.write_text(re.sub(r"[0-9.]+\n", "0.123\n", report.read_text()))
    refused("report.csv is not of the runs beside it")
    (of / "report.png").unlink()
    refused("report.png is missing")
    (of / "config.json").unlink()
    refused("has a report and no config.json, as a sweep")
    machine = of / "v2-seed0" / "machine.json"
    machine.write_text(json.dumps([{"processor": "another"}]))
    publish(of, "it", "", folder)
    machines = json.loads((folder / "it" / "machine.json").read_text())
    assert [machine["processor"] == "another" for machine in machines] == [False, True]
    common = json.loads((folder / "it" / "config.json").read_text())
    assert common["lr"] == 0.01 and not {"model", "variant", "seed"} & common.keys()


def few_files(run, accuracies=(0.5,), machines=({},), **fields):
    """What is published of a run, without the run."""
    run.mkdir()
    here = {"processor": "one", "threads": 2, "system": "any", "python": "3", "numpy": "2",
            "blas": "some"}  # fmt: skip
    config = Config(**{"epochs": len(accuracies), "threads": 2, **fields})
    rows = [
        dict.fromkeys(COLUMNS, 1) | {"epoch": i, "size": 32, "test_accuracy": accuracy}
        for i, accuracy in enumerate(accuracies, 1)
    ]
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    (run / "machine.json").write_text(json.dumps([here | machine for machine in machines]))
    write_rows(run, rows, COLUMNS)
    for name in ("curves.png", "confusion.png"):
        (run / name).write_bytes(b"drawn")
    return run


def test_the_page_says_what_was_measured_and_where(tmp_path, folder):
    machines = {"processor": "one", "numba": "0.6"}, {"processor": "two", "threads": 1}
    publish(few_files(tmp_path / "a", machines=machines), "a", "", folder)
    assert "on these" not in page(folder)
    run = few_files(tmp_path / "b", (0.3, 0.5), validate=90, init=str(tmp_path / "before"),
                    stem="imagenet", data="cifar100-coarse")  # fmt: skip
    publish(run, "b", "", folder)
    text = page(folder)
    assert "one, 2 threads, any, Python 3, NumPy 2 (some), numba 0.6; then two, 1 threads" in text
    assert "after the last epoch, or where images are held out, on these. The time" in text
    held = "accuracy on 90 training images held out from 30.0 % after epoch 1 to 50.0 % after 2"
    assert f"![Learning curves of b: {held}](b/curves.png)" in text
    assert "| shufflenet_v2_x0_5, stem=imagenet, init=before | cifar100-coarse, 90 held" in text
    assert str(tmp_path) not in (folder / "b" / "config.json").read_text()
    net = models.create("shufflenet_v2_x0_5", num_classes=20, stem="imagenet")
    total = profile(net, (1, 32, 32, 3)).total
    assert f"| {total.params:,} | {total.multiply_adds:,} |" in text


def test_what_has_no_line_on_the_page_is_not_published(tmp_path, folder):
    (tmp_path / "pictures").mkdir()
    runs = {
        "not a finished run": few_files(tmp_path / "early", epochs=3),
        "which nobody else has": few_files(tmp_path / "own", data=str(tmp_path / "pictures")),
        "the run of a detector": few_files(tmp_path / "found"),
        "curves.png is missing": few_files(tmp_path / "bare"),
        "no machine.json": few_files(tmp_path / "anywhere", machines=()),
    }
    detector = runs["the run of a detector"] / "config.json"
    detector.write_text(json.dumps({"detector": "light_head", "model": "any", "data": "scenes"}))
    (runs["curves.png is missing"] / "curves.png").unlink()
    for words, run in runs.items():
        with pytest.raises(TinyshuffleError, match=words):
            publish(run, "it", "", folder)
        assert not (folder / "it").exists()
    with pytest.raises(TinyshuffleError, match="give the directory of a run"):
        publish(tmp_path / "none", "it", "", folder)


def test_what_is_not_finished_is_not_published(tmp_path, folder):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(Config(threads=1).to_dict()))
    with pytest.raises(TinyshuffleError, match=r"not a finished run.*--resume"):
        publish(run, "run", "", folder)
    assert not (folder / "run").exists()
