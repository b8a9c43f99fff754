"""`Embedder`, the public class of a loaded model: encoding, token vectors, similarity, saving."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np

from omnivec import progress
from omnivec.errors import ItemError, ItemErrors, ModelError, UsageError
from omnivec.inputs.items import is_one, several
from omnivec.inputs.items import text as one_text
from omnivec.inputs.text import MODALITY as TEXT
from omnivec.models import batching, registry, variants
from omnivec.models.batching import BatchOptions
from omnivec.models.describing import Describing
from omnivec.models.encode_options import EncodeOptions, checked_dim, refuse_tensors
from omnivec.models.encoder import Encoder
from omnivec.models.late_chunking import Spans, span_vectors
from omnivec.models.model import Model
from omnivec.models.network import Network
from omnivec.models.precision import PrecisionLoss, measure
from omnivec.models.projected import Projected
from omnivec.models.runtime import PRECISIONS
from omnivec.models.token_vectors import Tokens
from omnivec.models.transcribing import Transcribing
from omnivec.ops.quantized import bytes_of
from omnivec.types import DENSE, MULTI, Chunk, Encoded, Floats, Kind, Metric, ModalityName, Space, Truncate
from omnivec.validation import arguments
from omnivec.validation.arguments import expanded
from omnivec.vectors.similarity import pairwise_similarity, similarity
from omnivec.weights.card import Training
from omnivec.weights.folder_writer import model_folder

DEFAULT_MODEL = TEXT.default_model
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


class Embedder(Transcribing, Describing):
    """A loaded model; made by `omnivec.load`. It may be used from several threads.

    Attributes:
        encoder: computes the vectors: a network, a table, or one of these for each modality.
        name: the name that it was loaded by.
        source: where its files came from, such as "path" or "hf".
        folder: folder of its files.
        training: how it was trained, if it was trained by omnivec in this process; else None.
    """

    def __init__(self, encoder: Encoder, name: str, source: str, dim: SupportsIndex | None = None) -> None:
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
        """The network as it was read: family, config, weights, head; of several towers, the first.

        Raises:
            UsageError: the model is a table.
        """
        return self._network("model").model

    @property
    def trainable(self) -> Model | None:
        """The network as it was read, if the model is a single network without a learned head; else None."""
        return next((network.model for network in self.encoder.networks if network is self.encoder), None)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """How similarity of its vectors is measured: "cosine", "dot" or "euclidean"."""
        return self.encoder.card.space.metric

    @property
    def kind(self) -> Kind:
        """What the model gives for an item: one vector ("dense"), several ("multi"), or weights of terms ("sparse")."""
        return self.encoder.card.space.kind

    @property
    def modalities(self) -> tuple[ModalityName, ...]:
        """The modalities that it embeds."""
        return self.encoder.card.space.modalities

    @property
    def space(self) -> Space:
        """The vector space: dim, metric and modalities."""
        return Space(self.dim, self.metric, self.modalities, self.kind)

    @property
    def max_length(self) -> float:
        """Length limit of an item: tokens of a text, special tokens included, pixels of an image, seconds of sound."""
        return self.encoder.card.limit

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors; equal for the same model in another folder or precision."""
        return {**self.encoder.identity, "dim": self.dim}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Engine, precision and versions: what may change the last digits of a vector."""
        return self.encoder.provenance()

    @property
    def card(self) -> dict[str, Any]:
        """Properties of the model and how it runs on this machine, with the reason for each choice."""
        facts = dict(registry.known().get(str(variants.split(self.name)[0]), {}))
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
        batch_size: SupportsIndex | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: SupportsIndex | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Embeds items; raises if one of them fails.

        Args:
            items: one item or an iterable of items: a str is a text, a pathlib.Path a file, a PIL image or
                a uint8 array (h, w, 3) an image, a `Key` the key of a table.
            batch_size: largest number of items in a batch; None fills batches up to a budget of tokens.
            prompt_name: name of one of the model's prompts, which is put before each text.
            prompt: a prompt that is put before each text, instead of a named one.
            normalize_embeddings: True scales vectors to length 1; None leaves them as the model makes them.
            dim: number of leading components to keep; unless normalize_embeddings is False, the result is scaled to
                length 1 if the model's vectors are.
            truncate: which end of a text beyond the model's limit is cut off, "tail" or "head"; "error" makes the text
                fail. None is what the model's folder specifies, usually "tail".
            chunk: "pool" embeds such a text whole, in parts whose vectors are averaged, weighted by their lengths.
            show_progress_bar: whether to show progress on stderr; None shows it in a terminal or a notebook if the
                work takes long.
            convert_to_numpy: must be True; vectors are NumPy arrays.
            convert_to_tensor: must be False.

        Returns:
            (dim,) float32 for one item, (n, dim) float32 for several, in their order.

        Raises:
            ItemErrors: some items failed; .failures has the reasons, .partial the vectors of the others.
            UsageError: an option is invalid, or does not apply to any modality of the model or of the items.

        Examples:
            >>> model = omnivec.load("all-MiniLM-L6-v2")
            >>> model.encode(["a cat on a windowsill", "a kitten by the window"]).shape
            (2, 384)
        """
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._encode(items, options, None, show_progress_bar, convert_to_numpy, convert_to_tensor)

    def encode_query(
        self,
        items: Any,
        *,
        batch_size: SupportsIndex | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: SupportsIndex | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Embeds search queries, with the model's prompt for queries unless one is given; otherwise as `encode`."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        task = self.task_prompt("query")
        return self._encode(items, options, task, show_progress_bar, convert_to_numpy, convert_to_tensor)

    def encode_document(
        self,
        items: Any,
        *,
        batch_size: SupportsIndex | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: SupportsIndex | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Floats:
        """Embeds documents, with the model's prompt for documents unless one is given; otherwise as `encode`."""
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        task = self.task_prompt("document")
        return self._encode(items, options, task, show_progress_bar, convert_to_numpy, convert_to_tensor)

    def run(
        self,
        items: Any,
        *,
        batch_size: SupportsIndex | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: SupportsIndex | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
        show_progress_bar: bool | None = None,
    ) -> Encoded:
        """Embeds items without raising for those that fail; arguments as for `encode`.

        Returns:
            The vectors (m, dim) float32 of the m items that succeeded, the index of the item of each row, the reasons
            of the failures, and how much of each item was read and cut off.

        Examples:
            >>> encoded = model.run(["a cat", Path("missing.txt")])
            >>> encoded.vectors.shape, encoded.kept, list(encoded.failures)
            ((1, 384), array([0]), [1])
        """
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        return self._run(list(several(items)), options, None, show_progress_bar)

    def stream(
        self,
        items: Any,
        *,
        batch_size: SupportsIndex | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool | None = None,
        dim: SupportsIndex | None = None,
        truncate: Truncate | None = None,
        chunk: Chunk | None = None,
    ) -> Iterator[Encoded]:
        """Embeds an iterable that may be larger than memory; arguments as for `encode`.

        Returns:
            An iterator with the result of `run` for each window of 8,192 items. Indices in `kept` and `failures` count
            from the start of the iterable.

        Examples:
            >>> for encoded in model.stream(open("sentences.txt")):
            ...     write(encoded.kept, encoded.vectors)
        """
        options = EncodeOptions(batch_size, prompt_name, prompt, normalize_embeddings, dim, truncate, chunk)
        card, plan = self.encoder.card, BatchOptions(options.rows())
        listed, reading = several(items), options.reading(card)
        windows = batching.stream(listed, lambda window: self.encoder.run(window, reading, plan))
        return _finished(windows, options.finish(card, self._dim))

    def similarity(self, a: Any, b: Any) -> Floats:
        """Similarity in the model's metric: a (n, dim), b (m, dim) -> (n, m) float32; higher is more similar.

        Raises:
            UsageError: an argument is not an array of vectors, or the vectors differ in length.
        """
        return similarity(a, b, self.metric)

    def similarity_pairwise(self, a: Any, b: Any) -> Floats:
        """Similarity of each pair of rows: a (n, dim), b (n, dim) -> (n,) float32; see `similarity`."""
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
        """Implements `encode`; `prompt` is used if the options name none."""
        if convert_to_numpy is not True or convert_to_tensor is not False:
            refuse_tensors(convert_to_numpy, convert_to_tensor)
        if self.kind != DENSE:
            what = "several vectors" if self.kind == MULTI else "sparse weights"
            raise UsageError(
                f"{self.name} gives {what} for each item, which are no (n, dim) array: use model.run"
            )
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
        if encoded.indices is None:  # the weights of sparse vectors stay as they are
            encoded.vectors = finish(encoded.vectors)
        return encoded

    def tokens(self, text: str, layer: int | Sequence[int] = -1) -> Tokens:
        """Computes a contextual vector for each token of a text.

        Args:
            text: one text; tokens beyond the model's limit get no vectors.
            layer: index of the hidden state: 0 for the embeddings, 1 for the first layer, -1 for the last; several are
                averaged.
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
        """Computes a vector for each word and punctuation mark of a text, the mean over its tokens; see `tokens`."""
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
        """Embeds spans of one text, each in the context of the whole text (late chunking).

        The model reads the text once, in overlapping windows if it is beyond the limit, and the states of the tokens of
        each span are pooled. The vector of the span (0, len(text)) is that of the text.

        Args:
            text: the whole text.
            spans: (n, 2) start and end offsets of the spans in characters, end exclusive.
            prompt: text that is put before the text.
            normalize_embeddings: as for `encode`.

        Returns:
            (n, dim) float32.

        Raises:
            UsageError: a span is invalid or contains no token, or the model does not use mean pooling.

        Source: Günther et al. 2024, arXiv:2409.04701.
        """
        text = one_text(text, "text")
        finish = EncodeOptions(normalize_embeddings=normalize_embeddings).finish(self.encoder.card, self._dim)
        vectors = span_vectors(self._network("encode_spans"), text, spans, one_text(prompt, "prompt"))
        projection = self.encoder.projection
        return finish(vectors if projection is None else projection.project(vectors))

    def precision_loss(self, precision: str, texts: Any) -> PrecisionLoss:
        """Measures what a lower precision costs on your own texts, compared with float32 on this machine.

        Args:
            precision: "int8" or "bfloat16".
            texts: items that the model reads; a hundred or more are needed to judge nearest neighbours.

        Raises:
            UsageError: there are fewer than two different items, or one cannot be read; the message has its index.
        """
        network = self._network("precision_loss")
        arguments.choice("precision", precision, PRECISIONS)
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
        way = f"call omnivec.load({self.name!r}) in each process"
        if side_of:
            way = f"load the {side_of} in each process, and use its {self.name}"
        raise ModelError(f"a loaded model cannot be pickled: {way}")

    def save(self, folder: str | Path) -> Path:
        """Saves the model to a folder, which `omnivec.load` and, for a network, sentence-transformers can load.

        Files of an older model in the folder are replaced; other files in it are kept.

        Raises:
            ModelError: the folder contains something other than a model, or cannot be written.
        """
        if self.encoder.card.side_of:
            raise ModelError(
                f"{self.name} is one side of a {self.encoder.card.side_of}, which is saved as a whole: call its save"
            )
        path = arguments.path("folder", folder)
        with model_folder(path) as fresh:
            self.encoder.write(fresh, self.training)
        return expanded(path)

    def _network(self, member: str) -> Network:
        """Returns the network that computes states of tokens; UsageError if there is none, as in a table."""
        first = self.encoder.part(self.modalities[0])
        if first is not None and first.networks:
            return first.networks[0]
        if self.encoder.networks:
            raise UsageError(
                f"{self.folder}: no network of this model reads texts, so there are no token states"
            )
        raise UsageError(
            f"{member}: {self.name} is a table, in which a word has the same vector in every context"
        )

    def _behind_head(self, network: Network) -> Encoder:
        """Returns the network followed by the learned head of this model, if it has one."""
        head = self.encoder.projection
        return network if head is None else Projected(network, head, self.encoder.card.side_of)

    def task_prompt(self, task: str) -> str:
        """Returns the model's prompt for the task "query" or "document"; "" if it has none.

        The prompt for documents has several names in published models. The default prompt of `encode` is never used
        here: as in sentence-transformers, both tasks have an empty prompt unless the folder defines one.
        """
        arguments.choice("task", task, ("query", "document"))
        names = ("document", "passage", "corpus") if task == "document" else ("query",)
        prompts = self.encoder.card.prompts
        return next((prompts[name] for name in names if name in prompts), "")


def _finished(windows: Iterator[Encoded], finish: Callable[[Floats], Floats]) -> Iterator[Encoded]:
    for encoded in windows:
        if encoded.indices is None:  # the weights of sparse vectors stay as they are
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
