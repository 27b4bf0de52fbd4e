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
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    commit_all(tmp_path, "trunk")
    return tmp_path


def links(folder):
    return {page: LINK.findall((folder / page).read_text()) for page in badges.PAGES}


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/some-one/course.x.git",
        "https://github.com/some-one/course.x/",
        "https://user:secret@github.com/some-one/course.x",
        "git@github.com:some-one/course.x.git",
        "ssh://git@github.com/some-one/course.x.git",
        "ssh://git@ssh.github.com:443/some-one/course.x.git",
    ],
)
def test_buttons_open_the_notebook_beside_them_at_the_origin(repository, origin):
    assert run_badges(repository, origin).returncode == 0
    folder = badges.PICKER + "some-one/course.x/blob/trunk/"
    found = links(repository)
    for page in NOTEBOOKS:
        assert found.pop(page) == [folder + page]
        assert folder + page in found["README.md"]
        ours, before = (json.loads((f / page).read_text()) for f in (repository, ROOT))
        ours["cells"][0] = before["cells"][0]  # the rest of the file is as it was
        assert ours == before
    assert list(found) == ["README.md"]


def test_without_an_origin_they_open_the_picker(repository):
    run_badges(repository, "git@github.com:someone/course.git")
    assert run_badges(repository).returncode == 0
    assert {link for found in links(repository).values() for link in found} == {badges.PICKER}


@pytest.mark.parametrize(
    "origin", ["https://user:secret@gitlab.com/a/b.git", "../course", "git@github.com:course"]
)
def test_other_origins_are_refused_and_nothing_changes(repository, origin):
    before = links(repository)
    done = run_badges(repository, origin)
    assert done.returncode and "git remote set-url origin https://github.com/" in done.stderr
    assert "secret" not in done.stderr and "Traceback" not in done.stderr
    assert links(repository) == before


def test_on_no_branch_they_lead_to_the_main_one_or_stay_as_they_are(repository):
    before, origin = links(repository), "https://github.com/someone/course"
    git(repository, "switch", "-q", "--detach")
    done = run_badges(repository, origin)
    assert done.returncode and "No branch is checked out: name one with git switch" in done.stderr
    assert links(repository) == before
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(repository, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    # Another origin would take its branches with it: only its address is changed.
    git(repository, "remote", "set-url", "origin", origin)
    subprocess.run([sys.executable, "-m", "tools.badges"], cwd=repository, check=True)
    for page in NOTEBOOKS:
        assert links(repository)[page] == [f"{badges.PICKER}someone/course/blob/main/{page}"]


def test_every_committed_button_opens_its_own_file():
    for page in badges.PAGES:
        lines = [line for line in (ROOT / page).read_text().splitlines() if LINK.search(line)]
        assert lines and (page == "README.md" or len(lines) == 1)
        for line in lines:
            target = LINK.search(line)[1]
            notebook = re.search(r"Assignment4\w", page + line)[0] + ".ipynb"
            assert target == badges.PICKER or re.fullmatch(
                rf"{badges.PICKER}[\w.-]+/[\w.-]+/blob/.+/{notebook}", target
            )
