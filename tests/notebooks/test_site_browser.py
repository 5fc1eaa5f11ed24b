"""The built site in a real browser, offline: pages, sliders, cells that run, exercises that reply.

Needs the site's tools (``pip install -e ".[docs]" selenium``), Chromium with its driver (Debian:
apt install chromium chromium-driver) and, for the cells, a Python that is WebAssembly (``pip
install --no-deps jupyterlite-xeus-python==1.0.0``) in the place of Pyodide, which pages fetch from
its own host. Skipped without them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

selenium = pytest.importorskip("selenium.webdriver")
pytest.importorskip("myst_nb")
from notebooks.test_wasm import runtime  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium here")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HTML = ROOT / "build" / "site" / "html"
WINDOWS = {"telephone": 390, "desktop": 1280}  # width in CSS pixels
PATIENCE = 300  # seconds until a cell must have answered
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host can be reached
)  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of a site that was built from what is here."""
    subprocess.run([sys.executable, ROOT / "docs" / "site" / "build.py"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Site(SimpleHTTPRequestHandler):
    """Serves the site, with a Python that needs no network."""

    def translate_path(self, path: str) -> str:
        """The file of an address."""
        place = path.split("?")[0].lstrip("/")
        if place == "_static/runtime.js":
            return str(HERE / "xeus_runtime.js")
        if place == "_static/no_matplotlib.py":
            return str(HERE / "no_matplotlib.py")
        if place.startswith("_static/xeus/"):
            return str(runtime() / place.removeprefix("_static/xeus/"))
        return str(HTML / (place or "index.html"))

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module", params=WINDOWS)
def browser(request) -> Iterator[Any]:
    """A browser whose window is a telephone's or a desk's."""
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))
    width = WINDOWS[request.param]
    metrics = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.width = width
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, site) -> Iterator[Any]:
    """Opens a page; behind the test nothing is left, and nothing went wrong in the browser."""

    def go(page: str) -> Any:
        browser.get(f"{site}/{page}")
        return browser

    yield go
    nothing_wrong(browser, site)
    browser.execute_script("localStorage.clear()")


