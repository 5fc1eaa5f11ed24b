"""The papers' comparison of backbones for detection (V1 and V2, Table 7), trained on scenes.

All backbones have as many multiply-adds as V2 0.5x: their widths are solved for with the cost
model. All make a map of stride 8. Each is trained twice with each seed, from random weights and
from what a training on shapes has left. One training follows the other, so that their seconds can
be compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import normalise, scenes
from ..errors import TinyshuffleError
from ..files import write_figure, write_json, write_text
from ..text import bar, console, csv_text, markdown_table
from ..train.ablation import PUBLISHED, Arm, Solved, solve
from ..train.ablation.catalogue import STEM_CHANNELS
from ..train.ablation.widths import arm_called, count
from ..train.config import Config
from ..train.paired import Paired, order, paired, standard_error
from ..train.trainings import (
    Kind,
    Settings,
    check_count,
    check_same,
    measured,
    read_rows,
    train_all,
)
from ..values import flags
from ..words import hundredths, plural
from . import trainer
from .average_precision import percent
from .backbone import backbone
from .config import SCENES, DetectConfig
from .cost import detector_cost
from .detector import Body
from .receptive import half_width, receptive_field
from .saved import TrainedDetector, load_detector

__all__ = ["ARMS", "BEGINNINGS", "ORDER", "Comparison", "Outcome", "compare"]

ARMS = (
    Arm("V2*", "shufflenet_v2_star_x0_5", {}, 2),
    Arm("V2", "shufflenet_v2_x0_5", {}, 2),
    Arm("Xception-like", "shufflenet_v1_x0_25_g1", {"stem_channels": STEM_CHANNELS}, 4),
    Arm("V1, g=3", "shufflenet_v1_x0_25_g3", {"stem_channels": STEM_CHANNELS}, 12),
    Arm("MobileNet V2", "mobilenet_v2", {}, multiplier=True),
    # its own last stride would leave a quarter of the pixels that the others' maps have
    Arm("MobileNet V1", "mobilenet_v1_x1_0", {"last_stride": 1}, multiplier=True),
)  # fmt: skip
"""In the order of V2's Table 7 at 40 M; MobileNet V1 is in V1's Table 7 only."""

BUDGET = "V2"
SMALLEST = (48, 96, 192)  # its stages: 0.5x

ORDER = (
    ("V2", "V1, g=3", "V2 Table 7, 40 M", 22.5, 20.9),
    ("V2*", "V2", "V2 Table 7, 40 M", 23.7, 22.5),
    ("V2", "Xception-like", "V2 Table 7, 40 M", 22.5, 21.9),
    ("V2", "MobileNet V2", "V2 Table 7, 40 M", 22.5, 20.7),
    ("V1, g=3", "MobileNet V1", "V1 Table 7, 300 pixels, 2x beside 1.0", 18.7, 16.4),
)
"""In the papers the first is better: where, and both mmAPs on COCO in per cent."""

BEGINNINGS = ("from nothing", "from shapes")

LOOKED = 128  # pictures over which the receptive field is a mean

MOST_SEEDS = 1000


def _begin(run: Path, fields: dict[str, Any]) -> None:
    trainer.train(DetectConfig.from_dict(fields), run.name, run.parent, quiet=True)


def _go_on(run: Path, fields: dict[str, Any]) -> None:
    trainer.resume(run, quiet=True, threads=fields["threads"])


DETECTOR = Kind("map", trainer.PICTURES[-1], _begin, _go_on)


@dataclass(frozen=True)
class Outcome:
    """What one backbone came to from one beginning.

    Attributes
    ----------
    solved : Solved
    beginning : str
        One of :data:`BEGINNINGS`.
    detector : int
        Multiply-adds of the whole detector for a picture.
    rows : list of dict
        The last row of each seed's log.
    step : list of float
        Seconds of a step, each seed's.
    widths : list of float
        Of the effective receptive field, in pixels, each seed's.
    field : float64 (side, side)
        Mean of the seeds' squared gradients.
    """

    solved: Solved
    beginning: str
    detector: int
    rows: list[dict[str, Any]]
    step: list[float]
    widths: list[float]
    field: np.ndarray

    @property
    def name(self) -> str:
        return self.solved.arm.name

    def by_seed(self, column: str) -> dict[int, float]:
        """A number of the log by seed; ``width`` is the receptive field's."""
        values = self.widths if column == "width" else [row[column] for row in self.rows]
        return dict(enumerate(values))

    def mean(self, column: str) -> float:
        """Mean over the seeds; -1 if none of their test sets has such an object."""
        known = [value for value in self.by_seed(column).values() if value >= 0]
        return statistics.mean(known) if known else -1.0

    @property
    def error(self) -> float:
        """The standard error of the mean mmAP; NaN of one seed."""
        return standard_error(list(self.by_seed("map").values()))


