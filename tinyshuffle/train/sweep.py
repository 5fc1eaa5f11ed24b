"""A sweep: the same recipe with several values of some fields, each with several seeds.

Every training is a run directory of its own (:mod:`tinyshuffle.train.trainings`), so a sweep that
was stopped continues where it was, and one with more values or seeds trains only what is new.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..files import write_figure, write_text
from ..text import csv_text, markdown_table, shown
from ..values import flags
from ..words import hundredths, plural
from .config import MUON_LR, Config, load_data
from .paired import paired, standard_error
from .record import is_counted
from .trainings import CLASSIFIER, MOST_JOBS, check_count, check_same, measured, train_all
from .verify import check_ranks

__all__ = ["Outcome", "Sweep", "read_over", "sweep"]

_ALIKE = {
    "seed": "give --seeds N for all",
    "threads": "give --threads for all",
    "data_dir": "give --data-dir for all",
    "validate": "give --validate for all",
    "backend": "write one into the recipe for all",
    "strict": "write it into the recipe for all",
    "sync_bn": "leave it out, as it has no effect without ranks (train --mpi)",
}
"""Fields of which all values come to the same net, but for rounding; and what to do."""

_UNSET = {
    "alternate": False, "whiten": False, "bias_lr": 1.0, "body_lr": 1.0, "muon_lr": MUON_LR,
    "stem": "cifar", "test_every": 1,
}  # fmt: skip
"""What fields that are not set come to."""

MOST_RUNS = 10_000
_LONGEST = 80  # characters of a directory's name


@dataclass(frozen=True)
class Outcome:
    """What one setting of the fields came to.

    Attributes
    ----------
    setting : str
        Such as ``lr=0.1, ema=0.98``.
    accuracies : dict
        Test accuracy after the last epoch, 0 to 1, by seed; of the runs that could be trained.
    """

    setting: str
    accuracies: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies.values()) if self.accuracies else math.nan

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN of fewer than two seeds."""
        return standard_error(list(self.accuracies.values()))


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    title, data : str
    outcomes : list of Outcome
    failures : dict
        By run: why it could not be trained.
    measured : str
        Of which images the accuracies are.
    """

    title: str
    data: str
    outcomes: list[Outcome]
    failures: dict[str, str]
    measured: str = "test accuracy"

    @property
    def best(self) -> Outcome:
        """The outcome with the highest mean, of those with the fewest trainings that failed.

        Or a setting of which the worst seeds diverge would be judged by the others.
        """
        most = max(len(o.accuracies) for o in self.outcomes)
        return max((o for o in self.outcomes if len(o.accuracies) == most), key=lambda o: o.mean)

    def against_best(self, outcome: Outcome) -> tuple[float, float, str]:
        """Return the difference of the best to an outcome, its standard error, and a verdict.

        Paired: the difference of the two runs with the same seed, which share the order of the
        images and, where the nets are alike, the first weights. The verdict is "worse" if the mean
        difference is larger than chance makes it once in twenty times (Student's t).
        """
        best = self.best
        if outcome is best:
            return 0.0, 0.0, "best"
        found = paired(best.accuracies, outcome.accuracies)
        worse = found.settled and found.difference > 0
        return found.difference, found.error, "worse" if worse else "is not settled"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and a line a setting."""
        headings = ["setting", "seeds", "accuracy", "std error", "behind the best", "std error",
                    "verdict"]  # fmt: skip
        lines = []
        for o in self.outcomes:
            if not o.accuracies:
                lines.append([o.setting, "0", "-", "-", "-", "-", "failed"])
                continue
            difference, error, verdict = self.against_best(o)
            lines.append([
                o.setting, str(len(o.accuracies)), f"{100 * o.mean:.2f} %",
                *(hundredths(100 * x) for x in (o.error, difference, error)), verdict,
            ])  # fmt: skip
        return headings, lines

    def to_markdown(self) -> str:
        """Return the table, and what failed."""
        return "\n".join([
            f"## {self.title}", "",
            f"{self.data}, {self.measured} after the last epoch; differences in points, paired "
            "by seed.", "",
            *markdown_table(*self.table()), "",
            *(f"- {run} failed: {why}" for run, why in self.failures.items()),
        ])  # fmt: skip

    def to_csv(self) -> str:
        """Return a line a run."""
        rows: list[list[Any]] = [["setting", "seed", "test_accuracy"]]
        rows += [[o.setting, seed, a] for o in self.outcomes for seed, a in o.accuracies.items()]
        return csv_text(rows)


def read_over(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return fields and their values from ``field=value,value``.

    Where a value holds a comma itself, ``;`` stands between values.

    >>> read_over(["lr=0.05,0.1", "sizes=16,24,32;32", "variant.se=true,false"])
    {'lr': ['0.05', '0.1'], 'sizes': ['16,24,32', '32'], 'variant.se': ['true', 'false']}
    """
    over: dict[str, list[str]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        found = [v.strip() for v in values.split(";" if ";" in values else ",")]
        if not name or not all(found):
            raise TinyshuffleError(
                f"{shown(text)} is no field with values: write it as --over lr=0.05,0.1"
            )
        if name in over:
            raise TinyshuffleError(f"--over {name} was given twice: give all its values at once")
        if len(set(found)) < len(found):
            raise TinyshuffleError(f"--over {shown(text)} has a value twice: leave one out")
        over[name] = found
    return over


@flags
def sweep(
    recipe: str | None,
    over: Mapping[str, Sequence[Any]],
    seeds: int = 3,
    runs_dir: str | Path = "runs",
    name: str | None = None,
    jobs: int | None = None,
    quiet: bool = False,
    **given: Any,
) -> Sweep:
    """Train a recipe with every combination of some fields' values, or what is missing of it.

    Parameters
    ----------
    recipe : str
        See :meth:`Config.make`.
    over : mapping of str to list
        Values by field; ``variant.se`` is an entry of the variant.
    seeds : int
        How many: 0, 1, 2, …
    runs_dir : path
        The runs go to ``runs_dir/sweep-NAME``, and so do ``report.md``, ``report.csv`` and
        ``report.png``.
    name : str
        By default the recipe's.
    jobs : int
        Trainings at a time; by default as many as there are threads.
    quiet : bool
        Print nothing.
    **given
        Fields for all trainings, in the place of the recipe's.

    Raises
    ------
    TinyshuffleError
        If a field cannot be, a run is there that was trained in another way, or all runs fail. A
        run that fails is listed, and the others go on.
    """
    if not over:
        raise TinyshuffleError("a sweep needs a field with values: give --over lr=0.05,0.1")
    for field in over:
        if field in _ALIKE:
            raise TinyshuffleError(
                f"--over {field} changes nothing that a sweep compares: {_ALIKE[field]}"
            )
    if "seed" in given:
        raise TinyshuffleError(
            f"seed={given['seed']} was given, and a sweep begins with 0, 1, 2, …: give how many "
            "seeds"
        )
    check_count("seeds", seeds)
    check_count("jobs", jobs, MOST_JOBS)
    settings = [
        dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())
    ]
    if seeds * len(settings) > MOST_RUNS:
        raise TinyshuffleError(
            f"{seeds * len(settings):,} trainings were asked for: a sweep has {MOST_RUNS:,} at most"
        )
    configs = [_config(recipe, setting, given) for setting in settings]
    _check_distinct(settings, configs)
    check_ranks(configs[0])
    of_each = {config.data: config for config in configs}
    for config in of_each.values():
        load_data(config)  # before many do so at once
    threads = configs[0].threads
    jobs = min(jobs or threads, seeds * len(settings))
    stem = name or (Path(recipe).stem if recipe else "train")
    folder = Path(runs_dir) / f"sweep-{stem}"
    runs = {
        (i, seed): (
            folder / f"{_slug(setting)}-seed{seed}",
            replace(config, threads=max(1, threads // jobs), seed=seed),
        )
        for seed in range(seeds)  # seed by seed, so that an early look has all settings
        for i, (setting, config) in enumerate(zip(settings, configs, strict=True))
    }
    for run, wanted in runs.values():
        check_same(run, wanted, "sweep")
    failed = train_all(list(runs.values()), jobs, quiet)
    outcomes = [
        Outcome(
            _words(setting),
            {
                seed: measured(*runs[i, seed])[CLASSIFIER.measure]
                for seed in range(seeds)
                if runs[i, seed][0] not in failed
            },
        )
        for i, setting in enumerate(settings)
    ]
    failures = {run.name: why for run, why in failed.items()}
    if not any(o.accuracies for o in outcomes):
        first = next(iter(failures.values()))
        raise TinyshuffleError(f"all {plural(len(runs), 'training')} failed, the first: {first}")
    title = f"{stem} over {', '.join(over)}"
    found = Sweep(title, ", ".join(of_each), outcomes, failures, configs[0].measured)
    _write(found, folder)
    return found


def _config(recipe: str | None, setting: dict[str, Any], given: dict[str, Any]) -> Config:
    """The configuration of one setting."""
    fields = {k: v for k, v in setting.items() if "." not in k}
    variant = {k.partition(".")[2]: v for k, v in setting.items() if k.startswith("variant.")}
    if unknown := [k for k in setting if "." in k and not k.startswith("variant.")]:
        raise TinyshuffleError(f"--over {unknown[0]} is no field: only variant has entries")
    config = Config.make(recipe, **{**given, **fields})
    if not variant:
        return config
    return Config.make(recipe, **{**given, **fields, "variant": {**config.variant, **variant}})


def _check_distinct(settings: list[dict[str, Any]], configs: list[Config]) -> None:
    """Refuse settings that are written in two ways and are one, as ``lr=0.1`` and ``lr=1e-1``.

    Or that differ in nothing but when the nets are tested, unless that decides when they end.
    """
    seen: dict[str, dict[str, Any]] = {}
    for setting, config in zip(settings, configs, strict=True):
        fields = {k: _UNSET.get(k) if v is None else v for k, v in config.to_dict().items()}
        if is_counted(fields):
            del fields["test_every"]
        what = json.dumps({**fields, "time_budget": config.seconds}, sort_keys=True)
        if what in seen:
            raise TinyshuffleError(
                f"{_words(seen[what])} and {_words(setting)} are the same training: leave one of "
                "them out"
            )
        seen[what] = setting


def _words(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _slug(setting: dict[str, Any]) -> str:
    """A setting as the name of a directory, which no other setting has."""
    words = _words(setting)
    text = "".join(c if c.isalnum() or c in "._" else "-" for c in words.replace(", ", "-"))
    plain = all(c.isalnum() or c in "._" for c in "".join(map(str, setting.values())))
    if plain and len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}-{zlib.crc32(words.encode()):08x}"


def _write(found: Sweep, folder: Path) -> None:
    from .. import plots

    for name, text in (("report.md", found.to_markdown()), ("report.csv", found.to_csv())):
        write_text(folder / name, text)
    trained = {o.setting: list(o.accuracies.values()) for o in found.outcomes if o.accuracies}
    figure = plots.ablation(found.title, trained, found.data, found.measured)
    write_figure(folder / "report.png", figure)
