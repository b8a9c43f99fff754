"""Names to embedders: what `omnivec.load` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from omnivec import hub, progress
from omnivec.errors import ModelError, UsageError
from omnivec.files import locked
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.items import shown
from omnivec.models import registry
from omnivec.models.embedder import DEFAULT_MODEL, Embedder
from omnivec.models.joint_folder import SIDES, is_joint, read_joint
from omnivec.models.model import Model, read_models
from omnivec.models.network import Choice, Compiled, keep_below
from omnivec.models.table import Rows, TableModel, is_table, read_table_model
from omnivec.models.towers import Program, Towers
from omnivec.ops.memory import parse_size
from omnivec.tables.record import ERRORS
from omnivec.types import Decode
from omnivec.validation import arguments
from omnivec.weights.folder_writer import recover


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
    source = _name(model)
    offline = None if offline is None else arguments.flag("offline", offline)
    choice = _choice(engine, precision, device, threads, deterministic, max_memory, decode)
    resolved = hub.resolve(
        source, known=registry.known(), offline=offline, progress=progress.DownloadBar(), say=_say
    )
    if resolved.folder.is_dir():
        recover(resolved.folder)
    with locked(resolved.folder, shared=True):  # nobody replaces its files meanwhile
        program = _program(resolved.folder, choice, offline, _rows(resolved, limit, errors))
    _refuse_unmeant(resolved.name, program, choice, decode)
    if choice.max_memory is not None:
        keep_below(choice.max_memory, _networks(program))
    embedder = _kind(program)(program, resolved.name, resolved.source, dim)
    _say_notes(resolved.name, program, errors)
    return embedder


def _kind(program: Program) -> type[Embedder]:
    """What a user holds of a program; what only some programs need is imported for them alone."""
    if isinstance(program, TableModel):
        from omnivec.models.keyed import KeyedEmbedder

        return KeyedEmbedder
    if isinstance(program, Towers):
        from omnivec.models.joint import JointEmbedder, JointTowers

        return JointEmbedder if isinstance(program, JointTowers) else Embedder
    return Embedder


def _say_notes(name: str, program: Program, errors: str | None) -> None:
    """On stderr: what a model's files do not say, or say of things that it has not."""
    _say_pooling(name, program)
    _say_undecoded(name, program, errors)
    for network in _networks(program):
        _say_beyond(name, network.model)


def _rows(resolved: hub.Resolved, limit: int | None, errors: str | None) -> Rows | None:
    """Which rows of a table are asked for; None for the usual ones, and UsageError for a model that has no rows."""
    if limit is None and errors is None:
        return None
    if not is_table(resolved.folder):
        option = "limit" if limit is not None else "errors"
        raise UsageError(f"{option}= is for tables of keys, and {resolved.name} is none: leave it out")
    return Rows(
        None if limit is None else arguments.whole("limit", limit),
        "replace" if errors is None else arguments.choice("errors", errors, ERRORS),
    )


def _say_undecoded(name: str, program: Program, errors: str | None) -> None:
    """How many keys of a table are no UTF-8, unless it was said what is to become of them."""
    if isinstance(program, TableModel) and program.table.undecoded and errors is None:
        _say(
            f"{name}: {program.table.undecoded:,} of {len(program.table):,} keys are no UTF-8, and were read "
            'with U+FFFD in place of what is none (errors="ignore" leaves it out, errors="strict" refuses the table)'
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
    max_memory: int | str | None,
    decode: Decode | None,
) -> Choice:
    """What a user fixes about execution, checked."""
    for name, given in (("engine", engine), ("precision", precision), ("device", device)):
        if given is not None:
            arguments.text(name, given)
    return Choice(
        engine,
        precision,
        device,
        None if threads is None else arguments.whole("threads", threads),
        arguments.flag("deterministic", deterministic),
        None if max_memory is None else parse_size(max_memory),
        "reduced" if decode is None else arguments.choice("decode", decode, get_args(Decode)),
    )


def _refuse_unmeant(name: str, program: Program, choice: Choice, decode: Decode | None) -> None:
    """UsageError where an option was given that the model cannot obey."""
    modalities = program.model.space.modalities
    if decode is not None and "image" not in modalities:
        raise UsageError(
            f"decode={decode!r} is an option of images, and {name} reads {' and '.join(modalities)} alone: leave it out"
        )
    if not isinstance(program, TableModel):
        return
    given = {
        "engine": choice.engine,
        "precision": None if choice.precision == "float32" else choice.precision,
        "device": None if choice.device == "cpu" else choice.device,
        "max_memory": choice.max_memory,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option}={value!r} is an option of networks, and {name} is a table, which computes nothing: leave it "
                "out"
            )


def _program(folder: Path, choice: Choice, offline: bool | None = None, rows: Rows | None = None) -> Program:
    """What runs the model in a folder."""
    if is_table(folder):
        return read_table_model(folder, choice.threads, rows)
    if is_joint(folder):
        from omnivec.models.joint import JointTowers

        joint = read_joint(folder)
        if lacking := [side for side in SIDES if not (folder / side).is_dir()]:
            raise ModelError(f"{folder / lacking[0]} is missing: the joint model's folder is incomplete")
        return JointTowers.of_sides(
            [_program(folder / side, choice, offline) for side in SIDES], joint, folder
        )
    models = {
        modality: _reading(model, choice.decode) for modality, model in read_models(folder, offline).items()
    }
    trials = hub.cache_folder() / "trials.json"
    if len(models) > 1:
        return Towers.of(models, choice, trials)
    [only] = models.values()
    return Compiled(only, choice, trials)


def _reading(model: Model, decode: Decode) -> Model:
    """A model that decodes as asked; one of texts as it is."""
    if not isinstance(model.preparer, ImagePreparer):
        return model
    return replace(model, preparer=replace(model.preparer, exact=decode == "exact"))


def _say_pooling(name: str, program: Program) -> None:
    """Says how the tokens of a model that does not say it become one vector."""
    if isinstance(program, Compiled) and not program.model.head.stated:
        taken = {"mean": "their mean", "lasttoken": "the last of them", "cls": "the first of them"}
        pooling = program.model.head.pooling[0]
        _say(
            f"{name} does not say how tokens become one vector (no modules.json): "
            f"{taken.get(pooling, pooling)} is taken"
        )


def _say_beyond(name: str, model: Model) -> None:
    """Says which tokens of a model's tokenizer it has no row for, where there are any."""
    if isinstance(model.preparer, ImagePreparer) or not (lacking := model.preparer.beyond):
        return
    few = ", ".join(f"{token!r} ({index:,})" for token, index in list(lacking.items())[:3])
    more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
    _say(
        f"{name}: its tokenizer knows tokens beyond the {model.preparer.vocab_size:,} rows of its table, {few}{more}: "
        "a text with one of them fails, by itself"
    )


def _networks(program: Program) -> list[Compiled]:
    """What of a model takes memory for batches."""
    if isinstance(program, Towers):
        return program.networks
    return [program] if isinstance(program, Compiled) else []


def _say(line: str) -> None:
    """What a load did over the network, on stderr; a model that is at hand is loaded in silence."""
    if not line.startswith("found"):
        progress.say(line)
