"""Imports run one way: a room knows those below it, and no files import each other in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tinyshuffle

PACKAGE = Path(tinyshuffle.__file__).parent
ORDER = (
    "errors", "blas", "memory", "text", "words", "values", "files", "checkpoint", "backend", "ops",
    "kernels", "nn", "optim", "data", "weights", "ranks", "plan", "parallel", "machine", "models",
    "onnx", "compress", "gradcheck", "cost", "bench", "plots", "train", "detect", "course",
    "__init__", "cli", "__main__",
)  # fmt: skip
"""From the ground up: each may import those in front of it."""

UPWARDS = {
    # it makes the net whose weights it fetches, while nets read files of weights
    ("tinyshuffle.weights.pretrained", "tinyshuffle.models"),
}

FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(module: str) -> set[str]:
    """Modules of the package that one imports, wherever in it; not what only types need."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    package = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    found = set()
    types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])]) if node.level else node.module
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(base) for name in names}
    return {name for name in found if name in FILES and name != module}


def room(module: str) -> str:
    return (module.split(".") + ["__init__"])[1]


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_imports_from_its_room_and_from_those_below(module):
    for other in imports(module):
        below = ORDER.index(room(other)) <= ORDER.index(room(module))
        assert below or (module, other) in UPWARDS, (
            f"{module} imports {other}, which stands above it"
        )


def test_no_files_import_each_other_in_a_circle():
    below: dict[str, set[str]] = {module: imports(module) for module in FILES}
    while free := [module for module, others in below.items() if not others & below.keys()]:
        for module in free:
            del below[module]
    assert not below, f"in or above a circle: {', '.join(sorted(below))}"
