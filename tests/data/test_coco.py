"""COCO's format, there and back, and what a user's file may have wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tinyshuffle import TinyshuffleError
from tinyshuffle.data import coco, scenes


def test_there_and_back(tmp_path):
    train, test = scenes.load(3, 2, side=48)
    coco.write(train, tmp_path, "train")
    coco.write(test, tmp_path, "val")
    again, other = coco.load(tmp_path, 48)
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(other.images, test.images)
    assert again.classes == train.classes and other.mean is again.mean
    for one, two in zip(again.objects, train.objects, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.areas, two.areas)


def test_masks_are_cocos_run_lengths(tmp_path):
    train, _ = scenes.load(1, 1, side=32)
    table = json.loads(coco.write(train, tmp_path, "train").read_text())
    for k, one in enumerate(table["annotations"]):
        counts, (h, w) = one["segmentation"]["counts"], one["segmentation"]["size"]
        values = np.repeat(np.arange(len(counts)) % 2, counts).reshape(w, h).T
        np.testing.assert_array_equal(values == 1, train.masks[0] == k + 1)


ONE = {"id": 1, "image_id": 7, "category_id": 9, "bbox": [10, 20, 40, 20], "area": 300.0}


def a_file(folder, bbox=(10, 20, 40, 20), size=(100, 50), **changes):
    (folder / "train").mkdir(exist_ok=True)
    Image.new("RGB", size, (200, 10, 30)).save(folder / "train" / "a.png")
    table = {
        "images": [{"id": 7, "file_name": "a.png", "width": size[0], "height": size[1]}],
        "categories": [{"id": 9, "name": "b"}, {"id": 4, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": bbox, "area": 300.0, "iscrowd": 0}
        ],
        **changes,
    }
    path = folder / "instances_train.json"
    path.write_text(json.dumps(table))
    return path, folder / "train"


def test_other_sizes_are_scaled_and_results_scaled_back(tmp_path):
    found = coco.read(*a_file(tmp_path), side=50)
    assert found.images.shape == (1, 50, 50, 3) and found.scales[0] == 0.5
    np.testing.assert_array_equal(found.objects[0].boxes, [[5, 10, 25, 20]])
    assert found.objects[0].areas[0] == 75 and found.ids[0] == 7
    assert found.classes == ("a", "b") and found.objects[0].labels[0] == 1
    assert (found.images == (200, 10, 30)).all()  # filled up with the mean colour
    (row,) = coco.results(found, [(found.objects[0].boxes, np.array([1]), np.array([0.5]))])
    assert row == {"image_id": 7, "category_id": 9, "bbox": [10, 20, 40, 20], "score": 0.5}


def test_a_box_that_sticks_out_is_cut_off(tmp_path):
    found = coco.read(*a_file(tmp_path, bbox=(-10, 20, 200, 100)), side=100)
    np.testing.assert_array_equal(found.objects[0].boxes, [[0, 20, 100, 50]])


@pytest.mark.parametrize("bbox", [(5, 5, 0, 9), (5, 5, -3, 9), (200, 5, 9, 9), (5, 60, 9, 9)])
def test_a_box_with_nothing_in_it_is_left_out_and_said(tmp_path, bbox):
    with pytest.warns(UserWarning, match="1 of 1 boxes"):
        found = coco.read(*a_file(tmp_path, bbox=bbox), side=64)
    assert len(found.objects[0]) == 0


def test_crowds_are_kept(tmp_path):
    path, pictures = a_file(tmp_path)
    table = json.loads(path.read_text())
    table["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(table))
    assert coco.read(path, pictures, 64).objects[0].crowd.tolist() == [True]
    table["annotations"][0]["iscrowd"] = "0"
    path.write_text(json.dumps(table))
    assert coco.read(path, pictures, 64).objects[0].crowd.tolist() == [False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [], "annotations": []}, "nothing to learn"),
        ({"categories": []}, "COCO's format"),
        ({"annotations": [{"image_id": 8, "category_id": 4, "bbox": [0, 0, 1, 1]}]}, "format"),
        ({"annotations": [{"image_id": 7, "category_id": 4, "bbox": [0, 0, 1]}]}, "format"),
        ({"annotations": [{"image_id": 7, "category_id": 4, "bbox": "abcd"}]}, "format"),
        ({"annotations": None}, "format"),
        ({"images": [{"id": 7, "file_name": "no.png", "width": 100, "height": 50}]}, "no.png"),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 50, "height": 100}]}, "says 50x100"),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 1e999, "height": 9}]}, "format"),
        ({"images": 2 * [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}]}, "same id"),
        ({"categories": 2 * [{"id": 9, "name": "b"}]}, "same id"),
        ({"categories": [{"id": 9, "name": "b"}, {"id": 2**63, "name": "c"}]}, "64 bits"),
        ({"annotations": [{**ONE, "iscrowd": "x"}]}, "format"),
        ({"annotations": [{**ONE, "area": float("nan")}]}, "the area nan"),
    ],
)
def test_what_a_file_may_have_wrong_is_one_sentence(tmp_path, changes, words):
    with pytest.raises(TinyshuffleError, match=words):
        coco.read(*a_file(tmp_path, **changes), side=64)


def test_files_that_are_none(tmp_path):
    with pytest.raises(TinyshuffleError, match="cannot be read"):
        coco.read(tmp_path / "no.json", tmp_path, 64)
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(TinyshuffleError, match="not JSON"):
        coco.read(tmp_path / "half.json", tmp_path, 64)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(TinyshuffleError, match="has to be a table"):
        coco.read(tmp_path / "list.json", tmp_path, 64)
    with pytest.raises(TinyshuffleError, match="instances_train"):
        coco.load(tmp_path, 64)


def test_the_pictures_for_validation_come_before_those_for_a_test(tmp_path):
    for name in ("train", "test", "val"):
        (tmp_path / f"instances_{name}.json").write_text("{}")
    assert [path.name for path, _ in coco.find(tmp_path)] == [
        "instances_train.json", "instances_val.json",
    ]  # fmt: skip
    (tmp_path / "instances_val.json").unlink()
    assert coco.find(tmp_path)[1][0].name == "instances_test.json"


def test_a_test_set_has_the_classes_of_the_training_set(tmp_path):
    found = coco.read(*a_file(tmp_path), side=64)
    path, pictures = a_file(tmp_path, categories=[{"id": 9, "name": "b"}, {"id": 4, "name": "c"}])
    with pytest.raises(TinyshuffleError, match="other categories"):
        coco.read(path, pictures, 64, like=found)
