"""Draw accuracy against minutes for tinyshuffle's and PyTorch's runs of a recipe, from their logs.

    python docs/results/draw_curve.py NAME --ours runs/a runs/b --torch runs/c runs/d

writes docs/results/NAME: the figure, what each side had at the minute when tinyshuffle's runs
ended, and each run's log, configuration and machine. Then `python docs/results/publish.py` puts it
on the page. PyTorch's runs with other numbers of epochs are drawn apart. All runs are finished ones
of one recipe, on one machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.files import write_figure, write_json, write_text  # noqa: E402
from tinyshuffle.plots.style import COLOURS  # noqa: E402
from tinyshuffle.train.compare import RunLog, read_run  # noqa: E402
from tinyshuffle.words import plural  # noqa: E402

LOOKS: list[dict[str, Any]] = [
    {"color": COLOURS["blue"], "linestyle": "-", "marker": "s"},
    {"color": COLOURS["orange"], "linestyle": "--", "marker": "o"},
    {"color": COLOURS["vermilion"], "linestyle": ":", "marker": "^"},
]
"""Of tinyshuffle's runs, and of PyTorch's with the fewest and the second fewest epochs."""

Sides = dict[str, Sequence[RunLog]]


OWN = ("seed", "epochs", "warmup", "data_dir")
"""Fields in which the runs may differ; the warm-up only as the epochs do."""

CORES = ("processor", "cores", "threads")


def sides_of(ours: Sequence[RunLog], torch: Sequence[RunLog]) -> Sides:
    """The runs by what they are called in the figure, tinyshuffle's first.

    Raises
    ------
    TinyshuffleError
        If their times and accuracies would say nothing of the two sides: a run is not finished, is
        of another recipe, or was made on another machine.
    """
    for run in [*ours, *torch]:
        _check(run, ours[0])
    if len({_epochs(run) for run in ours}) > 1:
        raise ts.TinyshuffleError(
            "tinyshuffle's runs have several numbers of epochs: give runs of one"
        )
    if more := {run.config["seed"] for run in torch} - {run.config["seed"] for run in ours}:
        raise ts.TinyshuffleError(
            f"PyTorch has runs of seed {min(more)}, which tinyshuffle has not: both sides begin "
            "with the same weights, so give runs of the same seeds"
        )
    found: Sides = {f"tinyshuffle, {plural(_epochs(ours[0]), 'epoch')}": ours}
    for epochs in sorted({_epochs(run) for run in torch}):
        found[f"PyTorch, {plural(epochs, 'epoch')}"] = [
            run for run in torch if _epochs(run) == epochs
        ]
    if len(found) > len(LOOKS):
        raise ts.TinyshuffleError(
            f"PyTorch's runs have {len(found) - 1} numbers of epochs: give runs of "
            f"{len(LOOKS) - 1} at most"
        )
    return found


def _epochs(run: RunLog) -> int:
    return int(run.config["epochs"])


def _check(run: RunLog, first: RunLog) -> None:
    """Refuse a run that cannot be drawn beside the first one."""
    if run.config.get("time_budget") is not None or run.config.get("early_stop"):
        raise ts.TinyshuffleError(
            f"{run.folder} has a time budget or an early stop: give runs of given epochs"
        )
    if run.rows[-1] != run.tested[-1] or not run.finished:
        raise ts.TinyshuffleError(
            f"{run.folder} is not finished, as it has {run.rows[-1]['epoch']} of "
            f"{plural(_epochs(run), 'epoch')}: continue it, or leave it out"
        )
    mine, other = _recipe(run), _recipe(first)
    if differ := [name for name in {**mine, **other} if mine.get(name) != other.get(name)]:
        raise ts.TinyshuffleError(
            f"{run.folder} and {first.folder} differ in {', '.join(differ)}: give runs of one "
            "recipe, with the same tests"
        )
    if _cores(run) != _cores(first):
        raise ts.TinyshuffleError(
            f"{run.folder} and {first.folder} were made on other machines, or with other threads: "
            "their times cannot be compared, so give runs of one machine"
        )


def _recipe(run: RunLog) -> dict[str, Any]:
    """What is the same for all of the runs; a field that is not set is none."""
    fields = {k: v for k, v in run.config.items() if k not in OWN and v is not None}
    fields["test_every"] = fields.get("test_every", 1)
    if run.config.get("warmup") is not None:
        fields["warmup"] = round(run.config["warmup"] / _epochs(run), 9)
    return fields


def _cores(run: RunLog) -> tuple[Any, ...]:
    """What a run was made on."""
    try:
        machines = json.loads((run.folder / "machine.json").read_text(encoding="utf-8"))
        (cores,) = {tuple(machine[name] for name in CORES) for machine in machines}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ts.TinyshuffleError(
            f"{run.folder} has no machine.json that names one machine with its threads: give runs "
            "that were made on one machine from their start to their end"
        ) from error
    return cores


def at(run: RunLog, seconds: float) -> float:
    """The accuracy of the last test that was done by then; 0 before the first one."""
    return max(
        (r["seconds"], r["test_accuracy"]) for r in [{"seconds": 0.0, "test_accuracy": 0.0},
        *run.tested] if r["seconds"] <= seconds
    )[1]  # fmt: skip


def summary(sides: Sides) -> list[str]:
    """A line a side: the accuracies when tinyshuffle's slowest run ends, and at its own end."""
    end = max(run.rows[-1]["seconds"] for run in next(iter(sides.values())))
    lines = []
    for side, runs in sides.items():
        then = [100 * at(run, end) for run in runs]
        last = [100 * run.tested[-1]["test_accuracy"] for run in runs]
        minutes = statistics.mean(run.rows[-1]["seconds"] for run in runs) / 60
        lines.append(
            f"{side}, {plural(len(runs), 'seed')}: after {end / 60:.1f} min "
            f"{statistics.mean(then):.2f} % ({', '.join(f'{a:.2f}' for a in then)}); at its end, "
            f"{minutes:.1f} min, {statistics.mean(last):.2f} %"
        )
    return lines


