"""Machine code that is kept between runs is a matter of time alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
KERNEL = """
import sys
if "small" in sys.argv:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
from omnivec.tables.kernels.simd import compiled

@compiled
def twice(x):
    return x + x

print(twice(21))
"""


def run(folder: Path, *arguments: str) -> str:
    cache = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, str(folder / "own.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMNIVEC_CACHE": cache, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr[-500:]


@pytest.mark.skipif(os.name != "posix", reason="a limit of POSIX systems")
def test_code_that_cannot_be_kept_or_is_damaged_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(KERNEL)
    assert run(tmp_path, "small") == "42\n"
    assert run(tmp_path) == "42\n"
    kept = [file for file in (tmp_path / "cache").rglob("own.twice*") if file.is_file()]
    assert {file.suffix for file in kept} == {".nbi", ".nbc"}
    for file in kept:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    assert run(tmp_path) == "42\n"
