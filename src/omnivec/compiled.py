"""A model on an engine: its programs compiled, its batches computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec import runtime
from omnivec.media import text
from omnivec.model import Model
from omnivec.ops.base import Executable, Input, Program, Settings, Stored
from omnivec.types import Floats, Precision, Prepared
from omnivec.version import VERSION

BUDGET = 1024
"""Tokens in a batch: enough to fill the engine, few enough for several batches a stream and flat memory."""


@dataclass(frozen=True)
class Choice:
    """What a user may fix about execution; None leaves it to `runtime`."""

    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    deterministic: bool = False


class Compiled:
    """A model's programs on an engine.

    Attributes:
        model: what is run.
        runtime: where and how exactly, with the reasons.
    """

    def __init__(self, model: Model, choice: Choice, trials: Path) -> None:
        self.model, self._trials = model, trials
        self.runtime = runtime.decide(
            choice.engine, choice.precision, choice.device, choice.threads, choice.deterministic, self._trial
        )
        settings = self.runtime.settings
        self._compile = _compiler(self.runtime.engine)
        self._body = self._compile(model.body, model.inputs, model.tensors, settings)
        self._tail: Executable | None = None
        if model.head.has_products:
            width = model.config.dim * len(model.head.pooling)
            exact = replace(settings, precision="float32")
            self._tail = self._compile(
                model.tail, (Input("pooled", np.float32, (None, width)),), model.tensors, exact
            )
        self._hidden: Executable | None = None

    def call(self, prompt: str) -> Call:
        """What the loop needs for items behind a prompt."""
        return Call(self, prompt)

    def streams(self) -> int:
        """Batches to compute at a time."""
        return self._body.bulk().streams

    def provenance(self) -> dict[str, str]:
        """How exactly it computes: what may change a vector's last digits, not its meaning."""
        engine, settings = self.runtime.engine, self.runtime.settings
        return {
            "omnivec": VERSION,
            "engine": f"{engine} {_engine_version(engine)}",
            "precision": settings.precision,
            "device": settings.device,
        }

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) float32 of one batch."""
        batch = self.model.preparer.collate(rows, self.model.head.include_prompt)
        single = alone and not self.runtime.deterministic
        output = (self._body if single else self._body.bulk()).run(batch)["vectors"]
        if self._tail is not None:
            output = (self._tail if single else self._tail.bulk()).run({"pooled": output})["vectors"]
        return output

    def hidden(self, row: Prepared) -> list[NDArray[np.float32]]:
        """Hidden states (t, d) of one prepared item, the embeddings first, then each layer."""
        if self._hidden is None:
            self._hidden = self._compile(
                self.model.hidden, text.INPUTS, self.model.tensors, self.runtime.settings
            )
        length = len(row.arrays["ids"])
        states = self._hidden.run(self.model.preparer.collate([row]))
        return [states[str(i)][0, :length] for i in range(len(states))]

    def _trial(self) -> Precision:
        from omnivec.ops import openvino

        config = self.model.config
        kind = f"{self.model.name} {config.dim}"
        key = f"{runtime.cpu_name()} | openvino {openvino.version()} | {kind}"
        return runtime.kept_trial(self._trials, key, self._measure)

    def _measure(self) -> Mapping[Precision, float]:
        """Seconds for the same batch in both precisions: interleaved, the best of five each."""
        compile_program = _compiler("openvino")
        length = min(64, self.model.preparer.limit)
        ids = np.full((16, length), self.model.preparer.tokenizer.pad_id, np.int32)
        batch = {i.name: ids if i.name == "ids" else np.ones_like(ids) for i in self.model.inputs}
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
    prompt: str
    unit: str = text.UNIT

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.compiled.model.space.dim

    @property
    def budget(self) -> int:
        """Tokens in a batch."""
        return BUDGET

    @property
    def streams(self) -> int:
        """Batches to compute at a time."""
        return self.compiled.streams()

    def decode(self, item: Any) -> str:
        """The text of an item."""
        return text.decode(item)

    def key(self, decoded: str) -> Hashable:
        """The text itself: equal texts have equal vectors."""
        return decoded

    def size(self, decoded: str) -> int:
        """Characters of the text."""
        return text.size(decoded)

    def prepare(self, decoded: Sequence[str]) -> list[Prepared]:
        """Token ids behind the prompt."""
        return self.compiled.model.preparer.prepare(
            decoded, self.prompt, self.compiled.model.head.include_prompt
        )

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) of one batch."""
        return self.compiled.compute(rows, alone)


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
