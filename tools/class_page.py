"""One page and one table of what a class handed in: python -m tools.class_page FOLDER [--execute]

FOLDER has a folder per person, with notebooks and a VIA file; and perhaps gold.csv, a VIA file of
pictures that are scored on their own. All is read. With --execute, answers are run again, too.
"""

import itertools
import statistics
import sys
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pandas as pd

from helpers.annotation import agreement, checks, exports, via
from helpers.files import ROOT, read_text, write_text
from helpers.training import data
from tools import answers

ANNOTATED, FILES = ROOT / "images/annotations", ("via_export_csv.csv", "pass_a.csv", "pass_b.csv")
SIZE, SCALE = (32, 32), 16  # of the pictures, and of the enlarged copies in the kit for VIA
LARGEST = 50 << 20  # bytes of a file that is opened
ENOUGH = 5  # equal boxes on so many pictures are no accident
WORST = 12  # pictures that are shown


@dataclass
class Person:
    """What one folder holds; a note says what of it could not be read."""

    name: str
    folder: Path
    notes: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)  # exercise -> (source, what its check said)
    books: set = field(default_factory=set)  # "4A", ...
    pictures: dict = field(default_factory=dict)  # file name -> via.Picture, looked at
    scores: dict = field(default_factory=dict)


def boxes_of(path, names, notes) -> dict[str, via.Picture]:
    """The pictures of a VIA file that are among `names` and were looked at, in their own pixels."""
    merged, sizes = {}, dict.fromkeys(names, SIZE)
    for p in exports.read_any(path, sizes):  # names of the set come without folders
        if p.seen:
            regions = merged.setdefault(p.filename, via.Picture(p.filename)).regions
            regions += [r for r in p.regions if r.shape not in [old.shape for old in regions]]
    known = [p for name, p in merged.items() if name in sizes]
    if not known:
        raise ValueError(f"none of its {len(merged)} annotated pictures is of the set")
    if others := len(merged) - len(known):
        notes.append(f"{path.name}: {others} pictures are not of the set, and left out")
    if checks.enlargement(known, sizes) > 1:
        known = via.rescale(known, 1 / SCALE)
        notes.append(f"{path.name}: boxes of enlarged copies, divided by {SCALE}")
    via.boxes(known := checks.tidy(known, sizes)[0])  # raises for broken shapes
    return {p.filename: p for p in known}


def read_person(folder, known, names) -> Person:
    """What a folder holds. Whatever is wrong with a file becomes a note."""
    person = Person(folder.name, folder)

    def read(path):
        if path.is_symlink():
            raise ValueError("a link, which is not followed")
        if path.suffix in (".zip", ".7z", ".rar", ".gz"):
            raise ValueError("not unpacked: unpack it here, and look at what it holds")
        if path.suffix not in (".ipynb", ".csv", ".json"):
            return
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MB, not opened")
        if path.suffix != ".ipynb":
            if person.pictures:
                raise ValueError("a second file of boxes, not read")
            person.pictures = boxes_of(path, names, person.notes)
        elif found := answers.read(path, known):
            book = statistics.mode(known[name].book for name in found)
            if book in person.books:
                raise ValueError(f"a second notebook of {book}, not read")
            person.books.add(book)
            person.answers |= found
        else:
            raise ValueError("holds none of the exercises")

    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_dir() or any(part.startswith((".", "__MACOSX")) for part in place.parts):
            continue
        try:
            read(path)
        except Exception as error:  # of files that anybody made: one bad file is a note
            text = str(error).removeprefix(f"{path.name}: ") or type(error).__name__
            person.notes.append(f"{place}: {text[:120]}")
    if not (person.books or person.pictures or person.notes):
        person.notes.append("nothing was handed in")
    return person


def overlaps(a, b) -> tuple[pd.Series, pd.Series]:
    """Mean IoU per picture that both looked at, a missed box counting 0; and kappa by attribute."""
    shared = [name for name in a if name in b]
    matched = agreement.compare([a[name] for name in shared], [b[name] for name in shared])
    total = Counter()
    for name, *_, iou in matched.pairs:
        total[name] += iou
    most = {name: max(len(a[name].regions), len(b[name].regions)) for name in shared}
    means = {name: total[name] / count if count else 1.0 for name, count in most.items()}
    return pd.Series(means, dtype=float), matched.attributes["kappa"].drop("label", errors="ignore")


def consensus(drawn) -> list[via.Region]:
    """The boxes that three people or more agree on, of one picture; `drawn` has a list each.

    Boxes are matched by an IoU of 0.5. Edges are medians, an attribute is its most frequent value.
    """
    left, agreed = [list(regions) for regions in drawn], []
    while sum(map(bool, left)) >= 3:
        boxes = via.boxes([via.Picture("", regions) for regions in left])
        middle = boxes[agreement.iou(boxes, boxes).sum(axis=1).argmax()]
        group = []
        for regions in filter(None, left):
            near = agreement.iou([middle], via.boxes([via.Picture("", regions)]))[0]
            if near.max() >= 0.5:
                group.append(regions.pop(near.argmax()))
        if len(group) < 3:
            break
        boxes = via.boxes([via.Picture("", group)])
        x, y, right, bottom = np.median(boxes + np.pad(boxes[:, :2], ((0, 0), (2, 0))), axis=0)
        votes = {}
        for name in dict.fromkeys(name for region in group for name in region.attributes):
            values = [region.attributes.get(name, "") for region in group]
            words = [agreement.category(value) for value in values]
            votes[name] = values[words.index(statistics.mode(words))]
        agreed.append(via.Region(via.rect((x, y, right - x, bottom - y)), votes))
    return agreed


