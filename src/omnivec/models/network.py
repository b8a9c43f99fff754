"""A model on an engine: its programs compiled, its batches computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.text.text import Reading
from omnivec.models import batching, runtime
from omnivec.models.batching import Plan
from omnivec.models.model import Model
from omnivec.ops import memory
from omnivec.ops.base import Executable, Input, Program, Settings, Stored
from omnivec.ops.quantized import QuantizedWeights, bytes_of
from omnivec.types import Decode, Encoded, Floats, Precision, Prepared
from omnivec.version import VERSION


@dataclass(frozen=True)
class Choice:
    """What a user may fix about execution; None leaves it to `runtime`."""

    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    deterministic: bool = False
    max_memory: int | None = None
    decode: Decode = "reduced"


class Compiled:
    """A model's programs on an engine.

    Attributes:
        model: what is run.
        runtime: where and how exactly, with the reasons.
        budget: cost of a batch: tokens, or pixels.
    """

    def __init__(self, model: Model, choice: Choice, trials: Path) -> None:
        self.model, self._trials = model, trials
        self.runtime = runtime.decide(
            choice.engine,
            choice.precision,
            choice.device,
            choice.threads,
            choice.deterministic,
            self._trial,
            model.obstacle,
            getattr(model.family, "EXACT", ""),
        )
        self.budget = model.preparer.budget
        self._cold = self._twin = before = 0
        self._guard: memory.Guard | None = None
        if choice.max_memory is not None:
            before = memory.resident()
            memory.require(choice.max_memory, before + bytes_of(model.tensors, self.runtime.precision))
        self._compile = _compiler(self.runtime.engine)
        self._tensors = QuantizedWeights(model.tensors) if self.runtime.int8 else model.tensors
        self._body = self._compile(model.body, model.inputs, self._tensors, self.runtime.settings)
        if self.runtime.int8 or choice.max_memory is not None:
            memory.release(tensor.data for tensor in model.tensors.values())
        if choice.max_memory is not None:
            self._twin = memory.resident() - before
        self._tail = self._finisher() if model.head.has_products else None
        self._others: dict[str, Executable] = {}

    def warm(self) -> None:
        """Runs the first items, for which an engine packs weights and makes kernels: after them memory is steady."""
        start = memory.resident()
        self._cold = start if self._fixed else 0
        for length in (1,) if self._fixed else (16, 32, 64, 128, memory.SHORT):
            self._probe(1, min(length, self.model.preparer.limit))
        self._twin += memory.resident() - start
        memory.release(tensor.data for tensor in self.model.tensors.values())

    def fit(self, ceiling: int, others: int) -> None:
        """Takes batches and streams that keep the process below a ceiling, found by running some; `warm` comes first.

        Args:
            ceiling: bytes of the process.
            others: those of them that the model's other programs may still take.
        """
        settings, preparer = self.runtime.settings, self.model.preparer
        probe = memory.Probe(
            self._probe,
            preparer.limit,
            self.budget,
            settings.streams,
            least=settings.streams if self.runtime.deterministic else 1,
            twin=self._twin,
            cold=self._cold,
            others=others,
            unit=preparer.unit,
        )
        limits = memory.fit(ceiling, probe)
        self._body.narrow(limits.streams)
        self.budget, self._guard = limits.budget, memory.Guard(limits, preparer.unit)
        preparer.room.ceiling = ceiling
        reasons = {**self.runtime.reasons, "budget": f"as {memory.shown(ceiling)} of memory allow"}
        if limits.streams < settings.streams:
            reasons["streams"] = reasons["budget"]
        settings = replace(settings, streams=limits.streams)
        self.runtime = replace(self.runtime, settings=settings, reasons=reasons)

    @property
    def _fixed(self) -> bool:
        """Whether all items are of one size."""
        return all(None not in i.shape[1:] for i in self.model.inputs)

    def _probe(self, rows: int, length: int) -> None:
        self._body.run(_ones(self.model.inputs, rows, length))

    def at(self, precision: str) -> Compiled:
        """The same model on the same engine in another precision."""
        own = self.runtime
        if own.precision == precision:
            return self
        settings = own.settings
        choice = Choice(own.engine, precision, settings.device, settings.threads, own.deterministic)
        return Compiled(self.model, choice, self._trials)

    def run(self, items: Sequence[Any], reading: Reading, plan: Plan) -> Encoded:
        """Vectors of items, in their order, and why the others have none."""
        alone = replace(plan, rows=1) if self.runtime.deterministic else plan
        return batching.run(items, self.call(reading), alone)

    def facts(self) -> dict[str, Any]:
        """How it pools, and how it runs here, each choice with its reason."""
        head, settings = self.model.head, self.runtime.settings
        return {
            "pooling": list(head.pooling),
            "pooling_stated": head.stated,
            "steps": [step.kind for step in head.steps],
            "engine": self.runtime.engine,
            **asdict(settings),
            "precision": self.runtime.precision,
            "arithmetic": settings.precision,
            "budget": self.budget,
            "deterministic": self.runtime.deterministic,
            "reasons": dict(self.runtime.reasons),
        }

    def call(self, reading: Reading) -> Call:
        """What the loop needs for items that are read this way."""
        return Call(self, replace(reading, pool_prompt=self.model.head.include_prompt))

    def streams(self) -> int:
        """Batches to compute at a time."""
        return self._body.bulk().streams

    def provenance(self) -> dict[str, str]:
        """How exactly it computes: what may change a vector's last digits, not its meaning."""
        engine, settings = self.runtime.engine, self.runtime.settings
        return {
            "omnivec": VERSION,
            "engine": f"{engine} {_engine_version(engine)}",
            "precision": self.runtime.precision,
            "device": settings.device,
            **self.model.preparer.provenance,
        }

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) float32 of one batch."""
        if self._guard is not None:
            self._guard.check(len(rows) * max(row.cost for row in rows))
        batch = self.model.preparer.collate(rows, self.model.head.include_prompt)
        single = alone and not self.runtime.deterministic
        output = (self._body if single else self._body.bulk()).run(batch)["vectors"]
        if self._tail is not None:
            output = (self._tail if single else self._tail.bulk()).run({"pooled": output})["vectors"]
        return output

    def hidden(self, row: Prepared) -> list[Floats]:
        """Hidden states (t, d) of one prepared item, the embeddings first, then each layer."""
        states = self._states("hidden", self.model.hidden, row)
        return [states[str(i)] for i in range(len(states))]

    def last(self, row: Prepared) -> Floats:
        """What of one prepared item would be pooled: (t, d)."""
        return self._states("last", self.model.last, row)["states"]

    def finish(self, pooled: Floats) -> Floats:
        """Vectors (n, dim) of pooled states (n, width)."""
        if not self.model.head.steps:
            return pooled
        finisher = self._tail or self._others.get("tail")
        if finisher is None:
            finisher = self._others["tail"] = self._finisher()
        return finisher.run({"pooled": pooled})["vectors"]

    def _finisher(self) -> Executable:
        width = self.model.config.dim * len(self.model.head.pooling)
        exact = replace(self.runtime.settings, precision="float32")
        pooled = Input("pooled", np.float32, (None, width))
        return self._compile(self.model.tail, (pooled,), self.model.tensors, exact)

    def _states(self, name: str, program: Program, row: Prepared) -> dict[str, Floats]:
        """What a program that few calls need, compiled when the first does, makes of one item, less its padding."""
        if name not in self._others:
            self._others[name] = self._compile(
                program, self.model.preparer.inputs, self._tensors, self.runtime.settings
            )
        length = len(row.arrays["ids"])
        states = self._others[name].run(self.model.preparer.collate([row]))
        return {key: state[0, :length] for key, state in states.items()}

    def _trial(self) -> Precision:
        from omnivec.ops import openvino

        config = self.model.config
        kind = f"{self.model.name} {config.dim}"
        key = f"{runtime.cpu_name()} | openvino {openvino.version()} | {kind}"
        return runtime.kept_trial(self._trials, key, self._measure)

    def _measure(self) -> Mapping[Precision, float]:
        """Seconds for the same batch in both precisions: interleaved, the best of five each."""
        compile_program = _compiler("openvino")
        sample = self.model.preparer.sample()
        batch = {i.name: sample[i.name] for i in self.model.inputs}
        precisions: tuple[Precision, ...] = ("float32", "bfloat16")
        best = dict.fromkeys(precisions, float("inf"))
        candidates = {
            precision: compile_program(
                self.model.body, self.model.inputs, self.model.tensors, Settings(precision)
            )
            for precision in precisions
        }
        for _ in range(5):
            for precision, executable in candidates.items():
                start = time.perf_counter()
                executable.run(batch)
                best[precision] = min(best[precision], time.perf_counter() - start)
        return best


@dataclass(frozen=True)
class Call:
    """One call's view of a compiled model: `batching.Steps`."""

    compiled: Compiled
    reading: Reading

    @property
    def unit(self) -> str:
        """What seen and lost count."""
        return self.compiled.model.preparer.unit

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.compiled.model.space.dim

    @property
    def budget(self) -> int:
        """Cost of a batch."""
        return self.compiled.budget

    @property
    def chunk(self) -> int:
        """Items to prepare at a time."""
        return self.compiled.model.preparer.chunk

    @property
    def streams(self) -> int:
        """Batches to compute at a time."""
        return self.compiled.streams()

    def decode(self, item: Any) -> Any:
        """What the item holds."""
        return self.compiled.model.preparer.decode(item)

    def key(self, decoded: Any) -> Hashable:
        """Equal for items that have one vector."""
        return self.compiled.model.preparer.key(decoded)

    def size(self, decoded: Any) -> int:
        """A rough cost."""
        return self.compiled.model.preparer.size(decoded)

    def prepare(self, decoded: Sequence[Any]) -> list[tuple[Prepared, ...] | ItemError]:
        """Arrays of items, in parts."""
        return self.compiled.model.preparer.prepare(decoded, self.reading)

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) of one batch."""
        return self.compiled.compute(rows, alone)


def _ones(inputs: Sequence[Input], rows: int, length: int) -> dict[str, NDArray[Any]]:
    """A batch of so many items of a length, where sizes are open: what does not matter for memory is 1."""
    shapes = {
        i.name: [size or (length if axis == 0 else 1) for axis, size in enumerate(i.shape[1:])]
        for i in inputs
    }
    return {i.name: np.ones((rows, *shapes[i.name]), i.dtype) for i in inputs}


def keep_below(ceiling: int, parts: Sequence[Compiled]) -> None:
    """Divides what memory is left below a ceiling among the programs of a model, and fits each to its share.

    Raises:
        ModelError: one has no room for an item of its greatest length.
    """
    for part in parts:
        part.warm()
    left = ceiling - memory.SLACK - memory.resident()
    for i, part in enumerate(parts):
        share = left // (len(parts) - i)
        # What those before were promised and have not taken yet stays theirs.
        own = memory.resident() + memory.SLACK + share
        part.fit(ceiling, max(0, ceiling - own))
        left -= share


def _engine_version(engine: runtime.EngineName) -> str:
    if engine == "openvino":
        from omnivec.ops import openvino

        return openvino.version()
    from importlib.metadata import version

    return version("torch")


Compiler = Callable[[Program, Sequence[Input], Mapping[str, Stored], Settings], Executable]


def _compiler(engine: runtime.EngineName) -> Compiler:
    if engine == "torch":
        from omnivec.ops import torch

        return torch.compile_program
    from omnivec.ops import openvino

    return openvino.compile_program
