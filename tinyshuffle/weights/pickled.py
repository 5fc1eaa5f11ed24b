"""Read the pickles in PyTorch's files without running anything that they say.

A pickle is a program for a small stack machine, and two of its operations import a name and call
it: that is how a file can run any command. This machine has the operations that ``torch.save``
writes for dictionaries of tensors, and knows a dozen names; what they stand for is a record, such
as :class:`Tensor`, and no function of PyTorch or Python is ever called. Every other operation and
name is refused.

It takes no more memory than the bytes of the pickle warrant: texts and whole numbers are short,
the number of operations has a limit, and no size that the file claims is believed.

The operations are those of Python's ``pickletools``, whose names they have here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

__all__ = ["Damaged", "Refused", "Storage", "Tensor", "loads"]

LONGEST_TEXT = 4096  # bytes: a name of a parameter, of a place, of a storage
LONGEST_NUMBER = 16  # bytes of a whole number
DEEPEST = 32  # axes of a tensor, which is what NumPy has at least

MOST_OPERATIONS = 50_000
"""And one more for each 48 bytes of the file. A tensor takes about 45, and 300 bytes at least."""


class Refused(Exception):
    """The pickle asks for what is no tensor, dictionary or number."""


class Damaged(Exception):
    """What was read is not what it should be."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the numbers of some tensors lie: ``count`` numbers of a type, under a key."""

    key: str
    kind: str  # in PyTorch's words, such as "Float"
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Some of a storage's numbers: the first one's place, the shape, and the steps of each axis."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers, not bytes


@dataclass(frozen=True, slots=True)
class _Name:
    """A function or class that the pickle names; ``make`` is what stands for it here."""

    name: str
    make: Callable[..., Any]


def loads(data: memoryview, start: int = 0) -> tuple[Any, int, dict[str, Storage]]:
    """Return what a pickle holds, where it ends, and the storages that it speaks of, by key.

    Parameters
    ----------
    data : memoryview
        Of the whole file, or of the part of it that is the pickle.
    start : int

    Raises
    ------
    Refused
        If it names anything but tensors, ordered dictionaries and numbers, or has operations that
        no dictionary of tensors needs.
    Damaged
        If it is cut off or makes no sense.
    """
    machine = _Machine(data, start)
    try:
        value = machine.run()
        return value, machine.at, machine.storages
    except (Refused, Damaged):
        raise
    except Exception as error:  # a stack that is empty, bytes that are no text, a wrong type
        raise Damaged(f"its pickle makes no sense at byte {machine.at:,}") from error


class _Mark:
    """Where a list of arguments begins on the stack."""


_MARK = _Mark()


