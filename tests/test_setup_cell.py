"""A notebook that stands alone: its setup cell in an empty folder, and in a stand-in for Colab."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from helpers.files import ROOT

NOTEBOOK = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4)
SETUP = next(cell.source for cell in NOTEBOOK.cells if cell["id"] == "setup")
COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
PROVE = "\nfrom helpers import settings; print('found', settings.WHICH)\n"
NO_HELPERS = (
    "FileNotFoundError: There is no helpers/ folder here. Clone the whole repository and open this "
    "notebook in it; in Colab, put the repository's address, https://github.com/OWNER/NAME, into "
    "REPOSITORY above and run this cell again."
)


def fill(repository="https://github.com/someone/course", branch=""):
    """The setup cell with its form filled in."""
    lines = SETUP.splitlines()
    assert lines[1].startswith("REPOSITORY = ") and lines[2].startswith("BRANCH = ")
    lines[1:3] = [f"REPOSITORY = {repository!r}", f"BRANCH = {branch!r}"]
    return "\n".join(lines)


def run(folder, *cells, before=COLAB, **environment):
    """Run cells one after the other in one process; what it printed, and its last error line."""
    command = [sys.executable, "-c", before + "\n".join(cells)]
    environment = {**os.environ, **environment}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.stdout, result.stderr.strip().splitlines()[-1:]


def git(folder, *arguments):
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    command = ["git", "-C", str(folder), *as_someone, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder, branch="main"):
    """All files of a folder become a commit on a branch of its repository."""
    git(folder, "init", "-q")
    git(folder, "checkout", "-q", "-B", branch)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", branch)


def as_github(name, folder):
    """Environment in which git takes a local repository for GitHub's OWNER/NAME."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{name}",
    }


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("github") / "course"
    (folder / "helpers").mkdir(parents=True)
    for branch in ("main", "new/idea"):
        (folder / "helpers/settings.py").write_text(f"WHICH = '{branch}'")
        commit_all(folder, branch)
    git(folder, "checkout", "-q", "main")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


@pytest.fixture
def github(course):
    return as_github("someone/course", course)


@pytest.mark.parametrize("branch", ["", " new/idea ", "commit"])
def test_alone_in_colab_it_fetches_the_repository(tmp_path, course, github, branch):
    commit = git(course, "rev-parse", "new/idea" if branch else "main")
    cell = fill(branch=commit if branch == "commit" else branch)
    out, error = run(tmp_path, cell, PROVE, cell, PROVE, **github)
    assert out.count(f"found {'new/idea' if branch else 'main'}") == 2, error  # again: harmless
    assert re.match(rf"https://github.com/someone/course \S+ {commit[:7]}", out)


def test_a_form_corrected_after_a_wrong_branch(tmp_path, github):
    for branch in ("nosuch", "", "nosuch"):  # the last time, not those of before in silence
        out, error = run(tmp_path, fill(branch=branch), PROVE, **github)
        assert ("found main" in out) != bool(branch) and error == [NO_HELPERS] * bool(branch)
        assert ("someone/course nosuch fatal: " in out) == bool(branch)


@pytest.mark.parametrize("field", ["branch", "repository"])
def test_what_begins_with_a_dash_is_no_option_of_git(tmp_path, github, field):
    _, error = run(tmp_path, fill(**{field: "--upload-pack=touch owned;"}), **github)
    assert error == [NO_HELPERS] and not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize("before, repository", [(COLAB, ""), ("", "https://github.com")])
def test_elsewhere_or_without_an_address_it_says_what_to_do(tmp_path, before, repository):
    assert run(tmp_path, fill(repository), before=before)[1] == [NO_HELPERS]
    assert not list(tmp_path.iterdir())


def test_inside_the_repository_nothing_is_fetched():
    out, error = run(ROOT, fill(), "from helpers import files; print(files.ROOT)")
    assert out == f"{ROOT}\n", error
