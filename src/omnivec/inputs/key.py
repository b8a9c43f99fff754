"""The modality of keys, names of nodes, users, products or words: Key(name)."""

from __future__ import annotations

from typing import Any

from omnivec.inputs.modality import Modality
from omnivec.types import Key


def _accepts(item: Any) -> bool:
    return isinstance(item, Key)


MODALITY = Modality(
    name="key",
    one="a key",
    plural="keys",
    given="Key(name)",
    unit="keys",
    rank=5,
    accepts=_accepts,
)
