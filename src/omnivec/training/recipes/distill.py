"""Distils a text model, the teacher, into a table of token vectors.

A token's initial vector is the teacher's vector of that token alone, minus their mean, projected on the principal
components of the teacher's vectors of texts and weighted by smooth inverse frequency (Arora et al. 2017, "A Simple but
Tough-to-Beat Baseline for Sentence Embeddings"; Tulkens and van Dongen 2024, "Model2Vec"). Gradient descent then moves
the mean of a text's token vectors towards the teacher's vector of the text, and the similarities of texts towards those
of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from omnivec import progress
from omnivec.errors import UsageError
from omnivec.inputs.modality import written
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.models.embedder import Embedder
from omnivec.models.keyed import KeyedEmbedder
from omnivec.models.loading import load
from omnivec.models.network import Choice, Network
from omnivec.models.runtime import trials_file
from omnivec.models.table import table_model
from omnivec.progress import say
from omnivec.tables.formats.own import STORED
from omnivec.tables.int8 import quantized, restored
from omnivec.tables.record import Table
from omnivec.training import loop
from omnivec.training.data import batches, per_epoch
from omnivec.training.loop import LoopOptions, TrainingStep
from omnivec.training.passes import check_finite
from omnivec.training.recipe_registry import check_limits
from omnivec.training.snippets import read_texts, sample, scattered
from omnivec.training.tokens import Vocabulary, choose, published, token_vectors
from omnivec.types import Floats
from omnivec.vectors.unit import unit

DATA = "a UTF-8 text, a text on each line"

INF = float("inf")
LIMITS = {
    "dim": (1, 65_536),
    "texts": (2, INF),
    "max_vocab": (2, INF),
    "scattered": (0.0, 1.0),
    "sif": (0.0, INF),
    "epochs": (0, INF),
    "batch_size": (2, INF),
    "lr": (1e-12, 1e30),
    "likeness": (0.0, INF),
    "threads": (1, 1_024),
    "seed": (0, 2**63 - 1),
}
READ = 8192
"""Texts that the teacher embeds at a time; the principal components are computed from the first of these batches."""
BETAS = (0.9, 0.99)
"""Adam's betas. Most rows rarely have a gradient, so the usual longer averages (0.999) would adapt too late."""


@dataclass(frozen=True)
class Options:
    """Options of this recipe.

    Attributes:
        teacher: a text model: a name, a folder, hf:org/name, or an Embedder.
        dim: components of a vector, at most the teacher's.
        texts: most snippets of the corpus that the teacher embeds.
        max_vocab: most tokens that get a row, the most frequent first; None keeps the teacher's whole vocabulary.
        scattered: share of the snippets into which rare words and punctuation, which corpora lack, are inserted at
            random places.
        sif: initial weight of a token: sif / (sif + its share of the texts); 0 weights all alike.
        epochs: passes over the snippets; 0 keeps the initial vectors of the tokens.
        batch_size: most snippets in a batch.
        lr: initial learning rate of Adam; it falls to zero.
        likeness: weight of the similarities among texts, relative to each text's distance from the teacher's vector.
        int8: whether to round the rows to int8, and save them so.
        seed: seed of all random choices; the same seed gives the same table on one thread.
        threads: CPU threads; by default as many as there are CPUs.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
        on_step: called after each step with its loss.
    """

    teacher: str | Path | Embedder = "all-MiniLM-L6-v2"
    dim: int = 256
    texts: int = 100_000
    max_vocab: int | None = 27_000
    scattered: float = 0.5
    sif: float = 1e-3
    epochs: int = 3
    batch_size: int = 512
    lr: float = 0.006
    likeness: float = 1.0
    int8: bool = True
    seed: int = 0
    threads: int | None = None
    show_progress_bar: bool | None = None
    on_step: Callable[[TrainingStep], None] | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)


