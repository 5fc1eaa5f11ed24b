"""The ShuffleNet Explorer in a real browser: its numbers and its paths are the library's.

Needs Chromium with its driver (Debian: apt install chromium chromium-driver) and
``pip install selenium``; skipped without them. Prints what a switch of nets takes (pytest -s).
Screenshots are written to the folder that TINYSHUFFLE_SCREENSHOTS names, if it is set.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinyshuffle as ts

EXPLORER = Path(__file__).parents[2] / "docs" / "site" / "explorer"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
WINDOWS = {"desktop": 1280, "telephone": 390}
FORWARD, BACKWARD = 1e-4, 1e-3  # float32 there, float64 here


def script(name: str) -> ModuleType:
    """One of the scripts that write what the page reads."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", "") == str(EXPLORER / f"{name}.py"):
        return known
    spec = importlib.util.spec_from_file_location(name, EXPLORER / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train(scripts) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    before = {name: sys.modules.get(name) for name in ("train", "costs")}
    yield script("train"), script("costs")
    for name, module in before.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture(scope="module")
def builds(train) -> dict[str, Any]:
    return {name: build for name, _, build in train.nets()}


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    return json.loads((EXPLORER / "nets.json").read_text(encoding="utf-8"))


# ---- the files


def test_the_files_are_small():
    sizes = {path.name: path.stat().st_size for path in EXPLORER.iterdir()}
    loaded = [name for name in sizes if not name.endswith((".py", ".gif"))]
    assert sizes["weights.bin"] + sizes["nets.json"] <= 500_000
    assert sum(sizes[name] for name in loaded) <= 700_000
    assert sizes["explorer.gif"] <= 1_500_000


def test_the_operations_are_what_the_library_runs(train, builds, table):
    assert list(table["nets"]) == list(builds)
    start = 0
    for name, build in builds.items():
        net = build()
        rows = train.operations(net)
        assert table["nets"][name]["start"] == start
        state = net.state_dict()
        start += sum(state[w].size for row in rows for w in row.pop("weights"))
        assert table["nets"][name]["operations"] == rows, name
    assert (EXPLORER / "weights.bin").stat().st_size == 2 * start


def test_the_costs_are_the_library_s(scripts):
    train, costs = scripts
    known = json.loads((EXPLORER / "costs.json").read_text(encoding="utf-8"))
    assert known["machines"] == costs.MACHINES
    for name, switches, build in train.nets():
        assert known["nets"][name]["small"] == costs.cost(build(), train.SHAPE, name)
        called, net = costs.paper(**switches)
        if switches["width"] == "narrow":
            found = costs.cost(net, costs.IMAGENET, called)
            assert known["nets"][name]["paper"] == {k: v for k, v in found.items() if k != "rows"}


@pytest.mark.parametrize("name", ["v1-g3-narrow", "v1-g8-wide-unshuffled", "v2-wide"])
def test_the_accuracy_is_that_of_the_weights_in_the_file(train, builds, table, name):
    net = loaded(train, builds, table, name, np.float32)
    _, test = ts.data.load("shapes")
    assert ts.train.evaluate(net, test).accuracy == pytest.approx(
        table["nets"][name]["accuracy"], abs=2e-3
    )


def loaded(train, builds, table, name: str, dtype: Any) -> ts.nn.Module:
    numbers = np.fromfile(EXPLORER / "weights.bin", "<f2").astype(np.float32)
    net = train.read(builds[name], table["nets"][name]["start"], numbers)
    return net.astype(dtype)


# ---- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("there is no Chromium here")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(EXPLORER)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def window(browser: Any, address: str, width: int, height: int = 900) -> None:
    """Open the page in a window of this width, and wait until it is ready."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(address + "index.html")
    ask(browser, "while (!document.body.dataset.ready) await new Promise(r => setTimeout(r, 20));")


ASK = (
    """const given = [...arguments], done = given.pop();
    (async () => {
      const page = await import('./explorer.js'), net = await import('./net.js');
    """,
    """
    })().then(value => done({value}), error => done({error: String(error.stack)}));""",
)


def ask(browser: Any, program: str, *arguments: Any) -> Any:
    """Run a program in the page; ``page``, ``net`` are its modules, ``given`` the arguments."""
    answer = browser.execute_async_script(ASK[0] + program + ASK[1], *arguments)
    assert "error" not in answer, answer["error"]
    return answer.get("value")


@pytest.fixture
def page(browser, address) -> Any:
    window(browser, address, 1280)
    return browser


@pytest.mark.parametrize("device", WINDOWS)
def test_it_opens(browser, address, device):
    width = WINDOWS[device]
    browser.get_log("browser"), browser.get_log("performance")
    window(browser, address, width)
    errors = [log for log in browser.get_log("browser") if log["level"] == "SEVERE"]
    assert not errors
    sent = [json.loads(log["message"])["message"] for log in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in sent
             if m["method"] == "Network.requestWillBeSent"]  # fmt: skip
    assert any(url.endswith("weights.bin") for url in asked)
    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not foreign
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = browser.execute_script(
        "return [...document.querySelectorAll('button, label')].filter(e => e.offsetParent &&"
        " e.getBoundingClientRect().height < 32).map(e => e.textContent)"
    )
    assert not small, "too small for a finger"
    if folder := os.environ.get("TINYSHUFFLE_SCREENSHOTS"):
        height = browser.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        Path(folder, f"explorer-{device}.png").write_bytes(base64.b64decode(shot["data"]))


FILES = "weights.bin", "nets.json", "costs.json", "pictures.png", "ops.js"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_said(browser, address, name):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": [f"*/{name}"]})
    try:
        browser.get(address + "index.html")
        said = browser.find_element("id", "missing")
        WebDriverWait(browser, 20).until(lambda _: said.is_displayed())
        assert "online, and load the page again" in said.text
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    window(browser, address, 1280)
    assert not browser.find_element("id", "missing").is_displayed()


def test_a_page_that_stands_for_a_missing_file_is_none(page):
    said = ask(page, "return net.fetched('gone.json').then(() => '', error => error.message)")
    assert said == "gone.json cannot be fetched: 404"


SWITCH = """
const [version, groups, shuffle, width] = given;
const form = document.getElementById('switches'), started = performance.now();
form.elements.version.value = version;
form.elements.groups.value = groups;
form.elements.width.value = width;
form.elements.shuffle.checked = shuffle;
form.dispatchEvent(new Event('change', {bubbles: true}));
document.getElementById('channels').getContext('2d').getImageData(0, 0, 1, 1);  // it is drawn
return [page.state.name, performance.now() - started,
        document.querySelectorAll('#answers li').length,
        document.getElementById('costs').textContent, document.getElementById('why').textContent];
"""


def test_every_switch_is_answered(page, train):
    times = {}
    for name, switches, _ in train.nets():
        values = [str(switches["version"]), str(switches["groups"]), switches["shuffle"],
                  switches["width"]]  # fmt: skip
        shown, times[name], answers, costs, why = ask(page, SWITCH, *values)
        assert shown == name
        assert answers == 3 and "multiply–adds" in costs and why
    slowest = max(times, key=lambda name: times[name])
    print(f"\na switch takes {np.median(list(times.values())):.0f} ms (median of {len(times)}), "
          f"at most {times[slowest]:.0f} ms ({slowest})")  # fmt: skip


def switch(page: Any, table: dict[str, Any], name: str) -> None:
    entry = table["nets"][name]
    ask(page, SWITCH, str(entry["version"]), str(entry["groups"]), entry["shuffle"], entry["width"])


# ---- its numbers


def last_rows(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The operation whose result is that of the layer: the last one that the layer asked for."""
    return {row["layer"]: k for k, row in enumerate(rows) if row["op"] != "add" and k}


def watched(net: ts.nn.Module, names: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Note what each layer returns, and the gradient that it is given."""
    values: dict[str, Any] = {}
    gradients: dict[str, Any] = {}
    modules = dict(net.named_modules())

    def watch(name: str) -> None:
        module = modules[name]
        forward, backward = module.forward, module.backward

        def forward_(x):
            values[name] = forward(x)
            return values[name]

        def backward_(dy):
            gradients[name] = dy
            return backward(dy)

        module.forward, module.backward = forward_, backward_

    for name in names:
        watch(name)
    return values, gradients


def picture() -> np.ndarray:
    """The picture that the page begins with: the first cross of the test set."""
    _, test = ts.data.load("shapes")
    index = np.flatnonzero(test.labels == 6)[:1]
    return ts.data.normalise(test.images[index], test.mean, test.std)


def test_the_picture_is_normalised_as_in_training(page):
    seen = np.array(ask(page, "return [...page.input().data]"))
    np.testing.assert_allclose(seen, picture().ravel(), rtol=1e-5, atol=1e-6)


NUMBERS = """
const entry = page.state.table.nets[given[0]], values = net.forward(entry, page.input());
const dy = {h: 1, w: 1, c: 10, data: new Float32Array(10)};
dy.data[given[1]] = 1;
const gradients = net.backward(entry, values, entry.operations.length - 1, dy);
const all = arrays => arrays.map(array => [...array.data]);
return [all(values), all(gradients)];
"""


def test_forward_and_backward_are_the_library_s(page, train, builds, table):
    worst = {"forward": 0.0, "backward": 0.0}
    for name, entry in table["nets"].items():
        rows, net = entry["operations"], loaded(train, builds, table, name, np.float64)
        layers = last_rows(rows)
        values, gradients = watched(net, layers)
        net(picture().astype(np.float64))
        dx = net.backward(np.eye(10)[3:4])
        there, back = ask(page, NUMBERS, name, 3)
        for layer, k in layers.items():
            compare(worst, "forward", there[k], values[layer], FORWARD, f"{name}, {layer}")
            compare(worst, "backward", back[k], gradients[layer], BACKWARD, f"{name}, {layer}")
        compare(worst, "backward", back[0], dx, BACKWARD, f"{name}, the picture")
    print(f"\nlargest relative differences from the library: {worst}")


def compare(worst, which, found, expected, tolerance, where) -> None:
    expected = expected.ravel()
    assert len(found) == expected.size
    size = abs(expected).max()
    if size == 0:
        assert not np.any(found), where
        return
    away = abs(np.array(found) - expected).max() / size
    worst[which] = max(worst[which], float(away))
    assert away <= tolerance, f"{which}, {where}: {away:.1e} of the largest"


# ---- its paths


def positive(build: Any) -> ts.nn.Module:
    """A net in which every path carries a gradient: all weights, and so all values, are positive.

    They are a tenth, so that no sum of so many paths becomes infinite, nor a product 0.
    """
    net = build().astype(np.float64)
    state = net.state_dict()
    for name, value in state.items():
        value[...] = 0.1 if name.endswith("weight") else 1 if name.endswith("var") else 0
    net.load_state_dict(state)
    net.eval()
    return net


class Paths:
    """Which channels of which layer a gradient reaches that begins at one channel of a layer."""

    def __init__(self, build: Any, rows: list[dict[str, Any]]) -> None:
        self.layers = last_rows(rows)
        self.net = positive(build)
        self.modules = dict(self.net.named_modules())
        self.values, self.gradients = watched(self.net, self.layers)

    def of(self, start: str, channel: int) -> dict[int, list[int]]:
        """The lit channels of each operation that is a layer's result, and of the picture."""
        self.gradients.clear()
        logits = self.net(np.ones((1, 32, 32, 3)))
        dy = np.zeros_like(self.values[start])
        dy[..., channel] = 1
        module = self.modules[start]
        backward = module.backward
        # whatever comes from above is 0: here the gradient begins
        module.backward = lambda above: backward(above + dy)
        dx = self.net.backward(np.zeros_like(logits))
        module.backward = backward
        found = {self.layers[name]: lit(self.gradients[name]) for name in self.layers}
        return found | {0: lit(dx)}


def lit(gradient: np.ndarray) -> list[int]:
    return np.flatnonzero(gradient.reshape(-1, gradient.shape[-1]).any(axis=0)).tolist()


SELECTED = """
page.select(given[0], given[1]);
return [page.state.lit.map(set => [...set].sort((a, b) => a - b)),
        document.getElementById('said').textContent];
"""

FOLLOWED = ["v1-g3-narrow", "v1-g3-narrow-unshuffled", "v1-g8-wide", "v1-g8-narrow-unshuffled",
            "v1-g1-narrow", "v2-narrow", "v2-narrow-unshuffled"]  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_paths_are_where_the_library_s_gradient_is(page, builds, table, name):
    switch(page, table, name)
    rows = table["nets"][name]["operations"]
    paths = Paths(builds[name], rows)
    by_row = {k: layer for layer, k in paths.layers.items()}
    drawn = ask(page, "return page.state.drawn.found.map(l => [l.last, l.channels])")
    seen = 0
    for place, (last, channels) in enumerate(drawn):
        if last not in by_row:  # the picture, and what a unit joins within itself
            continue
        for channel in sorted({0, channels // 3, channels - 1}):
            found, said = ask(page, SELECTED, place, channel)
            assert {k: found[k] for k in [0, *by_row]} == paths.of(by_row[last], channel)
            assert str(channel + 1) in said or "class" in said
            seen += 1
    assert seen > 60


def test_without_a_shuffle_less_is_reached(page, table):
    reached = {}
    for name in "v1-g3-narrow", "v1-g3-narrow-unshuffled":
        switch(page, table, name)
        reached[name] = ask(page, """
            const last = page.state.drawn.found.findLastIndex(l => /stage3/.test(l.name));
            page.select(last, 0);
            return page.state.lit.reduce((sum, set) => sum + set.size, 0);
        """)
    assert reached["v1-g3-narrow-unshuffled"] < 0.8 * reached["v1-g3-narrow"]


# ---- pointer and keys


def test_pointing_lights_a_channel_and_a_click_holds_it(page):
    from selenium.webdriver import ActionChains

    canvas = page.find_element("id", "channels")
    page.execute_script("document.getElementById('channels').scrollIntoView()")
    size = canvas.rect

    def move(layer: int, channel: int, click: bool = False) -> list[int]:
        x, y = ask(page, """
            const {corner} = await import('./picture.js');
            const l = page.state.drawn.found[given[0]], [x, y] = corner(l, given[1]);
            return [x + l.size / 2, y + l.size / 2];
        """, layer, channel)
        chain = ActionChains(page).move_to_element_with_offset(
            canvas, int(x - size["width"] / 2), int(y - size["height"] / 2)
        )
        (chain.click() if click else chain).perform()
        return ask(page, "return [page.state.chosen.layer, page.state.chosen.channel]")

    assert move(3, 2) == [3, 2]
    assert move(7, 5) == [7, 5]
    assert move(6, 1, click=True) == [6, 1]
    assert move(3, 2) == [6, 1]
    press(page, canvas, "ESCAPE")
    assert move(3, 2) == [3, 2]


TOUCH = """
const canvas = document.getElementById('channels'), box = canvas.getBoundingClientRect();
const {corner} = await import('./picture.js'), layer = page.state.drawn.found[given[0]];
return [0, 1, 2].map(channel => {
  const [x, y] = corner(layer, channel), half = layer.size / 2;
  return [box.left + x + half, box.top + y + half];
});
"""


def test_a_finger_slides_along_a_row(page):
    page.execute_script("document.getElementById('channels').scrollIntoView()")
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    points = ask(page, TOUCH, 4)
    for kind, place in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        page.execute_cdp_cmd(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": place[0], "y": place[1]}]},
        )
    found = ask(page, "return [page.state.chosen.layer, page.state.chosen.channel]")
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert found == [4, 2]


def test_on_a_telephone_the_switches_stand_above_the_channels(browser, address):
    """And so near that both are seen at once."""
    window(browser, address, 390, 844)
    switch, channels = (
        browser.execute_script(f"return document.getElementById('{name}').getBoundingClientRect()")
        for name in ("switches", "channels")
    )
    assert 0 < channels["top"] - switch["top"] < 400


def test_on_a_telephone_the_page_goes_back_with_dy(browser, address):
    """Or what arrives at the picture would be above the window."""
    window(browser, address, 390, 844)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    browser.execute_script("document.getElementById('keys').scrollIntoView({block: 'end'})")
    place = """
        const canvas = document.getElementById('channels').getBoundingClientRect();
        return canvas.top + page.state.drawn.found[0].y;
    """
    assert ask(browser, place) < 0
    browser.find_element("id", "play").click()
    assert ask(browser, "return page.state.reached") == 0 and 0 < ask(browser, place) < 844


def press(page: Any, element: Any, *keys: str) -> list[int]:
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        element.send_keys(getattr(Keys, key))
    return ask(page, "return [page.state.chosen.layer, page.state.chosen.channel]")


def test_the_keyboard_reaches_every_channel(page):
    canvas = page.find_element("id", "channels")
    layer, _ = press(page, canvas, "HOME")
    assert press(page, canvas, "ARROW_RIGHT", "ARROW_RIGHT") == [layer, 2]
    assert press(page, canvas, "ARROW_UP", "HOME", "ARROW_LEFT") == [layer - 1, 0]
    channels = ask(page, "return page.state.drawn.found[given[0]].channels", layer - 1)
    assert press(page, canvas, "END") == [layer - 1, channels - 1]
    assert "channel" in page.find_element("id", "said").text


def test_backwards_dy_takes_the_paths_that_were_lit(page):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    page.find_element("id", "play").click()
    reached, outside, inside = ask(page, """
        const {gradients, lit, reached} = page.state;
        let outside = 0, inside = 0;
        gradients.forEach((dy, k) => dy.data.forEach((value, i) => {
          if (value !== 0) lit[k].has(i % dy.c) ? inside++ : outside++;
        }));
        return [reached, outside, inside];
    """)
    assert reached == 0 and outside == 0 and inside > 1000
    assert "arrived at the picture" in page.find_element("id", "said").text
    page.find_element("id", "values").click()
    assert ask(page, "return page.state.gradients") is None


def test_a_drawing_is_read(page):
    from selenium.webdriver import ActionChains

    before = ask(page, "return [...page.input().data]")
    pad = page.find_element("id", "pad")
    page.execute_script("arguments[0].scrollIntoView()", pad)
    chain = ActionChains(page).move_to_element_with_offset(pad, -60, -60).click_and_hold()
    for x, y in (120, 0), (0, 120), (-120, 0), (0, -120):
        chain = chain.move_by_offset(x, y)
    chain.release().perform()
    drawn = np.array(ask(page, "return [...page.input().data]")).reshape(32, 32, 3)
    assert not np.allclose(drawn.ravel(), before)
    assert np.ptp(drawn[12:20, 12:20], axis=(0, 1)).max() == 0  # filled
    assert abs(drawn[0, 0] - drawn[16, 16]).max() > 0.5
    assert page.execute_script("return document.querySelectorAll('#answers li').length") == 3