@dataclass(frozen=True)
class Comparison:
    """What the comparison found."""

    config: DetectConfig
    outcomes: list[Outcome]

    def of(self, name: str, beginning: str) -> Outcome:
        """One outcome."""
        return next(o for o in self.outcomes if (o.name, o.beginning) == (name, beginning))

    def against(self, better: str, worse: str, beginning: str, column: str = "map") -> Paired:
        """Compare two backbones by the runs of the same seed, which see the same scenes."""
        one, other = (self.of(name, beginning).by_seed(column) for name in (better, worse))
        return paired(one, other)

    @property
    def verdicts(self) -> list[str]:
        """A sentence for each of the papers' comparisons and each beginning."""
        return [
            f"{better} better than {worse}, {beginning}: {found.word} "
            f"(by {100 * found.difference:+.2f} points, standard error "
            f"{hundredths(100 * found.error)})"
            for better, worse, *_ in ORDER
            for beginning in BEGINNINGS
            for found in [self.against(better, worse, beginning)]
        ]

    @property
    def reach(self) -> list[str]:
        """Whether V2* looks further than V2, a sentence for each beginning."""
        return [
            f"V2* looks further than V2, {beginning}: {found.word} "
            f"(by {found.difference:+.2f} pixels, standard error {hundredths(found.error)})"
            for beginning in BEGINNINGS
            for found in [self.against("V2*", "V2", beginning, "width")]
        ]

    @property
    def verdict(self) -> str:
        """One sentence."""
        return order("The papers'", (
            self.against(better, worse, beginning)
            for better, worse, *_ in ORDER for beginning in BEGINNINGS
        ))  # fmt: skip

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and a line for each backbone and beginning."""
        headings = ["backbone", "begins", "stages", "mult-adds", "with the detector", "seeds",
                    "mmAP", "std error", "AP50", "small", "s/step", "half-width"]  # fmt: skip
        lines = [
            [
                o.name, o.beginning, o.solved.widths, f"{o.solved.multiply_adds:,}",
                f"{o.detector:,}", str(len(o.rows)), percent(o.mean("map"), 2),
                hundredths(100 * o.error), percent(o.mean("map50"), 2),
                percent(o.mean("map_small"), 2), f"{statistics.median(o.step):.3f}",
                f"{o.mean('width'):.1f}",
            ]
            for o in self.outcomes
        ]  # fmt: skip
        return headings, lines

    @property
    def published(self) -> str:
        """One sentence: what the papers print."""
        figures = "; ".join(
            f"{better} {one}, {worse} {other} ({source})"
            for better, worse, source, one, other in ORDER
        )
        return (
            f"{PUBLISHED} (V1 and V2, Table 7), MS COCO and other training, for the order only: "
            f"mmAP in per cent of {figures}."
        )

    def to_markdown(self) -> str:
        """Return the question, the table and the verdicts."""
        config = self.config
        return "\n".join([
            "## Which backbone is the best for detection?",
            "",
            f"{config.detector} on {config.data}, {config.pictures:,} pictures of "
            f"{config.side}x{config.side} and {plural(config.epochs, 'epoch')}; mmAP, AP50 and "
            "small objects' mmAP of the test set after the last one, in per cent. Half-width is "
            "the side, in pixels, of the square that holds half of the squared gradient of an "
            "output in the middle of the backbone's map. Differences are paired by seed.",
            "",
            *markdown_table(*self.table(), words=2),
            "",
            self.verdict,
            "",
            *(f"- {sentence}" for sentence in [*self.verdicts, *self.reach]),
            "",
            self.published,
            "",
        ])  # fmt: skip

    def to_csv(self) -> str:
        """Return a line a run."""
        rows: list[list[Any]] = [[
            "backbone", "begins", "stages", "multiply_adds", "detector_multiply_adds", "seed",
            "map", "map50", "map_small", "step_seconds", "half_width",
        ]]  # fmt: skip
        rows += [
            [o.name, o.beginning, o.solved.widths, o.solved.multiply_adds, o.detector, seed,
             row["map"], row["map50"], row["map_small"], round(o.step[seed], 5),
             round(o.widths[seed], 3)]
            for o in self.outcomes
            for seed, row in enumerate(o.rows)
        ]  # fmt: skip
        return csv_text(rows)


def _trunk(model: str, num_classes: int, stem: str, **variant: Any) -> nn.Module:
    """What is counted: the backbone, which has no classes, as a part of something."""
    return nn.Sequential(backbone(model, stem, **variant))


@flags
def compare(
    config: DetectConfig,
    first: Config,
    seeds: int = 3,
    runs_dir: str | Path = "runs",
    quiet: bool = False,
) -> Comparison:
    """Train what is missing of the comparison, and report.

    Parameters
    ----------
    config : DetectConfig
        Of all trainings of detectors, on scenes; each has its own backbone, beginning and seed.
    first : Config
        Of the trainings of the backbones as classifiers.
    seeds : int
        How many: 0, 1, 2, …
    runs_dir : path
        The runs go to ``runs_dir/detect-compare``, and so do ``report.md``, ``report.csv``,
        ``report.png`` and ``receptive.png``.
    quiet : bool
        Print nothing.

    Raises
    ------
    TinyshuffleError
        If something cannot be, a run is there already that was trained in another way, or one
        fails.
    Interrupted
        After Ctrl-C or SIGTERM; the same call continues.
    """
    check_count("seeds", seeds, MOST_SEEDS)
    if config.data != SCENES:
        raise TinyshuffleError(f"data={config.data} was given: the comparison is of scenes")
    if config.stem != "cifar":
        raise TinyshuffleError(
            f"side={config.side} was given: the comparison is of pictures below 160 pixels"
        )
    budget = count(arm_called(BUDGET, ARMS), SMALLEST, config.side, 1, _trunk).multiply_adds
    arms = [solve(arm, budget, config.side, 1, _trunk) for arm in ARMS]

    folder = Path(runs_dir).absolute() / "detect-compare"
    classifiers: dict[tuple[str, int], tuple[Path, Config]] = {}
    detectors: dict[tuple[str, str, int], tuple[Path, DetectConfig]] = {}
    for seed in range(seeds):  # seed by seed, so that an early look has all backbones
        for solved in arms:
            net: dict[str, Any] = {
                "model": solved.arm.model, "variant": solved.variant, "seed": seed,
            }  # fmt: skip
            path = folder / f"{_slug(solved.arm.name)}-shapes-seed{seed}"
            classifiers[solved.arm.name, seed] = path, replace(first, **net)
            for beginning in BEGINNINGS:
                init = str(path) if beginning == "from shapes" else None
                detectors[solved.arm.name, beginning, seed] = (
                    folder / f"{_slug(solved.arm.name)}-{_slug(beginning)}-seed{seed}",
                    replace(config, init=init, **net),
                )
    everything: list[tuple[Path, Settings]] = [*classifiers.values(), *detectors.values()]
    for run, wanted in everything:
        check_same(run, wanted, "comparison")
    failures = train_all(list(classifiers.values()), 1, quiet)
    if not failures:
        failures = train_all(list(detectors.values()), 1, quiet, DETECTOR)
    if failures:
        why = next(iter(failures.values()))
        raise TinyshuffleError(f"{why} ({len(failures)} of {plural(len(everything), 'run')})")
    outcomes = []
    with bar(console(stderr=True, quiet=quiet)) as progress:
        both = [(solved, beginning) for solved in arms for beginning in BEGINNINGS]
        for solved, beginning in progress.track(both, description="where they look"):
            name = solved.arm.name
            runs = [detectors[name, beginning, seed] for seed in range(seeds)]
            outcomes.append(_outcome(solved, beginning, runs))
    found = Comparison(config, outcomes)
    _write(found, folder)
    return found


def _outcome(
    solved: Solved, beginning: str, runs: Sequence[tuple[Path, DetectConfig]]
) -> Outcome:
    last, step, fields, whole = [], [], [], 0
    for run, config in runs:
        rows = read_rows(run, DETECTOR.measure)
        last.append(measured(run, config, DETECTOR))
        # the epoch in the middle, so that one in which the machine was busy does not count
        step.append(config.batch_size / statistics.median(r["images_per_second"] for r in rows))
        trained = load_detector(run)
        fields.append(_field(trained))
        whole = detector_cost(trained.net).total.multiply_adds
    widths = [half_width(field) for field in fields]
    return Outcome(solved, beginning, whole, last, step, widths, np.mean(fields, axis=0))


def _field(trained: TrainedDetector) -> np.ndarray:
    """The receptive field of a run's backbone, over pictures like those of its test set."""
    body = trained.net.body.net
    assert isinstance(body, Body)
    images, _, _ = scenes.draw(LOOKED, [trained.config.seed, 2], trained.net.side)
    return receptive_field(body.backbone, normalise(images, trained.mean, trained.std))


def _slug(name: str) -> str:
    name = name.replace("*", " star")
    words = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(words.split())


def _write(found: Comparison, folder: Path) -> None:
    from .. import plots

    for name, text in (("report.md", found.to_markdown()), ("report.csv", found.to_csv())):
        write_text(folder / name, text)
    by_name: Mapping[str, Outcome] = {f"{o.name}, {o.beginning}": o for o in found.outcomes}
    figures = {
        "report.png": plots.ablation(
            "Which backbone is the best for detection?",
            {name: list(o.by_seed("map").values()) for name, o in by_name.items()},
            found.config.data, "mmAP",
        ),
        "receptive.png": plots.receptive_fields(
            {name: o.field for name, o in by_name.items()},
            {name: half_width(o.field) for name, o in by_name.items()},
            4,
        ),
    }  # fmt: skip
    for name, figure in figures.items():
        write_figure(folder / name, figure)
    write_json(folder / "config.json", found.config.to_dict())
