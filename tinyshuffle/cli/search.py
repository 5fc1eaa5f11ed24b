"""The command ``search``."""

from __future__ import annotations

import click

from .group import THREADS, cli, new_table, print_table, save_figure


@cli.command(short_help="Find the largest ShuffleNet that fits a time budget.")
@click.option("--latency", metavar="TIME", required=True, help="For one image, such as 2ms.")
@click.option("--input-size", metavar="N", type=int, default=32, help="[default: 32]")
@click.option("--seed", metavar="N", type=int, default=0, help="Of the search.  [default: 0]")
@click.option("--plot", metavar="FILE", help="Draw it (.png, .svg or .pdf).")
@THREADS
def search(
    latency: str, input_size: int, seed: int, plot: str | None, threads: int | None
) -> None:
    """Search ShuffleNets for the most multiply-adds within a time for one image.

    Every unit of the space is timed on this machine first; a net's time is the sum of its units'.
    An evolution then varies widths, depths and groups. Multiply-adds stand in for accuracy:
    nothing is trained.
    """
    from .. import plots
    from ..bench.progress import Progress
    from ..bench.search import Clock, Space, best, evolve, front, parse_latency
    from ..errors import TinyshuffleError
    from ..parallel import get_num_threads

    budget = parse_latency(latency)
    if input_size < 8:
        raise TinyshuffleError(f"--input-size {input_size} is too small: give 8 or more")
    if threads is not None and threads < 1:
        raise TinyshuffleError(f"--threads {threads} is not possible: give 1 or more")
    space = Space(input_size, 10 if input_size < 64 else 1000)
    with Progress() as progress, Clock(space, threads or get_num_threads()) as clock:
        table = clock.table(progress)
        seen = evolve(space, table, budget, seed)
        winner = best(seen, budget)
        measured = clock.net(winner)
    rows = new_table("", "groups", "widths", "depths", "ms", "mult-adds, M")
    edge = [genome for genome in front(seen) if seen[genome].seconds <= budget]
    for genome in edge[:: max(1, len(edge) // 10)] + [winner]:
        rows.add_row(
            "found" if genome is winner else "",
            str(genome.groups) if genome.groups else "V2",
            ", ".join(map(str, genome.widths)),
            ", ".join(map(str, genome.depths)),
            f"{1e3 * seen[genome].seconds:.3f}",
            f"{seen[genome].multiply_adds / 1e6:.1f}",
        )
    print_table(rows)
    click.echo(
        f"{winner}: {1e3 * seen[winner].seconds:.3f} ms by the look-up table, "
        f"{1e3 * measured:.3f} ms measured as a whole"
    )
    click.echo(
        f"1 image of {input_size}x{input_size}, {space.stem} stem, {len(table)} parts timed, "
        f"{len(seen)} nets looked at. More rows: nets that no other beats in both. V2: units with "
        "a channel split."
    )
    if plot:
        save_figure(plots.search_front(seen, budget, winner), plot)
