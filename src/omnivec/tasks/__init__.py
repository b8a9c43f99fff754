"""Tasks that use a model: classification without training, and copies of images.

The functions on arrays that were once documented here are in `omnivec.vectors`; the old import path still works.
"""

from __future__ import annotations

from typing import Any

from omnivec import vectors


def __getattr__(name: str) -> Any:
    if name in vectors.__all__:
        return getattr(vectors, name)
    raise AttributeError(f"module 'omnivec.tasks' has no attribute {name!r}")
