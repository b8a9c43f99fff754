"""Maps the vectors of two models into one space, from pairs: an image and its text, a sound and its name.

The models are not changed: each item is embedded once, and a small head for each side is trained on the vectors. The
methods and their sources are in `vectors.alignment` and `training.projector`.
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
DATA = (
    "a .csv, .tsv, .jsonl or .parquet with the columns left and right: texts, or paths of files for a model that "
    "reads no text"
)
COLUMNS = Columns({side: (side,) for side in SIDES}, unnamed=2)
METHODS = (*alignment.METHODS, "contrastive")
SMALLER_SPACE = 256
"""Most components of a contrastive space by default."""


@dataclass(frozen=True)
class Options:
    """Options of this recipe.

    Attributes:
        left: model of the first column: a name, a folder, hf:org/name, or an Embedder.
        right: model of the second column.
        method: "cca", "ridge" (left predicts right), "procrustes" (a rotation), or "contrastive" (two layers).
        dim: components of a joint vector, for cca and contrastive; by default the shorter of the two models' vectors,
            for contrastive at most 256.
        strength: regularisation of cca and ridge; by default chosen on held-out pairs.
        held_out: share of the pairs on which retrieval is measured; the saved heads are trained on all pairs.
        hidden: width of the hidden layer; this option and those from epochs to scale are for contrastive only.
        epochs: passes over the pairs.
        batch_size: most pairs in a batch.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of the heads.
        dropout: dropout rate between the layers.
        scale: factor that cosines are multiplied by, the inverse of the temperature.
        seed: seed of the held-out pairs, of order and dropout.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
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
    """Trains the heads on pairs; `data` is that of `read_items`."""
    models = [side if isinstance(side, Embedder) else load(side) for side in (options.left, options.right)]
    for side, model in zip(SIDES, models, strict=True):
        if model.encoder.card.family == MODEL_TYPE:
            raise UsageError(f"{side}={model.name!r} is a joint model itself: choose models that are not")
    pairs = read_items(data, [_read_as(model) for model in models])
    left, right = _vectors(pairs, models, options.show_progress_bar)
    heads, facts = learn(left, right, options)
    sides = Side(models[0].name, heads.left.layers), Side(models[1].name, heads.right.layers)
    return JointEmbedder.of(models[0], models[1], Joint(*sides, heads.scale, facts))


def learn(left: Floats, right: Floats, options: Options) -> tuple[Aligned, dict[str, Any]]:
    """Trains the heads on pairs of vectors.

    Args:
        left: (n, a) vectors.
        right: (n, b), the vectors of their partners.
        options: the method and its settings.

    Returns:
        The heads, trained on all pairs; and facts for the model card, with the recall on held-out pairs.
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
    # Cosines of training pairs are higher than those of new pairs, so held-out pairs give the better scale.
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
    """The method as a function of left and right vectors and a strength, and the strengths to choose from.

    Raises:
        UsageError: the method cannot make vectors of `dim` components.
    """
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
    """Reads pairs of items.

    Args:
        data: an iterable of (left item, right item) or of mappings with the keys "left" and "right"; or the path of a
            .csv or .tsv whose first line names these columns (otherwise the first two columns are taken), or of a
            .jsonl or .parquet of such rows.
        read_as: for each side, a function from a cell of such a file and the file's folder to an item.

    Raises:
        UsageError: the file does not exist, rows are not pairs (the first few are named), or there are fewer than four.
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

    name = each_row(data, COLUMNS, take, "(left, right) pairs")
    if len(pairs) < 4:
        raise UsageError(f"{name}: {len(pairs)} pairs; at least 4 are needed, and thousands work better")
    return pairs


def _read_as(model: Embedder) -> Callable[[str, Path], Any]:
    """How to read a cell of a file for a model: as a text, or if it takes none, as the path of a file."""
    if {written(), KEY.name} & set(model.modalities):
        return lambda cell, folder: cell
    return lambda cell, folder: folder / cell


def _vectors(pairs: list[tuple[Any, Any]], models: list[Embedder], shown: bool | None) -> list[Floats]:
    """The vectors of both sides for the pairs whose two items can be embedded; each distinct item is embedded once."""
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
    """A key by which items are the same: equal texts and paths, or else the same object."""
    return item if isinstance(item, str | Path) else id(item)