def score(people, completed, gold) -> tuple[pd.DataFrame, pd.Series]:
    """Everybody against the completed set, the gold boxes and each other, into their `scores`.

    Returns the matrix of mean IoU, and each picture's mean IoU between people, the lowest first.
    """
    people = [person for person in people if person.pictures]
    names = [person.name for person in people]
    matrix, pairs = pd.DataFrame(np.nan, names, names), {}
    course = Person("the completed set", None, pictures=completed)
    for a, b in itertools.combinations([*people, course], 2):
        ious, kappas = overlaps(a.pictures, b.pictures)
        if len(ious) >= ENOUGH and (ious > 1 - 1e-6).all():
            for one, other in ((a, b), (b, a)):
                one.notes.append(f"the same boxes as {other.name}, on {len(ious)} pictures")
        if b is not course:
            pairs[a.name, b.name] = ious
            matrix.loc[a.name, b.name] = matrix.loc[b.name, a.name] = ious.mean()
            continue
        of_gold, _ = overlaps(a.pictures, gold)
        a.scores = {
            "pictures": len(ious), "IoU": ious.mean(), "below 0.5": int((ious < 0.5).sum()),
            "kappa": kappas.mean(), "with others": matrix[a.name].mean(),
            "gold pictures": len(of_gold) or None, "gold IoU": of_gold.mean(),
            **kappas.add_prefix("kappa ").to_dict(),
        }  # fmt: skip
    by_picture = pd.DataFrame(pairs).dropna(thresh=3)  # three pairs: three people
    return matrix, by_picture.mean(axis=1).sort_values(kind="stable")


def mark(said) -> str:
    """Right, wrong or open: what the words of an exercise's check come to."""
    return "right" if said == "Right." else "wrong" if said.startswith("Not yet") else "open"


def table(people, known) -> pd.DataFrame:
    """A row per person: right answers by notebook, scores, every exercise, notes."""
    rows = {}
    for p in people:
        marks = {name: mark(said) for name, (_, said) in p.answers.items()}
        right = Counter(known[name].book for name in marks if marks[name] == "right")
        books = dict.fromkeys(exercise.book for exercise in known.values())
        row = {f"{book} right": right[book] if book in p.books else None for book in books}
        row |= {f"{e.book} {name}": marks.get(name) for name, e in known.items()}
        rows[p.name] = row | {"notes": "; ".join(p.notes)} | p.scores
    return pd.DataFrame.from_dict(rows, "index").dropna(axis="columns", how="all")


def rerun(people, notes) -> str:
    """Put what the checks say of everybody's answers now in place of what they said; on what."""
    sources = {p.name: (p.folder, {n: a[0] for n, a in p.answers.items()}) for p in people}
    said, shown = answers.rerun(sources, notes)
    for person in people:
        for name, (source, before) in person.answers.items():
            now = said.get((person.name, name), before)
            if mark(before) == "right" != mark(now):
                person.notes.append(f"{name}: right as handed in, but not when run again")
            person.answers[name] = source, now
    return shown


def make(folder: Path, run=False, build: Path = ROOT / "build/class") -> None:
    """Write index.html, class.csv and consensus.csv into `build`. ValueError for a wrong folder."""
    known, notes, gold = answers.exercises(), [], {}
    completed, *passes = ({p.filename: p for p in via.read_via(ANNOTATED / f)} for f in FILES)
    inside = sorted(path for path in folder.glob("*") if path.name[0] != ".")
    people = [read_person(path, known, completed) for path in inside if path.is_dir()]
    if not people:
        raise ValueError(f"{folder} is no folder that holds a folder per person.")
    for path in (path for path in inside if not path.is_dir()):
        try:
            if path.stem != "gold":
                raise ValueError("lies beside the folders, and was not read")
            gold = boxes_of(path, completed, notes)
        except ValueError as error:
            notes.append(f"{path.name}: {error}")
    run = run and rerun(people, notes)
    matrix, by_picture = score(people, completed, gold)
    drawn = {n: [p.pictures[n].regions for p in people if n in p.pictures] for n in completed}
    agreed = {name: consensus(regions) for name, regions in drawn.items()}
    dataset, worst = data.load() if data.on_disk() else None, []
    for name, iou in by_picture[by_picture < 1][:WORST].items():
        pixels = dataset and dataset.x_test[dataset.test_index(name)]
        png = b"" if dataset is None else cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
        sets = [via.boxes([via.Picture("", regions)]) for regions in (*drawn[name], agreed[name])]
        worst.append((name, iou, b64encode(png).decode(), sets))
    frame, page = table(people, known), jinja2.Environment(autoescape=True, trim_blocks=True)
    page = page.from_string(read_text(ROOT / "site/class.html")).render(
        title=folder.resolve().name, people=people, known=known, notes=notes, gold=gold, run=run,
        frame=frame, mark=mark, matrix=matrix, worst=worst, agreed=sum(map(len, agreed.values())),
        level=np.mean([overlaps(one_pass, completed)[0].mean() for one_pass in passes]),
    )  # fmt: skip
    write_text(build / "index.html", page)
    safe = frame.rename(index=lambda name: f"'{name}" if name[0] in "=+-@" else name)  # no formula
    write_text(build / "class.csv", safe.to_csv(index_label="name"))
    found = [via.Picture(name, regions) for name, regions in agreed.items() if regions]
    via.write_via_csv(found, build / "consensus.csv")
    print(f"{len(people)} people: {build / 'index.html'}")


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1] or "FOLDER"), "--execute" in sys.argv)
    except (ValueError, OSError) as error:
        sys.exit(f"{error} Use: make class FOLDER=handed_in/")
