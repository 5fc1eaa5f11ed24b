"""The commands ``models`` and ``data``."""

from __future__ import annotations

import difflib
from math import prod

import click

from ..errors import TinyshuffleError
from .group import DATA_DIR, cli, new_table, say, without_effect


@cli.command(short_help="List the nets.")
@click.argument("pattern", default="*")
def models(pattern: str) -> None:
    """List the nets whose names contain PATTERN or match it (such as "*v2*").

    The parameters are counted with ten classes and the stem for 32x32 images, and, as in the
    papers, with a thousand classes and the stem for 224x224.
    """
    from .. import models as registry

    every = registry.list_models()
    names = registry.list_models(pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    if not names:
        near = difflib.get_close_matches(pattern.strip("*"), every, n=3, cutoff=0.4)
        raise TinyshuffleError(
            f"no model's name contains or matches {pattern!r}: "
            + (f"did you mean {' or '.join(near)}?" if near else "leave it out to see them all")
        )
    table = new_table("model", "parameters, CIFAR", "ImageNet")
    for name in names:
        counts = []
        for stem, classes in (("cifar", 10), ("imagenet", 1000)):
            net = registry.create(name, num_classes=classes, stem=stem)
            counts.append(f"{sum(prod(p.shape) for p in net.parameters()):,}")
        table.add_row(name, *counts)
    table.print()


@cli.command(short_help="List the data sets, and where they are.")
@click.argument("name", required=False)
@DATA_DIR
def data(name: str | None, data_dir: str | None) -> None:
    """List the data sets and where their files are; or the classes of the one called NAME.

    Nothing is downloaded. `train` and `eval` download what they need.
    """
    from .. import data as sets

    if name is not None:
        if name == "shapes":
            without_effect("on shapes, which are built in", "data_dir")
        about = sets.describe(name, data_dir)
        table = new_table("class", "training images", "test images")
        columns = about["classes"], about["train_per_class"], about["test_per_class"]
        for row in zip(*columns, strict=True):
            table.add_row(*map(str, row))
        table.print()
        say(f"{name}: {about['where']}")
        return
    table = new_table("data", "classes", "training images", "test images", "where")
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
    table.print()
    for sentence in absent:
        say(sentence)
