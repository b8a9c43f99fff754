"""InferSent: the maximum over a bidirectional LSTM's states, over vectors of whole words.

Conneau et al. 2017, arXiv:1705.02364, section 3.2.3. The LSTM's weights are named as published. A folder holds them
beside the word vectors that they were trained with, or all of it in one file, as `save` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import WeightsError
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.ops.base import Ops, Params, Value
from omnivec.tables.formats.text import read_text
from omnivec.tables.words import MOSES, TREEBANK, word_tokenizer
from omnivec.validation.typed import Among, Index, Positions, Size
from omnivec.weights.tensor import from_array

CLAIMS = {
    "model_type": ["infersent"],
    "files": {
        "infersent1.pkl": {"model_type": "infersent", "version": 1},
        "infersent2.pkl": {"model_type": "infersent", "version": 2},
    },
    "modality": "text",
}

POOLING = "max"


@dataclass(frozen=True)
class Config:
    """What config.json says, or what follows from the weights.

    Attributes:
        version: 1 (GloVe) or 2 (fastText).
        vocab_size: words with a vector.
        word_emb_dim: width of a word's vector.
        enc_lstm_dim: width of a state, in each direction.
        max_length: most words of a text, those around it included. The network has no limit of its own.
    """

    version: Annotated[int, Among(_VERSIONS)]
    vocab_size: Size
    word_emb_dim: Size = 300
    enc_lstm_dim: Size = 2048
    max_length: Positions = 4096

    @property
    def dim(self) -> int:
        """Width of a word's state: both directions."""
        return 2 * self.enc_lstm_dim


@dataclass(frozen=True)
class Version:
    """What the two published models differ in: their word vectors, the words around a text, what a word is."""

    vectors: str
    around: tuple[str, str]
    pattern: str


_VERSIONS = {
    1: Version("glove.840B.300d.txt", ("<s>", "</s>"), TREEBANK),
    2: Version("crawl-300d-2M.vec", ("<p>", "</p>"), MOSES),
}


@dataclass(frozen=True)
class Published:
    """What else config.json may say: the files of its makers, and how many of their words to read."""

    weights: str = ""
    word_vectors: str = ""
    words: Index = 0


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, Tokenizer] | None:
    """The config, weights and tokenizer of a folder as its makers publish it; None where `save` wrote it.

    config.json may name the files ("weights", "word_vectors") and read the first "words" of the vectors only: all
    2.2 million of GloVe take 2.6 GB of memory and a minute or two; written with `save` they are mapped at once.

    Raises:
        WeightsError: a file is missing, damaged, or not of this network.
    """
    if (folder / "tokenizer.json").is_file():
        return None
    version = _VERSIONS[published["version"]]
    lstm = weights.read(
        _file(folder, str(published.get("weights") or f"infersent{published['version']}.pkl"))
    )
    name = "enc_lstm.weight_ih_l0"
    if name not in lstm:
        raise WeightsError(f"{folder}: the weights lack {name!r}: they are none of InferSent")
    gates, width = lstm[name].shape
    table = read_text(
        _file(folder, str(published.get("word_vectors") or version.vectors)),
        int(published.get("words") or 0),
        dim=width,
        always=version.around,
        blanks=False,  # no text has a word with one inside
        errors="replace",
    )
    words = table.keys
    config = {"model_type": "infersent", "version": published["version"], "vocab_size": len(words)}
    config |= {"word_emb_dim": width, "enc_lstm_dim": gates // 4}
    tensors = {**lstm, "word_vectors": from_array("word_vectors", table.vectors)}
    tokenizer = word_tokenizer(words, version.pattern, version.around)
    return config, weights.Weights(tensors, lstm.files), tokenizer


def _file(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise WeightsError(f"{folder}/config.json names {name!r}, which is no file of this folder")
    if not (folder / name).is_file():
        raise WeightsError(f"{folder} has no {name}: put it there, or name another in config.json")
    return folder / name


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.ids (n, t) and batch.mask (n, t) integers -> (n, t, 2 * enc_lstm_dim) float32, 0 on padding."""
    x = ops.state(ops.embedding(batch.ids, p["word_vectors"]))
    lengths = ops.cast(ops.sum(ops.cast(batch.mask, "float32"), 1), "int32")
    states, _ = ops.lstm(x, p["enc_lstm"], lengths, bidirectional=True)
    return ops.state(states)


SHAPES = {
    "word_vectors": ("vocab_size", "word_emb_dim"),
    "enc_lstm.weight_hh_l0": ("", "enc_lstm_dim"),
}

PREFIXES = ("module.", "encoder.")

LAYOUTS: list[weights.Row] = []

KNOWN: dict[str, dict[str, Any]] = {}
