"""A notebook that stands alone: its setup cell in an empty folder, in a stand-in for Colab.

The list of Colab's sessions is served on loopback, and git takes local repositories for GitHub's
(url.<base>.insteadOf).
"""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from urllib.parse import quote

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


def fill(**fields):
    """The setup cell with its form filled in."""
    cell = SETUP
    for name, value in fields.items():
        assert f'{name} = ""' in cell
        cell = cell.replace(f'{name} = ""', f'{name} = "{value}"')
    return cell


def run(folder, *cells, before=COLAB, **environment):
    """Run cells one after the other in one kernel; what it printed, and its last line of stderr."""
    result = subprocess.run(
        [sys.executable, "-c", before + "\n".join(cells), "-f", "kernel-1234.json"], cwd=folder,
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    return result.stdout, result.stderr.strip().splitlines()[-1:]


def git(folder, *arguments):
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "-C", str(folder), *as_someone, *arguments], check=True)


def commit_all(folder, branch="main"):
    """All files of a folder become a commit on a branch of its repository."""
    git(folder, "init", "-q")
    git(folder, "checkout", "-q", "-B", branch)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", branch)


def as_github(repositories):
    """Environment in which git takes local repositories, {OWNER/NAME: folder}, for GitHub's."""
    settings = {"GIT_CONFIG_COUNT": str(len(repositories))}
    for number, (name, folder) in enumerate(repositories.items()):
        settings[f"GIT_CONFIG_KEY_{number}"] = f"url.file://{folder}.insteadOf"
        settings[f"GIT_CONFIG_VALUE_{number}"] = f"https://github.com/{name}"
    return settings


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """Two repositories, someone/course with a second branch and its fork another/fork."""
    parent = tmp_path_factory.mktemp("github")
    repositories = {name: parent / name for name in ("someone/course", "another/fork")}
    for name, folder in repositories.items():
        (folder / "helpers").mkdir(parents=True)
        for branch in ("main", "new/idea"):
            (folder / "helpers/settings.py").write_text(f"WHICH = '{name} {branch}'")
            commit_all(folder, branch)
        git(folder, "checkout", "-q", "main")
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return as_github(repositories)


def opened_from(branch):
    """Colab's list of sessions; the second one is this kernel's, of OWNER/NAME/blob/BRANCH."""
    address = f"https://github.com/{branch}/Assignment4B.ipynb"
    file = quote(address, safe="") if branch else "1x_Drive"
    return [
        {"kernel": {"id": "9999"}, "path": "fileId=other"},
        {"kernel": {"id": "1234"}, "path": f"fileId={file}"},
    ]


@contextlib.contextmanager
def session_server(answer, may_answer=None, status=200):
    """Serve Colab's list of sessions, once the event `may_answer` is set; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if may_answer:
                may_answer.wait()
            with contextlib.suppress(ConnectionError):  # nobody may be waiting any more
                self.send_response(status)
                self.end_headers()
                self.wfile.write(
                    answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": str(server.server_port)}
        finally:
            if may_answer:
                may_answer.set()
            server.shutdown()


@pytest.mark.parametrize(
    "opened, found",
    [
        ("someone/course/blob/main", "someone/course main"),
        ("someone/course/blob/new/idea", "someone/course new/idea"),
        ("another/fork/blob/main", "another/fork main"),
    ],
)
def test_opened_from_github(tmp_path, github, opened, found):
    with session_server(opened_from(opened)) as colab:
        out, error = run(tmp_path, SETUP, PROVE, SETUP, PROVE, **github, **colab)
    assert out.count(f"found {found}") == 2, error  # running it again is harmless
    assert out.startswith("https://github.com/" + opened.split("/blob/")[0])


def test_opened_from_a_commit(tmp_path, github):
    folder = github["GIT_CONFIG_KEY_0"].removeprefix("url.file://").removesuffix(".insteadOf")
    command = ["git", "-C", folder, "rev-parse", "new/idea"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with session_server(opened_from(f"someone/course/blob/{commit}")) as colab:
        out, error = run(tmp_path, SETUP, PROVE, **github, **colab)
    assert "found someone/course new/idea" in out and commit[:7] in out, error


@pytest.mark.parametrize("branch, found", [("", "main"), ("new/idea", "new/idea")])
def test_copy_on_drive_with_the_form_filled(tmp_path, github, branch, found):
    cell = fill(REPOSITORY="https://github.com/someone/course", BRANCH=branch)
    with session_server(opened_from("")) as colab:
        out, error = run(tmp_path, cell, PROVE, cell, PROVE, **github, **colab)
    assert out.count(f"found someone/course {found}") == 2, error


def test_branch_field_goes_before_the_session(tmp_path, github):
    with session_server(opened_from("another/fork/blob/main")) as colab:
        out, error = run(tmp_path, fill(BRANCH="new/idea"), PROVE, **github, **colab)
    assert "found another/fork new/idea" in out, error


def test_form_corrected_after_a_wrong_address(tmp_path, github):
    wrong = fill(REPOSITORY="https://github.com/someone/course", BRANCH="nosuch")
    out, error = run(tmp_path, wrong, before=COLAB, **github)
    assert "someone/course nosuch fatal: " in out and "nosuch" in out
    assert error == [NO_HELPERS]
    right = fill(REPOSITORY="https://github.com/another/fork")
    out, error = run(tmp_path, right, PROVE, **github)
    assert "found another/fork main" in out, error


NONSENSE = {
    "Drive copy": opened_from(""),
    "no session": [],
    "other kernels only": opened_from("someone/course/blob/main")[:1],
    "not a list": {"sessions": 3},
    "numbers": [1, 2],
    "no kernel": [{"path": "fileId=x"}],
    "HTML": b"<html>Sign in</html>",
    "bytes": bytes(range(256)),
    "nothing": b"",
    "GitLab": [{"kernel": {"id": "1234"}, "path": "fileId=https%3A%2F%2Fgitlab.com%2Fa%2Fb"}],
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_session_server_without_a_hint(tmp_path, answer):
    with session_server(answer) as colab:
        _, error = run(tmp_path, SETUP, **colab)
    assert error == [NO_HELPERS]
    assert not list(tmp_path.iterdir())


def test_session_server_that_does_not_answer(tmp_path):
    never = threading.Event()
    with session_server(opened_from("someone/course/blob/main"), may_answer=never) as colab:
        _, error = run(tmp_path, SETUP, **colab)  # it gave up waiting
    assert error == [NO_HELPERS]


def test_session_server_broken(tmp_path):
    with session_server(opened_from("someone/course/blob/main"), status=500) as colab:
        _, error = run(tmp_path, SETUP, **colab)
    assert error == [NO_HELPERS]


@pytest.mark.parametrize("hint", [{}, {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": "1"}])
def test_session_server_absent(tmp_path, hint):
    _, error = run(tmp_path, SETUP, **hint)
    assert error == [NO_HELPERS]


def test_alone_elsewhere_it_says_what_to_do(tmp_path):
    for cells in (
        (SETUP,),
        (f"try:\n    exec({SETUP!r})\nexcept FileNotFoundError:\n    pass", SETUP),
    ):
        _, error = run(tmp_path, *cells, before="")
        assert error == [NO_HELPERS]


def test_inside_the_repository_nothing_is_fetched():
    cell = fill(REPOSITORY="https://github.com/someone/course")
    out, error = run(ROOT, cell, "from helpers import files; print(files.ROOT)")
    assert out == f"{ROOT}\n", error
