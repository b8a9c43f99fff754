"""What follows a family's forward, as the model's folder says: pooling, Dense, LayerNorm, Normalize.

Read from a sentence-transformers folder (modules.json and a folder per module, the old and the new spellings). A
folder without modules.json is pooled as its family is: by the mean over its tokens, or by the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation import typed
from omnivec.validation.json_files import part_of
from omnivec.weights.sentence_files import Following, Pooling, modules

# In the order in which several modes are joined.
POOLING = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}

ACTIVATIONS = {
    "Identity": lambda ops, x: x,
    "Tanh": lambda ops, x: ops.tanh(x),
    "ReLU": lambda ops, x: ops.relu(x),
    "GELU": lambda ops, x: ops.gelu(x),
    "SiLU": lambda ops, x: ops.silu(x),
    "Sigmoid": lambda ops, x: ops.sigmoid(x),
}


@dataclass(frozen=True)
class HeadModule:
    """One module behind the pooling.

    Attributes:
        kind: "Dense", "LayerNorm" or "Normalize".
        path: its folder in the model's, and the prefix of its weights.
        activation: of a Dense: a key of ACTIVATIONS.
        residual: whether a Dense adds its input to its output.
        width: length of what comes out; 0 where it stays.
    """

    kind: str
    path: str
    activation: str = "Identity"
    residual: bool = False
    width: int = 0

    def apply(self, ops: Ops, p: Params, x: Value) -> Value:
        """x (n, d) -> (n, width or d)."""
        if self.kind == "Normalize":
            return ops.normalize(x)
        if self.kind == "LayerNorm":
            return ops.layer_norm(x, p[f"{self.path}.norm"], 1e-5)
        y = ACTIVATIONS[self.activation](ops, ops.linear(x, p[f"{self.path}.linear"]))
        if not self.residual:
            return y
        name = f"{self.path}.residual"
        return y + (ops.linear(x, p[name]) if name in p else x)


@dataclass(frozen=True)
class Head:
    """Pooling over tokens and the steps behind it.

    Attributes:
        pooling: modes, joined in this order.
        include_prompt: whether the prompt's tokens are pooled too.
        steps: what follows the pooling.
        stated: whether the folder says so, or it is the default.
        truncated: only so many components of a vector are kept, whose length stays as it is; None for all.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    steps: tuple[HeadModule, ...] = ()
    stated: bool = False
    truncated: int | None = None

    def pool(self, ops: Ops, x: Value, mask: Value | None, counted: Value, prefix: int = 0) -> Value:
        """x (n, t, d) -> (n, modes * d).

        Args:
            ops: of an engine.
            x: states of tokens.
            mask: (n, t) of 1 and 0; None where all tokens are real.
            counted: `mask` without a prompt's tokens.
            prefix: tokens before those of the content, where `mask` is None: a mean leaves them out.
        """
        if mask is None:
            pooled = [_WHOLE[mode](ops, x, prefix) for mode in self.pooling]
            return pooled[0] if len(pooled) == 1 else ops.concat(pooled, -1)
        inside = ops.cast(counted, "float32")
        pooled = [_POOLS[mode](ops, x, ops.cast(mask, "float32"), inside) for mode in self.pooling]
        return pooled[0] if len(pooled) == 1 else ops.concat(pooled, -1)

    def finish(self, ops: Ops, p: Params, x: Value) -> Value:
        """The steps behind the pooling, in order."""
        for step in self.steps:
            x = step.apply(ops, p, x)
        return x if self.truncated is None else x[:, : self.truncated]

    @property
    def has_products(self) -> bool:
        """Whether a matrix product follows the pooling: it then runs as a float32 program of its own.

        A product at the tail of a bfloat16 graph would take the whole residual stream down to bfloat16.
        """
        return any(step.kind == "Dense" for step in self.steps)

    @property
    def normalizes(self) -> bool:
        """Whether the vectors have length 1."""
        return bool(self.steps) and self.steps[-1].kind == "Normalize" and self.truncated is None

    def dim(self, width: int) -> int:
        """Length of a vector, for tokens of this width."""
        out = width * len(self.pooling)
        for step in self.steps:
            out = step.width or out
        return out if self.truncated is None else min(out, self.truncated)


