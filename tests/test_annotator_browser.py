"""The annotator as a reader meets it: JupyterLab in Chromium, driven with mouse and keyboard."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import ipywidgets
import pytest
from conftest import BROWSER, BROWSERS, FLAGS

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from helpers.annotation.via import Picture, Region, read_via, write_via_csv
from helpers.files import ROOT

PIXEL = 12  # screen pixels per pixel of the picture
FRAME = 2  # pixels around it
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason=f"found none of {', '.join(BROWSERS)}"),
    pytest.mark.skipif(
        int(ipywidgets.__version__.split(".")[0]) < 8,
        reason="JupyterLab 4 shows widgets of ipywidgets 8 only; Colab brings its own front end",
    ),
]

CELL = """
import numpy as np
from helpers.annotation.annotator import annotate

scene = np.full((32, 32, 3), (120, 180, 235), np.uint8)
scene[20:] = (90, 150, 70)
scene[8:24, 6:22] = (200, 120, 40)
names = [f"cifar10_test_cat_{i:04d}.png" for i in range(3)]
schema = {"region": {
    "viewpoint": {"type": "dropdown", "options": {"front": "front", "three_quarter": "3/4"}},
    "truncated": {"type": "radio", "options": {"no": "no", "yes": "yes"}},
    "quality": {"type": "checkbox", "options": {"blurred": "blurred", "dark": "low contrast"}},
}}
annotate(dict.fromkeys(names, scene), schema, "via_export_csv.csv")
"""


@pytest.fixture
def lab(tmp_path, sockets):
    """Address of a JupyterLab, reachable from this machine only, that serves a notebook."""
    cells = [nbformat.v4.new_code_cell(CELL.strip())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, tmp_path / "annotate.ipynb")
    news = tmp_path / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # no question, no network
    token = secrets.token_hex(16)
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    folders["JUPYTERLAB_SETTINGS_DIR"] = "settings"
    environment = {
        **os.environ,
        **{name: str(tmp_path / folder) for name, folder in folders.items()},
        "PYTHONPATH": str(ROOT),
        "JUPYTER_TOKEN": token,
        "JUPYTER_RUNTIME_DIR": sockets,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--port=0", "--ServerApp.ip=127.0.0.1"]  # the server chooses, and writes it down
    command += ["--KernelManager.transport=ipc"]
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield f"{_address(server, sockets)}lab/tree/annotate.ipynb?token={token}"
    finally:
        server.terminate()  # ends its kernels, too
        server.wait()


def _address(server, folder):
    """The address of the server, once it answers."""
    end = time.monotonic() + 600
    while time.monotonic() < end and server.poll() is None:
        try:
            about = json.loads(Path(folder, f"jpserver-{server.pid}.json").read_text())
            urllib.request.urlopen(f"{about['url']}api?token={about['token']}", timeout=60).close()
            return about["url"]
        except (OSError, ValueError):  # not yet, or half written
            time.sleep(0.3)
    pytest.fail("JupyterLab did not start: see server.log")


@pytest.fixture
def page(lab):
    """The notebook, its cell run and the annotator on display."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(600_000)  # milliseconds
        page.goto(lab)
        _run(page)
        yield page
        browser.close()


def _run(page):
    """Run the notebook's cell."""
    page.get_by_text("| Idle").wait_for()  # before, JupyterLab drops what it is told to run
    page.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")


def _drag(page, *points):
    """Drag from point to point, (x, y) in screen pixels from the corner of the picture."""
    canvas = page.locator("img[alt='annotate me']")
    canvas.scroll_into_view_if_needed()  # waits for it
    corner, frame = canvas.bounding_box(), FRAME * PIXEL
    assert corner["width"] == corner["height"] == (32 + 2 * FRAME) * PIXEL
    at = [(corner["x"] + frame + x, corner["y"] + frame + y) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()


def test_what_is_drawn_survives_reload_and_restart_and_stands_in_the_csv(page, tmp_path):
    saved = tmp_path / "via_export_csv.csv"
    cell = page.locator(".jp-OutputArea")

    def box(*sides, **attributes):
        shape = zip(("x", "y", "width", "height"), sides)
        return Region({"name": "rect", **dict(shape)}, attributes)

    def press(button, next_picture):
        cell.get_by_role("button", name=button).click()
        cell.get_by_text(next_picture).wait_for()

    _drag(page, (60, 60), (181, 203))  # on purpose not quite on edges of pixels
    cell.get_by_role("combobox").select_option("3/4")
    assert not saved.exists()
    cell.get_by_role("button", name="no", exact=True).click()  # the last choice saves the box
    cell.get_by_text("1 of 3 saved").wait_for()
    cell.get_by_text("low contrast").click()
    page.on("dialog", lambda dialog: dialog.accept())  # the notebook is not saved
    page.reload()
    _run(page)
    press("Back", "picture 1 of 3")
    page.locator(".annotator rect.movable").wait_for()  # the box is still there
    press("Submit", "picture 2 of 3: cifar10_test_cat_0001.png")
    values = {"viewpoint": "three_quarter", "truncated": "no", "quality": {"dark": True}}
    first = Picture("cifar10_test_cat_0000.png", [box(5, 5, 10, 12, **values)])
    assert read_via(saved) == [first]

    _drag(page, (300, -15), (396, 120))  # beyond two borders of the picture
    cell.get_by_role("combobox").select_option("front")
    cell.get_by_role("button", name="yes").click()
    press("Submit", "picture 3 of 3: cifar10_test_cat_0002.png")
    others = {"viewpoint": "front", "truncated": "yes", "quality": {}}
    second = Picture("cifar10_test_cat_0001.png", [box(25, 0, 7, 10, **others)])
    assert read_via(saved) == [first, second]

    # another program adds a box that is narrower than a pixel, and it stays as it is
    thin = box(20.4, 5, 0.5, 12, **others)
    write_via_csv([Picture(first.filename, [*first.regions, thin]), second], saved)
    _run(page)
    cell.get_by_text("2 of 3 saved").wait_for()
    press("Back", "picture 2 of 3")
    press("Back", "picture 1 of 3")
    page.locator(".annotator rect.movable").nth(1).wait_for()
    _drag(page, (120, 120), (156, 96))  # moves the first box
    press("Submit", "picture 2 of 3")
    moved = box(8, 3, 10, 12, **values)
    assert read_via(saved) == [Picture(first.filename, [moved, thin]), second]

    page.locator(".jp-InputPrompt").first.click()
    page.keyboard.type("00")  # restarts the kernel
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    note = "getComputedStyle(document.querySelector('.annotator'), '::after').content"
    page.wait_for_function(f"{note}.includes('The kernel was restarted')")
    assert not cell.get_by_role("button", name="Submit").is_visible()
    _run(page)
    cell.get_by_text("2 of 3 saved").wait_for()  # a server that ends during a restart hangs
    press("Nothing to draw", "3 of 3 saved in via_export_csv.csv, 1 with nothing to draw")
    assert [picture.nothing for picture in read_via(saved)] == [False, False, True]
