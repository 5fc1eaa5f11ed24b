"""Turn a finished run, or an ablation, into small files here, and write the page anew.

    python docs/results/publish.py RUN [NAME] [--note TEXT]
    python docs/results/publish.py

The second form only writes README.md from the files that are here. Weights, checkpoints and
pictures of other people's data sets are not copied.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.files import atomic_write  # noqa: E402
from tinyshuffle.train.ablation import PUBLISHED  # noqa: E402
from tinyshuffle.train.compare import RunLog, data_of, overhead, read_run  # noqa: E402
from tinyshuffle.words import duration  # noqa: E402

PICTURES = {"receptive.png": "Where the output in the middle of each backbone's map looks"}
"""More than every comparison has, with what they show."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", nargs="?", help="the directory of a run or of an ablation")
    parser.add_argument("name", nargs="?", help="of the result; by default the directory's")
    parser.add_argument("--note", default="", help="what a reader must know, such as of the data")
    given = parser.parse_args()
    try:
        if given.run is not None:
            publish(Path(given.run), given.name or Path(given.run).resolve().name, given.note)
        write(HERE / "README.md", page(HERE))
    except ts.TinyshuffleError as error:
        sys.exit(f"Error: {error}")


def publish(run: Path, name: str, note: str, into: Path = HERE) -> None:
    """Copy what is small and shows how a result came about."""
    ablation = (run / "report.csv").exists()
    if not ablation:
        # the last thing that a run draws
        if not (run / "confusion.png").exists():
            raise ts.TinyshuffleError(
                f"{run} is not a finished run, as it has no confusion.png: continue it with "
                f"python -m tinyshuffle train --resume {run}"
            )
        read_run(run)
    target = into / name
    if target.exists():
        raise ts.TinyshuffleError(
            f"{target} exists already: delete it, or give another NAME after the run"
        )
    target.mkdir(parents=True)
    copied = (
        ["report.md", "report.csv", "report.png"]
        if ablation
        else ["log.csv", "curves.png", "confusion.png", "machine.json"]
    )
    for file in [*copied, *(name for name in PICTURES if (run / name).exists())]:
        shutil.copy(run / file, target / file)
    if ablation:
        logs = sorted(run.glob("*/log.csv"))
        shutil.copy(logs[0].with_name("machine.json"), target / "machine.json")
        for log in logs:
            shutil.copy(log, target / f"{log.parent.name}.csv")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["data_dir"] = None  # a path on somebody's machine
    write(target / "config.json", json.dumps(config, indent=2) + "\n")
    if note:
        write(target / "note.txt", note + "\n")


def page(folder: Path) -> str:
    """Return README.md: what was measured here, and apart from it what others have published."""
    runs = sorted(path.parent for path in folder.glob("*/log.csv"))
    ablations = sorted(path.parent for path in folder.glob("*/report.md"))
    curves = sorted(path.parent for path in folder.glob("*/curve.md"))
    papers: list[str] = []
    lines = [
        "# Results",
        "",
        "Written by `python docs/results/publish.py` from the files in this directory. Each "
        "result has its log, curves, configuration with the seed, and machine beside it; "
        "[docs/training.md](../training.md) says how to train it again.",
        "",
        "## Measured here",
        "",
    ]
    if runs:
        lines += [
            "Accuracy on the test set, after the last epoch. The time is all of it, tests "
            'included; "over bare steps" is how much more that is than the training steps alone.',
            "",
            '"CIFAR-10 as recompressed JPEGs" are its images stored as JPEG files (quality 75) and '
            "read back: a little of each is lost, so accuracies are not those of the originals.",
            "",
            *table([run_line(path) for path in runs]),
            "",
        ]
    else:
        lines += ["No run has been published yet.", ""]
    for path in curves:
        lines += curve_section(path)
    for path in runs:
        lines += run_section(path)
    for path in ablations:
        text, _, rest = (path / "report.md").read_text(encoding="utf-8").partition(PUBLISHED)
        papers.append(f"{text.splitlines()[0].removeprefix('## ')}{rest.rstrip()}")
        lines += [
            f"#{text.strip()}",
            "",
            *note(path),
            f"![Each run, and the mean of each net]({path.name}/report.png)",
            "",
            *(
                line
                for name, alt in PICTURES.items()
                if (path / name).exists()
                for line in (f"![{alt}]({path.name}/{name})", "")
            ),
            f"[each run]({path.name}/report.csv) · [configuration]({path.name}/config.json) · "
            f"[machine]({path.name}/machine.json)",
            "",
        ]
    lines += [
        "## Published by others, not measured here",
        "",
        "Other training, mostly on GPUs, and the original images; from the projects' READMEs and, "
        "where it says so, their users.",
        "",
        *table(published(folder / "published.csv")),
    ]
    if papers:
        lines += ["", "What the papers print of the nets that are compared above:", ""]
        lines += [f"- {line}" for line in papers]
    return "\n".join(lines) + "\n"


