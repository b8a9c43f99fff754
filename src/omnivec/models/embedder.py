"""The embedder: a model on an engine, with batching; what a user holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from omnivec import progress
from omnivec.errors import ItemError, ItemErrors, ModelError, UsageError
from omnivec.inputs.items import is_one, several
from omnivec.inputs.items import text as one_text
from omnivec.inputs.text import MODALITY as TEXT
from omnivec.models import batching, registry
from omnivec.models.batching import BatchOptions
from omnivec.models.encode_options import EncodeOptions, checked_dim, refuse_tensors
from omnivec.models.encoder import Encoder
from omnivec.models.late_chunking import Spans, span_vectors
from omnivec.models.model import Model
from omnivec.models.network import Network
from omnivec.models.precision import PrecisionLoss, measure
from omnivec.models.projected import Projected
from omnivec.ops.quantized import bytes_of
from omnivec.types import Chunk, Encoded, Floats, Metric, ModalityName, Space, Truncate
from omnivec.validation import arguments
from omnivec.validation.arguments import expanded
from omnivec.vectors.similarity import pairwise_similarity, similarity
from omnivec.weights.card import Training
from omnivec.weights.folder_writer import model_folder

DEFAULT_MODEL = TEXT.default_model
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Vectors of the parts of one text.

    Attributes:
        vectors: (n, width) float32, one for each token or word, special tokens left out.
        spans: (n, 2) int64, first and behind-last character of each.
        texts: the parts themselves.
    """

    vectors: Floats
    spans: NDArray[np.int64]
    texts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Tokens: {len(self.texts):,} of {self.vectors.shape[1]} components>"


