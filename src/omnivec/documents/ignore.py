"""The rules of `.gitignore` and `.omnivecignore` files, as git reads them (gitignore(5)).

pathspec compiles the patterns. It judges whole paths, so that a pattern for a folder also holds for all that
lies in it; git asks its rules about one entry at a time and never enters an ignored folder. The difference shows
where a folder is taken back (`!docs/`) and a rule for its files (`*.log`) must go on to hold. So here each rule
is asked about the entry itself.
"""

from __future__ import annotations

import re
import stat
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pathspec

GIT_FILE = ".gitignore"
OWN_FILE = ".omnivecignore"


class _Pattern(Protocol):
    """What is used of a pattern compiled by pathspec; include is None for comments and empty lines."""

    include: bool | None

    def match_file(self, file: str) -> object | None: ...


@dataclass(frozen=True)
class _Rule:
    """One line of an ignore file.

    Attributes:
        base: folder of the ignore file, as text that ends in "/".
        pattern: the compiled line.
        by_name: the pattern has no slash inside and is asked about an entry's name alone.
        deep: the pattern ends in "/**" and means everything below, at any depth, but not the folder itself.
        folders: the pattern ends in "/" and is about folders alone.
    """

    base: str
    pattern: _Pattern
    by_name: bool
    deep: bool
    folders: bool

    def matches(self, path: str, mark: str) -> bool:
        """Whether the rule is about the entry at `path`; `mark` is "/" for a folder and "" for a file."""
        parent, _, name = path.rpartition("/")
        if self.by_name:
            return self.pattern.match_file(name + mark) is not None
        inside = path[len(self.base) :]
        if self.deep:
            return bool(mark or not self.folders) and self.pattern.match_file(inside) is not None
        if self.pattern.match_file(inside + mark) is None:
            return False
        # A match that the parent has too was about the parent.
        return self.pattern.match_file(f"{parent}/"[len(self.base) :]) is None


@dataclass(frozen=True)
class Ignore:
    """The rules in force in one folder; in each tuple a later rule beats an earlier one, as in a file.

    Attributes:
        git: rules of .gitignore files.
        own: rules of .omnivecignore files; any of them beats every rule of `git`.
    """

    git: tuple[_Rule, ...] = ()
    own: tuple[_Rule, ...] = ()

    def inside(self, folder: Path) -> Ignore:
        """The rules in force inside `folder`: these and those of its own ignore files.

        A folder with a `.git` is the top of a repository, where the rules of an outer repository end.

        Raises:
            OSError: an ignore file is there and cannot be read, so that its rules are unknown.
        """
        git = () if (folder / ".git").exists() else self.git
        return Ignore(git + _rules(folder / GIT_FILE), self.own + _rules(folder / OWN_FILE))

    def ignores(self, path: Path, *, folder: bool) -> bool:
        """Whether the rules leave out the entry at `path`, which lies in the folder these rules are in force in."""
        text, mark = path.as_posix(), "/" if folder else ""
        for rules in (self.own, self.git):
            for rule in reversed(rules):
                if rule.matches(text, mark):
                    return bool(rule.pattern.include)
        return False


def above(root: Path) -> Ignore:
    """The rules that the folders above `root` set for it: those up to the top of the repository it lies in.

    None are left where they would ignore `root` itself: who names an ignored folder wants what is in it.

    Args:
        root: an absolute path.

    Raises:
        OSError: an ignore file is there and cannot be read.
    """
    if (root / ".git").exists():
        return Ignore()
    parents = list(root.parents)
    top = next((n for n, parent in enumerate(parents) if (parent / ".git").exists()), -1)
    rules = Ignore()
    way = [root, *parents[: top + 1]][::-1]
    for parent, child in pairwise(way):
        rules = rules.inside(parent)
        if rules.ignores(child, folder=child != root or child.is_dir()):
            return Ignore()
    return rules


def _rules(file: Path) -> tuple[_Rule, ...]:
    """The rules of an ignore file; none where it is missing or no regular file (a FIFO must not be opened)."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return ()
    if not stat.S_ISREG(mode):
        return ()
    lines = file.read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    base = f"{file.parent.as_posix().rstrip('/')}/"
    return tuple(rule for line in lines if (rule := _rule(base, line)) is not None)


def _rule(base: str, line: str) -> _Rule | None:
    """A line compiled; None for a comment, an empty line, and what git cannot read either and passes over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # re's, about brackets in brackets
            pattern: _Pattern = pathspec.GitIgnoreSpec.from_lines([line]).patterns[0]
    except (ValueError, IndexError, re.error):
        return None
    if pattern.include is None:
        return None
    body = line.strip().removeprefix("!")
    while body.startswith(("**/", "/**/")):
        body = body.removeprefix("/").removeprefix("**/")
    stem = body.removesuffix("/")
    return _Rule(
        base, pattern, by_name="/" not in stem, deep=stem.endswith("/**"), folders=body.endswith("/")
    )
