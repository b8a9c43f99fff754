"""The vector spaces of a collection and the models that make them: which takes what, loaded when it is needed.

A space is called by the modalities whose items go into it: "text", "image", or "text+image" where one model takes both.
What was recorded when the first vector came in holds; a model that was asked for and is another is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, cast, get_args

from omnivec import hub
from omnivec.collection import identity
from omnivec.errors import (
    CollectionError,
    IdentityError,
    ItemError,
    OmnivecError,
    UnsupportedModel,
    UsageError,
)
from omnivec.inputs.content import Cutting
from omnivec.inputs.modality import get as record_of
from omnivec.inputs.modality import modalities as known_modalities
from omnivec.inputs.modality import plural, readable, written
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Metric, ModalityName
from omnivec.validation.arguments import said

ModelSource = str | Path | Embedder
"""A model: its name, its folder, or itself."""


@dataclass(frozen=True)
class RequestedModels:
    """The models that were asked for.

    Attributes:
        default: one for all that it takes.
        by_modality: one for the items of a modality.
    """

    default: ModelSource | None = None
    by_modality: Mapping[ModalityName, ModelSource] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelSource | None, models: Mapping[str, ModelSource] | None) -> RequestedModels:
        """The arguments of a collection; UsageError where they cannot be meant."""
        if models is None:
            return cls(model)
        fits = isinstance(models, Mapping) and models and set(models) <= set(readable())
        if model is not None or not fits:
            shown = list(models) if isinstance(models, Mapping) else models
            raise UsageError(
                f"models={said(shown)}: give either model=, or models= with a model for "
                f"{' or '.join(map(repr, readable()))}, or for {'both' if len(readable()) == 2 else 'several'}"
            )
        return cls(None, cast(Mapping[ModalityName, ModelSource], dict(models)))

    def holds(self, model: Embedder) -> bool:
        """Whether this is a model that was handed in, loaded."""
        return any(model is source for source in (self.default, *self.by_modality.values()))


@dataclass(frozen=True)
class Writer:
    """What makes the vectors of a modality: the name of their space, and its model."""

    space: str
    model: Embedder


class Spaces(Mapping[str, Embedder]):
    """Name of a space -> its model, loaded when it is asked for and known to be the one that made the vectors."""

    def __init__(self, catalogue: Catalogue, requested: RequestedModels) -> None:
        self._catalogue, self._requested = catalogue, requested
        self._lock = threading.RLock()
        self._loaded: dict[str, Embedder] = {}
        self._models: dict[str, Embedder] = {}
        self._known: set[str] = set()
        self._writers: dict[ModalityName, Writer] = {}
        self._lacking: dict[ModalityName, str] = {}
        self._refuse_others()

    def __iter__(self) -> Iterator[str]:
        """The names of the spaces that were recorded."""
        return iter(self.records())

    def __len__(self) -> int:
        """How many there are."""
        return len(self.records())

    def __getitem__(self, name: str) -> Embedder:
        """The model of a space.

        Raises:
            CollectionError: the recorded model cannot be loaded.
            IdentityError: another model than the one that made the vectors.
        """
        with self._lock:
            loaded = self._models.get(name)
            if loaded is not None and name in self._known:
                return loaded
            recorded = self.records().get(name)
            if recorded is None and name not in map(self.name, readable()):
                raise KeyError(name)
            model = loaded or self._load(name, recorded)
            if recorded is not None:  # Also where another process recorded it after the model was loaded.
                self._check_same(recorded, self._identity(model))
                self._known.add(name)
            self._models[name] = model
            return model

    def records(self) -> dict[str, SpaceRecord]:
        """The spaces that hold or held vectors, by name.

        Raises:
            CollectionDamaged: what is recorded of one cannot be read.
        """
        records = self._catalogue.spaces()
        for name, one in records.items():
            if not _is_readable(one):
                raise damaged(
                    self._catalogue.folder / FILE, f"what is recorded of the space {name!r} is incomplete"
                )
        return records

    def recorded(self, modality: ModalityName) -> SpaceRecord | None:
        """The space that items of a modality are in; None while none was added."""
        return next((one for name, one in self.records().items() if modality in name.split("+")), None)

    def name(self, modality: ModalityName) -> str:
        """The name of the space that items of a modality are in, or will be."""
        recorded = self.recorded(modality)
        if recorded is not None:
            return recorded.name
        asked = self._asked(modality)
        together = [
            other
            for other in readable()
            if other == modality or (asked is not None and self._is_free(other, asked))
        ]
        return "+".join(together)

    def model(self, modality: ModalityName) -> Embedder:
        """What embeds items of a modality."""
        return self[self.name(modality)]

    def spaces_for_query(self, modality: ModalityName) -> list[str]:
        """The recorded spaces in which a query of a modality can be asked; no model is loaded to know."""
        return [name for name, one in self.records().items() if modality in reads(one)]

    def unsearchable_spaces(self, modality: ModalityName) -> tuple[str, ...]:
        """Why a query of a modality cannot be asked in each of the other spaces, one line each."""
        closed = [one for one in self.records().values() if modality not in reads(one)]
        counts = self._catalogue.counts().vectors if closed else {}
        return tuple(_closed(one, counts[one.name], modality) for one in closed if counts.get(one.name))

    def cutting(self, modality: ModalityName) -> Cutting:
        """How items of a modality are cut for their model, which is loaded only where nothing is recorded of it."""
        recorded = self.recorded(modality)
        limit = None if recorded is None else _recorded_limit(recorded, modality)
        if limit is None:
            encoder = self.model(modality).encoder.part(modality)
            limit = self.model(modality).max_length if encoder is None else encoder.card.limit
        return Cutting(limit)

    def writer(self, modality: ModalityName) -> Writer:
        """What makes vectors of a modality, its space recorded and its canaries checked: what every write needs.

        Raises:
            ItemError: nobody asked for a model of this modality, and the default cannot be had.
        """
        with self._lock:
            if modality in self._lacking:
                raise ItemError(self._lacking[modality])
            while modality not in self._writers:
                name = self._available(modality)
                recorded = self.records().get(name) or self._claim(name, self[name])
                if recorded.name == name:  # Else another process was first, and divided them otherwise.
                    identity.check_canaries(recorded.canaries, self[name], name)
                    self._writers[modality] = Writer(name, self[name])
            return self._writers[modality]

    def _available(self, modality: ModalityName) -> str:
        """The name of a modality's space, its model loaded; ItemError where that is a default and not to be had."""
        try:
            name = self.name(modality)
            self[name]  # Loaded here, so that what fails is told apart.
        except OmnivecError as error:
            chosen = self.recorded(modality) is not None or self._asked(modality) is not None
            if chosen or modality == written():
                raise
            record, way = record_of(modality), f"(--model {modality}=NAME, models={{{modality!r}: NAME}})"
            self._lacking[modality] = (
                f"{record.default_model}, which embeds {record.plural} unless another is named {way}, cannot be had: "
                f"{error}"
                if record.default_model
                else f"no model of {record.plural} is named {way}"
            )
            raise ItemError(self._lacking[modality]) from error
        return name

    def _claim(self, name: str, model: Embedder) -> SpaceRecord:
        """The space, recorded as made by this model; IdentityError where another process was first with another."""
        if model.metric not in get_args(Metric):
            raise UnsupportedModel(
                f"{self._called(model)} is to be compared by {model.metric!r}; a collection compares by "
                f"{', '.join(get_args(Metric))}"
            )
        claimed = SpaceRecord(
            name,
            self._called(model),
            model.dim,
            model.metric,
            self._identity(model),
            {**model.provenance, "modalities": [one for one in readable() if one in model.modalities]},
            identity.canaries_of(model),
        )
        recorded = self._catalogue.claim_space(claimed, _rivals(name))
        self._check_same(recorded, claimed.identity)
        return recorded

    def _identity(self, model: Embedder) -> dict[str, Any]:
        """The model's identity; of one that was handed in, the files may have changed since it was loaded."""
        if self._requested.holds(model):
            return identity.json_of(model.identity)
        return identity.identity_of(model, hub.cache_folder() / "identities.json")

    def _asked(self, modality: ModalityName) -> ModelSource | None:
        """The model that was asked for items of a modality."""
        default = self._requested.default
        if default is None:
            return self._requested.by_modality.get(modality)
        return default if modality in self._takes(default) else None

    def _is_free(self, modality: ModalityName, model: ModelSource) -> bool:
        """Whether items of a modality, none of which is in yet, will be embedded by this model."""
        asked = self._asked(modality)
        return asked is not None and _same(asked, model) and self.recorded(modality) is None

    def _takes(self, source: ModelSource) -> tuple[ModalityName, ...]:
        """What a model embeds; one whose name is recorded is not loaded to know it."""
        if not isinstance(source, Embedder):
            name = self._called(source)
            recorded = next((one for one in self.records().values() if one.model == name), None)
            if recorded is not None:
                return reads(recorded)
        return self._embedder(source).modalities

    def _called(self, source: ModelSource) -> str:
        """What is recorded of a model: its name, or where its folder is, to be found from every working directory.

        Below the folder that holds the collection that is "./" and the way from there: both can be moved together.
        """
        path = hub.local(source.source if isinstance(source, Embedder) else source)
        if path is None:
            return source.name if isinstance(source, Embedder) else str(source)
        base = self._catalogue.folder.parent.resolve()
        return f"./{path.relative_to(base).as_posix()}" if path.is_relative_to(base) else str(path)

    def _meant(self, recorded: str) -> str:
        """The name or folder that `_called` wrote down."""
        return str(self._catalogue.folder.parent / recorded) if recorded.startswith("./") else recorded

    def _check_same(self, recorded: SpaceRecord, current: Mapping[str, Any]) -> None:
        try:
            identity.check_same(recorded.identity, current, recorded.name)
        except IdentityError as error:  # The collection may have been found, not named.
            raise IdentityError(f"{self._catalogue.folder}: {error}") from error

    def _embedder(self, source: ModelSource) -> Embedder:
        if isinstance(source, Embedder):
            return source
        name = str(source)
        if name not in self._loaded:
            self._loaded[name] = load(source)
        return self._loaded[name]

    def _load(self, name: str, recorded: SpaceRecord | None) -> Embedder:
        """The model of a space: the one asked for, else the recorded one, else the default."""
        modalities = name.split("+")
        asked = next((one for one in map(self._asked, modalities) if one is not None), None)
        default = record_of(modalities[0]).default_model
        made = self._meant(recorded.model) if recorded is not None else default
        source = made if asked is None else asked  # a table has a length, which may be 0
        if source == "":
            raise UsageError(f"no model of {plural(modalities)} is named")
        try:
            model = self._embedder(source)
        except OmnivecError as error:
            if asked is None and recorded is not None:
                folder = self._catalogue.folder
                moved = "; if it was moved, say where it is: --model FOLDER, model=FOLDER"
                raise CollectionError(
                    f"{folder} was made by {source!r}, which cannot be loaded: {error}"
                    + (moved if Path(str(source)).is_absolute() else "")
                ) from error
            raise
        for modality in modalities if recorded is None else ():
            if modality not in model.modalities:
                raise UsageError(
                    f"{model.name} embeds {plural(model.modalities)}: it cannot be the model of {plural([modality])}"
                )
        return model

    def _refuse_others(self) -> None:
        """Refuses models that were asked for and are not the recorded ones; those of the same name are taken on trust.

        Whoever uses one finds out whether it still is what it was.
        """
        for modality in readable() if self.records() else ():
            recorded, asked = self.recorded(modality), self._asked(modality)
            if recorded is None or asked is None:
                continue
            if not isinstance(asked, Embedder) and self._called(asked) == recorded.model:
                continue
            try:
                self._check_same(recorded, self._identity(self._embedder(asked)))
            except IdentityError as error:
                free = [one for one in readable() if self._is_free(one, asked)]
                if not free or self._requested.default is None:
                    raise
                raise IdentityError(
                    f"{error}; or take it for {plural(free[:1])} alone: --model {free[0]}=NAME, "
                    f"models={{{free[0]!r}: NAME}}"
                ) from error


