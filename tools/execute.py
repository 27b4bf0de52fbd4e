"""Execute notebooks with visible progress: python -m tools.execute [--in-place] NOTEBOOK ...

Without --in-place, the executed copies go to build/, as .ipynb and as .html.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from traitlets.config import Config

from helpers.files import ROOT, replacing

BUILD = ROOT / "build"


class _Client(NotebookClient):
    """Tells which cell runs, and passes printed lines on as they come."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            for line in msg["content"]["text"].splitlines():
                print("        " + line[:200], flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, in_place: bool) -> str:
    """Execute one notebook from the repository's root, top to bottom.

    Returns:
        What it showed: "CIFAR-10", or "synthetic pictures" where its banner says so.

    Raises:
        CellExecutionError: a cell failed; the copy in build/ shows it, the notebook is unchanged.
    """
    notebook = nbformat.read(path, as_version=4)
    total, started = len(notebook.cells), time.monotonic()

    def announce(cell, cell_index, **_):
        if cell.cell_type == "code":
            print(
                f"[{cell_index + 1:2}/{total}] {time.monotonic() - started:5.0f}s  {cell['id']}",
                flush=True,
            )

    client = _Client(
        notebook,
        timeout=None,
        record_timing=False,
        store_widget_state=False,
        on_cell_start=announce,
        resources={"metadata": {"path": str(ROOT)}},
        config=Config({"KernelManager": {"transport": "ipc"}}),  # no port open to other users
    )
    print(f"{path.name}: {total} cells")
    try:
        client.execute()
        if in_place:
            _write(path, nbformat.writes(notebook))
    finally:
        if not in_place:
            BUILD.mkdir(exist_ok=True)
            _write(BUILD / path.name, nbformat.writes(notebook))
            html, _ = HTMLExporter().from_notebook_node(notebook)
            _write(BUILD / f"{path.stem}.html", html)
    print(f"{path.name}: done in {time.monotonic() - started:.0f}s")
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return "synthetic pictures" if "SYNTHETIC" in str(outputs) else "CIFAR-10"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def main() -> None:
    """Raises SystemExit, with the message, for a notebook that is missing, damaged or fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--in-place", action="store_true", help="store the outputs in the notebooks"
    )
    parser.add_argument("notebooks", nargs="+", type=Path)
    arguments = parser.parse_args()
    shown = {}
    for path in arguments.notebooks:
        try:
            shown[path] = execute(path, arguments.in_place)
        except (CellExecutionError, OSError, ValueError) as error:
            sys.exit(f"{path.name} stopped:\n{error}")
    if not arguments.in_place:
        print("\nOpen these in a browser:")
        for path, pictures in shown.items():
            print(f"  build/{path.stem}.html   {pictures} (notebook: build/{path.name})")


if __name__ == "__main__":
    main()
