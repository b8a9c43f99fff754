"""omnivec: any data in, vectors out, and everything people do with vectors."""

from __future__ import annotations

from omnivec.version import VERSION as __version__

# Modules that documented names lived in before: `omnivec.lookup`, `omnivec.typed`.
__path__.append(f"{__path__[0]}/former")

TYPE_CHECKING = False  # typing itself takes longer to import than all that follows

if TYPE_CHECKING:
    from typing import Any

    from omnivec.collection.collection import Collection
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
        UnknownKey,
        UnsupportedModel,
        UsageError,
        WeightsError,
    )
    from omnivec.models.embedder import Embedder
    from omnivec.models.keyed import KeyedEmbedder
    from omnivec.models.loading import load
    from omnivec.tasks.classify import Classifier, classify
    from omnivec.tasks.duplicates import find_copies
    from omnivec.training.recipe_registry import train
    from omnivec.types import Audio, Encoded, Hit, Key, Series, Space
    from omnivec.vectors.similarity import similarity

__all__ = [
    "Audio",
    "Classifier",
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
    "Key",
    "KeyedEmbedder",
    "MissingExtra",
    "ModelError",
    "ModelNotFound",
    "OmnivecError",
    "SchemaError",
    "Series",
    "Space",
    "UnknownKey",
    "UnsupportedModel",
    "UsageError",
    "WeightsError",
    "__version__",
    "classify",
    "find_copies",
    "load",
    "similarity",
    "train",
]

# Names are imported when they are first asked for: some load NumPy, an engine or a database, and a command that is
# stopped while it imports is to end as quietly as later on.
_LAZY = {
    "Audio": "types",
    "Classifier": "tasks.classify",
    "classify": "tasks.classify",
    "find_copies": "tasks.duplicates",
    "Collection": "collection.collection",
    "Embedder": "models.embedder",
    "Encoded": "types",
    "Hit": "types",
    "Key": "types",
    "KeyedEmbedder": "models.keyed",
    "Series": "types",
    "Space": "types",
    "load": "models.loading",
    "similarity": "vectors.similarity",
    "train": "training.recipe_registry",
    "CollectionBusy": "errors",
    "CollectionDamaged": "errors",
    "CollectionError": "errors",
    "DownloadError": "errors",
    "FilterError": "errors",
    "IdentityError": "errors",
    "ItemError": "errors",
    "ItemErrors": "errors",
    "MissingExtra": "errors",
    "ModelError": "errors",
    "ModelNotFound": "errors",
    "OmnivecError": "errors",
    "SchemaError": "errors",
    "UnknownKey": "errors",
    "UnsupportedModel": "errors",
    "UsageError": "errors",
    "WeightsError": "errors",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"omnivec.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'omnivec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
