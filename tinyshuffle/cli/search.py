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
    save_figure,
    say,
)


@cli.command(short_help="Find the largest ShuffleNet that fits a time budget.")
@click.option(
    "--latency",
    metavar="TIME|NET",
    required=True,
    help="For one image, such as 2ms, or a net's own.",
)
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
    An evolution varies widths and depths of the nets that ShuffleNet V2's guidelines allow. What it
    finds is timed as a whole, and the search repeated with as much more or less time. What the
    guidelines rule out is searched in the same way, and shown beside it. Multiply-adds stand in
    for accuracy: nothing is trained, but a recipe for `train` is written.
    """
    from .. import plots
    from ..bench.progress import Progress
    from ..bench.search import Clock, front, guided, parse_latency
    from ..bench.search_space import RULES, Space, anything, obeys
    from ..errors import TinyshuffleError
    from ..files import write_text
    from ..models import list_models
    from ..parallel import get_num_threads

    yardstick = latency if latency in list_models() else None
    budget = 0.0 if yardstick else parse_latency(latency)
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
        progress.phase("searching")
        if yardstick:
            budget = clock.yardstick(yardstick)
        result = guided(space, table, budget, clock.net, seed)
    found = result.found
    seen, measured, winner = found.seen, found.measured, found.genome
    edge = [genome for genome in front(seen) if seen[genome].seconds < seen[winner].seconds]
    shown = {*edge[:: max(1, len(edge) // 10)], *measured}
    columns = "widths", "depths", "ms by parts", "ms whole", "mult-adds, M"
    rows = new_table("", *columns)
    for genome in sorted(shown, key=lambda genome: seen[genome].multiply_adds):
        whole = measured.get(genome)
        rows.add_row(
            "found" if genome == winner else "too slow" if whole and whole > budget else "",
            ", ".join(map(str, genome.widths)),
            ", ".join(map(str, genome.depths)),
            f"{1e3 * seen[genome].seconds:.3f}",
            f"{1e3 * whole:.3f}" if whole else "",
            f"{seen[genome].multiply_adds / 1e6:.1f}",
        )
    rows.print()
    of = f", which is what {yardstick} takes" if yardstick else ""
    click.echo(
        f"{winner}: {1e3 * measured[winner]:.3f} ms measured as a whole (the median of several "
        f"series), {1e3 * seen[winner].seconds:.3f} ms by the sum of its parts. The budget: "
        f"{1e3 * budget:.3f} ms{of}"
    )
    click.echo(
        f"1 image of {height}x{width}, {space.stem} stem, {len(table)} parts timed, "
        f"{len(seen)} nets looked at, {len(measured)} timed as a whole. Rows without that: nets "
        "that no other beats in both."
    )
    every = space.count(anything)
    left = space.count(obeys)
    rules = new_table("", "rules out nets with", "nets", "best in the budget", "ms whole",
                      "mult-adds, M")  # fmt: skip
    for name, words in RULES.items():
        best = result.best.get(name)
        rules.add_row(name, words, f"{result.counts[name]:,}", *(
            (str(best), f"{1e3 * result.measured[best]:.3f}",
             f"{result.seen[best].multiply_adds / 1e6:.1f}") if best else ("-", "", "")
        ))  # fmt: skip
    rules.print()
    click.echo(
        f"V2's guidelines rule out {every - left:,} of {every:,} nets: not searched above, but "
        "apart, on the same budget. Multiply-adds compare nets of one family; between families, "
        "train both."
    )
    fields = [f'model = "{winner.model}"']
    fields += [f"variant = {{ {', '.join(f'{k} = {v}' for k, v in winner.variant.items())} }}"]
    # CIFAR's have 32 pixels; trained is on squares
    fields += [f"sizes = [{height}]"] if height == width < 32 else []
    write_text(path, "\n".join(fields) + "\n")
    say(f"to train it: python -m tinyshuffle train --recipe {path}")
    if plot:
        by_table = budget * seen[winner].seconds / measured[winner]
        save_figure(plots.search_front(seen | result.seen, by_table, winner), plot)
