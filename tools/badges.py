"""Point every Open-in-Colab button at this repository: python -m tools.badges

The address comes from `git remote get-url origin`. Without an origin, the buttons open Colab's
picker of GitHub repositories.
"""

import re
import sys

from helpers.files import ROOT, replacing
from helpers.runtime import git

PICKER = "https://colab.research.google.com/github/"
PAGES = ("README.md", "Assignment4A.ipynb", "Assignment4B.ipynb")
BUTTON = re.compile(r"(colab-badge\.svg\)\]\()[^)]*\)")


def owner_and_name(address: str) -> str:
    """OWNER/NAME of a repository on GitHub.

    Args:
        address: as git prints it: https, ssh, or the short form git@github.com:OWNER/NAME.git.

    Raises:
        ValueError: the address leads elsewhere.
    """
    match = re.fullmatch(
        r"(?:\w+://)?(?:[^@/]+@)?(?:www\.|ssh\.)?github\.com(?::\d+)?[/:]/*([\w.-]+/[\w.-]+?)(?:\.git)?/*",
        address.strip(),
    )
    if not match:
        place = re.sub(r"//[^@/]+@", "//", address.strip())  # without a password in it
        raise ValueError(
            f"origin is {place}, which is not on github.com, and Colab opens nothing else: push the "
            "course there, and name it with git remote set-url origin https://github.com/OWNER/NAME."
        )
    return match[1]


def rewrite(text: str, page: str, place: str = "") -> str:
    """The page with its buttons leading to `place`, OWNER/NAME/blob/BRANCH; to the picker if empty.

    A button in a notebook opens that notebook, one in another page the notebook its line names.
    """
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if "colab-badge.svg" in line:
            name = (
                page if page.endswith(".ipynb") else re.search(r"Assignment\w+", line)[0] + ".ipynb"
            )
            target = f"{PICKER}{place}/{name}" if place else PICKER
            lines[i] = BUTTON.sub(rf"\g<1>{target})", line)
    return "".join(lines)


def main() -> None:
    address, place = git("remote", "get-url", "origin"), ""
    if address:
        main_branch = git("symbolic-ref", "--short", "refs/remotes/origin/HEAD")
        branch = main_branch.removeprefix("origin/") or git("branch", "--show-current")
        try:
            place = f"{owner_and_name(address)}/blob/{branch}"
        except ValueError as error:
            sys.exit(str(error))
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        with replacing(ROOT / page) as path:
            path.write_text(rewrite(text, page, place), encoding="utf-8")
    print(f"The buttons open {PICKER}{place}")


if __name__ == "__main__":
    main()
