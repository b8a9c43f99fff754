"""A modality of another package, pure tones, with families of its own: everything takes it by its one module."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import checkpoints
import omnivec
from omnivec import Collection, weights
from omnivec.cli.main import run as command
from omnivec.errors import ItemErrors, UsageError
from omnivec.inputs import modality
from omnivec.models import registry
from omnivec.testing import check_embedder, check_family, check_modality

TONES = '''"""Pure tones, in frames: Tone(frequency, seconds), or a file "tone FREQUENCY SECONDS"."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from omnivec.errors import ItemError
from omnivec.inputs.content import Content, Piece
from omnivec.inputs.modality import Canaries, Modality, misread
from omnivec.inputs.preparer import PLAIN
from omnivec.ops.base import Input
from omnivec.ops.process import MemoryReservation
from omnivec.types import Prepared

FRAMES, BEATS = 4, 2  # in a second
WIDTH = 8


@dataclass(frozen=True)
class Tone:
    frequency: float
    seconds: float
    start: float = 0.0


def parsed(data, path):
    try:
        mark, *numbers = data.decode().split()
        frequency, seconds = map(float, numbers)
    except ValueError as error:
        raise ItemError(f"{path}: no tone: {data[:20]!r}") from error
    return Tone(frequency, seconds)


def content(tone):
    facts = {"frequency": tone.frequency, "seconds": tone.seconds}
    return Content("tone", hashlib.sha256(repr(tone).encode()).digest(), tone, facts=facts, held=24)


def read(data, path, encodings):
    tone = parsed(data, path)
    return Content("tone", hashlib.sha256(data).digest(), tone, facts=content(tone).facts, held=len(data))


def passages(content, model, cutting):
    tone, longest = content.item, cutting.limit / FRAMES
    starts = np.arange(0, tone.seconds, longest).tolist()
    parts = [(start, min(start + longest, tone.seconds)) for start in starts]
    return [
        Piece(a * BEATS, b * BEATS, None, "", Tone(tone.frequency, b - a, tone.start + a)) for a, b in parts
    ]


@dataclass(frozen=True, eq=False)
class TonePreparer:
    limit: int
    room: MemoryReservation = field(default_factory=MemoryReservation)
    modality = "tone"
    unit = "frames"
    budget = 256
    chunk = 64
    provenance = {}
    inputs = (Input("frames", np.float32, (None, None, WIDTH)), Input("mask", np.int32, (None, None)))

    @property
    def identity(self):
        return {"preprocessing": {"limit": self.limit, "frames": FRAMES}}

    def batch(self, ops, get):
        return SimpleNamespace(frames=get("frames"), mask=get("mask"))

    def decode(self, item):
        if isinstance(item, Path):
            return parsed(item.read_bytes(), item)
        if isinstance(item, Tone):
            return item
        raise misread(item, ["tone"]) or ItemError(f"{item!r} is no tone")

    def size(self, tone):
        return int(tone.seconds * FRAMES)

    def key(self, tone):
        return tone

    def prepare(self, tones, reading=PLAIN):
        return [self.frames(tone, reading) for tone in tones]

    def frames(self, tone, reading):
        total = max(1, round(tone.seconds * FRAMES))
        if total > self.limit and reading.truncate == "error":
            return ItemError(f"{total} frames, and the model hears {self.limit}")
        seen = min(total, self.limit)
        times = tone.start + np.arange(seen)[:, None] / FRAMES
        harmonics = np.arange(1, WIDTH + 1)
        wave = np.cos(tone.frequency / 300 * harmonics) + 0.2 * np.sin(times * harmonics / 3)
        return (Prepared({"frames": wave.astype(np.float32)}, seen, seen, total - seen),)

    def sample(self):
        frames = np.ones((4, self.limit, WIDTH), np.float32)
        return {"frames": frames, "mask": np.ones(frames.shape[:2], np.int32)}

    def collate(self, rows, pool_prompt=True):
        frames = np.zeros((len(rows), max(row.cost for row in rows), WIDTH), np.float32)
        mask = np.zeros(frames.shape[:2], np.int32)
        for i, row in enumerate(rows):
            frames[i, : row.seen], mask[i, : row.seen] = row.arrays["frames"], 1
        return {"frames": frames, "mask": mask}


