"""PyTorch's two kinds of files: the zip archive of today, and the row of pickles before 1.6."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from .pickled import Damaged, Refused, Tensor, loads

__all__ = ["Raw", "read_legacy", "read_zip", "state_of"]

MAGIC = 0x1950A86A20F9469CFC6C
"""With this number a file of the older kind begins."""

KINDS = {
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "u2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip

STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")
"""Under these a checkpoint has the net's state, beside the optimiser's and others."""

Raw = tuple[np.ndarray, bool]
"""Numbers where they lie in the file, and whether they are bfloat16 (and come as uint16)."""


def read_zip(parts: dict[str, memoryview]) -> Any:
    """Return what was saved, with a :data:`Raw` for each tensor."""
    name, *more = (name for name in parts if name.rpartition("/")[2] == "data.pkl")
    if more:
        raise Damaged(f"it has two pickles, {name!r} and {more[0]!r}")
    folder = name.removesuffix("data.pkl")
    value, _, _ = loads(parts[name])
    order = bytes(parts.get(f"{folder}byteorder", b"little"))
    blocks = {
        name.removeprefix(f"{folder}data/"): part
        for name, part in parts.items()
        if name.startswith(f"{folder}data/")
    }
    return _filled(value, blocks, ">" if order == b"big" else "<")


def read_legacy(file: mmap.mmap) -> Any:
    """Return what was saved: magic number, version, machine, object, keys, and the storages."""
    view = memoryview(file)
    magic, at, _ = loads(view)
    if magic != MAGIC:
        raise Damaged("it does not begin with PyTorch's magic number")
    _, at, _ = loads(view, at)
    machine, at, _ = loads(view, at)
    value, at, storages = loads(view, at)
    keys, at, _ = loads(view, at)
    if type(machine) is not dict or type(keys) is not list:
        raise Damaged("its list of storages is none")
    order = "<" if machine.get("little_endian", True) else ">"
    blocks: dict[str, memoryview] = {}
    for key in keys:
        storage = storages.get(key) if type(key) is str else None
        if storage is None:  # how long it would be, nobody says
            raise Damaged("it has a storage that no tensor uses")
        count = int.from_bytes(view[at : at + 8], "little" if order == "<" else "big")
        if count != storage.count or key in blocks:
            raise Damaged(f"its storage {key!r} has another size than its tensors say")
        size = count * np.dtype(KINDS[storage.kind]).itemsize
        blocks[key] = view[at + 8 : at + 8 + size]
        at += 8 + size
        if at > len(view):
            raise Damaged("it is cut off")
    return _filled(value, blocks, order)


def state_of(value: Any) -> dict[str, Raw]:
    """Return the state of a net: the tensors of a dictionary, or of the one that it holds."""
    if type(value) is dict:
        for table in (value, *(value.get(key) for key in STATE_KEYS)):
            if type(table) is dict:
                found = {k: v for k, v in table.items() if type(k) is str and type(v) is tuple}
                if found:
                    return found
    raise Refused("no dictionary of names and tensors")


def _filled(value: Any, blocks: dict[str, memoryview], order: str) -> Any:
    """Put the numbers in the place of each tensor in the dictionaries of the first two levels."""
    if type(value) is not dict:
        return value
    out: dict[Any, Any] = {}
    for key, item in value.items():
        if type(item) is dict:
            out[key] = {
                k: _numbers(v, blocks, order) if isinstance(v, Tensor) else None
                for k, v in item.items()
            }
        else:
            out[key] = _numbers(item, blocks, order) if isinstance(item, Tensor) else None
    return out


def _numbers(tensor: Tensor, blocks: dict[str, memoryview], order: str) -> Raw:
    """Look at a tensor's numbers in the file; nothing is copied."""
    storage = tensor.storage
    dtype = np.dtype(order + KINDS[storage.kind])
    block = blocks.get(storage.key)
    if block is None or len(block) != storage.count * dtype.itemsize:
        raise Damaged(f"its storage {storage.key!r} is missing or of another size")
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype), storage.kind == "BFloat16"
    steps = zip(tensor.shape, tensor.strides, strict=True)
    if tensor.offset + sum((n - 1) * step for n, step in steps) >= storage.count:
        raise Damaged("it has a tensor that reaches beyond its storage")
    numbers = np.frombuffer(block, dtype)[tensor.offset :]
    strides = [step * dtype.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
    return view, storage.kind == "BFloat16"
