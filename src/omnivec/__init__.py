"""omnivec: any data in, vectors out, and everything people do with vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omnivec.errors import (
    CollectionBusy,
    CollectionDamaged,
    CollectionError,
    DownloadError,
    FilterError,
    IdentityError,
    ItemError,
    ItemErrors,
    MissingExtra,
    ModelError,
    ModelNotFound,
    OmnivecError,
    SchemaError,
    UnsupportedModel,
    UsageError,
    WeightsError,
)
from omnivec.version import VERSION as __version__

if TYPE_CHECKING:
    from omnivec.collection import Collection
    from omnivec.embedder import Embedder
    from omnivec.keyed import KeyedEmbedder
    from omnivec.loading import load
    from omnivec.tasks.nearness import similarity
    from omnivec.training.recipes import train
    from omnivec.types import Audio, Encoded, Hit, Space

__all__ = [
    "Audio",
    "Collection",
    "CollectionBusy",
    "CollectionDamaged",
    "CollectionError",
    "DownloadError",
    "Embedder",
    "Encoded",
    "FilterError",
    "Hit",
    "IdentityError",
    "ItemError",
    "ItemErrors",
    "KeyedEmbedder",
    "MissingExtra",
    "ModelError",
    "ModelNotFound",
    "OmnivecError",
    "SchemaError",
    "Space",
    "UnsupportedModel",
    "UsageError",
    "WeightsError",
    "__version__",
    "load",
    "similarity",
    "train",
]

# Names whose modules load NumPy, an engine or a database are imported when they are first asked for.
_LAZY = {
    "Audio": "types",
    "Collection": "collection",
    "Embedder": "embedder",
    "Encoded": "types",
    "Hit": "types",
    "KeyedEmbedder": "keyed",
    "Space": "types",
    "load": "loading",
    "similarity": "tasks.nearness",
    "train": "training.recipes",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"omnivec.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'omnivec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
