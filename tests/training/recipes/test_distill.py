"""Distillation: snippets, vocabulary, components and loss by hand; fitted, rounded, saved, exported, interrupted."""

from __future__ import annotations

import bz2
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import checkpoints
from omnivec.errors import UsageError, WeightsError
from omnivec.inputs.text.tokenizer import load_tokenizer, tokenizer_of
from omnivec.models.embedder import Embedder
from omnivec.models.keyed import KeyedEmbedder
from omnivec.models.loading import load
from omnivec.models.model import read_model
from omnivec.models.network import Choice, Network
from omnivec.tables.formats.own import read_own
from omnivec.tables.int8 import quantized, restored
from omnivec.training import snippets
from omnivec.training.loop import TrainingStep
from omnivec.training.recipe_registry import recipes, train
from omnivec.training.recipes import distill
from omnivec.training.recipes.distill import Bags, Options, bags, beginning, distance, fit, principal
from omnivec.training.tokens import choose, published, spelled, token_vectors
from omnivec.vectors.unit import unit
from omnivec.weights.safetensors import read_safetensors, save

CORPUS = checkpoints.TEXT.splitlines() * 12
TEXTS = ["the quick brown fox", "a graph is built", "café owners don't read", "fox"]


def made(data: Any, teacher: Any, **options: Any) -> KeyedEmbedder:
    """Distilled into a small table on one thread."""
    small = {"dim": 12, "texts": 120, "epochs": 2, "batch_size": 16, "max_vocab": 200, "threads": 1}
    trained = train("distill", data, **{"teacher": teacher, **small, **options})
    assert isinstance(trained, KeyedEmbedder)
    return trained


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Embedder:
    return load(folder, threads=1)


@pytest.fixture(scope="module")
def mini(teacher: Embedder) -> KeyedEmbedder:
    return made(CORPUS, teacher)


# snippets


@settings(deadline=None)
@given(st.text(), st.integers(0, 2**32))
def test_a_text_is_cut_into_all_of_its_words(text: str, seed: int) -> None:
    pieces = snippets.cut(text, np.random.default_rng(seed))
    assert " ".join(pieces).split() == text.split()
    assert all(1 <= len(piece.split()) <= snippets.LONGEST for piece in pieces)


def test_lengths_are_many_and_short_texts_stay_whole_half_of_the_time() -> None:
    random = np.random.default_rng(0)
    long = [len(piece.split()) for piece in snippets.cut("word " * 20_000, random)[:-1]]
    shares = [np.mean([low <= size < 2 * low for size in long]) for low in (3, 6, 12)]
    np.testing.assert_allclose(shares, np.log(2) / np.log(24 / 2.5), atol=0.05)
    whole = np.mean([len(snippets.cut("one two three four five six", random)) == 1 for _ in range(2000)])
    # A first length of six or more leaves it whole too.
    assert whole == pytest.approx(0.5 + 0.5 * np.log(24 / 5.5) / np.log(24 / 2.5), abs=0.04)


def test_a_sample_is_fair_and_of_the_size_asked_for() -> None:
    texts = [f"w{i}" for i in range(40)]
    random = np.random.default_rng(1)
    seen = Counter(snippet for _ in range(2000) for snippet in snippets.sample(texts, 10, random))
    np.testing.assert_allclose([seen[text] / 2000 for text in texts], 0.25, atol=0.05)
    assert sorted(snippets.sample(texts, 100, random)) == sorted(texts)


def test_scattered_texts_hold_the_old_words_in_order_and_new_ones() -> None:
    found = snippets.scattered(["x y z"] * 200, ["new", ".", "!"], np.random.default_rng(2))
    added = Counter(word for text in found for word in text.split() if word not in "xyz")
    assert all([word for word in text.split() if word in "xyz"] == list("xyz") for text in found)
    assert set(added) == {"new", ".", "!"}
    assert snippets.scattered(["x y"], [], np.random.default_rng(2)) == ["x y"]


