"""Reads files and items to the content that a collection stores or searches for, by their modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omnivec.errors import ItemError
from omnivec.inputs import modality
from omnivec.inputs.content import MAX_BYTES, Content, Cutting, Piece
from omnivec.inputs.items import shown
from omnivec.types import ModalityName
from omnivec.validation.reasons import file_name, item_error


def read(path: Path, *, encoding: str | Sequence[str] | None = None, max_bytes: int = MAX_BYTES) -> Content:
    """Reads a file, whose modality is determined by its name, or else by its first bytes.

    Args:
        path: path of the file.
        encoding: one or more encodings for a text that is not UTF-8 and does not name its encoding.
        max_bytes: largest size of the file; no limit for a modality whose files are read in blocks.

    Raises:
        ItemError: the file is of a modality that cannot be read, or damaged; one line that begins with its path.
    """
    from omnivec.inputs.files.read import checked_encodings, read_bytes

    try:
        data = b"" if is_read_in_blocks(path) else read_bytes(path, max_bytes)
        record = modality.get(modality.of_file(path, data))
        if record.read_file is not None:
            return record.read_file(path)
        if record.read is None:
            raise ItemError(
                f"{file_name(path)}: {record.one} by its name, but {record.plural} cannot be read yet"
            )
        return record.read(data, path, checked_encodings(encoding))
    except BaseException as error:
        raise item_error(error, file_name(path)) from error


def content_of(item: Any) -> Content:
    """Reads an item: a str is a text, a pathlib.Path a file, a PIL image or uint8 (h, w, 3) an image.

    Raises:
        ItemError: the item has no modality, or cannot be read.
    """
    if isinstance(item, Path):
        return read(item)
    record = modality.get(modality.of(item))
    if record.content is None:
        raise ItemError(f"{shown(item)} is {record.one}, but collections do not support {record.plural}")
    return record.content(item)


def is_readable(path: Path) -> bool:
    """Whether a file can be a document, according to its name."""
    name = modality.of_name(path)
    record = None if name is None else modality.get(name)
    return record is not None and (record.read is not None or record.read_file is not None)


def is_read_in_blocks(path: Path) -> bool:
    """Whether a file is of a modality whose files are read in blocks, according to its name: it may be of any size."""
    name = modality.of_name(path)
    return name is not None and modality.get(name).read_file is not None


def pieces_of(content: Content, model: Any, cutting: Callable[[ModalityName], Cutting]) -> list[Piece]:
    """Splits content into passages.

    Args:
        content: the content.
        model: the embedder that will embed the passages.
        cutting: returns how items of a modality are split; only called for modalities that are.

    Raises:
        ItemError: there is nothing to embed.
    """
    record = modality.get(content.modality)
    if not record.is_cut or record.passages is None:
        return [Piece(0, 0, None, content.text, content.item)]
    how = cutting(content.modality)
    try:
        return record.passages(content, model, how)
    except BaseException as error:
        raise item_error(error) from error
