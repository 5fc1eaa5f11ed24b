"""Published weights: the list, the download, what is done to a picture, and the commands."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
from click.testing import CliRunner
from PIL import Image

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.data.imagenet import Pipeline, classes
from tinyshuffle.weights import published


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch):
    """Tables are tables: a narrow terminal gets a list."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file for the smallest net, with ten classes."""
    path = tmp_path / "net.npz"
    ts.weights.write(ts.models.create("squeezenet1_1", 10, seed=3), path, layout="pytorch")
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    return result.exit_code, result.output


def test_every_published_file_is_a_nets() -> None:
    models = ts.models.list_models()
    found = published.listed()
    assert len(found) == 31 and len({one.name for one in found}) == 31
    for one in found:
        assert one.model in models and len(one.sha256) in (8, 10)
        assert int(one.sha256, 16) >= 0 and one.url.startswith("https://download.pytorch.org/")
    assert published.find("resnet50_v2").resize == 232


def test_the_pipeline() -> None:
    """The middle of a picture whose sides are a multiple of the crop's is left as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    out = Pipeline(256, 224).pixels(pixels)
    np.testing.assert_array_equal(out, pixels[16:240, 38:262])
    x = Pipeline(256, 224)(pixels)
    expected = (out / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(x, expected, atol=1e-5)
    assert len(classes()) == 1000 == len(set(classes()))


def test_each_nets_pipeline(tmp_path: Path) -> None:
    def of(name: str, model: str, **more: bool) -> Pipeline:
        return published.pipeline_of(tmp_path / name, model, **more)

    assert of("x.pth", "resnet50") == Pipeline(256)
    assert of("resnet50-11ad3fa6.pth", "resnet50") == Pipeline(232)
    assert of("x.pth", "googlenet").mean == (0.5, 0.5, 0.5)
    pixels = np.full((256, 256, 3), 200, np.uint8)
    np.testing.assert_allclose(of("x", "shufflenet_v2_x1_0", authors=True)(pixels), 200, rtol=1e-6)


def test_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights"
    one = replace(published.find("squeezenet1_1"), file="net-0000.pth")
    good = replace(one, file=f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    asked = []

    def retrieve(url: str, known_hash: None, fname: str, path: Path, downloader: object) -> str:
        asked.append(url)
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(content)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(published, "find", lambda name: one)
    with pytest.raises(ts.TinyshuffleError, match=r"does not begin with 0000.*fetch https://.*put"):
        published.download("net", tmp_path)
    assert not list((tmp_path / "weights").iterdir())
    monkeypatch.setattr(published, "find", lambda name: good)
    path = published.download("net", tmp_path)
    assert path == tmp_path / "weights" / good.file and path.read_bytes() == content
    assert published.download("net", tmp_path) == path and len(asked) == 2  # it was there
    path.write_bytes(b"other")
    with pytest.raises(ts.TinyshuffleError, match="is damaged.*delete it"):
        published.download("net", tmp_path)


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(*_: object, **__: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    code, said = run("weights", "squeezenet1_1", "--data-dir", tmp_path)
    assert code == 1 and "(ConnectionError): fetch https://download.pytorch.org/models/" in said
    assert f"put it into {tmp_path}" in said


def test_the_list(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "squeezenet1_1-b8a52dc0.pth").touch()
    code, said = run("weights", "--data-dir", tmp_path)
    assert code == 0 and said.count(" yes ") == 1 and "BSD 3-clause" in said
    assert f"FILE to {tmp_path / 'weights'}" in said
    code, said = run("weights", "squeezenet")
    assert code == 1 and "there are squeezenet1_" in said


def test_predict(weights: Path, photo: Path) -> None:
    found = ts.weights.pretrained("squeezenet1_1", weights)
    assert found.classes[9] == "class 9" and len(found.classes) == 10
    (name, p), *_ = found.predict(photo)
    code, said = run("predict", "squeezenet1_1", "--weights", weights, photo, "--top", 1)
    assert code == 0 and "shorter side to 256 pixels" in said
    assert name in said and f"{100 * p:.1f} %" in said


def test_predict_without_weights(photo: Path) -> None:
    code, said = run("predict", "squeezenet1_1", photo)
    assert code == 1 and "give --weights FILE, or the name of a run" in said


def test_predict_of_another_model(weights: Path, photo: Path) -> None:
    code, said = run("predict", "resnet18", "--weights", weights, photo)
    assert code == 1 and "is of another net: it lacks conv1.weight" in said
    code, said = run("predict", "resnet81", "--weights", weights, photo)
    assert code == 1 and "unknown model 'resnet81'; did you mean resnet18" in said


def test_a_run_has_weights_of_its_own(weights: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    commands = ("predict", photo), ("eval", "--data", tmp_path), ("export", tmp_path / "a.onnx")
    for command, *words in commands:
        runs = [] if command == "eval" else ["--runs-dir", tmp_path]
        name = tmp_path / "pets" if command == "eval" else "pets"
        code, said = run(command, name, "--weights", weights, *words, *runs)
        assert code == 1 and "is a run and has weights of its own: leave --weights out" in said


def test_cost_of_weights(weights: Path) -> None:
    code, said = run("cost", "squeezenet1_1", "--weights", weights)
    assert code == 0 and "727,626 parameters" in said  # with ten classes
    code, said = run("cost", "--table", "v2-5", "--weights", weights)
    assert code == 1 and "--weights has no effect" in said


def test_the_heads_of_googlenet(tmp_path: Path) -> None:
    """Published files have auxiliary classifiers, which a net need not have."""
    ts.weights.write(ts.models.create("googlenet", 10, aux_logits=True), tmp_path / "a.npz")
    alone = ts.models.create("googlenet", 10, weights=tmp_path / "a.npz")
    assert "aux1.fc2.weight" not in alone.state_dict()
    three = ts.models.create("googlenet", 3, aux_logits=True)
    dropped = ts.weights.load(three, tmp_path / "a.npz", head="drop")
    assert dropped == ["fc", "aux1.fc2", "aux2.fc2"]


def test_eval(weights: Path, tmp_path: Path) -> None:
    """Folders called like the classes, or as many; what is no picture is named."""
    ready = ts.weights.pretrained("squeezenet1_1", weights)
    rng = np.random.default_rng(0)
    right = {}
    for label in (2, 7):
        folder = tmp_path / "pictures" / f"class {label}"
        folder.mkdir(parents=True)
        right[label] = 0
        for i in range(3):
            pixels = rng.integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            right[label] += ready.predict(pixels, 1)[0][0] == f"class {label}"
    (folder / "broken.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 7 files in .* are left out: .*broken.png"):
        found = ts.train.evaluate_pictures(ready, tmp_path / "pictures")
    assert [found.right[2], found.right[7]] == list(right.values())
    assert found.count[2] == found.count[7] == 3 and found.count.sum() == 6
    with pytest.warns(UserWarning):
        code, said = run(
            "eval", "squeezenet1_1", "--weights", weights, "--data", tmp_path / "pictures"
        )
    assert code == 0 and "class 7" in said and "class 3" not in said and "6 images" in said
    (tmp_path / "pictures" / "class 7").rename(tmp_path / "pictures" / "birds")
    with pytest.raises(ts.TinyshuffleError, match="the net does not know 'birds', and it knows 10"):
        ts.train.evaluate_pictures(ready, tmp_path / "pictures")


def test_eval_of_a_run_or_of_weights(weights: Path) -> None:
    code, said = run("eval", "squeezenet1_1", "--weights", weights)
    assert code == 1 and "--weights and --data belong together" in said
    code, said = run("eval", "run", "--data", "folder")
    assert code == 1 and "--weights and --data belong together" in said
    code, said = run("eval", "squeezenet1_1", "--weights", weights, "--data", "x", "--flip")
    assert code == 1 and "--flip has no effect with --weights" in said
