"""Names to embedders: what `omnivec.load` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from omnivec import hub, progress
from omnivec.errors import ModelError, UsageError
from omnivec.files import locked
from omnivec.inputs.items import shown
from omnivec.inputs.modality import get, modalities, plural
from omnivec.models import registry
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
from omnivec.types import Decode
from omnivec.validation import arguments
from omnivec.weights.folder_writer import recover

if TYPE_CHECKING:
    from omnivec.models.memory import Ceiling


def load(  # noqa: PLR0913 - each is an option of its own, by name
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    deterministic: bool = False,
    dim: int | None = None,
    max_memory: int | str | None = None,
    decode: Decode | None = None,
    offline: bool | None = None,
    limit: int | None = None,
    errors: str | None = None,
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
        decode: of JPEG files: "reduced" at the smallest size that is at least twice what the model sees, as where
            nothing is given; "exact" whole.
        offline: never ask a network; None follows HF_HUB_OFFLINE.
        limit: of a table of keys, read the first so many rows; None for all.
        errors: of a table's keys that are no UTF-8: "replace" (the default) reads them with U+FFFD in place of what is
            none and says how many they are, "ignore" without it, "strict" refuses the table.

    Raises:
        ModelError: `max_memory` has no room for the model and one item of the greatest length.
        ModelNotFound: no source has it; the message lists what each said.
        UnsupportedModel: no family covers its form.
        UsageError: an option that is none of those there are, or that the model cannot obey: `decode` where it reads no
            images; of a table, which computes nothing, an engine, a device, a precision or a ceiling of memory; `limit`
            or `errors` of a model that is no table of keys.
        WeightsError: its weights are damaged or do not fit.
    """
    source, offline = _name(model), None if offline is None else arguments.flag("offline", offline)
    choice = _choice(engine, precision, device, threads, deterministic, decode)
    ceiling = None if max_memory is None else _ceiling(max_memory, choice)
    resolved = hub.resolve(
        source, known=registry.known(), offline=offline, progress=progress.DownloadBar(), say=_say
    )
    if resolved.folder.is_dir():
        recover(resolved.folder)
    rows = _rows(resolved, limit, errors)
    with locked(resolved.folder, shared=True):  # nobody replaces its files meanwhile
        embedder_class, encoder = _read(resolved.folder, choice, offline, rows, ceiling)
    _refuse_unmeant(resolved.name, encoder, choice, decode, max_memory)
    if ceiling is not None:
        ceiling.keep()
    embedder = embedder_class(encoder, resolved.name, resolved.source, dim)
    _say_notes(resolved.name, encoder, errors)
    return embedder


def _read(
    folder: Path, choice: Choice, offline: bool | None, rows: RowSelection | None, ceiling: Ceiling | None
) -> tuple[type[Embedder], Encoder]:
    """The model in a folder, and what a user holds it by; what only some models need is imported for them alone."""
    if is_table(folder):
        from omnivec.models.keyed import KeyedEmbedder

        return KeyedEmbedder, read_table_model(folder, choice.threads, rows)
    if is_joint(folder):
        from omnivec.models.joint import JointEmbedder, joined

        joint = read_joint(folder)
        if lacking := [side for side in SIDES if not (folder / side).is_dir()]:
            raise ModelError(f"{folder / lacking[0]} is missing: the joint model's folder is incomplete")
        sides = [_read(folder / side, choice, offline, None, ceiling)[1] for side in SIDES]
        return JointEmbedder, joined(sides, joint, folder)
    networks: dict[str, Network] = {
        modality: _network(model, choice, ceiling)
        for modality, model in read_models(folder, offline, choice.decode).items()
    }
    if len(networks) > 1:
        return Embedder, Towers.of(networks)
    [only] = networks.values()
    return Embedder, only


def _ceiling(max_memory: int | str, choice: Choice) -> Ceiling:
    from omnivec.models.memory import Ceiling  # Few ask for one.

    return Ceiling(parse_size(max_memory), choice, trials_file())


def _network(model: Model, choice: Choice, ceiling: Ceiling | None) -> Network:
    """A model on its engine."""
    return Network.of(model, choice, trials_file()) if ceiling is None else ceiling.network(model)


def _say_notes(name: str, encoder: Encoder, errors: str | None) -> None:
    for line in _notes(encoder, errors):
        _say(f"{name}{line}")


def _notes(encoder: Encoder, errors: str | None) -> Iterator[str]:
    """What a model's files do not say, or say of things that it has not; each goes behind its name."""
    if encoder.card.undecoded and errors is None:
        yield (
            f": {encoder.card.undecoded} keys are no UTF-8, and were read with U+FFFD in place of what is none "
            '(errors="ignore" leaves it out, errors="strict" refuses the table)'
        )
    for network in encoder.networks:
        head = network.model.head
        if network is encoder and not head.stated:
            taken = {"mean": "their mean", "lasttoken": "the last of them", "cls": "the first of them"}
            yield (
                f" does not say how tokens become one vector (no modules.json): "
                f"{taken.get(head.pooling[0], head.pooling[0])} is taken"
            )
        if beyond := _beyond(network.model):
            yield beyond


def _rows(resolved: hub.Resolved, limit: int | None, errors: str | None) -> RowSelection | None:
    """Which rows of a table are asked for; None for the usual ones, and UsageError for a model that has no rows."""
    if limit is None and errors is None:
        return None
    if not is_table(resolved.folder):
        option = "limit" if limit is not None else "errors"
        raise UsageError(f"{option}= is for tables of keys, and {resolved.name} is none: leave it out")
    return RowSelection(
        None if limit is None else arguments.whole("limit", limit),
        "replace" if errors is None else arguments.choice("errors", errors, ERRORS),
    )


def _name(model: Any) -> str | Path:
    """What is to be loaded; UsageError where it is no name and no folder."""
    if isinstance(model, str | Path):
        return model
    loaded = "; it is loaded already" if isinstance(model, Embedder) else ""
    raise UsageError(f"model is {shown(model)}{loaded}: give a name or a folder")


def _choice(
    engine: str | None,
    precision: str | None,
    device: str | None,
    threads: int | None,
    deterministic: bool,
    decode: Decode | None,
) -> Choice:
    """What a user fixes about execution, checked."""
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


def _refuse_unmeant(
    name: str, encoder: Encoder, choice: Choice, decode: Decode | None, max_memory: int | str | None
) -> None:
    """UsageError where an option was given that the model cannot obey."""
    reads = encoder.card.space.modalities
    if decode is not None and not any("decode" in get(modality).load_options for modality in reads):
        owners = [record.name for record in modalities().values() if "decode" in record.load_options]
        raise UsageError(
            f"decode={decode!r} is an option of {plural(owners)}, and {name} reads {' and '.join(reads)} alone: "
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
    """Which tokens of a model's tokenizer it has no row for; "" where there are none."""
    if not get(model.preparer.modality).needs_tokenizer or not (lacking := model.texts.beyond):
        return ""
    few = ", ".join(f"{token!r} ({index:,})" for token, index in list(lacking.items())[:3])
    more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
    return (
        f": its tokenizer knows tokens beyond the {model.texts.vocab_size:,} rows of its table, {few}{more}: "
        "a text with one of them fails, by itself"
    )


def _say(line: str) -> None:
    """What a load did over the network, on stderr; a model that is at hand is loaded in silence."""
    if not line.startswith("found"):
        progress.say(line)
