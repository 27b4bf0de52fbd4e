"""Execute notebooks with visible progress: python -m tools.execute [--in-place] NOTEBOOK ...

Without --in-place, the executed copies go to build/, as .ipynb and as .html.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from helpers.files import ROOT, write_text

BUILD = ROOT / "build"
OVERWRITTEN = re.compile(r".*\r(?=[^\n])")  # what a carriage return takes back


class _Screen:
    """Prints what a cell prints, line by line, in whatever pieces the kernel sends it.

    A line that is drawn over itself, as a download's, moves where that can be seen.
    """

    def __init__(self):
        self.line = ""  # still without its end

    def show(self, text: str) -> None:
        clear = "\r\x1b[K" if sys.stdout.isatty() else ""
        *lines, self.line = OVERWRITTEN.sub("", self.line + text).split("\n")
        for line in lines:
            print(f"{clear}        {line[:200]}", flush=True)
        if self.line and clear:
            print(f"{clear}        {self.line[:200]}", end="", flush=True)

    def end_line(self) -> None:
        if self.line:
            self.show("\n")


class _Client(NotebookClient):
    """Passes printed lines on as they come, and stores of one drawn over itself the last state."""

    def __init__(self, notebook, screen: _Screen, **options):
        super().__init__(notebook, **options)
        self.screen = screen

    def process_message(self, msg, cell, cell_index):
        output = super().process_message(msg, cell, cell_index)
        if msg["msg_type"] == "stream":
            self.screen.show(msg["content"]["text"])
            before, last = cell.outputs[-2:] if len(cell.outputs) > 1 else ({}, {})
            text = before.get("text", "") + last.get("text", "")
            if "\r" in text and before.get("name") == last.name:
                before.text = OVERWRITTEN.sub("", text)
                cell.outputs.pop()
        return output


def execute(path: Path, in_place: bool) -> str:
    """Execute one notebook from the repository's root, top to bottom.

    Returns:
        What it showed: "CIFAR-10", or "synthetic pictures" where its banner or source says so.

    Raises:
        CellExecutionError: a cell failed. The notebook is unchanged; the copy in build/ shows the
            error, without `in_place`.
        DeadKernelError: the kernel died, of too little memory for example.
    """
    notebook = nbformat.read(path, as_version=4)
    total, started, screen = len(notebook.cells), time.monotonic(), _Screen()

    def announce(cell, cell_index, **_):
        screen.end_line()
        if cell.cell_type == "code":
            print(
                f"[{cell_index + 1:2}/{total}] {time.monotonic() - started:5.0f}s  {cell['id']}",
                flush=True,
            )

    print(f"{path.name}: {total} cells")
    try:
        with tempfile.TemporaryDirectory() as sockets:  # no port open to other users
            kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            _Client(
                notebook,
                screen,
                timeout=None,
                record_timing=False,
                store_widget_state=False,
                on_cell_start=announce,
                resources={"metadata": {"path": str(ROOT)}},
                config=Config({"KernelManager": kernel}),
            ).execute()
        if in_place:
            write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    finally:
        screen.end_line()
        if not in_place:
            write_text(BUILD / path.name, nbformat.writes(notebook).rstrip("\n") + "\n")
            html, _ = HTMLExporter().from_notebook_node(notebook)
            write_text(BUILD / f"{path.stem}.html", html)
    print(f"{path.name}: done in {time.monotonic() - started:.0f}s")
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    drawn = "synthetic stand-in" in str(outputs).lower()
    return "synthetic pictures" if drawn else "CIFAR-10"


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
        except (CellExecutionError, DeadKernelError, OSError, ValueError) as error:
            sys.exit(f"{path.name} stopped:\n{error}")
    if not arguments.in_place:
        print("\nOpen these in a browser:")
        for path, pictures in shown.items():
            print(f"  build/{path.stem}.html   {pictures} (notebook: build/{path.name})")


if __name__ == "__main__":
    main()
