"""1,100 damaged and hostile files of weights: nothing is run, one sentence each, little memory."""

from __future__ import annotations

import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.cases import run_cases
from fuzz.damage import damage_bytes
from weights import torch_files
from weights.torch_files import text

import tinyshuffle as ts
from tinyshuffle.files import installed

pytestmark = pytest.mark.slow

ALWAYS = 8 * 2**20
"""Bytes that reading a file may take whatever its size: objects for 50,000 operations."""

WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class",
           "socket.connect", "shutil.rmtree", "os.remove", "os.mkdir")  # fmt: skip
watching: list[str] = []
listening = False


def _audit(event: str, arguments: Any) -> None:
    if listening and (event in WATCHED or event == "open" and str(arguments[1])[:1] in "wax"):
        watching.append(f"{event}{arguments}")


sys.addaudithook(_audit)


def state(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.1.weight": (8, 1, 3, 3), "bias": (8,)}
    found = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    found["half"] = rng.standard_normal((40, 50)).astype(np.float16)
    return found | {"steps": np.array(3, np.int64)}


# ---- whole files, of which bytes are damaged


def _npz(path: Path) -> None:
    np.savez(path, **state())


def _safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(state(), path)


WHOLE: dict[str, Callable[[Path], None]] = {
    "zip.pth": lambda path: torch_files.write_zip(path, state()),
    "legacy.pth": lambda path: torch_files.write_legacy(path, state()),
    "arrays.npz": _npz,
}
if installed("safetensors"):
    WHOLE["whole.safetensors"] = _safetensors


# ---- hostile files


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def _evil(rng: np.random.Generator, marker: Path) -> bytes:
    """A pickle that makes a file, in one of the ways that the language has."""
    import os
    import subprocess

    code = f"open({str(marker)!r}, 'w').close()"
    ways = [
        Evil(os.system, f"touch {marker}"), Evil(exec, code), Evil(eval, code),
        Evil(subprocess.Popen, ["touch", str(marker)]), Evil(open, str(marker), "w"),
        Evil(os.mkdir, str(marker)), Evil(getattr, Evil(__import__, "os"), "system"),
    ]  # fmt: skip
    evil: Any = ways[int(rng.integers(len(ways)))]
    if rng.random() < 0.5:
        evil = {"features.0.weight": evil, "n": np.zeros(2)}
    return pickle.dumps(evil, protocol=int(rng.integers(6)))


def _by_hand(rng: np.random.Generator, marker: Path) -> bytes:
    """Operations that pickle's own writer would not choose."""
    command = text(f"touch {marker}")
    ways = [
        b"\x80\x02cos\nsystem\n(" + command + b"tR.",
        b"\x80\x02(" + command + b"ios\nsystem\n.",
        b"\x80\x02(cos\nsystem\n" + command + b"o.",
        b"\x80\x04" + text("os") + text("system") + b"\x93" + command + b"\x85R.",
        b"\x80\x02cos\nsystem\n" + command + b"\x85\x81.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x02ccollections\nOrderedDict\n)R(" + text("a") + b"cbuiltins\neval\n" + command
        + b"\x85Rub.",
        b"\x80\x02\x82\x01.", b"\x80\x02" + command + b"Q.", b"\x80\x02Pos\n.",
    ]  # fmt: skip
    return ways[int(rng.integers(len(ways)))]


def _claims(rng: np.random.Generator, _: Path) -> bytes:
    """Sizes of which the file has nothing."""
    huge = int(2 ** rng.uniform(31, 60))
    one = torch_files.tensor
    ways = [
        b"\x80\x04\x8e" + struct.pack("<Q", huge), b"\x80\x04\x8d" + struct.pack("<Q", huge),
        b"\x80\x02X\xff\xff\xff\x7f", b"\x80\x02T\xff\xff\xff\x7f", b"\x80\x02B\xff\xff\xff\x7f",
        b"\x80\x02\x8b\xff\xff\xff\x7f", b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x05\x96" + struct.pack("<Q", huge),
        b"\x80\x04\x95" + struct.pack("<Q", huge) + b"N.",
        *(
            b"\x80\x02}" + text("a") + tensor + b"s."
            for tensor in (
                one("0", "Float", huge, (huge,), (1,), False),
                one("0", "Float", 216, (huge,), (0,), False),
                one("0", "Float", 216, (10**6, 10**6), (0, 0), False),
                one("0", "Float", 216, (huge, huge), (1, 1), False),
                one("0", "Double", 216, (216,), (1,), False),
                one("0", "Float", 216, (-1,), (1,), False),
                one("9", "Float", 216, (6,), (1,), False),
                one("0", "Float", 216, (1,) * 60, (1,) * 60, False),
            )
        ),
        # every name shows all of the largest storage again
        b"\x80\x02}(" + b"".join(
            text(f"a{i}") + one("3", "Half", 2000, (2000 - i,), (1,), False) for i in range(500)
        ) + b"u.",
        b"\x80\x02" + b"]" * int(rng.integers(10**5, 10**6)) + b".",
        b"\x80\x02" + b"(" * int(rng.integers(10**5, 10**6)) + b".",
        b"\x80\x02)" + b"\x85" * int(rng.integers(10**4, 10**5)) + b".",
        b"\x80\x02)" + b"\x85" * 90_000 + b"}" + b"q\x00s.",
        b"\x80\x02}" + b"(" + b"".join(text(f"k{i}") + b"]" for i in range(20_000)) + b"u.",
        # one character beyond the first 65,536 makes every other one take four bytes
        b"\x80\x02" + text("a" * 6_000_000 + "\U0001f41b") + b".",
        b"\x80\x02]q\x00h\x00a.", b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    ]  # fmt: skip
    return ways[int(rng.integers(len(ways)))]


def _array(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _archive(rng: np.random.Generator, path: Path) -> None:
    """Archives and their like, whose lists of parts lie."""
    huge = int(2 ** rng.uniform(31, 60))
    kind = int(rng.integers(9))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if kind == 0 else 0) as archive:
        if kind == 0:  # a bomb
            archive.writestr("a.npy", bytes(10**7))
        elif kind == 1:
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }\n" % huge
            archive.writestr("a.npy", _array(header))
        elif kind == 2:
            archive.writestr("a.npy", _array(b"{'descr': '|O', 'fortran_order': 0, 'shape': ()}"))
        elif kind == 3:
            archive.writestr("a.npy", _array(b"(" * 9000))
        elif kind == 4:
            archive.writestr("a.npy", _array(b"__import__('os').system('true')\n"))
        elif kind == 5:  # many parts of nothing
            for i in range(int(rng.integers(5_000, 10_000))):
                archive.writestr(f"{i:x}", b"")
        elif kind == 6:
            names = ("../../../evil.npy", "/etc/evil.npy", "..\\evil.npy", "a\0b.npy", "C:evil.npy")
            name = names[int(rng.integers(len(names)))]
            archive.writestr(name, _array(b"{'descr': '<f4', 'fortran_order': False, 'shape': ()}"))
        elif kind == 7:
            torch_files.write_zip(path, state(), torch_files.dictionary(state()) + b"x")
        else:
            archive.writestr("net/data.pkl", b"\x80\x02}.")
            archive.writestr("other/data.pkl", b"\x80\x02}.")
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    if rng.random() < 0.5 and at >= 0:  # the list's sizes and places
        field = at + int(rng.choice([20, 24, 42]))
        data[field : field + 4] = struct.pack("<I", min(huge, 2**32 - 1))
    elif rng.random() < 0.3:
        field = len(data) - 22 + int(rng.choice([8, 10, 12, 16]))
        data[field : field + 2] = rng.bytes(2)
    path.write_bytes(data)


