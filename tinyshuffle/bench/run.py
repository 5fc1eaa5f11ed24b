"""The order of events: prepare, compare what the sides compute, warm up, take turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
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
from .peers import COMPILED, PEERS, check_peer, no_compiler, torch_arguments
from .process import OURS, Worker, alone, cleared
from .progress import Progress
from .spread import Spread, ratios, spread

__all__ = [
    "Case", "Result", "Side", "agree", "compare_sides", "compare_threads", "measure_layers",
    "speed_ups", "take_turns",
]  # fmt: skip

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
    left_out : str
        Why ``torch.compile`` is not among them, if it could have been.
    """

    case: Case
    machine: Machine
    cleared: list[str]
    differences: dict[str, dict[str, float]]
    sides: list[Side]
    left_out: str = ""

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
            "left_out": self.left_out,
        }


def compare_sides(
    case: Case, peers: Sequence[str], rounds: int, progress: Progress, burst: float = BURST
) -> Result:
    """Run a case in tinyshuffle and in its peers, in turn.

    Beside PyTorch's eager training step stands that of ``torch.compile``, if it has a compiler.

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
        If a peer is missing, cannot be made of the net, or computes something else.
    """
    compiled = case.train and "torch" in peers
    (result,) = _compare([case], peers, rounds, progress, burst, compiled)
    return result


def compare_threads(
    case: Case,
    counts: Sequence[int],
    peers: Sequence[str],
    rounds: int,
    progress: Progress,
    burst: float = BURST,
) -> list[Result]:
    """Run a case with several numbers of threads, all of them in turn; return a result for each.

    Parameters and errors are those of :func:`compare_sides`; ``case.threads`` does not count.
    """
    cases = [replace(case, threads=count) for count in counts]
    return _compare(cases, peers, rounds, progress, burst, compiled=False)


def _compare(
    cases: Sequence[Case],
    peers: Sequence[str],
    rounds: int,
    progress: Progress,
    burst: float,
    compiled: bool,
) -> list[Result]:
    """Run cases that differ in their threads alone, in all libraries, in turn."""
    case = max(cases, key=lambda case: case.threads)
    case.check_peers(peers)
    with tempfile.TemporaryDirectory(prefix="tinyshuffle-bench-") as folder, ExitStack() as stack:
        files = Path(folder)
        weights = str(files / "weights.npz")
        progress.phase(f"{case.name}: weights and kernels")
        machine = Machine(**alone(case.job("settle", path=weights), OURS)["machine"])
        if "onnxruntime" in peers:
            net = str(files / "net.onnx")
            alone(case.job("export", weights=weights, path=net), "ONNX's export")
        prepared = []
        for case in cases:
            sides = _Started(case, weights, files / "check.npz", burst, stack, progress)
            sides.start(OURS)
            for peer in peers:
                if peer == "torch":
                    best = sides.start_better(peer)
                    if compiled:
                        sides.start_compiled(best)
                else:
                    sides.start(peer, onnx=net)
            prepared.append(sides)
        workers = [worker for sides in prepared for worker in sides.workers]
        times = iter(take_turns(workers, progress.rounds(case.name, rounds), burst))
        return [
            Result(
                sides.case, replace(machine, threads=sides.case.threads), cleared(),
                sides.differences,
                [
                    Side(worker.name, name, next(times), worker.ask("memory"), memory)
                    for worker, name, memory in sides.rows
                ],
                sides.left_out,
            )
            for sides in prepared
        ]  # fmt: skip


class _Started:
    """The sides of a case that have been started, and found to compute the same.

    Attributes
    ----------
    rows : list of (Worker, str, int or None)
        Each side, its memory format, and the bytes that its libraries take.
    differences : dict
        For each peer, how far its numbers are from ours.
    left_out : str
        Why ``torch.compile`` is not among them, if it was asked for.
    """

    def __init__(
        self,
        case: Case,
        weights: str,
        check: Path,
        burst: float,
        stack: ExitStack,
        progress: Progress,
    ) -> None:
        self.case, self.weights, self.check, self.burst = case, weights, check, burst
        self.stack, self.progress = stack, progress
        self.rows: list[tuple[Worker, str, int | None]] = []
        self.expected: dict[str, np.ndarray] = {}
        self.differences: dict[str, dict[str, float]] = {}
        self.left_out = ""

    @property
    def workers(self) -> list[Worker]:
        return [worker for worker, _, _ in self.rows]

    def start(self, kind: str, name: str = "", **more: Any) -> None:
        """Start a side in a process of its own, and add it if it computes the same."""
        name = name or PEERS.get(kind, OURS)
        self.progress.phase(f"{self.case.name}: starting {name}")
        worker = Worker(name, self.case.job(kind, weights=self.weights, **more))
        self.stack.callback(worker.close)
        memory = worker.ready()["memory"]
        if name == COMPILED:
            self.progress.phase(f"{self.case.name}: {COMPILED} compiles, for minutes")
        arrays = worker.check(self.check)
        if kind == OURS:
            self.expected = arrays
        else:
            found = agree(name, self.expected, arrays)
            before = self.differences.get(name, found)
            self.differences[name] = {key: max(found[key], before[key]) for key in found}
        worker.ask("run", seconds=self.burst, least=3)  # warm now
        self.rows.append((worker, more.get("format", ""), memory))

    def start_better(self, peer: str) -> str:
        """Start a peer in its two memory formats; return the faster one, which is kept."""
        for name in FORMATS:
            self.start(peer, format=name)
        self.progress.phase(f"{self.case.name}: PyTorch's better memory format")
        probe = take_turns(self.workers[-2:], range(3), self.burst)
        medians = [spread([s for b in bursts for s in b]).median for bursts in probe]
        best = int(np.argmin(medians))
        worker, *_ = self.rows.pop(len(self.rows) - 1 - best)
        worker.close()
        return FORMATS[best]

    def start_compiled(self, memory_format: str) -> None:
        """Start PyTorch's compiled step, or say why it is left out. What it takes is not timed."""
        self.left_out = no_compiler()
        if self.left_out:
            return
        try:
            self.start("torch", COMPILED, format=memory_format, compiled=True)
        except TinyshuffleError as error:
            # if its numbers differ, the compiler is wrong, as the eager net agreed with ours
            self.left_out = str(error)


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


def speed_ups(results: Sequence[Result]) -> list[list[Spread]]:
    """Return how many times as fast each side of each result is as in the first, turn by turn."""
    first = results[0].sides
    return [
        [ratios(one.bursts, side.bursts) for one, side in zip(first, result.sides, strict=True)]
        for result in results
    ]


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


