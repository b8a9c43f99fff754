"""One engine in a process of its own, and the line protocol by which text_encode.py drives it.

A request is a line of JSON, {"texts": [...], "rows": 32}; the reply is a line {"wall", "cpu", "count", "dim"} and
behind it count x dim float32, or a line {"error"}. The first line comes unasked: {"precision", "software"} once the
engine is loaded, or {"error"}. Seconds are taken here, around the call alone, so that no engine pays for the protocol.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
PATIENCE = 600.0


class PeerError(Exception):
    """Why an engine has no figures, in one line."""


class Took(NamedTuple):
    """Seconds of a call on the clock, and of CPU, all threads and child processes together."""

    wall: float
    cpu: float


class Worker:
    """An engine in another process.

    Attributes:
        precision: that of its matrix products.
        software: its packages with their versions.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
            )
        try:
            ready = self._reply()
        except PeerError:
            self.close()
            raise
        self.precision, self.software = str(ready["precision"]), str(ready["software"])

    def encode(self, texts: Sequence[str], rows: int) -> tuple[NDArray[np.float32], Took]:
        """Vectors (n, dim) of texts, and what they took; PeerError when the engine fails."""
        line = json.dumps({"texts": list(texts), "rows": rows}).encode() + b"\n"
        try:
            self._stdin.write(line)
            self._stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"ended with status {self._process.wait()}") from None
        reply = self._reply()
        size = 4 * reply["count"] * reply["dim"]
        found = self._stdout.read(size)
        if len(found) != size:
            raise PeerError(f"ended with status {self._process.wait()} in the middle of a reply")
        vectors = np.frombuffer(found, np.float32).reshape(reply["count"], reply["dim"])
        if len(vectors) != len(texts):
            raise PeerError(f"{len(vectors)} vectors for {len(texts)} texts")
        return vectors, Took(reply["wall"], reply["cpu"])

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    @property
    def _stdin(self) -> IO[bytes]:
        return _open(self._process.stdin)

    @property
    def _stdout(self) -> IO[bytes]:
        return _open(self._process.stdout)

    def _reply(self) -> dict[str, Any]:
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        line = self._stdout.readline()
        patience.cancel()
        if not line:
            raise PeerError(f"ended with status {self._process.wait()} (-9: after {PATIENCE:g} s)")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise PeerError("has no pipe")
    return stream


def start(python: str, name: str, root: Path, threads: int) -> Worker:
    """A worker that has loaded an engine of peers.py; PeerError says why it cannot."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(root),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "TOKENIZERS_PARALLELISM": "true",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
    }
    command = [python, str(HERE / "peers_worker.py"), name, str(root), str(threads)]
    try:
        return Worker(command, environment, root / f"{name.replace(' ', '-')}.log")
    except OSError as error:
        raise PeerError(f"{python} does not start: {error}") from error


def serve(name: str, root: Path, threads: int, replies: IO[bytes]) -> None:
    """Loads an engine and answers until there are no more requests."""
    import peers

    try:
        peer = next(peer for peer in peers.PEERS if peer.name == name)
        loaded = peer.load(peers.Place(root), threads)
        software = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in peer.packages)
        _write(replies, {"precision": loaded.precision, "software": software})
    except BaseException as error:
        _write(replies, {"error": _one_line(error)})
        raise
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            wall, cpu = time.perf_counter(), cpu_seconds()
            found = loaded.encode(request["texts"], request["rows"])
            took = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
            vectors = np.ascontiguousarray(found, np.float32)
            _write(replies, {**took, "count": len(vectors), "dim": vectors.shape[1]}, vectors.tobytes())
        except BaseException as error:  # Rust's panics are no Exception
            _write(replies, {"error": _one_line(error)})


def cpu_seconds() -> float:
    """Of this process with all its threads, and of the children that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _write(replies: IO[bytes], reply: Mapping[str, Any], data: bytes = b"") -> None:
    replies.write(json.dumps(reply).encode() + b"\n" + data)
    replies.flush()


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


if __name__ == "__main__":
    # Libraries print: the pipe is kept for replies, and what they print goes to stderr.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), channel)
