"""The command ``ablate``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import TinyshuffleError
from ..train.config import Config
from .group import (
    DATA_DIR,
    PATH,
    RUNS_DIR,
    THREADS,
    WHOLE,
    cli,
    new_table,
    positive,
    print_table,
    say,
)


@cli.command(short_help="Train a paper's comparison.")
@click.argument("name", metavar="shuffle|groups|units|v1-v2")
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
@click.option("--jobs", metavar="N", type=WHOLE, help="Trainings at a time.  [default: one a core]")
@THREADS
@click.option("--dask", metavar="ADDRESS", help="Of a Dask scheduler: train on its workers.")
@RUNS_DIR
def ablate(
    name: str,
    seeds: int,
    budget: int | None,
    recipe: str,
    jobs: int | None,
    dask: str | None,
    runs_dir: str,
    **options: Any,
) -> None:
    """Train nets of equal multiply-adds that differ in one thing, and report which is better.

    The widths are solved for. RUNS_DIR/ablate-NAME receives a run for each net and seed, and
    report.md, report.csv and report.png. Begun again, it continues where it was stopped.
    """
    from .. import train as training

    positive("--threads", options["threads"], 4096)
    given = {option: value for option, value in options.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).absolute())
    config = Config.make(recipe, **given)
    with _cluster(dask):
        report = training.ablate(name, config, seeds, Path(runs_dir).absolute(), budget, jobs)
    headings, lines = report.table()
    table = new_table(*headings)
    for line in lines:
        table.add_row(*line)
    print_table(table)
    for verdict in report.verdicts:
        say(str(verdict))
    say(report.verdict)
    say(report.published)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Let joblib send its work to a Dask cluster, in a ``with``."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise TinyshuffleError(
            '--dask needs the package distributed: pip install "dask[distributed]"'
        ) from error
    from joblib import parallel_config

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise TinyshuffleError(
            f"there is no Dask scheduler at {address} ({error}): start one with dask scheduler, "
            "and give the address that it prints"
        ) from error
    with client, parallel_config(backend="dask"):
        yield
