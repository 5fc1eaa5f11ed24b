"""The command ``cost``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import TinyshuffleError
from ..text import markdown_table
from .group import (
    INPUT_SIZE,
    PLOT,
    SIZE,
    WEIGHTS,
    WHOLE,
    cli,
    new_table,
    one_of,
    positive,
    save_figure,
    without_effect,
)

if TYPE_CHECKING:
    from ..cost.profile import Profile
    from ..cost.tables import Table


@cli.command(short_help="Count multiply-adds, parameters and memory access.")
@click.argument("model", required=False)
@WEIGHTS
@click.option("--table", metavar="NAME", help="A table of the papers, printed beside our counts.")
@click.option(
    "--detector", metavar="NAME", help="A detector on MODEL: faster, light-head.  [default: none]"
)
@click.option("--input-size", metavar="N", type=SIZE, default="224", help=INPUT_SIZE.format(224))
@click.option("--batch", metavar="N", type=WHOLE, default=1, help="Images.  [default: 1]")
@click.option("--dtype", metavar="NAME", default="float32", help="[default: float32]")
@click.option(
    "--by",
    metavar="WHAT",
    default="unit",
    help="layer, unit, stage, type of operation.  [default: unit]",
)
@click.option(
    "--convention",
    metavar="NAME",
    default="paper",
    help="Whose multiply-adds: paper, torchinfo, fvcore, ptflops, ptflops-aten, thop, "
    "flopcounter, deepspeed.  "
    "[default: paper]",
)
@click.option(
    "--format",
    "style",
    metavar="NAME",
    default="table",
    help="table, json, csv, markdown.  [default: table]",
)
@PLOT
def cost(
    model: str | None,
    weights: str | None,
    table: str | None,
    detector: str | None,
    input_size: tuple[int, int],
    batch: int,
    dtype: str,
    by: str,
    convention: str,
    style: str,
    plot: str | None,
) -> None:
    """Count where the multiply-adds, parameters and memory accesses of MODEL go.

    Nothing of the net's size is computed or allocated, unless --weights say which net it is. With
    --detector the stages are the backbone, the thin map, the proposals, and what is done for 100
    boxes; it has ten classes. With --table instead of MODEL, a cost table of the papers is printed
    beside what is counted here: v1-1 to v1-6, v1-claims, v2-5, v2-6, v2-8, v2-a2, v2-claims,
    mobilenet-2, -3, -4, -6, -7, -8, mobilenet-v2-4, alexnet, vgg-2, nin, googlenet-1, resnet-1,
    resnet-6, resnext-1, xception-3, or "all"; "errata" are the figures that cannot be right or
    cannot be reproduced. --plot draws shares by kind of operation and costs along the net, or for a
    table accuracy against cost.
    """
    from .. import plots
    from ..cost import CONVENTIONS, profile
    from ..cost.tables import TABLES
    from ..cost.tables import table as find_table
    from ..weights import pretrained

    if (model is None) == (table is None):
        raise TinyshuffleError("cost takes a MODEL or --table NAME: give one of the two")
    if table is not None:
        reason = "on a table of the papers, whose nets and way of counting are given"
        without_effect(
            reason, "weights", "detector", "input_size", "batch", "dtype", "by", "convention"
        )
        table = one_of("--table", table.lower(), (*TABLES, "all", "errata"))
    if table == "errata":
        without_effect("on the errata, which are no curve", "plot")
        _print_errata(one_of("--format", style, ("table", "markdown")))
        return
    if table is not None:
        tables = [find_table(name) for name in (TABLES if table == "all" else [table])]
        if all(line.error is None for found in tables for line in found.lines):
            without_effect("where the paper prints no accuracy to draw", "plot")
        for found in tables:
            _print_paper_table(found, one_of("--format", style, ("table", "markdown")))
        if len(tables) > 1:
            click.echo(f"all {len(tables)} tables: {_verdicts(tables)}")
        if plot:
            save_figure(plots.accuracy_against_cost(tables), plot)
        return
    assert model is not None
    for side in input_size:
        positive("--input-size", side, 10_000)
    positive("--batch", batch)
    one_of("--dtype", dtype, ("float32", "float64", "float16"))
    by = one_of("--by", by, ("layer", "unit", "stage", "type"))
    style = one_of("--format", style, ("table", "json", "csv", "markdown"))
    shape = (batch, *input_size, 3)
    if detector is not None:
        without_effect("with --detector, whose costs do not depend on them", "weights")
        counted = _detector(detector, model, shape, dtype, convention)
    else:
        net = pretrained(model, weights).net if weights else model
        counted = profile(net, shape, dtype, convention)
    if style == "json":
        click.echo(counted.to_json(by))
    elif style == "csv":
        click.echo(counted.to_csv(by), nl=False)
    elif style == "markdown":
        click.echo(counted.to_markdown(by))
    else:
        headings, lines = counted.table(by)
        rows = new_table(*headings)
        for line in lines[:-1]:
            rows.add_row(*line)
        rows.add_section()
        rows.add_row(*lines[-1])
        rows.print()
        click.echo(counted.summary())
        click.echo(f"{counted.convention}: {CONVENTIONS[counted.convention].words}")
    if plot:
        save_figure(plots.cost(counted), plot)


def _detector(
    kind: str, model: str, shape: tuple[int, ...], dtype: str, convention: str
) -> Profile:
    """Count a detector with ten classes."""
    from ..detect.config import LARGE
    from ..detect.cost import detector_cost
    from ..detect.detector import KINDS, Detector

    batch, side, width, _ = shape
    if side != width:
        raise TinyshuffleError(
            f"--input-size {side}x{width} was given, and detectors are for square pictures, to "
            "which others are filled up: give one side"
        )
    stem = "cifar" if side < LARGE else "imagenet"
    net = Detector(one_of("--detector", kind, KINDS), model, 10, side, stem)
    return detector_cost(net, batch, dtype, convention, f"{kind} on {model}")


def _print_paper_table(found: Table, style: str) -> None:
    headings, rows = found.cells()
    if style == "markdown":
        click.echo(f"### {found.title}\n")
        click.echo("\n".join(markdown_table(headings, rows, len(headings))))
    else:
        click.echo(found.title)
        notes = [note for note in dict.fromkeys(row[-1] for row in rows) if note]
        shown = new_table(*headings)
        for column in shown.columns[4:]:
            column.justify = "left"
        for *cells, note in rows:
            shown.add_row(*cells, str(notes.index(note) + 1) if note else "")
        shown.print()
        for i, note in enumerate(notes, 1):
            click.echo(f"{i:>3}  {note}")
    click.echo(_verdicts([found]))
    click.echo(f"printed in {found.source}\n")


def _verdicts(tables: Sequence[Table]) -> str:
    """Say how many of the figures have which verdict."""
    count: Counter[str] = Counter()
    for table in tables:
        count += Counter(table.verdicts())
    words = [f"{verdict} {number}" for verdict, number in count.items()]
    return f"{count.total()} printed figures: {', '.join(words)}"


def _print_errata(style: str) -> None:
    from ..cost.tables.errata import ERRATA, KINDS, page

    if style == "markdown":
        click.echo(page(), nl=False)
        return
    for number, erratum in enumerate(ERRATA.values(), 1):
        click.echo(
            f"{number:>3}  {erratum.place}\n     printed:  {erratum.printed}\n"
            f"     follows:  {erratum.follows}\n     why:      {erratum.reason}\n"
            f"     {erratum.kind}; {erratum.sure}\n"
        )
    kinds = Counter(erratum.kind for erratum in ERRATA.values())
    words = ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS)
    click.echo(f"{len(ERRATA)} errata: {words}")
    click.echo("--format markdown adds lines that compute each again; they are in docs/errata.md")
