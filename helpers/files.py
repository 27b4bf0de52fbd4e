"""Text and JSON, read and written as a whole or not at all."""

import json
import os
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent  # of the course
RECORDED = ROOT / "saved_models"


@contextmanager
def replacing(path: Path):
    """Yield a temporary name; rename it to `path`, with its mode, only if the block succeeds."""
    path = Path(path).resolve()
    temporary = path.with_name(f".partial_{path.name}")  # for the suffix counts
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path):
    """Say what could not be written, and a way out, where the disk refuses."""
    try:
        yield
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror or error}). What was there before is"
        raise type(error)(f"{what} unchanged: make room, or choose another place.") from error


def read_text(path) -> str:
    """UTF-8, line ends as LF. Raises FileNotFoundError, and ValueError for other or empty files."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    text = Path(path).read_text(encoding="utf-8-sig")
    if not text.strip():
        raise ValueError("the file is empty")
    return text


def write_text(path, text: str) -> None:
    """Write UTF-8 with LF, all or nothing; missing folders are made. Raises OSError."""
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def parse_json(text) -> dict:
    """The JSON object in a text; ValueError for others, or a key twice, of which one is lost."""

    def unique(pairs):
        if len(members := dict(pairs)) < len(pairs):
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key {repeated[:99]!r} comes twice")
        return members

    value = json.loads(text, object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def member(entry, name, kind, default=None):
    """entry[name] of a JSON object, `default` if missing or null; ValueError for another kind."""
    value = entry.get(name) if isinstance(entry, dict) else None
    value = default if value is None else value
    if not isinstance(value, kind):
        raise ValueError(f"{name!r} is missing or of the wrong kind")
    return value


def to_json(value) -> str:
    """JSON as JavaScript writes it: compact, 12.0 as 12. Raises ValueError for NaN and infinity."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # half a surrogate pair is no UTF-8
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", text)


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
