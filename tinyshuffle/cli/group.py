"""The command group: how mistakes end, options that several commands share, and how they print."""

from __future__ import annotations

import difflib
import errno
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TinyshuffleError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "DATA_DIR",
    "RUNS_DIR",
    "THREADS",
    "cli",
    "find_run",
    "main",
    "new_table",
    "one_of",
    "print_table",
    "save_figure",
]


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
    warnings.showwarning = _warn  # type: ignore[assignment]
    cli(prog_name="python -m tinyshuffle")


def _warn(message: Warning | str, *_: Any) -> None:
    """Print a warning as a sentence, without the line of code that it came from."""
    with suppress(OSError):  # nobody reads it: no reason to stop
        click.echo(f"Warning: {message}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """ShuffleNets that train on a CPU, every gradient written by hand."""


RUNS_DIR = click.option(
    "--runs-dir", metavar="DIR", default="runs", help="Where runs are kept.  [default: runs]"
)
DATA_DIR = click.option(
    "--data-dir",
    metavar="DIR",
    help="Where CIFAR's files are, or shall be.  [default: $TINYSHUFFLE_DATA or a cache]",
)
THREADS = click.option("--threads", metavar="N", type=int, help="Cores to use.  [default: all]")


def find_run(run: str, runs_dir: str) -> Path:
    """A run's directory from its path, or its name in ``runs_dir``."""
    for path in (Path(run), Path(runs_dir) / run):
        if path.is_dir():
            return path
    there = sorted(p.parent.name for p in Path(runs_dir).glob("*/config.json"))
    near = difflib.get_close_matches(Path(run).name, there, n=1, cutoff=0.4) or there[-1:]
    hint = f"did you mean {Path(runs_dir) / near[0]}?" if near else f"{runs_dir} has no runs yet"
    raise TinyshuffleError(f"there is no run {run!r}, as a directory or in {runs_dir}; {hint}")


def new_table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    # lines that wrap in a narrow terminal are better than figures that are cut off
    console.width = max(console.width, 120)
    console.print(table)


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise TinyshuffleError(f"{option} {value} is unknown: use {', '.join(known)}")
    return value


def save_figure(figure: Any, path: str) -> None:
    """Write a figure, atomically, in the format that its name asks for."""
    from ..train.checkpoint import atomic_write

    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in ("png", "svg", "pdf"):
        raise TinyshuffleError(f"--plot {path} has no format: let it end in .png, .svg or .pdf")
    with atomic_write(path) as file:
        figure.savefig(file, format=kind)
    click.echo(f"drawn: {path}")
