"""The rules of `.gitignore` and `.omnivecignore` files, as git applies them (gitignore(5), dir.c).

As in git, the rules are applied to one entry at a time, and ignored folders are not entered. Patterns match the same
names as in git, in time linear in the name: see `wildcards`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from omnivec.inputs.files.wildcards import Wildcards

GIT_FILE = ".gitignore"
OWN_FILE = ".omnivecignore"

_SPECIAL = re.compile(rb"[*?\[\\]")


@dataclass(frozen=True)
class _IgnoreRule:
    """One line of an ignore file.

    Attributes:
        takes_back: whether it begins with "!", so that matching entries are not ignored.
        folders: whether it ends with "/", so that it only matches folders.
        by_name: whether it has no other slash, so that it is matched with the name of an entry; else with its path
            relative to the folder of the ignore file.
        literal: the part before the first special character.
        rest: the pattern from there on; None if there is no special character.
    """

    takes_back: bool
    folders: bool
    by_name: bool
    literal: bytes
    rest: Wildcards | None

    def matches(self, text: bytes) -> bool:
        """Whether the rule matches this name or path."""
        if self.rest is None:
            return text == self.literal
        return text.startswith(self.literal) and self.rest.matches(text[len(self.literal) :])


@dataclass
class _IgnoreFile:
    """The rules of one ignore file; the last rule that matches an entry decides.

    Attributes:
        base: path of its folder, with a "/" at the end.
        rules: the rules in the order of the file.
        exact: maps (by_name, name or path) to the indices of the last rule without special characters that matches it:
            for folders, and for files. Most rules are such, and a file may have very many.
        others: indices of all other rules.
    """

    base: bytes
    rules: list[_IgnoreRule] = field(default_factory=list)
    exact: dict[tuple[bool, bytes], tuple[int, int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)

    def add(self, rule: _IgnoreRule) -> None:
        """Appends a rule."""
        place = len(self.rules)
        self.rules.append(rule)
        if rule.rest is not None:
            self.others.append(place)
            return
        key = rule.by_name, rule.literal
        of_files = self.exact.get(key, (-1, -1))[1]
        self.exact[key] = place, of_files if rule.folders else place

    def says(self, path: bytes, folder: bool) -> bool | None:
        """Whether the entry at a path is ignored; None if no rule matches it."""
        inside, name = path[len(self.base) :], path.rpartition(b"/")[2]
        last = max(
            self.exact.get((by_name, text), (-1, -1))[not folder]
            for by_name, text in ((True, name), (False, inside))
        )
        for place in reversed(self.others):
            if place < last:
                break
            rule = self.rules[place]
            if (folder or not rule.folders) and rule.matches(name if rule.by_name else inside):
                last = place
                break
        return None if last < 0 else not self.rules[last].takes_back


@dataclass(frozen=True)
class Ignore:
    """The rules that apply in one folder; in each tuple, later files override earlier ones.

    Attributes:
        git: the .gitignore files.
        own: the .omnivecignore files, whose rules override all rules of `git`.
    """

    git: tuple[_IgnoreFile, ...] = ()
    own: tuple[_IgnoreFile, ...] = ()

    def inside(self, folder: Path) -> Ignore:
        """Returns the rules that apply inside `folder`: these and those of the ignore files in it.

        A folder with a `.git` is the top of a repository, to which the rules of an outer repository do not apply.

        Raises:
            OSError: an ignore file exists but cannot be read.
        """
        git = () if (folder / ".git").exists() else self.git
        return Ignore(git + _rules(folder / GIT_FILE), self.own + _rules(folder / OWN_FILE))

    def ignores(self, path: Path, *, folder: bool) -> bool:
        """Whether the rules ignore the entry at `path`, which is in the folder that they apply to."""
        text = os.fsencode(path.as_posix())
        for file in (*reversed(self.own), *reversed(self.git)):
            verdict = file.says(text, folder)
            if verdict is not None:
                return verdict
        return False


def above(root: Path) -> Ignore:
    """Returns the rules for `root` from the folders above it, up to the top of its repository.

    If these ignore `root` itself, no rules are returned: a user who names an ignored folder wants its content.

    Args:
        root: an absolute path.

    Raises:
        OSError: an ignore file exists but cannot be read.
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


def _rules(file: Path) -> tuple[_IgnoreFile, ...]:
    """Reads an ignore file; no rules if it is missing, or not a regular file (a FIFO must not be opened)."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return ()
    if not stat.S_ISREG(mode):
        return ()
    rules = _IgnoreFile(os.fsencode(f"{file.parent.as_posix().rstrip('/')}/"))
    for line in file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        rule = _rule(line.removesuffix(b"\r"))
        if rule is not None:
            rules.add(rule)
    return (rules,) if rules.rules else ()


def _rule(line: bytes) -> _IgnoreRule | None:
    """Parses a line; None for a comment or an empty line."""
    line = _without_blanks(line.partition(b"\0")[0])
    if not line or line.startswith(b"#"):
        return None
    takes_back, body = line.startswith(b"!"), line.removeprefix(b"!")
    folders, body = body.endswith(b"/"), body.removesuffix(b"/")
    by_name = b"/" not in body
    if not by_name:
        body = body.removeprefix(b"/")
    special = _SPECIAL.search(body)
    at = special.start() if special else len(body)
    rest = Wildcards(body[at:], paths=not by_name) if special else None
    return _IgnoreRule(takes_back, folders, by_name, body[:at], rest)


def _without_blanks(line: bytes) -> bytes:
    """Removes trailing spaces from a line, except one after a backslash."""
    bare = line.rstrip(b" ")
    escaped = (len(bare) - len(bare.rstrip(b"\\"))) % 2
    return bare + b" " if escaped and len(bare) < len(line) else bare
