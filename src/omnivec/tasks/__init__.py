"""What people do with a model in hand: classification without training, copies of images.

The functions on arrays that were documented under this name are those of `omnivec.vectors`.
"""

from __future__ import annotations

from typing import Any

from omnivec import vectors


def __getattr__(name: str) -> Any:
    if name in vectors.__all__:
        return getattr(vectors, name)
    raise AttributeError(f"module 'omnivec.tasks' has no attribute {name!r}")