class _Machine:
    def __init__(self, data: memoryview, start: int) -> None:
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        for _ in range(MOST_OPERATIONS + len(self.data) // 48):
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.stack.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise Refused(f"the pickle operation {bytes([code])!r}")
            operation(self)
        raise Damaged("its pickle has more operations than a file of this size needs")

    # ---- bytes

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise Damaged("its pickle is cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str, size: int) -> int:
        return int(unpack_from(form, self.take(size))[0])

    def text(self, length: int) -> str:
        if length > LONGEST_TEXT:
            raise Damaged(f"its pickle has a text of {length:,} bytes")
        return str(self.take(length), "utf-8")

    def line(self) -> str:
        end = self.at
        while self.data[end] != 0x0A:
            end += 1
            if end - self.at > LONGEST_TEXT:
                raise Damaged("its pickle has a name that does not end")
        line = self.text(end - self.at)
        self.at += 1
        return line

    # ---- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise Damaged("its pickle has a list without a beginning")

    # ---- operations

    def protocol(self) -> None:
        if (found := self.take(1)[0]) > 5:
            raise Damaged(f"its pickle has protocol {found}")

    def long1(self) -> None:
        length = self.take(1)[0]
        if length > LONGEST_NUMBER:
            raise Damaged(f"its pickle has a number of {length} bytes")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        values = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def set_items(self, items: list[Any]) -> None:
        table = self.stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise Damaged("its pickle puts items into what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # others could take long, or deep, to be hashed
                raise Refused(f"a dictionary with keys of type {type(key).__name__}")
            table[key] = value

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Damaged("its pickle appends to what is no list")
        self.stack[-1].extend(values)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def name(self, module: str, name: str) -> None:
        found = _NAMES.get(f"{module}.{name}")
        if found is None:
            raise Refused(f"{module}.{name}")
        self.push(found)

    def name_on_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise Damaged("its pickle names what is no text")
        self.name(module, name)

    def persistent(self) -> None:
        """Read the identity of a storage: ("storage", its type, key, place, count, …)."""
        word, kind, key, _, count, *view = self.stack.pop()
        if word != "storage" or not isinstance(kind, _Name) or kind.make is not _no_storage:
            raise Damaged("its pickle has a storage of no known kind")
        if type(key) is not str or not _whole(count) or any(v is not None for v in view):
            raise Damaged("its pickle has a storage without a key or size")
        words = kind.name.rpartition(".")[2]
        storage = Storage(key, words.removesuffix("Storage"), count)
        if self.storages.setdefault(key, storage) != storage:
            raise Damaged(f"its storage {key[:20]!r} is of two kinds")
        self.push(self.storages[key])

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise Damaged("its pickle calls what is no function")
        self.push(function.make(*arguments))

    def build(self) -> None:
        """Forget an object's attributes: a state dictionary's are the versions of its layers."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise Refused("an object with attributes")


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    good = isinstance(storage, Storage) and type(shape) is type(strides) is tuple
    if not good or not all(map(_whole, (offset, *shape, *strides))):
        raise Damaged("its pickle has a tensor whose shape is none")
    if len(shape) != len(strides) or len(shape) > DEEPEST:
        raise Damaged("its pickle has a tensor whose shape is none")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Damaged("its pickle has a parameter that is no tensor")
    return tensor


def _ordered(*pairs: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs[0] if pairs else ():
        if type(key) is not str:
            raise Refused(f"a dictionary with keys of type {type(key).__name__}")
        table[key] = value
    return table


def _size(axes: Any) -> tuple[int, ...]:
    if type(axes) is not tuple:
        raise Damaged("its pickle has a size that is none")
    return axes


def _no_storage(*_: Any) -> Any:
    raise Refused("a storage outside of a tensor")


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    **{
        f"torch.{kind}Storage": _no_storage
        for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"
        )
    },
}  # fmt: skip
_NAMES = {name: _Name(name, make) for name, make in _KNOWN.items()}

_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _Machine.protocol,  # PROTO
    0x95: lambda m: m.take(8),  # FRAME: how long the next part is, which nobody needs to know
    0x28: lambda m: m.push(_MARK),  # MARK
    0x30: lambda m: m.stack.pop(),  # POP
    0x4E: lambda m: m.push(None),  # NONE
    0x88: lambda m: m.push(True),  # NEWTRUE
    0x89: lambda m: m.push(False),  # NEWFALSE
    0x4A: lambda m: m.push(m.number("<i", 4)),  # BININT
    0x4B: lambda m: m.push(m.number("<B", 1)),  # BININT1
    0x4D: lambda m: m.push(m.number("<H", 2)),  # BININT2
    0x8A: _Machine.long1,  # LONG1
    0x47: lambda m: m.push(unpack_from(">d", m.take(8))[0]),  # BINFLOAT
    0x58: lambda m: m.push(m.text(m.number("<I", 4))),  # BINUNICODE
    0x8C: lambda m: m.push(m.text(m.take(1)[0])),  # SHORT_BINUNICODE
    0x54: lambda m: m.push(m.text(m.number("<i", 4) % 2**32)),  # BINSTRING, of Python 2
    0x55: lambda m: m.push(m.text(m.take(1)[0])),  # SHORT_BINSTRING, of Python 2
    0x7D: lambda m: m.push({}),  # EMPTY_DICT
    0x5D: lambda m: m.push([]),  # EMPTY_LIST
    0x29: lambda m: m.push(()),  # EMPTY_TUPLE
    0x74: lambda m: m.push(tuple(m.pop_to_mark())),  # TUPLE
    0x85: lambda m: m.tuple_of(1),  # TUPLE1
    0x86: lambda m: m.tuple_of(2),  # TUPLE2
    0x87: lambda m: m.tuple_of(3),  # TUPLE3
    0x61: lambda m: m.append([m.stack.pop()]),  # APPEND
    0x65: lambda m: m.append(m.pop_to_mark()),  # APPENDS
    0x73: _Machine.set_item,  # SETITEM
    0x75: lambda m: m.set_items(m.pop_to_mark()),  # SETITEMS
    0x68: lambda m: m.get(m.take(1)[0]),  # BINGET
    0x6A: lambda m: m.get(m.number("<I", 4)),  # LONG_BINGET
    0x71: lambda m: m.put(m.take(1)[0]),  # BINPUT
    0x72: lambda m: m.put(m.number("<I", 4)),  # LONG_BINPUT
    0x94: lambda m: m.put(len(m.memo)),  # MEMOIZE
    0x63: lambda m: m.name(m.line(), m.line()),  # GLOBAL
    0x93: _Machine.name_on_stack,  # STACK_GLOBAL
    0x51: _Machine.persistent,  # BINPERSID
    0x52: _Machine.reduce,  # REDUCE
    0x62: _Machine.build,  # BUILD
}
