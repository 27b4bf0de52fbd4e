"""Tests of helpers/files.py."""

import numpy as np
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


def test_a_link_stays_a_link_and_a_private_file_private(tmp_path):
    path, link = tmp_path / "mine.csv", tmp_path / "link.csv"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    files.write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "log.csv"
    with files.replacing(path) as temporary:
        temporary.write_text("whole")
    temporary.write_text("half")  # as after a kill
    files.write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "whole"


@pytest.mark.parametrize("value, text", [
    (12.0, "12"), (-0.0, "0"), (0.001, "0.001"), (True, "true"), (None, "null"),
    ("\u2028/é😀\x7f\x01", '"\u2028/é😀\x7f\\u0001"'),
    ("\ud83d \udc00", r'"\ud83d \udc00"'), ({"a": [1, {"b": "\\\""}]}, r'{"a":[1,{"b":"\\\""}]}'),
    (np.int64(3), "3"), (np.float32(12), "12")])  # fmt: skip
def test_values_are_written_as_javascript_does(value, text):
    """Expected texts are JSON.stringify's; VIA rounds its numbers to three decimals."""
    assert files.to_json(value) == text


def test_json_cannot_hold_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.to_json([float("nan")])
