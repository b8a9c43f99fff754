"""Documents for the tests of the store: small, and with vectors that name their passage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnivec.store.records import Document, Passage, SpaceRecord

DIM = 4


def space(name="text", dim=DIM, metric="cosine"):
    return SpaceRecord(name, "org/model", dim, metric, {"weights": "abc"}, {"precision": "float32"}, ())


def passage(text, number=0.0, parts=1, space_name="text", dim=DIM):
    vectors = np.arange(parts * dim, dtype=np.float32).reshape(parts, dim) + np.float32(number)
    return Passage(0, len(text), 1, text, "text", {space_name: vectors})


def document(name, texts: Sequence[str] = ("some text",), number=0.0, parts=1, root=None, metadata=None):
    return Document(
        id=name,
        modality="text",
        how="plain 1; 100 tokens",
        digest=name.encode("utf-8", "surrogatepass"),
        root=root,
        path=f"{root}/{name}" if root else None,
        size=sum(map(len, texts)),
        mtime_ns=1_700_000_000_123_456_789,
        device=7,
        metadata=metadata or {},
        lost=2,
        passages=tuple(passage(text, number + i, parts) for i, text in enumerate(texts)),
    )
