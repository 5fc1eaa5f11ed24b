"""The command ``compare``."""

from __future__ import annotations

from pathlib import Path

import click

from .group import FIGURE, PATH, RUNS_DIR, cli, find_run, print_table, save_figure


@cli.command(short_help="Put training runs side by side.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=PATH)
@click.option(
    "--plot", metavar="FILE", type=FIGURE, help="The figure.  [default: RUNS_DIR/compare.png]"
)
@RUNS_DIR
def compare(runs: tuple[str, ...], plot: str | None, runs_dir: str) -> None:
    """One table and one figure of several runs, finished or not.

    "over bare steps" is the time for data, logs, tests and checkpoints, as a part of the time for
    the training steps alone. Where runs of several settings have the same seeds and images, the
    settings are compared seed by seed: "worse" is what chance makes it once in twenty times.
    """
    from .. import plots
    from ..train import compare as comparison

    read = [comparison.read_run(find_run(run, runs_dir)) for run in runs]
    tables = [comparison.summary(read)]
    if len(read) > 1 and (different := comparison.differences(read))[1]:
        tables.append(different)
    if (settings := comparison.pairs(read))[1]:
        tables.append(settings)
    for table in tables:
        print_table(*table)
    names = [run.name for run in read]
    if len(set(names)) < len(names):  # of several ablations
        names = list(runs)
    measures = {run.measured for run in read}  # those of one figure may be of several images
    figure = plots.compare(
        {name: run.tested for name, run in zip(names, read, strict=True)},
        measures.pop() if len(measures) == 1 else "accuracy",
    )
    if plot is None:
        Path(runs_dir).mkdir(parents=True, exist_ok=True)
    save_figure(figure, plot or str(Path(runs_dir) / "compare.png"))
