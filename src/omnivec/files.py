"""Small JSON files, where the cache is, and files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError, OmnivecError, UsageError, WeightsError

_REQUIRED = object()


def read_json(path: Path, default: Any = _REQUIRED, kind: type | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        default: what it is where there is no such file.
        kind: what the file must hold, `dict` or `list`; None for anything.

    Raises:
        ModelError: the file is missing and has no default, cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelError(f"{path} is missing: the model's folder is incomplete") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no valid JSON ({error}): fetch the model again") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if kind is not None and not isinstance(content, kind):
        raise ModelError(f"{path} holds a {type(content).__name__} where a {kind.__name__} is due")
    return content


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Writes JSON in ASCII, so that even half a surrogate pair comes back."""
    path.write_text(json.dumps(content, indent=indent, default=_plain) + "\n", encoding="ascii")


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as lists and numbers."""
    return value.tolist()


def part_of(folder: Path, path: str, said_by: str) -> Path:
    """The folder of a part that a model's own file names; ModelError where it leads out of the model's folder."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelError(f"{folder}/{said_by}: the path {path!r} leads out of the model's folder")
    return folder / path


def cache_folder() -> Path:
    """The cache of omnivec alone: OMNIVEC_CACHE, else the platform's place. It need not exist yet."""
    if stated := os.environ.get("OMNIVEC_CACHE"):
        return Path(stated).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "omnivec" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "omnivec"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "omnivec"


def read_kept(path: Path) -> dict[str, Any]:
    """What was kept in a file of the cache; empty where nothing can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write_kept(path: Path, kept: Mapping[str, Any]) -> None:
    """Keeps something in a file of the cache, whole or not at all; a file that cannot be written costs time only."""
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a model's `path` to write a file or a folder to; it takes its place when the block ends well.

    Raises:
        WeightsError: the folder holds something that is no model, or the disk refused.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        known = any((path / name).exists() for name in ("config.json", "modules.json"))
        if path.is_dir() and not known and any(path.iterdir()):
            raise WeightsError(f"{path} is not empty and holds no model: choose another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """UsageError where no result can be written under this name: known before there is any work to lose."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "would lie in a folder that is not there"
        raise UsageError(f"{path} {what}: name a file in a folder that exists")


@contextlib.contextmanager
def result_file(path: Path) -> Iterator[Path]:
    """A path beside a result's `path` to write it to; it takes its place when the block ends well.

    Raises:
        UsageError: as `check_target`.
        OmnivecError: the file cannot be written.
    """
    check_target(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    except OSError as error:
        raise OmnivecError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
