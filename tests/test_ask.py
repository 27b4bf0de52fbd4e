"""The page "Ask it where it looked" in Chromium, with the recorded network."""

import functools
import http.server
import io
import json
import re
import threading

import keras
import numpy as np
import pytest
from conftest import BROWSER, BROWSERS, FLAGS
from PIL import Image
from playwright import sync_api

from helpers.files import RECORDED, ROOT
from helpers.training import data, runs
from tools import ask

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(BROWSER is None, reason=f"found none of {', '.join(BROWSERS)}"),
]
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page as it is built, served on loopback."""
    folder = tmp_path_factory.mktemp("site")
    ask.write(folder / "ask")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/ask/index.html"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """The page when it has answered; what it asked for and complained of is checked at the end."""
    context = browser.new_context()
    page = context.new_page()
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("main:not([hidden])")
    yield page
    origin = address.rsplit("/", 2)[0]
    assert all(re.match(f"{origin}|blob:|data:,", url) for url in page.requests)
    assert page.complaints == [] and context.cookies() == []
    context.close()


def answer(page):
    """What stands there when nothing is waiting to be drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return page.inner_text("#answer")


def numbers(text):
    return [float(n.replace(MINUS, "-")) for n in re.findall(rf"[+{MINUS}]?\d+\.\d\d", text)]


def scores(page):
    return numbers(" ".join(page.locator("#classes .logit").all_inner_texts()))


