from __future__ import annotations

import csv
import json

import matplotlib
import pytest
from click.testing import CliRunner

from tinyshuffle import plots
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config
from tinyshuffle.train.compare import differences, overhead, pairs, read_run, summary


def write(folder, accuracies, sizes=None, **changes):
    folder.mkdir(parents=True)
    config = Config(threads=2, **changes)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    rows = [
        {"epoch": i + 1, "size": sizes[i] if sizes else 32, "test_accuracy": accuracy,
         "images_per_second": 500.0, "step_seconds": 10.0, "seconds": 12.0 * (i + 1)}
        for i, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["epoch"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_summary(tmp_path):
    runs = [
        read_run(write(tmp_path / "a", [0.3, 0.6, 0.5], lr=0.2)),
        read_run(write(tmp_path / "b", [0.9, 0.4], sizes=[16, 32], lr=0.1)),
    ]
    headings, (first, second) = summary(runs)
    a, b = (dict(zip(headings, line, strict=True)) for line in (first, second))
    assert (a["run"], a["accuracy"], a["best (epoch)"]) == ("a", "50.00 %", "60.00 % (2)")
    assert b["best (epoch)"] == "40.00 % (2)"  # the better one was at another size
    assert a["time"] == "36 s" and a["over bare steps"] == "20.0 %"
    assert overhead(runs[0].rows) == pytest.approx(0.2)
    headings, lines = differences(runs)
    assert headings == ["field", "a", "b"]
    assert lines == [["lr", "0.2", "0.1"]]


def test_pairs_are_of_the_same_seed_and_images(tmp_path):
    def run(name, accuracy, **changes):
        return read_run(write(tmp_path / name, [0.1, accuracy], epochs=2, **changes))

    runs = [run(f"a{seed}", 0.5 + 0.1 * seed, lr=0.2, seed=seed) for seed in range(3)]
    runs += [
        run(f"b{seed}", 0.48 + 0.1 * seed + 0.001 * seed, lr=0.1, seed=seed) for seed in range(4)
    ]
    runs[1].config["threads"] = 1
    headings, lines = pairs(runs)
    one, other = (dict(zip(headings, line, strict=True)) for line in lines)
    # the mean of all four seeds is the higher one, and by the seeds in common it is behind
    assert (one["setting"], one["seeds"], other["seeds"]) == ("lr=0.2", "3", "4")
    assert other["verdict"] == "best" and one["in common"] == "3"
    assert one["behind the best"] == "-1.90" and one["verdict"] == "is not settled"
    headings, lines = pairs([run for run in runs if run.config["seed"] < 3])
    one, other = (dict(zip(headings, line, strict=True)) for line in lines)
    assert (one["verdict"], other["verdict"]) == ("best", "worse")
    assert (other["behind the best"], other["std error"]) == ("1.90", "0.06")
    # other images, and a run that is under way, pair with nothing
    held = [run(f"c{seed}", 0.9, lr=0.3, seed=seed, validate=9) for seed in range(2)]
    early = read_run(write(tmp_path / "d", [0.99], epochs=2, lr=0.4))
    assert pairs([*runs, *held, early]) == pairs(runs)
    assert pairs(runs[:3])[1] == pairs([runs[0], runs[3]])[1] == pairs([early])[1] == []
    names = [str(tmp_path / run.name) for run in runs[:5]]
    result = CliRunner().invoke(cli, ["compare", *names, "--plot", str(tmp_path / "x.png")])
    assert result.exit_code == 0 and "behind the best" in result.stdout


def test_a_setting_of_one_seed_hides_no_pairs_and_a_seed_counts_once(tmp_path):
    def run(name, accuracy, **changes):
        return read_run(write(tmp_path / name, [accuracy], epochs=1, **changes))

    runs = [run(f"a{seed}", 0.5 + 0.1 * seed, lr=0.2, seed=seed) for seed in range(2)]
    runs += [run(f"b{seed}", 0.4 + 0.11 * seed, lr=0.1, seed=seed) for seed in range(2)]
    runs += [run("c", 0.9, lr=0.3)]  # the luckiest
    headings, lines = pairs(runs)
    first, second, third = (dict(zip(headings, line, strict=True)) for line in lines)
    assert (first["verdict"], second["behind the best"]) == ("best", "9.50")
    assert (third["setting"], third["in common"], third["verdict"]) == (
        "lr=0.3", "1", "is not settled"
    )  # fmt: skip
    again = run("d", 0.6, lr=0.2)  # of seed 0, with other last bits
    headings, lines = pairs([*runs, again])
    first = dict(zip(headings, lines[0], strict=True))
    assert (first["seeds"], first["accuracy"]) == ("2", "57.50 %")
    assert pairs([again, *runs])[1][0] == lines[0]


def test_what_was_measured_stands_at_the_figure(tmp_path):
    for name, held in (("a", None), ("b", 9), ("c", 9)):
        write(tmp_path / name, [0.3], validate=held)
    for names, words in (("a", "test accuracy, %"), ("bc", "accuracy on 9 training images held"),
                         ("abc", ">accuracy, %")):  # fmt: skip
        plot = tmp_path / f"{names}.svg"
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            result = CliRunner().invoke(
                cli, ["compare", *(str(tmp_path / name) for name in names), "--plot", str(plot)]
            )
        assert result.exit_code == 0 and words in plot.read_text()


def test_the_time_over_bare_steps_is_up_to_the_last_test(tmp_path):
    run = read_run(write(tmp_path / "a", [0.3, 0.5, None]))
    run.rows[2]["seconds"] = 900.0
    assert overhead(run.rows) == pytest.approx(0.2)


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "a", [0.3, 0.6])
    write(tmp_path / "runs" / "b", [0.4], seed=1)
    result = CliRunner().invoke(cli, ["compare", "a", "runs/b"])
    assert result.exit_code == 0, result.output
    assert "60.00 %" in result.stdout and "seed" in result.stdout
    assert (tmp_path / "runs" / "compare.png").read_bytes().startswith(b"\x89PNG")
    write(tmp_path / "other" / "a", [0.2])
    result = CliRunner().invoke(
        cli, ["compare", "runs/a", "other/a", "--runs-dir", "new", "--plot", "two.svg"]
    )
    assert result.exit_code == 0 and not (tmp_path / "new").exists()
    both = (tmp_path / "two.svg").read_text()
    assert "runs/a 60.0 %" in both and "other/a 20.0 %" in both
    assert CliRunner().invoke(cli, ["compare", "other/a", "--runs-dir", "new"]).exit_code == 0
    assert (tmp_path / "new" / "compare.png").exists()
    result = CliRunner().invoke(cli, ["compare", "a", "--plot", "one.svg"])
    assert result.exit_code == 0 and b"<svg" in (tmp_path / "one.svg").read_bytes()


def test_epochs_between_two_tests(tmp_path):
    run = read_run(write(tmp_path / "a", [None, 0.6, None, 0.5, None]))
    assert len(run.rows) == 5 and [row["epoch"] for row in run.tested] == [2, 4]
    headings, (line,) = summary([run])
    cells = dict(zip(headings, line, strict=True))
    assert (cells["accuracy"], cells["best (epoch)"]) == ("50.00 %", "60.00 % (2)")
    assert (cells["epochs"], cells["time"]) == ("4", "48 s")  # as of its last test
    assert CliRunner().invoke(
        cli, ["compare", str(tmp_path / "a"), "--plot", str(tmp_path / "a.svg")]
    ).exit_code == 0
    assert "a 50.0 %" in (tmp_path / "a.svg").read_text()
    with pytest.raises(TinyshuffleError, match="no tested epoch yet"):
        read_run(write(tmp_path / "b", [None, None]))
    # how often it was tested makes no other setting
    rare = [
        read_run(write(tmp_path / f"c{seed}", [None, 0.5], epochs=2, seed=seed, test_every=2))
        for seed in range(2)
    ]
    often = [read_run(write(tmp_path / f"d{seed}", [0.1, 0.4 + 0.01 * seed], epochs=2, lr=0.3,
                            seed=seed)) for seed in range(2)]  # fmt: skip
    mixed = [rare[0], read_run(write(tmp_path / "e", [0.2, 0.5], epochs=2, seed=1))]
    (_, lines), (_, same) = pairs([*rare, *often]), pairs([*mixed, *often])
    assert len(lines) == 2 and lines == same
    # unless a test may end it
    stopped = [
        read_run(write(tmp_path / f"f{every}{seed}", [0.1, 0.4 + 0.1 * every], epochs=2, seed=seed,
                       early_stop=9, test_every=every))
        for every in (1, 2) for seed in range(2)
    ]  # fmt: skip
    assert pairs(stopped)[1] == []  # nothing says that they have ended
    for run in stopped:
        (run.folder / "confusion.png").touch()
    assert [line[0] for line in pairs(stopped)[1]] == ["test_every=1", "test_every=2"]


def test_figure(tmp_path):
    rows = {name: read_run(write(tmp_path / name, [0.3, 0.5])).rows for name in "abcdefghij"}
    figure = plots.compare(rows)
    over_epochs, over_minutes = figure.axes
    assert [line.get_ydata().tolist() for line in over_epochs.get_lines()] == [[30, 50]] * 10
    assert list(over_minutes.get_lines()[0].get_xdata()) == [0.2, 0.4]
    looks = {(li.get_color(), li.get_linestyle()) for li in over_epochs.get_lines()}
    assert len(looks) == 10


def test_what_is_not_a_run(tmp_path):
    with pytest.raises(TinyshuffleError, match=r"has no config.json"):
        read_run(tmp_path)
    with pytest.raises(TinyshuffleError, match=r"no tested epoch yet"):
        read_run(write(tmp_path / "new", []))
    (tmp_path / "new" / "log.csv").unlink()  # as when it is stopped before the first test
    with pytest.raises(TinyshuffleError, match=r"no tested epoch yet.* --resume .*new"):
        read_run(tmp_path / "new")
    (tmp_path / "new" / "log.csv").write_text("epoch,size\n1\n")
    with pytest.raises(TinyshuffleError, match=r"that can be read"):
        read_run(tmp_path / "new")


@pytest.mark.parametrize("name", ["config.json", "log.csv"])
@pytest.mark.parametrize(
    "content", [b"{}", b"5", b"null", b'"x"', b"[1]", b"\xff\xfe\0", b"[" * 100_000, None]
)
def test_files_of_another_shape(tmp_path, name, content):
    run = write(tmp_path / "a", [0.3])
    if content is None:  # what a spreadsheet makes of a log
        content = (run / name).read_bytes().replace(b"0.3", b"NaN").replace(b"model", b"modell")
    (run / name).write_bytes(content)
    with pytest.raises(TinyshuffleError, match="a has no (config.json|tested epoch)"):
        read_run(run)
