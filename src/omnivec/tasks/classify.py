"""Zero-shot classification: items and labels are embedded, and their cosines become probabilities.

Radford et al. 2021, arXiv:2103.00020, section 3.1: each label is put into templates, whose vectors are averaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from omnivec.errors import ItemErrors, UsageError
from omnivec.inputs.items import several, texts
from omnivec.inputs.modality import get, of, plural, readable, written
from omnivec.models.embedder import Embedder
from omnivec.models.loading import loaded
from omnivec.types import Amounts, Floats, Ints, ModalityName
from omnivec.validation.arguments import real
from omnivec.vectors.labels import average, fill, zero_shot

SCALE = 20.0
"""Default scale for models without one of their own: 1 / 0.05, the temperature of the usual loss of text models."""

JOINT = "hf:openai/clip-vit-base-patch32, hf:google/siglip2-base-patch16-224, or a folder from `omnivec train align`"
"""Models that read both labels and images, for messages."""

WINDOW = 512  # items in each result of `Classifier.stream`


@dataclass(frozen=True)
class Rule:
    """How the cosines between items of one modality and the labels become probabilities.

    Attributes:
        scale: factor by which the cosines are multiplied.
        bias: added to the scaled cosines, for a sigmoid of each label by itself; None for a softmax over the labels.
        learned: whether scale and bias were learned by the model, rather than chosen by the caller or by default.
    """

    scale: float
    bias: float | None = None
    learned: bool = False

    def __str__(self) -> str:
        whose = "the model's own" if self.learned else "a"
        if self.bias is not None:
            return (
                f"a sigmoid of each label by itself with {whose} scale of {self.scale:.4g} and bias of "
                f"{self.bias:.4g}: they need not sum to 1"
            )
        doubt = (
            ""
            if self.learned
            else "; the model has none of its own, so rely on the order of the labels more than on the numbers"
        )
        return f"a softmax over the labels with {whose} scale of {self.scale:.4g}{doubt}"


@dataclass(frozen=True, eq=False)
class Classified:
    """The result of `Classifier.run` or `Probe.run` for n items, m of which could be read.

    Attributes:
        probabilities: (m, labels) float32, in the order of the items.
        kept: (m,) int64, the index of the item of each row.
        failures: maps the index of each item without probabilities to the reason, one line.
        lost: (m,) how much of each item the model's limit cut off, in the unit of its modality.
    """

    probabilities: Floats
    kept: Ints
    failures: dict[int, str]
    lost: Amounts

    def __repr__(self) -> str:
        count, labels = self.probabilities.shape
        return f"<Classified: {count:,} items, {labels} labels, {len(self.failures):,} failed>"


class ItemClassifier(ABC):
    """What labels items: a zero-shot `Classifier`, or a `Probe` that was trained on labelled ones.

    Attributes:
        labels: the labels, in the order of the columns of the probabilities.
    """

    labels: tuple[str, ...]

    @abstractmethod
    def run(self, items: Any) -> Classified:
        """Computes the probability of each label for each item; items that fail do not raise."""

    def predict_proba(self, items: Any) -> Floats:
        """Computes the probability of each label for each item.

        Args:
            items: one item or an iterable, as for `run`.

        Returns:
            (n, labels) float32, in the order of the items; (1, labels) for one item.

        Raises:
            ItemErrors: some items failed; .partial is the `Classified` of the others.
        """
        result = self.run(items)
        if result.failures:
            others = (
                f"The others are in .partial; {type(self).__name__}.run(items) returns both without raising."
            )
            raise ItemErrors(result.failures, result, others)
        return result.probabilities

    def predict(self, items: Any) -> list[str]:
        """Returns the most probable label of each item; arguments and exceptions as for `predict_proba`."""
        return [self.labels[best] for best in self.predict_proba(items).argmax(axis=1).tolist()]

    def stream(self, items: Any) -> Iterator[tuple[list[Any], Classified]]:
        """Classifies an iterable that may be larger than memory.

        Args:
            items: an iterable of items, as for `run`; it is read as the results are consumed.

        Returns:
            An iterator of pairs (a list of up to 512 items, the result of `run` for them).
        """
        source = iter(several(items))
        windows = iter(lambda: list(islice(source, WINDOW)), [])
        return ((window, self.run(window)) for window in windows)


@dataclass(frozen=True, eq=False)
class Classifier(ItemClassifier):
    """A zero-shot classifier: a model with the vectors of the labels; made by `Classifier.of`.

    Examples:
        >>> model = omnivec.load()
        >>> classifier = omnivec.Classifier.of(model, ["cooking", "money", "sport"])
        >>> classifier.predict(["Simmer the onions in butter.", "The bank raised its rates."])
        ['cooking', 'money']

    Attributes:
        model: embeds the items and the labels.
        labels: the labels, in the order of the columns of the probabilities.
        rules: maps each modality to how its cosines become probabilities.
        vectors: maps each modality to the vectors of the labels (labels, dim) float32, made with its templates.
    """

    model: Embedder
    labels: tuple[str, ...]
    rules: Mapping[ModalityName, Rule]
    vectors: Mapping[ModalityName, Floats]

    def __repr__(self) -> str:
        return f"<Classifier: {len(self.labels)} labels, by {self.model.name!r}>"

    @classmethod
    def of(
        cls,
        model: Embedder,
        labels: Any,
        *,
        templates: Any = (),
        scale: float | None = None,
    ) -> Classifier:
        """Embeds the labels.

        Args:
            model: reads texts, and the modality of the items to classify.
            labels: at least two different texts; one is enough if the model's rule is a sigmoid.
            templates: texts with {} for the label, whose vectors are averaged; by default those of the modality:
                "a photo of a {}." for images, "{}" for texts.
            scale: factor of the cosines in the softmax, for models without one of their own; 20 by default.

        Returns:
            The classifier.

        Raises:
            UsageError: the model does not read texts; a label is empty or occurs twice; there are no labels, or one
                for a softmax; `scale` is given, but the model has its own.
        """
        checked = _checked(labels)
        rules = {modality: _rule(model, modality, scale) for modality in _reads(model)}
        if len(checked) == 1 and any(rule.bias is None for rule in rules.values()):
            raise UsageError(
                f"one label, {checked[0]!r}: a softmax over one label is always 1; add another to compare it with, "
                "such as 'something else'"
            )
        requested = tuple(texts(templates, "templates"))
        used = {modality: requested or get(modality).templates for modality in rules}
        embedded = {each: _embedded(model, each, checked) for each in dict.fromkeys(used.values())}
        return cls(model, checked, rules, {modality: embedded[each] for modality, each in used.items()})

    def run(self, items: Any) -> Classified:
        """Computes the probability of each label for each item; items that fail do not raise.

        Args:
            items: one item or an iterable, as for `Embedder.run`: a str is a text, a pathlib.Path a text or image file.

        Returns:
            The probabilities, and the reasons of the items that failed.
        """
        listed = list(several(items))
        encoded = self.model.run(listed)
        modalities = [self.modality(listed[i]) for i in encoded.kept.tolist()]
        probabilities = np.zeros((len(modalities), len(self.labels)), np.float32)
        for modality, rule in self.rules.items():
            rows = np.array([each == modality for each in modalities], bool)
            if rows.any():
                labels = self.vectors[modality]
                probabilities[rows] = zero_shot(encoded.vectors[rows], labels, rule.scale, rule.bias)
        return Classified(probabilities, encoded.kept, encoded.failures, encoded.lost)

    def modality(self, item: Any) -> ModalityName:
        """Returns the modality as which the model reads an item."""
        return of(item) if len(self.rules) > 1 else next(iter(self.rules))


def classify(
    model: Embedder,
    items: Any,
    labels: Any,
    *,
    templates: Any = (),
    scale: float | None = None,
) -> Classified:
    """Labels items without training, by how near their vectors are to those of the labels.

    To use the same labels more than once, make a `Classifier`: it embeds them only once.

    Args:
        model: reads texts, and the modality of the items.
        items: one item or an iterable, as for `Embedder.run`: a str is a text, a pathlib.Path a text or image file.
        labels: at least two different texts; one is enough if the model's rule is a sigmoid.
        templates: texts with {} for the label, whose vectors are averaged; by default those of the modality.
        scale: factor of the cosines in the softmax, for models without one of their own; 20 by default.

    Returns:
        A `Classified` with the probabilities (m, labels) float32 of the m items that could be read, and the reasons of
        those that failed.

    Raises:
        UsageError: as `Classifier.of`.

    Examples:
        >>> model = omnivec.load()
        >>> texts = ["Simmer the onions in butter.", "The bank raised its rates."]
        >>> omnivec.classify(model, texts, ["cooking", "money", "sport"]).probabilities.argmax(1).tolist()
        [0, 1]
    """
    return Classifier.of(model, labels, templates=templates, scale=scale).run(items)


def _reads(model: Embedder) -> tuple[ModalityName, ...]:
    """Returns the modalities that the model can classify; raises if it does not read texts, as labels are."""
    if written() not in loaded(model).modalities:
        raise UsageError(
            f"{model.name} reads {plural(model.modalities)}, but labels are texts: use a joint model, {JOINT}"
        )
    return tuple(name for name in readable() if name in model.modalities)


def _checked(labels: Any) -> tuple[str, ...]:
    stripped = [label.strip() for label in texts(labels, "labels")]
    if not stripped:
        raise UsageError("no labels: give at least two, such as cat,dog")
    if not all(stripped):
        raise UsageError(f"label {stripped.index('') + 1} of {len(stripped)} is empty: leave it out")
    if repeated := [label for i, label in enumerate(stripped) if label in stripped[:i]]:
        raise UsageError(f"label {repeated[0]!r} is given twice: it would share its probability with itself")
    return tuple(stripped)


def _rule(model: Embedder, modality: ModalityName, scale: float | None) -> Rule:
    """Returns the model's own rule if it has one, which applies to pairs of an image and a text, never to two texts."""
    if modality != written() and model.encoder.card.logits is not None:
        learned, bias = model.encoder.card.logits
        if scale is not None:
            raise UsageError(
                f"scale={scale}: {model.name} has a scale of its own, {learned:.4g}; leave it out"
            )
        return Rule(learned, bias, learned=True)
    if scale is not None and real("scale", scale) <= 0:
        raise UsageError(f"scale={scale}: must be above 0")
    return Rule(SCALE if scale is None else scale)


def _embedded(model: Embedder, templates: Sequence[str], labels: Sequence[str]) -> Floats:
    return average(model.encode(fill(templates, labels)), len(labels))
