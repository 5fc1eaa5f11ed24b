"""The latency search: its space, its evolution, and the whole command."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle.bench import search, search_space
from tinyshuffle.bench.search import best, evolve, front, guided, parse_latency
from tinyshuffle.bench.search_space import (
    RULES,
    Entry,
    Genome,
    Space,
    anything,
    obeys,
    ruled_out_by,
)
from tinyshuffle.cli import cli
from tinyshuffle.data import shapes

SPACE = Space(32, 10, groups=(0, 3), widths=(48, 96), depths=(2, 4))


def counted(space, seconds=lambda adds: 1e-5 + adds / 1e10):
    """A look-up table of a machine whose time is known."""
    table = {}
    for part in space.all_parts():
        net, shape = space.module(part)
        adds = ts.cost.profile(net, shape).total.multiply_adds
        table[part] = Entry(seconds(adds), adds)
    return table


@pytest.fixture(scope="module")
def table():
    return counted(SPACE)


def test_times_are_read():
    texts = ("2ms", " 1.5 ms ", "800us", "800µs", ".5ms", "1s")
    assert [parse_latency(text) for text in texts] == [2e-3, 1.5e-3, 8e-4, 8e-4, 5e-4, 1.0]
    for text in ("2", "ms", "-2ms", "0ms", "2 minutes", "1e-3s", ""):
        with pytest.raises(ts.TinyshuffleError, match="is not a time: give a number above 0"):
            parse_latency(text)


def test_a_net_is_the_sum_of_its_parts(table):
    rng = np.random.default_rng(0)
    for _ in range(20):
        genome = SPACE.draw(rng)
        net, entry = SPACE.build(genome), SPACE.cost(genome, table)
        assert ts.cost.profile(net, (1, 32, 32, 3)).total.multiply_adds == entry.multiply_adds
        assert entry.seconds == pytest.approx(
            sum(table[part].seconds for part in SPACE.parts(genome))
        )
    assert net.eval()(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 10)


def test_mutants_stay_in_the_space(table):
    rng = np.random.default_rng(1)
    genome, seen = SPACE.draw(rng), set()
    for _ in range(300):
        genome = SPACE.mutate(genome, rng)
        seen.add(genome)
        SPACE.cost(genome, table)  # has all parts
    assert {g.groups for g in seen} == {0, 3} and len(seen) > 30


def every_net():
    return [
        Genome(groups, (a, b, c), (d, e, f))
        for groups in SPACE.groups
        for a in SPACE.choices(groups, 0)
        for b in SPACE.choices(groups, 1)
        for c in SPACE.choices(groups, 2)
        if SPACE._possible(groups, (a, b, c))
        for d in SPACE.depths
        for e in SPACE.depths
        for f in SPACE.depths
    ]


def test_the_search_finds_the_best_there_is(table):
    """In a space small enough to look at every net."""
    costs = {genome: SPACE.cost(genome, table) for genome in every_net()}
    times = sorted(entry.seconds for entry in costs.values())
    for latency in (times[0], times[len(times) // 2], 2 * times[-1]):
        seen = evolve(SPACE, table, latency, seed=3)
        found = best(seen, latency)
        assert seen[found] == costs[found] and costs[found].seconds <= latency
        most = max(e.multiply_adds for e in costs.values() if e.seconds <= latency)
        assert costs[found].multiply_adds == most


def test_the_clock_has_its_say():
    """Where grouped units take ten times as long, none is chosen."""
    fair = counted(SPACE)
    slow = {
        part: Entry(e.seconds * (10 if part[0] == "unit" and part[1] == 3 else 1), e.multiply_adds)
        for part, e in fair.items()
    }
    latency = 3 * SPACE.fastest(slow)[1].seconds
    assert best(evolve(SPACE, slow, latency), latency).groups == 0


def test_a_seed_is_a_search(table):
    assert list(evolve(SPACE, table, 0.01, seed=5)) == list(evolve(SPACE, table, 0.01, seed=5))
    assert list(evolve(SPACE, table, 0.01, seed=5)) != list(evolve(SPACE, table, 0.01, seed=6))


def test_an_impossible_budget_is_one_sentence(table):
    fastest = min(SPACE.cost(genome, table).seconds for genome in every_net())
    with pytest.raises(ts.TinyshuffleError) as caught:
        evolve(SPACE, table, fastest / 2)
    assert f"the fastest one there is takes {1e3 * fastest:.3g} ms" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_front_is_beaten_by_none():
    a, b, c, d = (Genome(0, (w, w, w), (2, 2, 2)) for w in range(4))
    seen = {a: Entry(1.0, 10), b: Entry(2.0, 9), c: Entry(2.0, 12), d: Entry(3.0, 30)}
    assert front(seen) == [a, c, d]


@pytest.mark.parametrize("slower", [0.6, 0.9, 1.0, 1.4])
def test_what_is_found_fits_as_measured(table, slower):
    """Though a net takes longer, or less, than the sum of its parts; all of the budget is used."""

    def measure(genome):
        return slower * SPACE.cost(genome, table).seconds

    latency = 2 * SPACE.fastest(table)[1].seconds
    found = search.within(SPACE, table, latency, measure, seed=3)
    assert measure(found.genome) == found.measured[found.genome] <= latency
    assert len(found.measured) <= 3
    best_there_is = max(
        SPACE.cost(genome, table).multiply_adds
        for genome in every_net()
        if measure(genome) <= latency
    )
    assert found.seen[found.genome].multiply_adds == best_there_is


def test_a_search_ends_whatever_the_clock_says():
    space = Space(32, 10, groups=(0,), widths=(48, 96, 144), depths=(2, 3, 4, 6, 8))
    table, rng = counted(space), np.random.default_rng(0)
    fastest = space.fastest(table)[1].seconds

    def at_random(genome):
        return space.cost(genome, table).seconds * rng.uniform(0.5, 2)

    def always_the_same(genome):  # so there is always a little more time to use
        return 0.9 * fastest

    for latency, measure in ((2 * fastest, at_random), (fastest, always_the_same)):
        found = search.within(space, table, latency, measure, seed=3)
        assert found.measured[found.genome] <= latency and len(found.measured) <= 8


def test_no_net_that_fits_as_measured_is_one_sentence(table):
    latency = 1.2 * SPACE.fastest(table)[1].seconds
    with pytest.raises(ts.TinyshuffleError) as caught:
        search.within(SPACE, table, latency, lambda genome: 3 * latency)
    assert f"the fastest one there is takes {3e3 * latency:.3g} ms" in str(caught.value)


def test_what_each_guideline_rules_out():
    """By what the units are, not by their names."""
    wide = Space(32, 10, groups=(0, 1, 3), widths=(48, 144, 192), depths=(2,))
    for genome in wide.shallowest():
        net, broken = wide.build(genome), ruled_out_by(genome)
        convs = [
            module
            for name, module in net.named_modules()
            if name.startswith("stage") and getattr(module, "kind", "") == "pointwise"
        ]
        uneven = [
            max(c.in_channels, c.out_channels) / min(c.in_channels, c.out_channels) for c in convs
        ]
        rows = ts.cost.profile(net, (1, 32, 32, 3)).rows
        assert ("G1" in broken) == (max(uneven) >= 4), (genome, uneven)
        assert ("G2" in broken) == any(conv.groups > 1 for conv in convs)
        assert ("G4" in broken) == any(row.operation == "add" for row in rows)
        assert obeys(genome) == (not broken)


def test_the_space_counts_its_nets(table):
    assert SPACE.count(anything) == len(every_net())
    for name in RULES:
        count = SPACE.count(lambda genome, name=name: name in ruled_out_by(genome))
        assert count == sum(name in ruled_out_by(genome) for genome in every_net())


def test_what_the_guidelines_rule_out_is_searched_apart(table):
    """And is as good as it can be, on the same budget."""
    latency, timed = 3 * SPACE.fastest(table, obeys)[1].seconds, []

    def measure(genome):
        timed.append(genome)
        return SPACE.cost(genome, table).seconds

    result = guided(SPACE, table, latency, measure, seed=1)
    found = result.found
    assert obeys(found.genome) and all(map(obeys, found.seen))
    assert result.seen and not any(map(obeys, result.seen))
    costs = {genome: SPACE.cost(genome, table) for genome in every_net()}

    def best_of(rule):
        return max(e.multiply_adds for g, e in costs.items() if rule(g) and e.seconds <= latency)

    assert costs[found.genome].multiply_adds == best_of(obeys)
    assert [*result.counts] == [*RULES] and [*result.best] == ["G1", "G2", "G4"]
    for name, genome in result.best.items():
        assert costs[genome].multiply_adds == best_of(
            lambda genome, name=name: name in ruled_out_by(genome)
        )
        assert result.measured[genome] <= latency
    assert len(timed) == len(set(timed))


def test_a_budget_that_only_what_is_ruled_out_keeps_is_one_sentence(table):
    slow = {part: Entry(e.seconds * (100 if part[1:2] == (0,) else 1), e.multiply_adds)
            for part, e in table.items()}  # fmt: skip
    latency = 2 * SPACE.fastest(slow)[1].seconds
    with pytest.raises(ts.TinyshuffleError, match="no net of the space that V2's guidelines allow"):
        guided(SPACE, slow, latency, lambda genome: SPACE.cost(genome, slow).seconds)


# ---- the whole command


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    init = search.Clock.__init__
    small = {"groups": (0, 2), "widths": (48,), "depths": (2, 3)}
    monkeypatch.setattr(
        search_space, "Space", lambda size, classes: Space(size, classes, **small)
    )
    monkeypatch.setattr(
        search.Clock, "__init__", lambda self, space, threads: init(self, space, threads, 0.0)
    )


def run(*arguments):
    return CliRunner().invoke(cli, ["search", "--input-size", "8", "--threads", "1", *arguments])


def test_the_command(tiny, tmp_path):
    figure = tmp_path / "front.png"
    result = run("--latency", "100s", "--plot", str(figure))
    assert result.exit_code == 0, result.output
    assert "found" in result.stdout and "ms measured as a whole" in result.stdout
    assert "V2's guidelines rule out 8 of 16 nets" in result.stdout
    # no budget: the deepest net there is
    assert "widths 48, 96, 192, depths 3, 3, 3" in result.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    again = run("--latency", "100s")
    assert again.exit_code == 1 and "search-100s.toml exists already" in again.stderr


def test_the_parts_of_a_net_for_wide_images_add_up_to_it():
    wide = Space((32, 48), 10, (0, 3), (48,), (2,))
    table = counted(wide)
    assert wide.stage_sizes[-1] == (4, 6)
    for groups in (0, 3):
        genome = Genome(groups, (48, 96, 192), (2, 2, 2))
        total = ts.cost.profile(wide.build(genome), (1, 32, 48, 3)).total
        assert wide.cost(genome, table).multiply_adds == total.multiply_adds


def test_the_command_for_wide_images(tiny, tmp_path):
    result = CliRunner().invoke(
        cli, ["search", "--input-size", "8x16", "--threads", "1", "--latency", "100s"]
    )
    assert result.exit_code == 0, result.output
    assert "1 image of 8x16" in result.stdout
    assert "sizes" not in (tmp_path / "search-100s.toml").read_text()


def test_what_is_found_is_shown_once_and_can_be_trained(tiny, tmp_path, monkeypatch):
    """The whole way, on a machine where a net takes 1.4 times as long as its parts."""
    monkeypatch.setenv("COLUMNS", "100")  # wide enough for a row a net
    small, counts = Space(8, 10, (0, 2), (48,), (2, 3)), {}

    def net(clock, genome):
        counts[genome] = 1.4 * small.cost(genome, table).seconds
        return counts[genome]

    table = counted(small)
    monkeypatch.setattr(search.Clock, "table", lambda self, progress: table)
    monkeypatch.setattr(search.Clock, "net", net)
    budget = 1.2 * max(small.cost(g, table).seconds for g in [
        Genome(g, (48, 96, 192), (3, 3, 3)) for g in (0, 2)
    ])  # fmt: skip
    result = run("--latency", f"{1e6 * budget:.0f}us", "--recipe", "mine.toml")
    assert result.exit_code == 0, result.output
    allowed = [genome for genome in counts if obeys(genome)]
    fitting = [genome for genome in allowed if counts[genome] <= budget]
    winner = max(fitting, key=lambda genome: small.cost(genome, table).multiply_adds)
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert sum(row.startswith("found ") for row in rows) == 1, result.stdout
    late = sum(row.startswith("too slow ") for row in rows)
    assert late == len(allowed) - len(fitting) > 0, result.stdout
    for genome in allowed:
        depths = ", ".join(map(str, genome.depths))
        assert sum(f"48, 96, 192 {depths} " in row for row in rows) == 1, result.stdout
    assert sum("V1 units, 2 groups, widths" in line for line in result.stdout.splitlines()) == 3

    config = ts.train.Config.make("mine.toml")
    made = ts.models.create(config.model, num_classes=10, stem="cifar", **config.variant)
    adds = ts.cost.profile(made, (1, 8, 8, 3)).total.multiply_adds
    assert adds == small.cost(winner, table).multiply_adds
    few = shapes.load(64, 16)
    monkeypatch.setattr(ts.data, "load", lambda *_, **__: few)
    trained = CliRunner().invoke(cli, ["train", "--recipe", "mine.toml", "--epochs", "1"])
    assert trained.exit_code == 0 and "test accuracy" in trained.stdout, trained.output


def test_a_net_may_be_the_budget(tiny, tmp_path, monkeypatch):
    """They take turns, so that what slows down the machine does not change their ratio."""
    load = itertools.count(1)  # of the machine, which rises all the time

    def ask(self, what, **question):
        if what == "hold":
            self.held = question["nets"]
        if what != "run":
            return {}
        slower = 1.0 if "yardstick" in self.held[question["net"]] else 0.5
        return [slower * next(load)] * 5

    monkeypatch.setattr(search.Worker, "ask", ask)
    result = run("--latency", "shufflenet_v2_x0_5")
    assert result.exit_code == 0, result.output
    said = re.search(r": ([\d.]+) ms measured as a whole.*The budget: ([\d.]+) ms, which is what "
                     r"shufflenet_v2_x0_5 takes", result.stdout)  # fmt: skip
    assert float(said[1]) == pytest.approx(0.5 * float(said[2]), rel=0.03)
    assert (tmp_path / "search-shufflenet_v2_x0_5.toml").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--latency", "1us"), "V2's guidelines allow takes 0.001 ms or less: the fastest one"),
        (("--latency", "shufflenet_v2_x0"), "'shufflenet_v2_x0' is not a time"),
        (("--latency", "soon"), "'soon' is not a time"),
        (("--latency", "1ms", "--input-size", "2"), "--input-size 2 is too small"),
        (("--latency", "1ms", "--input-size", "64x2"), "--input-size 64x2 is too small"),
        (("--latency", "1ms", "--threads", "0"), "--threads 0 is not possible"),
    ],
)
def test_mistakes_are_one_sentence(tiny, arguments, words):
    result = run(*arguments)
    assert result.exit_code == 1 and result.stdout == "", result.output
    assert words in result.stderr and result.stderr.count("\n") == 1
