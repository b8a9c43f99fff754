"""Documents for the tests of the store: small, and with vectors that name their passage."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.store import checksums, schema
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.strings import has_unspaced, searchable
from omnivec.types import Metric

DIM = 4


def space(name: str = "text", dim: int = DIM, metric: Metric = "cosine") -> SpaceRecord:
    return SpaceRecord(name, "org/model", dim, metric, {"weights": "abc"}, {"precision": "float32"}, ())


def passage(
    text: str, number: float = 0.0, parts: int = 1, space_name: str = "text", dim: int = DIM
) -> Passage:
    vectors = np.arange(parts * dim, dtype=np.float32).reshape(parts, dim) + np.float32(number)
    return Passage(0, len(text), 1, text, "text", {space_name: vectors})


def document(
    name: str,
    texts: Sequence[str] = ("some text",),
    number: float = 0.0,
    parts: int = 1,
    root: str | None = None,
    metadata: Any = None,
) -> Document:
    return Document(
        id=name,
        modality="text",
        pipeline="plain 1; 100 tokens",
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


def catalogue_of_version(folder: Path, version: int, texts: Sequence[str]) -> None:
    """A catalogue as a writer of that schema version left it: for each text a document of one passage and a vector."""
    folder.mkdir()
    file = sqlite3.connect(folder / "catalogue.sqlite", isolation_level=None)
    file.execute("PRAGMA page_size = 16384")
    file.execute("PRAGMA journal_mode = WAL")
    file.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    file.create_function("searchable", 1, searchable, deterministic=True)
    file.create_function("has_unspaced", 1, has_unspaced, deterministic=True)
    for number, sql, _ in schema.MIGRATIONS[:version]:
        for statement in schema.statements(sql):
            file.execute(statement)
        file.execute(f"PRAGMA user_version = {number}")
    made = space()
    file.execute(
        "INSERT INTO spaces (key, name, model, dim, metric, identity, provenance) VALUES (1, ?, ?, ?, ?, ?, ?)",
        (
            made.name,
            made.model,
            made.dim,
            made.metric,
            json.dumps(made.identity),
            json.dumps(made.provenance),
        ),
    )
    for key, text in enumerate(texts, 1):
        file.execute(
            "INSERT INTO documents (key, id, modality, how, digest, size, mtime_ns, device, metadata, lost, indexed_ns)"
            " VALUES (?, ?, 'text', 'h', x'00', 0, 0, 0, '{}', 0, 0)",
            (key, str(key - 1)),
        )
        searched = searchable(text) if version >= 3 else text
        row = [key, key, 0, 0, len(text), 1, "text", has_unspaced(searched), text]
        if version >= 3:  # the form that is searched, where it is another
            row.append(None if searched == text else searched)
        if version >= schema.NAMED:
            row.append(None)
        file.execute(f"INSERT INTO passages VALUES ({', '.join('?' * len(row))})", row)
        file.execute("INSERT INTO vectors VALUES (1, ?, 0, ?)", (key, np.ones(made.dim, "<f4").tobytes()))
    if version >= schema.CHECKED:
        checksums.fill(file)
    file.close()
