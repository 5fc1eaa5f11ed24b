"""The papers' tables: every figure is reproduced, a label, or named here with the reason."""

from __future__ import annotations

import pytest

from tinyshuffle import TinyshuffleError
from tinyshuffle.cost.tables import DIFFERS, ERRATA, LABEL, MISSING, TABLES, Line, table

# What the library counts differently, and no erratum may go without saying why.
DIFFERENT = {
    "v1-4": {"ShuffleNet-like, 38 MFLOPs, output channels of stage 4"},
    "v1-6": {"GoogleNet (BVLC)"},
    "v1-claims": {"the same in theory", "times faster for 4 times less complexity"},
    "v1-5": {"ShuffleNet 2x (with SE, g = 3)", "ShuffleNet 0.5x (shallow, g = 3)"},
    "v2-5": {"0.5x FLOPs (M)"},
    "v2-6": {"ResNet-50 (GFLOPs)", "SE-ShuffleNet v2-164 (GFLOPs)"},
    "v2-8": {"ShuffleNet v2 0.5x", "0.4 MobileNet v2, 160x160", "0.15 MobileNet v2",
             "0.75 MobileNet v2, 192x192", "0.6 MobileNet v2", "1.0 MobileNet v2",
             "1.4 MobileNet v2", "1.4 MobileNet v2 (our impl.)", "ShuffleNet v2 2x (with SE)",
             "IGCV3-D (0.7)", "IGCV3-D", "IGCV3-D (1.4)"},
    "v2-a2": {"ResNet-50 (GFLOPs), FLOPs row", "SE-ShuffleNet v2-164 (GFLOPs), FLOPs row"},
    "mobilenet-4": {"Conv MobileNet, million mult-adds"},
    "mobilenet-8": {"GoogleNet, million mult-adds", "GoogleNet, million parameters",
                    "0.50 MobileNet-160, million mult-adds", "Squeezenet, million mult-adds"},
    "alexnet": {"neurons of layer 1", "neurons in all"},
    "googlenet-1": {
        "convolution 7x7, parameters (K)", "convolution 7x7, ops (M)",
        *(f"inception ({name}), parameters (K)"
          for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")),
        "inception (4a), ops (M)", "inception (5a), ops (M)", 'all ops, "1.5 billion" (M)',
        "AlexNet's parameters over its own",
    },
    "resnet-1": {"ResNet-50 (GFLOPs)"},
    "mobilenet-7": {"1.0 MobileNet-160, million mult-adds"},
    "mobilenet-v2-4": {"MobileNetV1, million MAdds", "MobileNetV2, million MAdds",
                       "MobileNetV2, million parameters", "MobileNetV2 (1.4), million MAdds",
                       "MobileNetV2 (1.4), million parameters"},
    "mobilenet-2": {"Conv 3x3, % of mult-adds"},
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_figure_is_reproduced_or_explained(name):
    lines = table(name).lines
    differs = {line.label for line in lines if line.verdict == DIFFERS}
    assert differs == DIFFERENT.get(name, set())
    for line in lines:
        assert line.reproduced or line.note, line.label
        assert line.reproduced or line.erratum in ERRATA, line.label
    assert len({line.label for line in lines}) == len(lines)
    assert sum(table(name).verdicts().values()) == len(lines)


def test_every_table_says_where_its_figures_were_read():
    """And what was not seen in print is reproduced, all of it."""
    for name in TABLES:
        found = table(name)
        assert "arXiv" in found.source or "NIPS" in found.source
        if "not seen" in found.source:
            assert all(line.reproduced for line in found.lines), name


def test_none_of_all_figures_is_silent():
    """At least 220; those without a net say what is missing."""
    lines = [line for name in TABLES for line in table(name).lines]
    assert len(lines) >= 220
    without = [line.label for line in lines if line.verdict == MISSING]
    assert {label.split(" ")[0].split("-")[0] for label in without} == {
        "DenseNet", "Xception", "IGCV2", "PVANET,",
    }  # fmt: skip
    assert all(line.note for line in lines if not line.reproduced)


def test_no_label_is_reproduced():
    """Not even those that our count of one of their nets rounds to."""
    labels = [line for name in TABLES for line in table(name).lines if line.nominal]
    assert {line.printed for line in labels} == {"140", "38", "13"}
    assert {line.verdict for line in labels} == {LABEL}
    assert any(line.ours == line.printed for line in labels)


def test_shuffle_nets_are_never_far_off():
    """What cannot be reproduced to the digit is unpublished in part, and still close."""
    for name in TABLES:
        for line in table(name).lines:
            net = line.unit > 1 and "ShuffleNet" in line.label
            if net and line.verdict == DIFFERS:
                assert abs(line.difference) < 0.05, line.label


@pytest.mark.parametrize(
    ("printed", "digits", "count", "reproduced"),
    [
        ("41", None, 40.6, True),
        ("41", None, 40.4, False),
        ("2.3", None, 2.349, True),
        ("140", None, 138, False),
        ("140", 2, 138, True),
        ("140", 2, 146, False),
        ("15300", 3, 15347, True),
    ],
)
def test_printed_precision(printed, digits, count, reproduced):
    line = Line("", printed, 1, lambda: count, digits=digits)
    assert line.reproduced is reproduced


def test_cells():
    headings, rows = table("v2-6").cells()
    assert all(len(row) == len(headings) for row in rows)
    assert rows[0][1:5] == ["2.3", "2.3", "", "reproduced"]
    assert rows[-1][1:5] == ["20.7", "20.7", "", "reproduced"]
    assert "not in the library" in {row[4] for row in table("v2-8").cells()[1]}


def test_unknown_table():
    with pytest.raises(TinyshuffleError, match="there are: v1-1, v1-2"):
        table("v1-9")
