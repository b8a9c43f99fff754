"""Random checkpoints come from the tests of the families."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import checkpoints


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of one's own, kept for the session: on some CPUs the first load measures precisions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIVEC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT checkpoint."""
    place = tmp_path_factory.mktemp("base")
    checkpoints.bert(place, width=32, layers=2)
    return place


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    """Twelve pairs of which no text equals another."""
    words = [
        "quick",
        "brown",
        "fox",
        "lazy",
        "dog",
        "café",
        "weights",
        "engine",
        "graph",
        "capital",
        "times",
        "my",
    ]
    return [(f"the {word} is built", f"{word} jumps over it") for word in words]