def stroke(page, *places):
    """Draw through places of the picture, each a share of its width and height."""
    page.locator("#picture").scroll_into_view_if_needed()
    box = page.locator("#picture").bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def file_of(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return {"name": f"own.{kind.lower()}", "mimeType": "", "buffer": content.getvalue()}


def test_logits_and_maps_are_those_of_keras(page):
    network = runs.open_run(RECORDED / ask.RECIPE).network()
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    dataset = data.load("cifar10") if data.on_disk() else data.synthetic(train=100, test=30)
    pictures = np.concatenate([noise, dataset.x_test[:: len(dataset.x_test) // 30][:30]])
    assert len(pictures) == 50
    layers = [network.get_layer(name).output for name in ("features", "logits")]
    features, logits = keras.Model(network.input, layers)(pictures.astype(np.float32))
    head = network.get_layer("logits").kernel
    evidence = np.einsum("nijk,kc->ncij", features, head) / 64
    ours = page.evaluate(
        """async (pictures) => {
            const { forward } = await import("./network.js");
            const { account } = await import("./evidence.js");
            const numbers = new Float32Array(await (await fetch("network.bin")).arrayBuffer());
            return pictures.map((pixels) => {
                const answer = forward(numbers, Float32Array.from(pixels));
                const places = answer.logits.map((_, c) => account(answer, c, null).places);
                return { logits: answer.logits, places, lead: account(answer, 3, 5) };
            });
        }""",
        pictures.reshape(50, -1).tolist(),
    )
    assert np.abs([each["logits"] for each in ours] - np.array(logits)).max() <= 1e-4
    maps = np.array([each["places"] for each in ours]).reshape(50, 10, 8, 8)
    assert np.abs(maps - evidence).max() <= 1e-4
    for each, row, map_ in zip(ours, np.array(logits), maps):
        lead = each["lead"]
        assert lead["score"] == pytest.approx(row[3] - row[5], abs=1e-4)
        assert sum(lead["places"]) + lead["bias"] == pytest.approx(lead["score"], abs=1e-4)
        assert np.allclose(np.reshape(lead["places"], (8, 8)), map_[3] - map_[5], atol=1e-4)


def test_the_account_on_the_page_adds_up(page):
    places = numbers(" ".join(page.locator("#account td").all_inner_texts()))
    told = numbers(page.inner_text("#sum"))  # for, against, constant, score
    assert len(places) == 64 and sum(p for p in places if p > 0) == pytest.approx(told[0], abs=0.2)
    assert told[3] == max(scores(page))
    assert page.inner_text("#where").startswith(page.get_attribute("#picture", "aria-label"))


def test_a_class_and_its_rival(page):
    page.locator("#classes input").nth(3).focus()
    page.keyboard.press("ArrowDown")  # as any group of radio buttons
    page.select_option("#instead", "3")
    answer(page)
    told = page.inner_text("#sum")
    assert told.endswith("the lead of deer rather than cat.")
    assert numbers(told)[3] == pytest.approx(scores(page)[4] - scores(page)[3], abs=0.02)


def test_painting_undo_and_a_link_that_reproduces(page, browser):
    first, before = answer(page), scores(page)
    page.select_option("#tool", "mean")
    page.fill("#size", "8")
    stroke(page, (0.2, 0.5), (0.5, 0.5), (0.8, 0.5))
    assert answer(page) != first and scores(page) != before
    page.select_option("#tool", "blur")
    stroke(page, (0.3, 0.3))
    answer(page)
    painted = scores(page)
    page.select_option("#tool", "copy")
    stroke(page, (0.05, 0.05))  # where to copy from
    answer(page)
    assert scores(page) == painted
    stroke(page, (0.5, 0.5), (0.6, 0.5))
    answer(page)
    copied = scores(page)
    assert copied != painted
    again = browser.new_page()
    again.goto(page.url)
    again.wait_for_selector("main:not([hidden])")
    assert scores(again) == copied and answer(again) == answer(page)
    again.close()
    page.click("#undo")
    answer(page)
    assert scores(page) == painted
    page.click("#reset")
    assert answer(page) == first and scores(page) == before and page.is_disabled("#undo")


def test_painting_by_keyboard(page):
    before = scores(page)
    page.select_option("#tool", "mean")
    page.focus("#picture")
    for key in ("ArrowLeft", "ArrowUp", "Space"):
        page.keyboard.press(key)
    answer(page)
    assert "paint=04ff3737" in page.url and scores(page) != before  # column 15, row 15


@pytest.mark.parametrize(
    "link", ["#picture=99&class=77&paint=%3Cb%3E", "#paint=04zz&view=<script>"]
)
def test_a_link_of_somebody_else(browser, address, link):
    page = browser.new_page()
    page.goto(address + link)
    page.wait_for_selector("main:not([hidden])")
    assert page.inner_text("#answer").startswith("It says ") and page.is_disabled("#undo")
    page.close()


def pixels_of(page):
    """The 32 x 32 pixels as the network sees them, uint8 (32, 32, 3)."""
    page.select_option("#view", "picture")
    answer(page)
    values = page.evaluate(
        """() => {
            const small = document.createElement("canvas");
            small.width = small.height = 32;
            const context = small.getContext("2d");
            context.imageSmoothingEnabled = false;
            context.drawImage(document.getElementById("picture"), 0, 0, 32, 32);
            return Array.from(context.getImageData(0, 0, 32, 32).data);
        }"""
    )
    return np.reshape(values, (32, 32, 4))[..., :3]


def test_own_picture_turned_cropped_and_moved(page):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :32], wide[:, 96:] = (255, 0, 0), (0, 0, 255)  # red at the left, blue at the right
    upright = Image.fromarray(wide).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    page.set_input_files("#file", file_of(upright, "JPEG", exif=exif, quality=95))
    page.wait_for_selector("#crop-box:not([hidden])")
    seen = pixels_of(page)
    assert seen.max() < 60  # the middle is black
    page.focus("#crop")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    left = pixels_of(page)
    assert left[:, :12, 0].min() > 200 and left[:, 20:].max() < 60
    page.fill("#crop-size", "50")
    assert not np.array_equal(pixels_of(page), left)


def test_files_that_browsers_read(page):
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    page.set_input_files("#file", file_of(Image.fromarray(noise), "PNG"))
    page.wait_for_selector("#crop-box:not([hidden])")
    assert np.array_equal(pixels_of(page), noise)  # 32 x 32 pixels stay as they are
    red, blue = (Image.new("RGB", (40, 40), color) for color in ("red", "blue"))
    odd = {
        "one pixel": (file_of(Image.new("RGB", (1, 1), "lime"), "PNG"), (0, 255, 0)),
        "CMYK": (file_of(Image.new("CMYK", (50, 50), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
        "animated": (file_of(red, "GIF", save_all=True, append_images=[blue]), (255, 0, 0)),
        "large": (file_of(Image.new("RGB", (6000, 4000), "blue"), "JPEG"), (0, 0, 255)),
        "transparent": (file_of(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG"), (255, 255, 255)),
    }
    for name, (file, color) in odd.items():
        page.set_input_files("#file", file)
        sync_api.expect(page.locator("#file")).to_have_value("")  # it has been read
        assert np.abs(pixels_of(page).mean(axis=(0, 1)) - color).max() < 40, name
        assert page.inner_text("#trouble") == "", name


def test_files_that_browsers_do_not_read(page):
    before = answer(page)
    for name, content, words in [
        ("notes.txt", b"no picture", "cannot read notes.txt. Save it as JPEG or PNG"),
        ("photo.heic", b"\0\0\0\x18ftypheic" + bytes(100), "cannot read photo.heic"),
        ("empty.png", b"", "cannot read empty.png"),
        ("huge.png", bytes(50_000_000), "has 50 MB. Choose one of up to 40 MB"),
    ]:
        page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
        sync_api.expect(page.locator("#trouble")).to_contain_text(words)
        assert answer(page) == before


@pytest.mark.parametrize("missing", ["network.bin", "about.json", "page.js"])
def test_without_a_part_it_says_so_and_leads_to_the_notebook(browser, address, missing):
    page = browser.new_page()
    page.route(f"**/{missing}", lambda route: route.abort())
    page.goto(address)
    link = page.locator("#trouble a")
    sync_api.expect(link).to_have_attribute("href", "../Assignment4B.html")
    assert page.is_hidden("main")
    page.close()


def test_the_figure_to_keep(page):
    with page.expect_download() as download:
        page.click("#save")
    image = Image.open(download.value.path())
    assert image.size == (900, 480) and len(image.getcolors(2**20)) > 100


def test_on_a_phone_and_for_a_screen_reader(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    unnamed = page.locator("button, input, select, canvas[role], table").evaluate_all(
        """(all) => all.filter((element) => !(
            element.labels?.length || element.textContent.trim() || element.ariaLabel
            || element.getAttribute("aria-describedby"))).map((element) => element.id)"""
    )
    assert unnamed == []
    policy = page.get_attribute("meta[http-equiv]", "content")
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_page_follows_the_data_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "on_disk", lambda: False)
    pictures, labels = ask.examples()
    assert pictures.shape == (10, 32, 32, 3) and all(label.startswith("drawn") for label in labels)


def test_javascript_is_small_and_alone():
    code = "".join(path.read_text() for path in (ROOT / "site/ask").glob("*.js"))
    assert len(code.splitlines()) <= 700 and "eval(" not in code and "//cdn" not in code
    about = json.dumps(re.findall(r"https?://\S+", code))
    assert about == "[]"
