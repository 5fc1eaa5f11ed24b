"""Two detectors on any net of the zoo: Faster R-CNN and Light-Head R-CNN.

    map      = backbone(picture)                      the last stage's, C channels
    objectness, offsets = proposals(map)              A and 4A numbers at each of its pixels
    boxes    = the 100 anchors, moved by their offsets, that look most like objects
    classes, offsets = head(map under each box)       one number a class, one for none; four

Faster R-CNN (Ren et al. 2015; ShuffleNet V1, section 4.3) reads the map itself under each box, and
most of its work lies in the head's first layer. Light-Head R-CNN (Li et al. 2017; ShuffleNet V2,
section 4) first makes a thin map of 10·P·P channels, which a large separable convolution lets see
far, and reads it position by position; what is left to the head is small.

The first two lines look at no numbers: they are one net (:class:`Body`), traced into a plan with
its hand-written backward. So is the head. What stands between chooses: see
:mod:`tinyshuffle.detect.targets`. Where boxes lie is a constant for the gradient.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from ..ops.arguments import generator, integer
from ..parallel import DataParallel
from ..values import flags
from .average_precision import Detections
from .backbone import backbone, map_of
from .large_separable import LargeSeparableConv2d

__all__ = ["KINDS", "Body", "Detector"]

KINDS = ("faster", "light-head")

BINS = 5  # P: a box is read as P·P bins
THIN = 10  # channels of each bin of the thin map
MIDDLE, KERNEL = 32, 15  # of the large separable convolution
PROPOSAL_CHANNELS, HIDDEN = 128, 256

SIZES = (0.1, 0.2, 0.4, 0.7)
"""Of the anchors, as parts of the picture's side."""
RATIOS = (0.5, 1.0, 2.0)

BEFORE, AFTER = 400, 100  # proposals before and after those that overlap are taken out
OVERLAP = 0.7  # of two proposals, at most
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the head's offsets, which are small

LEAST, SAME, MOST = 0.05, 0.5, 100  # score, overlap of two of a class, detections in a picture


