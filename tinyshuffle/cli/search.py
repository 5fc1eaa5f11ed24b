"""The command ``search``."""

from __future__ import annotations

from pathlib import Path

import click

from .group import (
    INPUT_SIZE,
    PATH,
    PLOT,
    SIZE,
    THREADS,
    WHOLE,
    cli,
    new_table,
    positive,
    print_table,
    save_figure,
    say,
)


@cli.command(short_help="Find the largest ShuffleNet that fits a time budget.")
@click.option("--latency", metavar="TIME", required=True, help="For one image, such as 2ms.")
@click.option("--input-size", metavar="N", type=SIZE, default="32", help=INPUT_SIZE.format(32))
@click.option("--seed", metavar="N", type=WHOLE, default=0, help="Of the search.  [default: 0]")
@click.option(
    "--recipe",
    metavar="FILE",
    type=PATH,
    help="Where to write it (.toml).  [default: search-TIME.toml]",
)
@PLOT
@THREADS
def search(
    latency: str,
    input_size: tuple[int, int],
    seed: int,
    recipe: str | None,
    plot: str | None,
    threads: int | None,
) -> None:
    """Search ShuffleNets for the most multiply-adds within a time for one image.

    Every unit of the space is timed on this machine first; a net's time is the sum of its units'.
    An evolution then varies widths, depths and groups. What it finds is timed as a whole, and the
    next net is tried if that is too slow. Multiply-adds stand in for accuracy: nothing is trained,
    but a recipe for `train` is written.
    """
    from .. import plots
    from ..bench.progress import Progress
    from ..bench.search import Clock, front, parse_latency, ruled_out, within
    from ..bench.search_space import Space
    from ..errors import TinyshuffleError
    from ..files import atomic_write
    from ..parallel import get_num_threads

    budget = parse_latency(latency)
    if seed < 0:
        raise TinyshuffleError(f"--seed {seed} is not possible: give 0 or more")
    height, width = input_size
    size = height if height == width else input_size
    if min(input_size) < 8:
        given = size if height == width else f"{height}x{width}"
        raise TinyshuffleError(f"--input-size {given} is too small: give 8 or more")
    positive("--input-size", max(input_size), 10_000)
    positive("--threads", threads, 4096)
    path = Path(recipe or f"search-{latency.replace(' ', '')}.toml")
    if path.suffix != ".toml":
        raise TinyshuffleError(
            f"--recipe {recipe} is not the name of a recipe file: let it end in .toml"
        )
    if not path.parent.is_dir():
        raise TinyshuffleError(
            f"there is no directory {path.parent} to write {path.name} to: make it first, or "
            "choose another file with --recipe"
        )
    if path.exists():
        raise TinyshuffleError(
            f"{path} exists already: choose another file with --recipe, or move that one away"
        )
    space = Space(size, 10 if max(input_size) < 64 else 1000)
    with Progress() as progress, Clock(space, threads or get_num_threads()) as clock:
        table = clock.table(progress)
        found = within(space, table, budget, clock.net, seed)
    seen, measured, winner = found.seen, found.measured, found.genome
    edge = [genome for genome in front(seen) if seen[genome].seconds < seen[winner].seconds]
    shown = {*edge[:: max(1, len(edge) // 10)], *measured}
    columns = "groups", "widths", "depths", "ms by parts", "ms whole", "mult-adds, M"
    rows = new_table("", *columns)
    for genome in sorted(shown, key=lambda genome: seen[genome].multiply_adds):
        whole = measured.get(genome)
        rows.add_row(
            "found" if genome == winner else "too slow" if whole else "",
            str(genome.groups) if genome.groups else "V2",
            ", ".join(map(str, genome.widths)),
            ", ".join(map(str, genome.depths)),
            f"{1e3 * seen[genome].seconds:.3f}",
            f"{1e3 * whole:.3f}" if whole else "",
            f"{seen[genome].multiply_adds / 1e6:.1f}",
        )
    print_table(rows)
    click.echo(
        f"{winner}: {1e3 * measured[winner]:.3f} ms measured as a whole (the median of several "
        f"series), {1e3 * seen[winner].seconds:.3f} ms by the sum of its parts"
    )
    click.echo(
        f"1 image of {height}x{width}, {space.stem} stem, {len(table)} parts timed, "
        f"{len(seen)} nets looked at, {len(measured)} timed as a whole. Rows without that: nets "
        "that no other beats in both. V2: units with a channel split."
    )
    click.echo(ruled_out(seen, winner))
    fields = [f'model = "{winner.model}"']
    fields += [f"variant = {{ {', '.join(f'{k} = {v}' for k, v in winner.variant.items())} }}"]
    # CIFAR's have 32 pixels; trained is on squares
    fields += [f"sizes = [{height}]"] if height == width < 32 else []
    with atomic_write(path) as file:
        file.write(("\n".join(fields) + "\n").encode())
    say(f"to train it: python -m tinyshuffle train --recipe {path}")
    if plot:
        save_figure(plots.search_front(seen, budget, winner), plot)
