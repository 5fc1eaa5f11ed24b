"""Arguments that make no sense: what PyTorch refuses is refused in a sentence, and the rest works.

Each case changes one or two arguments of a layer, or its input, to something out of a bag of
nonsense. Where the two libraries differ on purpose, :func:`on_purpose` says so.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from fuzz.cases import run_cases

import tinyshuffle as ts

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch)")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Rng = np.random.Generator

NONSENSE: list[Any] = [
    0, -1, -5, 1.5, 2.0, float("nan"), float("inf"), None, "3", "", "same", True, np.int64(2),
    np.float64(2.0), np.array(2), (2,), (1, 2, 3), (2, 0), (0, 2), (2, -1), (2, 1.5), [2, 2], [],
    {}, b"3", (2, "2"), np.array([2, 2]), (2, None), 3 + 0j, 100, 10**30,
]  # fmt: skip

# name, arguments that work with images of 4 channels (or rows of 4 numbers), which are numbers
LAYERS: dict[str, dict[str, Any]] = {
    "Conv2d": dict(in_channels=4, out_channels=6, kernel_size=3, stride=1, padding=1, dilation=1,
                   groups=2, bias=True),
    "Linear": dict(in_features=4, out_features=5, bias=True),
    "BatchNorm2d": dict(num_features=4, eps=1e-5, momentum=0.1),
    "MaxPool2d": dict(kernel_size=3, stride=2, padding=1, ceil_mode=False),
    "AvgPool2d": dict(kernel_size=3, stride=2, padding=1, count_include_pad=True),
    "AdaptiveAvgPool2d": dict(output_size=2),
    "LocalResponseNorm": dict(size=3, alpha=1e-4, beta=0.75, k=1.0),
    "Dropout": dict(p=0.5),
    "ChannelShuffle": dict(groups=2),
}  # fmt: skip


def is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def outcome(call: Any) -> tuple[str, Any]:
    """"refused" and the exception, or "accepted" and what came out."""
    try:
        return "accepted", call()
    except Exception as error:
        return "refused", error


def is_sentence(error: Exception) -> bool:
    """One line, for a person: not an exception's name, and not a page."""
    said = str(error)
    return isinstance(error, ts.TinyshuffleError) and 20 < len(said) < 600 and said.isprintable()


def use(layer: Any, x: np.ndarray) -> np.ndarray:
    y = layer(x)
    dx = layer.backward(np.ones_like(y))
    assert dx.shape == x.shape
    return y


def use_torch(layer: Any, x: Any) -> np.ndarray:
    images = x.permute(0, 3, 1, 2) if x.dim() == 4 else x
    y = layer(images.clone().requires_grad_())
    y.sum().backward()
    y = y.detach()
    return (y.permute(0, 2, 3, 1) if y.dim() == 4 else y).numpy()


def on_purpose(name: str, changed: dict[str, Any]) -> str:
    """Why the two may differ about these arguments; nothing if they may not."""
    for argument, value in changed.items():
        if isinstance(value, (bool, str, bytes, complex, dict, np.ndarray)) or value is None:
            return "PyTorch takes what it can turn into a number, or a truth value for one"
        if isinstance(value, (tuple, list)) and not (len(value) == 2 and all(map(is_whole, value))):
            return "PyTorch has (n,) and lists of other lengths for a pair"
        if argument in ("ceil_mode", "count_include_pad", "bias"):
            return "PyTorch takes anything for a truth value"
        if is_whole(value) and value == 0 and argument in (
            "out_channels", "out_features", "in_features", "num_features", "in_channels",
            "output_size",
        ):  # fmt: skip
            return "PyTorch has layers without outputs"
        if name == "AdaptiveAvgPool2d" and isinstance(value, np.integer):
            return "PyTorch takes NumPy's whole numbers elsewhere"
        if argument in ("eps", "momentum", "alpha", "beta", "k", "p"):
            return "PyTorch does not look at it"
    return ""


