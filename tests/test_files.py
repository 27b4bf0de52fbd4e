import os
import subprocess
import sys

import pytest

from helpers import files


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_half_written_files_are_abandoned_when_their_process_is_gone(tmp_path):
    wait_for_input = [sys.executable, "-c", "input()"]
    with subprocess.Popen(wait_for_input, stdin=subprocess.PIPE) as living:
        try:
            dead = subprocess.Popen([sys.executable, "-c", ""])
            dead.wait()
            gone = {f".{process}_state_001.npz" for process in (dead.pid, os.getpid())}
            kept = {f".{living.pid}_state_001.npz", f".{10**30}_run.json", ".1a_log", "7_log"}
            for name in gone | kept:
                (tmp_path / name).touch()
            assert {path.name for path in files.abandoned(tmp_path)} == gone
        finally:
            living.communicate(b"\n")
