"""What follows a family's forward, as the model's folder says: pooling, Dense, LayerNorm, Normalize.

Read from a sentence-transformers folder (modules.json and a folder per module, the old and the new spellings). A
folder without modules.json is pooled as its family is: by the mean over its tokens, or by the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.files import part_of, read_json
from omnivec.ops.base import Ops, Params, Value

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
class Step:
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
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    steps: tuple[Step, ...] = ()
    stated: bool = False

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
        return x

    @property
    def has_products(self) -> bool:
        """Whether a matrix product follows the pooling: it then runs as a float32 program of its own.

        A product at the tail of a bfloat16 graph would take the whole residual stream down to bfloat16.
        """
        return any(step.kind == "Dense" for step in self.steps)

    @property
    def normalizes(self) -> bool:
        """Whether the vectors have length 1."""
        return bool(self.steps) and self.steps[-1].kind == "Normalize"

    def dim(self, width: int) -> int:
        """Length of a vector, for tokens of this width."""
        out = width * len(self.pooling)
        for step in self.steps:
            out = step.width or out
        return out


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


def read_head(folder: Path, default: str = "mean") -> tuple[Head, dict[str, weights.Tensor]]:
    """The head of a model's folder and its weights, named by their module's folder.

    Args:
        folder: of the model.
        default: the family's pooling, for a folder without modules.json.
    """
    modules = read_json(folder / "modules.json", default=None)
    if modules is None:
        return Head((default,)), {}
    pooling, include_prompt, steps = None, True, []
    tensors: dict[str, weights.Tensor] = {}
    for module in modules:
        kind, path = str(module["type"]).rsplit(".", 1)[-1], str(module["path"])
        place = part_of(folder, path, "modules.json")
        if kind == "Pooling":
            config = read_json(place / "config.json")
            pooling, include_prompt = _modes(config), bool(config.get("include_prompt", True))
        elif kind in ("Dense", "LayerNorm", "Normalize"):
            step, own = _step(place, kind, path)
            steps.append(step)
            tensors.update(own)
        elif kind not in ("Transformer", "Dropout"):
            raise UnsupportedModel(
                f"{folder}/modules.json names the module {kind!r}; covered are Transformer, Pooling, Dense, "
                "LayerNorm, Normalize, Dropout"
            )
    if pooling is None:
        raise UnsupportedModel(f"{folder}/modules.json has no Pooling: it yields no vector per text")
    return Head(pooling, include_prompt, tuple(steps), True), tensors


def _modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    given = config.get("pooling_mode")
    modes: Sequence[str]
    if given is None:
        modes = [mode for mode, key in POOLING.items() if config.get(key)] or ["mean"]
    else:
        modes = [given] if isinstance(given, str) else list(given)
    unknown = [mode for mode in modes if mode not in POOLING]
    if unknown:
        raise UnsupportedModel(f"pooling mode {unknown[0]!r} is none of {', '.join(POOLING)}")
    return tuple(modes)


def _step(place: Path, kind: str, path: str) -> tuple[Step, dict[str, weights.Tensor]]:
    if kind == "Normalize":
        return Step(kind, path), {}
    tensors = {f"{path}.{name}": tensor for name, tensor in weights.read(place).items()}
    if kind == "LayerNorm":
        return Step(kind, path), tensors
    config = read_json(place / "config.json")
    activation = str(config.get("activation_function") or "Identity").rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(f"{path}: activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise UnsupportedModel(f"{path}: a Dense over {config['module_input_name']!r} is not covered")
    residual = bool(config.get("use_residual", False))
    return Step(kind, path, activation, residual, int(config["out_features"])), tensors
