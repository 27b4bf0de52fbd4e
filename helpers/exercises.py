"""The checks behind the exercises: right, or what is wrong without giving the answer away.

In the notebooks an exercise is a stub cell, `answer = ...`, which runs unanswered; the line
`exercises.NAME.check(answer)`; and a folded solution below, which the tests execute.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """One question.

    Args:
        judge: takes the answer, and what else the cell hands to `check`; returns what is wrong with
            it, or None if it is right. What it raises counts as wrong: an answer may be anything.
        clue: what `hint` prints.
    """

    judge: Callable[..., str | None]
    clue: str

    def check(self, answer, *given) -> bool:
        """Print whether the answer is right; True only if it is."""
        if answer is ...:
            print("Not answered yet: replace the dots, and run the cell again.")
            return False
        try:
            wrong = self.judge(answer, *given)
        except Exception as error:
            wrong = f"this cannot be judged ({type(error).__name__}: {error})"
        print(f"Not yet: {wrong}. For a clue, call .hint()." if wrong else "Right.")
        return not wrong

    def hint(self) -> None:
        """Print a clue."""
        print(self.clue)


# --- Assignment4A --------------------------------------------------------------------------------


# --- Assignment4B --------------------------------------------------------------------------------


# --- Assignment4C --------------------------------------------------------------------------------
