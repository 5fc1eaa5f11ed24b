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
    save_figure,
    say,
)


@cli.group(short_help="Measure steps, inference, layers and start-up.")
def bench() -> None:
    """Measure time, beside PyTorch and ONNX Runtime where they are installed.

    Every side runs in a process of its own with a clean environment and the same threads; what
    they compute is compared first, and then they take turns.
    """


class _SeveralCounts(click.Command):
    """A command that takes several numbers behind --threads, as in ``--threads 1 2 4``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        found: list[str] = []
        for arg in args:  # each further number is an option of its own to click
            further = found[-2:-1] == ["--threads"] and arg.isdecimal()
            found += ["--threads", arg] if further else [arg]
        return super().parse_args(ctx, found)


SEVERAL_THREADS = click.option(
    "--threads", "threads", metavar="N [N ...]", type=WHOLE, multiple=True,
    help="Cores to use; of several numbers a table shows what each brings.  [default: all]",
)  # fmt: skip


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
        SEVERAL_THREADS if several else THREADS,
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


@bench.command(cls=_SeveralCounts, short_help="A training step.")
@_PEER
@options_of("shufflenet_v2_x0_5", 10, several=True)
def step(**options: Any) -> None:
    """Measure a training step: forward, loss, backward, SGD with Nesterov momentum.

    --peer torch measures PyTorch (eager, in the better of its two memory formats) in turn with
    tinyshuffle, and what torch.compile makes of it where there is a C++ compiler; to compile takes
    minutes, which are not counted. The ratio is the peer's time by ours, turn by turn: above 1,
    ours is faster. With several numbers of --threads all of them take turns, without torch.compile.
    """
    _compare("step", **options)


@bench.command(cls=_SeveralCounts, short_help="A forward pass in evaluation.")
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
    threads: Sequence[int],
    rounds: int,
    style: str,
) -> None:
    from ..bench import compare_sides, compare_threads
    from ..bench.progress import Progress

    one_of("--format", style, ("table", "json"))
    positive("--rounds", rounds, 100_000)
    counts = sorted(set(threads))
    for count in counts:
        positive("--threads", count, 4096)
    cases = [
        case_of(task, model, variant, batch, input_size, stem, counts[-1] if counts else None)
        for model in models or ["shufflenet_v2_x0_5"]
    ]
    for case in cases:  # before the first of several nets is measured, not after
        case.check_peers(peers)
    peers = list(dict.fromkeys(peers))
    with Progress() as progress:
        if len(counts) > 1:
            nets = [compare_threads(case, counts, peers, rounds, progress) for case in cases]
        else:
            nets = [[compare_sides(case, peers, rounds, progress)] for case in cases]
    results = [result for net in nets for result in net]
    if style == "json":
        click.echo(json.dumps([record for net in nets for record in _records(net)], indent=2))
        return
    table = _scaling(nets) if len(counts) > 1 else _sides(results)
    table.print()
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
    for reason in dict.fromkeys(result.left_out for result in results if result.left_out):
        say(f"torch.compile was left out: {reason}")
    if len(counts) > 1:
        click.echo(f"speed-up: how many times as fast as with --threads {counts[0]}, turn by turn")
    else:
        click.echo(
            "memory: resident at the peak, and how much of it the imported libraries are not"
        )
    print_machine(results[-1].machine, results[0].cleared)


def _records(net: list[Any]) -> list[dict[str, Any]]:
    """Return the results of a net as JSON can hold them: one for each number of threads."""
    from ..bench import speed_ups

    records = [result.to_dict() for result in net]
    if len(net) > 1:
        for record, found in zip(records, speed_ups(net), strict=True):
            for side, times in zip(record["sides"], found, strict=True):
                side["speed_up"] = asdict(times)
    return records


def _scaling(nets: list[list[Any]]) -> Any:
    """Return the table of several numbers of threads."""
    from ..bench import speed_ups

    table = new_table(
        "", "threads", "median, ms", "images/s", "speed-up", "ratio", "of all turns"
    )  # fmt: skip
    for net in nets:
        table.add_row(net[0].case.name)
        for result, found in zip(net, speed_ups(net), strict=True):
            for side, times in zip(result.sides, found, strict=True):
                table.add_row(
                    f"  {side.name}" + (f", {side.format}" if side.format else ""),
                    str(result.case.threads),
                    milliseconds(side.spread.median),
                    f"{result.case.batch / side.spread.median:,.0f}",
                    f"{times.median:.2f}",
                    *_ratio(result, side),
                )
    return table


def _ratio(result: Any, side: Any) -> tuple[str, str]:
    if side is result.sides[0]:
        return "", ""
    ratio = result.ratio(side)
    return f"{ratio.median:.2f}", f"{ratio.minimum:.2f} to {ratio.maximum:.2f}"


def _sides(results: list[Any]) -> Any:
    """Return the table of one number of threads."""
    table = new_table(
        "", "median, ms", "fastest", "half within", "ratio", "of all turns", "memory, MiB",
        "of the net",
    )  # fmt: skip
    for result in results:
        table.add_row(result.case.name)
        for side in result.sides:
            times = side.spread
            table.add_row(
                f"  {side.name}" + (f", {side.format}" if side.format else ""),
                milliseconds(times.median),
                milliseconds(times.minimum),
                f"{milliseconds(times.lower)} to {milliseconds(times.upper)}",
                *_ratio(result, side),
                _mebibytes(side.peak_memory),
                _mebibytes(side.own_memory),
            )
    return table


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
    memory, whichever is longer. The speeds are measured first, that of memory twice: a plain store
    reads the line of the cache that it overwrites, one past the cache does not, but needs whole
    lines. "limit" says which of the three a row is judged by, for the most part. A layer whose
    tensors stay in a cache can be above 100 %; in sums it counts as 100 %.
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
            "limit",
        )  # fmt: skip
        table.columns[-1].justify = "left"
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
                row.limit,
            )
        table.print()
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
    from ..bench.process import other_cpu

    for line in machine.lines():
        click.echo(line)
    if cleared:
        click.echo(f"not passed on to what was measured: {', '.join(cleared)}")
    if other := other_cpu():
        click.echo(f"compiled as for another processor: {', '.join(other)}")
