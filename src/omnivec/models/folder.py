"""Reads the configuration files of a model's folder, and refuses settings that are not supported.

Folders of transformers, of sentence-transformers 2 to 6, and of peft; docs/load.md has the table of files and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec import hub
from omnivec.errors import DownloadError, ModelError, ModelNotFound, UnsupportedModel, UsageError
from omnivec.inputs.modality import names
from omnivec.models import registry
from omnivec.validation import typed
from omnivec.validation.json_files import part_of, read_json
from omnivec.weights.adapters import CONFIG, Adapter, read_adapter
from omnivec.weights.checkpoints import has_weights
from omnivec.weights.sentence_files import SentenceConfig, Transformer, modules

# Files with the settings of a Transformer module; the first one that is not empty is used.
SENTENCE = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
# The only key of a config.json of SpeechBrain.
_SPEECHBRAIN = "speechbrain_interface"
# Types of a first module that is a model of transformers.
NETWORKS = ("Transformer", "CLIPModel")

# Arguments of from_pretrained that a folder may set, and that do not change vectors.
FREE_ARGUMENTS = (
    *(
        "torch_dtype",
        "dtype",
        "attn_implementation",
        "device_map",
        "low_cpu_mem_usage",
        "use_safetensors",
        "revision",
    ),
    *(
        "trust_remote_code",
        "unpad_inputs",
        "use_memory_efficient_attention",
        "add_pooling_layer",
        "cache_dir",
        "token",
    ),
    *("local_files_only", "provider", "file_name", "export", "weights_only"),
)


@dataclass(frozen=True)
class ModelFolder:
    """The content of the configuration files of a model's folder.

    Attributes:
        folder: the model's folder, with the files of the head and the prompts.
        root: folder with the settings of the network: `folder`, or that of its first module.
        base: folder with config.json and the weights: `root`, or that of the model that an adapter was trained on.
        adapter: the adapter that changes the weights of the base; None if there is none.
        published: config.json.
        sentence: settings of the Transformer module.
        card: config_sentence_transformers.json.
    """

    folder: Path
    root: Path
    base: Path
    adapter: Adapter | None
    published: Mapping[str, Any]
    sentence: Mapping[str, Any]
    card: Mapping[str, Any]

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer, which an adapter may replace."""
        return self.root if any((self.root / name).is_file() for name in TOKENIZERS) else self.base

    @property
    def lower(self) -> bool:
        """Whether the Transformer module converts texts to lower case."""
        return bool(self.sentence.get("do_lower_case"))

    @property
    def tokenizer_settings(self) -> Mapping[str, Any]:
        """Arguments that the Transformer module passes to its tokenizer."""
        return _table(self.sentence, "processor_kwargs", "tokenizer_args")


def read_folder(folder: Path, offline: bool | None = None) -> ModelFolder:
    """Reads the configuration files of a model's folder.

    Args:
        folder: folder of the model.
        offline: whether the base model of an adapter must not be downloaded; None follows the environment.

    Raises:
        ModelError: a file is missing or damaged, or the base model of an adapter is not found.
        UnsupportedModel: a setting that changes vectors is not supported.
    """
    root = transformer_folder(folder)
    adapter = read_adapter(root)
    base = root if adapter is None else _base_of(adapter, root, offline)
    published = _published(base)
    tables = (typed.table(Transformer, root / name, {}) for name in SENTENCE)
    sentence: Mapping[str, Any] = next((one for one in tables if one), {})
    card = typed.table(SentenceConfig, folder / "config_sentence_transformers.json", {})
    _refuse_sentence(sentence, root)
    default, prompts = card.get("default_prompt_name"), card.get("prompts") or {}
    if default is not None and default not in prompts:
        raise ModelError(
            f"{folder}/config_sentence_transformers.json: default_prompt_name {default!r} is none of its prompts: "
            f"{', '.join(prompts) or 'none'}"
        )
    if (model_type := card.get("model_type")) not in (None, "SentenceTransformer"):
        raise UnsupportedModel(
            f"{folder}/config_sentence_transformers.json: model_type {model_type!r} makes no vector of one text; "
            "covered is 'SentenceTransformer'"
        )
    arguments = _table(sentence, "config_kwargs", "config_args")
    published = {**published, **{key: value for key, value in arguments.items() if key not in FREE_ARGUMENTS}}
    _refuse_config(published, base)
    return ModelFolder(folder, root, base, adapter, published, sentence, card)


def _published(folder: Path) -> Mapping[str, Any]:
    """Returns config.json, or the config of files that stand for it.

    SpeechBrain's config.json names only the class that loads the model; its settings are in another file.
    """
    config: Mapping[str, Any] = read_json(folder / "config.json", {}, dict)
    if config and set(config) != {_SPEECHBRAIN}:
        return config
    try:
        return registry.config_of_files(folder)
    except ModelError:
        if not config:
            raise
        raise UnsupportedModel(
            f"{folder}: no family covers the network in its hyperparams.yaml; of SpeechBrain's models, ECAPA-TDNN and "
            "the x-vector are covered"
        ) from None