@dataclass(frozen=True, eq=False)
class Bags:
    """The token ids of texts; the vector of a text is the mean of these rows of the table.

    Attributes:
        ids: (total,) int32, the ids of all texts, concatenated.
        offsets: (n + 1,) the offset of each text in `ids`, and the end of the last.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The concatenated ids of the texts with these numbers, and the offset of each."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(self.offsets[rows] - starts, lengths) + np.arange(int(lengths.sum()))
        return self.ids[places].astype(np.int64), starts


@dataclass(frozen=True, eq=False)
class Lessons:
    """The teacher's vectors of texts.

    Attributes:
        kept: (n,) the numbers of the texts that the teacher could embed.
        vectors: (n, dim) their vectors, projected on the principal components and scaled to length 1.
        basis: (width, dim) the principal components, orthonormal.
    """

    kept: NDArray[np.int64]
    vectors: Floats
    basis: Floats


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Distils the teacher; `data` is that of `training.snippets.read_texts`."""
    base = _teacher(options)
    network = base.model
    random = np.random.default_rng(options.seed)
    texts = sample(read_texts(data), options.texts, random)
    tokenizer_json = published(network.texts.tokenizer)
    counts = np.bincount(bags(texts, network.texts.tokenizer).ids, minlength=network.texts.vocab_size)
    vocabulary = choose(tokenizer_json, counts, options.max_vocab)
    half = round(options.scattered * len(texts))
    texts[:half] = scattered(texts[:half], vocabulary.words, random)
    texts = [texts[i] for i in random.permutation(len(texts))]
    lessons = learn(base, texts, options)
    read = bags([texts[i] for i in lessons.kept.tolist()], vocabulary.tokenizer, vocabulary.unknown)
    compiled = Network.of(network, Choice(threads=options.threads), trials_file())
    alone = token_vectors(compiled, vocabulary.ids)
    first = beginning(alone, read, lessons.basis, options.sif, vocabulary.unknown)
    with _threads(options.threads):
        rows = fit(first, read, lessons.vectors, options)
    table = _table(rows, vocabulary, options)
    model = table_model(table, base.folder, False, options.threads)
    return KeyedEmbedder(model, f"{base.name}, distilled", "trained here: distill")


def bags(texts: Sequence[str], tokenizer: Tokenizer, unknown: int | None = None) -> Bags:
    """The token ids of texts, without the unknown token."""
    rows = [row[row != (-1 if unknown is None else unknown)] for row in tokenizer.ids(texts, special=False)]
    offsets = np.cumsum([0, *map(len, rows)])
    return Bags(np.concatenate(rows), offsets)


def learn(teacher: Embedder, texts: Sequence[str], options: Options) -> Lessons:
    """Embeds texts with the teacher; after Ctrl-C, returns the vectors computed so far.

    Raises:
        UsageError: the teacher can embed none of the texts.
    """
    indices: list[NDArray[np.int64]] = []
    vectors: list[Floats] = []
    basis: Floats | None = None
    with progress.bar("teacher reads", len(texts), "texts", options.show_progress_bar) as bar:
        try:
            for first in range(0, len(texts), READ):
                encoded = teacher.run(texts[first : first + READ], normalize_embeddings=True)
                basis = principal(encoded.vectors, options.dim) if basis is None else basis
                vectors.append(unit(encoded.vectors @ basis))
                indices.append(encoded.kept + first)
                bar.advance(len(texts[first : first + READ]))
        except KeyboardInterrupt:
            if basis is None:
                raise
            say(
                f"the teacher was stopped after {first:,} of {len(texts):,} texts: the table is fitted to those"
            )
    if basis is None or not sum(map(len, indices)):
        raise UsageError(f"the teacher can embed none of the {len(texts):,} texts: give others")
    return Lessons(np.concatenate(indices), np.concatenate(vectors), basis)


def principal(vectors: Floats, dim: int) -> Floats:
    """The `dim` principal components (width, dim) of vectors, orthonormal, the largest first.

    The vectors are not centred, because their mean contributes to cosines.
    """
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(directions[:, ::-1][:, :dim], np.float32)


