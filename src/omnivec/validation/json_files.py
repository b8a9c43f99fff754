"""Reading and writing the small JSON files of models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError
from omnivec.validation.reasons import of_system

_REQUIRED = object()


def read_json(path: Path, default: Any = _REQUIRED, kind: type | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        default: returned if there is no such file.
        kind: the type that the file must hold, `dict` or `list`; None for any.

    Raises:
        ModelError: the file is missing and there is no default, it cannot be read, or it holds another type.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise ModelError(f"{path} is a pipe or a device, not a file, so it is not read")
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_integer)
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelError(f"{path} is missing: the model's folder is incomplete") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON ({error}): fetch the model again") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {of_system(error)}") from error
    if kind is not None and not isinstance(content, kind):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected a {kind.__name__}")
    return content


def _integer(digits: str) -> float:
    """The int that digits denote; infinity if it is beyond the range of floats, as `json` reads 1e999."""
    return int(digits) if len(digits) <= 310 else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def write_json(path: Path, content: object, indent: int | None = 2) -> None:
    """Writes JSON in ASCII, so that lone surrogates are read back unchanged."""
    path.write_text(json.dumps(content, indent=indent, default=_plain) + "\n", encoding="ascii")


def _plain(value: Any) -> Any:
    """NumPy's arrays and numbers as lists and numbers."""
    return value.tolist()


def part_of(folder: Path, path: str, said_by: str) -> Path:
    """The path of a part that a file of a model names; ModelError if it leads out of the model's folder.

    Args:
        folder: of the model.
        path: of the part, relative to it.
        said_by: the file that names the part, for messages.
    """
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelError(f"{folder}/{said_by}: the path {path!r} leads out of the model's folder")
    return folder / path
