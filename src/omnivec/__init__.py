"""omnivec: any data in, vectors out, and everything people do with vectors."""

from __future__ import annotations

from omnivec.version import VERSION as __version__

# Old import paths that were documented, such as `omnivec.lookup` and `omnivec.typed`.
__path__.append(f"{__path__[0]}/former")

TYPE_CHECKING = False  # importing typing takes longer than the rest of this module

if TYPE_CHECKING:
    from typing import Any

    from omnivec.collection.asynchronous import AsyncCollection
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
    from omnivec.tasks.diarize import diarize
    from omnivec.tasks.duplicates import find_copies
    from omnivec.tasks.probe import Probe, load_probe
    from omnivec.tasks.voice import Voices, cluster_voices
    from omnivec.training.recipe_registry import train
    from omnivec.types import Audio, Encoded, Hit, Key, Segment, Series, Space, Transcript
    from omnivec.vectors.similarity import similarity

__all__ = [
    "AsyncCollection",
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
    "Probe",
    "SchemaError",
    "Segment",
    "Series",
    "Space",
    "Transcript",
    "UnknownKey",
    "UnsupportedModel",
    "UsageError",
    "Voices",
    "WeightsError",
    "__version__",
    "classify",
    "cluster_voices",
    "diarize",
    "find_copies",
    "load",
    "load_probe",
    "similarity",
    "train",
]

# Names are imported on first use: some load NumPy, an engine or a database, and a command that is interrupted during
# its imports should exit as quietly as one that is interrupted later.
_LAZY = {
    "AsyncCollection": "collection.asynchronous",
    "Audio": "types",
    "Classifier": "tasks.classify",
    "classify": "tasks.classify",
    "cluster_voices": "tasks.voice",
    "diarize": "tasks.diarize",
    "find_copies": "tasks.duplicates",
    "Probe": "tasks.probe",
    "load_probe": "tasks.probe",
    "Collection": "collection.collection",
    "Embedder": "models.embedder",
    "Encoded": "types",
    "Hit": "types",
    "Key": "types",
    "KeyedEmbedder": "models.keyed",
    "Segment": "types",
    "Series": "types",
    "Space": "types",
    "Transcript": "types",
    "Voices": "tasks.voice",
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