class Body(nn.Module):
    """From pictures to maps: one plan, forward and backward.

    Its output has the channels of the map that boxes are read from, then A of objectness, then 4A
    of offsets, four to an anchor.

    Parameters
    ----------
    trunk : Module
        See :func:`backbone`.
    channels : int
        Of its map.
    anchors : int
        A.
    thin : bool
        Make a thin map for the boxes, and read those from it.
    """

    @flags
    def __init__(self, trunk: nn.Module, channels: int, anchors: int, thin: bool) -> None:
        self.backbone = trunk
        hidden = PROPOSAL_CHANNELS
        last = nn.Conv2d(hidden, 5 * anchors, 1)
        self.proposals = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            last,
        )
        nn.init.normal(last, 0.01, nn.Conv2d)
        self.thin: nn.Module | None = None
        self.channels = [channels, 5 * anchors]
        if thin:
            out = THIN * BINS * BINS
            self.thin = nn.Sequential(
                LargeSeparableConv2d(channels, MIDDLE, out, KERNEL), nn.BatchNorm2d(out), nn.ReLU()
            )
            self.channels[0] = out

    def forward(self, x: np.ndarray) -> np.ndarray:
        features = self.backbone(x)
        read = features if self.thin is None else self.thin(features)
        return F.concat([read, self.proposals(features)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dread, dproposals = F.concat_backward(dy, self.channels)
        dfeatures = dread if self.thin is None else self.thin.backward(dread)
        return self.backbone.backward(F.add(dfeatures, self.proposals.backward(dproposals)))


class Detector(nn.Module):
    """A detector.

    Parameters
    ----------
    kind : {"light-head", "faster"}
    model : str
        Of the backbone, one of ``models.list_models()``.
    num_classes : int
    side : int
        Of the pictures, in pixels.
    stem : {"cifar", "imagenet"}
        The backbone's: for pictures of some 128 pixels a side, or of some 300.
    seed : int or numpy Generator
    **variant
        What else the backbone takes.

    Attributes
    ----------
    body, head : DataParallel
    anchors : float32 (Hm·Wm·A, 4)
    stride : int
        Pixels of a picture for one of the map.

    >>> net = Detector("light-head", "shufflenet_v2_x0_5", num_classes=3, side=64).eval()
    >>> boxes, labels, scores = net.detect(np.zeros((1, 64, 64, 3), np.float32))[0]
    >>> boxes.shape[1:], len(labels) == len(scores)
    ((4,), True)
    """

    def __init__(
        self, kind: str, model: str, num_classes: int, side: int, stem: str = "cifar",
        seed: int | np.random.Generator = 0, **variant: Any,
    ) -> None:  # fmt: skip
        if kind not in KINDS:
            raise TinyshuffleError(f"there is no detector {kind!r}: use {' or '.join(KINDS)}")
        self.kind, self.side = kind, integer(side, "side")
        self.num_classes = integer(num_classes, "num_classes")
        trunk = backbone(model, stem, **variant)
        (h, w, channels), self.stride = map_of(trunk, side)
        sizes = [part * side for part in SIZES]
        self.anchors = F.anchors((h, w), self.stride, sizes, RATIOS).astype(np.float32)
        self.per_pixel = len(SIZES) * len(RATIOS)
        self.body = DataParallel(Body(trunk, channels, self.per_pixel, kind == "light-head"))
        self.under = "ps_roi_align" if kind == "light-head" else "roi_align"
        read = THIN if kind == "light-head" else channels
        fc = nn.Linear(BINS * BINS * read, HIDDEN)
        # scores of the classes and of no object, and four offsets for whatever it is
        out = nn.Linear(HIDDEN, num_classes + 1 + 4)
        head = nn.Sequential(flatten=nn.Flatten(), fc=fc, relu=nn.ReLU(), out=out)
        self.head = DataParallel(head)
        # large enough for a backbone that begins with random weights: what comes back through small
        # ones is too little for it to learn from
        nn.init.normal(fc, sqrt(2 / (BINS * BINS * read)))
        nn.init.normal(out, 0.03)
        self.initialise(generator(seed))

    # ---- the two stages

    def maps(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what boxes are read from, objectness (N, anchors), offsets (N, anchors, 4)."""
        if x.shape[1:] != (self.side, self.side, 3):
            raise TinyshuffleError(
                f"this detector is for pictures of shape (N, {self.side}, {self.side}, 3), got "
                f"{x.shape}"
            )
        y, a = self.body(x), self.per_pixel
        c = y.shape[-1] - 5 * a
        objectness = y[..., c : c + a].reshape(len(x), -1)  # (N, Hm·Wm·A)
        offsets = y[..., c + a :].reshape(len(x), -1, 4)  # (N, Hm·Wm·A, 4)
        return np.ascontiguousarray(y[..., :c]), objectness, offsets

    @flags
    def maps_backward(
        self, dread: np.ndarray, dobjectness: np.ndarray, doffsets: np.ndarray, images: bool = False
    ) -> np.ndarray | None:
        """Add to the parameters' gradients; return that of the pictures, if it is asked for."""
        n, h, w, _ = dread.shape
        maps = [dread, dobjectness.reshape(n, h, w, -1), doffsets.reshape(n, h, w, -1)]
        return self.body.backward(np.concatenate(maps, axis=-1), images=images)

    def propose(self, objectness: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the boxes of each picture that look most like objects, (N, P, 4).

        There are always P = 100, or as many as anchors: where fewer stay, those that overlap with
        better ones follow. They lie in the picture; one may be empty.
        """
        count = min(AFTER, objectness.shape[1])
        found = []
        for scores, t in zip(objectness, offsets, strict=True):
            first = np.argsort(-scores, kind="stable")[: max(BEFORE, count)]
            boxes = self._in_picture(F.box_decode(t[first], self.anchors[first]))
            stay = F.nms(boxes, scores[first], OVERLAP, count)
            rest = np.setdiff1d(np.arange(len(first)), stay)[: count - len(stay)]
            found.append(boxes[np.concatenate([stay, rest])])
        return np.stack(found)

    def read(self, features: np.ndarray, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the map under boxes (R, 4) of pictures ``image`` (R,): (R, P, P, C)."""
        operation = getattr(F, self.under)
        return operation(features, boxes, image, BINS, 1 / self.stride)

    def read_backward(
        self, dy: np.ndarray, features: np.ndarray, boxes: np.ndarray, image: np.ndarray
    ) -> np.ndarray:
        """Return the gradient of the map."""
        operation = getattr(F, f"{self.under}_backward")
        return operation(dy, features, boxes, image, BINS, 1 / self.stride)

    # ---- what it is for

    def detect(self, x: np.ndarray, least: float = LEAST) -> list[Detections]:
        """Find objects in normalised pictures (N, side, side, 3).

        Returns
        -------
        list of (boxes (K, 4), labels (K,), scores (K,))
            Of each picture, the best first; at most 100, whose scores are ``least`` or more.
        """
        features, objectness, offsets = self.maps(x)
        boxes = self.propose(objectness, offsets)  # (N, P, 4)
        n, p, _ = boxes.shape
        flat, image = boxes.reshape(-1, 4), np.repeat(np.arange(n), p)
        out = self.head(self.read(features, flat, image))
        k = self.num_classes + 1
        z = np.exp(out[:, :k] - out[:, :k].max(axis=1, keepdims=True))
        scores = (z / z.sum(axis=1, keepdims=True))[:, 1:].reshape(n, p, -1)
        moved = self._in_picture(F.box_decode(np.ascontiguousarray(out[:, k:]), flat, WEIGHTS))
        moved = moved.reshape(n, p, 4)
        return [self._best(b, s, least) for b, s in zip(moved, scores, strict=True)]

    def _best(self, boxes: np.ndarray, scores: np.ndarray, least: float) -> Detections:
        good = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)  # a pixel at least
        rows, labels = np.nonzero((scores >= least) & good[:, None])
        # far apart for each class, so that only those of the same class overlap
        apart = boxes[rows] + (2 * self.side * labels[:, None]).astype(boxes.dtype)
        stay = F.nms(apart, scores[rows, labels], SAME, MOST)
        rows, labels = rows[stay], labels[stay]
        return boxes[rows], labels, scores[rows, labels]

    def _in_picture(self, boxes: np.ndarray) -> np.ndarray:
        return boxes.clip(0, boxes.dtype.type(self.side))
