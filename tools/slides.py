"""A deck per notebook for the front of the room: python -m tools.slides [FOLDER]

nbconvert's reveal exporter with reveal.js beside it: nothing is fetched from elsewhere. A heading
starts a slide; a figure comes with its reading and without its code; after a "Predict" the answer
waits on the next slide; forms, solutions and the glossary stay out. A cell's own metadata,
"slideshow": {"slide_type": ...}, wins.
"""

import re
import shutil
import sys
from html import escape
from importlib.resources import files
from pathlib import Path

import nbformat
from docutils.utils.math.latex2mathml import tex2mathml
from jinja2 import pass_context
from nbconvert import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_code_cell, new_markdown_cell
from traitlets.config import Config

from helpers.files import ROOT
from tools.handout import NOTEBOOKS

REVEAL = files("sphinx_revealjs") / "_static/revealjs/dist"
LEFT_OUT = ("Setup", "Configuration", "Glossary")  # sections
ROOM = 17  # lines of text on a slide
FIGURE = 9  # lines that a figure needs at least; it fills what the text leaves


class _Renderer(IPythonRenderer):
    """Formulas as MathML, which browsers draw themselves."""

    def block_math(self, body):
        return tex2mathml(body, as_block=True)

    def inline_math(self, body):
        return tex2mathml(body)


class Deck(SlidesExporter):
    """The exporter with the course's own page around nbconvert's slides."""

    @pass_context
    def markdown2html(self, context, source):
        renderer = _Renderer(escape=False, embed_images=True, path=str(ROOT))
        return MarkdownWithMath(renderer=renderer).render(source)


def parts(notebook):
    """Yield (cell, lines it takes, heading it begins with) of what is shown, in order."""
    section = ""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            if "solution" in cell.metadata.get("tags", ()):
                continue
            text = re.sub(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", "", cell.source)  # buttons
            text = re.sub(r"(?<!!)\[([^][]+)\]\((?!https?:)[^)]*\)", r"\1", text)  # links inside
            for block in re.split(r"\n\s*\n(?=\S)", text.strip()):
                if heading := re.match("#+ (.*)", block):
                    section = heading[1]
                if section not in LEFT_OUT:
                    yield _markdown(cell, block), _lines(block), heading and heading[1]
            continue
        if section in LEFT_OUT:
            continue
        images, others = [], []
        for output in cell.outputs:
            kind = next((k for k in output.get("data", {}) if k.startswith("image/")), None)
            (images if kind else others).append((output, kind))
        for output, kind in images:
            about = escape(output.metadata.get(kind, {}).get("alt", ""))
            source = "".join(output.data[kind]).replace("\n", "")
            yield (
                _markdown(cell, f'<img alt="{about}" src="data:{kind};base64,{source}">'),
                FIGURE,
                None,
            )
        if not images and cell.metadata.get("cellView") != "form":
            shown = [output for output, _ in others if "Not answered yet" not in str(output)]
            source = cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n")
            code = new_code_cell(source, outputs=shown, metadata=dict(cell.metadata))
            yield code, 0.62 * sum(map(_lines, [source, *map(_text, shown)])), None


def _markdown(cell, source):
    return new_markdown_cell(source, metadata=dict(cell.metadata))


def _text(output):
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def _lines(text):
    return sum(1 + len(line) // 85 for line in text.splitlines()) + 0.5


def deck(path) -> str:
    """A notebook's slides as one HTML page."""
    cells, used, section, asked = [], 0, "", False
    items = list(parts(nbformat.read(path, as_version=4)))
    for (cell, lines, heading), (_, after, title) in zip(items, [*items[1:], (None, 0, "end")]):
        is_figure = cell.source.startswith("<img")
        reading = after if is_figure and not title else 0
        if heading or asked or used + lines + reading > ROOM:
            if not heading:
                cells.append(new_markdown_cell(f'<p class="section">{section}</p>'))
            section, used = heading or section, 0
            (cell if heading else cells[-1]).metadata.setdefault(
                "slideshow", {"slide_type": "slide"}
            )
        cells.append(cell)
        used, asked = used + lines, "**Predict" in cell.source
    exporter = Deck(
        template_name="slides",
        extra_template_basedirs=[str(ROOT / "site")],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config({"CSSHTMLHeaderPreprocessor": {"style": "default"}}),
    )
    notebook = nbformat.v4.new_notebook(cells=cells)
    return exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})[0]


def write(folder: Path, notebooks=NOTEBOOKS) -> None:
    """Write the decks, and what they need, into a folder, which is made or filled anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (REVEAL / "reveal.js", REVEAL / "reveal.css", ROOT / "site/slides/slides.css"):
        shutil.copy(source, folder)
    for path in notebooks:
        (folder / f"{path.stem}.html").write_text(deck(path), encoding="utf-8")


if __name__ == "__main__":
    write(target := Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build/slides")
    print(target)
