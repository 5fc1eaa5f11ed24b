"""Weights come in as they were saved, go out and come back, and another net's are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from weights import torch_files

import tinyshuffle as ts
from tinyshuffle.files import installed
from tinyshuffle.weights.files import State
from tinyshuffle.weights.load import load_state
from tinyshuffle.weights.names import ours, torch_layout

NET = "shufflenet_v2_x0_5"
SMALL = {"stage_repeats": (1, 1, 1), "conv5_channels": 32}
needs_safetensors = pytest.mark.skipif(
    not installed("safetensors"), reason="safetensors is not installed"
)
ENDINGS = ["npz", pytest.param("safetensors", marks=needs_safetensors)]


def net(classes: int = 10, seed: int = 1, **variant):
    return ts.models.create(NET, classes, "cifar", seed, **SMALL, **variant).eval()


def as_torch(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(torch_layout(a), order="C") for name, a in state.items()}


def write(path: Path, state: dict[str, np.ndarray]) -> Path:
    (torch_files.write_legacy if path.stem == "legacy" else torch_files.write_zip)(path, state)
    return path


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_pytorchs_files(name: str, tmp_path: Path) -> None:
    state = net().state_dict()
    path = write(tmp_path / name, as_torch(state))
    found = ts.weights.read(path)
    same(found, state)
    assert all(a.flags.owndata and a.flags.c_contiguous for a in found.values())
    again = ts.models.create(NET, 10, "cifar", 7, path, **SMALL)
    same(again.state_dict(), state)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_types_are_widened(name: str, tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3e-5, 0.0], np.float32)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)  # "<u2" stands for bfloat16 there
    state = {"half": values.astype(np.float16), "brain": brain, "double": values.astype("f8")}
    found = ts.weights.read(write(tmp_path / name, state))
    assert {k: v.dtype for k, v in found.items()} == {
        "half": np.float32, "brain": np.float32, "double": np.float64
    }  # fmt: skip
    np.testing.assert_allclose(found["half"], values, rtol=2**-10, atol=1e-7)
    np.testing.assert_allclose(found["brain"], values, rtol=2**-7)
    assert found["brain"][1] == -2.5


def test_steps_of_a_storage_are_followed(tmp_path: Path) -> None:
    """A tensor may show a storage transposed, and from the middle on."""
    values = np.arange(12, dtype=np.float32)
    one = torch_files.tensor("0", "Float", 12, (4, 2), (1, 4), False)
    one = one.replace(b"tQK\x00", b"tQK\x04")
    pickle = b"\x80\x02}" + torch_files.text("w") + one + b"s."
    torch_files.write_zip(tmp_path / "a.pt", {"x": values}, pickle)
    found = ts.weights.read(tmp_path / "a.pt")["w"]
    np.testing.assert_array_equal(found, [[4, 5, 6, 7], [8, 9, 10, 11]])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("layout", ["tinyshuffle", "pytorch"])
def test_written_and_read(ending: str, layout: str, tmp_path: Path) -> None:
    one = net()
    path = tmp_path / f"a.{ending}"
    ts.weights.write(one, path, layout=layout)
    same(ts.weights.read(path), one.state_dict())
    other = net(seed=2)
    assert ts.weights.load(other, path) == []
    same(other.state_dict(), one.state_dict())
    if ending == "npz":
        with np.load(path) as file:  # NumPy alone reads it too
            shape = file["conv1.0.weight"].shape
        assert shape == ((24, 3, 3, 3) if layout == "pytorch" else (3, 3, 3, 24))


def test_arrays_of_numpy_are_ours(tmp_path: Path) -> None:
    state = net().state_dict()
    np.savez(tmp_path / "a.npz", **state)
    same(ts.weights.read(tmp_path / "a.npz"), state)


@needs_safetensors
def test_bfloat16_in_safetensors(tmp_path: Path) -> None:
    import json
    import struct

    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3F80, 0xC020)
    )
    np.testing.assert_array_equal(ts.weights.read(tmp_path / "a.safetensors")["w"], [[1.0, -2.5]])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_prefixes_and_missing_counts(prefix: str, tmp_path: Path) -> None:
    state = net().state_dict()
    found = {prefix + n: a for n, a in as_torch(state).items() if not n.endswith("tracked")}
    path = write(tmp_path / "a.pth", found)
    other = net(seed=2)
    ts.weights.load(other, path)
    got = other.state_dict()
    assert all(np.array_equal(got[n], state[n]) for n in state if not n.endswith("tracked"))
    assert got["conv1.1.num_batches_tracked"] == 0


def test_another_head(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", as_torch(net(10).state_dict()))
    with pytest.raises(ts.TinyshuffleError, match=r"for 10 classes.*\(32, 10\).*\(32, 3\).*drop"):
        ts.models.create(NET, 3, "cifar", 2, path, **SMALL)
    three = ts.models.create(NET, 3, "cifar", 2, path, head="drop", **SMALL)
    assert ts.weights.load(net(3, 2), path, head="drop") == ["fc"]
    fresh, filled = net(3, 2).state_dict(), three.state_dict()
    assert np.array_equal(filled["fc.weight"], fresh["fc.weight"])
    assert not np.array_equal(filled["conv1.0.weight"], fresh["conv1.0.weight"])
    with pytest.raises(ts.TinyshuffleError, match="head='off' is unknown: use keep or drop"):
        ts.weights.load(three, path, head="off")


def test_another_net_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", as_torch(net().state_dict()))
    other = ts.models.create("shufflenet_v2_x1_0", 10, "cifar", 2, **SMALL)
    before = other.state_dict()
    with pytest.raises(ts.TinyshuffleError, match="is of another net"):
        ts.weights.load(other, path, head="drop")
    same(other.state_dict(), before)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    state = as_torch(net().state_dict())
    state["fc.bias"][2] = np.nan
    with pytest.raises(ts.TinyshuffleError, match=r"fc.bias with what are no finite numbers"):
        ts.weights.load(net(), write(tmp_path / "a.pth", state))


def test_a_convolution_of_grey_images(tmp_path: Path) -> None:
    one = ts.nn.Sequential(ts.nn.Conv2d(1, 8, 3), ts.nn.Conv2d(8, 8, 3, groups=8))
    path = write(tmp_path / "a.pth", as_torch(one.state_dict()))
    other = ts.nn.Sequential(ts.nn.Conv2d(1, 8, 3), ts.nn.Conv2d(8, 8, 3, groups=8))
    ts.weights.load(other, path)
    same(other.state_dict(), one.state_dict())


def test_a_checkpoint_of_a_run(tmp_path: Path) -> None:
    from tinyshuffle.checkpoint import Checkpoint, save

    one = net()
    average = net(seed=3).state_dict()
    save(tmp_path / "best.npz", Checkpoint({"epoch": 1}, one.state_dict(), {}, average))
    same(ts.weights.read(tmp_path / "best.npz"), average)


@pytest.mark.parametrize(
    ("pickle", "message"),
    [
        (b"\x80\x02cos\nsystem\n", r"holds os.system, and a file of weights has tensors"),
        (b"\x80\x02ctorchvision.models\nResNet\n", r"holds torchvision.models.ResNet, and"),
        (b"\x80\x02].", "no dictionary of names and tensors"),
        (b"\x80\x02}", "its pickle is cut off"),
    ],
)
def test_what_is_no_state_is_named(pickle: bytes, message: str, tmp_path: Path) -> None:
    torch_files.write_zip(tmp_path / "a.pth", {}, pickle)
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.weights.read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it is empty"), (b"<html>404", r"it begins with b'<htm', as none of them does")],
)
def test_other_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.weights.read(path)
    with pytest.raises(ts.TinyshuffleError, match="cannot be read .No such file"):
        ts.weights.read(tmp_path / "absent.pth")
    with pytest.raises(ts.TinyshuffleError, match="let it end in .safetensors or .npz"):
        ts.weights.write(net(), tmp_path / "a.pth")
    with pytest.raises(ts.TinyshuffleError, match="layout='torch' is unknown"):
        ts.weights.write(net(), tmp_path / "a.npz", layout="torch")


@pytest.mark.parametrize("name", ["zip.pth", "arrays.npz"])
def test_a_flipped_bit_is_seen(name: str, tmp_path: Path) -> None:
    state = {"w": np.arange(1000, dtype=np.float32)}
    path = tmp_path / name
    np.savez(path, **state) if name.endswith("npz") else write(path, state)
    data = bytearray(path.read_bytes())
    data[data.index(state["w"][500:510].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ts.TinyshuffleError, match="has a wrong check sum"):
        ts.weights.read(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["net/code/__torch__/net.py", "net/data.pkl"], "holds a program, in TorchScript, and"),
        (["a/data.pkl", "b/data.pkl"], "has two pickles, 'a/data.pkl' and 'b/data.pkl'"),
    ],
)
def test_other_archives(names: list[str], message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in names:
            compress = zipfile.ZIP_DEFLATED if name.endswith(".py") else zipfile.ZIP_STORED
            archive.writestr(name, b"\x80\x02}.", compress)
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.weights.read(tmp_path / "a.pt")


def test_another_stem_is_told(tmp_path: Path) -> None:
    """The names are the same, and only the shapes differ."""
    large, small = (ts.nn.Sequential(ts.nn.Conv2d(3, 8, k), ts.nn.Linear(8, 2)) for k in (7, 3))
    ts.weights.write(large.initialise(0), tmp_path / "a.npz")
    with pytest.raises(ts.TinyshuffleError, match=r"\(7, 7, 3, 8\) there .* with its stem \(imag"):
        ts.weights.load(small.initialise(0), tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "got a int where a net is expected"),
        ({}, "no weights to write"),
        ({"a": 3.0}, "'a' with a float was given: weights are arrays by name"),
        ({3: np.zeros(2)}, "3 with a ndarray was given"),
        ({"a": np.array([None])}, "a holds object: weights are real numbers"),
        ({"a": np.zeros(2, complex)}, "a holds complex128"),
    ],
)
def test_what_are_no_weights_to_write(given, message: str, tmp_path: Path) -> None:
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.weights.write(given, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_names_that_numpy_has_for_itself(tmp_path: Path) -> None:
    state = {"file": np.arange(3.0), "allow_pickle": np.zeros((2, 2), np.float32)}
    for layout in ("tinyshuffle", "pytorch"):
        ts.weights.write(state, tmp_path / "a.npz", layout)
        same(ts.weights.read(tmp_path / "a.npz"), state)
    assert set(np.load(tmp_path / "a.npz")) == set(state)


def test_what_is_no_path_or_net(tmp_path: Path) -> None:
    for path in (3, None, "", "a\0b"):
        with pytest.raises(ts.TinyshuffleError, match="is no path"):
            ts.weights.read(path)
        with pytest.raises(ts.TinyshuffleError, match="is no path"):
            ts.weights.write(net(), path)
    ts.weights.write(net(), tmp_path / "a.npz")
    with pytest.raises(ts.TinyshuffleError, match="got a int where a net is expected"):
        ts.weights.load(3, tmp_path / "a.npz")
    with pytest.raises(ts.TinyshuffleError, match="head='drop' has no effect without weights"):
        ts.models.create(NET, 3, head="drop")


def test_compressed_arrays_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros(1000))
    with pytest.raises(ts.TinyshuffleError, match=r"compressed.*numpy.savez"):
        ts.weights.read(tmp_path / "a.npz")


AUTHORS = {
    "conv1.0.weight": "first_conv.0.weight", "conv1.1.bias": "first_conv.1.bias",
    "stage2.0.branch1.2.weight": "features.0.branch_proj.2.weight",
    "stage3.7.branch2.3.weight": "features.11.branch_main.3.weight",
    "stage4.0.branch2.0.weight": "features.12.branch_main.0.weight",
    "conv5.0.weight": "conv_last.0.weight", "fc.weight": "classifier.0.weight",
    "stage2.1.residual.depthwise.weight": "features.1.branch_main_1.3.weight",
    "stage2.3.residual.bn3.running_var": "features.3.branch_main_2.1.running_var",
}  # fmt: skip


def test_the_authors_names() -> None:
    assert ours(list(AUTHORS.values())) == list(AUTHORS)
    assert ours(["module." + name for name in AUTHORS.values()]) == list(AUTHORS)


def test_the_authors_weights_suit_their_own_net_alone() -> None:
    """Names and shapes may be the same, but the channels are in another order."""
    theirs = net(authors=True)
    state = State(theirs.state_dict(), authors=True)
    load_state(net(seed=2, authors=True), state, "a.pth")
    with pytest.raises(ts.TinyshuffleError, match="the authors' own net, .* authors=True"):
        load_state(net(seed=2, downsample="paper", fc_bias=False), state, "a.pth")


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_5_g3", "shufflenet_v2_x1_0"])
def test_the_authors_net(name: str) -> None:
    """Its gradients are right, and it is another net than ours."""
    small = {"stage_repeats": (2, 2, 2)}
    one = ts.models.create(name, 5, "cifar", authors=True, **small)
    other = ts.models.create(name, 5, "cifar", **small)
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
    assert "fc.bias" not in one.state_dict() and "fc.bias" in other.state_dict()
    one.eval()
    y = one(x)
    with ts.backend("numpy"):
        np.testing.assert_allclose(one(x), y, rtol=1e-4, atol=1e-5)
    unit = {
        "shufflenet_v1_x0_5_g3": lambda: ts.models.ShuffleUnitV1(12, 12, 3, 1, authors=True),
        "shufflenet_v2_x1_0": lambda: ts.models.ShuffleUnitV2(8, 8, 1, authors=True),
    }[name]().initialise(0).astype("float64")
    c = 12 if "v1" in name else 8
    report = ts.gradcheck(unit, np.random.default_rng(1).standard_normal((2, 5, 4, c)))
    assert report.passed, report
