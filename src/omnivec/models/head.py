"""The head of a model, after the forward function of its family: pooling, Dense, LayerNorm, Normalize.

It is read from a folder of sentence-transformers (modules.json and a folder for each module, in old and new spellings).
If there is no modules.json, the model is pooled by the default of its family: the mean over its tokens, or the last.
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

# In the order in which the vectors of several modes are concatenated.
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
    """One module after the pooling.

    Attributes:
        kind: "Dense", "LayerNorm" or "Normalize".
        path: its folder, relative to that of the model, and the prefix of its weights.
        activation: activation of a Dense module, a key of ACTIVATIONS.
        residual: whether a Dense module adds its input to its output.
        width: length of the output vector; 0 if it is that of the input.
    """

    kind: str
    path: str
    activation: str = "Identity"
    residual: bool = False
    width: int = 0

    def apply(self, ops: Ops, p: Params, x: Value) -> Value:
        """Applies the module: x (n, d) -> (n, width or d)."""
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
    """Pooling over tokens and the modules after it.

    Attributes:
        pooling: the modes, whose vectors are concatenated in this order.
        include_prompt: whether the tokens of the prompt are pooled too.
        steps: the modules after the pooling.
        stated: whether the folder specifies the pooling; else it is the default of the family.
        truncated: number of leading components of a vector to keep, without normalising again; None for all.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    steps: tuple[HeadModule, ...] = ()
    stated: bool = False
    truncated: int | None = None

    def pool(self, ops: Ops, x: Value, mask: Value | None, counted: Value, prefix: int = 0) -> Value:
        """Pools the states of tokens: x (n, t, d) -> (n, modes * d).

        Args:
            ops: operations of an engine.
            x: states of tokens.
            mask: (n, t) 1 for tokens, 0 for padding; None if there is no padding.
            counted: `mask` without the tokens of a prompt.
            prefix: number of tokens before those of the content if `mask` is None; "mean" and "max" leave them out.
        """
        if mask is None:
            pooled = [_WHOLE[mode](ops, x, prefix) for mode in self.pooling]
            return pooled[0] if len(pooled) == 1 else ops.concat(pooled, -1)
        inside = ops.cast(counted, "float32")
        pooled = [_POOLS[mode](ops, x, ops.cast(mask, "float32"), inside) for mode in self.pooling]
        return pooled[0] if len(pooled) == 1 else ops.concat(pooled, -1)

    def finish(self, ops: Ops, p: Params, x: Value) -> Value:
        """Applies the modules after the pooling, then truncates."""
        for step in self.steps:
            x = step.apply(ops, p, x)
        return x if self.truncated is None else x[:, : self.truncated]

    @property
    def has_products(self) -> bool:
        """Whether a matrix product follows the pooling, so that the head must be a separate float32 program.

        A product at the end of a bfloat16 graph would make the engine compute the residual stream in bfloat16.
        """
        return any(step.kind == "Dense" for step in self.steps)

    @property
    def normalizes(self) -> bool:
        """Whether the vectors have length 1."""
        return bool(self.steps) and self.steps[-1].kind == "Normalize" and self.truncated is None

    def dim(self, width: int) -> int:
        """Length of a vector, given the width of the token states."""
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


# Without padding, as for images: a few tokens for the whole image, then one for each patch.
_WHOLE = {
    "cls": lambda ops, x, prefix: x[:, 0],
    "max": lambda ops, x, prefix: ops.max(x[:, prefix:], 1),
    "mean": lambda ops, x, prefix: ops.mean(x[:, prefix:], 1),
    "lasttoken": lambda ops, x, prefix: x[:, -1],
}


