"""The order of events: prepare, compare what the sides compute, warm up, take turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TinyshuffleError
from ..machine import Machine
from ..models import create
from .ceilings import Ceilings
from .layers import LayerTimes
from .libraries import height_and_width
from .peer_graph import plan_for_peers
from .peers import PEERS, check_peer, torch_arguments
from .process import OURS, Worker, alone, cleared
from .progress import Progress
from .spread import Spread, ratios, spread

__all__ = ["Case", "Result", "Side", "agree", "compare_sides", "measure_layers", "take_turns"]

BURST = 1.0  # seconds that a side runs before it is the other's turn
PAUSE = 0.06  # seconds between: twice what OpenBLAS's threads wait busily for more work
FORMATS = ("NCHW", "channels_last")

# The largest difference, relative to the largest number. A ReLU whose input lies within rounding
# of zero may let a gradient pass on one side only, so gradients differ by more than activations.
TOLERANCES = {"logits": 1e-3, "loss": 1e-3, "gradient's norm": 1e-2}


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes
    ----------
    task : {"step", "inference"}
        A training step (forward, loss, backward, SGD with Nesterov momentum), or a forward pass
        in evaluation.
    model : str
    batch : int
        Images.
    size : int or (height, width)
        Of each, in pixels.
    threads : int
    stem : {"cifar", "imagenet"}
        Ten classes or a thousand go with it.
    variant : dict
        What else the model is told.
    """

    task: str
    model: str
    batch: int
    size: int | tuple[int, int]
    threads: int
    stem: str
    variant: dict[str, Any] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """Of an image."""
        return height_and_width(self.size)[0]

    @property
    def width(self) -> int:
        """Of an image."""
        return height_and_width(self.size)[1]

    @property
    def train(self) -> bool:
        """Whether it is a training step."""
        return self.task == "step"

    @property
    def classes(self) -> int:
        """That the net tells apart."""
        return 10 if self.stem == "cifar" else 1000

    @property
    def name(self) -> str:
        """Of the net, with its variant."""
        return " ".join([self.model, *(f"{key}={value}" for key, value in self.variant.items())])

    def check_peers(self, peers: Sequence[str]) -> None:
        """Say in a sentence why one of the peers cannot take part, if one cannot."""
        by_hand = torch_arguments(self.model, self.variant) is not None
        for peer in peers:
            check_peer(peer, self.task, by_hand)
        if peers and not by_hand:
            net = create(self.model, self.classes, self.stem, **self.variant)
            plan_for_peers(net, (self.batch, self.height, self.width, 3), self.train)

    def job(self, kind: str, **more: Any) -> dict[str, Any]:
        """Return the job for a worker of this kind."""
        return {
            "kind": kind,
            "train": self.train,
            "classes": self.classes,
            "weights": "",
            **asdict(self),
            **more,
        }

    def __str__(self) -> str:
        what = "training step" if self.train else "inference"
        return (
            f"{what}, {self.name}, {self.batch} images of {self.height}x{self.width}, "
            f"{self.stem} stem, float32"
        )


@dataclass(frozen=True)
class Side:
    """How one side did.

    Attributes
    ----------
    name, format : str
        The library, and PyTorch's memory format.
    bursts : list of list of float
        Seconds.
    peak_memory, memory_before : int or None
        Bytes resident in its process: at the worst moment, and with all libraries imported but
        no net built.
    """

    name: str
    format: str
    bursts: list[list[float]]
    peak_memory: int | None
    memory_before: int | None

    @property
    def spread(self) -> Spread:
        """Of all runs."""
        return spread([seconds for burst in self.bursts for seconds in burst])

    @property
    def own_memory(self) -> int | None:
        """Bytes that the net took at the worst moment, without the libraries."""
        if self.peak_memory is None or self.memory_before is None:
            return None
        return self.peak_memory - self.memory_before


@dataclass(frozen=True)
class Result:
    """A comparison; the first side is tinyshuffle.

    Attributes
    ----------
    case : Case
    machine : Machine
    cleared : list of str
        Variables that were taken out of the workers' environment.
    differences : dict
        For each peer, how far its numbers are from ours, relative to the largest.
    sides : list of Side
    """

    case: Case
    machine: Machine
    cleared: list[str]
    differences: dict[str, dict[str, float]]
    sides: list[Side]

    def ratio(self, side: Side) -> Spread:
        """Return how many times as long as tinyshuffle a side takes, turn by turn."""
        return ratios(side.bursts, self.sides[0].bursts)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        sides = []
        for side in self.sides:
            record = asdict(side) | {"seconds": asdict(side.spread), "own_memory": side.own_memory}
            if side is not self.sides[0]:
                record["ratio"] = asdict(self.ratio(side))
                record["differences"] = self.differences[side.name]
            sides.append(record)
        return asdict(self.case) | {
            "machine": self.machine.to_dict(),
            "cleared": self.cleared,
            "sides": sides,
        }


