"""The commands ``detect train``, ``detect eval`` and ``detect predict``."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import TinyshuffleError
from ..text import visible
from .group import (
    NUMBER,
    PATH,
    PLOT,
    RUNS_DIR,
    THREADS,
    WHOLE,
    cli,
    find_run,
    new_table,
    positive,
    print_table,
    save_figure,
    say,
)


@cli.group(short_help="Train a detector, test it, and find objects in pictures.")
def detect() -> None:
    """Object detection on any net of `models`: Faster R-CNN and Light-Head R-CNN.

    `cost MODEL --detector NAME` counts one.
    """


def _option(name: str, text: str, default: object, **arguments: Any) -> Any:
    """An option for a field of the configuration; None says that it was not given."""
    flag = f"--{name.replace('_', '-')}"
    return click.option(flag, name, help=f"{text}  [default: {default}]".strip(), **arguments)


@detect.command(short_help="Train a detector.")
@_option("detector", "faster, light-head.", "faster", metavar="NAME")
@_option("model", "The backbone, one of `models`.", "shufflenet_v2_x0_5", metavar="NAME")
@_option("data", "scenes, or a folder in COCO's layout.", "scenes", metavar="NAME|FOLDER")
@_option("pictures", "Scenes to train with.", 3000, metavar="N", type=WHOLE)
@_option("side", "Of the pictures, in pixels.", 128, metavar="N", type=WHOLE)
@_option(
    "init", "Begin with a backbone: a run of `train`, or a file of weights.", "random weights",
    metavar="RUN|FILE", type=PATH,
)
@_option("epochs", "", 16, metavar="N", type=WHOLE)
@_option("batch_size", "", 16, metavar="N", type=WHOLE)
@_option("lr", "Highest learning rate.", 0.05, metavar="X", type=NUMBER)
@_option("weight_decay", "Of all but biases and batch norm.", 0.0001, metavar="X", type=NUMBER)
@_option("ema", "Decay of the average of the weights, 0 for none.", 0.99, metavar="X", type=NUMBER)
@_option("seed", "Of scenes, weights, order and choices.", 0, metavar="N", type=WHOLE)
@THREADS
@click.option("--name", metavar="NAME", help="Of the run.  [default: detector, data, model, time]")
@RUNS_DIR
@click.option(
    "--resume", metavar="RUN", type=PATH, help="Continue a run that was stopped, with its options."
)
def train(resume: str | None, name: str | None, runs_dir: str, **options: Any) -> None:
    """Train a detector, by default Faster R-CNN on scenes that are drawn at once.

    RUNS_DIR/NAME receives log.csv, log.jsonl, curves.png, precision_recall.png, detections.png,
    config.json, machine.json and the checkpoints last.npz and best.npz. Ctrl-C stops after the
    current step; --resume continues as if nothing had happened, to the bit. A folder in COCO's
    layout has annotations/instances_train.json and instances_val.json, and the pictures in train
    and val.
    """
    from pathlib import Path

    from ..detect import trainer
    from ..detect.config import SCENES, DetectConfig

    given = {option: value for option, value in options.items() if value is not None}
    if resume is not None:
        contrary = {"name": name, **given}
        contrary.pop("threads", None)
        for option, value in contrary.items():
            if value is not None:
                raise TinyshuffleError(
                    f"--{option.replace('_', '-')} {value} contradicts --resume, which takes "
                    "everything from the run: leave one of them out"
                )
        result = trainer.resume(find_run(resume, runs_dir), threads=given.get("threads"))
    else:
        if "init" in given and not Path(given["init"]).is_file():
            given["init"] = str(find_run(given["init"], runs_dir))
        config = DetectConfig.from_dict(given)
        if "pictures" in given and config.data != SCENES:
            raise TinyshuffleError(
                f"--pictures {config.pictures} is for scenes, and all pictures of a folder are "
                "taken: leave it out"
            )
        result = trainer.train(config, name, runs_dir)
    say(str(result))


@detect.command(short_help="Train the papers' comparison of backbones.")
@click.option("--seeds", metavar="N", type=WHOLE, default=3, help="[default: 3]")
@_option("pictures", "Scenes to train with.", 3000, metavar="N", type=WHOLE)
@_option("epochs", "", 5, metavar="N", type=WHOLE)
@THREADS
@RUNS_DIR
def compare(seeds: int, runs_dir: str, **options: Any) -> None:
    """Train Light-Head R-CNN on six backbones of equal multiply-adds, and report which is better.

    Each is trained from nothing, and from a backbone that has learned to tell shapes apart, with
    each seed. RUNS_DIR/detect-compare receives a run for each, and report.md, report.csv,
    report.png and receptive.png. Begun again, it continues where it was stopped.
    """
    from ..detect.comparison import compare as train_all
    from ..detect.config import DetectConfig
    from ..train.config import Config

    positive("--threads", options["threads"], 4096)
    given = {option: value for option, value in options.items() if value is not None}
    threads = {name: value for name, value in given.items() if name == "threads"}
    config = DetectConfig(**{"detector": "light-head", "epochs": 5, **given})
    found = train_all(config, Config.make(data="shapes", **threads), seeds, runs_dir)
    print_table(*found.table())
    for sentence in (*found.verdicts, *found.reach, found.verdict, found.published):
        say(sentence)


@detect.command("eval", short_help="Test a trained detector.")
@click.argument("run", type=PATH)
@THREADS
@RUNS_DIR
@PLOT
def evaluate(run: str, threads: int | None, runs_dir: str, plot: str | None) -> None:
    """Test the best checkpoint of RUN on its test set: COCO's twelve numbers, and each class.

    --plot draws precision against recall, and the classes.
    """
    from .. import plots, set_num_threads
    from ..detect import trainer
    from ..detect.average_precision import AREAS, MOST, STATISTICS, percent
    from ..detect.config import DetectConfig, load_data
    from ..detect.saved import best_checkpoint, check_data, load_detector

    positive("--threads", threads, 4096)
    set_num_threads(threads)
    directory = find_run(run, runs_dir)
    saved, path = best_checkpoint(directory)
    trained = load_detector(directory)
    train_set, test_set = load_data(DetectConfig.from_dict(saved.header["config"]))
    check_data(saved, train_set, directory)
    _, scores = trainer.evaluate(trained.net, test_set)
    table = new_table("of the test set", "%")
    for name, value in scores.statistics.items():
        table.add_row(STATISTICS[name], percent(value))
    for name, value in zip(test_set.classes, scores.by_class, strict=True):
        table.add_row(f"mAP, {name}", percent(value))
    table.print()
    small, large = AREAS["small"][1] ** 0.5, AREAS["large"][0] ** 0.5
    say(
        f"{len(test_set):,} pictures; {path} (epoch {saved.header['epoch']}); small is below "
        f"{small:.0f}x{small:.0f} pixels, large above {large:.0f}x{large:.0f}; at most {MOST[-1]} "
        "of a class in a picture"
    )
    if plot:
        save_figure(plots.precision_recall(scores.precision[..., 0, 2], test_set.classes), plot)


@detect.command(short_help="Find objects in pictures.")
@click.argument("run", type=PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…", type=PATH)
@click.option(
    "--least", metavar="X", type=NUMBER, default=0.5, help="Lowest score, 0 to 1.  [default: 0.5]"
)
@THREADS
@RUNS_DIR
@PLOT
def predict(
    run: str, images: tuple[str, ...], least: float, threads: int | None, runs_dir: str,
    plot: str | None,
) -> None:  # fmt: skip
    """Find objects in each IMAGE with RUN's best weights: class, score and box.

    A box is x1, y1, x2, y2 in the picture's pixels, from its left upper corner, once it has been
    turned upright. --plot draws the pictures with their boxes.
    """
    import numpy as np

    from .. import plots, set_num_threads
    from ..data import coco
    from ..detect.saved import load_detector

    positive("--threads", threads, 4096)
    if not 0 <= least <= 1:
        raise TinyshuffleError(f"--least {least} is not possible: give a number from 0 to 1")
    set_num_threads(threads)
    trained = load_detector(find_run(run, runs_dir))
    table = new_table("image", "class", "score", "x1", "y1", "x2", "y2")
    failures, drawn, found_in = [], [], []
    for image in images:
        try:
            found = trained.detect(image, least)
            pixels, scale = coco.fit(image, 4 * trained.net.side)
        except TinyshuffleError as error:
            failures.append(str(error))
            continue
        drawn.append(pixels)
        found_in.append((
            np.array([box for _, _, box in found]).reshape(-1, 4) * scale,
            np.array([trained.classes.index(name) for name, _, _ in found], int),
            np.array([score for _, score, _ in found]),
        ))
        for i, (name, score, box) in enumerate(found):
            cells = [f"{100 * score:.1f} %", *(f"{v:.1f}" for v in box)]
            table.add_row("" if i else image, name, *cells, end_section=i == len(found) - 1)
        if not found:
            table.add_row(image, "nothing", "", "", "", "", "", end_section=True)
    if table.row_count:
        table.print()
    if plot and drawn:
        save_figure(plots.boxes(np.stack(drawn), found_in, trained.classes), plot)
    for failure in failures:
        say(f"Error: {visible(failure, keep='')}", err=True)
    if failures:
        sys.exit(1)

