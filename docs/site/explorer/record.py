"""Record the explorer as an animation, ``explorer.gif``.

    pip install selenium pillow            # and Debian: apt install chromium chromium-driver
    python docs/site/explorer/record.py

A channel's paths are followed with the shuffle and without it, and then dy takes them back.
"""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image
from selenium import webdriver

HERE = Path(__file__).resolve().parent
WIDTH, COLOURS = 660, 128

STAGE = """
document.getElementById('net').prepend(document.getElementById('switches'));
document.querySelectorAll('header, #input, #cost, #net h2, #net > .small, #bar .row')
  .forEach(e => e.style.display = "none");
document.getElementById('bar').style.position = 'static';
document.getElementById('net').insertBefore(document.getElementById('bar'),
  document.getElementById('channels'));
"""


def shots(browser: Any) -> Iterator[tuple[Image.Image, int]]:
    """Each picture, and the milliseconds that it stays."""

    def shown(milliseconds: int) -> tuple[Image.Image, int]:
        height = browser.execute_script(
            "return Math.ceil(document.querySelector('main').getBoundingClientRect().bottom)"
        )
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        shot = browser.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))), milliseconds

    def page(program: str) -> Any:
        return browser.execute_async_script(
            "const done = arguments[0]; import('./explorer.js').then(page => done("
            f"(() => {{ {program} }})()))"
        )

    select = (
        "page.select(page.state.drawn.found.findLastIndex(({row}) =>"
        " /^stage3.*expand$/.test(row.layer)), %d)"
    )
    for channel in 1, 20, 40:
        page(select % channel)
        yield shown(1500)
    browser.find_element("name", "shuffle").click()
    for channel in 40, 20, 1:
        page(select % channel)
        yield shown(1500)
    browser.find_element("name", "shuffle").click()
    page(select % 1)
    yield shown(1200)
    while page("return page.step()"):
        yield shown(450)
    yield shown(3500)


def main() -> None:
    """Write the file."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(HERE))
    )
    Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium-browser"
    for argument in "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars":
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        metrics = {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(f"http://127.0.0.1:{server.server_port}/index.html")
        browser.set_script_timeout(60)
        browser.execute_async_script(
            "const done = arguments[0], wait = () => document.body.dataset.ready ? done()"
            " : setTimeout(wait, 50); wait()"
        )
        browser.execute_script(STAGE)
        pictures, pauses = zip(*shots(browser), strict=True)
    finally:
        browser.quit()
        server.shutdown()
    size = WIDTH, max(picture.height for picture in pictures)
    frames = []
    for picture in pictures:
        frame = Image.new("RGB", size, "white")
        frame.paste(picture.convert("RGB"))
        frames.append(frame)
    # one palette for all, so that nothing flickers
    all_colours = Image.new("RGB", (size[0], size[1] * len(frames)))
    for k, frame in enumerate(frames):
        all_colours.paste(frame, (0, k * size[1]))
    palette = all_colours.quantize(COLOURS, dither=Image.Dither.NONE)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    target = HERE / "explorer.gif"
    first.save(target, save_all=True, append_images=others, duration=list(pauses), loop=0)
    print(f"{len(frames)} pictures of {size[0]}x{size[1]}, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