def _is_readable(space: SpaceRecord) -> bool:
    """Whether the parts of a record that are used here are there, and of their types."""
    recorded, listed = space.identity, space.provenance.get("modalities", [])
    parts = [recorded.get("weights"), recorded.get("preprocessing", {}), recorded.get("towers", {})]
    return (
        all(isinstance(part, Mapping) for part in parts)
        and type(recorded.get("preprocessing", {}).get("limit", 1)) is int
        and isinstance(listed, list)
        and all(isinstance(one, str) for one in listed)
    )


def reads(space: SpaceRecord) -> tuple[ModalityName, ...]:
    """What the model of a space embeds; of a space that does not say it, what its identity tells."""
    modalities = space.provenance.get("modalities") or [written(), *space.identity.get("towers", ())]
    return tuple(cast(list[ModalityName], modalities))


def _rivals(name: str) -> list[str]:
    """Names of the spaces that would share a modality with this one."""
    modalities, all_of_them = set(name.split("+")), readable()
    counts = range(1, len(all_of_them) + 1)
    return [
        "+".join(parts)
        for n in counts
        for parts in combinations(all_of_them, n)
        if modalities.intersection(parts)
    ]


def _joint_model(modalities: set[str]) -> str:
    """A model that embeds these, for messages; "MODEL" where none is known."""
    records = [known_modalities()[one] for one in modalities if one in known_modalities()]
    known = (one.joint_model for one in records if modalities <= {one.name, written()})
    return next(filter(None, known), "MODEL")


