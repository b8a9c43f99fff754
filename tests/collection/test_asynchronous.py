"""Collections under asyncio: searches beside writes, cancelled calls, closing, and errors as they are."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

from omnivec import AsyncCollection, Collection
from omnivec.errors import CollectionError, FilterError, UnknownKey, UsageError
from patience import PATIENCE
from workbench import loaded, whole


class Gate:
    """A call that runs until it is told to end."""

    def __init__(self) -> None:
        self.began, self.end, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.calls = 0

    def hold(self, call: Any) -> Any:
        def held(*values: Any, **named: Any) -> Any:
            self.calls += 1
            self.began.set()
            assert self.end.wait(PATIENCE)
            result = call(*values, **named)
            self.ended.set()
            return result

        return held


@pytest.fixture
def gate(notes: Collection, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds the calls of `add` on the collection."""
    made = Gate()
    monkeypatch.setattr(notes, "add", made.hold(notes.add))
    return made


def test_fifty_searches_while_adding(notes: Collection) -> None:
    async def work() -> list[list[Any]]:
        async with AsyncCollection(notes) as shared:
            await shared.add("number 0 is here", ids="0")

            async def write() -> None:
                for i in range(1, 20):
                    await shared.add(f"number {i} is here", ids=str(i))

            searches = [shared.search("number", 100, mode=mode) for mode in ("vector", "text") * 25]
            *found, _ = await asyncio.gather(*searches, write())
            assert (await shared.counts()).documents == 20
            whole(notes)
            return found

    for hits in asyncio.run(work()):
        assert {hit.document for hit in hits} == {str(i) for i in range(len(hits))}, "half a write was seen"
        assert hits


def test_results_and_errors_are_those_of_the_collection(notes: Collection) -> None:
    notes.add(["apples are red", "plums are blue"], ids=["apple", "plum"], metadata={"kind": "fruit"})
    wanted = notes.search("apples", 2, where={"kind": "fruit"})

    async def work() -> None:
        async with AsyncCollection(notes) as shared:
            assert await shared.search("apples", 2, where={"kind": "fruit"}) == wanted
            assert [entry.id async for entry in shared] == ["apple", "plum"]
            assert await shared.model() is notes.model
            assert shared.folder == notes.folder
            with pytest.raises(UnknownKey, match="no document 'pear'"):
                await shared.get(["pear"])
            with pytest.raises(FilterError):
                await shared.documents({"$what": 1})

    asyncio.run(work())


def test_a_running_call_that_is_cancelled_ends_and_is_committed(notes: Collection, gate: Gate) -> None:
    async def work() -> None:
        shared = AsyncCollection(notes)
        adding = asyncio.ensure_future(shared.add("apples are red", ids="apple"))
        await asyncio.to_thread(gate.began.wait, PATIENCE)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert "apple" not in notes
        gate.end.set()
        await asyncio.to_thread(gate.ended.wait, PATIENCE)
        assert "apple" in notes
        await shared.close()

    asyncio.run(work())


def test_a_waiting_call_that_is_cancelled_is_not_made(notes: Collection, gate: Gate) -> None:
    async def work() -> None:
        shared = AsyncCollection(notes, threads=1)
        first = asyncio.ensure_future(shared.add("apples are red", ids="apple"))
        await asyncio.to_thread(gate.began.wait, PATIENCE)
        second = asyncio.ensure_future(shared.add("plums are blue", ids="plum"))
        await asyncio.sleep(0)  # it is handed to the thread, which is busy
        second.cancel()
        gate.end.set()
        await first
        await shared.counts()  # comes after whatever waited
        assert (gate.calls, [entry.id for entry in notes.documents()]) == (1, ["apple"])
        await shared.close()

    asyncio.run(work())


def test_closing_waits_for_what_runs_and_refuses_what_comes_later(notes: Collection, gate: Gate) -> None:
    folder, model = notes.folder, notes.model

    async def work() -> None:
        shared = AsyncCollection(notes)
        adding = asyncio.ensure_future(shared.add("apples are red", ids="apple"))
        await asyncio.to_thread(gate.began.wait, PATIENCE)
        closing = asyncio.ensure_future(shared.close())
        await asyncio.sleep(0)
        with pytest.raises(CollectionError, match="was closed; open the collection again"):
            await shared.counts()
        assert not closing.done()
        gate.end.set()
        assert (await adding).new == 1
        await closing
        await shared.close()
        assert repr(shared).endswith(": closed>")
        with pytest.raises(CollectionError, match="was closed"):
            notes.counts()

    asyncio.run(work())
    with Collection(folder, model=model) as again:
        assert "apple" in again


def test_the_event_loop_goes_on_meanwhile(notes: Collection, gate: Gate) -> None:
    async def work() -> None:
        async with AsyncCollection(notes) as shared:
            adding = asyncio.ensure_future(shared.add("apples are red", ids="apple"))
            await asyncio.to_thread(gate.began.wait, PATIENCE)
            assert (await shared.counts()).documents == 0
            gate.end.set()
            await adding

    asyncio.run(work())


def test_a_folder_is_opened_by_the_first_call(tmp_path: Path, tiny: Path) -> None:
    folder = tmp_path / "made.omni"

    async def work() -> None:
        shared = AsyncCollection(folder)
        assert not folder.exists()
        counted = await asyncio.gather(*(shared.counts() for _ in range(8)))
        assert [one.documents for one in counted] == [0] * 8
        await shared.close()

    asyncio.run(work())
    with Collection(folder, model=loaded(tiny), create=False) as notes:
        assert not len(notes)


def test_closed_before_it_was_opened(tmp_path: Path) -> None:
    asyncio.run(AsyncCollection(tmp_path / "never.omni").close())
    assert not (tmp_path / "never.omni").exists()


def test_it_has_the_methods_of_a_collection_and_no_others(notes: Collection) -> None:
    shared = AsyncCollection(notes)
    public = {name for name in dir(Collection) if not name.startswith("_")}
    assert public <= set(dir(shared))
    assert inspect.signature(shared.search) == inspect.signature(Collection.search)
    assert shared.search.__doc__ == Collection.search.__doc__
    for name in ("serach", "_catalogue", "restore"):
        with pytest.raises(AttributeError, match=f"'AsyncCollection' object has no attribute '{name}'"):
            getattr(shared, name)
    asyncio.run(shared.close())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3,), "collection=3: a Collection, or its folder"), (("x", 0), "threads=0: at least 1")],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AsyncCollection(arguments[0], threads=arguments[1] if len(arguments) > 1 else 2)
