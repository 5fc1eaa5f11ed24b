"""COCO's format of annotations, read and written: ``instances_*.json`` beside a folder of pictures.

The format (https://cocodataset.org/#format-data) holds ``images`` (id, file_name, width, height),
``categories`` (id, name) and ``annotations`` (image_id, category_id, bbox as x, y, width, height,
area, iscrowd, segmentation). Boxes are cut off at the picture's edges; those in which nothing is
left, empty or inverted ones among them, are left out, and how many is said. Pictures are scaled so
that the longer side is what was asked for, and filled up at the right or the bottom with their mean
colour.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import memory
from ..errors import TinyshuffleError
from ..files import atomic_write, write_text
from ..text import bar, console, shown
from .boxes import BoxDataset, Objects
from .dataset import channel_statistics
from .images import open_image

__all__ = ["find", "load", "read", "results", "write"]

TRAIN, TEST = ("train",), ("val", "test")


def read(
    annotations: str | Path, pictures: str | Path, side: int, like: BoxDataset | None = None
) -> BoxDataset:
    """Read a data set.

    Parameters
    ----------
    annotations : path
        ``instances_*.json``.
    pictures : path
        The folder that the ``file_name`` s are in.
    side : int
        Of the pictures, in pixels.
    like : BoxDataset, optional
        The training set, whose classes and statistics a test set has to have.

    Raises
    ------
    TinyshuffleError
        If a file cannot be read, or is not in COCO's format.
    """
    path = Path(annotations)
    table = _table(path)
    try:
        categories = sorted((int(c["id"]), str(c["name"])) for c in table["categories"])
        _check_ids(path, "categories", [number for number, _ in categories])
        _check_ids(path, "images", [int(i["id"]) for i in table["images"]])
        places = {number: i for i, (number, _) in enumerate(categories)}
        of_image: dict[int, list[dict[str, Any]]] = {int(i["id"]): [] for i in table["images"]}
        for one in table["annotations"]:
            of_image[int(one["image_id"])].append(one)
        found = [
            (i, str(i["file_name"]), _objects(i, of_image[int(i["id"])], places))
            for i in table["images"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, TinyshuffleError):
            raise
        raise TinyshuffleError(
            f"{path} is not in COCO's format (it lacks or mistakes {shown(error)}): it needs "
            "images, categories and annotations, as https://cocodataset.org/#format-data says"
        ) from error
    classes = tuple(name for _, name in categories)
    if not found or not classes:
        raise TinyshuffleError(f"{path} has no images or no categories: there is nothing to learn")
    if like is not None and classes != like.classes:
        raise TinyshuffleError(
            f"{path} has other categories than the training set ({shown(classes)}, and there "
            f"{shown(like.classes)}): give both files the same"
        )
    lost = sum(len(of_image[int(i["id"])]) - len(objects) for i, _, objects in found)
    if lost:
        warnings.warn(
            f"{lost} of {sum(map(len, of_image.values())):,} boxes in {path.name} are left out, as "
            "they are empty, inverted or outside of their pictures",
            stacklevel=2,
        )
    numbers = np.array([number for number, _ in categories], np.int64)
    return _scaled(path, Path(pictures), side, found, classes, numbers, like)


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TinyshuffleError(
            f"{path} cannot be read ({error.strerror or error}): give the path of a COCO file of "
            "annotations, such as instances_train.json"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TinyshuffleError(f"{path} is not JSON ({error}): give a whole file") from error
    if not isinstance(table, dict):
        raise TinyshuffleError(f"{path} is not in COCO's format: it has to be a table")
    return table


def _check_ids(path: Path, name: str, numbers: list[int]) -> None:
    if len(set(numbers)) < len(numbers) or any(abs(number) >= 2**63 for number in numbers):
        raise TinyshuffleError(
            f"{path} has {name} of the same id, or of one beyond 64 bits: give each an id of its "
            "own, as the annotations name it"
        )


def _objects(
    image: dict[str, Any], annotations: list[dict[str, Any]], places: dict[int, int]
) -> Objects:
    """Return the objects of a picture, in its own pixels."""
    width, height = int(image["width"]), int(image["height"])
    rows = []
    for one in annotations:
        x, y, w, h = (float(v) for v in one["bbox"])
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        corners = np.array([x1, y1, x2, y2], np.float32)  # in which a tiny box may become empty
        if corners[0] < corners[2] and corners[1] < corners[3]:
            area = float(one.get("area", w * h))
            if not 0 <= area < np.inf:
                raise ValueError(f"the area {area}")
            crowd = bool(int(one.get("iscrowd") or 0))
            rows.append((corners, places[int(one["category_id"])], crowd, area))
    boxes, labels, crowds, areas = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
        np.array(crowds, bool), np.array(areas, np.float64),
    )  # fmt: skip


def _scaled(
    path: Path, folder: Path, side: int, found: list[tuple[dict[str, Any], str, Objects]],
    classes: tuple[str, ...], categories: np.ndarray, like: BoxDataset | None,
) -> BoxDataset:  # fmt: skip
    needed, there = len(found) * side * side * 3, memory.physical()
    if there and needed > there / 2:
        raise TinyshuffleError(
            f"{len(found):,} pictures of {side}x{side} take {needed / 2**20:,.0f} MiB, and the "
            f"machine has {there / 2**20:,.0f} MiB of memory: give a smaller side, or fewer "
            "pictures"
        )
    images, scales = np.empty((len(found), side, side, 3), np.uint8), np.empty(len(found))
    objects = []
    with bar(console(stderr=True)) as progress:
        order = progress.track(list(enumerate(found)), description=f"reading {path.name}")
        for i, (entry, name, own) in order:
            picture = open_image(folder / name)
            size = int(entry["width"]), int(entry["height"])
            if picture.size != size:  # its boxes would lie somewhere else
                raise TinyshuffleError(
                    f"{folder / name} has {picture.width}x{picture.height} pixels (turned upright, "
                    f"if its camera was not), and {path} says {size[0]}x{size[1]}: give the "
                    "pictures that were annotated"
                )
            images[i], scales[i] = fit(picture, side)
            boxes = np.minimum(own.boxes * np.float32(scales[i]), np.float32(side))
            objects.append(Objects(boxes, own.labels, own.crowd, own.areas * scales[i] ** 2))
    mean, std = (like.mean, like.std) if like is not None else channel_statistics(images)
    std = np.where(std > 0, std, np.float32(1))
    ids = np.array([int(entry["id"]) for entry, _, _ in found], np.int64)
    return BoxDataset(
        path.stem, images, objects, classes, mean, std, ids, scales, categories
    )


def fit(picture: Any, side: int) -> tuple[np.ndarray, float]:
    """Return a picture as uint8 (side, side, 3), and by what it was scaled."""
    from PIL import Image

    image = open_image(picture)
    scale = side / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    out = np.empty((side, side, 3), np.uint8)
    out[...] = pixels.mean(axis=(0, 1)).round()
    out[:height, :width] = pixels
    return out, scale


def find(folder: str | Path) -> list[tuple[Path, Path]]:
    """Return the annotations and the pictures for training and for testing that a folder holds.

    ``instances_train*.json`` and ``instances_val*.json`` (or ``test``) in it or in its
    ``annotations``, with the pictures in the folder called as what stands behind ``instances_``.
    """
    folder = Path(folder)
    files = [*folder.glob("instances_*.json"), *folder.glob("annotations/instances_*.json")]
    pairs = []
    for kinds in TRAIN, TEST:
        fitting = [
            f
            for kind in kinds  # the first kind that is there
            for f in sorted(files)
            if f.stem.removeprefix("instances_").startswith(kind)
        ]
        if not fitting:
            raise TinyshuffleError(
                f"{folder} has no instances_{kinds[0]}*.json, in it or in its annotations: COCO's "
                "layout is annotations/instances_train.json and instances_val.json beside the "
                "folders of pictures train and val"
            )
        name = fitting[0].stem.removeprefix("instances_")
        places = [folder / name, folder / "images" / name, folder]
        pairs.append((fitting[0], next((p for p in places if p.is_dir()), folder)))
    return pairs


def load(folder: str | Path, side: int) -> tuple[BoxDataset, BoxDataset]:
    """Return the training and the test set of a folder; see :func:`find`."""
    (first, pictures), (second, others) = find(folder)
    train = read(first, pictures, side)
    return train, read(second, others, side, like=train)


def write(dataset: BoxDataset, folder: str | Path, name: str) -> Path:
    """Write the pictures to ``folder/name`` and ``folder/annotations/instances_NAME.json``.

    Masks are written as COCO's uncompressed run lengths. Returns the path of the annotations.
    """
    from PIL import Image

    folder = Path(folder)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    _, height, width, _ = dataset.images.shape
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, (pixels, number, objects) in enumerate(
        zip(dataset.images, dataset.ids.tolist(), dataset.objects, strict=True)
    ):
        file = f"{number:06d}.png"
        with atomic_write(folder / name / file) as out:
            Image.fromarray(pixels).save(out, format="PNG")
        images.append({"id": number, "file_name": file, "width": width, "height": height})
        for k, (x1, y1, x2, y2) in enumerate(objects.boxes.tolist()):
            one = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(dataset.categories[objects.labels[k]]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(objects.areas[k]),
                "iscrowd": int(objects.crowd[k]),
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
            }
            if dataset.masks is not None:
                one["segmentation"] = run_lengths(dataset.masks[i] == k + 1)
            annotations.append(one)
    path = folder / "annotations" / f"instances_{name}.json"
    table = {
        "info": {"description": dataset.name},
        "images": images,
        "categories": [
            {"id": int(number), "name": title}
            for number, title in zip(dataset.categories, dataset.classes, strict=True)
        ],
        "annotations": annotations,
    }
    write_text(path, json.dumps(table))
    return path


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask as COCO's uncompressed run lengths: columns first, beginning with zeros.

    >>> run_lengths(np.array([[0, 1], [1, 1]], bool))
    {'counts': [1, 3], 'size': [2, 2]}
    """
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))  # where a run is over
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return {"counts": counts, "size": list(mask.shape)}


def results(dataset: BoxDataset, found: list[Any]) -> list[dict[str, Any]]:
    """Return detections as COCO's list of results, in the pixels of the pictures' files.

    ``found`` has, for each picture, boxes (K, 4), labels (K,) and scores (K,).
    """
    rows = []
    for number, scale, (boxes, labels, scores) in zip(
        dataset.ids.tolist(), dataset.scales, found, strict=True
    ):
        for box, label, score in zip(boxes / scale, labels, scores, strict=True):
            x1, y1, x2, y2 = map(float, box)
            rows.append({
                "image_id": number,
                "category_id": int(dataset.categories[label]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(score),
            })
    return rows
