"""Any sequence of writes, steps of a migration, switches and returns leaves what a plain dict and two functions say."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from omnivec import Collection, Embedder
from omnivec.collection import indexing, migrating
from omnivec.errors import UsageError
from toy_texts import text_vector, toy_texts

IDS = st.sampled_from([f"id {i}" for i in range(6)])
WORDS = st.integers(1, 12).flatmap(lambda n: st.lists(st.sampled_from("abcdefgh"), min_size=n, max_size=n))
TEXTS = WORDS.map(" ".join)
SALTS = {"one": 30, "two": 5, "three": 30}
"""Toy models: salt -> most words; "two" reads fewer than some texts have."""


class Stopped(Exception):
    """Ends a migration between two steps."""


class Machine(RuleBasedStateMachine):
    """A collection beside a dict of its texts, and the salt of the model whose space is searched."""

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "toys.omni"
        self.models: dict[str, Embedder] = {salt: toy_texts(salt, most) for salt, most in SALTS.items()}
        self.active, self.filling = "one", ""
        self.texts: dict[str, str] = {"first": "a b c"}
        self.open()
        self.notes.add("a b c", ids="first")

    def open(self) -> None:
        self.notes = Collection(self.folder, model=self.models[self.active])

    def teardown(self) -> None:
        if hasattr(self, "notes"):
            self.notes.close()
            self.scratch.cleanup()

    @rule(documents=st.dictionaries(IDS, TEXTS, min_size=1, max_size=3))
    def add(self, documents: dict[str, str]) -> None:
        self.notes.add(list(documents.values()), ids=list(documents))
        self.texts |= documents

    @rule(ids=st.lists(IDS, max_size=3))
    def delete(self, ids: list[str]) -> None:
        self.notes.delete(ids)
        self.texts = {name: text for name, text in self.texts.items() if name not in ids}

    @rule(name=IDS, value=st.integers(0, 3))
    def update(self, name: str, value: int) -> None:
        if name in self.texts:
            self.notes.update(name, {"n": value})

    @rule()
    def reopen(self) -> None:
        self.notes.close()
        self.open()

    @rule(salt=st.sampled_from(list(SALTS)), steps=st.integers(0, 3) | st.none())
    def migrate(self, salt: str, steps: int | None) -> None:
        """To another model, or a few steps of it."""
        if salt == self.active or (self.filling and salt != self.filling):
            with pytest.raises(UsageError, match=r"nothing to do|was begun"):
                self.notes.migrate(self.models[salt])
            return
        fresh = salt not in self.made()
        if self.run(salt, steps):
            self.active, self.filling = salt, ""
        elif fresh:
            self.filling = salt

    def run(self, salt: str, steps: int | None) -> bool:
        embed, left = migrating.Refill.embed, steps

        def counted(refill: migrating.Refill, batch: object) -> int:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise Stopped
            return embed(refill, batch)  # type: ignore[arg-type]

        migrating.Refill.embed = counted  # type: ignore[method-assign, assignment]
        try:
            return self.notes.migrate(self.models[salt]).switched
        except Stopped:
            return False
        finally:
            migrating.Refill.embed = embed  # type: ignore[method-assign]

    @rule()
    def cancel(self) -> None:
        if self.filling:
            self.notes.drop_retired(filling=True)
            self.filling = ""

    @rule()
    def drop(self) -> None:
        retired = [one for one in self.notes.spaces().values() if one.state == "retired"]
        if retired:
            self.notes.drop_retired()
            assert all(one.state != "retired" for one in self.notes.spaces().values())

    def made(self) -> dict[str, str]:
        """Salt -> name of its space."""
        return {one.model.removeprefix("toy-"): name for name, one in self.notes.spaces().items()}

    @invariant()
    def everything_is_right(self) -> None:
        if not hasattr(self, "notes"):
            return
        catalogue = self.notes._catalogue
        assert {one.id: one.text for one in self.notes.get(list(self.texts))} == self.texts
        assert len(self.notes) == len(self.texts)
        for salt, name in self.made().items():
            keys, vectors = catalogue.vectors(name)
            passages = catalogue.passages(keys)
            for key, vector in zip(keys.tolist(), vectors, strict=True):
                words = " ".join(passages[key].text.split()[: SALTS[salt]])
                np.testing.assert_allclose(vector, text_vector(words, salt, 16), atol=1e-6)
            if salt == self.active:
                assert len(keys) == catalogue.counts().passages
        assert self.notes.check() == []
        if self.texts:
            name, text = next(iter(self.texts.items()))
            hits = self.notes.search(text, k=50, mode="vector")
            assert {hit.space for hit in hits} == {self.made()[self.active]}
            assert name in [hit.document for hit in hits]


@pytest.mark.parametrize("examples", [pytest.param(3), pytest.param(200, marks=pytest.mark.slow)])
def test_any_sequence_of_writes_and_migrations(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    for name in ("FIRST", "PASSAGES"):
        monkeypatch.setattr(migrating, name, 2)
        monkeypatch.setattr(indexing, name, 2)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
