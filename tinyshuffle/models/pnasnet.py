"""PNASNet-5: Liu et al., "Progressive Neural Architecture Search", 2017, arXiv 1712.00559.

Like NASNet (whose cell of pairs it uses), but one graph does for normal and for reduction cells.
"""

from __future__ import annotations

from .nasnet import Cell, Graph, SearchedNet, stem_convolution

__all__ = ["PNASNet5"]

# Figure 1; nodes as in NASNet's file.
PROGRESSIVE: Graph = (
    (
        (("sep5", 0), ("max3", 0)),
        (("sep7", 1), ("max3", 1)),
        (("sep5", 1), ("sep3", 1)),
        (("sep3", 4), ("max3", 1)),
        (("sep3", 0), ("same", 1)),
    ),
    (2, 3, 4, 5, 6),
)


class PNASNet5(SearchedNet):
    """PNASNet-5 for mobile phones: one cell throughout, of 54, 108 and 216 channels.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        As of :class:`~tinyshuffle.models.nasnet.NASNetA`.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        first = stem_convolution(32, stem)
        before = last = first.out_channels
        cells: list[Cell] = []
        plan = [(13, 2), (27, 2)] if stem == "imagenet" else []
        for filters in (54, 108, 216):
            plan += [(filters, 2 if filters > 54 else 1), (filters, 1), (filters, 1)]
        halve = False
        for filters, stride in plan:
            cells.append(Cell(before, last, filters, PROGRESSIVE, stride, halve))
            before, last, halve = last, cells[-1].out_channels, stride == 2
        super().__init__(cells, first, 0.5, num_classes)
