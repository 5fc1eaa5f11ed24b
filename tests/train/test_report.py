"""A run's page: that it is whole by itself, says what the files say, and runs nobody's markup."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from train import tiny_run

from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.train import Config, train
from tinyshuffle.train.report import write_report


class Page(HTMLParser):
    """Elements, their attributes, and text."""

    VOID = {"meta", "img"}

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "all are closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_run.install(monkeypatch.setattr)
    config = Config.make(epochs=2, batch_size=35, backend="numpy", threads=1, lr=0.03)
    return train(config, "<b>a & b", tmp_path / "runs", quiet=True)


def test_the_page_of_a_training_is_one_file(run):
    text = (run.run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    pictures = page.all("img")
    for picture, name in zip(pictures, ("curves", "confusion", "worst"), strict=True):
        kind, _, content = picture["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (run.run / f"{name}.png").read_bytes()
        assert len(picture["alt"]) > 50
    assert f"to {100 * run.accuracy:.1f} % after epoch 2, the highest" in pictures[0]["alt"]
    assert not page.all("script") and not page.all("link") and "http" not in text
    narrow = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert narrow in page.all("meta")
    assert "max-width: 100%" in text and page.all("html") == [{"lang": "en"}]
    assert f"{100 * run.accuracy:.2f} %" in page.text and "<b>a & b" in page.text
    assert not page.all("b")  # a name is a name
    machine = json.loads((run.run / "machine.json").read_text())[0]
    rates = [f"{row['lr']:.4g}" for row in run.rows]
    for value in (machine["numpy"], machine["numba"], "0.03", *rates):
        assert value in page.text
    recipe = re.search(r"<pre>(model.*?)</pre>", text, re.S)[1].replace("&quot;", '"')
    again = run.run.parent / "again.toml"
    again.write_text(recipe)
    repeated = train(Config.make(str(again)), "again", run.run.parent, quiet=True)
    same = "train_loss", "test_accuracy"
    mine, theirs = ([[row[key] for key in same] for row in rows.rows] for rows in (run, repeated))
    assert mine == theirs


def test_epochs_without_a_test_have_empty_cells(run):
    config = Config(epochs=3, batch_size=35, backend="numpy", threads=1, lr=0.03, test_every=2)
    result = train(config, "b", run.run.parent, quiet=True)
    text = (result.run / "report.html").read_text(encoding="utf-8")
    cells = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr><td>.*?</tr>", text)]
    assert [cells[0][5], cells[0][6]] == ["", ""] and all(cells[1]) and all(cells[2])
    first = 100 * result.rows[1]["test_accuracy"]
    assert f"test accuracy from {first:.1f} % after epoch 2 to" in text


def test_the_command_writes_it_again_from_what_is_there(run):
    before = (run.run / "report.html").read_bytes()
    (run.run / "report.html").unlink()
    result = CliRunner().invoke(cli, ["report", run.run.name])
    assert result.exit_code == 0 and "report.html" in result.stdout
    assert (run.run / "report.html").read_bytes() == before
    for name in ("worst.png", "machine.json"):
        (run.run / name).unlink()
    config = json.loads((run.run / "config.json").read_text())
    config.update(data_dir="/home/somebody", model="gone<i>", seed=5, validate=20)
    (run.run / "config.json").write_text(json.dumps(config))
    page = Page(write_report(run.run).read_text(encoding="utf-8"))
    assert "There is no worst.png yet" in page.text and "no machine.json" in page.text
    assert "gone<i>" in page.text and "cannot read the configuration" not in page.text
    assert "training images held out" in page.text


def test_what_is_no_run_has_no_page(tmp_path):
    with pytest.raises(TinyshuffleError, match=r"has no config.json and log.csv"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
