"""The commands ``train`` and ``eval``."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TinyshuffleError
from ..text import visible
from ..train import recipe as recipes
from ..train.config import DEFAULTS, LEARNING_RATES, MUON_LR, RISES, Config
from ..train.progress import output
from ..train.schedule import ONE_CYCLE_RISE, SCHEDULES
from ..values import read
from .group import (
    DATA_DIR,
    NUMBER,
    PATH,
    RUNS_DIR,
    THREADS,
    WEIGHTS,
    WHOLE,
    cli,
    find_run,
    key_values,
    new_table,
    positive,
    say,
    with_weights,
    without_effect,
)

if TYPE_CHECKING:
    from ..ranks import Ranks


def _field(name: str, text: str, default: object = None, **arguments: Any) -> Any:
    """An option for a field of the configuration. None says that it was not given."""
    if default is None:
        default = getattr(Config, name)
    return click.option(
        f"--{name.replace('_', '-')}", help=f"{text}  [default: {default}]".strip(), **arguments
    )


def _sizes(ctx: click.Context, option: click.Parameter, text: str | None) -> Any:
    try:
        return None if text is None else read("--sizes", text, tuple[int, ...])
    except TinyshuffleError as error:
        raise click.BadParameter(str(error)) from None


def _of_each_data(name: str) -> str:
    return ", ".join(f"{fields[name]} for {data}" for data, fields in DEFAULTS.items())


_LR = ", ".join(f"{lr:g} with {name}" for name, lr in LEARNING_RATES.items())
_LR += "; scaled if --batch-size is given alone"


@cli.command(short_help="Train a net.")
@click.option(
    "--recipe",
    metavar="NAME",
    type=PATH,
    help=f"Begin with the fields of a recipe: {', '.join(recipes.names())}, or a .toml file.",
)
@_field("model", "One of `models`.", metavar="NAME")
@_field(
    "variant",
    "What else the model shall be told, such as se=true; may be repeated.",
    "nothing",
    metavar="KEY=VALUE",
    multiple=True,
    callback=key_values,
)
@_field("data", f"{', '.join(DEFAULTS)}.", metavar="NAME|FOLDER")
@_field("side", "Of a folder's pictures, in pixels.", "64", metavar="N", type=WHOLE)
@click.option(
    "--strict", is_flag=True, default=None,
    help="Refuse a folder with files that are no pictures; else they are named and left out.",
)
@_field("validate", "Hold out N training images, and test with these while training.", "none",
        metavar="N", type=WHOLE)
@_field("stem", "First layers as for images of 32 pixels (cifar) or 224 (imagenet).", "cifar",
        metavar="NAME")
@_field("init", "Begin with the weights of a run, or of a file.", "random weights",
        metavar="RUN|FILE", type=PATH)
@_field("freeze", "Hold still: stem, stages, all-but-head; with --init.", "nothing", metavar="WHAT")
@_field("unfreeze_at", "From then on train all of it.", "never", metavar="EPOCH", type=WHOLE)
@_field("whiten", "Begin the first layer as a whitening of the images' patches.", "no",
        metavar="yes|no")
@_field("body_lr", "Part of --lr for all layers but the last; with --init.", "1", metavar="X",
        type=NUMBER)
@DATA_DIR
@_field("epochs", "", _of_each_data("epochs"), metavar="N", type=WHOLE)
@_field(
    "time_budget", "Instead of --epochs: as many as fit, such as 45m.", "none", metavar="TIME"
)
@_field("test_every", "Test after every N epochs, and after the last one.", "1", metavar="N",
        type=WHOLE)
@_field(
    "early_stop",
    "Stop when the best test accuracy is N epochs old.",
    "never",
    metavar="N",
    type=WHOLE,
)
@_field("batch_size", "", _of_each_data("batch_size"), metavar="N", type=WHOLE)
@_field("optimizer", "sgd (with Nesterov momentum), adam, muon.", metavar="NAME")
@_field("lr", "Highest learning rate.", _LR, metavar="X", type=NUMBER)
@_field("muon_lr", "Of the pointwise weights, with muon.", MUON_LR, metavar="X", type=NUMBER)
@_field("bias_lr", "Times --lr for biases and batch norm's shifts.", "1", metavar="X", type=NUMBER)
@_field("momentum", "Of sgd and muon.", metavar="X", type=NUMBER)
@_field("weight_decay", "Of all but biases and batch norm.", metavar="X", type=NUMBER)
@_field("schedule", f"{', '.join(SCHEDULES)}.", metavar="NAME")
@_field(
    "warmup",
    "Linear rise of the learning rate.",
    f"0, {ONE_CYCLE_RISE:.0%} of the run for one-cycle ({RISES['shapes']:.0%} for shapes)",
    metavar="EPOCHS",
    type=NUMBER,
)
@_field("label_smoothing", "", metavar="X", type=NUMBER)
@_field(
    "ema",
    "Decay of the average of the weights, 0 for none.",
    f"{DEFAULTS['shapes']['ema']} for shapes, or else 0",
    metavar="X",
    type=NUMBER,
)
@_field("alternate", "Mirror each image in every other epoch; no: at random.", "no",
        metavar="yes|no")
@_field("cutout", "Side of the blank square.", "none", metavar="PIXELS", type=WHOLE)
@_field("mixup", "α, how much images are blended.", "not", metavar="X", type=NUMBER)
@_field(
    "sizes",
    "Scale the images, an equal share of the epochs each, such as 16,24,32.",
    "as they are",
    metavar="N,N,…",
    callback=_sizes,
)
@_field("seed", "Of weights, order and augmentation.", metavar="N", type=WHOLE)
@THREADS
@click.option("--mpi", is_flag=True, help="This is one of the processes that mpiexec has started.")
@_field("sync_bn", "With --mpi: normalise over all ranks; no: each alone.", "yes", metavar="yes|no")
@_field("backend", "numba, numpy.", metavar="NAME")
@click.option("--name", metavar="NAME", help="Of the run.  [default: recipe, data, model, time]")
@RUNS_DIR
@click.option(
    "--resume", metavar="RUN", type=PATH, help="Continue a run that was stopped, with its options."
)
@click.option("--show", is_flag=True, help="Print the configuration as a recipe, and do nothing.")
def train(
    recipe: str | None,
    resume: str | None,
    name: str | None,
    runs_dir: str,
    show: bool,
    mpi: bool,
    **options: Any,
) -> None:
    """Train a net, by default a tiny ShuffleNet V2 on built-in images in about a minute.

    RUNS_DIR/NAME receives log.csv, log.jsonl, curves.png, confusion.png, worst.png, report.html,
    config.json, machine.json and the checkpoints last.npz and best.npz. Ctrl-C stops after the
    current step (the first one it breaks off); --resume continues as if nothing had happened, to
    the bit, after a power cut too.
    A folder of your own has a folder of pictures for each class; or train/ and test/, each with
    those.
    `mpiexec -n 4 python -m tinyshuffle train --mpi` shares each batch among four processes.
    """
    from .. import train as training

    if not mpi:
        without_effect("without --mpi", "sync_bn")
    given = {option: value for option, value in options.items() if value is not None}
    if "data_dir" in given:
        given["data_dir"] = str(Path(given["data_dir"]).absolute())
    with _processes() if mpi else nullcontext() as us:
        if resume is None:
            if "init" in given and not Path(given["init"]).is_file():
                given["init"] = str(find_run(given["init"], runs_dir))
            config = Config.make(recipe, **given)
            if show:
                training.check(config)
                if us is None or us.rank == 0:
                    say(config.to_toml())
                return
            stem = Path(recipe).stem if recipe else None
            result = training.train(config, name, runs_dir, prefix=stem)
        else:
            others = {"name": name, "recipe": recipe, "show": "" if show else None}
            for option, value in others.items():
                if value is not None:
                    raise TinyshuffleError(
                        f"{f'--{option} {value}'.strip()} contradicts --resume, which takes "
                        "everything from the run: leave one of them out"
                    )
            result = training.resume(find_run(resume, runs_dir), **given)
        if us is None or us.rank == 0:
            click.echo(visible(str(result)), file=output())


@contextmanager
def _processes() -> Iterator[Ranks]:
    """Be one of the processes of an MPI run; only the first prints, and no failure leaves others.

    If all fail alike, as of a mistake in the options, that is one sentence too.
    """
    from ..ranks import last_words, ranks

    with ranks() as us, last_words(us), warnings.catch_warnings():
        if us.rank > 0:
            warnings.simplefilter("ignore")
        try:
            yield us
        except BaseException as error:
            if us.fails_alone():
                if not isinstance(error, TinyshuffleError | KeyboardInterrupt):
                    traceback.print_exc()
                us.end_all(str(error) or type(error).__name__)
            if us.rank > 0:
                raise SystemExit(1) from None
            raise


@cli.command("eval", short_help="Test a trained net.")
@click.argument("run", type=PATH, metavar="RUN|MODEL")
@WEIGHTS
@click.option("--data", metavar="FOLDER", type=PATH, help="Pictures for MODEL, a folder a class.")
@DATA_DIR
@THREADS
@click.option("--flip", is_flag=True, help="Average over each image and its mirror image too.")
@click.option("--crops", is_flag=True, help="Average over each image and two of its crops too.")
@RUNS_DIR
def evaluate(
    run: str,
    weights: str | None,
    data: str | None,
    data_dir: str | None,
    threads: int | None,
    flip: bool,
    crops: bool,
    runs_dir: str,
) -> None:
    """Test the best checkpoint of RUN: accuracy and loss, and the accuracy of each class.

    The images are the test images, also of a run with --validate, which has not looked at them.

    With --weights, MODEL is one of `models` with weights from that file, and is tested on the
    pictures in --data, which are made ready as torchvision does it. What --flip and --crops bring
    is told apart: it belongs to the test, not to the net.
    """
    from .. import set_num_threads
    from .. import train as training

    positive("--threads", threads, 4096)
    if (weights is None) != (data is None):
        raise TinyshuffleError(
            "--weights and --data belong together: a MODEL with weights is tested on a folder of "
            "pictures, and a RUN on the data that it was trained for"
        )
    if weights is not None and data is not None:
        without_effect("with --weights", "data_dir", "flip", "crops", "runs_dir")
        set_num_threads(threads)
        ready = with_weights(run, weights, runs_dir)
        say(f"images: {ready.pipeline}")
        tested, source = training.evaluate_pictures(ready, data), weights
    else:
        directory = find_run(run, runs_dir)
        views, path, epoch = training.evaluate_run(directory, data_dir, threads, flip, crops)
        tested = views.plain or views
        source = f"{path} (epoch {epoch})"
    table = new_table("class", "right", "images", "accuracy")
    for name, right, count in zip(tested.classes, tested.right, tested.count, strict=True):
        share = f"{100 * right / count:.1f} %" if count else "-"
        if count or weights is None:
            table.add_row(name, str(right), str(count), share)
    table.print()
    say(
        f"test accuracy {100 * tested.accuracy:.2f} %, loss {tested.loss:.4f}, "
        f"{tested.count.sum():,} images; {source}"
    )
    if flip or crops:
        words = ["mirror images (test-time flip)"] * flip + ["crops"] * crops
        say(f"with {' and '.join(words)}: {100 * views.accuracy:.2f} %, loss {views.loss:.4f}")
