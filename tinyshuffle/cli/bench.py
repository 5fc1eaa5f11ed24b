"""The commands ``bench …``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from typing import Any

import click

from .group import (
    INPUT_SIZE,
    PATH,
    PLOT,
    SIZE,
    THREADS,
    WHOLE,
    cli,
    new_table,
    one_of,
    positive,
    print_table,
    save_figure,
)


@cli.group(short_help="Measure steps, inference, layers and start-up.")
def bench() -> None:
    """Measure time, beside PyTorch and ONNX Runtime where they are installed.

    Every side runs in a process of its own with a clean environment and the same threads; what
    they compute is compared first, and then they take turns.
    """


def _options(model: str, rounds: int, several: bool) -> Any:
    """The options that the subcommands share."""
    options = [
        click.option(
            "--model", "models", metavar="NAME", multiple=several, default=None if several
            else model, help=f"One of `models`{', or several times' * several}.  "
            f"[default: {model}]",
        ),
        click.option("--batch", metavar="N", type=WHOLE, default=128, help="[default: 128]"),
        click.option("--input-size", metavar="N", type=SIZE, default="32",
                     help=INPUT_SIZE.format(32)),
        click.option(
            "--stem", metavar="NAME", help="cifar, imagenet.  [default: by the input size]"
        ),
        THREADS,
        click.option("--rounds", metavar="N", type=WHOLE, default=rounds,
                     help=f"[default: {rounds}]"),
        click.option(
            "--format", "style", metavar="NAME", default="table",
            help="table, json.  [default: table]",
        ),
    ]  # fmt: skip

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_FORMAT = click.option(
    "--format", "style", metavar="NAME", default="table", help="table, json.  [default: table]"
)
_QUICK = click.option("--quick", is_flag=True, help="Less of everything, in under a minute.")


_PEER = click.option(
    "--peer", "peers", metavar="NAME", multiple=True, help="torch, onnxruntime, or both."
)


@bench.command(short_help="A training step.")
@_PEER
@_options("shufflenet_v2_x0_5", 10, several=True)
def step(**options: Any) -> None:
    """Measure a training step: forward, loss, backward, SGD with Nesterov momentum.

    --peer torch measures PyTorch (eager, in the better of its two memory formats) in turn with
    tinyshuffle. The ratio is the peer's time by ours, turn by turn: above 1, ours is faster.
    """
    _compare("step", **options)


@bench.command(short_help="A forward pass in evaluation.")
@_PEER
@_options("shufflenet_v2_x0_5", 10, several=True)
def inference(**options: Any) -> None:
    """Measure a forward pass in evaluation.

    --peer torch and --peer onnxruntime measure those in turn with tinyshuffle. The ratio is the
    peer's time by ours, turn by turn: above 1, ours is faster.
    """
    _compare("inference", **options)


def _compare(
    task: str,
    models: Sequence[str],
    peers: Sequence[str],
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
    rounds: int,
    style: str,
) -> None:
    from ..bench import compare_sides
    from ..bench.peers import check_peer, torch_arguments
    from ..bench.progress import Progress

    one_of("--format", style, ("table", "json"))
    positive("--rounds", rounds, 100_000)
    cases = [
        _case(task, model, batch, input_size, stem, threads)
        for model in models or ["shufflenet_v2_x0_5"]
    ]
    for peer in peers:  # before the first of several nets is measured, not after
        check_peer(peer, task)
        for case in cases:
            torch_arguments(case.model)
    with Progress() as progress:
        results = [
            compare_sides(case, list(dict.fromkeys(peers)), rounds, progress) for case in cases
        ]
    if style == "json":
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
        return
    table = new_table(
        "", "median, ms", "fastest", "half within", "ratio", "of all turns", "memory, MiB",
        "of the net",
    )  # fmt: skip
    for result in results:
        table.add_row(result.case.model)
        for side in result.sides:
            times, cells = side.spread, ["", ""]
            if side is not result.sides[0]:
                ratio = result.ratio(side)
                cells = [f"{ratio.median:.2f}", f"{ratio.minimum:.2f} to {ratio.maximum:.2f}"]
            table.add_row(
                f"  {side.name}" + (f", {side.format}" if side.format else ""),
                _milliseconds(times.median),
                _milliseconds(times.minimum),
                f"{_milliseconds(times.lower)} to {_milliseconds(times.upper)}",
                *cells,
                _mebibytes(side.peak_memory),
                _mebibytes(side.own_memory),
            )
    print_table(table)
    case = results[0].case
    what = "training step" if task == "step" else "inference"
    click.echo(
        f"{what}, {batch} images of {case.height}x{case.width}, {case.stem} stem, float32, "
        f"{rounds} turns each"
    )
    if peers:
        worst: dict[str, float] = {}
        for differences in (d for result in results for d in result.differences.values()):
            worst |= {what: max(value, worst.get(what, 0)) for what, value in differences.items()}
        click.echo(
            "ratio: the peer's time by ours; before that both were found to compute the same, "
            + ", ".join(f"{what} to {value:.0e}" for what, value in worst.items())
        )
    click.echo("memory: resident at the peak, and how much of it the imported libraries are not")
    _print_machine(results[0].machine, results[0].cleared)


@bench.command(short_help="Layers against the roofline.")
@click.option("--by", metavar="WHAT", default="unit", help="layer, unit, stage, type.  "
              "[default: unit]")  # fmt: skip
@click.option("--inference", is_flag=True, help="A forward pass in evaluation, not a step.")
@PLOT
@_options("shufflenet_v2_x1_0", 20, several=False)
def layers(
    by: str,
    inference: bool,
    plot: str | None,
    models: str,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
    rounds: int,
    style: str,
) -> None:
    """Time each layer of a net where it runs, and compare it with the roofline.

    The roofline is the least time that the machine could take: for a layer's multiply-adds at the
    speed of large matrix products, or for reading and writing its tensors once at the speed of
    memory, whichever is longer. Both speeds are measured first. A layer whose tensors stay in a
    cache can be above 100 %; in sums it counts as 100 %.
    """
    from .. import plots
    from ..bench import measure_layers
    from ..bench.progress import Progress

    one_of("--format", style, ("table", "json"))
    one_of("--by", by, ("layer", "unit", "stage", "type"))
    positive("--rounds", rounds, 100_000)
    task = "inference" if inference else "step"
    case = _case(task, models, batch, input_size, stem, threads)
    with Progress() as progress:
        found = measure_layers(case, rounds, progress)
    times, ceilings = found.times, found.ceilings
    total = times.total(ceilings)
    rows = [*times.by(by, ceilings), total]
    if style == "json":
        record = asdict(case) | {
            "machine": found.machine.to_dict(),
            "cleared": found.cleared,
            "ceilings": asdict(ceilings),
            "step_seconds": times.step_seconds,
            "watched_seconds": times.watched_seconds,
            "optimiser_seconds": times.optimiser_seconds,
            "between_seconds": times.between_seconds,
            "rows": [
                asdict(row) | {"seconds": row.seconds, "attained": row.attained} for row in rows
            ],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        table = new_table(
            by, *["operation"] * (by == "layer"), "forward, ms", *["backward"] * times.train,
            "both" if times.train else "", "%", "GFLOP/s", "GB/s", "of the roofline",
        )  # fmt: skip
        if by == "layer":
            table.columns[1].justify = "left"
        for row in rows:
            if row is total:
                table.add_section()
            table.add_row(
                row.name or "(net)",
                *[row.operation.replace("_conv2d", "").replace("_", " ")] * (by == "layer"),
                _milliseconds(row.forward_seconds),
                *[_milliseconds(row.backward_seconds)] * times.train,
                _milliseconds(row.seconds) if times.train else "",
                f"{100 * row.seconds / total.seconds:.1f}",
                f"{row.flops / row.seconds / 1e9:.1f}" if row.flops and row.seconds else "",
                f"{row.nbytes / row.seconds / 1e9:.1f}" if row.nbytes and row.seconds else "",
                f"{100 * row.attained:.0f} %" if row.seconds else "",
            )
        print_table(table)
        click.echo(f"{case}: {_milliseconds(times.step_seconds)} ms")
        optimiser = f"optimiser {_milliseconds(times.optimiser_seconds)}, " if times.train else ""
        click.echo(
            f"with each operation timed: {_milliseconds(times.watched_seconds)} ms, of which "
            f"layers {_milliseconds(total.seconds)}, {optimiser}between them (Python, waiting for "
            f"other slices) {_milliseconds(times.between_seconds)}"
        )
        click.echo(ceilings.line())
        _print_machine(found.machine, found.cleared)
    if plot:
        _draw(plots.roofline(times, ceilings, str(case)), plot, style)


@bench.command(short_help="From the start of a process to its first step.")
@_options("shufflenet_v2_x0_5", 3, several=False)
def startup(
    models: str,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
    rounds: int,
    style: str,
) -> None:
    """Measure from the start of a fresh process to the end of its first training step.

    Once with an empty cache of compiled kernels, as after an installation, then with the full one.
    """
    from ..bench import measure_startup
    from ..bench.progress import Progress
    from ..bench.spread import spread

    one_of("--format", style, ("table", "json"))
    positive("--rounds", rounds, 100_000)
    case = _case("step", models, batch, input_size, stem, threads)
    with Progress() as progress:
        found = measure_startup(case, rounds, progress)
    if style == "json":
        record = asdict(case) | {
            "machine": found.machine.to_dict(),
            "cleared": found.cleared,
            "cold_seconds": found.cold,
            "warm_seconds": asdict(spread(found.warm)),
        }
        click.echo(json.dumps(record, indent=2))
        return
    warm = spread(found.warm)
    click.echo(f"first {case}")
    click.echo(f"empty cache: {found.cold:.1f} s")
    click.echo(
        f"full cache:  {warm.median:.2f} s, median of {warm.count} "
        f"({warm.minimum:.2f} to {warm.maximum:.2f})"
    )
    _print_machine(found.machine, found.cleared)


@bench.command(short_help="The papers' nets: time, and what foretells it.")
@_QUICK
@PLOT
@THREADS
@_FORMAT
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
@_FORMAT
def sizes(quick: bool, plot: str | None, threads: int | None, style: str) -> None:
    """Time nets on one image of up to 720x1280: V1's Table 8 and V2's Appendix Table 1 (a)."""
    from ..bench.resolutions import RESOLUTIONS

    _foretell(RESOLUTIONS, quick, plot, threads, style)


@bench.command(short_help="Ten units at equal multiply-adds.")
@_QUICK
@PLOT
@THREADS
@_FORMAT
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
                _milliseconds(times.median),
                f"{_milliseconds(times.lower)} to {_milliseconds(times.upper)}",
                _milliseconds(row.predicted),
                f"{times.median / first.spread.median:.2f}",
                *[_relative(row.subject.published, first.subject.published, c) for c in published],
            )
        print_table(table)
        click.echo(
            f"1 image, float32, evaluation. Relative: time by that of {first.subject.name}; V1 and "
            "V2: so published (a column\nthat lacks it, in ms). Memory: elements read or written."
        )
        for what, value in found.correlations().items():
            click.echo(f"rank correlation of time with {what}: {value:.3f}")
        for column, value in published.items():
            click.echo(f"rank correlation of time with the published {column}: {value:.3f}")
        _print_machine(found.machine, found.cleared)
    if plot:
        _draw(plots.foretold(found), plot, style)


def _relative(mine: dict[str, float], first: dict[str, float], column: str) -> str:
    if column not in mine:
        return ""
    if column not in first:
        return f"{1e3 * mine[column]:.1f} ms"
    return f"{mine[column] / first[column]:.2f}"


@bench.command(short_help="Predicted beside measured time.")
@click.option("--remeasure", is_flag=True, help="Measure the machine anew.")
@PLOT
@_options("shufflenet_v2_x1_0", 20, several=False)
def roofline(
    remeasure: bool,
    plot: str | None,
    models: str,
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
    case = _case("inference", models, batch, input_size, stem, threads)
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
                _milliseconds(row.measured),
                _milliseconds(row.predicted),
                f"{100 * row.median:+.0f}",
                f"{100 * row.lower:+.0f} to {100 * row.upper:+.0f}",
            )
        print_table(table)
        click.echo(f"{case}")
        click.echo(
            f"net: {_milliseconds(found.times.step_seconds)} ms measured, "
            f"{_milliseconds(found.prediction.seconds)} ms predicted "
            f"({100 * found.net_error:+.0f} %)"
        )
        click.echo(f"layers: the median one is {100 * found.layer_error:.0f} % off")
        _print_machine(found.machine, found.cleared)
    if plot:
        _draw(plots.prediction(found), plot, style)


@bench.command(short_help="ShuffleNet V2's four guidelines.")
@click.argument("names", nargs=-1, metavar="[g1] [g2] [g3] [g4]")
@_QUICK
@click.option("--plots", metavar="DIR", type=PATH, help="Draw a figure for each guideline there.")
@THREADS
@_FORMAT
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
        _print_machine(measured.machine, measured.cleared)
    if plots:
        for name, found in measured.tables.items():
            figure = figures.guideline(tables.GUIDELINES[name], found)
            _draw(figure, str(Path(plots) / f"{name}.png"), style)


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
        table.add_row(column.name, "", "", "", *[f"{_milliseconds(t)} ms" for t in times])
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
    print_table(table)
    for side in found:
        v = side.verdict(guideline)
        click.echo(
            f"{guideline.name} in {side.side}: {v.word}; the other rows take {v.slowdown:.2f} "
            f"times as long as \"{guideline.rows[guideline.advised]}\" "
            f"({v.lower:.2f} to {v.upper:.2f})"
        )
    click.echo()


def _case(
    task: str,
    model: str,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
) -> Any:
    from ..bench import Case
    from ..cost import profile
    from ..parallel import get_num_threads

    positive("--batch", batch)
    for side in input_size:
        positive("--input-size", side, 10_000)
    positive("--threads", threads, 4096)
    if stem is not None:
        one_of("--stem", stem, ("cifar", "imagenet"))
    stem = stem or ("cifar" if max(input_size) < 64 else "imagenet")
    # refuses an unknown name, and images that are too small for the net
    profile(model, (1, *input_size, 3), stem=stem)
    return Case(task, model, batch, input_size, threads or get_num_threads(), stem)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{max(0, 3 - len(str(int(1e3 * seconds))))}f}"


def _mebibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:,.0f}"


def _draw(figure: Any, path: str, style: str) -> None:
    """Save a figure; what is said of it must not come between JSON."""
    with redirect_stdout(sys.stderr) if style == "json" else nullcontext():
        save_figure(figure, path)


def _print_machine(machine: Any, cleared: Sequence[str]) -> None:
    for line in machine.lines():
        click.echo(line)
    if cleared:
        click.echo(f"not passed on to what was measured: {', '.join(cleared)}")
