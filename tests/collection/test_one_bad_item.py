"""One file or item that fails, however it fails, costs a collection, a search for copies and a page itself alone."""

from __future__ import annotations

import errno
import struct
import zlib
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import ViTConfig, ViTModel

import checkpoints
import omnivec
from omnivec.errors import ItemErrors
from omnivec.inputs import reading
from omnivec.inputs.files import read as documents
from omnivec.inputs.image import pixels
from omnivec.inputs.image import thumbnail as thumbnails
from omnivec.inputs.image.pixels import decode_image
from omnivec.inputs.text import passages
from omnivec.tasks import duplicates
from omnivec.tasks.duplicates import find_copies
from omnivec.types import Hit
from omnivec.validation.json_files import write_json
from omnivec.viewer.page import page


class Panic(BaseException):
    """As pyo3's PanicException: an error of a library that is no Exception."""


RAISED = [
    MemoryError(),
    RecursionError("too deep"),
    ZeroDivisionError("a bug"),
    OSError(errno.EIO, "x"),
    Panic("p"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    checkpoints.bert(place / "text", width=32, layers=1)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(place / "image")
    size = {"shortest_edge": 32}
    said = {"image_processor_type": "CLIPImageProcessor", "size": size, "crop_size": 32}
    write_json(place / "image" / "preprocessor_config.json", said)
    return {name: place / name for name in ("text", "image")}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in (("a.txt", "the quick fox"), ("bad.txt", "a bad text"), ("c.txt", "a lazy dog")):
        (folder / name).write_text(text)
    random = np.random.default_rng(0)
    for name in ("a.png", "bad.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (50, 60, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def notes(models: dict[str, Path], tmp_path: Path) -> Iterator[omnivec.Collection]:
    with omnivec.Collection(tmp_path / "notes", models=dict(models)) as opened:
        yield opened


def breaking(
    step: Callable[..., Any], error: BaseException, is_bad: Callable[..., bool]
) -> Callable[..., Any]:
    def broken(*given: Any, **named: Any) -> Any:
        if is_bad(*given):
            raise error
        return step(*given, **named)

    return broken


# Where a document goes through -> its module and name, and how the bad one is told there.
STEPS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "reading": (documents, "read_bytes", lambda path, *_: path.stem == "bad"),
    "decoding a text": (documents, "text_of", lambda data, path, *_: path.stem == "bad"),
    "the header of an image": (pixels, "read_header", lambda item, *_: isinstance(item, bytes)),
    "cutting": (passages, "passages_of", lambda content, *_: "bad" in content.text),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_sync_takes_the_others(
    step: str, notes: omnivec.Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, is_bad = STEPS[step]
    bad = {"the header of an image": {"a.png", "bad.png", "c.png"}, "reading": {"bad.txt", "bad.png"}}
    for error in RAISED:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, breaking(getattr(module, name), error, is_bad))
            report = notes.sync(files)
        failed = {Path(path).name: why for path, why in report.failed.items()}
        assert failed.keys() == bad.get(step, {"bad.txt"}), error
        assert all("\n" not in why and str(files) in why for why in failed.values())
        assert report.new + report.unchanged == 6 - len(failed)


def test_an_add_takes_the_others(
    notes: omnivec.Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Metadata(UserDict[str, Any]):
        def __iter__(self) -> Any:
            raise Panic("no keys")

    for error in RAISED:
        with monkeypatch.context() as patch:
            broken = breaking(reading.read, error, lambda path: path.stem == "bad")
            patch.setattr(reading, "read", broken)
            with pytest.raises(ItemErrors) as caught:
                notes.add(["a text", files / "bad.txt", files / "a.txt"])
        assert list(caught.value.failures) == [1]
        assert caught.value.partial.kept == [0, 2]
    with pytest.raises(ItemErrors) as caught:
        notes.add(["one", "two"], metadata=[Metadata(a=1), {"b": 2}])
    assert list(caught.value.failures) == [0]


def thin() -> bytes:
    """A PNG of 20,000 x 1 pixels, in some hundred bytes."""
    data = zlib.compress(b"\0" + bytes(60_000))
    header = struct.pack(">IIBBBBB", 20_000, 1, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def test_a_thin_image_and_a_bomb_cost_a_folder_nothing(
    notes: omnivec.Collection, files: Path, models: dict[str, Path]
) -> None:
    (files / "thin.png").write_bytes(thin())
    bomb = bytearray(thin())
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    (files / "bomb.png").write_bytes(bytes(bomb))
    report = notes.sync(files)
    assert [Path(path).name for path in report.failed] == ["bomb.png"]
    assert "10,000,000,000 pixels" in next(iter(report.failed.values()))
    assert report.new == 7
    copies = find_copies(sorted(files.glob("*.png")), omnivec.load(models["image"]))
    assert [path.name for path in copies.failures] == ["bomb.png"]
    assert copies.files == 4


@pytest.mark.parametrize("step", ["image_hash", "grey"])
def test_a_search_for_copies_looks_at_the_others(
    step: str, files: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = omnivec.load(models["image"])
    for name in ("a", "c"):
        (files / f"copy of {name}.png").write_bytes((files / f"{name}.png").read_bytes())
    Image.open(files / "bad.png").resize((40, 33)).save(files / "bad smaller.png")
    for error in RAISED:
        with monkeypatch.context() as patch:
            broken = breaking(getattr(duplicates, step), error, lambda path: path.stem == "bad")
            patch.setattr(duplicates, step, broken)
            found = find_copies(sorted(files.glob("*.png")), model)
        assert {group.keep.path.name for group in found.groups} == {"a.png", "c.png"}
        if step == "image_hash" or found.failures:
            assert [path.name for path in found.failures] == ["bad.png"]
            assert str(files / "bad.png") in next(iter(found.failures.values()))


def test_a_page_shows_the_others(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [
        Hit(f"{name}#0", name, (0, 0), None, "image", "image", 0.5, "", {}) for name in ("a.png", "bad.png")
    ]
    for error in RAISED:
        with monkeypatch.context() as patch:
            broken = breaking(decode_image, error, lambda picture, *_: picture.name.endswith("bad.png"))
            patch.setattr(thumbnails, "decode_image", broken)
            shown = page("a query", hits, lambda name: files / name)
        assert shown.count("<img") == 1
        assert shown.count('class="why"') == 1
