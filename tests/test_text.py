"""Foreign text is shown as it is, and does nothing."""

from __future__ import annotations

import csv
import io

import pytest

from tinyshuffle import plots
from tinyshuffle.text import bar, brief, console, csv_text, message, shown, visible


@pytest.mark.parametrize("text", ["\x1b[2J", "\r", "\x07", "\u202e", "\udcff", "\x85", "\u2028"])
def test_control_characters_are_written_out(text):
    assert visible(f"a{text}b").isprintable()
    assert visible(f"a{text}b").startswith("a\\")


def test_what_people_write_stays():
    text = "Zoë Ångström 李 😀 [bold] :cat: 50\u00a0%\n=1+1"
    assert visible(text) == text


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def test_what_raises_when_it_is_shown():
    assert message(Hostile()) == "a message that cannot be shown"
    assert shown(Hostile()) == "a value of type Hostile"
    assert len(message(ValueError("x" * 10**6))) <= 200


def test_a_long_value_does_not_hide_the_sentence():
    said = brief(f"--by {'x' * 3000} is unknown: use unit")
    assert len(said) < 300 and said.startswith("--by xxx")
    assert said.endswith("x is unknown: use unit")
    said = brief(f"there is no {'x ' * 3000}: use y")
    assert len(said) < 3100 and said.startswith("there is no x x") and said.endswith("x : use y")
    usual = "/a/long/path" * 20 + " cannot be read: choose another\nof two lines"
    assert brief(usual) == usual


def test_no_markup_and_no_emoji():
    out = io.StringIO()
    console(file=out).print("[/oops] [bold]x[/bold] :cat:")
    assert out.getvalue() == "[/oops] [bold]x[/bold] :cat:\n"


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", " =1"])
def test_no_formula_in_csv(text):
    ((cell, number),) = csv.reader(io.StringIO(csv_text([[text, -1.5]])))
    assert cell.startswith("'") and number == "-1.5"


def test_a_figure_shows_names_as_they_are():
    """To matplotlib $ begins a formula, and _ what is left out of the legend."""
    row = {"epoch": 1, "test_accuracy": 0.5, "seconds": 60.0}
    figure = plots.compare({"$\\frac$": [row], "_run": [row], "a\x1b[31m": [row]})
    figure.savefig(io.BytesIO(), format="png")
    (legend,) = figure.legends
    assert [text.get_text().split()[0] for text in legend.get_texts()] == [
        "\\$\\frac\\$", "_run", "a\\x1b[31m",
    ]  # fmt: skip


def test_a_bar_is_for_terminals_alone():
    """And what it says is no markup."""
    for terminal in (False, True):
        screen = console(file=io.StringIO(), force_terminal=terminal, width=60)
        with bar(screen, "left") as progress:
            progress.add_task("[bold]reading", total=2, completed=1, left="[3 s]")
        text = screen.file.getvalue()
        assert ("[bold]reading" in text and "[3 s]" in text) == terminal
        assert terminal or not text.strip()


def test_in_a_browser_which_has_no_threads_there_is_no_bar(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("sys.platform", "emscripten")
    monkeypatch.setattr("threading.Thread.start", start)
    screen = console(file=io.StringIO(), force_terminal=True, width=60)
    with bar(screen) as progress:
        assert list(progress.track(range(3), description="drawing")) == [0, 1, 2]
    assert not screen.file.getvalue().strip()
