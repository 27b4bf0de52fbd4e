"""One page and one table of what a class handed in: python -m tools.class_page FOLDER [--execute]

FOLDER has a folder per person, with notebooks and a VIA file; and perhaps gold.csv, a VIA file of
pictures that are scored on their own. All is read. With --execute, answers are run again, too.
"""

import argparse
import base64
import io
import itertools
import re
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.annotation import agreement, checks, via
from helpers.files import ROOT, read_text, write_text
from helpers.training import data
from tools import answers

BUILD = ROOT / "build/class"
ANNOTATED, FILES = ROOT / "images/annotations", ("via_export_csv.csv", "pass_a.csv", "pass_b.csv")
SIZE, SCALE = (32, 32), 16  # of the pictures, and of the enlarged copies in the kit for VIA
LARGEST = 50 << 20  # bytes of a file that is opened
ENOUGH = 5  # equal boxes on so many pictures are no accident
WORST = 12  # pictures that are shown
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito


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
    found = [p for p in via.read_via(path) if p.regions or getattr(p, "nothing", False)]
    merged, sizes = {}, dict.fromkeys(names, SIZE)
    for p in found:
        name = re.split(r"[/\\]", p.filename)[-1]
        regions = merged.setdefault(name, via.Picture(name)).regions
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
    person, annotated = Person(folder.name, folder), ""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        if hidden or not (path.is_file() or path.is_symlink()):
            continue
        try:
            if path.is_symlink():
                raise ValueError("a link, which is not followed")
            if path.suffix in (".zip", ".7z", ".rar", ".gz"):
                raise ValueError("not unpacked: unpack it here, and look at what it holds")
            if path.suffix in (".ipynb", ".csv", ".json") and path.stat().st_size > LARGEST:
                raise ValueError(f"more than {LARGEST >> 20} MB, not opened")
            if path.suffix == ".ipynb":
                if not (found := answers.read(path, known)):
                    raise ValueError("holds none of the exercises")
                book = Counter(known[name].book for name in found).most_common(1)[0][0]
                if book in person.books:
                    raise ValueError(f"a second notebook of {book}, not read")
                person.books.add(book)
                person.answers |= found
            elif path.suffix in (".csv", ".json"):
                if annotated:
                    raise ValueError(f"a second file of boxes, not read; {annotated} is")
                person.pictures, annotated = boxes_of(path, names, person.notes), path.name
        except Exception as error:  # of files that anybody made: one bad file is a note
            text = str(error) or type(error).__name__
            text = text.removeprefix(f"{path.name}: ")
            person.notes.append(f"{path.relative_to(folder)}: {text[:120]}")
    if not (person.books or annotated or person.notes):
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
    for person in people:
        ious, kappas = overlaps(person.pictures, completed)
        named = kappas.add_prefix("kappa ").to_dict()
        low = int((ious < 0.5).sum())
        person.scores = {"pictures": len(ious), "IoU": ious.mean(), "below 0.5": low}
        person.scores |= {"kappa": kappas.mean(), "with others": np.nan, **named}
        person.scores |= {"gold pictures": np.nan, "gold IoU": np.nan}
        if gold:
            of_gold, _ = overlaps(person.pictures, gold)
            person.scores |= {"gold pictures": len(of_gold), "gold IoU": of_gold.mean()}
        if len(ious) >= ENOUGH and (ious > 1 - 1e-6).all():
            person.notes.append(f"the same boxes as the completed set, on {len(ious)} pictures")
    names = [person.name for person in people]
    matrix, pairs = pd.DataFrame(np.nan, names, names), {}
    for a, b in itertools.combinations(people, 2):
        ious, _ = overlaps(a.pictures, b.pictures)
        pairs[a.name, b.name] = ious
        matrix.loc[a.name, b.name] = matrix.loc[b.name, a.name] = ious.mean()
        if len(ious) >= ENOUGH and (ious > 1 - 1e-6).all():
            for one, other in ((a, b), (b, a)):
                one.notes.append(f"the same boxes as {other.name}, on {len(ious)} pictures")
    for person in people:
        person.scores["with others"] = matrix[person.name].mean()
    by_picture = pd.DataFrame(pairs).dropna(thresh=3)  # three pairs: three people
    return matrix, by_picture.mean(axis=1).sort_values(kind="stable")


def image(figure) -> str:
    """A figure as a data URI."""
    figure.savefig(file := io.BytesIO(), format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def matrix_picture(matrix) -> str:
    side = 2.4 + 0.22 * len(matrix)
    figure = Figure((side + 0.9, side), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(matrix, vmax=1)
    labels = [name if len(name) < 18 else f"{name[:16]}..." for name in matrix]
    axis.set_xticks(range(len(labels)), labels, rotation=90, parse_math=False)
    axis.set_yticks(range(len(labels)), labels, parse_math=False)
    figure.colorbar(shown, label="mean IoU", shrink=0.8)
    return image(figure)


def boxes_picture(pixels, drawn, agreed) -> str:
    """A picture with everybody's boxes in colors, and those of the consensus dashed in white."""
    figure = Figure((2.4, 2.4))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, SIZE[0] + 0.5), ylim=(SIZE[1] + 0.5, -0.5))
    axis.imshow(pixels, extent=(0, SIZE[0], SIZE[1], 0))
    axis.set_axis_off()
    looks = [(regions, color, 0.9, "-") for regions, color in zip(drawn, itertools.cycle(COLORS))]
    looks += [(agreed, "black", 2, "-"), (agreed, "white", 1.4, "--")]
    for regions, color, width, dash in looks:
        for x, y, w, h in via.boxes([via.Picture("", regions)]):
            axis.add_patch(Rectangle((x, y), w, h, fill=False, ec=color, lw=width, ls=dash))
    return image(figure)


