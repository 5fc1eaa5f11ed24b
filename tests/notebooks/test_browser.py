"""Every notebook as a page in a real browser, on a desk and on a telephone.

Needs Chromium with its driver (Debian: apt install chromium chromium-driver) and
``pip install selenium jupyter-server-mathjax``; skipped without them. Screenshots are written to
the folder that the environment variable TINYSHUFFLE_SCREENSHOTS names, if it is set.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

selenium = pytest.importorskip("selenium.webdriver")
mathjax = pytest.importorskip("jupyter_server_mathjax")
nbconvert = pytest.importorskip("nbconvert")
from notebooks.refresh import NOTEBOOKS, ROOT  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium here")

WINDOWS = {"desktop": 1280, "telephone": 390}  # width in CSS pixels
# the pages' MathJax comes from the network; here from a package, which has one font only
MATHJAX = "mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe"
FONT = """<script>window.MathJax = {"HTML-CSS": {
  availableFonts: [], preferredFont: null, imageFont: null, webFont: "STIX-Web"}}</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
                     "--disable-dev-shm-usage"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(Path(mathjax.__file__).parent / "static", folder / "mathjax")
    (folder / "favicon.ico").touch()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def page(request, site) -> str:
    """The address of a notebook's page."""
    folder, address = site
    exporter = nbconvert.HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(ROOT / "docs" / "nbconvert")],
        mathjax_url=MATHJAX,
    )
    html, _ = exporter.from_filename(str(request.param))
    name = f"{request.param.stem}.html"
    (folder / name).write_text(html.replace("<head>", "<head>" + FONT, 1), encoding="utf-8")
    return f"{address}/{name}"


@pytest.mark.parametrize("device", WINDOWS)
def test_page(browser, page, device):
    width = WINDOWS[device]
    load(browser, page, width)
    # MathJax asks for a font at about:blank, to see which formats the browser takes
    errors = [
        log["message"]
        for log in browser.get_log("browser")
        if log["level"] == "SEVERE" and "about:blank" not in log["message"]
    ]
    assert not errors, errors

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(STICKS_OUT, width)
    assert not wide, f"wider than the {device}: {wide}"

    formulas = browser.execute_script("return MathJax.Hub.getAllJax().length")
    assert formulas > 0
    assert not browser.execute_script("return document.querySelectorAll('.merror').length")
    text = browser.execute_script(PROSE)
    assert not re.search(r"\$|\\(frac|cdot|sum|begin)", text), "mathematics is shown as source"

    images = browser.execute_script(
        "return [...document.images].map(i => [i.alt, +i.getAttribute('width'), i.clientWidth])"
    )
    assert images
    for alt, drawn, shown in images:
        assert len(alt) > 20
        assert shown >= 0.7 * drawn, f"the letters become too small: {alt}"
    screenshot(browser, f"{Path(page).stem}-{device}.png", width)


# elements that stick out of the window, or are cut off, unless they scroll in a box of their own
STICKS_OUT = """
const boxed = e => e && e !== document.body && (
  ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || boxed(e.parentElement));
return [...document.querySelectorAll('main *')]
  .filter(e => e.getBoundingClientRect().right > arguments[0] + 1 && !boxed(e.parentElement))
  .slice(0, 5).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60));
"""

PROSE = """
const copy = document.querySelector('main').cloneNode(true);
copy.querySelectorAll('script, pre, code, .MathJax_Preview, .MJX_Assistive_MathML')
  .forEach(e => e.remove());
return copy.textContent;
"""


def load(browser: Any, page: str, width: int) -> None:
    """Open a page in a window of this width and wait for its formulas."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page)
    browser.set_script_timeout(60)
    browser.execute_async_script("MathJax.Hub.Queue(arguments[arguments.length - 1])")


def screenshot(browser: Any, name: str, width: int) -> None:
    folder = os.environ.get("TINYSHUFFLE_SCREENSHOTS")
    if folder:
        import base64

        height = browser.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).write_bytes(base64.b64decode(shot["data"]))
