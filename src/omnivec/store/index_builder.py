"""Building an approximate index of a space in a process of its own: `python -m omnivec.store.index_builder`.

The process reads the catalogue without writing to it, and writes one file beside it (`store.index_files`). Its memory
is bounded, and an error in it, or its end at any moment, costs the collection nothing. It ends when the process that
started it ends: it watches a pipe that is its standard input. A lock file lets a collection have one build at a time.

It writes lines to standard output: `progress PHASE DONE TOTAL`, and at last `done {JSON of Built}`, `busy` or
`error MESSAGE`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import CollectionError, OmnivecError, UsageError
from omnivec.files import lock
from omnivec.store import index_files, matrix
from omnivec.store.index_files import Header, Stored
from omnivec.store.indexes.base import ApproximateIndex
from omnivec.store.matrix_file import MatrixDamaged
from omnivec.store.records import FILLING, SpaceRecord
from omnivec.store.space_rows import Rows
from omnivec.store.sqlite import Catalogue
from omnivec.types import DENSE, Floats, Keys

LOCK = "index.lock"
GROWN = 2.0
"""An index is trained anew when the space has this many times the vectors with which it was trained."""
REMOVED = 0.2
"""Share of an index's vectors that may have been removed before it is built anew."""
_LOWEST = 10

Report = Callable[[str, int, int], None]
"""Is called with the name of a phase, how much of it is done, and its total."""


@dataclass(frozen=True)
class Built:
    """An index that was built, or found to be up to date.

    Attributes:
        space: name of the space.
        rows: the number of vectors in the index.
        added: how many of them were added by this build; 0 if the index was up to date.
        seconds: that it took.
        bytes: size of the file.
        recall: share of the ten nearest that were found when it was last trained; None if it was not measured.
    """

    space: str
    rows: int
    added: int
    seconds: float
    bytes: int
    recall: float | None


def build(
    catalogue: Catalogue, folder: Path, space: str, name: str, report: Report = lambda *_: None
) -> Built:
    """Builds, extends or just finds the index of a space in this process; the caller holds the lock.

    Args:
        catalogue: of the collection.
        folder: of the collection.
        space: name of the space.
        name: of the index.
        report: is told of progress.

    Raises:
        UsageError: there is no such space or index, or the space is not dense.
        CollectionError: the file cannot be written.
    """
    begun = time.monotonic()
    try:
        return _build(catalogue, folder, space, name, report, begun)
    except MatrixDamaged:
        matrix.open_rows(catalogue, folder, space, verified=True)
        return _build(catalogue, folder, space, name, report, begun)


def _build(catalogue: Catalogue, folder: Path, space: str, name: str, report: Report, begun: float) -> Built:
    with catalogue.snapshot():
        record, owner, key = dense_space(catalogue, space), catalogue.id(), catalogue.space_key(space)
        rows = matrix.open_rows(catalogue, folder, space)
        older = index_files.newest(catalogue, folder, space, name)
        gone = rows.keys()[:0] if older is None else catalogue.removed_since(older.header.state[0])
    if older is not None and older.header.state == rows.state:
        return _built(older, 0, begun)
    index = None if older is None or gone is None else _extended(older, rows, gone, report)
    added, trained = len(rows), len(rows)
    if index is None:
        index = _made(record, name, rows, report)
    elif older is not None:
        added, trained = int((rows.keys() > older.header.last).sum()), older.header.trained
    last = max((int(keys[-1]) for keys in (rows.base.keys, rows.tail.keys) if len(keys)), default=-1)
    header = Header(
        space, record.dim, record.metric, name, rows.state, len(rows), last, trained, dict(index.facts)
    )
    file = index_files.save(folder, owner, key, header, index)
    return _built(Stored(index, header, file, file.stat().st_size), added, begun)


def dense_space(catalogue: Catalogue, space: str) -> SpaceRecord:
    """The record of a space that may have an index.

    Raises:
        UsageError: there is no such space, it is being filled, or it is not dense.
    """
    spaces = catalogue.spaces()
    if space not in spaces:
        raise UsageError(f"no space {space!r} in this collection; there are: {', '.join(spaces) or 'none'}")
    if spaces[space].state == FILLING:
        raise UsageError(
            f"space {space!r} is being filled; an index is built when all of its vectors are there"
        )
    if spaces[space].kind != DENSE:
        raise UsageError(
            f"space {space!r} is of kind {spaces[space].kind!r}, which is searched without an index"
        )
    return spaces[space]


def _built(stored: Stored, added: int, begun: float) -> Built:
    header = stored.header
    recall = header.facts.get("recall")
    seconds = round(time.monotonic() - begun, 3)
    return Built(header.space, header.rows, added, seconds, stored.size, recall)


