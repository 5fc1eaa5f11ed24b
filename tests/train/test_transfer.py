"""Transfer: what a run begins with, what is held still, and until when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle import checkpoint
from tinyshuffle.cli import cli
from tinyshuffle.data import dataset
from tinyshuffle.train import Config, resume, train
from tinyshuffle.train.transfer import held

SMALL = {"stage_repeats": [1, 1, 1], "conv5_channels": 16}
NET = "shufflenet_v2_x0_5"


def config(**fields) -> Config:
    return Config(**{"variant": SMALL, "epochs": 1, "batch_size": 16, "threads": 1, **fields})


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty images of three classes; or of four with another name."""

    def load(name, root=None, download=True):
        k = 4 if name == "cifar10" else 3
        labels = np.arange(40) % k
        images = np.random.default_rng(0).integers(0, 100, (40, 12, 12, 3))
        images += 40 * labels[:, None, None, None]
        names = [f"{name} {i}" for i in range(k)]
        made = dataset.from_arrays(images.astype(np.uint8), labels, names)
        return made, made

    monkeypatch.setattr(ts.data, "load", load)
    monkeypatch.setattr(ts.data, "SIDE", 12)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    train(config(), "first", tmp_path, quiet=True)
    return tmp_path / "first"


def weights(run: Path, name: str = "last.npz") -> dict[str, np.ndarray]:
    return checkpoint.load(run / name).net


