"""What makes cells of the pages run: which notebooks can, and the library for the reader's Python.

``static/run.js`` puts the buttons on a page, ``static/worker.js`` runs the code, in a Python that
is WebAssembly.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

NEEDS = {
    "07": "times the kernels that numba compiles",
    "09": "times the kernels that numba compiles",
    "12": "compiles its kernels with numba",
    "13": "compiles and times kernels with numba",
}
"""By the number of a lesson that does not run in a browser, what it does."""
EXERCISES_NEED = {"12": NEEDS["12"]}
"""The same of the exercises."""


def needs(page: str) -> str | None:
    """What keeps a notebook from running in its page, as a sentence; None if nothing does.

    ``page`` is a path as the repository has it, with its ending or without.
    """
    path = Path(page)
    if path.parts[:1] != ("notebooks",):
        return None
    exercises = path.parent.name == "exercises"
    does = (EXERCISES_NEED if exercises else NEEDS).get(path.name[:2])
    if does is None:
        return None
    kind = "set of exercises" if exercises else "lesson"
    return (
        f"This {kind} {does}, which a browser cannot do: to run it, install the library "
        "(`pip install -r requirements.txt`) and open its notebook in Jupyter."
    )


def head(page: str) -> str:
    """What stands below a notebook's title: what it needs, and where else it can be run.

    Colab and Binder run a repository of GitHub, whose name GitHub's own builds know.
    """
    text = ""
    if (what := needs(page)) is not None:
        text += f"\n\n```{{note}}\n{what}\n```"
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository and page.startswith("notebooks/"):
        colab = f"https://colab.research.google.com/github/{repository}/blob/main/{page}"
        binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{quote(page, '')}"
        text += (
            '\n\n<details class="ts-elsewhere"><summary>Run it elsewhere, with all of Python: '
            f"Binder, Colab</summary>\n\n[Binder]({binder}) has all that the notebook needs.\n\n"
            f"[Colab]({colab}) opens a notebook without its library. Write this into a new cell at "
            "the top, and run it before the others:\n\n"
            f"```text\n{colab_cell(repository, page)}\n```\n\n</details>"
        )
    return text


def colab_cell(repository: str, page: str) -> str:
    """What has to run in Colab before the first cell of a notebook of ``OWNER/REPOSITORY``.

    It fetches the library, and what some lessons read of the files beside them.
    """
    folder = repository.rpartition("/")[2]
    return (
        f"!git clone -q https://github.com/{repository}\n"
        f"%pip install -q ./{folder}\n"
        f"%cd {folder}/{Path(page).parent.as_posix()}"
    )


def pack(place: Path) -> None:
    """Write the library as a ZIP file, as ``worker.js`` unpacks it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted((ROOT / "tinyshuffle").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                file.write(path, path.relative_to(ROOT).as_posix())
