import sys

import nbformat
import pytest

from tools import execute


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Executes a notebook of one code cell as `make notebooks` does; the pages it would build."""
    pages = []
    monkeypatch.setattr(execute, "BUILD", tmp_path / "build")
    monkeypatch.setattr(execute.site, "build", lambda executed: pages.extend(executed))

    def run(code, *options):
        cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
        monkeypatch.setattr(sys, "argv", ["execute", *options, str(tmp_path / "page.ipynb")])
        execute.main()
        return pages

    return run


def printed(path):
    cell = nbformat.read(path, as_version=4).cells[1]
    return "".join(output.text for output in cell.outputs)


@pytest.mark.parametrize(
    "banner, shown",  # the first as Assignment4C says it
    [("pictures: synthetic stand-in", "synthetic pictures"), ("CIFAR-10 itself", "CIFAR-10")],
)
def test_it_says_at_the_end_what_was_shown_and_where(run, tmp_path, capsys, banner, shown):
    assert run(f"print('{banner}')") == [tmp_path / "build/page.ipynb"]
    out = capsys.readouterr().out
    assert out.count(banner) == 1 and out.splitlines()[-1] == f"  page.ipynb   {shown}"
    assert printed(tmp_path / "build/page.ipynb") == f"{banner}\n"


def test_in_place_there_is_no_other_file_and_a_progress_bar_is_as_it_ended(run, tmp_path):
    code = r"""
for i in range(300):  # as Keras does
    print(f"\b\b\r{i}/299", end="\n" if i == 299 else "", flush=True)
print("end", list(__import__("pathlib").Path().glob("kernel-ipc*")))  # sockets others may meet
"""
    assert run(code, "--in-place") == []
    assert printed(tmp_path / "page.ipynb") == "299/299\nend []\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "page.ipynb"]


@pytest.mark.parametrize(
    "code, told", [("os.kill(os.getpid(), 9)", "Kernel died"), ("1 / 0", r"[\s\S]*ZeroDivision")]
)
def test_a_cell_that_fails_leaves_a_notebook_in_place_as_it_was(run, tmp_path, code, told):
    with pytest.raises(SystemExit, match=f"page.ipynb stopped:\n{told}"):
        run(f"import os; {code}")
    assert (tmp_path / "build/page.ipynb").is_file()  # to see what was done until then
    with pytest.raises(SystemExit):
        run(f"import os; {code}", "--in-place")
    cell = nbformat.read(tmp_path / "page.ipynb", as_version=4).cells[1]
    assert cell.execution_count is None and not cell.outputs
