"""Labels without training: probabilities of CLIP and SigLIP as transformers has them; texts by models of texts."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

import checkpoints
import omnivec
import photographs
from omnivec.errors import UsageError
from omnivec.tasks.classify import SCALE, Classifier, Rule, classify

SIZE, LENGTH = 48, 24
PREPARED = {
    "do_resize": True,
    "size": {"height": SIZE, "width": SIZE},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
    "do_normalize": True,
}
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
NAMES = ("astronaut", "coffee", "camera", "chelsea")
LABELS = ("quick fox", "lazy dog", "engine")
TEMPLATES = ("a graph of a {}.", "the {} jumps")


@pytest.fixture(scope="module", params=["clip", "siglip"])
def joint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A random checkpoint with its tokenizer, and transformers' model of it."""
    folder = tmp_path_factory.mktemp(request.param)
    said = {**SIZES, "vocab_size": checkpoints.wordpiece(folder), "max_position_embeddings": LENGTH}
    vision = {**SIZES, "image_size": SIZE, "patch_size": 16}
    model: Any
    if request.param == "clip":
        config: Any = CLIPConfig(
            text_config={**said, "eos_token_id": 3}, vision_config=vision, projection_dim=40
        )
        model = CLIPModel(config)
    else:
        config = SiglipConfig(text_config={**said, "pad_token_id": 0}, vision_config=vision)
        model = SiglipModel(config)
    checkpoints.discriminate(model, 2)
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-1.25)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", **PREPARED})
    )
    return folder, model.eval()


def ids(model: omnivec.Embedder, text: str, pad: bool) -> torch.Tensor:
    found = torch.from_numpy(model.model.texts.tokenizer.ids([text])[0].astype(np.int64))
    return torch.nn.functional.pad(found, (0, LENGTH - len(found)))[None] if pad else found[None]


def expected(model: omnivec.Embedder, reference: Any, texts: tuple[str, ...]) -> torch.Tensor:
    """transformers' logits_per_image (images, texts)."""
    place = importlib.import_module("transformers.models.vit.image_processing_pil_vit")
    made = place.ViTImageProcessorPil(**PREPARED)([photographs.rgb(name) for name in NAMES])["pixel_values"]
    pixels, pad = torch.from_numpy(np.stack(made)), isinstance(reference, SiglipModel)
    with torch.no_grad():
        columns = [
            reference(input_ids=ids(model, text, pad), pixel_values=pixels).logits_per_image for text in texts
        ]
    return torch.cat(columns, dim=1)


def test_probabilities_equal_transformers(joint: tuple[Path, Any]) -> None:
    model = omnivec.load(joint[0])
    logits = expected(model, joint[1], tuple(f"a photo of a {label}." for label in LABELS))
    sigmoid = isinstance(joint[1], SiglipModel)
    right = torch.sigmoid(logits) if sigmoid else torch.softmax(logits, 1)
    found = classify(model, [photographs.rgb(name) for name in NAMES], LABELS)
    np.testing.assert_allclose(found.probabilities, right.numpy(), atol=1e-4)
    assert (float(right.max()) - float(right.min())) > 0.1, "the test tells something"
    rule = Classifier.of(model, LABELS).rules["image"]
    assert (rule.scale, rule.bias, rule.learned) == (
        pytest.approx(np.exp(2.5)),
        -1.25 if sigmoid else None,
        True,
    )
    assert ("need not sum to 1" in str(rule)) == sigmoid


def test_templates_are_averaged_as_unit_vectors(joint: tuple[Path, Any]) -> None:
    model = omnivec.load(joint[0])
    classifier = Classifier.of(model, LABELS, templates=TEMPLATES)
    units = [
        [model.encode(template.format(label)) for template in TEMPLATES] for label in LABELS
    ]  # of length 1
    means = np.array(units).mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.vectors["image"], means, atol=1e-5)
    cosines = model.encode([photographs.rgb("coffee")]) @ means.T
    rule = classifier.rules["image"]
    logits = torch.from_numpy(cosines * rule.scale + (rule.bias or 0.0))
    right = torch.softmax(logits, 1) if rule.bias is None else torch.sigmoid(logits)
    found = classifier.run([photographs.rgb("coffee")]).probabilities
    np.testing.assert_allclose(found, right.numpy(), atol=1e-4)


def test_images_and_texts_in_one_run_and_a_bad_file_costs_itself(
    joint: tuple[Path, Any], tmp_path: Path
) -> None:
    model = omnivec.load(joint[0])
    (tmp_path / "bad.png").write_text("none")
    classifier = Classifier.of(model, LABELS)
    items = ["a fox", photographs.rgb("coffee"), tmp_path / "bad.png", "an engine"]
    found = classifier.run(items)
    assert found.kept.tolist() == [0, 1, 3]
    assert list(found.failures) == [2] and "bad.png" in found.failures[2]
    np.testing.assert_allclose(found.probabilities[[0, 2]].sum(1), 1, rtol=1e-5)
    alone = [classifier.run([items[i]]).probabilities[0] for i in (0, 1, 3)]
    np.testing.assert_allclose(found.probabilities, alone, atol=1e-5)
    with pytest.raises(UsageError, match=r"has a scale of its own, 12\.18"):
        Classifier.of(model, LABELS, scale=5.0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> omnivec.Embedder:
    folder = tmp_path_factory.mktemp("bert")
    checkpoints.bert(folder, width=32, layers=1)
    return omnivec.load(folder)


def test_texts_by_a_model_of_texts(bert: omnivec.Embedder) -> None:
    texts = ["the lazy dog", "quick quick fox"]
    for scale, used in ((None, SCALE), (7.0, 7.0)):
        found = classify(bert, texts, LABELS, scale=scale)
        logits = omnivec.similarity(bert.encode(texts), bert.encode(list(LABELS))) * used
        right = torch.softmax(torch.from_numpy(logits), 1).numpy()
        np.testing.assert_allclose(found.probabilities, right, rtol=1e-4)
    assert Classifier.of(bert, LABELS).rules == {"text": Rule(20.0)}


def test_windows_are_runs(bert: omnivec.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnivec.tasks.classify.WINDOW", 3)
    texts = [f"fox number {i}" for i in range(7)]
    classifier = Classifier.of(bert, LABELS)
    windows = list(classifier.stream(iter(texts)))
    assert [len(window) for window, _ in windows] == [3, 3, 1]
    assert [item for window, _ in windows for item in window] == texts
    together = np.concatenate([found.probabilities for _, found in windows])
    np.testing.assert_allclose(together, classifier.run(texts).probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "options", "part"),
    [
        ([], {}, "no labels"),
        (["a", " "], {}, "label 2 of 2 is empty"),
        (["a", "b", "a "], {}, "'a' is given twice"),
        (["a"], {}, "one label, 'a'"),
        (["a", "b"], {"templates": ["a photo"]}, "has no {}"),
        (["a", "b"], {"scale": 0.0}, "scale=0.0: must be above 0"),
    ],
)
def test_what_cannot_be_meant(
    bert: omnivec.Embedder, labels: list[str], options: dict[str, Any], part: str
) -> None:
    with pytest.raises(UsageError, match=part.replace("{}", r"\{\}")):
        classify(bert, ["x"], labels, **options)
