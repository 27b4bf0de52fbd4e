import errno
import sys
from pathlib import Path

import nbformat
import pytest

from tools import execute


@pytest.mark.parametrize(
    "banner, shown",
    [
        ("SYNTHETIC STAND-IN", "synthetic pictures"),
        ("pictures: synthetic stand-in", "synthetic pictures"),  # as Assignment4C says it
        ("CIFAR-10", "CIFAR-10"),
    ],
)
def test_it_says_at_the_end_what_was_shown_and_where(tmp_path, monkeypatch, capsys, banner, shown):
    monkeypatch.setattr(execute, "BUILD", tmp_path / "build")
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell(f"print('{banner}')"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    monkeypatch.setattr(sys, "argv", ["execute", str(tmp_path / "page.ipynb")])
    execute.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"  build/page.html   {shown} (notebook: build/page.ipynb)"
    assert (tmp_path / "build/page.html").is_file()


def test_two_executions_do_not_meet_in_the_same_sockets(tmp_path):
    code = "import pathlib\nprint(list(pathlib.Path().glob('kernel-ipc*')))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "page.ipynb")
    execute.execute(tmp_path / "page.ipynb", in_place=True)
    cell = nbformat.read(tmp_path / "page.ipynb", as_version=4).cells[0]
    assert cell.outputs[0].text == "[]\n"


def test_a_kernel_that_dies_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BUILD", tmp_path / "build")
    cells = [nbformat.v4.new_code_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    monkeypatch.setattr(sys, "argv", ["execute", str(tmp_path / "page.ipynb")])
    with pytest.raises(SystemExit, match=r"page.ipynb stopped:\nKernel died"):
        execute.main()


PROGRESS = r"""
print("start")
for i in range(300):  # as Keras does
    print(f"\b\b\r{i}/299", end="\n" if i == 299 else "", flush=True)
print("end")
"""
IN_PIECES = r"""
import sys
for text in ("start\n", "\r298/299", "\r", "299/299", "\n", "end\n"):
    sys.stdout.write(text)
    sys.stdout.flush()  # one message each
"""


@pytest.mark.parametrize("code", [PROGRESS, IN_PIECES])
def test_a_progress_bar_is_stored_as_it_ended(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(execute, "BUILD", tmp_path)
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    execute.execute(tmp_path / "page.ipynb", in_place=True)
    outputs = nbformat.read(tmp_path / "page.ipynb", as_version=4).cells[0].outputs
    assert "".join(output.text for output in outputs) == "start\n299/299\nend\n"
    assert capsys.readouterr().out.count("/299") == 1


@pytest.mark.parametrize(
    "pieces",
    [
        ["\r1/2\r2/2\nend"],
        ["\r1/2", "\r2/2", "\n", "end"],  # the kernel also sends after a while, wherever it is
        ["\r1/2\r", "2/2\ne", "nd"],
    ],
)
def test_a_line_is_told_whole_in_whatever_pieces_it_comes(monkeypatch, capsys, pieces):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    screen = execute._Screen()
    for text in pieces:
        screen.show(text)
    screen.end_line()
    assert capsys.readouterr().out == "        2/2\n        end\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_progress_bar_moves_in_a_terminal_only(monkeypatch, capsys, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    screen = execute._Screen()
    for text in ("Downloading\n", "\r1/3", "\b\b\b\r2/3", "\b\b\b\r3/3\n"):
        screen.show(text)
    clear, margin = ("\r\x1b[K" if terminal else ""), " " * 8
    moving = f"{clear}{margin}1/3{clear}{margin}2/3" if terminal else ""
    expected = f"{clear}{margin}Downloading\n{moving}{clear}{margin}3/3\n"
    assert capsys.readouterr().out == expected


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "BUILD", tmp_path / "build")
    page = tmp_path / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[]), page)
    execute.execute(page, in_place=False)
    before = (tmp_path / "build/page.ipynb").read_bytes()

    def full(path, *_, **__):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(sys, "argv", ["execute", str(page)])
    with pytest.raises(SystemExit, match=r"(?s)page.ipynb stopped.*build/page.ipynb cannot be wri"):
        execute.main()
    assert (tmp_path / "build/page.ipynb").read_bytes() == before
    assert len(list((tmp_path / "build").iterdir())) == 2
