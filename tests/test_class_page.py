"""Thirty made-up hand-ins, good and bad, and what the class page makes of them."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from records import tree

from helpers.annotation import agreement, via
from helpers.files import ROOT
from tools import answers, class_page

KNOWN = answers.exercises()
COMPLETED = via.read_via(ROOT / "images/annotations/via_export_csv.csv")
BOOK = {stem: nbformat.read(ROOT / f"Assignment{stem}.ipynb", 4) for stem in ("4A", "4B", "4C")}
NOISY = [f"noise {tenths:02}" for tenths in range(1, 17)]  # standard deviation, tenths of a pixel
VERDICTS = ["Right.", "Not yet: 3 is <b>too</b> small. For a clue, call .hint().", None]


def solution(name):
    cells = (cell for book in BOOK.values() for cell in book.cells)
    source = next(c.source for c in cells if c.id == f"{name.replace('_', '-')}-solution")
    return re.search(r"```python\n(.*?)```", source, re.DOTALL)[1]


def notebook(path, stem, sources=None, said=(), ids=True):
    """A notebook of the course with other answers and outputs; Colab drops the cells' ids."""
    book = nbformat.from_dict(BOOK[stem])
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = []
        name = cell.id.removesuffix("-answer").replace("-", "_")
        if cell.id.endswith("-answer"):
            check = cell.source.splitlines()[-1]
            cell.source = f"{(sources or {}).get(name, cell.source)}\n{check}"
            if words := dict(said).get(name):
                cell.outputs = [nbformat.v4.new_output("stream", text=f"my print\n{words}\n")]
    if not ids:
        book.nbformat_minor = 4
        for cell in book.cells:
            del cell["id"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book), encoding="utf-8")


