import json
import re
import shutil
import subprocess
import sys

import pytest
from test_setup_cell import commit_all, git

from helpers.files import ROOT
from tools import badges

NOTEBOOKS = badges.PAGES[1:]
LINK = re.compile(r"colab-badge\.svg\)\]\(([^)]*)\)")


def run_badges(folder, origin=None):
    """`make badges` in a repository that has this origin."""
    subprocess.run(["git", "-C", folder, "remote", "remove", "origin"], capture_output=True)
    if origin:
        git(folder, "remote", "add", "origin", origin)
    command = [sys.executable, "-m", "tools.badges"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with our pages and code, on the branch trunk."""
    for page in badges.PAGES:
        shutil.copyfile(ROOT / page, tmp_path / page)
    for folder in ("helpers", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=lambda *_: ["__pycache__"])
    commit_all(tmp_path, "trunk")
    return tmp_path


def links(folder):
    return {page: LINK.findall((folder / page).read_text()) for page in badges.PAGES}


def form(notebook):
    """The address and the branch in a notebook's setup cell, and the rest of its cells."""
    cells = json.loads(notebook.read_text())["cells"]
    (setup,) = (cell for cell in cells if cell["id"] == "setup")
    values = [re.search('"(.*?)"', setup["source"].pop(1))[1] for _ in range(2)]
    return values, cells[1:]


@pytest.mark.parametrize(
    "origin", ["https://a:secret@github.com/a-b/c.x/", "ssh://git@ssh.github.com:443/a-b/c.x.git"]
)
def test_buttons_and_setup_cells_name_the_origin(repository, origin):
    before = {page: form(repository / page)[1] for page in NOTEBOOKS}
    assert run_badges(repository, origin).returncode == 0
    folder = badges.PICKER + "a-b/c.x/blob/trunk/"
    for page in NOTEBOOKS:
        assert links(repository)[page] == [folder + page]
        assert folder + page in links(repository)["README.md"]
        # The rest of the file is as it was.
        assert form(repository / page) == (["https://github.com/a-b/c.x", "trunk"], before[page])
    assert run_badges(repository).returncode == 0  # without an origin: the picker
    assert {link for found in links(repository).values() for link in found} == {badges.PICKER}
    assert form(repository / page)[0] == ["", ""]


@pytest.mark.parametrize("origin", ["https://a:secret@gitlab.com/b.git", "https://notgithub.com/a"])
def test_other_origins_are_refused_and_nothing_changes(repository, origin):
    done = run_badges(repository, origin)
    assert done.returncode and "git remote set-url origin https://github.com/" in done.stderr
    assert "secret" not in done.stderr and not git(repository, "status", "--short")


def test_on_no_branch_they_lead_to_the_main_one_or_stay_as_they_are(repository):
    git(repository, "switch", "-q", "--detach")
    done = run_badges(repository, "https://github.com/someone/course")
    assert done.returncode and "No branch is checked out: name one with git switch" in done.stderr
    assert not git(repository, "status", "--short")
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(repository, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    subprocess.run([sys.executable, "-m", "tools.badges"], cwd=repository, check=True)
    page = NOTEBOOKS[0]
    assert links(repository)[page] == [f"{badges.PICKER}someone/course/blob/main/{page}"]


def test_every_committed_button_opens_its_own_file():
    for page in badges.PAGES:
        lines = [line for line in (ROOT / page).read_text().splitlines() if LINK.search(line)]
        assert lines and (page == "README.md" or len(lines) == 1)
        for line in lines:
            notebook = re.search(r"Assignment4\w", page + line)[0] + ".ipynb"
            target = LINK.search(line)[1].removeprefix(badges.PICKER)
            assert re.fullmatch(rf"([\w.-]+/[\w.-]+/blob/.+/{notebook})?", target)
