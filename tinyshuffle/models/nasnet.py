"""NASNet-A (4 @ 1056): Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for
Scalable Image Recognition", 2017, arXiv 1707.07012.

The net is two small graphs that a search has found, stacked: a cell takes the outputs of the two
cells before it, adds pairs of layers up, and lays the sums side by side. Here a cell is what the
paper's Figure 4 shows: a list of pairs. All paddings are symmetric; TensorFlow, in which it was
written, pads the bottom and the right where the stride is 2.
"""

from __future__ import annotations

import numpy as np

from .. import nn
from ..backend import F
from ..ops import Cost
from ..values import flags
from .arguments import check_stem

__all__ = [
    "Cell", "FactorisedReduction", "Graph", "NASNetA", "SearchedNet", "SecondPixels",
    "separable", "stem_convolution",
]  # fmt: skip

Term = tuple[str, int]  # a layer, and the node that it reads
Graph = tuple[tuple[tuple[Term, Term], ...], tuple[int, ...]]

# Node 0 is the cell before the last, 1 the last one, 2 and up are the pairs; then which nodes lie
# side by side in the output.
NORMAL: Graph = (
    (
        (("sep5", 1), ("sep3", 0)),
        (("sep5", 0), ("sep3", 0)),
        (("avg3", 1), ("same", 0)),
        (("avg3", 0), ("avg3", 0)),
        (("sep3", 1), ("same", 1)),
    ),
    (0, 2, 3, 4, 5, 6),
)
REDUCTION: Graph = (
    (
        (("sep5", 1), ("sep7", 0)),
        (("max3", 1), ("sep7", 0)),
        (("avg3", 1), ("sep5", 0)),
        (("avg3", 2), ("same", 3)),
        (("sep3", 2), ("max3", 1)),
    ),
    (3, 4, 5, 6),
)
def separable(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    """Return ReLU, depthwise, pointwise and BN, twice; the stride is the first's."""
    layers: list[nn.Module] = []
    for channels, step in ((in_channels, stride), (out_channels, 1)):
        layers += [
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
    return nn.Sequential(*layers)


def pointwise(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return ReLU, 1x1 and BN."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class SecondPixels(nn.Module):
    """Every second pixel, from the second on; beyond the border they are 0."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.save(x.shape)
        x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        return np.ascontiguousarray(x[:, 1::2, 1::2])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        ((n, h, w, c),) = self.saved()
        dx = np.zeros((n, h + h % 2, w + w % 2, c), dy.dtype)
        dx[:, 1::2, 1::2] = dy
        return np.ascontiguousarray(dx[:, :h, :w])

    def cost(self, x: tuple[int, ...]) -> Cost:
        """Cost: each number that stays is read and written."""
        n, h, w, c = x
        y = n, (h + 1) // 2, (w + 1) // 2, c
        moved = 2 * n * y[1] * y[2] * c
        return Cost(output=y, memory_access=moved, backward_memory_access=moved)


class FactorisedReduction(nn.Module):
    """Half of the map and nothing lost: 1x1 on the first pixels, and on the second, side by side.

    Parameters
    ----------
    in_channels, out_channels : int
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.channels = [out_channels // 2, out_channels - out_channels // 2]
        self.relu = nn.ReLU()
        self.pixels1, self.pixels2 = nn.AvgPool2d(1, 2), SecondPixels()
        self.conv1 = nn.Conv2d(in_channels, self.channels[0], 1, bias=False)
        self.conv2 = nn.Conv2d(in_channels, self.channels[1], 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: np.ndarray) -> np.ndarray:
        x = self.relu(x)
        return self.bn(F.concat([self.conv1(self.pixels1(x)), self.conv2(self.pixels2(x))]))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy1, dy2 = F.concat_backward(self.bn.backward(dy), self.channels)
        dx1 = self.pixels1.backward(self.conv1.backward(dy1))
        dx2 = self.pixels2.backward(self.conv2.backward(dy2))
        return self.relu.backward(F.add(dx1, dx2))


class Cell(nn.Module):
    """A graph of pairs that are added, over the outputs of the two cells before.

    It has two inputs, and so ``join`` and ``join_backward`` in place of a layer's two passes.

    Parameters
    ----------
    before, last : int
        Channels of the two.
    filters : int
        Channels of every node.
    graph : tuple
        Pairs of (layer, node), and the nodes of the output.
    stride : int
        Of the layers that read the two cells.
    halve : bool
        The map of the one before is twice as large as the last one's.
    adjust : bool
        False leaves the one before as it is: in the first cell.
    """

    @flags
    def __init__(
        self,
        before: int,
        last: int,
        filters: int,
        graph: Graph,
        stride: int = 1,
        halve: bool = False,
        adjust: bool = True,
    ) -> None:
        self.pairs, self.out = graph
        self.filters, self.out_channels = filters, filters * len(self.out)
        self.before: nn.Module | None = None
        if adjust:
            self.before = (FactorisedReduction if halve else pointwise)(before, filters)
        self.last = pointwise(last, filters)
        channels = [filters if adjust else before, filters, *[filters] * len(self.pairs)]
        self.layers: list[str] = []
        for i, pair in enumerate(self.pairs):
            for side, (kind, node) in zip(("left", "right"), pair, strict=True):
                step = stride if node < 2 else 1
                layer: nn.Module | None = None
                if kind.startswith("sep"):
                    layer = separable(channels[node], filters, int(kind[3]), step)
                elif kind == "avg3":
                    layer = nn.AvgPool2d(3, step, padding=1, count_include_pad=False)
                elif kind == "max3":
                    layer = nn.MaxPool2d(3, step, padding=1)
                elif step == 2:  # "same" cannot halve the map
                    layer = pointwise(channels[node], filters, 2)
                setattr(self, f"{side}{i}", layer)

    def join(self, before: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the output, given those of the cell before the last one and of the last one."""
        nodes = [before if self.before is None else self.before(before), self.last(last)]
        for i, pair in enumerate(self.pairs):
            terms = []
            for side, (_, node) in zip(("left", "right"), pair, strict=True):
                layer = getattr(self, f"{side}{i}")
                terms.append(nodes[node] if layer is None else layer(nodes[node]))
            nodes.append(F.add(*terms))
        return F.concat([nodes[i] for i in self.out])

    def join_backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradients of both."""
        sums: list[np.ndarray | None] = [None] * (2 + len(self.pairs))

        def add(node: int, gradient: np.ndarray) -> None:
            there = sums[node]
            sums[node] = gradient if there is None else F.add(there, gradient)

        parts = F.concat_backward(dy, [self.filters] * len(self.out))
        for node, part in zip(self.out, parts, strict=True):
            add(node, part)
        for i, pair in reversed(list(enumerate(self.pairs))):
            gradient = sums[2 + i]
            assert gradient is not None
            both = zip(("left", "right"), pair, F.add_backward(gradient), strict=True)
            for side, (_, node), dterm in both:
                layer = getattr(self, f"{side}{i}")
                add(node, dterm if layer is None else layer.backward(dterm))
        dbefore, dlast = sums[:2]
        assert dbefore is not None and dlast is not None
        if self.before is not None:
            dbefore = self.before.backward(dbefore)
        return dbefore, self.last.backward(dlast)


class SearchedNet(nn.Module):
    """A first convolution, cells, and a classifier."""

    def __init__(
        self, cells: list[Cell], stem: nn.Conv2d, dropout: float, num_classes: int
    ) -> None:
        self.conv0 = nn.Sequential(stem, nn.BatchNorm2d(stem.out_channels))
        self.names = [f"cell{i}" for i in range(len(cells))]
        for name, cell in zip(self.names, cells, strict=True):
            setattr(self, name, cell)
        self.relu, self.globalpool = nn.ReLU(), nn.GlobalAvgPool()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(cells[-1].out_channels, num_classes)
        nn.init.kaiming_normal(self)
        nn.init.normal(self, 0.01)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (N, num_classes) of images (N, H, W, 3)."""
        before = last = self.conv0(x)
        for name in self.names:
            before, last = last, getattr(self, name).join(before, last)
        return self.fc(self.dropout(self.globalpool(self.relu(last))))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the images' gradient, given that of the logits."""
        dlast = self.globalpool.backward(self.dropout.backward(self.fc.backward(dy)))
        dlast = self.relu.backward(dlast)
        dskipped: np.ndarray | None = None  # of the cell before, as the one behind has it
        for name in reversed(self.names):
            dbefore, dx = getattr(self, name).join_backward(dlast)
            dlast = dx if dskipped is None else F.add(dx, dskipped)
            dskipped = dbefore
        assert dskipped is not None
        return self.conv0.backward(F.add(dlast, dskipped))


def stem_convolution(channels: int, stem: str) -> nn.Conv2d:
    """Return the first convolution: stride 2 without padding, or for small images neither."""
    stride, padding = (2, 0) if check_stem(stem) == "imagenet" else (1, 1)
    return nn.Conv2d(3, channels, 3, stride, padding, bias=False)


class NASNetA(SearchedNet):
    """NASNet-A (4 @ 1056): three times four normal cells of 44, 88 and 176 channels.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        The first convolution has stride 2 and no padding, and two reduction cells follow; or
        stride 1, and they are left out.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        first = stem_convolution(32, stem)
        before = last = first.out_channels
        cells: list[Cell] = []

        def add(filters: int, graph: Graph, stride: int = 1, halve: bool = False) -> None:
            nonlocal before, last
            adjust = bool(cells) or stem == "cifar"
            cells.append(Cell(before, last, filters, graph, stride, halve, adjust))
            before, last = last, cells[-1].out_channels

        halve = False
        if stem == "imagenet":
            add(11, REDUCTION, 2)
            add(22, REDUCTION, 2, halve=True)
            halve = True
        for filters in (44, 88, 176):
            if filters > 44:
                add(filters, REDUCTION, 2)
                halve = True
            for _ in range(4):
                add(filters, NORMAL, halve=halve)
                halve = False
        super().__init__(cells, first, 0.5, num_classes)
