"""No modality is named outside inputs/, families/ and types.py: everybody asks its record."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import house
from omnivec.inputs import modality

NAMES = frozenset(modality.names())
HOMES = ("inputs/", "families/", "types.py")

# Where one of these words means something else -> how often, and what.
OTHERWISE = {
    "cli/analogy.py": (1, "a field of the JSON: a key of a table"),
    "cli/collection_documents.py": (2, "fields of the JSON"),
    "cli/search.py": (1, "the mode that searches by words"),
    "cli/transcribe.py": (2, "fields of the JSON"),
    "collection/cells.py": (1, "a column of files"),
    "collection/searching.py": (2, "the mode that searches by words"),
    "collection/whole_layouts.py": (1, "a column of files"),
    "collection/whole_parquet.py": (1, "a column of files"),
    "models/embedder.py": (3, "the name of an argument, in messages"),
    "models/keyed.py": (2, "the name of an argument, in messages"),
    "store/filter_facts.py": (5, "a type of metadata"),
    "store/filters.py": (2, "a type of SQLite, and of metadata"),
    "store/inserting.py": (3, "columns of tables"),
    "store/remains.py": (1, "a column of a table"),
    "store/rows.py": (7, "columns of tables, and a type of SQLite"),
    "store/writing.py": (1, "an attribute"),
    "tables/formats/parquet.py": (1, "a column of files"),
    "training/labelled.py": (2, "columns of files"),
}


def named(root: Path) -> dict[str, list[int]]:
    """Files of a package -> the lines in which a string is the name of a modality."""
    found: dict[str, list[int]] = {}
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root).as_posix()
        for node in () if place.startswith(HOMES) else ast.walk(house.parse(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
                found.setdefault(place, []).append(node.lineno)
    return found


def violations(root: Path) -> list[str]:
    """Lines that name a modality, of files in which there are more of them than other meanings account for."""
    return [
        f"{place}:{line}: ask inputs.modality in place of naming one"
        for place, lines in named(root).items()
        if len(lines) > OTHERWISE.get(place, (0, ""))[0]
        for line in lines
    ]


def test_nobody_names_a_modality() -> None:
    assert violations(house.SRC) == []


def test_other_meanings_are_listed_as_often_as_there_are() -> None:
    counts = {place: len(lines) for place, lines in named(house.SRC).items()}
    assert counts == {place: count for place, (count, _) in OTHERWISE.items()}


@pytest.mark.parametrize(
    ("place", "code", "lines"),
    [
        ("tasks/new.py", 'def f(hit):\n    return hit.modality == "image"\n', 1),
        ("collection/new.py", 'KINDS = ("text", "video")\n', 2),
        ("cli/analogy.py", 'a = {"key": 1}\nb = "key"\n', 2),
        ("cli/analogy.py", 'a = {"key": 1}\n', 0),
        ("inputs/new.py", 'NAME = "audio"\n', 0),
        ("families/new.py", 'CLAIMS = {"modality": "series"}\n', 0),
        ("tasks/new.py", '"""text"""\nx = "a text"\n', 1),
    ],
)
def test_a_name_is_found(tmp_path: Path, place: str, code: str, lines: int) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    assert len(violations(tmp_path)) == lines
