"""Contrastive training: against hand-computed losses, finite differences, and transformers with AdamW."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import AutoTokenizer, BertModel

from omnivec.errors import UsageError
from omnivec.models.embedder import Embedder
from omnivec.models.model import Model, read_model
from omnivec.testing import check_close, check_rejected, open_model
from omnivec.training.data import batches, per_epoch
from omnivec.training.loop import LoopOptions, TrainingStep, fit
from omnivec.training.recipe_registry import train
from omnivec.training.recipes.contrastive import Options, false_negatives, info_nce, pairs_loss
from omnivec.training.trainable import Trainable
from omnivec.weights.tensor import from_array

Pairs = list[tuple[str, ...]]
NO_PROMPTS = ("", "", "")


def arrays(model: Model) -> dict[str, np.ndarray]:
    return {name: tensor.float32() for name, tensor in model.tensors.items()}


def made(pairs: Pairs, **options: Any) -> Embedder:
    """Trained on the CPU, whatever else there is."""
    return train("contrastive", pairs, **{"device": "cpu", **options})


def accuracy(model: Model, pairs: Pairs) -> float:
    trainable = Trainable(model)
    with torch.no_grad():
        anchors, positives = (
            torch.nn.functional.normalize(trainable.vectors(list(texts), training=False))
            for texts in zip(*pairs, strict=True)
        )
    return float(((anchors @ positives.T).argmax(1) == torch.arange(len(pairs))).float().mean())


# the loss


def by_hand(anchors: np.ndarray, candidates: np.ndarray, hidden: np.ndarray, scale: float) -> float:
    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    losses = []
    for i, anchor in enumerate(anchors):
        scores = [np.exp(scale * cosine(anchor, c)) for j, c in enumerate(candidates) if not hidden[i, j]]
        losses.append(np.log(sum(scores)) - scale * cosine(anchor, candidates[i]))
    return float(np.mean(losses))


def test_loss_of_orthogonal_vectors() -> None:
    # Each anchor's cosine is 1 with its positive and 0 with the other: ln(1 + e^-s).
    unit = torch.eye(2, dtype=torch.float64)
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    loss = info_nce(3 * unit, 7 * unit, nothing, 2.0, False)
    np.testing.assert_allclose(loss.item(), np.log1p(np.exp(-2.0)), rtol=1e-12)
    assert info_nce(unit, unit, ~nothing ^ torch.eye(2, dtype=torch.bool), 2.0, False).item() == 0.0


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("width", [5, 10])
def test_loss_and_gradient(symmetric: bool, width: int) -> None:
    rng = np.random.default_rng(3)
    anchors, candidates = rng.standard_normal((5, 4)), rng.standard_normal((width, 4))
    hidden = rng.random((5, width)) < 0.3
    np.fill_diagonal(hidden, False)
    expected = by_hand(anchors, candidates, hidden, 4.0)
    if symmetric:
        expected = (expected + by_hand(candidates[:5], anchors, hidden[:, :5].T, 4.0)) / 2
    a, c = (torch.tensor(x, requires_grad=True) for x in (anchors, candidates))
    mask = torch.from_numpy(hidden)
    np.testing.assert_allclose(info_nce(a, c, mask, 4.0, symmetric).item(), expected, rtol=1e-12)
    # gradcheck compares with finite differences.
    assert torch.autograd.gradcheck(lambda x, y: info_nce(x, y, mask, 4.0, symmetric), (a, c))


def test_false_negatives_do_not_count() -> None:
    anchors = ["a", "a", "b", "c"]
    positives = ["p", "q", "a", "p"]
    negatives = ["x", "p", "b", "y"]
    expected = np.zeros((4, 8), bool)
    expected[0, [1, 2, 3, 5]] = True  # q answers "a" too; "a" is the anchor itself; p is its positive, twice
    expected[1, [0, 2]] = True
    expected[2, [0, 1]] = False
    expected[2, 6] = True  # its own negative is the anchor itself
    expected[3, [0, 5]] = True
    np.testing.assert_array_equal(false_negatives([anchors, positives, negatives]), expected)
    np.testing.assert_array_equal(false_negatives([anchors, positives]), expected[:, :4])


def test_without_duplicates_every_other_row_counts(pairs: Pairs) -> None:
    assert not false_negatives([list(column) for column in zip(*pairs, strict=True)]).any()


# the gradient and the step


def reference_losses(folder: Path, pairs: Pairs, steps: int, decay: float) -> tuple[BertModel, list[float]]:
    """Full-batch training in float64 with transformers' model and torch's own pieces, from their papers' formulas."""
    model = BertModel.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager"
    )
    model = model.double().train()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def vectors(texts: tuple[str, ...]) -> torch.Tensor:
        batch = tokenizer(list(texts), padding=True, return_tensors="pt")
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][:, :, None].double()
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        return pooled / pooled.norm(dim=1, keepdim=True)

    named = [(name, p) for name, p in model.named_parameters() if not name.startswith("pooler")]
    plain = [p for name, p in named if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for name, p in named if not (name.endswith("bias") or "LayerNorm" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}], lr=1e-3
    )
    losses = []
    anchors, *candidates = zip(*pairs, strict=True)
    for step in range(steps):
        scores = 20.0 * vectors(anchors) @ torch.cat([vectors(c) for c in candidates]).T
        loss = -torch.log_softmax(scores, 1).diagonal().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.square().sum() for _, p in named]).sum().sqrt()
        for _, p in named:
            p.grad.mul_((1.0 / (norm + 1e-6)).clamp(max=1.0))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (steps - step) / steps
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("negatives", [False, True])
def test_steps_equal_transformers_with_adamw(folder: Path, pairs: Pairs, negatives: bool) -> None:
    if negatives:
        pairs = [(*pair, f"not the {i}, {'again ' * i}") for i, pair in enumerate(pairs)]
    expected, losses = reference_losses(folder, pairs, 3, 0.1)
    # In float64, so that a gradient that is nothing but rounding is nothing beside AdamW's epsilon.
    trainable = Trainable(read_model(folder), dropout=0.0)
    for value in trainable.weights.values():
        value.data = value.data.double()
    start = {name: value.detach().clone() for name, value in trainable.weights.items()}
    seen: list[TrainingStep] = []
    fit(
        lambda batch: pairs_loss(trainable, batch, NO_PROMPTS, Options()),
        [pairs] * 3,
        torch.optim.AdamW(trainable.groups(0.1), 1e-3),
        LoopOptions(steps=3, warmup=0.0),
        seen.append,
    )
    np.testing.assert_allclose([step.loss for step in seen], losses, rtol=1e-9)
    reference = {n: p.detach() for n, p in expected.named_parameters() if not n.startswith("pooler")}
    assert reference.keys() == trainable.weights.keys()
    for name, value in trainable.weights.items():
        assert not torch.equal(value, start[name]), name
        torch.testing.assert_close(value.detach(), reference[name], rtol=0, atol=1e-8, msg=name)


