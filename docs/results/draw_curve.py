"""Draw accuracy against minutes for tinyshuffle's and PyTorch's runs of a recipe, from their logs.

    python docs/results/draw_curve.py curve.png --ours runs/a runs/b --torch runs/c runs/d

prints, too, what each side had at the minute when tinyshuffle's runs end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.files import atomic_write  # noqa: E402
from tinyshuffle.plots.style import COLOURS  # noqa: E402
from tinyshuffle.train.compare import RunLog, read_run  # noqa: E402

LOOKS: dict[str, dict[str, Any]] = {
    "tinyshuffle": {"color": COLOURS["blue"], "linestyle": "-", "marker": "s"},
    "PyTorch": {"color": COLOURS["orange"], "linestyle": "--", "marker": "o"},
}


def at(run: RunLog, seconds: float) -> float:
    """The accuracy of the last test that was done by then; 0 before the first one."""
    return max(
        (r["seconds"], r["test_accuracy"]) for r in [{"seconds": 0.0, "test_accuracy": 0.0},
        *run.tested] if r["seconds"] <= seconds
    )[1]  # fmt: skip


def summary(sides: dict[str, Sequence[RunLog]]) -> list[str]:
    """A line a side: the accuracies when tinyshuffle's slowest run ends, and at its own end."""
    end = max(run.rows[-1]["seconds"] for run in sides["tinyshuffle"])
    lines = []
    for side, runs in sides.items():
        then = [100 * at(run, end) for run in runs]
        last = [100 * run.tested[-1]["test_accuracy"] for run in runs]
        minutes = statistics.mean(run.rows[-1]["seconds"] for run in runs) / 60
        lines.append(
            f"{side}, {len(runs)} seeds: after {end / 60:.1f} min "
            f"{statistics.mean(then):.2f} % ({', '.join(f'{a:.2f}' for a in then)}); at its end, "
            f"{minutes:.1f} min, {statistics.mean(last):.2f} %"
        )
    return lines


def draw(sides: dict[str, Sequence[RunLog]]) -> Any:
    """A line a run; those of a side look alike, with colour, dashes and markers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), dpi=120)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for side, runs in sides.items():
        for i, run in enumerate(runs):
            minutes = [row["seconds"] / 60 for row in run.tested]
            accuracies = [100 * row["test_accuracy"] for row in run.tested]
            word = f"{side}, {len(runs)} seeds" if i == 0 else None
            axes.plot(minutes, accuracies, label=word, markersize=4, linewidth=1.5, **LOOKS[side])
    axes.set_xlabel("minutes, tests included")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figure


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("figure")
    parser.add_argument("--ours", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--torch", nargs="+", required=True, metavar="RUN")
    given = parser.parse_args()
    try:
        sides = {
            "tinyshuffle": [read_run(run) for run in given.ours],
            "PyTorch": [read_run(run) for run in given.torch],
        }
        with atomic_write(given.figure) as file:
            draw(sides).savefig(file, format=Path(given.figure).suffix.lstrip("."))
        print("\n".join(summary(sides)))
    except ts.TinyshuffleError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
