"""Execute notebooks with visible progress: python -m tools.execute [--in-place] NOTEBOOK ...

Without --in-place, the executed copies go to build/, and the pages made of them to build/site/.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets.config import Config

from helpers.files import ROOT, write_text
from tools import site

BUILD = ROOT / "build"


class _Client(NotebookClient):
    """Shows what a cell prints as it comes; a training may take hours."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, target: Path) -> str:
    """Execute one notebook from the repository's root, top to bottom, and write it to `target`.

    Returns:
        What it showed: "CIFAR-10", or "synthetic pictures" where its banner or source says so.

    Raises:
        CellExecutionError: a cell failed. The error is written to a target that is not `path`.
        DeadKernelError: the kernel died, of too little memory for example.
    """
    notebook = nbformat.read(path, as_version=4)
    total, started = len(notebook.cells), time.monotonic()

    def announce(cell, cell_index, **_):
        if cell.cell_type == "code":
            seconds = time.monotonic() - started
            print(f"[{cell_index + 1:2}/{total}] {seconds:5.0f}s  {cell['id']}", flush=True)

    print(f"{path.name}: {total} cells")
    done = False
    try:
        with tempfile.TemporaryDirectory() as sockets:  # no port open to other users
            kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            _Client(
                notebook,
                timeout=None,
                record_timing=False,
                store_widget_state=False,
                coalesce_streams=True,  # of a progress bar, only its end is stored
                on_cell_start=announce,
                resources={"metadata": {"path": str(ROOT)}},
                config=Config({"KernelManager": kernel}),
            ).execute()
        done = True
    finally:
        if done or target != path:
            write_text(target, nbformat.writes(notebook).rstrip("\n") + "\n")
    print(f"{path.name}: done in {time.monotonic() - started:.0f}s")
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    drawn = "synthetic stand-in" in str(outputs).lower()
    return "synthetic pictures" if drawn else "CIFAR-10"


def main() -> None:
    """Raises SystemExit, with the message, for a notebook that is missing, damaged or fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--in-place", action="store_true", help="store the outputs where they are")
    parser.add_argument("notebooks", nargs="+", type=Path)
    arguments = parser.parse_args()
    shown = {}
    for path in arguments.notebooks:
        target = path if arguments.in_place else BUILD / path.name
        try:
            shown[target] = execute(path, target)
        except (CellExecutionError, DeadKernelError, OSError, ValueError) as error:
            sys.exit(f"{path.name} stopped:\n{error}")
    if not arguments.in_place:
        try:
            site.build(executed=shown)
        except ValueError as error:
            sys.exit(str(error))
        print("\nOpen build/site/index.html in a browser. The executed notebooks are in build/:")
        for path, pictures in shown.items():
            print(f"  {path.name}   {pictures}")


if __name__ == "__main__":
    main()
