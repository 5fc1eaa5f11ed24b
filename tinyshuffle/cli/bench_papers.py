"""The commands ``bench …`` that repeat what the papers time: nets, units and guidelines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from .bench import FORMAT, bench, case_of, draw, milliseconds, options_of, print_machine
from .group import PATH, PLOT, THREADS, new_table, one_of, positive

_QUICK = click.option("--quick", is_flag=True, help="Less of everything.")


@bench.command(short_help="The papers' nets: time, and what foretells it.")
@_QUICK
@PLOT
@THREADS
@FORMAT
def nets(quick: bool, plot: str | None, threads: int | None, style: str) -> None:
    """Time the nets of V1's and V2's Table 8 on one image, beside the papers' columns.

    And rank them by multiply-adds, by memory access and by the roofline model: V2's argument, that
    multiply-adds do not tell time, as three rank correlations.
    """
    from ..bench.nets import NETS

    _foretell(NETS, quick, plot, threads, style)


@bench.command(short_help="The papers' nets on larger images.")
@_QUICK
@PLOT
@THREADS
@FORMAT
def sizes(quick: bool, plot: str | None, threads: int | None, style: str) -> None:
    """Time nets on one image of up to 720x1280: V1's Table 8 and V2's Appendix Table 1 (a)."""
    from ..bench.resolutions import RESOLUTIONS

    _foretell(RESOLUTIONS, quick, plot, threads, style)


@bench.command(short_help="Ten units at equal multiply-adds.")
@_QUICK
@PLOT
@THREADS
@FORMAT
def units(quick: bool, plot: str | None, threads: int | None, style: str) -> None:
    """Time stacks of ten units that cost the same: V2's Appendix Table 1 (b).

    c is ShuffleNet V2's width; each other unit has the width at which it costs nearest to that.
    """
    from ..bench.nets import UNITS

    _foretell(UNITS, quick, plot, threads, style)


def _foretell(
    subjects: Sequence[Any], quick: bool, plot: str | None, threads: int | None, style: str
) -> None:
    from .. import plots
    from ..bench.calibrate import this_machine
    from ..bench.nets import measure_rows
    from ..bench.progress import Progress
    from ..parallel import get_num_threads

    one_of("--format", style, ("table", "json"))
    positive("--threads", threads, 4096)
    count = threads or get_num_threads()
    with Progress() as progress:
        speeds = this_machine(1, count, progress=progress)
        found = measure_rows(
            subjects, speeds, count, 5 if quick else 11, 0.02 if quick else 0.1, progress
        )
    if style == "json":
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        published = found.published()
        table = new_table(
            "", "channels", "mult-adds, M", "memory, M", "ms", "half within", "predicted",
            "relative", *published,
        )  # fmt: skip
        first = found.rows[0]
        for row in found.rows:
            times = row.spread
            table.add_row(
                row.subject.name,
                str(row.subject.channels) if row.subject.unit else "",
                f"{row.multiply_adds / 1e6:.0f}",
                f"{row.memory_access / 1e6:.1f}",
                milliseconds(times.median),
                f"{milliseconds(times.lower)} to {milliseconds(times.upper)}",
                milliseconds(row.predicted),
                f"{found.relative(row).median:.2f}",
                *[_relative(row.subject.published, first.subject.published, c) for c in published],
            )
        table.print()
        click.echo(
            f"1 image, float32, evaluation. Relative: time by that of {first.subject.name} in the "
            "same turn; V1 and V2: so\npublished (a column that lacks it, in ms). Memory: elements "
            "read or written."
        )
        for what, value in found.correlations().items():
            click.echo(f"rank correlation of time with {what}: {value:.3f}")
        for column, value in published.items():
            click.echo(f"rank correlation of time with the published {column}: {value:.3f}")
        print_machine(found.machine, found.cleared)
    if plot:
        draw(plots.foretold(found), plot, style)


def _relative(mine: dict[str, float], first: dict[str, float], column: str) -> str:
    if column not in mine:
        return ""
    if column not in first:
        return f"{1e3 * mine[column]:.1f} ms"
    return f"{mine[column] / first[column]:.2f}"


@bench.command(short_help="Predicted beside measured time.")
@click.option("--remeasure", is_flag=True, help="Measure the machine anew.")
@PLOT
@options_of("shufflenet_v2_x1_0", 20, several=False)
def roofline(
    remeasure: bool,
    plot: str | None,
    models: str,
    variant: dict[str, str] | None,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
    rounds: int,
    style: str,
) -> None:
    """Predict each layer's time from multiply-adds and bytes, and compare it with the clock.

    The machine is measured once, with operations made up for that: the speed of products by class
    of shapes, the bandwidth by the size of the working set, and what a call costs. That is kept in
    the user's cache directory until the machine, the libraries or the kernels change.
    """
    from .. import plots
    from ..bench.calibrate import this_machine
    from ..bench.predicted import compare_prediction
    from ..bench.progress import Progress

    one_of("--format", style, ("table", "json"))
    positive("--rounds", rounds, 100_000)
    case = case_of("inference", models, variant, batch, input_size, stem, threads)
    with Progress() as progress:
        speeds = this_machine(min(batch, case.threads), case.threads, remeasure, progress)
        found = compare_prediction(case, speeds, rounds, progress)
    if style == "json":
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        table = new_table(
            "class", "layers", "measured, ms", "predicted, ms", "median, %", "half within, %"
        )
        for row in found.residuals():
            table.add_row(
                row.name,
                str(row.count),
                milliseconds(row.measured),
                milliseconds(row.predicted),
                f"{100 * row.median:+.0f}",
                f"{100 * row.lower:+.0f} to {100 * row.upper:+.0f}",
            )
        table.print()
        click.echo(f"{case}")
        click.echo(
            f"net: {milliseconds(found.times.step_seconds)} ms measured, "
            f"{milliseconds(found.prediction.seconds)} ms predicted "
            f"({100 * found.net_error:+.0f} %)"
        )
        click.echo(f"layers: the median one is {100 * found.layer_error:.0f} % off")
        print_machine(found.machine, found.cleared)
    if plot:
        draw(plots.prediction(found), plot, style)


@bench.command(short_help="ShuffleNet V2's four guidelines.")
@click.argument("names", nargs=-1, metavar="[g1] [g2] [g3] [g4]")
@_QUICK
@click.option("--plots", metavar="DIR", type=PATH, help="Draw a figure for each guideline there.")
@THREADS
@FORMAT
def guidelines(
    names: Sequence[str], quick: bool, plots: str | None, threads: int | None, style: str
) -> None:
    """Test whether ShuffleNet V2's guidelines hold on this machine.

    The nets are those of the paper's Tables 1 to 4: in each table all rows cost the same
    multiply-adds, and the guideline says which takes the least time. Both backends are measured,
    and PyTorch and ONNX Runtime where they are installed. It takes minutes; --quick, with
    one width of those that the paper ran on a phone, takes half of one.

    A verdict needs no threshold: it is "too close to call" if the median slowdown could be 1, with
    95 % confidence, given how the turns differ.
    """
    from pathlib import Path

    from .. import plots as figures
    from ..bench import guidelines as tables
    from ..bench.peers import installed_peers
    from ..bench.progress import Progress
    from ..parallel import get_num_threads

    one_of("--format", style, ("table", "json"))
    positive("--threads", threads, 4096)
    chosen = list(dict.fromkeys(names)) or list(tables.GUIDELINES)
    effort = tables.QUICK if quick else tables.FULL
    if plots:
        Path(plots).mkdir(parents=True, exist_ok=True)  # or say before the work that it cannot be
    with Progress() as progress:
        measured = tables.measure_guidelines(
            chosen, installed_peers(), threads or get_num_threads(), effort, progress
        )
    if style == "json":
        click.echo(json.dumps(measured.to_dict(), indent=2))
    else:
        for name, found in measured.tables.items():
            _print_guideline(tables.GUIDELINES[name], found)
        click.echo(
            f"10 blocks, 1 image of {tables.SIZE}x{tables.SIZE}, float32. Speed: the first row's "
            "is 1; in brackets where half of the turns lie. Paper: published by Ma et al.\n"
            "2018, GPU columns a GTX 1080Ti, ARM columns a Snapdragon 810. M-adds: multiply-adds, "
            "the first row's are 1; what differs are the paper's whole channels."
        )
        print_machine(measured.machine, measured.cleared)
    if plots:
        for name, found in measured.tables.items():
            figure = figures.guideline(tables.GUIDELINES[name], found)
            draw(figure, str(Path(plots) / f"{name}.png"), style)


def _print_guideline(guideline: Any, found: Sequence[Any]) -> None:
    from ..bench.guideline_tables import relative_multiply_adds
    from ..bench.spread import spread

    click.echo(f"{guideline.name}: {guideline.claim}")
    table = new_table(
        guideline.table, "channels", "m-adds", "paper", *[side.side for side in found]
    )
    for column in guideline.columns:
        if column.name not in found[0].seconds:
            continue
        table.add_section()
        times = [spread(side.seconds[column.name][0]).median for side in found]
        table.add_row(column.name, "", "", "", *[f"{milliseconds(t)} ms" for t in times])
        counts = relative_multiply_adds(column)
        for row, name in enumerate(guideline.rows):
            speeds = [side.speed(column.name, row) for side in found]
            table.add_row(
                f"  {name}",
                column.channels[row],
                f"{counts[row]:.2f}",
                f"{column.published[row] / column.published[0]:.2f}",
                *[
                    f"{s.median:.2f} ({s.lower:.2f}-{s.upper:.2f})" if row else "1"
                    for s in speeds
                ],
            )
        words = [
            side.verdict(guideline, column.name).word.replace(" to call", "") for side in found
        ]
        table.add_row("  verdict", "", "", "", *words)
    table.print()
    for side in found:
        v = side.verdict(guideline)
        click.echo(
            f"{guideline.name} in {side.side}: {v.word}; the other rows take {v.slowdown:.2f} "
            f"times as long as \"{guideline.rows[guideline.advised]}\" "
            f"({v.lower:.2f} to {v.upper:.2f})"
        )
    click.echo()
