"""What the tests of documents share: running code as somebody whom file permissions bind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from patience import PATIENCE

# Root reads everything by its capabilities; without them the owner's bits bind it like anybody else.
_DROP = """
import ctypes, os, sys
from pathlib import Path
if os.geteuid() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
        sys.exit("capset: " + os.strerror(ctypes.get_errno()))
"""


@pytest.fixture
def run_bound(tmp_path: Path) -> Callable[[str], str]:
    """Runs Python code in a process, in tmp_path, that file permissions hold for; returns what it prints."""
    if os.name != "posix" or (os.geteuid() == 0 and sys.platform != "linux"):
        pytest.skip("no way to give up root's rights here")

    def run(code: str) -> str:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _DROP + code]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
