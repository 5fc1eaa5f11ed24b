from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from tinyshuffle import plots

ROOT = Path(plots.__file__).parents[2]


def rows(epochs):
    return [
        {
            "epoch": e,
            "train_loss": 2 / e,
            "train_accuracy": 1 - 0.6 / e,
            "test_loss": 1.5 / e,
            "test_accuracy": 1 - 0.5 / e,
        }
        for e in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_learning_curves(epochs):
    figure = plots.learning_curves(rows(epochs))
    accuracy, loss = figure.axes
    for axes, what, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
        for line, part in zip(axes.get_lines(), ("train", "test"), strict=True):
            values = [scale * row[f"{part}_{what}"] for row in rows(epochs)]
            assert list(line.get_xdata()) == list(range(1, epochs + 1))
            assert list(line.get_ydata()) == values
            assert line.get_label().startswith(part)
    figure.draw_without_rendering()
    low, high = loss.get_ylim()
    ticks = [t for t in loss.get_yticks() if low <= t <= high]
    assert len(ticks) >= 2 and len(loss.get_yticklabels(minor=True)) == 0  # all have their number
    dashes = {line.get_linestyle() for line in accuracy.get_lines()}
    assert len(dashes) == 2  # colour is not the only difference
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_epochs_without_a_test_are_left_out():
    some = rows(5)
    for row in some[:1] + some[2:4]:
        row.update(test_loss=None, test_accuracy=None)
    train, test = plots.learning_curves(some).axes[0].get_lines()
    assert list(train.get_xdata()) == [1, 2, 3, 4, 5] and list(test.get_xdata()) == [2, 5]
    assert test.get_label() == "test 90.0 %"
    held = plots.learning_curves(some, "held out").axes[1].get_lines()[1]
    assert held.get_label() == "held out 0.30"
    (train,) = plots.learning_curves(some[:1]).axes[0].get_lines()
    assert train.get_label().startswith("train")


def test_no_global_state():
    code = (
        "import sys; from tinyshuffle import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plots.learning_curves({rows(2)})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
