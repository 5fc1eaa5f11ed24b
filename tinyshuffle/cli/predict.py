"""The command ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import TinyshuffleError
from ..text import visible
from .group import (
    PATH,
    RUNS_DIR,
    THREADS,
    WEIGHTS,
    WHOLE,
    cli,
    find_run,
    new_table,
    positive,
    say,
    with_weights,
)


@cli.command(short_help="Ask a trained net about pictures.")
@click.argument("run", type=PATH, metavar="RUN|MODEL")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…", type=PATH)
@WEIGHTS
@click.option("--top", metavar="N", type=WHOLE, default=5, help="[default: 5]")
@THREADS
@RUNS_DIR
def predict(
    run: str,
    images: tuple[str, ...],
    weights: str | None,
    top: int,
    threads: int | None,
    runs_dir: str,
) -> None:
    """The likeliest classes of each IMAGE, in the opinion of RUN's best weights.

    An image is turned upright, and the square in its middle scaled to what the net was made for;
    what is transparent is put on white, and of an animation the first picture is taken. With
    --weights, MODEL is one of `models`, its weights come from the file (see `weights`), and images
    are made ready as torchvision does it.
    """
    from .. import load, set_num_threads

    positive("--threads", threads, 4096)
    positive("--top", top)
    set_num_threads(threads)
    if weights is None:
        _check_no_model(run, runs_dir)
        trained: Any = load(find_run(run, runs_dir))
    else:
        trained = with_weights(run, weights, runs_dir)
        say(f"images: {trained.pipeline}")
    table = new_table("image", "class", "probability")
    failures = []
    for image in images:
        try:
            found = trained.predict(image, top)
        except TinyshuffleError as error:
            failures.append(str(error))
            continue
        for i, (name, p) in enumerate(found):
            last = i == len(found) - 1
            table.add_row("" if i else image, name, f"{100 * p:.1f} %", end_section=last)
    if table.row_count:
        table.print()
    for failure in failures:
        say(f"Error: {visible(failure, keep='')}", err=True)
    if failures:
        sys.exit(1)


def _check_no_model(run: str, runs_dir: str) -> None:
    """Say that a model without weights knows nothing, rather than that there is no such run."""
    from .. import models

    there = Path(run).is_dir() or Path(runs_dir, run).is_dir()
    if run in models.list_models() and not there:
        raise TinyshuffleError(
            f"{run} is a model, and without weights it knows nothing: give --weights FILE, or the "
            "name of a run"
        )