def beginning(alone: Floats, read: Bags, basis: Floats, sif: float, unknown: int | None) -> Floats:
    """The initial rows (v, dim).

    Args:
        alone: (v, width) the teacher's vector of each token by itself.
        read: texts in which tokens are counted.
        basis: (width, dim) the directions to project on.
        sif: the parameter a of the weights a / (a + share of the token); 0 for no weights.
        unknown: the row of the unknown token, set to zero; None if there is none.
    """
    rows: Floats = (alone - alone.mean(axis=0)) @ basis
    if sif:
        counts = np.bincount(read.ids, minlength=len(rows))
        rows *= (sif / (sif + counts / max(counts.sum(), 1))).astype(np.float32)[:, None]
    if unknown is not None:
        rows[unknown] = 0.0
    return rows


def fit(first: Floats, read: Bags, wanted: Floats, options: Options) -> Floats:
    """Trains rows (v, dim) so that the mean rows of texts match the teacher's vectors; `distance` is the loss.

    Args:
        first: (v, dim) the initial rows, which are not changed.
        read: n texts.
        wanted: (n, dim) the teacher's vectors, of length 1.
        options: the options of the recipe.

    Raises:
        UsageError: no text has a token of the table.
    """
    usable = np.flatnonzero(np.diff(read.offsets))
    if not len(usable):
        raise UsageError(f"none of {len(wanted):,} texts has a token of the table: give others")
    if not options.epochs:
        return first
    rows = torch.nn.Parameter(torch.from_numpy(first.copy()))
    targets = torch.from_numpy(wanted)

    def loss(chosen: NDArray[np.int64]) -> torch.Tensor:
        ids, starts = read.batch(usable[chosen])
        pooled = F.embedding_bag(torch.from_numpy(ids), rows, torch.from_numpy(starts), mode="sum")
        return distance(pooled, targets[usable[chosen]], options.likeness)

    loop.fit(
        loss,
        batches(len(usable), options.batch_size, options.seed),
        torch.optim.Adam([rows], options.lr, BETAS),
        LoopOptions(
            options.epochs * per_epoch(len(usable), options.batch_size),
            0.0,
            INF,
            options.seed,
            options.show_progress_bar,
        ),
        options.on_step,
    )
    learned = np.array(rows.detach().numpy())
    check_finite({"rows": learned}, f"epoch {options.epochs}", options.lr)
    return learned


def distance(pooled: torch.Tensor, wanted: torch.Tensor, likeness: float) -> torch.Tensor:
    """The loss of a batch: mean of 1 - cosine, plus the mean squared difference of all pairwise cosines.

    Args:
        pooled: (n, dim) the vectors of texts, of any length.
        wanted: (n, dim) the teacher's vectors, of length 1.
        likeness: weight of the second term.
    """
    unit = F.normalize(pooled, dim=1)
    loss = 1 - (unit * wanted).sum(dim=1).mean()
    return loss + likeness * (unit @ unit.T - wanted @ wanted.T).square().mean() if likeness else loss


def _teacher(options: Options) -> Embedder:
    teacher = options.teacher
    base = teacher if isinstance(teacher, Embedder) else load(teacher, threads=options.threads)
    if base.trainable is None or written() not in base.modalities:
        raise UsageError(f"{base.name} is not a network for texts, which a teacher must be")
    if options.dim > base.encoder.card.space.dim:
        raise UsageError(
            f"dim={options.dim}: {base.name} has {base.encoder.card.space.dim} components: give at most that many"
        )
    return base


def _table(rows: Floats, vocabulary: Vocabulary, options: Options) -> Table:
    settings: Mapping[str, Any] = {"normalize": True} | ({STORED: "int8"} if options.int8 else {})
    rows = restored(*quantized(rows)) if options.int8 else rows
    return Table(vocabulary.tokens, rows, tokenizer=vocabulary.content, settings=settings)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets the number of torch's threads, and restores it at the end; None leaves it unchanged."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
