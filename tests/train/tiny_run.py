"""A run that takes a second: a net of two layers and ninety images.

``python tiny_run.py train …`` is the command line with these in place of the real ones; the
environment variable ``STEP_SECONDS`` makes each step take that much longer.
"""

from __future__ import annotations

import os
import time

import numpy as np

from tinyshuffle import data, models, nn
from tinyshuffle.parallel import DataParallel

CLASSES = ("dark", "half", "bright")


def load(name, root=None, download=True):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 90)
    images = rng.integers(0, 128, (90, 8, 8, 3)).astype(np.uint8)
    images[labels == 0] //= 2
    images[labels == 2] *= 2
    mean, std = (images / 255).mean((0, 1, 2)), (images / 255).std((0, 1, 2))

    def part(chosen):
        return data.Dataset(name, images[chosen], labels[chosen], CLASSES, mean, std)

    return part(slice(0, 70)), part(slice(70, 90))


def create(name, num_classes=3, stem="cifar", seed=0, **variant):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.GlobalAvgPool(),
        nn.Dropout(0.2),
        nn.Linear(8, num_classes),
    )
    return DataParallel(net.initialise(seed))


def slow_batches(*args, **options):
    for batch in _batches(*args, **options):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        yield batch


_batches = data.batches


def install(patch=setattr):
    patch(data, "load", load)
    patch(data, "batches", slow_batches)
    patch(models, "create", create)


if __name__ == "__main__":
    from tinyshuffle.cli import main

    install()
    main()
