"""A model: a family with a config, weights and a head; prepared, computed and finished, never looped over."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from omnivec import weights
from omnivec.errors import MissingExtra, ModelError, UnsupportedModel, UsageError, WeightsError
from omnivec.families._hooks import NetworkHooks, TowerHooks, computed_hooks, program
from omnivec.inputs.modality import get, written
from omnivec.inputs.preparer import Preparer, PreparerSource
from omnivec.inputs.text import text
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.models import registry
from omnivec.models.facts import Logits
from omnivec.models.folder import ModelFolder, read_folder, refuse_own_code
from omnivec.models.head import Head, HeadModule, check_towers, read_head
from omnivec.models.runtime import open_cpus
from omnivec.ops.base import Input, Ops, Params, Value
from omnivec.types import Decode, Metric, ModalityName, Space
from omnivec.validation import typed
from omnivec.validation.reasons import one_line
from omnivec.weights.adapters import merged


@dataclass(frozen=True, eq=False)
class Model:
    """A published model in memory, before it is put on an engine.

    Attributes:
        folder: where it was read.
        name: of its family, as `registry` has it.
        family: the module of its family.
        published: config.json.
        config: the family's record of it.
        tensors: weights under the family's names, those of the head under their folder's.
        preparer: text to token ids.
        head: pooling and what follows it.
        prompts: by name, as published.
        default_prompt: name of the prompt that is used when none is asked for.
        metric: of its space.
        stored: whether the tensors are those in the folder; False once they were trained, or where an adapter changed
            them, whose base may lie elsewhere.
        tower: of a family with a forward for each modality, which; "" for the only one.
        unused: weights that the family's forward does without and other programs miss, such as a pooler's.
    """

    folder: Path
    name: str
    family: ModuleType
    published: Mapping[str, Any]
    config: Any
    tensors: Mapping[str, weights.Tensor]
    preparer: Preparer
    head: Head
    prompts: Mapping[str, str]
    default_prompt: str | None
    metric: Metric
    stored: bool = True
    tower: str = ""
    unused: Mapping[str, weights.Tensor] = field(default_factory=dict)

    @property
    def forward(self) -> Callable[..., Value]:
        """The family's program, or that of its tower."""
        return program(self.hooks, self.tower)

    @property
    def hooks(self) -> NetworkHooks | TowerHooks:
        """What its family defines."""
        return computed_hooks(self.family)

    @property
    def space(self) -> Space:
        """Its vector space."""
        return Space(self.head.dim(self.config.dim), self.metric, (self.preparer.modality,))

    @property
    def texts(self) -> text.TextPreparer:
        """Text to token ids; UsageError of a model of images."""
        if not isinstance(self.preparer, text.TextPreparer):
            raise UsageError(f"{self.folder}: a model of {get(self.preparer.modality).plural} has no tokens")
        return self.preparer

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that its program takes."""
        arrays = self.preparer.inputs
        return arrays if self.head.include_prompt else (*arrays, text.COUNTED)

    def hidden(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program of its hidden states: {"0": (n, t, d), ...}, the embeddings first, then each layer."""
        self.forward(ops, p, self.config, self.preparer.batch(ops, get))
        return {str(i): state for i, state in enumerate(ops.states)}

    def last(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program of what is pooled, before it is: {"states": (n, t, d)}."""
        return {"states": self.forward(ops, p, self.config, self.preparer.batch(ops, get))}

    def body(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program from arrays to pooled vectors, finished where no matrix product follows."""
        batch = self.preparer.batch(ops, get)
        hidden = self.forward(ops, p, self.config, batch)
        counted = batch.mask if self.head.include_prompt else get("counted")
        pooled = self.head.pool(ops, hidden, batch.mask, counted, getattr(self.config, "prefix", 0))
        return {"vectors": pooled if self.head.has_products else self.head.finish(ops, p, pooled)}

    def tail(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program from pooled vectors to finished ones."""
        return {"vectors": self.head.finish(ops, p, get("pooled"))}

    def torch_only_reason(self) -> str | None:
        """Why only torch can run it; None where it is written in operations of both engines."""
        return self.hooks.torch_only_reason(self.tensors, self.config)

    @cached_property
    def logits(self) -> Logits | None:
        """What turns a cosine of two modalities into a logit, as it was learned; None where nothing was."""
        hooks = self.hooks
        return hooks.logits(self.config, self.tensors) if isinstance(hooks, TowerHooks) else None

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Hashes of the weights' content at each precision that they are known to; see `weights`."""
        return weights.content_hashes(self.tensors)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes its vectors what they are; equal for the same model in another folder, file or precision."""
        config = {
            f.name: getattr(self.config, f.name) for f in fields(self.config) if "dropout" not in f.name
        }
        return {
            "family": self.name,
            "weights": self.hashes,
            "config": config,
            **self.preparer.identity,
            "pooling": list(self.head.pooling),
            "include_prompt": self.head.include_prompt,
            "steps": [
                step.kind + (f":{step.activation}" if step.kind == "Dense" else "")
                for step in self.head.steps
            ],
            "prompts": {name: prompt for name, prompt in self.prompts.items() if prompt},
            "dim": self.space.dim,
            "metric": self.metric,
        }


def read_model(folder: Path) -> Model:
    """A model from a folder in transformers' or sentence-transformers' layout; of several towers that of texts."""
    return next(iter(read_models(folder).values()))


def read_models(
    folder: Path, offline: bool | None = None, decode: Decode = "reduced"
) -> dict[ModalityName, Model]:
    """The model in a folder, by its modality; of a family with a forward for each modality several, texts first.

    Args:
        folder: in transformers', sentence-transformers' or peft's layout.
        offline: whether the network is out of bounds for the base of an adapter; None as the environment says.
        decode: see `omnivec.load`.
    """
    files = read_folder(folder, offline)
    family_record = registry.family_of_config(files.published, files.base)
    family = family_record.load()
    hooks = computed_hooks(family)
    refuse_own_code(files.published, hooks.OWN_CODE, files.base)
    original = hooks.load_original(files.base, known_keys(family, files.published, files.base))
    published, stored, tokenizer = original or (files.published, weights.read(files.base), None)
    config = read_config(family, published, files.base)
    stored = weights.strip_prefixes(stored, hooks.PREFIXES)
    if files.adapter is not None:
        in_out = published["model_type"] in hooks.IN_OUT
        stored = merged(stored, files.adapter, hooks.PREFIXES, hooks.LAYOUTS, in_out)
    tensors = dict(weights.rename(stored, hooks.LAYOUTS))
    unused = {n: t for n, t in stored.items() if n.startswith("pooler.") and n not in tensors}
    tensors, config = hooks.adapt_weights(tensors, config)
    check_shapes(hooks.SHAPES or {}, config, tensors, files.base)
    towers = hooks.towers(published) if isinstance(hooks, TowerHooks) else ()
    records = [get(name) for name in towers or (family_record.claims.get("modality", written()),)]
    if tokenizer is None and any(record.needs_tokenizer for record in records):
        tokenizer = load_tokenizer(files.tokenizer, files.tokenizer_settings, lower=files.lower)
    config, head, head_tensors = _headed(hooks, config, files, tokenizer, len(towers))
    if hooks.SHAPES is not None:  # A network of transformers holds its weights against its config itself.
        check_vectors({**tensors, **head_tensors}, files.base)
    source = _source(files, family, config, published, tokenizer, decode)
    models: dict[ModalityName, Model] = {}
    for record in records:
        if record.preparer is None:
            raise UnsupportedModel(f"{folder}: nothing here makes the arrays of {record.plural} for a model")
        # In a form of its makers' own, and without tokens, a model is pooled as it was made: nothing is guessed.
        stated = head.stated or original is not None or not record.needs_tokenizer
        models[record.name] = Model(
            folder=folder,
            name=family_record.name,
            published=published,
            family=family,
            config=config,
            tensors={**tensors, **head_tensors},
            preparer=record.preparer(source),
            head=replace(head, stated=stated),
            prompts=dict(files.card.get("prompts") or {}),
            default_prompt=files.card.get("default_prompt_name"),
            metric=_metric(files.card.get("similarity_fn_name")),
            stored=files.adapter is None,
            tower=record.name if towers else "",
            unused=unused,
        )
    return models


def _source(
    files: ModelFolder,
    family: ModuleType,
    config: Any,
    published: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    decode: Decode,
) -> PreparerSource:
    """What preparers are made from."""
    return PreparerSource(
        family=family,
        config=config,
        published=published,
        root=files.root,
        tokenizer=tokenizer,
        tokenizer_settings=files.tokenizer_settings,
        sentence=files.sentence,
        lower=files.lower,
        threads=open_cpus(),
        decode=decode,
    )


def _headed(
    hooks: NetworkHooks | TowerHooks,
    config: Any,
    files: ModelFolder,
    tokenizer: Tokenizer | None,
    towers: int,
) -> tuple[Any, Head, dict[str, weights.Tensor]]:
    """The config with what the tokenizer knows, the head, and its weights."""
    length = files.card.get("truncate_dim")
    truncated = None if length is None else int(length)
    if isinstance(hooks, TowerHooks):
        check_towers(files.folder)
        # Two towers share a space of unit vectors; of one alone its vector is taken as it is published.
        steps = (HeadModule("Normalize", ""),) if towers > 1 else ()
        known = config if tokenizer is None else hooks.with_tokenizer(config, tokenizer)
        return known, Head(("cls",), steps=steps, stated=True, truncated=truncated), {}
    head, head_tensors = read_head(files.folder, hooks.pooling(config))
    return config, replace(head, truncated=truncated), head_tensors


def known_keys(family: ModuleType, published: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The keys of a published config that a family reads, each of its type and in its range.

    They are the fields of its `Config`, under their own names and those of `ALIASES`, and the fields of `Published`,
    which a family has where it reads more. `Published = dict` says that it reads them all, and checks them itself.

    Raises:
        ModelError: a value is of another type, or out of its range.
        UnsupportedModel: a variant that is not covered.
    """
    hooks, known = computed_hooks(family), published
    if (more := hooks.Published) is not dict:
        kinds = [hooks.Config] if more is None else [more, hooks.Config]
        known = typed.checked(kinds, published, folder / "config.json", hooks.ALIASES)
    try:
        hooks.check_supported(known)
    except (UnsupportedModel, MissingExtra) as error:
        raise type(error)(f"{folder / 'config.json'}: {error}") from error
    return known


def read_config(family: ModuleType, published: Mapping[str, Any], folder: Path) -> Any:
    """The family's record of a published config, whose keys are checked as `known_keys` has it.

    Where config.json has other spellings, a family says so in ALIASES (published key -> its own name) or, where
    values change too, in `canonical`.

    Raises:
        ModelError: a value is missing, or does not go with another.
    """
    file, keys = folder / "config.json", known_keys(family, published, folder)
    hooks = computed_hooks(family)
    try:
        canonical = hooks.canonical(keys)
        spelt = [(name, keys.get(key)) for key, name in hooks.ALIASES.items()]
        values = {name: value for name, value in [*spelt, *canonical.items()] if value is not None}
        config = typed.read(hooks.Config, values, file)
    except UnsupportedModel as error:
        raise UnsupportedModel(str(error) if str(file) in str(error) else f"{file}: {error}") from error
    except KeyError as error:
        raise ModelError(f"{file} lacks {error.args[0]}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        if nulls := [key for key in keys if keys[key] is None and typed.is_required(hooks.Config, key)]:
            raise ModelError(f"{file} lacks {nulls[0]}: it is null") from error
        raise ModelError(f"{file} has values that do not go together: {one_line(error)}") from error
    if getattr(config, "max_length", 1) < 1:
        raise ModelError(f"{file}: max_position_embeddings leaves no place for a token")
    return config


def check_shapes(
    shapes: Mapping[str, tuple[str, ...]], config: Any, tensors: Mapping[str, weights.Tensor], folder: Path
) -> None:
    """Holds the sizes that a config states against the weights, before anything is made of that size.

    Args:
        shapes: name of a tensor -> for each of its axes the config's field, or a product "a * b"; "" for any length.
        config: of the model.
        tensors: its weights.
        folder: for messages.

    Raises:
        ModelError: a size is another.
    """
    for name, axes in shapes.items():
        shape = tensors[name].shape if name in tensors else None
        for axis, names in enumerate(axes):
            if shape is None or not names:
                continue
            stated = math.prod(operator.attrgetter(field)(config) for field in names.split(" * "))
            if len(shape) != len(axes) or shape[axis] != stated:
                held = " x ".join(map(str, shape)) or "a single number"
                raise ModelError(
                    f"{folder / 'config.json'}: {names} is {stated}, but {name} of the weights is {held}"
                )


def check_vectors(tensors: Mapping[str, weights.Tensor], folder: Path) -> None:
    """Holds biases and the weights of norms against their widths: engines would stretch a single number to any.

    Raises:
        WeightsError: one is no vector, or has another length than the matrix or the norm that it belongs to.
    """
    for name, tensor in tensors.items():
        stem, _, leaf = name.rpartition(".")
        weight = tensors.get(f"{stem}.weight")
        alone = leaf == "weight" and "norm" in stem.lower() and tensor.shape in ((), (1,))
        if alone or (
            leaf == "bias"
            and weight is not None
            and (len(tensor.shape) != 1 or tensor.shape[0] not in weight.shape)
        ):
            held = " x ".join(map(str, tensor.shape)) or "a single number"
            beside = (
                "" if alone or weight is None else f" beside a weight of {' x '.join(map(str, weight.shape))}"
            )
            raise WeightsError(
                f"{folder}: {name} is {held}{beside}: the weights are damaged, or of another model"
            )


def _metric(name: Any) -> Metric:
    """Of the space: as the folder names it, "cosine" where it names none.

    A name that is not covered ("manhattan") stays: vectors do not hang on it, and what compares them refuses it.
    """
    metric: Metric = "cosine" if name is None else name
    return metric
