"""The command ``sweep``, and where its trainings run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import TinyshuffleError
from ..files import installed
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

__all__ = ["DASK", "JOBS", "RAY", "cluster"]

JOBS = click.option(
    "--jobs", metavar="N", type=WHOLE, help="Trainings at a time.  [default: one a core]"
)
DASK = click.option(
    "--dask", metavar="ADDRESS", help="Of a Dask scheduler: train on its workers."
)
RAY = click.option(
    "--ray", metavar="ADDRESS", help="Of a Ray cluster's head, or auto: train on its workers."
)


@cli.command(short_help="Train a recipe with several values of its fields.")
@click.argument("recipe", type=PATH, metavar="RECIPE")
@click.option(
    "--over", metavar="FIELD=VALUE,…", multiple=True, required=True,
    help="Values of a field, such as lr=0.05,0.1; may be repeated.",
)  # fmt: skip
@click.option("--seeds", metavar="N", type=WHOLE, default=3, help="[default: 3]")
@click.option(
    "--validate", metavar="N", type=WHOLE, help="Compare on N training images held out."
)
@click.option("--name", metavar="NAME", help="Of the sweep.  [default: the recipe's]")
@DATA_DIR
@JOBS
@THREADS
@DASK
@RAY
@RUNS_DIR
def sweep(
    recipe: str,
    over: tuple[str, ...],
    seeds: int,
    name: str | None,
    data_dir: str | None,
    jobs: int | None,
    threads: int | None,
    validate: int | None,
    dask: str | None,
    ray: str | None,
    runs_dir: str,
) -> None:
    """Train RECIPE with every combination of the values, and say which is best.

    RUNS_DIR/sweep-NAME receives a run for each setting and seed, and report.md, report.csv and
    report.png. A value is compared with the best one seed by seed. A training that fails is listed,
    and the others go on. Begun again, it continues where it was stopped; with more values or seeds
    it trains what is new. variant.KEY is a field too; a value with commas needs ; between values.
    """
    from ..train.directory import check_name
    from ..train.sweep import read_over
    from ..train.sweep import sweep as train_all

    positive("--threads", threads, 4096)
    if name is not None:
        check_name(name)
    fields = {"threads": threads, "validate": validate}
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if data_dir is not None:
        given["data_dir"] = str(Path(data_dir).absolute())
    with cluster(dask, ray):
        found = train_all(
            recipe, read_over(over), seeds, Path(runs_dir).absolute(), name, jobs, **given
        )
    print_table(*found.table())
    for run, why in found.failures.items():
        say(f"{run} failed: {why}")


@contextmanager
def cluster(dask: str | None, ray: str | None) -> Iterator[None]:
    """Let joblib send its work to a Dask or a Ray cluster, in a ``with``."""
    if dask is not None and ray is not None:
        raise TinyshuffleError("--dask and --ray are two clusters: give one of them")
    with ExitStack() as stack:
        if dask is not None:
            stack.enter_context(_dask(dask))
        if ray is not None:
            stack.enter_context(_ray(ray))
        yield


@contextmanager
def _dask(address: str) -> Iterator[None]:
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


@contextmanager
def _ray(address: str) -> Iterator[None]:
    if not installed("ray"):
        raise TinyshuffleError("--ray needs the package ray: pip install ray")
    import ray
    from joblib import parallel_config
    from ray.util.joblib import register_ray

    try:
        ray.init(address, logging_level="error", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise TinyshuffleError(
            f"there is no Ray cluster at {address} ({str(error).splitlines()[0]}): start one with "
            "ray start --head, and give the address that it prints"
        ) from error
    try:
        register_ray()
        with parallel_config(backend="ray"):
            yield
    finally:
        ray.shutdown()
