"""`omnivec collection export`: what it prints, what it refuses, and a way there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench import CommandLine, prose

NOTES = "notes.omni"


@pytest.fixture
def shop(omni: CommandLine, tiny: Path) -> CommandLine:
    rows = [
        {"id": "a", "text": "red apples", "year": 2024},
        {"id": "b", "text": prose(1, 400).strip(), "year": 2025},
    ]
    (omni.folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert omni("collection", "import", "in.jsonl", "-c", NOTES, "-m", tiny).code == 0
    return omni


def test_there_and_back(shop: CommandLine) -> None:
    first = shop("collection", "export", "out.csv", "-c", NOTES)
    assert (first.code, first.out, first.err) == (0, "2 documents written to out.csv\n", "")
    again = shop("collection", "import", "out.csv", "-c", NOTES, "--json")
    assert again.rows[-1]["summary"]["unchanged"] == 2
    refused = shop("collection", "export", "out.csv", "-c", NOTES)
    assert (refused.code, refused.out) == (2, "")
    assert refused.errors == [
        "omnivec: out.csv exists: name another file, or replace it with --force (force=True)"
    ]
    forced = shop("collection", "export", "out.csv", "-c", NOTES, "--force", "--where", "year=2024", "--json")
    assert forced.rows[0]["documents"] == 1


def test_vectors_that_have_no_place_are_counted(shop: CommandLine) -> None:
    done = shop("collection", "export", "out.jsonl", "-c", NOTES, "--vectors")
    said = "1 row without vectors, because there are several in a space; --passages writes a row for each"
    assert (done.code, done.errors) == (0, [f"omnivec: {said}"])
    by_passage = shop("collection", "export", "out2.jsonl", "-c", NOTES, "--vectors", "--passages")
    count = len((shop.folder / "out2.jsonl").read_text().splitlines())
    assert (by_passage.err, by_passage.out) == ("", f"2 documents in {count} rows written to out2.jsonl\n")


def test_a_filter_that_passes_nothing_is_explained(shop: CommandLine) -> None:
    done = shop("collection", "export", "out.csv", "-c", NOTES, "--where", "yaer=2024")
    assert (done.code, done.out) == (0, "0 documents written to out.csv\n")
    assert done.err.startswith("omnivec: no document has the field 'yaer'; there are: year")


def test_vectors_of_ones_own_come_in(omni: CommandLine) -> None:
    (omni.folder / "v.csv").write_text('id,v\n1,"[1, 2]"\n2,"[3, 4]"\n')
    done = omni("collection", "import", "v.csv", "-c", NOTES, "--vector", "v", "--space", "mine")
    assert (done.code, done.err) == (0, "")
    assert omni("collection", "import", "v.csv", "-c", NOTES, "--space", "mine").code == 2
    omni("collection", "export", "out.csv", "-c", NOTES, "--vectors")
    header, first, _ = (omni.folder / "out.csv").read_text().splitlines()
    assert (header, first) == ("id,text,_modality,_path,_vector.mine", '1,,text,,"[1.0, 2.0]"')
