"""`Collection.salvage`: a new collection, and a file of rows with what could not be verified."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

from omnivec.collection.cells import DAMAGE, ID, MODALITY, PATH, TEXT, column_of
from omnivec.errors import CollectionError
from omnivec.files import written
from omnivec.store.salvage import Salvaged, Unverified, salvage


def salvaged(source: Path, target: Path) -> Salvaged:
    """Implements `Collection.salvage`."""
    beside = target.absolute().with_name(f"{target.absolute().name}.unverified.jsonl")
    if os.path.lexists(beside):
        raise CollectionError(f"{beside} exists already: move it away, or choose another name for {target}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with written(beside, error=CollectionError) as scratch, scratch.open("wb") as file:

        def leave(one: Unverified) -> None:
            nonlocal rows
            rows += _write(file, one)

        report = salvage(source, target, leave)
    if rows:
        report.unverified = beside
    else:
        beside.unlink()
    return report


def _write(file: IO[bytes], one: Unverified) -> bool:
    """Writes a row of what can be read of a document, if it has text; returns whether it did."""
    text = _joined(one)
    if not text.strip():
        return False
    facts = {column_of(key, (ID, TEXT)): value for key, value in (one.metadata or {}).items()}
    row: dict[str, Any] = {ID: one.id or f"salvaged {one.key}", TEXT: text, **facts, DAMAGE: one.why}
    row |= {MODALITY: one.modality} if one.modality else {}
    row |= {PATH: one.path} if one.path is not None else {}
    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    return True


def _joined(one: Unverified) -> str:
    """The texts of passages at their places; blanks where nothing is known, and without what they repeat."""
    text = ""
    for start, piece in sorted(one.texts):
        if float(start).is_integer() and len(text) <= start <= len(text) + len(piece) + 10_000:
            text += " " * (int(start) - len(text)) + piece
        elif start < len(text):
            text += piece[len(text) - int(start) :]
        else:
            text += f"\n{piece}"
    return text
