"""What a detector costs: backbone, thin map, proposals and head apart, counted by tracing."""

from __future__ import annotations

from dataclasses import replace

from ..cost.profile import Profile, Row, profile
from ..ops import ps_roi_align_cost, roi_align_cost
from .detector import AFTER, BINS, THIN, Detector

__all__ = ["detector_cost"]


def detector_cost(
    detector: Detector, batch: int = 1, dtype: str = "float32", convention: str = "paper",
    name: str = "a detector",
) -> Profile:  # fmt: skip
    """Count what a detector does to a batch of pictures.

    By stage, the rows are ``backbone``, ``thin`` (of Light-Head R-CNN), ``proposals``, ``boxes``
    (reading the map under 100 boxes a picture) and ``head``. The choice of the boxes, decoding and
    non-maximum suppression, is no multiply-adds of a net and is left out. The peaks of memory are
    the larger ones of the two stages.

    >>> net = Detector("faster", "shufflenet_v2_x0_5", num_classes=10, side=128)
    >>> [row.layer for row in detector_cost(net).by("stage")]
    ['backbone', 'proposals', 'boxes', 'head']
    """
    side = detector.side
    body = profile(detector.body, (batch, side, side, 3), dtype, convention)
    side_of_map = body.rows[-1].output[1:3]
    boxes = min(AFTER, len(detector.anchors)) * batch
    thin = detector.kind == "light-head"
    channels = body.rows[-1].output[3] - 5 * detector.per_pixel
    cost = (ps_roi_align_cost if thin else roi_align_cost)(
        (batch, *side_of_map, channels), (boxes, 4), (boxes,), BINS, 1 / detector.stride
    )
    read = Row(
        "boxes", "pooling", detector.under, cost.output, 0, 0, cost.elementwise,
        cost.memory_access, 0, cost.backward_elementwise, cost.backward_memory_access,
    )  # fmt: skip
    shape = (boxes, BINS, BINS, THIN if thin else channels)
    head = profile(detector.head, shape, dtype, convention)
    rows = [
        # what puts the maps side by side
        *(row if row.layer else replace(row, layer="boxes") for row in body.rows),
        read,
        *(replace(row, layer=f"head.{row.layer}") for row in head.rows),
    ]
    return replace(
        body, net=name, rows=rows,
        peak_inference=max(body.peak_inference, head.peak_inference),
        peak_training=max(body.peak_training, head.peak_training),
    )  # fmt: skip