def _recorded_limit(space: SpaceRecord, modality: ModalityName) -> int | None:
    """The limit of a space's model for a modality, in its unit; None where its identity does not say it."""
    made = space.identity
    if modality in made.get("towers", {}):
        made = made["towers"][modality]
    elif reads(space)[0] != modality:  # What is not said of a tower is of the first modality.
        return None
    limit = made.get("preprocessing", {}).get("limit")
    return limit if type(limit) is int else None


def _same(a: ModelSource, b: ModelSource) -> bool:
    loaded = isinstance(a, Embedder) or isinstance(b, Embedder)
    return a is b if loaded else str(a) == str(b)


def _closed(space: SpaceRecord, vectors: int, modality: ModalityName) -> str:
    """One line: what was not searched, why, and the way out."""
    joint, modalities = _joint_model({modality, *space.name.split("+")}), space.name.split("+")
    option = joint if written() in modalities else f"{modalities[0]}={joint}"
    such = f"{joint} or one" if joint != "MODEL" else "one"
    return (
        f"the space {space.name!r} ({vectors:,} vector{'s' if vectors != 1 else ''}) cannot be searched by {modality}: "
        f"its model {space.model} reads no {modality}; a joint model does, such as {such} made by "
        f" `omnivec train align`: omnivec index --collection NEW --model {option} PATHS"
    )
