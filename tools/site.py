"""Build the site from the stored notebooks and the README: python -m tools.site

Nothing is executed here; build/site is replaced once all pages are built. tools.execute builds the
same pages from notebooks that it has just executed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from helpers.files import ROOT
from tools import ask, handout, slides

NOTEBOOKS = handout.NOTEBOOKS
FOR_READERS = ("Ask it", "What each notebook teaches", "Results", "Licen")
HERE = ("LICENSE", "CITATION.cff", ".ipynb")  # what the front page may link to
SITE = ROOT / "build/site"
ASK = re.compile(r"\[([^][]+)\]\(site/ask/index\.html\)")  # a page that Sphinx does not make
WIDGET = "application/vnd.jupyter.widget-view+json"
STRICT = ("-W", "--keep-going")  # an hour's training is shown, whatever it printed
NO_WIDGET = "Controls stand here while the notebook is running."


def front_page() -> str:
    """What the README tells readers; the rest is for those who have the repository."""
    first, *sections = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")
    told = [each for each in sections if each.startswith(FOR_READERS)]
    text = "\n## ".join([first, *(each.split("\n### ")[0] for each in told)])
    address = re.search(r'REPOSITORY = \\"(.*?)\\"', NOTEBOOKS[0].read_text(encoding="utf-8"))[1]

    def link(match):  # to a file that is no page
        on_github = f"[{match[1]}]({address}/blob/HEAD/{match[2]})"
        return match[0] if match[2].endswith(HERE) else on_github if address else match[1]

    text = ASK.sub(r'<a href="ask/index.html">\1</a>', text)
    text = re.sub(r"(?<!!)\[([^][]+)\]\((?!https:|#)([^)]+)\)", link, text)
    decks = ", ".join(f'<a href="slides/{p.stem}.html">{p.stem[-2:]}</a>' for p in NOTEBOOKS)
    text += f"\n\n## For a class\n\nSlides: {decks}. The notebooks without solutions, and all they "
    text += 'need, in one file: <a href="course.zip">course.zip</a>.\n'
    if address:
        text += f"[TEACHING.md]({address}/blob/HEAD/TEACHING.md) has a plan for three sessions.\n"
        text += f"\n[The repository]({address}) holds the notebooks, the code and the networks.\n"
    pages = "\n".join(path.stem for path in NOTEBOOKS)
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def prepared(path: Path) -> str:
    """A notebook as JSON: forms folded under their titles, a line in place of a widget.

    Raises ValueError for a file that is no notebook, or whose cells were not all executed.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ValueError(f"{path.name} is no notebook: git checkout {path.name}") from error
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = ASK.sub(r'<a href="ask/index.html">\1</a>', cell.source)
            continue
        if cell.source and cell.execution_count is None:
            raise ValueError(f"{path.name} has cells without outputs: make figures executes it.")
        if cell.metadata.get("cellView") == "form":
            title = re.match(r"#@title (.*?)( *\{.*)?\n", cell.source)[1]
            cell.metadata.tags = ["hide-input"]
            cell.metadata.mystnb = {"code_prompt_show": title, "code_prompt_hide": title}
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                output.data = {"text/plain": NO_WIDGET}
    return nbformat.writes(notebook)


def build(folder: Path = SITE, executed=()) -> None:
    """Build beside `folder`, then take its place.

    Args:
        folder: of the pages.
        executed: paths of notebooks, shown instead of the stored ones of the same names.

    Raises:
        ValueError: a notebook is not as it should be; or Sphinx failed or, over stored notebooks,
            had a warning. `folder` is as it was before.
    """
    notebooks = {path.name: path for path in [*NOTEBOOKS, *executed]}
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".site_") as temporary:
        sources, pages = Path(temporary, "sources"), Path(temporary, "pages")
        shutil.copytree(ROOT / "images", sources / "images")
        for name in ("LICENSE", "CITATION.cff"):
            shutil.copy(ROOT / name, sources)
        for name, path in notebooks.items():
            (sources / name).write_text(prepared(path), encoding="utf-8")
        (sources / "index.md").write_text(front_page(), encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-q", *([] if executed else STRICT)]
        command += ["-c", ROOT / "site", "-d", Path(temporary, "doctrees"), sources, pages]
        if subprocess.run(command).returncode:
            raise ValueError(f"Sphinx complained (above); {folder} is as it was before.")
        ask.write(pages / "ask")
        slides.write(pages / "slides", notebooks.values())
        handout.write(pages / "course.zip")
        if folder.exists():
            folder.rename(Path(temporary, "before"))
        pages.rename(folder)


if __name__ == "__main__":
    try:
        build()
    except ValueError as error:
        sys.exit(str(error))