# Keys of a Pooling config that repeat what the weights imply.
SAID_OF_WIDTH = ("word_embedding_dimension", "embedding_dimension", "pooling_output_dimension")
# Full names of the torch classes in ACTIVATIONS.
OF_TORCH = re.compile(r"torch\.nn\.(modules\.((activation|linear)\.)?)?\w+")
# Modules that may follow the pooling, and modules that do not change vectors.
FOLLOWING = ("Dense", "LayerNorm", "Normalize")
NEUTRAL = ("Dropout",)
# Modules of a model of several towers, which has no pooling.
BEHIND_TOWERS = ("Transformer", "CLIPModel", "Normalize", *NEUTRAL)
# Name of the input and output of a module.
VECTOR = "sentence_embedding"


def read_head(folder: Path, default: str = "mean") -> tuple[Head, dict[str, weights.Tensor]]:
    """Reads the head in a model's folder and its weights, which are named by the folder of their module.

    Args:
        folder: folder of the model.
        default: pooling mode of the family, for a folder without modules.json.

    Raises:
        UnsupportedModel: a module, or a setting of one, is not supported.
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
                raise UnsupportedModel(
                    f"{folder}/modules.json has several Pooling modules; only one is covered"
                )
            head = replace(
                head, pooling=_modes(place, config), include_prompt=bool(config.get("include_prompt", True))
            )
        elif kind in FOLLOWING:
            step, step_tensors = _step(place, kind, path)
            if head.pooling:
                head = replace(head, steps=(*head.steps, step))
                tensors.update(step_tensors)
            # Before the pooling there is no vector to normalise; sentence-transformers ignores the module as well.
            elif kind != "Normalize":
                raise UnsupportedModel(
                    f"{folder}/modules.json has {kind} before the Pooling, which is not covered"
                )
        elif kind not in ("Transformer", *NEUTRAL):
            raise UnsupportedModel(
                f"{folder}/modules.json names the module {kind!r}; covered are Transformer, Pooling, Dense, "
                "LayerNorm, Normalize, Dropout"
            )
    if not head.pooling:
        raise UnsupportedModel(
            f"{folder}/modules.json has no Pooling, so it does not make one vector for each text"
        )
    _check_types(folder, names)
    return head, tensors


def check_towers(folder: Path) -> None:
    """Raises UnsupportedModel if modules.json has unsupported modules after a model of several towers."""
    listed = modules(folder)
    names, kinds = [module.type for module in listed], [module.kind for module in listed]
    if unknown := [kind for kind in kinds if kind not in BEHIND_TOWERS]:
        raise UnsupportedModel(
            f"{folder}/modules.json names the module {unknown[0]!r} in a model of texts and images; covered are "
            f"{', '.join(BEHIND_TOWERS)}"
        )
    _check_types(folder, names)


def _check_types(folder: Path, names: Sequence[str]) -> None:
    """Raises UnsupportedModel for several networks, and for modules whose code is in the folder, under a known name."""
    networks = [name for name in names if name.rsplit(".", 1)[-1] in ("Transformer", "CLIPModel")]
    if len(networks) > 1:
        raise UnsupportedModel(f"{folder}/modules.json has {len(networks)} networks; only one is covered")
    for name in names:
        if not name.startswith("sentence_transformers."):
            raise UnsupportedModel(
                f"{folder}/modules.json names the module {name!r}, whose code is not from sentence-transformers: it "
                "is never run"
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
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")  # default of the class
    short = str(activation).rsplit(".", 1)[-1]
    if short not in ACTIVATIONS or not OF_TORCH.fullmatch(str(activation)):
        raise UnsupportedModel(f"{file}: activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
    residual = bool(config.get("use_residual", False))
    biased = config.get("bias") in (None, True)  # default of the class
    if biased != (f"{path}.linear.bias" in tensors):
        raise UnsupportedModel(
            f"{file} has bias {str(biased).lower()}, but the weights have {'none' if biased else 'one'}"
        )
    return HeadModule(kind, path, short, residual, _width(file, config, tensors, path)), tensors


def _width(file: Path, config: Mapping[str, Any], tensors: Mapping[str, weights.Tensor], path: str) -> int:
    """Returns the output width of a Dense module, after checking its config.json against its weights."""
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