def test_every_weight_has_a_finite_gradient(folder: Path, pairs: Pairs) -> None:
    trainable = Trainable(read_model(folder))
    pairs_loss(trainable, pairs, NO_PROMPTS, Options()).backward()
    for name, value in trainable.weights.items():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name
        assert value.grad.abs().max() > 0, name


# the recipe


def test_training_lowers_the_loss_and_finds_the_pairs(folder: Path, pairs: Pairs) -> None:
    before = read_model(folder)
    seen: list[TrainingStep] = []
    trained = made(
        pairs,
        model=folder,
        steps=40,
        batch_size=12,
        lr=3e-3,
        dropout=0.0,
        on_step=seen.append,
    )
    assert isinstance(trained, Embedder)
    assert [step.number for step in seen] == list(range(1, 41))
    assert np.mean([step.loss for step in seen[-3:]]) < 0.05 * np.mean([step.loss for step in seen[:3]])
    assert accuracy(before, pairs) < 0.9
    assert accuracy(trained.model, pairs) == 1.0
    start = arrays(before)
    for name, value in arrays(trained.model).items():
        assert np.isfinite(value).all(), name
        assert not np.array_equal(value, start[name]), name
    assert np.array_equal(
        arrays(read_model(folder))["embeddings.LayerNorm.bias"], start["embeddings.LayerNorm.bias"]
    )
    assert trained.identity["weights"] != open_model(folder).identity["weights"]


