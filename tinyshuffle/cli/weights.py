"""The command ``weights``."""

from __future__ import annotations

import click

from .group import DATA_DIR, cli, new_table, say


@cli.command(short_help="List the weights that torchvision has published, and fetch them.")
@click.argument("name", required=False)
@DATA_DIR
def weights(name: str | None, data_dir: str | None) -> None:
    """List torchvision's published weights for the nets here; or fetch those called NAME.

    Nothing is downloaded without a NAME. Where there is no network, the list says which file to
    fetch and where to put it. Any other file of weights for a MODEL will do as well.
    """
    from ..weights import published

    where = published.folder(data_dir)
    if name is not None:
        one = published.find(name)
        if not (where / one.file).is_file():
            say(f"fetching {one.url} ({one.mebibytes:.1f} MiB) …")
        path = published.download(name, data_dir)
        say(f"{path}: SHA-256 {one.sha256}…, {published.LICENCE}")
        say(f"images: {one.pipeline}")
        say(f"python -m tinyshuffle predict {one.model} --weights {path} photo.jpg")
        return
    table = new_table("weights", "MiB", "SHA-256", "top-1", "here", "file")
    for one in published.listed():
        here = "yes" if (where / one.file).is_file() else "no"
        size, accuracy = f"{one.mebibytes:.1f}", f"{one.accuracy:.1f} %"
        table.add_row(one.name, size, f"{one.sha256}…", accuracy, here, one.file)
    table.print()
    say(f"from {published.SERVER}FILE to {where}; {published.LICENCE}")
    say("python -m tinyshuffle weights NAME fetches one and says how to use it")
