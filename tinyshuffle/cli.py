"""The command line: ``python -m tinyshuffle COMMAND``.

A command reads its options, calls the library and prints. What is heavy is imported inside the
commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import difflib
import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import TinyshuffleError
from .train.config import DEFAULTS, LEARNING_RATES, Config
from .train.schedule import ONE_CYCLE_RISE, SCHEDULES

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["cli", "main"]


class _Commands(click.Group):
    """Mistakes end in one sentence, and Ctrl-C in the exit code that shells expect."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        near = difflib.get_close_matches(args[0], self.commands, n=1)
        if near and args[0] not in self.commands:  # not every release of click says so
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TinyshuffleError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as stop:
            click.echo(str(stop) or "stopped", err=True)
            sys.exit(128 + getattr(stop, "signum", 2))
        except MemoryError as error:
            raise click.ClickException(
                f"there is not enough memory ({error}): use a smaller --batch-size or model"
            ) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # our reader has gone, as in `… | head`
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(
                f"{where}{error.strerror or error}: check the path and its permissions"
            ) from error


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows another
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="python -m tinyshuffle")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """ShuffleNets that train on a CPU, every gradient written by hand."""


_RUNS_DIR = click.option(
    "--runs-dir", metavar="DIR", default="runs", help="Where runs are kept.  [default: runs]"
)
_DATA_DIR = click.option(
    "--data-dir",
    metavar="DIR",
    help="Where CIFAR's files are, or shall be.  [default: $TINYSHUFFLE_DATA or a cache]",
)
_THREADS = click.option("--threads", metavar="N", type=int, help="Cores to use.  [default: all]")


def _field(name: str, text: str, default: object = None, **arguments: Any) -> Any:
    """An option for a field of the configuration. None says that it was not given."""
    if default is None:
        default = getattr(Config, name)
    return click.option(
        f"--{name.replace('_', '-')}", help=f"{text}  [default: {default}]".strip(), **arguments
    )


def _of_each_data(name: str) -> str:
    return ", ".join(f"{fields[name]} for {data}" for data, fields in DEFAULTS.items())


_LR = ", ".join(f"{lr:g} with {name}" for name, lr in LEARNING_RATES.items())


@cli.command(short_help="Train a net.")
@_field("model", "One of `models`.", metavar="NAME")
@_field("data", f"{', '.join(DEFAULTS)}.", metavar="NAME")
@_DATA_DIR
@_field("epochs", "", _of_each_data("epochs"), metavar="N", type=int)
@_field("batch_size", "", _of_each_data("batch_size"), metavar="N", type=int)
@_field("optimizer", "sgd (with Nesterov momentum), adam.", metavar="NAME")
@_field("lr", "Highest learning rate.", _LR, metavar="X", type=float)
@_field("momentum", "Of sgd.", metavar="X", type=float)
@_field("weight_decay", "Of all but biases and batch norm.", metavar="X", type=float)
@_field("schedule", f"{', '.join(SCHEDULES)}.", metavar="NAME")
@_field(
    "warmup",
    "Linear rise of the learning rate.",
    f"0, {ONE_CYCLE_RISE:.0%} of the run for one-cycle",
    metavar="EPOCHS",
    type=float,
)
@_field("label_smoothing", "", metavar="X", type=float)
@_field("seed", "Of weights, order and augmentation.", metavar="N", type=int)
@_THREADS
@_field("backend", "numba, numpy.", metavar="NAME")
@click.option("--name", metavar="NAME", help="Of the run.  [default: data, model and time]")
@_RUNS_DIR
@click.option("--resume", metavar="RUN", help="Continue a run that was stopped, with its options.")
def train(resume: str | None, name: str | None, runs_dir: str, **options: Any) -> None:
    """Train a net, by default a tiny ShuffleNet V2 on built-in images in about a minute.

    RUNS_DIR/NAME receives log.csv, curves.png, config.json and the checkpoints last.npz and
    best.npz. Ctrl-C stops after the current step; --resume continues as if nothing had happened,
    to the bit, after a power cut too.
    """
    from . import train as training

    given = {option: value for option, value in options.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).absolute())
    if resume is None:
        result = training.train(Config.make(**given), name, runs_dir)
    else:
        if name is not None:
            raise TinyshuffleError(f"--name {name} contradicts --resume: leave one of them out")
        result = training.resume(_find_run(resume, runs_dir), **given)
    click.echo(str(result))