MODALITY = Modality(
    name="tone",
    one="a tone",
    plural="tones",
    given="Tone(frequency, seconds)",
    unit="frames",
    accepts=lambda item: isinstance(item, Tone),
    suffixes=frozenset([".tone"]),
    sniff=lambda head: head.startswith(b"tone "),
    read=read,
    content=content,
    pipeline="tone/1",
    is_cut=True,
    passages=passages,
    span_unit="beats",
    counts_lost=True,
    encode_options=("truncate",),
    preparer=lambda source: TonePreparer(source.config.max_length),
    canaries=Canaries(("tone:a", "tone:e"), lambda name: Tone(440 if name == "tone:a" else 660, 1), 1e-3, "tone:"),
    templates=("the sound of {}",),
    measure=lambda facts: f"{facts['seconds']:g} s at {facts['frequency']:g} Hz",
)
'''

# A family that hears tones, and one with towers for texts and tones: all but what differs between them.
FAMILY = '''"""{summary}"""

from dataclasses import dataclass

CLAIMS = {{"model_type": ["{name}"], "modality": "tone"}}


@dataclass(frozen=True)
class Config:
    dim: int
    max_length: int
    vocab_size: int = 0


{forward}


SHAPES = {{"ear.weight": ("dim", "")}}
PREFIXES, LAYOUTS, KNOWN = (), (), {{}}
'''

CHIME = """def forward(ops, p, config, batch):
    return ops.state(ops.linear(batch.frames, p["ear"]))"""

CHOIR = """def towers(published):
    return ("text", "tone")


def with_tokenizer(config, tokenizer):
    return config


def mean(ops, x, mask):
    mask = ops.cast(mask, "float32")[:, :, None]
    return ops.sum(x * mask, 1, keep=True) / ops.sum(mask, 1, keep=True)


def forward_text(ops, p, config, batch):
    return mean(ops, ops.embedding(batch.ids, p["words.weight"]), batch.mask)


def forward_tone(ops, p, config, batch):
    return mean(ops, ops.linear(batch.frames, p["ear"]), batch.mask)""".replace("mean(", "_mean(")

DIM, LIMIT, WIDTH = 16, 8, 8


def forget() -> None:
    """Reads anew which modalities and families there are."""
    from omnivec.families import _hooks

    for cached in (modality.modalities, modality._files, registry.families, _hooks.forwards):
        cached.cache_clear()


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of tones, installed as a package would be."""
    site = tmp_path / "site"
    info = site / "tones-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "tones.py").write_text(TONES)
    families = {"chime": ("Hears tones.", CHIME), "choir": ("Reads texts and hears tones.", CHOIR)}
    for name, (summary, forward) in families.items():
        (site / f"{name}.py").write_text(FAMILY.format(name=name, summary=summary, forward=forward))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{modality.GROUP}]\ntone = tones\n[{registry.GROUP}]\nchime = chime\nchoir = choir\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "cache"))
    forget()
    yield importlib.import_module("tones")
    forget()
    for name in ("tones", "chime", "choir"):
        sys.modules.pop(name, None)


@pytest.fixture
def chime(tmp_path: Path, tones: ModuleType) -> Path:
    """The folder of a model of tones."""
    return written(tmp_path / "chime", "chime", {})


@pytest.fixture
def choir(tmp_path: Path, tones: ModuleType) -> Path:
    """The folder of a model of texts and tones."""
    folder = tmp_path / "choir"
    folder.mkdir()
    size = checkpoints.wordpiece(folder)
    return written(folder, "choir", {"words.weight": (size, DIM)})


def written(folder: Path, name: str, more: dict[str, tuple[int, ...]]) -> Path:
    rng = np.random.default_rng(3)
    folder.mkdir(exist_ok=True)
    arrays = {
        n: rng.normal(size=shape).astype(np.float32)
        for n, shape in {"ear.weight": (DIM, WIDTH), **more}.items()
    }
    arrays["ear.bias"] = np.zeros(DIM, np.float32)
    config = {
        "model_type": name,
        "dim": DIM,
        "max_length": LIMIT,
        "vocab_size": more.get("words.weight", (0,))[0],
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights.save(folder / "model.safetensors", arrays, {"format": "pt"})
    return folder


FILES = {"a.tone": b"tone 440 1\n", "e.tone": b"tone 660 2", "long.tone": b"tone 220 5"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of tones, and one that no modality here claims."""
    where = tmp_path / "tones"
    where.mkdir()
    for name, data in {**FILES, "x.mp4": b"film"}.items():
        (where / name).write_bytes(data)
    return where


def some(tones: ModuleType) -> list[Any]:
    return [tones.Tone(440.0, 1.0), tones.Tone(660.0, 0.5), tones.Tone(220.0, 2.0), tones.Tone(300.0, 1.25)]


def test_it_is_known_by_its_name_its_values_and_its_files(tones: ModuleType) -> None:
    assert modality.names()[0] == "text" and modality.names()[-1] == "tone"
    assert (
        modality.of(tones.Tone(440, 1)) == modality.of(Path("a.TONE")) == modality.of(b"tone 440 1") == "tone"
    )
    with pytest.raises(
        omnivec.ItemError, match=r"7, an int is not an item: .*, Tone\(frequency, seconds\), or"
    ):
        modality.of(7)


def test_the_contracts_hold(tones: ModuleType, chime: Path, choir: Path) -> None:
    items = some(tones)
    check_family(chime, items)
    check_modality(omnivec.load(chime), items, FILES)
    both = omnivec.load(choir)
    assert both.modalities == ("text", "tone")
    check_modality(both, items, FILES)
    check_embedder(omnivec.load(chime), items)


def test_encode_and_run_in_its_unit(tones: ModuleType, chime: Path, folder: Path) -> None:
    model = omnivec.load(chime)
    assert (model.modalities, model.max_length) == (("tone",), LIMIT)
    encoded = model.run([tones.Tone(440, 1), folder / "long.tone", "a text", omnivec.Key("a"), 7])
    assert encoded.unit == "frames"
    assert (encoded.seen.tolist(), encoded.lost.tolist()) == ([4, 8], [0, 12])
    assert encoded.failures.keys() == {2, 3, 4}
    assert "'a text' is a text, but this model reads only tones" in encoded.failures[2]
    np.testing.assert_allclose(model.encode(folder / "a.tone"), encoded.vectors[0], atol=1e-6)
    with pytest.raises(ItemErrors, match="20 frames, and the model hears 8"):
        model.encode([folder / "long.tone"], truncate="error")
    with pytest.raises(UsageError, match="prompt='x' is an option of texts, but this model reads only tones"):
        model.encode(tones.Tone(440, 1), prompt="x")
    with pytest.raises(UsageError, match="decode='exact' is an option of images"):
        omnivec.load(chime, decode="exact")


def test_a_text_model_refuses_it(tones: ModuleType, tmp_path: Path) -> None:
    checkpoints.bert(tmp_path / "bert", width=32, layers=1)
    [why] = omnivec.load(tmp_path / "bert").run([tones.Tone(440, 1)]).failures.values()
    assert why.endswith("a Tone is a tone, but this model reads only texts; use a model of tones, or of both")


def test_a_collection_takes_it(tones: ModuleType, chime: Path, folder: Path, tmp_path: Path) -> None:
    with Collection(tmp_path / "notes.omni", models={"tone": chime}) as notes:
        report = notes.sync(folder)
        assert (report.new, report.passages, report.failed, dict(report.skipped)) == (3, 5, {}, {".mp4": 1})
        assert notes.sync(folder).unchanged == 3
        added = notes.add([tones.Tone(330, 3)], ids=["made"])
        assert (added.passages, added.lost) == (2, 0)
        assert [one.name for one in notes.spaces().values()] == ["tone"]
        assert [name for name, _ in notes.spaces()["tone"].canaries] == ["tone:a", "tone:e"]
        [hit] = notes.search(folder / "e.tone", 1)
        assert (hit.document, hit.modality, hit.span, hit.span_unit) == (
            hit.document,
            "tone",
            (0, 4),
            "beats",
        )
        assert hit.document.endswith("e.tone") and hit.metadata["frequency"] == 660
        found = notes.search(tones.Tone(330, 1), 9)
        assert {one.span for one in found if one.document == "made"} == {(0, 4), (4, 6)}
        assert {one.span for one in found if one.document.endswith("long.tone")} == {(0, 4), (4, 8), (8, 10)}
        with pytest.raises(UsageError, match="mode='text' searches by words, but the query is a tone"):
            notes.search(tones.Tone(330, 1), mode="text")
        with pytest.raises(UsageError, match="does not read text; a joint model does, such as one made by"):
            notes.search("a high tone")
        assert notes.delete("made") == 1 and notes.check() == []
    with Collection(
        tmp_path / "notes.omni", create=False
    ) as notes:  # the model by its record, the canaries again
        (folder / "new.tone").write_bytes(b"tone 500 0.3")
        assert notes.sync(folder).new == 1
        assert [one.span for one in notes.search(folder / "new.tone", 1)] == [(0, 0.6)]


def test_texts_and_tones_in_one_space(tones: ModuleType, choir: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "words.md").write_text("The engine hums a tone.\n")
    (choir / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    with Collection(tmp_path / "added.omni", choir) as notes:  # cut before anything is recorded of the model
        assert notes.add(tones.Tone(220, 5), ids="first").passages == 3
        assert notes.get("first")[0].how == f"tone/1 limit={LIMIT} length=0 overlap=32"
    with Collection(tmp_path / "both.omni", choir) as notes:
        notes.sync(folder)
        assert notes.sync(folder).unchanged == 4
        hows = {entry.modality: entry.pipeline for entry in notes.documents()}
        assert hows == {
            "text": "text/1 limit=6 length=0 overlap=32",
            "tone": f"tone/1 limit={LIMIT} length=0 overlap=32",
        }
        assert list(notes.spaces()) == ["text+tone"]
        assert {hit.modality for hit in notes.search("a tone", 9, mode="vector")} == {"text", "tone"}
        assert notes.search(folder / "a.tone", 1)[0].document.endswith("a.tone")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def omni(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = command([str(one) for one in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_line(omni: Run, chime: Path, choir: Path, folder: Path) -> None:
    code, out, err = omni("index", folder, "--model", f"tone={chime}")
    assert code == 0 and "3 new" in out and "5 passages" in out
    assert "neither text nor image nor audio nor tone by their names: 1 .mp4" in err
    code, out, _ = omni("search", "--file", folder / "e.tone", "-k", "1")
    assert code == 0 and "e.tone  2 s at 660 Hz" in out
    code, out, _ = omni("search", "--file", folder / "e.tone", "-k", "1", "--json", "--html", "found.html")
    row = json.loads(out)
    assert (row["modality"], row["span"], row["span_unit"]) == ("tone", [0, 4], "beats")
    assert "2 s at 660 Hz" in Path("found.html").read_text()
    assert omni("collection", "status")[0] == 0
    code, out, err = omni("embed", folder / "long.tone", "--model", chime)
    assert code == 0 and len(json.loads(out)["vector"]) == DIM
    assert "1 item longer than the model's 8 frames: truncated" in err
    code, out, err = omni("classify", folder, "--labels", "high,low", "--model", choir, "--json")
    assert code == 0 and len(out.splitlines()) == 3 and "tones: probabilities are a softmax" in err
    code, _, err = omni("classify", folder, "--labels", "high,low", "--model", chime)
    assert code == 2 and "reads tones, but labels are texts" in err
    code, _, err = omni("classify", folder, "--labels", "high,low")
    assert code == 2 and "the default model does not read tones" in err
    code, out, _ = omni("models")
    assert code == 0 and "Reads texts and hears tones." in out
    code, out, _ = omni("info", chime)
    assert code == 0 and "tone" in out


def test_the_command_trains_one_space_with_texts(
    omni: Run, tones: ModuleType, chime: Path, folder: Path
) -> None:
    checkpoints.bert(Path("reader"), width=32, layers=1)
    rows = ["left,right"]
    for i in range(12):
        hertz = 110 * (i + 2)
        (folder / f"{hertz}.tone").write_text(f"tone {hertz} 2")
        rows.append(f"{folder.name}/{hertz}.tone,a tone of {hertz} Hz")
    Path("pairs.csv").write_text("\n".join(rows))
    code, out, err = omni("train", "align", "--left", chime, "--right", "reader", "pairs.csv", "-o", "joint")
    assert (code, out) == (0, "saved to joint\n"), err
    joint = omnivec.load("joint")
    assert joint.modalities == ("text", "tone")
    vectors = joint.encode([tones.Tone(220, 2), "a tone of 220 Hz"])
    assert vectors.shape == (2, joint.dim) and np.isfinite(vectors).all()
