"""Building the indexes of a collection's large spaces, in a process of its own, with progress."""

from __future__ import annotations

from pathlib import Path

from omnivec.collection.opened import Opened
from omnivec.collection.searched import STALE
from omnivec.errors import UsageError
from omnivec.progress import bar
from omnivec.store import index_files, matrix
from omnivec.store.index_builder import Builder, Built, dense_space
from omnivec.store.index_registry import AUTOMATIC
from omnivec.store.records import ACTIVE
from omnivec.store.sqlite import Catalogue
from omnivec.types import DENSE


def large(catalogue: Catalogue) -> list[str]:
    """The spaces that are searched with an index: dense, complete, and of more than `matrix.EXACT_ROWS` vectors."""
    with catalogue.snapshot():
        usual = [one.name for one in catalogue.spaces().values() if (one.kind, one.state) == (DENSE, ACTIVE)]
        return [name for name in usual if catalogue.vector_count(name) > matrix.EXACT_ROWS]


def stale(catalogue: Catalogue, folder: Path, index: str) -> list[str]:
    """The large spaces that have no index, or one that lacks more than a tenth of their vectors."""
    with catalogue.snapshot():
        held = {
            space: index_files.rows_of_newest(catalogue, folder, space, index) for space in large(catalogue)
        }
        return [
            space
            for space, rows in held.items()
            if abs(catalogue.vector_count(space) - rows) > STALE * catalogue.vector_count(space)
        ]


def build_stale(notes: Opened, index: str = AUTOMATIC) -> list[Built]:
    """Builds or extends the indexes of the spaces that `stale` lists."""
    wanted = stale(notes._catalogue, notes.folder, index)
    return [build(notes._catalogue, notes.folder, space, index, None) for space in wanted]


def build(catalogue: Catalogue, folder: Path, space: str, index: str, show: bool | None) -> Built:
    """Builds or extends the index of a space, and waits for it.

    Args:
        catalogue: of the collection.
        folder: of the collection.
        space: name of the space.
        index: name of the index.
        show: whether to show progress; None for the default.

    Raises:
        UsageError: the collection is open for reading only; there is no such space or index; the space is not dense.
        CollectionError: the file cannot be written, or the process ended.
    """
    if catalogue.readonly:
        raise UsageError(
            f"{folder} is open for reading only, and an index is a file in it: open it for writing"
        )
    index_files.stored_class(index)
    dense_space(catalogue, space)
    matrix.open_rows(catalogue, folder, space)  # writes the matrix file, from which the builder reads
    total = 2 * catalogue.vector_count(space)
    with bar(f"building the index of {space}", total, "vectors", show) as shown:
        place = 0

        def report(phase: str, done: int, of: int) -> None:
            nonlocal place
            now = {"reading": done, "adding": total - of + done}.get(phase, place)
            shown.advance(now - place)
            place = now

        return Builder(folder, space, index).run(report)
