"""How a family of networks for sounds is run on its own, with any forward function, and held against a reference."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from encoders import ENGINES
from omnivec import weights
from omnivec.families._hooks import computed_hooks
from omnivec.models.model import check_shapes, known_keys, read_config
from omnivec.ops.base import EngineSettings, Executable, Input
from omnivec.weights.tensor import Tensor, from_array

Forward = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class SoundModel:
    """A family with a config and weights, as `read_model` makes them of a folder."""

    family: ModuleType
    config: Any
    tensors: Mapping[str, Tensor]

    @functools.cached_property
    def processing(self) -> Any:
        return computed_hooks(self.family).sound(self.config, {})

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Forward, precision: Any) -> Executable:
        """All hidden states, then what the forward returns."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=get("mask"))
            last = forward(ops, p, self.config, batch)
            return {str(i): state for i, state in enumerate([*ops.states, last])}

        rows = self.processing.features.rows
        inputs = [
            Input("sound", np.float32, (None, None, *rows)),
            Input("lengths", np.int32, (None,)),
            Input("mask", np.int32, (None, None)),
        ]
        return ENGINES[engine](program, inputs, self.tensors, EngineSettings(precision, threads=1))

    def states(
        self,
        engine: str,
        sounds: list[np.ndarray],
        forward: Forward | None = None,
        precision: Any = "float32",
        padding: int = 0,
    ) -> list[np.ndarray]:
        """All hidden states of rows (t, *rows) of sounds, then what the forward returns.

        The rows are padded with zeros to the longest, and by `padding` rows more.
        """
        lengths = [len(sound) for sound in sounds]
        longest = max(lengths) + padding
        batch = np.zeros((len(sounds), longest, *sounds[0].shape[1:]), np.float32)
        for row, sound in zip(batch, sounds, strict=True):
            row[: len(sound)] = sound
        count = self.processing.states or (lambda rows: 1)
        real = np.array([count(length) for length in lengths])
        mask = (np.arange(count(longest)) < real[:, None]).astype(np.int32)
        found = self.executable(engine, forward or self.family.forward, precision).run(
            {"sound": batch, "lengths": np.array(lengths, np.int32), "mask": mask}
        )
        return [found[str(i)] for i in range(len(found))]

    def vectors(self, engine: str, sounds: list[np.ndarray], **how: Any) -> np.ndarray:
        """The mean over the states of each sound: (n, dim)."""
        last = self.states(engine, sounds, **how)[-1]
        count = self.processing.states or (lambda rows: 1)
        return np.stack([row[: count(len(sound))].mean(0) for row, sound in zip(last, sounds, strict=True)])


def read_sound_model(
    family: ModuleType, published: Mapping[str, Any], source: Path | Mapping[str, torch.Tensor]
) -> SoundModel:
    """A published config and weights: a folder, in the publisher's own layout too, or a state dict of torch."""
    hooks = computed_hooks(family)
    if isinstance(source, Path):
        original = hooks.load_original(source, known_keys(family, published, source))
        published, stored, _ = original or (published, weights.read(source), None)
    else:
        named = {name: from_array(name, value.numpy()) for name, value in source.items()}
        stored = weights.Weights({name: dataclasses.replace(t, name=name) for name, t in named.items()})
    folder = source if isinstance(source, Path) else Path("folder")
    config = read_config(family, published, folder)
    tensors = dict(weights.rename(weights.strip_prefixes(stored, hooks.PREFIXES), hooks.LAYOUTS))
    tensors, config = hooks.adapt_weights(tensors, config)
    check_shapes(hooks.SHAPES or {}, config, tensors, folder)
    return SoundModel(family, config, tensors)
