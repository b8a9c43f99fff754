"""The way of one text through an embedder is short: calls of functions of ours, and how often the file changes."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import omnivec

HOME = str(Path(omnivec.__file__).parent)
MOST_CALLS, MOST_CHANGES = 40, 20


def test_one_text_takes_few_calls_through_few_files(text_model: omnivec.Embedder) -> None:
    """Comprehensions and lambdas are left out: whether they are calls depends on the version of Python."""
    text_model.encode("another text")  # What is imported or made at first use is no part of the way.
    way: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HOME) and not code.co_name.startswith("<"):
            way.append(code.co_filename)

    sys.setprofile(note)
    try:
        text_model.encode("one text")
    finally:
        sys.setprofile(None)
    assert way[0].endswith("embedder.py") and any(file.endswith("tokenizer.py") for file in way)
    assert len(way) <= MOST_CALLS
    assert sum(a != b for a, b in pairwise(way)) <= MOST_CHANGES
