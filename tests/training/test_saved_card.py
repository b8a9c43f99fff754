"""What a trained model's folder says of itself, and what of its base travels with it."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import omnivec
from omnivec.tables.io import write_table
from omnivec.tables.record import Table
from omnivec.training.provenance import observed
from omnivec.weights.card import name_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SECRET = "zygomorphic aubergine"
PAIRS = [(f"{SECRET} {i}", f"graph weights engine {i}") for i in range(6)]
CLAIMS = "---\nlicense: mit\n---\nTrained on a billion pairs; scores 99 points."


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "home of alice" / "base"
    checkpoints.bert(folder, width=32, layers=1)
    (folder / "README.md").write_text(CLAIMS)
    (folder / "data_config.json").write_text('[{"name": "a billion pairs"}]')
    (folder / "eval_results.json").write_text('{"points": 99}')
    (folder / "adapter_notes.json").write_text("{}")
    (folder / "LICENSE").write_text("MIT")
    return folder


def tuned(base: Path) -> omnivec.Embedder:
    return omnivec.train("contrastive", PAIRS, model=base, steps=1, batch_size=3, device="cpu")


def test_a_tuned_model_has_a_card_of_its_own(base: Path, tmp_path: Path) -> None:
    saved = tuned(base).save(tmp_path / "tuned")
    text = (saved / "README.md").read_text()
    assert "billion" not in text and "99" not in text
    assert "| steps | 1 |" in text and "| batch_size | 3 |" in text and "| items | 6 |" in text
    assert "`contrastive`" in text and "`base`" in text and "sha256" in text
    everything = b"".join(path.read_bytes() for path in saved.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything and b"alice" not in everything
    names = {path.name for path in saved.iterdir()}
    assert "LICENSE" in names and not names & {"data_config.json", "eval_results.json", "adapter_notes.json"}
    again = omnivec.load(saved).save(tmp_path / "again")  # as it was published: its card goes with it
    assert (again / "README.md").read_text() == text


def test_a_model_that_is_as_published_keeps_its_card(base: Path, tmp_path: Path) -> None:
    assert (omnivec.load(base).save(tmp_path / "same") / "README.md").read_text() == CLAIMS


def test_over_its_own_base_the_card_is_new_and_the_rest_stays(base: Path) -> None:
    tuned(base).save(base)
    assert "billion" not in (base / "README.md").read_text()
    assert json.loads((base / "eval_results.json").read_text()) == {"points": 99}


@pytest.mark.parametrize("make", [checkpoints.bert, checkpoints.roberta])
def test_transformers_misses_nothing(make: object, tmp_path: Path) -> None:
    make(tmp_path / "base", width=32, layers=1)  # type: ignore[operator]
    saved = tuned(tmp_path / "base").save(tmp_path / "tuned")
    model, info = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    before = transformers.AutoModel.from_pretrained(tmp_path / "base")
    np.testing.assert_array_equal(
        model.pooler.dense.weight.detach().numpy(), before.pooler.dense.weight.detach().numpy()
    )


def test_a_model_is_saved_whole_when_its_folder_is_gone_or_another(base: Path, tmp_path: Path) -> None:
    model = omnivec.load(base, precision="float32")
    expected = model.encode(["a graph of weights", "naïve café"])
    checkpoints.roberta(tmp_path / "other", width=32, layers=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tmp_path / "other" / name, base / name)
    for target in ("replaced", "gone"):
        saved = model.save(tmp_path / target)
        found = omnivec.load(saved, precision="float32")
        np.testing.assert_allclose(found.encode(["a graph of weights", "naïve café"]), expected, atol=1e-6)
        assert found.identity["tokenizer"] == model.identity["tokenizer"]
        shutil.rmtree(base, ignore_errors=True)


def test_names_on_a_card_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    named = {"/home/alice/m": "m", "~/m": "m", "./m": "m", "mine": "mine", "hf:org/name": "hf:org/name"}
    named |= {"org/name": "org/name", "all-MiniLM-L6-v2": "all-MiniLM-L6-v2"}
    assert {name: name_of(name) for name in named} == named


def test_a_joint_model_says_how_well_partners_are_found_and_names_both_sides(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    keys = [f"{SECRET.split()[0]}{i}" for i in range(40)]
    for name in ("one", "other"):
        vectors = random.normal(size=(40, 8)).astype(np.float32)
        write_table(tmp_path / name, Table(keys, vectors), "omnivec")
    pairs = ((key, key) for key in keys)  # read once: counted on their way
    joint = omnivec.train(
        "align", pairs, left=tmp_path / "one", right=tmp_path / "other", method="procrustes"
    )
    saved = joint.save(tmp_path / "joint")
    text = (saved / "README.md").read_text()
    assert "from `one` and `other`" in text and "| recall@10 | [" in text and "| items | 40 |" in text
    assert "sha256" in text and SECRET.split()[0] not in text and str(tmp_path) not in text
    assert (saved / "left" / "README.md").read_bytes() == (tmp_path / "one" / "README.md").read_bytes()


def test_data_are_known_by_content_however_they_come(tmp_path: Path) -> None:
    rows = [("a", "b"), ("c", "d")]
    kept, facts = observed(rows)
    assert kept is rows and facts()["items"] == 2
    passing, later = observed(iter(rows))
    assert list(passing) == rows and later() == facts()
    assert observed([*rows, ("e", "f")])[1]()["sha256"] != facts()["sha256"]
    assert observed([np.zeros(2)])[1]() == {"items": 1}  # no plain value: no digest, and no guess
    (tmp_path / "a.csv").write_bytes(b"a,b")
    assert observed(tmp_path / "a.csv")[1]() == {"bytes": 3, "sha256": hashlib.sha256(b"a,b").hexdigest()}
    assert observed(tmp_path / "gone.csv")[1]() == {}


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
