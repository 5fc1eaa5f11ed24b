"""Solutions pass, starters say what to do, and mistakes are called by their names."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.course.exercise import Exercise, judge
from tinyshuffle.course.lessons import EXERCISES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "docs" / "course" / "source").glob("*.md"))
SECONDS = 2.0

every_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.key)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sources() -> dict[str, str]:
    """The cell of code of each exercise, as it is written."""
    found = {}
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        for key, part in re.findall(r"^## (\d\d\.\d)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
            (found[key],) = re.findall(r"```python\n(.*?)```", part, re.S)
    return found


CODE = sources()


def run(lesson: str, strip: bool) -> dict:
    """Run all code of a lesson, in order: later exercises may call earlier answers."""
    names: dict = {"np": np, "ts": ts, "ops": ts.course.lessons.shuffle.ops}
    for key, code in CODE.items():
        if key.startswith(lesson):
            if strip:
                code = re.sub(
                    r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", r"\1pass", code,
                    flags=re.M | re.S,
                )  # fmt: skip
            exec(code, names)
    return names


def test_every_exercise_is_written_and_every_lesson_has_three_to_five():
    assert list(CODE) == list(EXERCISES)
    counts = [sum(key.startswith(f"{n:02}.") for key in CODE) for n in range(1, 13)]
    assert len(SOURCES) == 12 and all(3 <= count <= 5 for count in counts)


@every_exercise
def test_the_solution_passes_in_time(exercise):
    answer = run(exercise.key[:3], strip=False)[exercise.name]
    start = time.process_time()  # what it takes by itself, however busy the machine is
    reply = judge(exercise, answer)
    seconds = time.process_time() - start
    assert reply, reply
    assert f"{exercise.key} is right" in str(reply)
    assert seconds < SECONDS


@every_exercise
def test_the_starter_is_told_to_write_something(exercise):
    reply = judge(exercise, run(exercise.key[:3], strip=True)[exercise.name])
    assert not reply
    assert re.search("has no answer yet|returns nothing: write the body", reply.sentence)


@every_exercise
def test_three_wrong_answers_and_more_are_called_by_their_names(exercise):
    assert len(exercise.mistakes) >= 3
    for mistake in exercise.mistakes:
        if not exercise.cases:
            answer = mistake.wrong()
        else:
            answer = (as_figure if exercise.key == "07.3" else as_function)(mistake.wrong)
        with np.errstate(all="ignore"):
            reply = judge(exercise, answer)
        assert not reply
        assert mistake.name in reply.sentence, reply
        assert "Re-read notebook" in reply.sentence
        if exercise.cases:
            assert re.search("expected|raises", reply.sentence)


def as_function(wrong):
    return lambda *arguments: wrong(*arguments)


def as_figure(wrong):
    def draw(*arguments):
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        axes.plot(*np.asarray(wrong(*arguments)).T)
        axes.set(xlabel="groups", ylabel="memory access")
        return figure

    return draw


def wrong_code(key: str, old: str, new: str):
    """The solution with a mistake put into it."""
    code = CODE[key]
    assert old in code
    names = run(key[:3], strip=False)
    exec(code.replace(old, new), names)
    return names[EXERCISES[key].name]


@pytest.mark.parametrize(
    ("key", "old", "new", "named"),
    [
        ("01.2", "ho * wo", "h * w", "the stride is forgotten"),
        ("01.2", "return n", "return 2 * n", "FLOPs are counted twice"),
        ("02.1", "(c // groups)", "(c // groups) // groups", "divided by the groups twice"),
        ("03.1", "groups, -1", "-1, groups", "written as (n, G) instead of (G, n)"),
        ("03.2", "dy.shape[-1] // groups", "groups", "shuffled once more"),
        ("04.1", "dy @ w.T", "dy @ w", "not transposed"),
        ("05.1", "(0, 1, 2))  #", "(0, 1, 2), ddof=1)  #", "divided by M - 1"),
        ("05.2", " - dy.mean(axes)", "", "the mean's gradient is forgotten"),
        ("05.2", " - xhat * (dy * xhat).mean(axes)", "", "the variance's gradient is forgotten"),
        ("05.3", ", ddof=1", "", "the variance is biased"),
        ("06.1", "2 * c * m // g", "2 * c * m", "the groups are forgotten"),
        ("06.3", "return d + dz", "return d", "the shortcut is forgotten"),
        ("08.3", "channel_shuffle_backward", "channel_shuffle", "shuffled once more"),
        ("10.1", " / len(labels)", "", "divide by N"),
        ("12.2", "axis + 1", "axis", "own side does not count"),
    ],
)  # fmt: skip
def test_mistakes_in_the_solutions_themselves(key, old, new, named):
    reply = judge(EXERCISES[key], wrong_code(key, old, new))
    assert not reply
    assert "expected" in reply.sentence or "raises" in reply.sentence
    assert named in reply.sentence, reply


def test_a_reply_says_which_case_fails_with_the_smallest_shape():
    reply = ts.course.check("03.1", lambda x, groups: x)
    assert not reply
    assert reply.sentence.startswith(
        "03.1 is not right yet. For x of shape (1, 1, 1, 6), groups=2, shuffle returns "
        "[[[[0 1 2 3 4 5]]]] where [[[[0 3 1 4 2 5]]]] is expected."
    )
    assert "Re-read notebook 03, section 3." in str(reply).replace("\n", " ")
    assert max(len(line) for line in repr(reply).splitlines()) <= 88


def changed(x, groups):
    x += 1
    return x


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "has no answer yet"),
        (np.zeros(6), "asks for a function, and was given a ndarray"),
        (lambda x, groups: 1 / 0, "raises ZeroDivisionError: division by zero"),
        (lambda x: x, "raises TypeError"),
        (lambda x, groups: None, "returns nothing"),
        (lambda x, groups: "a word", "a str where numbers are expected"),
        (lambda x, groups: x.ravel(), "of shape (6,) where (1, 1, 1, 6) is expected"),
        (changed, "changes its argument x"),
    ],
)
def test_answers_of_the_wrong_kind(answer, said):
    reply = ts.course.check("03.1", answer)
    assert not reply and said in reply.sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [(None, "has no answer yet"), (sum, "asks for a number"), ("many", "asks for a number"),
     (300, "300 is too large"), (200.5, "200.5 is too small")],
)  # fmt: skip
def test_numbers_of_the_wrong_kind(answer, said):
    reply = ts.course.check("02.4", answer)
    assert not reply and said in reply.sentence
    assert "288" not in reply.sentence


def test_large_results_are_described_by_their_first_wrong_number():
    def last_wrong(dy, x, gamma, eps):
        right = EXERCISES["05.2"].reference(dy, x, gamma, eps)
        if right.size > 12:
            right[-1, -1, -1, -1] += 1
        return right

    reply = ts.course.check("05.2", last_wrong)
    assert "wrong in 1 of 36 numbers; the first is at [1, 2, 1, 2]" in reply.sentence
    assert "known mistake" not in reply.sentence


def test_a_slow_loop_is_told_so():
    from tinyshuffle.course.lessons.kernels import slow_depthwise

    reply = ts.course.check("12.1", slow_depthwise)
    assert not reply and "is right but slow" in reply.sentence


def test_only_what_the_student_wrote_is_run():
    assert not ts.course.check("03.1", lambda x, groups: [])
    assert "a str where" in ts.course.check("03.1", lambda x, g: "__import__('os')").sentence


def test_progress_is_stored_beside_the_notebook(tmp_path):
    assert repr(ts.course.progress()).endswith(f"0 of {len(EXERCISES)} exercises are done")
    ts.course.check("02.4", 1)
    ts.course.check("02.4", 288)
    ts.course.check("02.4", 2)  # what was right once stays done
    ts.course.hint("01.1")
    assert [p.name for p in tmp_path.iterdir()] == [".tinyshuffle-course.json"]
    lines = repr(ts.course.progress()).splitlines()
    assert "02.4  done  How much wider for the same price?" in "\n".join(lines)
    assert lines[-1].startswith("1 of ")
    assert next(line for line in lines if line.startswith("01.1")).endswith("1 hint")


def test_hints_come_in_two_steps():
    first, second = ts.course.hint("03.1"), ts.course.hint("03.1")
    assert "one more" in first and "2." not in first
    assert second.startswith("1.") and "2." in second
    assert ts.course.hint("03.1") == second


@every_exercise
def test_the_first_hint_does_not_hold_the_second(exercise):
    assert len(set(exercise.hints)) == 2 and all(h.endswith((".", "?")) for h in exercise.hints)


def test_progress_that_cannot_be_read_or_written_does_not_stop_a_check(tmp_path, monkeypatch):
    stored = tmp_path / ".tinyshuffle-course.json"
    stored.write_text("{")
    reply = ts.course.check("02.4", 288)
    assert reply and "Not noted" in reply.sentence
    assert stored.read_text() == "{"
    assert ts.course.hint("02.4")
    with pytest.raises(ts.TinyshuffleError, match="move that file away"):
        ts.course.progress()


def test_an_unknown_exercise_is_answered_with_a_near_one():
    with pytest.raises(ts.TinyshuffleError, match=r"'3\.2'.*03\.2"):
        ts.course.check("3.2", None)


@every_exercise
def test_the_sections_to_re_read_exist(exercise):
    for see in {exercise.see, *(m.see for m in exercise.mistakes if m.see)}:
        lesson, section = re.fullmatch(r"notebook (\d\d), section (\d+)", see).groups()
        for notebook in (ROOT / "notebooks").glob(f"{lesson}-*.ipynb"):
            assert f"\"## {section}. " in notebook.read_text(encoding="utf-8"), see


def test_solutions_are_not_importable():
    code = """import sys, tinyshuffle.course.lessons
print([name for name in sys.modules if "solution" in name])"""
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr
    package = ROOT / "tinyshuffle" / "course"
    assert not any("BEGIN SOLUTION" in p.read_text("utf-8") for p in package.rglob("*.py"))


def test_importing_the_library_does_not_load_the_lessons():
    code = "import tinyshuffle, sys; print('tinyshuffle.course.lessons' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


def test_exercises_are_exercises():
    assert all(isinstance(e, Exercise) for e in EXERCISES.values())
    assert "03.1  Channel shuffle in one line" in repr(ts.course.exercises())
