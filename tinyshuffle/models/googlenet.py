"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", 2014, arXiv 1409.4842.

As torchvision has it, which differs from the paper: every convolution is followed by batch norm
(and has no bias), local response normalisation is gone, and the third branch of each inception
module has a 3x3 convolution where Table 1 has 5x5, unless it is asked for. Layer names are
torchvision's, so weights move between the two by transposing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..values import flags
from .arguments import check_stem, check_width

__all__ = ["AuxiliaryLoss", "GoogLeNet", "Inception", "loss_of"]

# Table 1: channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOL_BEHIND = {"inception3b": "maxpool3", "inception4e": "maxpool4"}
AUX_BEHIND = {"inception4a": "aux1", "inception4d": "aux2"}


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        bn=nn.BatchNorm2d(out_channels, eps=0.001),
        relu=nn.ReLU(),
    )


class Inception(nn.Module):
    """Four branches side by side (Figure 2b): 1x1; 1x1, 3x3; 1x1, 3x3; 3x3 max pool, 1x1.

    Parameters
    ----------
    in_channels : int
    widths : six int
        A line of Table 1.
    kernel : int
        Of the third branch: 5 in the paper.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], kernel: int = 3) -> None:
        one, reduce3, three, reduce5, five, projection = widths
        self.widths = [one, three, five, projection]
        self.branch1 = _conv(in_channels, one, 1)
        self.branch2 = nn.Sequential(_conv(in_channels, reduce3, 1), _conv(reduce3, three, 3))
        self.branch3 = nn.Sequential(_conv(in_channels, reduce5, 1), _conv(reduce5, five, kernel))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), _conv(in_channels, projection, 1)
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        return F.concat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy1, dy2, dy3, dy4 = F.concat_backward(dy, self.widths)
        dx = F.add(self.branch1.backward(dy1), self.branch2.backward(dy2))
        dx = F.add(dx, self.branch3.backward(dy3))
        return F.add(dx, self.branch4.backward(dy4))


class GoogLeNet(nn.Sequential):
    """GoogLeNet (Table 1): a chain, from which two auxiliary classifiers branch off.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        7x7 with stride 2 and a pool, or 3x3 with stride 1 and none.
    aux_logits : bool
        With the two auxiliary classifiers (section 5), which feed gradient into the middle of the
        net. In training the net then returns three sets of logits side by side, (N, 3 K): its
        own, the first and the second auxiliary classifier's, which :class:`AuxiliaryLoss` takes.
        One array, so that a batch can lie in slices like any other net's. In evaluation it returns
        its own (N, K), and the auxiliary classifiers rest.
    branch5x5 : bool
        The third branch has 5x5 convolutions, as in the paper, and not torchvision's 3x3.
    width : float
        All widths are scaled by it; the paper's net has 1.
    """

    @flags
    def __init__(
        self,
        num_classes: int = 1000,
        stem: str = "imagenet",
        aux_logits: bool = False,
        branch5x5: bool = False,
        width: float = 1.0,
    ) -> None:
        width = check_width(width)
        self.num_classes, self.aux_logits = num_classes, aux_logits
        first, channels = (max(1, int(full * width)) for full in (64, 192))
        layers: dict[str, nn.Module] = {"conv1": _conv(3, first, 3)}
        if check_stem(stem) == "imagenet":
            layers = {
                "conv1": _conv(3, first, 7, stride=2),
                "maxpool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
            }
        layers |= {
            "conv2": _conv(first, first, 1),
            "conv3": _conv(first, channels, 3),
            "maxpool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        }
        for name, full in INCEPTIONS.items():
            widths = tuple(max(1, int(c * width)) for c in full)
            layers[name] = inception = Inception(channels, widths, 5 if branch5x5 else 3)
            channels = sum(inception.widths)
            if name in POOL_BEHIND:
                kernel = 3 if name == "inception3b" else 2
                layers[POOL_BEHIND[name]] = nn.MaxPool2d(kernel, stride=2, ceil_mode=True)
            if name in AUX_BEHIND and aux_logits:
                setattr(self, AUX_BEHIND[name], _auxiliary(channels, num_classes, width))
        layers |= {
            "avgpool": nn.GlobalAvgPool(),
            "dropout": nn.Dropout(0.2),
            "fc": nn.Linear(channels, num_classes),
        }
        super().__init__(**layers)
        nn.init.normal(self, 0.01, nn.Conv2d)
        nn.init.normal(self, 0.01, bias=None)

    def children(self) -> Iterator[tuple[str, nn.Module]]:
        yield from nn.Sequential.children(self)
        yield from nn.Module.children(self)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N, K) of images (N, H, W, 3); (N, 3 K) in training with ``aux_logits``."""
        aux = self.aux_logits and self.training
        self.save(aux)
        logits = []
        for name, layer in nn.Sequential.children(self):
            x = layer(x)
            if aux and name in AUX_BEHIND:
                logits.append(getattr(self, AUX_BEHIND[name])(x))
        return F.concat([x, *logits]) if aux else x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the images' gradient, given that of what ``forward`` returned."""
        (aux,) = self.saved()
        if aux:
            dy, *daux = F.concat_backward(dy, [self.num_classes] * 3)
        for name, layer in reversed(list(nn.Sequential.children(self))):
            if aux and name in AUX_BEHIND:
                branch = getattr(self, AUX_BEHIND[name])
                dy = F.add(dy, branch.backward(daux.pop()))
            dy = layer.backward(dy)
        return dy