def test_texts_come_from_lines_of_files_and_from_memory(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.bz2"
    plain.write_text("eins\nzwei\n")
    packed.write_bytes(bz2.compress(b"drei\n"))
    assert [line.strip() for line in snippets.read_texts([plain, packed])] == ["eins", "zwei", "drei"]
    assert list(snippets.read_texts(str(plain))) == ["eins", "zwei"]
    assert list(snippets.read_texts(iter(["x", "y"]))) == ["x", "y"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "holds no text"),
        (["", "  \n"], "holds no text"),
        (3, "int"),
        ([3], "item 0 is 3, an int"),
        ("none.txt", "cannot"),
    ],
)
def test_data_without_text_is_an_error(teacher: Embedder, data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(data, teacher)


def test_a_file_that_is_no_text(teacher: Embedder, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        made(tmp_path / "x.txt", teacher)


# tokens


def test_a_smaller_vocabulary_spells_the_same_texts(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    said = published(tokenizer)
    numbers = said["model"]["vocab"]
    counts = np.bincount(bags(CORPUS, tokenizer).ids, minlength=len(numbers))
    kept = choose(said, counts, 110)
    assert len(kept.tokens) == len(kept.ids) == 110
    assert [numbers[token] for token in kept.tokens] == kept.ids.tolist()
    small = json.loads(kept.content)["model"]["vocab"]
    assert [small[token] for token in kept.tokens] == list(range(110))
    assert kept.unknown == small["[UNK]"]
    letters = {token for token in numbers if len(token.removeprefix("##")) == 1 and token.isascii()}
    assert letters <= set(kept.tokens)
    lost = [token for token in numbers if token not in small and counts[numbers[token]]]
    others = [counts[numbers[token]] for token in kept.tokens if token not in letters | {"[UNK]"}]
    assert lost and max(counts[numbers[token]] for token in lost) <= min(others)
    [ids] = kept.tokenizer.ids(["quick fox"], special=False)
    assert "".join(kept.tokens[i].removeprefix("##") for i in ids.tolist()) == "quickfox"


def test_a_whole_vocabulary_keeps_the_teachers_ids(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    kept = choose(published(tokenizer), np.zeros(tokenizer.vocab_size, np.int64), None)
    for text in TEXTS:
        np.testing.assert_array_equal(kept.tokenizer.ids([text])[0], tokenizer.ids([text], special=False)[0])
    assert kept.ids.tolist() == list(range(tokenizer.vocab_size))


def test_byte_pairs_are_kept_whole(tmp_path: Path) -> None:
    checkpoints.byte_level(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    kept = choose(published(tokenizer), np.zeros(tokenizer.vocab_size, np.int64), 300)
    assert len(kept.tokens) == tokenizer.vocab_size
    assert "the" in kept.words


def test_unigram_tokens_are_renumbered() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    scores = [
        ("<unk>", 0.0),
        ("▁the", -1.0),
        ("▁fox", -2.0),
        ("▁", -5.0),
        ("o", -6.0),
        ("f", -6.0),
        ("x", -6.0),
    ]
    backend = Tokenizer(models.Unigram(scores, 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    counts = np.array([0, 0, 3, 0, 0, 0, 0])
    kept = choose(json.loads(backend.to_str()), counts, 6)
    assert kept.tokens == ["<unk>", "▁fox", "▁", "o", "f", "x"]
    assert kept.unknown == 0 and kept.words == ["fox"]
    assert [kept.tokens[i] for i in kept.tokenizer.ids(["fox"])[0].tolist()] == ["▁fox"]


def test_too_few_tokens_for_the_characters(folder: Path) -> None:
    said = published(load_tokenizer(folder))
    with pytest.raises(UsageError, match=r"max_vocab=20: the \d+ single characters"):
        choose(said, np.zeros(300, np.int64), 20)


def test_words_are_what_a_text_is_cut_into(folder: Path) -> None:
    said = published(load_tokenizer(folder))
    vocabulary = said["model"]["vocab"]
    written = dict(zip(vocabulary, spelled(list(vocabulary), list(vocabulary.values()), said), strict=True))
    assert written["the"] == "the" and written["."] == "."
    assert not any(written[token] for token in vocabulary if token.startswith("##") or token == "[CLS]")


def test_a_teacher_that_lower_cases_gives_a_tokenizer_that_does(tmp_path: Path) -> None:
    checkpoints.wordpiece(tmp_path, lower=False)
    tokenizer = load_tokenizer(tmp_path)
    lower = tokenizer_of(json.dumps(published(load_tokenizer(tmp_path, lower=True))).encode())
    np.testing.assert_array_equal(lower.ids(["The FOX"])[0], tokenizer.ids(["the fox"], special=False)[0])


def test_vectors_of_tokens_are_those_of_texts_of_one_token(teacher: Embedder, folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    words = ["the", "fox", "."]
    ids = np.array([tokenizer.ids([word], special=False)[0][0] for word in words], np.int32)
    compiled = Network.of(read_model(folder), Choice(threads=1), folder / "trials.json")
    np.testing.assert_allclose(token_vectors(compiled, ids), teacher.encode(words), atol=2e-2, rtol=2e-2)


# components, first rows, loss


def test_principal_components_keep_inner_products() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((50, 6)) * [9, 5, 3, 1, 0.1, 0.01] + 2).astype(np.float32)
    basis = principal(vectors, 4)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-6)
    # The singular values of the vectors, not centred, are the lengths along the components.
    expected = np.linalg.svd(vectors, compute_uv=False)[:4]
    np.testing.assert_allclose(np.linalg.norm(vectors @ basis, axis=0), expected, rtol=1e-5)
    whole = principal(vectors, 6)
    np.testing.assert_allclose((vectors @ whole) @ (vectors @ whole).T, vectors @ vectors.T, rtol=1e-4)


def test_first_rows_by_hand() -> None:
    alone = np.array([[1, 0], [3, 2], [5, 4]], np.float32)
    read = Bags(np.array([0, 0, 0, 1], np.int32), np.array([0, 2, 4]))
    swapped = np.array([[0, 1], [1, 0]], np.float32)
    rows = beginning(alone, read, swapped, 0.25, None)
    centred = np.array([[-2, -2], [0, 0], [2, 2]])
    weights = np.array([0.25 / (0.25 + 0.75), 0.25 / (0.25 + 0.25), 1.0])
    np.testing.assert_allclose(rows, centred * weights[:, None], rtol=1e-6)
    assert not beginning(alone, read, swapped, 0.0, 2)[2].any()


def test_distance_by_hand() -> None:
    pooled = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    wanted = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # Cosines 1 and 0.8; the texts' likeness is 0 and should be 0.6, in two of four places.
    assert distance(pooled, wanted, 0.0).item() == pytest.approx(0.1)
    assert distance(pooled, wanted, 2.0).item() == pytest.approx(0.1 + 2 * 0.36 / 2)
    torch.autograd.gradcheck(
        lambda x: distance(x, wanted.double(), 2.0),
        torch.randn(2, 2, dtype=torch.float64, requires_grad=True),
    )


def test_batches_of_bags() -> None:
    read = Bags(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 2, 2, 5]))
    ids, starts = read.batch(np.array([2, 0]))
    assert ids.tolist() == [7, 8, 9, 5, 6] and starts.tolist() == [0, 3]


def test_rows_that_made_the_vectors_are_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((30, 8)).astype(np.float32)
    ids = rng.integers(0, 30, 3000).astype(np.int32)
    read = Bags(ids, np.arange(0, 3001, 5))
    wanted = unit(np.stack([truth[ids[i : i + 5]].sum(axis=0) for i in range(0, 3000, 5)]))
    losses: list[float] = []
    options = Options(epochs=40, batch_size=50, lr=0.05, on_step=lambda step: losses.append(step.loss))
    first = rng.standard_normal((30, 8)).astype(np.float32)
    before = first.copy()
    rows = fit(first, read, wanted, options)
    np.testing.assert_array_equal(first, before)
    assert np.mean(losses[-10:]) < 0.01 * np.mean(losses[:10])
    assert (unit(rows) * unit(truth)).sum(axis=1).min() > 0.95


# the recipe


def test_the_recipe_and_its_options() -> None:
    recipe = recipes()["distill"]
    assert all(option.help for option in recipe.options)
    assert {option.name: option.default for option in recipe.options}["dim"] == 256


def test_fitting_brings_texts_nearer_to_the_teacher(teacher: Embedder, mini: KeyedEmbedder) -> None:
    def likeness(model: Embedder) -> float:
        snippets_ = [" ".join(line.split()[i : i + 4]) for line in CORPUS[:3] for i in range(0, 12, 3)]
        own, wanted = unit(model.encode(snippets_)), unit(teacher.encode(snippets_))
        return float(np.square(own @ own.T - wanted @ wanted.T).mean())

    steps: list[TrainingStep] = []
    fitted = made(CORPUS, teacher, epochs=12, lr=0.02, on_step=steps.append)
    assert np.mean([step.loss for step in steps[-5:]]) < 0.6 * steps[0].loss
    assert likeness(fitted) < 0.5 * likeness(made(CORPUS, teacher, epochs=0))
    assert fitted.dim == mini.dim == 12 and len(fitted.keys) <= 200
    assert fitted.modalities == ("text", "key")


def test_a_seed_fixes_every_bit(teacher: Embedder, mini: KeyedEmbedder) -> None:
    assert made(CORPUS, teacher).identity == mini.identity != made(CORPUS, teacher, seed=1).identity


@pytest.mark.parametrize("int8", [True, False])
def test_saved_and_loaded_alike(teacher: Embedder, tmp_path: Path, int8: bool) -> None:
    model = made(CORPUS, teacher, int8=int8)
    saved = model.save(tmp_path / "mini")
    read = load(saved)
    assert read.identity == model.identity
    np.testing.assert_array_equal(read.encode(TEXTS), model.encode(TEXTS))
    np.testing.assert_allclose(np.linalg.norm(read.encode(TEXTS), axis=1), 1.0, rtol=1e-5)
    assert read_safetensors(saved / "model.safetensors")["vectors"].dtype == ("I8" if int8 else "F32")
    assert isinstance(read, KeyedEmbedder)
    assert load(read.save(tmp_path / "again")).identity == model.identity


@pytest.mark.parametrize("form", ["model2vec", "static-embedding"])
def test_exported_to_what_others_read(mini: KeyedEmbedder, tmp_path: Path, form: str) -> None:
    from sentence_transformers import SentenceTransformer

    mini.export(tmp_path / "out", form)
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(theirs, mini.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(load(tmp_path / "out").encode(TEXTS), mini.encode(TEXTS), atol=1e-6)


def test_ctrl_c_keeps_what_was_learned(teacher: Embedder, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(step: TrainingStep) -> None:
        if step.number == 3:
            raise KeyboardInterrupt

    stopped = made(CORPUS, teacher, on_step=stop)
    assert "stopped after step 3 of" in capsys.readouterr().err
    assert stopped.identity != made(CORPUS, teacher, epochs=0).identity


def test_ctrl_c_while_the_teacher_reads(
    teacher: Embedder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "READ", 40)
    original, calls = Embedder.run, Counter[str]()

    def interrupted(self: Embedder, *args: Any, **given: Any) -> Any:
        calls["run"] += 1
        if calls["run"] == 3:
            raise KeyboardInterrupt
        return original(self, *args, **given)

    monkeypatch.setattr(Embedder, "run", interrupted)
    lessons = distill.learn(teacher, ["a graph", "the fox"] * 60, Options(dim=4))
    assert len(lessons.kept) == len(lessons.vectors) == 80
    assert "stopped after 80 of 120 texts" in capsys.readouterr().err
    calls["run"] = 2
    with pytest.raises(KeyboardInterrupt):
        distill.learn(teacher, ["a graph"], Options(dim=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 3}, "distill has no option 'dims' .the nearest is 'dim'"),
        ({"dim": 33}, "dim=33: .* has 32 components"),
        ({"scattered": 1.5}, "scattered=1.5: 0.0 to 1.0"),
        ({"batch_size": 1}, "batch_size=1: at least 2"),
    ],
)
def test_wrong_options(teacher: Embedder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(CORPUS, teacher, **options)


def test_a_table_is_no_teacher(mini: KeyedEmbedder) -> None:
    with pytest.raises(UsageError, match="not a network for texts"):
        made(CORPUS, mini)


# int8


rows_of = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32)
)


@settings(deadline=None)
@given(rows_of)
@example(rows=np.array([[6.7e-44]], np.float32))
def test_rounded_rows_are_within_half_a_scale_and_stay_as_they_are(rows: np.ndarray) -> None:
    codes, scales = quantized(rows)
    assert codes.dtype == np.int8 and scales.shape == (len(rows),)
    back = restored(codes, scales)
    assert (np.abs(back - rows) <= 0.5001 * scales[:, None]).all()
    top = np.abs(rows).max(axis=1, initial=0)
    assert (scales <= np.float32(1.0001) * top / 127 + 1e-40).all()
    np.testing.assert_array_equal(restored(*quantized(back)), back)


def test_int8_costs_little(teacher: Embedder) -> None:
    exact, rounded = (made(CORPUS, teacher, int8=int8) for int8 in (False, True))
    assert ((exact.encode(TEXTS) * rounded.encode(TEXTS)).sum(axis=1) > 0.9999).all()


def test_int8_without_its_scales_is_refused(mini: KeyedEmbedder, tmp_path: Path) -> None:
    saved = mini.save(tmp_path / "mini")
    file = saved / "model.safetensors"
    tensors = {name: np.array(tensor.data) for name, tensor in read_safetensors(file).items()}
    save(file, {"vectors": tensors["vectors"]})
    with pytest.raises(WeightsError, match="int8 without a scale for each of"):
        read_own(saved)
    save(file, {"vectors": tensors["vectors"], "scales": tensors["scales"][1:]})
    with pytest.raises(WeightsError, match="int8 without a scale"):
        read_own(saved)
