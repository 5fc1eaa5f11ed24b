"""Train the tiny net of lessons 1 to 6, and store it beside a photograph.

    python docs/course/picture.py chelsea.png

Needs CIFAR-10, takes some minutes, and writes tinyshuffle/course/picture.npz. The photograph is
scikit-image's chelsea.png: "Chelsea" by Stéfan van der Walt, in the public domain (CC0).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.course import picture  # noqa: E402

SIDE, SIZES, BATCH, RATE = 128, (16, 16), 128, 0.15


def photograph(path: str) -> np.ndarray:
    """The middle of a picture: uint8 (SIDE, SIDE, 3)."""
    image = Image.open(path).convert("RGB")
    wide, high = image.size
    side = min(wide, high)
    left, top = (wide - side) // 2, (high - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def trained() -> ts.nn.Module:
    """The net: small images first, as they cost less, and a rate that falls along a cosine."""
    train, test = (
        replace(part, mean=np.full(3, picture.MIDDLE), std=np.full(3, picture.SPREAD))
        for part in ts.data.load("cifar10")
    )
    net, loss = picture.net().initialise(0), ts.nn.CrossEntropyLoss()
    opt = ts.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(SIZES) * ts.data.num_batches(len(train), BATCH)
    step = 0
    for epoch, size in enumerate(SIZES):
        for x, labels in ts.data.batches(train, BATCH, epoch=epoch, size=size):
            opt.lr = RATE / 2 * (1 + np.cos(np.pi * step / steps))
            value = loss(net(x), labels)
            net.backward(loss.backward())
            opt.step()
            opt.zero_grad()
            step += 1
        print(f"epoch {epoch + 1}: loss {value:.2f}", flush=True)
    print(f"{ts.train.evaluate(net, test).accuracy:.1%} of the test images are right")
    return net


def main() -> None:
    photo = photograph(sys.argv[1])
    state = {name: w.astype(np.float16) for name, w in trained().state_dict().items()}
    np.savez_compressed(picture.FILE, photograph=photo, **state)
    print(f"{picture.FILE}: {picture.FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
