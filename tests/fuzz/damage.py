"""Random damage to every kind of file that the library reads, and what has to come of it.

A kind of file makes whole ones in a folder and uses them as somebody would. After damage, either a
:class:`~tinyshuffle.TinyshuffleError` says what is wrong, or the use goes well and what came of it
is checked by the kind for harm that could have been known. Anything else that is raised is a fault
of the library.
"""

from __future__ import annotations

import copy
import csv
import json
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from train import tiny_run

import tinyshuffle as ts
from tinyshuffle import checkpoint
from tinyshuffle.course import store
from tinyshuffle.data import cifar
from tinyshuffle.data.archive import Source
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, resume, train
from tinyshuffle.train.compare import differences, read_run, summary
from tinyshuffle.train.trained import read_image

# ---- damage


def damage_bytes(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return a file's bytes with something that disks, networks and editors do to them."""
    data = bytearray(whole)
    n = len(data)
    a, b = sorted(int(i) for i in rng.integers(0, n + 1, 2))
    kind = rng.integers(10)
    if kind <= 2:  # the commonest
        for _ in range(1 + 3 * kind):
            data[int(rng.integers(n))] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        del data[a:]
    elif kind == 4:
        del data[:a]
        data[:0] = rng.bytes(int(rng.integers(4)))
    elif kind == 5:
        data[a:b] = bytes(b - a)
    elif kind == 6:  # two blocks in one another's place
        middle = (a + b) // 2
        data[a:b] = data[middle:b] + data[a:middle]
    elif kind == 7:
        data[a:a] = rng.bytes(int(rng.integers(1, 2000)))
    elif kind == 8:
        del data[a:b]
    else:
        texts = (b"", b"<html>404</html>", b"\xff\xfe\0", b"PK\x03\x04", b"\0" * n, rng.bytes(n))
        data = bytearray(texts[int(rng.integers(len(texts)))])
    return bytes(data)


SHAPES: tuple[Any, ...] = (
    None, True, 5, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 10**12, 10**400, "", "x",
    "[/red]", "a\0b", [], [1], [None], ["x"] * 3, [[0.5]] * 3, [1e9, -1e9, 0], {}, {"x": 1},
    {"epoch": None},
)  # fmt: skip
"""What stands where JSON should be of another shape."""


def damage_json(value: Any, rng: np.random.Generator) -> Any:
    """Return a copy with one of its parts, at any depth, lost, doubled or of another shape."""
    value = copy.deepcopy(value)
    if rng.random() < 0.05:
        return copy.deepcopy(SHAPES[int(rng.integers(len(SHAPES)))])
    inside = value
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            return value
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(inside[key], (dict, list)) and inside[key] and rng.random() < 0.7:
            inside = inside[key]
            continue
        kind = rng.random()
        if kind < 0.25:
            del inside[key]
        elif kind < 0.35 and isinstance(inside, list):
            inside.append(inside[key])
        else:
            inside[key] = copy.deepcopy(SHAPES[int(rng.integers(len(SHAPES)))])
        return value


def damage_file(path: Path, rng: np.random.Generator) -> None:
    """Damage a file where it lies."""
    path.write_bytes(damage_bytes(path.read_bytes(), rng))


def damage_json_file(path: Path, rng: np.random.Generator) -> None:
    """Damage what a JSON file says; it stays JSON."""
    path.write_text(json.dumps(damage_json(json.loads(path.read_text()), rng)))


def damage_arrays(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> bool:
    """Damage one of a checkpoint's arrays; return whether it can certainly be seen."""
    name = sorted(arrays)[int(rng.integers(len(arrays)))]
    array = arrays[name]
    kind = rng.integers(8)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name + "x"] = arrays.pop(name)
    elif kind == 2:
        arrays[name] = array[..., None]
    elif kind == 3:
        arrays[name] = np.array(["a"] * array.size).reshape(array.shape)
    elif kind == 4:
        arrays[name] = array.astype(complex)
    elif kind == 5:
        arrays[name] = np.concatenate([array.reshape(-1)] * 2)
    elif array.dtype.kind == "f":
        array.reshape(-1)[int(rng.integers(array.size))] = (np.nan, np.inf)[int(kind) - 6]
    else:
        arrays[name] = -1 - abs(array)  # a count
    return True


# ---- kinds of files


@dataclass(frozen=True)
class Kind:
    """``make(folder)`` writes whole files, ``hurt`` damages one, ``use`` uses them.

    ``use`` returns what was wrong with the outcome, or nothing; a damage that ``hurt`` returns True
    for has to be refused.
    """

    make: Callable[[Path], None]
    hurt: Callable[[Path, np.random.Generator], Any]
    use: Callable[[Path], str]


def _make_run(folder: Path) -> None:
    train(Config(epochs=2, batch_size=16, threads=1, backend="numpy", ema=0.9), "run", folder, True)


def _hurt_last(folder: Path, rng: np.random.Generator) -> None:
    damage_file(folder / "run" / "last.npz", rng)


def _hurt_best(folder: Path, rng: np.random.Generator) -> None:
    damage_file(folder / "run" / "best.npz", rng)


def _same(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> bool:
    return a.header == b.header and all(
        mine.keys() == yours.keys() and all(mine[k].tobytes() == yours[k].tobytes() for k in mine)
        for mine, yours in ((a.net, b.net), (a.optim, b.optim), (a.average, b.average))
    )


def _use_newest(folder: Path) -> str:
    """However ``last.npz`` is damaged, there is a whole checkpoint to go on from."""
    run = folder / "run"
    try:
        found, path, faults = checkpoint.load_newest(run)
    except TinyshuffleError as error:
        return f"refused, though previous.npz is whole: {error}"
    if path.name == "previous.npz":
        return "" if faults else "previous.npz was taken without a word"
    return "" if _same(found, checkpoint.load(run / "whole")) else "damage was not seen"


def _make_two(folder: Path) -> None:
    _make_run(folder)
    shutil.copy(folder / "run" / "last.npz", folder / "run" / "whole")


def _use_best(folder: Path) -> str:
    """A net from what bytes were damaged is the net that was saved."""
    trained = ts.load(folder / "run" / "best.npz")
    whole = ts.load(folder / "run" / "last.npz")
    picture = np.full((8, 8, 3), 100, np.uint8)
    found = trained.predict(picture)
    again = len(found) == 3 and abs(sum(p for _, p in found) - 1) < 1e-5
    return "" if again and whole.classes == trained.classes else f"predicts {found}"


def _hurt_header(folder: Path, rng: np.random.Generator) -> bool:
    """Write the run's checkpoints again, with another header and right check sums."""
    header = None
    for name in ("last.npz", "previous.npz", "best.npz"):
        path = folder / "run" / name
        saved = checkpoint.load(path)
        header = header or damage_json(saved.header, rng)
        saved.header = header if isinstance(header, dict) else {"x": header}
        checkpoint.save(path, saved)
    return False


def _hurt_arrays(folder: Path, rng: np.random.Generator) -> bool:
    seed = int(rng.integers(2**32))
    for name in ("last.npz", "previous.npz", "best.npz"):
        path = folder / "run" / name
        saved = checkpoint.load(path)
        chance = np.random.default_rng(seed)
        part = (saved.net, saved.average)[int(chance.integers(2))]
        damage_arrays(part, chance)
        checkpoint.save(path, saved)
    return True


def _use_run(folder: Path) -> str:
    """Ask the net, and continue the run: the first refusal is an answer for all."""
    trained = ts.load(folder / "run")
    found = trained.predict(np.full((8, 8, 3), 100, np.uint8))
    if not (len(found) == 3 and abs(sum(p for _, p in found) - 1) < 1e-5):
        return f"predicts {found}"
    result = resume(folder / "run", quiet=True)
    return "" if len(result.rows) == 2 else f"{len(result.rows)} rows"


def _make_log(folder: Path) -> None:
    _make_run(folder)


def _hurt_log(folder: Path, rng: np.random.Generator) -> None:
    run = folder / "run"
    kind = rng.integers(4)
    if kind == 0:
        damage_file(run / "config.json", rng)
    elif kind == 1:
        damage_json_file(run / "config.json", rng)
    elif kind == 2:
        damage_file(run / "log.csv", rng)
    else:  # a number is another thing
        with open(run / "log.csv", newline="") as file:
            rows = list(csv.reader(file))
        row = rows[int(rng.integers(len(rows)))]
        row[int(rng.integers(len(row)))] = str(SHAPES[int(rng.integers(len(SHAPES)))])
        with open(run / "log.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)


def _use_log(folder: Path) -> str:
    log = read_run(folder / "run")
    _, lines = summary([log, log])
    differences([log, log])
    return "nan" * ("nan" in " ".join(lines[0][3:]))


def _hurt_machine(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "run" / "machine.json"
    (damage_file if rng.random() < 0.5 else damage_json_file)(path, rng)


def _use_machine(folder: Path) -> str:
    resume(folder / "run", quiet=True)
    found = json.loads((folder / "run" / "machine.json").read_text())
    return "" if isinstance(found, list) and found[-1]["threads"] == 1 else f"wrote {found}"


TEN = replace(cifar.CIFAR10, records=(20, 10))
HUNDRED = replace(cifar.CIFAR100, records=(100, 100))


def _make_cifar(source: Source) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for names, count in zip((source.train, source.test), source.records, strict=True):
            for name in names:
                table = rng.integers(0, 256, (count, source.label_bytes + 3072), np.uint8)
                table[:, source.label_bytes - 1] = np.arange(count) % source.num_classes
                (folder / name).write_bytes(table.tobytes())
        (folder / source.names).write_text("\n".join(source.classes) + "\n")

    return make


def _hurt_cifar(folder: Path, rng: np.random.Generator) -> bool:
    paths = sorted(folder.iterdir())
    one, other = (paths[int(i)] for i in rng.choice(len(paths), 2, replace=False))
    kind = rng.integers(8)
    if kind == 0:  # a file in another's place
        shutil.copy(one, other)
        return True
    if kind == 1:
        names = next(path for path in paths if path.suffix == ".txt")
        lines = names.read_text().split()
        names.write_text("\n".join(lines[::-1]))
        return True
    if kind == 2:
        names = next(path for path in paths if path.suffix == ".txt")
        names.write_bytes(names.read_text().encode("utf-16"))
        return True
    if kind == 3:
        data = one.read_bytes()
        one.write_bytes(bytes(len(data)))
        return True
    damage_file(one, rng)
    return False


def _use_cifar(source: Source) -> Callable[[Path], str]:
    def use(folder: Path) -> str:
        for dataset in cifar.load(source, folder, download=False):
            counts = np.bincount(dataset.labels, minlength=source.num_classes)
            if len(set(counts)) > 1 or len(set(dataset.classes)) < source.num_classes:
                return f"{counts} of {dataset.classes}"
            next(ts.data.batches(dataset, 4))
        return ""

    return use


def _hurt_names(folder: Path, rng: np.random.Generator) -> None:
    damage_file(folder / TEN.names, rng)


def _make_recipe(folder: Path) -> None:
    config = Config.make("lecture", threads=2)
    (folder / "recipe.toml").write_text(config.to_toml())


def _hurt_recipe(folder: Path, rng: np.random.Generator) -> None:
    path = folder / "recipe.toml"
    if rng.random() < 0.5:
        damage_file(path, rng)
        return
    lines = path.read_text().splitlines()  # a value of another type
    i = int(rng.integers(len(lines)))
    values = ("1979-05-27", "07:32:00", "nan", "-inf", "[1, 'a']", "{ a = 1 }", "'''x'''", "0x7f",
              "true", "1e400", "-0", "99999999999999999999", "[[1]]", '"\\u0000"')  # fmt: skip
    lines[i] = f"{lines[i].split(' = ')[0]} = {values[int(rng.integers(len(values)))]}"
    path.write_text("\n".join(lines))


def _use_recipe(folder: Path) -> str:
    config = Config.make(str(folder / "recipe.toml"))
    return "" if Config.from_dict(config.to_dict()) == config else "does not come back"


PICTURES = ("png", "jpg", "gif", "webp", "tiff", "bmp", "avif", "ppm", "tga", "ico")


def _make_picture(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
        picture = Image.fromarray(pixels.repeat(8, 0).repeat(8, 1))
        exif = Image.Exif()
        exif[0x0112] = 6
        kept = {"exif": exif} if name in ("jpg", "webp", "png", "tiff") else {}
        picture.save(folder / f"picture.{name}", **kept)

    return make


def _hurt_any(folder: Path, rng: np.random.Generator) -> None:
    damage_file(next(folder.iterdir()), rng)


def _use_picture(folder: Path) -> str:
    pixels = read_image(next(folder.iterdir()), 8)
    return "" if pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8 else f"{pixels.shape}"


def _make_progress(folder: Path) -> None:
    records = {str(i): {"right": True, "tries": i, "hints": 0} for i in range(5)}
    (folder / store.FILE).write_text(json.dumps({"exercises": records}))


def _hurt_progress(folder: Path, rng: np.random.Generator) -> None:
    (damage_file if rng.random() < 0.5 else damage_json_file)(folder / store.FILE, rng)


def _use_progress(folder: Path) -> str:
    with _inside(folder):
        store.load()
    return ""


class _inside:
    """``contextlib.chdir``, which Python 3.10 has not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        import os

        self.before = os.getcwd()
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        import os

        os.chdir(self.before)


KINDS: dict[str, tuple[Kind, int]] = {
    "last.npz, bytes": (Kind(_make_two, _hurt_last, _use_newest), 10),
    "best.npz, bytes": (Kind(_make_run, _hurt_best, _use_best), 4),
    "checkpoints, header": (Kind(_make_run, _hurt_header, _use_run), 6),
    "checkpoints, arrays": (Kind(_make_run, _hurt_arrays, _use_run), 4),
    "config.json and log.csv": (Kind(_make_log, _hurt_log, _use_log), 8),
    "machine.json": (Kind(_make_run, _hurt_machine, _use_machine), 2),
    "CIFAR-10": (Kind(_make_cifar(TEN), _hurt_cifar, _use_cifar(TEN)), 4),
    "CIFAR-100": (Kind(_make_cifar(HUNDRED), _hurt_cifar, _use_cifar(HUNDRED)), 2),
    "class names": (Kind(_make_cifar(TEN), _hurt_names, _use_cifar(TEN)), 2),
    "recipes": (Kind(_make_recipe, _hurt_recipe, _use_recipe), 6),
    "progress of the course": (Kind(_make_progress, _hurt_progress, _use_progress), 4),
    **{
        f"picture.{name}": (Kind(_make_picture(name), _hurt_any, _use_picture), 2)
        for name in PICTURES
    },
}
"""Kinds of files, and the share of the damaged ones that each has."""


@dataclass
class Report:
    """What became of the damaged files of a kind, and what should not have."""

    counts: Counter[str]
    faults: list[str]


def examine(name: str, count: int, seed: int, folder: Path) -> Report:
    """Damage ``count`` files of a kind, one after the other, each from whole ones.

    The number of a damaged file is the second part of its generator's seed, and part of what is
    said of it, so that any of them can be made again.
    """
    kind, _ = KINDS[name]
    whole, hurt = folder / "whole", folder / "hurt"
    whole.mkdir(parents=True)
    kind.make(whole)
    report = Report(Counter(), [])
    for number in range(count):
        shutil.rmtree(hurt, ignore_errors=True)
        shutil.copytree(whole, hurt)
        visible = kind.hurt(hurt, np.random.default_rng([seed, number]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wrong = kind.use(hurt)
        except TinyshuffleError as error:
            report.counts["refused"] += 1
            if "\n" in str(error):
                report.faults.append(f"{name} {number}: not one sentence: {error}")
        except Exception as error:
            report.faults.append(f"{name} {number}: {type(error).__name__}: {error}")
        else:
            report.counts["used"] += 1
            if wrong or visible:
                report.faults.append(f"{name} {number}: {wrong or 'accepted without a word'}")
    return report


def install(patch: Callable[..., None] = setattr) -> None:
    """Put the tiny net and data in the place of the real ones, and draw nothing."""
    from types import SimpleNamespace

    from tinyshuffle import plots

    tiny_run.install(patch)
    figure = SimpleNamespace(savefig=lambda file, format: file.write(b"drawn"))
    for name in ("confusion", "learning_curves", "worst_images"):
        patch(plots, name, lambda *arguments: figure)
