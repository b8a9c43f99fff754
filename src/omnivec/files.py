"""Reading the small files of a model's folder, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError

_REQUIRED = object()


def read_json(path: Path, default: Any = _REQUIRED) -> Any:
    """The content of a JSON file; `default` where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelError(f"{path} is missing: the model's folder is incomplete") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no valid JSON ({error}): fetch the model again") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
