"""The four losses of a detector, and the way back through both of its stages.

    objectness       mean over M anchors of BCE(z, is it an object's)
    proposal boxes   1/M Σ over those of objects of Σ₄ smoothL1(offsets - target), β = 1/9
    classes          mean over R boxes of cross-entropy, with a class for none
    boxes            1/R Σ over those of objects of Σ₄ smoothL1(offsets - target), β = 1
    loss = their sum

M and R are the chosen anchors and boxes of the batch. Ren et al. 2015, equation 1, and Girshick
2015, equation 1, with one weight for all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import nn
from ..backend import F
from ..errors import TinyshuffleError
from .detector import Detector
from .targets import Choice

__all__ = ["NAMES", "Losses"]

NAMES = ("objectness", "proposal_boxes", "classes", "boxes")
NEAR = 1 / 9  # β of the proposals' boxes

Chooser = Callable[[np.ndarray], Choice]


class Losses:
    """The loss of a detector, like a layer's two passes.

    Parameters
    ----------
    detector : Detector

    Attributes
    ----------
    values : dict of float
        The four of the last forward pass.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.values: dict[str, float] = {}
        self._saved: tuple | None = None

    def parameters(self) -> list[nn.Parameter]:
        return self.detector.parameters()

    def __call__(self, x: np.ndarray, choose: Choice | Chooser) -> float:
        """Return the loss of a batch of pictures; NaN if the maps are no finite numbers.

        Parameters
        ----------
        x : (N, side, side, 3)
        choose : Choice, or function of the proposals (N, P, 4) that returns one
        """
        net = self.detector
        features, objectness, offsets = net.maps(x)
        if not (np.isfinite(objectness).all() and np.isfinite(offsets).all()):
            return np.nan  # there are no boxes to choose from
        choice = choose
        if not isinstance(choice, Choice):
            choice = choose(net.propose(objectness, offsets))  # type: ignore[operator]
        here = choice.anchors
        z, t = objectness.ravel()[here], offsets.reshape(-1, 4)[here]
        mine, hit = choice.targets > 0, choice.labels > 0
        read = net.read(features, choice.boxes, choice.image)
        out, k = net.head(read), net.num_classes + 1
        logits, moved = np.ascontiguousarray(out[:, :k]), out[:, k:][hit]
        m, r = max(len(here), 1), len(out)
        classes, p = F.cross_entropy(logits, choice.labels)
        sums = (
            F.binary_cross_entropy(z, choice.targets).sum(dtype=np.float64) / m,
            F.smooth_l1(t[mine], choice.offsets[mine], NEAR).sum(dtype=np.float64) / m,
            classes,
            F.smooth_l1(moved, choice.box_offsets[hit]).sum(dtype=np.float64) / r,
        )
        self.values = {name: float(value) for name, value in zip(NAMES, sums, strict=True)}
        self._saved = choice, features, objectness.shape, z, t[mine], p, moved
        return sum(self.values.values())

    def backward(self) -> np.ndarray:
        """Add to the parameters' gradients and return that of the pictures."""
        dx = self._backward(images=True)
        assert dx is not None
        return dx

    def backward_to_parameters(self) -> None:
        """Add to the parameters' gradients: training has no use for that of the pictures."""
        self._backward(images=False)

    def _backward(self, images: bool) -> np.ndarray | None:
        if self._saved is None:
            raise TinyshuffleError(
                "backward was called before the loss was computed, or twice; compute it before each"
            )
        (choice, features, shape, z, near, p, moved), self._saved = self._saved, None
        net, mine, hit = self.detector, choice.targets > 0, choice.labels > 0
        m, r, k = max(len(choice.anchors), 1), len(p), net.num_classes + 1
        # the head, and down through the boxes to the map
        dout = np.zeros((r, k + 4), p.dtype)
        dout[:, :k] = F.cross_entropy_backward(p, choice.labels)
        each = np.full(moved.shape, 1 / r, p.dtype)
        dout[hit, k:] = F.smooth_l1_backward(each, moved, choice.box_offsets[hit])
        dread = self.detector.head.backward(dout)
        dfeatures = net.read_backward(dread, features, choice.boxes, choice.image)
        # the proposals, at the anchors that were chosen
        dobjectness = np.zeros(shape, z.dtype)
        doffsets = np.zeros((*shape, 4), z.dtype)
        each = np.full(z.shape, 1 / m, z.dtype)
        dz = F.binary_cross_entropy_backward(each, z, choice.targets)
        dobjectness.reshape(-1)[choice.anchors] = dz
        each = np.full(near.shape, 1 / m, z.dtype)
        dnear = F.smooth_l1_backward(each, near, choice.offsets[mine], NEAR)
        doffsets.reshape(-1, 4)[choice.anchors[mine]] = dnear
        return net.maps_backward(dfeatures, dobjectness, doffsets, images)
