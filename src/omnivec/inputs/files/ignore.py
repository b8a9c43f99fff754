"""The rules of `.gitignore` and `.omnivecignore` files, as git reads them (gitignore(5), dir.c).

git asks its rules about one entry at a time and never enters an ignored folder; so do we. What patterns are is git's
too, byte for byte, and takes time in proportion to the name: see `wildcards`.
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
        takes_back: it begins with "!": what it is about is not ignored.
        folders: it ends in "/" and is about folders alone.
        by_name: it has no slash inside and is asked about an entry's name, else about its path below the file's folder.
        literal: what comes before the first special character.
        rest: from that on.
    """

    takes_back: bool
    folders: bool
    by_name: bool
    literal: bytes
    rest: Wildcards | None

    def matches(self, text: bytes) -> bool:
        """Whether the rule is about an entry of this name or path."""
        if self.rest is None:
            return text == self.literal
        return text.startswith(self.literal) and self.rest.matches(text[len(self.literal) :])


@dataclass
class _IgnoreFile:
    """The rules of one ignore file; the last that is about an entry counts.

    Attributes:
        base: path of its folder, ended by "/".
        rules: in the file's order.
        exact: name or path -> the last rules without special characters about it: any, and any that is not of folders
            alone. Most rules are such, and a file may have very many.
        others: the places of all other rules.
    """

    base: bytes
    rules: list[_IgnoreRule] = field(default_factory=list)
    exact: dict[tuple[bool, bytes], tuple[int, int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)

    def add(self, rule: _IgnoreRule) -> None:
        """A rule behind the others."""
        place = len(self.rules)
        self.rules.append(rule)
        if rule.rest is not None:
            self.others.append(place)
            return
        key = rule.by_name, rule.literal
        of_files = self.exact.get(key, (-1, -1))[1]
        self.exact[key] = place, of_files if rule.folders else place

    def says(self, path: bytes, folder: bool) -> bool | None:
        """Whether the entry at a path is ignored; None where no rule is about it."""
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
    """The rules in force in one folder; in each tuple a later file beats an earlier one.

    Attributes:
        git: .gitignore files.
        own: .omnivecignore files; any rule of them beats every rule of `git`.
    """

    git: tuple[_IgnoreFile, ...] = ()
    own: tuple[_IgnoreFile, ...] = ()

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
        text = os.fsencode(path.as_posix())
        for file in (*reversed(self.own), *reversed(self.git)):
            verdict = file.says(text, folder)
            if verdict is not None:
                return verdict
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


def _rules(file: Path) -> tuple[_IgnoreFile, ...]:
    """The rules of an ignore file; none where it is missing or no regular file (a FIFO must not be opened)."""
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
    """A line understood; None for a comment and an empty line."""
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
    """A line without the blanks at its end, but for one behind a backslash."""
    bare = line.rstrip(b" ")
    escaped = (len(bare) - len(bare.rstrip(b"\\"))) % 2
    return bare + b" " if escaped and len(bare) < len(line) else bare
