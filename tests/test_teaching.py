"""What a class gets: TEACHING.md follows the notebooks; decks and handout give no answer away."""

import re
import subprocess
import sys
import zipfile
from collections import Counter

import nbformat
import pytest

from helpers.files import ROOT
from tools import answers, handout, slides

TEACHING = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
BOOKS = {path.stem[-2:]: nbformat.read(path, as_version=4) for path in handout.NOTEBOOKS}


def questions(book):
    """The section of every "Predict" of a notebook; its overview only says what the word means."""
    section = ""
    for cell in book.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            section = (re.findall(r"^## (\d+) ", line) or [section])[0]
            if section and "**Predict" in line:
                yield section


@pytest.mark.parametrize("stem", BOOKS)
def test_teaching_answers_every_predict_with_numbers_of_the_notebook(stem):
    rows = re.findall(rf"^\| {stem}, section (\d+) \| (.+) \|$", TEACHING, re.MULTILINE)
    asked, answered = Counter(questions(BOOKS[stem])), Counter(section for section, _ in rows)
    lacking = [f"{stem}, section {section}" for section in asked - answered]
    assert asked and not lacking, f"TEACHING.md has no expected answer for {', '.join(lacking)}"
    assert not answered - asked, "TEACHING.md answers what is not asked"
    text = str([(c.source, [str(o) for o in c.get("outputs", ())]) for c in BOOKS[stem].cells])
    for number in re.findall(r"\d[\d.]*\d%?|\d%", " ".join(answer for _, answer in rows)):
        assert number in text, f"TEACHING.md says {number}; Assignment{stem}.ipynb does not"


def test_teaching_gives_every_exercise_a_goal():
    for exercise in answers.exercises().values():
        row = f"\n| {exercise.book}, {exercise.title} | "
        assert row in TEACHING, f"TEACHING.md has no goal for {row.strip()}"


def test_the_handout_is_a_folder_of_its_own_without_answers(tmp_path):
    handout.write(tmp_path / "course.zip")
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        archive.extractall(tmp_path)
    for stem, book in BOOKS.items():
        given = nbformat.read(tmp_path / f"course/Assignment{stem}.ipynb", as_version=4)
        nbformat.validate(given)
        solutions = {c.id for c in book.cells if c.id.endswith("-solution")}
        assert (
            len(solutions) and {c.id for c in given.cells} == {c.id for c in book.cells} - solutions
        )
        assert "<summary>" not in str(given) and not any(c.get("outputs") for c in given.cells)
        for image in re.findall(r"!\[.*?\]\((images/.*?)\)", str(given)):
            assert (tmp_path / "course" / image).is_file()
    code = "\n".join(c.source for c in BOOKS["4A"].cells[:7] if c.cell_type == "code")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "course", capture_output=True
    )
    assert b"100 pictures" in done.stdout, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("path", slides.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_deck_asks_before_it_answers_and_shows_every_figure(path):
    deck, book = slides.deck(path).split("<script src")[0], BOOKS[path.stem[-2:]]
    assert "<summary>" not in deck and "Glossary</h2>" not in deck and "$" not in deck
    shown = [c for c in book.cells if c.cell_type == "code"]
    outputs = [kind for c in shown for o in c.outputs for kind in o.get("data", ())]
    assert deck.count("<img") >= sum(kind.startswith("image/") for kind in outputs)
    pages = deck.split("<section")[2::2]
    asking = [page for page in pages if "<strong>Predict" in page]
    assert len(asking) >= len(list(questions(book)))
    for page in asking:  # nothing follows the question
        assert not re.search("<strong>Predict.*(<img|jp-CodeCell|jp-OutputArea)", page, re.DOTALL)
