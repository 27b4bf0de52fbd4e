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
    "LICENSE", "requirements.txt", "helpers/**/*.py", "tools/__init__.py", "tools/pictures.py",
    "images/annotator.png", "images/annotations/*", "saved_models/**/*.*",
)  # fmt: skip


def write(path: Path) -> None:
    """Write the zip; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as handout:
        for source in NOTEBOOKS:
            notebook = nbformat.read(source, as_version=4)
            kept = [c for c in notebook.cells if "solution" not in c.metadata.get("tags", ())]
            for cell in (cell for cell in kept if cell.cell_type == "code"):
                cell.outputs, cell.execution_count = [], None
            notebook.cells = kept
            handout.writestr(f"course/{source.name}", nbformat.writes(notebook))
        for file in sorted(file for pattern in ALONG for file in ROOT.glob(pattern)):
            handout.write(file, f"course/{file.relative_to(ROOT)}")


if __name__ == "__main__":
    write(target := ROOT / "build/handout/course.zip")
    print(target)
