"""What docs/course promises a teacher."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tinyshuffle.course import projects
from tinyshuffle.course.lessons import EXERCISES

COURSE = Path(__file__).parents[2] / "docs" / "course"
LESSONS = sorted((COURSE.parents[1] / "notebooks").glob("[0-9][0-9]-*.ipynb"))
SYLLABUS = (COURSE / "syllabus.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0][:1].isdigit()]


def test_each_lesson_has_a_week_of_90_minutes_and_every_exercise_stands_in_one():
    weeks = rows(SYLLABUS.split("## A workshop")[0])
    assert [week[0] for week in weeks] == [str(n) for n in range(1, 1 + len(LESSONS))]
    assert [week[1][:2] for week in weeks] == [path.name[:2] for path in LESSONS]
    for _, notebook, _, minutes, exercises in weeks:
        assert sum(map(int, re.findall(r"\d+", minutes))) == 90
        assert {key[:2] for key in re.findall(r"\d\d\.\d", exercises)} == {notebook[:2]}
    listed = [key for week in weeks for key in re.findall(r"\d\d\.\d", week[4])]
    assert sorted(listed) == list(EXERCISES)


def test_the_day_has_no_gaps_and_its_exercises_exist():
    day = rows(SYLLABUS.split("## A workshop")[1])
    times = [re.findall(r"\d\d:\d\d", row[0]) for row in day]
    assert [end for _, end in times[:-1]] == [start for start, _ in times[1:]]
    assert times[0][0] == "09:00" and times[-1][1] == "17:00"
    assert {key for row in day for key in re.findall(r"\d\d\.\d", row[2])} <= set(EXERCISES)


def test_each_rubric_adds_up_to_twenty_points():
    rubrics = (COURSE / "projects.md").read_text(encoding="utf-8").split("| points |")[1:]
    points = [[int(row[0]) for row in rows(rubric) if len(row) == 2] for rubric in rubrics]
    assert [sum(p) for p in points] == [20, 20]


def test_the_settings_are_those_of_the_text():
    text = (COURSE / "projects.md").read_text(encoding="utf-8")
    for number in (projects.BUDGET, projects.TRAIN, projects.CHANNELS):
        assert f"{number:,}" in text
    assert projects.EPOCHS == 6 and "six epochs" in text
    assert projects.TIMINGS == 15 and "15 timings" in text


@pytest.mark.parametrize("page", sorted(COURSE.glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.name[:2])
def test_a_page_for_teachers_has_answers_mistakes_and_a_drawing(lesson):
    page = COURSE / "teachers" / f"{lesson.name[:2]}.md"
    text = page.read_text(encoding="utf-8")
    first = json.loads(lesson.read_text(encoding="utf-8"))["cells"][0]["source"][0]
    number, title = re.match(r"# (\d+)\. ([^:\n]+)", first).groups()
    assert text.startswith(f"# Lesson {number}, {title}: for teachers\n")
    assert re.findall("^## (.+)$", text, re.M) == [
        "Questions, with answers", "Misconceptions", "On the board",
    ]  # fmt: skip
    questions, misconceptions, _ = text.split("\n## ")[1:]
    assert len(re.findall(r"^- \*.+?\?\* \S", questions, re.M | re.S)) >= 4
    assert misconceptions.count("\n- \"") >= 3
    linked = [page.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    wanted = [lesson, COURSE / "solutions" / lesson.name]
    assert [target.resolve(strict=True) for target in linked] == wanted
    for named in re.findall(r"\((?:exercises? )?(\d\d\.\d(?:, \d\d\.\d)*)", text):
        for key in named.split(", "):
            assert key in EXERCISES and key[:2] == page.stem
