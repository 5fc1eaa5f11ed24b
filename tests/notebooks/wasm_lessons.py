"""Run the code cells of the notebooks in /lessons. Runs in a Python that is WebAssembly: wasm.mjs.

Prints a line of JSON for each notebook: its name, how many cells ran, what the others raised, and
the seconds that it took. There is no matplotlib in that Python, so nothing is drawn.
"""

import contextlib
import io
import json
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = ["/library", "/tests"]
from no_matplotlib import Nothing  # noqa: E402

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
