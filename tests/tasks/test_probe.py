"""Probes of labelled items: shapes as of a Classifier, reports that name what is wrong, identities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import omnivec
from omnivec import Probe
from omnivec.errors import IdentityError, ItemErrors, ModelError, UsageError
from workbench import WORDS, loaded, write_pictures

FOXES = [f"the quick brown fox {word}" for word in WORDS[:12]]
ENGINES = [f"the engine compiles graph weights {word}" for word in WORDS[:12]]
TEXTS, LABELS = [*FOXES, *ENGINES], ["fox"] * 12 + ["engine"] * 12


@pytest.fixture(scope="module")
def probe(tiny: Path) -> Probe:
    return Probe.train(loaded(tiny), TEXTS, LABELS)


def test_results_have_the_shapes_of_a_classifier(probe: Probe) -> None:
    asked = ["the brown fox jumps", "weights of the graph compiles", Path("none.txt")]
    found = probe.run(asked)
    assert probe.labels == ("engine", "fox")
    assert found.probabilities.shape == (2, 2) and found.probabilities.dtype == np.float32
    assert found.kept.tolist() == [0, 1] and list(found.failures) == [2]
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)
    assert probe.predict(asked[:2]) == ["fox", "engine"]
    assert probe.predict("the brown fox jumps") == ["fox"]
    with pytest.raises(ItemErrors, match=r"Probe\.run") as error:
        probe.predict_proba(asked)
    assert error.value.partial.kept.tolist() == [0, 1]
    [(window, result)] = probe.stream(iter(asked))
    assert window == asked and result.probabilities.tolist() == found.probabilities.tolist()
    assert probe.run([]).probabilities.shape == (0, 2)


def test_the_report_says_what_was_learned_from_and_how_good_it_is(probe: Probe) -> None:
    assert probe.report.counts == {"engine": 12, "fox": 12}
    estimate = probe.report.estimate
    assert estimate is not None and estimate.accuracy == 1.0 and estimate.low > 0.6
    text = str(probe.report)
    assert "24 examples: 12 engine, 12 fox" in text and "5-fold cross-validation, 24 of 24" in text
    assert "not calibrated: 24 examples could be asked, and at least 30" in text


def test_what_looks_wrong_with_the_examples_is_named(tiny: Path, tmp_path: Path) -> None:
    twice = tmp_path / "again.txt"
    twice.write_text(FOXES[1])
    (tmp_path / "first.txt").write_text(FOXES[1])
    items = [*FOXES, FOXES[0], twice, tmp_path / "first.txt", "weights", "ops"]
    labels = ["fox"] * 12 + ["dog", "fox", "bear", "engine", ""]
    report = Probe.train(loaded(tiny), items, labels).report
    assert report.failures == {16: "it has no label"}
    warnings = "\n".join(report.warnings)
    assert "one example only of bear, dog, engine" in warnings
    assert f"the same content with different labels: {FOXES[0]!r} (fox), {FOXES[0]!r} (dog)" in warnings
    assert f"{twice} (fox), {tmp_path / 'first.txt'} (bear)" in warnings
    assert "2 of 16 examples repeat another one" in warnings
    assert "13 examples of fox and 1 of" in warnings
    assert "groups" not in report.basis


def test_items_that_cannot_be_read_are_left_out(tiny: Path, tmp_path: Path) -> None:
    report = Probe.train(loaded(tiny), [*TEXTS, tmp_path / "none.txt"], [*LABELS, "fox"]).report
    assert list(report.failures) == [24] and "does not exist" in report.failures[24]
    assert report.counts == {"engine": 12, "fox": 12} and "1 items were left out" in str(report)
    with pytest.raises(ItemErrors, match="2 of 2 items failed"):
        Probe.train(loaded(tiny), [tmp_path / "a.txt", tmp_path / "b.txt"], ["a", "b"])


def test_one_example_of_each_label(tiny: Path) -> None:
    probe = Probe.train(loaded(tiny), [FOXES[0], ENGINES[0]], ["fox", "engine"])
    assert probe.report.estimate is None and probe.report.basis.startswith("no estimate: one example of")
    assert probe.predict([FOXES[3], ENGINES[3]]) == ["fox", "engine"]


def test_groups_and_kinds(tiny: Path) -> None:
    groups = np.arange(24) % 4
    probe = Probe.train(loaded(tiny), TEXTS, np.repeat([7, 8], 12), groups, "knn", seed=3)
    assert probe.labels == ("7", "8") and "4 groups, none on both sides" in str(probe.report)
    assert "the 20 nearest examples" in repr(probe)


@pytest.mark.parametrize("kind", ["auto", "centroid", "knn", "logistic"])
def test_a_saved_probe_gives_the_same(tiny: Path, tmp_path: Path, kind: str) -> None:
    probe = Probe.train(loaded(tiny), TEXTS, LABELS, kind=kind)  # type: ignore[arg-type]
    assert probe.save(tmp_path / "probe") == tmp_path / "probe"
    assert probe.save(tmp_path / "probe") == tmp_path / "probe"  # it is replaced
    again = omnivec.load_probe(tmp_path / "probe", loaded(tiny))
    asked = ["the brown fox jumps", "weights"]
    assert again.predict_proba(asked).tolist() == probe.predict_proba(asked).tolist()
    assert str(again.report) == str(probe.report) and again.labels == probe.labels
    by_name = Probe.load(tmp_path / "probe")
    assert by_name.predict(asked) == probe.predict(asked)


def test_another_model_is_refused_with_both_identities(probe: Probe, other: Path, tmp_path: Path) -> None:
    probe.save(tmp_path / "probe")
    with pytest.raises(IdentityError) as error:
        Probe.load(tmp_path / "probe", loaded(other))
    assert "weights differ. Recorded: " in str(error.value) and "Current: " in str(error.value)
    assert str(error.value).count("bert, 32 components") == 2


def test_folders_that_hold_no_probe(probe: Probe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        Probe.load(tmp_path / "none")
    with pytest.raises(ModelError, match=r"holds no probe\.json"):
        Probe.load(tmp_path)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ModelError, match="choose another folder"):
        probe.save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "x"
    folder = probe.save(tmp_path / "probe")
    config = json.loads((folder / "probe.json").read_text())
    for change, part in (
        ({"version": 2}, "version 2"),
        ({"format": "x"}, "not of a probe"),
        ({"labels": ["a", "b", "c"]}, "do not fit together"),
        ({"rule": {"kind": "forest"}}, "do not fit together"),
        ({"temperature": 0}, "temperature"),
        ({"identity": {}}, "do not fit together"),
        ({"report": {}}, "do not fit together"),
    ):
        (folder / "probe.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelError, match=part):
            Probe.load(folder, probe.model)
    (folder / "probe.json").write_text(json.dumps(config))
    tensors = load_file(folder / "probe.safetensors")
    save_file({**tensors, "mean": tensors["mean"] * np.nan}, folder / "probe.safetensors")
    with pytest.raises(ModelError, match="do not fit together"):
        Probe.load(folder, probe.model)


def test_suggestions_are_what_it_is_least_sure_of(probe: Probe) -> None:
    unclear = "the quick brown engine fox compiles"
    found = probe.suggest([FOXES[0], unclear, unclear, ENGINES[0], Path("none.txt")], 2)
    assert found.indices[0] == 1 and 2 not in found.indices.tolist()
    assert found.uncertainty[0] > found.uncertainty[1] and found.probabilities.shape == (2, 2)
    assert list(found.failures) == [4]
    assert probe.suggest([Path("none.txt")]).indices.tolist() == []


def test_pictures_are_learned_as_texts_are(tmp_path: Path, image_model: omnivec.Embedder) -> None:
    files = write_pictures(tmp_path, 4)
    # The vectors of a random model may lie anywhere: only the examples themselves are surely nearest.
    probe = Probe.train(image_model, files, ["a", "a", "b", "b"], kind="knn")
    assert probe.predict(files) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("items", "labels", "options", "part"),
    [
        (TEXTS, LABELS[:3], {}, "24 items and 3 labels"),
        (TEXTS, ["fox"] * 24, {}, "one label only, 'fox', for 24 items"),
        (TEXTS, [1.5] * 24, {}, "label 0 is 1.5"),
        (TEXTS, LABELS, {"groups": ["a"]}, "24 items and 1 groups"),
        (TEXTS, LABELS, {"kind": "forest"}, "kind='forest'"),
        (TEXTS, LABELS, {"seed": -1}, "-1"),
        ([], [], {}, "no items"),
    ],
)
def test_what_cannot_be_trained(tiny: Path, items: object, labels: object, options: dict, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        Probe.train(loaded(tiny), items, labels, **options)
    with pytest.raises(UsageError, match="is not an embedder"):
        Probe.train("tiny", TEXTS, LABELS)  # type: ignore[arg-type]
