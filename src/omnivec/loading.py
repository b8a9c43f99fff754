"""Names to embedders: what `omnivec.load` does."""

from __future__ import annotations

import sys
from pathlib import Path

from omnivec import hub, progress, registry
from omnivec.compiled import Choice, Compiled
from omnivec.embedder import DEFAULT_MODEL, Embedder
from omnivec.keyed import KeyedEmbedder
from omnivec.lookup import is_table, read_table_model
from omnivec.model import read_models
from omnivec.ops.memory import parse_size
from omnivec.towers import Towers


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    deterministic: bool = False,
    dim: int | None = None,
    max_memory: int | str | None = None,
    offline: bool | None = None,
) -> Embedder:
    """Loads a model.

    Args:
        model: a known short name, a folder, "hf:org/name", "pypi:package"; see docs/load.md.
        engine: "openvino" (CPU) or "torch"; chosen by itself when not given, as are the next three.
        precision: "float32", "bfloat16", or "int8": matrices in a quarter of the memory, see `precision_loss`.
        device: "cpu", "cuda", "cuda:1".
        threads: CPU threads to use.
        deterministic: vectors that depend on their item alone, bit by bit: not on batch, order or threads. Slower.
        dim: only the first so many components of each vector.
        max_memory: bytes, or a text such as "2GB", that the process shall stay below: batches obey it.
        offline: never ask a network; None follows HF_HUB_OFFLINE.

    Raises:
        ModelError: `max_memory` has no room for the model and one item of the greatest length.
        ModelNotFound: no source has it; the message lists what each said.
        UnsupportedModel: no family covers its form.
        WeightsError: its weights are damaged or do not fit.
    """
    resolved = hub.resolve(
        model, known=registry.known(), offline=offline, progress=progress.DownloadBar(), say=_say
    )
    if is_table(resolved.folder):
        return KeyedEmbedder(read_table_model(resolved.folder, threads), resolved.name, resolved.source, dim)
    ceiling = None if max_memory is None else parse_size(max_memory)
    choice = Choice(engine, precision, device, threads, deterministic, ceiling)
    models, trials = read_models(resolved.folder), hub.cache_folder() / "trials.json"
    if len(models) > 1:
        return Embedder(Towers.of(models, choice, trials), resolved.name, resolved.source, dim)
    [only] = models.values()
    compiled = Compiled(only, choice, trials)
    if not compiled.model.head.stated:
        taken = {"mean": "their mean", "lasttoken": "the last of them", "cls": "the first of them"}
        pooling = compiled.model.head.pooling[0]
        _say(
            f"{resolved.name} does not say how tokens become one vector (no modules.json): "
            f"{taken.get(pooling, pooling)} is taken"
        )
    return Embedder(compiled, resolved.name, resolved.source, dim)


def _say(line: str) -> None:
    """What a load did over the network, on stderr; a model that is at hand is loaded in silence."""
    if not line.startswith("found"):
        print(f"omnivec: {line}", file=sys.stderr)  # noqa: T201
