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


def blocks(cell):
    """The paragraphs, lists and tables of a Markdown cell, without buttons and links inside."""
    text = re.sub(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", "", cell.source)
    text = re.sub(r"(?<!!)\[([^][]+)\]\((?!https?:)[^)]*\)", r"\1", text)
    solution = "solution" in cell.metadata.get("tags", ())
    return [] if solution else re.split(r"\n\s*\n(?=\S)", text.strip())


def shown(cell):
    """A code cell's figures, as Markdown; without one, the cell itself, as another, if it shows."""
    figures = []
    for output in cell.outputs:
        for kind in (kind for kind in output.get("data", ()) if kind.startswith("image/")):
            alt = escape(output.metadata.get(kind, {}).get("alt", ""))
            data = "".join(output.data[kind]).replace("\n", "")
            figures.append(new_markdown_cell(f'<img alt="{alt}" src="data:{kind};base64,{data}">'))
    if figures or cell.metadata.get("cellView") == "form":
        return figures
    outputs = [output for output in cell.outputs if "Not answered yet" not in str(output)]
    return [new_code_cell(cell.source.removeprefix("# NBVAL_CHECK_OUTPUT\n"), outputs=outputs)]


def lines(cell) -> float:
    """About how many lines of text a cell takes."""
    if cell.source.startswith("<img"):
        return FIGURE
    texts = [o.get("text") or o.data.get("text/plain", "") for o in cell.get("outputs", ())]
    rows = [line for text in (cell.source, *texts) for line in text.splitlines()]
    return (0.62 if cell.cell_type == "code" else 1) * sum(1 + len(row) // 85 for row in rows) + 0.5


def deck(path) -> str:
    """A notebook's slides as one HTML page."""
    cells, section = [], ""  # (cell, heading or None)
    for cell in nbformat.read(path, as_version=4).cells:
        is_code = cell.cell_type == "code"
        for part in shown(cell) if is_code else map(new_markdown_cell, blocks(cell)):
            heading = None if is_code else re.match("#+ (.*)", part.source)
            section = heading[1] if heading else section
            if section not in LEFT_OUT:
                part.metadata = {**cell.metadata}
                cells.append((part, heading and section))
    slides, used, section, asked = [], 0, "", False
    for (cell, heading), (after, next_heading) in zip(cells, [*cells[1:], (None, "the end")]):
        reading = lines(after) if cell.source.startswith("<img") and not next_heading else 0
        if heading or asked or used + lines(cell) + reading > ROOM:
            if not heading:
                slides.append(new_markdown_cell(f'<p class="section">{section}</p>'))
            section, used = heading or section, 0
            start = cell if heading else slides[-1]
            start.metadata.setdefault("slideshow", {"slide_type": "slide"})
        slides.append(cell)
        used, asked = used + lines(cell), "**Predict" in cell.source
    exporter = Deck(
        template_name="slides",
        extra_template_basedirs=[str(ROOT / "site")],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config({"CSSHTMLHeaderPreprocessor": {"style": "default"}}),
    )
    notebook = nbformat.v4.new_notebook(cells=slides)
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
