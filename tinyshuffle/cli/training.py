"""The commands ``train`` and ``eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import TinyshuffleError
from ..train.config import DEFAULTS, LEARNING_RATES, Config
from ..train.schedule import ONE_CYCLE_RISE, SCHEDULES
from .group import DATA_DIR, RUNS_DIR, THREADS, cli, find_run, new_table, print_table


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
@DATA_DIR
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
@THREADS
@_field("backend", "numba, numpy.", metavar="NAME")
@click.option("--name", metavar="NAME", help="Of the run.  [default: data, model and time]")
@RUNS_DIR
@click.option("--resume", metavar="RUN", help="Continue a run that was stopped, with its options.")
def train(resume: str | None, name: str | None, runs_dir: str, **options: Any) -> None:
    """Train a net, by default a tiny ShuffleNet V2 on built-in images in about a minute.

    RUNS_DIR/NAME receives log.csv, curves.png, config.json and the checkpoints last.npz and
    best.npz. Ctrl-C stops after the current step; --resume continues as if nothing had happened,
    to the bit, after a power cut too.
    """
    from .. import train as training

    given = {option: value for option, value in options.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).absolute())
    if resume is None:
        result = training.train(Config.make(**given), name, runs_dir)
    else:
        if name is not None:
            raise TinyshuffleError(f"--name {name} contradicts --resume: leave one of them out")
        result = training.resume(find_run(resume, runs_dir), **given)
    click.echo(str(result))


@cli.command("eval", short_help="Test a trained net.")
@click.argument("run")
@DATA_DIR
@THREADS
@RUNS_DIR
def evaluate(run: str, data_dir: str | None, threads: int | None, runs_dir: str) -> None:
    """Test the best checkpoint of RUN: accuracy and loss, and the accuracy of each class."""
    from .. import train as training

    tested, path, epoch = training.evaluate_run(find_run(run, runs_dir), data_dir, threads)
    table = new_table("class", "right", "images", "accuracy")
    for name, right, count in zip(tested.classes, tested.right, tested.count, strict=True):
        share = f"{100 * right / count:.1f} %" if count else "-"
        table.add_row(name, str(right), str(count), share)
    print_table(table)
    click.echo(
        f"test accuracy {100 * tested.accuracy:.2f} %, loss {tested.loss:.4f}, "
        f"{tested.count.sum():,} images; {path} (epoch {epoch})"
    )