def _tensors(rng: np.random.Generator, path: Path) -> None:
    """Headers of safetensors that lie."""
    huge = int(2 ** rng.uniform(31, 62))
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: list[Any] = [
        {"a": one | {"shape": [huge]}}, {"a": one | {"data_offsets": [0, huge]}},
        {"a": one | {"data_offsets": [8, 0]}}, {"a": one, "b": one}, {"a": one | {"dtype": "X"}},
        {"a": one | {"dtype": "BF16", "shape": [4, huge]}}, [], "x", {"a": 5}, {"../../a": one},
        {"a": one | {"shape": [-1]}}, {"a": one | {"shape": [0, huge]}},
        {f"a{i}": one | {"shape": [0], "data_offsets": [0, 0]} for i in range(8_000)},
        {"__metadata__": {"layout": "x" * 10**5}, "a": one},
    ]  # fmt: skip
    header = json.dumps(headers[int(rng.integers(len(headers)))]).encode()
    length = huge if rng.random() < 0.2 else len(header)
    path.write_bytes(struct.pack("<Q", length) + header + bytes(8))


# ---- what has to come of them


def _read(path: Path, marker: Path) -> str:
    """Read a file; return how it went, and raise if it did harm."""
    global listening
    size = path.stat().st_size
    watching.clear()
    tracemalloc.start()
    listening = True
    try:
        found = ts.weights.read(path)
        outcome = "used"
    except ts.TinyshuffleError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, str(error)
        assert str(path) in str(error)
        found, outcome = {}, "refused"
    finally:
        listening = False
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert not watching, f"it did {watching}"
    assert not marker.exists(), "it ran a command"
    assert peak <= 2 * size + ALWAYS, f"{peak:,} bytes of memory for {size:,}"
    assert all(type(a) is np.ndarray and a.dtype.kind in "fiub" for a in found.values())
    return outcome


