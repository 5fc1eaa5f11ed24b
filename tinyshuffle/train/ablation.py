"""The papers' comparisons, trained at CIFAR's scale.

Every arm of a comparison has as many multiply-adds as the others, as in the papers: the widths are
solved for with the cost model. Each arm is trained with several seeds. A training is a run
directory of its own, so that an ablation that was stopped continues where it was.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import statistics
import threading
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from .. import data, models
from ..errors import TinyshuffleError
from ..files import atomic_write
from ..text import console as plain_console
from ..text import csv_text
from ..values import flags
from ..words import plural
from .config import Config
from .progress import output
from .run import resume, train
from .signals import Interrupted, outlive_terminal, sigterm_as_interrupt

__all__ = ["ABLATIONS", "Ablation", "Arm", "Report", "ablate", "solve"]

STEM_CHANNELS = 24  # for all alike: the smallest number that 2, 3, 4 and 8 groups divide
TOLERANCE = 0.05

MOST_SEEDS, MOST_BUDGET = 1000, 10**10
"""More would be years of training."""

# Of Student's t with 1, 2, … degrees of freedom: what chance exceeds once in twenty times.
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)

PUBLISHED = "Published, not measured here"
"""How the sentence of a report begins that says what the paper prints."""


@dataclass(frozen=True)
class Arm:
    """One of the nets that are compared.

    Attributes
    ----------
    name : str
    model : str
    variant : dict
    multiple : int
        What the widths must be multiples of; 0: the net is taken as it is.
    published : float
        Top-1 error on ImageNet, in per cent, that the paper prints; None if it prints none.
    """

    name: str
    model: str
    variant: dict[str, Any]
    multiple: int = 0
    published: float | None = None


@dataclass(frozen=True)
class Ablation:
    """A comparison of a paper.

    Attributes
    ----------
    title, source : str
        The question, and where the paper answers it.
    arms : tuple of Arm
    order : tuple of (str, str)
        Names of arms: in the paper the first of each pair is better.
    budget : str
        Name of the arm whose multiply-adds the others shall have.
    smallest : tuple of int
        That arm's widths.
    """

    title: str
    source: str
    arms: tuple[Arm, ...]
    order: tuple[tuple[str, str], ...]
    budget: str
    smallest: tuple[int, ...] = ()


def _v1(name: str, groups: int, published: float, **variant: Any) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS, **variant}
    model = f"shufflenet_v1_x0_25_g{groups}"
    return Arm(name, model, variant, 4 * groups, published)


def _other(name: str, kind: str, multiple: int, published: float | None) -> Arm:
    variant = {"stem_channels": STEM_CHANNELS}
    return Arm(name, f"{kind}_like_13m", variant, multiple, published)


_GROUPS = {1: 57.1, 2: 56.8, 3: 55.0, 4: 54.2, 8: 52.7}

ABLATIONS = {
    "shuffle": Ablation(
        "Does the channel shuffle help?",
        "V1 Table 3, 0.25x",
        (
            _v1("g=3, shuffle", 3, 55.0),
            _v1("g=3, none", 3, 56.3, shuffle=False),
            _v1("g=8, shuffle", 8, 52.7),
            _v1("g=8, none", 8, 56.5, shuffle=False),
        ),
        (("g=3, shuffle", "g=3, none"), ("g=8, shuffle", "g=8, none")),
        "g=8, shuffle",
        (96, 192, 384),
    ),
    "groups": Ablation(
        "Do more groups, and so wider layers, help?",
        "V1 Table 2, 0.25x",
        tuple(_v1(f"g={g}", g, error) for g, error in _GROUPS.items()),
        (("g=2", "g=1"), ("g=3", "g=2"), ("g=4", "g=3"), ("g=8", "g=4")),
        "g=8",
        (96, 192, 384),
    ),
    "units": Ablation(
        "Is the ShuffleNet unit better than others?",
        "V1 Table 4, 13 M; it has no VGG-like net there",
        (
            _other("VGG-like", "vgg", 1, None),
            _other("ResNet", "resnet", 4, 63.7),
            _v1("Xception-like", 1, 57.1),
            _other("ResNeXt", "resnext", 8, 65.2),
            _v1("ShuffleNet", 8, 52.7),
        ),
        tuple(
            ("ShuffleNet", other) for other in ("VGG-like", "ResNet", "Xception-like", "ResNeXt")
        ),
        "ShuffleNet",
        (96, 192, 384),
    ),
    "v1-v2": Ablation(
        "Is V2 better than V1?",
        "V2 Table 8, 0.5x",
        (
            Arm("V2", "shufflenet_v2_x0_5", {}, published=39.7),
            _v1("V1, g=3", 3, 43.2),
        ),
        (("V2", "V1, g=3"),),
        "V2",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Solved:
    """An arm with its widths.

    Attributes
    ----------
    arm : Arm
    variant : dict
        The arm's, and the widths.
    multiply_adds, params : int
        For one image.
    """

    arm: Arm
    variant: dict[str, Any]
    multiply_adds: int
    params: int

    def near(self, budget: int) -> bool:
        """Whether this may be compared with nets of so many multiply-adds."""
        return abs(self.multiply_adds / budget - 1) <= TOLERANCE

    @property
    def widths(self) -> str:
        """Channels of stages 2, 3 and 4."""
        return "-".join(map(str, self.variant.get("stage_channels", ["as registered"])))


def _count(arm: Arm, channels: Sequence[int], side: int, num_classes: int) -> Solved:
    """Count an arm with these channels in stages 2, 3 and 4."""
    from ..cost import profile

    variant = dict(arm.variant)
    if arm.multiple:
        variant["stage_channels"] = list(channels)
    net = models.create(arm.model, num_classes=num_classes, stem="cifar", **variant)
    total = profile(net, (1, side, side, 3)).total
    return Solved(arm, variant, total.multiply_adds, total.params)


def solve(arm: Arm, budget: int, side: int, num_classes: int) -> Solved:
    """Find the widths whose multiply-adds come nearest to a budget.

    Stages 3 and 4 are twice and four times as wide as stage 2, as in the papers, or as nearly as
    the groups let them.

    Parameters
    ----------
    arm : Arm
    budget : int
        Multiply-adds for one image.
    side, num_classes : int
        Of the images, and how many classes they have.

    Raises
    ------
    TinyshuffleError
        If no widths come within 5 % of the budget (a net with given widths: it does not).
    """
    if not arm.multiple:
        fixed = _count(arm, (), side, num_classes)
        if not fixed.near(budget):
            raise TinyshuffleError(
                f"{arm.name} has {fixed.multiply_adds:,} multiply-adds, whatever the --budget, and "
                f"cannot be compared at {budget:,}: leave --budget out"
            )
        return fixed

    @cache
    def count(*stages: int) -> Solved:
        return _count(arm, [arm.multiple * stage for stage in stages], side, num_classes)

    # Widths in multiples. V1's stage 2 must be wider than the stem, which its first unit passes on.
    v1 = arm.model.startswith("shufflenet_v1")
    first = STEM_CHANNELS // arm.multiple + 1 if v1 else 1

    def adds(units: int) -> int:
        return count(units, 2 * units, 4 * units).multiply_adds

    enough = first
    while adds(enough) < budget:
        enough *= 2
    last = 4 * (first + bisect_left(range(first, enough), budget, key=adds))
    candidates = [
        count(second, third, fourth)
        for fourth in range(max(4 * first, last - 4), last + 1)
        for second in {fourth // 4, -(-fourth // 4)}
        for third in {fourth // 2, -(-fourth // 2)}
        if second < third
    ]
    best = min(candidates, key=lambda solved: abs(solved.multiply_adds - budget))
    if not best.near(budget):
        raise TinyshuffleError(
            f"no widths of {arm.name} (multiples of {arm.multiple}) come within "
            f"{TOLERANCE:.0%} of {budget:,} multiply-adds (the nearest has "
            f"{best.multiply_adds:,}): give another --budget"
        )
    return best


@dataclass(frozen=True)
class Verdict:
    """Whether one of the paper's comparisons holds here."""

    better: str
    worse: str
    difference: float
    error: float
    freedom: float

    @property
    def word(self) -> str:
        """``holds``, ``does not hold``, or ``is not settled``: chance alone may do as much."""
        limit = T_95[min(max(1, int(self.freedom)), len(T_95)) - 1] * self.error
        if not abs(self.difference) > limit:  # also if one seed leaves it unknown
            return "is not settled"
        return "holds" if self.difference > 0 else "does not hold"

    def __str__(self) -> str:
        spread = "unknown" if math.isnan(self.error) else f"{100 * self.error:.2f}"
        return (
            f"{self.better} better than {self.worse}: {self.word} "
            f"(by {100 * self.difference:+.2f} points, standard error {spread})"
        )


