"""`Model`: a family with config, weights and head, read from a folder; and the checks of what is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from omnivec import weights
from omnivec.errors import MissingExtra, ModelError, UnsupportedModel, UsageError, WeightsError
from omnivec.families._hooks import NetworkHooks, TowerHooks, computed_hooks, program
from omnivec.inputs.modality import Modality, get, written
from omnivec.inputs.preparer import Preparer, PreparerSource
from omnivec.inputs.text import text
from omnivec.inputs.text.tokenizer import Tokenizer, load_tokenizer
from omnivec.models import registry, variants
from omnivec.models.facts import Logits
from omnivec.models.folder import ModelFolder, read_folder, refuse_own_code
from omnivec.models.head import Head, HeadModule, check_towers, read_head
from omnivec.models.runtime import open_cpus
from omnivec.ops.base import Input, Ops, Params, Value
from omnivec.types import Decode, Metric, ModalityName, Space
from omnivec.validation import typed
from omnivec.validation.reasons import one_line
from omnivec.vectors.class_scores import LinearClassifier
from omnivec.weights.adapters import merged


@dataclass(frozen=True, eq=False)
class Model:
    """A published model in memory, before it is put on an engine.

    Attributes:
        folder: folder that it was read from.
        name: name of its family in `registry`.
        family: module of its family.
        published: config.json.
        config: the family's `Config`, made from config.json.
        tensors: the weights by the family's names; those of the head are named by the folder of their module.
        preparer: makes arrays of items, such as token ids of texts.
        head: pooling and the modules after it.
        prompts: maps the names of its prompts to their texts, as published.
        default_prompt: name of the prompt that `encode` uses by default; None if there is none.
        metric: metric of its space.
        stored: whether the tensors are those in the folder; False after training, and if an adapter has changed them,
            because the adapter's base model may be in another folder.
        tower: the modality, if the family has a forward function for each; "" if it has only one.
        unused: weights that the family's forward function does not need, but other programs do, such as a pooler's.
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
        """The family's forward function, or that of the tower."""
        return program(self.hooks, self.tower)

    @property
    def hooks(self) -> NetworkHooks | TowerHooks:
        """The hooks that the family defines."""
        return computed_hooks(self.family)

    @property
    def space(self) -> Space:
        """Its vector space."""
        return Space(self.head.dim(self.config.dim), self.metric, (self.preparer.modality,))

    @property
    def texts(self) -> text.TextPreparer:
        """The preparer of texts; UsageError if the model reads another modality."""
        if not isinstance(self.preparer, text.TextPreparer):
            raise UsageError(f"{self.folder}: a model of {get(self.preparer.modality).plural} has no tokens")
        return self.preparer

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The input arrays of its program."""
        arrays = self.preparer.inputs
        return arrays if self.head.include_prompt else (*arrays, text.COUNTED)

    def hidden(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program that computes the hidden states: {"0": (n, t, d), ...}, the embeddings, then each layer."""
        self.forward(ops, p, self.config, self.preparer.batch(ops, get))
        return {str(i): state for i, state in enumerate(ops.states)}

    def last(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program that computes the states before pooling: {"states": (n, t, d)}."""
        return {"states": self._states(ops, p, self.preparer.batch(ops, get))}

    def body(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program from arrays to pooled vectors; to finished ones if the head has no matrix product."""
        batch = self.preparer.batch(ops, get)
        hidden = self._states(ops, p, batch)
        counted = batch.mask if self.head.include_prompt else get("counted")
        pooled = self.head.pool(ops, hidden, batch.mask, counted, getattr(self.config, "prefix", 0))
        return {"vectors": pooled if self.head.has_products else self.head.finish(ops, p, pooled)}

    def _states(self, ops: Ops, p: Params, batch: Any) -> Value:
        states = self.forward(ops, p, self.config, batch)
        if states is None:
            raise ModelError(
                f"{self.family.__file__}: its forward function returned None, not states (n, t, dim)"
            )
        return states

    def tail(self, ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
        """The program from pooled vectors to finished ones."""
        return {"vectors": self.head.finish(ops, p, get("pooled"))}

    def torch_only_reason(self) -> str | None:
        """Returns why only torch can run the model; None if both engines can."""
        return self.hooks.torch_only_reason(self.tensors, self.config)

    @cached_property
    def logits(self) -> Logits | None:
        """Learned scale and bias that turn a cosine of two modalities into a logit; None if it has none."""
        hooks = self.hooks
        return hooks.logits(self.config, self.tensors) if isinstance(hooks, TowerHooks) else None

    @cached_property
    def classifier(self) -> LinearClassifier | None:
        """The classes that it was published with, and the linear classifier of its vectors; None without one."""
        return self.hooks.labels(self.published, self.tensors)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Hashes of the content of the weights, one for each precision; see `weights.content_hashes`."""
        return weights.content_hashes(self.tensors)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines its vectors; equal for one model in any folder, file format and precision."""
        config = {
            f.name: getattr(self.config, f.name) for f in fields(self.config) if "dropout" not in f.name
        }
        return {
            # By its file's name: so collections record a family of another package, whatever its entry point is called.
            "family": Path(self.family.__file__ or self.name).stem,
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
    """Reads a model from a folder of transformers or sentence-transformers; of several towers, the first."""
    return next(iter(read_models(folder).values()))


def read_models(
    folder: Path,
    offline: bool | None = None,
    decode: Decode = "reduced",
    variant: Mapping[str, Any] = MappingProxyType({}),
) -> dict[ModalityName, Model]:
    """Reads the model in a folder; of several modalities, one model for each, texts first.

    Args:
        folder: folder in the layout of transformers, sentence-transformers or peft.
        offline: see `omnivec.load`.
        decode: see `omnivec.load`.
        variant: options that change its vectors; see `models.variants`.
    """
    files = read_folder(folder, offline)
    family_record = registry.family_of_config(files.published, files.base)
    family = family_record.load()
    hooks = computed_hooks(family)
    variants.check_covered(variant, hooks.Config, family_record.name)
    files = replace(files, published={**files.published, **variant}) if variant else files
    refuse_own_code(files.published, hooks.OWN_CODE, files.base)
    original = hooks.load_original(files.base, known_keys(family, files.published, files.base))
    published, stored, tokenizer = original or (files.published, weights.read(files.base), None)
    published = {**published, **variant}
    config = read_config(family, published, files.base)
    stored = _adapted(weights.strip_prefixes(stored, hooks.PREFIXES), files, hooks, published)
    tensors = dict(weights.rename(stored, hooks.LAYOUTS))
    unused = {n: t for n, t in stored.items() if n.startswith("pooler.") and n not in tensors}
    tensors, config = hooks.adapt_weights(tensors, config)
    check_shapes(hooks.SHAPES or {}, config, tensors, files.base)
    towers = hooks.towers(published) if isinstance(hooks, TowerHooks) else ()
    records = [get(name) for name in towers or (family_record.claims.get("modality", written()),)]
    if tokenizer is None and any(record.needs_tokenizer for record in records):
        tokenizer = load_tokenizer(files.tokenizer, files.tokenizer_settings, lower=files.lower)
    config, head, head_tensors = _headed(hooks, config, files, tokenizer, len(towers))
    if hooks.SHAPES is not None:  # the bridge to transformers checks the weights itself
        check_vectors({**tensors, **head_tensors}, files.base)
    source = _source(files, family, config, published, tokenizer, decode)
    models: dict[ModalityName, Model] = {}
    for record in records:
        # Pooling is not a guess if the model is in its authors' own format, or has no tokens.
        stated = head.stated or original is not None or not record.needs_tokenizer
        models[record.name] = Model(
            folder=folder,
            name=family_record.name,
            published=published,
            family=family,
            config=config,
            tensors={**tensors, **head_tensors},
            preparer=_preparer(record, source, folder),
            head=replace(head, stated=stated),
            prompts=dict(files.card.get("prompts") or {}),
            default_prompt=files.card.get("default_prompt_name"),
            metric=_metric(files.card.get("similarity_fn_name")),
            stored=files.adapter is None,
            tower=record.name if towers else "",
            unused=unused,
        )
    return models


def _preparer(record: Modality, source: PreparerSource, folder: Path) -> Preparer:
    if record.preparer is None:
        raise UnsupportedModel(f"{folder}: {record.plural} cannot be prepared for a model yet")
    return record.preparer(source)


def _adapted(
    stored: weights.Weights,
    files: ModelFolder,
    hooks: NetworkHooks | TowerHooks,
    published: Mapping[str, Any],
) -> weights.Weights:
    """Returns the weights with those of the folder's adapter merged into them, if it has one."""
    if files.adapter is None:
        return stored
    in_out = published["model_type"] in hooks.IN_OUT
    return merged(stored, files.adapter, hooks.PREFIXES, hooks.LAYOUTS, in_out)


def _source(
    files: ModelFolder,
    family: ModuleType,
    config: Any,
    published: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    decode: Decode,
) -> PreparerSource:
    """Returns what preparers are made from."""
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
    """Returns the config, completed by facts from the tokenizer, the head, and the weights of the head."""
    length = files.card.get("truncate_dim")
    truncated = None if length is None else int(length)
    if isinstance(hooks, TowerHooks):
        check_towers(files.folder)
        # Two towers share a space of unit vectors; the vector of a single one is left as it is published.
        steps = (HeadModule("Normalize", ""),) if towers > 1 else ()
        known = config if tokenizer is None else hooks.with_tokenizer(config, tokenizer)
        return known, Head(("cls",), steps=steps, stated=True, truncated=truncated), {}
    head, head_tensors = read_head(files.folder, hooks.pooling(config))
    return config, replace(head, truncated=truncated), head_tensors


def known_keys(family: ModuleType, published: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Returns the keys of a published config that a family reads, after checking their types and ranges.

    These are the fields of the family's `Config`, under their names and those in `ALIASES`, and the fields of its
    `Published`, if it defines one because it reads more. `Published = dict` means that it reads and checks all keys
    itself.

    Raises:
        ModelError: a value has the wrong type, or is out of range.
        UnsupportedModel: the config describes an unsupported variant.
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
    """Makes the family's `Config` from a published config, whose keys are checked by `known_keys`.

    If keys of config.json have other names, the family lists them in ALIASES (published key: name of the field); if
    values must be changed too, it defines `canonical`.

    Raises:
        ModelError: a value is missing, or values contradict each other.
        UnsupportedModel: the config describes an unsupported variant.
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
        raise ModelError(f"{file} has values that contradict each other: {one_line(error)}") from error
    if getattr(config, "max_length", 1) < 1:
        raise ModelError(f"{file}: max_position_embeddings leaves no room for a token")
    return config


def check_shapes(
    shapes: Mapping[str, tuple[str, ...]], config: Any, tensors: Mapping[str, weights.Tensor], folder: Path
) -> None:
    """Checks that the sizes in a config are those of the weights, before anything of these sizes is allocated.

    Args:
        shapes: maps the name of a tensor to the field of the config for each of its axes, or a product "a * b" of
            fields; "" for any length.
        config: config of the model.
        tensors: its weights.
        folder: folder of the model, for messages.

    Raises:
        ModelError: a size differs.
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
    """Checks that biases and the weights of norms have the right widths: engines would broadcast a single number.

    Raises:
        WeightsError: one is not a vector, or its length is not that of the matrix or norm that it belongs to.
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
    """Returns the metric that the folder names, "cosine" by default.

    An unsupported name ("manhattan") is kept: vectors do not depend on it, and the functions that compare vectors
    refuse it.
    """
    metric: Metric = "cosine" if name is None else name
    return metric