@pytest.fixture(scope="module", params=["bare", "dense"])
def base(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint by itself, and one with Dense and Normalize behind its pooling."""
    if request.param == "bare":
        return folder
    place = tmp_path_factory.mktemp("dense")
    transformer = Transformer(str(folder))
    torch.manual_seed(0)
    modules = [
        transformer,
        Pooling(32, "mean"),
        Dense(32, 24, activation_function=torch.nn.Tanh()),
        Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    return place


def test_trained_saved_and_loaded_elsewhere(base: Path, pairs: Pairs, tmp_path: Path) -> None:
    trained = made(pairs, model=base, steps=6, batch_size=4, lr=1e-3, symmetric=True)
    saved = trained.save(tmp_path / "trained")
    texts = [text for pair in pairs for text in pair]
    with torch.no_grad():
        expected = Trainable(trained.model).vectors(texts, training=False).numpy()
    assert expected.shape[1] == trained.dim == open_model(base).dim
    for engine in ("openvino", "torch"):
        check_close(open_model(saved, engine).encode(texts), expected, engine)
    others = SentenceTransformer(str(saved), device="cpu")
    check_close(others.encode(texts), expected, "sentence-transformers")
    check_rejected(open_model(base).encode(texts), expected, "untrained")
    start = arrays(read_model(base))
    assert not [name for name, value in arrays(trained.model).items() if np.array_equal(value, start[name])]
    assert open_model(saved).identity == trained.identity


def digest(model: Model) -> str:
    found = hashlib.sha256()
    for name, value in sorted(arrays(model).items()):
        found.update(name.encode() + value.tobytes())
    return found.hexdigest()


ELSEWHERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_contrastive import digest, made
print(digest(made(json.loads(sys.argv[3]), model=sys.argv[2], steps=3, batch_size=4, seed=7).model))
"""


def test_a_seed_fixes_every_bit(folder: Path, pairs: Pairs) -> None:
    digests = [
        digest(made(pairs, model=folder, steps=3, batch_size=4, seed=seed).model) for seed in (7, 7, 8)
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent), str(folder), json.dumps(pairs)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert digests[0] == digests[1] == done.stdout.strip() != digests[2]


def test_interruption_keeps_the_model_learned_so_far(
    folder: Path, pairs: Pairs, capsys: pytest.CaptureFixture[str]
) -> None:
    def until(last: int) -> str:
        def stop(step: TrainingStep) -> None:
            if step.number == last:
                raise KeyboardInterrupt

        return digest(made(pairs, model=folder, steps=9, batch_size=4, on_step=stop).model)

    third = until(3)
    assert "stopped after step 3 of 9" in capsys.readouterr().err
    assert third == until(3) != until(2)
    assert third != digest(read_model(folder))


def test_epochs_are_passes(folder: Path, pairs: Pairs) -> None:
    seen: list[TrainingStep] = []
    made(pairs, model=folder, epochs=2, batch_size=5, on_step=seen.append)
    assert len(seen) == seen[0].of == 2 * 3


def test_a_loaded_model_can_be_trained_and_stays_as_it_is(folder: Path, pairs: Pairs) -> None:
    model = open_model(folder)
    before = model.encode("the quick fox")
    trained = made(pairs, model=model, steps=2, lr=1e-2)
    assert np.array_equal(model.encode("the quick fox"), before)
    assert digest(trained.model) == digest(made(pairs, model=str(folder), steps=2, lr=1e-2).model)


def test_prompts_stand_before_the_texts(folder: Path, pairs: Pairs, tmp_path: Path) -> None:
    prompted = tmp_path / "prompted"
    shutil.copytree(folder, prompted)
    card = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps(card))
    triples: Pairs = [(*pair, f"not {i}") for i, pair in enumerate(pairs)]
    written: Pairs = [(f"query: {a}", f"passage: {p}", f"passage: {n}") for a, p, n in triples]

    def learned(rows: Pairs, prompts: bool) -> str:
        return digest(made(rows, model=prompted, steps=2, prompts=prompts).model)

    assert learned(triples, True) == learned(written, False) != learned(triples, False)


# training mode


