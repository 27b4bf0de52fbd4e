"""Point every Open-in-Colab button at this repository: python -m tools.badges

Without an origin in git, the buttons open Colab's picker of GitHub repositories.
"""

import re
import sys

from helpers.environment import git
from helpers.files import ROOT, replacing

PICKER = "https://colab.research.google.com/github/"
PAGES = ("README.md", *sorted(path.name for path in ROOT.glob("Assignment4*.ipynb")))
BUTTON = re.compile(r"(colab-badge\.svg\)\]\()[^)]*")
ORIGIN = re.compile(  # https, ssh, or the short form git@github.com:OWNER/NAME.git
    r"(\w+://)?([^@/]+@)?(www\.|ssh\.)?github\.com(:\d+)?[/:](?P<name>[\w.-]+/[\w.-]+?)(\.git)?/?"
)


def folder_on_github() -> str:
    """OWNER/NAME/blob/BRANCH/ of this clone; empty without an origin. Raises ValueError."""
    origin = git("remote", "get-url", "origin")
    if not origin:
        return ""
    match = ORIGIN.fullmatch(origin)
    if not match:
        without_password = re.sub(r"//[^@/]+@", "//", origin)
        raise ValueError(
            f"origin is {without_password}, which is not on github.com, and Colab opens nothing "
            "else: push the course there, and name it with "
            "git remote set-url origin https://github.com/OWNER/NAME."
        )
    main = git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    branch = main or git("branch", "--show-current")
    if not branch:
        raise ValueError("No branch is checked out: name one with git switch, and run this again.")
    return f"{match['name']}/blob/{branch}/"


def with_buttons(text: str, page: str, folder: str) -> str:
    """A page whose buttons open its notebook or, in the README, the one that their line names."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if BUTTON.search(line):
            notebook = re.search(r"Assignment4\w", page + line)[0] + ".ipynb"
            lines[i] = BUTTON.sub(rf"\g<1>{PICKER}{folder and folder + notebook}", line)
    return "".join(lines)


def main() -> None:
    try:
        folder = folder_on_github()
    except ValueError as error:
        sys.exit(str(error))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        with replacing(ROOT / page) as path:
            path.write_text(with_buttons(text, page, folder), encoding="utf-8")
    print(f"The buttons open {PICKER}{folder}")


if __name__ == "__main__":
    main()