def _extended(older: Stored, rows: Rows, gone: Keys, report: Report) -> ApproximateIndex | None:
    """An older index with the vectors added since and without those of `gone`; None if it should be built anew."""
    header, index = older.header, older.index
    later = int((rows.keys() > header.last).sum())
    kept = len(rows) - later
    if header.rows - kept > REMOVED * header.rows or len(rows) > GROWN * max(1, header.trained):
        return None
    if len(gone):
        index.remove(gone)
    if len(index) != kept:
        return None
    for keys, vectors in _told(_after(rows.blocks(), header.last), "adding", later, report):
        index.add(keys, vectors)
    return index


def _after(blocks: Iterable[tuple[Keys, Floats]], last: int) -> Iterator[tuple[Keys, Floats]]:
    """The vectors with keys greater than `last`."""
    for keys, vectors in blocks:
        start = int(np.searchsorted(keys, last, "right"))
        if start < len(keys):
            yield keys[start:], vectors[start:]


def _made(record: SpaceRecord, name: str, rows: Rows, report: Report) -> ApproximateIndex:
    phases = iter(["reading", "adding"])

    def blocks() -> Iterator[tuple[Keys, Floats]]:
        phase = next(phases, "adding")
        yield from _told(rows.blocks(), phase, len(rows), report)
        if phase == "reading":
            report("training", 0, 1)

    return index_files.stored_class(name).build(record.dim, record.metric, len(rows), blocks)


def _told(
    blocks: Iterable[tuple[Keys, Floats]], phase: str, total: int, report: Report
) -> Iterator[tuple[Keys, Floats]]:
    done, told = 0, -1
    for keys, vectors in blocks:
        yield keys, vectors
        done += len(keys)
        if 100 * done // max(1, total) > told:
            told = 100 * done // max(1, total)
            report(phase, done, total)


class Builder:
    """Builds an index in a process of its own."""

    def __init__(self, folder: Path, space: str, name: str) -> None:
        """Starts nothing yet.

        Args:
            folder: of the collection.
            space: name of the space.
            name: of the index.
        """
        self._arguments = [str(folder), space, "--index", name]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts a build in the background, at the lowest priority; does nothing while one is running."""
        if not self.running:
            self._process = self._started(["--low"], subprocess.DEVNULL)

    @property
    def running(self) -> bool:
        """Whether a build that was started is running."""
        if self._process is not None and self._process.poll() is not None:
            self._ended()
        return self._process is not None

    def stop(self) -> None:
        """Ends a build that is running; nothing of it remains."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end of a build in the background; returns whether it ended within `timeout` seconds."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._ended()
        return True

    def run(self, report: Report) -> Built:
        """Builds the index, waiting for other builds of this collection; the build ends if this call is interrupted.

        Raises:
            UsageError, CollectionError: as `build`; or the process ended without a result.
        """
        self._process = process = self._started(["--wait"], subprocess.PIPE)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                word, _, rest = line.rstrip("\n").partition(" ")
                if word == "progress":
                    phase, done, total = rest.split(" ")
                    report(phase, int(done), int(total))
                elif word == "done":
                    return Built(**json.loads(rest))
                elif word == "error":
                    raise CollectionError(json.loads(rest))
            raise CollectionError(
                f"the process that builds the index of {self._arguments[1]!r} ended with {process.wait()} and no "
                "result; searches compare all vectors, as without an index"
            )
        finally:
            self.stop()

    def _ended(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _started(self, options: Sequence[str], stdout: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __spec__.name, *self._arguments, *options]
        stderr = subprocess.DEVNULL if stdout == subprocess.DEVNULL else None
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, text=True, encoding="utf-8"
        )


def _watch_parent() -> None:
    """Ends this process when its standard input ends, which is when the process that started it is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _report(phase: str, done: int, total: int) -> None:
    _line(f"progress {phase} {done} {total}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds one index, as the module's docstring says."""
    parser = argparse.ArgumentParser(prog="index_builder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("space")
    parser.add_argument("--index", required=True)
    parser.add_argument("--low", action="store_true")
    parser.add_argument("--wait", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, decides
    _watch_parent()
    if options.low and hasattr(os, "nice"):
        os.nice(_LOWEST)
    try:
        handle = os.open(options.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        _line(f"error {json.dumps(f'{options.folder / LOCK} cannot be opened: {error.strerror}')}")
        return 1
    try:
        if lock(handle, wait=None if options.wait else 0) is False:
            _line("busy")
            return 0
        with Catalogue.open(options.folder, create=False, readonly=True) as catalogue:
            built = build(catalogue, options.folder, options.space, options.index, _report)
        _line(f"done {json.dumps(asdict(built))}")
    except OmnivecError as error:
        _line(f"error {json.dumps(str(error))}")
        return 1
    finally:
        os.close(handle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
