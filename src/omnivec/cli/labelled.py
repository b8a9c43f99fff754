"""Labelled items for `omnivec classify --train`: from a table, or from a folder with a subfolder for each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnivec.cli.listing import FileListing
from omnivec.cli.rows import records_of
from omnivec.errors import ItemError, UsageError
from omnivec.inputs.files import rows
from omnivec.inputs.modality import readable
from omnivec.training.labelled import LABELLED
from omnivec.validation.arguments import is_missing
from omnivec.validation.reasons import escaped

FILES = ("file", "path", "filename", "file_name")
"""Names of columns that hold paths, by default."""

TEXTS, LABELS = LABELLED.roles.values()


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        item: paths, or texts if `texts`; None for the first of FILES and TEXTS that there is.
        label: labels; None for the first of LABELS that there is.
        group: what must not lie on both sides of a fold; None for nothing.
        texts: whether `item` holds texts, whatever its name.
    """

    item: str | None = None
    label: str | None = None
    group: str | None = None
    texts: bool = False

    def __bool__(self) -> bool:
        return bool(self.item or self.label or self.group or self.texts)


@dataclass(eq=False)
class Labelled:
    """Items with their labels.

    Attributes:
        items: paths or texts.
        labels: of each; "" for an item without one.
        groups: of each; None if no column of groups is named.
        places: where each comes from, for messages.
        failures: rows that cannot be used, one line each.
    """

    items: list[str | Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] | None = None
    places: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def read_labelled(source: Path, columns: Columns, hidden: bool) -> Labelled:
    """Reads labelled items.

    Args:
        source: a CSV, TSV, JSON lines or Parquet file, whose paths are relative to it; or a folder with a subfolder for
            each label.
        columns: of a table.
        hidden: whether files and folders whose names begin with a dot are read.

    Raises:
        UsageError: it does not exist, is neither, or has no rows; a column is missing.
    """
    if source.is_dir():
        if columns:
            raise UsageError(f"{source} is a folder: --column, --label, --group and --texts are for tables")
        return _folder(source, hidden)
    if not source.exists():
        raise UsageError(f"--train {escaped(source)}: it does not exist")
    if rows.kind(source) not in rows.SUFFIXES:
        raise UsageError(
            f"--train {escaped(source)}: give a table ({', '.join(rows.SUFFIXES)}), or a folder with a subfolder for "
            "each label"
        )
    try:
        found = _table(source, columns)
    except ItemError as error:
        raise UsageError(f"--train {error}") from error
    if not found.items:
        reasons = f": {found.failures[0]}" if found.failures else ": it has no rows"
        raise UsageError(f"--train {escaped(source)}{reasons}")
    return found


def _table(path: Path, columns: Columns) -> Labelled:
    found = Labelled(groups=None if columns.group is None else [])
    names: tuple[str, str] | None = None
    for number, row in records_of(path, None):
        place = f"{escaped(path)}:{number}"
        if not isinstance(row, dict):
            why = str(row) if isinstance(row, ItemError) else f"a {type(row).__name__}, not an object"
            found.failures.append(f"{place}: {why}")
            continue
        names = names or _names(path, columns, list(row))
        item, label = (_cell(row, name) for name in names)
        if item is None:
            found.failures.append(f"{place}: {names[0]} is empty")
            continue
        is_text = columns.texts or names[0].lower() in TEXTS
        found.items.append(item if is_text else path.parent / item)
        found.labels.append(label or "")
        found.places.append(place)
        if found.groups is not None and columns.group is not None:
            found.groups.append(_cell(row, columns.group) or "")
    return found


def _names(path: Path, columns: Columns, there: list[str]) -> tuple[str, str]:
    """The columns of items and of labels; UsageError if one is missing."""
    for option, name in (("--column", columns.item), ("--label", columns.label), ("--group", columns.group)):
        if name is not None and name not in there:
            raise UsageError(
                f"{option} {name}: {escaped(path)} has only {', '.join(map(str, there)) or 'nothing'}"
            )
    return (
        columns.item or _first(path, there, (*FILES, *TEXTS), "items", "--column"),
        columns.label or _first(path, there, LABELS, "labels", "--label"),
    )


def _first(path: Path, there: list[str], known: Sequence[str], what: str, option: str) -> str:
    for name in known:
        for column in there:
            if str(column).strip().lower() == name:
                return column
    raise UsageError(
        f"{escaped(path)} has no column of {what} by a usual name ({', '.join(known)}), only "
        f"{', '.join(map(str, there))}: name one with {option}"
    )


def _cell(row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    if is_missing(value) or isinstance(value, list | dict):
        return None
    text = str(value).strip()
    return text or None


def _folder(source: Path, hidden: bool) -> Labelled:
    found = Labelled()
    for label, folder in _subfolders(source, hidden):
        listing = FileListing((folder,), readable(), hidden)
        for file in listing:
            found.items.append(file)
            found.labels.append(label)
            found.places.append(str(file))
        found.failures += listing.failures
    if not found.items:
        raise UsageError(f"--train {escaped(source)}: it has no subfolder with files, one for each label")
    return found


def _subfolders(source: Path, hidden: bool) -> Iterator[tuple[str, Path]]:
    for folder in sorted(source.iterdir()):
        if folder.is_dir() and (hidden or not folder.name.startswith(".")):
            yield folder.name, folder
