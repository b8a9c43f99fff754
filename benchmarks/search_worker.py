"""One store of search_peers.py in a process of its own, and the line protocol by which search.py drives it.

A request is a line of JSON with "do"; the reply is a line of JSON, {"error"} where it failed. Seconds are taken here,
around the calls alone: on the clock, and of CPU, all threads and child processes together.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
PATIENCE = 3600.0


class StoreError(Exception):
    """Why a store has no figures, in one line."""


class Worker:
    """A store in another process: `ask` sends a request and returns the reply."""

    def __init__(self, python: str, name: str, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._log = place / "worker.log"
        with self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, str(HERE / "search_worker.py"), name, str(place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "DO_NOT_TRACK": "1", "ANONYMIZED_TELEMETRY": "False"},
                text=True,
            )

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Sends a request; StoreError where the store fails or ends."""
        try:
            self._stream(self._process.stdin).write(json.dumps({"do": do, **options}) + "\n")
            self._stream(self._process.stdin).flush()
        except BrokenPipeError:
            raise StoreError(f"ended with status {self._process.wait()}; see {self._log}") from None
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        line = self._stream(self._process.stdout).readline()
        patience.cancel()
        if not line:
            raise StoreError(f"ended with status {self._process.wait()}; see {self._log}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise StoreError(f"{reply['error']}; see {self._log}")
        return reply

    def close(self) -> None:
        """Ends the process by the end of its input, so that the store closes its files."""
        self._stream(self._process.stdin).close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream(self._process.stdout).close()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise StoreError("has no pipe")
        return stream


def cpu_seconds() -> float:
    """Of this process with all its threads, and of the children that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Server:
    """Answers the requests of one worker."""

    def __init__(self, name: str, place: Path) -> None:
        from search_peers import PEERS

        self._peer, self._place = PEERS[name], place
        self._store: Any = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What one request gives."""
        doors = {"ingest": self._ingest, "find": self._find, "memory": self._memory, "version": self._version}
        return doors[request["do"]](request)

    def _ingest(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Fills the folder and opens it; the first query shows that it is all there."""
        from search_shared import Rows

        rows = Rows(Path(request["folder"]), request["rows"], request["count"])
        wall, cpu = time.perf_counter(), cpu_seconds()
        store = self._peer.make(self._place)
        store.ingest(rows, self._peer.kind)
        store.open()
        store.one(rows.queries()[0])
        return {
            "wall": time.perf_counter() - wall,
            "cpu": cpu_seconds() - cpu,
            "peak_mb": _memory_mb("status", "VmHWM"),
        }

    def _find(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Searches with some of the queries; a store is opened and tuned when it is first needed."""
        from search_peers import found_by, numbers_of
        from search_shared import REAL, Rows

        if self._store is None:
            self._store = self._peer.make(self._place)
            self._store.open()
        if request.get("tune"):
            self._store.tune(*request["tune"])
        queries = Rows(Path(request["folder"]), REAL, 0).queries(request["count"])
        shelves, form, batch = request.get("shelves", []), request["form"], request.get("batch", 1)
        wall, cpu = time.perf_counter(), cpu_seconds()
        found = found_by(self._store, form, queries, shelves, batch)
        took = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
        numbers = numbers_of(self._store, found) if request.get("numbers", True) else []
        return {**took, "found": numbers}

    def _version(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The library and its version."""
        del request
        package = self._peer.packages[0]
        return {"software": f"{package} {importlib.metadata.version(package)}"}

    def _memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Resident memory of this process: all, its anonymous part, and its share of what others map too."""
        del request
        return {
            "rss_mb": _memory_mb("status", "VmRSS"),
            "anonymous_mb": _memory_mb("status", "RssAnon"),
            "pss_mb": _memory_mb("smaps_rollup", "Pss"),
        }


def _memory_mb(file: str, wanted: str) -> float:
    """A field of /proc/self in MiB."""
    for line in Path(f"/proc/self/{file}").read_text(encoding="utf-8").splitlines():
        field, _, value = line.partition(":")
        if field == wanted:
            return int(value.split()[0]) / 1024
    return 0.0


def serve(name: str, place: Path, replies: IO[str]) -> None:
    """Answers until there are no more requests."""
    server = Server(name, place)
    for line in sys.stdin:
        try:
            reply = server.answer(json.loads(line))
        except BaseException as error:  # Rust's panics are no Exception
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    # Libraries print: the pipe is kept for replies, and what they print goes to stderr.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1], Path(sys.argv[2]), channel)
