"""The part of `Collection` that changes the model of a space, with the old space searchable meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from omnivec.collection.opened import Opened
from omnivec.collection.space_facts import CUT_FOR, PLACE, ROLE, Writer, role
from omnivec.errors import CollectionBusy, IdentityError, UsageError
from omnivec.inputs.modality import get as record_of
from omnivec.inputs.modality import plural
from omnivec.models.embedder import Embedder
from omnivec.progress import bar
from omnivec.store import matrix
from omnivec.store.lock import writer_lock
from omnivec.store.records import ACTIVE, FILLING, RETIRED, SpaceRecord
from omnivec.types import DENSE, Keys
from omnivec.validation import arguments

if TYPE_CHECKING:
    from omnivec.collection.migrating import Migration, Refill
    from omnivec.collection.requested import ModelSource
    from omnivec.vectors.bridge import Bridge

LOCK = "migration.lock"
_DOCUMENTS = 500
"""Documents whose vectors are dropped in one transaction."""


@dataclass(frozen=True)
class MigrationState:
    """A space that is being filled, or that was replaced, as `Collection.migrations` returns it.

    Attributes:
        space: name of the space.
        model: name of its model.
        state: "filling" or "retired".
        active: name of the space that is searched in its place.
        vectors: number of its passages that have vectors.
        waiting: number of passages that have a vector in the active space and none in this one.
        missing: number of passages that have a vector in this space and none in the active one.
    """

    space: str
    model: str
    state: str
    active: str
    vectors: int
    waiting: int
    missing: int


class ModelChanges(Opened):
    """Changes the model of a space of a collection."""

    def migrate(
        self,
        to: ModelSource,
        *,
        space: str | None = None,
        allow_missing: bool = False,
        dry_run: bool = False,
        show_progress_bar: bool | None = None,
    ) -> Migration:
        """Embeds all passages of a space by another model, and then searches these vectors instead.

        Until then the present vectors are searched, and documents may be added, changed and removed, by other processes
        too. What is done is committed every few seconds: a call that was interrupted is continued by the same call. At
        the end, one transaction puts the new space in the place of the old one, whose vectors stay until
        `drop_retired`; `migrate_back` undoes the change.

        Args:
            to: the other model: a name as for `load`, a folder, or an `Embedder`.
            space: name of the space; None if the collection has only one that a model has made.
            allow_missing: whether to switch although some documents cannot be embedded, such as images whose files are
                gone. They keep their old vectors, which are not searched then.
            dry_run: whether to only count and estimate.
            show_progress_bar: as for `add`.

        Returns:
            What was done, and whether the new space is searched now.

        Raises:
            CollectionBusy: another process is migrating this collection.
            UsageError: there is no such space, its model is this one already, the model does not read what is in the
                space, or a migration to another model was begun.

        Examples:
            >>> notes.migrate("hf:BAAI/bge-small-en-v1.5").switched
            True
        """
        self._refuse_readonly()
        allow_missing, dry_run = (
            arguments.flag("allow_missing", allow_missing),
            arguments.flag("dry_run", dry_run),
        )
        with self._migrating():
            source = self._migrated(space)
            model = self._spaces.other_model(to)
            _check_reads(source, model)
            target = self._target(source, model, dry_run)
            return self._refill(source, target, model, allow_missing, dry_run, show_progress_bar)

    def migrate_back(
        self,
        *,
        space: str | None = None,
        allow_missing: bool = False,
        dry_run: bool = False,
        show_progress_bar: bool | None = None,
    ) -> Migration:
        """Searches the vectors again that `migrate` has replaced, after embedding what was added since by their model.

        The arguments, the result and what is raised are those of `migrate`; in addition UsageError if nothing was
        replaced, or its vectors were dropped.
        """
        self._refuse_readonly()
        allow_missing, dry_run = (
            arguments.flag("allow_missing", allow_missing),
            arguments.flag("dry_run", dry_run),
        )
        with self._migrating():
            source = self._migrated(space)
            others = self._others(source)
            retired = [one for one in others if one.state == RETIRED]
            if not retired:
                raise UsageError(
                    f"{self.folder}: the space {source.name!r} has taken the place of no other one whose vectors are "
                    "still there"
                )
            self._refuse_second(others)
            target = retired[-1]
            model = self._spaces[target.name]
            return self._refill(source, target, model, allow_missing, dry_run, show_progress_bar)

    def migrations(self) -> list[MigrationState]:
        """Returns the spaces that are being filled, or that were replaced and can be gone back to."""
        found = []
        with self._catalogue.snapshot():
            counts, records = self._catalogue.counts().vectors, self._spaces.records()
            for one in records.values():
                active = next(
                    (r.name for r in records.values() if r.state == ACTIVE and role(r) == role(one)), ""
                )
                if one.state != ACTIVE:
                    waiting = self._catalogue.count_waiting(active, one.name)
                    missing = self._catalogue.count_waiting(one.name, active)
                    found.append(
                        MigrationState(
                            one.name, one.model, one.state, active, counts.get(one.name, 0), waiting, missing
                        )
                    )
        return found

    def bridge(self, *, space: str | None = None, sample: int = 2_000) -> Bridge:
        """Fits a linear map by which queries of the other model are searched for in the vectors that are in use.

        It is fitted to passages that have vectors by both models, during a migration or after it. The other model is
        that of the space that is being filled, or else that was replaced last.

        Args:
            space: as for `migrate`.
            sample: the largest number of passages.

        Returns:
            The map; `recall_` says how many of the 10 nearest neighbours it finds, `enough_` whether that will do.

        Raises:
            UsageError: there is no other space, its kind or that of the first one is not "dense", or fewer than 50
                passages have vectors in both.

        Examples:
            >>> query = notes.bridge().transform(new_model.encode_query(["a kitten"]))[0]
            >>> notes.search(query, space="text")
        """
        from omnivec.vectors.bridge import Bridge

        active = self._migrated(space)
        others = self._others(active)
        other = next((one for one in others if one.state == FILLING), others[-1] if others else None)
        if other is None:
            raise UsageError(
                f"{self.folder}: the space {active.name!r} has no second one: begin a migration first"
            )
        for one in (active, other):
            if one.kind != DENSE:
                raise UsageError(f"the space {one.name!r} is {one.kind}: a map is fitted to single vectors")
        with self._catalogue.snapshot():
            chosen = self._catalogue.sample_of(other.name, arguments.whole("sample", sample))
            keys = np.array([one.key for one in chosen], np.int64)
            (now, own), (then, others_own) = (
                self._catalogue.vectors(one.name, keys) for one in (active, other)
            )
        # A passage may have several vectors, which cannot be paired.
        both = np.intersect1d(_once(now), _once(then))
        return Bridge().fit(others_own[np.searchsorted(then, both)], own[np.searchsorted(now, both)])

    def drop_retired(self, *, filling: bool = False, show_progress_bar: bool | None = None) -> int:
        """Removes the vectors of the spaces that were replaced, and gives their disk space back.

        Documents that have no other vectors stay, and are found by their words alone.

        Args:
            filling: whether to remove a space instead that is being filled, which ends the migration.
            show_progress_bar: as for `add`.

        Returns:
            The number of bytes that the files of the collection shrank by.

        Raises:
            UsageError: there is no such space.
        """
        self._refuse_readonly()
        state = FILLING if arguments.flag("filling", filling) else RETIRED
        with self._migrating():
            names = [one.name for one in self._spaces.records().values() if one.state == state]
            if not names:
                what = "no migration is under way" if filling else "no space was replaced"
                raise UsageError(f"{self.folder}: {what}, so there is nothing to remove")
            total = self._catalogue.counts().documents
            with bar("removing vectors", total, "documents", show_progress_bar) as shown:
                for name in names:
                    self._drop(name, shown.advance)
        return self._catalogue.vacuum()

    def _drop(self, name: str, advance: Any) -> None:
        after = 0
        while True:
            last = self._catalogue.drop_vectors(name, after=after, documents=_DOCUMENTS)
            if last is None and not after:
                break
            after = last or 0
            advance(_DOCUMENTS)
        # What was made from the vectors of this space; of a space with such a name, it would only be made again.
        shown = matrix.slug(name, 0).partition("~")[0]
        for file in [*self.folder.glob(f"matrix-{shown}~*"), *self.folder.glob(f"index-{shown}~*")]:
            with suppress(OSError):  # another process has it mapped (Windows)
                file.unlink(missing_ok=True)

    @contextmanager
    def _migrating(self) -> Iterator[None]:
        """Holds the lock of migrations; others may write to the collection meanwhile."""
        try:
            with writer_lock(self.folder, 0.0, file=LOCK, doing="migrating"):
                yield
        except CollectionBusy as error:
            raise CollectionBusy(
                f"{error}: omnivec collection migrate --status shows how far it is"
            ) from error

    def _refuse_readonly(self) -> None:
        if self._catalogue.readonly:
            raise UsageError(
                f"{self.folder} was opened with readonly=True: open it for writing to change its model"
            )

    def _migrated(self, space: str | None) -> SpaceRecord:
        """Returns the active space with a model that has this name, or had it before; None stands for the only one."""
        active = [one for one in self._spaces.records().values() if one.state == ACTIVE and one.model]
        listed = ", ".join(f"{one.name!r} by {one.model}" for one in active) or "none"
        if space is not None:
            name = arguments.text("space", space)
            found = [one for one in active if name in (one.name, role(one))]
            if not found:
                raise UsageError(
                    f"{self.folder} has no space {name!r} that a model has made; there are: {listed}"
                )
            return found[0]
        if len(active) != 1:
            raise UsageError(
                f"{self.folder}: name the space whose model is changed, space=; there are: {listed}"
            )
        return active[0]

    def _others(self, source: SpaceRecord) -> list[SpaceRecord]:
        """Returns the spaces that are to take the place of one, or that it has replaced."""
        return [
            one
            for one in self._spaces.records().values()
            if one.state != ACTIVE and role(one) == role(source)
        ]

    def _refuse_second(self, others: list[SpaceRecord], target: SpaceRecord | None = None) -> None:
        """Raises UsageError if one of some spaces, other than `target`, is being filled."""
        for one in others:
            if one.state == FILLING and one is not target:
                raise UsageError(
                    f"{self.folder}: a migration to {one.model} was begun and has filled the space {one.name!r} in "
                    f"part: finish it, omnivec collection migrate --to {one.model}, or give it up, --cancel"
                )

    def _target(self, source: SpaceRecord, model: Embedder, dry_run: bool) -> SpaceRecord:
        """Returns the space to fill: the one of this model if there is one, else a new one, which is recorded."""
        records = self._spaces.records()
        made = self._spaces.described(self._free_name(source, records), model, source.modalities)
        if _is_same(source, made):
            others = [one for one in self._others(source) if one.state == RETIRED]
            missing = [one for one in others if self._catalogue.count_waiting(one.name, source.name)]
            if missing:  # some documents could not be embedded before
                return source
            raise UsageError(
                f"{self.folder}: the space {source.name!r} is by {source.model} already: there is nothing to do"
            )
        others = self._others(source)
        known = next((one for one in others if _is_same(one, made)), None)
        self._refuse_second(others, known)
        if known is not None:
            return known
        numbers = {name: number for number, name in enumerate(records)}
        limits = {
            name: source.provenance.get(CUT_FOR, {}).get(name, self._spaces.cutting(name).limit)
            for name in source.modalities
            if record_of(name).is_cut
        }
        history = {
            ROLE: role(source),
            PLACE: source.provenance.get(PLACE, numbers[source.name]),
            CUT_FOR: limits,
        }
        chosen = replace(made, provenance={**made.provenance, **_kept(source), **history}, state=FILLING)
        if not dry_run:
            self._catalogue.put_space(chosen)
        return chosen

    def _free_name(self, source: SpaceRecord, records: Any) -> str:
        base = re.sub(r"[^a-z0-9_-]", "-", role(source))
        number = 2
        while f"{base}-{number}" in records:
            number += 1
        return f"{base}-{number}"

    def _refill(
        self,
        source: SpaceRecord,
        target: SpaceRecord,
        model: Embedder,
        allow_missing: bool,
        dry_run: bool,
        show_progress_bar: bool | None,
    ) -> Migration:
        """Fills a space and switches; `target` may be `source`, which then gets what it lacks."""
        from omnivec.collection import identity
        from omnivec.collection.migrating import Migration, Refill

        begun = time.monotonic()
        identity.check_canaries(target.canaries, model, target.name)
        report = Migration(source.name, target.name, target.model, dry_run=dry_run)
        origins = self._origins(source, target)
        total = sum(self._waiting(one, target) for one in origins)
        with bar("migrating", total, "passages", False if dry_run else show_progress_bar) as shown:
            fills = [
                Refill(
                    self._catalogue, self._names, self._spaces, one, Writer(target.name, model), report, shown
                )
                for one in origins
            ]
            if dry_run:
                _estimate(fills[0], total)
                return report
            for fill in fills:
                fill.run()
            if target.name != source.name:
                self._switch(source, target, model, fills[0], allow_missing)
        report.waiting = sum(self._waiting(one, target) for one in origins)
        report.switched = report.switched or target.name == source.name
        report.seconds = time.monotonic() - begun
        return report

    def _origins(self, source: SpaceRecord, target: SpaceRecord) -> list[SpaceRecord]:
        """Returns the spaces whose passages are embedded: the active one; for itself, those that it has replaced."""
        if source.name != target.name:
            return [source]
        return [one for one in self._others(source) if one.state == RETIRED]

    def _waiting(self, source: SpaceRecord, target: SpaceRecord) -> int:
        if target.name not in self._spaces.records():  # a dry run
            return self._catalogue.counts().vectors.get(source.name, 0)
        return self._catalogue.count_waiting(source.name, target.name)

    def _switch(
        self, source: SpaceRecord, target: SpaceRecord, model: Embedder, fill: Refill, allow_missing: bool
    ) -> None:
        """Switches as soon as no passage is waiting that can be embedded."""
        idle = False
        while True:
            allowed = list(fill.failed) if allow_missing else []
            waiting = self._catalogue.switch(source.name, target.name, allowed=allowed)
            if not waiting:
                fill.report.switched = True
                self._spaces.changed(source, target.name, model)
                return
            if fill.once():
                idle = False
            elif idle or (not allow_missing and fill.failed):
                return  # the rest cannot be embedded, and the caller did not allow that
            else:
                idle = True  # what was waiting was removed meanwhile, or has just failed: look once more


def _once(keys: Keys) -> Keys:
    """Returns those of some ascending keys that occur once."""
    found, counts = np.unique(keys, return_counts=True)
    once: Keys = found[counts == 1]
    return once


def _check_reads(source: SpaceRecord, model: Embedder) -> None:
    """Raises UsageError unless a model reads all that is in a space."""
    lacking = [one for one in source.modalities if one not in model.modalities]
    if lacking:
        raise UsageError(
            f"{model.name} reads {plural(model.modalities)}, but the space {source.name!r} holds {plural(lacking)}: "
            f"name a model that reads {plural(source.modalities)}"
        )


def _is_same(recorded: SpaceRecord, made: SpaceRecord) -> bool:
    """Whether a space was made by the model of another record."""
    from omnivec.collection import identity

    try:
        identity.check_same(recorded.identity, made.identity, recorded.name)
    except IdentityError:
        return False
    return True


def _kept(source: SpaceRecord) -> dict[str, Any]:
    """Returns what a new space takes over from the provenance of the one that it replaces."""
    return {"transcriber": source.provenance["transcriber"]} if "transcriber" in source.provenance else {}


def _estimate(fill: Refill, total: int) -> None:
    """Estimates time and size of a migration from a sample of the passages."""
    report = fill.report
    report.waiting = total
    begun = time.monotonic()
    sampled, size = fill.sample()
    if sampled:
        report.seconds = (time.monotonic() - begun) / sampled * total
        report.bytes = round(size / sampled * total)