def nothing_wrong(browser: Any, site: str) -> None:
    """No error in the console, and no request to another host."""
    assert [log["message"] for log in browser.get_log("browser") if log["level"] == "SEVERE"] == []
    for log in browser.get_log("performance"):
        message = json.loads(log["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith((site + "/", "data:", "blob:")), url


def until(browser: Any, condition: Any) -> Any:
    """What the condition gives as soon as it holds."""
    return WebDriverWait(browser, PATIENCE, poll_frequency=0.2).until(lambda _: condition())


# ---- pages

# what is wider than the window, unless it scrolls in a box of its own
STICKS_OUT = """
const boxed = e => e && e !== document.body && (
  ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || boxed(e.parentElement));
return [...document.querySelectorAll('article *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e.parentElement))
  .slice(0, 5).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60));
"""

# what a notebook has printed and is cut at the window's edge, as telephones show no scroll bars
CUT = """
return [...document.querySelectorAll('.cell_output pre')]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60));
"""


def test_every_page_opens_and_fits_the_window(browser, site):
    pages = sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_modules")]  # sources: one like another
    assert len(pages) > 60
    for page in pages:
        browser.get(f"{site}/{page}")
        assert browser.title, page
        assert browser.execute_script("return document.documentElement.scrollWidth") <= (
            browser.width
        ), (page, browser.execute_script(STICKS_OUT))
        assert browser.execute_script(STICKS_OUT) == [], page
        assert browser.execute_script(CUT) == [], page
        nothing_wrong(browser, site)


PAINTED = """
const done = arguments[0];
new PerformanceObserver(list => done(list.getEntries().at(-1).startTime))
  .observe({type: 'largest-contentful-paint', buffered: true});
"""


def test_the_first_page_is_small(browser, site):
    for page, most in (("index.html", 500e3), ("notebooks/03-channel-shuffle.html", 4e6)):
        browser.get(f"{site}/{page}")
        sizes = browser.execute_script(
            "return performance.getEntriesByType('navigation')"
            ".concat(performance.getEntriesByType('resource')).map(e => e.encodedBodySize)"
        )
        painted = browser.execute_async_script(PAINTED)
        print(f"{page}: {sum(sizes) / 1e3:.0f} KB, largest contentful paint {painted:.0f} ms")
        assert 10e3 < sum(sizes) < most


# ---- sliders


def test_a_slider_moves_the_figure_by_keyboard(opened):
    browser = opened("notebooks/03-channel-shuffle.html")
    cell = browser.find_element(By.CSS_SELECTOR, ".tag_id-03-36")
    image = cell.find_element(By.CSS_SELECTOR, ".cell_output img")
    channels, groups = cell.find_elements(By.CSS_SELECTOR, ".ts-slider input")
    values = [one.get_attribute("aria-valuetext") for one in (channels, groups)]
    assert values == ["48", "8"] and channels.accessible_name.startswith("channels")
    assert groups.get_attribute("max") == "3"

    channels.send_keys(Keys.ARROW_RIGHT)
    assert channels.get_attribute("aria-valuetext") == "64"
    # 64 channels cannot be laid in 3 groups, and so that is not offered
    assert groups.get_attribute("max") == "2"
    groups.send_keys(Keys.HOME)
    groups.send_keys(Keys.ARROW_RIGHT)
    assert groups.get_attribute("aria-valuetext") == "4"
    assert "How many of 64 channels" in image.get_attribute("alt")
    assert "from each of 4 groups" in image.get_attribute("alt")
    status = cell.find_element(By.CSS_SELECTOR, ".ts-slider [role=status]")
    assert status.get_attribute("textContent") == image.get_attribute("alt")
    until(browser, lambda: browser.execute_script(
        "return arguments[0].complete && arguments[0].naturalWidth > 300 && "
        "arguments[0].src.endsWith('03-36/2-2.webp')", image))  # fmt: skip


def test_what_is_no_number_is_chosen_from_a_list(opened):
    browser = opened("notebooks/11-from-alexnet-to-shufflenet.html")
    cell = browser.find_element(By.CSS_SELECTOR, ".tag_id-11-34")
    select = cell.find_element(By.CSS_SELECTOR, ".ts-slider select")
    select.send_keys(Keys.ARROW_DOWN)
    alt = cell.find_element(By.CSS_SELECTOR, ".cell_output img").get_attribute("alt")
    assert alt.endswith("in its parameters.")


# ---- cells


class Cell:
    """A cell of a page, as a reader uses it."""

    def __init__(self, browser: Any, name: str) -> None:
        self.browser = browser
        self.root = browser.find_element(By.CSS_SELECTOR, f".tag_id-{name}")

    def press(self, what: str) -> None:
        """Press a button of the cell."""
        bar = self.root.find_element(By.CSS_SELECTOR, ".ts-bar")
        (button,) = (b for b in bar.find_elements(By.TAG_NAME, "button") if b.text == what)
        self.browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button
        )
        button.click()

    def write(self, code: str) -> None:
        """Type code in place of what is there."""
        area = self.root.find_element(By.TAG_NAME, "textarea")
        area.send_keys(Keys.CONTROL, "a")
        area.send_keys(Keys.DELETE)
        self.browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            area, code,
        )  # fmt: skip

    @property
    def code(self) -> str:
        """What stands in its text area."""
        return self.root.find_element(By.TAG_NAME, "textarea").get_attribute("value")

    @property
    def status(self) -> str:
        """What is said beside the buttons."""
        return self.root.find_element(By.CSS_SELECTOR, ".ts-status").text

    @property
    def output(self) -> str:
        """What the cell has shown."""
        return self.root.find_element(By.CSS_SELECTOR, ".ts-output").text

    def run(self, end: str = "Done.") -> str:
        """Run it, and return its output as soon as it has ended as it should."""
        self.press("Run")
        ends = ("Done.", "Ended", "Not run", "Python")
        until(self.browser, lambda: self.status.startswith(ends))
        assert self.status.startswith(end), (self.status, self.output)
        return self.output


def test_a_cell_runs_and_those_before_it(opened):
    runtime()
    browser = opened("notebooks/06-shufflenet-v1.html")
    cell = Cell(browser, "06-05")
    stored = cell.root.find_element(By.CSS_SELECTOR, ".cell_output").text
    shown = cell.run()
    assert shown.strip() == stored.strip() and len(shown) > 40
    assert not cell.root.find_element(By.CSS_SELECTOR, ".cell_output").is_displayed()
    # the library says once what does the work
    assert "numba is not installed" in browser.find_element(By.TAG_NAME, "article").text

    cell.press("Edit")
    cell.write("print('first')\nnp.zeros(2), 2")
    assert cell.run() == "first\n(array([0., 0.]), 2)"
    cell.write("x = 1\nraise ValueError('what is wrong')")
    said = cell.run("Ended with an error.")
    assert "line 2" in said and said.endswith("ValueError: what is wrong")
    assert "kernel.py" not in said and "in run" not in said
    cell.write(f"raise ValueError('{'long ' * 40}')")
    cell.run("Ended with an error.")
    error = cell.root.find_element(By.CSS_SELECTOR, ".ts-error")
    assert error.get_property("scrollWidth") <= error.get_property("clientWidth")  # it is not cut
    cell.write("x = (")
    said = cell.run("Ended with an error.")
    assert "'(' was never closed" in said and "ast.py" not in said
    after = Cell(browser, "06-07")
    after.press("Run")
    until(browser, lambda: after.status.startswith("Not run"))
    cell.press("Reset")
    assert "print" in cell.code and cell.output == ""
    assert cell.root.find_element(By.CSS_SELECTOR, ".cell_output").is_displayed()


