"""Build the site from the stored notebooks and the README: python -m tools.site [FOLDER]

Nothing is executed. FOLDER, build/site unless named, is replaced once all pages are built.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from helpers.files import ROOT

WIDGET = "application/vnd.jupyter.widget-view+json"


def prepared(path: Path) -> str:
    """A stored notebook as JSON: forms folded under their titles, a line in place of a widget.

    Raises ValueError for a file that is no notebook, or whose cells were not all executed.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ValueError(f"{path.name} is no notebook: git checkout {path.name}") from error
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.source and cell.execution_count is None:
            raise ValueError(f"{path.name} has cells without outputs: make figures executes it.")
        if cell.metadata.get("cellView") == "form":
            title = re.match(r"#@title (.*?)( *\{.*)?\n", cell.source)[1]
            cell.metadata.tags = ["hide-input"]
            cell.metadata.mystnb = {"code_prompt_show": title, "code_prompt_hide": title}
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                output.data = {"text/plain": "Controls stand here while the notebook is running."}
    return nbformat.writes(notebook)


def build(folder: Path) -> None:
    """Build into a folder near `folder`, which takes its place where Sphinx has no warning.

    Raises:
        ValueError: a notebook is not as it should be, or Sphinx has a warning.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".site_") as temporary:
        sources, pages = Path(temporary, "sources"), Path(temporary, "pages")
        shutil.copytree(ROOT / "images", sources / "images")
        for page in ("README.md", "site/index.md"):
            shutil.copy(ROOT / page, sources)
        for path in sorted(ROOT.glob("Assignment4*.ipynb")):
            (sources / path.name).write_text(prepared(path), encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
        command += ["-c", ROOT / "site", "-d", Path(temporary, "doctrees"), sources, pages]
        if subprocess.run(command).returncode:
            raise ValueError(f"Sphinx has warnings (above); {folder} is as it was before.")
        if folder.exists():
            folder.rename(Path(temporary, "before"))
        pages.rename(folder)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build/site")
    except ValueError as error:
        sys.exit(str(error))
