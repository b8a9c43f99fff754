"""The formats of an export of a whole collection by their names; `whole_layouts` says what is in their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from omnivec.collection.whole_layouts import (
    DOCUMENTS,
    PASSAGES,
    ArraySink,
    ArraySource,
    JsonSink,
    array_name,
    arrays_of,
    from_lines,
    rows_name,
)
from omnivec.store.records import SpaceRecord
from omnivec.store.wholes import Whole

LAYOUTS = ("jsonl", "parquet", "numpy", "faiss")


class Sink(Protocol):
    """Writes documents into the files of a layout."""

    def write(self, documents: Sequence[Whole]) -> None:
        """Writes some documents."""

    def close(self) -> None:
        """Completes the files; also called after an error."""


def sink(layout: str, folder: Path, spaces: Sequence[SpaceRecord]) -> Sink:
    """The writer of a layout."""
    if layout == "jsonl":
        return JsonSink(folder, spaces, None)
    if layout == "parquet":
        from omnivec.collection.whole_parquet import ParquetSink

        return ParquetSink(folder, spaces)
    return JsonSink(folder, spaces, [ArraySink(folder, i, one, layout) for i, one in enumerate(spaces)])


def files_of(layout: str, spaces: Sequence[SpaceRecord]) -> list[str]:
    """Names of the files of a layout."""
    if layout == "parquet":
        return [f"{DOCUMENTS}.parquet", f"{PASSAGES}.parquet"]
    names = [f"{DOCUMENTS}.jsonl"]
    for i, one in enumerate(spaces if layout != "jsonl" else ()):
        names += [rows_name(i, one), *(array_name(what, i, one, layout) for what in arrays_of(one))]
    return names


def documents(layout: str, folder: Path, spaces: Sequence[SpaceRecord]) -> Iterator[Whole]:
    """Reads the documents of a layout, in the order in which they were written.

    Raises:
        CollectionError: a file does not hold what the layout says.
    """
    if layout == "parquet":
        from omnivec.collection.whole_parquet import read_parquet

        return read_parquet(folder, spaces)
    arrays = (
        None if layout == "jsonl" else [ArraySource(folder, i, one, layout) for i, one in enumerate(spaces)]
    )
    return from_lines(folder / f"{DOCUMENTS}.jsonl", spaces, arrays)
