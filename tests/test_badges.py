import json
import re
import shutil
import subprocess
import sys

import pytest

from helpers.files import ROOT
from tools import badges

LINK = re.compile(r"colab-badge\.svg\)\]\(([^)]*)\)")


@pytest.fixture
def repository(tmp_path):
    """A repository with our pages and helpers; `make badges` in it, for an origin."""
    for page in badges.PAGES:
        shutil.copyfile(ROOT / page, tmp_path / page)
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q", "-b", "trunk"], check=True)

    def make(origin=None):
        subprocess.run([*git, "remote", "remove", "origin"], capture_output=True)
        if origin:
            subprocess.run([*git, "remote", "add", "origin", origin], check=True)
        command = [sys.executable, "-m", "tools.badges"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    make.folder = tmp_path
    return make


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
    assert repository(origin).returncode == 0
    place = badges.PICKER + "some-one/course.x/blob/trunk/"
    both = [place + "Assignment4A.ipynb", place + "Assignment4B.ipynb"]
    assert list(links(repository.folder).values()) == [both, both[:1], both[1:]]
    for page in badges.PAGES[1:]:  # the rest of the file is as it was
        ours, before = (json.loads((f / page).read_text()) for f in (repository.folder, ROOT))
        ours["cells"][0] = before["cells"][0]
        assert ours == before


def test_without_an_origin_they_open_the_picker(repository):
    repository("git@github.com:someone/course.git")
    assert repository().returncode == 0
    assert {link for found in links(repository.folder).values() for link in found} == {
        badges.PICKER
    }


@pytest.mark.parametrize(
    "origin", ["https://user:secret@gitlab.com/a/b.git", "../course", "git@github.com:course"]
)
def test_other_origins_are_refused_and_nothing_changes(repository, origin):
    before = links(repository.folder)
    result = repository(origin)
    assert result.returncode and "git remote set-url origin https://github.com/" in result.stderr
    assert "secret" not in result.stderr and "Traceback" not in result.stderr
    assert links(repository.folder) == before


def test_every_committed_button_opens_its_own_file():
    for page in badges.PAGES:
        lines = [line for line in (ROOT / page).read_text().splitlines() if LINK.search(line)]
        assert len(lines) == (2 if page == "README.md" else 1)
        for line in lines:
            target = LINK.search(line)[1]
            notebook = (
                page if page != "README.md" else re.search(r"Assignment4[AB]", line)[0] + ".ipynb"
            )
            assert target == badges.PICKER or re.fullmatch(
                rf"{badges.PICKER}[\w.-]+/[\w.-]+/blob/.+/{notebook}", target
            )
