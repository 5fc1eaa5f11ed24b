"""The loss of a step: one set of logits or three, batches as they are or blended."""

from __future__ import annotations

import numpy as np
import pytest
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import data, nn
from tinyshuffle.models import AuxiliaryLoss
from tinyshuffle.train.config import Config
from tinyshuffle.train.loop import Trainer
from tinyshuffle.train.loss import TrainingLoss

SMALL = {"width": 0.05, "aux_logits": True}


@pytest.fixture
def three():
    return ts.models.create("googlenet", num_classes=4, stem="cifar", **SMALL)


def test_one_set_of_logits(rng):
    loss, plain = TrainingLoss(nn.Linear(3, 4), 0.1), nn.CrossEntropyLoss(0.1)
    logits, labels = rng.normal(size=(5, 4)), rng.integers(0, 4, 5)
    assert loss(logits, labels) == plain(logits, labels)
    assert loss.backward().tobytes() == plain.backward().tobytes()
    assert loss.right(logits, labels) == (logits.argmax(1) == labels).sum()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_blended_batch(rng, three, share):
    """The gradient is that of the value, also after a batch that was not blended."""
    logits, labels, others = rng.normal(size=(5, 12)), *rng.integers(0, 4, (2, 5))
    loss, plain = TrainingLoss(three, 0.1), AuxiliaryLoss(0.1)
    loss(logits, labels)
    value = share * plain(logits, labels) + (1 - share) * plain(logits, others)
    assert loss(logits, labels, (others, share)) == pytest.approx(value, rel=1e-12)
    dlogits, direction = loss.backward(), rng.normal(size=(5, 12))
    step = 1e-6 * direction
    ahead, behind = (loss(logits + s, labels, (others, share)) for s in (step, -step))
    assert (ahead - behind) / 2e-6 == pytest.approx((dlogits * direction).sum(), rel=1e-6)


def test_auxiliary_classifiers_are_trained_and_not_asked(rng, three, monkeypatch):
    """Three sets of logits are no twelve classes: the first set is the net's own."""
    logits = np.zeros((2, 12))
    logits[:, 1], logits[:, 7] = 1, 9
    loss = TrainingLoss(ts.DataParallel(three), 0.0)
    assert loss.right(logits, np.array([1, 3])) == 1
    monkeypatch.setattr(data, "load", tiny_run.load)
    config = Config(model="googlenet", variant=SMALL, batch_size=35, threads=1, epochs=1)
    trainer = Trainer(config, quiet=True)
    trainer.net.train()
    x, labels = next(trainer._batches(0, 0, 8))
    before = {p.name: p.data.copy() for p in trainer.net.parameters()}
    trainer.optim.lr = 0.1
    asked = []

    def call(self, *given, original=AuxiliaryLoss.__call__):
        asked.append(original(self, *given))
        return asked[-1]

    monkeypatch.setattr(AuxiliaryLoss, "__call__", call)
    value, right = trainer._step(trainer.net, trainer.optim, x, labels, None)
    assert [value] == asked and 0 <= right <= len(labels)
    moved = {p.name for p in trainer.net.parameters() if (p.data != before[p.name]).any()}
    assert {"aux1.fc2.weight", "aux2.fc2.weight", "fc.weight", "conv1.conv.weight"} <= moved