def compare_sides(
    case: Case, peers: Sequence[str], rounds: int, progress: Progress, burst: float = BURST
) -> Result:
    """Run a case in tinyshuffle and in its peers, in turn.

    Parameters
    ----------
    case : Case
    peers : sequence of {"torch", "onnxruntime"}
    rounds : int
        Turns of each side.
    progress : Progress
    burst : float
        Seconds of a turn.

    Raises
    ------
    TinyshuffleError
        If a peer is missing, has no such net, or computes something else.
    """
    case.check_peers(peers)
    with tempfile.TemporaryDirectory(prefix="tinyshuffle-bench-") as folder, ExitStack() as stack:
        files = Path(folder)
        weights = str(files / "weights.npz")
        progress.phase(f"{case.name}: weights and kernels")
        machine = alone(case.job("settle", path=weights), OURS)["machine"]

        def start(kind: str, **more: Any) -> tuple[Worker, int | None]:
            name = PEERS.get(kind, OURS)
            progress.phase(f"{case.name}: starting {name}")
            worker = Worker(name, case.job(kind, weights=weights, **more))
            stack.callback(worker.close)
            memory = worker.ready()["memory"]
            arrays = worker.check(files / "check.npz")
            if kind == OURS:
                expected.update(arrays)
            else:
                found = agree(name, expected, arrays)
                before = differences.get(name, found)
                differences[name] = {key: max(found[key], before[key]) for key in found}
            worker.ask("run", seconds=burst, least=3)  # warm now
            return worker, memory

        expected: dict[str, np.ndarray] = {}
        differences: dict[str, dict[str, float]] = {}
        chosen = [(*start(OURS), "")]
        for peer in peers:
            if peer == "torch":
                both = [(*start(peer, format=name), name) for name in FORMATS]
                progress.phase(f"{case.name}: PyTorch's better memory format")
                probe = take_turns([worker for worker, _, _ in both], range(3), burst)
                medians = [spread([s for b in bursts for s in b]).median for bursts in probe]
                best = int(np.argmin(medians))
                both[1 - best][0].close()
                chosen.append(both[best])
            else:
                net = str(files / "net.onnx")
                alone(case.job("export", weights=weights, path=net), "ONNX's export")
                chosen.append((*start(peer, onnx=net), ""))
        workers = [worker for worker, _, _ in chosen]
        times = take_turns(workers, progress.rounds(case.name, rounds), burst)
        sides = [
            Side(worker.name, name, bursts, worker.ask("memory"), memory)
            for (worker, memory, name), bursts in zip(chosen, times, strict=True)
        ]
    return Result(case, Machine(**machine), cleared(), differences, sides)


def take_turns(
    workers: Sequence[Worker], rounds: Iterable[int], burst: float
) -> list[list[list[float]]]:
    """Have workers that are warm run in turn, A B A B, for about ``burst`` seconds each.

    A turn begins with a run that does not count: the other side has filled the caches with its own.
    Returns the seconds of each run, in bursts, for each worker.
    """
    times: list[list[list[float]]] = [[] for _ in workers]
    for _ in rounds:
        for worker, bursts in zip(workers, times, strict=True):
            time.sleep(PAUSE)
            worker.ask("run", seconds=0, least=1)
            bursts.append(worker.ask("run", seconds=burst, least=1))
    return times


def agree(
    name: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return how far a peer's numbers are from ours; raise if that is too far."""
    out = {}
    for what, a in ours.items():
        b = theirs[what]
        error = float(np.abs(a - b).max() / np.abs(a).max()) if a.shape == b.shape else np.inf
        if not error <= TOLERANCES[what]:  # NaN is too far as well
            raise TinyshuffleError(
                f"{name} computes something else ({what} differ by {error:.1e} of their size, "
                f"{TOLERANCES[what]:.0e} is rounding), so its time would mean nothing: please "
                "report this net and these options"
            )
        out[what] = error
    return out


@dataclass(frozen=True)
class Layers:
    """The layers of a net, beside the roofline of the machine that ran them."""

    case: Case
    machine: Machine
    ceilings: Ceilings
    cleared: list[str]
    times: LayerTimes


def measure_layers(case: Case, rounds: int, progress: Progress, seconds: float = 1.0) -> Layers:
    """Time the layers of a net in ``rounds`` runs, and the machine's ceilings for ``seconds``."""
    progress.phase(f"{case.name}: ceilings, kernels, layers")
    answer = alone(case.job("layers", rounds=rounds, seconds=seconds), OURS)
    return Layers(
        case,
        Machine(**answer["machine"]),
        Ceilings(**answer["ceilings"]),
        cleared(),
        LayerTimes.from_dict(answer["times"]),
    )