def mark(said) -> str:
    """Right, wrong or open: what the words of an exercise's check come to."""
    return "right" if said == "Right." else "wrong" if said.startswith("Not yet") else "open"


def table(people, known) -> pd.DataFrame:
    """A row per person: right answers by notebook, scores, every exercise, notes."""
    rows = {}
    for person in people:
        marks = {name: mark(said) for name, (_, said) in person.answers.items()}
        row = dict.fromkeys([f"{book} right" for book in sorted(person.books)], 0)
        for name in (name for name in marks if marks[name] == "right"):
            row[f"{known[name].book} right"] += 1
        row |= person.scores | {f"{e.book} {name}": marks.get(name) for name, e in known.items()}
        rows[person.name] = row | {"notes": "; ".join(person.notes)}
    frame = pd.DataFrame.from_dict(rows, "index")
    books = sorted(column for column in frame if re.fullmatch(r"4\w right", column))
    columns = [*books, *(column for column in frame if column not in (*books, "notes")), "notes"]
    return frame[columns]


def rerun(people, known) -> None:
    """Run everybody's answers again, and put what the checks say now in place of what they said."""
    sources = {p.name: (p.folder, {n: a[0] for n, a in p.answers.items()}) for p in people}
    said = answers.rerun(sources, known)
    for person in people:
        for name, (source, before) in person.answers.items():
            now = said.get((person.name, name), before)
            if mark(before) == "right" != mark(now):
                person.notes.append(f"{name}: right as handed in, but not when run again")
            person.answers[name] = source, now


def make(folder: Path, run=False, build: Path = BUILD) -> None:
    """Write index.html, class.csv and consensus.csv into `build`. ValueError for a wrong folder."""
    is_one = "give a folder that holds a folder per person: make class FOLDER=handed_in/"
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; {is_one}")
    known, notes, gold = answers.exercises(), [], {}
    completed, *passes = ({p.filename: p for p in via.read_via(ANNOTATED / f)} for f in FILES)
    inside = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    people = [read_person(path, known, completed) for path in inside if path.is_dir()]
    if not people:
        raise ValueError(f"{folder} holds no folders; {is_one}")
    for path in (path for path in inside if not path.is_dir()):
        try:
            if path.stem != "gold":
                raise ValueError("lies beside the folders, and was not read")
            gold = boxes_of(path, completed, notes)
        except Exception as error:
            notes.append(f"{path.name}: {error}")
    if run:
        rerun(people, known)
    matrix, by_picture = score(people, completed, gold)
    drawn = {n: [p.pictures[n].regions for p in people if n in p.pictures] for n in completed}
    agreed = {name: consensus(regions) for name, regions in drawn.items()}
    shown, pixels = by_picture[by_picture < 1][:WORST], {}
    if data.on_disk():
        dataset = data.load()
        pixels = {name: dataset.x_test[dataset.test_index(name)] for name in shown.index}
    frame, blank = table(people, known), np.full((*SIZE, 3), 225, np.uint8)
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(read_text(ROOT / "site/class.html")).render(
        title=folder.resolve().name, people=people, known=known, notes=notes, gold=gold, run=run,
        frame=frame, mark=mark, agreed=sum(map(len, agreed.values())), on_disk=bool(pixels),
        books=[column for column in frame if re.fullmatch(r"4\w right", column)],
        level=np.mean([overlaps(one_pass, completed)[0].mean() for one_pass in passes]),
        right=[sum(frame[f"{e.book} {name}"] == "right") for name, e in known.items()],
        matrix=matrix_picture(matrix) if len(matrix) > 1 else "",
        worst=[
            (n, iou, len(drawn[n]), boxes_picture(pixels.get(n, blank), drawn[n], agreed[n]))
            for n, iou in shown.items()
        ],
    )  # fmt: skip
    write_text(build / "index.html", text)
    safe = frame.rename(index=lambda name: f"'{name}" if name[0] in "=+-@" else name)  # no formula
    write_text(build / "class.csv", safe.to_csv(index_label="name"))
    found = [via.Picture(name, regions) for name, regions in agreed.items() if regions]
    via.write_via_csv(found, build / "consensus.csv")
    print(f"{len(people)} people: {build / 'index.html'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--execute", action="store_true", help="run people's answers again")
    arguments = parser.parse_args()
    try:
        make(arguments.folder, arguments.execute)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
