"""Run the code cells of the notebooks in /lessons. Runs in a Python that is WebAssembly: wasm.mjs.

Prints a line of JSON for each notebook: its name, how many cells ran, what the others raised, and
the seconds that it took. There is no matplotlib in that Python, so nothing is drawn.
"""

import contextlib
import importlib.machinery
import io
import json
import sys
import time
import traceback
import types
from pathlib import Path


class Nothing:
    """A figure that is not drawn, and everything that belongs to it."""

    def __call__(self, *_, **__):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _):
        return self

    def __setitem__(self, *_):
        pass

    def __iter__(self):
        return iter([self] * 9)


class Mock:
    """Finds matplotlib, in which everything is :class:`Nothing`."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = Nothing().__getattr__
        return module

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Mock())
sys.path.insert(0, "/library")
from tinyshuffle import plots  # noqa: E402


def drawn_nowhere(function):
    return lambda *_, **__: Nothing()


for figure in plots.__all__:
    function = getattr(plots, figure)
    if "Figure" in str(getattr(function, "__annotations__", {}).get("return")):
        setattr(plots, figure, drawn_nowhere(function))
plots.show = lambda figure, alt: print(alt)
plots.slider = lambda draw, alt, **choices: draw()

for path in sorted(Path("/lessons").glob("*.ipynb")):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    space, failed, ran, started = {"__name__": "__main__"}, [], 0, time.time()
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("".join(cell["source"]), f"{path.stem}[{number}]", "exec"), space)
            ran += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"cell {number}, {where.filename}:{where.lineno}"
            failed.append(f"{place}: {type(error).__name__}: {error}")
    seconds = round(time.time() - started, 1)
    found = {"name": path.stem, "ran": ran, "failed": failed, "seconds": seconds}
    print(json.dumps(found), flush=True)
