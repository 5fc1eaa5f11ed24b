"""The parts of a zip archive as pieces of a file that is mapped into memory: nothing is copied.

``.npz`` files and PyTorch's are such archives, with parts that are stored as they are. One that is
compressed could stand for any amount of memory, and is refused.
"""

from __future__ import annotations

import math
import mmap
import zipfile
import zlib
from io import BytesIO
from struct import unpack_from

import numpy as np

from .pickled import Damaged, Refused

__all__ = ["array", "members", "most_directory"]

LONGEST_HEADER = 10_000  # bytes before an array's numbers


def most_directory(size: int) -> int:
    """Return how long a file of ``size`` bytes may have its list of parts.

    A list of short entries becomes many objects, each larger than what was read.
    """
    return 2**18 + size // 32


class _Short:
    """A mapped file as :mod:`zipfile` wants one, which reads no more at once than a list's size."""

    def __init__(self, file: mmap.mmap) -> None:
        self.file, self.most = file, most_directory(len(file))
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = len(self.file) - self.tell()
        if count > self.most:
            raise Damaged("its list of parts is too long for its size")
        return self.file.read(count)

    def seekable(self) -> bool:
        return True


def members(file: mmap.mmap) -> dict[str, memoryview]:
    """Return the parts of an archive by name, each with the right check sum.

    Raises
    ------
    Refused
        If there is a program in it.
    Damaged
        If it is no archive, a part is compressed or damaged, or two have the same name.
    """
    view, found = memoryview(file), {}
    with zipfile.ZipFile(_Short(file)) as archive:  # type: ignore[call-overload]
        for info in archive.infolist():
            if info.filename.endswith(".py"):
                raise Refused("a program, in TorchScript")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise Damaged(
                    f"{info.filename!r} in it is compressed, and would have to be unpacked first: "
                    "save it with numpy.savez or torch.save"
                )
            if info.filename in found:
                raise Damaged(f"two of its parts are called {info.filename!r}")
            # a local header has 30 bytes, then its own lengths of the name and of more
            name, more = unpack_from("<HH", view, info.header_offset + 26)
            start = info.header_offset + 30 + name + more
            part = view[start : start + info.file_size]
            if len(part) != info.file_size or zlib.crc32(part) != info.CRC:
                raise Damaged(f"{info.filename!r} in it has a wrong check sum")
            found[info.filename] = part
    if sum(map(len, found.values())) > len(view):
        raise Damaged("its parts are larger than it")
    return found


def array(part: memoryview) -> np.ndarray:
    """Return the array of a ``.npy`` file, whose numbers stay where they are."""
    head = BytesIO(part[:LONGEST_HEADER])
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(head)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(head)
    else:
        raise Damaged(f"an array in it has version {version}")
    if dtype.hasobject or dtype.kind not in "fiub":
        raise Damaged(f"an array in it holds {dtype}, not numbers")
    if math.prod(shape) * dtype.itemsize != len(part) - head.tell():
        raise Damaged(f"an array of shape {shape} in it has {len(part) - head.tell():,} bytes")
    values = np.frombuffer(part, dtype, offset=head.tell())
    return values.reshape(shape, order="F" if fortran else "C")
