"""InferSent: the maximum over the states of a bidirectional LSTM, whose inputs are word vectors.

Conneau et al. 2017, arXiv:1705.02364, section 3.2.3. The LSTM's weights are named as published. A folder holds them
beside the word vectors that they were trained with, or both in one file, as `save` writes it.
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
    """The configuration, from config.json or from the weights.

    Attributes:
        version: 1 (GloVe) or 2 (fastText).
        vocab_size: number of words with a vector.
        word_emb_dim: width of a word's vector.
        enc_lstm_dim: width of a state, in each direction.
        max_length: most words of a text, begin and end marks included. The network itself has no limit.
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
    """The facts in which the two published models differ.

    Attributes:
        vectors: file of the word vectors.
        around: the words that mark the begin and the end of a text.
        pattern: by which texts are split into words.
    """

    vectors: str
    around: tuple[str, str]
    pattern: str


_VERSIONS = {
    1: Version("glove.840B.300d.txt", ("<s>", "</s>"), TREEBANK),
    2: Version("crawl-300d-2M.vec", ("<p>", "</p>"), MOSES),
}


@dataclass(frozen=True)
class Published:
    """Further keys of config.json: names of the published files, and how many of their words to read."""

    weights: str = ""
    word_vectors: str = ""
    words: Index = 0


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, Tokenizer] | None:
    """The config, weights and tokenizer of a folder with the published files; None for one written by `save`.

    config.json may name the files ("weights", "word_vectors") and limit the vectors to the first "words": all 2.2
    million of GloVe take 2.6 GB of memory and a minute or two, while a folder written by `save` is mapped at once.

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
        raise WeightsError(f"{folder}: the weights lack {name!r}, so they are not InferSent's")
    gates, width = lstm[name].shape
    table = read_text(
        _file(folder, str(published.get("word_vectors") or version.vectors)),
        int(published.get("words") or 0),
        dim=width,
        always=version.around,
        blanks=False,  # words are split at blanks, so a key with one inside would never match
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
        raise WeightsError(f"{folder}/config.json names {name!r}, which is not a file in this folder")
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
