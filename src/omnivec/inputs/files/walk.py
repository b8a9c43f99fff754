"""Walks the files in a folder: which ones to read, which to leave out, and which are provably gone.

Links are followed, and each real folder is listed only once: under its own path if it is in the root, else under that
of the first link to it.
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
"""Reasons for leaving a file out although its document may still exist: an unmounted disk, or only a larger size."""

Wanted = Callable[[Path], bool]
"""Returns whether a file is to be listed, by its name alone."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to read.

    Attributes:
        path: absolute path, which begins with that of the root.
        size: size in bytes.
        mtime_ns: time of its last modification, in nanoseconds since 1970.
        device: number of its device; it is another one if the disk of its folder is not mounted.
    """

    path: Path
    size: int
    mtime_ns: int
    device: int


class Walk(Iterator[FileEntry]):
    """An iterator over the files in a root, in the order of their paths; made by `walk`.

    The attributes are complete when the iterator is exhausted.

    Attributes:
        root: absolute path of the folder or file that is listed.
        failures: maps each path that could not be listed to the reason, one line.
        left_out: maps each path that cannot be read as a file to the reason, such as "FIFO" or "broken link"; if this
            is the root itself, it is a failure instead.
        skipped: counts the files that are not wanted, by lower-case suffix.
    """

    def __init__(self, root: Path, hidden: bool, max_bytes: int, wanted: Wanted, large: Wanted) -> None:
        # abspath would remove ".." after a link, which leads to another folder.
        self.root = root.resolve() if ".." in root.parts else root.absolute()
        self.failures: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._hidden = hidden
        self._max_bytes = max_bytes
        self._wanted, self._large = wanted, large
        self._devices: dict[Path, int] = {}
        self._names: dict[tuple[int, int], Path] = {}
        self._aliases: dict[Path, Path] = {}
        self._linked = False
        self._exhausted = False
        self._entries = self._list()

    def __next__(self) -> FileEntry:
        return next(self._entries)

    def covers(self, path: Path, device: int | None = None) -> bool:
        """Whether this walk has seen what is at `path`, so that a file that it did not list there is provably gone.

        False before the iterator is exhausted, outside the root, and if the path or a folder above it is in `failures`,
        or in `left_out` with a reason in `UNPROVEN`. Ignored paths are covered, since they are left out on purpose.

        Args:
            path: path of a file that may be gone.
            device: the device that the file was on; False is returned if its folder, or the nearest one that exists, is
                on another device, because a disk that is not mounted leaves an empty folder. None checks no device.
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
        """Returns the children of a folder, each with its rules; none if it is listed under another path."""
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
        """Returns the rules inside a folder and the entries that they do not ignore, sorted by name."""
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
        """Finds all real folders in the root, so that these are not listed under the path of a link.

        It is only called if there is a link to a folder. Errors are ignored, since they occur again in the walk.
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
        """Whether a file is to be read; the root is, whatever its name."""
        if not stat.S_ISREG(status.st_mode):
            file_type = _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")
            self._leave_out(path, file_type, f"{escaped(path)}: is a {file_type}, which is never read")
        elif path != self.root and not self._wanted(path):
            self.skipped[path.suffix.lower()] += 1
        elif status.st_size > self._max_bytes and not self._large(path):
            size = f"{status.st_size:,} bytes, over the limit of {self._max_bytes:,}"
            self._leave_out(path, TOO_LARGE, f"{escaped(path)}: {size}; split it")
        else:
            return True
        return False

    def _leave_out(self, path: Path, category: str, why: str) -> None:
        """Records something that is not read; it is a failure if it is the root."""
        if path == self.root:
            self._fail(path, why)
        else:
            self.left_out[escaped(path)] = category

    def _fail(self, path: Path, why: str) -> None:
        self.failures[escaped(path)] = why


def is_text(path: Path) -> bool:
    """Whether a file is a text file, according to its name."""
    return kind_of(path) is not None


def _never(path: Path) -> bool:
    return False


def walk(
    root: Path,
    *,
    hidden: bool = False,
    max_bytes: int = MAX_BYTES,
    wanted: Wanted = is_text,
    large: Wanted = _never,
) -> Walk:
    """Lists the files in a root, by default text files; follows links and honours ignore files.

    These are left out: what `.omnivecignore` and, with lower priority, `.gitignore` files ignore, including those of
    parent folders up to the top of the repository; folders of version control, collections, caches and virtual
    environments; hidden files and folders; files that are not wanted, which are counted in `skipped`. A root that is
    ignored itself is listed, since the user has named it.

    Args:
        root: a folder or a file; if it does not exist, this is a failure.
        hidden: whether to include files and folders whose names begin with a dot.
        max_bytes: largest size of a file; larger ones are left out.
        wanted: returns whether a file is wanted, by its name alone.
        large: returns whether a file may be larger than `max_bytes`, by its name alone.

    Returns:
        An iterator of `FileEntry`; its attributes and `covers` are complete when it is exhausted.
    """
    return Walk(Path(root), hidden, max_bytes, wanted, large)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a broken or circular link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _target(path: Path) -> str | None:
    """Returns the target of a link; None if it is not a link."""
    try:
        return escaped(path.readlink())
    except OSError:
        return None


def _link(path: Path, exc: OSError) -> str | None:
    """Returns whether a link is broken or circular, as a reason; None for other errors."""
    if _target(path) is None or exc.errno not in (ENOENT, ENOTDIR, ELOOP):
        return None
    return _CIRCLES if exc.errno == ELOOP else _BROKEN


def _why(path: Path, exc: OSError) -> str:
    """Describes an error of the system in one line, with a remedy."""
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
