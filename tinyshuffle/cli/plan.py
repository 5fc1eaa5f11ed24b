"""The command ``plan``."""

from __future__ import annotations

import json

import click

from .group import (
    INPUT_SIZE,
    PLOT,
    SIZE,
    cli,
    new_table,
    one_of,
    positive,
    save_figure,
)

WIDEST = 28  # letters of a list of buffers before it is cut


@cli.command(short_help="Show a training step as a table of operations and buffers.")
@click.argument("model")
@click.option("--batch", metavar="N", type=int, default=32, help="Images.  [default: 32]")
@click.option("--input-size", metavar="S", type=SIZE, default="32", help=INPUT_SIZE.format(32))
@click.option(
    "--stem", metavar="NAME", default=None,
    help="cifar or imagenet.  [default: cifar below 64 pixels]",
)  # fmt: skip
@click.option("--eval", "evaluation", is_flag=True, help="A pass in evaluation, not a step.")
@click.option("--as-written", is_flag=True, help="As the layers wrote it, before rows are fused.")
@click.option("--time", "timed", is_flag=True, help="Run it ten times; each row's time.")
@click.option(
    "--format", "style", metavar="NAME", default="table", help="table, json, csv.  "
    "[default: table]",
)  # fmt: skip
@PLOT
def plan(
    model: str,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    evaluation: bool,
    as_written: bool,
    timed: bool,
    style: str,
    plot: str | None,
) -> None:
    """Show what MODEL does in a training step, row by row.

    Each row is an operation: which layer asks for it, which buffers it reads and writes (parameters
    by name, "d" before a gradient, b1, b2, ... activations, [a:b] some channels of one), how many
    bytes that moves, and its multiply-adds. Behind a row with Σ the threads meet, to add up what
    each has of a batch norm's sums. --as-written shows the operations that the layers themselves
    ask for, forward and backward; without it those are fused: one pass over the memory does what
    several rows did, and what is cheap to compute again is not kept. --plot draws which part of the
    memory holds which buffer, from the row that writes it to the last that reads it.
    """
    from .. import models, plots
    from ..parallel import get_num_threads, usable_cores
    from ..plan.timing import time_rows

    positive("--batch", batch)
    for side in input_size:
        positive("--input-size", side, 10_000)
    style = one_of("--format", style, ("table", "json", "csv"))
    if stem is not None:
        one_of("--stem", stem, ("cifar", "imagenet"))
    stem = stem or ("cifar" if max(input_size) < 64 else "imagenet")
    net = models.create(model, num_classes=10 if stem == "cifar" else 1000, stem=stem)
    shape = (batch, *input_size, 3)
    found = net.plan(shape, train=not evaluation, as_written=as_written)
    found = found.named(model)
    slices = min(get_num_threads(), usable_cores(), batch) if timed else 1
    seconds = time_rows(net.train(not evaluation), found, slices) if timed else []
    records = found.records()
    for record, time in zip(records, seconds, strict=False):
        record["seconds"] = time
    if style == "json":
        click.echo(json.dumps(json.loads(found.to_json()) | {"rows": records}, indent=2))
    elif style == "csv":
        click.echo(found.to_csv(seconds), nl=False)
    else:
        headings, lines = found.table()
        table = new_table(*headings, *["ms"] * timed)
        for column in table.columns[1:5]:
            column.justify = "left"
        for i, line in enumerate(lines):
            cells = [cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…" for cell in line]
            table.add_row(*cells, *[f"{1e3 * s:.3f}" for s in seconds[i : i + 1]])
        table.print()
        click.echo(found.summary())
        if timed:
            click.echo(
                f"the rows together {1e3 * sum(seconds):.2f} ms, the median of ten rounds, "
                f"{slices} {'thread' if slices == 1 else 'threads'}"
            )
    if plot:
        save_figure(plots.memory(found), plot)
