"""`omnivec duplicates`: blocks and JSON lines; nothing is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import photographs
from omnivec import hub
from omnivec.models import registry
from workbench import CommandLine


@pytest.fixture
def lite() -> Path:
    return hub.resolve("efficientnet-lite0", known=registry.known()).folder


@pytest.fixture
def album(omni: CommandLine) -> CommandLine:
    folder = omni.folder / "album"
    (folder / "old").mkdir(parents=True)
    image = photographs.rgb("coffee")
    image.save(folder / "coffee.png")
    image.resize((300, 200)).save(folder / "old" / "small.jpg", quality=80)
    shutil.copy(folder / "coffee.png", folder / "old" / "again.png")
    photographs.rgb("china").save(folder / "china.png")
    (folder / "notes.txt").write_text("a text")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1")
    return omni


def test_blocks_for_people(album: CommandLine, lite: Path) -> None:
    before = {path: path.read_bytes() for path in album.folder.rglob("*") if path.is_file()}
    done = album("duplicates", "album", "-m", lite)
    assert done.code == 3
    lines = [line.split() for line in done.out.splitlines() if line]
    assert [(line[0], line[2]) for line in lines] == [
        ("keep", "album/coffee.png"),
        ("exact", "album/old/again.png"),
        ("resized", "album/old/small.jpg"),
    ]
    assert [float(line[1]) for line in lines[:2]] == [1, 1] and 0.9 < float(lines[2][1]) <= 1
    assert "4 images, 1 group with 2 copies" in done.err and "nothing was deleted" in done.err
    assert "left out: 1 no image; no image by their names: 1 .txt" in done.err
    assert sum("album/bad.jpg" in line for line in done.errors) == 1
    assert {path: path.read_bytes() for path in album.folder.rglob("*") if path.is_file()} == before


def test_json_lines(album: CommandLine, lite: Path) -> None:
    (album.folder / "album" / "bad.jpg").unlink()
    done = album("duplicates", "album", "album/coffee.png", "-m", lite, "--json")
    assert done.code == 0, done.err
    [group] = done.rows
    assert group["keep"] == {
        "file": "album/coffee.png",
        "width": 600,
        "height": 400,
        "bytes": (album.folder / "album" / "coffee.png").stat().st_size,
    }
    assert [(copy["file"], copy["why"], copy["of"]) for copy in group["copies"]] == [
        ("album/old/again.png", "exact", "album/coffee.png"),
        ("album/old/small.jpg", "resized", "album/coffee.png"),
    ]
    assert group["copies"][0]["score"] == 1.0 and 0.9 < group["copies"][1]["score"] <= 1


def test_what_cannot_be_meant(album: CommandLine, tiny: Path, lite: Path) -> None:
    of_texts = album("duplicates", "album", "-m", tiny)
    assert (of_texts.code, of_texts.out) == (2, "") and "not images: use efficientnet-lite0" in of_texts.err
    assert album("duplicates", "album", "-m", lite, "--cosine", "2").code == 2
    absent = album("duplicates", "none", "-m", lite)
    assert absent.code == 3 and "none: does not exist" in absent.err
