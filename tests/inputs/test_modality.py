"""What an item is: told by its type or by its file, and never guessed."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import omnivec
from omnivec.errors import ItemError, UsageError
from omnivec.inputs import modality, reading
from omnivec.inputs.content import Content
from omnivec.inputs.image.pixels import read_header
from omnivec.testing import check_modality

PNG = b"\x89PNG\r\n\x1a\n" + bytes(56)


def test_texts_come_first_in_a_fixed_order() -> None:
    assert modality.names()[:6] == ("text", "image", "audio", "video", "series", "key")
    assert modality.written() == "text"
    assert modality.readable()[:2] == ("text", "image")
    assert modality.plural(["text", "image"]) == "texts and images"


def shown(value: object) -> str:
    """An id for a test: the same in every process, so without the address of an object."""
    return re.sub(r"( object)? at 0x[0-9a-fA-F]+", "", str(value))


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("photo.jpg", "text"),
        (np.str_("a"), "text"),
        (Path("photo.JPG"), "image"),
        (Path("Makefile"), "text"),
        (Path("no suffix that is known.xyz"), "text"),
        (Path("a.wav"), "audio"),
        (Path("a.flac"), "audio"),
        (Path("a.mp4"), "video"),
        (np.zeros((4, 5), np.uint8), "image"),
        (np.zeros((4, 5, 3), np.uint8), "image"),
        (Image.new("L", (3, 3)), "image"),
        (read_header(np.zeros((4, 5), np.uint8)), "image"),
        (PNG, "image"),
        (omnivec.Audio(np.zeros(16000, np.float32), 16000), "audio"),
        (omnivec.Series(np.zeros(7)), "series"),
        (omnivec.Key("user 17"), "key"),
    ],
    ids=shown,
)
def test_an_item_is_what_it_says(item: object, name: str) -> None:
    assert modality.of(item) == name


@pytest.mark.parametrize(
    "item",
    [7, None, b"abc", np.zeros(16000, np.float32), np.zeros((4, 5, 3)), np.zeros(5, np.uint8), object(), {}],
    ids=shown,
)
def test_anything_else_is_refused_and_not_guessed(item: object) -> None:
    with pytest.raises(
        ItemError, match=r"is not an item: give a str, an image as .*, Key\(name\), or a pathlib"
    ):
        modality.of(item)


def test_a_modality_that_nobody_brought_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"modality 'smell' is none of text, image, .* is not installed"):
        modality.get("smell")


def test_what_nothing_reads_yet_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"film")
    assert not reading.is_readable(path)
    with pytest.raises(ItemError, match=r"a.mp4: a video by its name, but videos cannot be read yet$"):
        reading.read(path)
    with pytest.raises(ItemError, match="is a key, but collections do not support keys"):
        reading.content_of(omnivec.Key("a"))


def test_models_refuse_what_they_do_not_read(
    text_model: omnivec.Embedder, image_model: omnivec.Embedder, tmp_path: Path
) -> None:
    wave = tmp_path / "a.wav"
    wave.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    sound = omnivec.Audio(np.zeros(4, np.float32), 16000)
    failures = text_model.run(["a", wave, sound, omnivec.Key("a")]).failures
    assert failures.keys() == {1, 2, 3}
    assert failures[1].startswith(f"{wave}: a sound by its name, but this model reads only texts")
    assert "an Audio is a sound, but this model reads only texts" in failures[2]
    assert "a Key is a key" in failures[3]
    failures = image_model.run([omnivec.Series(np.zeros(3)), 7]).failures
    assert "a Series is a series, but this model reads only images" in failures[0]
    assert "7, an int is not an image" in failures[1]


def test_the_list_is_read_without_what_reads_items() -> None:
    code = (
        "import sys; from omnivec.inputs import modality; modality.names(); modality.of('a');"
        "print([n for n in sys.modules if n.split('.')[0] in ('PIL', 'tokenizers', 'openvino')"
        " or n.startswith(('omnivec.inputs.text.', 'omnivec.inputs.image.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_texts_keep_the_contract(text_model: omnivec.Embedder) -> None:
    texts = ["the quick brown fox", "a lazy dog", "an engine"]
    check_modality(
        text_model, texts, {"a.md": b"the fox and the dog\n", "Makefile": b"engine: brown quick\n"}
    )


def test_images_keep_the_contract(image_model: omnivec.Embedder) -> None:
    drawn = [
        modality.get("image").canaries.make(f"picture:{name}") for name in ("colours", "stripes", "noise")
    ]
    files = {}
    for i, pixels in enumerate(drawn):
        file = io.BytesIO()
        Image.fromarray(255 - pixels).save(file, "PNG")
        files[f"{i}.png"] = file.getvalue()
    check_modality(image_model, drawn, files)


def test_a_modality_that_breaks_the_contract_is_named(
    text_model: omnivec.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = modality.get("text")
    broken: dict[str, dict[str, Any]] = {
        "is accepted by": {"accepts": lambda item: False},
        "run counts tokens, and the modality words": {"unit": "words"},
        "reading items twice gave other hashes": {"content": lambda item: Content("text", b"x", item, item)},
        "begin with 'text:'": {"canaries": replace(record.canaries, prefix="text:")},
        "whose vectors have the opposite sign were accepted": {
            "canaries": replace(record.canaries, tolerance=3.0)
        },
        "has the span": {},
    }
    for why, change in broken.items():
        changed = {**modality.modalities(), "text": replace(record, **change)}
        with monkeypatch.context() as patch:
            patch.setattr(modality, "modalities", lambda changed=changed: changed)
            patch.setattr(modality, "of", lambda item: "text")
            patch.setattr("omnivec.collection.searching.modalities", modality.modalities)
            if why == "has the span":
                patch.setattr(
                    "omnivec.collection.searching.Hit",
                    lambda **facts: omnivec.Hit(**{**facts, "span_unit": "words"}),
                )
            with pytest.raises(AssertionError, match=why):
                check_modality(text_model, ["the quick fox", "a lazy dog"])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["smells:MODALITY"], None),
        (["smells", "odours"], "2 packages provide the modality 'smell', in the modules odours and smells"),
    ],
)
def test_of_two_packages_with_one_modality_neither_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], why: str | None
) -> None:
    for value in values:
        module = value.partition(":")[0]
        (tmp_path / f"{module}.py").write_text(
            "from omnivec.inputs.modality import Modality\n"
            "MODALITY = Modality(\n"
            "    name='smell', one='', plural='', given='', unit='', accepts=lambda item: False\n"
            ")\n"
        )
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{modality.GROUP}]\nsmell = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modality.modalities.cache_clear()
    try:
        if why is None:
            assert "smell" in modality.names()
        else:
            with pytest.raises(UsageError, match=why):
                modality.names()
    finally:
        modality.modalities.cache_clear()
        sys.modules.pop("smells", None)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("MODALITY = 1 / 0", "cannot be loaded from the module smells .ZeroDivisionError: division by zero."),
        ("", "cannot be loaded from the module smells .AttributeError: .*MODALITY"),
        ("MODALITY = {'name': 'smell'}", "MODALITY is .*, not a Modality"),
        ("MODALITY = made('text')", "two modalities are named 'text'"),
        ("MODALITY = made('Smell')", "'Smell': a name consists of a-z"),
        (
            "MODALITY = made('smell', pipeline='text/1')",
            "pipeline 'text/1' of the modality 'smell': must be smell/VERSION",
        ),
        ("MODALITY = made('smell', pipeline='smell/1 2')", "without spaces"),
    ],
)
def test_a_package_with_a_broken_modality_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    (tmp_path / "smells.py").write_text(
        "from omnivec.inputs.modality import Modality\n"
        "def made(name, pipeline=''):\n"
        "    return Modality(name=name, one='', plural='', given='', unit='', pipeline=pipeline, accepts=bool)\n"
        f"{source}\n"
    )
    info = tmp_path / "smells-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{modality.GROUP}]\nsmell = smells\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "smells", raising=False)
    modality.modalities.cache_clear()
    try:
        with pytest.raises(UsageError, match=why):
            modality.names()
    finally:
        modality.modalities.cache_clear()
        sys.modules.pop("smells", None)
