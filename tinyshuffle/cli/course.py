"""The command ``course``."""

from __future__ import annotations

import json

import click

from ..errors import TinyshuffleError
from ..text import csv_text
from .group import NUMBER, PATH, WHOLE, cli, new_table, one_of, say

MOST_SECONDS = 86_400
MOST_MEGABYTES = 1_000_000
"""A day, and more memory than machines have, are more than a submission can want."""


@cli.group(short_help="Exercises, a student's progress, and scores for a class.")
def course() -> None:
    """The course: exercises, a student's progress, and scores for a class."""


@course.command(short_help="List the exercises and what is done.")
def progress() -> None:
    """List the exercises, and what is done of those in the current folder."""
    from .. import course as kit

    click.echo(kit.progress())


@course.command(short_help="Score a folder of submissions.")
@click.argument("project")
@click.argument("folder", type=PATH)
@click.option("--seconds", metavar="S", type=NUMBER, default=300, help="For each.  [default: 300]")
@click.option("--memory", metavar="MB", type=WHOLE, default=4096, help="For each.  [default: 4096]")
@click.option(
    "--format",
    "style",
    metavar="NAME",
    default="table",
    help="table, json, csv.  [default: table]",
)
def score(project: str, folder: str, seconds: float, memory: int, style: str) -> None:
    """Run every submission to PROJECT in FOLDER, and print the class's leaderboard.

    PROJECT is "unit" (accuracy of a unit of at most 5 M multiply-adds) or "kernel" (how many times
    as fast as the plain one). A submission is FOLDER/STUDENT.py or FOLDER/STUDENT/submission.py. It
    runs in a process of its own with limits of time and memory (on Windows: of time); one that
    fails is reported and the others go on. The limits guard against accidents, not attacks.
    """
    from ..course.score import LEAST_MEGABYTES, PROJECTS, find_submissions, rank
    from ..course.score import score as run

    one_of("PROJECT", project, PROJECTS)
    style = one_of("--format", style, ("table", "json", "csv"))
    if not (0 < seconds <= MOST_SECONDS and 1 <= memory <= MOST_MEGABYTES):
        raise TinyshuffleError(
            "--seconds and --memory have to be above zero, and at most "
            f"{MOST_SECONDS:,} s and {MOST_MEGABYTES:,} MB: give other ones"
        )
    if memory < LEAST_MEGABYTES[project]:
        raise TinyshuffleError(
            f"--memory {memory} is less than the library itself takes: give at least "
            f"{LEAST_MEGABYTES[project]}"
        )
    submissions = find_submissions(folder)
    scores, spent = [], 0.0
    for i, one in enumerate(run(project, submissions, seconds, memory), 1):
        scores.append(one)
        spent += one.seconds
        left = spent / i * (len(submissions) - i)
        what = one.error or f"{one.figures['score']:.2f}"
        say(
            f"{i} of {len(submissions)}: {one.student}: {what} (about {left:.0f} s left)", err=True
        )
    scores = rank(scores)
    places = [str(i) if not s.error else "" for i, s in enumerate(scores, 1)]
    figures = list(dict.fromkeys(name for s in scores for name in s.figures))
    if style == "json":
        rows = [{"student": s.student, **s.figures, "error": s.error} for s in scores]
        click.echo(json.dumps(rows, indent=1))
        return
    cells = [
        [p, s.student, *(_show(s.figures.get(name)) for name in figures), s.error]
        for p, s in zip(places, scores, strict=True)
    ]
    headings = ["place", "student", *figures, "what is wrong"]
    if style == "csv":
        click.echo(csv_text([headings, *cells]), nl=False)
        return
    shown = new_table(headings[0], *(name.replace("_", " ") for name in headings[1:]))
    for column in (shown.columns[1], shown.columns[-1]):
        column.justify = "left"
    shown.columns[-1].no_wrap = False
    for line in cells:
        shown.add_row(*line)
    shown.print()


def _show(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,}" if float(figure).is_integer() and figure > 1000 else f"{figure:.2f}"