def differing(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    return {name.rpartition(".")[0] for name in a if not np.array_equal(a[name], b[name])}


def test_what_is_held() -> None:
    net = ts.models.create(NET, 5, **SMALL)
    layers = {p.name.rpartition(".")[0] for p in net.parameters()}
    assert held(net, "stem") == {"conv1.0", "conv1.1"}
    assert layers - held(net, "stages") == {"conv5.0", "conv5.1", "fc"}
    assert layers - held(net, "all-but-head") == {"fc"}
    net = ts.models.create("mobilenet_v2", 5)
    assert held(net, "stem") == {"features.0.0", "features.0.1"}
    layers = {p.name.rpartition(".")[0] for p in net.parameters()}
    assert layers - held(net, "stages") == {"features.18.0", "features.18.1", "classifier.1"}


def test_auxiliary_classifiers_are_held_with_the_stages() -> None:
    net = ts.models.create("googlenet", 5, "cifar", aux_logits=True, width=0.05)
    layers = {p.name.rpartition(".")[0] for p in net.parameters()}
    last = {f"inception5b.branch4.1.{layer}" for layer in ("conv", "bn")}
    assert layers - held(net, "stages") == {*last, "fc"}
    assert layers - held(net, "all-but-head") == {"fc"}
    assert held(net, "stem") == {"conv1.conv", "conv1.bn"}


@pytest.mark.parametrize("same_count", [False, True])
def test_auxiliary_classifiers_of_other_classes_begin_anew(same_count, tmp_path: Path) -> None:
    """That of a run is not taken for other classes, be they as many."""
    net = {"model": "googlenet", "variant": {"aux_logits": True, "width": 0.05}, "backend": "numpy"}
    train(config(**net), "first", tmp_path, quiet=True)
    data = "cifar100" if same_count else "cifar10"
    fields = {**net, "data": data, "init": str(tmp_path / "first"), "seed": 3}
    run = train(config(**fields, lr=1e-9), "second", tmp_path, quiet=True).run
    before, after = weights(tmp_path / "first"), weights(run)
    for name in ("fc.weight", "aux1.fc2.weight", "aux2.fc2.weight"):
        shown = before[name].shape == after[name].shape
        assert shown == same_count
        assert not shown or not np.allclose(before[name], after[name], atol=1e-3), name
    for name in ("conv1.conv.weight", "aux1.fc1.weight"):
        np.testing.assert_allclose(before[name], after[name], atol=1e-6)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize(
    ("freeze", "moved"), [("stages", {"conv5.0", "conv5.1", "fc"}), ("all-but-head", {"fc"})]
)
def test_what_is_held_does_not_move(freeze, moved, ema, begun: Path, tmp_path: Path) -> None:
    """Neither weights nor statistics, of the net or of its average."""
    given = config(init=str(begun), freeze=freeze, ema=ema, seed=3)  # other crops, statistics
    run = train(given, "second", tmp_path, quiet=True).run
    before = weights(begun, "best.npz")
    assert differing(before, weights(run)) == moved
    if ema:
        assert differing(before, checkpoint.load(run / "last.npz").average) <= moved


def test_unfreezing(begun: Path, tmp_path: Path) -> None:
    fields = {"init": str(begun), "freeze": "all-but-head", "unfreeze_at": 2}
    two = train(config(**fields, epochs=2), "two", tmp_path, quiet=True).run
    assert differing(weights(begun, "best.npz"), weights(two)) == {"fc"}
    three = train(config(**fields, epochs=3), "three", tmp_path, quiet=True).run
    assert len(differing(weights(begun, "best.npz"), weights(three))) > 10


def test_a_last_layer_for_other_classes_begins_anew(begun: Path, tmp_path: Path, capsys) -> None:
    run = train(config(init=str(begun), data="cifar10"), "other", tmp_path).run
    said = capsys.readouterr()
    assert "but for fc, which is for other classes" in said.out + said.err
    assert weights(run)["fc.weight"].shape == (16, 4)
    train(config(init=str(begun), data="cifar100"), "renamed", tmp_path)  # three, of other names
    said = capsys.readouterr()
    assert "but for fc, which is for other classes" in said.out + said.err
    train(config(init=str(begun)), "same", tmp_path)
    said = capsys.readouterr()
    assert "begins with" in said.out + said.err and "the last layer too" in said.out + said.err


def test_a_file_of_weights(begun: Path, tmp_path: Path) -> None:
    ts.weights.write(ts.load(begun).net, tmp_path / "a.npz", layout="pytorch")
    fields = {"freeze": "all-but-head", "seed": 3}
    one = train(config(init=str(begun), **fields), "one", tmp_path, quiet=True).run
    two = train(config(init=str(tmp_path / "a.npz"), **fields), "two", tmp_path, quiet=True).run
    assert differing(weights(one), weights(two)) == set()
    with pytest.raises(ts.TinyshuffleError, match="is of another net"):
        train(config(init=str(begun), variant={}), "three", tmp_path, quiet=True)
    assert not (tmp_path / "three").exists()


def test_the_stem_of_files_of_weights(tmp_path: Path) -> None:
    """The run keeps it: a net that is read again computes what it was trained with."""
    ts.weights.write(ts.models.create(NET, 3, seed=1, **SMALL), tmp_path / "a.npz")
    fields = {"init": str(tmp_path / "a.npz"), "freeze": "all-but-head", "stem": "imagenet"}
    net = ts.load(train(config(**fields), "one", tmp_path, quiet=True).run).net
    assert net.conv1[0].stride == (2, 2)
    assert 'stem = "imagenet"' in config(**fields).to_toml() and "stem" not in config().to_toml()
    assert ts.load(train(config(), "two", tmp_path, quiet=True).run).net.conv1[0].stride == (1, 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_part_of_the_learning_rate(optimizer: str, begun: Path, tmp_path: Path) -> None:
    """With none of it, all but the last layer stand still; the run can be continued."""
    fields = {"init": str(begun), "optimizer": optimizer, "epochs": 2, "lr": 0.01}
    still = train(config(**fields, body_lr=0.0), "still", tmp_path, quiet=True).run
    before, after = weights(begun, "best.npz"), weights(still)
    learned = {p.name for p in ts.load(begun).net.parameters()}
    moved = {name for name in learned if not np.array_equal(before[name], after[name])}
    assert moved == {"fc.weight", "fc.bias"}
    one = train(config(**fields), "one", tmp_path, quiet=True).run
    all_of_it = train(config(**fields, body_lr=1.0), "all", tmp_path, quiet=True).run
    assert differing(weights(one), weights(all_of_it)) == set()
    (still / "last.npz").unlink()
    resume(still, quiet=True)
    assert differing(after, weights(still)) == set()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "stem"}, "freeze='stem' was given: it must be left out, as without init"),
        ({"body_lr": 0.1}, "body_lr=0.1 was given: it must be left out, as without init"),
        ({"init": "x", "unfreeze_at": 2}, "unfreeze_at=2 was given: .* without freeze"),
        ({"init": "x", "freeze": "head"}, "freeze='head' was given: it must be one of stem, stag"),
        ({"init": "x", "freeze": "stem", "unfreeze_at": 0}, "unfreeze_at=0 .* 1 or more"),
        ({"stem": "mnist"}, "stem='mnist' was given: it must be cifar or imagenet"),
        ({"init": "x", "body_lr": 2.0}, "body_lr=2.0 was given: it must be 0 to 1"),
    ],
)
def test_what_cannot_be(fields: dict, message: str) -> None:
    with pytest.raises(ts.TinyshuffleError, match=message):
        config(**fields)


def test_the_command(begun: Path, tmp_path: Path) -> None:
    words = ["train", "--runs-dir", str(tmp_path), "--epochs", "1", "--name", "second"]
    small = ["--variant", "stage_repeats=1,1,1", "--variant", "conv5_channels=16"]
    begin = ["--init", "first", "--freeze", "all-but-head"]
    result = CliRunner().invoke(cli, [*words, *small, *begin])
    assert result.exit_code == 0, result.output
    assert differing(weights(begun, "best.npz"), weights(tmp_path / "second")) == {"fc"}
    result = CliRunner().invoke(cli, [*words, "--init", "frist"])
    assert result.exit_code == 1 and "did you mean" in result.output
