"""Every lesson says what it answers and needs, and where it leads; and sentences are recomputed."""

from __future__ import annotations

import json
import re
from math import sqrt
from pathlib import Path

import pytest

import tinyshuffle as ts
from tinyshuffle.bench.guidelines import GUIDELINES
from tinyshuffle.course.lessons import EXERCISES
from tinyshuffle.train import Config

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells(path: Path) -> list[str]:
    """The Markdown cells."""
    book = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown"]


def prose(number: str) -> str:
    (path,) = (p for p in LESSONS if p.name.startswith(number))
    return "\n".join(cells(path))


@each_lesson
def test_the_head_asks_one_question_and_says_time_and_needs(path):
    title, question, frame, *_ = cells(path)[0].split("\n\n")
    assert re.match(rf"# {int(path.name[:2])}\. ", title)
    assert re.fullmatch(r"\*\*[^.?!]+\?\*\*", question), question
    minutes, needs = re.fullmatch(r"\*About (\d+) minutes\. Needs: (.+)\.\*", frame).groups()
    assert 20 <= int(minutes) <= 40
    needed = re.findall(r"\((\d\d)-[^)]*\.ipynb\)", needs)
    assert needed == sorted(needed) and all(n < path.name[:2] for n in needed)
    assert needed or path == LESSONS[0]
    assert "**You will be able to**" in cells(path)[0]


@each_lesson
def test_the_foot_says_what_is_learned_and_leads_on(path):
    foot = cells(path)[-1]
    assert foot.startswith("## And now\n\n**You can now** ")
    ours = [e for e in EXERCISES.values() if e.key[:2] == path.name[:2]]
    titles = "; ".join(f"{e.key} {e.title}" for e in ours)
    assert f"[{titles}](exercises/{path.name})" in foot
    assert "[glossary](../docs/course/glossary.md)" in foot
    near = [p.name for p in LESSONS]
    i = near.index(path.name)
    before = near[i - 1] if i else "../docs/index.md"
    after = near[i + 1] if i + 1 < len(near) else "../docs/index.md"
    assert re.search(rf"^Previous: \[[^]]+\]\({re.escape(before)}\)", foot, re.M)
    assert re.search(rf"^Next: \[[^]]+\]\({re.escape(after)}\)", foot, re.M)


@each_lesson
def test_links_lead_somewhere_and_names_of_lessons_are_theirs(path):
    for text in cells(path):
        for words, target in re.findall(r"\[([^]]+)\]\(([^)#:]+)\)", text):
            assert (path.parent / target).exists(), target
            if re.fullmatch(r"\d\d-[^/]+\.ipynb", target) and re.match(r"\d", words):
                title = cells(path.parent / target)[0].splitlines()[0]
                assert title.removeprefix("# ").startswith(words.split(":")[0]), (words, title)


# ---- sentences


def test_02_the_pointwise_convolutions_share_of_the_memory_access():
    total = ts.cost.profile("mobilenet_v1_x1_0")
    pointwise = next(row for row in total.by("kind") if row.kind == "pointwise")
    share = pointwise.memory_access / total.total.memory_access
    source = next(p for p in LESSONS if p.name.startswith("02")).read_text(encoding="utf-8")
    assert 0.2 < share < 0.25 and source.count("less than a quarter of the memory access") == 3


def test_06_what_resnext_gains_at_most():
    limit = sqrt((1 / 2 + 9 / 16) / (1 / 2))
    assert limit == pytest.approx(sqrt(17 / 8))
    assert rf"$\sqrt{{17/8}}={limit:.2f}$" in prose("06")


def test_06_the_narrowest_shuffle_of_the_paper():
    names = ts.models.list_models("shufflenet_v1_x0*_g8")
    n = min(
        row.output[-1] // 8
        for name in names for row in ts.cost.profile(name).rows
        if row.operation == "channel_shuffle"
    )  # fmt: skip
    assert f"where $n={n}$" in prose("06")


def test_07_what_is_moved_on_a_small_map():
    cost = ts.ops.pointwise_conv2d_cost((1, 7, 7, 128), (1, 1, 128, 128))
    inputs = 49 * 128
    assert cost.params > 2 * inputs
    assert f"{cost.params:,} numbers where 1 : 1 has {inputs:,} inputs" in prose("07")


def test_07_how_time_rises_on_the_phone():
    column = next(c for c in GUIDELINES["g1"].columns if c.name == "ARM x1")
    pairs = [tuple(map(int, words.split(","))) for words in column.channels]
    hw = 56 * 56
    moved = [hw * (a + b) + a * b for a, b in pairs]
    rise = [(m / moved[0] - 1, column.published[0] / s - 1)
            for m, s in zip(moved, column.published, strict=True)]  # fmt: skip
    half = [time < memory / 2 for memory, time in rise[1:]]
    assert half == [False, True, True] and "at 1:6 and 1:12 less than half as much" in prose("07")
    fewest = min(a * b / (pairs[0][0] * pairs[0][1]) for a, b in pairs)
    assert f"up to {100 * (1 - fewest):.1f} %" in prose("07")


def test_08_which_net_is_the_fastest_on_the_gpu():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in prose("08").splitlines() if re.match(r"\| [^|]+ \| \d+ \| [\d.]+ \|", line)
    ]  # fmt: skip
    near = {row[0]: float(row[3]) for row in rows if 140 <= int(row[1]) <= 149}
    assert len(near) == 4 and max(near, key=near.get) == "0.5 MobileNet V1"
    assert "four nets with 140 to 149 M, the fastest on the GPU is MobileNet V1" in prose("08")
    fastest, second = sorted(rows, key=lambda row: -float(row[3]))[:2]
    assert fastest[0] == "ShuffleNet V2 0.5x" and (fastest[3], second[3]) == ("417", "382")
    assert 3.5 < int(second[1]) / int(fastest[1]) < 4
    assert "is V2 0.5x, 417 batches to the 382 of the next" in prose("08")


def test_10_only_the_linear_layer_does_not_shrink_with_the_image():
    coffee = Config.make("coffee")
    net = ts.models.create(coffee.model, num_classes=10, stem="cifar", **coffee.variant)
    work = {size: ts.cost.profile(net, (1, size, size, 3)) for size in (16, 32)}
    small, large = (work[size].total.multiply_adds - 384 * 10 for size in (16, 32))
    assert large == 4 * small
    assert all(w.total.backward_multiply_adds == 2 * w.total.multiply_adds for w in work.values())
    assert "its 384 · 10 multiply–adds do not shrink with the image" in prose("10")


def test_11_squeezenet_saves_no_multiply_adds():
    squeezenet, alexnet = (ts.cost.profile(n).total for n in ("squeezenet1_0", "alexnet"))
    assert squeezenet.multiply_adds > alexnet.multiply_adds
    assert "| parameters, no multiply–adds |" in prose("11")


def test_12_reads_in_its_stated_time():
    (path,) = (p for p in LESSONS if p.name.startswith("12"))
    book = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert len(prose("12").split()) <= 2000
    assert sum(bool(line.strip()) for cell in code for line in cell.splitlines()) <= 250


def test_words_of_the_papers_are_explained():
    glossary = (ROOT / "docs" / "course" / "glossary.md").read_text(encoding="utf-8")
    for word in ("squeeze-and-excitation", "Xception", "cardinality"):
        assert word in prose("06") and f"**{word}" in glossary