def _mean(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    # Multiply and sum, never a matrix product: see Head.has_products.
    return ops.sum(x * inside[:, :, None], 1) / ops.maximum(ops.sum(inside, 1, keep=True), 1e-9)


def _mean_sqrt(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    return ops.sum(x * inside[:, :, None], 1) / ops.sqrt(ops.maximum(ops.sum(inside, 1, keep=True), 1e-9))


def _weighted_mean(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    weight = inside * ops.cumsum(mask, 1)
    return ops.sum(x * weight[:, :, None], 1) / ops.maximum(ops.sum(weight, 1, keep=True), 1e-9)


def _max(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    return ops.max(x + ((inside - 1.0) * 1e4)[:, :, None], 1)


def _cls(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    before = 1.0 - ops.not_equal(ops.cumsum(inside, 1), 0.0)
    return ops.take(x, ops.cast(ops.sum(before, 1), "int32"))


def _last(ops: Ops, x: Value, mask: Value, inside: Value) -> Value:
    return ops.take(x, ops.cast(ops.sum(mask, 1) - 1.0, "int32"))


_POOLS = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


# Where all tokens are real: patches of images, behind a few that stand for the whole.
_WHOLE = {
    "cls": lambda ops, x, prefix: x[:, 0],
    "max": lambda ops, x, prefix: ops.max(x[:, prefix:], 1),
    "mean": lambda ops, x, prefix: ops.mean(x[:, prefix:], 1),
    "lasttoken": lambda ops, x, prefix: x[:, -1],
}


# What a Pooling says beside its record, and its weights say too.
SAID_OF_WIDTH = ("word_embedding_dimension", "embedding_dimension", "pooling_output_dimension")
# Where the classes lie that ACTIVATIONS names.
OF_TORCH = re.compile(r"torch\.nn\.(modules\.((activation|linear)\.)?)?\w+")
# Modules that follow the pooling, and those that change no vector.
FOLLOWING = ("Dense", "LayerNorm", "Normalize")
NEUTRAL = ("Dropout",)
# Of a joint model's own network nothing is pooled.
BEHIND_TOWERS = ("Transformer", "CLIPModel", "Normalize", *NEUTRAL)
# What a module takes and gives.
VECTOR = "sentence_embedding"


def read_head(folder: Path, default: str = "mean") -> tuple[Head, dict[str, weights.Tensor]]:
    """The head of a model's folder and its weights, named by their module's folder.

    Args:
        folder: of the model.
        default: the family's pooling, for a folder without modules.json.

    Raises:
        UnsupportedModel: it has modules, or settings of modules, that are not covered.
    """
    listed = modules(folder)
    if not listed and not (folder / "modules.json").exists():
        return Head((default,)), {}
    head, names, kinds = Head((), stated=True), [], []
    tensors: dict[str, weights.Tensor] = {}
    for module in listed:
        kind, path = module.kind, module.path
        place = part_of(folder, path, "modules.json")
        names.append(module.type)
        kinds.append(kind)
        if kind == "Pooling":
            config = typed.table(Pooling, place / "config.json")
            if "Transformer" not in kinds:
                raise UnsupportedModel(
                    f"{folder}/modules.json has no Transformer before its Pooling: there are no tokens to pool"
                )
            if head.pooling:
                raise UnsupportedModel(f"{folder}/modules.json has several Poolings; one is covered")
            head = replace(
                head, pooling=_modes(place, config), include_prompt=bool(config.get("include_prompt", True))
            )
        elif kind in FOLLOWING:
            step, step_tensors = _step(place, kind, path)
            if head.pooling:
                head = replace(head, steps=(*head.steps, step))
                tensors.update(step_tensors)
            # Before the pooling there is no vector yet to normalise: sentence-transformers goes on, too.
            elif kind != "Normalize":
                raise UnsupportedModel(f"{folder}/modules.json has {kind} before the Pooling; not covered")
        elif kind not in ("Transformer", *NEUTRAL):
            raise UnsupportedModel(
                f"{folder}/modules.json names the module {kind!r}; covered are Transformer, Pooling, Dense, "
                "LayerNorm, Normalize, Dropout"
            )
    if not head.pooling:
        raise UnsupportedModel(f"{folder}/modules.json has no Pooling: it yields no vector per text")
    _check_types(folder, names)
    return head, tensors


def check_towers(folder: Path) -> None:
    """Raises UnsupportedModel where modules.json puts something behind a joint model of texts and images."""
    listed = modules(folder)
    names, kinds = [module.type for module in listed], [module.kind for module in listed]
    if unknown := [kind for kind in kinds if kind not in BEHIND_TOWERS]:
        raise UnsupportedModel(
            f"{folder}/modules.json names the module {unknown[0]!r} in a model of texts and images; covered are "
            f"{', '.join(BEHIND_TOWERS)}"
        )
    _check_types(folder, names)


def _check_types(folder: Path, names: Sequence[str]) -> None:
    """Raises UnsupportedModel for several networks, and for modules of a folder's own code that has a known name."""
    networks = [name for name in names if name.rsplit(".", 1)[-1] in ("Transformer", "CLIPModel")]
    if len(networks) > 1:
        raise UnsupportedModel(f"{folder}/modules.json has {len(networks)} networks; one is covered")
    for name in names:
        if not name.startswith("sentence_transformers."):
            raise UnsupportedModel(
                f"{folder}/modules.json names the module {name!r}, which is no code of sentence-transformers: it is "
                "never run"
            )


def _modes(place: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    stated = config.get("pooling_mode")
    modes: Sequence[str]
    if stated is None:
        modes = [mode for mode, key in POOLING.items() if config.get(key)] or ["mean"]
        keys = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
        unknown = [key for key in keys if key not in POOLING.values()]
    else:
        modes = [stated] if isinstance(stated, str) else list(stated)
        unknown = [mode for mode in modes if mode not in POOLING]
    if unknown or not modes:
        raise UnsupportedModel(f"pooling mode {[*unknown, stated][0]!r} is none of {', '.join(POOLING)}")
    known = {*typed.keys(Pooling), *SAID_OF_WIDTH}
    for key, value in config.items():
        if key not in known and not typed.says_nothing(value):
            raise UnsupportedModel(f"{place / 'config.json'}: {key} {value!r} is not covered")
    return tuple(modes)


def _step(place: Path, kind: str, path: str) -> tuple[HeadModule, dict[str, weights.Tensor]]:
    file = place / "config.json"
    config = typed.table(Following, file) if kind == "Dense" else typed.table(Following, file, {})
    for name in ("module_input_name", "module_output_name"):
        if (stated := config.get(name) or VECTOR) != VECTOR:
            raise UnsupportedModel(f"{file}: a {kind} with {name} {stated!r} is not covered, only {VECTOR!r}")
    if kind == "Normalize":
        return HeadModule(kind, path), {}
    tensors = {f"{path}.{name}": tensor for name, tensor in weights.read(place).items()}
    if kind == "LayerNorm":
        return HeadModule(kind, path), tensors
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")  # As the class has it.
    short = str(activation).rsplit(".", 1)[-1]
    if short not in ACTIVATIONS or not OF_TORCH.fullmatch(str(activation)):
        raise UnsupportedModel(f"{file}: activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
    residual = bool(config.get("use_residual", False))
    biased = config.get("bias") in (None, True)  # As the class has it.
    if biased != (f"{path}.linear.bias" in tensors):
        raise UnsupportedModel(
            f"{file} says bias {str(biased).lower()}, and the weights have {'none' if biased else 'one'}"
        )
    return HeadModule(kind, path, short, residual, _width(file, config, tensors, path)), tensors


def _width(file: Path, config: Mapping[str, Any], tensors: Mapping[str, weights.Tensor], path: str) -> int:
    """What a Dense makes, as its config.json and its weights say."""
    width, held = config.get("out_features"), tensors.get(f"{path}.linear.weight")
    taken = config.get("in_features")
    if width is None:
        raise ModelError(f"{file} lacks out_features: a whole number is expected")
    if held is None or len(held.shape) != 2 or held.shape[0] != width:
        shape = None if held is None else " x ".join(map(str, held.shape))
        raise ModelError(f"{file}: out_features is {width}, but linear.weight of the weights is {shape}")
    if taken is not None and taken != held.shape[1]:
        raise ModelError(
            f"{file}: in_features is {taken}, but linear.weight of the weights is {width} x {held.shape[1]}"
        )
    return int(width)
