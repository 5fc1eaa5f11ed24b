"""The command group: how mistakes end, options that several commands share, and how they print."""

from __future__ import annotations

import difflib
import errno
import io
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import TinyshuffleError
from ..files import atomic_write, expand
from ..text import brief, message, shown, visible
from ..values import plain

if TYPE_CHECKING:
    from ..weights import Pretrained
    from .table import Table

__all__ = [
    "DATA_DIR", "FIGURE", "INPUT_SIZE", "NUMBER", "PATH", "PLOT", "RUNS_DIR", "SIZE", "THREADS",
    "WEIGHTS", "WHOLE", "cli", "find_run", "key_values", "main", "new_table", "one_of", "positive",
    "print_table", "save_figure", "say", "with_weights", "without_effect",
]  # fmt: skip


class _Command(click.Command):
    """A command that does its work once, however many processes an MPI's starter has started."""

    def invoke(self, ctx: click.Context) -> Any:
        size, _ = _started()
        if size > 1 and not ctx.params.get("mpi"):
            advice = (
                "add --mpi, and they share each batch" if "mpi" in ctx.params
                else "start it without mpiexec, as only train --mpi shares its work"
            )  # fmt: skip
            raise TinyshuffleError(
                f"{size} processes were started, as by mpiexec, and each would do all of this side "
                f"by side: {advice}"
            )
        return super().invoke(ctx)


class _Group(click.Group):
    command_class = _Command


def _started() -> tuple[int, int]:
    """How many processes an MPI's starter has started, and which of its machine's this is.

    As MPICH (and those that came of it), Open MPI and MVAPICH say in the environment: so it is
    known before MPI is there, and without it.
    """
    names = (
        ("PMI_SIZE", "MPI_LOCALRANKID", "PMI_RANK"),
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK"),
        ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_RANK"),
    )
    for size, local, rank in names:
        with suppress(KeyError, ValueError):
            return int(os.environ[size]), int(os.environ.get(local) or os.environ[rank])
    return 1, 0


class _Commands(_Group):
    """The one place where every command ends: in its output, in a sentence, or in a traceback.

    A mistake that its reader can mend is a sentence and exit code 1 (2: of the options). Ctrl-C is
    the exit code that shells expect. What is left is a fault of ours, and shows where it is. What
    several processes of a machine have to say, as they were given the same, one of them says.
    """

    group_class = _Group

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        near = difflib.get_close_matches(args[0], self.commands, n=1)
        if near and args[0] not in self.commands:  # not every release of click says so
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:  # which click would call "Aborted!"
            raise _Stopped(str(stop), getattr(stop, "signum", 2)) from stop

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # the ends are below
        try:
            try:
                code = super().main(*args, **extra)
                if sys.stdout is not None:  # which it is when it was closed from the start
                    sys.stdout.flush()
                code = code if isinstance(code, int) else 0
            except Exception as error:
                code = _sentence(error)
        except OSError as error:  # not even the sentence can be written
            code = 1 if error.errno == errno.EPIPE else _lost(error)
        sys.exit(code)


class _Stopped(Exception):
    """Ctrl-C, or another signal that ends the process."""

    def __init__(self, text: str, signum: int) -> None:
        super().__init__(text)
        self.signum = signum


def _sentence(error: Exception) -> int:
    """Print what went wrong and return the exit code; an error that is ours is raised again."""
    if isinstance(error, click.Abort):
        error = _Stopped("", 2)
    if isinstance(error, _Stopped):
        _tell(str(error) or "stopped")
        return 128 + error.signum
    if isinstance(error, click.ClickException):
        said = io.StringIO()
        error.show(said)
        _tell(said.getvalue().rstrip("\n"))
        return error.exit_code
    if isinstance(error, TinyshuffleError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = (
            f"there is not enough memory ({message(error)}): use a smaller --batch-size or model"
        )
    elif isinstance(error, OSError):
        if error.errno == errno.EPIPE:  # our reader has gone, as in `… | head`
            _discard()
            return 1
        if error.errno == errno.ENOSPC and error.filename is None:
            return _lost(error)
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}: check the path and its permissions"
    else:
        raise error
    _tell(f"Error: {visible(text, keep='')}")  # one line, whatever a name in it has
    return 1


def _tell(text: str) -> None:
    size, local = _started()
    if size == 1 or local == 0:
        say(text, err=True)


def _lost(error: OSError) -> int:
    """Say that what was printed could not be written, if that at least can be."""
    _discard()
    with suppress(OSError):
        say(
            f"Error: the output cannot be written ({error.strerror or error}): make room, or let "
            "it go elsewhere",
            err=True,
        )
    return 1


def _discard() -> None:
    """Let what is still in the output's buffer go nowhere, or Python's last flush would fail too.

    So does Python's documentation, in its note on SIGPIPE.
    """
    with suppress(OSError, ValueError, AttributeError):  # a test's stream has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say(text: str, err: bool = False) -> None:
    """Print text in which names and messages of others may be: control characters are shown."""
    click.echo(visible(brief(text) if err else text), err=err)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows another
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    warnings.showwarning = _warn  # type: ignore[assignment]
    cli(prog_name="python -m tinyshuffle")


