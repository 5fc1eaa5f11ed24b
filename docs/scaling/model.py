"""What a training step would take on many machines: the tables of docs/scaling.md.

    python docs/scaling/model.py
"""

from __future__ import annotations

from math import ceil, log2, prod

import numpy as np

import tinyshuffle as ts
from tinyshuffle.plan.play import buckets_of

# measured here, with nobody else on the machine's cores: docs/performance.md, docs/scaling.md
IMAGE = 149e-3 / 128  # seconds of an image in a step on one core, V2 0.5x at 32x32
PREPARED = 4e-6  # of an image that is cropped and mirrored, which each rank does with all
STEP = 1e-3  # of a step, whatever it has to do
CALL = 7e-6  # of an exchange in Python, when the others are there already
ADDING = 8e9  # bytes a second that are added up
SPREAD = 0.02  # standard deviation of a rank's step, as a part of it
TOGETHER = 2**16  # tinyshuffle.ranks: up to so many bytes of all ranks go to everybody

NETWORKS = {  # seconds that a message is under way, bytes a second of a link
    "1 GbE": (50e-6, 0.118e9),
    "25 GbE": (15e-6, 2.9e9),
    "InfiniBand HDR": (2e-6, 24e9),
}
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def sums_and_buckets() -> tuple[list[int], list[tuple[int, float]]]:
    """Return the bytes of each meeting's sums, and those of each bucket of V2 0.5x's gradient.

    Beside each bucket stands which part of the step is over when it is sent.
    """
    net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
    plan = net.plan((128, 32, 32, 3))
    sums = [
        sum(
            8 * prod(plan.buffers[v.buffer].shape)
            for p in row.parts or (row,)
            if p.meets
            for v in p.results
        )
        for row in plan.rows
    ]
    learned = [b.index for b in plan.buffers if b.role == "gradient"]
    offsets = [0, *np.cumsum([prod(plan.buffers[i].shape) for i in learned])]
    over = np.cumsum([plan.seconds_of(row) for row in plan.rows])
    buckets = [
        (4 * int(place.stop - place.start), float(over[row] / over[-1]))
        for row, place in buckets_of(plan, learned, offsets)
    ]
    return [nbytes for nbytes in sums if nbytes], buckets


def exchange(nbytes: int, ranks: int, latency: float, bandwidth: float) -> float:
    """Seconds until all have the sum of what each has: see ``ranks.Sum``."""
    if ranks == 1:
        return 0.0
    hops = latency * ceil(log2(ranks))
    if nbytes * ranks <= TOGETHER:
        return CALL + hops + (ranks - 1) * nbytes / bandwidth
    share = nbytes * (ranks - 1) / ranks
    return 2 * (CALL + hops + share / bandwidth) + nbytes / ADDING


def slowest(ranks: int, meetings: int) -> float:
    """How much later than the mean the slowest comes, summed over a step, as a part of it.

    Simulated: each piece of a step between two meetings is normal, and independent of the others.
    """
    if ranks == 1:
        return 0.0
    draws = np.random.default_rng(0).standard_normal((2000, ranks)).max(1).mean()
    return float(SPREAD * np.sqrt(meetings) * draws)


def step(images: float, ranks: int, network: tuple[float, float], sync: bool) -> float:
    """Seconds of a step with so many images a rank, each with one core."""
    sums, buckets = sums_and_buckets_of_all
    compute = STEP + IMAGE * images + PREPARED * images * ranks
    met = [exchange(nbytes, ranks, *network) for nbytes in sums] if sync else []
    compute = compute * (1 + slowest(ranks, len(met) + 1)) + sum(met)
    sent = 0.0  # when the gradient's buckets that are sent so far have arrived
    for nbytes, over in buckets:
        sent = max(sent, over * compute) + exchange(nbytes, ranks, *network)
    return max(compute, sent)


sums_and_buckets_of_all = sums_and_buckets()


def table(title: str, images: object) -> None:
    """Print the share of the ideal speed that is left, synchronised or each rank alone."""
    print(f"\n{title}\n")
    names = [f"{name}{which}" for name in NETWORKS for which in ("", ", each alone")]
    print("| ranks | " + " | ".join(names) + " |")
    print("|---:|" + "---:|" * len(names))
    for ranks in RANKS:
        n = images(ranks) if callable(images) else images
        if n < 1:
            break
        ideal = STEP + (IMAGE + PREPARED) * n
        cells = [
            f"{100 * ideal / step(n, ranks, network, sync):.0f} %"
            for network in NETWORKS.values()
            for sync in (True, False)
        ]
        print(f"| {ranks:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    small, buckets = sums_and_buckets_of_all
    print(f"{len(small)} meetings of {sum(small):,} bytes in all; gradient's buckets, and how much")
    print("of the step is over:", *(f"{n:,} bytes at {100 * at:.0f} %" for n, at in buckets))
    table("128 images a rank", 128)
    table("1,024 images in all", lambda ranks: 1024 / ranks)