def drawn(noise, seed, count=20, wrong=0.2):
    """The first boxes of the completed set moved by noise in pixels, some answers exchanged."""
    rng, pictures = np.random.default_rng(seed), COMPLETED[:: len(COMPLETED) // count]
    edges = via.boxes(pictures) @ [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    edges = np.clip(edges + rng.normal(0, noise, edges.shape), 0, 32)
    boxes = np.hstack([edges[:, :2], np.maximum(edges[:, 2:] - edges[:, :2], 0.5)])
    attributes = [dict(p.regions[0].attributes) for p in pictures]
    for values in attributes:
        if rng.random() < wrong:
            values["background"] = "water"
    return via.from_boxes([p.filename for p in pictures], boxes.round(3), attributes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hand_in(tmp_path_factory.mktemp("class") / "handed in")


def hand_in(folder):
    for seed, name in enumerate(NOISY):
        via.write_via_csv(drawn(int(name[-2:]) / 10, seed), folder / name / "my_annotations.csv")
        said = {exercise: VERDICTS[(seed + i) % 3] for i, exercise in enumerate(KNOWN)}
        for stem in BOOK if seed < 8 else ("4A",):
            notebook(folder / name / f"Assignment{stem}.ipynb", stem, said=said, ids=seed % 2)
    for name in ("Zoë Müller", "copied <img src=x onerror=alert(1)>", "=2+3"):
        via.write_via_csv(drawn(0.5, 99), folder / name / "sub folder" / "böxes.csv")
    enlarged = via.rescale(drawn(0, 1, wrong=0), 16)
    via.write_via_project(enlarged, folder / "enlarged/via.json", {"region": {}, "file": {}})
    (folder / "empty").mkdir()
    for name, content in {
        "broken/Assignment4A.ipynb": '{"cells": [',
        "deep/Assignment4A.ipynb": "[" * 10**6,
        "no exercises/mine.ipynb": '{"cells": [{"cell_type": "code", "source": ["1"]}]}',
        "no VIA/grades.csv": "name,grade\nme,1\n",
        "binary/a.csv": "\0\x01" * 99,
        "zipped/all.zip": "PK../../x",
        "readme.txt": "beside the folders",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name in ("two/a.csv", "two/b.csv"):
        via.write_via_csv(drawn(1, 5), folder / name)
    for name in ("two/a.ipynb", "two/b.ipynb"):
        notebook(folder / name, "4A")
    via.write_via_csv(via.from_boxes(["cat.jpg"], [(1, 2, 3, 4)]), folder / "other pictures/x.csv")
    (folder / "linked").mkdir()
    (folder / "linked/passwords.csv").symlink_to("/etc/passwd")
    via.write_via_csv(COMPLETED[::10], folder / "gold.csv")
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    build, before = tmp_path_factory.mktemp("build"), tree(folder)
    class_page.make(folder, build=build)
    assert tree(folder) == before
    frame = pd.read_csv(build / "class.csv", index_col="name")
    return frame, (build / "index.html").read_text(), via.read_via(build / "consensus.csv")


def test_thirty_people_are_thirty_rows_and_more_noise_is_less_agreement(made):
    frame, page, _ = made
    assert len(frame) == 30 and page.count('<th scope="row"') == 30 + 17 + 1
    scores = frame.loc[NOISY, ["IoU", "with others", "gold IoU"]]
    # noise of a tenth of a pixel more is seen, but for luck, in all three
    assert (scores.corrwith(pd.Series(range(16), NOISY), method="spearman") < -0.95).all()
    assert frame.loc["enlarged", "IoU"] == 1 and frame.loc["enlarged", "kappa"] == 1
    assert frame.loc[NOISY, "kappa"].between(0.8, 1).all()
    assert (frame.loc[NOISY, "gold pictures"] == 10).all()


def test_scores_are_those_of_the_helpers(made):
    theirs = drawn(1.6, 15)
    names = {picture.filename for picture in theirs}
    compared = agreement.compare(theirs, [p for p in COMPLETED if p.filename in names])
    row = made[0].loc["noise 16"]
    assert row["IoU"] == pytest.approx(sum(pair[3] for pair in compared.pairs) / 20)
    assert row["below 0.5"] == len(compared.only_a)
    assert row["kappa background"] == pytest.approx(compared.attributes.loc["background", "kappa"])


def test_answers_are_read_with_and_without_ids(made):
    frame, page, _ = made
    for seed, name in enumerate(NOISY[:8]):
        for i, (exercise, about) in enumerate(KNOWN.items()):
            mark = ("right", "wrong", "open")[(seed + i) % 3]
            if about.book in BOOK:
                assert frame.loc[name, f"{about.book} {exercise}"] == mark, exercise
    of_4a = [e for e, about in KNOWN.items() if about.book == "4A"]
    assert frame.loc[NOISY[0], "4A right"] == len(of_4a[::3])
    assert np.isnan(frame.loc[NOISY[9], "4B right"])
    assert "<b>too" not in page and "&lt;b&gt;too" in page


def test_an_answer_cell_is_found_under_its_heading_and_a_hint_is_no_answer(tmp_path):
    notebook(tmp_path / "a.ipynb", "4A", said={"lazy": "Right."}, ids=False)
    book = json.loads((tmp_path / "a.ipynb").read_text())
    for cell in book["cells"]:
        cell["source"] = cell["source"].replace("exercises.lazy.check", "mine")
    hint = nbformat.v4.new_code_cell("exercises.lazy.hint()")
    (tmp_path / "a.ipynb").write_text(json.dumps(book | {"cells": [*book["cells"], hint]}))
    source, said = answers.read(tmp_path / "a.ipynb", KNOWN)["lazy"]
    assert source.startswith("lazy = ...") and said == "Right."


def test_copies_are_named_and_names_do_no_harm(made):
    frame, page, _ = made
    assert "the same boxes as =2+3, on 20 pictures" in frame.loc["Zoë Müller", "notes"]
    assert "the same boxes as Zoë Müller" in frame.loc["'=2+3", "notes"]
    assert "the same boxes as the completed set" in frame.loc["enlarged", "notes"]
    assert frame["notes"].str.contains("the same boxes").sum() == 4
    assert "<img src=x" not in page and "copied &lt;img src=x" in page


@pytest.mark.parametrize(
    "name, told",
    [
        ("broken", "Assignment4A.ipynb: no notebook .Expecting"),
        ("deep", "Assignment4A.ipynb: no notebook .maximum recursion"),
        ("no exercises", "mine.ipynb: holds none of the exercises"),
        ("no VIA", r"grades.csv: .*columns"),
        ("binary", "a.csv: "),
        ("zipped", "all.zip: not unpacked"),
        ("two", r"b.csv: a second file of boxes.*b.ipynb: a second notebook of 4A"),
        ("other pictures", "x.csv: none of its 1 annotated pictures is of the set"),
        ("linked", "passwords.csv: a link"),
        ("empty", "nothing was handed in"),
    ],
)
def test_a_bad_file_is_a_note_in_its_row(made, name, told):
    frame, page, _ = made
    assert re.search(told, frame.loc[name, "notes"]) and "root:" not in page
    assert "readme.txt: lies beside the folders" in page


def test_the_consensus_is_nearer_to_the_truth_than_most_people(made):
    frame, _, agreed = made
    names = {picture.filename for picture in agreed}
    truth = [picture for picture in COMPLETED if picture.filename in names]
    compared = agreement.compare(agreed, truth)
    assert len(truth) == 20 and len(compared.pairs) == 20
    assert compared.mean_iou > frame["IoU"].quantile(0.8)
    region = via.Region(via.rect((0, 0, 10, 10)), {"label": "cat"})
    far = via.Region(via.rect((20, 20, 5, 5)), {"label": "dog"})
    (both,) = class_page.consensus([[region, far], [region], [region, far], []])
    assert both == region and class_page.consensus([[region], [far], [region]]) == []


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_wrong_folder_is_told(folder, tmp_path, name):
    with pytest.raises(ValueError, match="a folder per person"):
        class_page.make(folder / name, build=tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_a_class_without_a_box_or_a_notebook_has_a_page(tmp_path):
    (tmp_path / "class/nobody").mkdir(parents=True)
    class_page.make(tmp_path / "class", build=tmp_path / "build")
    page = (tmp_path / "build/index.html").read_text()
    assert "nothing was handed in" in page and "No picture was annotated by three" in page
    assert via.read_via(tmp_path / "build/consensus.csv") == []


BAD = {
    "for ever": "while True: pass",
    "asleep": "import time\ntime.sleep(1e6)",
    "deaf": "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1e6)",
    "a gigabyte": "for _ in range(2**20): print('x' * 1024)\nlazy = 3",
    "a large file": "open('large', 'wb').write(bytes(2**26))",
    "memory": "lazy = bytearray(2**36)",
    "deletes": "import shutil, os\nshutil.rmtree('../copy')\nshutil.rmtree(os.environ['HOME'])",
    "exits": "import os\nos._exit(0)",
    "no Python": "%%bash\nrm -rf ..",
    "says so": "print('Right.')\nlazy = (1, 1)",
}


def test_answers_run_again_where_they_do_no_harm(tmp_path, monkeypatch, capfd):
    """What 4A's answers need of 4A; the fork, its limits and the checks are the same for all."""
    book, needed = nbformat.from_dict(BOOK["4A"]), "imports configuration rules open count".split()
    book.cells = [c for c in book.cells if c.id in needed or re.search("-answer|### Ex", str(c))]
    nbformat.write(book, tmp_path / "Assignment4A.ipynb")
    monkeypatch.setattr(answers, "NOTEBOOKS", [tmp_path / "Assignment4A.ipynb"])
    monkeypatch.setattr(answers, "SECONDS", 2)
    folder = tmp_path / "class"
    right = {name: solution(name) for name, about in KNOWN.items() if about.book == "4A"}
    notebook(folder / "all right/Assignment4A.ipynb", "4A", right)
    for name, source in BAD.items():
        notebook(folder / name / "Assignment4A.ipynb", "4A", {"lazy": source}, {"lazy": "Right."})
    kills = {"off_by_one": "import os\nos.kill(os.getppid(), 9)"}
    notebook(folder / "kills/Assignment4A.ipynb", "4A", kills)
    before = tree(folder)
    class_page.make(folder, run=True, build=tmp_path / "build")
    assert tree(folder) == before
    frame = pd.read_csv(tmp_path / "build/class.csv", index_col="name")
    assert frame.loc["all right", "4A right"] == len(right)
    assert (frame.loc[list(BAD), "4A lazy"] == "wrong").all()
    assert frame.loc[list(BAD), "notes"].str.contains("not when run again").all()
    page = (tmp_path / "build/index.html").read_text()
    told = ["stopped after", "MemoryError", "ended its process", "File too large"]
    for words in (*told, "on unknown pictures", "Assignment4A.ipynb stopped (DeadKernelError)"):
        assert words in page
    assert "xxxx" not in capfd.readouterr().out
