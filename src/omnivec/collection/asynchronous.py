"""`AsyncCollection`: a collection for programs that use asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from omnivec.collection.collection import Collection
from omnivec.errors import CollectionError, UsageError
from omnivec.store.records import DocumentEntry
from omnivec.validation import arguments

T = TypeVar("T")

_THREADS = 8
_PAGE = 256
"""Documents that one visit of a worker thread brings to an asynchronous iteration."""


class AsyncCollection:
    """A collection for asyncio: its methods are awaited, and run in worker threads beside the event loop.

    Every method and property of `Collection` is a coroutine function of the same name and arguments: `await
    notes.search("a cat", k=3)`, `await notes.counts()`, `await notes.model()`. Results and exceptions are those of the
    method. `async with` closes the collection, and `async for` yields its documents as `Collection` does.

    A call that is cancelled while it waits for a thread is not made. One that is running cannot be interrupted: it
    runs to its end, so what it writes is committed, and its result and exceptions are dropped.

    Args:
        collection: a `Collection`, which is closed with this object; or the folder of one, which the first call opens
            and creates if it does not exist.
        threads: largest number of calls that run at the same time; further calls wait.

    Attributes:
        folder: the directory of the collection.

    Raises:
        UsageError: `collection` is neither of both, or `threads` is not a whole number of at least 1.

    Examples:
        >>> async def find(questions: list[str]) -> list[list[omnivec.Hit]]:
        ...     async with omnivec.AsyncCollection("notes.omni") as notes:
        ...         return await asyncio.gather(*(notes.search(question) for question in questions))
    """

    def __init__(self, collection: Collection | str | Path, *, threads: int = _THREADS) -> None:
        if not isinstance(collection, Collection | str | Path):
            raise UsageError(f"collection={arguments.said(collection)}: a Collection, or its folder")
        self._wrapped = collection if isinstance(collection, Collection) else None
        self.folder = (
            collection.folder
            if isinstance(collection, Collection)
            else arguments.path("collection", collection).absolute()
        )
        self._opening = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(arguments.whole("threads", threads), "omnivec-collection")

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        member = None if name.startswith("_") else inspect.getattr_static(Collection, name, None)
        if member is None or isinstance(member, staticmethod | classmethod):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        if isinstance(member, property):

            async def read() -> Any:
                return await self._run(lambda: getattr(self._collection(), name))

            read.__name__, read.__doc__ = name, member.__doc__
            return read

        @functools.wraps(member)
        async def call(*values: Any, **named: Any) -> Any:
            return await self._run(lambda: getattr(self._collection(), name)(*values, **named))

        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in dir(Collection) if not name.startswith("_"))})

    def __repr__(self) -> str:
        return f"<AsyncCollection {str(self.folder)!r}{': closed' * self._closed}>"

    async def __aenter__(self) -> Self:
        await self._run(self._collection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[DocumentEntry]:
        entries = await self._run(lambda: iter(self._collection()))
        while page := await self._run(lambda: list(islice(entries, _PAGE))):
            for entry in page:
                yield entry

    async def close(self) -> None:
        """Waits for the calls that were made, those too that were cancelled while running, and closes the collection.

        Calls made afterwards raise CollectionError. It may be called more than once.
        """
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        if self._wrapped is not None:
            self._wrapped.close()

    def _collection(self) -> Collection:
        """The wrapped collection; opened by the first call, in its thread."""
        with self._opening:
            if self._wrapped is None:
                self._wrapped = Collection(self.folder)
            return self._wrapped

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise CollectionError(f"{self.folder} was closed; open the collection again")
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)