def draw(sides: Sides) -> Any:
    """A line a run; those of a side look alike, with colour, dashes and markers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    measured = next(iter(sides.values()))[0].measured  # the same for all
    for (side, runs), looks in zip(sides.items(), LOOKS[: len(sides)], strict=True):
        for i, run in enumerate(runs):
            minutes = [row["seconds"] / 60 for row in run.tested]
            accuracies = [100 * row["test_accuracy"] for row in run.tested]
            word = f"{side}, {plural(len(runs), 'seed')}" if i == 0 else None
            axes.plot(minutes, accuracies, label=word, markersize=4, linewidth=1.5, **looks)
    axes.set_xlabel("minutes, tests included")
    axes.set_ylabel(f"{measured}, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figure


def write(name: str, sides: Sides, into: Path = HERE) -> None:
    """Write the figure, what it says in words, and what it was drawn from."""
    for side, runs in sides.items():
        seeds = [run.config["seed"] for run in runs]
        if len(set(seeds)) < len(seeds):
            raise ts.TinyshuffleError(f"{side}: two runs have the same seed; give each run once")
    target = into / name
    if target.exists():
        raise ts.TinyshuffleError(f"{target} exists already: delete it, or give another NAME")
    target.mkdir(parents=True)
    write_figure(target / "curve.png", draw(sides))
    write_text(target / "curve.md", "".join(f"- {line}\n" for line in summary(sides)))
    for side, runs in sides.items():
        start = f"{side.split(',')[0]}-{_epochs(runs[0])}-epochs".lower()
        for run in runs:
            mine = f"{start}-seed{run.config['seed']}"
            shutil.copy(run.folder / "log.csv", target / f"{mine}.csv")
            shutil.copy(run.folder / "machine.json", target / f"{mine}-machine.json")
        config = {**runs[0].config, "data_dir": None, "seed": None}
        write_json(target / f"{start}-config.json", config)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", help="of the result")
    parser.add_argument("--ours", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--torch", nargs="+", required=True, metavar="RUN")
    given = parser.parse_args()
    try:
        sides = sides_of(*([read_run(run) for run in side] for side in (given.ours, given.torch)))
        write(given.name, sides)
        print("\n".join(summary(sides)))
    except ts.TinyshuffleError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
