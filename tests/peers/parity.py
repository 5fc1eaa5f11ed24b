"""One training step in tinyshuffle and in PyTorch, and the comparison of everything it leaves."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

import tinyshuffle as ts
from tinyshuffle.bench.peer_torch import ShuffleNetV1, ShuffleNetV2, copy_weights, torch_layout

__all__ = [
    "NO_GRADIENT",
    "Tensors",
    "compare",
    "leave_the_kinks",
    "make_pair",
    "nchw",
    "shift",
    "state",
    "torch_step",
    "ts_step",
]

Tensors = dict[str, np.ndarray]

SMOOTHING = 0.1

# A shift that only passes through a linear layer into the next batch norm is subtracted there: the
# true gradient of these is zero, and what is computed is rounding.
NO_GRADIENT = (".residual.bn2.bias", ".branch1.1.bias", ".branch2.4.bias")


def nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def compare(mine: Tensors, theirs: Tensors, tolerance: float) -> float:
    """Raise unless every tensor agrees, relative to its largest entry; return the largest error.

    Integers must be equal. Gradients whose true value is zero have no largest entry to speak of:
    on both sides they must be within the tolerance of zero, next to the gradient of the scale in
    the same batch norm.
    """
    assert mine.keys() == theirs.keys(), f"on one side only: {mine.keys() ^ theirs.keys()}"
    errors = {}
    for name, b in theirs.items():
        a = mine[name]
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (
            f"{name}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        )
        if a.dtype.kind == "i":
            errors[name] = float(np.any(a != b))
        elif name.startswith("grad ") and name.endswith(NO_GRADIENT):
            size = np.abs(theirs[name.removesuffix("bias") + "weight"]).max()
            errors[name] = max(np.abs(a).max(), np.abs(b).max()) / size
        else:
            size = max(np.abs(b).max(), np.finfo(b.dtype).tiny)  # all zero: so must the other be
            errors[name] = np.abs(a - b).max() / size
    wrong = {n: e for n, e in errors.items() if not e <= tolerance}  # NaN is wrong too
    worst = sorted(wrong, key=lambda name: -wrong[name])[:5]
    assert not wrong, f"{len(wrong)} of {len(errors)} differ by more than {tolerance}: " + (
        ", ".join(f"{name} {wrong[name]:.1e}" for name in worst)
    )
    return float(max(errors.values()))


def state(net) -> Tensors:
    """Parameters and running statistics of a net of either kind, in PyTorch's layout."""
    if isinstance(net, nn.Module):
        return {f"state {k}": v.numpy().copy() for k, v in net.state_dict().items()}
    return {f"state {k}": torch_layout(v) for k, v in net.state_dict().items()}


def ts_step(net, x: np.ndarray, labels: np.ndarray) -> Tensors:
    """Forward and backward of a batch; all that can be seen of it."""
    loss = ts.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    net.zero_grad()
    logits = net(x)
    value = loss(logits, labels)
    dx = net.backward(loss.backward())
    grads = {f"grad {p.name}": torch_layout(p.grad) for p in net.parameters()}
    return {
        "logits": logits, "loss": np.asarray(value, x.dtype), "dx": nchw(dx), **grads, **state(net)
    }  # fmt: skip


def torch_step(net: nn.Module, x: np.ndarray, labels: np.ndarray) -> Tensors:
    """The same in PyTorch, of the same NHWC batch."""
    images = torch.tensor(nchw(x), requires_grad=True)
    net.zero_grad()
    logits = net(images)
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=SMOOTHING)
    loss.backward()
    grads = {f"grad {name}": p.grad.numpy().copy() for name, p in net.named_parameters()}
    return {
        "logits": logits.detach().numpy(),
        "loss": loss.detach().numpy(),
        "dx": images.grad.numpy(),
        **grads,
        **state(net),
    }


def make_pair(kind: str, shape: Iterable[int], dtype: str, seed: int = 0, **options):
    """Make a net in both libraries with the same weights, and a batch for them.

    ``kind`` is "v1" or "v2"; ``options`` are those of the nets. Scales and shifts of the batch
    norms are drawn too, as fresh ones (1 and 0) would hide mistakes. Returns (tinyshuffle's net,
    PyTorch's, images NHWC, labels).
    """
    rng = np.random.default_rng(seed)
    ours = {"v1": ts.models.ShuffleNetV1, "v2": ts.models.ShuffleNetV2}[kind]
    peer = {"v1": ShuffleNetV1, "v2": ShuffleNetV2}[kind](num_classes=10, **options).double()
    net = ts.DataParallel(ours(num_classes=10, **options).initialise(seed).astype(np.float64))
    for module in net.modules():
        if isinstance(module, ts.nn.BatchNorm2d):
            module.weight.data = rng.uniform(0.5, 1.5, module.num_features)
            module.bias.data = rng.normal(0, 0.2, module.num_features)
    copy_weights(net, peer)
    x, labels = rng.normal(size=shape), rng.integers(10, size=next(iter(shape)))
    shift(net, leave_the_kinks(peer, x))
    net.astype(dtype)
    copy_weights(net, peer.to(getattr(torch, dtype)))
    return net, peer, x.astype(dtype), labels


def leave_the_kinks(net: nn.Module, x: np.ndarray) -> Tensors:
    """Shift the batch norms until no activation of this batch is close to the kink of a ReLU.

    Among millions of activations some lie within float32's rounding of zero. There two correct
    nets may take different sides, and their gradients differ by far more than rounding (by up to
    a tenth, and PyTorch's in float32 from its own in float64 by as much). So each channel's shift
    is moved, by little, to where the widest of the gaps between its values comes to lie around
    zero. Returns what was added to each, for :func:`shift`.
    """
    norms: list[nn.BatchNorm2d] = []
    added = {}
    names = {module: name for name, module in net.named_modules()}

    def before_relu(_: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        norm, (z,) = norms[-1], args
        # after V1's concatenation only the last channels come from the batch norm
        values = z[:, -norm.num_features :].transpose(0, 1).flatten(1)  # (C, N·H·W)
        near = values.abs().topk(min(40, values.shape[1]), largest=False).indices
        near = values.gather(1, near).sort().values
        widest = near.diff().argmax(1, keepdim=True)
        move = -(near.gather(1, widest) + near.gather(1, widest + 1))[:, 0] / 2
        norm.bias += move
        added[f"{names[norm]}.bias"] = move.numpy()
        z = z.clone()
        z[:, -norm.num_features :] += move[:, None, None]
        return (z,)

    handles = [
        m.register_forward_pre_hook(before_relu)
        if isinstance(m, nn.ReLU)
        else m.register_forward_hook(lambda norm, *_: norms.append(norm))
        for m in net.modules()
        if isinstance(m, (nn.ReLU, nn.BatchNorm2d))
    ]
    statistics = [b.clone() for b in net.buffers()]
    with torch.no_grad():
        net(torch.tensor(nchw(x)))
        for b, before in zip(net.buffers(), statistics, strict=True):
            b.copy_(before)
    for handle in handles:
        handle.remove()
    return added


def shift(net, added: Tensors) -> None:
    """Do to tinyshuffle's net what :func:`leave_the_kinks` did to PyTorch's."""
    for p in net.parameters():
        if p.name in added:
            p.data = p.data + added[p.name]
