"""Every net of the zoo in ONNX Runtime: any batch, both layouts, old opsets and the newest."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.files import installed

BATCHES = (1, 2, 7)
HEAVY = 30_000_000  # parameters, from which on the default opset is enough

pytestmark = pytest.mark.skipif(
    any(not installed(package) for package in ("onnx", "onnxruntime")),
    reason="onnx and onnxruntime are not installed",
)


def drawn(net: Any) -> Any:
    """A net whose batch norms change something: fresh ones would hide a wrong fold."""
    rng = np.random.default_rng(1)
    for module in net.modules():
        if isinstance(module, ts.nn.BatchNorm2d):
            c = module.num_features
            module.weight.data = rng.uniform(0.5, 1.5, c).astype(np.float32)
            module.bias.data = rng.normal(0, 0.2, c).astype(np.float32)
            module.running_mean = rng.normal(0, 0.1, c).astype(np.float32)
            module.running_var = rng.uniform(0.5, 1.5, c).astype(np.float32)
    return net.eval()


def largest_difference(
    net: Any, path: Path, side: int, layout: str = "nchw", **given: Any
) -> float:
    """Of all logits of batches of three sizes, to the largest logit."""
    import onnxruntime

    ts.onnx.export(net, path, layout=layout, input_size=side, **given)
    session = onnxruntime.InferenceSession(path)
    worst = 0.0
    for n in BATCHES:
        x = np.random.default_rng(n).standard_normal((n, side, side, 3)).astype(np.float32)
        images = x if layout == "nhwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        (theirs,) = session.run(None, {"images": images})
        mine = net(x)
        assert theirs.shape == mine.shape
        worst = max(worst, float(np.abs(mine - theirs).max() / np.abs(mine).max()))
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("name", ts.models.list_models())
def test_the_zoo(name: str, tmp_path: Path) -> None:
    import onnx

    side = 101 if name == "xception" else 75
    net = drawn(ts.models.create(name, 20))
    heavy = sum(prod(p.shape) for p in net.parameters()) > HEAVY
    newest = onnx.defs.onnx_opset_version()
    pairs = [(17, "nchw"), (13, "nhwc"), (21, "nchw"), (newest, "nhwc")]
    for opset, layout in pairs[: 1 if heavy else None]:
        error = largest_difference(net, tmp_path / "a.onnx", side, layout, opset=opset)
        assert error <= 1e-4, (opset, layout)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("shufflenet_v1_x0_5_g3", {"se": True}),
        ("shufflenet_v1_x0_5_g3", {"authors": True}),
        ("shufflenet_v2_x1_0", {"residual": True, "se": True}),
        ("shufflenet_v2_x1_0", {"authors": True}),
        ("densenet121", {}),
        ("resnet20", {"shortcut": "padding"}),
    ],
)
def test_variants(name: str, variant: dict, fold: bool, tmp_path: Path) -> None:
    net = drawn(ts.models.create(name, 5, "cifar", **variant))
    assert largest_difference(net, tmp_path / "a.onnx", 18, fold=fold) <= 1e-5


def test_what_something_else_reads_too_is_not_folded(tmp_path: Path) -> None:
    """relu(y + norm(y)) of the same convolution's y."""
    unit = ts.nn.Residual(ts.nn.BatchNorm2d(4), ts.nn.ReLU())
    head = ts.nn.GlobalAvgPool(), ts.nn.Linear(4, 3)
    net = drawn(ts.nn.Sequential(ts.nn.Conv2d(3, 4, 3), unit, *head))
    assert largest_difference(net, tmp_path / "a.onnx", 9) <= 1e-5


def test_float64_is_written_as_float32(tmp_path: Path) -> None:
    net = ts.models.create("shufflenet_v2_x0_5", 5, "cifar").astype(np.float64)
    found = ts.onnx.export(net, tmp_path / "a.onnx", input_size=16)
    assert found.difference is not None and found.difference <= 1e-5


@pytest.mark.parametrize("size", [3, (7, 2)])
def test_adaptive_pooling(size: Any, tmp_path: Path) -> None:
    """Windows of unlike sizes, and more of them than there are pixels."""
    net = ts.nn.Sequential(
        ts.nn.Conv2d(3, 4, 3, padding=1), ts.nn.AdaptiveAvgPool2d(size), ts.nn.Flatten()
    )
    found = ts.onnx.export(net, tmp_path / "a.onnx", input_size=(10, 5))
    assert found.difference is not None and found.difference <= 1e-5


def test_a_wrong_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyshuffle.onnx import graph

    wrong = {**graph.RULES, "relu": graph._elementwise("Tanh")}
    monkeypatch.setattr(graph, "RULES", wrong)
    net = ts.models.create("shufflenet_v2_x0_5", 5, "cifar")
    with pytest.raises(ts.TinyshuffleError, match=r"logits differ by .* nothing was written"):
        ts.onnx.export(net, tmp_path / "a.onnx", input_size=16)
    assert not list(tmp_path.iterdir())
