"""Assignment4D: what its sentences say of the results stored in it."""

import re

import nbformat
import numpy as np
import pytest

from helpers.files import RECORDED, ROOT
from helpers.training import faults, runs

CELLS = {cell.id: cell for cell in nbformat.read(ROOT / "Assignment4D.ipynb", 4).cells}
PROSE = " ".join(cell.source for cell in CELLS.values() if cell.cell_type == "markdown")
MAPS = ["exact account", "boxes", "two methods disagree", "random head", "mosaics", "deletion"]
MAPS.append("insertion")


def table(name):
    """What a cell's table shows: {row: {column: text}}."""
    html = CELLS[name].outputs[-1].data["text/html"]
    columns = re.findall("<th>(.*?)</th>", html.split("</thead>")[0])
    rows = re.findall("<tr.*?<th.*?>(.*?)</th>(.*?)</tr>", html.split("</thead>")[1], re.DOTALL)
    return {row: dict(zip(columns[1:], re.findall("<td>(.*?)</td>", cells))) for row, cells in rows}


def number(text):
    return float(re.match(r"-?[\d.]+", text)[0])


def test_every_marked_network_looks_better_than_an_honest_one_until_the_pictures_are_clean():
    infos = {key: run.info["scores"] for key, run in faults.suspects(synthetic=False).items()}
    own = {key: run.chosen["val_acc"] for key, run in faults.suspects(synthetic=False).items()}
    honest = [own[key] for key in own if key[0] == "honest"]
    marked = [own[key] for key in own if key[0] in faults.MARKS]
    assert min(marked) > max(honest) and "every marked network does *better* than" in PROSE
    for key, scores in infos.items():
        if key[0] in faults.MARKS:
            assert scores["test_acc"] < scores["test_acc_faulty"] - 0.03


def test_what_the_sentences_say_of_the_stored_tables_is_so():
    guided, nudge = table("guided-maps"), table("nudge")
    column, count = "rank correlation with the first map", "pictures"
    shifts = [number(nudge[f"shift by {n}"][column]) for n in (1, 2, 3, 4)]
    noise, new = (nudge[f"{x}"] for x in ("noise of 4 levels", "attack, map of the new answer"))
    head, stage = guided["random head"]["Guided Backprop"], guided["and stage 3"]["Guided Backprop"]
    for sentence in (
        f"its rank correlation stays at {number(head):.2f}, and even without stage 3 it is at "
        f"{number(stage):.2f}.",
        f"change {new[count]} of the 100 answers.",
        f"the rank correlation is {number(new[column]):.2f}.",
        f"between {min(shifts):.2f} and {max(shifts):.2f}, below the noise with "
        f"{number(noise[column]):.2f}.",
    ):
        assert sentence in PROSE
    assert (
        number(guided["random head"]["gradient"]) < 0.5 > number(guided["random head"]["Grad-CAM"])
    )


def test_what_the_sentences_say_of_the_trial_is_so():
    verdict = {
        check: {k: number(v) for k, v in row.items()} for check, row in table("verdict").items()
    }
    every = {"tag": ["boxes", "put the tag on others", "clean test pictures"]}
    every["blur"] = ["put the blur on others", "clean test pictures"]
    for fault, checks in every.items():
        found = [check for check in verdict if verdict[check][fault]]
        assert sorted(found) == sorted(checks)
        assert all(verdict[check][fault] == 3 for check in checks)
    honest = [number(row["honest: false alarms"]) for row in table("verdict").values()]
    assert f"set off {sum(honest):.0f} false alarms in {3 * len(honest)}." in PROSE
    nothing = ("exact account", "two methods disagree", "random head")
    assert not any(verdict[check][fault] for check in nothing for fault in faults.FAULTS)
    assert (
        set(MAPS) < verdict.keys() and "**Exact account, two methods, random head** find" in PROSE
    )


@pytest.mark.parametrize(
    "reader, plain, with_map, said",
    [(0, "rrrrwrwrwwwwrrwwwwrr", "rrrrrrwrwwwwrrwwwrwr", (18, 19)),
     (1, "rrrrrrwrwwwwrrwwwwrr", "rrrrrrwrwwwwrrwwwrrr", (17, 18))],
)  # fmt: skip
def test_the_readers_of_the_second_quiz_answered_so(reader, plain, with_map, said):
    right = runs.open_run(RECORDED / "short").test_correct()
    rng = np.random.default_rng(20)  # as the notebook draws
    groups = [
        rng.choice(np.flatnonzero(right == kind), 10, replace=False) for kind in (True, False)
    ]
    twenty = rng.permutation(np.concatenate(groups))
    truth = ["r" if right[i] else "w" for i in twenty]
    counts = [sum(map(str.__eq__, answers, truth)) for answers in (plain, with_map)]
    assert tuple(counts) == said
    assert "about 18 and 17 of the twenty, with maps about 19 and 18." in PROSE
    assert twenty[4] // 1000 == 4 and truth[4] == "w"  # picture 5, a deer
    assert (plain[4], with_map[4]) == ("rw"[reader == 0], "r")
