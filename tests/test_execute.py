import sys

import nbformat
import pytest

from tools import execute


@pytest.mark.parametrize("banner, shown", [("SYNTHETIC", "synthetic pictures"), ("", "CIFAR-10")])
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
