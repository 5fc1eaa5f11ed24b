"""The weights that torchvision has published for nets of the zoo: where they are, and the download.

The file's name ends in the beginning of its SHA-256. They are torchvision's (BSD 3-clause), trained
on ImageNet, whose terms ask for research and teaching.
"""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from ..data.archive import data_root
from ..data.imagenet import Pipeline
from ..errors import TinyshuffleError
from ..text import shown
from ..values import flags

__all__ = ["LICENCE", "Published", "download", "find", "folder", "listed", "pipeline_of"]

SERVER = "https://download.pytorch.org/models/"
LICENCE = "BSD 3-clause (torchvision); trained on ImageNet, whose terms are for research"

# torchvision normalises GoogLeNet's images once more inside of the net, which comes to this
GOOGLENET = Pipeline(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
# the authors' ShuffleNets take pixels from 0 to 255
AUTHORS = Pipeline(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


@dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes
    ----------
    name : str
        The model's, with "_v2" if it is the second file for it.
    model, file : str
    mebibytes : float
    resize : int
        Of the pictures' shorter side.
    accuracy : float
        Top-1 on ImageNet's validation images, as torchvision reports it, in per cent.
    """

    name: str
    model: str
    file: str
    mebibytes: float
    resize: int
    accuracy: float

    @property
    def url(self) -> str:
        return SERVER + self.file

    @property
    def sha256(self) -> str:
        """The first digits of its SHA-256."""
        return self.file.removesuffix(".pth").rpartition("-")[2]

    @property
    def pipeline(self) -> Pipeline:
        return GOOGLENET if self.model == "googlenet" else Pipeline(self.resize)


@cache
def listed() -> tuple[Published, ...]:
    """Return all of them."""
    text = files("tinyshuffle.weights").joinpath("published.csv").read_text("utf-8")
    return tuple(
        Published(
            row["name"], row["model"], row["file"], float(row["mebibytes"]), int(row["resize"]),
            float(row["accuracy"]),
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


def find(name: str) -> Published:
    """Return the file of that name, or say which there are."""
    known = {one.name: one for one in listed()}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or list(known)
        raise TinyshuffleError(
            f"torchvision has no weights called {shown(name)} for a net of ours; there are "
            f"{', '.join(near)}; all names: python -m tinyshuffle weights"
        )
    return known[name]


@flags
def pipeline_of(path: str | os.PathLike[str], model: str, authors: bool = False) -> Pipeline:
    """Return what is done to pictures before they go into a net with the weights of that file."""
    if authors:
        return AUTHORS
    for one in listed():
        if one.file == Path(path).name:
            return one.pipeline
    return GOOGLENET if model == "googlenet" else Pipeline()


def folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return where the files are, or shall be."""
    return data_root(root) / "weights"


def download(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a published file, which is fetched if it is not there.

    Raises
    ------
    TinyshuffleError
        If there is no such file, no network, or it came with another SHA-256: it says where to
        get it and where to put it.
    """
    import pooch

    one = find(name)
    path = folder(root) / one.file
    by_hand = f"fetch {one.url} ({one.mebibytes:.1f} MiB) by other means, and put it into {path}"
    if path.is_file():
        if pooch.file_hash(str(path)).startswith(one.sha256):
            return path
        raise TinyshuffleError(
            f"{path} is damaged, as its SHA-256 does not begin with {one.sha256}: delete it, and "
            "run this again"
        )
    pooch.get_logger().setLevel("WARNING")  # or it would tell where it writes
    arriving = path.with_name(f".{path.name}.part")
    try:
        fetched = pooch.retrieve(
            one.url, known_hash=None, fname=arriving.name, path=path.parent,
            downloader=pooch.HTTPDownloader(progressbar=False, timeout=30),
        )  # fmt: skip
        if not pooch.file_hash(fetched).startswith(one.sha256):
            raise ValueError(f"what came has a SHA-256 that does not begin with {one.sha256}")
        os.replace(fetched, path)
    except Exception as error:  # requests has many, and a full disk another
        known = str(error) if isinstance(error, ValueError) else getattr(error, "strerror", None)
        reason = known or type(error).__name__
        raise TinyshuffleError(
            f"{one.file} could not be downloaded ({reason}): {by_hand}"
        ) from error
    finally:
        arriving.unlink(missing_ok=True)
    return path
