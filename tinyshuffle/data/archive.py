"""Where a data set's files are: unpacked, as the archive, or to be downloaded."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from urllib.parse import urlsplit

from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.files import expand

from ..text import bar, console
from ..values import flags

__all__ = ["Source", "data_root", "locate"]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and what its files look like."""

    name: str
    urls: tuple[str, ...]  # the official one, then mirrors; the MD5 decides whom to believe
    size: int  # of the archive, bytes
    md5: str
    folder: str  # inside the archive
    train: tuple[str, ...]
    test: tuple[str, ...]
    records: tuple[int, int]  # in one training file, in one test file
    names: str  # the file of class names
    classes: tuple[str, ...]  # in the order of the labels
    label_bytes: int
    label: int  # which of them is used
    # Of each channel of the training images, as they are printed wherever CIFAR is used: they tell
    # the official images from others where no archive with its MD5 is at hand.
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def archive(self) -> str:
        return PurePosixPath(urlsplit(self.urls[0]).path).name

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.names)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root` if given, else ``TINYSHUFFLE_DATA``, else the user's cache directory."""
    chosen = root or os.environ.get("TINYSHUFFLE_DATA")
    if chosen:
        return expand(chosen, "" if root else "TINYSHUFFLE_DATA")
    import pooch

    return Path(pooch.os_cache("tinyshuffle"))


@flags
def locate(
    source: Source, root: str | os.PathLike[str] | None = None, download: bool = True
) -> Path:
    """The folder of the unpacked files; unpacks and downloads what is missing."""
    directory = data_root(root)
    for folder in (directory / source.folder, directory):
        if all((folder / file).is_file() for file in source.files):
            return folder
    archive = directory / source.archive
    problem = f"{source.name} is not in {directory}"
    try:
        if archive.is_file():
            problem = _mismatch(source, archive)
        if problem and not download:
            raise TinyshuffleError(f"{problem}: {_advice(source, directory)}")
        if problem:
            _download(source, directory, problem)
        return _unpack(source, archive, directory / source.folder)
    except OSError as error:  # a full disk, no permission
        raise TinyshuffleError(
            f"{source.name} could not be written to {directory} ({error.strerror or error}): make "
            "room there, or name another directory with --data-dir or TINYSHUFFLE_DATA"
        ) from error


def _mismatch(source: Source, archive: Path) -> str:
    """What is wrong with the archive, or an empty string."""
    import pooch

    size, md5 = archive.stat().st_size, pooch.file_hash(str(archive), alg="md5")
    if md5 == source.md5:
        return ""
    return (
        f"{archive} is truncated or corrupt, with {size:,} bytes and MD5 {md5} where {source.name} "
        f"has {source.size:,} bytes and MD5 {source.md5}"
    )


def _advice(source: Source, directory: Path) -> str:
    return (
        f"put {source.archive} ({source.size / 1e6:.0f} MB, MD5 {source.md5}, from "
        f"{source.urls[0]}) into {directory}, or name the directory that holds it or "
        f"{source.folder} with --data-dir or TINYSHUFFLE_DATA"
    )


def _download(source: Source, directory: Path, problem: str) -> None:
    """Fetch the archive from the first source that has it.

    pooch writes to a temporary file and moves it into place once its MD5 is right, so neither a
    broken download nor a wrong one replaces anything.
    """
    import pooch
    import requests

    failures = []
    attempts = [(url, True) for url in source.urls]
    for url, hurry in attempts:
        host = urlsplit(url).netloc
        try:
            with _ProgressBar(f"{source.name} from {host}", hurry) as bar:
                pooch.retrieve(
                    url,
                    known_hash=f"md5:{source.md5}",
                    fname=source.archive,
                    path=directory,
                    downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16),
                )
            return
        except _TooSlow:
            attempts.append((url, False))  # come back, without hurry, when all others have failed
        except requests.HTTPError as error:
            failures.append(f"{host}: {error}")
        except requests.RequestException as error:
            failures.append(f"{host}: {type(error).__name__}")
        except ValueError:
            failures.append(f"{host}: sent a file with another MD5")
    raise TinyshuffleError(
        f"{problem}, and downloading it failed ({'; '.join(failures)}): "
        f"{_advice(source, directory)}"
    )


class _TooSlow(Exception):
    pass


class _ProgressBar:
    """What pooch asks of a progress bar, drawn by rich.

    In a hurry, it gives a source up that is slower than `SLOW` over its first `PATIENCE` seconds.
    """

    SLOW = 200e3  # bytes a second: a quarter of an hour for an archive
    PATIENCE = 10.0

    def __init__(self, description: str, hurry: bool) -> None:
        from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        self._progress = bar(
            console(stderr=True), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        )
        self._task = self._progress.add_task(description, total=None)
        self._hurry = hurry
        self._start = time.monotonic()
        self._received = 0
        self.total = 0  # pooch sets it when it knows

    def __enter__(self) -> _ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, received: int) -> None:
        self._received += received
        self._progress.update(self._task, advance=received, total=self.total or None)
        elapsed = time.monotonic() - self._start
        if self._hurry and elapsed > self.PATIENCE:
            if self._received < self.SLOW * elapsed:
                raise _TooSlow
            self._hurry = False

    def reset(self) -> None:
        """pooch counts from 0 once more when the file is complete, and never less than all."""
        self._hurry = False
        self._progress.reset(self._task)

    def close(self) -> None:
        pass


def _unpack(source: Source, archive: Path, folder: Path) -> Path:
    """Unpack the files that are needed, each complete before it appears in `folder`.

    Two processes may do this at once: each writes to a directory of its own, and the second one
    replaces a file by its equal. A member's path is never used to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch,
        tarfile.open(archive) as tar,
    ):
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                raise TinyshuffleError(
                    f"{archive} is not unpacked, because its member {member.name!r} is a link or "
                    f"points outside {folder}: delete the archive and get it from {source.urls[0]}"
                )
            content = tar.extractfile(member)
            if content is not None and path.name in source.files:
                with open(Path(scratch, path.name), "wb") as file:
                    shutil.copyfileobj(content, file)
        for name in source.files:
            try:
                os.replace(Path(scratch, name), folder / name)
            except PermissionError:  # on Windows, when the other process is reading its equal
                if not (folder / name).is_file():
                    raise
    return folder