def _damaged(folder: Path, name: str) -> Callable[[np.random.Generator], str]:
    WHOLE[name](folder / name)
    whole_file = (folder / name).read_bytes()

    def case(rng: np.random.Generator) -> str:
        path = folder / f"hurt-{name}"
        path.write_bytes(damage_bytes(whole_file, rng))
        return _read(path, folder / "marker")

    return case


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    run_cases(f"weights {name}", 150, _damaged(tmp_path, name))


@pytest.mark.parametrize("make", [_evil, _by_hand, _claims])
def test_hostile_pickles(make: Callable[..., bytes], tmp_path: Path) -> None:
    def case(rng: np.random.Generator) -> str:
        path, evil = tmp_path / "evil.pth", make(rng, tmp_path / "marker")
        kind = int(rng.integers(3))
        if kind == 0:
            torch_files.write_zip(path, state(), evil)
        elif kind == 1:
            torch_files.write_legacy(path, state(), evil)
        else:
            path.write_bytes(evil)
        outcome = _read(path, tmp_path / "marker")
        assert make is _claims or outcome == "refused"
        return outcome

    run_cases(f"weights {make.__name__}", 100, case)


@pytest.mark.parametrize("make", [_archive, *([_tensors] if len(WHOLE) > 3 else [])])
def test_hostile_archives(make: Callable[..., None], tmp_path: Path) -> None:
    def case(rng: np.random.Generator) -> str:
        path = tmp_path / f"evil.{'npz' if make is _archive else 'safetensors'}"
        make(rng, path)
        return _read(path, tmp_path / "marker")

    run_cases(f"weights {make.__name__}", 100, case)


def test_whole_files_are_read(tmp_path: Path) -> None:
    for name, make in WHOLE.items():
        make(tmp_path / name)
        found = ts.weights.read(tmp_path / name)
        assert found.keys() == state().keys(), name
        assert found["half"].dtype == np.float32


def test_memory_of_a_large_file(tmp_path: Path) -> None:
    """bfloat16 comes as float32: twice the file, and not a copy more."""
    path = tmp_path / "large.pth"
    halves = np.random.default_rng(0).integers(0, 2**15, (2000, 4000), np.uint16)
    torch_files.write_zip(path, {"weight": halves})
    assert _read(path, tmp_path / "marker") == "used"
