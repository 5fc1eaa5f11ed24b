"""A detector's training as a whole: what it leaves, that it continues to the bit, its refusals."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, checkpoint
from tinyshuffle.data import coco, scenes
from tinyshuffle.detect import trainer
from tinyshuffle.detect.config import DetectConfig
from tinyshuffle.detect.losses import NAMES
from tinyshuffle.detect.saved import load_detector
from tinyshuffle.train import Interrupted, verify
from tinyshuffle.train.compare import read_run

TINY = {
    "model": "vgg_like_13m", "side": 32, "pictures": 16, "batch_size": 4, "epochs": 2, "lr": 0.01,
    "threads": 1,
}  # fmt: skip


def trained(folder, name="run", **others):
    return trainer.train(DetectConfig(**{**TINY, **others}), name, folder, quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return trained(folder), folder


def test_what_a_run_leaves(finished):
    result, folder = finished
    run = folder / "run"
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {
        "config.json", "machine.json", "log.csv", "log.jsonl", "curves.png", "last.npz",
        "previous.npz", "best.npz", "precision_recall.png", "detections.png",
    }  # fmt: skip
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [4, 8]
    assert all(float(rows[0][name]) > 0 for name in NAMES)
    assert float(rows[-1]["map"]) == result.rows[-1]["map"] >= 0
    config = json.loads((run / "config.json").read_text())
    assert config["detector"] == "faster" and config["seed"] == 0
    assert "after 2 epochs" in str(result)


def weights(run):
    saved = checkpoint.load(run / "last.npz")
    return {**saved.net, **{f"average {k}": v for k, v in saved.average.items()},
            **{f"optim {k}": v for k, v in saved.optim.items()}}  # fmt: skip


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name)


def test_the_same_seed_gives_the_same_bits(finished, tmp_path):
    trained(tmp_path)
    same(weights(tmp_path / "run"), weights(finished[1] / "run"))


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_run_that_was_stopped_ends_with_the_same_bits(finished, tmp_path, monkeypatch, stop):
    steps = []
    original = trainer.Trainer._stop_if_asked

    def stop_once(self, signals):
        if self._steps_done == stop and not steps:
            steps.append(stop)
            signals.received = 2
        original(self, signals)

    monkeypatch.setattr(trainer.Trainer, "_stop_if_asked", stop_once)
    with pytest.raises(Interrupted, match="detect train --resume"):
        trained(tmp_path)
    result = trainer.resume(tmp_path / "run", quiet=True)
    same(weights(tmp_path / "run"), weights(finished[1] / "run"))
    assert [row["map"] for row in result.rows] == [row["map"] for row in finished[0].rows]


def test_a_finished_run_may_be_resumed_and_a_damaged_checkpoint_falls_back(finished, tmp_path):
    run = shutil.copytree(finished[1] / "run", tmp_path / "run")
    before = weights(run)
    trainer.resume(run, quiet=True)
    same(weights(run), before)
    with pytest.raises(TinyshuffleError, match="threads=0 was given"):
        trainer.resume(run, quiet=True, threads=0)
    (run / "last.npz").write_bytes(b"half")
    trainer.resume(run, quiet=True)  # from previous.npz: the last epoch once more
    same(weights(run), before)
    assert (run / "damaged.npz").exists()


def test_ask_a_trained_detector(finished):
    net = load_detector(finished[1] / "run")
    images, _, _ = scenes.draw(1, 9, 64)
    found = net.detect(images[0], least=0.0)
    assert found and all(name in scenes.CLASSES for name, _, _ in found)
    corners = np.array([box for _, _, box in found])
    assert corners.min() >= 0 and 32 < corners.max() <= 64  # in the picture's own pixels
    scores = [score for _, score, _ in found]
    assert scores == sorted(scores, reverse=True)
    wide = np.array([box for _, _, box in net.detect(images[0][:16], least=0.0)])
    assert (wide[:, 2:] <= (64, 16)).all()  # none in what the picture was filled up with
    assert (wide[:, :2] < wide[:, 2:]).all()


def test_pictures_of_ones_own(tmp_path):
    """COCO's layout, pictures without objects among them, and one class."""
    train, test = scenes.load(6, 3, side=40)
    for name, part in (("train", train), ("val", test)):
        path = coco.write(part, tmp_path / "data", name)
        table = json.loads(path.read_text())
        table["categories"] = [{"id": 3, "name": "thing"}]
        table["annotations"] = [
            {**one, "category_id": 3} for one in table["annotations"] if one["image_id"] > 1
        ]
        path.write_text(json.dumps(table))
    result = trained(tmp_path, data=str(tmp_path / "data"), detector="light-head", epochs=1)
    assert result.rows[0]["map"] >= 0
    shutil.rmtree(tmp_path / "data")  # what is trained does not need it any more
    assert load_detector(result.run).classes == ("thing",)
    with pytest.raises(TinyshuffleError, match="is not there: it must be scenes, or a folder"):
        trainer.resume(result.run, quiet=True)


