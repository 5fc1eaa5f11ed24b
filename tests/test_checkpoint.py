"""A checkpoint is whole or refused, and the one before it is never lost."""

from __future__ import annotations

import errno
import os
import zipfile

import numpy as np
import pytest

from tinyshuffle import checkpoint
from tinyshuffle.checkpoint import Checkpoint, load, load_newest, save, save_newest
from tinyshuffle.errors import TinyshuffleError


def example(value=0.0):
    rng = np.random.default_rng(0)
    net = {"fc.weight": rng.standard_normal((5, 3)).astype(np.float32), "bn.count": np.array(7)}
    optim = {"momentum/fc.weight": np.full((5, 3), value), "steps": np.arange(3)}
    average = {name: array + 1 for name, array in net.items()}
    header = {"config": {}, "epoch": 2, "sums": {"loss": 0.1 + value}}
    return Checkpoint(header, net, optim, average)


def assert_same(a, b):
    assert {k: a.header[k] for k in b.header} == b.header
    for mine, yours in ((a.net, b.net), (a.optim, b.optim), (a.average, b.average)):
        assert mine.keys() == yours.keys()
        for name, array in mine.items():
            assert array.dtype == yours[name].dtype
            np.testing.assert_array_equal(array, yours[name])


def test_round_trip(tmp_path):
    save(tmp_path / "a.npz", example(1 / 3))
    assert_same(load(tmp_path / "a.npz"), example(1 / 3))
    assert os.listdir(tmp_path) == ["a.npz"]


def test_numpy_alone_can_read_it(tmp_path):
    save(tmp_path / "a.npz", example())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["net/fc.weight"].shape == (5, 3)


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "a.npz"
    save(path, example())
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 37), len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(TinyshuffleError, match=r"a.npz is truncated, damaged or not a"):
            load(path)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.npz"
    save(path, example())
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert_same(load(path), example())  # a time stamp in the archive, say
        except TinyshuffleError as error:
            assert "a.npz" in str(error)
            refused += 1
    assert refused > len(whole) / 7 / 2


def test_foreign_files(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(TinyshuffleError, match=r"not a tinyshuffle checkpoint"):
        load(path)
    np.savez(path, header=np.zeros(3))
    with pytest.raises(TinyshuffleError, match=r"not a tinyshuffle checkpoint"):
        load(path)
    np.savez(path, header=np.frombuffer(b'{"format": "other", "version": 1}', np.uint8))
    with pytest.raises(TinyshuffleError, match=r"not a tinyshuffle checkpoint"):
        load(path)
    np.savez(path, header=np.array([{"version": 1}], object))  # would have to be unpickled
    with pytest.raises(TinyshuffleError, match=r"not a tinyshuffle checkpoint"):
        load(path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(TinyshuffleError, match=r"not a tinyshuffle checkpoint"):
        load(tmp_path / "b.npy")
    with pytest.raises(TinyshuffleError, match=r"cannot be read"):
        load(tmp_path / "absent.npz")
    with pytest.raises(TinyshuffleError, match=r"cannot be read"):
        load(tmp_path)


def test_newer_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    save_newest(tmp_path, example())
    monkeypatch.undo()
    for attempt in (lambda: load(tmp_path / "last.npz"), lambda: load_newest(tmp_path)):
        with pytest.raises(TinyshuffleError, match=r"newer tinyshuffle .*update"):
            attempt()


def test_older_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    save(tmp_path / "last.npz", example())
    monkeypatch.undo()
    with pytest.raises(TinyshuffleError, match=r"older tinyshuffle .*train again"):
        load(tmp_path / "last.npz")


def test_previous_is_kept_and_used(tmp_path):
    save_newest(tmp_path, example(1))
    save_newest(tmp_path, example(2))
    found, path, faults = load_newest(tmp_path)
    assert_same(found, example(2))
    assert path.name == "last.npz" and not faults

    (tmp_path / "last.npz").write_bytes((tmp_path / "last.npz").read_bytes()[:100])
    found, path, faults = load_newest(tmp_path)
    assert_same(found, example(1))
    assert path.name == "previous.npz"
    assert len(faults) == 1 and "last.npz is truncated" in faults[0]

    (tmp_path / "previous.npz").write_bytes(b"")
    with pytest.raises(TinyshuffleError, match=r"last.npz.*previous.npz"):
        load_newest(tmp_path)


def test_killed_at_any_rename(tmp_path, monkeypatch):
    """Whatever rename is the last one that happened, the newest whole checkpoint is found."""
    replace = os.replace
    for survive in range(4):
        run = tmp_path / str(survive)
        run.mkdir()
        save_newest(run, example(1))
        left = survive

        def dying(source, target):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", dying)
        try:
            save_newest(run, example(2))
        except KeyboardInterrupt:
            assert survive < 3
        monkeypatch.undo()
        # the first rename completes next.npz; before the second, last.npz still has its name
        assert_same(load_newest(run)[0], example(1 if survive < 2 else 2))


def test_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch):
    save_newest(tmp_path, example(1))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TinyshuffleError, match=r"could not be written .No space left"):
        save_newest(tmp_path, example(2))
    with pytest.raises(TinyshuffleError, match=r"last.npz .* before is untouched"):
        save(tmp_path / "last.npz", example(2))
    assert os.listdir(tmp_path) == ["last.npz"]
    assert_same(load_newest(tmp_path)[0], example(1))


