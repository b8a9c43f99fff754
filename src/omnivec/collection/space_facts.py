"""Facts about the recorded spaces of a collection: what their models read, and why a query cannot search them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import cast

from omnivec.inputs.modality import modalities as known_modalities
from omnivec.inputs.modality import readable, written
from omnivec.store.records import SpaceRecord
from omnivec.types import ModalityName


def is_readable(space: SpaceRecord) -> bool:
    """Whether the fields of a record that are used here exist and have the right types."""
    if not space.model:  # vectors that the user brings have no model
        return not space.modalities
    recorded, listed = space.identity, space.provenance.get("modalities", [])
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
