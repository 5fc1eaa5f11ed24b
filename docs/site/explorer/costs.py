"""Count what the explorer's nets cost, and write ``costs.json`` for its page.

    python docs/site/explorer/costs.py

For each net, and for the net of the paper that it is a small copy of, the operations as this
library runs them: [layer, multiply-adds, bytes], each tensor moved once, in float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE)]

import train  # noqa: E402

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.cost.profile import total_cost  # noqa: E402
from tinyshuffle.cost.roofline import operations  # noqa: E402

IMAGENET = 1, 224, 224, 3
PAPER = {"narrow": "x0_5", "wide": "x1_0"}

MACHINES = {
    "CPU": {
        # measured on it: docs/performance.md, "The roofline"
        "name": "two cores of an AMD Zen 4 server",
        "peak": 201e9, "bandwidth": 38e9,
    },
    "phone": {
        # 2.0 GHz, one multiply-add of four numbers a cycle; LPDDR4-3200, two channels of 32 bits
        "name": "Snapdragon 810, one Cortex-A57 core (the phone of the V2 paper)",
        "peak": 16e9, "bandwidth": 25.6e9,
    },
    "GPU": {
        # 3584 cores, a multiply-add a cycle at 1.582 GHz; GDDR5X, 352 bits at 11 GT/s
        "name": "GeForce GTX 1080 Ti (the GPU of the V2 paper)",
        "peak": 11.3e12, "bandwidth": 484e9,
    },
}  # fmt: skip
"""``peak`` in FLOP/s, of which a multiply-add is two, and ``bandwidth`` in bytes/s."""


def cost(net: ts.nn.Module, shape: tuple[int, ...], seen: str) -> dict[str, Any]:
    """What a net costs, and at least how many seconds it takes on each machine."""
    done = operations(net, shape, cores=1)
    total = total_cost(net, shape)
    rows = [[o.layer, o.multiply_adds, o.nbytes] for o in done]
    return {
        "name": seen,
        "multiply_adds": total.multiply_adds,
        "params": total.params,
        "bytes": sum(o.nbytes for o in done),
        "seconds": {name: seconds(rows, machine) for name, machine in MACHINES.items()},
        "rows": rows,
    }


def seconds(rows: list[list[Any]], machine: dict[str, Any]) -> float:
    """The roofline's time: each operation waits for its multiply-adds or for its bytes."""
    return sum(max(2 * adds / machine["peak"], moved / machine["bandwidth"])
               for _, adds, moved in rows)  # fmt: skip


def paper(version: int, groups: int, width: str, shuffle: bool) -> tuple[str, ts.nn.Module]:
    """The net of the paper of which one of the explorer's is a small copy."""
    factor = PAPER[width]
    name = f"shufflenet_v2_{factor}" if version == 2 else f"shufflenet_v1_{factor}_g{groups}"
    variant = {} if version == 2 else {"shuffle": shuffle}
    return name, ts.models.create(name, **variant).net


def main() -> None:
    """Write the file."""
    nets = {}
    for name, switches, build in train.nets():
        known, large = paper(**switches)
        big = cost(large, IMAGENET, known)
        del big["rows"]
        nets[name] = {"small": cost(build(), train.SHAPE, name), "paper": big}
    text = json.dumps({"machines": MACHINES, "nets": nets}, separators=(",", ":"))
    (HERE / "costs.json").write_text(text.replace('"v', '\n"v') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
