"""Follow every link of a built site; nothing is fetched.

    python docs/site/links.py build/site/html

A link to another host is the reader's choice. What a page loads by itself (scripts, styles,
pictures, fonts) has to lie in the site.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src",
    "audio": "src", "video": "src", "object": "data", "embed": "src",
}  # fmt: skip
"""What a browser fetches without being asked."""


class Page(HTMLParser):
    """The links of a page, what it loads, and where it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found.get("id", ""), found.get("name", "")}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        load = found.get(LOADED.get(tag, ""))
        if load and found.get("rel") not in ("canonical", "next", "prev", "search", "index"):
            self.loads.append(load)


def check(site: Path) -> list[str]:
    """Return a sentence for each link that leads nowhere, and for each request to another host."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        here = path.relative_to(site).as_posix()
        for target in page.loads:
            if urlsplit(target).netloc:
                wrong.append(f"{here} loads {target}, from another host")
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file() or not there.is_relative_to(site):
                wrong.append(f"{here} links to {target}, which is not there")
            elif there in pages and unquote(parts.fragment) not in pages[there].anchors:
                wrong.append(f"{here} links to {target}: that page has no such place")
    for path in sorted(site.rglob("*.css")):
        for target in re.findall(r"url\(\s*['\"]?([^'\")]+)", path.read_text(encoding="utf-8")):
            here = path.relative_to(site).as_posix()
            if target.startswith(("http:", "https:", "//")):
                wrong.append(f"{here} loads {target}, from another host")
            elif not target.startswith(("data:", "#")):
                if not (path.parent / unquote(urlsplit(target).path)).is_file():
                    wrong.append(f"{here} loads {target}, which is not there")
    return sorted(set(wrong))


if __name__ == "__main__":
    found = check(Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(bool(found))
