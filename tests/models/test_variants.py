"""Variants of a model: options in the call and in the name, which collections record."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import omnivec
from omnivec import Audio, Collection, UsageError, weights
from omnivec.models import registry, variants
from sounds import speechlike

# A family whose layer is chosen: a copy of MFCC with one component of the coefficients, and a layer that scales it.
FAMILY = '''"""Hears a layer."""

from dataclasses import dataclass

from omnivec.families import mfcc

CLAIMS = {"model_type": ["layered"], "modality": "audio"}
POOLING = "cls"
SHAPES = {}


@dataclass(frozen=True)
class Config(mfcc.Config):
    layer: int | None = None
    fast: bool = False


sound = mfcc.sound


def forward(ops, p, config, batch):
    scale = 1.0 if config.layer is None else 1.0 + config.layer
    return mfcc.forward(ops, p, config, batch) * (scale * (0.5 if config.fast else 1.0)) + p["shift"]
'''

SOUND = Audio(speechlike(1.0), 16_000)


@pytest.fixture
def layered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a model with layers, whose family is another package's."""
    site = tmp_path / "site"
    info = site / "layered-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "layered_family.py").write_text(FAMILY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: layered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[omnivec.families]\nlayered = layered_family\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "cache"))
    registry.families.cache_clear()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "layered"}))
    weights.save(folder / "model.safetensors", {"shift": np.ones(120, np.float32)}, {"format": "pt"})
    yield folder
    registry.families.cache_clear()
    sys.modules.pop("layered_family", None)


def test_names_and_options() -> None:
    assert variants.split("whisper-base[fast]") == ("whisper-base", {"fast": True})
    assert variants.split("hf:a/b@main[layer=3,fast]") == ("hf:a/b@main", {"layer": 3, "fast": True})
    assert variants.split("m[fast=false]") == ("m", {})
    assert variants.split("plain") == ("plain", {}) and variants.split(Path("a[fast]")) == (
        Path("a[fast]"),
        {},
    )
    assert variants.suffix({"layer": 2, "fast": True}) == "[layer=2,fast]" and variants.suffix({}) == ""
    assert variants.chosen("m[layer=2]", {"layer": 2, "fast": None}) == ("m", {"layer": 2})
    for name in ("m[depth=3]", "m[layer=-1]", "m[layer]", "m[fast=3]", "m[layer=1,layer=1]"):
        with pytest.raises(UsageError):
            variants.split(name)
    with pytest.raises(UsageError, match="contradict"):
        variants.chosen("m[layer=2]", {"layer": 3})


def test_a_folder_of_such_a_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m[fast]").mkdir()
    assert variants.split("m[fast]") == ("m[fast]", {})


def test_a_variant_is_another_model(layered: Path, tmp_path: Path) -> None:
    plain, third = omnivec.load(layered), omnivec.load(layered, layer=3)
    named = omnivec.load(f"{layered}[layer=3]")
    np.testing.assert_array_equal(third.encode(SOUND), named.encode(SOUND))
    np.testing.assert_allclose(third.encode(SOUND) - 1, 4 * (plain.encode(SOUND) - 1), rtol=1e-5, atol=1e-5)
    assert third.identity == named.identity != plain.identity
    assert third.name == f"{layered}[layer=3]"
    again = omnivec.load(third.save(tmp_path / "saved"))
    assert again.identity == third.identity
    np.testing.assert_array_equal(again.encode(SOUND), third.encode(SOUND))


def test_a_collection_records_the_variant(layered: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.omni"
    with Collection(path, models={"audio": f"{layered}[layer=3]"}) as notes:
        notes.add(SOUND, ids="a")
        assert notes.spaces()["audio"].model == "./model[layer=3]"
    with Collection(path, create=False) as notes:
        assert notes.search(SOUND, 1)[0].document == "a"
    with pytest.raises(omnivec.IdentityError), Collection(path, models={"audio": layered}) as notes:
        notes.search(SOUND, 1)
    with Collection(path, models={"audio": omnivec.load(layered, layer=3)}) as notes:
        assert notes.search(SOUND, 1)[0].document == "a"


def test_models_without_the_option_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"layer=2 \(the hidden state .*\) is not an option of models of the family"
    ):
        omnivec.load("mfcc", layer=2)
    checkpoints.bert(tmp_path / "bert", width=32, layers=1)
    with pytest.raises(UsageError, match=r"fast=True .* is not an option of models of the family bert"):
        omnivec.load(tmp_path / "bert", fast=True)
