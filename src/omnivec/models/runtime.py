"""Decides once for each model on engine, device, precision and threads, with a reason for each choice."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from omnivec.errors import MissingExtra, UnsupportedModel, UsageError
from omnivec.files import cache_folder, read_kept, write_kept
from omnivec.ops.base import EngineSettings
from omnivec.types import Precision

EngineName = Literal["openvino", "torch"]

VARIABLE = "OMNIVEC_PRECISION"
"""Environment variable that sets the precision if no argument does."""

INT8 = "int8"
"""The precision whose matrices are stored as int8; the precision of its arithmetic is chosen automatically."""

PRECISIONS = (*get_args(Precision), INT8)

# bfloat16 is chosen if it is faster than float32 by this factor in a trial; otherwise float32, which is exact.
WORTHWHILE = 1.15


@dataclass(frozen=True)
class Runtime:
    """How one model runs.

    Attributes:
        engine: the engine that executes its operations.
        settings: precision, threads, streams and device, for the engine.
        deterministic: whether a vector depends on its item alone: each batch has one item and uses one thread.
        reasons: maps each choice to its reason, one line.
        int8: whether matrices are stored as int8; `settings.precision` is then that of the arithmetic.
    """

    engine: EngineName
    settings: EngineSettings
    deterministic: bool
    reasons: Mapping[str, str]
    int8: bool = False

    @property
    def precision(self) -> str:
        """The precision, by its name in `omnivec.load`."""
        return INT8 if self.int8 else self.settings.precision


def decide(
    engine: str | None,
    precision: str | None,
    device: str | None,
    threads: int | None,
    deterministic: bool,
    trial: Callable[[], Precision],
    torch_only_reason: Callable[[], str | None] = lambda: None,
    exact_because: str = "",
) -> Runtime:
    """Chooses what the user has not set.

    Args:
        engine: "openvino", "torch" or None.
        precision: "float32", "bfloat16", "int8" or None.
        device: "cpu", "cuda", ... or None.
        threads: number of threads, or None for as many as this process may use.
        deterministic: see `Runtime`.
        trial: measures both precisions on this machine and returns the one to use.
        torch_only_reason: returns why only torch can run the model, or None; called if OpenVINO would be used.
        exact_because: the family's reason why bfloat16 is never chosen automatically; "" if it may be.

    Raises:
        MissingExtra: torch is needed and not installed.
        UnsupportedModel: OpenVINO is requested for a model that only torch can run.
        UsageError: an option is invalid.
    """
    reasons: dict[str, str] = {}
    chosen = _engine(engine, device, torch_only_reason, reasons)
    place = device or "cpu"
    reasons["device"] = "as requested" if device else "the engine's default"
    count = _threads(threads, reasons)
    requested = _requested_precision(precision, reasons)
    exact: Precision = "bfloat16" if requested == "bfloat16" else "float32"
    if requested in (None, INT8):
        exact, why = _precision(chosen, deterministic, exact_because, trial)
        reasons["arithmetic" if requested == INT8 else "precision"] = f"{exact}: {why}"
    streams = count if deterministic else max(1, min(count, 8))
    reasons["streams"] = "one per thread: deterministic" if deterministic else "one per thread, at most 8"
    return Runtime(
        chosen, EngineSettings(exact, count, streams, place), deterministic, reasons, requested == INT8
    )


def _engine(
    engine: str | None,
    device: str | None,
    torch_only_reason: Callable[[], str | None],
    reasons: dict[str, str],
) -> EngineName:
    if engine is None:
        needs_torch = f"device {device} needs torch" if device not in (None, "cpu") else torch_only_reason()
        engine = "torch" if needs_torch else "openvino"
        reasons["engine"] = needs_torch or "the fastest on a CPU, no torch needed"
    elif engine in get_args(EngineName):
        reasons["engine"] = "as requested"
        if engine == "openvino" and (why := torch_only_reason()):
            raise UnsupportedModel(f"engine='openvino': {why}; use engine='torch'")
    else:
        raise UsageError(f"engine={engine!r} is none of {', '.join(get_args(EngineName))}")
    if engine == "torch" and importlib.util.find_spec("torch") is None:
        raise MissingExtra("the engine torch is not installed: pip install 'omnivec[train]'")
    return "torch" if engine == "torch" else "openvino"


def _threads(threads: int | None, reasons: dict[str, str]) -> int:
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads={threads}: must be at least 1")
        reasons["threads"] = "as requested"
        return threads
    count = open_cpus()
    reasons["threads"] = f"{count} CPUs are available to this process"
    return count


def _requested_precision(precision: str | None, reasons: dict[str, str]) -> str | None:
    """Returns the precision that the user has set, by argument or environment variable; None if there is none."""
    requested = precision or os.environ.get(VARIABLE) or None
    if requested is None:
        return None
    if requested not in PRECISIONS:
        raise UsageError(f"precision={requested!r} is none of {', '.join(PRECISIONS)}")
    reasons["precision"] = "as requested" if precision else f"set by {VARIABLE}"
    return requested


def _precision(
    engine: EngineName, deterministic: bool, exact_because: str, trial: Callable[[], Precision]
) -> tuple[Precision, str]:
    """Chooses the precision of matrix products, with the reason, if the user has not set it."""
    if deterministic or engine == "torch":
        return "float32", "deterministic" if deterministic else "torch's default"
    if exact_because:
        return "float32", exact_because
    if "amx_bf16" in cpu_flags():
        return "bfloat16", "this CPU has AMX"
    from omnivec.ops import openvino

    if not openvino.cpu_can_bfloat16():
        return "float32", "this CPU has no bfloat16"
    return trial(), "this CPU has bfloat16 without AMX; a short trial on this machine chose it"


def open_cpus() -> int:
    """Returns the number of CPUs that this process may use, which containers and taskset can restrict."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Returns the instruction sets of the CPU by their names in Linux; empty on other systems."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


@functools.cache
def cpu_name() -> str:
    """Returns the name of the CPU and its vector instruction sets, which identify a measurement."""
    name = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        name = next(
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    sets = sorted(f for f in cpu_flags() if f.startswith(("amx", "avx512", "avx2", "avx_vnni")))
    return f"{name} [{' '.join(sets)}]"


def trials_file() -> Path:
    """Returns the file of the cache in which the faster precision on this machine is stored."""
    return cache_folder() / "trials.json"


def kept_trial(file: Path, key: str, measure: Callable[[], Mapping[Precision, float]]) -> Precision:
    """Returns the faster precision on this machine, which is measured once and stored in a file of the cache.

    Args:
        file: file of the results; if it cannot be read or written, the measurement is repeated.
        key: identifies the result: CPU, engine version, family and size of the model.
        measure: returns the seconds for the same work in each precision.
    """
    trials = read_kept(file)
    if isinstance(trials.get(key), dict) and trials[key].get("precision") in get_args(Precision):
        return "bfloat16" if trials[key]["precision"] == "bfloat16" else "float32"
    seconds = measure()
    chosen: Precision = "bfloat16" if seconds["bfloat16"] * WORTHWHILE < seconds["float32"] else "float32"
    trials[key] = {"precision": chosen, "seconds": {name: round(value, 5) for name, value in seconds.items()}}
    write_kept(file, trials)
    return chosen
