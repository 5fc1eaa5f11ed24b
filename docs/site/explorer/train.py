"""Train the explorer's nets with this library, and write what its page reads.

    python docs/site/explorer/train.py          # some minutes on one core

Writes ``nets.json`` (the operations of each net, as the library traced them), ``weights.bin``
(their weights and batch norm's statistics, float16, in the order of the operations) and
``pictures.png`` (the first test picture of each class, side by side).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
KEPT = ROOT / "build" / "explorer"  # trained nets, so that a stopped run goes on
sys.path.insert(0, str(ROOT))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.backend import F  # noqa: E402
from tinyshuffle.cost.counting import traced  # noqa: E402
from tinyshuffle.plan import View, views  # noqa: E402
from tinyshuffle.train import schedule  # noqa: E402

SHAPE = 1, 32, 32, 3
REPEATS = 2, 2, 1
GROUPS = 1, 2, 3, 4, 8
# Channels of the stem and of stages 2, 3 and 4. As in Table 1 of the paper, more groups make a
# wider net, so that the multiply-adds of a row below stay about the same.
V1 = {
    "narrow": {1: (8, 24, 36, 48), 2: (8, 24, 40, 56), 3: (9, 24, 48, 60), 4: (8, 32, 48, 64),
               8: (8, 32, 64, 96)},
    "wide": {1: (16, 48, 72, 96), 2: (16, 56, 80, 104), 3: (18, 60, 84, 108),
             4: (16, 64, 96, 112), 8: (16, 64, 96, 128)},
}  # fmt: skip
V2 = {"narrow": (16, 32, 48, 64), "wide": (24, 48, 72, 96)}  # stages 2, 3, 4 and conv5
# Of the pictures, epoch by epoch: small ones first, to save time. The wide nets cost more.
SIZES = {"narrow": (16, 16, 16, 24, 24, 32), "wide": (16, 24, 32)}
BATCH, LR = 64, 0.1


class Unshuffled(ts.models.ShuffleUnitV2):
    """A V2 unit that leaves out the shuffle: half of the channels then pass a whole stage."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        if not self.splits:
            return F.concat([self.branch1(x), self.branch2(x)])
        x1, x2 = F.channel_split(x, self.untouched)
        return F.concat([x1, self.branch2(x2)])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy1, dy2 = F.concat_backward(dy, [self.untouched, self.made])
        if not self.splits:
            return F.add(self.branch1.backward(dy1), self.branch2.backward(dy2))
        return F.channel_split_backward(dy1, self.branch2.backward(dy2))


def v1(width: str, groups: int, shuffle: bool) -> ts.nn.Module:
    """A small ShuffleNet V1."""
    stem, *stages = V1[width][groups]
    return ts.models.ShuffleNetV1(
        1.0, groups, 10, "cifar", shuffle, stage_channels=stages, stage_repeats=REPEATS,
        stem_channels=stem,
    )  # fmt: skip


def v2(width: str, shuffle: bool) -> ts.nn.Module:
    """A small ShuffleNet V2."""
    *stages, last = V2[width]
    net = ts.models.ShuffleNetV2(
        0.5, 10, "cifar", stage_channels=stages, stage_repeats=REPEATS, conv5_channels=last
    )
    if not shuffle:
        before = net.conv1[0].out_channels
        for name, out, repeat in zip(("stage2", "stage3", "stage4"), stages, REPEATS, strict=True):
            units = [Unshuffled(before if i == 0 else out, out, 1 + (i == 0))
                     for i in range(repeat)]  # fmt: skip
            setattr(net, name, ts.nn.Sequential(*units))
            before = out
    return net


def nets() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Each net's name, the switches that choose it, and what builds it."""
    for width in V1:
        for groups in GROUPS:
            for shuffle in (True, False) if groups > 1 else (True,):
                name = f"v1-g{groups}-{width}" + ("" if shuffle else "-unshuffled")
                switches = {"version": 1, "groups": groups, "shuffle": shuffle, "width": width}
                yield name, switches, partial(v1, width, groups, shuffle)
        for shuffle in (True, False):
            name = f"v2-{width}" + ("" if shuffle else "-unshuffled")
            switches = {"version": 2, "groups": 1, "shuffle": shuffle, "width": width}
            yield name, switches, partial(v2, width, shuffle)


