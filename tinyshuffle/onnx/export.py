"""Write a net as an ONNX file, and see whether ONNX Runtime computes the same with it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import check_statistics
from ..errors import TinyshuffleError
from ..files import atomic_write, expand, installed
from ..nn import Module
from ..nn.check import check_net
from ..ops.arguments import IntPair, check_pair
from ..plan import trace
from ..text import message, shown
from ..values import flags, whole
from .graph import Graph

__all__ = ["Exported", "export"]

OLDEST_OPSET = 13
OPSET, IR = 17, 8
"""Which every runtime of the last years reads; a newer opset brings its own version of the file."""

LAYOUTS = ("nchw", "nhwc")
TOLERANCE = 1e-4
"""Largest difference between the two sides, relative to the largest logit."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
    opset, ir : int
    difference : float or None
        Of the logits here and in ONNX Runtime, the largest, relative to the largest logit.
    reason : str
        Why there is no difference, if there is none.
    """

    path: Path
    opset: int
    ir: int
    difference: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        written = f"{self.path}: opset {self.opset}, IR {self.ir}; "
        if self.difference is None:
            return written + f"not run, as {self.reason}"
        return written + (
            f"ONNX Runtime's logits differ by at most {self.difference:.1e} of the largest"
        )


@flags
def export(
    net: Module,
    path: str | os.PathLike[str],
    opset: int = OPSET,
    layout: str = "nchw",
    fold: bool = True,
    input_size: IntPair = 224,
    classes: Sequence[str] = (),
    mean: Sequence[float] | np.ndarray = (),
    std: Sequence[float] | np.ndarray = (),
) -> Exported:
    """Write a net in evaluation as one ONNX file, for batches of any size.

    The file has one input, ``images``, normalised float32, and one output, ``logits``.

    Parameters
    ----------
    net : Module
    path : path
    opset : int
        Of ONNX's operations, from 13 up.
    layout : {"nchw", "nhwc"}
        Of the images.
    fold : bool
        Fold batch norms into the convolutions before them.
    input_size : int or (height, width)
    classes : names
    mean, std : three numbers
        Of these three the file tells, as JSON under their names, what is given.

    Raises
    ------
    TinyshuffleError
        If onnx is not installed, the net has a layer of its own making, the images do not suit it,
        or ONNX Runtime, if that is installed, computes something else.
    """
    if not installed("onnx"):
        raise TinyshuffleError(
            "ONNX files need the package onnx, which is not installed: pip install onnx "
            "onnxruntime"
        )
    import onnx
    from onnx import TensorProto, helper

    newest = onnx.defs.onnx_opset_version()
    number = whole(opset)
    if number is None or not OLDEST_OPSET <= number <= newest:
        raise TinyshuffleError(
            f"opset={shown(opset)} is not possible: give a whole number from {OLDEST_OPSET} to "
            f"{newest}, which is what onnx {onnx.__version__} knows"
        )
    if layout not in LAYOUTS:
        raise TinyshuffleError(f"layout={shown(layout)} is unknown: use {' or '.join(LAYOUTS)}")
    path, (height, width) = expand(path, "path"), check_pair(input_size, "input_size")
    check_net(net)
    net = getattr(net, "net", net)
    plan = trace(net, (1, height, width, 3), train=False, weights=np.float32)
    graph = Graph(net, plan, fold)
    images = "images"
    x = images
    if layout == "nhwc":
        x = graph.node("Transpose", None, images, perm=(0, 3, 1, 2))
    y = graph.build(x)
    words = _words(plan.output.shape, classes, mean, std)
    graph.nodes.append(helper.make_node("Identity", [y], ["logits"], "logits"))
    shape: list[Any] = ["N", 3, height, width] if layout == "nchw" else ["N", height, width, 3]
    outputs: list[Any] = ["N", *plan.output.shape[1:]]
    found = helper.make_graph(
        graph.nodes,
        type(net).__name__,
        [helper.make_tensor_value_info(images, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)],
        list(graph.weights.values()),
    )
    opsets = [helper.make_opsetid("", number)]
    ir = max(IR, helper.find_min_ir_version_for(opsets))
    model = helper.make_model(
        found, opset_imports=opsets, ir_version=ir, producer_name="tinyshuffle"
    )
    helper.set_model_props(model, {**words, "layout": layout})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    difference, reason = _compare(net, content, layout, (2, height, width, 3))
    if difference is not None and not difference <= TOLERANCE:
        raise TinyshuffleError(
            f"ONNX Runtime's logits differ by {difference:.1e} of the largest one, where "
            f"{TOLERANCE:.0e} is rounding: nothing was written; this is a fault of tinyshuffle or "
            "of ONNX Runtime, please report it"
        )
    with atomic_write(path) as file:
        file.write(content)
    return Exported(path, number, ir, difference, reason)


def _words(
    output: tuple[int, ...], classes: Sequence[str], mean: Any, std: Any
) -> dict[str, str]:
    """Return what the file tells of its net, as JSON; nothing of what was not given."""
    if len(output) != 2:
        raise TinyshuffleError(
            f"the net's output is {('N', *output[1:])}, and logits are (N, K): give a classifier"
        )
    words: dict[str, Any] = {}
    if len(np.ravel(mean)) or len(np.ravel(std)):
        check_statistics(mean, std, "export")
        words |= {"mean": np.asarray(mean).tolist(), "std": np.asarray(std).tolist()}
    if isinstance(classes, str) or len(classes) not in (0, output[1]):
        raise TinyshuffleError(
            f"classes={shown(classes)} was given: the net has {output[1]}, so give as many names"
        )
    if len(classes):
        words["classes"] = list(map(str, classes))
    return {key: json.dumps(value) for key, value in words.items()}


def _compare(
    net: Module, content: bytes, layout: str, shape: tuple[int, ...]
) -> tuple[float | None, str]:
    """Run both sides on noise; the largest difference of a logit, or why there is none."""
    if not installed("onnxruntime"):
        return None, "ONNX Runtime is not installed (pip install onnxruntime)"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says of a file that it cannot run is said below
    try:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
    except MemoryError:
        return None, "images of this size do not fit into memory"
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout == "nchw" else x
    try:
        session = onnxruntime.InferenceSession(content, options)
        (theirs,) = session.run(None, {"images": given})
    except Exception as error:  # it has several classes of its own
        version = onnxruntime.__version__
        return None, f"ONNX Runtime {version} does not run it ({message(error)})"
    training, dtype = net.training, net.parameters()[0].dtype
    try:
        mine = net.eval()(x.astype(dtype))
    finally:
        net.train(training)
    return float(np.abs(mine - theirs).max() / max(np.abs(mine).max(), 1e-30)), ""
