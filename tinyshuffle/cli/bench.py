"""The commands ``bench …`` that time this library: its steps, its layers, its start."""

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
    PLOT,
    SIZE,
    THREADS,
    WHOLE,
    cli,
    key_values,
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


def options_of(model: str, rounds: int, several: bool) -> Any:
    """The options that the subcommands share."""
    options = [
        click.option(
            "--model", "models", metavar="NAME", multiple=several, default=None if several
            else model, help=f"One of `models`{', or several times' * several}.  "
            f"[default: {model}]",
        ),
        click.option(
            "--variant", metavar="KEY=VALUE", multiple=True, callback=key_values,
            help="What else the model shall be told, such as se=true; may be repeated.",
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


FORMAT = click.option(
    "--format", "style", metavar="NAME", default="table", help="table, json.  [default: table]"
)
_PEER = click.option(
    "--peer", "peers", metavar="NAME", multiple=True, help="torch, onnxruntime, or both."
)


@bench.command(short_help="A training step.")
@_PEER
@options_of("shufflenet_v2_x0_5", 10, several=True)
def step(**options: Any) -> None:
    """Measure a training step: forward, loss, backward, SGD with Nesterov momentum.

    --peer torch measures PyTorch (eager, in the better of its two memory formats) in turn with
    tinyshuffle. The ratio is the peer's time by ours, turn by turn: above 1, ours is faster.
    """
    _compare("step", **options)


@bench.command(short_help="A forward pass in evaluation.")
@_PEER
@options_of("shufflenet_v2_x0_5", 10, several=True)
def inference(**options: Any) -> None:
    """Measure a forward pass in evaluation.

    --peer torch and --peer onnxruntime measure those in turn with tinyshuffle. The ratio is the
    peer's time by ours, turn by turn: above 1, ours is faster.
    """
    _compare("inference", **options)


def _compare(
    task: str,
    models: Sequence[str],
    variant: dict[str, str] | None,
    peers: Sequence[str],
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
    rounds: int,
    style: str,
) -> None:
    from ..bench import compare_sides
    from ..bench.progress import Progress

    one_of("--format", style, ("table", "json"))
    positive("--rounds", rounds, 100_000)
    cases = [
        case_of(task, model, variant, batch, input_size, stem, threads)
        for model in models or ["shufflenet_v2_x0_5"]
    ]
    for case in cases:  # before the first of several nets is measured, not after
        case.check_peers(peers)
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
        table.add_row(result.case.name)
        for side in result.sides:
            times, cells = side.spread, ["", ""]
            if side is not result.sides[0]:
                ratio = result.ratio(side)
                cells = [f"{ratio.median:.2f}", f"{ratio.minimum:.2f} to {ratio.maximum:.2f}"]
            table.add_row(
                f"  {side.name}" + (f", {side.format}" if side.format else ""),
                milliseconds(times.median),
                milliseconds(times.minimum),
                f"{milliseconds(times.lower)} to {milliseconds(times.upper)}",
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
    print_machine(results[0].machine, results[0].cleared)


@bench.command(short_help="Layers against the roofline.")
@click.option("--by", metavar="WHAT", default="unit", help="layer, unit, stage, type.  "
              "[default: unit]")  # fmt: skip
@click.option("--inference", is_flag=True, help="A forward pass in evaluation, not a step.")
@PLOT
@options_of("shufflenet_v2_x1_0", 20, several=False)
def layers(
    by: str,
    inference: bool,
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
    case = case_of(task, models, variant, batch, input_size, stem, threads)
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
                milliseconds(row.forward_seconds),
                *[milliseconds(row.backward_seconds)] * times.train,
                milliseconds(row.seconds) if times.train else "",
                f"{100 * row.seconds / total.seconds:.1f}",
                f"{row.flops / row.seconds / 1e9:.1f}" if row.flops and row.seconds else "",
                f"{row.nbytes / row.seconds / 1e9:.1f}" if row.nbytes and row.seconds else "",
                f"{100 * row.attained:.0f} %" if row.seconds else "",
            )
        print_table(table)
        click.echo(f"{case}: {milliseconds(times.step_seconds)} ms")
        optimiser = f"optimiser {milliseconds(times.optimiser_seconds)}, " if times.train else ""
        click.echo(
            f"with each operation timed: {milliseconds(times.watched_seconds)} ms, of which "
            f"layers {milliseconds(total.seconds)}, {optimiser}between them (Python, waiting for "
            f"other slices) {milliseconds(times.between_seconds)}"
        )
        click.echo(ceilings.line())
        print_machine(found.machine, found.cleared)
    if plot:
        draw(plots.roofline(times, ceilings, str(case)), plot, style)


@bench.command(short_help="From the start of a process to its first step.")
@options_of("shufflenet_v2_x0_5", 3, several=False)
def startup(
    models: str,
    variant: dict[str, str] | None,
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
    case = case_of("step", models, variant, batch, input_size, stem, threads)
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
    print_machine(found.machine, found.cleared)


def case_of(
    task: str,
    model: str,
    variant: dict[str, str] | None,
    batch: int,
    input_size: tuple[int, int],
    stem: str | None,
    threads: int | None,
) -> Any:
    from ..bench import Case
    from ..cost import profile
    from ..models import read_variant
    from ..parallel import get_num_threads

    positive("--batch", batch)
    for side in input_size:
        positive("--input-size", side, 10_000)
    positive("--threads", threads, 4096)
    if stem is not None:
        one_of("--stem", stem, ("cifar", "imagenet"))
    stem = stem or ("cifar" if max(input_size) < 64 else "imagenet")
    # refuses an unknown name, and images that are too small for the net
    told = read_variant(model, variant or {})
    profile(model, (1, *input_size, 3), stem=stem, **told)
    return Case(task, model, batch, input_size, threads or get_num_threads(), stem, told)


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{max(0, 3 - len(str(int(1e3 * seconds))))}f}"


def _mebibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:,.0f}"


def draw(figure: Any, path: str, style: str) -> None:
    """Save a figure; what is said of it must not come between JSON."""
    with redirect_stdout(sys.stderr) if style == "json" else nullcontext():
        save_figure(figure, path)


def print_machine(machine: Any, cleared: Sequence[str]) -> None:
    for line in machine.lines():
        click.echo(line)
    if cleared:
        click.echo(f"not passed on to what was measured: {', '.join(cleared)}")
