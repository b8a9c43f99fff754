"""Facts about the recorded spaces of a collection: what their models read, and why a query cannot search them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast, get_args

from omnivec.collection import identity
from omnivec.errors import UnsupportedModel
from omnivec.inputs.modality import modalities as known_modalities
from omnivec.inputs.modality import readable, written
from omnivec.models.embedder import Embedder
from omnivec.store.records import ACTIVE, SpaceRecord
from omnivec.types import Metric, ModalityName

ROLE, PLACE, CUT_FOR = "in_place_of", "place", "cut_for"
"""What a migration records in the provenance of the space that it fills: the name of the space whose place it takes, or
that this one had taken before; the place of that one in the order of spaces; and modality -> the length limit for which
documents were cut into passages, which stay as they are."""


@dataclass(frozen=True)
class Writer:
    """The name of a space, and the model that makes its vectors."""

    space: str
    model: Embedder


def described(
    name: str, called: str, made: Mapping[str, Any], model: Embedder, stored: tuple[ModalityName, ...]
) -> SpaceRecord:
    """Returns the record of a space that a model makes.

    Args:
        name: of the space.
        called: the name or folder by which the model is recorded.
        made: the model's identity.
        model: the model.
        stored: the modalities of the items that are embedded into the space.

    Raises:
        UnsupportedModel: a collection does not support the metric of the model.
    """
    if model.metric not in get_args(Metric):
        raise UnsupportedModel(
            f"the metric of {called} is {model.metric!r}; a collection supports {', '.join(get_args(Metric))}"
        )
    facts = {**model.provenance, "modalities": [one for one in readable() if one in model.modalities]}
    canaries = identity.canaries_of(model)
    return SpaceRecord(
        name, called, model.dim, model.metric, made, facts, canaries, modalities=stored, kind=model.space.kind
    )


def role(space: SpaceRecord) -> str:
    """Returns the name under which a space's vectors were first recorded, by whatever model: usually its own."""
    return str(space.provenance.get(ROLE, space.name))


def current(records: Mapping[str, SpaceRecord], name: str) -> str:
    """Returns the name of the active space that has taken the place of a retired one; else the name itself."""
    asked = records.get(name)
    if asked is not None and asked.state == ACTIVE:
        return name
    wanted = name if asked is None else role(asked)
    return next((one.name for one in records.values() if one.state == ACTIVE and role(one) == wanted), name)


def holding(records: Mapping[str, SpaceRecord], modality: ModalityName) -> list[SpaceRecord]:
    """Returns the active spaces into which items of a modality are embedded, the oldest first.

    A space that has taken the place of another is as old as that one.
    """
    numbers = {name: number for number, name in enumerate(records)}
    active = [one for one in records.values() if modality in one.modalities and one.state == ACTIVE]
    return sorted(
        active, key=lambda one: (one.provenance.get(PLACE, numbers[one.name]), PLACE not in one.provenance)
    )


def is_readable(space: SpaceRecord) -> bool:
    """Whether the fields of a record that are used here exist and have the right types."""
    if not space.model:  # vectors that the user brings have no model
        return not space.modalities
    recorded, listed = space.identity, space.provenance.get("modalities", [])
    limits = space.provenance.get(CUT_FOR, {})
    if not isinstance(limits, Mapping) or not all(type(one) in (int, float) for one in limits.values()):
        return False
    if type(space.provenance.get(ROLE, "")) is not str or type(space.provenance.get(PLACE, 0)) is not int:
        return False
    parts = [recorded.get("weights"), recorded.get("preprocessing", {}), recorded.get("towers", {})]
    return (
        all(isinstance(part, Mapping) for part in parts)
        and type(recorded.get("preprocessing", {}).get("limit", 1)) in (int, float)
        and isinstance(listed, list)
        and all(isinstance(one, str) for one in listed)
    )


def reads(space: SpaceRecord) -> tuple[ModalityName, ...]:
    """Returns the modalities that the model of a space reads; if they are not recorded, by its identity."""
    if not space.model:
        return ()
    modalities = space.provenance.get("modalities") or [written(), *space.identity.get("towers", ())]
    return tuple(cast(list[ModalityName], modalities))


def rivals(modalities: Collection[ModalityName]) -> list[str]:
    """Returns the names of all spaces, named by their modalities, that would share one of these."""
    all_of_them = readable()
    counts = range(1, len(all_of_them) + 1)
    return [
        "+".join(parts)
        for n in counts
        for parts in combinations(all_of_them, n)
        if not set(modalities).isdisjoint(parts)
    ]


def joint_model(modalities: set[str]) -> str:
    """Returns a model that embeds some modalities, for messages; "MODEL" if none is known."""
    records = [known_modalities()[one] for one in modalities if one in known_modalities()]
    known = (one.joint_model for one in records if modalities <= {one.name, written()})
    return next(filter(None, known), "MODEL")


def recorded_limit(space: SpaceRecord, modality: ModalityName) -> float | None:
    """Returns the length limit of a space's model for a modality, in its unit; None if it is not recorded."""
    made = space.identity
    if modality in made.get("towers", {}):
        made = made["towers"][modality]
    elif reads(space)[0] != modality:  # the other facts are those of the first modality
        return None
    limit = made.get("preprocessing", {}).get("limit")
    return limit if type(limit) in (int, float) else None


def closed_line(space: SpaceRecord, vectors: int, modality: ModalityName) -> str:
    """Says in one line that a space was not searched, why, and how to change that."""
    joint, modalities = joint_model({modality, *space.modalities}), space.modalities
    option = joint if written() in modalities else f"{modalities[0]}={joint}"
    such = f"{joint} or one" if joint != "MODEL" else "one"
    return (
        f"the space {space.name!r} ({vectors:,} vector{'s' if vectors != 1 else ''}) cannot be searched by {modality}: "
        f"its model {space.model} does not read {modality}; a joint model does, such as {such} made by "
        f"`omnivec train align`: omnivec index --collection NEW --model {option} PATHS"
    )
