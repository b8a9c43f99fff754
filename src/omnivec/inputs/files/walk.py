"""The files under a folder: what to take, what to leave out, and what can be proven gone.

Links are followed, and each real folder is listed once, under one name: its own where it lies under the root,
else that of the first link to it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path

from omnivec.inputs.content import MAX_BYTES
from omnivec.inputs.files import ignore
from omnivec.inputs.files.ignore import Ignore
from omnivec.inputs.files.read import TOO_LARGE
from omnivec.inputs.files.suffixes import kind_of
from omnivec.validation.reasons import escaped, of_system

_NEVER = frozenset((".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv"))
_SPECIAL = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
_BROKEN, _CIRCLES = "broken link", "link in a circle"
UNPROVEN = frozenset((_BROKEN, _CIRCLES, TOO_LARGE))
"""Kinds of what is left out though the document may still exist: its disk is not mounted, or only its size changed."""

Wanted = Callable[[Path], bool]
"""Whether a file is to be listed, told by its name alone."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to read.

    Attributes:
        path: absolute, below the root's own name.
        size: in bytes.
        mtime_ns: time of its last change, nanoseconds since 1970.
        device: number of the device it lies on; a folder whose disk is not mounted has another.
    """

    path: Path
    size: int
    mtime_ns: int
    device: int


class Walk(Iterator[FileEntry]):
    """The files under a root, in the order of their paths; made by `walk`.

    Attributes:
        root: the absolute path of what is listed, a folder or a file.
        failures: path -> why it could not be listed, one line; whole once the iterator is exhausted.
        left_out: path of what is under the root and no file to read -> its kind: a FIFO, a broken link, a file over
            the limit; whole once the iterator is exhausted. The root itself, which was named, is a failure then.
        skipped: lower-case suffix -> how many files were left out because their names promise nothing wanted.
    """

    def __init__(self, root: Path, hidden: bool, max_bytes: int, wanted: Wanted) -> None:
        # abspath would take ".." off a link, which leads elsewhere.
        self.root = root.resolve() if ".." in root.parts else root.absolute()
        self.failures: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._hidden = hidden
        self._max_bytes = max_bytes
        self._wanted = wanted
        self._devices: dict[Path, int] = {}
        self._names: dict[tuple[int, int], Path] = {}
        self._aliases: dict[Path, Path] = {}
        self._linked = False
        self._exhausted = False
        self._entries = self._list()

    def __next__(self) -> FileEntry:
        return next(self._entries)

    def covers(self, path: Path, device: int | None = None) -> bool:
        """Whether this run knows what is at `path`, so that a file it did not list there is provably gone.

        False before the iterator is exhausted, outside the root, and wherever `failures`, or `left_out` as `UNPROVEN`,
        names the path or a folder above it. What the rules leave out is known too: it is not listed on purpose.

        Args:
            path: of a file that may be gone.
            device: where given, the device the file was on; False if the folder it was in, or the nearest one
                that is left, is on another: a disk that is not mounted leaves an empty folder behind.
        """
        path = path.absolute()
        if not self._exhausted or not path.is_relative_to(self.root):
            return False
        here, device_above = self.root, None
        for part in ("", *path.relative_to(self.root).parts):
            here = self._aliases.get(here / part, here / part)
            if escaped(here) in self.failures or self.left_out.get(escaped(here)) in UNPROVEN:
                return False
            device_above = self._devices.get(here, device_above)
        return device is None or device_above is None or device_above == device

    def _list(self) -> Iterator[FileEntry]:
        try:
            pending = [(self.root, ignore.above(self.root))]
        except OSError as exc:
            self._fail(self.root, _why(self.root, exc))
            pending = []
        while pending:
            path, rules = pending.pop()
            try:
                status = path.stat()
                if stat.S_ISDIR(status.st_mode):
                    pending.extend(reversed(self._enter(path, rules, status)))
                elif self._takes(path, status):
                    yield FileEntry(path, status.st_size, status.st_mtime_ns, status.st_dev)
            except OSError as exc:
                if (category := _link(path, exc)) is not None:
                    self._leave_out(path, category, _why(path, exc))
                else:
                    self._fail(path, _why(path, exc))
        self._exhausted = True

    def _enter(self, folder: Path, rules: Ignore, status: os.stat_result) -> list[tuple[Path, Ignore]]:
        """The children of a folder, each with its rules; none where it is listed under another name."""
        key = (status.st_dev, status.st_ino)
        first = self._names.setdefault(key, folder)
        if first != folder:
            self._aliases[folder] = first
            return []
        inner, children = self._children(folder, rules)
        self._devices[folder] = status.st_dev
        if not self._linked and any(child.is_symlink() and _is_folder(child) for child in children):
            self._linked = True
            self._name_real_folders()
        return [(folder / child.name, inner) for child in children]

    def _children(self, folder: Path, rules: Ignore) -> tuple[Ignore, list[os.DirEntry[str]]]:
        """The rules inside a folder and, sorted by name, the entries that they leave."""
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        if folder != self.root and any(entry.name == "pyvenv.cfg" for entry in entries):
            return rules, []
        inner = rules.inside(folder)
        return inner, [entry for entry in entries if self._keeps(folder, entry, inner)]

    def _keeps(self, folder: Path, entry: os.DirEntry[str], rules: Ignore) -> bool:
        name, path = entry.name, folder / entry.name
        is_folder = _is_folder(entry)
        if name in _NEVER or (is_folder and (name.startswith(".omnivec") or name.endswith(".omni"))):
            return False
        if (name.startswith(".") and not self._hidden) or rules.ignores(path, folder=is_folder):
            return False
        if escaped(path) != str(path):
            self._fail(path, f"{escaped(path)}: its name is not valid UTF-8; rename it")
            return False
        return True

    def _name_real_folders(self) -> None:
        """Find every folder that lies under the root itself, so that a link met earlier cannot take its name.

        Only runs when there is a link to a folder. What fails here fails again when it is listed, and is said.
        """
        pending = [(self.root, ignore.above(self.root))]
        while pending:
            folder, rules = pending.pop()
            try:
                status = folder.stat()
                self._names.setdefault((status.st_dev, status.st_ino), folder)
                inner, children = self._children(folder, rules)
            except OSError:
                continue
            below = [folder / child.name for child in children if child.is_dir(follow_symlinks=False)]
            pending.extend((child, inner) for child in reversed(below))

    def _takes(self, path: Path, status: os.stat_result) -> bool:
        """Whether a file is to be read; a file that is the root itself always is."""
        if not stat.S_ISREG(status.st_mode):
            file_type = _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")
            self._leave_out(path, file_type, f"{escaped(path)}: is a {file_type}, which is never read")
        elif path != self.root and not self._wanted(path):
            self.skipped[path.suffix.lower()] += 1
        elif status.st_size > self._max_bytes:
            size = f"{status.st_size:,} bytes, over the limit of {self._max_bytes:,}"
            self._leave_out(path, TOO_LARGE, f"{escaped(path)}: {size}; split it")
        else:
            return True
        return False

    def _leave_out(self, path: Path, category: str, why: str) -> None:
        """What no file is to be read from; a failure where it was named itself."""
        if path == self.root:
            self._fail(path, why)
        else:
            self.left_out[escaped(path)] = category

    def _fail(self, path: Path, why: str) -> None:
        self.failures[escaped(path)] = why


def is_text(path: Path) -> bool:
    """Whether a file's name promises text."""
    return kind_of(path) is not None


