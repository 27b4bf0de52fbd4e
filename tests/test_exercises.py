import pytest

from helpers.exercises import Exercise

SQUARE = Exercise(lambda answer: None if answer**2 == 9 else f"{answer} squared is not 9", "Try 3.")


@pytest.mark.parametrize(
    "answer, right, printed",
    [
        (..., False, "Not answered yet"),
        (3, True, "Right."),
        (4, False, "Not yet: 4 squared is not 9. For a clue, call .hint()."),
        ("three", False, "Not yet: this cannot be judged (TypeError"),
    ],
)
def test_an_answer_is_judged(capsys, answer, right, printed):
    assert SQUARE.check(answer) is right
    assert printed in capsys.readouterr().out


def test_a_hint_is_printed(capsys):
    SQUARE.hint()
    assert capsys.readouterr().out == "Try 3.\n"
