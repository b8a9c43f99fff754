"""Any sequence of operations on documents leaves what a plain dict would hold, for this process and for others."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from omnivec import Collection
from omnivec.errors import UnknownKey
from omnivec.store import updating
from workbench import loaded, whole

READER = """
import json, sys
from pathlib import Path
from omnivec.store.sqlite import Catalogue

opened = {}
for line in sys.stdin:
    folder = line.rstrip()
    if folder not in opened:
        for catalogue in opened.values():
            catalogue.close()
        opened = {folder: Catalogue.open(Path(folder), create=False, readonly=True)}
    catalogue = opened[folder]
    with catalogue.snapshot():
        records = catalogue.records([entry.id for entry in catalogue.documents()], vectors=True)
    found = {name: [one.text, one.metadata] for name, one in records.items() if "text" in one.vectors}
    print(json.dumps(found), flush=True)
"""

IDS = st.sampled_from([f"id {i}" for i in range(8)])
TEXTS = st.sampled_from(["a quick fox", "the lazy dog jumps", "graph" + " graph" * 200, "北京 and 東京"])
SIMPLE = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.25]),
    st.sampled_from(["", "b", "Ä"]),
    st.booleans(),
    st.none(),
)
VALUES = st.one_of(SIMPLE, st.lists(SIMPLE, max_size=2), st.fixed_dictionaries({"n": SIMPLE}))
METADATA = st.dictionaries(st.sampled_from(["n", "m", "in.n"]), VALUES, max_size=3) | st.fixed_dictionaries(
    {"in": VALUES}
)
ORDERS = st.lists(st.sampled_from(["n", "-n", "m", "-m", "in.n", "-in.n", "-$id"]), min_size=1, max_size=3)
LEAST = st.integers(-2, 2)

Documents = dict[str, tuple[str, dict[str, Any]]]


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def at_least(metadata: dict[str, Any], least: float) -> bool:
    """{"n": {"$gte": least}}: the value, or an element of a list."""
    value = metadata.get("n")
    return any(is_number(one) and one >= least for one in (value if isinstance(value, list) else [value]))


def led_to(metadata: dict[str, Any], name: str) -> Any:
    """The value that a name leads to, first by a key that is the whole name."""
    if name in metadata or name != "in.n":
        return metadata.get(name)
    inside = metadata.get("in")
    return inside.get("n") if isinstance(inside, dict) else None


def ordered(documents: Documents, order: list[str]) -> list[str]:
    """The ids in an order: a stable sort by each field, the least important first."""
    listed = sorted(documents)
    for field in reversed(order):
        name, down = field.lstrip("-"), field.startswith("-")
        if name == "$id":
            listed.sort(reverse=down)
            continue
        classes: list[list[tuple[Any, str]]] = [[], [], [], []]
        for one in listed:
            value = led_to(documents[one][1], name)
            place = 0 if is_number(value) else 1 if isinstance(value, str) else 2 if value is not None else 3
            classes[place].append((value, one))
        for group in classes[:2]:
            group.sort(key=lambda pair: pair[0], reverse=down)
        listed = [one for group in classes for _, one in group]
    return listed


class Undone(Exception):
    """Ends a transaction without a commit."""


class Machine(RuleBasedStateMachine):
    """A collection beside a dict, and another process that reads the same collection."""

    model_folder: Path
    reader: subprocess.Popen[str]

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "notes.omni"
        self.documents: Documents = {}
        self.open()
        self.notes.add("to have a space", ids="first")
        self.notes.delete("first")

    def open(self) -> None:
        self.notes = Collection(self.folder, model=loaded(self.model_folder))

    def teardown(self) -> None:
        if hasattr(self, "notes"):
            whole(self.notes)
            self.notes.close()
            self.scratch.cleanup()

    def elsewhere(self) -> Documents:
        assert self.reader.stdin is not None and self.reader.stdout is not None
        self.reader.stdin.write(f"{self.folder}\n")
        self.reader.stdin.flush()
        return {
            name: (text, facts) for name, (text, facts) in json.loads(self.reader.stdout.readline()).items()
        }

    @rule(documents=st.dictionaries(IDS, st.tuples(TEXTS, METADATA), min_size=1, max_size=4))
    def add(self, documents: Documents) -> None:
        texts, metadata = zip(*documents.values(), strict=True)
        self.notes.add(list(texts), ids=list(documents), metadata=list(metadata))
        self.documents.update(documents)

    @rule(ids=st.lists(IDS, unique=True, max_size=4), facts=METADATA, replace=st.booleans())
    def update(self, ids: list[str], facts: dict[str, Any], replace: bool) -> None:
        if missing := [name for name in ids if name not in self.documents]:
            with pytest.raises(UnknownKey, match=missing[0]):
                self.notes.update(ids, facts, replace=replace)
            return
        changed = 0
        for name in ids:
            text, before = self.documents[name]
            after = facts if replace else {**before, **facts}
            changed += json.dumps(after) != json.dumps(before)
            self.documents[name] = (text, after)
        assert self.notes.update(ids, facts, replace=replace) == changed

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        gone = self.documents.keys() & set(ids)
        assert self.notes.delete(ids) == len(gone)
        self.documents = {name: one for name, one in self.documents.items() if name not in gone}

    @rule(ids=st.none() | st.lists(IDS, max_size=4), least=LEAST)
    def delete_where(self, ids: list[str] | None, least: int) -> None:
        among = self.documents if ids is None else ids
        gone = {
            name for name, (_, facts) in self.documents.items() if name in among and at_least(facts, least)
        }
        assert self.notes.delete(ids, where={"n": {"$gte": least}}) == len(gone)
        self.documents = {name: one for name, one in self.documents.items() if name not in gone}

    @rule(
        order=ORDERS, offset=st.integers(0, 3), limit=st.none() | st.integers(0, 4), least=st.none() | LEAST
    )
    def read_in_an_order(self, order: list[str], offset: int, limit: int | None, least: int | None) -> None:
        where = None if least is None else {"n": {"$gte": least}}
        found = self.notes.documents(where, order_by=order, offset=offset, limit=limit)
        passing = {n: one for n, one in self.documents.items() if least is None or at_least(one[1], least)}
        end = None if limit is None else offset + limit
        assert [entry.id for entry in found] == ordered(passing, order)[offset:end]

    @rule(ids=st.lists(IDS, max_size=4))
    def get(self, ids: list[str]) -> None:
        if missing := [name for name in ids if name not in self.documents]:
            with pytest.raises(UnknownKey, match=missing[0]):
                self.notes.get(ids)
            return
        records = self.notes.get(ids, vectors=True)
        assert [record.id for record in records] == ids
        assert all(len(record.vectors["text"]) == record.passages == len(record.pieces) for record in records)

    @rule()
    def reopen(self) -> None:
        self.notes.close()
        self.open()

    @rule(facts=METADATA)
    def leave_uncommitted(self, facts: dict[str, Any]) -> None:
        """What another process reads in the middle of a write is the state before it."""
        catalogue = self.notes._catalogue
        given = {name: {**facts, "uncommitted": True} for name in self.documents}
        with pytest.raises(Undone), catalogue._connections.transaction() as connection:
            updating.update(self.folder, connection, given, merge=True)
            assert self.elsewhere() == self.documents
            raise Undone

    @invariant()
    def same_here_and_elsewhere(self) -> None:
        if not hasattr(self, "notes"):
            return
        here = self.notes.get(sorted(self.documents))
        assert {record.id: (record.text, dict(record.metadata)) for record in here} == self.documents
        assert [entry.id for entry in self.notes] == sorted(self.documents)
        assert self.elsewhere() == self.documents


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_documents_are_what_a_dict_would_hold(
    tiny: Path, shared_cache: Path, reader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIVEC_CACHE", str(shared_cache))
    monkeypatch.setattr("omnivec.collection.documents._PAGE", 3)
    Machine.model_folder, Machine.reader = tiny, reader
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=15,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking such sequences takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
