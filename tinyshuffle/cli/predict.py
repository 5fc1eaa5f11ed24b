"""The command ``predict``."""

from __future__ import annotations

import sys

import click

from ..errors import TinyshuffleError
from ..text import visible
from .group import (
    PATH,
    RUNS_DIR,
    THREADS,
    WHOLE,
    cli,
    find_run,
    new_table,
    positive,
    print_table,
    say,
)


@cli.command(short_help="Ask a trained net about pictures.")
@click.argument("run", type=PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…", type=PATH)
@click.option("--top", metavar="N", type=WHOLE, default=5, help="[default: 5]")
@THREADS
@RUNS_DIR
def predict(
    run: str, images: tuple[str, ...], top: int, threads: int | None, runs_dir: str
) -> None:
    """The likeliest classes of each IMAGE, in the opinion of RUN's best weights.

    An image is turned upright, and the square in its middle scaled to what the net was made for;
    what is transparent is put on white, and of an animation the first picture is taken.
    """
    from .. import load, set_num_threads

    positive("--threads", threads, 4096)
    positive("--top", top)
    set_num_threads(threads)
    trained = load(find_run(run, runs_dir))
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
        print_table(table)
    for failure in failures:
        say(f"Error: {visible(failure, keep='')}", err=True)
    if failures:
        sys.exit(1)
