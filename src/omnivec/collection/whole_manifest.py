"""The manifest of an export of a whole collection: what was exported, in which files, and how they are verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import CollectionError
from omnivec.store import rows
from omnivec.store.records import SpaceRecord
from omnivec.validation.reasons import of_system
from omnivec.vectors.arrays import digits
from omnivec.version import VERSION as OMNIVEC

NAME = "manifest.json"
FORMAT = "omnivec collection"
VERSION = 1
"""Of the format; an import reads this one."""

_LARGEST = 2**26
_BLOCK = 2**20


@dataclass
class Manifest:
    """What an export holds.

    Attributes:
        layout: "jsonl", "parquet", "numpy" or "faiss".
        collection: id of the collection.
        changes: number of writes to it.
        documents: number of documents.
        passages: number of passages.
        vectors: name of a space -> number of its vectors.
        checksum: exclusive or of the checksums of all documents.
        spaces: with their models and canaries.
        roots: synced folders.
        files: name -> (bytes, BLAKE2b of the content).
    """

    layout: str
    collection: str
    changes: int
    documents: int
    passages: int
    vectors: dict[str, int]
    checksum: int
    spaces: list[SpaceRecord]
    roots: list[str]
    files: dict[str, tuple[int, str]] = field(default_factory=dict)


def write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a folder whose other files are complete."""
    for file in sorted(folder.iterdir()):
        manifest.files[file.name] = (file.stat().st_size, _hashed(file))
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "layout": manifest.layout,
        "omnivec": OMNIVEC,
        "collection": manifest.collection,
        "changes": manifest.changes,
        "documents": manifest.documents,
        "passages": manifest.passages,
        "vectors": manifest.vectors,
        "checksum": manifest.checksum,
        "roots": manifest.roots,
        "spaces": [_space_out(one) for one in manifest.spaces],
        "files": {
            name: {"bytes": size, "blake2b": digest} for name, (size, digest) in manifest.files.items()
        },
    }
    record["blake2b"] = _digest_of(record)
    text = json.dumps(record, ensure_ascii=False, indent=1)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def _space_out(one: SpaceRecord) -> dict[str, Any]:
    plain = ("name", "model", "dim", "metric", "kind", "dtype", "state")
    return {
        **{name: getattr(one, name) for name in plain},
        "modalities": list(one.modalities),
        "identity": one.identity,
        "provenance": one.provenance,
        "canaries": [{"name": name, "vector": digits(vector)} for name, vector in one.canaries],
    }


def read(folder: Path) -> Manifest:
    """Reads the manifest of an export.

    Raises:
        CollectionError: there is none, it was changed, or it has another version.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > _LARGEST:
            raise CollectionError(f"{path} has {path.stat().st_size:,} bytes: it is no manifest of an export")
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CollectionError(f"{folder} is no export of a collection: it has no {NAME}") from error
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {of_system(error)}") from error
    except (ValueError, RecursionError) as error:
        raise CollectionError(f"{path} is not JSON: it is damaged, or no manifest of an export") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CollectionError(f"{path} is not the manifest of an export of a collection")
    if record.get("version") != VERSION:
        raise CollectionError(
            f"{folder} has version {record.get('version')!r} of the format of exports, this omnivec reads {VERSION}; "
            "update omnivec"
        )
    stated = record.pop("blake2b", None)
    if stated != _digest_of(record):
        raise CollectionError(f"{path} is not what was written: its digest does not fit; export again")
    try:
        plain = ("layout", "collection", "changes", "documents", "passages", "vectors", "checksum")
        facts: dict[str, Any] = {name: record[name] for name in plain}
        return Manifest(
            **facts,
            spaces=[_space_in(one) for one in record["spaces"]],
            roots=[str(one) for one in record["roots"]],
            files={name: (one["bytes"], one["blake2b"]) for name, one in record["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CollectionError(f"{path} lacks something or has it of another type: {error}") from error


def _space_in(one: Mapping[str, Any]) -> SpaceRecord:
    texts = (json.dumps(one["identity"]), json.dumps(one["provenance"]), json.dumps(one["modalities"]))
    row = (
        one["name"],
        1,
        one["model"],
        one["dim"],
        one["metric"],
        *texts,
        one["kind"],
        one["dtype"],
        one["state"],
    )
    if (fault := next(rows.SPACE.faults([row]), None)) is not None:
        raise ValueError(fault)
    canaries = [(str(c["name"]), np.array(c["vector"], np.float32)) for c in one["canaries"]]
    if any(vector.shape != (one["dim"],) for _, vector in canaries):
        raise ValueError(f"a canary of the space {one['name']!r} has not {one['dim']} components")
    plain = ("name", "model", "dim", "metric", "identity", "provenance", "kind", "dtype", "state")
    facts: dict[str, Any] = {name: one[name] for name in plain}
    return SpaceRecord(**facts, canaries=tuple(canaries), modalities=tuple(one["modalities"]))


def check_files(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Compares the files of an export with its manifest.

    Args:
        folder: of the export.
        manifest: as read.
        names: of the files that its layout needs.

    Raises:
        CollectionError: a file is missing, has another size or other content.
    """
    for name in names:
        if name not in manifest.files:
            raise CollectionError(f"{folder / NAME} does not name the file {name}, which its layout needs")
    for name, (size, digest) in manifest.files.items():
        file = folder / name
        if name != Path(name).name or not file.is_file():
            raise CollectionError(f"{file} is missing: copy the folder {folder} as a whole, or export again")
        try:
            found = file.stat().st_size
            if found != size:
                raise CollectionError(f"{file} has {found:,} bytes, and {size:,} were written: copy it again")
            if _hashed(file) != digest:
                raise CollectionError(f"{file} is not what was written: its digest differs; copy it again")
        except OSError as error:
            raise CollectionError(f"{file} cannot be read: {of_system(error)}") from error


def _digest_of(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _hashed(file: Path) -> str:
    hashed = hashlib.blake2b(digest_size=32)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
