"""What belongs to a document, put together from its passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from omnivec.store.records import StoredPassage
from omnivec.types import IN_CHARACTERS, Floats, Ints, Keys, SparseRow, SparseRows


def text_of(pieces: Sequence[StoredPassage]) -> str:
    """The text of a document from its passages in their order.

    Where spans count characters, each passage stands at its offset: overlaps are not repeated, and white space between
    passages, of which only the length and the lines are known, becomes line feeds and blanks. Otherwise the texts of
    the passages are lines, such as the segments of a transcript.
    """
    if not all(_in_characters(piece) for piece in pieces):
        return "\n".join(piece.text for piece in pieces if piece.text)
    parts: list[str] = []
    end, line = 0, 1
    for piece in pieces:
        start = int(piece.start)
        if start > end:
            lines = 0 if piece.line is None else min(max(piece.line - line, 0), start - end)
            parts.append("\n" * lines + " " * (start - end - lines))
            end = start
        added = piece.text[end - start :]
        if added:
            parts.append(added)
            end = start + len(piece.text)
        if piece.line is not None:
            line = piece.line + piece.text.count("\n")
    return "".join(parts)


def _in_characters(piece: StoredPassage) -> bool:
    """Whether the span of a passage counts characters; its modality tells, if an earlier version wrote it."""
    return piece.modality in IN_CHARACTERS if piece.unit is None else piece.unit == "characters"


def by_document(
    owners: Mapping[int, str], vectors: Mapping[str, tuple[Keys, Floats | SparseRows]]
) -> dict[str, dict[str, Floats | SparseRows]]:
    """The vectors of documents: id -> name of a space -> (parts, dim), in the order of their passages' keys.

    Args:
        owners: key of each passage -> id of its document.
        vectors: name of a space -> passage keys (n,) and matrix (n, dim), or n sparse vectors, ascending by key and
            part.
    """
    names = list(dict.fromkeys(owners.values()))
    number = {name: i for i, name in enumerate(names)}
    found: dict[str, dict[str, Floats | SparseRows]] = {name: {} for name in names}
    for space, (keys, matrix) in vectors.items():
        documents = np.array([number[owners[key]] for key in keys.tolist()], np.int64)
        order = np.argsort(documents, kind="stable")
        edges = np.searchsorted(documents[order], np.arange(len(names) + 1))
        for name, first, last in zip(names, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if last > first:
                found[name][space] = _taken(matrix, order[first:last])
    return found


def _taken(vectors: Floats | SparseRows, places: Ints) -> Floats | SparseRows:
    if not isinstance(vectors, SparseRows):
        taken: Floats = vectors[places]
        return taken
    edges = zip(vectors.offsets[places].tolist(), vectors.offsets[places + 1].tolist(), strict=True)
    return SparseRows.of([SparseRow(vectors.indices[i:j], vectors.weights[i:j]) for i, j in edges])
