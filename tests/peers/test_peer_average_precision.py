"""mAP against COCO's own program, on random pictures and detections, to 1e-9."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyshuffle.data import BoxDataset, Objects, coco
from tinyshuffle.detect.average_precision import average_precision

pytest.importorskip("pycocotools", reason="pip install pycocotools")


def random_boxes(rng, count, grid):
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 150, (count, 2))], axis=1).clip(0, 256)
    return np.round(boxes / grid) * grid if grid else boxes


def drawn(seed, pictures, classes, grid):
    """Objects, some of them crowds, and detections near to them or anywhere."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for _ in range(pictures):
        boxes = random_boxes(rng, rng.integers(0, 8), grid)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)].astype(np.float32)
        count = len(boxes)
        areas = (boxes[:, 2:] - boxes[:, :2]).astype(float).prod(axis=1)
        one = Objects(
            boxes, rng.integers(0, classes, count), rng.random(count) < 0.2,
            areas * rng.uniform(0.4, 1, count),
        )  # fmt: skip
        objects.append(one)
        near = np.repeat(boxes.astype(float), 3, axis=0)
        near = near + rng.normal(0, 6, near.shape) * (rng.random(near.shape) < 0.7)
        every = np.concatenate([near, random_boxes(rng, rng.integers(0, 9), grid)])
        every = every[(every[:, 2:] > every[:, :2]).all(axis=1)]
        labels = np.concatenate([np.repeat(one.labels, 3), rng.integers(0, classes, 20)])
        scores = np.round(rng.random(len(every)), rng.integers(1, 4))  # many of them equal
        found.append((every, labels[: len(every)], scores))
    ids = rng.permutation(pictures * 3)[:pictures] + 1
    dataset = BoxDataset(
        "random", np.zeros((pictures, 256, 256, 3), np.uint8), objects,
        tuple("abcdefgh"[:classes]), np.full(3, 0.5), np.full(3, 0.5), ids,
        rng.choice([0.5, 1.0, 2.0], pictures),
    )  # fmt: skip
    return dataset, found


def theirs(dataset, found):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = []
    for number, scale, one in zip(dataset.ids, dataset.scales, dataset.objects, strict=True):
        for k, box in enumerate(one.boxes.astype(float) / scale):
            annotations.append({
                "id": len(annotations) + 1, "image_id": int(number),
                "category_id": int(one.labels[k]) + 1,
                "bbox": [*box[:2], box[2] - box[0], box[3] - box[1]],
                "area": one.areas[k] / scale**2, "iscrowd": int(one.crowd[k]),
            })  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO()
        there.dataset = {
            "info": {}, "images": [{"id": int(i)} for i in dataset.ids],
            "categories": [{"id": i + 1} for i in range(len(dataset.classes))],
            "annotations": annotations,
        }  # fmt: skip
        there.createIndex()
        rows = coco.results(dataset, found)
        results = there.loadRes(rows) if rows else COCO()
        if not rows:
            results.dataset = {**there.dataset, "annotations": []}
            results.createIndex()
        evaluation = COCOeval(there, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4), st.sampled_from([0, 8]))
def test_all_numbers_are_cocos(seed, pictures, classes, grid):
    dataset, found = drawn(seed, pictures, classes, grid)
    right, mine = theirs(dataset, found), average_precision(dataset, found)
    for one, other in (
        (mine.precision, right.eval["precision"]),
        (mine.recall, right.eval["recall"]),
        (list(mine.statistics.values()), right.stats),
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_many_detections():
    """More than 100 of a class in a picture: the rest do not count."""
    dataset, _ = drawn(1, 2, 1, 0)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        boxes = random_boxes(rng, 150, 0)
        found.append((boxes, np.zeros(150, int), rng.random(150)))
    right, mine = theirs(dataset, found), average_precision(dataset, found)
    np.testing.assert_allclose(mine.precision, right.eval["precision"], rtol=0, atol=1e-9)