class Embedder:
    """A loaded model; made by `omnivec.load`. Safe to use from several threads.

    Attributes:
        encoder: what is run: a network, a table, or one for each modality.
        name: what it was loaded as.
        source: where its files came from.
        folder: where they are.
        training: how it was made, where it was made here.
    """

    def __init__(self, encoder: Encoder, name: str, source: str, dim: int | None = None) -> None:
        self.encoder = encoder
        self.training: Training | None = None
        self.name, self.source, self.folder = name, source, encoder.card.folder
        whole = encoder.card.space.dim
        self._dim = whole if dim is None else checked_dim(dim, whole)

    def __repr__(self) -> str:
        modalities = "+".join(self.modalities)
        return f"<{type(self).__name__} {self.name!r}: {modalities}, {self.dim} components, {self.metric}>"

    @property
    def model(self) -> Model:
        """Its network as it was read: family, config, weights, head; of towers that of the first.

        Raises:
            UsageError: a table, which has none.
        """
        return self._network("model").model

    @property
    def trainable(self) -> Model | None:
        """Its network as it was read, where it is one and nothing else; None of a table, towers or a side."""
        return next((network.model for network in self.encoder.networks if network is self.encoder), None)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """What nearness means in its space."""
        return self.encoder.card.space.metric

    @property
    def modalities(self) -> tuple[ModalityName, ...]:
        """What it embeds."""
        return self.encoder.card.space.modalities

    @property
    def space(self) -> Space:
        """Its vector space."""
        return Space(self.dim, self.metric, self.modalities)

    @property
    def max_length(self) -> int:
        """Longest text in tokens, special tokens included; what is beyond is cut and counted."""
        return self.encoder.card.limit

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes its vectors what they are; equal for the same model in another folder or precision."""
        return {**self.encoder.identity, "dim": self.dim}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How exactly it computes: engine, precision, versions."""
        return self.encoder.provenance()

    @property
    def card(self) -> dict[str, Any]:
        """The facts about the model and how it runs here, each choice with its reason."""
        facts = dict(registry.known().get(self.name, {}))
        return {
            "name": self.name,
            "source": self.source,
            "folder": str(self.folder),
            "family": self.encoder.card.family,
            "licence": facts.get("licence"),
            "dim": self.dim,
            "metric": self.metric,
            "modalities": list(self.modalities),
            "max_length": self.max_length,
            "prompts": dict(self.encoder.card.prompts),
            "parameters": self.encoder.card.parameters,
            **self.encoder.facts(),
        }

    def encode(
        self,
        items: Any,
        *,
        batch_size: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: int | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Vectors of items.

        Args:
            items: one item (a str is a text, a pathlib.Path a file), or several; `items` says what is which.
            batch_size: most items in a batch; None fills batches to a budget of tokens.
            prompt_name: which of the model's prompts stands before each text.
            prompt: a prompt given in words.
            normalize_embeddings: True for vectors of length 1; None as the model does.
            dim: only the first so many components, of length 1 again where the model's vectors are.
            truncate: what a text beyond the model's limit loses: its "tail" or its "head"; "error" refuses it. Where
                nothing is given as the model's folder says, which is the tail in nearly all.
            chunk: "pool" reads such a text whole, in parts whose vectors are averaged by their lengths.
            show_progress_bar: progress on stderr; None in a terminal or a notebook, once it lasts.
            convert_to_numpy: True, as they always are.
            convert_to_tensor: False.

        Returns:
            (dim,) float32 for one item, (n, dim) for several, in the order given.

        Raises:
            ItemErrors: some items failed; .failures says why, .partial holds the others.
            UsageError: no items, or an option that is none, or one of texts for a model that reads none. Of a model
                of texts and images such an option concerns the texts among the items; there has to be one.
        """
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._encode(items, options, None, show_progress_bar, convert_to_numpy, convert_to_tensor)

    def encode_query(
        self,
        items: Any,
        *,
        batch_size: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: int | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Vectors of questions, behind the model's own prompt for them or the one given; see `encode`."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._encode(
            items, options, self.task_prompt("query"), show_progress_bar, convert_to_numpy, convert_to_tensor
        )

    def encode_document(
        self,
        items: Any,
        *,
        batch_size: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: int | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Vectors of what is to be found, behind the model's own prompt for it or the one given; see `encode`."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._encode(
            items,
            options,
            self.task_prompt("document"),
            show_progress_bar,
            convert_to_numpy,
            convert_to_tensor,
        )

    def run(
        self,
        items: Any,
        *,
        batch_size: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: int | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
    ) -> Encoded:
        """Vectors of items, what failed and why, and how much of each item the model saw; see `encode`."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._run(list(several(items)), options, None, show_progress_bar)

    def stream(
        self,
        items: Any,
        *,
        batch_size: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: int | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
    ) -> Iterator[Encoded]:
        """`run` over an iterable larger than memory: an Encoded per window, indices from the iterable's start."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        card, plan = self.encoder.card, BatchOptions(options.rows())
        listed, reading = several(items), options.reading(card)
        windows = batching.stream(listed, lambda window: self.encoder.run(window, reading, plan))
        return _finished(windows, options.finish(card, self._dim))

    def similarity(self, a: Any, b: Any) -> Floats:
        """Nearness of vectors in the model's metric: a (n, dim), b (m, dim) -> (n, m) float32, higher is nearer.

        Raises:
            UsageError: something that is no vectors, or vectors of two lengths.
        """
        return similarity(a, b, self.metric)

    def similarity_pairwise(self, a: Any, b: Any) -> Floats:
        """Nearness of the vectors of each pair: a (n, dim), b (n, dim) -> (n,) float32; see `similarity`."""
        return pairwise_similarity(a, b, self.metric)

    def _encode(
        self,
        items: Any,
        options: EncodeOptions,
        prompt: str | None,
        show_progress_bar: bool | None,
        convert_to_numpy: bool,
        convert_to_tensor: bool,
    ) -> Floats:
        """`encode`, with a prompt for where the options name none."""
        if convert_to_numpy is not True or convert_to_tensor is not False:
            refuse_tensors(convert_to_numpy, convert_to_tensor)
        single = is_one(items)
        listed = [items] if isinstance(items, str) else list(several(items))
        encoded = self._run(listed, options, prompt, show_progress_bar)
        if encoded.failures:
            raise ItemErrors(encoded.failures, encoded)
        return cast(Floats, encoded.vectors[0]) if single else encoded.vectors

    def _run(
        self, listed: list[Any], options: EncodeOptions, prompt: str | None, show_progress_bar: bool | None
    ) -> Encoded:
        card = self.encoder.card
        reading, finish = options.reading(card, prompt), options.finish(card, self._dim)
        rows = options.rows()
        options.refuse_unread(card, listed)
        if show_progress_bar is None and len(listed) == 1:
            encoded = self.encoder.run(listed, reading, BatchOptions(rows))
        else:
            with progress.bar("embedding", len(listed), "items", show_progress_bar) as bar:
                encoded = self.encoder.run(listed, reading, BatchOptions(rows, bar.advance))
        encoded.vectors = finish(encoded.vectors)
        return encoded

    def tokens(self, text: str, layer: int | Sequence[int] = -1) -> Tokens:
        """A vector for each token of a text in its context, with its characters.

        Args:
            text: one text; what is beyond the model's limit has no vectors.
            layer: which hidden state: 0 the embeddings, 1 the first layer, -1 the last; several are averaged.
        """
        text = one_text(text, "text")
        network = self._network("tokens")
        preparer = network.model.texts
        [row] = preparer.rows([text])
        spans = preparer.tokenizer.spans(text, seen=True)
        before = len(preparer.tokenizer.special_ids()[0])
        vectors = _layers(network.hidden(row), layer)[before : before + len(spans)]
        spans = spans[: len(vectors)]
        return Tokens(vectors, spans, tuple(text[a:b] for a, b in spans.tolist()))

    def words(self, text: str, layer: int | Sequence[int] = -1) -> Tokens:
        """A vector for each word and punctuation mark of a text: the mean of its tokens' vectors; see `tokens`."""
        text = one_text(text, "text")
        tokens = self.tokens(text, layer)
        words, vectors, spans = [], [], []
        for match in _WORD.finditer(text):
            inside = (tokens.spans[:, 0] < match.end()) & (tokens.spans[:, 1] > match.start())
            if inside.any():
                words.append(match.group())
                spans.append(match.span())
                vectors.append(tokens.vectors[inside].mean(axis=0))
        width = tokens.vectors.shape[1]
        return Tokens(
            np.array(vectors, np.float32).reshape(-1, width),
            np.array(spans, np.int64).reshape(-1, 2),
            tuple(words),
        )

    def encode_spans(
        self, text: str, spans: Spans, *, prompt: str = "", normalize_embeddings: bool | None = None
    ) -> Floats:
        """Vectors of spans of one text, each in the context of the whole: late chunking.

        The text goes through the model once, in windows that overlap where it is beyond the limit, and the states of
        each span's tokens are pooled. The span (0, len(text)) has the text's own vector.

        Args:
            text: the whole.
            spans: (n, 2) first and behind-last character of each.
            prompt: what stands before the text.
            normalize_embeddings: True for vectors of length 1; None as the model does.

        Returns:
            (n, dim) float32.

        Raises:
            UsageError: a span that is none or holds no token, or a model that pools otherwise than by the mean.

        Source: Günther et al. 2024, arXiv:2409.04701.
        """
        text = one_text(text, "text")
        finish = EncodeOptions(normalize_embeddings=normalize_embeddings).finish(self.encoder.card, self._dim)
        vectors = span_vectors(self._network("encode_spans"), text, spans, one_text(prompt, "prompt"))
        projection = self.encoder.projection
        return finish(vectors if projection is None else projection.project(vectors))

    def precision_loss(self, precision: str, texts: Any) -> PrecisionLoss:
        """What a precision would cost on texts of one's own: measured against float32, in turns, on this machine.

        Args:
            precision: "int8" or "bfloat16".
            texts: items of the kind that the model is for; some hundred or more say something about neighbours.

        Raises:
            UsageError: fewer than two different items, or one that the model cannot read: the message names its place.
        """
        network = self._network("precision_loss")
        listed = list(several(texts, "texts"))
        for i, item in enumerate(listed):
            try:
                network.preparer.decode(item)
            except ItemError as error:
                raise UsageError(f"text {i}: {error}") from error
        exact, other = (
            Embedder(self._behind_head(network.at(name)), self.name, self.source, self._dim)
            for name in ("float32", precision)
        )
        sizes = bytes_of(network.model.tensors, "float32"), bytes_of(network.model.tensors, precision)
        return measure(precision, exact.encode, other.encode, listed, sizes)

    def __reduce__(self) -> str:
        side_of = self.encoder.card.side_of
        way = f"call omnivec.load({self.name!r}) there, once in each"
        if side_of:
            way = f"load the {side_of} there, and take {self.name}"
        raise ModelError(f"a loaded model cannot be sent to another process: {way}")

    def save(self, folder: str | Path) -> Path:
        """Writes the model as a folder that `omnivec.load` reads; of a network others too, as sentence-transformers.

        Of an older model there, files of the same names are replaced; what else lies in the folder stays.

        Raises:
            ModelError: the folder holds something else than a model, or cannot be written: said before any work.
        """
        if self.encoder.card.side_of:
            raise ModelError(
                f"{self.name} is one side of a {self.encoder.card.side_of}, which is saved whole: call its save"
            )
        path = arguments.path("folder", folder)
        with model_folder(path) as fresh:
            self.encoder.write(fresh, self.training)
        return expanded(path)

    def _network(self, member: str) -> Network:
        """What computes states of tokens; UsageError for a table, which computes nothing."""
        first = self.encoder.part(self.modalities[0])
        if first is not None and first.networks:
            return first.networks[0]
        if self.encoder.networks:
            raise UsageError(
                f"{self.folder}: no network reads texts here, so there are no states of their tokens"
            )
        raise UsageError(f"{member}: {self.name} is a table, whose words have one vector in every context")

    def _behind_head(self, network: Network) -> Encoder:
        """A network behind the head that its vectors go through here, where there is one."""
        head = self.encoder.projection
        return network if head is None else Projected(network, head, self.encoder.card.side_of)

    def task_prompt(self, task: str) -> str:
        """The model's prompt for "query" or "document", "" where it has none; a passage's goes by several names.

        The default prompt, which `encode` takes, is for neither: so it is in sentence-transformers, where both tasks
        have an empty prompt unless the folder gives them another.
        """
        arguments.choice("task", task, ("query", "document"))
        names = ("document", "passage", "corpus") if task == "document" else ("query",)
        prompts = self.encoder.card.prompts
        return next((prompts[name] for name in names if name in prompts), "")


def _finished(windows: Iterator[Encoded], finish: Callable[[Floats], Floats]) -> Iterator[Encoded]:
    for encoded in windows:
        encoded.vectors = finish(encoded.vectors)
        yield encoded


def _layers(states: Sequence[Floats], layer: int | Sequence[int]) -> Floats:
    listed: Any = np.ravel(layer).tolist() if isinstance(layer, np.ndarray) else layer
    numbers = listed if isinstance(listed, list | tuple | range) else [listed]
    chosen = [arguments.whole("layer", one, -len(states)) for one in numbers]
    if not chosen or max(chosen) >= len(states):
        raise UsageError(
            f"layer={layer!r}: this model has the hidden states 0 to {len(states) - 1}, or -1 for the last"
        )
    mean: Floats = np.mean([states[i] for i in chosen], axis=0, dtype=np.float32)
    return mean
