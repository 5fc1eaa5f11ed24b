"""Every table of the command line: its figures are whole in any terminal, and in a file."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from tinyshuffle import machine
from tinyshuffle.bench import run
from tinyshuffle.bench.nets import Row, Rows, Subject
from tinyshuffle.cli import cli
from tinyshuffle.train import Config

WIDTHS = (40, 60, 80, 100, 200, None)  # None: redirected


def printed(monkeypatch, arguments, width):
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def check(monkeypatch, *arguments):
    """All words with a digit that a very wide terminal shows are there, whole, in any other."""
    wide = printed(monkeypatch, arguments, 1000)
    figures = set(re.findall(r"\S*\d\S*", wide))
    assert len(figures) > 1
    for width in WIDTHS:
        out = printed(monkeypatch, arguments, width)
        assert "…" not in out, (width, out)
        assert figures <= set(re.findall(r"\S*\d\S*", out)), (width, out)
    assert printed(monkeypatch, arguments, None) == wide
    narrow = printed(monkeypatch, arguments, 40)
    assert not any("─" in line and len(line) > 40 for line in narrow.splitlines())


def test_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"a-run-with-a-long-name-of-the-lecture-in-november-seed{i}" for i in range(2)]
    for i, name in enumerate(names):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        config = Config(threads=2, seed=i, lr=0.1 + i, model="shufflenet_v1_x0_25_g3")
        (run / "config.json").write_text(json.dumps(config.to_dict()))
        (run / "log.csv").write_text(
            "epoch,size,test_accuracy,images_per_second,step_seconds,seconds\n"
            "1,32,0.4321,1234.5,98765.4,123456.7\n"
        )
    check(monkeypatch, "compare", *names)


def test_steps_beside_peers(monkeypatch):
    def compare_sides(case, *arguments):
        return run.Result(case, machine.describe(2), [], {}, [
            run.Side("tinyshuffle", "", [[1.23456], [2.34567]], 123456 << 20, 12345 << 20),
            run.Side("PyTorch", "channels last", [[13.4567], [14.5678]], 34567 << 20, None),
            run.Side("ONNX Runtime", "NCHW", [[23.4567], [24.5678]], 34567 << 20, None),
        ])  # fmt: skip

    monkeypatch.setattr("tinyshuffle.bench.compare_sides", compare_sides)
    check(monkeypatch, "bench", "step", "--model", "shufflenet_v1_x0_25_g3")


def test_nets(monkeypatch):
    columns = [f"{paper} {what}" for paper in ("V1", "V2") for what in ("ARM", "GPU", "FLOPs")]
    rows = [
        Row(Subject(f"shufflenet_v2_x{i}", 224, dict.fromkeys(columns, t), "alexnet"), [t, 2 * t],
            10**9 * i, 10**8 * i, t)
        for i, t in ((1, 0.0123), (2, 0.1234), (3, 1.2345), (4, 12.345))
    ]  # fmt: skip
    found = Rows(rows, machine.describe(1), [])
    monkeypatch.setattr("tinyshuffle.bench.nets.measure_rows", lambda *a: found)
    monkeypatch.setattr("tinyshuffle.bench.calibrate.this_machine", lambda *a, **k: None)
    check(monkeypatch, "bench", "nets")


@pytest.mark.parametrize(
    "arguments",
    [
        ("cost", "shufflenet_v1_x1_0_g3", "--by", "layer"),
        ("cost", "--table", "v2-8"),
        ("models", "v2_x"),
        ("data", "shapes"),
    ],
)
def test_counts(monkeypatch, arguments):
    check(monkeypatch, *arguments)
