"""What the system refuses is said by its true cause and the way out, whoever reads: documents, images, models."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import checkpoints
import omnivec
from omnivec.errors import CollectionError, ItemError, OmnivecError
from omnivec.inputs import reading
from omnivec.inputs.files.read import read
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.image.pixels import read_header
from omnivec.inputs.image.processing import Processing
from omnivec.tables.io import read_table, write_table
from omnivec.tables.record import Table
from omnivec.validation import reasons
from omnivec.validation.json_files import read_json
from omnivec.weights import safetensors

resource = pytest.importorskip("resource", reason="only POSIX limits open files")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read")
    (folder / "a.txt").write_text("a text")
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    checkpoints.bert(folder / "model", width=32, layers=1)
    write_table(folder / "table", Table(["a", "b"], np.eye(2, dtype=np.float32)), "omnivec")
    (folder / "a.vec").write_text("2 2\na 1 0\nb 0 1\n")
    with omnivec.Collection(folder / "notes", model=folder / "model") as notes:
        notes.add(["one text"])
    return folder


@pytest.fixture
def no_more_files() -> Iterator[None]:
    """As many open files as there may be."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    try:
        yield
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def prepared(path: Path) -> object:
    preparer = ImagePreparer(Processing((8, 8), (8, 8), fit="exact"))
    [row] = preparer.prepare([preparer.decode(path)])
    if isinstance(row, ItemError):
        raise row
    return row


READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a document": (read, "a.txt"),
    "a file of a collection": (reading.read, "a.txt"),
    "an image": (read_header, "a.png"),
    "an image's pixels": (prepared, "a.png"),
    "a config": (read_json, "model/config.json"),
    "weights": (safetensors.read_safetensors, "model/model.safetensors"),
    "a table": (read_table, "table"),
    "a text table": (read_table, "a.vec"),
}


@pytest.mark.parametrize("name", READERS)
def test_too_many_open_files_are_said_so(place: Path, name: str, request: pytest.FixtureRequest) -> None:
    reader, path = READERS[name]
    reader(place / path)  # what it imports is open no more
    request.getfixturevalue("no_more_files")
    with pytest.raises(OmnivecError, match=r"too many open files.*128.*ulimit -n") as caught:
        reader(place / path)
    assert "\n" not in str(caught.value)
    assert "damaged" not in str(caught.value)
    assert str(place / path) in str(caught.value)


def test_a_collection_says_it_too(place: Path, request: pytest.FixtureRequest) -> None:
    def opened() -> None:
        with omnivec.Collection(place / "notes", model=place / "model", create=False, readonly=True) as notes:
            notes.documents()

    opened()
    request.getfixturevalue("no_more_files")
    with pytest.raises(CollectionError, match="too many open files"):
        opened()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EIO, "input/output error"),
        (errno.ENOMEM, "not enough memory"),
        (errno.ENAMETOOLONG, "longer than the system allows"),
        (errno.ENOSPC, "no space is left"),
        (errno.EROFS, "read-only"),
        (errno.ENFILE, "too many open files on this machine"),
        (errno.ENOENT, "does not exist"),
        (errno.EXDEV, os.strerror(errno.EXDEV)),
    ],
)
def test_each_cause_has_its_words(number: int, said: str) -> None:
    error = OSError(number, os.strerror(number), "/a/file")
    assert said in reasons.of_system(error)
    assert reasons.of_item(error) == f"/a/file: {reasons.of_system(error)}"


def test_words_of_errors_without_a_number() -> None:
    assert reasons.of_system(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")).startswith("'utf-8' codec")
    assert reasons.of_system(OSError("two\nlines")) == "two lines"
    assert not reasons.is_of_system(OSError("decoder error"))
    assert not reasons.is_of_system(OSError(errno.EINVAL, "Invalid argument"))


def test_a_name_that_is_too_long_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 300)
    for reader in (read, read_header, reading.read):
        with pytest.raises(ItemError, match="longer than the system allows"):
            reader(path)