def _warn(warning: Warning | str, *_: Any) -> None:
    """Print a warning as a sentence, without the line of code that it came from."""
    with suppress(OSError):  # nobody reads it: no reason to stop
        say(f"Warning: {warning}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """ShuffleNets that train on a CPU, every gradient written by hand."""


class _Path(click.ParamType):
    """A path, or a name that may be one. ``~`` is the home directory, after ``=`` too."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            path = str(expand(value))
        except TinyshuffleError as error:
            self.fail(str(error), param, ctx)
        # as it was written but for ~: "./x" may be the path where "x" is a name
        return path if value.startswith("~") else value


class _Figure(_Path):
    """Where a figure shall be written: refused before the work if it cannot be."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        path = super().convert(value, param, ctx)
        if Path(path).suffix.lower() not in FORMATS:
            self.fail(f"{shown(path)} has no format: let it end in .png, .svg or .pdf", param, ctx)
        if not Path(path).parent.is_dir():
            self.fail(
                f"there is no directory {Path(path).parent} to write it to: make it first, or "
                "choose another",
                param,
                ctx,
            )
        return path


class _Whole(click.types.IntParamType):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        return super().convert(_plain(self, value, param, ctx), param, ctx)


class _Number(click.types.FloatParamType):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        return super().convert(_plain(self, value, param, ctx), param, ctx)


class _Size(click.ParamType):
    """Of images: ``224``, or ``480x640``, height and width. Comes out as (height, width)."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        try:
            sides = [int(plain(side)) for side in str(value).split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2):
            self.fail(
                f"{value!r} is no size of an image: give its side, such as 224, or its height and "
                "width, such as 480x640",
                param,
                ctx,
            )
        return sides[0], sides[-1]


def _plain(
    kind: click.ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    """Refuse a number that is one to Python alone, in click's own words."""
    try:
        plain(str(value))
    except ValueError:
        kind.fail(f"{value!r} is not a valid {kind.name}.", param, ctx)
    return value


FORMATS = (".png", ".svg", ".pdf")
WHOLE, NUMBER, PATH, FIGURE, SIZE = _Whole(), _Number(), _Path(), _Figure(), _Size()
INPUT_SIZE = "A side, or height and width: 480x640.  [default: {}]"
RUNS_DIR = click.option(
    "--runs-dir",
    metavar="DIR",
    type=PATH,
    default="runs",
    help="Where runs are kept.  [default: runs]",
)
DATA_DIR = click.option(
    "--data-dir",
    metavar="DIR",
    type=PATH,
    help="Where CIFAR's files are, or shall be.  [default: $TINYSHUFFLE_DATA or a cache]",
)
THREADS = click.option("--threads", metavar="N", type=WHOLE, help="Cores to use.  [default: all]")
WEIGHTS = click.option(
    "--weights",
    metavar="FILE",
    type=PATH,
    help="Of the MODEL: .pth, .pt, .safetensors or .npz.",
)
PLOT = click.option(
    "--plot", metavar="FILE", type=FIGURE, help="Draw it (.png, .svg or .pdf)."
)


def key_values(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """KEY=VALUE pairs as a dictionary of texts; the model's own types decide what they mean."""
    found: dict[str, str] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if not key or not value:
            raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE, such as se=true")
        if found.get(key, value) != value:
            raise click.BadParameter(f"{key} was given twice, as {found[key]!r} and {value!r}")
        found[key] = value
    return found or None


def find_run(run: str, runs_dir: str) -> Path:
    """A run's directory from its path, or its name in ``runs_dir``."""
    for path in (Path(run), Path(runs_dir) / run):
        if path.is_dir():
            return path
    there = sorted(p.parent.name for p in Path(runs_dir).glob("*/config.json"))
    near = difflib.get_close_matches(Path(run).name, there, n=1, cutoff=0.4) or there[-1:]
    hint = f"did you mean {Path(runs_dir) / near[0]}?" if near else f"{runs_dir} has no runs yet"
    raise TinyshuffleError(f"there is no run {shown(run)}, as a directory or in {runs_dir}; {hint}")


def with_weights(model: str, weights: str, runs_dir: str) -> Pretrained:
    """A model with the weights of a file; a run's name in its place is told to be one."""
    from .. import models
    from ..weights import pretrained

    is_run = Path(model).is_dir() or Path(runs_dir, model).is_dir()
    if is_run and model not in models.list_models():
        raise TinyshuffleError(
            f"{shown(model)} is a run and has weights of its own: leave --weights out, or give the "
            "MODEL that the file is for"
        )
    return pretrained(model, weights)


def new_table(first: str, *others: str) -> Table:
    from .table import Table

    return Table(first, *others)


def print_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    table = new_table(*headings)
    for line in lines:
        table.add_row(*line)
    table.print()


def positive(option: str, value: int | None, most: int = 1_000_000) -> None:
    """Refuse what is no count; None was not given."""
    if value is not None and value < 1:
        raise TinyshuffleError(f"{option} {value} is not possible: give 1 or more")
    if value is not None and value > most:
        raise TinyshuffleError(f"{option} {shown(value)} is too large: give at most {most:,}")


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise TinyshuffleError(f"{option} {value} is unknown: use {', '.join(known)}")
    return value


def without_effect(reason: str, *names: str) -> None:
    """Refuse those of the command's options that were given and that would do nothing.

    Parameters
    ----------
    reason : str
        Why they would not: the end of "--by has no effect …".
    *names : str
        The options' parameters.
    """
    ctx = click.get_current_context()
    given = [
        param.opts[0]
        for param in ctx.command.params
        if param.name in names
        and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        has, it = ("have", "them") if len(given) > 1 else ("has", "it")
        raise TinyshuffleError(
            f"{' and '.join(given)} {has} no effect {reason}: leave {it} out"
        )


def save_figure(figure: Any, path: str) -> None:
    """Write a figure, atomically, in the format that its name asks for."""
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix.lstrip(".").lower())
    say(f"drawn: {path}", err=True)  # what is on the standard output may be JSON
