"""The site as a reader meets it: built once, opened in Chromium."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse
from urllib.request import url2pathname

import nbformat
import pytest
from conftest import BROWSER, BROWSERS, FLAGS
from playwright.sync_api import sync_playwright

from tools import site

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(BROWSER is None, reason=f"found none of {', '.join(BROWSERS)}"),
]
PAGES = ["index", *(path.stem for path in site.NOTEBOOKS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages as files, which is how readers of `make notebooks` open them."""
    folder = tmp_path_factory.mktemp("built") / "site"
    site.build(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=BROWSER, args=FLAGS)


@pytest.fixture
def show(folder, browser):
    """Open a page; afterwards, nothing was fetched elsewhere and nothing was complained about."""
    opened, complaints = [], []

    def complain(message):
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def note(request):
        if not request.url.startswith((folder.as_uri(), "data:")):
            complaints.append(request.url)

    def show(name, **options):
        opened.append(page := browser.new_page(**options))
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note)
        page.goto(f"{folder.as_uri()}/{name}.html")
        return page

    yield show
    for page in opened:
        page.close()
    assert complaints == []


@pytest.mark.parametrize("name", PAGES)
def test_pictures_and_links(show, folder, name):
    page = show(name)
    images = page.locator("article img")
    assert images.count()
    for image in images.all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")  # fails where the picture is broken
        assert re.search(r"\w \w", image.get_attribute("alt")), image.get_attribute("src")
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.href)")
    for link in sorted({link for link in links if link.startswith("file:")}):
        target, anchor = urldefrag(link)
        path = Path(url2pathname(urlparse(target).path))
        assert path.is_relative_to(folder) and path.is_file(), link
        assert not anchor or f'id="{unquote(anchor)}"' in path.read_text(), link


@pytest.mark.parametrize("name", PAGES)
def test_fits_a_telephone_and_a_desk_by_day_and_by_night(show, name):
    page = show(name, color_scheme="dark")
    for width in (390, 1320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    grounds = "[...document.querySelectorAll('article img')].map("
    grounds += "image => getComputedStyle(image).backgroundColor)"
    assert set(page.evaluate(grounds)) == {"rgb(255, 255, 255)"}


def test_a_figure_is_scrolled_on_a_telephone_and_opens_in_full_size(show):
    width = "each => each.scrollWidth"
    page = show("Assignment4B", viewport={"width": 390, "height": 800})
    figure = max(page.locator(".cell_output a:has(img)").all(), key=lambda a: a.evaluate(width))
    assert figure.evaluate(width) > 600 and figure.bounding_box()["width"] < 390
    assert figure.evaluate("each => getComputedStyle(each).overflowX") == "auto"
    image = figure.locator("img")
    assert image.evaluate("each => each.naturalWidth") >= 600
    assert figure.evaluate("each => each.href") == image.evaluate("each => each.src")


def test_solutions_forms_and_widgets(show):
    page = show("Assignment4A")
    solution = page.locator("details", has=page.get_by_text("Solution", exact=True)).first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert solution.locator("pre").is_visible()
    form = page.locator("details", has=page.get_by_text("Find the helpers", exact=True))
    assert not form.locator("pre").is_visible()
    assert page.get_by_text("Controls stand here while the notebook is running").count()


def test_results_license_and_formulas(show):
    page = show("index")
    assert page.locator("table", has_text="minutes").locator("tbody tr").count() >= 3
    assert page.get_by_role("link", name="Open In Colab").count() == len(PAGES) - 1
    assert "LICENSE" in page.locator("a", has_text="MIT").get_attribute("href")
    assert show("Assignment4B").locator("math").count() > 3


def test_the_heads_of_a_table_stand_above_their_columns(show):
    table = show("Assignment4A").locator("table.dataframe").first
    heads, cells = (
        table.locator(f"{part} tr").first.locator("th, td") for part in ("thead", "tbody")
    )
    assert heads.count() == cells.count() > 2
    for head, cell in zip(heads.all()[1:], cells.all()[1:]):
        assert head.bounding_box()["x"] == cell.bounding_box()["x"]


@pytest.mark.parametrize("name", PAGES[1:])
def test_every_slide_fits_the_screen_and_a_telephone(show, name):
    page = show(f"slides/{name}", viewport={"width": 1280, "height": 720})
    page.locator(".reveal.ready").wait_for()
    for slide in range(page.locator(".page").count()):
        page.evaluate("slide => Reveal.slide(slide)", slide)
        shown = page.locator("section.present section.present .page")
        size = shown.evaluate("p => [p.clientWidth, p.clientHeight, p.scrollWidth, p.scrollHeight]")
        assert size[:2] == [1280, 720] and size == size[:2] * 2, shown.inner_text()
        for image in shown.locator("img").all():
            assert image.bounding_box()["height"] > 200 and image.get_attribute("alt")
    page = show(f"slides/{name}", viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".page").first.is_visible() and page.locator(".page").last.is_visible()


@pytest.mark.parametrize("damage", ["no JSON", "no outputs", "broken link"])
def test_a_bad_notebook_leaves_the_site_as_it_was(tmp_path, monkeypatch, damage):
    notebook = tmp_path / site.NOTEBOOKS[0].name
    content = nbformat.read(site.NOTEBOOKS[0], as_version=4)
    if damage == "broken link":
        content.cells[0].source += "\n\n[nowhere](#Nowhere)"
    else:
        next(cell for cell in content.cells if cell.cell_type == "code").execution_count = None
    notebook.write_text("{" if damage == "no JSON" else nbformat.writes(content))
    monkeypatch.setattr(site, "NOTEBOOKS", [notebook, *site.NOTEBOOKS[1:]])
    built = tmp_path / "built/site"
    built.mkdir(parents=True)
    (built / "index.html").write_text("as it was")
    with pytest.raises(ValueError, match="Assignment4A.ipynb|Sphinx"):
        site.build(built)
    assert (built / "index.html").read_text() == "as it was"
    assert list(built.parent.iterdir()) == [built]


def test_the_front_page_leads_to_the_repository_once_its_address_is_known(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# Course\n[Runs](saved_models/README.md), [MIT](LICENSE)")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "NOTEBOOKS", [notebook := tmp_path / "Assignment4A.ipynb"])
    notebook.write_text(r'"REPOSITORY = \"\""')
    assert site.front_page().startswith("# Course\nRuns, [MIT](LICENSE)\n\n## For a class")
    notebook.write_text(r'"REPOSITORY = \"https://github.com/a/b\""')
    page = site.front_page()
    assert "[The repository](https://github.com/a/b)" in page and "[MIT](LICENSE)" in page
    assert "[Runs](https://github.com/a/b/blob/HEAD/saved_models/README.md)" in page


def test_executed_notebooks_take_the_place_of_the_stored_ones(tmp_path):
    executed = nbformat.read(site.NOTEBOOKS[0], as_version=4)
    executed.cells = executed.cells[:1]
    executed.cells[0].source = "# Just executed"
    nbformat.write(executed, tmp_path / site.NOTEBOOKS[0].name)
    site.build(tmp_path / "site", [tmp_path / site.NOTEBOOKS[0].name])
    assert "<h1>Just executed<" in (tmp_path / "site/Assignment4A.html").read_text()
