"""The command ``gradcheck``."""

from __future__ import annotations

import click

from ..errors import TinyshuffleError
from .group import cli


@cli.command(short_help="Check gradients against finite differences.")
@click.argument("names", nargs=-1)
def gradcheck(names: tuple[str, ...]) -> None:
    """Check the gradients of layers, units or models by their NAMES, in float64.

    Without names: every layer and unit and two whole nets, one line each. The exit code is 1 if a
    gradient is wrong.
    """
    from ..gradcheck import CASES, run_named

    reports = run_named(list(names))
    width = max(map(len, CASES))
    failed = []
    if not names:
        click.echo(f"{'':<{width}}  gradients  checked  largest relative error")
    for name, report in reports:
        if names:
            click.echo(f"{name}\n{report}\n")
        else:
            click.echo(
                f"{name:<{width}}  {len(report.rows):>9}  {sum(r.checked for r in report.rows):>7}"
                f"  {report.max_relative_error:>22.1e}{'' if report.passed else '  FAILED'}"
            )
        if not report.passed:
            failed.append(name)
            if not names:
                click.echo("\n".join(report.failures))
    if failed:
        raise TinyshuffleError(f"the gradients of {', '.join(failed)} are wrong: see above")
    if not names:
        click.echo("all passed")
