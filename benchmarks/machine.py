"""What every benchmark here shares: the machine, the versions, data, timing in turns, and the CSV."""

from __future__ import annotations

import bz2
import contextlib
import csv
import datetime
import functools
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec.models.runtime import cpu_flags, cpu_name

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = (
    *("omnivec", "openvino", "tokenizers", "numpy", "torch", "transformers", "sentence-transformers"),
    *("numba", "gensim", "fasttext-numpy2-wheel", "model2vec", "pillow"),
    *("soundfile", "soxr", "av", "librosa", "kaldi-native-fbank", "python_speech_features", "faiss-cpu"),
)


@dataclass(frozen=True)
class Spent:
    """What one call took: seconds on the clock, and CPU seconds of this process, all threads together."""

    wall: float
    cpu: float


def cores() -> int:
    """CPUs that are open to this process; every engine gets this many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The columns that say where and when a row was measured, and how busy the machine was."""
    flags = cpu_flags()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_kind(),
        "amx_bf16": "amx_bf16" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "avx512": "avx512f" in flags,
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
    }


def cpu_kind() -> str:
    """The CPU's name with its family and model, where the system tells them: one name is that of several kinds."""
    name = cpu_name().partition(" [")[0]
    said: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            field, _, value = line.partition(":")
            said.setdefault(field.strip(), value.strip())
    if "cpu family" not in said:
        return name
    return f"{name} (family {said['cpu family']}, model {said.get('model', '?')})"


@functools.cache
def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of matrix products by precision, the best that was found now, in a process of its own."""
    program = [sys.executable, str(HERE / "peers_peak.py"), str(threads)]
    out = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def versions() -> dict[str, str]:
    """The column of each package that took part."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    if name == "omnivec":
        from omnivec.version import VERSION

        return VERSION
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def data(*parts: str) -> Path | None:
    """A file of the data folder (OMNIVEC_TEST_DATA, else ../shared/data beside the repository), or None."""
    stated = os.environ.get("OMNIVEC_TEST_DATA")
    path = (Path(stated) if stated else HERE.parents[1] / "shared" / "data").joinpath(*parts)
    return path if path.exists() else None


def needed(*parts: str) -> Path | None:
    """The same, with a line on stdout where it is not there."""
    path = data(*parts)
    if path is None:
        print(f"skipped: {parts[0]} is not at ../shared/data, and OMNIVEC_TEST_DATA names no other place")
    return path


def articles(path: Path) -> Iterator[str]:
    """Articles of a bz2 file that holds one in a line."""
    with bz2.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield line.strip()


def wikipedia(megabytes: int = 0) -> bytes | None:
    """The beginning of wiki17m, an article on each line, or all of it; None, and said, where it is not there."""
    path = needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return None
    with bz2.open(path) as file:
        return file.read(megabytes * 10**6 or -1)


def spent(call: Callable[[], Any]) -> tuple[Any, Spent]:
    """What a call returns, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, Spent(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(names: Sequence[str], repetitions: int) -> Iterator[tuple[int, str]]:
    """(repetition, name) so that all are measured in each repetition, and each begins one in its turn."""
    for repetition in range(repetitions):
        shift = repetition % len(names)
        for name in (*names[shift:], *names[:shift]):
            yield repetition, name


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], key: Sequence[str] = (), threads: int = 0
) -> None:
    """Rows, the machine and the versions behind them; a column that a row does not have stays empty.

    Args:
        path: of the file, written anew.
        rows: rows of an earlier file among them keep their own machine and versions.
        key: columns that tell rows apart. Rows of the earlier file with other values there stay, before the new ones;
            without a key none stays.
        threads: of figures of speed, how many took part: the fastest matrix products with them are measured and written
            beside the machine. 0 for figures that do not hang on it.
    """
    fastest = peaks(threads) if threads else {}
    rates = {f"peak_{precision}": significant(rate, 3) for precision, rate in fastest.items()}
    about = {**machine(), **rates, **versions()}
    new = [{**about, **row} for row in rows]
    taken = {tuple(str(row.get(name, "")) for name in key) for row in new}
    old = read_csv(path) if key else []
    kept = [row for row in old if tuple(row.get(name, "") for name in key) not in taken]
    columns = dict.fromkeys(column for row in (*rows, *kept) for column in row if column not in about)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *about])
        writer.writeheader()
        writer.writerows([*kept, *new])


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a file, as they are written there; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def spread(values: Sequence[float]) -> float | str:
    """Standard deviation of a sample, to two places; nothing of fewer than two values."""
    return round(statistics.stdev(values), 2) if len(values) > 1 else ""


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Some columns of rows, aligned."""
    cells = [[str(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def significant(value: float, digits: int = 4) -> float:
    """A number as it is worth printing."""
    return float(f"{value:.{digits}g}")
