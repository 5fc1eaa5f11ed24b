"""The command ``gradcheck``."""

from __future__ import annotations

import click

from ..errors import TinyshuffleError
from .group import cli


@cli.command(short_help="Check gradients against finite differences.")
@click.argument("names", nargs=-1)
def gradcheck(names: tuple[str, ...]) -> None:
    """Check the gradients of layers, units or models by their NAMES, in float64.

    Without names: every layer and unit and two whole nets, one line each. A gradient is right,
    wrong, or not judged, because it sits on a kink or rounding hides it; the exit code is 0 if all
    are right.
    """
    from ..gradcheck.cases import CASES, run_named

    reports = run_named(list(names))
    width = max(map(len, CASES))
    found: dict[str, list[str]] = {"right": [], "wrong": [], "not judged": []}
    if not names:
        click.echo(f"{'':<{width}}  gradients  checked  largest relative error")
    for name, report in reports:
        if names:
            click.echo(f"{name}\n{report}\n")
        else:
            click.echo(
                f"{name:<{width}}  {len(report.rows):>9}  {sum(r.checked for r in report.rows):>7}"
                f"  {report.max_relative_error:>22.1e}  {report.verdict}"
            )
            for sentence in report.failures:
                click.echo(sentence)
        found[report.verdict].append(name)
    click.echo(", ".join(f"{len(them)} {verdict}" for verdict, them in found.items()))
    failed = [
        f"the gradients of {', '.join(found[verdict])} are {verdict}"
        for verdict in ("wrong", "not judged")
        if found[verdict]
    ]
    if failed:
        raise TinyshuffleError(f"{', and '.join(failed)}: see above")
