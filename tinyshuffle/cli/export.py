"""The command ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import TinyshuffleError
from ..text import shown
from .group import (
    INPUT_SIZE,
    PATH,
    RUNS_DIR,
    SIZE,
    WEIGHTS,
    WHOLE,
    cli,
    find_run,
    positive,
    say,
    with_weights,
)


@cli.command(short_help="Write a net as an ONNX file.")
@click.argument("run", type=PATH, metavar="RUN|MODEL")
@click.argument("out", type=PATH)
@WEIGHTS
@click.option("--opset", metavar="N", type=WHOLE, default=17, help="[default: 17]")
@click.option(
    "--layout", metavar="NAME", default="nchw", help="Of the images: nchw, nhwc.  [default: nchw]"
)
@click.option("--keep-batch-norm", is_flag=True, help="Do not fold it into the convolutions.")
@click.option(
    "--input-size", metavar="N", type=SIZE, help=INPUT_SIZE.format("the run's, or 224")
)
@RUNS_DIR
def export(
    run: str,
    out: str,
    weights: str | None,
    opset: int,
    layout: str,
    keep_batch_norm: bool,
    input_size: tuple[int, int] | None,
    runs_dir: str,
) -> None:
    """Write the net of RUN, or MODEL with the weights of a file, as the ONNX file OUT.

    The batch may have any size. Class names, mean and standard deviation are in the file's
    metadata. Where ONNX Runtime is installed it runs the file, and the largest difference from
    the net here is printed.
    """
    from .. import load, models, onnx

    if Path(out).suffix.lower() != ".onnx":
        raise TinyshuffleError(f"{shown(out)} is no name for an ONNX file: let it end in .onnx")
    for side in input_size or ():
        positive("--input-size", side, 10_000)
    size: Any = input_size or 224
    facts: dict[str, Any] = {}
    is_run = Path(run).is_dir() or Path(runs_dir, run).is_dir()
    if weights is not None:
        ready = with_weights(run, weights, runs_dir)
        net, pipeline = ready.net, ready.pipeline
        facts = {"classes": ready.classes, "mean": pipeline.mean, "std": pipeline.std}
    elif run in models.list_models() and not is_run:
        net = models.create(run).eval()
        say(f"{run} without --weights: the numbers in the file are drawn at random")
    else:
        trained = load(find_run(run, runs_dir))
        net, size = trained.net, input_size or trained.size
        facts = {"classes": trained.classes, "mean": trained.mean, "std": trained.std}
    say(str(onnx.export(net, out, opset, layout, not keep_batch_norm, size, **facts)))
