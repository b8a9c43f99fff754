"""Small JSON files of models: read with one kind of error, written in ASCII."""

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
        default: what it is where there is no such file.
        kind: what the file must hold, `dict` or `list`; None for anything.

    Raises:
        ModelError: the file is missing and has no default, cannot be read, or holds something else.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise ModelError(f"{path} is a pipe or a device, no file: it is not read")
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_integer)
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelError(f"{path} is missing: the model's folder is incomplete") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no valid JSON ({error}): fetch the model again") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {of_system(error)}") from error
    if kind is not None and not isinstance(content, kind):
        raise ModelError(f"{path} holds a {type(content).__name__} where a {kind.__name__} is due")
    return content


def _integer(digits: str) -> float:
    """The number that digits mean; one that no float reaches is infinite, as it is with an exponent."""
    return int(digits) if len(digits) <= 310 else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


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