def test_dropout_is_live_in_training_only(folder: Path) -> None:
    texts = ["the quick brown fox", "lazy dog"]
    model = read_model(folder)
    trainable = Trainable(model)
    assert not torch.equal(trainable.vectors(texts), trainable.vectors(texts))
    resting = trainable.vectors(texts, training=False)
    assert torch.equal(resting, trainable.vectors(texts, training=False))
    still = Trainable(model, dropout=0.0)
    torch.testing.assert_close(still.vectors(texts), resting)
    assert still.trained().config == model.config


def test_batch_statistics_are_kept_not_learned(folder: Path) -> None:
    model = read_model(folder)
    names = {
        "weight": np.ones(32),
        "bias": np.zeros(32),
        "running_mean": np.zeros(32),
        "running_var": np.ones(32),
    }
    tensors = {f"bn.{n}": from_array(f"bn.{n}", value.astype(np.float32)) for n, value in names.items()}
    tensors["bn.num_batches_tracked"] = from_array("bn.num_batches_tracked", np.array(3))
    tensors["table"] = model.tensors["embeddings.word_embeddings.weight"]

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        x = ops.transpose(ops.embedding(batch.ids, p["table"]), (0, 2, 1))
        return ops.transpose(ops.batch_norm(x, p["bn"], 1e-5), (0, 2, 1))

    family: Any = SimpleNamespace(forward=forward)
    small = dataclasses.replace(model, family=family, tensors=tensors)
    trainable = Trainable(small)
    assert sum(len(group["params"]) for group in trainable.groups(0.0)) == 3
    trainable.vectors(["quick"], training=False)
    assert not trainable.weights["bn.running_mean"].any()
    trainable.vectors(["quick brown"]).sum().backward()
    assert trainable.weights["bn.running_mean"].any()
    assert trainable.weights["bn.running_mean"].grad is None
    after = trainable.trained().tensors
    assert after["bn.running_mean"].data.any()
    assert after["bn.num_batches_tracked"] is tensors["bn.num_batches_tracked"]


def test_what_is_cut_is_said(folder: Path, pairs: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    made(pairs, model=folder, steps=1)
    assert "cut" not in capsys.readouterr().err
    trained = made([*pairs, ("dog " * 9, "fox")], model=folder, epochs=1, max_length=10)
    assert "1 of 26 texts seen were cut to 10 tokens" in capsys.readouterr().err
    assert trained.max_length == 96


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, "max_length=2: this model takes 3 to 96 tokens"),
        ({"max_length": 97}, "3 to 96"),
        ({"device": "gpu9"}, "device='gpu9' is not a device"),
    ],
)
def test_options_that_the_model_cannot_follow(
    folder: Path, pairs: Pairs, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        made(pairs, model=folder, **options)


# pairs from which nothing is learned


def test_no_batch_holds_a_pair_alone(folder: Path, pairs: Pairs) -> None:
    for count, size in itertools.product(range(2, 12), range(2, 6)):
        own = list(itertools.islice(batches(count, size, 0), per_epoch(count, size)))
        assert sorted(np.concatenate(own).tolist()) == list(range(count))
        assert min(map(len, own)) >= 2 and max(map(len, own)) <= max(size, 3)
    norms: list[float] = []
    made(pairs[:3], model=folder, batch_size=2, epochs=4, on_step=lambda step: norms.append(step.norm))
    assert len(norms) == 4 and min(norms) > 0


@pytest.mark.parametrize(
    "data",
    [
        [("same", f"positive {i}") for i in range(9)],
        [(f"anchor {i}", "same") for i in range(9)],
        [("a", "b"), ("b", "a")],
    ],
)
def test_pairs_without_any_negative_are_an_error(folder: Path, data: Pairs) -> None:
    with pytest.raises(
        UsageError, match="has a negative in its batch, so nothing would be learned"
    ) as raised:
        made(data, model=folder)
    assert "\n" not in str(raised.value)
    made([(*pair, f"other {i}") for i, pair in enumerate(data)], model=folder, steps=1)


def test_pairs_that_teach_nothing_are_counted(
    folder: Path, pairs: Pairs, capsys: pytest.CaptureFixture[str]
) -> None:
    made(pairs, model=folder, steps=1)
    assert "nothing is learned" not in capsys.readouterr().err
    made([("same", f"{i}") for i in range(20)] + pairs[:4], model=folder, batch_size=2)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "nothing is learned" in line]
    assert re.search(r"omnivec: 1\d of the first 24 pairs have no negative in their batch", line)
