"""The vector spaces of a collection and their models, which are loaded when they are needed.

A space is named by the modalities of its items, "text", "image", or "text+image" if one model embeds both, unless the
caller names it. Its model is recorded with the first vector, and later another model is refused.

Each modality has a main space, which is searched by default; items are also embedded into all further spaces whose
model reads them.

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

A new collection with by_modality={"text": "all-MiniLM-L6-v2"}, named={"seen": "hf:openai/clip-vit-base-patch32"}:

    spaces_of("text")    ["text", "seen"]: a main space and a further one
    spaces_of("image")   ["seen"]: no other model was requested for images, so this is their main space
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omnivec import hub, progress
from omnivec.collection import identity
from omnivec.collection.requested import ModelSource, RequestedModels
from omnivec.collection.space_facts import (
    CUT_FOR,
    closed_line,
    current,
    described,
    holding,
    is_readable,
    reads,
    recorded_limit,
    rivals,
    role,
)
from omnivec.collection.space_facts import (
    Writer as Writer,
)
from omnivec.errors import (
    CollectionError,
    IdentityError,
    ItemError,
    ItemErrors,
    OmnivecError,
    UnknownKey,
    UsageError,
)
from omnivec.inputs.content import Cutting
from omnivec.inputs.modality import get as record_of
from omnivec.inputs.modality import plural, readable, written
from omnivec.models import variants
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load, name_or_folder
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import ModalityName, Transcript
from omnivec.validation.reasons import one_line


class Spaces(Mapping[str, Embedder]):
    """Maps the name of a space to its model, which is loaded on access and checked to have made the vectors."""

    def __init__(self, catalogue: Catalogue, requested: RequestedModels) -> None:
        self._catalogue, self._requested = catalogue, requested
        if requested.named:  # a name stays that of a space whose model was changed
            known = self.records()
            named = {current(known, name): source for name, source in requested.named.items()}
            self._requested = replace(requested, named=named)
        self._lock = threading.RLock()
        self._loaded: dict[str, Embedder] = {}
        self._models: dict[str, Embedder] = {}
        self._known: set[str] = set()
        self._writers: dict[ModalityName, tuple[Writer, ...]] = {}
        self._lacking: dict[ModalityName, str] = {}
        self._fallbacks: dict[ModalityName, str] = {}
        self._refuse_others()

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names of the recorded spaces that have a model."""
        return (name for name, one in self.records().items() if one.model)

    def __len__(self) -> int:
        """Number of recorded spaces that have a model."""
        return sum(1 for _ in self)

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
            if recorded is not None and not recorded.model and name not in self._requested.named:
                raise UnknownKey(self._made_by_none(name))
            planned = (*map(self.name, readable()), *self._requested.named)
            if recorded is None and name not in planned:
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
            if not is_readable(one):
                raise damaged(
                    self._catalogue.folder / FILE, f"the record of the space {name!r} is incomplete"
                )
        return records

    def recorded(self, modality: ModalityName) -> SpaceRecord | None:
        """Returns the recorded main space of a modality; None if there is none yet."""
        return self._recorded(modality, self.records())

    def _recorded(self, modality: ModalityName, records: Mapping[str, SpaceRecord]) -> SpaceRecord | None:
        stored = holding(records, modality)
        main = next((one for one in stored if role(one) == "+".join(one.modalities)), None)
        if main is None and modality in self._requested.by_modality:
            # Spaces that were named by the caller hold no item of this modality yet: its own model comes first.
            names = [one.name for one in stored]
            stored = stored if self._catalogue.has_vectors(modality, names) else []
        return main or next(iter(stored), None)

    def name(self, modality: ModalityName) -> str:
        """Returns the name of the recorded main space of a modality, or of the one that will be recorded."""
        recorded = self.recorded(modality)
        if recorded is not None:
            return recorded.name
        asked = self._asked(modality)
        if modality not in self._requested.by_modality:
            chosen = next((name for name, one in self._requested.named.items() if one is asked), None)
            if chosen is not None:
                return chosen
        together = [
            other
            for other in readable()
            if other == modality or (asked is not None and self._is_free(other, asked))
        ]
        return "+".join(together)

    def spaces_of(self, modality: ModalityName) -> list[str]:
        """Returns the names of all spaces into which items of a modality are embedded, the main one first."""
        return [self.name(modality), *self._beside(modality)]

    def further(self, modality: ModalityName) -> list[str]:
        """Returns the names under which the spaces of a modality beside the main one were first recorded."""
        records = self.records()
        return [role(records[name]) if name in records else name for name in self._beside(modality)]

    def _beside(self, modality: ModalityName) -> list[str]:
        asked = [name for name, one in self._requested.named.items() if modality in self._takes(one)]
        stored = [one.name for one in holding(self.records(), modality)]
        if not asked and len(stored) <= 1:
            return []
        main = self.name(modality)
        return [name for name in dict.fromkeys([*stored, *asked]) if name != main]

    def model(self, modality: ModalityName) -> Embedder:
        """Returns the model of a modality."""
        return self[self.name(modality)]

    def spaces_for_query(self, modality: ModalityName) -> list[str]:
        """Returns the recorded main spaces whose model reads queries of a modality; loads no model."""
        return [one.name for one in self._main() if modality in reads(one)]

    def _main(self) -> list[SpaceRecord]:
        """Returns the main spaces of all modalities, in the order in which they were recorded."""
        records = self.records()
        main = [self._recorded(modality, records) for modality in readable()]
        return [one for one in records.values() if one in main]

    def unsearchable_spaces(self, modality: ModalityName, *, by_words: bool = True) -> tuple[str, ...]:
        """Explains for each of the other spaces why queries of a modality cannot search it, one line each.

        Args:
            modality: the modality of the queries.
            by_words: whether to leave out, for queries of text, spaces whose items have words that a text finds.
        """
        closed = [one for one in self._main() if modality not in reads(one)]
        if (
            by_words and modality == written()
        ):  # what has words, such as the names of sounds, is found by them
            closed = [one for one in closed if not any(map(self._catalogue.has_words, one.modalities))]
        counts = self._catalogue.counts().vectors if closed else {}
        return tuple(closed_line(one, counts[one.name], modality) for one in closed if counts.get(one.name))

    def cutting(self, modality: ModalityName) -> Cutting:
        """Returns how items of a modality are split into passages; loads the model if its limit is not recorded."""
        recorded = self.recorded(modality)
        limit = None if recorded is None else recorded_limit(recorded, modality)
        if limit is None:
            encoder = self.model(modality).encoder.part(modality)
            limit = self.model(modality).max_length if encoder is None else encoder.card.limit
        name = self._transcriber(recorded) if record_of(modality).is_transcribed else ""
        transcribe = partial(self._transcribe, name) if name else None
        before = {} if recorded is None else recorded.provenance.get(CUT_FOR, {})
        how = Cutting(limit, overlap=record_of(modality).overlap, transcriber=name, transcribe=transcribe)
        return replace(how, limit=before[modality], within=limit) if modality in before else how

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
        """Returns the main space and model of a modality, for writing; see `writers`."""
        return self.writers(modality)[0]

    def writers(self, modality: ModalityName) -> tuple[Writer, ...]:
        """Returns the spaces and models of a modality for writing, the main one first.

        The spaces are recorded, and their canaries are checked.

        Raises:
            ItemError: no model was requested for this modality, and the default one cannot be loaded.
        """
        with self._lock:
            if modality in self._lacking:
                raise ItemError(self._lacking[modality])
            while modality not in self._writers:
                main = self._available(modality)
                recorded = self.records().get(main) or self._claim(main, self[main])
                if recorded.name != main:  # another process has just recorded other spaces: try again
                    continue
                self._record_transcriber(recorded, modality)
                names = self.spaces_of(modality)
                for name in names:
                    further = self.records().get(name) or self._claim(name, self[name])
                    identity.check_canaries(further.canaries, self[name], name)
                self._writers[modality] = tuple(Writer(name, self[name]) for name in names)
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
        claimed = self.described(name, model, self._stored_in(name, model))
        others = () if name in self._requested.named else rivals(claimed.modalities)
        recorded = self._catalogue.claim_space(claimed, others)
        self._check_same(recorded, claimed.identity)
        return recorded

    def other_model(self, source: ModelSource) -> Embedder:
        """Loads a model that is to take the place of another."""
        return self._embedder(source if isinstance(source, Embedder) else name_or_folder(source))

    def described(self, name: str, model: Embedder, modalities: tuple[ModalityName, ...]) -> SpaceRecord:
        """Returns the record of a space that a model makes of items of some modalities."""
        return described(name, self._called(model), self._identity(model), model, modalities)

    def changed(self, before: SpaceRecord, now: str, model: Embedder) -> None:
        """Goes on with another model, after its space `now` has taken the place of the space `before`."""
        with self._lock:
            asked = self._requested
            by_modality = {one: source for one in readable() if (source := self._asked(one)) is not None}
            by_modality |= {one: model for one in before.modalities if one in by_modality}
            named = {name: source for name, source in asked.named.items() if name != before.name}
            named |= {now: model} if before.name in asked.named else {}
            self._requested = RequestedModels(None, by_modality, named, asked.transcriber)
            self._models[now] = model
            self._writers.clear()

    def _stored_in(self, name: str, model: Embedder) -> tuple[ModalityName, ...]:
        """Returns the modalities whose items are embedded into a space that is not recorded yet."""
        if name in self._requested.named:
            return tuple(one for one in readable() if one in model.modalities)
        return tuple(one for one in readable() if self.recorded(one) is None and self.name(one) == name)

    def _identity(self, model: Embedder) -> dict[str, Any]:
        """Returns the identity of a model; computed if the caller has loaded it, as its files may have changed."""
        if self._requested.holds(model):
            return identity.json_of(model.identity)
        return identity.identity_of(model, hub.cache_folder() / "identities.json")

    def _asked(self, modality: ModalityName) -> ModelSource | None:
        """Returns the model that was requested for a modality; None if there is none."""
        default = self._requested.default
        if default is not None:
            return default if modality in self._takes(default) else None
        asked, named = self._requested.by_modality.get(modality), self._requested.named
        if asked is not None or not named:
            return asked
        recorded = self.recorded(modality)
        if recorded is not None:
            return named.get(recorded.name)
        return next((one for one in named.values() if modality in self._takes(one)), None)

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

    def _made_by_none(self, name: str) -> str:
        return f"the space {name!r} holds vectors that were given with vectors=: no model made them"

    def _check_same(self, recorded: SpaceRecord, current: Mapping[str, Any]) -> None:
        if not recorded.model:
            raise IdentityError(
                f"{self._catalogue.folder}: {self._made_by_none(recorded.name)}; give the space of the model another "
                "name"
            )
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
        if recorded is not None and not recorded.model:
            self._check_same(recorded, {})
        modalities = self._modalities_of(name, recorded)
        asked = self._requested.named.get(name)
        if asked is None and (recorded is None or name == self.name(modalities[0])):
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

    def _modalities_of(self, name: str, recorded: SpaceRecord | None) -> tuple[ModalityName, ...]:
        """Returns the modalities of the items in a space, or in one that will be recorded."""
        if recorded is not None:
            return recorded.modalities
        if name in self._requested.named:
            return self._takes(self._requested.named[name])
        return tuple(one for one in readable() if self.name(one) == name)

    def _refuse_others(self) -> None:
        """Refuses requested models that are not the recorded ones.

        A model with the recorded name is not loaded for that: it is checked when it is used.
        """
        records = self.records()
        asked_of = [(self._recorded(one, records), self._asked(one)) for one in readable()] if records else []
        asked_of += [(records.get(name), one) for name, one in self._requested.named.items()]
        for recorded, asked in asked_of:
            if recorded is None or asked is None:
                continue
            if not isinstance(asked, Embedder) and self._called(asked) == recorded.model:
                continue
            try:
                self._check_same(recorded, self._identity(self._embedder(asked)))
            except IdentityError as error:
                if self._requested.named.get(recorded.name, asked) is not asked:
                    raise IdentityError(
                        f"{self._catalogue.folder}: {recorded.name!r}, by {recorded.model}, is the main space of "
                        f"{plural(recorded.modalities)}, which were added without another model: leave out "
                        f"the model of {plural(recorded.modalities[:1])}, give it a name of its own, or make a new "
                        "collection"
                    ) from error
                free = [one for one in readable() if self._is_free(one, asked)]
                if not free or self._requested.default is None:
                    raise
                raise IdentityError(
                    f"{error}; or use it only for {plural(free[:1])}: --model {free[0]}=NAME, "
                    f"models={{{free[0]!r}: NAME}}"
                ) from error


def _same(a: ModelSource, b: ModelSource) -> bool:
    loaded = isinstance(a, Embedder) or isinstance(b, Embedder)
    return a is b if loaded else str(a) == str(b)
