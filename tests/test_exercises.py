import pytest

from helpers.exercises import Exercise

SQUARE = Exercise(lambda answer: None if answer**2 == 9 else f"{answer} squared is not 9", "Try 3.")


@pytest.mark.parametrize(
    "answer, printed",
    [
        (..., "Not answered yet: replace the dots, and run the cell again."),
        (3, "Right."),
        (4, "Not yet: 4 squared is not 9. For a clue, call .hint()."),
    ],
)
def test_an_answer_is_judged(capsys, answer, printed):
    assert SQUARE.check(answer) is (answer == 3)
    SQUARE.hint()
    assert capsys.readouterr().out == f"{printed}\nTry 3.\n"
