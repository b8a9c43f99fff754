"""A joint model: two models and, for each, a learned head that brings its vectors into the space of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omnivec.errors import ModelError, UsageError
from omnivec.inputs.text.text import Reading
from omnivec.models.batching import Plan
from omnivec.models.embedder import Embedder
from omnivec.models.joint_folder import MODEL_TYPE, Joint, write_joint
from omnivec.models.model import Model
from omnivec.models.network import Compiled
from omnivec.models.saving import write_files
from omnivec.models.table import TableModel
from omnivec.models.towers import Logits, Program, Tower, Towers
from omnivec.tables.formats.own import write_own
from omnivec.types import Encoded, Floats, Modality, Prepared, Space
from omnivec.validation import arguments
from omnivec.vectors.alignment import Head
from omnivec.weights.card import CARD, card_of
from omnivec.weights.folder_writer import model_folder


@dataclass(frozen=True, eq=False, kw_only=True)
class Headed(Model):
    """A model whose vectors go through a head behind its own.

    Attributes:
        into: the head, from the model's vectors, or their first components, into the joint space.
    """

    into: Head

    @classmethod
    def of(cls, model: Model, head: Head) -> Headed:
        """The same model with a head."""
        own = {field.name: getattr(model, field.name) for field in fields(Model)}
        return cls(**own | {"metric": "cosine"}, into=head)

    @property
    def space(self) -> Space:
        """The joint space, as far as this model reaches into it."""
        return Space(self.into.dims[1], self.metric, (self.preparer.modality,))

    @property
    def normalizes(self) -> bool:
        """Whether its vectors have length 1."""
        return True

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its vectors what they are."""
        return super().identity | _of_head(self.into)


class HeadedCompiled(Compiled):
    """A model on an engine, with a head behind it."""

    model: Headed

    @classmethod
    def of(cls, compiled: Compiled, head: Head) -> HeadedCompiled:
        """The same programs with a head."""
        twin = cls.__new__(cls)
        twin.__dict__.update(compiled.__dict__)
        twin.model = Headed.of(compiled.model, head)
        return twin

    def at(self, precision: str) -> Compiled:
        """The same model on the same engine in another precision."""
        return HeadedCompiled.of(super().at(precision), self.model.into)

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) float32 of one batch."""
        return _through(self.model.into, super().compute(rows, alone))

    def finish(self, pooled: Floats) -> Floats:
        """Vectors (n, dim) of pooled states (n, width)."""
        return _through(self.model.into, super().finish(pooled))


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadedTable(TableModel):
    """A table with a head behind it.

    Attributes:
        into: the head.
    """

    into: Head

    @classmethod
    def of(cls, table: TableModel, head: Head) -> HeadedTable:
        """The same table with a head."""
        return cls(**{field.name: getattr(table, field.name) for field in fields(TableModel)}, into=head)

    @property
    def space(self) -> Space:
        """The joint space, as far as texts reach into it."""
        return Space(self.into.dims[1], self.metric, ("text",))

    @property
    def normalizes(self) -> bool:
        """Whether vectors of texts have length 1."""
        return True

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its vectors what they are."""
        return super().identity | _of_head(self.into)

    def run(self, items: Sequence[Any], reading: Reading, plan: Plan) -> Encoded:
        """Vectors of items, in their order, and why the others have none."""
        encoded = super().run(items, reading, plan)
        encoded.vectors = _through(self.into, encoded.vectors)
        return encoded


