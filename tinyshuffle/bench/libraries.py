"""The sides of a comparison: the same net with the same weights, in three libraries.

Each side has ``run()``, which is what is timed, and ``check()``, whose results must agree before
anything is timed. Images and labels are drawn from one seed on every side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, optim
from ..errors import TinyshuffleError
from ..models.googlenet import loss_of
from ..parallel import DataParallel, set_num_threads
from ..text import message
from ..values import flags

__all__ = ["OnnxRuntime", "Ours", "Torch", "draw", "export", "height_and_width", "settle"]

# of the training step, on every side
SMOOTHING = 0.1
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
CHECKED = 32  # images whose logits are compared


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of images, which a single number gives both.

    >>> height_and_width(224), height_and_width((480, 640))
    ((224, 224), (480, 640))
    """
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def draw(
    batch: int, size: int | Sequence[int], classes: int, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a batch: images (N, H, W, channels) and labels (N,), always the same."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *height_and_width(size), channels), np.float32)
    return images, rng.integers(classes, size=batch)


def settle(net: DataParallel, size: int | Sequence[int], channels: int = 3) -> None:
    """Give a fresh net scales, shifts and running statistics that are not 1, 0, 0 and 1.

    With those, a peer that mixed them up would agree all the same, and an untrained net in
    evaluation answers with its last bias alone.
    """
    height, width = height_and_width(size)
    # training keeps every map: of eight large images that would be gigabytes, and one has enough
    images, _ = draw(8 if height * width <= 320 * 320 else 1, size, 1, channels)
    rng = np.random.default_rng(1)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data = rng.uniform(0.5, 1.5, norm.num_features).astype(np.float32)
        norm.bias.data = rng.normal(0, 0.2, norm.num_features).astype(np.float32)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    net.train()
    net(images)  # the running statistics are now this batch's
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@contextmanager
def _without_dropout(layers: Iterable[Any]) -> Iterator[None]:
    """Let the dropout layers of any side drop nothing: no two libraries draw the same masks."""
    dropouts = [layer for layer in layers if type(layer).__name__ == "Dropout"]
    shares = [layer.p for layer in dropouts]
    for layer in dropouts:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, p in zip(dropouts, shares, strict=True):
            layer.p = p


class Ours:
    """tinyshuffle."""

    @flags
    def __init__(
        self, net: DataParallel, images: np.ndarray, labels: np.ndarray, train: bool, threads: int
    ) -> None:
        set_num_threads(threads)
        self.net, self.images, self.labels = net, images, labels
        self.loss: Any = loss_of(net, SMOOTHING)
        self.sgd = optim.SGD(net.parameters(), **SGD, decay_all=True) if train else None
        self.run: Callable[[], Any] = self._step if train else self._infer
        net.train(train)

    def _infer(self) -> None:
        self.net(self.images)

    def _step(self) -> None:
        assert self.sgd is not None
        self.loss(self.net(self.images), self.labels)
        self.net.backward(self.loss.backward(), images=False)
        self.sgd.step()
        self.sgd.zero_grad()

    def check(self) -> dict[str, np.ndarray]:
        """Return the first logits in evaluation, and in training the loss and gradients' norm."""
        training = self.net.training
        self.net.eval()
        out = {"logits": self.net(self.images[:CHECKED])}
        if training:
            self.net.train()
            with _without_dropout(self.net.modules()):
                out["loss"] = np.array(self.loss(self.net(self.images), self.labels))
                self.net.backward(self.loss.backward())
            squares = [np.vdot(g, g) for p in self.net.parameters() if (g := p.grad) is not None]
            out["gradient's norm"] = np.sqrt(sum(squares))
            self.net.zero_grad()
        return out


class Torch:
    """PyTorch, eager or compiled, in one of its two memory formats."""

    @flags
    def __init__(
        self,
        net: Any,
        images: np.ndarray,
        labels: np.ndarray,
        train: bool,
        threads: int,
        memory_format: str,
        compiled: bool = False,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        order = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self.net = net.to(memory_format=order).train(train)
        self.compiled = compiled
        # what is timed; the first call of it compiles
        self.model = torch.compile(self.net) if compiled else self.net
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2))
        self.images = nchw.contiguous(memory_format=order)
        self.labels = torch.from_numpy(labels)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        self.sgd = torch.optim.SGD(self.net.parameters(), **SGD)
        self.run: Callable[[], Any] = self._step if train else self._infer

    def _infer(self) -> None:
        with self.torch.inference_mode():
            self.model(self.images)

    def _step(self) -> None:
        self.loss(self.model(self.images), self.labels).backward()
        self.sgd.step()
        self.sgd.zero_grad()

    def check(self) -> dict[str, np.ndarray]:
        """Return what :meth:`Ours.check` does.

        The logits in evaluation are the eager net's, as no step needs what would be compiled for
        them.
        """
        training = self.net.training
        with self.torch.inference_mode():
            out = {"logits": self.net.eval()(self.images[:CHECKED]).numpy()}
        if training:
            with _without_dropout(self.net.modules()):
                self.net.train()
                try:
                    loss = self.loss(self.model(self.images), self.labels)
                    loss.backward()
                except Exception as error:  # dynamo, inductor and g++ have many classes of them
                    if not self.compiled:
                        raise
                    raise TinyshuffleError(f"it does not compile here: {message(error)}") from error
            squares = [float((p.grad**2).sum()) for p in self.net.parameters()]
            out["loss"] = loss.detach().numpy()
            out["gradient's norm"] = np.sqrt(sum(squares))
            self.sgd.zero_grad()
        return out


def export(net: Any, images: np.ndarray, path: str) -> None:
    """Write a PyTorch net as ONNX Runtime's users do: in evaluation, batch norms folded."""
    import torch

    example = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with warnings.catch_warnings():  # that there is a newer exporter, which needs more packages
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (example,), path, dynamo=False, opset_version=17, input_names=["images"]
        )


class OnnxRuntime:
    """ONNX Runtime, for inference. It has the net from a file, and needs no PyTorch."""

    def __init__(self, path: str | Path, images: np.ndarray, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # its threads wait busily within a run, but not into the other side's turn
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    def run(self) -> Any:
        return self.session.run(None, {"images": self.images})[0]

    def check(self) -> dict[str, np.ndarray]:
        """Return the first logits."""
        return {"logits": self.run()[:CHECKED]}
