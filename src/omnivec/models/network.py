"""A model on an engine: compiles its programs and computes batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.preparer import ReadOptions
from omnivec.models import batching, runtime
from omnivec.models.batching import BatchOptions
from omnivec.models.facts import Card
from omnivec.models.model import Model
from omnivec.models.saving import write_files
from omnivec.ops.base import EngineSettings, Executable, Input, Program, Stored
from omnivec.ops.process import release
from omnivec.ops.quantized import QuantizedWeights
from omnivec.types import Decode, Encoded, Floats, ModalityName, Precision, Prepared
from omnivec.version import VERSION
from omnivec.weights.card import Training

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection


@dataclass(frozen=True)
class Choice:
    """The options of execution that a user may set; None leaves the choice to `runtime`."""

    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    deterministic: bool = False
    decode: Decode = "reduced"


class Network:
    """A model whose programs are compiled on an engine.

    Attributes:
        model: the model.
        preparer: makes arrays of items.
        runtime: engine, device, precision and threads, with the reason for each.
        card: properties of the model.
        dim: length of a vector.
        budget: largest cost of a batch, in tokens or pixels.
        guard: called before each batch with its cost; raises ItemError if there is no memory for it. None for no limit.
        projection: always None; see `Encoder`.
    """

    projection: Projection | None = None

    def __init__(self, model: Model, chosen: runtime.Runtime, trials: Path) -> None:
        self.model, self.preparer, self._trials = model, model.preparer, trials
        self.runtime = chosen
        self.card, self.dim = _card(model), model.space.dim
        self.budget = self.preparer.budget
        self.guard: Callable[[int], None] | None = None
        self._compile = _compiler(chosen.engine)
        self._tensors = QuantizedWeights(model.tensors) if chosen.int8 else model.tensors
        self._body = self._compile(model.body, model.inputs, self._tensors, chosen.settings)
        if chosen.int8:
            release(tensor.data for tensor in model.tensors.values())
        self._tail = self._finisher() if model.head.has_products else None
        self._others: dict[str, Executable] = {}

    @classmethod
    def of(cls, model: Model, choice: Choice, trials: Path) -> Network:
        """Puts a model on the chosen engine, or on the best one for it.

        Args:
            model: the model.
            choice: the options that the user has set.
            trials: file in which the faster precision on this machine is stored.
        """
        return cls(model, runtime_of(model, choice, trials), trials)

    def at(self, precision: str) -> Network:
        """Returns the same model on the same engine in another precision."""
        current = self.runtime
        if current.precision == precision:
            return self
        settings = current.settings
        choice = Choice(current.engine, precision, settings.device, settings.threads, current.deterministic)
        return Network.of(self.model, choice, self._trials)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its vectors; equal for one model in any folder, file format and precision."""
        return self.model.identity

    @property
    def networks(self) -> Sequence[Network]:
        """A tuple of this network alone."""
        return (self,)

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        """Embeds items; see `Encoder.run`."""
        if not self.model.head.include_prompt:
            reading = replace(reading, pool_prompt=False)
        if self.runtime.deterministic:
            plan = replace(plan, rows=1)
        return batching.run(items, self.preparer, self, reading, plan, projection)

    def part(self, modality: ModalityName) -> Network | None:
        """Returns the encoder of one modality; None if it does not read this modality."""
        return self if modality == self.preparer.modality else None

    def spans(self, text: str) -> NDArray[np.int64]:
        """Returns the start and end offsets (n, 2) of each token of a text in characters, end exclusive."""
        return self.model.texts.tokenizer.spans(text)

    def reserved_tokens(self, prompt: str) -> int:
        """Returns how many tokens of the limit a prompt and the special tokens use."""
        tokenizer = self.model.texts.tokenizer
        return len(tokenizer.ids([prompt])[0]) if prompt else tokenizer.special_count

    def write(self, folder: Path, training: Training | None) -> None:
        """Writes its files into an empty folder, or a new one."""
        write_files(self.model, folder, training)

    def facts(self) -> dict[str, Any]:
        """Returns how it pools and how it runs on this machine, with the reason for each choice."""
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

    def provenance(self) -> dict[str, str]:
        """Returns engine, precision and versions: what may change the last digits of a vector."""
        engine, settings = self.runtime.engine, self.runtime.settings
        return {
            "omnivec": VERSION,
            "engine": f"{engine} {_engine_version(engine)}",
            "precision": self.runtime.precision,
            "device": settings.device,
            **self.preparer.provenance,
        }

    @property
    def streams(self) -> int:
        """Number of batches to compute at the same time."""
        return self._body.bulk().streams

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Computes the vectors (n, dim) float32 of one batch; see `batching.Computer`."""
        if self.guard is not None:
            self.guard(len(rows) * max(row.cost for row in rows))
        batch = self.preparer.collate(rows, self.model.head.include_prompt)
        single = alone and not self.runtime.deterministic
        output = (self._body if single else self._body.bulk()).run(batch)["vectors"]
        if self._tail is not None:
            output = (self._tail if single else self._tail.bulk()).run({"pooled": output})["vectors"]
        return output

    def hidden(self, row: Prepared) -> list[Floats]:
        """Computes the hidden states (t, d) of one prepared item: the embeddings, then the output of each layer."""
        states = self._states("hidden", self.model.hidden, row)
        return [states[str(i)] for i in range(len(states))]

    def last(self, row: Prepared) -> Floats:
        """Computes the states (t, d) of one prepared item that are pooled."""
        return self._states("last", self.model.last, row)["states"]

    def compile(self, program: Program, inputs: Sequence[Input]) -> Executable:
        """Compiles a further program of the model, with its weights, on its engine."""
        return self._compile(program, inputs, self._tensors, self.runtime.settings)

    def finish(self, pooled: Floats) -> Floats:
        """Applies the modules after the pooling: pooled states (n, width) -> vectors (n, dim)."""
        if not self.model.head.steps:
            return pooled
        finisher = self._tail or self._others.get("tail")
        if finisher is None:
            finisher = self._others["tail"] = self._finisher()
        return finisher.run({"pooled": pooled})["vectors"]

    @property
    def is_fixed(self) -> bool:
        """Whether all items have the same size."""
        return all(None not in i.shape[1:] for i in self.model.inputs)

    def probe(self, rows: int, length: int) -> None:
        """Runs a batch of `rows` items of a length, to measure its memory."""
        self._body.run(_ones(self.model.inputs, rows, length))

    def limit(self, budget: int, streams: int, guard: Callable[[int], None], because: str) -> None:
        """Limits the size of batches; called before the first run.

        Args:
            budget: largest cost of a batch.
            streams: number of batches to compute at the same time.
            guard: see the attribute.
            because: the reason, for the card.
        """
        settings, reasons = self.runtime.settings, {**self.runtime.reasons, "budget": because}
        if streams < settings.streams:
            reasons["streams"] = because
        self._body.narrow(streams)
        self.budget, self.guard = budget, guard
        self.runtime = replace(self.runtime, settings=replace(settings, streams=streams), reasons=reasons)

    def _finisher(self) -> Executable:
        width = self.model.config.dim * len(self.model.head.pooling)
        exact = replace(self.runtime.settings, precision="float32")
        pooled = Input("pooled", np.float32, (None, width))
        return self._compile(self.model.tail, (pooled,), self.model.tensors, exact)

    def _states(self, name: str, program: Program, row: Prepared) -> dict[str, Floats]:
        """Runs a rarely used program, compiled on first use, for one item; returns its outputs without padding."""
        if name not in self._others:
            self._others[name] = self._compile(
                program, self.preparer.inputs, self._tensors, self.runtime.settings
            )
        length = len(row.arrays["ids"])
        states = self._others[name].run(self.preparer.collate([row]))
        return {key: state[0, :length] for key, state in states.items()}


def runtime_of(model: Model, choice: Choice, trials: Path) -> runtime.Runtime:
    """Decides how a model runs, with the reason for each choice; see `Network.of`."""
    return runtime.decide(
        choice.engine,
        choice.precision,
        choice.device,
        choice.threads,
        choice.deterministic,
        lambda: _trial(model, trials),
        model.torch_only_reason,
        model.hooks.FLOAT32_REASON,
    )


def _card(model: Model) -> Card:
    return Card(
        folder=model.folder,
        family=model.name,
        space=model.space,
        limit=model.preparer.limit,
        prompts=model.prompts,
        default_prompt=model.default_prompt,
        normalizes=model.head.normalizes,
        parameters=sum(int(np.prod(tensor.shape)) for tensor in model.tensors.values()),
        stored=model.stored,
    )


def _trial(model: Model, trials: Path) -> Precision:
    from omnivec.ops import openvino

    model_key = f"{model.name} {model.config.dim}"
    key = f"{runtime.cpu_name()} | openvino {openvino.version()} | {model_key}"
    return runtime.kept_trial(trials, key, lambda: _measure(model))


def _measure(model: Model) -> Mapping[Precision, float]:
    """Measures the seconds for the same batch in both precisions, interleaved; the best of five runs each."""
    compile_program = _compiler("openvino")
    sample = model.preparer.sample()
    batch = {i.name: sample[i.name] for i in model.inputs}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    best = dict.fromkeys(precisions, float("inf"))
    candidates = {
        precision: compile_program(model.body, model.inputs, model.tensors, EngineSettings(precision))
        for precision in precisions
    }
    for _ in range(5):
        for precision, executable in candidates.items():
            start = time.perf_counter()
            executable.run(batch)
            best[precision] = min(best[precision], time.perf_counter() - start)
    return best


def _ones(inputs: Sequence[Input], rows: int, length: int) -> dict[str, NDArray[Any]]:
    """Makes a batch of `rows` items of a length, whose values are all 1."""
    shapes = {
        i.name: [size or (length if axis == 0 else 1) for axis, size in enumerate(i.shape[1:])]
        for i in inputs
    }
    return {i.name: np.ones((rows, *shapes[i.name]), i.dtype) for i in inputs}


def _engine_version(engine: runtime.EngineName) -> str:
    if engine == "openvino":
        from omnivec.ops import openvino

        return openvino.version()
    from importlib.metadata import version

    return version("torch")


Compiler = Callable[[Program, Sequence[Input], Mapping[str, Stored], EngineSettings], Executable]


def _compiler(engine: runtime.EngineName) -> Compiler:
    if engine == "torch":
        from omnivec.ops import torch

        return torch.compile_program
    from omnivec.ops import openvino

    return openvino.compile_program