def trained(build: Any, train: Any, sizes: tuple[int, ...], saved: Path) -> ts.nn.Module:
    """A net that has learned, now or at an earlier start."""
    net = build()
    if saved.exists():
        net.load_state_dict(ts.weights.read(saved))
        return net
    net.initialise(np.random.default_rng(0))
    fast = ts.parallel.DataParallel(net)
    fast.train()
    loss = ts.nn.CrossEntropyLoss(label_smoothing=0.1)
    opt = ts.optim.SGD(net.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps, step = len(sizes) * (len(train) // BATCH), 0
    for epoch, size in enumerate(sizes):
        batches = ts.data.batches(train, BATCH, epoch=epoch, size=size, drop_last=True)
        for x, labels in batches:
            opt.lr = LR * schedule.factor("one-cycle", step, steps)
            loss(fast(x), labels)
            fast.backward(loss.backward())
            opt.step()
            opt.zero_grad()
            step += 1
    np.savez(saved, **net.state_dict())
    return net


# ---- what the page reads


def operations(net: ts.nn.Module) -> list[dict[str, Any]]:
    """The operations of a net, in the order in which they run; operation 0 is the picture.

    ``x`` names what an operation reads: the number of the operation that made it, its first
    channel, and how many. ``out`` is (H, W, C), ``weights`` are the names of the arrays that it
    multiplies with. The other fields are the operation's arguments.
    """
    plan = traced(net, SHAPE)
    image = {"op": "image", "layer": "image", "x": [], "out": list(SHAPE[1:]), "weights": []}
    out: list[dict[str, Any]] = [image]
    made_by = {b.index: 0 for b in plan.buffers if b.role == "input"}
    names = {b.index: b.name for b in plan.buffers}
    for row in plan.rows:
        if row.operation == "channel_split":  # its results are views of what it read
            continue
        read = [v for v in views(row.arguments) if v.buffer in made_by]
        (written,) = row.writes
        entry = {
            "op": row.operation,
            "layer": row.layer,
            "x": [[made_by[v.buffer], v.start, v.shape[-1]] for v in read],
            "out": [1, 1, *written.shape[1:]][-3:],
            "weights": [names[v.buffer] for v in views(row.arguments) if names[v.buffer]],
        }
        entry |= arguments(row)
        made_by[written.buffer] = len(out)
        out.append(entry)
    return out


def arguments(row: Any) -> dict[str, Any]:
    """What an operation is told besides arrays."""
    rest = [a for a in row.arguments if not isinstance(a, View | list)]
    named = row.keywords
    if row.operation in ("conv2d", "depthwise_conv2d"):
        (stride, _), (padding, _) = rest[1:3]
        return {"kernel": row.arguments[1].shape[0], "stride": stride, "padding": padding}
    if row.operation == "pointwise_conv2d":
        return {"groups": rest[1]}
    if row.operation == "channel_shuffle":
        return {"groups": named.get("groups", rest[0] if rest else None)}
    if row.operation == "avg_pool2d":
        (kernel, _), (stride, _), (padding, _) = rest[:3]
        return {"kernel": kernel, "stride": stride, "padding": padding}
    return {}


def halved(net: ts.nn.Module) -> dict[str, np.ndarray]:
    """The net's arrays as the page has them: rounded to float16. Loads them into the net, too."""
    state = {
        name: value.astype(np.float16).astype(value.dtype) if value.dtype == np.float32 else value
        for name, value in net.state_dict().items()
    }
    net.load_state_dict(state)
    return state


def read(build: Any, start: int, numbers: np.ndarray) -> ts.nn.Module:
    """Build a net with the weights that the page has: ``numbers``, from ``start`` on."""
    net = build()
    state = net.state_dict()
    for row in operations(net):
        for name in row["weights"]:
            size = state[name].size
            state[name] = numbers[start : start + size].reshape(state[name].shape)
            start += size
    net.load_state_dict(state)
    net.eval()
    return net


def main() -> None:
    """Train all, and write the three files."""
    from PIL import Image

    ts.set_num_threads(1)
    train, test = ts.data.load("shapes")
    KEPT.mkdir(parents=True, exist_ok=True)
    entries, blocks, start, began = {}, [], 0, time.process_time()
    for name, switches, build in nets():
        net = trained(build, train, SIZES[switches["width"]], KEPT / f"{name}.npz")
        state, table = halved(net), operations(net)
        right = ts.train.evaluate(net, test).accuracy
        block = [state[w].ravel() for row in table for w in row.pop("weights")]
        entries[name] = {**switches, "accuracy": round(right, 4), "start": start,
                         "operations": table}  # fmt: skip
        blocks += block
        start += sum(map(len, block))
        spent = time.process_time() - began
        print(f"{name}: {right:.1%}, {start} numbers, {spent:.0f} s", flush=True)
    np.concatenate(blocks).astype("<f2").tofile(HERE / "weights.bin")
    known = {"classes": test.classes, "mean": test.mean.tolist(), "std": test.std.tolist()}
    text = json.dumps(known | {"nets": entries}, separators=(",", ":"))
    (HERE / "nets.json").write_text(text.replace('"v', '\n"v') + "\n", encoding="utf-8")
    first = [test.images[np.flatnonzero(test.labels == label)[0]] for label in range(10)]
    Image.fromarray(np.concatenate(first, axis=1)).save(HERE / "pictures.png", optimize=True)


if __name__ == "__main__":
    main()
