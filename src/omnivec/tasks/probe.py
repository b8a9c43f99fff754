"""Few-shot classification: a probe learns labels from a few labelled items of any modality, on the vectors of a model.

The model stays as it is; what is learned are class means, the examples themselves, or a logistic regression
(`vectors/probes.py`). A probe states how good it is by cross-validation, and is saved with the identity of its model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np

from omnivec.collection.identity import describe, differences, json_of
from omnivec.errors import IdentityError, ItemErrors, UsageError
from omnivec.inputs.items import several, shown
from omnivec.inputs.modality import of
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load, loaded
from omnivec.tasks.classify import Classified, ItemClassifier
from omnivec.tasks.probe_folder import StoredProbe, read_probe, write_probe
from omnivec.tasks.probe_report import Report, content_groups, warnings_of
from omnivec.types import Encoded, Floats, Ints, ModalityName
from omnivec.validation.arguments import characters, choice, is_missing, whole
from omnivec.validation.arguments import path as checked_path
from omnivec.vectors.probe_estimate import softmax
from omnivec.vectors.probes import KINDS, checked_vectors
from omnivec.vectors.uncertainty import most_uncertain, uncertainty

Kind = Literal["auto", "centroid", "knn", "logistic"]

_NO_DIRECTION = "its vector is 0: the model finds nothing in it"


@dataclass(frozen=True, eq=False)
class Suggested:
    """The result of `Probe.suggest`.

    Attributes:
        indices: (k,) int64, the items that are worth labelling next, the most useful first.
        uncertainty: (k,) float64 of each: 1 minus the difference of its two highest probabilities.
        probabilities: (k, labels) float32 of each.
        failures: maps the index of each item that could not be read to the reason, one line.
    """

    indices: Ints
    uncertainty: np.ndarray[Any, np.dtype[np.float64]]
    probabilities: Floats
    failures: Mapping[int, str]

    def __repr__(self) -> str:
        return f"<Suggested: {self.indices.tolist()}>"


class Probe(ItemClassifier):
    """A classifier that was trained on labelled items; made by `Probe.train` or `Probe.load`.

    Examples:
        >>> model = omnivec.load()
        >>> texts = ["Simmer the onions.", "Add the basil.", "The bank raised its rates.", "Shares fell."]
        >>> probe = omnivec.Probe.train(model, texts, ["cooking", "cooking", "money", "money"])
        >>> probe.predict(["Fry the garlic in butter."])
        ['cooking']

    Attributes:
        model: embeds the items.
        labels: the labels, sorted, in the order of the columns of the probabilities.
        report: what it learned from, and how good it is.
    """

    def __init__(self, model: Embedder, stored: StoredProbe) -> None:
        self.model, self.labels, self.report = model, stored.labels, stored.report
        self._stored = stored

    def __repr__(self) -> str:
        return f"<Probe: {len(self.labels)} labels, {self.report.rule}, by {self.model.name!r}>"

    @classmethod
    def train(
        cls,
        model: Embedder,
        items: Any,
        labels: Any,
        groups: Any = None,
        kind: Kind = "auto",
        seed: SupportsIndex = 0,
    ) -> Probe:
        """Learns from labelled items. One item of each label is enough; ten make a good estimate.

        Items that cannot be read, or have no label, are left out and named in `report.failures`.

        Args:
            model: reads the items.
            items: an iterable of items, as for `Embedder.run`.
            labels: a text or a whole number for each.
            groups: for each a name, such as its speaker or recording: in cross-validation no group is both learned from
                and asked. Items with equal content always count as one group.
            kind: "centroid", the nearest class mean; "knn", the nearest examples; "logistic", a logistic regression;
                "auto" takes the one with the lowest cross-validated log loss, class means if there are fewer than 30
                examples to ask.
            seed: of the folds of the cross-validation.

        Raises:
            ItemErrors: no item could be read.
            UsageError: not one label, or group, for each item; fewer than two labels; an unknown kind.
        """
        choice("kind", kind, tuple(KINDS))
        embedder = loaded(model)
        listed = list(several(items))
        names, unnamed = _labels(labels, len(listed))
        numbered = None if groups is None else _groups(groups, len(listed))
        if not listed:
            raise UsageError("no items: give some with their labels")
        encoded = embedder.run(listed)
        return cls(embedder, _learned(embedder, listed, (names, unnamed, numbered), encoded, kind, seed))

    @classmethod
    def load(cls, folder: str | Path, model: Embedder | None = None) -> Probe:
        """Reads a saved probe.

        Args:
            folder: of the probe.
            model: its model, if it is loaded already; by default it is loaded by the name it had.

        Raises:
            ModelError: there is no probe in the folder, or it is damaged; the model cannot be loaded.
            IdentityError: the model is not the one that the probe was trained with; both identities are named.
        """
        place = checked_path("folder", folder)
        stored = read_probe(place)
        embedder = load(stored.model) if model is None else loaded(model)
        if different := differences(stored.identity, json_of(embedder.identity)):
            raise IdentityError(
                f"{place} was trained with another model: {', '.join(different)} differ. "
                f"Recorded: {stored.model}, {describe(stored.identity)}. Current: {embedder.name}, "
                f"{describe(embedder.identity)}. Use the model that it was trained with, or train it again"
            )
        return cls(embedder, stored)

    def save(self, folder: str | Path) -> Path:
        """Writes the probe to a folder, for `omnivec.load_probe`; one that is there is replaced as a whole.

        Args:
            folder: a folder that does not exist, is empty, or holds a probe.

        Raises:
            UsageError, WeightsError: the folder holds something else, or cannot be written.
        """
        place = checked_path("folder", folder)
        write_probe(place, self._stored)
        return place

    def run(self, items: Any) -> Classified:
        """Computes the probability of each label for each item; items that fail do not raise.

        Args:
            items: one item or an iterable, as for `Embedder.run`.

        Returns:
            The probabilities, and the reasons of the items that failed.
        """
        return self._classified(self.model.run(list(several(items))))[0]

    def suggest(self, items: Any, n: SupportsIndex = 10) -> Suggested:
        """Says which items are worth labelling next: those it is least sure of, and that differ from each other.

        Args:
            items: items without labels, as for `run`.
            n: how many; all if there are fewer.
        """
        most = whole("n", n)
        found, vectors = self._classified(self.model.run(list(several(items))))
        if not len(found.kept):
            empty = np.zeros(0, np.int64)
            return Suggested(empty, np.zeros(0), found.probabilities, found.failures)
        best = most_uncertain(found.probabilities, most, vectors)
        shares = found.probabilities[best]
        return Suggested(found.kept[best], uncertainty(shares), shares, found.failures)

    def modality(self, item: Any) -> ModalityName:
        """Returns the modality as which the model reads an item."""
        return of(item) if len(self.model.modalities) > 1 else self.model.modalities[0]

    def _classified(self, encoded: Encoded) -> tuple[Classified, Floats]:
        """The result for encoded items, and the vectors (m, dim) of its rows."""
        kept, failures = _usable(encoded, {})
        rows = np.searchsorted(encoded.kept, kept)
        shares = np.zeros((len(rows), len(self.labels)), np.float32)
        vectors = encoded.vectors[rows]
        if len(rows):
            scores = self._stored.scorer.scores(checked_vectors("vectors", vectors))
            shares = softmax(scores, self._stored.temperature).astype(np.float32)
        return Classified(shares, kept, failures, encoded.lost[rows]), vectors


def load_probe(folder: str | Path, model: Embedder | None = None) -> Probe:
    """Reads a probe that `Probe.save` or `omnivec classify --save` wrote; arguments and exceptions as `Probe.load`."""
    return Probe.load(folder, model)


def _learned(
    model: Embedder,
    items: list[Any],
    known: tuple[list[str], dict[int, str], Ints | None],
    encoded: Encoded,
    kind: str,
    seed: SupportsIndex,
) -> StoredProbe:
    """Learns from encoded items.

    Args:
        model: the model.
        items: the items.
        known: their labels, why some have none, and the number of the group of each.
        encoded: their vectors.
        kind: as for `Probe.train`.
        seed: as for `Probe.train`.
    """
    names, unnamed, groups = known
    kept, failures = _usable(encoded, unnamed)
    if not len(kept):
        nothing = Classified(np.zeros((0, 0), np.float32), kept, failures, encoded.lost[:0])
        raise ItemErrors(failures, nothing)
    rows = np.searchsorted(encoded.kept, kept)
    used, targets = [items[i] for i in kept.tolist()], [names[i] for i in kept.tolist()]
    if len(set(targets)) < 2:
        left = f" ({len(failures):,} items were left out)" if failures else ""
        raise UsageError(f"one label only, {targets[0]!r}, for {len(used):,} items{left}: give two or more")
    contents = content_groups(used, encoded.vectors[rows])
    # Equal contents get one vector, whatever batches they were in: cross-validation keeps equal vectors together.
    vectors = encoded.vectors[rows][np.unique(contents, return_index=True)[1][contents]]
    together = None if groups is None else groups[kept]
    fitted = KINDS[kind]().set_params(random_state=seed).fit(vectors, targets, together)
    cut = int((encoded.lost[rows] > 0).sum())
    report = Report(
        dict(sorted(Counter(targets).items())),
        str(fitted.rule_),
        fitted.estimate_,
        fitted.basis_,
        fitted.calibration_,
        fitted.trials_,
        tuple(warnings_of(used, targets, contents, cut, encoded.unit)),
        failures,
    )
    labels = tuple(map(str, fitted.classes_.tolist()))
    learned = fitted.rule_, fitted.scorer_, fitted.temperature_
    return StoredProbe(model.name, json_of(model.identity), labels, *learned, report)


def _usable(encoded: Encoded, unnamed: Mapping[int, str]) -> tuple[Ints, dict[int, str]]:
    """The indices of the items with a vector that has a direction, and why the others have none, or no label."""
    lengths = encoded.vectors.any(axis=1) if len(encoded.kept) else np.zeros(0, bool)
    zero = dict.fromkeys(encoded.kept[~lengths].tolist(), _NO_DIRECTION)
    failures = {**unnamed, **zero, **encoded.failures}
    kept = [i for i in encoded.kept.tolist() if i not in failures]
    return np.array(kept, np.int64), dict(sorted(failures.items()))


def _labels(labels: Any, count: int) -> tuple[list[str], dict[int, str]]:
    """The labels as texts, and for each item without one the reason."""
    listed = _listed("labels", labels)
    if len(listed) != count:
        raise UsageError(f"{count:,} items and {len(listed):,} labels: give one for each")
    names, unnamed = [], {}
    for i, label in enumerate(listed):
        if not isinstance(label, str | int | np.integer) or isinstance(label, bool):
            if not is_missing(label):
                raise UsageError(f"label {i} is {shown(label)}: give a str or a whole number")
            label = ""
        names.append(characters(label).strip())
        if not names[-1]:
            unnamed[i] = "it has no label"
    return names, unnamed


def _listed(name: str, values: Any) -> list[Any]:
    """The elements of an argument, which may be an array of whole numbers."""
    whole_numbers = isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.ndim == 1
    return list(values.tolist() if whole_numbers else several(values, name, "a str"))


def _groups(groups: Any, count: int) -> Ints:
    listed = _listed("groups", groups)
    if len(listed) != count:
        raise UsageError(f"{count:,} items and {len(listed):,} groups: give one for each")
    numbers: dict[str, int] = {}
    # An item without a group is one by itself.
    keys = [f"item {i}" if is_missing(one) or one == "" else f"group {one}" for i, one in enumerate(listed)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
