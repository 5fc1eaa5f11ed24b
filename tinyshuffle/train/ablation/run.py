"""Train a comparison, and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...errors import TinyshuffleError
from ...files import write_figure, write_json, write_text
from ...values import flags
from ...words import plural
from ..config import Config, load_data
from ..trainings import CLASSIFIER, MOST_JOBS, check_count, check_same, measured, train_all
from ..verify import check, check_ranks
from .catalogue import ABLATIONS
from .report import Report
from .widths import arm_called, count, solve

__all__ = ["ablate"]

MOST_SEEDS, MOST_BUDGET = 1000, 10**10
"""More would be years of training."""

OWN = "model", "variant", "seed", "threads"
"""Fields of which each training has its own."""


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
        trainings that run at a time. Multiply-adds are counted at the size of image that it ends
        with.
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
    check_count("seeds", seeds, MOST_SEEDS)
    check_count("jobs", jobs, MOST_JOBS)
    check_count("budget", budget, MOST_BUDGET)
    if config.time_budget is not None:
        raise TinyshuffleError(
            "a time budget would train each net for another number of epochs: give --epochs"
        )
    if config.early_stop:
        raise TinyshuffleError(
            "an early stop would train each net for another number of epochs: take a recipe "
            "without early_stop"
        )
    if config.stem not in (None, "cifar"):
        raise TinyshuffleError(
            f"stem={config.stem} was given, and the nets of an ablation have the one for small "
            "images: leave it out"
        )
    check_ranks(config)
    ablation = ABLATIONS[name]
    if budget is not None and not ablation.budget:
        raise TinyshuffleError(f"the nets of {name} are as they are: leave --budget out")
    train_set, _ = load_data(config)  # before many do so at once
    side = config.size(config.epochs - 1, config.epochs, train_set.images.shape[1])
    shape = side, len(train_set.classes)
    if not ablation.budget:
        arms = [count(arm, (), *shape) for arm in ablation.arms]
    else:
        if budget is None:
            largest = arm_called(ablation.budget, ablation.arms)
            budget = count(largest, ablation.smallest, *shape).multiply_adds
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
    for (_, seed), (run, wanted) in runs.items():
        if seed == 0:
            check(wanted)  # what one of the nets cannot be trained with, none is
        check_same(run, wanted, "ablation")
    if failures := list(train_all(list(runs.values()), jobs, quiet).values()):
        raise TinyshuffleError(f"{failures[0]} ({len(failures)} of {plural(len(runs), 'run')})")
    accuracies = {
        solved.arm.name: [
            measured(*runs[solved.arm.name, seed])[CLASSIFIER.measure] for seed in range(seeds)
        ]
        for solved in arms
    }
    report = Report(ablation, config, arms, accuracies)
    _write(report, folder)
    return report


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).replace("--", "-")


def _write(report: Report, folder: Path) -> None:
    from ... import plots

    for name, text in (("report.md", report.to_markdown()), ("report.csv", report.to_csv())):
        write_text(folder / name, text)
    config = report.config
    figure = plots.ablation(
        report.ablation.title, report.accuracies, config.data, config.measured
    )
    write_figure(folder / "report.png", figure)
    common = {k: v for k, v in config.to_dict().items() if k not in OWN}
    write_json(folder / "config.json", common)
