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
    "nn/*": "nn/test_layers.py, nn/test_gradients.py: every layer",
    "plan/*": "plan/test_fuse.py, plan/test_parity.py: every row, and the whole, beside the layers",
    "ops/*": "ops/test_forward.py, nn/test_gradients.py: every equation, every gradient",
    "course/lessons/*": "course/test_exercises.py: right and wrong answers to each",
    "cost/tables/*": "cost/tables/test_line.py: every line of every table",
    # a run, a benchmark, a figure is tested as a whole
    "train/budget config directory limits loop progress record standing": "train/"
    "test_run.py: what runs leave, how they stop, that they continue",
    "train/rank_checks": "test_ranks.py: ranks that differ, and resumed with other ranks",
    "train/evaluation verify": "train/test_run.py: a test, and what a checkpoint must hold",
    "detect/config init saved": "detect/test_trainer.py: what a run is, begins with and leaves",
    "bench/progress startup worker": "bench/test_run.py: each command and its workers, once",
    "bench/blocks guideline_tables": "bench/test_guidelines.py: the nets of the tables",
    "bench/calibrate predicted": "cost/test_roofline.py: from the machine to the prediction",
    "bench/libraries": "bench/test_layers.py, peers/test_peer_bench.py: all sides agree",
    "bench/peer_torch": "peers/test_peer_bench.py: where PyTorch is installed",
    "bench/resolutions": "bench/test_nets.py: of which these are larger",
    "bench/search_space": "bench/test_search.py: what is drawn from it",
    "plots/cost guidelines": "plots/test_bench.py: figures of costs beside times",
    "plots/batch_norm notebook pictures plan reuse shares style teaching": "notebooks/"
    "test_notebooks.py, notebooks/test_shown.py: what the lessons show",
    "course/ask projects store": "course/test_exercises.py, course/test_score.py: what they say",
    # small, and used by all
    "cost/counting": "cost/test_profile.py: which adds up what it counts",
    "cost/smallest": "cost/test_profile.py: whose refusals it words",
    "data/archive": "data/test_cifar.py: whose files it finds, fetches and unpacks",
    "data/dataset": "data/test_batches.py: which draws from one",
    "data/imagenet": "weights/test_pretrained.py: what torchvision does to a picture",
    "data/images": "train/test_trained.py: files that are pictures, and those that are none",
    "errors": "test_cli.py: mistakes are one sentence",
    "words": "train/test_recipe.py: times that a recipe holds",
}


def covers(pattern: str, module: str) -> bool:
    """Whether ``room/name name`` or ``room/*`` is about the module."""
    room, _, names = pattern.rpartition("/")
    return any(fnmatch(module, f"{room}/{name}".lstrip("/")) for name in names.split())


def own_tests(module: str) -> list[Path]:
    """Tests of the module alone, or, as ``test_gradcheck.py``, of its whole room."""
    *rooms, name = module.split("/")
    found = [*TESTS.joinpath(*rooms).glob(f"test_{name}*.py")]
    for depth, room in enumerate(rooms):
        for place in (TESTS.joinpath(*rooms[:depth]), TESTS.joinpath(*rooms[: depth + 1])):
            found += place.glob(f"test_{room}.py")
    return found


def skip_what_was_left_out(name: str) -> None:
    """Students get no tests/course, which has wrong answers in it (docs/course/README.md)."""
    if name.startswith("course/") and not (TESTS / "course").is_dir():
        pytest.skip("tests/course was left out of this copy, for students")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests(module):
    skip_what_was_left_out(module)
    named = [pattern for pattern in ELSEWHERE if covers(pattern, module)]
    assert own_tests(module) or named, (
        f"tinyshuffle/{module}.py has no tests/{module.rpartition('/')[0]}/test_*.py of its name: "
        "write it, or say in ELSEWHERE where it is tested"
    )


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(pattern):
    skip_what_was_left_out(pattern)
    paths, _, reason = ELSEWHERE[pattern].partition(": ")
    assert reason and all((TESTS / path).is_file() for path in paths.split(", "))
    room, _, names = pattern.rpartition("/")
    for name in names.split():
        found = [module for module in MODULES if covers(f"{room}/{name}", module)]
        assert [module for module in found if not own_tests(module)], f"{name} needs no place here"


def test_no_room_of_tests_is_left_behind():
    """A folder of tests is a room of the package, or one of those that test all of it."""
    rooms = {path.name for path in TESTS.iterdir() if any(path.glob("test_*.py"))}
    whole = {"fuzz", "notebooks", "peers"}
    assert rooms - whole <= {path.name for path in PACKAGE.iterdir() if path.is_dir()}
