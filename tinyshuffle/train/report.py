"""A run's page: one file that says what was trained, on what, how it went, and how to repeat it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import TinyshuffleError
from ..files import write_text
from ..text import visible
from ..words import duration, plural
from .compare import RunLog, data_of, overhead, read_run
from .config import Config

__all__ = ["write_report"]

STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #111; background: #fff; margin: 0 auto;
       padding: 0 1rem 2rem; max-width: 44rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0;
         border-bottom: 1px solid #ccc; }
td { overflow-wrap: anywhere; }
.log td, .log th { text-align: right; white-space: nowrap; }
pre { background: #f3f3f3; padding: .8rem; overflow-x: auto; }
"""

FIGURES = (
    ("curves.png", "Learning curves", ""),
    (
        "confusion.png",
        "What is taken for what",
        "Confusion matrix of the last test: a row for each class, a column for each that its "
        "images are taken for, in per cent of the row.",
    ),
    (
        "worst.png",
        "The worst mistakes",
        "The images that the net was most wrong about in the last test, the worst first, each with "
        "its class and what it was taken for.",
    ),
)
"""File, heading and what it shows, for those who cannot see it; the curves say it in numbers."""

LOG = ("epoch", "size", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
       "images_per_second", "seconds")  # fmt: skip


def write_report(run: str | Path) -> Path:
    """Write ``report.html`` into a run's directory, from the files that are there, and return it.

    Pictures are in the page itself, so that it may be sent or put on a server as it is.

    Raises
    ------
    TinyshuffleError
        If that is no run directory, or no epoch has been tested in it.
    """
    run = Path(run)
    write_text(run / "report.html", _page(run, read_run(run)))
    return run / "report.html"


def _page(run: Path, log: RunLog) -> str:
    name, last = escape(visible(log.name)), log.tested[-1]
    what = log.measured
    result = (
        f"<strong>{100 * last['test_accuracy']:.2f} %</strong> {what} after "
        f"{plural(last['epoch'], 'epoch')} in {duration(last['seconds'])}, everything included: "
        f"{100 * overhead(log.rows):.1f} % more than the bare steps. "
        f"{escape(str(log.config['model']))} on {escape(data_of(log.config))}, seed "
        f"{escape(str(log.config.get('seed')))}."
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}</title><style>{STYLE}</style></head><body>",
        f"<h1>{name}</h1>",
        f"<p>{result}</p>",
        *_figures(run, log, what),
        "<h2>How to repeat it</h2>",
        *_repeat(log),
        "<h2>Configuration</h2>",
        _table(log.config.items()),
        "<h2>Machine</h2>",
        *_machines(run),
        "<h2>Log</h2>",
        _log(log.rows),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _figures(run: Path, log: RunLog, what: str) -> list[str]:
    best = max(log.tested, key=lambda row: row["test_accuracy"])
    first, last = log.tested[0], log.tested[-1]
    curves = (
        f"Accuracy and loss over the epochs, of training and of the test: {what} from "
        f"{100 * first['test_accuracy']:.1f} % after epoch {first['epoch']} to "
        f"{100 * last['test_accuracy']:.1f} % after epoch {last['epoch']}, the highest "
        f"{100 * best['test_accuracy']:.1f} % after epoch {best['epoch']}. The numbers are in the "
        "log below."
    )
    parts = []
    for file, heading, alt in FIGURES:
        parts.append(f"<h2>{heading}</h2>")
        try:
            picture = base64.b64encode((run / file).read_bytes()).decode()
        except OSError:
            parts.append(f"<p>There is no {file} yet: it is drawn when the run ends.</p>")
            continue
        parts.append(
            f'<img alt="{escape(alt or curves)}" src="data:image/png;base64,{picture}">'
        )
    return parts


def _repeat(log: RunLog) -> list[str]:
    """The recipe and the command: where the images are, and how many threads, is the reader's."""
    try:
        config = Config.from_dict({**log.config, "data_dir": None})
    except TinyshuffleError as error:
        return [f"<p>This version cannot read the configuration: {escape(str(error))}</p>"]
    begins = ""
    if config.init is not None:
        begins = " It began with the weights of another run or file, which are needed for that."
    return [
        f"<p>Save this as <code>again.toml</code>.{begins} With the same versions, threads and "
        "kind of processor the weights come out the same to the bit, unless a time budget planned "
        "the run.</p>",
        f"<pre>{escape(visible(config.to_toml()))}</pre>",
        "<pre>python -m tinyshuffle train --recipe again.toml</pre>",
    ]


def _machines(run: Path) -> list[str]:
    try:
        machines = json.loads((run / "machine.json").read_text(encoding="utf-8"))
        return [_table(machine.items()) for machine in machines]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return ["<p>There is no machine.json that can be read.</p>"]


def _table(items: Iterable[tuple[str, Any]]) -> str:
    rows = (
        f'<tr><th scope="row">{escape(visible(str(name)))}</th>'
        f"<td>{escape(_words(value))}</td></tr>"
        for name, value in items
    )
    return f"<table>{''.join(rows)}</table>"


def _words(value: Any) -> str:
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _log(rows: Sequence[dict[str, Any]]) -> str:
    columns = [name for name in LOG if all(name in row for row in rows)]
    head = "".join(f'<th scope="col">{name.replace("_", " ")}</th>' for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_number(row[name])}</td>' for name in columns)}</tr>" for row in rows
    )
    return f'<div class="wide"><table class="log"><tr>{head}</tr>{body}</table></div>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
