"""The command ``ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..train.config import Config
from .group import (
    DATA_DIR,
    PATH,
    RUNS_DIR,
    THREADS,
    WHOLE,
    cli,
    positive,
    print_table,
    say,
)
from .sweep import DASK, JOBS, RAY, cluster


@cli.command(short_help="Train a paper's comparison.")
@click.argument("name", metavar="NAME")
@click.option("--seeds", metavar="N", type=WHOLE, default=3, help="[default: 3]")
@click.option("--budget", metavar="N", type=WHOLE, help="Multiply-adds of each net.")
@click.option(
    "--recipe",
    metavar="NAME",
    type=PATH,
    default="coffee",
    help="How to train.  [default: coffee]",
)
@click.option("--epochs", metavar="N", type=WHOLE, help="Instead of the recipe's.")
@click.option("--data", metavar="NAME", help="Instead of the recipe's.")
@DATA_DIR
@JOBS
@THREADS
@DASK
@RAY
@RUNS_DIR
def ablate(
    name: str,
    seeds: int,
    budget: int | None,
    recipe: str,
    jobs: int | None,
    dask: str | None,
    ray: str | None,
    runs_dir: str,
    **options: Any,
) -> None:
    """Train nets of equal multiply-adds that differ in one thing, and report which is better.

    NAME is one of shuffle, groups, units, v1-v2, nets, se, shallow, thin, residual, downsample,
    activation, pooling, aux, degradation. The widths are solved for. Of the recipe, model, variant
    and seed are left out, as each net has its own. RUNS_DIR/ablate-NAME receives a run for each
    net and seed, and report.md, report.csv and report.png. Begun again, it continues where it was
    stopped.
    """
    from .. import train as training

    positive("--threads", options["threads"], 4096)
    given = {option: value for option, value in options.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).absolute())
    config = Config.make(recipe, **given)
    with cluster(dask, ray):
        report = training.ablate(name, config, seeds, Path(runs_dir).absolute(), budget, jobs)
    print_table(*report.table())
    for verdict in report.verdicts:
        say(str(verdict))
    say(report.verdict)
    say(report.published)
