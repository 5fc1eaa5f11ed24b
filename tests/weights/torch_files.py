"""The bytes that PyTorch writes for a dictionary of tensors, without PyTorch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["KINDS", "MAGIC", "dictionary", "tensor", "text", "whole", "write_legacy", "write_zip"]

KINDS = {"<f4": "Float", "<f8": "Double", "<f2": "Half", "<i8": "Long", "<u2": "BFloat16"}
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
MACHINE = b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u."


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def whole(number: int) -> bytes:
    if number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(
    key: str, kind: str, count: int, shape: tuple[int, ...], strides: tuple[int, ...], legacy: bool
) -> bytes:
    """A call of ``_rebuild_tensor_v2`` on a storage."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" + kind.encode()
        + b"Storage\n" + text(key) + text("cpu") + whole(count) + b"N" * legacy + b"tQK\x00"
        + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def dictionary(state: dict[str, np.ndarray], legacy: bool = False) -> bytes:
    """The pickle of a state; storages are called 0, 1, 2, …"""
    items = b""
    for i, (name, array) in enumerate(state.items()):
        strides = tuple(s // array.itemsize for s in array.strides)
        kind = KINDS[array.dtype.str]
        items += text(name)
        items += tensor(str(i), kind, array.size, array.shape, strides, legacy)
    head = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00("
    versions = b"u}(" + text("_metadata") + b"ccollections\nOrderedDict\n)Rub."
    return head + items + versions


def write_zip(path: Path, state: dict[str, np.ndarray], pickle: bytes | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", dictionary(state) if pickle is None else pickle)
        archive.writestr("net/byteorder", b"little")
        for i, array in enumerate(state.values()):
            archive.writestr(f"net/data/{i}", array.tobytes())
        archive.writestr("net/version", b"3\n")


def write_legacy(path: Path, state: dict[str, np.ndarray], pickle: bytes | None = None) -> None:
    keys = b"\x80\x02](" + b"".join(text(str(i)) for i in range(len(state))) + b"e."
    content = MAGIC + MACHINE + (dictionary(state, True) if pickle is None else pickle) + keys
    for array in state.values():
        content += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(content)