@cli.command("eval", short_help="Test a trained net.")
@click.argument("run")
@_DATA_DIR
@_THREADS
@_RUNS_DIR
def evaluate(run: str, data_dir: str | None, threads: int | None, runs_dir: str) -> None:
    """Test the best checkpoint of RUN: accuracy and loss, and the accuracy of each class."""
    from . import train as training

    tested, path, epoch = training.evaluate_run(_find_run(run, runs_dir), data_dir, threads)
    table = _table("class", "right", "images", "accuracy")
    for name, right, count in zip(tested.classes, tested.right, tested.count, strict=True):
        share = f"{100 * right / count:.1f} %" if count else "-"
        table.add_row(name, str(right), str(count), share)
    _print(table)
    click.echo(
        f"test accuracy {100 * tested.accuracy:.2f} %, loss {tested.loss:.4f}, "
        f"{tested.count.sum():,} images; {path} (epoch {epoch})"
    )


@cli.command(short_help="List the nets.")
@click.argument("pattern", default="*")
def models(pattern: str) -> None:
    """List the nets whose names contain PATTERN or match it (such as "*v2*").

    The parameters are counted with ten classes and the stem for 32x32 images, and, as in the
    papers, with a thousand classes and the stem for 224x224.
    """
    from . import models as registry

    every = registry.list_models()
    names = registry.list_models(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    if not names:
        near = difflib.get_close_matches(pattern.strip("*"), every, n=3, cutoff=0.4)
        raise TinyshuffleError(
            f"no model's name contains or matches {pattern!r}: "
            + (f"did you mean {' or '.join(near)}?" if near else "leave it out to see them all")
        )
    table = _table("model", "parameters, CIFAR", "ImageNet")
    for name in names:
        counts = []
        for stem, classes in (("cifar", 10), ("imagenet", 1000)):
            net = registry.create(name, num_classes=classes, stem=stem)
            counts.append(f"{sum(_size(p.shape) for p in net.parameters()):,}")
        table.add_row(name, *counts)
    _print(table)


@cli.command(short_help="List the data sets, and where they are.")
@click.argument("name", required=False)
@_DATA_DIR
def data(name: str | None, data_dir: str | None) -> None:
    """List the data sets and where their files are; or the classes of the one called NAME.

    Nothing is downloaded. `train` and `eval` download what they need.
    """
    from . import data as sets

    if name is not None:
        about = sets.describe(name, data_dir)
        table = _table("class", "training images", "test images")
        columns = about["classes"], about["train_per_class"], about["test_per_class"]
        for row in zip(*columns, strict=True):
            table.add_row(*map(str, row))
        _print(table)
        click.echo(f"{name}: {about['where']}")
        return
    table = _table("data", "classes", "training images", "test images", "where")
    absent = []
    for name in sets.NAMES:
        try:
            about = sets.describe(name, data_dir)
        except TinyshuffleError as error:
            table.add_row(name, "", "", "", "see below")
            absent.append(str(error))
            continue
        counts = [f"{n:,}" for n in (len(about["classes"]), about["train"], about["test"])]
        table.add_row(name, *counts, about["where"])
    _print(table)
    for sentence in absent:
        click.echo(sentence)


@cli.command(short_help="Count multiply-adds, parameters and memory access.")
@click.argument("model", required=False)
@click.option("--table", metavar="NAME", help="A table of the papers, printed beside our counts.")
@click.option("--input-size", metavar="N", type=int, default=224, help="[default: 224]")
@click.option("--batch", metavar="N", type=int, default=1, help="Images.  [default: 1]")
@click.option("--dtype", metavar="NAME", default="float32", help="[default: float32]")
@click.option(
    "--by", metavar="WHAT", help="layer, unit, stage, type of operation.  [default: unit]"
)
@click.option(
    "--convention",
    metavar="NAME",
    help="Whose multiply-adds: paper, torchinfo, fvcore, ptflops, thop, flopcounter.  "
    "[default: paper]",
)
@click.option(
    "--format", "style", metavar="NAME", help="table, json, csv, markdown.  [default: table]"
)
@click.option("--plot", metavar="FILE", help="Draw it (.png, .svg or .pdf).")
def cost(
    model: str | None,
    table: str | None,
    input_size: int,
    batch: int,
    dtype: str,
    by: str | None,
    convention: str | None,
    style: str | None,
    plot: str | None,
) -> None:
    """Count where the multiply-adds, parameters and memory accesses of MODEL go.

    Nothing of the net's size is computed or allocated. With --table instead of MODEL, a cost table
    of the papers is printed beside what is counted here: v1-1, v1-4, v1-5, v1-6, v2-5, v2-6, v2-8,
    v2-a2, mobilenet-2, mobilenet-6, mobilenet-7, mobilenet-v2-4, or "all". --plot draws shares by
    kind of operation and costs along the net, or for a table accuracy against cost.
    """
    from . import plots
    from .cost import CONVENTIONS, profile
    from .cost.tables import TABLES
    from .cost.tables import table as find_table

    if (model is None) == (table is None):
        raise TinyshuffleError("cost takes a MODEL or --table NAME: give one of the two")
    if table is not None:
        tables = [find_table(name) for name in (TABLES if table == "all" else [table])]
        for found in tables:
            _print_table(found, _one_of("--format", style or "table", ("table", "markdown")))
        if plot:
            _save(plots.accuracy_against_cost(tables), plot)
        return
    assert model is not None
    for option, value in (("--input-size", input_size), ("--batch", batch)):
        if value < 1:
            raise TinyshuffleError(f"{option} {value} is not possible: give 1 or more")
    _one_of("--dtype", dtype, ("float32", "float64", "float16"))
    by = _one_of("--by", by or "unit", ("layer", "unit", "stage", "type"))
    style = _one_of("--format", style or "table", ("table", "json", "csv", "markdown"))
    shape = (batch, input_size, input_size, 3)
    counted = profile(model, shape, dtype, convention or "paper")
    if style == "json":
        click.echo(counted.to_json(by))
    elif style == "csv":
        click.echo(counted.to_csv(by), nl=False)
    elif style == "markdown":
        click.echo(counted.to_markdown(by))
    else:
        headings, lines = counted.table(by)
        rows = _table(*headings)
        for line in lines[:-1]:
            rows.add_row(*line)
        rows.add_section()
        rows.add_row(*lines[-1])
        _print(rows)
        click.echo(counted.summary())
        click.echo(f"{counted.convention}: {CONVENTIONS[counted.convention].words}")
    if plot:
        _save(plots.cost(counted), plot)


@cli.command(short_help="Check gradients against finite differences.")
@click.argument("names", nargs=-1)
def gradcheck(names: tuple[str, ...]) -> None:
    """Check the gradients of layers, units or models by their NAMES, in float64.

    Without names: every layer and unit and two whole nets, one line each. The exit code is 1 if a
    gradient is wrong.
    """
    from .gradcheck import CASES, run_named

    reports = run_named(list(names))
    width = max(map(len, CASES))
    failed = []
    if not names:
        click.echo(f"{'':<{width}}  gradients  checked  largest relative error")
    for name, report in reports:
        if names:
            click.echo(f"{name}\n{report}\n")
        else:
            click.echo(
                f"{name:<{width}}  {len(report.rows):>9}  {sum(r.checked for r in report.rows):>7}"
                f"  {report.max_relative_error:>22.1e}{'' if report.passed else '  FAILED'}"
            )
        if not report.passed:
            failed.append(name)
            if not names:
                click.echo("\n".join(report.failures))
    if failed:
        raise TinyshuffleError(f"the gradients of {', '.join(failed)} are wrong: see above")
    if not names:
        click.echo("all passed")


def _size(shape: tuple[int, ...]) -> int:
    from math import prod

    return prod(shape)


def _find_run(run: str, runs_dir: str) -> Path:
    """A run's directory from its path, or its name in ``runs_dir``."""
    for path in (Path(run), Path(runs_dir) / run):
        if path.is_dir():
            return path
    there = sorted(p.name for p in Path(runs_dir).iterdir()) if Path(runs_dir).is_dir() else []
    near = difflib.get_close_matches(Path(run).name, there, n=1, cutoff=0.4) or there[-1:]
    hint = f"did you mean {Path(runs_dir) / near[0]}?" if near else f"{runs_dir} has no runs yet"
    raise TinyshuffleError(f"there is no run {run!r}, as a directory or in {runs_dir}; {hint}")


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # lines that wrap in a narrow terminal are better than figures that are cut off
    console.width = max(console.width, 120)
    console.print(table)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise TinyshuffleError(f"{option} {value} is unknown: use {', '.join(known)}")
    return value


def _print_table(found: Any, style: str) -> None:
    headings, rows = found.cells()
    same = sum(line.reproduced for line in found.lines)
    if style == "markdown":
        click.echo(f"### {found.title}\n")
        for row in [headings, ["---"] * len(headings), *rows]:
            click.echo("| " + " | ".join(row) + " |")
    else:
        click.echo(found.title)
        notes = [note for note in dict.fromkeys(row[-1] for row in rows) if note]
        shown = _table(*headings)
        for column in shown.columns[4:]:
            column.justify = "left"
        for *cells, note in rows:
            shown.add_row(*cells, str(notes.index(note) + 1) if note else "")
        _print(shown)
        for i, note in enumerate(notes, 1):
            click.echo(f"{i:>3}  {note}")
    click.echo(f"{same} of {len(rows)} figures are reproduced to the digits that are printed\n")


def _save(figure: Any, path: str) -> None:
    """Write a figure, atomically, in the format that its name asks for."""
    from .train.checkpoint import atomic_write

    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in ("png", "svg", "pdf"):
        raise TinyshuffleError(f"--plot {path} has no format: let it end in .png, .svg or .pdf")
    with atomic_write(path) as file:
        figure.savefig(file, format=kind)
    click.echo(f"drawn: {path}")