def transformer_folder(folder: Path) -> Path:
    """Returns the folder with config.json and the weights: the folder itself, or the one that modules.json names."""
    for module in modules(folder):
        if module.kind in NETWORKS:
            return part_of(folder, module.path, "modules.json")
    return folder


def _base_of(adapter: Adapter, root: Path, offline: bool | None) -> Path:
    """Returns the folder of the model that an adapter was trained on.

    It is the folder that the adapter names, or else that of the adapter if it has weights, or else a model of the hub.
    """
    name = adapter.base
    places = [root / name, Path(name)] if name else []
    base_folder = next(
        (place for place in places if (transformer_folder(place) / "config.json").is_file()), None
    )
    if base_folder is None and (root / "config.json").is_file() and has_weights(root):
        return root
    if base_folder is None:
        if not name:
            raise ModelError(
                f"{root}/{CONFIG} names no base model (base_model_name_or_path): put its path there"
            )
        try:
            base_folder = hub.resolve(name, known=registry.known(), offline=offline).folder
        except (ModelNotFound, DownloadError, UsageError) as error:
            raise ModelError(
                f"{root}/{CONFIG}: the base model {name!r} is not a folder and cannot be downloaded; put the path of "
                f"its folder there. {error}"
            ) from error
    base = transformer_folder(base_folder)
    if base.resolve() != root.resolve() and (base / CONFIG).is_file():
        raise UnsupportedModel(
            f"{root}/{CONFIG}: its base model {base} is itself an adapter: merge that one first"
        )
    return base


def _table(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Returns the first of some tables in the settings that is not empty."""
    return next((dict(settings[name]) for name in names if isinstance(settings.get(name), Mapping)), {})


def _covered(output: str) -> list[tuple[str, str | None]]:
    """Returns the supported pairs of a method and an output of a Transformer module, for its own output."""
    if output == "token_embeddings":
        return [("forward", "last_hidden_state")]
    if output != "sentence_embedding":
        return []
    return [(f"get_{name}_features", taken) for name in names() for taken in ("pooler_output", None)]


def _refuse_sentence(settings: Mapping[str, Any], root: Path) -> None:
    """Raises UnsupportedModel for settings of the Transformer module that are not supported."""
    where = f"{root}/{next((name for name in SENTENCE if (root / name).is_file()), SENTENCE[0])}"
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise UnsupportedModel(
            f"{where}: transformer_task {task!r} does not give token states and is not covered"
        )
    known = {*typed.keys(Transformer), *FREE_ARGUMENTS, "modality_config", "backend"}
    for name in settings:
        if name not in known and not typed.says_nothing(settings[name]):
            raise UnsupportedModel(f"{where}: {name} {settings[name]!r} is not covered")
    for name, value in _table(settings, "model_kwargs", "model_args").items():
        if name not in FREE_ARGUMENTS:
            raise UnsupportedModel(f"{where}: model_args {name} {value!r} is not covered")
    output = settings.get("module_output_name", "token_embeddings")
    for modality, way in _table(settings, "modality_config").items():
        if modality not in names() or not isinstance(way, Mapping):
            continue  # omnivec has no such modality
        used = (way.get("method"), way.get("method_output_name"))
        if used not in _covered(str(output)):
            raise UnsupportedModel(
                f"{where}: modality_config uses {used[1]!r} of {used[0]!r} as {output!r} for {modality}; not covered"
            )


def _refuse_config(published: Mapping[str, Any], base: Path) -> None:
    """Raises UnsupportedModel for settings of config.json that no family supports."""
    if published.get("quantization_config"):
        raise UnsupportedModel(
            f"{base}/config.json has a quantization_config: quantized weights are not supported; use the model that "
            "they were made from"
        )
    if published.get("pruned_heads"):
        raise UnsupportedModel(
            f"{base}/config.json: pruned_heads {published['pruned_heads']!r} is not covered"
        )


def refuse_own_code(published: Mapping[str, Any], known: bool, base: Path) -> None:
    """Raises UnsupportedModel if config.json names a network whose code is in the model's folder.

    Args:
        published: config.json.
        known: whether the family computes the same as such code, or checks by itself whether it does.
        base: folder of config.json.
    """
    auto_map = published.get("auto_map")
    if not known and isinstance(auto_map, Mapping) and auto_map.get("AutoModel"):
        raise UnsupportedModel(
            f"{base}/config.json: auto_map names a network whose code is in the folder, {auto_map['AutoModel']}: it is "
            "never run, and may compute something other than its model_type says"
        )
