"""Nets as ONNX files: the sentences for what cannot be, and what is in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.files import installed

NET = "shufflenet_v2_x0_5"
SMALL = {"stage_repeats": (1, 1, 1), "conv5_channels": 32}
needs_onnx = pytest.mark.skipif(not installed("onnx"), reason="onnx is not installed")


def net():
    return ts.models.create(NET, 4, "cifar", **SMALL)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    return result.exit_code, result.output


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tinyshuffle.onnx.export"], "installed", lambda name: False)
    with pytest.raises(ts.TinyshuffleError, match="pip install onnx onnxruntime"):
        ts.onnx.export(net(), tmp_path / "a.onnx")


@needs_onnx
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"opset": 12}, r"opset=12 is not possible: give a whole number from 13 to \d+"),
        ({"opset": 99}, "opset=99 is not possible"),
        ({"opset": "17"}, "opset='17' is not possible"),
        ({"layout": "hwc"}, "layout='hwc' is unknown: use nchw or nhwc"),
        ({"fold": "no"}, "fold='no' was given: it must be true or false"),
        ({"input_size": 0}, "input_size=0 is not possible"),
        ({"path": None}, "path=None is no path"),
        ({"net": 3}, "got a int where a net is expected"),
        ({"net": ts.nn.Conv2d(3, 4, 1).initialise(0)}, r"\('N', 224, 224, 4\), and logits are"),
        ({"classes": ["a", "b"]}, "the net has 4, so give as many names"),
        ({"classes": "abcd"}, "classes='abcd' was given"),
        ({"mean": [0.5, 0.5], "std": [1, 1, 1]}, r"mean=\[0.5, 0.5\]: it must be three numbers"),
        ({"mean": [0.5] * 3, "std": [1, 0, 1]}, "it must be above 0"),
        ({"mean": 0.5}, "mean=0.5: it must be three numbers"),
        ({"path": "/nowhere/a.onnx", "input_size": 32}, "/nowhere/a.onnx could not be written"),
    ],
)
def test_what_cannot_be(given: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.onnx.export(**{"net": net(), "path": tmp_path / "a.onnx", **given})
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    class Double(ts.nn.Module):
        def forward(self, x):
            return 2 * x

    own = ts.nn.Sequential(ts.nn.Conv2d(3, 4, 3), Double())
    with pytest.raises(ts.TinyshuffleError, match=r"1 \(Double\) computes by itself, with NumPy"):
        ts.onnx.export(own, tmp_path / "a.onnx", input_size=8)


@needs_onnx
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("fold", [True, False])
def test_what_is_in_a_file(fold: bool, layout: str, tmp_path: Path) -> None:
    import json

    import onnx

    one = net()
    ts.onnx.export(
        one, tmp_path / "a.onnx", layout=layout, fold=fold, input_size=(16, 24),
        classes=["a", "b", "c", "d"], mean=[0.5, 0.4, 0.3], std=np.float32([0.25] * 3),
    )  # fmt: skip
    assert one.training  # as it was
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    words = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(words["classes"]) == ["a", "b", "c", "d"]
    assert json.loads(words["mean"]) == [0.5, 0.4, 0.3]
    assert json.loads(words["std"]) == [0.25] * 3 and words["layout"] == layout
    dims = model.graph.input[0].type.tensor_type.shape.dim
    sides = [16, 24, 3] if layout == "nhwc" else [3, 16, 24]
    assert dims[0].dim_param == "N" and [d.dim_value for d in dims[1:]] == sides
    kinds = [node.op_type for node in model.graph.node]
    norms = sum(isinstance(layer, ts.nn.BatchNorm2d) for layer in one.modules())
    assert kinds.count("BatchNormalization") == (0 if fold else norms)
    shuffles = [i for i, kind in enumerate(kinds) if kind == "Reshape"]
    assert len(shuffles) == 6  # two for each of three shuffles
    assert all(kinds[i + 1 : i + 3] == ["Transpose", "Reshape"] for i in shuffles[::2])
    assert not any(kind == "BatchNormalization" for kind in kinds) or not fold


@needs_onnx
def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    code, said = run("export", "squeezenet1_1", out, "--input-size", 64)
    assert code == 0 and "drawn at random" in said and f"{out}: opset 17, IR 8; " in said
    weights = tmp_path / "a.npz"
    ts.weights.write(ts.models.create("squeezenet1_1", 10), weights)
    code, said = run("export", "squeezenet1_1", out, "--weights", weights, "--opset", 21)
    assert code == 0 and "opset 21, IR 10" in said
    code, said = run("export", "squeezenet1_1", tmp_path / "a.txt")
    assert code == 1 and "let it end in .onnx" in said
    code, said = run("export", "nothing", out, "--runs-dir", tmp_path)
    assert code == 1 and "there is no run 'nothing'" in said
    code, said = run("export", "squeezenet1_1", out, "--layout", "chw")
    assert code == 1 and "layout='chw' is unknown" in said


@needs_onnx
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    import onnx

    tiny_run.install(monkeypatch.setattr)
    ts.train.train(ts.train.Config(epochs=1, batch_size=16, threads=1), "run", tmp_path, quiet=True)
    code, said = run("export", "run", tmp_path / "a.onnx", "--runs-dir", tmp_path)
    assert code == 0, said
    model = onnx.load(tmp_path / "a.onnx")
    trained = ts.load(tmp_path / "run")
    words = {entry.key: json.loads(entry.value) for entry in model.metadata_props[:3]}
    assert words["classes"] == list(trained.classes)
    np.testing.assert_allclose(words["mean"], trained.mean, rtol=1e-6)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[2].dim_value == trained.size
