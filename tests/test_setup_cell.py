"""The setup cell of a notebook that stands alone: a subprocess in an empty folder runs it."""

import http.server
import json
import os
import subprocess
import sys
import threading
from urllib.parse import quote

import nbformat
import pytest

from helpers.runtime import ROOT

NOTEBOOK = nbformat.read(ROOT / "Assignment4B.ipynb", as_version=4)
SETUP = next(cell.source for cell in NOTEBOOK.cells if cell["id"] == "setup")
COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
PROVE = "\nfrom helpers import runtime; print('found', runtime.__file__)"


def run_setup(folder, before="", setup=SETUP, **environment):
    return subprocess.run(
        [sys.executable, "-c", before + setup + PROVE, "-f", "kernel-1234.json"],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """A repository with the branch new/idea that git takes for https://github.com/someone/course."""
    folder = tmp_path_factory.mktemp("github")
    (folder / "helpers").mkdir()
    (folder / "helpers/runtime.py").write_text("")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (["init", "-q", "-b", "new/idea"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/someone/course",
    }


@pytest.fixture
def session_server():
    """Colab's list of sessions; the second one is this kernel's."""
    address = quote("https://github.com/someone/course/blob/new/idea/Assignment4B.ipynb", safe="")
    sessions = [
        {"kernel": {"id": "9999"}, "path": "fileId=other"},
        {"kernel": {"id": "1234"}, "path": f"fileId={address}"},
    ]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(sessions).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": str(server.server_port)}
    server.shutdown()


def test_alone_elsewhere_it_says_what_to_do(tmp_path):
    result = run_setup(tmp_path)
    assert result.returncode != 0
    assert "There is no helpers/ folder here. Clone the whole repository" in result.stderr


def test_alone_in_colab_it_fetches_the_branch_it_came_from(tmp_path, github, session_server):
    for _ in range(2):  # running it again is harmless
        result = run_setup(tmp_path, COLAB, **github, **session_server)
        assert "found " in result.stdout and "course/helpers/runtime.py" in result.stdout, (
            result.stderr
        )


def test_copy_on_drive_asks_for_the_address_and_takes_it(tmp_path, github):
    result = run_setup(tmp_path, COLAB, COLAB_JUPYTER_IP="127.0.0.1", KMP_TARGET_PORT="1")
    assert "put the repository's address into REPOSITORY" in result.stderr
    field = 'REPOSITORY = ""'
    assert field in SETUP
    filled = SETUP.replace(field, 'REPOSITORY = "https://github.com/someone/course"')
    result = run_setup(tmp_path, COLAB, filled, **github)
    assert "found " in result.stdout, result.stderr
