"""Joint models: two models, each with a learned head that maps its vectors into a common space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError
from omnivec.inputs.modality import names
from omnivec.models.embedder import Embedder
from omnivec.models.encoder import Encoder
from omnivec.models.joint_folder import MODEL_TYPE, Joint, write_joint
from omnivec.models.projected import Projected
from omnivec.models.towers import Together, Towers
from omnivec.types import Space
from omnivec.vectors.alignment import Projection
from omnivec.weights.card import CARD, Training, card_of

KIND = "joint model"


class JointEmbedder(Embedder):
    """A loaded joint model; made by `omnivec.load` and by the recipe `align`."""

    encoder: Towers

    @property
    def left(self) -> Embedder:
        """The left model, with vectors in the joint space."""
        return self._side("left")

    @property
    def right(self) -> Embedder:
        """The right model, with vectors in the joint space."""
        return self._side("right")

    @property
    def scale(self) -> float:
        """Factor of the cosines between the two sides in a softmax; see `vectors.labels.zero_shot`."""
        scale, _ = self.encoder.card.logits or (1.0, None)
        return scale

    @classmethod
    def of(cls, left: Embedder, right: Embedder, joint: Joint) -> JointEmbedder:
        """Joins two loaded models by heads that were trained."""
        towers = joined((left.encoder, right.encoder), joint, None)
        return cls(towers, f"{left.name} and {right.name}, aligned", "trained here: align")

    def _side(self, name: str) -> Embedder:
        return Embedder(self.encoder.sides[name], f"{self.name} .{name}", self.source, self.dim)


def joined(encoders: Sequence[Encoder], joint: Joint, place: Path | None) -> Towers:
    """Joins the left and the right model, each followed by its head.

    Args:
        encoders: the left and the right model.
        joint: heads and scale, and how they were trained.
        place: folder of the joint model; None if it was just trained.

    Raises:
        ModelError: a head was trained on longer vectors, or a side is a joint model itself.
    """
    sides = {
        name: _headed(encoder, Projection(side.layers), f"{place or 'the joint model'}: {name}")
        for encoder, (name, side) in zip(encoders, joint.sides.items(), strict=True)
    }
    return Towers(sides, _together(sides, joint, place))


def _headed(encoder: Encoder, head: Projection, what: str) -> Projected:
    """Adds a head to a model, after checking that they fit."""
    if encoder.card.family == MODEL_TYPE:
        raise ModelError(f"{what} is itself a joint model: join single models")
    dim, taken = encoder.card.space.dim, head.dims[0]
    if dim < taken:
        raise ModelError(
            f"{what}: its head needs {taken} components, but its model has {dim}: they do not fit"
        )
    return Projected(encoder, head, KIND)


def _together(sides: Mapping[str, Projected], joint: Joint, place: Path | None) -> Together:
    """Returns the properties of the joint model."""
    read = {modality: side for side in sides.values() for modality in side.card.space.modalities}
    modalities = sorted(read, key=names().index)
    first = read[modalities[0]].card
    heads = sum(weight.size + bias.size for side in sides.values() for weight, bias in side.projection.layers)
    card = replace(
        first,
        folder=place or Path(),
        family=MODEL_TYPE,
        space=Space(first.space.dim, first.space.metric, tuple(modalities)),
        parameters=heads + sum(side.card.parameters for side in sides.values()),
        stored=place is not None,
        logits=(joint.scale, None),
        side_of="",
    )
    return Together(card, _identity, partial(_facts, joint), partial(_write, joint))


def _identity(towers: Towers) -> dict[str, Any]:
    """Returns the identity of the first tower, and those of both sides, with their weights combined into one hash."""
    identities = {name: dict(side.identity) for name, side in towers.sides.items()}
    left, right = (side.pop("weights") for side in identities.values())
    # One hash for each precision for which both sides have one.
    both = {grid: _digest(left[grid] + right[grid]) for grid in left if grid in right}
    return {**towers.first.identity, "family": MODEL_TYPE, "weights": both, "sides": identities}


def _facts(joint: Joint, towers: Towers) -> dict[str, Any]:
    """Returns how both sides run on this machine, and how they were joined."""
    listed = {
        name: {
            "name": joint.sides[name].name,
            "family": side.card.family,
            "modalities": list(side.card.space.modalities),
            "parameters": side.card.parameters,
            "head": [joint.sides[name].layers[0][0].shape[1]]
            + [weight.shape[0] for weight, _ in joint.sides[name].layers],
            **side.facts(),
        }
        for name, side in towers.sides.items()
    }
    whole = {name: value for name, value in towers.provenance().items() if name != "omnivec"}
    return {**whole, "scale": joint.scale, "training": dict(joint.training), "sides": listed}


def _write(joint: Joint, towers: Towers, folder: Path, training: Training | None) -> None:
    """Writes both models and the heads in the layout of `models.joint_folder`."""
    for name, side in towers.sides.items():
        side.write(folder / name, None)
    write_joint(joint, folder)
    (folder / CARD).write_bytes(card_of(towers.card.folder, towers.card.stored, training))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
