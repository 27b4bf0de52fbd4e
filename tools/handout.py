"""The notebooks for a class, without solutions and outputs: python -m tools.handout

The zip works as a folder of its own. The helpers in it hold the checks of the exercises, so whoever
reads those can find an answer; only the solutions stay here.
"""

import zipfile
from pathlib import Path

import nbformat

from helpers.files import ROOT

NOTEBOOKS = sorted(ROOT.glob("Assignment4*.ipynb"))
ALONG = (
    "helpers/**/*.py",
    "tools/__init__.py",
    "tools/pictures.py",
    "images/annotator.png",
    "images/annotations/*",
    "saved_models/**/*.*",
)
START = "python -m venv .venv\n.venv/bin/pip install -r requirements.txt\n.venv/bin/jupyter lab\n"


def without_answers(path) -> str:
    """A notebook as JSON, without its solutions and without any output."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if "solution" not in c.metadata.get("tags", ())]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.writes(notebook)


def write(path: Path) -> None:
    """Write the zip; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as handout:
        for notebook in NOTEBOOKS:
            handout.writestr(f"course/{notebook.name}", without_answers(notebook))
        for file in sorted(file for pattern in ALONG for file in ROOT.glob(pattern)):
            handout.write(file, f"course/{file.relative_to(ROOT)}")
        handout.write(ROOT / "LICENSE", "course/LICENSE")
        handout.write(ROOT / "requirements.txt", "course/requirements.txt")
        handout.writestr("course/START.txt", START)


if __name__ == "__main__":
    write(target := ROOT / "build/handout/course.zip")
    print(target)