PICTURE = """
from IPython.display import display
png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
about = {"image/png": {"alt": "a dot", "width": 40}}
display({"image/png": png + "gg=="}, metadata=about, raw=True)
plots.table(["net", "count"], [["a < b", 12345]])
"""


def test_pictures_and_tables_are_shown_and_edits_are_kept(opened):
    runtime()
    browser = opened("notebooks/02-grouped-and-depthwise.html")
    cell = Cell(browser, "02-03")
    cell.press("Edit")
    cell.write(PICTURE)
    browser.refresh()
    cell = Cell(browser, "02-03")
    assert cell.code == PICTURE
    cell.run()
    image = cell.root.find_element(By.CSS_SELECTOR, ".ts-output img")
    assert image.get_attribute("alt") == "a dot" and image.get_attribute("width") == "40"
    assert [td.text for td in cell.root.find_elements(By.CSS_SELECTOR, ".ts-output td")] == [
        "a < b", "12,345",
    ]  # fmt: skip


def test_lines_are_indented_and_undo_takes_back_what_was_typed(opened):
    browser = opened("notebooks/exercises/03-channel-shuffle.html")
    cell = Cell(browser, "03-1-answer")
    area = cell.root.find_element(By.TAG_NAME, "textarea")
    cell.write("x = 1\n")
    area.send_keys(Keys.CONTROL, Keys.END)
    area.send_keys(Keys.NULL, "if x:", Keys.ENTER, "y", Keys.TAB)
    assert cell.code == "x = 1\nif x:\n    y    "
    kept = "return Object.entries(localStorage).find(([name]) => name.includes('03-1-answer'))[1]"
    assert browser.execute_script(kept) == cell.code
    area.send_keys(Keys.CONTROL, "z")
    assert cell.code == "x = 1\nif x:\n    y"
    for _ in range(6):  # the line with its letter, and what was typed, letter by letter
        area.send_keys(Keys.CONTROL, "z")
    assert cell.code == "x = 1\n"
    assert browser.execute_script(kept) == cell.code


def test_a_loop_without_end_is_stopped(opened):
    runtime()
    browser = opened("notebooks/exercises/03-channel-shuffle.html")
    cell = Cell(browser, "03-1-answer")
    cell.write("while True:\n    print('again' * 100)")
    cell.press("Run")
    until(browser, lambda: "what follows is not shown" in cell.output)
    assert len(cell.output) < 110_000
    cell.press("Stop")
    assert cell.status.startswith("Stopped.")
    cell.write("'alive'")
    assert cell.run() == "'alive'"


KEEP_WHAT_IS_SAVED = """
const make = URL.createObjectURL;
URL.createObjectURL = blob => { blob.text().then(text => window.saved = text); return make(blob); }
"""
RIGHT = """def shuffle(x, groups):
    return x.reshape(*x.shape[:3], groups, -1).swapaxes(3, 4).reshape(x.shape)
"""
WRONG = RIGHT.replace("groups, -1)", "-1, groups)")


def test_an_exercise_answers_and_its_progress_is_the_notebooks_file(opened):
    runtime()
    browser = opened("notebooks/exercises/03-channel-shuffle.html")
    answer, check = Cell(browser, "03-1-answer"), Cell(browser, "03-1-check")
    assert "it returns nothing: write the body" in check.run()
    answer.write(WRONG)
    said = check.run()
    assert "03.1 is not right yet" in said and "notebook 03, section 3" in said
    answer.write(RIGHT)
    assert check.run() == "03.1 is right (Channel shuffle in one line)."

    browser.refresh()
    assert Cell(browser, "03-1-answer").code == RIGHT
    progress = Cell(browser, "progress")
    said = progress.run()
    assert "03.1  done  Channel shuffle in one line" in said and "3 tries" in said
    stored = json.loads(browser.execute_script("return localStorage['tinyshuffle-course']"))
    assert stored == {"exercises": {"03.1": {"right": True, "tries": 3, "hints": 0}}}
    browser.execute_script(KEEP_WHAT_IS_SAVED)
    progress.press("Save as a file")
    saved = until(browser, lambda: browser.execute_script("return window.saved"))
    assert json.loads(saved) == stored


def test_a_browser_that_keeps_nothing_says_so(opened):
    runtime()
    browser = opened("notebooks/exercises/03-channel-shuffle.html")
    browser.execute_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    answer, check = Cell(browser, "03-1-answer"), Cell(browser, "03-1-check")
    answer.write(RIGHT)
    assert answer.status.startswith("This browser keeps nothing of this page: copy")
    assert "is right" in check.run("Done. This browser keeps nothing of this page: save")


def test_a_lesson_that_needs_numba_says_so(opened):
    browser = opened("notebooks/12-inside-the-kernels.html")
    note = browser.find_element(By.CSS_SELECTOR, ".admonition.note").text
    assert "compiles its kernels with numba, which a browser cannot do" in note
    assert browser.find_elements(By.CSS_SELECTOR, ".ts-bar") == []
    assert browser.find_elements(By.CSS_SELECTOR, ".ts-slider input")