def test_a_test_set_without_objects_has_no_numbers(tmp_path, capsys):
    train, test = scenes.load(6, 3, side=40)
    for name, part in (("train", train), ("val", test)):
        path = coco.write(part, tmp_path / "data", name)
        if name == "val":
            path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    config = DetectConfig(**{**TINY, "data": str(tmp_path / "data"), "epochs": 1})
    result = trainer.train(config, "run", tmp_path)
    assert "mAP    - %  AP50    - %  small    - %" in capsys.readouterr().out
    assert str(result).startswith("mAP - %, AP at IoU 0.5 - % after 1 epoch")


def test_it_may_begin_with_a_trained_backbone(finished, tmp_path):
    from tinyshuffle import models

    net = models.create("vgg_like_13m", num_classes=7, stem="cifar", seed=5)
    np.savez(tmp_path / "weights.npz", **net.state_dict())
    config = DetectConfig(**TINY, init=str(tmp_path / "weights.npz"))
    begun = trainer.Trainer(config, quiet=True)
    begun.begin_with()
    mine = begun.net.body.net.backbone.state_dict()
    assert mine
    for name, value in mine.items():
        np.testing.assert_array_equal(value, net.state_dict()[name])
    same(begun.average.net.state_dict(), begun.net.state_dict())
    other = models.create("resnet20", num_classes=7, stem="cifar")
    np.savez(tmp_path / "weights.npz", **other.state_dict())
    with pytest.raises(TinyshuffleError, match="no weights for this backbone"):
        trained(tmp_path, init=str(tmp_path / "weights.npz"))
    with pytest.raises(TinyshuffleError, match=r"that resnet20 has not, such as layer1.3"):
        deeper = models.create("resnet32", num_classes=7, stem="cifar")
        np.savez(tmp_path / "weights.npz", **deeper.state_dict())
        trained(tmp_path, init=str(tmp_path / "weights.npz"), model="resnet20")


def test_a_loss_that_is_no_number_is_said(tmp_path):
    with pytest.raises(TinyshuffleError, match="smaller --lr"):
        trained(tmp_path, lr=1e9)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"detector": "yolo"}, "faster or light-head"),
        ({"data": "no folder"}, "COCO's layout"),
        ({"side": 16}, "32 to 1024"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 17}, "pictures=16"),
        ({"lr": 0}, "lr"),
        ({"ema": 1.0}, "ema"),
        ({"threads": 0}, "threads"),
        ({"seed": "x"}, "seed"),
        ({"model": "none"}, "unknown model"),
        ({"model": "vgg11"}, "larger pictures"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, others, words):
    with pytest.raises(TinyshuffleError, match=words):
        trained(tmp_path, **others)


def test_runs_of_other_kinds_are_refused(finished, tmp_path):
    with pytest.raises(TinyshuffleError, match="exists already"):
        trained(finished[1])
    with pytest.raises(TinyshuffleError, match="no checkpoint"):
        trainer.resume(tmp_path, quiet=True)
    for ask in (verify.best_checkpoint, read_run):  # and what is for classifiers
        with pytest.raises(TinyshuffleError, match="it is a detector's"):
            ask(finished[1] / "run")
    saved = checkpoint.load(finished[1] / "run" / "last.npz")
    saved.header["config"] = {"model": "vgg_like_13m", "data": "shapes"}
    checkpoint.save(tmp_path / "last.npz", saved)
    with pytest.raises(TinyshuffleError, match="no detector's"):
        trainer.resume(tmp_path, quiet=True)
