"""The exercises in handed-in notebooks: what their outputs say, or what they say when run again.

`judge` runs other people's code with the rights of whoever calls it: in a process of its own, in a
copy of the folder that was handed in, with limits, but in no sandbox.
"""

import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple

import nbformat

from helpers.files import member, parse_json, read_text
from tools.handout import NOTEBOOKS

SECONDS, MEMORY, FILE = 10, 2 << 30, 10 << 20  # of one answer, bytes; FILE is what it may write
TITLE = re.compile(r"^### Exercise (\d+: .*\S)", re.MULTILINE)
CALLED = re.compile(r"exercises\.(\w+)\.check\(")
VERDICT = re.compile(r"^(Right\.|Not yet: .*|Not answered yet.*)$", re.MULTILINE)


class Exercise(NamedTuple):
    book: str  # "4A"
    title: str  # "1: how small may a box be?"


def exercises() -> dict[str, Exercise]:
    """The course's exercises by name, in order."""
    found, title = {}, ""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            title = (TITLE.findall(cell.source) or [title])[-1]  # stands above its answer
            if cell.id.endswith("-answer"):
                (name,) = CALLED.findall(cell.source)
                found[name] = Exercise(path.stem[-2:], title)
    return found


def read(path, known) -> dict[str, tuple[str, str]]:
    """{exercise: (its answer cell, what its output says, "" if nothing)} of a notebook.

    An answer cell is known by the check that it calls, or else by the heading above it: Colab
    changes ids. Raises ValueError for a file that is no notebook.
    """
    titles, title, answers = {e.title: name for name, e in known.items()}, "", {}
    try:
        cells = member(parse_json(read_text(path)), "cells", list)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no notebook ({error})") from error
    for cell in cells:
        source = "".join(member(cell, "source", str | list, ""))
        if member(cell, "cell_type", str) != "code":
            title = (TITLE.findall(source) or [title])[-1]
            continue
        outputs = member(cell, "outputs", list, [])
        said = "\n".join("".join(member(o, "text", str | list, "")) for o in outputs)
        stops = [f"Not yet: it stops with {o['ename']}" for o in outputs if "ename" in o]
        answer = source, ([*VERDICT.findall(said), *stops] or [""])[-1]
        if called := [name for name in CALLED.findall(source) if name in known]:
            answers[called[0]] = answer
        elif title in titles:
            answers.setdefault(titles[title], answer)
    return answers


def rerun(handed_in, notes) -> tuple[dict[tuple[str, str], str], str]:
    """What the course's checks say of answers that run anew, each in the course's own notebook.

    `handed_in` is {person: (folder, {exercise: source})}. Returns {(person, exercise): words}, and
    the pictures that the notebooks had; a notebook that stopped becomes a note.
    """
    from tools import execute  # loads Keras, which reading does not need

    said, shown = {}, set()
    with tempfile.TemporaryDirectory() as temporary:
        tasks = Path(temporary, "tasks.json")
        tasks.write_text(json.dumps({p: (str(f.resolve()), a) for p, (f, a) in handed_in.items()}))
        for path in NOTEBOOKS:
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.id.endswith("-answer"):
                    call = f"globals(), {cell.source.splitlines()[-1]!r}, {str(tasks)!r}, {SECONDS}"
                    cell.source = f"from tools import answers\nanswers.judge({call})"
            nbformat.write(notebook, copy := Path(temporary, path.name))
            try:
                shown.add(execute.execute(copy, copy))
            except Exception as error:  # an answer may have killed the kernel
                what = f"{path.name} stopped ({type(error).__name__})"
                notes.append(f"{what}: its other exercises are marked as handed in")
        for words in Path(temporary).glob("*.words"):
            for person, text in map(json.loads, words.read_text().splitlines()):
                said[person, words.stem] = text
    return said, " and ".join(sorted(shown)) or "unknown pictures"


def judge(scope, check, tasks, seconds) -> None:
    """In a kernel: run every answer to one exercise in a fork of this process, and note the words.

    `scope` holds the notebook's variables at this place, `check` is the course's own check.
    """
    (name,) = CALLED.findall(check)
    path = Path(tasks).with_name(f"{name}.words")
    for person, (folder, sources) in json.loads(Path(tasks).read_text()).items():
        if name in sources:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
                copy = shutil.copytree(folder, Path(temporary, "copy"), symlinks=True)
                words = _forked(scope, sources[name], check, copy, seconds)
            with path.open("a") as file:  # at once: the next answer may kill this process
                print(json.dumps([person, words]), file=file)


def _forked(scope, source, check, folder, seconds):
    """What the check says of an answer; the child of this process that finds out is killed."""
    read_end, write_end = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(
                write_end, _answered(scope, source, check, folder)[:1000].encode(errors="replace")
            )
        finally:
            os._exit(0)
    os.close(write_end)
    ready, _, _ = select.select([read_end], [], [], seconds)
    words = os.read(read_end, 4000).decode(errors="replace") if ready else ""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it has started
    os.waitpid(child, 0)
    os.close(read_end)
    late = f"Not yet: it was stopped after {seconds} seconds"
    return words or ("Not yet: it ended its process" if ready else late)


def _answered(scope, source, check, folder):
    os.setsid()  # a group of its own, to be killed with all it starts
    os.chdir(folder)
    os.environ.clear()  # it may hold keys
    os.environ["HOME"] = str(folder)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for the rest of its life
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    if (statm := Path("/proc/self/statm")).exists():  # Linux; TensorFlow alone has mapped gigabytes
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    try:
        exec(source, scope)
        with redirect_stdout(io.StringIO()) as said:
            exec(check, scope)
        return VERDICT.findall(said.getvalue())[-1]
    except BaseException as error:  # also SystemExit
        return f"Not yet: it stops with {type(error).__name__}: {error}"
