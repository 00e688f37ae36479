"""What a release is made from: a commit with its version, and its changes cut from "Unreleased".

It is made in a worktree beside the checkout, which stays as it is until the commit is taken over.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools import version
from tools.release.programs import ReleaseError, git

CHANGELOG: Final = "CHANGELOG.md"
_FORM: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
_UNRELEASED: Final = "\n## Unreleased\n"


@dataclass(frozen=True)
class Source:
    """The commit of a release, checked out."""

    version: str
    tree: Path
    commit: str
    parent: str
    seconds: int
    """Since 1970, when it was committed: the time of whatever is made of it."""


def check(root: Path, wanted: str) -> None:
    """That this version can be released from this checkout. ReleaseError."""
    numbers, tagged = _numbers(wanted), _tagged(root)
    latest = max([version.version(root), *tagged], key=_numbers)
    if wanted in tagged:
        raise ReleaseError(f"{wanted} is released: v{wanted} is tagged. Write {_next(latest)}")
    if numbers <= _numbers(latest):
        raise ReleaseError(f"{wanted} is not greater than {latest}: write {_next(latest)}")
    changed = git(root, "status", "--porcelain")
    if changed:
        raise ReleaseError(
            "A release is made of what is committed. Commit these, or put them aside by"
            f" `git stash --include-untracked`:\n{changed}"
        )
    cut((root / CHANGELOG).read_text(encoding="utf-8"), wanted, "today")


@contextmanager
def committed(root: Path, wanted: str, day: str) -> Iterator[Source]:
    """The commit, on no branch, while a release is made of it. ReleaseError."""
    with tempfile.TemporaryDirectory(prefix="mcpace-release-") as folder:
        tree = Path(folder) / f"mcpace-{wanted}"
        git(root, "worktree", "add", "--quiet", "--detach", str(tree))
        try:
            _write(tree, wanted, day)
            git(tree, "commit", "--quiet", "--all", "--message", f"Release {wanted}")
            commit, parent, seconds = git(tree, "log", "-1", "--format=%H %P %ct").split()
            yield Source(wanted, tree, commit, parent, int(seconds))
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


def branch(root: Path) -> str:
    """The one that is checked out. ReleaseError where none is."""
    name = git(root, "branch", "--show-current")
    if not name:
        raise ReleaseError("No branch is checked out that could have the release: `git switch main`")
    return name


def tag(root: Path, source: Source) -> None:
    """Take the commit over to the branch, and tag it. ReleaseError."""
    git(root, "merge", "--quiet", "--ff-only", source.commit)
    name, words = f"v{source.version}", f"mcpace {source.version}"
    git(root, "tag", "--annotate", "--message", words, name, source.commit)


def cut(text: str, wanted: str, day: str) -> str:
    """The changelog, in which what was unreleased is this version's. ReleaseError."""
    above, heading, below = text.partition(_UNRELEASED)
    if not heading:
        raise ReleaseError(f'{CHANGELOG} has no "## Unreleased": write it under the title, and the changes')
    if not below.partition("\n## ")[0].strip():
        raise ReleaseError(
            f'{CHANGELOG} has nothing under "Unreleased": write a line for each change that people notice'
        )
    return f"{above}{heading}\n## {wanted} ({day})\n{below}"


def _write(tree: Path, wanted: str, day: str) -> None:
    project, changelog = tree / "pyproject.toml", tree / CHANGELOG
    before = f'\nversion = "{version.version(tree)}"\n'
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace(before, f'\nversion = "{wanted}"\n', 1), encoding="utf-8")
    changelog.write_text(cut(changelog.read_text(encoding="utf-8"), wanted, day), encoding="utf-8")
    for name in version.places(tree):
        (tree / name).write_text(version.written(name, tree), encoding="utf-8")


def _numbers(text: str) -> tuple[int, ...]:
    found = _FORM.fullmatch(text)
    if not found:
        raise ReleaseError(f"VERSION={text}: write three numbers, as in `make release VERSION=1.2.3`")
    return tuple(map(int, found.groups()))


def _tagged(root: Path) -> list[str]:
    """The versions that are."""
    names = git(root, "tag", "--list", "v*").split()
    return list(filter(_FORM.fullmatch, (name.removeprefix("v") for name in names)))


def _next(latest: str) -> str:
    major, minor, patch = _numbers(latest)
    return f"{major}.{minor}.{patch + 1}, {major}.{minor + 1}.0 or {major + 1}.0.0"
