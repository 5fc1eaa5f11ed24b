"""Folders of pictures: every kind that Pillow opens, kept once, broken ones named; and arrays."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.data import folder as module
from tinyshuffle.train import Config

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 40), "red": (200, 30, 30)}


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch):
    """Tables are tables: a narrow terminal gets a list."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINYSHUFFLE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


def make(folder: Path, count: int = 10, classes=tuple(COLOURS)) -> Path:
    """Pictures of one colour and some noise each, of several sizes, kinds and orientations."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = rng.integers(20, 60, 2)
            noise = rng.integers(0, 20, (height, width, 3))
            picture = Image.fromarray((np.array(COLOURS[name]) + noise).astype(np.uint8))
            exif = picture.getexif()
            if i % 3 == 0:
                exif[0x112] = 6
            if i % 4 == 1:
                picture.convert("RGBA").save(folder / name / f"{i}.png")
            else:
                picture.save(folder / name / f"{i}.JPG", "JPEG", exif=exif)
    return folder


def test_a_seeded_split(tmp_path: Path) -> None:
    path = make(tmp_path / "birds")
    train, test = ts.data.load(str(path))
    assert train.classes == test.classes == ("blue", "green", "red") and train.name == "birds"
    assert train.images.shape == (24, 64, 64, 3) and test.images.shape == (6, 64, 64, 3)
    for found in (train, test):
        assert len(set(np.bincount(found.labels))) == 1
        brightest = found.images.mean((1, 2)).argmax(1)  # red 0, green 1, blue 2
        np.testing.assert_array_equal(brightest, 2 - found.labels)
    assert np.array_equal(test.mean, train.mean)
    again, _ = module.load(path)
    other, _ = module.load(path, seed=1)
    assert np.array_equal(again.images, train.images)
    assert not np.array_equal(other.images, train.images)


@pytest.mark.parametrize("names", [("train", "test"), ("train", "val"), ("training", "validation"),
                                   ("Train", "TEST"), ("training_set", "test_set"),
                                   ("train-data", "Valid data")])  # fmt: skip
def test_given_parts(names: tuple[str, str], tmp_path: Path) -> None:
    make(tmp_path / "data" / names[0], 3)
    make(tmp_path / "data" / names[1], 2, ("green", "red"))
    train, test = module.load(tmp_path / "data", side=16)
    assert np.bincount(train.labels).tolist() == [3, 3, 3]
    assert np.bincount(test.labels).tolist() == [0, 2, 2] and len(test.classes) == 3
    (tmp_path / "data" / names[1] / "yellow").mkdir()
    with pytest.raises(ts.TinyshuffleError, match="class 'yellow', of which .* no pictures"):
        module.load(tmp_path / "data", side=16)


def test_pictures_are_upright_on_white_and_of_one_size(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 2)
    half = np.zeros((40, 40, 3), np.uint8)
    half[:20] = 255  # white above
    image = Image.fromarray(half)
    exif = image.getexif()
    exif[0x112] = 3  # upside down
    image.save(path / "red" / "a.jpg", exif=exif, quality=100)
    Image.fromarray(half[..., 0]).save(path / "red" / "b.png")
    Image.new("RGBA", (30, 50), (0, 0, 0, 0)).save(path / "red" / "c.png")
    train, test = module.load(path, side=8)
    pictures = np.concatenate([train.images, test.images])
    tops, bottoms = pictures[:, :3].mean((1, 2, 3)), pictures[:, 5:].mean((1, 2, 3))
    assert ((tops < 5) & (bottoms > 250)).sum() == 1  # turned
    assert ((tops > 250) & (bottoms < 5)).sum() == 1  # grey
    assert (pictures == 255).all((1, 2, 3)).sum() == 1  # what is transparent


def test_the_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a", 2)
    first, _ = module.load(path, side=8)
    (kept,) = cache.iterdir()
    read = []

    def counted(file: Path, side: int) -> np.ndarray:
        read.append(file)
        return np.zeros((side, side, 3), np.uint8)

    monkeypatch.setattr(module, "read_image", counted)
    again, _ = module.load(path, side=8)
    assert not read and np.array_equal(again.images, first.images)
    module.load(path, side=16)
    assert len(read) == 6  # another size is another set
    kept.write_bytes(b"damaged")
    module.load(path, side=8)
    assert len(read) == 12
    os.utime(path / "red" / "0.JPG", (1, 1))
    module.load(path, side=8)
    assert len(read) == 18


def test_broken_files(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 5)
    whole = (path / "red" / "0.JPG").read_bytes()
    (path / "red" / "2.JPG").write_bytes(whole[: len(whole) // 2])
    (path / "green" / "video.mov").write_bytes(b"no picture")
    (path / "blue" / "notes.txt").write_bytes(b"beside the pictures")
    (path / "blue" / ".DS_Store").write_bytes(b"beside the pictures")
    for _ in range(2):  # from the cache too
        with pytest.warns(UserWarning, match=r"2 of 16 files .*mov.*2.JPG.*cannot be read"):
            train, test = module.load(path, side=8)
        assert len(train) + len(test) == 14
        with pytest.raises(ts.TinyshuffleError, match="has 2 files that are no pictures: .*mov"):
            module.load(path, side=8, strict=True)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda p: None, "there is no folder"),
        (lambda p: p.mkdir(), "has 0 folders in it, and needs one for each class"),
        (lambda p: make(p, 3, ("red",)), "has 1 folders in it"),
        (lambda p: make(p, 1), "the class 'blue' in .* has 1 pictures, and needs two"),
        (
            lambda p: (make(p / "train", 2), make(p / "test", 0)),
            "test has no picture of the class",
        ),
        (
            lambda p: (make(p, 3), make(p / "Test", 3)),
            "has the folder 'Test' and none called 'train' beside it",
        ),
    ],
)
def test_folders_that_are_none(make_it, message: str, tmp_path: Path) -> None:
    make_it(tmp_path / "a")
    with pytest.raises(ts.TinyshuffleError, match=message):
        ts.data.load(str(tmp_path / "a"))


def test_pictures_to_test_with_need_none_to_train_with(tmp_path: Path) -> None:
    make(tmp_path / "imagenet" / "val", 2)
    names, files = module.pictures(tmp_path / "imagenet")
    assert names == tuple(COLOURS) and [label for _, label in files] == [0, 0, 1, 1, 2, 2]


def test_a_train_is_a_class_too(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 3)
    (path / "red").rename(path / "train")
    assert module.load(path, side=8)[0].classes == ("blue", "green", "train")


@pytest.mark.parametrize("name", [".thumbnails", "__MACOSX", "@eaDir"])
def test_what_programs_put_beside_pictures_is_left_out(name: str, tmp_path: Path) -> None:
    """As a class it would be one more, and in a class the same pictures a second time."""
    path = make(tmp_path / "a", 5)
    make(path / name, 2, ("red",))
    make(path / "red" / name, 2, ("red",))
    train, test = module.load(path, side=8)
    assert train.classes == tuple(COLOURS) and len(train) + len(test) == 15


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "birds", 2)
    monkeypatch.chdir(tmp_path)
    assert ts.data.is_folder("birds") and ts.data.is_folder("./x") and ts.data.is_folder("~/x")
    assert not ts.data.is_folder("cifar10") and not ts.data.is_folder("bird")
    with pytest.raises(ts.TinyshuffleError, match="no data set 'bird' .*no folder of that name"):
        ts.data.load("bird")
    assert Config(data="birds").data == str(tmp_path / "birds")
    with pytest.raises(ts.TinyshuffleError, match="side=32 has no effect on shapes"):
        Config(side=32)
    with pytest.raises(ts.TinyshuffleError, match="side=64 has no effect on shapes"):
        ts.data.load("shapes", side=64)
    with pytest.raises(ts.TinyshuffleError, match="side=4 was given: .* from 8 to 512"):
        ts.data.load("birds", side=4)


def run(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_folder_to_a_prediction(tmp_path: Path) -> None:
    """Three classes of coloured pictures are told apart after one command."""
    path = make(tmp_path / "birds", 10)
    small = ["--variant", "stage_repeats=1,1,1", "--variant", "conv5_channels=16"]
    runs = ["--runs-dir", tmp_path / "runs"]
    run("train", "--data", path, "--side", 16, "--epochs", 12, "--name", "a", *small, *runs)
    said = run("eval", "a", *runs)
    assert "test accuracy 100.00 %" in said and "6 images" in said
    said = run("predict", "a", path / "red" / "0.JPG", "--top", 1, *runs)
    assert " red " in said
    assert ts.load(tmp_path / "runs" / "a").size == 16
    (tmp_path / "birds").rename(tmp_path / "moved")
    said = run("eval", "a", "--data-dir", tmp_path / "moved", *runs)
    assert "test accuracy 100.00 %" in said
    assert " red " in run("predict", "a", tmp_path / "moved" / "red" / "0.JPG", "--top", 1, *runs)


def test_a_run_is_named_after_its_folder(tmp_path: Path) -> None:
    path = make(tmp_path / "birds", 3)
    small = ["--variant", "stage_repeats=1,1,1", "--variant", "conv5_channels=16"]
    run("train", "--data", path, "--side", 8, "--epochs", 1, "--runs-dir", tmp_path / "r", *small)
    (found,) = (tmp_path / "r").iterdir()
    assert found.name.startswith("birds-shufflenet_v2_x0_5-")


# ---- arrays


def test_arrays() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (6, 9, 8, 3), np.uint8), [0, 1, 2, 0, 1, 2]
    found = ts.data.from_arrays(x, y, ("a", "b", "c"))
    assert found.classes == ("a", "b", "c") and np.array_equal(found.images, x)
    np.testing.assert_allclose(found.mean, (x / 255).mean((0, 1, 2)), atol=1e-6)
    test = ts.data.from_arrays(x[:2], ["c", "a"], like=found)
    assert test.labels.tolist() == [2, 0] and np.array_equal(test.mean, found.mean)
    assert ts.data.from_arrays(x, y).classes == ("class 0", "class 1", "class 2")
    (batch, labels), *_ = ts.data.batches(found, 4)
    assert batch.shape == (4, 9, 8, 3) and labels.shape == (4,)


def test_arrays_of_other_kinds() -> None:
    grey = np.random.default_rng(0).random((4, 8, 8))
    for x in (grey, grey[..., None]):
        found = ts.data.from_arrays(x, ["cat", "dog", "dog", "cat"])
        assert found.classes == ("cat", "dog") and found.labels.tolist() == [0, 1, 1, 0]
        assert (found.images == (255 * grey[..., None]).round().astype(np.uint8)).all()


@pytest.mark.parametrize(
    ("x", "y", "names", "message"),
    [
        (np.zeros((2, 8, 8, 3)) - 1, [0, 1], None, "images of float64"),
        (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], None, "shape .2, 8, 8, 4."),
        (np.zeros((2, 8, 8), np.uint8), [0, 1, 1], None, "one label an image"),
        (np.zeros((2, 8, 8), np.uint8), [0, 2], ("a", "b"), "labels from 0 to 2 and 2 classes"),
        (np.zeros((2, 8, 8), np.uint8), ["a", "z"], ("a", "b"), "label 'z' is none of the classes"),
        (np.zeros((2, 8, 8), np.uint8), [0.0, 1.0], None, "labels of float64"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], "ab", "names='ab' was given: it must be"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], ("a", "a"), "for each class, all different"),
        (np.zeros((0, 8, 8), np.uint8), [], ("a", "b"), "was given no image"),
    ],
)
def test_arrays_that_cannot_be(x, y, names, message: str) -> None:
    with pytest.raises(ts.TinyshuffleError, match=message), warnings.catch_warnings():
        warnings.simplefilter("error")
        ts.data.from_arrays(x, y, names)


@pytest.mark.parametrize("kind", ["several.gif", "several.tif", "exif.jpg"])
def test_what_is_read_says_nothing_and_is_closed(kind: str, tmp_path: Path) -> None:
    picture, path = Image.new("RGB", (20, 20), (0, 200, 0)), tmp_path / kind
    if kind == "exif.jpg":
        picture.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x02\0\0\0\x04abcd")
    else:
        picture.save(path, save_all=True, append_images=[Image.new("RGB", (20, 20))])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pixels = ts.data.images.read_image(path, 8)
    assert not said and pixels[4, 4, 1] > 190


@pytest.mark.slow
def test_an_ablation_names_a_broken_file_once(tmp_path: Path) -> None:
    """The trainings, in processes of their own, do not say it again."""
    path = make(tmp_path / "birds", 4)
    (path / "red" / "broken.jpg").write_bytes(b"")
    config = Config.make("zoo", data=str(path), side=8, epochs=1, threads=1, backend="numpy")
    with pytest.warns(UserWarning, match="are left out") as said:
        report = ts.train.ablate("shuffle", config, 1, tmp_path / "runs", jobs=1, quiet=True)
    assert len(said) == 1 and len(report.accuracies) == 4


def test_a_large_jpeg_is_read_at_a_fraction_of_its_size(tmp_path: Path) -> None:
    """Which changes next to nothing: it is scaled down anyway."""
    y, x = np.mgrid[:600, :800]
    smooth = np.stack([x / 4, y / 3, (x + y) / 6], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    asked = []
    fraction = ts.data.images.read_image(tmp_path / "a.jpg", 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *a: asked.append(a))
        whole = ts.data.images.read_image(tmp_path / "a.jpg", 64)
    assert asked and np.abs(fraction.astype(int) - whole).max() <= 3
