"""The commands ``detect …`` and ``cost --detector``: what they print, and their sentences."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from PIL import Image

from tinyshuffle.cli import cli
from tinyshuffle.data import scenes
from tinyshuffle.detect.config import DetectConfig

TINY = (
    "--model", "vgg_like_13m", "--side", 32, "--pictures", 12, "--batch-size", 4, "--epochs", 1,
    "--lr", 0.01, "--threads", 1,
)  # fmt: skip


def invoke(*arguments):
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert "Traceback" not in result.output
    return result


def run(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments, code=1):
    result = invoke(*arguments)
    assert result.exit_code == code and "Error: " in result.stderr, result.output
    return result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("detect")
    out = run("detect", "train", *TINY, "--name", "one", "--runs-dir", place)
    assert re.search(r"mAP .* after 1 epoch in", out)
    return place


def test_eval(folder):
    out = run("detect", "eval", "one", "--runs-dir", folder, "--plot", folder / "p.png")
    assert "AP at IoU 0.75" in out and "mAP, crescent" in out and "best.npz (epoch 1)" in out
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")


def test_predict(folder):
    images, _, _ = scenes.draw(1, 3, 64)
    Image.fromarray(images[0]).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    told = invoke(
        "detect", "predict", folder / "one", folder / "a.png", folder / "b.png", "--least", 0.01,
        "--plot", folder / "q.png",
    )  # fmt: skip
    assert told.exit_code == 1 and "b.png" in told.stderr
    assert any(name in told.stdout for name in scenes.CLASSES)
    assert (folder / "q.png").exists()
    assert "nothing" in run("detect", "predict", folder / "one", folder / "a.png", "--least", 1)


def test_resume(folder):
    assert "after 1 epoch" in run("detect", "train", "--resume", folder / "one")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--detector", "fast"), "faster or light-head"),
        (("train", "--resume", "@", "--lr", "1"), "contradicts --resume"),
        (("train", "--pictures", "9", "--batch-size", "4", "--data", "."), "leave it out"),
        (("train", "--name", "a/b"), "not the name of a directory"),
        (("train", "--resume", "absent"), "there is no run"),
        (("train", "--init", "absent"), "there is no run"),
        (("eval", "@", "--threads", "0"), "give 1 or more"),
        (("predict", "@", "a.png", "--least", "2"), "0 to 1"),
    ],
)
def test_mistakes_are_one_sentence(folder, arguments, words):
    arguments = [str(folder / "one") if a == "@" else a for a in arguments]
    assert words in refused("detect", *arguments)


def test_the_defaults_that_help_names():
    text = " ".join(run("detect", "train", "--help").split())
    for name in ("detector", "model", "data", "pictures", "side", "epochs", "batch_size", "lr",
                 "weight_decay", "ema", "seed"):  # fmt: skip
        default = getattr(DetectConfig, name)
        assert re.search(
            rf"--{name.replace('_', '-')} [^\[]*\[default: {re.escape(str(default))}\]", text
        ), name


def test_cost_counts_a_detector():
    out = run("cost", "shufflenet_v2_x0_5", "--detector", "light-head", "--input-size", 128,
              "--by", "stage")  # fmt: skip
    for part in "backbone", "thin", "proposals", "boxes", "head", "light-head on shufflenet_v2":
        assert part in out
    assert "square" in refused(
        "cost", "shufflenet_v2_x0_5", "--detector", "faster", "--input-size", "64x96"
    )
    assert "faster, light-head" in refused("cost", "shufflenet_v2_x0_5", "--detector", "x")
