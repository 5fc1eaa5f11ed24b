"""The check of the site's links finds what leads nowhere, and what comes from another host."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs" / "site"
spec = importlib.util.spec_from_file_location("links", SITE / "links.py")
links = importlib.util.module_from_spec(spec)
spec.loader.exec_module(links)

GOOD = """<a href="b/two.html#here">two</a> <a href="#top">top</a> <a href="https://a.org/x">far</a>
<img src="a%20b.png"> <link rel="stylesheet" href="style.css?v=1"> <a href="mailto:a@b.org">mail</a>
<link rel="canonical" href="https://a.org/one.html">"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "one.html").write_text(GOOD)
    (tmp_path / "b" / "two.html").write_text('<h1 id="here">2</h1> <a href="../one.html">1</a>')
    (tmp_path / "a b.png").touch()
    (tmp_path / "style.css").write_text("body { background: url('a b.png') url(data:x) }")
    return tmp_path


def test_a_site_whose_links_hold(site):
    assert links.check(site) == []


@pytest.mark.parametrize(
    ("html", "wrong"),
    [
        ('<a href="three.html">3</a>', "one.html links to three.html, which is not there"),
        ('<a href="b/">b</a>', "one.html links to b/, which is not there"),
        ('<a href="../x.html">x</a>', "one.html links to ../x.html, which is not there"),
        ('<a href="b/two.html#x">2</a>', "one.html links to b/two.html#x: that page has no such "
         "place"),
        ('<img src="c.png">', "one.html links to c.png, which is not there"),
        ('<script src="https://cdn.org/a.js"></script>',
         "one.html loads https://cdn.org/a.js, from another host"),
        ('<link rel="stylesheet" href="//cdn.org/a.css">',
         "one.html loads //cdn.org/a.css, from another host"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(site, html, wrong):
    (site / "one.html").write_text(GOOD + html)
    assert links.check(site) == [wrong]


def test_a_style_that_loads_from_elsewhere_is_named(site):
    (site / "style.css").write_text("@import url(https://cdn.org/a.css); a { b: url(gone.woff2) }")
    assert links.check(site) == [
        "style.css loads gone.woff2, which is not there",
        "style.css loads https://cdn.org/a.css, from another host",
    ]


def test_a_deployment_of_the_site_runs_to_its_end():
    """A newer push waits for it: half of it would be a site of which half is missing."""
    flow = (SITE.parents[1] / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    assert re.search(r"^concurrency:\n  group: pages\n  cancel-in-progress: false\b", flow, re.M)
