"""Labels for items without training: an embedder reads both, and cosines become probabilities.

Radford et al. 2021, arXiv:2103.00020, section 3.1: each label is put into templates, whose vectors are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from omnivec.errors import ItemErrors, UsageError
from omnivec.inputs.items import several, texts
from omnivec.inputs.modality import get, of, plural, readable, written
from omnivec.models.embedder import Embedder
from omnivec.types import Floats, Ints, ModalityName
from omnivec.validation.arguments import real
from omnivec.vectors.labels import average, fill, zero_shot

SCALE = 20.0
"""Of cosines that no training has scaled: one over the temperature of 0.05 of sentence-transformers' usual loss."""

JOINT = "hf:openai/clip-vit-base-patch32, hf:google/siglip2-base-patch16-224, or a folder from `omnivec train align`"
"""Models that read labels and images, for messages."""

WINDOW = 512  # items between two results


@dataclass(frozen=True)
class Rule:
    """How the cosines of one modality to the labels become probabilities.

    Attributes:
        scale: what they are multiplied by.
        bias: what is then added, of a sigmoid for each label by itself; None for a softmax over the labels.
        learned: whether scale and bias are the model's own, and not stated.
    """

    scale: float
    bias: float | None = None
    learned: bool = False

    def __str__(self) -> str:
        whose = "the model's own" if self.learned else "a stated"
        if self.bias is not None:
            return (
                f"each label by itself, a sigmoid with {whose} scale of {self.scale:.4g} and bias of {self.bias:.4g}: "
                "they need not sum to 1"
            )
        doubt = (
            ""
            if self.learned
            else "; the model has none of its own, so trust the order more than the numbers"
        )
        return f"a softmax over the labels with {whose} scale of {self.scale:.4g}{doubt}"


@dataclass(frozen=True, eq=False)
class Classified:
    """What `Classifier.run` returns for n items of which m have probabilities.

    Attributes:
        probabilities: (m, labels) float32, in the order of the items.
        kept: (m,) int64, for each row the index of its item.
        failures: index of an item -> why it has none, one line.
        lost: (m,) int64, how much of each item the model's limit cut off.
    """

    probabilities: Floats
    kept: Ints
    failures: dict[int, str]
    lost: Ints

    def __repr__(self) -> str:
        count, labels = self.probabilities.shape
        return f"<Classified: {count:,} items, {labels} labels, {len(self.failures):,} failed>"


@dataclass(frozen=True, eq=False)
class Classifier:
    """Labels as vectors of a model, to hold items against; made by `of`.

    Attributes:
        model: what reads items and labels.
        labels: as given, each once.
        rules: of each modality that the model reads, how cosines become probabilities.
        vectors: of each modality the labels' vectors (labels, dim), in its templates.
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
            model: that reads texts, and whatever else is to be classified.
            labels: different, and none empty.
            templates: with {} for the label; when none is given, those of the items' modality.
            scale: of a softmax over the labels, for models without one of their own.

        Raises:
            UsageError: a model that reads no labels, labels that cannot be told apart, or a softmax over one.
        """
        meant = _checked(labels)
        rules = {modality: _rule(model, modality, scale) for modality in _reads(model)}
        if len(meant) == 1 and any(rule.bias is None for rule in rules.values()):
            raise UsageError(
                f"one label, {meant[0]!r}: a softmax over one is always 1; give another to hold it against, "
                "such as 'something else'"
            )
        asked = tuple(texts(templates, "templates"))
        wanted = {modality: asked or get(modality).templates for modality in rules}
        made = {templates: _embedded(model, templates, meant) for templates in dict.fromkeys(wanted.values())}
        return cls(model, meant, rules, {modality: made[templates] for modality, templates in wanted.items()})

    def run(self, items: Any) -> Classified:
        """The probability of each label for each item, and why an item has none.

        Args:
            items: as `Embedder.run` takes them: a str is a text, a pathlib.Path a file of a text or an image.
        """
        listed = list(several(items))
        encoded = self.model.run(listed)
        meant = [self.modality(listed[i]) for i in encoded.kept.tolist()]
        probabilities = np.zeros((len(meant), len(self.labels)), np.float32)
        for modality, rule in self.rules.items():
            rows = np.array([name == modality for name in meant], bool)
            if rows.any():
                against = self.vectors[modality]
                probabilities[rows] = zero_shot(encoded.vectors[rows], against, rule.scale, rule.bias)
        return Classified(probabilities, encoded.kept, encoded.failures, encoded.lost)

    def predict_proba(self, items: Any) -> Floats:
        """The probability of each label for each item: (n, labels) float32, for one item too (1, labels).

        Raises:
            ItemErrors: some items failed; .partial is the `Classified` of the others.
        """
        result = self.run(items)
        if result.failures:
            others = "The others are in .partial; Classifier.run(items) returns both without raising."
            raise ItemErrors(result.failures, result, others)
        return result.probabilities

    def predict(self, items: Any) -> list[str]:
        """The most probable label of each item; see `predict_proba`."""
        return [self.labels[best] for best in self.predict_proba(items).argmax(axis=1).tolist()]

    def stream(self, items: Any) -> Iterator[tuple[list[Any], Classified]]:
        """`run` over an iterable larger than memory: windows of its items, and what they are."""
        source = iter(several(items))
        windows = iter(lambda: list(islice(source, WINDOW)), [])
        return ((window, self.run(window)) for window in windows)

    def modality(self, item: Any) -> ModalityName:
        """What the model takes an item for."""
        return of(item) if len(self.rules) > 1 else next(iter(self.rules))


def classify(
    model: Embedder,
    items: Any,
    labels: Any,
    *,
    templates: Any = (),
    scale: float | None = None,
) -> Classified:
    """Which label fits each item, without training; see `Classifier.of` and `Classifier.run`."""
    return Classifier.of(model, labels, templates=templates, scale=scale).run(items)


def _reads(model: Embedder) -> tuple[ModalityName, ...]:
    """The modalities that can be classified: those of a model that reads labels too."""
    if written() not in model.modalities:
        raise UsageError(
            f"{model.name} reads {plural(model.modalities)} and no labels: name a joint model, {JOINT}"
        )
    return tuple(name for name in readable() if name in model.modalities)


def _checked(labels: Any) -> tuple[str, ...]:
    names = [label.strip() for label in texts(labels, "labels")]
    if not names:
        raise UsageError("no labels: give at least two, such as cat,dog")
    if not all(names):
        raise UsageError(f"label {names.index('') + 1} of {len(names)} is empty: leave it out")
    if twice := [label for i, label in enumerate(names) if label in names[:i]]:
        raise UsageError(f"label {twice[0]!r} is given twice: it would share its probability with itself")
    return tuple(names)


def _rule(model: Embedder, modality: ModalityName, scale: float | None) -> Rule:
    """The model's own rule where training made one: of pairs of an image and a text, never of two texts."""
    if modality != written() and model.encoder.card.logits is not None:
        learned, bias = model.encoder.card.logits
        if scale is not None:
            raise UsageError(f"scale={scale}: {model.name} has learned its own, {learned:.4g}; leave it out")
        return Rule(learned, bias, learned=True)
    if scale is not None and real("scale", scale) <= 0:
        raise UsageError(f"scale={scale}: above 0")
    return Rule(SCALE if scale is None else scale)


def _embedded(model: Embedder, templates: Sequence[str], labels: Sequence[str]) -> Floats:
    return average(model.encode(fill(templates, labels)), len(labels))
