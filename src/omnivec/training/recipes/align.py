"""Two models' vectors are brought into one space from pairs: an image and its text, a sound and its name.

The models stay as they are: each item is embedded once, and a small head for each side is learned on the vectors; see
`vectors.alignment` and `training.projector` for the methods and their sources.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError
from omnivec.inputs.items import shown
from omnivec.inputs.key import MODALITY as KEY
from omnivec.inputs.modality import written
from omnivec.models.embedder import Embedder
from omnivec.models.joint import JointEmbedder
from omnivec.models.joint_folder import MODEL_TYPE, SIDES, Joint, Side
from omnivec.models.loading import load
from omnivec.progress import say
from omnivec.training import texts
from omnivec.training.data import Columns, each_row
from omnivec.training.recipe_registry import check_limits
from omnivec.types import Floats
from omnivec.vectors import alignment
from omnivec.vectors.alignment import Aligned, Fit

if TYPE_CHECKING:
    from omnivec.training.loop import TrainingStep

INF = float("inf")
LIMITS = {
    "dim": (1, 65_536),
    "strength": (0.0, INF),
    "held_out": (0.0, 0.9),
    "hidden": (1, 65_536),
    "epochs": (1, INF),
    "batch_size": (2, INF),
    "lr": (1e-12, 1e30),
    "weight_decay": (0.0, INF),
    "dropout": (0.0, 0.99),
    "scale": (1e-6, INF),
    "seed": (0, 2**63 - 1),
}
DATA = "a .csv, .tsv, .jsonl or .parquet with the columns left and right; paths where a model reads no text"
COLUMNS = Columns({side: (side,) for side in SIDES}, unnamed=2)
METHODS = (*alignment.METHODS, "contrastive")
SMALLER_SPACE = 256
"""Most components of a contrastive space whose `dim` was not given."""


@dataclass(frozen=True)
class Options:
    """What may be told to this recipe.

    Attributes:
        left: the model of the first column: a name, a folder, hf:org/name, or an Embedder.
        right: the model of the second column.
        method: "cca", "ridge" (left predicts right), "procrustes" (a rotation), or "contrastive" (two layers).
        dim: length of a joint vector, for cca and contrastive; when not given, as the method can.
        strength: regularisation of cca and ridge; when not given, chosen on pairs that are held out.
        held_out: share of the pairs that tells how well partners are found; the saved heads learn from all.
        hidden: width of the contrastive heads' inner layer.
        epochs: passes over the pairs, contrastive only, as are all that follow.
        batch_size: most pairs in a batch.
        lr: full learning rate of AdamW.
        weight_decay: of the heads' weights.
        dropout: rate between their layers.
        scale: what cosines are multiplied by; one over the temperature.
        seed: of what is held out, of order and dropout.
        show_progress_bar: progress on stderr; None in a terminal or a notebook.
        on_step: called after each step with its loss.
    """

    left: str | Path | Embedder
    right: str | Path | Embedder
    method: str = "cca"
    dim: int | None = None
    strength: float | None = None
    held_out: float = 0.1
    hidden: int = 1024
    epochs: int = 40
    batch_size: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.5
    scale: float = 10.0
    seed: int = 0
    show_progress_bar: bool | None = None
    on_step: Callable[[TrainingStep], None] | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        if self.method not in METHODS:
            raise UsageError(f"method={self.method!r} is none of {', '.join(METHODS)}")


def run(data: Any, options: Options) -> JointEmbedder:
    """Learns the heads from pairs; `data` as `read_items` takes it."""
    models = [side if isinstance(side, Embedder) else load(side) for side in (options.left, options.right)]
    for side, model in zip(SIDES, models, strict=True):
        if model.encoder.card.family == MODEL_TYPE:
            raise UsageError(f"{side}={model.name!r} is a joint model itself: join models that are none")
    pairs = read_items(data, [_read_as(model) for model in models])
    left, right = _vectors(pairs, models, options.show_progress_bar)
    heads, facts = learn(left, right, options)
    sides = Side(models[0].name, heads.left.layers), Side(models[1].name, heads.right.layers)
    return JointEmbedder.of(models[0], models[1], Joint(*sides, heads.scale, facts))


def learn(left: Floats, right: Floats, options: Options) -> tuple[Aligned, dict[str, Any]]:
    """The heads of pairs of vectors, and how well they find partners that were held out.

    Args:
        left: (n, a) vectors.
        right: (n, b), the vector of each one's partner.
        options: method and its settings.
    """
    fit, strengths = _method(left, right, options)
    facts: dict[str, Any] = {"method": options.method, "pairs": len(left)}
    probe = None
    if options.held_out:
        known, held = alignment.split(len(left), options.held_out, options.seed)
        trial = alignment.choose(fit, left[known], right[known], strengths, seed=options.seed)
        probe = trial.left(left[held]), trial.right(right[held])
        forth, back = alignment.recall(*probe)
        facts |= {"held_out": len(held), "recall@10": [round(forth, 4), round(back, 4)]}
        say(
            f"of {len(held)} held-out pairs the partner is among the first 10 for {forth:.1%} from left to right, "
            f"{back:.1%} back; by chance {min(1.0, 10 / len(held)):.1%}"
        )
        heads = fit(left, right, trial.strength)
    else:
        heads = alignment.choose(fit, left, right, strengths, seed=options.seed)
    _check_finite(heads, options)
    # Of pairs that were learned from, the cosines are higher than others' will be: the scale is better for others.
    scale = alignment.fitted_scale(*(probe or (heads.left(left), heads.right(right))))
    facts |= {"strength": heads.strength, "dim": heads.left.dims[1]}
    return replace(heads, scale=scale), facts


def _check_finite(heads: Aligned, options: Options) -> None:
    layers = [layer for side in (heads.left, heads.right) for layer in side.layers]
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ModelError(
            f"{options.method} learned numbers that are not finite at strength={heads.strength:g}, lr={options.lr:g}: "
            "give a greater strength or a smaller lr"
        )


def _method(left: Floats, right: Floats, options: Options) -> tuple[Fit, Sequence[float]]:
    """A method as a function of pairs and strength, and the strengths to choose from."""
    most = min(left.shape[1], right.shape[1])
    strengths = alignment.STRENGTHS if options.strength is None else (options.strength,)
    if options.method == "contrastive":
        from omnivec.training.projector import ContrastiveOptions, contrastive

        names = ("hidden", "epochs", "batch_size", "lr", "weight_decay", "dropout", "scale", "seed")
        shared = {name: getattr(options, name) for name in (*names, "show_progress_bar", "on_step")}
        settings = ContrastiveOptions(dim=options.dim or min(most, SMALLER_SPACE), **shared)
        return lambda a, b, _: contrastive(a, b, settings), (0.0,)
    if options.dim is not None and (options.method != "cca" or options.dim > most):
        raise UsageError(f"dim={options.dim}: {options.method} makes {_makes(options.method, right, most)}")
    if options.method == "cca":
        return partial(alignment.cca, dim=options.dim), strengths
    return alignment.METHODS[options.method], strengths if options.method == "ridge" else (0.0,)


def _makes(method: str, right: Floats, most: int) -> str:
    return f"at most {most} components" if method == "cca" else f"the right model's {right.shape[1]}"


def read_items(data: Any, read_as: Sequence[Callable[[str, Path], Any]]) -> list[tuple[Any, Any]]:
    """Pairs of items.

    Args:
        data: an iterable of (left item, right item) or of mappings with the keys "left" and "right"; or the path of a
            .csv or .tsv, with a line that names these columns or without, when the first two are meant, or of a .jsonl
            or .parquet of such rows.
        read_as: for each side what a cell of such a file means, given the file's folder too.

    Raises:
        UsageError: no such file, rows that are no pairs (the first few are named), or fewer than four.
    """
    pairs: list[tuple[Any, Any]] = []
    folder = texts.path(data).parent if isinstance(data, str | Path) else None

    def take(row: Any) -> None:
        if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != 2:
            raise UsageError(f"{shown(row)}, expected a pair (left item, right item)")
        for side, item in zip(SIDES, row, strict=True):
            if item is None or isinstance(item, float | int) or (folder and not isinstance(item, str)):
                raise UsageError(f"the {side} item is {shown(item)}, expected something that a model takes")
            if folder and not item.strip():
                raise UsageError(f"the {side} item is empty")
        pairs.append(
            (row[0], row[1]) if folder is None else (read_as[0](row[0], folder), read_as[1](row[1], folder))
        )

    where = each_row(data, COLUMNS, take, "(left, right) pairs")
    if len(pairs) < 4:
        raise UsageError(f"{where}: {len(pairs)} pairs; at least 4 are needed, and thousands are good")
    return pairs


def _read_as(model: Embedder) -> Callable[[str, Path], Any]:
    """What a cell means to a model: a text, or for one that reads none, the path of a file."""
    if {written(), KEY.name} & set(model.modalities):
        return lambda cell, folder: cell
    return lambda cell, folder: folder / cell


def _vectors(pairs: list[tuple[Any, Any]], models: list[Embedder], shown: bool | None) -> list[Floats]:
    """Both sides' vectors of the pairs whose items can be embedded, each different item embedded once."""
    complete = np.ones(len(pairs), bool)
    sides: list[tuple[Floats, NDArray[np.int64]]] = []
    for side, model in enumerate(models):
        items = [pair[side] for pair in pairs]
        places: dict[Hashable, int] = {}
        rows = np.array([places.setdefault(_key(item), len(places)) for item in items])
        first = np.unique(rows, return_index=True)[1]
        encoded = model.run([items[i] for i in first], show_progress_bar=shown)
        row_of = np.full(len(places), -1)
        row_of[encoded.kept] = np.arange(len(encoded.kept))
        complete &= row_of[rows] >= 0
        sides.append((encoded.vectors, row_of[rows]))
        for place, why in sorted(encoded.failures.items())[:3]:
            say(f"{SIDES[side]} item of pair {first[place]} is left out: {why}")
    if complete.sum() < len(pairs):
        say(f"{int((~complete).sum())} of {len(pairs)} pairs are left out")
    if complete.sum() < 4:
        raise UsageError(
            f"of {len(pairs)} pairs {int(complete.sum())} can be embedded: at least 4 are needed"
        )
    return [vectors[rows[complete]] for vectors, rows in sides]


def _key(item: Any) -> Hashable:
    """What tells items apart: texts and paths by what they say, others by themselves."""
    return item if isinstance(item, str | Path) else id(item)