def walk(root: Path, *, hidden: bool = False, max_bytes: int = MAX_BYTES, wanted: Wanted = is_text) -> Walk:
    """List the files of a kind under a root, texts unless told, links followed, ignore files honoured.

    Left out: what `.omnivecignore` and, where that says nothing, `.gitignore` files name (those of parent
    folders too, up to the top of the repository); version control's own folders, collections, caches and
    virtual environments; hidden files and folders; files that are not wanted (counted in `skipped`).
    A root that is a file, or lies in an ignored folder, was named on purpose and is taken.

    Args:
        root: a folder or a file; need not exist (then that is the one failure).
        hidden: take files and folders whose name begins with a dot, too.
        max_bytes: a larger file is left out.
        wanted: whether a file is, told by its name alone.

    Returns:
        An iterator of `FileEntry`; its `failures`, `left_out`, `skipped` and `covers` are whole once it is exhausted.
    """
    return Walk(Path(root), hidden, max_bytes, wanted)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere or in circles is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _target(path: Path) -> str | None:
    """What a link points to; None for all else."""
    try:
        return escaped(path.readlink())
    except OSError:
        return None


def _link(path: Path, exc: OSError) -> str | None:
    """The kind of a link that leads to nothing; None for all else that could not be looked at."""
    if _target(path) is None or exc.errno not in (ENOENT, ENOTDIR, ELOOP):
        return None
    return _CIRCLES if exc.errno == ELOOP else _BROKEN


def _why(path: Path, exc: OSError) -> str:
    """One line on what the system said, and the way out."""
    if isinstance(exc, PermissionError):
        what = "permission denied; give read access (for a folder also x) or leave it out with .omnivecignore"
    elif (category := _link(path, exc)) is not None:
        what = f"a link to {_target(path)}, which " + (
            "leads in circles" if category == _CIRCLES else "does not exist"
        )
    elif exc.errno == ENOENT:
        what = "does not exist; check the spelling, or whether its disk is mounted"
    elif exc.errno == ENAMETOOLONG:
        what = "the path is too long for the system; start the walk deeper"
    else:
        what = of_system(exc)
    return f"{escaped(path)}: {what}"