@dataclass(frozen=True)
class Report:
    """What an ablation found.

    Attributes
    ----------
    ablation : Ablation
    config : Config
        What all trainings have in common.
    arms : list of Solved
    accuracies : dict
        Test accuracy after the last epoch, 0 to 1, of every seed, by name of the arm.
    """

    ablation: Ablation
    config: Config
    arms: list[Solved]
    accuracies: dict[str, list[float]]

    @property
    def verdicts(self) -> list[Verdict]:
        """One for each of the paper's comparisons."""
        found = []
        for better, worse in self.ablation.order:
            a, b = self.accuracies[better], self.accuracies[worse]
            difference = statistics.mean(a) - statistics.mean(b)
            error, freedom = math.nan, 1.0
            if min(len(a), len(b)) > 1:
                # Welch (1947): each mean with the spread of its own seeds
                u, v = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
                error = math.sqrt(u + v)
                if error > 0:
                    freedom = error**4 / (u * u / (len(a) - 1) + v * v / (len(b) - 1))
            found.append(Verdict(better, worse, difference, error, freedom))
        return found

    @property
    def verdict(self) -> str:
        """One sentence."""
        words = [v.word for v in self.verdicts]
        if all(word == "holds" for word in words):
            return "The paper's order holds here."
        if "does not hold" in words:
            return "The paper's order does not hold here."
        return "The paper's order is not settled by these runs."

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and a line an arm."""
        headings = ["net", "stages", "mult-adds", "params", "seeds", "accuracy", "std", "lowest",
                    "highest"]  # fmt: skip
        lines = []
        for solved in self.arms:
            found = self.accuracies[solved.arm.name]
            std = f"{100 * statistics.stdev(found):.2f}" if len(found) > 1 else "-"
            lines.append([
                solved.arm.name,
                solved.widths,
                f"{solved.multiply_adds:,}",
                f"{solved.params:,}",
                str(len(found)),
                f"{100 * statistics.mean(found):.2f} %",
                std,
                f"{100 * min(found):.2f}",
                f"{100 * max(found):.2f}",
            ])
        return headings, lines

    def to_markdown(self) -> str:
        """Return the question, the table and the verdict."""
        headings, lines = self.table()
        body = [headings, ["---", *["---:"] * (len(headings) - 1)], *lines]
        config = self.config
        return "\n".join([
            f"## {self.ablation.title}",
            "",
            f"{config.data}, {plural(config.epochs, 'epoch')}, test accuracy after the last one.",
            "",
            *("| " + " | ".join(cells) + " |" for cells in body),
            "",
            f"{self.verdict}",
            "",
            *(f"- {verdict}" for verdict in self.verdicts),
            "",
            self.published,
            "",
        ])

    @property
    def published(self) -> str:
        """One sentence: what the paper prints of these nets."""
        arms = (solved.arm for solved in self.arms)
        errors = [f"{a.name} {a.published} %" for a in arms if a.published is not None]
        return (
            f"{PUBLISHED} ({self.ablation.source}), another data set and other training, for the "
            f"order only: top-1 error on ImageNet of {', '.join(errors)}."
        )

    def to_csv(self) -> str:
        """Return a line a run."""
        rows: list[list[Any]] = [
            ["net", "stages", "multiply_adds", "params", "seed", "test_accuracy"]
        ]
        rows += [
            [s.arm.name, s.widths, s.multiply_adds, s.params, seed, accuracy]
            for s in self.arms
            for seed, accuracy in enumerate(self.accuracies[s.arm.name])
        ]
        return csv_text(rows)


@flags
def ablate(
    name: str,
    config: Config,
    seeds: int = 3,
    runs_dir: str | Path = "runs",
    budget: int | None = None,
    jobs: int | None = None,
    quiet: bool = False,
) -> Report:
    """Train a comparison, or what is missing of it, and report.

    The trainings run side by side through joblib. In a ``with joblib.parallel_config("dask"):``
    they run where its workers are; these must see ``runs_dir`` and the data under the same paths.

    Parameters
    ----------
    name : str
        One of :data:`ABLATIONS`.
    config : Config
        Of all trainings; each has its own model, variant and seed. ``threads`` are those of all
        trainings that run at a time.
    seeds : int
        How many: 0, 1, 2, …
    runs_dir : path
        The runs go to ``runs_dir/ablate-NAME``, and so do ``report.md``, ``report.csv`` and
        ``report.png``.
    budget : int, optional
        Multiply-adds for one image; by default those of the smallest net that shows it.
    jobs : int, optional
        Trainings at a time; by default as many as there are threads.
    quiet : bool
        Print nothing.

    Raises
    ------
    TinyshuffleError
        If something cannot be, or a run is there already that was trained in another way.
    """
    if name not in ABLATIONS:
        raise TinyshuffleError(
            f"there is no ablation {name!r}: choose from {', '.join(ABLATIONS)}"
        )
    for option, value in {"seeds": seeds, "jobs": jobs, "budget": budget}.items():
        if value is not None and value < 1:
            raise TinyshuffleError(f"--{option} {value} was given: it must be 1 or more")
    for option, value, most in (("seeds", seeds, MOST_SEEDS), ("budget", budget, MOST_BUDGET)):
        if value is not None and value > most:
            raise TinyshuffleError(f"--{option} {value} was given: it must be at most {most:,}")
    if config.time_budget is not None:
        raise TinyshuffleError(
            "a time budget would train each net for another number of epochs: give --epochs"
        )
    if config.early_stop:
        raise TinyshuffleError(
            "an early stop would train each net for another number of epochs: take a recipe "
            "without early_stop"
        )
    ablation = ABLATIONS[name]
    train_set, _ = data.load(config.data, root=config.data_dir)  # before many do so at once
    shape = train_set.images.shape[1], len(train_set.classes)
    if budget is None:
        (largest,) = (arm for arm in ablation.arms if arm.name == ablation.budget)
        budget = _count(largest, ablation.smallest, *shape).multiply_adds
    arms = [solve(arm, budget, *shape) for arm in ablation.arms]

    folder = Path(runs_dir) / f"ablate-{name}"
    jobs = min(jobs or config.threads, seeds * len(arms))
    share = replace(config, threads=max(1, config.threads // jobs))
    runs = {
        (solved.arm.name, seed): (
            folder / f"{_slug(solved.arm.name)}-seed{seed}",
            replace(share, model=solved.arm.model, variant=solved.variant, seed=seed),
        )
        for seed in range(seeds)  # seed by seed, so that an early look has all arms
        for solved in arms
    }
    for run, wanted in runs.values():
        _check_same(run, wanted)
    _run_all(list(runs.values()), jobs, quiet)
    accuracies = {
        solved.arm.name: [
            _accuracy(*runs[solved.arm.name, seed]) for seed in range(seeds)
        ]
        for solved in arms
    }
    report = Report(ablation, config, arms, accuracies)
    _write(report, folder)
    return report


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).replace("--", "-")


def _rows(run: Path) -> list[dict[str, Any]]:
    try:
        lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if not all(isinstance(row["test_accuracy"], float) for row in rows):
            raise ValueError("an accuracy is no number")
        return rows
    except OSError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if any(run.glob("*.npz")):
            return []  # the log is written again from the checkpoint
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is damaged ({error}), and there is no checkpoint to write it "
            "from: delete the directory, and the run is trained again"
        ) from error


def _accuracy(run: Path, config: Config) -> float:
    rows = _rows(run)
    if len(rows) < config.epochs:
        raise TinyshuffleError(
            f"{run / 'log.jsonl'} is not complete: make room or mend the permissions, and give the "
            "same command again"
        )
    return float(rows[-1]["test_accuracy"])


def _check_same(run: Path, wanted: Config) -> None:
    """Refuse a run that is there already and was trained in another way."""
    try:
        found = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(found, dict):
        raise TinyshuffleError(
            f"{run / 'config.json'} is no configuration: choose another --runs-dir, or delete {run}"
        )
    for field, value in wanted.to_dict().items():
        if field not in ("threads", "data_dir") and found.get(field) != value:
            raise TinyshuffleError(
                f"{run} belongs to another ablation ({field} is {found.get(field)}, not {value}): "
                "choose another --runs-dir, or delete it"
            )


def _run_all(runs: list[tuple[Path, Config]], jobs: int, quiet: bool) -> None:
    from joblib import Parallel, delayed

    failures = []
    try:
        with outlive_terminal(), sigterm_as_interrupt(), _watched(runs, quiet):
            for end in Parallel(n_jobs=jobs, return_as="generator")(
                delayed(_run_one)(str(run), config.to_dict()) for run, config in runs
            ):
                if end == "stopped":  # in this process, or all of them were
                    raise KeyboardInterrupt
                failures += [end] if end else []
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command continues", signal.SIGINT) from None
    if failures:
        raise TinyshuffleError(f"{failures[0]} ({len(failures)} of {plural(len(runs), 'run')})")


def _run_one(run: str, fields: dict[str, Any]) -> str:
    """Train a run, or the rest of it; return why it could not be, or nothing."""
    path, config = Path(run), Config.from_dict(fields)
    rows = _rows(path)
    try:
        with warnings.catch_warnings():
            # said once, by the process that began this one
            warnings.filterwarnings("ignore", ".* is whole, but its", UserWarning)
            if any(path.glob("*.npz")):
                resume(path, quiet=True, threads=config.threads, data_dir=config.data_dir)
            elif len(rows) == config.epochs:
                pass  # finished, and somebody made room
            elif rows:
                return (
                    f"{path} has a log and no checkpoint: delete it, or choose another --runs-dir"
                )
            else:
                shutil.rmtree(path, ignore_errors=True)  # killed before its first checkpoint
                train(config, path.name, path.parent, quiet=True)
    except Interrupted:
        return "stopped"
    except TinyshuffleError as error:
        return str(error)
    return ""


@contextmanager
def _watched(runs: list[tuple[Path, Config]], quiet: bool) -> Iterator[None]:
    """Show how many epochs of all runs are done, by looking into their logs."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    def done() -> int:
        return sum(len(_rows(run)) for run, _ in runs)

    console = plain_console(file=output(), quiet=quiet, soft_wrap=True)
    total = sum(config.epochs for _, config in runs)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
        speed_estimate_period=1e9,  # epochs are long, and of unlike length
    )
    task = bar.add_task("", total=total, completed=done())
    ended = {run for run, config in runs if len(_rows(run)) == config.epochs}
    console.print(f"{plural(len(runs), 'training')}, {len(ended)} done before")
    stop = threading.Event()

    def look() -> None:
        for run, config in runs:
            rows = _rows(run)
            if run not in ended and len(rows) == config.epochs:
                ended.add(run)
                console.print(f"{run.name}: {100 * rows[-1]['test_accuracy']:.2f} %")
        text = f"{len(ended)}/{plural(len(runs), 'training')}"
        bar.update(task, completed=done(), description=text)

    def watch() -> None:
        while not stop.wait(1.0):
            look()

    with bar:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look()


def _write(report: Report, folder: Path) -> None:
    from .. import plots

    for name, text in (("report.md", report.to_markdown()), ("report.csv", report.to_csv())):
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    with atomic_write(folder / "report.png") as file:
        plots.ablation(report).savefig(file, format="png")
    with atomic_write(folder / "config.json") as file:
        file.write((json.dumps(report.config.to_dict(), indent=2) + "\n").encode())
