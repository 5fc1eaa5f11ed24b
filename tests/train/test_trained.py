"""ts.load and the predict command: what a net says of pictures, and of files that are none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, PngImagePlugin
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, train
from tinyshuffle.train.trained import read_image


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        tiny_run.install(patch.setattr)
        config = Config(epochs=2, batch_size=16, threads=1, backend="numpy", ema=0.9)
        yield train(config, "a", tmp_path_factory.mktemp("runs"), quiet=True)


def command(*arguments):
    return CliRunner().invoke(cli, ["predict", *map(str, arguments)])


def test_load_gives_the_tested_net_and_what_it_needs(run):
    trained = ts.load(run.run)
    train_set, test = tiny_run.load("shapes")
    assert trained.classes == tiny_run.CLASSES and trained.size == 8
    assert (trained.mean == np.float32(train_set.mean)).all()
    assert (trained.std == np.float32(train_set.std)).all()
    assert not trained.net.training
    assert trained.config.ema == 0.9
    right = trained.probabilities(test.images).argmax(1) == test.labels
    assert right.mean() == max(row["test_accuracy"] for row in run.rows)
    assert ts.load(run.run / "last.npz").classes == trained.classes


def test_predict_is_what_the_net_says(run, tmp_path):
    trained = ts.load(run.run)
    _, test = tiny_run.load("shapes")
    expected = trained.probabilities(test.images)
    for i in (0, 5):
        Image.fromarray(test.images[i]).save(tmp_path / "image.png")
        found = trained.predict(tmp_path / "image.png")
        assert [name for name, _ in found] == [trained.classes[k] for k in np.argsort(-expected[i])]
        np.testing.assert_allclose([p for _, p in found], np.sort(expected[i])[::-1], rtol=1e-5)
        assert sum(p for _, p in found) == pytest.approx(1)
        assert trained.predict(test.images[i], top=1) == found[:1]
        assert trained.predict(Image.fromarray(test.images[i]))[0][0] == found[0][0]


def test_pictures_become_what_the_net_takes(tmp_path):
    # black, and white in the middle square of a wide picture: what is left and right is cut off
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (read_image(wide, 8) > 230).all()
    corner = np.zeros((40, 40), np.uint8)
    corner[:20, :20] = 255
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        image = Image.fromarray(corner).convert(mode)
        small = read_image(image, 8)
        assert small.shape == (8, 8, 3) and small.dtype == np.uint8
        assert (small[:3, :3] > 240).all() and (small[5:] < 15).all(), mode
    for dtype in (np.uint16, np.int32):  # 16 bits
        small = read_image(Image.fromarray(corner.astype(dtype) * 128), 8)
        assert np.abs(small[:3, :3].astype(int) - 127).max() < 8 and (small[5:] < 8).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: the top left corner goes to the right
    Image.fromarray(corner).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = read_image(tmp_path / "turned.jpg", 8)
    assert (turned[:3, 5:] > 240).all() and (turned[:, :3] < 15).all()


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.bmp", "a.tiff", "a.jpg", "ein Bild.png"])
def test_formats(run, tmp_path, name):
    Image.new("RGB", (30, 20), "white").save(tmp_path / name)
    assert command(run.run, tmp_path / name).exit_code == 0


def test_command_prints_a_table(run, tmp_path):
    for name in ("one.png", "two.png"):
        Image.new("RGB", (8, 8), "white").save(tmp_path / name)
    result = command(run.run, tmp_path / "one.png", tmp_path / "two.png", "--top", 2)
    assert result.exit_code == 0
    assert result.stdout.count(" %") == 4 and result.stdout.count("bright") == 2
    assert "one.png" in result.stdout and "two.png" in result.stdout


def test_files_that_are_not_images(run, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:700])
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "good.png")
    exif = b"Exif\0\0II*\0\1"  # cut off
    Image.new("RGB", (8, 8)).save(tmp_path / "exif.png", exif=exif)
    names = ["text.png", "cut.jpg", "good.png", "empty.png", "absent.png", ".", "exif.png"]
    result = command(run.run, *(tmp_path / name for name in names))
    assert result.exit_code == 1
    assert "good.png" in result.stdout
    errors = result.stderr.splitlines()
    assert len(errors) == 6 and all(line.startswith("Error: ") for line in errors)
    bad = ("text.png", "cut.jpg", "empty.png", "absent.png")
    assert all(name in error for name, error in zip(bad, errors, strict=False))
    assert "not an image that Pillow can open" in errors[0]
    assert "No such file" in errors[3]


def test_a_picture_that_would_fill_the_memory(monkeypatch, tmp_path):
    Image.new("1", (200, 200)).save(tmp_path / "large.png")
    for limit in (30_000, 10_000):  # Pillow warns above the limit, and refuses above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(TinyshuffleError, match=r"large.png' is too large"):
            read_image(tmp_path / "large.png", 8)


def test_arrays_that_are_not_pictures():
    with pytest.raises(TinyshuffleError, match=r"this picture cannot be read"):
        read_image(np.zeros((4, 4, 7)), 8)


def grey(height=8, width=8):
    """Rows from dark to light, (H, W) in 0..1."""
    return np.repeat(np.linspace(0.1, 0.9, height)[:, None], width, 1)


PICTURES = {
    "real numbers": lambda: np.float32(grey()),
    "real numbers, RGB": lambda: np.repeat(grey()[..., None], 3, 2),
    "one channel": lambda: np.uint8(grey() * 255)[..., None],
    "16 bits": lambda: np.uint16(grey() * 65535),
    "other whole numbers": lambda: np.int64(grey() * 255),
    "not in a row": lambda: np.uint8(grey() * 255)[::-1, ::-1][::-1],
    "opaque": lambda: np.uint8(np.stack([grey() * 255] * 3 + [np.full((8, 8), 255)], 2)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_arrays_of_many_kinds_are_the_same_picture(kind):
    expected = grey()[..., None].repeat(3, 2) * 255
    assert np.abs(read_image(PICTURES[kind](), 8) - expected).max() <= 1.5


@pytest.mark.parametrize("name", ["a.tiff", "b.png", "c.tiff"])
def test_files_of_deep_pixels(tmp_path, name):
    pixels = {"a.tiff": np.float32(grey()), "b.png": np.uint16(grey() * 65535),
              "c.tiff": np.uint16(grey() * 65535)}[name]  # fmt: skip
    Image.fromarray(pixels).save(tmp_path / name)
    expected = grey()[..., None].repeat(3, 2) * 255
    assert np.abs(read_image(tmp_path / name, 8) - expected).max() <= 1.5


def test_a_dark_picture_of_16_bits_is_dark(tmp_path):
    Image.fromarray(np.full((8, 8), 250, np.uint16)).save(tmp_path / "dark.png")
    if Image.open(tmp_path / "dark.png").mode == "I":
        pytest.skip("this Pillow does not say how many bits there are")
    assert (read_image(tmp_path / "dark.png", 8) == 0).all()


@pytest.mark.parametrize(
    "pixels",
    [np.full((8, 8), 255.0), np.full((8, 8), -0.5), np.full((8, 8), np.nan),
     np.full((8, 8, 3), -1), np.full((8, 8), 70_000), np.zeros((0, 8, 3), np.uint8),
     np.zeros((8, 8, 3), complex), np.array([["a"]])],
)  # fmt: skip
def test_numbers_that_could_mean_anything_are_refused(pixels):
    with pytest.raises(TinyshuffleError, match="this picture cannot be read"):
        read_image(pixels, 8)


def test_what_is_transparent_is_white(tmp_path):
    hidden = np.zeros((8, 8, 4), np.uint8)
    hidden[..., 0] = 255  # red, and nobody sees it
    hidden[:4, :, 3] = 255
    Image.fromarray(hidden).save(tmp_path / "a.png")
    palette = Image.fromarray(np.uint8([[0] * 8] * 4 + [[1] * 8] * 4)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "b.png", transparency=1)
    Image.fromarray(hidden).save(tmp_path / "c.webp", lossless=True, exact=True)
    for picture in (hidden, tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.webp"):
        small = read_image(picture, 8)
        assert (small[:3] == [255, 0, 0]).all() and (small[5:] == 255).all()


def test_an_animation_is_its_first_picture(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif", 8) == 255).all()


def test_a_reader_that_raises_anything_costs_one_picture(run, tmp_path, monkeypatch):
    """As Pillow's of AVIF does, RuntimeError, at a damaged file."""
    for name in ("bad.png", "good.png"):
        Image.new("RGB", (8, 8), "white").save(tmp_path / name)
    load = PngImagePlugin.PngImageFile.load

    def damaged(self):
        if "bad" in str(self.filename):
            raise RuntimeError("Failed to decode frame 0: Truncated data")
        return load(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", damaged)
    result = command(run.run, tmp_path / "bad.png", tmp_path / "good.png")
    assert result.exit_code == 1 and "good.png" in result.stdout
    (error,) = result.stderr.splitlines()
    assert "bad.png" in error and "Truncated data" in error


def test_runs_that_cannot_be_loaded(tmp_path):
    with pytest.raises(TinyshuffleError, match=r"no checkpoint"):
        ts.load(tmp_path)
    with pytest.raises(TinyshuffleError, match=r"cannot be read"):
        ts.load(tmp_path / "absent.npz")
    assert "there is no run" in command("absent", "a.png").stderr


def test_import_stays_light():
    code = (
        "import sys, tinyshuffle\n"
        "heavy = {'PIL', 'joblib', 'rich', 'matplotlib', 'numba', 'dask'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
