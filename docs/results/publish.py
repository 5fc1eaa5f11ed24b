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
from tinyshuffle.files import write_json, write_text  # noqa: E402
from tinyshuffle.text import markdown_table  # noqa: E402
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
        write_text(HERE / "README.md", page(HERE))
        print("Lesson 10 draws what is published: run python tests/notebooks/refresh.py 10 too.")
    except ts.TinyshuffleError as error:
        sys.exit(f"Error: {error}")


def publish(run: Path, name: str, note: str, into: Path = HERE) -> None:
    """Copy what is small and shows how a result came about.

    Raises
    ------
    TinyshuffleError
        If the page would say of it what is not so: it is not finished, or a report is not of the
        runs beside it.
    """
    target = into / name
    if target.exists():
        raise ts.TinyshuffleError(
            f"{target} exists already: delete it, or give another NAME after the run"
        )
    files = of_ablation(run) if (run / "report.csv").exists() else of_run(run)
    if missing := [path for path in files.values() if not path.exists()]:
        raise ts.TinyshuffleError(f"{missing[0]} is missing: give what a run or an ablation left")
    config = read(run / "config.json")
    config["data_dir"] = None  # a path on somebody's machine
    if config.get("init") is not None:
        config["init"] = Path(config["init"]).name
    machines: list[Any] = []
    for path in sorted({path.with_name("machine.json") for path in files.values()}):
        if path.exists():
            machines += [machine for machine in read(path) if machine not in machines]
    if not machines:
        raise ts.TinyshuffleError(f"{run} has no machine.json that says what it was made on")
    target.mkdir(parents=True)
    for file, path in files.items():
        shutil.copy(path, target / file)
    write_json(target / "config.json", config)
    write_json(target / "machine.json", machines)
    if note:
        write_text(target / "note.txt", note + "\n")


def read(path: Path) -> Any:
    """The value in a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ts.TinyshuffleError(
            f"{path} cannot be read ({error}): give the directory of a run or of an ablation"
        ) from error


def of_run(run: Path) -> dict[str, Path]:
    """The files of a finished run."""
    if "detector" in read(run / "config.json"):
        raise ts.TinyshuffleError(
            f"{run} is the run of a detector, which the page has no line for: give the directory "
            "of detect compare"
        )
    # the last thing that a run draws
    if not (run / "confusion.png").exists() or not (log := read_run(run)).finished:
        raise ts.TinyshuffleError(
            f"{run} is not a finished run, as it has no confusion.png or fewer epochs than it "
            f"shall have: continue it with python -m tinyshuffle train --resume {run}"
        )
    if ts.data.is_folder(log.config["data"]):
        raise ts.TinyshuffleError(
            f"{run} was trained on the folder {log.config['data']}, which nobody else has: give a "
            "run on a data set with a name"
        )
    return {file: run / file for file in ("log.csv", "curves.png", "confusion.png")}


def of_ablation(folder: Path) -> dict[str, Path]:
    """The files of an ablation, and the log of each run; refuses runs that are not the report's."""
    with open(folder / "report.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if not (folder / "config.json").exists():
        raise ts.TinyshuffleError(
            f"{folder} has a report and no config.json, as a sweep, which the page has no place "
            "for: train what it has chosen, and give that run"
        )
    measure = "map" if "map" in lines[0] else "test_accuracy"
    wanted = sorted((int(line["seed"]), float(line[measure])) for line in lines)
    files = {file: folder / file for file in ("report.md", "report.csv", "report.png")}
    files |= {name: folder / name for name in PICTURES if (folder / name).exists()}
    found = []
    for log in sorted(folder.glob("*/log.csv")):
        with open(log, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        config = read(log.with_name("config.json"))
        if len(rows) != config["epochs"]:
            raise ts.TinyshuffleError(
                f"{log.parent} has {len(rows)} of {config['epochs']} epochs: give the command that "
                "began it again, which continues it"
            )
        if measure in rows[-1]:  # not the classifiers that detectors have begun with
            found.append((config["seed"], float(rows[-1][measure])))
        files[f"{log.parent.name}.csv"] = log
    if sorted(found) != wanted:
        raise ts.TinyshuffleError(
            f"{folder / 'report.csv'} is not of the runs beside it, of which there are "
            f"{len(found)} for its {len(wanted)} lines: give the command that began them again, "
            "with all their seeds"
        )
    return files


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
        held = any(read_run(path).config.get("validate") is not None for path in runs)
        lines += [
            "Accuracy on the test set, after the last epoch"
            + (", or where images are held out, on these. " if held else ". ")
            + 'The time is all of it, tests included; "over bare steps" is how much more that is '
            "than the training steps alone. The first run on a machine compiles the kernels: that "
            "is in its time, and in the bare steps, unless a time budget planned it.",
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
    """The name of a run's net, and behind it its variant and what it began with."""
    words = [f"{key}={json.dumps(value)}" for key, value in config["variant"].items()]
    for field in ("stem", "init"):
        if config.get(field) is not None:
            words.append(f"{field}={config[field]}")
    return ", ".join([config["model"], *words])


def run_section(path: Path) -> list[str]:
    """The curves of one run, and where its files are."""
    run = read_run(path)
    words = "; then ".join(machine_of(machine) for machine in read(path / "machine.json"))
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


def machine_of(here: dict[str, Any]) -> str:
    """What a run, or a part of it, was made on."""
    words = (
        f"{here['processor']}, {here['threads']} threads, {here['system']}, Python "
        f"{here['python']}, NumPy {here['numpy']} ({here['blas']})"
    )
    return f"{words}, numba {here['numba']}" if "numba" in here else words


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
        f"{run.measured} from {100 * first['test_accuracy']:.1f} % after epoch {first['epoch']} to "
        f"{100 * last['test_accuracy']:.1f} % after {last['epoch']}"
    )


def note(path: Path) -> list[str]:
    """What was said of a result when it was published."""
    file = path / "note.txt"
    return [file.read_text(encoding="utf-8").strip(), ""] if file.exists() else []


def costs(config: dict[str, Any], side: int) -> Any:
    """Parameters and multiply-adds of a run's net."""
    net = ts.models.create(
        config["model"], num_classes=len(ts.data.classes(config["data"])),
        stem=config.get("stem") or "cifar", **config["variant"],
    )  # fmt: skip
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
    return markdown_table(headings, ([row[h] for h in headings] for row in rows), len(headings))


if __name__ == "__main__":
    main()