def _auxiliary(in_channels: int, num_classes: int, width: float) -> nn.Sequential:
    """The auxiliary classifier (section 5)."""
    channels, hidden = (max(1, int(full * width)) for full in (128, 1024))
    return nn.Sequential(
        pool=nn.AdaptiveAvgPool2d(4),
        conv=_conv(in_channels, channels, 1),
        flatten=nn.Flatten(),
        fc1=nn.Linear(4 * 4 * channels, hidden),
        relu=nn.ReLU(),
        dropout=nn.Dropout(0.7),
        fc2=nn.Linear(hidden, num_classes),
    )


class AuxiliaryLoss:
    """Cross-entropy of three sets of logits side by side: main + weight · (first + second).

    The paper's weight is 0.3 (section 5).

    >>> loss = AuxiliaryLoss()
    >>> round(loss(np.zeros((2, 30)), np.array([3, 7])), 4)  # 1.6 ln 10
    3.6841
    >>> loss.backward().shape
    (2, 30)
    """

    def __init__(self, label_smoothing: float = 0.0, weight: float = 0.3) -> None:
        self.weights = (1.0, weight, weight)
        self.losses = [nn.CrossEntropyLoss(label_smoothing) for _ in self.weights]

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the loss of logits (N, 3 K) and integer labels (N,)."""
        if logits.ndim != 2 or logits.shape[1] % 3:
            raise TinyshuffleError(
                f"the auxiliary loss expects three sets of logits side by side, (N, 3 K), and got "
                f"{logits.shape}; use a GoogLeNet with aux_logits=True in training"
            )
        parts = np.split(logits, 3, axis=1)
        values = [loss(part, labels) for loss, part in zip(self.losses, parts, strict=True)]
        return sum(w * value for w, value in zip(self.weights, values, strict=True))

    def backward(self) -> np.ndarray:
        """Return dlogits (N, 3 K)."""
        pairs = zip(self.losses, self.weights, strict=True)
        return np.concatenate([loss.backward() * w for loss, w in pairs], axis=1)


def loss_of(net: nn.Module, label_smoothing: float) -> nn.CrossEntropyLoss | AuxiliaryLoss:
    """Return the loss of what a net returns in training: auxiliary classifiers need their own."""
    aux = any(isinstance(m, GoogLeNet) and m.aux_logits for m in net.modules())
    return AuxiliaryLoss(label_smoothing) if aux else nn.CrossEntropyLoss(label_smoothing)
