"""`omnivec.load`: finds a model by its name and makes an embedder of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

from omnivec import hub, progress
from omnivec.errors import ModelError, UsageError
from omnivec.files import locked
from omnivec.inputs.items import shown
from omnivec.inputs.modality import get, modalities, plural
from omnivec.models import registry, variants
from omnivec.models.embedder import DEFAULT_MODEL, Embedder
from omnivec.models.encoder import Encoder
from omnivec.models.joint_folder import SIDES, is_joint, read_joint
from omnivec.models.model import Model, read_models
from omnivec.models.network import Choice, Network
from omnivec.models.runtime import trials_file
from omnivec.models.table import RowSelection, is_table, read_table_model
from omnivec.models.towers import Towers
from omnivec.ops.process import parse_size
from omnivec.tables.record import ERRORS
from omnivec.types import DENSE, Decode
from omnivec.validation import arguments
from omnivec.weights.folder_writer import recover

if TYPE_CHECKING:
    from omnivec.models.memory import Ceiling


def load(  # noqa: PLR0913 - independent options, keyword-only
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    threads: SupportsIndex | None = None,
    deterministic: bool = False,
    dim: SupportsIndex | None = None,
    max_memory: int | str | None = None,
    decode: Decode | None = None,
    offline: bool | None = None,
    limit: SupportsIndex | None = None,
    errors: str | None = None,
    layer: SupportsIndex | str | None = None,
    fast: bool | None = None,
) -> Embedder:
    """Loads a model.

    Args:
        model: a known short name, a folder, "hf:org/name" or "pypi:package"; see docs/load.md.
        engine: "openvino" (CPU) or "torch"; None chooses automatically, also for the next three options.
        precision: "float32", "bfloat16", or "int8", which needs a quarter of the memory; see `precision_loss`.
        device: "cpu", "cuda" or "cuda:1".
        threads: number of CPU threads.
        deterministic: whether a vector must depend on its item alone, bit by bit, not on batch or threads; slower.
        dim: number of leading components of each vector to keep; None keeps all.
        max_memory: memory limit of the process in bytes, or a text such as "2GB".
        decode: how to decode JPEG files: "reduced" (default) to at least twice the model's input size, or "exact".
        offline: True never uses the network; None follows HF_HUB_OFFLINE.
        limit: for a table of keys, number of leading rows to read; None reads all.
        errors: how to decode keys of a table that are not UTF-8: "replace" (default), "ignore" or "strict".
        layer: for a network of sounds, the hidden state to pool, 0 for the embeddings; also in a name, "NAME[layer=3]".
        fast: for Whisper, whether sounds are not padded to 30 s, which gives other vectors; also "NAME[layer=3,fast]".

    Returns:
        The embedder: a `KeyedEmbedder` for a table, else an `Embedder`.

    Raises:
        ModelError: the folder is incomplete, or `max_memory` is too small for the model and the longest item.
        ModelNotFound: no source has the model; the message lists the answer of each source.
        UnsupportedModel, UsageError: no family supports the model; an option is invalid, or does not apply to it.
        WeightsError: the weights are damaged, or do not match the config.

    Examples:
        >>> omnivec.load("all-MiniLM-L6-v2").space
        Space(dim=384, metric='cosine', modalities=('text',))
    """
    source, variant = variants.chosen(name_or_folder(model), {"layer": layer, "fast": fast})
    offline = None if offline is None else arguments.flag("offline", offline)
    choice = _choice(engine, precision, device, threads, deterministic, decode)
    ceiling = _ceiling(max_memory, choice)
    resolved = _resolve(source, offline, variants.suffix(variant))
    rows = _rows(resolved, limit, errors)
    with locked(resolved.folder, shared=True):  # so that no process replaces its files meanwhile
        embedder_class, encoder = _read(resolved.folder, choice, offline, rows, ceiling, variant)
    _refuse_inapplicable(resolved.name, encoder, choice, decode, max_memory)
    return _announced(embedder_class(encoder, resolved.name, resolved.source, dim), ceiling, errors)


def _resolve(source: str | Path, offline: bool | None, suffix: str) -> hub.Resolved:
    """Finds the folder of a model, and completes or undoes a save into it that was interrupted.

    The suffix, which names a variant, is appended to the name and the source.
    """
    resolved = hub.resolve(
        source, known=registry.known(), offline=offline, progress=progress.DownloadBar(), say=_say
    )
    if resolved.folder.is_dir():
        recover(resolved.folder)
    return replace(resolved, name=resolved.name + suffix, source=resolved.source + suffix)


def _read(
    folder: Path,
    choice: Choice,
    offline: bool | None,
    rows: RowSelection | None,
    ceiling: Ceiling | None,
    variant: Mapping[str, Any],
) -> tuple[type[Embedder], Encoder]:
    """Reads the model in a folder; returns the class of its embedder, and its encoder."""
    if variant and (is_table(folder) or is_joint(folder)):
        kind = "a table" if is_table(folder) else "a joint model"
        raise UsageError(
            f"{folder} is {kind}, which has no variants {variants.suffix(variant)}: leave them out"
        )
    if is_table(folder):
        from omnivec.models.keyed import KeyedEmbedder

        return KeyedEmbedder, read_table_model(folder, choice.threads, rows)
    if is_joint(folder):
        from omnivec.models.joint import JointEmbedder, joined

        joint = read_joint(folder)
        if lacking := [side for side in SIDES if not (folder / side).is_dir()]:
            raise ModelError(f"{folder / lacking[0]} is missing: the joint model's folder is incomplete")
        sides = [_read(folder / side, choice, offline, None, ceiling, {})[1] for side in SIDES]
        return JointEmbedder, joined(sides, joint, folder)
    networks: dict[str, Network] = {
        modality: _network(model, choice, ceiling)
        for modality, model in read_models(folder, offline, choice.decode, variant).items()
    }
    if len(networks) > 1:
        return Embedder, Towers.of(networks)
    [only] = networks.values()
    return Embedder, only


def _ceiling(max_memory: int | str | None, choice: Choice) -> Ceiling | None:
    if max_memory is None:
        return None
    from omnivec.models.memory import Ceiling  # imported here, since it is rarely needed

    return Ceiling(parse_size(max_memory), choice, trials_file())


def _network(model: Model, choice: Choice, ceiling: Ceiling | None) -> Network:
    """Puts a model on its engine."""
    return Network.of(model, choice, trials_file()) if ceiling is None else ceiling.network(model)


def _announced(embedder: Embedder, ceiling: Ceiling | None, errors: str | None) -> Embedder:
    """Returns an embedder, kept below a memory limit, after saying what is missing or inconsistent in its files."""
    if ceiling is not None:
        ceiling.keep()
    for line in _notes(embedder.encoder, errors):
        _say(f"{embedder.name}{line}")
    return embedder


def _notes(encoder: Encoder, errors: str | None) -> Iterator[str]:
    """Yields remarks about missing or inconsistent facts in the files of a model; each is put after its name."""
    if encoder.card.undecoded and errors is None:
        yield (
            f": {encoder.card.undecoded} keys are not UTF-8, and were read with U+FFFD in place of invalid bytes "
            '(errors="ignore" leaves these out, errors="strict" refuses the table)'
        )
    for network in encoder.networks:
        head = network.model.head
        if network is encoder and not head.stated:
            pooling = {"mean": "their mean", "lasttoken": "the last token", "cls": "the first token"}
            yield (
                f" does not say how tokens become one vector (no modules.json): "
                f"using {pooling.get(head.pooling[0], head.pooling[0])}"
            )
        if beyond := _beyond(network.model):
            yield beyond


def _rows(resolved: hub.Resolved, limit: SupportsIndex | None, errors: str | None) -> RowSelection | None:
    """Returns the options for reading a table; None if they are the default. UsageError if the model is not a table."""
    if limit is None and errors is None:
        return None
    if not is_table(resolved.folder):
        option = "limit" if limit is not None else "errors"
        raise UsageError(f"{option}= is for tables of keys, and {resolved.name} is not one: leave it out")
    return RowSelection(
        None if limit is None else arguments.whole("limit", limit),
        "replace" if errors is None else arguments.choice("errors", errors, ERRORS),
    )


def name_or_folder(model: Any) -> str | Path:
    """Checks that the argument `model` is a name or a folder."""
    if isinstance(model, str | Path):
        return model
    loaded = "; it is already loaded" if isinstance(model, Embedder) else ""
    raise UsageError(f"model is {shown(model)}{loaded}: give a name or a folder")


def _choice(
    engine: str | None,
    precision: str | None,
    device: str | None,
    threads: SupportsIndex | None,
    deterministic: bool,
    decode: Decode | None,
) -> Choice:
    """Checks and collects the options of execution."""
    for name, value in (("engine", engine), ("precision", precision), ("device", device)):
        if value is not None:
            arguments.text(name, value)
    return Choice(
        engine,
        precision,
        device,
        None if threads is None else arguments.whole("threads", threads),
        arguments.flag("deterministic", deterministic),
        "reduced" if decode is None else arguments.choice("decode", decode, get_args(Decode)),
    )


def _refuse_inapplicable(
    name: str, encoder: Encoder, choice: Choice, decode: Decode | None, max_memory: int | str | None
) -> None:
    """Raises UsageError if an option was given that does not apply to the model."""
    reads = encoder.card.space.modalities
    if decode is not None and not any("decode" in get(modality).load_options for modality in reads):
        owners = [record.name for record in modalities().values() if "decode" in record.load_options]
        raise UsageError(
            f"decode={decode!r} is an option of {plural(owners)}, but {name} reads only {' and '.join(reads)}: "
            "leave it out"
        )
    if encoder.networks:
        return
    options = {
        "engine": choice.engine,
        "precision": None if choice.precision == "float32" else choice.precision,
        "device": None if choice.device == "cpu" else choice.device,
        "max_memory": None if max_memory is None else parse_size(max_memory),
    }
    for option, value in options.items():
        if value is not None:
            raise UsageError(
                f"{option}={value!r} is an option of networks, and {name} is a table, which computes nothing: leave it "
                "out"
            )


def _beyond(model: Model) -> str:
    """Describes the tokens of a model's tokenizer that have no row in its embeddings; "" if there are none."""
    if not get(model.preparer.modality).needs_tokenizer or not (lacking := model.texts.beyond):
        return ""
    few = ", ".join(f"{token!r} ({index:,})" for token, index in list(lacking.items())[:3])
    more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
    return (
        f": its tokenizer has tokens beyond the {model.texts.vocab_size:,} rows of its embeddings, {few}{more}: "
        "a text that contains one of them fails"
    )


def _say(line: str) -> None:
    """Reports what a load did over the network; nothing is reported for a model that was found locally."""
    if not line.startswith("found"):
        progress.say(line)


def loaded(model: Any) -> Embedder:
    """The argument `model` of a task.

    Raises:
        UsageError: it is no embedder, for example a model's name; or one that gives no single vector for an item.
    """
    if not isinstance(model, Embedder):
        name = repr(model) if isinstance(model, str) else "..."
        raise UsageError(f"model={arguments.said(model)} is not an embedder: give omnivec.load({name})")
    if model.kind != DENSE:
        raise UsageError(
            f"{model.name} is of kind {model.kind!r}: this needs a model that gives one vector for each item"
        )
    return model
