"""InferSent against torch's LSTM and the published encoder's rules, from the files that its makers publish."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import encoders
import omnivec
from omnivec.errors import ItemErrors, ModelError, UnsupportedModel, WeightsError
from omnivec.families import infersent
from omnivec.models.model import read_model
from omnivec.tables.words import MOSES, TREEBANK, word_tokenizer
from omnivec.testing import TEXTS, check_close, check_family, check_rejected, open_model

WIDTH, STATE = 12, 20
WORDS = "the quick brown fox jumps over lazy dog a graph is built straight from weights engine compiles it once one "
WORDS += "The A again and café naïve text n't do don 't 's It . , ! – “ ” `` '' `` leading blanks 1234567890"


def vectors_of(words: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """A vector for each word, in words' order; numbers that survive being written with six digits."""
    rng = np.random.default_rng(seed)
    return {
        word: rng.integers(-999999, 999999, WIDTH).astype(np.float32) / np.float32(2**19) for word in words
    }


def write_vectors(path: Path, vectors: dict[str, np.ndarray], header: bool) -> None:
    lines = [" ".join([word, *(f"{x:.9g}" for x in vector)]) for word, vector in vectors.items()]
    head = [f"{len(lines)} {WIDTH}"] if header else []
    path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def make(
    folder: Path, version: int = 1, seed: int = 0, **config: Any
) -> tuple[torch.nn.LSTM, dict[str, np.ndarray]]:
    """The files as they are published in `folder`, torch's LSTM of them and the word vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    lstm = torch.nn.LSTM(WIDTH, STATE, 1, bidirectional=True)
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            p.copy_(torch.randn(p.shape) * (2 / p.shape[-1] ** 0.5 if "weight" in name else 0.3))
    torch.save(
        {f"enc_lstm.{name}": tensor for name, tensor in lstm.state_dict().items()},
        folder / f"infersent{version}.pkl",
        _use_new_zipfile_serialization=False,
    )
    around = ["<s>", "</s>"] if version == 1 else ["<p>", "</p>"]
    vectors = vectors_of([*WORDS.split(), *around], seed)
    name = "glove.840B.300d.txt" if version == 1 else "crawl-300d-2M.vec"
    write_vectors(folder / config.get("word_vectors", name), vectors, header=version == 2)
    if config:
        said = {"model_type": "infersent", "version": version, **config}
        (folder / "config.json").write_text(json.dumps(said))
    return lstm, vectors


def expected(lstm: torch.nn.LSTM, vectors: dict[str, np.ndarray], words: list[str]) -> np.ndarray:
    """The published encoder on one sentence by itself: words that have no vector go, then the largest of each state."""
    rows = torch.from_numpy(np.stack([vectors[word] for word in words if word in vectors]))
    with torch.no_grad():
        states, _ = lstm.double()(rows[:, None].double())
    return states[:, 0].max(0).values.numpy().astype(np.float32)


@pytest.fixture(scope="module", params=[1, 2])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, Any, Any]:
    folder = tmp_path_factory.mktemp("infersent")
    return folder, request.param, *make(folder, request.param)


# What NLTK's word_tokenize makes of them, as of the Penn Treebank's rules; of version 2, with n't joined as in Moses.
CUT = {
    "The quick brown fox.": ["The", "quick", "brown", "fox", "."],
    "I don't know; it's O'Hara's.": ["I", "do", "n't", "know", ";", "it", "'s", "O'Hara", "'s", "."],
    'She said "no" (twice).': ["She", "said", "``", "no", "''", "(", "twice", ")", "."],
    "3.14, 1,000 and 50% of $9.99!": ["3.14", ",", "1,000", "and", "50", "%", "of", "$", "9.99", "!"],
    "the U.S. e-mail -- well...": ["the", "U.S.", "e-mail", "--", "well", "..."],
    "CAN'T WE'LL they've I'm he'd": ["CA", "N'T", "WE", "'LL", "they", "'ve", "I", "'m", "he", "'d"],
    "": [],
}


@pytest.mark.parametrize("text", CUT)
def test_words_are_the_treebanks(text: str) -> None:
    words = sorted({*CUT[text], "x"})
    tokenizer = word_tokenizer(words, TREEBANK, ("", ""))
    assert [words[i] for i in tokenizer.ids([text])[0]] == CUT[text]


def test_version_2_joins_the_n() -> None:
    words = ["CA", "CAN", "I", "do", "don", "'t", "'T", "n't", "know", "n"]
    tokenizer = word_tokenizer(words, MOSES, ("", ""))
    assert [words[i] for i in tokenizer.ids(["I don't know CAN'T"])[0]] == [
        "I",
        "don",
        "'t",
        "know",
        "CAN",
        "'T",
    ]


def test_sentences_equal_the_published_encoder(made: tuple[Path, int, Any, Any]) -> None:
    folder, version, lstm, vectors = made
    before, behind = ("<s>", "</s>") if version == 1 else ("<p>", "</p>")
    split = ["do", "n't"] if version == 1 else ["don", "'t"]
    texts = {
        "The quick brown fox.": ["The", "quick", "brown", "fox", "."],
        "It's a dog!": ["It", "'s", "a", "dog", "!"],
        "don't": split,
        "the zyzzyva 北京 dog": ["the", "dog"],
        "zyzzyva": [],
        "": [],
    }
    for engine in encoders.ENGINES:
        got = open_model(folder, engine).encode(list(texts))
        for vector, words in zip(got, texts.values(), strict=True):
            check_close(vector, expected(lstm, vectors, [before, *words, behind]), f"{engine}: {words}")


@settings(max_examples=10, deadline=None)
@given(lengths=encoders.LENGTHS, padding=st.integers(0, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_every_state_equals_torch(
    made: tuple[Path, int, Any, Any], engine: str, lengths: list[int], padding: int, seed: int
) -> None:
    folder, _, lstm, vectors = made
    config = SimpleNamespace(vocab_size=len(vectors), pad_token_id=0)
    batch = encoders.batch_of(SimpleNamespace(config=config), lengths, padding, seed)
    table = np.stack(list(vectors.values()))
    words, states = encoders.states(folder, engine, batch)
    np.testing.assert_array_equal(words, table[batch["ids"][batch["mask"] == 1]])
    rows = [
        torch.from_numpy(table[ids[keep == 1]]) for ids, keep in zip(batch["ids"], batch["mask"], strict=True)
    ]
    with torch.no_grad():
        alone = [lstm.double()(row[:, None].double())[0][:, 0].numpy() for row in rows]
    check_close(states, np.concatenate(alone).astype(np.float32), engine)


def lstm_with(wrong: Any) -> encoders.Forward:
    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        right = ops.lstm
        ops.lstm = lambda x, part, lengths, bidirectional: wrong(right, x, part, lengths)
        return infersent.forward(ops, p, config, batch)

    return forward


def halves(states: torch.Tensor) -> torch.Tensor:
    return torch.cat([states[..., STATE:], states[..., :STATE]], -1)


# Forwards with one mistake each, as they are made in practice.
WRONG = {
    "backwards through the padding": lstm_with(
        lambda right, x, p, lengths: right(x, p, torch.full_like(lengths, x.shape[1]), True)
    ),
    "directions exchanged": lstm_with(
        lambda right, x, p, lengths: (halves(right(x, p, lengths, True)[0]), None)
    ),
    "one direction twice": lstm_with(
        lambda right, x, p, lengths: (right(x, p, lengths, True)[0][..., :STATE].repeat(1, 1, 2), None)
    ),
    "the last word left out": lstm_with(
        lambda right, x, p, lengths: right(x, p, (lengths - 1).clamp(min=1), True)
    ),
    "states of another family's gate order": lstm_with(
        lambda right, x, p, lengths: right(x, Gates(p, (0, 2, 1, 3)), lengths, True)
    ),
    "input and forget gates exchanged": lstm_with(
        lambda right, x, p, lengths: right(x, Gates(p, (1, 0, 2, 3)), lengths, True)
    ),
    "one of the two biases left out": lstm_with(
        lambda right, x, p, lengths: right(x, Gates(p, (0, 1, 2, 3), without="bias_ih"), lengths, True)
    ),
}


class Gates:
    """The weights of an LSTM with its gates in another order, or without some of them."""

    def __init__(self, p: Any, order: tuple[int, ...], without: str = "-") -> None:
        self.p, self.order, self.without = p, order, without

    def __getitem__(self, name: str) -> Any:
        quarters = self.p[name].chunk(4)
        return torch.cat([quarters[i] for i in self.order]) * (0.0 if name.startswith(self.without) else 1.0)


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_told_apart(tmp_path: Path, variant: str) -> None:
    _, vectors = make(tmp_path)
    config = SimpleNamespace(vocab_size=len(vectors), pad_token_id=0)
    batch = encoders.batch_of(SimpleNamespace(config=config), [14, 9, 3])
    right = encoders.states(tmp_path, "torch", batch)[-1]
    check_rejected(encoders.states(tmp_path, "torch", batch, WRONG[variant])[-1], right, variant)


def test_padding_never_wins(tmp_path: Path) -> None:
    """A sentence whose states are all below nought has them in any company: zeros of the padding do not count."""
    make(tmp_path)
    model = open_model(tmp_path)
    alone = model.encode("the dog")
    assert (alone < 0).any()
    together = model.encode(["the dog", "the quick brown fox jumps over the lazy dog again and again " * 3])
    check_close(together[0], alone, "beside a long sentence", 1e-6)


def test_contract(made: tuple[Path, int, Any, Any]) -> None:
    check_family(made[0])


def test_saved_it_is_one_folder_without_the_originals(
    made: tuple[Path, int, Any, Any], tmp_path: Path
) -> None:
    model = open_model(made[0])
    saved = model.save(tmp_path / "saved")
    assert not [path.name for path in saved.iterdir() if path.suffix in (".pkl", ".vec", ".txt")]
    again = open_model(saved)
    assert again.identity == model.identity
    np.testing.assert_array_equal(again.encode(list(TEXTS)), model.encode(list(TEXTS)))
    assert again.model.tensors["word_vectors"].data.base is not None  # a map of the file


def test_load_says_nothing_of_guesses(
    made: tuple[Path, int, Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model = omnivec.load(made[0])
    assert model.card["pooling"] == ["max"] and model.card["pooling_stated"]
    assert model.dim == 2 * STATE and capsys.readouterr().err == ""


def test_vectors_of_words_have_the_places_of_those_seen(made: tuple[Path, int, Any, Any]) -> None:
    tokens = open_model(made[0]).tokens("the zyzzyva quick fox")
    assert tokens.texts == ("the", "quick", "fox")
    assert tokens.vectors.shape == (3, 2 * STATE)


def test_files_by_other_names(tmp_path: Path) -> None:
    lstm, vectors = make(tmp_path, 1, word_vectors="mine.txt", weights="encoder.pth")
    (tmp_path / "infersent1.pkl").rename(tmp_path / "encoder.pth")
    got = open_model(tmp_path).encode("the dog")
    check_close(got, expected(lstm, vectors, ["<s>", "the", "dog", "</s>"]), "named in config.json")


def test_only_the_first_words(tmp_path: Path) -> None:
    """With the two that go around a text, wherever they stand."""
    lstm, vectors = make(tmp_path, 1, words=3)
    got = open_model(tmp_path).encode("the quick brown fox")
    check_close(got, expected(lstm, vectors, ["<s>", "the", "quick", "brown", "</s>"]), "three words")
    assert read_model(tmp_path).config.vocab_size == 5


def test_no_word_at_all_is_an_error_of_the_item(tmp_path: Path) -> None:
    make(tmp_path)
    write_vectors(tmp_path / "glove.840B.300d.txt", vectors_of(["the", "dog"]), header=False)
    with pytest.raises(ItemErrors) as caught:
        open_model(tmp_path).encode(["the dog", "zyzzyva", "dog"])
    assert list(caught.value.failures) == [1] and "no tokens" in caught.value.failures[1]


@pytest.mark.parametrize("engine", encoders.ENGINES)
def test_bfloat16_stays_near(made: tuple[Path, int, Any, Any], engine: str) -> None:
    assert encoders.bfloat16_cosine(made[0], engine, list(TEXTS)).min() > 0.999


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    make(tmp_path / "whole")

    def without(name: str) -> Path:
        folder = tmp_path / f"without_{name}"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / name).unlink()
        return folder

    with pytest.raises(WeightsError, match=r"no glove\.840B\.300d\.txt"):
        read_model(without("glove.840B.300d.txt"))
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        read_model(without("infersent1.pkl"))
    whole = tmp_path / "whole"
    (whole / "config.json").write_text('{"model_type": "infersent", "version": 3}')
    with pytest.raises(UnsupportedModel, match="version 3"):
        read_model(whole)
    (whole / "config.json").write_text('{"model_type": "infersent", "version": 1, "weights": "../x.pkl"}')
    with pytest.raises(WeightsError, match="not a file in this folder"):
        read_model(whole)
    torch.save({"lstm": torch.zeros(1)}, whole / "infersent1.pkl")
    (whole / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"lack 'enc_lstm\.weight_ih_l0'"):
        read_model(whole)
