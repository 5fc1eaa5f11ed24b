"""Read and write files of weights, whatever program they are for."""

from __future__ import annotations

import io
import json
import mmap
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load as load_checkpoint
from ..errors import TinyshuffleError
from ..files import atomic_write, expand, installed
from ..nn import Module
from ..nn.check import check_net
from ..text import message, shown
from . import archive, torch_file
from .names import is_authors, our_layout, ours, torch_layout
from .pickled import Damaged, Refused
from .torch_file import Raw

__all__ = ["LAYOUTS", "State", "read", "read_state", "write"]

LAYOUTS = ("tinyshuffle", "pytorch")
MARK = b"layout: pytorch"
"""The comment of a .npz archive whose weights are laid out as PyTorch's. NumPy reads over it."""


@dataclass(frozen=True)
class State:
    """What a file holds, in our layout and names, and whether its net is the authors' own."""

    arrays: dict[str, np.ndarray]
    authors: bool = False


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the weights in a file, by name, laid out as in this library.

    Nothing in the file is run, whatever it says, and PyTorch is not needed.

    Parameters
    ----------
    path : path
        PyTorch's ``.pth`` or ``.pt`` with a state dictionary, or a checkpoint that has one as its
        ``state_dict``; ``.safetensors`` (``pip install safetensors``); ``.npz`` with arrays by
        name; or a checkpoint of a run of ours.

    Returns
    -------
    dict of name to array
        Convolutions are (Kh, Kw, C / G, O), or (Kh, Kw, C) if depthwise, linear layers (in, out).
        float16 and bfloat16 come as float32, other types as they are. "module." before every name
        is left out; the names of the authors' ShuffleNets become ours.

    Raises
    ------
    TinyshuffleError
        If the file cannot be read, is damaged, or asks for anything but tensors, dictionaries and
        numbers.
    """
    return read_state(path).arrays


def read_state(path: str | os.PathLike[str]) -> State:
    """Return what :func:`read` does, and what else is known of it."""
    path = expand(path, "path")
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise Damaged("it is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            return _read(path, mapped)
        finally:
            _let_go(mapped)
    except TinyshuffleError:
        raise
    except Refused as error:
        raise TinyshuffleError(
            f"{path} holds {message(error)}, and a file of weights has tensors, ordered "
            "dictionaries and numbers only; nothing of it was run: save the state alone, with "
            "torch.save(net.state_dict(), path), or as .safetensors"
        ) from None
    except OSError as error:
        raise TinyshuffleError(
            f"{path} cannot be read ({error.strerror or error}): check the path and its permissions"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # zipfile, NumPy and safetensors raise all kinds at damaged bytes
        raise TinyshuffleError(
            f"{path} is truncated, damaged or no file of weights ({message(error)}): download or "
            "save it again"
        ) from error


def _let_go(mapped: mmap.mmap) -> None:
    """Close a mapping, of which a traceback may still hold pieces; the last of them closes it."""
    try:
        mapped.close()
    except BufferError:
        pass


def _read(path: Path, mapped: mmap.mmap) -> State:
    begin, size = bytes(mapped[:4]), len(mapped)
    if path.suffix == ".safetensors":
        return _arranged(*_read_safetensors(path, mapped), size)
    if begin[:2] == b"PK":
        parts = archive.members(mapped)
        if "header.npy" in parts and any(name.startswith("net/") for name in parts):
            return State(load_checkpoint(path).best)
        if any(name.rpartition("/")[2] == "data.pkl" for name in parts):
            return _arranged(torch_file.state_of(torch_file.read_zip(parts)), "pytorch", size)
        raw = {
            name.removesuffix(".npy"): (archive.array(part), False)
            for name, part in parts.items()
            if name.endswith(".npy")
        }
        if not raw:
            raise Damaged("a zip archive without weights")
        return _arranged(raw, LAYOUTS[mapped[-len(MARK) :] == MARK], size)
    if begin[:1] == b"\x80":
        return _arranged(torch_file.state_of(torch_file.read_legacy(mapped)), "pytorch", size)
    raise Damaged(f"it begins with {shown(begin)}, as none of them does")


def _read_safetensors(path: Path, mapped: mmap.mmap) -> tuple[dict[str, Raw], str]:
    check_safetensors()
    from safetensors import safe_open

    length = int.from_bytes(mapped[:8], "little")
    if length > archive.most_directory(len(mapped)):
        raise Damaged("its header is too long for its size")
    raw: dict[str, Raw] = {}
    with safe_open(str(path), framework="np") as file:
        words = file.metadata() or {}
        header = json.loads(mapped[8 : 8 + length])
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            kind = file.get_slice(name).get_dtype()
            if kind == "BF16":  # NumPy has no such type
                start, end = (8 + length + place for place in header[name]["data_offsets"])
                numbers = np.frombuffer(memoryview(mapped)[start:end], "<u2")
                raw[name] = numbers.reshape(header[name]["shape"]), True
            else:
                raw[name] = file.get_tensor(name), False
    return raw, "tinyshuffle" if words.get("layout") == "tinyshuffle" else "pytorch"


def check_safetensors() -> None:
    """Say what to install, if it is not there."""
    if not installed("safetensors"):
        raise TinyshuffleError(
            "files of .safetensors need the package safetensors, which is not installed: "
            "pip install safetensors"
        )


def _arranged(raw: dict[str, Raw], layout: str, size: int) -> State:
    """Copy the numbers of a file of ``size`` bytes, in our layout and types, under our names.

    That is twice its size at most: halves that become float32, or a storage that two tensors show.
    """
    names, most = list(raw), 2 * size
    arrays: dict[str, np.ndarray] = {}
    copies: dict[Any, np.ndarray] = {}  # of tensors that share their numbers, there is one
    for name, (numbers, brain) in zip(ours(names), raw.values(), strict=True):
        if name in arrays:
            raise Damaged(f"two of its tensors are called {shown(name)}")
        place = numbers.__array_interface__["data"], numbers.shape, numbers.strides, numbers.dtype
        if place not in copies:
            most -= numbers.nbytes * (2 if brain or numbers.dtype.str[1:] == "f2" else 1)
            if most < 0:
                raise Damaged("its tensors are larger than it")
            copies[place] = _own(our_layout(numbers) if layout == "pytorch" else numbers, brain)
        arrays[name] = copies[place]
    authors = is_authors(names)
    first = "conv1.0.weight"
    if authors and first in arrays:  # they give a net blue, green, red
        arrays[first] = np.ascontiguousarray(arrays[first][:, :, ::-1])
    return State(arrays, authors)


def _own(numbers: np.ndarray, brain: bool) -> np.ndarray:
    """Copy numbers out of the file: the one copy that is made, and float32 if they were halves."""
    if brain:  # the upper half of a float32
        wide = numbers.astype(np.uint32, order="C")
        wide <<= 16
        return wide.view(np.float32)
    dtype = numbers.dtype.newbyteorder("=")
    return numbers.astype(np.float32 if dtype == np.float16 else dtype, order="C")


def write(
    net: Module | Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    layout: str = "tinyshuffle",
) -> None:
    """Write a net's weights and running statistics to ``.safetensors`` or ``.npz``.

    The file takes its place when it is complete, and :func:`read` knows its layout.

    Parameters
    ----------
    net : Module, or dict of name to array
        A state dictionary is taken as ours.
    path : path
        Its ending decides the format.
    layout : {"tinyshuffle", "pytorch"}
        PyTorch's is for ``torch_net.load_state_dict``, after ``safetensors.torch.load_file`` for
        example.

    Raises
    ------
    TinyshuffleError
        For another ending or layout, what are no weights, or if the file cannot be written.
    """
    path = expand(path, "path")
    if layout not in LAYOUTS:
        raise TinyshuffleError(f"layout={shown(layout)} is unknown: use {' or '.join(LAYOUTS)}")
    if not isinstance(net, Mapping):
        check_net(net)
        net = net.state_dict()
    state = dict(net)
    for name, array in state.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            raise TinyshuffleError(
                f"{shown(name)} with a {type(array).__name__} was given: weights are arrays by name"
            )
        if array.dtype.kind not in "fiub":
            raise TinyshuffleError(f"{name} holds {array.dtype}: weights are real numbers")
    if not state:
        raise TinyshuffleError("there are no weights to write: give a net that has some")
    if layout == "pytorch":
        state = {name: torch_layout(array) for name, array in state.items()}
    state = {name: np.require(array, requirements="C") for name, array in state.items()}
    if path.suffix == ".safetensors":
        check_safetensors()
        from safetensors.numpy import save

        words = {"layout": layout} | ({"format": "pt"} if layout == "pytorch" else {})
        content = save(state, words)
    elif path.suffix == ".npz":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as parts:  # as np.savez, which has names of its own
            for name, array in state.items():
                with parts.open(f"{name}.npy", "w", force_zip64=True) as part:
                    np.lib.format.write_array(part, array, allow_pickle=False)
            if layout == "pytorch":
                parts.comment = MARK
        content = buffer.getvalue()
    else:
        raise TinyshuffleError(
            f"{path} has no format that weights are written in: let it end in .safetensors or .npz"
        )
    with atomic_write(path) as file:
        file.write(content)
