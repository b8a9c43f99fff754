"""Commands in processes that are forked from one that has imported what they need: 0.4 CPU seconds less for each.

A forked process differs from a new one in what is imported already, and in nothing else that `omnivec` sees: it has
its own folder, environment, arguments, files and exit code. What a new interpreter does (imports, the encoding of its
streams, a signal before it is ready) is tested with new ones.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import omnivec
from patience import PATIENCE

IMPORTED = (
    *("click", "numpy", "openvino", "PIL.Image", "rich.console", "safetensors", "sqlite3", "tokenizers"),
    *(f"omnivec.cli.{name}" for name in ("collection", "embed", "index", "main", "search", "classify")),
    *(f"omnivec.collection.{name}" for name in ("adding", "collection", "indexing", "syncing")),
    *("omnivec.families.bert", "omnivec.families.vit", "omnivec.models.loading", "omnivec.ops.openvino"),
    *("omnivec.inputs.files.read", "omnivec.inputs.files.walk", "omnivec.store.sqlite"),
)
POSSIBLE = sys.platform == "linux"


class Server:
    """The process that forks, one process after the other; it ends when this one does."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        paths = [os.fspath(Path(omnivec.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(there.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            pass_fds=[there.fileno()],
        )
        there.close()
        here.settimeout(PATIENCE)
        self._orders, self._running = here, 0
        atexit.register(self._close)

    def start(
        self,
        program: str,
        arguments: Sequence[str | Path | bytes],
        folder: Path,
        environment: Mapping[str, str],
        files: Sequence[Path],
    ) -> None:
        """Begins a Python program with these arguments; `files` are its stdin, stdout and stderr."""
        if self._running:  # of a test that failed
            self.kill()
            self.wait()
        names = [os.fsdecode(argument) for argument in arguments]
        order = (program, names, str(folder), dict(environment), [str(file) for file in files])
        self._orders.sendall(json.dumps(order).encode() + b"\n")
        self._running = self._number()

    def ended(self) -> bool:
        """Whether it has."""
        return bool(select.select([self._orders], [], [], 0)[0])

    def kill(self) -> None:
        """Ends it at once, if it has not ended by itself: until the next one is begun its number stays its own."""
        os.kill(self._running, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, or minus the number of the signal that ended it."""
        code, self._running = self._number(), 0
        return code

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):  # byte by byte: what follows must still be seen to be there
            line += self._orders.recv(1) or b"end\n"
        return int(line)

    def _close(self) -> None:
        if self._running:
            self.kill()
            self.wait()
        self._orders.close()
        self._process.wait()


@functools.cache
def server() -> Server:
    """The server of this process."""
    return Server()


def serve(descriptor: int) -> None:
    """Forks a process for each order that comes, says its number, and its exit code when it has ended."""
    sys.path[0] = ""
    for name in IMPORTED:
        importlib.import_module(name)
    asked, pid = socket.socket(fileno=descriptor), 0
    for line in asked.makefile("r"):
        if pid:  # until now its number was its own, so that it could be killed at any time
            os.waitpid(pid, 0)
        pid = os.fork()
        if not pid:
            asked.detach()
            os.close(descriptor)
            _become(*json.loads(line))
        asked.sendall(b"%d\n" % pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        asked.sendall(b"%d\n" % code)


def _become(
    program: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[str]
) -> None:
    code = 1
    try:
        for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, *[WRITTEN] * 2), strict=True)):
            os.dup2(os.open(file, flags, 0o644), number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        random.seed()
        sys.argv = ["-c", *arguments]
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

if __name__ == "__main__":
    serve(int(sys.argv[1]))
