"""tests/ mirrors the package file by file; what is tested elsewhere is named here, with where."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

import tinyshuffle

PACKAGE, TESTS = Path(tinyshuffle.__file__).parent, Path(__file__).parent
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("__init__", "__main__", "conftest")
)

ELSEWHERE = {
    # one test over all of a kind says more than a file for each
    "kernels/*": "kernels/test_match_ops.py: every kernel against its definition",
    "kernels/play": "plan/test_play.py: what it plays",
    "kernels/record": "plan/test_play.py: whose records it reads",
    "nn/*": "nn/test_layers.py, nn/test_gradients.py: every layer",
    "ops/*": "ops/test_forward.py, nn/test_gradients.py: every equation, every gradient",
    "course/lessons/*": "course/test_exercises.py: right and wrong answers to each",
    "cost/tables/*": "cost/tables/test_line.py: every line of every table",
    # a run is tested as a whole
    "train/*": "train/test_run.py: what runs leave, how they stop, that they continue",
    "bench/*": "bench/test_run.py: each command and its workers, once",
    # shown in figures, lessons and on the command line
    "plots/*": "plots/test_bench.py, notebooks/test_shown.py: figures that the notebooks show",
    "course/*": "course/test_score.py: projects and what they are given",
    # small, and used by all
    "cost/counting": "cost/test_profile.py: which adds up what it counts",
    "cost/smallest": "cost/test_profile.py: whose refusals it words",
    "data/archive": "data/test_cifar.py: whose files it finds, fetches and unpacks",
    "data/dataset": "data/test_batches.py: which draws from one",
    "data/imagenet": "weights/test_pretrained.py: what torchvision does to a picture",
    "data/images": "train/test_trained.py: files that are pictures, and those that are none",
    "plan/fused": "plan/test_fuse.py: the definitions that fused rows are held against",
    "plan/memory": "plan/test_table.py: places and peak",
    "plan/replay": "plan/test_parity.py: validate",
    "errors": "test_cli.py: mistakes are one sentence",
    "files": "test_checkpoint.py: a file is whole or absent",
    "words": "train/test_recipe.py: times that a recipe holds",
}


def own_tests(module: str) -> list[Path]:
    """Tests of the module alone, or, as ``test_gradcheck.py``, of its whole room."""
    *rooms, name = module.split("/")
    found = [*TESTS.joinpath(*rooms).glob(f"test_{name}*.py")]
    for depth, room in enumerate(rooms):
        for place in (TESTS.joinpath(*rooms[:depth]), TESTS.joinpath(*rooms[: depth + 1])):
            found += place.glob(f"test_{room}.py")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests(module):
    named = [pattern for pattern in ELSEWHERE if fnmatch(module, pattern)]
    assert own_tests(module) or named, (
        f"tinyshuffle/{module}.py has no tests/{module.rpartition('/')[0]}/test_*.py of its name: "
        "write it, or say in ELSEWHERE where it is tested"
    )


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(pattern):
    paths, _, reason = ELSEWHERE[pattern].partition(": ")
    assert reason and all((TESTS / path).is_file() for path in paths.split(", "))
    alone = [module for module in MODULES if fnmatch(module, pattern) and not own_tests(module)]
    assert alone, f"{pattern} has tests of its own: it needs no place in this list"


def test_no_room_of_tests_is_left_behind():
    """A folder of tests is a room of the package, or one of those that test all of it."""
    rooms = {path.name for path in TESTS.iterdir() if any(path.glob("test_*.py"))}
    whole = {"fuzz", "notebooks", "peers"}
    assert rooms - whole <= {path.name for path in PACKAGE.iterdir() if path.is_dir()}
