"""The command ``report``."""

from __future__ import annotations

import click

from .group import PATH, RUNS_DIR, cli, find_run, say


@cli.command(short_help="Write a run's page: one HTML file.")
@click.argument("run", type=PATH, metavar="RUN")
@RUNS_DIR
def report(run: str, runs_dir: str) -> None:
    """Write RUN/report.html: curves, mistakes, configuration, machine, log, and how to repeat it.

    A training writes it when it ends; this is for a run that is still under way, or older. The page
    is one file, with its pictures in it.
    """
    from ..train.report import write_report

    say(f"written: {write_report(find_run(run, runs_dir))}")
