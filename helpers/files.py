"""Text and JSON, read and written as a whole or not at all."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent  # of the course
RECORDED = ROOT / "saved_models"


@contextmanager
def replacing(path: Path):
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    A crash, a full disk or an interrupt leaves the old file as it was; an error, nothing else.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}_{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def abandoned(folder: Path) -> list[Path]:
    """What processes that are gone were writing in a folder, inside `replacing`, when they died."""

    def is_alive(process: int) -> bool:
        if process == os.getpid():  # this one writes nothing now: an earlier machine had the number
            return False
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            pass
        return True

    found = ((path, re.match(r"\.(\d+)_", path.name)) for path in Path(folder).glob(".[0-9]*_*"))
    return [path for path, match in found if match and not is_alive(int(match[1]))]


@contextmanager
def writing(path):
    """Say what could not be written, and a way out, where the disk refuses."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written ({error.strerror or error}). What was there before is "
            "unchanged: make room, or choose another place."
        ) from error


def read_text(path) -> str:
    """UTF-8, with or without a byte order mark; line ends become LF.

    Raises FileNotFoundError, UnicodeDecodeError, and ValueError for an empty file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    text = Path(path).read_text(encoding="utf-8-sig")
    if not text.strip():
        raise ValueError("the file is empty")
    return text


def write_text(path, text: str) -> None:
    """Write UTF-8 with LF, all or nothing; missing folders are made. Raises OSError."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def parse(text) -> dict:
    """The JSON object that a text holds."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def member(entry, name, kind, default=None):
    """entry[name] of a JSON object; ValueError if it is missing or of another kind."""
    value = entry.get(name, default) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"{name!r} is missing or of the wrong kind")
    return value


def to_json(value) -> str:
    """JSON as JavaScript writes it for VIA: compact, and 12.0 as 12.

    Raises ValueError for NaN and infinity.
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value
