"""Files and items to what a collection keeps or looks for, each read once, by its modality."""

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
    """A file, by its name; where that says nothing, by its first bytes.

    Raises:
        ItemError: of no modality that can be read, or damaged; one line that begins with its path.
    """
    from omnivec.inputs.files.read import checked_encodings, read_bytes

    try:
        data = read_bytes(path, max_bytes)
        record = modality.get(modality.of_file(path, data))
        if record.read is None:
            raise ItemError(
                f"{file_name(path)}: {record.one} by its name, and nothing here reads {record.plural}"
            )
        return record.read(data, path, checked_encodings(encoding))
    except BaseException as error:
        raise item_error(error, file_name(path)) from error


def content_of(item: Any) -> Content:
    """An item: a str is a text, a pathlib.Path a file, a PIL image or uint8 (h, w, 3) an image.

    Raises:
        ItemError: an item of no modality, or one that cannot be read.
    """
    if isinstance(item, Path):
        return read(item)
    record = modality.get(modality.of(item))
    if record.content is None:
        raise ItemError(f"{shown(item)} is {record.one}, and a collection takes no {record.plural}")
    return record.content(item)


def is_readable(path: Path) -> bool:
    """Whether a file's name promises what can become a document."""
    name = modality.of_name(path)
    return name is not None and modality.get(name).read is not None


def pieces_of(content: Content, model: Any, cutting: Callable[[ModalityName], Cutting]) -> list[Piece]:
    """The passages of what was read.

    Args:
        content: what was read.
        model: the embedder that will embed them.
        cutting: modality -> how it is cut; asked only of one that is.

    Raises:
        ItemError: there is nothing in it to embed.
    """
    record = modality.get(content.modality)
    if not record.is_cut or record.passages is None:
        return [Piece(0, 0, None, content.text, content.item)]
    how = cutting(content.modality)
    try:
        return record.passages(content, model, how)
    except BaseException as error:
        raise item_error(error) from error