def run_line(path: Path) -> dict[str, str]:
    """The line of one run in the table."""
    run = read_run(path)
    last = run.tested[-1]
    cost = costs(run.config, last["size"])
    return {
        "result": f"[{run.name}](#{run.name})",
        "net": net_of(run.config),
        "data": data_of(run.config),
        "accuracy": f"{100 * last['test_accuracy']:.2f} %",
        "params": f"{cost.params:,}",
        "mult-adds": f"{cost.multiply_adds:,}",
        "epochs": str(last["epoch"]),
        "seed": str(run.config["seed"]),
        "time": duration(last["seconds"]),
        "over bare steps": f"{100 * overhead(run.rows):.1f} %",
    }


def net_of(config: dict[str, Any]) -> str:
    """The name of a run's net, and behind it its variant."""
    variant = [f"{key}={json.dumps(value)}" for key, value in config["variant"].items()]
    return ", ".join([config["model"], *variant])


def run_section(path: Path) -> list[str]:
    """The curves of one run, and where its files are."""
    run = read_run(path)
    machines = json.loads((path / "machine.json").read_text(encoding="utf-8"))
    here = machines[-1]
    words = (
        f"{here['processor']}, {here['threads']} threads, {here['system']}, Python "
        f"{here['python']}, NumPy {here['numpy']} ({here['blas']}), numba {here['numba']}"
    )
    alt = f"Learning curves of {run.name}: {describe(run)}"
    return [
        f"### {run.name}",
        "",
        *note(path),
        f"{words}. [log]({run.name}/log.csv) · [configuration]({run.name}/config.json) · "
        f"[confusion]({run.name}/confusion.png)",
        "",
        f"![{alt}]({run.name}/curves.png)",
        "",
    ]


def curve_section(path: Path) -> list[str]:
    """What draw_curve.py has left: tinyshuffle's runs beside PyTorch's."""
    said = (path / "curve.md").read_text(encoding="utf-8").strip()
    alt = f"Test accuracy against minutes. {said.replace('- ', '').replace(chr(10), '. ')}"
    return [
        f"### {path.name}",
        "",
        "The same recipe, first weights and batches in PyTorch, eager, on the same cores: accuracy "
        "against all the time, tests included, and what each side had when the slowest of "
        "tinyshuffle's runs ended; the minutes of an end are the mean over the seeds. With fewer "
        "epochs PyTorch goes through the whole schedule in that time.",
        "",
        said,
        "",
        *note(path),
        f"![{alt}]({path.name}/curve.png)",
        "",
        f"[logs, configurations and machines]({path.name})",
        "",
    ]


def describe(run: RunLog) -> str:
    """What the curves show, for those who cannot see them."""
    first, last = run.tested[0], run.tested[-1]
    return (
        f"test accuracy from {100 * first['test_accuracy']:.1f} % after epoch {first['epoch']} to "
        f"{100 * last['test_accuracy']:.1f} % after {last['epoch']}"
    )


def note(path: Path) -> list[str]:
    """What was said of a result when it was published."""
    file = path / "note.txt"
    return [file.read_text(encoding="utf-8").strip(), ""] if file.exists() else []


def costs(config: dict[str, Any], side: int) -> Any:
    """Parameters and multiply-adds of a run's net."""
    classes = {"cifar100": 100}.get(config["data"], 10)
    net = ts.models.create(config["model"], num_classes=classes, stem="cifar", **config["variant"])
    return ts.cost.profile(net, (1, side, side, 3)).total


def published(path: Path) -> list[dict[str, str]]:
    """The lines of published.csv."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {
                "source": row["source"],
                "net": row["model"],
                "data": row["data"],
                "accuracy": f"{row['accuracy']} %",
                "params": f"{row['params_millions']} M" if row["params_millions"] else "",
                "mult-adds": (
                    f"{row['multiply_adds_millions']} M" if row["multiply_adds_millions"] else ""
                ),
                "remark": row["remark"],
            }
            for row in csv.DictReader(file)
        ]


def table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of Markdown."""
    headings = list(rows[0])
    cells = [headings, ["---"] * len(headings), *([row[h] for h in headings] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in cells]


def write(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
