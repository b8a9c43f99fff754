"""The vector spaces of a collection and their models, which are loaded when they are needed.

A space is named by the modalities of its items: "text", "image", or "text+image" if one model embeds both. Its model is
recorded with the first vector, and later another model is refused.

Example: a new collection with RequestedModels(default="hf:openai/clip-vit-base-patch32"), which reads texts and images.

    name("text")   "text+image": the same model is requested for both, and neither has a space yet
    writer("text") records the space "text+image" with its dim, metric, identity and canaries

A new collection with by_modality={"image": "efficientnet-lite0"}, which reads images only:

    name("image")              "image"
    name("text")               "text", made by the default model of texts
    after texts and images were added:
    spaces_for_query("text")   ["text"]: a text cannot be compared with vectors in "image"
    unsearchable_spaces("text")  a line that says so for "image", and names a joint model

If the first collection is opened with model="all-MiniLM-L6-v2", which is not the recorded model: IdentityError.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, cast, get_args

from omnivec import hub, progress
from omnivec.collection import identity
from omnivec.errors import (
    CollectionError,
    IdentityError,
    ItemError,
    ItemErrors,
    OmnivecError,
    UnsupportedModel,
    UsageError,
)
from omnivec.inputs.content import Cutting
from omnivec.inputs.modality import get as record_of
from omnivec.inputs.modality import modalities as known_modalities
from omnivec.inputs.modality import plural, readable, written
from omnivec.models import variants
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load, name_or_folder
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Metric, ModalityName, Transcript
from omnivec.validation.arguments import said
from omnivec.validation.reasons import one_line

ModelSource = str | Path | Embedder
"""A model: its name, its folder, or a loaded embedder."""


@dataclass(frozen=True)
class RequestedModels:
    """The models that the caller requests.

    Attributes:
        default: the model for all modalities that it reads.
        by_modality: maps a modality to its model; empty if `default` is set.
        transcriber: the model that writes down speech; None for the recorded one, "" for none.
    """

    default: ModelSource | None = None
    by_modality: Mapping[ModalityName, ModelSource] = field(default_factory=dict)
    transcriber: ModelSource | None = None

    @classmethod
    def of(
        cls,
        model: ModelSource | None,
        models: Mapping[str, ModelSource] | None,
        transcriber: ModelSource | None = None,
    ) -> RequestedModels:
        """Checks the arguments `model`, `models` and `transcriber` of a collection."""
        if transcriber is not None and not isinstance(transcriber, Embedder):
            transcriber = name_or_folder(transcriber)
        if models is None:
            checked = model if model is None or isinstance(model, Embedder) else name_or_folder(model)
            return cls(checked, transcriber=transcriber)
        fits = isinstance(models, Mapping) and models and set(models) <= set(readable())
        if model is not None or not fits:
            shown = list(models) if isinstance(models, Mapping) else models
            raise UsageError(
                f"models={said(shown)}: give either model=, or models= with a model for "
                f"{' or '.join(map(repr, readable()))}, or for {'both' if len(readable()) == 2 else 'several'}"
            )
        return cls(None, cast(Mapping[ModalityName, ModelSource], dict(models)), transcriber)

    def holds(self, model: Embedder) -> bool:
        """Whether the caller has passed this loaded embedder."""
        return any(model is source for source in (self.default, *self.by_modality.values()))


@dataclass(frozen=True)
class Writer:
    """The name of the space of a modality, and the model that makes its vectors."""

    space: str
    model: Embedder


class Spaces(Mapping[str, Embedder]):
    """Maps the name of a space to its model, which is loaded on access and checked to have made the vectors."""

    def __init__(self, catalogue: Catalogue, requested: RequestedModels) -> None:
        self._catalogue, self._requested = catalogue, requested
        self._lock = threading.RLock()
        self._loaded: dict[str, Embedder] = {}
        self._models: dict[str, Embedder] = {}
        self._known: set[str] = set()
        self._writers: dict[ModalityName, Writer] = {}
        self._lacking: dict[ModalityName, str] = {}
        self._fallbacks: dict[ModalityName, str] = {}
        self._refuse_others()

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names of the recorded spaces."""
        return iter(self.records())

    def __len__(self) -> int:
        """Number of recorded spaces."""
        return len(self.records())

    def __getitem__(self, name: str) -> Embedder:
        """Returns the model of a space.

        Raises:
            CollectionError: the recorded model cannot be loaded.
            IdentityError: the model is not the one that made the vectors.
        """
        with self._lock:
            loaded = self._models.get(name)
            if loaded is not None and name in self._known:
                return loaded
            recorded = self.records().get(name)
            if recorded is None and name not in map(self.name, readable()):
                raise KeyError(name)
            model = loaded or self._load(name, recorded)
            if recorded is not None:  # also if another process has recorded it since the model was loaded
                self._check_same(recorded, self._identity(model))
                self._known.add(name)
            self._models[name] = model
            return model

    def records(self) -> dict[str, SpaceRecord]:
        """Returns the recorded spaces by name, including those whose vectors were all deleted.

        Raises:
            CollectionDamaged: a record cannot be read.
        """
        records = self._catalogue.spaces()
        for name, one in records.items():
            if not _is_readable(one):
                raise damaged(
                    self._catalogue.folder / FILE, f"the record of the space {name!r} is incomplete"
                )
        return records

    def recorded(self, modality: ModalityName) -> SpaceRecord | None:
        """Returns the recorded space of a modality; None if there is none yet."""
        return next((one for name, one in self.records().items() if modality in name.split("+")), None)

    def name(self, modality: ModalityName) -> str:
        """Returns the name of the recorded space of a modality, or of the one that will be recorded."""
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
        """Returns the model of a modality."""
        return self[self.name(modality)]

    def spaces_for_query(self, modality: ModalityName) -> list[str]:
        """Returns the recorded spaces whose model reads queries of a modality; loads no model."""
        return [name for name, one in self.records().items() if modality in reads(one)]

    def unsearchable_spaces(self, modality: ModalityName, *, by_words: bool = True) -> tuple[str, ...]:
        """Explains for each of the other spaces why queries of a modality cannot search it, one line each.

        Args:
            modality: the modality of the queries.
            by_words: whether to leave out, for queries of text, spaces whose items have words that a text finds.
        """
        closed = [one for one in self.records().values() if modality not in reads(one)]
        if (
            by_words and modality == written()
        ):  # what has words, such as the names of sounds, is found by them
            closed = [one for one in closed if not any(map(self._catalogue.has_words, one.name.split("+")))]
        counts = self._catalogue.counts().vectors if closed else {}
        return tuple(_closed(one, counts[one.name], modality) for one in closed if counts.get(one.name))

    def cutting(self, modality: ModalityName) -> Cutting:
        """Returns how items of a modality are split into passages; loads the model if its limit is not recorded."""
        recorded = self.recorded(modality)
        limit = None if recorded is None else _recorded_limit(recorded, modality)
        if limit is None:
            encoder = self.model(modality).encoder.part(modality)
            limit = self.model(modality).max_length if encoder is None else encoder.card.limit
        name = self._transcriber(recorded) if record_of(modality).is_transcribed else ""
        transcribe = partial(self._transcribe, name) if name else None
        return Cutting(limit, overlap=record_of(modality).overlap, transcriber=name, transcribe=transcribe)

    def _transcriber(self, recorded: SpaceRecord | None) -> str:
        """Returns the name by which the model is recorded that writes down speech; "" for none."""
        asked = self._requested.transcriber
        if asked is not None:
            return self._called(asked) if asked != "" else ""
        return str(recorded.provenance.get("transcriber", "")) if recorded is not None else ""

    def _transcribe(self, name: str, item: Any) -> Transcript:
        try:
            return self._transcribing_model(name).transcribe([item], show_progress_bar=False)[0]
        except ItemErrors as error:
            raise ItemError(error.failures[0]) from error

    def _transcribing_model(self, name: str) -> Embedder:
        """Loads the model that writes down speech; UsageError, so that a wrong name is said once and not per file."""
        asked = self._requested.transcriber
        try:
            return asked if isinstance(asked, Embedder) else self._embedder(self._meant(name))
        except OmnivecError as error:
            raise UsageError(f"the model that writes down speech cannot be loaded: {error}") from error

    def writer(self, modality: ModalityName) -> Writer:
        """Returns the space and model of a modality, for writing: the space is recorded, and its canaries are checked.

        Raises:
            ItemError: no model was requested for this modality, and the default one cannot be loaded.
        """
        with self._lock:
            if modality in self._lacking:
                raise ItemError(self._lacking[modality])
            while modality not in self._writers:
                name = self._available(modality)
                recorded = self.records().get(name) or self._claim(name, self[name])
                if recorded.name == name:  # else another process has just recorded other spaces: try again
                    self._record_transcriber(recorded, modality)
                    identity.check_canaries(recorded.canaries, self[name], name)
                    self._writers[modality] = Writer(name, self[name])
            return self._writers[modality]

    def _record_transcriber(self, recorded: SpaceRecord, modality: ModalityName) -> None:
        """Records the model that writes down speech with a space, so that later runs use it too."""
        name = self._transcriber(recorded) if record_of(modality).is_transcribed else ""
        if name != recorded.provenance.get("transcriber", ""):
            if name:
                # What cannot be loaded, or cannot write, is refused before it is recorded.
                self._transcribing_model(name).transcribe([], show_progress_bar=False)
            self._catalogue.put_space(
                replace(recorded, provenance={**recorded.provenance, "transcriber": name})
            )

    def _available(self, modality: ModalityName) -> str:
        """Loads the model of a modality and returns the name of its space; ItemError if a default cannot be loaded."""
        try:
            name = self.name(modality)
            self[name]  # load the model here, where errors are handled
        except OmnivecError as error:
            chosen = self.recorded(modality) is not None or self._asked(modality) is not None
            if chosen or modality == written():
                raise
            record, way = record_of(modality), f"(--model {modality}=NAME, models={{{modality!r}: NAME}})"
            if record.fallback_model and modality not in self._fallbacks:
                progress.say(
                    f"{record.default_model}, the default model of {record.plural}, cannot be loaded: using "
                    f"{record.fallback_model} instead, unless another is named {way}. {one_line(error)}"
                )
                self._fallbacks[modality] = record.fallback_model
                return self._available(modality)
            self._lacking[modality] = (
                f"{record.default_model}, which embeds {record.plural} unless another is named {way}, cannot be "
                f"loaded: {error}"
                if record.default_model
                else f"no model of {record.plural} is named {way}"
            )
            raise ItemError(self._lacking[modality]) from error
        return name

    def _claim(self, name: str, model: Embedder) -> SpaceRecord:
        """Records the space with its model; IdentityError if another process has just recorded it with another."""
        if model.metric not in get_args(Metric):
            raise UnsupportedModel(
                f"the metric of {self._called(model)} is {model.metric!r}; a collection supports "
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
        """Returns the identity of a model; computed if the caller has loaded it, as its files may have changed."""
        if self._requested.holds(model):
            return identity.json_of(model.identity)
        return identity.identity_of(model, hub.cache_folder() / "identities.json")

    def _asked(self, modality: ModalityName) -> ModelSource | None:
        """Returns the model that was requested for a modality; None if there is none."""
        default = self._requested.default
        if default is None:
            return self._requested.by_modality.get(modality)
        return default if modality in self._takes(default) else None

    def _is_free(self, modality: ModalityName, model: ModelSource) -> bool:
        """Whether a modality has no space yet and `model` is requested for it."""
        asked = self._asked(modality)
        return asked is not None and _same(asked, model) and self.recorded(modality) is None

    def _takes(self, source: ModelSource) -> tuple[ModalityName, ...]:
        """Returns the modalities that a model reads, without loading it if they are recorded."""
        if not isinstance(source, Embedder):
            name = self._called(source)
            recorded = next((one for one in self.records().values() if one.model == name), None)
            if recorded is not None:
                return reads(recorded)
        return self._embedder(source).modalities

    def _called(self, source: ModelSource) -> str:
        """Returns the name or folder by which a model is recorded, which does not depend on the working directory.

        If the model is in the folder that contains the collection, it is a path relative to this folder, "./models/x",
        so that both can be moved together.
        """
        place, options = variants.split(source.source if isinstance(source, Embedder) else source)
        path = hub.local(place)
        if path is None:
            return source.name if isinstance(source, Embedder) else str(source)
        base = self._catalogue.folder.parent.resolve()
        called = f"./{path.relative_to(base).as_posix()}" if path.is_relative_to(base) else str(path)
        return called + variants.suffix(options)

    def _meant(self, recorded: str) -> str:
        """Returns the name or folder for what `_called` has recorded."""
        return str(self._catalogue.folder.parent / recorded) if recorded.startswith("./") else recorded

    def _check_same(self, recorded: SpaceRecord, current: Mapping[str, Any]) -> None:
        try:
            identity.check_same(recorded.identity, current, recorded.name)
        except IdentityError as error:  # the user may not have named the collection
            raise IdentityError(f"{self._catalogue.folder}: {error}") from error

    def _embedder(self, source: ModelSource) -> Embedder:
        if isinstance(source, Embedder):
            return source
        name = str(source)
        if name not in self._loaded:
            self._loaded[name] = load(source)
        return self._loaded[name]

    def _load(self, name: str, recorded: SpaceRecord | None) -> Embedder:
        """Loads the model of a space: the requested one, else the recorded one, else the default."""
        modalities = name.split("+")
        asked = next((one for one in map(self._asked, modalities) if one is not None), None)
        default = self._fallbacks.get(modalities[0], record_of(modalities[0]).default_model)
        made = self._meant(recorded.model) if recorded is not None else default
        source = made if asked is None else asked  # not `asked or made`: an empty table is falsy
        if source == "":
            raise UsageError(f"no model of {plural(modalities)} is named")
        try:
            model = self._embedder(source)
        except OmnivecError as error:
            if asked is None and recorded is not None:
                folder = self._catalogue.folder
                moved = "; if it was moved, give its new path: --model FOLDER, model=FOLDER"
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
        """Refuses requested models that are not the recorded ones.

        A model with the recorded name is not loaded for that: it is checked when it is used.
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
                    f"{error}; or use it only for {plural(free[:1])}: --model {free[0]}=NAME, "
                    f"models={{{free[0]!r}: NAME}}"
                ) from error


def _is_readable(space: SpaceRecord) -> bool:
    """Whether the fields of a record that are used here exist and have the right types."""
    recorded, listed = space.identity, space.provenance.get("modalities", [])
    parts = [recorded.get("weights"), recorded.get("preprocessing", {}), recorded.get("towers", {})]
    return (
        all(isinstance(part, Mapping) for part in parts)
        and type(recorded.get("preprocessing", {}).get("limit", 1)) in (int, float)
        and isinstance(listed, list)
        and all(isinstance(one, str) for one in listed)
    )


def reads(space: SpaceRecord) -> tuple[ModalityName, ...]:
    """Returns the modalities that the model of a space reads; if they are not recorded, by its identity."""
    modalities = space.provenance.get("modalities") or [written(), *space.identity.get("towers", ())]
    return tuple(cast(list[ModalityName], modalities))


def _rivals(name: str) -> list[str]:
    """Returns the names of all possible spaces that share a modality with this one."""
    modalities, all_of_them = set(name.split("+")), readable()
    counts = range(1, len(all_of_them) + 1)
    return [
        "+".join(parts)
        for n in counts
        for parts in combinations(all_of_them, n)
        if modalities.intersection(parts)
    ]


def _joint_model(modalities: set[str]) -> str:
    """Returns a model that embeds some modalities, for messages; "MODEL" if none is known."""
    records = [known_modalities()[one] for one in modalities if one in known_modalities()]
    known = (one.joint_model for one in records if modalities <= {one.name, written()})
    return next(filter(None, known), "MODEL")


def _recorded_limit(space: SpaceRecord, modality: ModalityName) -> float | None:
    """Returns the length limit of a space's model for a modality, in its unit; None if it is not recorded."""
    made = space.identity
    if modality in made.get("towers", {}):
        made = made["towers"][modality]
    elif reads(space)[0] != modality:  # the other facts are those of the first modality
        return None
    limit = made.get("preprocessing", {}).get("limit")
    return limit if type(limit) in (int, float) else None


def _same(a: ModelSource, b: ModelSource) -> bool:
    loaded = isinstance(a, Embedder) or isinstance(b, Embedder)
    return a is b if loaded else str(a) == str(b)


def _closed(space: SpaceRecord, vectors: int, modality: ModalityName) -> str:
    """Says in one line that a space was not searched, why, and how to change that."""
    joint, modalities = _joint_model({modality, *space.name.split("+")}), space.name.split("+")
    option = joint if written() in modalities else f"{modalities[0]}={joint}"
    such = f"{joint} or one" if joint != "MODEL" else "one"
    return (
        f"the space {space.name!r} ({vectors:,} vector{'s' if vectors != 1 else ''}) cannot be searched by {modality}: "
        f"its model {space.model} does not read {modality}; a joint model does, such as {such} made by "
        f"`omnivec train align`: omnivec index --collection NEW --model {option} PATHS"
    )