def damages(path):
    """Ways in which a checkpoint becomes unreadable: name -> what does that."""
    whole = path.read_bytes()
    names = whole.rindex(b"header.npy")  # in the zip directory, which is at the end
    flipped = bytearray(whole)
    flipped[names + 2] ^= 4
    middle = bytearray(whole)
    middle[len(middle) // 3] ^= 1

    def directory():
        path.unlink()
        path.mkdir()

    def compressed():
        with np.load(path) as file:
            arrays = dict(file)
        np.savez_compressed(path, **arrays)

    def renamed():
        path.write_bytes(whole.replace(b"header.npy", b"leader.npy"))

    def headless():
        np.savez(path, weights=np.zeros(3))

    def link_to_nothing():
        path.unlink()
        path.symlink_to(path.with_name("nowhere"))

    return {
        "empty": lambda: path.write_bytes(b""),
        "truncated": lambda: path.write_bytes(whole[:-50]),
        "shortened at the front": lambda: path.write_bytes(b"abc" + whole[100:]),
        "a bit in the zip directory": lambda: path.write_bytes(flipped),
        "a bit in an array": lambda: path.write_bytes(middle),
        "text": lambda: path.write_bytes(b"<html>not found</html>"),
        "directory": directory,
        "compressed": compressed,
        "renamed": renamed,
        "headless": headless,
        "link to nothing": link_to_nothing,
    }


DAMAGES = (
    "empty", "truncated", "shortened at the front", "a bit in the zip directory",
    "a bit in an array", "text", "directory", "compressed", "renamed", "headless",
    "link to nothing",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_previous_is_used_however_last_is_damaged(tmp_path, damage):
    save_newest(tmp_path, example(1))
    save_newest(tmp_path, example(2))
    damages(tmp_path / "last.npz")[damage]()
    found, path, faults = load_newest(tmp_path)
    assert_same(found, example(1))
    assert path.name == "previous.npz" and len(faults) == 1 and "last.npz" in faults[0]


def test_previous_is_used_when_last_may_not_be_read(tmp_path, monkeypatch):
    save_newest(tmp_path, example(1))
    save_newest(tmp_path, example(2))
    opened = zipfile.ZipFile

    def denied(path, *arguments, **options):  # chmod does not keep an administrator out
        if "last" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(zipfile, "ZipFile", denied)
    found, path, (fault,) = load_newest(tmp_path)
    assert_same(found, example(1))
    assert "Permission denied" in fault


def test_headers_that_promise_too_much(tmp_path):
    """Shapes and brackets that would take all memory or the stack, with right check sums."""
    for name, content in {
        "header.npy": b"[" * 200_000,
        "net/w.npy": b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117)
        + b"\n",
    }.items():
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(name, content)
            if name != "header.npy":
                archive.writestr("header.npy", b"")
        with pytest.raises(TinyshuffleError, match=r"a.npz is truncated, damaged or not"):
            load(tmp_path / "a.npz")