def layer(rng: Rng) -> str:
    name = str(rng.choice(list(LAYERS)))
    arguments = dict(LAYERS[name])
    changed = {}
    for argument in rng.choice(list(arguments), size=int(rng.integers(1, 3))):
        changed[str(argument)] = NONSENSE[rng.integers(len(NONSENSE))]
    arguments |= changed
    shape = (2, 4) if name == "Linear" else (2, 6, 5, 4)
    x = rng.normal(size=shape).astype(np.float32)
    what = f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"

    theirs, y_theirs = outcome(
        lambda: use_torch(getattr(torch.nn, name)(**arguments), torch.tensor(x))
    )
    found = []
    for backend in "numpy", "numba":
        with ts.backend(backend):
            mine, y = outcome(lambda: use(getattr(ts.nn, name)(**copy.deepcopy(arguments)), x))
        found.append(mine)
        if mine == "refused":
            assert is_sentence(y), f"{what}; {backend}: {type(y).__name__}: {y}"
        elif not on_purpose(name, changed):
            assert theirs == mine, f"{what}; {backend}: accepted, PyTorch says {y_theirs}"
            assert y.shape == y_theirs.shape, f"{what}; {backend}: {y.shape}, not {y_theirs.shape}"
    assert found[0] == found[1], f"{what}: {found[0]} by NumPy, {found[1]} by numba"
    if not on_purpose(name, changed):
        assert found[0] == theirs, f"{what}: {found[0]} ({y}), {theirs} by PyTorch"
    return found[0]


INPUTS: dict[str, Any] = {
    "integers": lambda x: (x * 9).astype(np.int64),
    "pixels": lambda x: (np.abs(x) * 50).astype(np.uint8),
    "truth values": lambda x: x > 0,
    "halves": lambda x: x.astype(np.float16),
    "complex": lambda x: x.astype(complex),
    "texts": lambda x: x.astype(str),
    "objects": lambda x: x.astype(object),
    "an axis less": lambda x: x[0],
    "an axis more": lambda x: x[None],
    "no images": lambda x: x[:0],
    "no channels": lambda x: x[..., :0],
    "a channel less": lambda x: x[..., 1:],
    "channels first": lambda x: np.ascontiguousarray(np.moveaxis(x, -1, 1)),
    "a number": lambda x: 3.0,
    "None": lambda x: None,
    "a list": lambda x: x.tolist(),
    "a text": lambda x: "x",
}

NO_ARRAYS = {"a number", "None", "a list", "a text"}
SHAPES = {"an axis less", "an axis more", "channels first", "a channel less", "no images",
          "no channels"}  # fmt: skip


def wrong_input(rng: Rng) -> str:
    """An array of the wrong kind or shape is a sentence; what only moves numbers moves any."""
    name = str(rng.choice([*LAYERS, "ReLU", "ReLU6", "Sigmoid", "GlobalAvgPool", "Flatten"]))
    layer = getattr(ts.nn, name)(**LAYERS.get(name, {}))
    x = rng.normal(size=(3, 4) if name == "Linear" else (2, 6, 5, 4)).astype(np.float32)
    how = str(rng.choice(list(INPUTS)))
    found = []
    for backend in "numpy", "numba":
        with ts.backend(backend):
            mine, y = outcome(lambda: use(copy.deepcopy(layer), INPUTS[how](x)))
        found.append(mine)
        what = f"{layer} of {how}; {backend}"
        if mine == "refused":
            assert is_sentence(y), f"{what}: {type(y).__name__}: {y}"
        else:
            moves = name in ("ChannelShuffle", "Flatten") and how not in NO_ARRAYS
            assert moves or y.dtype == np.float32 and how in SHAPES, what
            if how in ("no images", "no channels"):
                assert not y.size, f"{what}: {y}"
    assert found[0] == found[1], f"{layer} of {how}: {found}"
    return found[0]


def wrong_labels(rng: Rng) -> str:
    """The loss refuses labels and logits that do not belong together."""
    n, k = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    logits = rng.normal(size=(n, k)).astype(np.float32)
    labels = rng.integers(k, size=n)
    bad = [
        (logits, labels + k), (logits, labels - k), (logits, labels[:-1]), (logits[0], labels),
        (logits, labels.astype(float)), (logits, None), (None, labels), (logits[:0], labels[:0]),
        (logits[:, :0], labels), (logits.astype(int), labels), (logits, labels[:, None]),
        (logits, "x"), (logits, labels.astype(str)), (logits, labels > 0),
        (logits.astype(np.float16), labels), (logits[..., None], labels),
    ]  # fmt: skip
    given = bad[rng.integers(len(bad))]
    for backend in "numpy", "numba":
        with ts.backend(backend):
            mine, error = outcome(lambda: ts.nn.CrossEntropyLoss()(*given))
        assert mine == "refused", f"loss({given[0]!r}, {given[1]!r}) is {error}; {backend}"
        assert is_sentence(error), f"{given!r}; {backend}: {type(error).__name__}: {error}"
    return "refused"


COUNTS = {layer: 900, wrong_input: 400, wrong_labels: 100}


@pytest.mark.parametrize("case", COUNTS, ids=lambda case: case.__name__)
def test_arguments(case) -> None:
    run_cases(case.__name__, COUNTS[case], case)
