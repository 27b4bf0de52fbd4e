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
import time
from urllib.parse import quote

import nbformat
import pytest

from helpers.files import ROOT

NOTEBOOK = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4)
SETUP = next(cell.source for cell in NOTEBOOK.cells if cell["id"] == "setup")
COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
PROVE = "\nfrom helpers import runtime; print('found', runtime.WHICH)\n"
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
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return result.stdout, result.stderr.strip().splitlines()[-1:]


def git(home, *arguments):
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "-C", str(home), *as_someone, *arguments], check=True)


def commit_all(home, branch="main"):
    """All files of a folder become a commit on a branch of its repository."""
    git(home, "init", "-q")
    git(home, "checkout", "-q", "-B", branch)
    git(home, "add", ".")
    git(home, "commit", "-q", "-m", branch)


def as_github(homes):
    """Environment in which git takes local repositories, {OWNER/NAME: folder}, for GitHub's."""
    settings = {"GIT_CONFIG_COUNT": str(len(homes))}
    for number, (name, home) in enumerate(homes.items()):
        settings[f"GIT_CONFIG_KEY_{number}"] = f"url.file://{home}.insteadOf"
        settings[f"GIT_CONFIG_VALUE_{number}"] = f"https://github.com/{name}"
    return settings


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """Two repositories, someone/course with a second branch and its fork another/fork."""
    folder = tmp_path_factory.mktemp("github")
    homes = {name: folder / name for name in ("someone/course", "another/fork")}
    for name, home in homes.items():
        (home / "helpers").mkdir(parents=True)
        for branch in ("main", "new/idea"):
            (home / "helpers/runtime.py").write_text(f"WHICH = '{name} {branch}'")
            commit_all(home, branch)
        git(home, "checkout", "-q", "main")
        git(home, "config", "uploadpack.allowAnySHA1InWant", "true")
    return as_github(homes)


def opened_from(place):
    """Colab's list of sessions; the second one is this kernel's."""
    file = quote(f"https://github.com/{place}/Assignment4B.ipynb", safe="") if place else "1x_Drive"
    return [
        {"kernel": {"id": "9999"}, "path": "fileId=other"},
        {"kernel": {"id": "1234"}, "path": f"fileId={file}"},
    ]


@contextlib.contextmanager
def session_server(answer, delay=0.0, status=200):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(delay)
            self.send_response(status)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(
                    answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": str(server.server_port)}
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
    home = github["GIT_CONFIG_KEY_0"].removeprefix("url.file://").removesuffix(".insteadOf")
    command = ["git", "-C", home, "rev-parse", "new/idea"]
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


@pytest.mark.parametrize("fault", [{"delay": 30}, {"status": 500}], ids=["slow", "broken"])
def test_session_server_slow_or_broken(tmp_path, fault):
    started = time.monotonic()
    with session_server(opened_from("someone/course/blob/main"), **fault) as colab:
        _, error = run(tmp_path, SETUP, **colab)
    assert error == [NO_HELPERS]
    assert time.monotonic() - started < 20


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
