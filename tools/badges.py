"""Write this repository's address into every notebook and button: python -m tools.badges

Without an origin in git, the buttons open Colab's picker of GitHub repositories.
"""

import re
import sys

from helpers.environment import git
from helpers.files import ROOT, write_text

PICKER = "https://colab.research.google.com/github/"
PAGES = ("README.md", *sorted(path.name for path in ROOT.glob("Assignment4*.ipynb")))
BUTTON = re.compile(r"(colab-badge\.svg\)\]\()[^)]*")
FIELD = re.compile(r'((REPOSITORY|BRANCH) = \\")[^"\\]*')  # of the setup cell, in a notebook's JSON


def origin() -> tuple[str, str]:
    """OWNER/NAME and branch of this clone on GitHub; empty without an origin. Raises ValueError."""
    address = git("remote", "get-url", "origin")
    if not address:
        return "", ""
    match = re.search(r"[@/.]github\.com(:\d+)?[/:]([\w.-]+/[\w.-]+?)(\.git)?/?$", address)
    if not match:
        raise ValueError(
            f"origin is {re.sub('//[^@/]+@', '//', address)}, which is not on github.com, and "
            "Colab opens nothing else: push the course there, and name it with "
            "git remote set-url origin https://github.com/OWNER/NAME."
        )
    main = git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    branch = main or git("branch", "--show-current")
    if not branch:
        raise ValueError("No branch is checked out: name one with git switch, and run this again.")
    return match[2], branch


def pointed(text: str, page: str, name: str, branch: str) -> str:
    """A page whose buttons open its notebook or, in the README, the one that their line names."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if BUTTON.search(line):
            notebook = re.search(r"Assignment4\w", page + line)[0] + ".ipynb"
            target = name and f"{name}/blob/{branch}/{notebook}"
            lines[i] = BUTTON.sub(rf"\g<1>{PICKER}{target}", line)
    fields = {"REPOSITORY": name and f"https://github.com/{name}", "BRANCH": branch}
    return FIELD.sub(lambda field: field[1] + fields[field[2]], "".join(lines))


def main() -> None:
    try:
        name, branch = origin()
    except ValueError as error:
        sys.exit(str(error))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        write_text(ROOT / page, pointed(text, page, name, branch))
    print(f"The buttons open {PICKER}{name and f'{name}/blob/{branch}/'}")


if __name__ == "__main__":
    main()