@dataclass(frozen=True, eq=False)
class JointTowers(Towers):
    """Two models with heads as the towers of one.

    Attributes:
        sides: "left" and "right", each a model of one modality or several.
        joint: heads, scale, and how they were learned.
        place: the folder; None of what was trained here.
    """

    sides: Mapping[str, Program]
    joint: Joint
    place: Path | None

    @classmethod
    def of_sides(cls, programs: Sequence[Program], joint: Joint, place: Path | None) -> JointTowers:
        """The left and the right model, each with its head behind it.

        Raises:
            ModelError: a head that was learned from longer vectors, or a side that is a joint model itself.
        """
        sides = {
            name: _headed(program, Head(side.layers), f"{place or 'the joint model'}: {name}")
            for program, (name, side) in zip(programs, joint.sides.items(), strict=True)
        }
        parts: dict[Modality, Tower] = {}
        for program in sides.values():
            parts |= program.parts if isinstance(program, Towers) else {_modality(program): program}
        ordered = {modality: parts[modality] for modality in sorted(parts, key=lambda m: m != "text")}
        return cls(ordered, sides, joint, place)

    @property
    def shared(self) -> frozenset[Modality]:
        """Modalities that both sides read."""
        left, right = (frozenset(side.model.space.modalities) for side in self.sides.values())
        return left & right

    @property
    def networks(self) -> list[Compiled]:
        """What computes, tables left out."""
        towers = [
            part
            for side in self.sides.values()
            for part in (side.parts.values() if isinstance(side, Towers) else (side,))
        ]
        return [part for part in towers if isinstance(part, Compiled)]

    @property
    def folder(self) -> Path:
        """Where it was read."""
        return self.place or Path()

    @property
    def name(self) -> str:
        """Its kind, in place of a family."""
        return MODEL_TYPE

    @property
    def stored(self) -> bool:
        """Whether it is as its folder has it."""
        return self.place is not None

    @property
    def parameters(self) -> int:
        """Numbers in the weights of both models and in their heads."""
        heads = (layer for side in self.joint.sides.values() for layer in side.layers)
        return sum(side.model.parameters for side in self.sides.values()) + sum(
            w.size + b.size for w, b in heads
        )

    @property
    def logits(self) -> Logits:
        """The scale that was fitted on pairs; no bias."""
        return self.joint.scale, None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its vectors what they are: all of the first tower, and of both sides what is not weights."""
        sides = {name: dict(side.model.identity) for name, side in self.sides.items()}
        left, right = (side.pop("weights") for side in sides.values())
        # Of a copy in another precision too, as far as both sides can be told at it.
        both = {grid: _digest(left[grid] + right[grid]) for grid in left if grid in right}
        return {**self._first.identity, "family": MODEL_TYPE, "weights": both, "sides": sides}

    def run(self, items: Sequence[Any], reading: Reading, plan: Plan) -> Encoded:
        """Vectors of items, each through the model of its modality.

        Raises:
            UsageError: items that both sides read.
        """
        # Where the sides read different things no item needs to be asked what it is.
        meant = {self._meant(i, item, {}) for i, item in enumerate(items)} if self.shared else set()
        if unclear := self.shared & meant:
            raise UsageError(
                f"both models read {min(unclear)}s, and an item does not say which is meant: take .left or .right of "
                "the joint model, whose vectors lie in one space"
            )
        return super().run(items, reading, plan)

    def facts(self) -> dict[str, Any]:
        """How both run here, and how they were joined."""
        sides = {
            name: {
                "name": self.joint.sides[name].name,
                "family": side.model.name,
                "modalities": list(side.model.space.modalities),
                "parameters": side.model.parameters,
                "head": [self.joint.sides[name].layers[0][0].shape[1]]
                + [weight.shape[0] for weight, _ in self.joint.sides[name].layers],
                **side.facts(),
            }
            for name, side in self.sides.items()
        }
        whole = {name: value for name, value in self.provenance().items() if name != "omnivec"}
        return {**whole, "scale": self.joint.scale, "training": dict(self.joint.training), "sides": sides}


class SideEmbedder(Embedder):
    """One model of a joint one; its vectors lie in the joint space."""

    def save(self, folder: str | Path) -> Path:
        """ModelError: a side is saved with the whole."""
        raise ModelError(f"{self.name} is one side of a joint model, which is saved whole: call its save")

    def __reduce__(self) -> str:
        raise ModelError(
            f"a loaded model cannot be sent to another process: load the joint model there, and take {self.name}"
        )


class JointEmbedder(Embedder):
    """A loaded joint model; made by `omnivec.load` and by the recipe `align`."""

    @property
    def left(self) -> Embedder:
        """The one model, in the joint space."""
        return self._side("left")

    @property
    def right(self) -> Embedder:
        """The other."""
        return self._side("right")

    @property
    def scale(self) -> float:
        """What cosines of the two sides are multiplied by for a softmax; see `tasks.zero_shot`."""
        return self._towers.joint.scale

    @classmethod
    def of(cls, left: Embedder, right: Embedder, joint: Joint) -> JointEmbedder:
        """Two loaded models, joined."""
        towers = JointTowers.of_sides((left._compiled, right._compiled), joint, None)
        return cls(towers, f"{left.name} and {right.name}, aligned", "trained here: align")

    def save(self, folder: str | Path) -> Path:
        """Writes both models and the heads to a folder, whole or not at all, as `models.joint_folder` describes it.

        Raises:
            ModelError: the folder holds something that is no model, or cannot be written.
        """
        path, towers = arguments.path("folder", folder), self._towers
        with model_folder(path) as whole:
            for name, side in towers.sides.items():
                _write(side, whole / name)
            write_joint(towers.joint, whole)
            (whole / CARD).write_bytes(card_of(towers.folder, towers.stored, self.training))
        return path

    @property
    def _towers(self) -> JointTowers:
        return cast(JointTowers, self._compiled)

    def _side(self, name: str) -> Embedder:
        return SideEmbedder(self._towers.sides[name], f"{self.name} .{name}", self.source, self.dim)


def _headed(program: Program, head: Head, what: str) -> Program:
    """A model with a head behind it, or behind each of its towers."""
    if isinstance(program, JointTowers):
        raise ModelError(f"{what} is a joint model itself: join models that are none")
    own, taken = program.model.space.dim, head.dims[0]
    if own < taken:
        raise ModelError(
            f"{what}: its head takes {taken} components, and its model makes {own}: they do not fit"
        )
    if isinstance(program, Towers):
        return Towers({modality: _headed_tower(part, head) for modality, part in program.parts.items()})
    return _headed_tower(program, head)


def _headed_tower(part: Tower, head: Head) -> Tower:
    return HeadedTable.of(part, head) if isinstance(part, TableModel) else HeadedCompiled.of(part, head)


def _modality(part: Tower) -> Modality:
    return part.model.space.modalities[0]


def _through(head: Head, vectors: Floats) -> Floats:
    """A head behind vectors (n, d), of which it may have seen the first components alone."""
    return head(vectors[:, : head.dims[0]])


def _of_head(head: Head) -> dict[str, Any]:
    """What a head changes of a model's identity."""
    digest = hashlib.sha256()
    for weight, bias in head.layers:
        digest.update(json.dumps(weight.shape).encode() + weight.tobytes() + bias.tobytes())
    return {"head": digest.hexdigest(), "dim": head.dims[1], "metric": "cosine"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(side: Program, folder: Path) -> None:
    """A side's own model, without its head."""
    if isinstance(side, TableModel):
        write_own(folder, side.table)
        (folder / CARD).write_bytes(card_of(side.folder, side.stored, None))
    else:
        write_files(side.texts.model if isinstance(side, Towers) else side.model, folder)
