"""Measure what compression does to a net trained on CIFAR-10.

    python docs/compression.py RUN                     bytes, pruning, rank
    python docs/compression.py RUN --teacher RUN2      trains RUN anew, with the teacher and without
    … --images 10000 --seed 1                          on some images only, from another seed

The first writes docs/compression.csv, the others add lines to docs/distillation.csv.

RUN is a run directory of `python -m tinyshuffle train --recipe docs/compression.toml`. Times
are those of one thread's processor, so that others on the machine do not matter much; the smallest
of several.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import io
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle import nn  # noqa: E402
from tinyshuffle.train import evaluate, schedule  # noqa: E402
from tinyshuffle.train.average import Average  # noqa: E402

FILE = Path(__file__).with_suffix(".csv")
DISTILLED = FILE.with_name("distillation.csv")
PRUNED = 0.2, 0.4, 0.6, 0.7, 0.8, 0.9
CALIBRATION = 256  # images
SHARE = 0.9  # of the loss that is the teacher's


def milliseconds(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> float:
    """Processor time of a call, the smallest of 15."""
    f(x)
    taken = []
    for _ in range(15):
        start = time.thread_time()
        f(x)
        taken.append(time.thread_time() - start)
    return 1000 * min(taken)


def packed(net: nn.Module) -> int:
    """Bytes of a compressed file with the net's weights and statistics."""
    file = io.BytesIO()
    np.savez_compressed(file, **net.state_dict())
    return file.tell()


def rows(run: Path) -> Iterator[list[object]]:
    trained = ts.load(run)
    train, test = ts.data.load(trained.config.data)
    net, x = trained.net, ts.data.normalise(test.images[:128], trained.mean, trained.std)
    images = ts.data.normalise(train.images[:CALIBRATION], trained.mean, trained.std)
    size = sum(p.data.nbytes for p in net.parameters())

    def measured(net: nn.Module, what: str, step: object, nbytes: int, file: int) -> list[object]:
        fast = net if isinstance(net, ts.compress.Int8Net) else ts.DataParallel(net)
        accuracy = evaluate(fast, test).accuracy
        return [what, step, f"{accuracy:.4f}", nbytes, file, f"{milliseconds(fast, x):.1f}"]

    yield measured(net, "float32", "", size, packed(net))
    small = ts.compress.quantise(net, images)
    yield measured(small, "int8", "", small.nbytes, small.nbytes)

    batches = list(itertools.islice(ts.data.batches(train, 128, seed=0, epoch=0), 16))
    for share, anew in itertools.product(PRUNED, (False, True)):
        other = copy.deepcopy(net)
        ts.compress.prune(other, share)
        if anew:
            ts.train.update_bn(other, batches)
        what = "pruned, statistics taken anew" if anew else "pruned"
        yield measured(other, what, share, size, packed(other))

    # of the last layer only the last layer changes: its input is computed once
    body = copy.deepcopy(net)
    body.fc = nn.Linear(net.fc.weight.shape[0], net.fc.weight.shape[0], bias=False)
    body.fc.weight.data = np.eye(net.fc.weight.shape[0], dtype=np.float32)
    fast = ts.DataParallel(body.eval())
    features = np.concatenate([
        fast(b) for b, _ in ts.data.batches(test, 500, augment=False, shuffle=False)
    ])
    of_fc = sum(p.data.nbytes for p in net.fc.parameters())
    for rank in range(1, 11):
        thin = ts.compress.low_rank(net.fc, rank)
        accuracy = (thin(features).argmax(1) == test.labels).mean()
        nbytes = size - of_fc + sum(p.data.nbytes for p in thin.parameters())
        yield ["rank of fc", rank, f"{accuracy:.4f}", nbytes, "", ""]


def anew(run: Path, teacher: nn.Module | None, images: int, seed: int) -> float:
    """Train the net of a run anew, as it was trained or from a teacher; return the accuracy."""
    config = ts.load(run).config
    whole, test = ts.data.load(config.data)
    train = dataclasses.replace(whole, images=whole.images[:images], labels=whole.labels[:images])
    net = ts.models.create(
        config.model, num_classes=10, stem=config.stem or "cifar", seed=seed, **config.variant
    )
    average, fast = Average(net, config.ema), ts.DataParallel(net)
    distillation = nn.DistillationLoss(temperature=4, share=SHARE)
    cross_entropy = nn.CrossEntropyLoss(config.label_smoothing)
    sgd = ts.optim.SGD(net.parameters(), config.lr, momentum=config.momentum, nesterov=True,
                       weight_decay=config.weight_decay)  # fmt: skip
    steps = len(train) // config.batch_size
    for epoch in range(config.epochs):
        size = config.size(epoch, config.epochs, 32)
        batches = ts.data.batches(train, config.batch_size, seed=seed, epoch=epoch, drop_last=True)
        for step, (x, labels) in enumerate(batches, epoch * steps):
            sgd.lr = config.lr * schedule.factor("one-cycle", step, config.epochs * steps)
            logits = fast(x if size == 32 else ts.data.shrink(x, size))
            if teacher is None:
                cross_entropy(logits, labels)
                fast.backward(cross_entropy.backward())
            else:  # it sees the images at the size that it was trained with last
                distillation(logits, labels, teacher(x))
                fast.backward(distillation.backward())
            sgd.step()
            sgd.zero_grad()
            average.update(step)
        print(f"epoch {epoch + 1} of {config.epochs}", flush=True)
    seen = itertools.islice(ts.data.batches(train, 128, seed=seed, epoch=0), 16)
    ts.train.update_bn(average.net, seen)
    return evaluate(ts.DataParallel(average.net), test).accuracy


def write(path: Path, lines: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    ts.set_num_threads(1)
    lines: list[list[object]] = []
    if given.teacher is None:
        lines = [["what", "step", "accuracy", "bytes", "packed", "milliseconds"]]
        for line in rows(given.run):
            print(*line, flush=True)
            lines.append(line)
        write(FILE, lines)
    else:
        if DISTILLED.exists():
            lines += csv.reader(DISTILLED.open(encoding="utf-8"))
        else:
            lines = [["learns from", "images", "seed", "accuracy"]]
        teacher = ts.DataParallel(ts.load(given.teacher).net)
        for what, its in (("labels alone", None), ("with a teacher", teacher)):
            accuracy = anew(given.run, its, given.images, given.seed)
            print(f"{what}: {accuracy:.4f}", flush=True)
            lines.append([what, given.images, given.seed, f"{accuracy:.4f}"])
        write(DISTILLED, lines)


if __name__ == "__main__":
    main()
